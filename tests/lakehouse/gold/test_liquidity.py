"""gold.liquidity from given books, and against a plain walk through books that venues recorded."""

import csv
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.gold import liquidity
from lakehouse.gold.liquidity import BANDS_BPS, ORDER_SIZES
from lakehouse.silver import book_snapshots, instruments

RECORDED = Path(__file__).parents[3] / "../shared/recorded"
needs_recordings = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded provider data are not here")

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

Side = list[tuple[float, float]]


def book(seconds: float, bids: Side, asks: Side, **said: object) -> dict:
    at = NOON + timedelta(seconds=seconds)
    clocks = {"event_at": at, "known_at": at, "ingested_at": at}
    about = {"venue": "okx", "instrument_id": "BTC/USDT:USDT", "provider": "ccxt", "page_id": 1}
    levels = {
        f"{name}_{what}": [level[place] for level in side]
        for name, side in (("bid", bids), ("ask", asks))
        for place, what in enumerate(("prices", "amounts"))
    }
    return about | clocks | levels | {"amount_unit": "base", "is_valid": True, "check": "snapshot"} | said


def listing(**said: object) -> dict:
    clocks = dict.fromkeys(("event_at", "known_at", "ingested_at"), NOON)
    about = {
        "venue": "okx",
        "instrument_id": "BTC/USDT:USDT",
        "base": "BTC",
        "quote": "USDT",
        "settle": "USDT",
    }
    return about | clocks | {"is_inverse": False, "contract_size": 0.01} | said


def built(*books: dict, listings: tuple[dict, ...] = ()) -> list[dict]:
    inputs = {
        table.name: pl.LazyFrame(
            [{name: row.get(name) for name in table.schema.names()} for row in rows], schema=table.schema
        )
        for table, rows in ((book_snapshots.TABLE, books), (instruments.TABLE, listings))
    }
    rows = liquidity.build(inputs).collect(engine="streaming")
    return rows.sort("instrument_id", "open_at", "known_at").to_dicts()


DEEP = (
    [(99.99, 50.0), (99.96, 100.0), (99.0, 5000.0)],
    [(100.01, 150.0), (100.04, 100.0), (101.0, 20_000.0)],
)
"""Mid 100; levels 1, 4 and 100 bps away on either side."""


def test_a_row_says_what_the_first_valid_book_of_the_minute_offers() -> None:
    (row,) = built(book(2, *DEEP), book(3, [(90.0, 1.0)], [(91.0, 1.0)]))
    assert row["open_at"] == NOON
    assert row["event_at"] == row["known_at"] == row["ingested_at"] == NOON + timedelta(seconds=2)
    assert (row["bid"], row["ask"], row["mid"]) == (99.99, 100.01, 100.0)
    assert row["spread_bps"] == pytest.approx(2.0)
    assert row["imbalance_best"] == pytest.approx(-0.5)
    for bps in (5, 10, 50):
        assert row[f"bid_depth_{bps}bps_base"] == 150.0
        assert row[f"ask_depth_{bps}bps_base"] == 250.0
        assert row[f"bid_depth_{bps}bps_quote"] == pytest.approx(99.99 * 50 + 99.96 * 100)
        assert row[f"ask_depth_{bps}bps_quote"] == pytest.approx(100.01 * 150 + 100.04 * 100)
        assert row[f"imbalance_{bps}bps"] == pytest.approx(-100 / 400)
    bought = (10_000 / 100.01, 150 + (100_000 - 100.01 * 150 - 100.04 * 100) / 101 + 100)
    assert row["buy_slippage_10k_bps"] == pytest.approx(1.0)
    assert row["buy_slippage_100k_bps"] == pytest.approx((100_000 / bought[1] / 100 - 1) * 1e4)
    sold = 50 + (10_000 - 99.99 * 50) / 99.96
    assert row["sell_slippage_10k_bps"] == pytest.approx((1 - 10_000 / sold / 100) * 1e4)
    assert row["buy_slippage_1m_bps"] is not None
    assert row["sell_slippage_1m_bps"] is None


def test_what_lies_beyond_the_levels_sent_is_not_guessed() -> None:
    (row,) = built(book(1, [(99.99, 50.0)], [(100.01, 150.0), (100.2, 1.0)]))
    assert row["bid_depth_5bps_base"] is None
    assert row["ask_depth_5bps_base"] == 150.0
    assert row["imbalance_5bps"] is None
    assert row["ask_depth_50bps_base"] is None
    assert (row["sell_slippage_10k_bps"], row["buy_slippage_10k_bps"]) == (None, pytest.approx(1.0))


def test_a_book_without_one_side_has_no_mid() -> None:
    (row,) = built(book(1, [], [(100.0, 1.0)]))
    assert (row["bid"], row["ask"], row["mid"], row["spread_bps"]) == (None, 100.0, None, None)
    assert row["buy_slippage_10k_bps"] is None


def test_an_invalid_book_is_never_used_and_counted() -> None:
    (row,) = built(book(1, [(50.0, 1.0)], [(51.0, 1.0)], is_valid=False), book(2, *DEEP))
    assert (row["bid"], row["invalid_books"]) == (99.99, 1)
    assert built(book(1, *DEEP, is_valid=False)) == []


