"""gold.candles and gold.calendar_candles: seconds to months, empty bars, what late and flagged trades change."""

import gzip
import json
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.clean import new_builds
from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.gold import calendar_candles, candles, trade_outliers
from lakehouse.intervals import LENGTHS, dividing, end_of, open_of
from lakehouse.lineage import sources_of
from lakehouse.silver import candles as delivered
from lakehouse.silver import trades
from lakehouse.trade_bars import bars_from_trades

RECORDED = Path(__file__).parents[3] / "../shared/recorded"
needs_recordings = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded provider data are not here")

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
LATER = datetime(2024, 2, 1, tzinfo=UTC)
INSTRUMENT = {"venue": "kraken", "instrument_id": "BTC/USD"}
PRICES = ("open", "high", "low", "close")


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def frame(contract: Table, rows: list[dict]) -> pl.LazyFrame:
    names = contract.schema.names()
    filled = [{"ingested_at": LATER, "page_id": 1, "provider": "ccxt", **row} for row in rows]
    return pl.LazyFrame([{name: row.get(name) for name in names} for row in filled], schema=contract.schema)


def trade(trade_id: object, seconds: float, price: float, amount: float = 1, **said: object) -> dict:
    given = {
        "trade_id": str(trade_id),
        "price": price,
        "amount": amount,
        "amount_unit": "base",
        "side": "buy",
    }
    return INSTRUMENT | {"event_at": at(seconds), "known_at": at(seconds)} | given | said


def built(rows: list[dict], *, flags: list[dict] = [], interval: str) -> list[dict]:  # noqa: B006
    inputs = {
        "silver.trades": frame(trades.TABLE, rows),
        "silver.candles": frame(delivered.TABLE, []),
        "gold.trade_outliers": frame(trade_outliers.TABLE, flags),
    }
    bars = candles.build(inputs).filter(pl.col("interval") == interval).sort("open_at", "known_at")
    return bars.collect(engine="streaming").to_dicts()


def told(rows: list[dict], *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in rows]


def test_a_bar_in_which_nothing_was_traded_is_a_row_with_the_price_before_it() -> None:
    rows = built(
        [trade(1, -10, 99), trade(2, 5, 100, 2), trade(3, 190, 101), trade(4, 245, 102)], interval="1m"
    )
    assert told(rows, "open_at", *PRICES, "volume", "trade_count", "is_empty", "known_at") == [
        (at(0), 100, 100, 100, 100, 2, 1, False, at(190)),
        (at(60), 100, 100, 100, 100, 0, 0, True, at(190)),
        (at(120), 100, 100, 100, 100, 0, 0, True, at(190)),
        (at(180), 101, 101, 101, 101, 1, 1, False, at(245)),
    ]
    assert told(rows[1:2], "vwap", "buy_volume", "volume_unit", "coverage") == [(None, 0.0, "base", None)]


@pytest.mark.parametrize(
    ("ids", "seconds", "empty"),
    [
        pytest.param((1, 2), (5, 130), 1, id="ids follow on one another"),
        pytest.param((1, 3), (5, 130), 0, id="a trade is missing"),
        pytest.param((1, 2), (5, 100_000), 0, id="more than a day apart"),
        pytest.param(("c3", "a1"), (5, 130), 0, id="ids that do not count, a long silence"),
    ],
)
def test_a_bar_is_empty_only_where_that_is_certain(ids, seconds, empty) -> None:
    rows = built([trade(i, s, 100) for i, s in zip(ids, seconds, strict=True)], interval="1m")
    assert sum(row["is_empty"] for row in rows) == empty


def test_nothing_is_said_before_the_first_price_or_after_the_last_trade() -> None:
    rows = built([trade(1, 0, 100), trade(2, 61, 100), trade(3, 125, 100)], interval="1m")
    assert told(rows, "open_at", "is_empty") == [(at(60), False)]


@pytest.mark.parametrize("random_ids", [False, True])
def test_seconds_are_made_of_trades_with_those_between_them(random_ids) -> None:
    ids = ["d", "b", "a", "c"] if random_ids else [1, 2, 3, 4]
    said = [trade(ids[0], -1, 9), trade(ids[1], 0.2, 10), trade(ids[2], 0.7, 11), trade(ids[3], 3.5, 12)]
    rows = built([*said, trade("e" if random_ids else 5, 4.1, 13)], interval="1s")
    bars = [row for row in rows if row["open_at"] >= NOON]
    assert told(bars, "open_at", *PRICES, "trade_count") == [
        (at(0), 10, 11, 10, 11, 2),
        (at(1), 11, 11, 11, 11, 0),
        (at(2), 11, 11, 11, 11, 0),
        (at(3), 12, 12, 12, 12, 1),
    ]


