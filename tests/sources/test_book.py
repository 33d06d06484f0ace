from __future__ import annotations

import zlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sources.book import (
    Book,
    OrderBook,
    OrderEvent,
    bitfinex_checksum,
    bitfinex_orders_checksum,
    kraken_checksum,
    kraken_orders_checksum,
    okx_checksum,
)

KRAKEN_ASKS = """45285.2/0.00100000 45286.4/1.54571953 45286.6/1.54571109 45289.6/1.54560911 45290.2/0.15890660
45291.8/1.54553491 45294.7/0.04454749 45296.1/0.35380000 45297.5/0.09945542 45299.5/0.18772827"""
KRAKEN_BIDS = """45283.5/0.10000000 45283.4/1.54582015 45282.1/0.10000000 45281.0/0.10000000 45280.3/1.54592586
45279.0/0.07990000 45277.6/0.03310103 45277.5/0.30000000 45277.3/1.54602737 45276.6/0.15445238"""


def levels(text: str) -> list[tuple[str, str]]:
    return [tuple(level.split("/")) for level in text.split()]


def test_a_book_is_its_snapshot_and_what_changed_since() -> None:
    book = Book()
    book.load([("1.0", "5"), ("0.9", "6")], [("1.1", "7"), ("1.2", "0")])
    book.apply([("1.0", "0"), ("0.95", "2"), ("0.5", "0")], [("1.10", "8"), ("1.05", "1")])
    assert book.bids(10) == [("0.95", "2"), ("0.9", "6")]
    assert book.asks(10) == [("1.05", "1"), ("1.10", "8")]
    assert book.best() == (0.95, 1.05)
    assert not book.is_crossed
    book.truncate(1)
    assert (book.bids(10), book.asks(10)) == ([("0.95", "2")], [("1.05", "1")])
    book.apply([("1.05", "1")], [])
    assert book.is_crossed


@pytest.mark.parametrize(
    "level",
    [("1", "-1"), ("nan", "1"), ("inf", "1"), ("1", "inf"), ("x", "1"), ("1", 2), (1.0, "1"), ("1",), None],
)
def test_a_level_that_is_no_price_and_amount_in_text_is_refused(level: object) -> None:
    book = Book()
    with pytest.raises((TypeError, ValueError, IndexError)):
        book.apply([level], [])
    with pytest.raises((TypeError, ValueError, IndexError)):
        book.load([], [level])


PRICES = st.integers(1, 30).map(lambda n: f"{n / 10:.1f}")
CHANGES = st.lists(st.tuples(PRICES, st.integers(0, 3).map(str)), max_size=8)


@given(st.lists(st.tuples(CHANGES, CHANGES), max_size=20))
def test_levels_are_those_of_a_dictionary_sorted_each_time(frames: list) -> None:
    book, bids, asks = Book(), {}, {}
    for bid_changes, ask_changes in frames:
        book.apply(bid_changes, ask_changes)
        bids |= dict(bid_changes)
        asks |= dict(ask_changes)
    held_bids = sorted(((float(p), a) for p, a in bids.items() if a != "0"), reverse=True)
    held_asks = sorted((float(p), a) for p, a in asks.items() if a != "0")
    assert [(float(p), a) for p, a in book.bids(99)] == held_bids
    assert [(float(p), a) for p, a in book.asks(99)] == held_asks
    assert book.is_crossed == bool(held_bids and held_asks and held_bids[0][0] >= held_asks[0][0])


def test_books_differ_only_where_both_can_know() -> None:
    mine, theirs = Book(), Book()
    mine.load([("3", "1"), ("2", "1"), ("1", "1")], [("4", "1")])
    theirs.load([("3", "1.0"), ("2", "1")], [("4", "1"), ("5", "9")])
    assert mine.difference(theirs) == ""
    theirs.apply([("2", "7")], [])
    assert mine.difference(theirs) == "bid 2.0 is 1 and 7"
    theirs.apply([("2", "1"), ("2.5", "1")], [])
    assert mine.difference(theirs) == "bid 2.5 is in one of the books only"


def order(
    action: str, order_id: str, side: str | None = "buy", price: str = "", amount: str = ""
) -> OrderEvent:
    return OrderEvent(action, order_id, side, price, amount)


