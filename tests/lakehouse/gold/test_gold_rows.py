"""Gold rows from given rows: candles, volatility, macro_panel, features."""

import gzip
import json
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from lakehouse.contract import Table
from lakehouse.gold import candles, features, macro_panel, trade_outliers, volatility
from lakehouse.silver import asset_metrics, observations, trades
from lakehouse.silver import bars as vendor_bars
from lakehouse.silver import candles as delivered

RECORDED = Path(__file__).parents[3] / "../shared/recorded"
needs_recordings = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded provider data are not here")

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2024, 2, 1, tzinfo=UTC)
INSTRUMENT = {"venue": "kraken", "instrument_id": "BTC/USD"}


def at(minutes: float, *, seconds: float = 0) -> datetime:
    return NOON + timedelta(minutes=minutes, seconds=seconds)


def frame(contract: Table, rows: list[dict]) -> pl.LazyFrame:
    names = contract.schema.names()
    filled = [{"ingested_at": LATER, "page_id": 1, "provider": "ccxt", **row} for row in rows]
    return pl.LazyFrame([{name: row.get(name) for name in names} for row in filled], schema=contract.schema)


def trade(trade_id: object, event_at: datetime, price: float, amount: float = 1, **said: object) -> dict:
    clocks = {"event_at": event_at, "known_at": event_at}
    given = {
        "trade_id": str(trade_id),
        "price": price,
        "amount": amount,
        "amount_unit": "base",
        "side": "buy",
    }
    return INSTRUMENT | clocks | given | said


def candle(interval: str, open_at: datetime, prices: tuple[float, ...], **said: object) -> dict:
    closed = (
        open_at + {"1m": timedelta(minutes=1), "1h": timedelta(hours=1), "1d": timedelta(days=1)}[interval]
    )
    when = {"interval": interval, "open_at": open_at, "event_at": closed, "known_at": closed}
    measured = {"volume": 1.0, "volume_unit": "base"}
    return (
        INSTRUMENT | when | dict(zip(("open", "high", "low", "close"), prices, strict=True)) | measured | said
    )


def built_candles(*, of: list[dict] = [], beside: list[dict] = [], interval: str = "1m") -> list[dict]:  # noqa: B006
    inputs = {
        "silver.trades": frame(trades.TABLE, of),
        "silver.candles": frame(delivered.TABLE, beside),
        "gold.trade_outliers": frame(trade_outliers.TABLE, []),
    }
    rows = candles.build(inputs).filter(pl.col("interval") == interval).sort("open_at", "known_at")
    return rows.collect(engine="streaming").to_dicts()


def test_a_bar_from_trades_needs_a_trade_on_either_side() -> None:
    rows = built_candles(
        of=[
            trade(7, at(0, seconds=50), 100),
            trade(8, at(1, seconds=10), 101, 0.1),
            trade(
                10, at(1, seconds=30), 99, 0.2, side="sell"
            ),  # of the same moment as 9, and later by number
            trade(9, at(1, seconds=30), 104, 0.3),
            trade(11, at(2, seconds=5), 105),
        ]
    )
    assert rows == [
        INSTRUMENT
        | {
            "interval": "1m",
            "open_at": at(1),
            "event_at": at(2),
            "known_at": at(2, seconds=5),
            "ingested_at": LATER,
            "open": 101.0,
            "high": 104.0,
            "low": 99.0,
            "close": 99.0,
            "volume": 0.6,
            "volume_unit": "base",
            "vwap": pytest.approx((101 * 0.1 + 99 * 0.2 + 104 * 0.3) / 0.6),
            "trade_count": 3,
            "buy_volume": 0.4,
            "built_from": "trades",
            "source_interval": None,
            "coverage": None,
            "is_empty": False,
            "outliers": 0,
        }
    ]


