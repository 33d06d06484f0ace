"""gold.activity_bars: bars of so many trades, so much volume, so much value, as far as the day is known whole."""

import random
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import polars as pl
import pytest

from lakehouse.gold import activity_bars
from lakehouse.silver import trades

MIDNIGHT = datetime(2024, 1, 2, tzinfo=UTC)
INSTRUMENT = {"venue": "kraken", "instrument_id": "BTC/USD"}


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    """Smaller bars than those that are stored."""
    monkeypatch.setattr(activity_bars, "SIZES", {"tick": (100,), "volume": (100,), "dollar": (100_000,)})


def trade(number: object, seconds: float, price: float = 100, amount: float = 1, **said: object) -> dict:
    clocks = dict.fromkeys(("event_at", "known_at", "ingested_at"), MIDNIGHT + timedelta(seconds=seconds))
    given = {"price": price, "amount": amount, "amount_unit": "base", "side": "buy"}
    return INSTRUMENT | {"trade_id": str(number), "page_id": 1, "provider": "ccxt"} | clocks | given | said


def built(rows: list[dict], kind: str = "tick", size: float = 100) -> list[dict]:
    names = trades.TABLE.schema.names()
    frame = pl.LazyFrame(
        [{name: row.get(name) for name in names} for row in rows], schema=trades.TABLE.schema
    )
    is_asked = (pl.col("kind") == kind) & (pl.col("size") == size)
    bars = activity_bars.build({"silver.trades": frame}).filter(is_asked)
    return bars.sort("day", "number").collect(engine="streaming").to_dicts()


def told(rows: list[dict], *names: str) -> list[tuple]:
    return [tuple(row[name] for name in names) for row in rows]


def test_a_bar_of_trades_is_full_with_its_last_one_and_known_with_it() -> None:
    rows = built([trade(0, -1, 7), *(trade(n, n, n) for n in range(1, 251))])
    assert told(rows, "number", "open", "close", "trade_count", "volume", "is_full") == [
        (0, 1, 100, 100, 100, True),
        (1, 101, 200, 100, 100, True),
    ]
    assert told(rows, "open_at", "event_at", "known_at")[0] == (
        MIDNIGHT + timedelta(seconds=1),
        *[MIDNIGHT + timedelta(seconds=100)] * 2,
    )


def test_the_trade_that_fills_a_bar_is_in_it_whole_and_may_skip_one() -> None:
    amounts = (60, 60, 250, 5, 90)
    rows = built([trade(0, -1), *(trade(n, n, 100, a) for n, a in enumerate(amounts, 1))], "volume", 100)
    # 120 after two trades; 370 after three: bar 2 has no trade of its own; 375 and 465 are in bar 3.
    assert told(rows, "number", "volume", "trade_count") == [(0, 120, 2), (1, 250, 1), (3, 95, 2)]


def test_tenths_fill_a_bar_when_they_add_up_on_paper() -> None:
    rows = built([trade(0, -1), *(trade(n, n / 10, 100, 0.1) for n in range(1, 1002))], "volume", 100)
    assert told(rows, "number", "trade_count", "volume") == [(0, 1000, 100.0)]


def test_value_is_price_times_amount() -> None:
    said = [trade(0, -1), trade(1, 1, 50_000, 1.5), trade(2, 2, 50_500, 1, side="sell"), trade(3, 3, 50_500)]
    (row,) = built(said, "dollar", 100_000)
    assert told([row], "value", "volume", "vwap", "buy_volume") == [(125_500, 2.5, 50_200, 1.5)]


def test_midnight_cuts_the_last_bar_off_and_the_next_day_counts_anew() -> None:
    day = 86_400
    said = [
        trade(0, -1),
        *(trade(n, n * 800) for n in range(1, 108)),
        *(trade(n, n * 800) for n in range(108, 209)),
    ]
    rows = built(said)
    assert told(rows, "day", "number", "trade_count", "is_full", "event_at", "known_at") == [
        (MIDNIGHT.date(), 0, 100, True, *[MIDNIGHT + timedelta(seconds=80_000)] * 2),
        (
            MIDNIGHT.date(),
            1,
            7,
            False,
            MIDNIGHT + timedelta(seconds=day),
            MIDNIGHT + timedelta(seconds=86_400),
        ),
        ((MIDNIGHT + timedelta(days=1)).date(), 0, 100, True, *[MIDNIGHT + timedelta(seconds=207 * 800)] * 2),
    ]


@pytest.mark.parametrize(
    ("ids", "pace", "bars"),
    [
        pytest.param(range(301), 1, 3, id="ids count on"),
        pytest.param([*range(150), *range(151, 302)], 1, 1, id="a trade is missing: up to there"),
        pytest.param([f"x{n}" for n in range(301)], 50, 3, id="ids that do not count, steady"),
        pytest.param(
            [f"x{n}" for n in range(301)], 70, 0, id="ids that do not count, silent for more than a minute"
        ),
    ],
)
def test_a_day_is_told_up_to_its_first_hole(ids, pace, bars) -> None:
    said = [trade(number, pace * n - 1) for n, number in enumerate(ids)]
    assert len(built(said)) == bars


def test_a_day_without_a_trade_before_it_is_not_told() -> None:
    assert built([trade(n, n) for n in range(1, 300)]) == []


def test_amounts_in_contracts_make_no_bars() -> None:
    assert built([trade(n, n - 1, amount_unit="contracts") for n in range(300)]) == []


@pytest.mark.parametrize(("kind", "size"), [("tick", 100), ("volume", 100), ("dollar", 100_000)])
@pytest.mark.parametrize("seed", range(3))
def test_bars_are_what_a_plain_loop_with_exact_fractions_makes(kind, size, seed) -> None:
    rng, seconds, rows = random.Random(seed), -5.0, []
    for number in range(900):
        seconds += rng.choice([0.5, 20])
        rows.append(
            trade(number, seconds if number else -5, rng.randint(9000, 11000) / 100, rng.randint(1, 90) / 10)
        )
    expected, traded, bars = [], Fraction(0), {}
    for row in rows:
        if row["event_at"] < MIDNIGHT:
            continue
        price, amount = (Fraction(str(row[name])) for name in ("price", "amount"))
        bars.setdefault(int(traded // size), []).append((row["price"], float(amount)))
        traded += {"tick": Fraction(1), "volume": amount, "dollar": amount * price}[kind]
    full = int(traded // size)
    expected = [
        (n, held[0][0], max(held)[0], held[-1][0], pytest.approx(sum(a for _, a in held)), len(held))
        for n, held in bars.items()
        if n < full
    ]
    found = told(built(rows, kind, size), "number", "open", "high", "close", "volume", "trade_count")
    assert found == expected
    assert len(found) > 3