def test_seconds_are_stored_for_the_listed_instruments_only() -> None:
    elsewhere = {"instrument_id": "ETH/USD"}
    rows = [trade(n, n / 2, 100, **elsewhere) for n in range(9)]
    assert built(rows, interval="1s") == []


@pytest.mark.parametrize("interval", ["1s", "5s", "15s", "30s", "1m", "3m", "15m", "1h", "4h", "1d"])
@pytest.mark.parametrize("seed", range(2))
def test_bars_of_any_interval_are_what_a_plain_loop_makes_of_the_trades(interval, seed) -> None:
    rng = random.Random(seed)
    seconds, rows = -100_000.0, []
    pace = {"1s": 2, "5s": 9, "15s": 9, "30s": 60}.get(interval, 900)
    for number in range(600):
        seconds += rng.choice([0, 0.25, 1, pace, pace * 3])
        said = {"side": rng.choice(["buy", "sell"])}
        rows.append(trade(number, seconds, rng.randint(90, 110), rng.randint(1, 99) / 10, **said))
    step = "1s" if LENGTHS[interval] < timedelta(minutes=1) else "1m"
    shuffled = frame(trades.TABLE, rng.sample(rows, len(rows)))
    found = bars_from_trades(shuffled, [interval], step=step).sort("open_at").collect(engine="streaming")
    names = ("open_at", *PRICES, "volume", "trade_count", "buy_volume")
    assert [
        tuple(round(x, 9) if isinstance(x, float) else x for x in row) for row in found.select(names).rows()
    ] == by_a_loop(rows, LENGTHS[interval])


def by_a_loop(rows: list[dict], length: timedelta) -> list[tuple]:
    """Whole bars between the first trade and the last, all trades being there."""
    opens = defaultdict(list)
    for row in rows:
        since = row["event_at"] - datetime(1970, 1, 1, tzinfo=UTC)
        opens[row["event_at"] - since % length].append(row)
    first, last = min(opens), max(opens)
    found, open_at, close = [], first, None
    while open_at < last:
        held = opens.get(open_at, [])
        prices = [row["price"] for row in held] or [close]
        close = prices[-1]
        volume = round(sum(row["amount"] for row in held), 9)
        bought = round(sum(row["amount"] for row in held if row["side"] == "buy"), 9)
        found.append((open_at, prices[0], max(prices), min(prices), close, volume, len(held), bought))
        open_at += length
    return found[1:]


def test_a_trade_that_comes_late_makes_a_new_version_of_the_bars_that_it_is_in() -> None:
    known = [
        trade("a", -5, 100),
        trade("b", 5, 100),
        trade("c", 59, 101),
        trade("d", 65, 102),
        trade("e", 70, 1),
    ]
    late = trade("x", 30, 150) | {"ingested_at": LATER + timedelta(days=1)}
    before, after = (
        conform(
            candles.TABLE, pl.LazyFrame(built(rows, interval="1m"), schema=candles.TABLE.schema)
        ).collect()
        for rows in (known, [*known, late])
    )
    news = new_builds(candles.TABLE, after, before, has_every_version=True)
    assert told(news.to_dicts(), "open_at", "known_at", "high", "trade_count") == [
        (at(0), LATER + timedelta(days=1), 150, 3)
    ]


def flag(trade_id: object, seconds: float, known: float) -> dict:
    said = {"trade_id": str(trade_id), "event_at": at(seconds), "known_at": at(known)}
    return INSTRUMENT | said | {"price": 1.0, "level": 100.0, "mad": 0.1}


def test_flagged_trades_are_counted_from_when_their_flag_is_known_and_left_in() -> None:
    said = [trade(1, -9, 100), trade(2, 5, 100), trade(3, 30, 1), trade(4, 59, 100), trade(5, 65, 100)]
    rows = built(said, flags=[flag(3, 30, 130), flag(4, 59, 40)], interval="1m")
    assert told(rows, "known_at", "low", "trade_count", "outliers") == [
        (at(65), 1, 3, 1),
        (at(130), 1, 3, 2),
    ]


def test_an_empty_bar_came_from_the_trade_before_it() -> None:
    said = [trade(1, -10, 99), trade(9, 5, 100), trade(10, 5, 101), trade(11, 190, 102)]
    (bar, *_) = [row for row in built(said, interval="1m") if row["is_empty"]]
    (reach, *_) = candles.MODEL.reaches
    found = sources_of(candles.MODEL, reach, trades.TABLE, bar, frame(trades.TABLE, said)).collect()
    assert (bar["close"], found["trade_id"].to_list()) == (101, ["10"])


