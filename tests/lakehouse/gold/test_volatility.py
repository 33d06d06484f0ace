"""gold.volatility and gold.realised_volatility: published figures, equities by their exchange's days, whole days."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from lakehouse.gold import candles, realised_volatility, volatility
from lakehouse.sessions import sessions
from lakehouse.silver import bars as vendor_bars

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MIDNIGHT = datetime(2024, 1, 2, tzinfo=UTC)
NEW_YORK = ZoneInfo("America/New_York")
LATER = datetime(2025, 1, 1, tzinfo=UTC)


def frame(contract, rows: list[dict]) -> pl.LazyFrame:
    filled = [{"ingested_at": LATER, "page_id": 1} | row for row in rows]
    named = [{name: row.get(name) for name in contract.schema} for row in filled]
    return pl.DataFrame(named, schema=contract.schema, orient="row").lazy()


def close_bar(close: float, open_at: datetime, length: timedelta, interval: str) -> dict:
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    clocks = {"open_at": open_at, "event_at": open_at + length, "known_at": open_at + length}
    instrument = {"venue": "kraken", "instrument_id": "BTC/USD", "interval": interval}
    return instrument | clocks | prices | {"built_from": "candles"}


# Published figures of the estimators

EFFICIENCY = {"parkinson": 4.9, "garman_klass": 7.4, "rogers_satchell": 6.0}
"""Variance of the squared return of a bar over that of the estimator, for Brownian motion without drift: Parkinson
(1980); Garman and Klass (1980); Rogers and Satchell (1991)."""


@pytest.fixture(scope="module")
def one_bar_estimates() -> dict[str, np.ndarray]:
    """Each estimator on 6,000 bars of Brownian motion with a variance of 1, opened at 0 and seen 4,000 times each."""
    rng = np.random.default_rng(11)
    found = []
    for _ in range(12):
        paths = np.cumsum(rng.normal(size=(500, 4000)) / np.sqrt(4000), axis=1)
        found.append((np.maximum(paths.max(1), 0), np.minimum(paths.min(1), 0), paths[:, -1]))
    high, low, close = (np.exp(np.concatenate(column)) for column in zip(*found, strict=True))
    ones = np.ones_like(close)
    before = {"window": np.arange(len(close)), "open_at": ones * 0, "open": ones, "high": ones, "low": ones}
    bars = before | {"close": ones, "split": ones}
    both = pl.concat(
        [
            pl.DataFrame(bars),
            pl.DataFrame(bars | {"open_at": ones, "high": high, "low": low, "close": close}),
        ]
    )
    estimators = {name: getattr(volatility, name)() for name in EFFICIENCY}
    each = both.group_by("window").agg(**estimators)
    return {name: each[name].to_numpy() for name in EFFICIENCY} | {"squared_return": np.log(close) ** 2}


@pytest.mark.parametrize("name", EFFICIENCY)
def test_estimators_are_as_efficient_as_published(one_bar_estimates, name: str) -> None:
    """A path that is seen at moments hides a little of its range: 4,000 of them, 1 to 3 % of the variance."""
    squared, estimate = one_bar_estimates["squared_return"], one_bar_estimates[name]
    assert estimate.mean() == pytest.approx(1.0, abs=0.05)
    assert squared.var() / estimate.var() == pytest.approx(EFFICIENCY[name], rel=0.1)


# Equities


def equity(day: date, close: float, **said: object) -> dict:
    opened = datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).astimezone(UTC)
    closed = (datetime(day.year, day.month, day.day, tzinfo=NEW_YORK) + DAY).astimezone(UTC)
    prices = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close}
    clocks = {"open_at": opened, "event_at": closed, "known_at": closed}
    named = {"provider": "alphavantage", "symbol": "IBM", "interval": "1d", "asset_class": "equity"}
    return named | clocks | prices | said


def of_equities(bars: list[dict]) -> list[dict]:
    inputs = {"gold.candles": frame(candles.TABLE, []), "silver.bars": frame(vendor_bars.TABLE, bars)}
    built = volatility.build(inputs).filter(pl.col("window") == 7)
    return built.sort("event_at", "known_at").collect(engine="streaming").to_dicts()


# New Year's Day, Martin Luther King's day and weekends are among these.
DAYS = [date(2023, 12, day) for day in (27, 28, 29)] + [
    date(2024, 1, day) for day in (2, 3, 4, 5, 8, 9, 10, 11, 12, 16, 17, 18)
]
CLOSES = [100.0, 101, 99, 103, 102, 104, 100, 98, 99, 101, 105, 103, 104, 106, 105]


def test_windows_of_equities_are_counted_in_sessions_and_annualised_by_those_of_a_year() -> None:
    rows = of_equities([equity(day, close) for day, close in zip(DAYS, CLOSES, strict=True)])
    assert [row["event_at"].astimezone(NEW_YORK).date() - DAY for row in rows] == DAYS[7:]
    for n, row in enumerate(rows):
        returns = np.diff(np.log(CLOSES[n : n + 8]))
        assert (row["venue"], row["instrument_id"]) == ("alphavantage", "IBM")
        assert row["close_to_close"] == pytest.approx(returns.std(ddof=1) * np.sqrt(row["bars_a_year"]))
    # The 250 of 2023, less its first four, and five of 2024.
    assert rows[0]["bars_a_year"] == 251.0


@pytest.mark.parametrize(
    ("exchange", "day", "number"),
    [
        ("XNYS", date(2024, 12, 31), 252),
        ("XNYS", date(2025, 12, 31), 250),
        ("XNYS", date(2001, 12, 31), 248),
        ("XLON", date(2024, 12, 31), 254),
    ],
)
def test_a_year_has_as_many_sessions_as_the_exchange_held(exchange: str, day: date, number: int) -> None:
    """NYSE: 252 days in 2024; 250 in 2025 with the day of mourning of 9 January; 248 in 2001."""
    assert sessions(exchange).filter(pl.col("date") == day)["sessions_a_year"].item() == number


def test_a_missing_session_is_a_gap_and_a_day_without_one_is_no_bar() -> None:
    bars = [equity(day, close) for day, close in zip(DAYS, CLOSES, strict=True)]
    assert len(of_equities([*bars, equity(date(2024, 1, 6), 1.0)])) == 8
    assert [
        row["event_at"].astimezone(NEW_YORK).date() - DAY for row in of_equities(bars[:4] + bars[5:])
    ] == [
        DAYS[12],
        DAYS[13],
        DAYS[14],
    ]


def test_a_split_is_no_return_where_its_bar_tells_it() -> None:
    whole = [equity(day, close) for day, close in zip(DAYS, CLOSES, strict=True)]
    split = [
        bar | {name: bar[name] / 2 for name in ("open", "high", "low", "close")} if n >= 8 else bar
        for n, bar in enumerate(whole)
    ]
    split[8] |= {"split_factor": 2.0}
    names = ("close_to_close", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang")
    for ours, theirs in zip(of_equities(split), of_equities(whole), strict=True):
        assert [ours[name] for name in names] == pytest.approx([theirs[name] for name in names])


@pytest.mark.parametrize("symbol", ["EUR/USD", "VOD.XYZ"])
def test_bars_of_other_kinds_and_unknown_exchanges_are_left_out(symbol: str) -> None:
    kind = {"asset_class": "fx"} if "/" in symbol else {}
    assert of_equities([equity(day, 1.0, symbol=symbol, **kind) for day in DAYS]) == []


# Realised variance


def day_of(closes: np.ndarray, interval: str = "5m") -> list[dict]:
    """Bars of a whole day and the last one before it."""
    length = {"5m": 5 * MINUTE, "1h": HOUR}[interval]
    first = MIDNIGHT - length
    return [close_bar(float(c), first + length * n, length, interval) for n, c in enumerate(closes)]


def realised(bars: list[dict]) -> list[dict]:
    built = realised_volatility.build({"gold.candles": frame(candles.TABLE, bars)})
    return built.sort("event_at", "known_at").collect(engine="streaming").to_dicts()


@pytest.mark.parametrize(("interval", "number"), [("5m", 288), ("1h", 24)])
def test_realised_variance_and_bipower_variation_are_what_the_formulas_say(
    interval: str, number: int
) -> None:
    rng = np.random.default_rng(5)
    closes = 100 * np.exp(np.cumsum(rng.normal(size=number + 1) / 500))
    (row,) = realised(day_of(closes, interval))
    returns = np.diff(np.log(closes))
    variance = float(np.sum(returns**2))
    bipower = np.pi / 2 * number / (number - 1) * float(np.sum(np.abs(returns[1:] * returns[:-1])))
    assert (row["event_at"], row["known_at"], row["returns"]) == (MIDNIGHT + DAY, MIDNIGHT + DAY, number)
    assert row["realised_variance"] == pytest.approx(variance, rel=1e-12)
    assert row["bipower_variation"] == pytest.approx(bipower, rel=1e-12)
    assert row["realised_volatility"] == pytest.approx(np.sqrt(365 * variance), rel=1e-12)
    assert row["bipower_volatility"] == pytest.approx(np.sqrt(365 * bipower), rel=1e-12)
    assert row["jump_share"] == pytest.approx(max(0.0, 1 - bipower / variance), abs=1e-12)


def test_returns_of_one_size_have_the_variation_that_one_can_work_out_by_hand() -> None:
    """288 returns of 1 %: variance 288 x 0.0001, bipower pi/2 times that; no jump."""
    closes = 100 * np.exp(0.01 * (np.arange(289) % 2))
    (row,) = realised(day_of(closes))
    assert row["realised_variance"] == pytest.approx(0.0288)
    assert row["bipower_variation"] == pytest.approx(np.pi / 2 * 0.0288)
    assert row["jump_share"] == 0.0


def test_a_jump_is_in_realised_variance_and_not_in_bipower_variation() -> None:
    """Barndorff-Nielsen and Shephard (2004): RV - BV goes to the sum of squared jumps, here 0.01 beside 0.0004."""
    rng = np.random.default_rng(2)
    moves = rng.normal(size=289) * 0.02 / np.sqrt(288)
    moves[150] += 0.1
    (row,) = realised(day_of(100 * np.exp(np.cumsum(moves))))
    assert row["realised_variance"] - row["bipower_variation"] == pytest.approx(0.01, rel=0.1)
    assert 0.0003 < row["bipower_variation"] < 0.0008
    assert row["jump_share"] == pytest.approx(0.96, abs=0.04)


def test_a_day_without_moves_has_no_jump_share() -> None:
    (row,) = realised(day_of(np.full(289, 100.0)))
    assert (row["realised_variance"], row["bipower_variation"], row["jump_share"]) == (0.0, 0.0, None)


@pytest.mark.parametrize("gone", [0, 17, 288], ids=["before the day", "within", "the last"])
def test_a_day_with_a_gap_has_no_figure(gone: int) -> None:
    bars = day_of(100 + np.arange(289.0))
    del bars[gone]
    assert realised(bars) == []


def test_a_restated_bar_restates_its_day_and_the_next_where_it_is_the_last() -> None:
    first = day_of(100 + np.arange(289.0) % 3)
    second = [
        bar | {name: bar[name] + DAY for name in ("open_at", "event_at", "known_at")} for bar in first[1:]
    ]
    restated = first[-1] | {"close": 150.0, "known_at": LATER}
    found = [(row["event_at"], row["known_at"]) for row in realised([*first, *second, restated])]
    one, two = MIDNIGHT + DAY, MIDNIGHT + 2 * DAY
    assert found == [(one, one), (one, LATER), (two, two), (two, LATER)]