@pytest.mark.parametrize(
    ("ids", "seconds", "is_covered"),
    [
        pytest.param((1, 2, 3, 4), (-10, 10, 40, 70), True, id="ids go up by one"),
        pytest.param((1, 2, 3, 4), (-3000, 10, 40, 7000), True, id="ids go up by one across silence"),
        pytest.param((1, 2, 4, 5), (-10, 10, 40, 70), False, id="hole inside"),
        pytest.param((1, 2, 3, 5), (-10, 10, 40, 70), False, id="hole after the last trade"),
        pytest.param((1, 3, 4, 5), (-10, 10, 40, 70), False, id="hole before the first trade"),
        pytest.param((1, 2, 3, 4), (-90_000, 10, 40, 70), False, id="edge more than a day away"),
        pytest.param(("c3", "a1", "b2", "d4"), (-10, 10, 40, 70), True, id="random ids, steady flow"),
        pytest.param(("c3", "a1", "b2", "d4"), (-10, 10, 40, 110), False, id="random ids, silence after"),
        pytest.param((15, 80, 90, 200), (-10, 10, 40, 70), True, id="ids shared by instruments, steady flow"),
    ],
)
def test_a_bar_is_built_from_trades_only_where_they_cover_it(ids, seconds, is_covered) -> None:
    said = [trade(i, at(0, seconds=s), 100) for i, s in zip(ids, seconds, strict=True)]
    rows = built_candles(of=said, beside=[candle("1m", at(0), (1, 1, 1, 1))])
    newest = [row for row in rows if row["open_at"] == at(0)][-1]
    assert newest["built_from"] == ("trades" if is_covered else "candles")


@pytest.mark.parametrize(
    ("said", "vwap", "buy_volume"),
    [
        ({"amount_unit": "base"}, 105.0, 4.0),
        ({"amount_unit": "quote"}, pytest.approx(4 / (2 / 100 + 2 / 110)), 4.0),
        ({"amount_unit": "contracts"}, None, 4.0),
        ({"side": None}, 105.0, None),
    ],
)
def test_nothing_is_said_that_the_trades_do_not_say(said, vwap, buy_volume) -> None:
    bar_trades = [trade(2, at(0, seconds=1), 100, 2, **said), trade(3, at(0, seconds=2), 110, 2, **said)]
    (row,) = built_candles(of=[trade(1, at(-1), 100), *bar_trades, trade(4, at(1), 100)])
    assert (row["vwap"], row["buy_volume"], row["volume"]) == (vwap, buy_volume, 4.0)


def test_the_delivered_candle_stands_until_the_trades_prove_theirs() -> None:
    said = [trade(1, at(-1), 100), trade(2, at(0, seconds=9), 101), trade(3, at(1, seconds=3), 102)]
    rows = built_candles(of=said, beside=[candle("1m", at(0), (101, 101, 100, 101))])
    found = [(row["known_at"], row["built_from"], row["low"]) for row in rows if row["open_at"] == at(0)]
    assert found == [(at(1), "candles", 100.0), (at(1, seconds=3), "trades", 101.0)]


def test_larger_bars_are_rolled_up_from_finer_candles_and_say_how_many_were_there() -> None:
    finer = [
        candle("1m", at(0), (10, 12, 9, 11), volume=0.1, trade_count=1),
        candle("1m", at(1), (11, 15, 11, 14), volume=0.2, trade_count=2),
        candle("1m", at(4), (14, 14, 8, 9), volume=0.3, trade_count=3),
    ]
    (row,) = built_candles(beside=finer, interval="5m")
    assert [row[name] for name in ("open_at", "event_at", "known_at")] == [at(0), at(5), at(5)]
    assert [row[name] for name in ("open", "high", "low", "close")] == [10, 15, 8, 9]
    assert (row["volume"], row["trade_count"], row["vwap"], row["buy_volume"]) == (0.6, 6, None, None)
    assert (row["built_from"], row["source_interval"], row["coverage"]) == ("candles", "1m", 0.6)


@pytest.mark.parametrize(("later", "known_at"), [([], None), ([at(7)], at(8))])
def test_a_bar_without_its_end_is_known_when_something_later_is(later, known_at) -> None:
    finer = [candle("1m", moment, (1, 1, 1, 1)) for moment in [at(0), *later]]
    first = [row["known_at"] for row in built_candles(beside=finer, interval="5m") if row["open_at"] == at(0)]
    assert first == ([known_at] if known_at else [])


@pytest.mark.parametrize(
    ("hours", "minutes", "source"),
    [(24, 1440, "1m"), (24, 1439, "1h"), (23, 1380, "1m")],
    ids=["equal: the finest", "the one that covers more", "equal shares: the finest"],
)
def test_the_source_that_covers_a_bar_best_is_rolled_up(hours, minutes, source) -> None:
    day = datetime(2024, 1, 1, tzinfo=UTC)
    finer = [candle("1h", day + timedelta(hours=n), (1, 1, 1, 1)) for n in range(24 - hours, 24)]
    finer += [candle("1m", day + timedelta(minutes=n), (1, 1, 1, 1)) for n in range(1440 - minutes, 1440)]
    (row,) = built_candles(beside=finer, interval="1d")
    assert row["source_interval"] == source