def test_orders_keep_their_place_when_only_their_amount_changes() -> None:
    book = OrderBook()
    book.load([order("add", "a", "buy", "10", "1"), order("add", "b", "buy", "10", "2")])
    book.apply([order("set", "a", "buy", "10.0", "5"), order("add", "c", "sell", "11", "4")])
    assert list(book.bid_orders(5)) == [("a", "10.0", "5"), ("b", "10", "2")]
    book.apply([order("set", "a", "buy", "9", "5"), order("reduce", "b", amount="0.5"), order("remove", "z")])
    assert list(book.bid_orders(5)) == [("b", "10", "1.5"), ("a", "9", "5")]
    book.apply([order("reduce", "b", amount="1.5"), order("reduce", "z", amount="1")])
    assert (book.bids(5), book.asks(5)) == ([("9", "5")], [("11", "4")])
    assert (len(book), "b" in book) == (1 + 1, False)


@pytest.mark.parametrize(
    "event",
    [
        order("add", "", "buy", "1", "1"),
        order("add", "a", None, "1", "1"),
        order("set", "a", "buy", "", "1"),
        order("set", "a", "buy", "x", "1"),
        order("reduce", "a"),
    ],
)
def test_an_order_event_that_lacks_something_is_refused(event: OrderEvent) -> None:
    with pytest.raises((TypeError, ValueError)):
        OrderBook().apply([event])


@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["buy", "sell"]), PRICES, st.integers(0, 4)), max_size=40
    )
)
def test_price_levels_of_orders_are_their_sums(events: list) -> None:
    book, held = OrderBook(), {}
    for number, side, price, amount in events:
        order_id = str(number)
        if amount:
            book.apply([order("set", order_id, side, price, str(amount))])
            held[order_id] = (side, price, amount)
        else:
            book.apply([order("remove", order_id)])
            held.pop(order_id, None)
    for side, told in (("buy", book.bids(99)), ("sell", book.asks(99))):
        sums: dict[str, int] = {}
        for where, price, amount in held.values():
            if where == side:
                sums[price] = sums.get(price, 0) + amount
        wanted = sorted(sums.items(), key=lambda level: float(level[0]), reverse=side == "buy")
        assert [(price, int(Decimal(amount))) for price, amount in told] == wanted
    assert len(book) == len(held)


def test_the_checksum_of_krakens_own_example() -> None:
    """https://docs.kraken.com/api/docs/guides/spot-ws-book-v2"""
    book = Book()
    book.load(levels(KRAKEN_BIDS), levels(KRAKEN_ASKS))
    assert kraken_checksum(book, 1, 8) == 3310070434


def test_krakens_checksum_needs_the_digits_that_a_number_has_lost() -> None:
    book = Book()
    short = [(price, amount.rstrip("0")) for price, amount in levels(KRAKEN_ASKS)]
    book.load(levels(KRAKEN_BIDS), short)
    assert kraken_checksum(book, 1, 8) == 3310070434


def test_krakens_checksum_of_orders_takes_them_in_their_order() -> None:
    book = OrderBook()
    book.load(
        [
            order("add", "1", "sell", "101.0", "0.5"),
            order("add", "2", "sell", "101.0", "0.25"),
            order("add", "3", "buy", "99.5", "2"),
        ]
    )
    assert kraken_orders_checksum(book, 1, 2) == zlib.crc32(b"10105010102599" + b"5200")


def test_okx_and_bitfinex_take_sides_in_turn_and_a_shorter_side_ends() -> None:
    book = Book()
    book.load([("3366.1", "7"), ("3366", "6")], [("3366.8", "9")])
    crc = zlib.crc32(b"3366.1:7:3366.8:9:3366:6")
    assert okx_checksum(book) == crc - (1 << 32) * (crc >= 1 << 31)
    crc = zlib.crc32(b"3366.1:7:3366.8:-9:3366:6")
    assert bitfinex_checksum(book) == crc - (1 << 32) * (crc >= 1 << 31)


def test_bitfinex_orders_of_one_price_are_summed_up_by_their_ids() -> None:
    book = OrderBook()
    book.load(
        [
            order("set", "12", "buy", "5", "1"),
            order("set", "9", "buy", "5", "2"),
            order("set", "3", "sell", "6", "4"),
        ]
    )
    crc = zlib.crc32(b"9:2:3:-4:12:1")
    assert bitfinex_orders_checksum(book) == crc - (1 << 32) * (crc >= 1 << 31)
