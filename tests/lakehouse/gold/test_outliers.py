"""gold.trade_outliers: wrong prices are flagged, real jumps are not, and nothing is taken out of the bars."""

import gzip
import random
import statistics
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from lakehouse.gold import candles, trade_outliers
from lakehouse.outliers import THRESHOLD, Threshold, outliers
from lakehouse.silver import candles as delivered
from lakehouse.silver import trades

RECORDED = Path(__file__).parents[3] / "../shared/recorded"
needs_recordings = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded provider data are not here")

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
INSTRUMENT = {"venue": "kraken", "instrument_id": "BTC/USD"}
MINUTE = timedelta(minutes=1)


def frame(said: list[tuple[datetime, float]]) -> pl.LazyFrame:
    filled = INSTRUMENT | {"amount": 1.0, "amount_unit": "base", "page_id": 1, "provider": "ccxt"}
    rows = [
        filled
        | dict.fromkeys(("event_at", "known_at", "ingested_at"), at)
        | {"trade_id": str(n), "price": price}
        for n, (at, price) in enumerate(said)
    ]
    names = trades.TABLE.schema.names()
    return pl.LazyFrame([{name: row.get(name) for name in names} for row in rows], schema=trades.TABLE.schema)


def flagged(said: list[tuple[datetime, float]], threshold: Threshold = THRESHOLD) -> list[dict]:
    return (
        outliers(frame(said), threshold).sort("event_at", "trade_id").collect(engine="streaming").to_dicts()
    )


def minutes(*levels: float, each: int = 6) -> list[tuple[datetime, float]]:
    """So many trades a minute around a level, a cent apart."""
    return [
        (NOON + MINUTE * n + timedelta(seconds=9 * k), level + k % 2 / 100)
        for n, level in enumerate(levels)
        for k in range(each)
    ]


def test_a_price_that_nothing_around_agrees_with_is_flagged_and_explained() -> None:
    wrong = (NOON + MINUTE + timedelta(seconds=20), 110.0)
    (row,) = flagged([*minutes(100, 100, 100, 100), wrong])
    assert row == INSTRUMENT | {
        "trade_id": "24",
        "event_at": wrong[0],
        "known_at": NOON + 3 * MINUTE,  # the first trade after the minute after
        "ingested_at": NOON + 2 * MINUTE + timedelta(seconds=45),
        "price": 110.0,
        "level": 100.01,
        "mad": pytest.approx(0.01),
    }


@pytest.mark.parametrize(
    ("levels", "what"),
    [
        ((100, 100, 103, 103, 103), "a jump between two minutes"),
        ((100, 100, 101, 103, 100, 100), "a crash of whole minutes and back"),
        ((100, 101.6, 103, 105, 107), "a run"),
        ((100, 100, 100.4, 100, 100), "less than the floor"),
    ],
)
def test_what_many_trades_agree_on_is_a_price(levels, what) -> None:
    assert flagged(minutes(*levels)) == [], what


@pytest.mark.parametrize("jump_at", range(0, 60, 9))
def test_a_jump_within_a_minute_is_none_whenever_it_comes(jump_at) -> None:
    jump = NOON + 2 * MINUTE + timedelta(seconds=jump_at)
    said = [(at, price if at < jump else price + 4) for at, price in minutes(*[100] * 5)]
    assert flagged(said) == []


@pytest.mark.parametrize(
    ("each", "gap", "found"),
    [(5, 1, 1), (4, 1, 0), (5, 6, 0)],
    ids=["enough", "too few trades", "too far apart"],
)
def test_without_a_level_on_both_sides_nobody_is_accused(each, gap, found) -> None:
    said = [
        (NOON + (at - NOON) + (gap - 1) * MINUTE * (at >= NOON + 2 * MINUTE), p)
        for at, p in minutes(*[100] * 4, each=each)
    ]
    assert len(flagged([*said, (NOON + MINUTE + timedelta(seconds=20), 110.0)])) == found


@pytest.mark.parametrize("seed", range(5))
def test_flags_are_those_of_a_plain_loop_over_the_trades(seed) -> None:
    rng, at, level, said = random.Random(seed), NOON, 100.0, []
    for _ in range(500):
        at += timedelta(seconds=rng.randint(0, 12))
        level *= rng.choice([1.0] * 60 + [1.03, 0.97])
        said.append((at, round(level * rng.choice([1.0] * 40 + [1.1, 0.9, 1.006]) + rng.random() / 50, 2)))
    found = {int(row["trade_id"]) for row in flagged(said)}
    assert found == set(by_a_loop(said))
    assert found