def test_a_book_that_comes_late_gives_a_version_of_its_own_if_it_is_the_first_one() -> None:
    late, later = NOON + 5 * MINUTE, NOON + 6 * MINUTE
    rows = built(
        book(9, *DEEP),
        book(1, [(98.0, 1.0)], [(99.0, 1.0)], known_at=late),
        book(5, [(97.0, 1.0)], [(98.0, 1.0)], known_at=later),
    )
    assert [(row["known_at"], row["bid"]) for row in rows] == [
        (NOON + timedelta(seconds=9), 99.99),
        (late, 98.0),
    ]


@pytest.mark.parametrize(
    ("unit", "listed", "base", "quote"),
    [
        pytest.param("base", (), 50.0, 5000.0, id="base"),
        pytest.param("shares", (), 50.0, 5000.0, id="shares of an outcome"),
        pytest.param("quote", (), 0.5, 50.0, id="quote"),
        pytest.param("contracts", (), None, None, id="contracts that no listing was known of"),
        pytest.param("contracts", (listing(),), 0.5, 50.0, id="linear contracts"),
        pytest.param(
            "contracts",
            (listing(is_inverse=True, contract_size=10.0, settle="BTC"),),
            5.0,
            500.0,
            id="inverse contracts",
        ),
        pytest.param("contracts", (listing(settle="ETH"),), None, None, id="quanto contracts"),
        pytest.param("contracts", (listing(known_at=NOON + MINUTE),), None, None, id="listing of later"),
        pytest.param(
            "contracts",
            (listing(), listing(known_at=NOON + MINUTE / 60, contract_size=0.1)),
            5.0,
            500.0,
            id="newest listing",
        ),
    ],
)
def test_amounts_are_told_in_base_and_quote_where_their_worth_is_known(unit, listed, base, quote) -> None:
    (row,) = built(
        book(1, [(100.0, 50.0), (90.0, 1.0)], [(100.0002, 50.0)], amount_unit=unit), listings=listed
    )
    assert row["bid_depth_10bps_base"] == base
    assert row["bid_depth_10bps_quote"] == quote


# An independent walk through recorded books, in plain Python


def polymarket_books() -> Iterator[dict]:
    path = RECORDED / "polymarket/fed-decision-june-2026/clob-books.json"
    for number, told in enumerate(json.loads(path.read_bytes())):
        bids, asks = (
            sorted(((float(one["price"]), float(one["size"])) for one in told[side]), reverse=side == "bids")
            for side in ("bids", "asks")
        )
        yield book(number, bids, asks, instrument_id=told["asset_id"], amount_unit="shares")


def tardis_books() -> Iterator[dict]:
    path = RECORDED / "tardis/nautilus/binance-futures_book_snapshot_25_BTCUSDT.csv"
    for number, row in enumerate(csv.DictReader(path.read_text().splitlines())):
        bids, asks = (
            [(float(row[f"{side}[{n}].price"]), float(row[f"{side}[{n}].amount"])) for n in range(25)]
            for side in ("bids", "asks")
        )
        yield book(60 * number, bids, asks)


def coinbase_books() -> Iterator[dict]:
    path = RECORDED / "ws/bmoscon-orderbook/coinbase_BTC-USD_l2_snapshot_20260807.json.gz"
    told = json.loads(gzip.decompress(path.read_bytes()))
    for number, levels in enumerate((50, 1000, 10_000)):
        bids, asks = ([(float(p), float(a)) for p, a, _ in told[side][:levels]] for side in ("bids", "asks"))
        yield book(60 * number, bids, asks)


def walked(side: Side, mid: float, size: float) -> float | None:
    """Average price of an order that turns over `size` of the quote, level by level."""
    left, got = size, 0.0
    for price, amount in side:
        taken = min(left, price * amount)
        got, left = got + taken / price, left - taken
        if left <= 0:
            return abs(size / got / mid - 1) * 1e4
    return None


def depth(side: Side, mid: float, bps: int) -> float | None:
    inside = [amount for price, amount in side if abs(price / mid - 1) * 1e4 <= bps]
    return sum(inside) if abs(side[-1][0] / mid - 1) * 1e4 >= bps else None


@needs_recordings
@pytest.mark.parametrize(
    ("books", "count"),
    [(polymarket_books, 10), (tardis_books, 10), (coinbase_books, 3)],
    ids=["polymarket", "binance", "coinbase"],
)
def test_recorded_books_agree_with_a_plain_walk(books, count) -> None:
    given = {(one["instrument_id"], one["event_at"]): one for one in books()}
    rows = built(*given.values())
    assert len(rows) == count
    for row in rows:
        told = given[row["instrument_id"], row["event_at"]]
        sides = {
            side: list(zip(told[f"{side}_prices"], told[f"{side}_amounts"], strict=True))
            for side in ("bid", "ask")
        }
        mid = (sides["bid"][0][0] + sides["ask"][0][0]) / 2
        expected = {
            f"{side}_depth_{bps}bps_base": depth(levels, mid, bps)
            for side, levels in sides.items()
            for bps in BANDS_BPS
        } | {
            f"{order}_slippage_{name}_bps": walked(sides[side], mid, size)
            for order, side in (("buy", "ask"), ("sell", "bid"))
            for name, size in ORDER_SIZES.items()
        }
        known = {name: value for name, value in expected.items() if value is not None}
        assert {name for name in expected if row[name] is not None} == set(known)
        assert {name: row[name] for name in known} == pytest.approx(known, rel=1e-6, abs=1e-6)
        assert known