def test_a_delivered_candle_of_the_interval_is_taken_before_finer_ones() -> None:
    finer = [candle("1m", at(n), (1, 1, 1, 1)) for n in range(60)]
    (row,) = built_candles(beside=[*finer, candle("1h", at(0), (5, 5, 5, 5))], interval="1h")
    assert (row["close"], row["source_interval"], row["coverage"]) == (5.0, "1h", 1.0)


def test_a_restated_candle_makes_a_new_version_of_every_bar_that_it_changes() -> None:
    first = candle("1m", at(0), (10, 10, 10, 10))
    restated = candle("1m", at(0), (10, 20, 10, 10), known_at=at(90))
    unchanged = candle("1m", at(4), (10, 10, 10, 10), known_at=at(95))
    rows = built_candles(
        beside=[first, candle("1m", at(4), (10, 10, 10, 10)), restated, unchanged], interval="5m"
    )
    assert [(row["known_at"], row["high"]) for row in rows] == [(at(5), 10.0), (at(90), 20.0)]


@needs_recordings
def test_bars_from_recorded_trades_equal_the_candles_that_kraken_delivered() -> None:
    said = json.loads((RECORDED / "ws/nautilus/kraken/http_trades.json").read_bytes())["result"]["XBTUSDT"]
    bars = json.loads((RECORDED / "ws/nautilus/kraken/http_ohlc.json").read_bytes())["result"]["XBTUSDT"]
    moment = datetime(1970, 1, 1, tzinfo=UTC)
    of = [
        trade(row[6], moment + timedelta(microseconds=int(row[2] * 1e6)), float(row[0]), float(row[1]))
        for row in said
    ]
    theirs = {
        moment + timedelta(seconds=bar[0]): (*map(float, bar[1:5]), float(bar[6]), bar[7]) for bar in bars
    }
    ours = {
        row["open_at"]: tuple(row[name] for name in ("open", "high", "low", "close", "volume", "trade_count"))
        for row in built_candles(of=of)
    }
    assert len(ours) > 250
    assert ours == {open_at: theirs[open_at] for open_at in ours}


def hourly(closes: list[float], *, rng: np.random.Generator) -> list[dict]:
    rows = []
    for n, close in enumerate(closes):
        opened = close * float(np.exp(rng.normal() / 100))
        spread = [float(np.exp(abs(rng.normal()) / 100)) for _ in range(2)]
        prices = (opened, max(opened, close) * spread[0], min(opened, close) / spread[1], close)
        rows.append(candle("1h", NOON + timedelta(hours=n), prices, built_from="candles"))
    return rows


def estimates(bars: list[dict]) -> list[dict]:
    inputs = {"gold.candles": frame(candles.TABLE, bars), "silver.bars": frame(vendor_bars.TABLE, [])}
    built = volatility.build(inputs)
    return built.sort("window", "event_at", "known_at").collect(engine="streaming").to_dicts()


def yearly(bars: list[dict], n: int) -> dict[str, float]:
    """The estimators once more, in NumPy, over the last n of n + 1 bars."""
    o, h, low, c = (np.array([bar[name] for bar in bars]) for name in ("open", "high", "low", "close"))
    overnight, returns = np.log(o[1:] / c[:-1]), np.log(c[1:] / c[:-1])
    o, h, low, c = o[1:], h[1:], low[1:], c[1:]
    rs = np.mean(np.log(h / c) * np.log(h / o) + np.log(low / c) * np.log(low / o))
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    variances = {
        "close_to_close": returns.var(ddof=1),
        "parkinson": np.sum(np.log(h / low) ** 2) / (4 * n * np.log(2)),
        "garman_klass": np.mean(0.5 * np.log(h / low) ** 2 - (2 * np.log(2) - 1) * np.log(c / o) ** 2),
        "rogers_satchell": rs,
        "yang_zhang": overnight.var(ddof=1) + k * np.log(c / o).var(ddof=1) + (1 - k) * rs,
    }
    return {name: float(np.sqrt(variance * 365 * 24)) for name, variance in variances.items()}


def test_volatility_is_what_the_published_formulas_say() -> None:
    rng = np.random.default_rng(7)
    bars = hourly(list(100 * np.exp(np.cumsum(rng.normal(size=40) / 100))), rng=rng)
    rows = estimates(bars)
    assert [(row["window"], row["event_at"]) for row in rows] == [
        (n, bars[last]["event_at"]) for n in (7, 30) for last in range(n, 40)
    ]
    for row in rows:
        n, last = row["window"], [bar["event_at"] for bar in bars].index(row["event_at"])
        expected = yearly(bars[last - n : last + 1], n)
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("spoil", [None, {"coverage": 0.5}], ids=["missing bar", "half a bar"])
def test_volatility_is_not_computed_across_a_gap(spoil: dict | None) -> None:
    bars = hourly([100.0 + n for n in range(17)], rng=np.random.default_rng(1))
    bars[8:9] = [bars[8] | spoil] if spoil else []
    assert [row["event_at"] for row in estimates(bars)] == [at(8 * 60), at(17 * 60)]