def by_a_loop(said: list[tuple[datetime, float]]) -> Iterator[int]:
    minutes_ = sorted({at.replace(second=0) for at, _ in said})
    inside = {minute: [p for at, p in said if at.replace(second=0) == minute] for minute in minutes_}
    for number, (at, price) in enumerate(said):
        place = minutes_.index(at.replace(second=0))
        if place == 0 or place + 2 >= len(minutes_):
            continue
        before, own, after, over = minutes_[place - 1 : place + 3]
        is_near = max(own - before, after - own, over - after) <= 5 * MINUTE
        if not is_near or min(len(inside[before]), len(inside[after])) < 5:
            continue
        sides = [prices for prices in (inside[before], inside[own], inside[after]) if len(prices) >= 5]
        if all(is_away(price, prices) for prices in sides):
            yield number


def is_away(price: float, prices: list[float]) -> bool:
    level = statistics.median(prices)
    mad = statistics.median(abs(p - level) for p in prices)
    return abs(price - level) > max(10 * 1.4826 * mad, 0.005 * level)


def trades_of(bars: list[tuple]) -> list[tuple[datetime, float]]:
    """Trades that make up recorded bars, twelve a minute: no trades of these days are recorded."""
    said = []
    for open_at, o, h, low, c in bars:
        way = [o, low, h, c] if c >= o else [o, h, low, c]
        path = [a + (b - a) * k / 4 for a, b in pairwise(way) for k in range(4)]
        said += [(open_at + timedelta(seconds=5 * n), price) for n, price in enumerate(path)]
    return said


def cpi_release() -> list[tuple]:
    """Binance, BTC/BUSD, 2022-12-13, the day of the CPI release."""
    (found,) = (RECORDED / "ohlcv/lean/crypto/binance/minute/btcbusd").glob("20221213_trade.zip")
    with zipfile.ZipFile(found) as archive:
        lines = archive.read(archive.namelist()[0]).decode().split()
    rows = [[float(cell) for cell in line.split(",")] for line in lines]
    day = datetime(2022, 12, 13, tzinfo=UTC)
    return [(day + timedelta(milliseconds=row[0]), *row[1:5]) for row in rows]


def flash_crash() -> list[tuple]:
    """Bitfinex, BTC/USD, 2014-02-10."""
    (found,) = (RECORDED / "ohlcv/bitfinex-year").glob("BTC*2014*")
    lines = gzip.decompress(found.read_bytes()).decode().split()
    day = datetime(2014, 2, 10, tzinfo=UTC)
    rows = [[float(cell) for cell in line.split(",")] for line in lines]
    told = [(datetime.fromtimestamp(ms / 1000, UTC), o, h, low, c) for ms, o, c, h, low, _ in rows]
    return [row for row in told if day <= row[0] < day + timedelta(days=1)]


@needs_recordings
@pytest.mark.parametrize(
    ("bars", "at"),
    [
        pytest.param(
            cpi_release, datetime(2022, 12, 13, 13, 30, tzinfo=UTC), id="CPI release, 1.6 % in a minute"
        ),
        pytest.param(
            flash_crash, datetime(2014, 2, 10, 11, 0, tzinfo=UTC), id="flash crash, 22 and 48 % in a minute"
        ),
    ],
)
def test_real_jumps_that_were_recorded_survive(bars, at) -> None:
    recorded = bars()
    around = [row for row in recorded if abs(row[0] - at) <= timedelta(hours=1)]
    said = trades_of(around)
    assert max(h / low for _, _, h, low, _ in around) > 1.015
    assert flagged(said) == []
    built = candles.build(
        {
            "silver.trades": frame(said),
            "silver.candles": delivered.TABLE.schema.to_frame(eager=False),
            "gold.trade_outliers": trade_outliers.build({"silver.trades": frame(said)}),
        }
    )
    rows = built.filter(pl.col("interval") == "1m", pl.col("trade_count") > 0).collect()
    theirs = {row[0]: row[2:4] for row in around}
    extremes = {open_at: (h, low) for open_at, h, low in rows.select("open_at", "high", "low").rows()}
    assert len(extremes) == len(around) - 2
    assert all(extremes[open_at] == pytest.approx(theirs[open_at]) for open_at in extremes)
    assert rows["outliers"].sum() == 0