def test_weeks_begin_on_monday_and_months_on_their_first_in_utc() -> None:
    times = pl.DataFrame(
        {"at": [datetime(2024, 2, 29, 23, 59, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)]}
    )
    for interval, expected in {
        "1w": [(26, 2, 4, 3), (1, 1, 8, 1)],
        "1M": [(1, 2, 1, 3), (1, 1, 1, 2)],
    }.items():
        opened = open_of(pl.col("at"), interval)
        rows = times.select(opened.alias("open"), end_of(opened, interval).alias("end")).rows()
        assert [(o.day, o.month, e.day, e.month) for o, e in rows] == expected


def test_every_interval_up_to_a_day_divides_the_calendars_ones() -> None:
    assert dividing("1M") == (*LENGTHS, "1M")
    assert dividing("1m") == ("1s", "5s", "15s", "30s", "1m")


def day_bar(day: datetime, prices: tuple[float, ...], **said: object) -> dict:
    closed = day + timedelta(days=1)
    when = {"interval": "1d", "open_at": day, "event_at": closed, "known_at": closed}
    measured = {"volume": 2.0, "volume_unit": "base", "vwap": prices[3], "buy_volume": 0.5, "outliers": 1}
    return INSTRUMENT | when | dict(zip(PRICES, prices, strict=True)) | measured | said


def calendar(rows: list[dict]) -> list[dict]:
    bars = calendar_candles.build({"gold.candles": frame(candles.TABLE, rows)})
    return bars.sort("interval", "open_at", "known_at").collect().to_dicts()


def test_a_month_is_made_of_its_days() -> None:
    days = [datetime(2024, 2, 1, tzinfo=UTC) + timedelta(days=n) for n in range(29)]
    rows = [day_bar(day, (n + 1, n + 3, n + 0.5, n + 2)) for n, day in enumerate(days)]
    (month,) = [row for row in calendar(rows) if row["interval"] == "1M"]
    assert told([month], "open_at", "event_at", "known_at", *PRICES) == [
        (days[0], datetime(2024, 3, 1, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), 1, 31, 0.5, 30)
    ]
    assert told([month], "volume", "buy_volume", "outliers", "coverage", "source_interval", "vwap") == [
        (58.0, 14.5, 29, 1.0, "1d", pytest.approx(sum(range(2, 31)) / 29))
    ]


def test_a_week_says_which_share_of_its_days_is_there() -> None:
    monday = datetime(2024, 1, 8, tzinfo=UTC)
    days = [day_bar(monday + timedelta(days=n), (1, 1, 1, 1)) for n in (0, 1, 6)]
    incomplete = day_bar(monday + timedelta(days=3), (9, 9, 9, 9), coverage=0.2)
    (week,) = [row for row in calendar([*days, incomplete]) if row["interval"] == "1w"]
    assert told([week], "open_at", "coverage", "high", "is_empty") == [(monday, 3 / 7, 1, False)]


@needs_recordings
def test_bars_from_recorded_binance_trades_equal_every_recorded_candle_of_the_minutes() -> None:
    """2,467 of 2,467; the first and the last of the 2,469 candles are not proven whole. Empty minutes are left out."""
    said = json.loads(
        gzip.decompress((RECORDED / "trades/freqtrade/binance_XRP-ETH_trades.json.gz").read_bytes())
    )
    bars = pl.read_ipc(RECORDED / "ohlcv/freqtrade/binance_XRP-ETH_1m.feather")
    moment = datetime(1970, 1, 1, tzinfo=UTC)
    rows = [
        trade(number, 0, price, amount, side=side)
        | dict.fromkeys(("event_at", "known_at"), moment + timedelta(milliseconds=ms))
        for ms, number, _, side, price, amount, _ in said
    ]
    ours = {
        row["open_at"]: tuple(row[name] for name in (*PRICES, "volume")) for row in built(rows, interval="1m")
    }
    theirs = {
        row[0].replace(tzinfo=UTC): row[1:]
        for row in bars.with_columns(pl.col("date").dt.cast_time_unit("us")).rows()
    }
    both = theirs.keys() & ours.keys()
    assert (len(theirs), len(both)) == (2469, 2467)
    assert {open_at: ours[open_at] for open_at in both} == {open_at: theirs[open_at] for open_at in both}
    assert all(ours[open_at][-1] == 0 for open_at in ours.keys() - theirs.keys())