def test_a_restated_bar_restates_the_windows_that_hold_it() -> None:
    bars = hourly([100.0 + n for n in range(9)], rng=np.random.default_rng(1))
    restated = bars[1] | {"close": 90.0, "low": 90.0, "known_at": LATER}
    found = [(row["event_at"], row["known_at"]) for row in estimates([*bars, restated])]
    assert found == [(at(480), at(480)), (at(480), LATER), (at(540), at(540)), (at(540), LATER)]


def quarter(start: date, value: float | None, known_at: datetime, **said: object) -> dict:
    end = datetime(start.year + (start.month + 2) // 12, (start.month + 3) % 12, 1, tzinfo=UTC)
    series = {
        "provider": "fred",
        "series_id": "GDP",
        "period_start": start,
        "event_at": end,
        "known_at": known_at,
    }
    return (
        series | {"value": value, "unit": "USD", "unit_multiplier": 9, "known_at_basis": "published"} | said
    )


def panel(*rows: dict) -> list[dict]:
    built = macro_panel.build({"silver.observations": frame(observations.TABLE, list(rows))})
    return built.sort("known_at").collect(engine="streaming").to_dicts()


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_the_macro_panel_compares_only_what_was_known_together() -> None:
    rows = panel(
        quarter(date(2022, 7, 1), 80.0, day("2022-10-28")),
        quarter(date(2023, 4, 1), 90.0, day("2023-07-28")),
        quarter(date(2023, 7, 1), 100.0, day("2023-10-27")),
        quarter(date(2023, 4, 1), 96.0, day("2023-11-30")),
        quarter(date(2022, 7, 1), 50.0, day("2023-12-20")),
        quarter(date(2022, 7, 1), 40.0, day("2024-01-20")),
        quarter(date(2022, 7, 1), 40.0, day("2024-02-20")),
    )
    names = ("known_at", "period_start", "value", "previous_value", "year_ago_value", "change", "yoy_growth")
    assert [tuple(row[name] for name in names) for row in rows] == [
        (day("2022-10-28"), date(2022, 7, 1), 80.0, None, None, None, None),
        (day("2023-07-28"), date(2023, 4, 1), 90.0, 80.0, None, 10.0, None),
        (day("2023-10-27"), date(2023, 7, 1), 100.0, 90.0, 80.0, 10.0, 0.25),
        (day("2023-11-30"), date(2023, 7, 1), 100.0, 96.0, 80.0, 4.0, 0.25),
        (day("2023-12-20"), date(2023, 7, 1), 100.0, 96.0, 50.0, 4.0, 1.0),
        (day("2024-01-20"), date(2023, 7, 1), 100.0, 96.0, 40.0, 4.0, 1.5),
    ]
    assert [row["age_days"] for row in rows][:2] == [27.0, 27.0]


def test_figures_in_different_units_are_not_compared_and_the_weakest_basis_is_told() -> None:
    *_, row = panel(
        quarter(date(2022, 7, 1), 80.0, day("2022-10-28")),
        quarter(date(2023, 4, 1), 90.0, day("2023-07-28"), unit_multiplier=6, known_at_basis="estimated"),
        quarter(date(2023, 7, 1), 100.0, day("2023-10-27")),
    )
    assert (row["change"], row["yoy_growth"], row["known_at_basis"]) == (None, 0.25, "estimated")


def test_a_missing_value_is_no_news_but_a_withdrawn_one_is() -> None:
    rows = panel(
        quarter(date(2023, 4, 1), 90.0, day("2023-07-28")),
        quarter(date(2023, 7, 1), None, day("2023-10-27")),
        quarter(date(2023, 4, 1), None, day("2023-12-01")),
    )
    found = [(row["known_at"], row["period_start"], row["value"]) for row in rows]
    assert found == [
        (day("2023-07-28"), date(2023, 4, 1), 90.0),
        (day("2023-12-01"), date(2023, 4, 1), None),
    ]


@needs_recordings
def test_the_panel_of_recorded_gdp_vintages_is_what_each_vintage_said() -> None:
    cassette = RECORDED / "fred/pyfredapi/get_series_all_releases_json_.yaml.gz"
    recorded = yaml.load(gzip.decompress(cassette.read_bytes()), Loader=yaml.CSafeLoader)
    said = json.loads(recorded["interactions"][-1]["response"]["body"]["string"])["observations"]
    vintages = [
        (
            datetime.fromisoformat(row["realtime_start"]).replace(tzinfo=UTC) + timedelta(days=1),
            date.fromisoformat(row["date"]),
            None if row["value"] == "." else float(row["value"]),
        )
        for row in said
    ]
    rows = {
        row["known_at"]: row for row in panel(*(quarter(start, value, k) for k, start, value in vintages))
    }
    assert len(rows) == 393

    known: dict[date, float | None] = {}
    stated: set[date] = set()
    for (known_at, start, value), following in pairwise(
        [*sorted(vintages, key=itemgetter(0, 1)), (None, None, None)]
    ):
        known[start] = value
        stated |= {start} if value is not None else set()
        if known_at in rows and following[0] != known_at:
            *_, before, newest = sorted(stated)
            expected = (known[newest], known[before], known.get(newest.replace(year=newest.year - 1)))
            assert (
                tuple(rows[known_at][name] for name in ("value", "previous_value", "year_ago_value"))
                == expected
            )


def metric(event_at: datetime, known_at: datetime, value: float) -> dict:
    named = {"asset": "btc", "metric": "AdrActCnt", "frequency": "1d", "known_at_basis": "published"}
    return named | {"event_at": event_at, "known_at": known_at, "value": value}


ADDRESSES = next(feature for feature in features.FEATURES if feature.name == "active_addresses")


def joined(bars: list[dict], metrics: list[dict]) -> list[dict]:
    inputs = {
        "gold.candles": frame(candles.TABLE, bars),
        "silver.asset_metrics": frame(asset_metrics.TABLE, metrics),
    }
    rows = features.build_panel(inputs, [ADDRESSES]).sort("event_at", "known_at")
    return rows.collect(engine="streaming").to_dicts()


def daily(open_at: str, close: float, **said: object) -> dict:
    return candle("1d", day(open_at), (close, close, close, close), **said)


def test_a_feature_is_the_newest_figure_that_was_known_when_the_bar_was() -> None:
    bars = [daily("2024-01-01", 100.0), daily("2024-01-02", 110.0), daily("2024-01-04", 120.0)]
    metrics = [
        metric(day("2024-01-01"), day("2024-01-02 07:00"), 5.0),
        metric(day("2024-01-02"), day("2024-01-03 07:00"), 6.0),
        metric(day("2023-12-31"), day("2024-01-03 07:00"), 4.0),  # of an older day, told in the same moment
        metric(day("2024-01-01"), day("2024-01-04 12:00"), 99.0),  # a late correction of an older day
        metric(day("2024-01-04"), day("2024-01-05 00:00:01"), 7.0),
    ]
    names = ("event_at", "log_return", "active_addresses", "active_addresses_known_at")
    assert [tuple(row[name] for name in names) for row in joined(bars, metrics)] == [
        (day("2024-01-02"), None, None, None),
        (day("2024-01-03"), pytest.approx(np.log(1.1)), 5.0, day("2024-01-02 07:00")),
        (day("2024-01-05"), None, 6.0, day("2024-01-03 07:00")),
    ]


def test_a_bar_restated_later_keeps_the_surroundings_of_its_own_time() -> None:
    bars = [daily("2024-01-01", 100.0), daily("2024-01-02", 110.0)]
    bars.append(daily("2024-01-02", 121.0, known_at=day("2024-01-20")))
    metrics = [
        metric(day("2024-01-01"), day("2024-01-02"), 5.0),
        metric(day("2024-01-18"), day("2024-01-19"), 9.0),
    ]
    *_, row = joined(bars, metrics)
    assert (row["known_at"], row["close"], row["active_addresses"]) == (day("2024-01-20"), 121.0, 5.0)
    assert row["log_return"] == pytest.approx(np.log(1.21))


def test_no_feature_takes_macro_figures_from_a_source_without_vintages() -> None:
    claimed = {
        "known_at_basis": ["published"],
        "series_id": ["GDP"],
        "provider": ["alphavantage"],
        "window": [7],
    }
    rows = pl.DataFrame(claimed)
    macro = [feature for feature in features.FEATURES if feature.table == "gold.macro_panel"]
    assert macro
    assert all(rows.filter(feature.where).is_empty() for feature in macro)
