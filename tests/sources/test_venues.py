"""What sessions and parsers do with frames made by hand from the venues' documentation."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse.bronze import bronze_table, pages_frame
from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.errors import UsageError
from lakehouse.silver import book_orders, book_snapshots, book_updates, trades
from sources.errors import ParseError
from sources.stream import (
    Action,
    Fetch,
    Frame,
    Hole,
    Instrument,
    Reconnect,
    Send,
    Unreadable,
    page_of,
)
from sources.venues import (
    VENUES,
    parse_book_orders,
    parse_book_snapshots,
    parse_book_updates,
    parse_trades,
    unreadable,
    venue,
)
from sources.venues.session import StreamSession

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Parse = Callable[[pl.DataFrame], pl.LazyFrame]
PARSERS = [
    (trades.TABLE, parse_trades),
    (book_updates.TABLE, parse_book_updates),
    (book_snapshots.TABLE, parse_book_snapshots),
    (book_orders.TABLE, parse_book_orders),
]


def session(stream: str, *symbols: str, channels: Sequence[str] = ("trades", "book")) -> StreamSession:
    wanted = tuple(
        Instrument(instrument_id=f"id {symbol}", symbol=symbol, price_digits=1, amount_digits=8)
        for symbol in symbols
    )
    opened = StreamSession(VENUES[stream], wanted, tuple(channels))
    opened.opening(START)
    return opened


def frame(
    number: int, said: object, *, kind: str = "recv", about: str = "", status: int = 200, ms: int = 250
) -> Frame:
    """The n-th frame, a quarter of a second after the one before."""
    at = START + timedelta(milliseconds=ms * number)
    text = said if isinstance(said, str) else json.dumps(said)
    return Frame(number=number, received_at=at, kind=kind, text=text, about=about, status=status)


def heard(opened: StreamSession, frames: Sequence[Frame]) -> tuple[pl.DataFrame, list[Action]]:
    actions, pages = [], []
    for one in frames:
        said = opened.hear(one)
        actions += said.actions
        pages.append(page_of(opened, one, said, connection_id="c"))
    return pages_frame(pages, run_id="r", code_version="0"), actions


def kinds(actions: Sequence[Action]) -> list[str]:
    return [type(action).__name__ for action in actions]


def depth(first: int, last: int, bids: Sequence = (), asks: Sequence = (), symbol: str = "BTCUSDT") -> dict:
    return {"e": "depthUpdate", "E": 1767323045000, "s": symbol, "U": first, "u": last, "b": bids, "a": asks}


def snapshot(
    number: int, last: int, bids: Sequence = (), asks: Sequence = (), symbol: str = "BTCUSDT"
) -> Frame:
    said = {"lastUpdateId": last, "bids": bids, "asks": asks}
    return frame(number, said, kind="http", about=f"book {symbol}")


# --- the books of sessions


def test_changes_received_before_a_snapshot_are_joined_by_their_numbers() -> None:
    pages, actions = heard(
        session("binance", "BTCUSDT"),
        [
            frame(0, depth(1, 4, [["1", "9"]])),
            frame(1, depth(5, 8, [["2", "1"]], [["3", "0"]])),
            snapshot(2, 6, [["1", "1"]], [["3", "1"], ["4", "1"]]),
            frame(3, depth(9, 9, [["1", "7"]])),
        ],
    )
    assert kinds(actions) == ["Valid"]
    told = (
        parse_book_updates(pages)
        .collect()
        .select("frame", "is_snapshot", "is_valid", "check", "last_sequence")
    )
    assert told.rows() == [
        (0, False, False, "none", 4),
        (1, False, False, "none", 8),
        (2, True, True, "snapshot", 6),
        (3, False, True, "sequence", 9),
    ]


def test_a_snapshot_older_than_the_first_change_is_asked_for_again() -> None:
    _, actions = heard(session("binance", "BTCUSDT"), [frame(0, depth(10, 12)), snapshot(1, 5)])
    assert actions == [
        Fetch(url="https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=5000", about="book BTCUSDT")
    ]


@pytest.mark.parametrize(
    ("changes", "is_whole"),
    [
        ([(7, 8), (9, 9)], True),
        ([(7, 8), (7, 8), (9, 9)], True),
        ([(7, 8), (10, 10)], False),
        ([(7, 8), (10, 10), (9, 9)], False),
        ([(8, 9)], False),
    ],
    ids=["in order", "a duplicate", "a gap", "reordered", "a gap after the snapshot"],
)
def test_a_book_by_numbers_survives_duplicates_and_breaks_on_gaps(changes: list, is_whole: bool) -> None:
    frames = [snapshot(0, 6), *(frame(i, depth(*c), ms=10) for i, c in enumerate(changes, start=1))]
    pages, actions = heard(session("binance", "BTCUSDT"), frames)
    assert kinds(actions) == (["Valid"] if is_whole else ["Valid", "Invalid", "Fetch"])
    assert parse_book_updates(pages).collect()["is_valid"][-1] == is_whole


def test_futures_name_the_change_before() -> None:
    def change(first: int, last: int, previous: int) -> dict:
        return {**depth(first, last), "T": 1767323045000, "pu": previous}

    frames = [
        frame(0, change(90, 99, 89)),
        snapshot(1, 104),
        frame(2, change(103, 110, 99)),
        frame(3, change(118, 120, 110)),
        frame(4, change(130, 131, 128)),
    ]
    pages, actions = heard(session("binanceusdm", "BTCUSDT"), frames)
    assert kinds(actions) == ["Valid", "Invalid", "Fetch"]
    assert parse_book_updates(pages).collect()["is_valid"].to_list() == [False, True, True, True, False]


def test_a_fresh_snapshot_that_differs_from_our_book_marks_all_since_the_one_before() -> None:
    frames = [
        snapshot(0, 5, [["1", "1"]]),
        frame(1, depth(6, 6, [["2", "1"]])),
        snapshot(2, 6, [["2", "5"], ["1", "1"]]),
    ]
    _, actions = heard(session("binance", "BTCUSDT"), frames)
    invalid, valid = actions[1:]
    assert invalid.since == START
    assert "differs from a snapshot" in invalid.reason
    assert valid.at == frames[2].received_at


def test_a_crossed_book_is_broken_until_a_fresh_snapshot() -> None:
    frames = [
        snapshot(0, 5, [["1", "1"]], [["2", "1"]]),
        frame(1, depth(6, 6, [["3", "1"]])),
        frame(2, depth(7, 7)),
        snapshot(3, 7, [["1", "1"]], [["2", "1"]]),
    ]
    pages, actions = heard(session("binance", "BTCUSDT"), frames)
    assert kinds(actions) == ["Valid", "Invalid", "Fetch", "Valid"]
    assert parse_book_updates(pages).collect()["is_valid"].to_list() == [True, False, False, True]


def test_a_bitfinex_book_may_be_crossed_for_a_second_and_is_not_valid_meanwhile() -> None:
    subscribed = {"event": "subscribed", "channel": "book", "chanId": 7, "symbol": "tBTCUSD", "prec": "P0"}
    said = [
        subscribed,
        [7, [[1, 1, 5], [2, 1, -5]], 1],
        [7, [3, 1, 1], 2],
        [7, [3, 0, 1], 3],
        [7, [3, 1, 1], 4],
    ]
    frames = [frame(i, one) for i, one in enumerate(said)]
    opened = session("bitfinex", "tBTCUSD")
    pages, actions = heard(opened, [*frames, frame(9, [7, [0.5, 1, 1], 5])])
    assert kinds(actions)[:2] == ["Valid", "Invalid"]
    assert "crossed" in actions[1].reason
    assert parse_book_updates(pages).collect()["is_valid"].to_list() == [True, False, True, False, False]


def test_bitfinex_counts_the_frames_of_a_connection() -> None:
    subscribed = {"event": "subscribed", "channel": "book", "chanId": 7, "symbol": "tBTCUSD", "prec": "P0"}
    said = [subscribed, [7, [[1, 1, 5], [2, 1, -5]], 1], [9, "hb", 2], [7, [1, 1, 6], 4]]
    pages, actions = heard(session("bitfinex", "tBTCUSD"), [frame(i, one) for i, one in enumerate(said)])
    assert kinds(actions) == ["Valid", "Invalid", "Send", "Send"]
    assert json.loads(actions[2].text) == {"event": "unsubscribe", "chanId": 7}
    assert parse_book_updates(pages).collect()["check"].to_list() == ["snapshot", "none"]


def test_a_wrong_bitfinex_checksum_breaks_the_book() -> None:
    subscribed = {"event": "subscribed", "channel": "book", "chanId": 7, "symbol": "tBTCUSD", "prec": "P0"}
    said = [subscribed, [7, [[1, 1, 5], [2, 1, -5]], 1], [7, "cs", 12345, 2], [7, [1, 1, 6], 3]]
    pages, actions = heard(session("bitfinex", "tBTCUSD"), [frame(i, one) for i, one in enumerate(said)])
    assert kinds(actions)[:2] == ["Valid", "Invalid"]
    assert parse_book_updates(pages).collect()["is_valid"].to_list() == [True, False]


def test_deribit_breaks_where_prev_change_id_is_not_the_last_one() -> None:
    def change(change_id: int, previous: int | None, kind: str) -> dict:
        data = {
            "type": kind,
            "timestamp": 1,
            "instrument_name": "X",
            "change_id": change_id,
            "bids": [],
            "asks": [],
        }
        named = data if previous is None else {**data, "prev_change_id": previous}
        return {"method": "subscription", "params": {"channel": "book.X.100ms", "data": named}}

    said = [
        change(5, None, "snapshot"),
        change(9, 5, "change"),
        change(12, 10, "change"),
        change(3, None, "snapshot"),
    ]
    pages, actions = heard(session("deribit", "X"), [frame(i, one) for i, one in enumerate(said)])
    assert kinds(actions) == ["Valid", "Invalid", "Send", "Send", "Valid"]
    assert parse_book_updates(pages).collect()["is_valid"].to_list() == [True, True, False, True]


def test_bybit_starts_again_on_a_change_numbered_one() -> None:
    def change(u: int, kind: str) -> dict:
        data = {"s": "X", "b": [[f"{u}", "1"]], "a": [], "u": u, "seq": u}
        return {"topic": "orderbook.200.X", "type": kind, "ts": 1, "data": data}

    said = [change(8, "snapshot"), change(9, "delta"), change(1, "delta"), change(3, "delta")]
    pages, _ = heard(session("bybit", "X"), [frame(i, one) for i, one in enumerate(said)])
    told = parse_book_updates(pages).collect()
    assert told["is_snapshot"].to_list() == [True, False, True, False]
    assert told["is_valid"].to_list() == [True, True, True, False]


def okx(seq: int, previous: int, action: str = "update", **facts: object) -> dict:
    data = {"asks": [], "bids": [], "ts": "1", "checksum": 0, "seqId": seq, "prevSeqId": previous, **facts}
    return {"arg": {"channel": "books", "instId": "X"}, "action": action, "data": [data]}


def test_okx_idle_frames_and_numbers_set_back_are_legal_and_its_checksum_of_zero_is_not_read() -> None:
    said = [okx(10, -1, "snapshot"), okx(10, 10), okx(15, 10), okx(3, 15), okx(4, 3)]
    pages, actions = heard(session("okx", "X"), [frame(i, one) for i, one in enumerate(said)])
    assert kinds(actions) == ["Valid"]
    assert parse_book_updates(pages).collect()["check"].to_list() == ["snapshot", *["sequence"] * 4]


def test_okx_without_a_snapshot_over_the_stream_is_asked_for_over_rest() -> None:
    opened = session("okx", "X", channels=("book",))
    _, actions = heard(opened, [frame(0, okx(10, 8))])
    assert actions == []
    (asked,) = opened.tick(START + timedelta(seconds=16))
    assert asked == Fetch(url="https://www.okx.com/api/v5/market/books?instId=X&sz=400", about="book X")
    body = {"code": "0", "data": [{"asks": [], "bids": [], "ts": "1", "seqId": 9}]}
    _, actions = heard(opened, [frame(1, body, kind="http", about="book X"), frame(2, okx(12, 10))])
    assert kinds(actions) == ["Valid"]


def test_polymarket_books_are_held_against_the_best_prices_that_are_told() -> None:
    def change(price: str, best_bid: str) -> dict:
        made = {
            "asset_id": "7",
            "price": price,
            "size": "3",
            "side": "BUY",
            "best_bid": best_bid,
            "best_ask": "0.6",
        }
        return {
            "event_type": "price_change",
            "timestamp": "1",
            "price_changes": [made, {**made, "asset_id": "8"}],
        }

    book = {"event_type": "book", "asset_id": "7", "timestamp": "1"}
    levels = {
        "bids": [{"price": "0.1", "size": "1"}, {"price": "0.4", "size": "1"}],
        "asks": [{"price": "0.6", "size": "1"}],
    }
    said = [[{**book, **levels}], change("0.5", "0.5"), change("0.3", "0.55")]
    pages, actions = heard(
        session("polymarket", "7", channels=("book",)), [frame(i, s) for i, s in enumerate(said)]
    )
    assert kinds(actions) == ["Valid", "Invalid", "Send", "Send"]
    assert "best bid is 0.55" in actions[1].reason
    assert parse_book_updates(pages).collect()["is_valid"].to_list() == [True, True, False]


def test_a_polymarket_book_waits_for_the_next_one_after_a_change_of_tick_size() -> None:
    book = {"event_type": "book", "asset_id": "7", "timestamp": "1", "bids": [], "asks": []}
    tick = {"event_type": "tick_size_change", "asset_id": "7", "timestamp": "1"}
    _, actions = heard(
        session("polymarket", "7", channels=("book",)),
        [frame(i, s) for i, s in enumerate([book, tick, book])],
    )
    assert kinds(actions) == ["Valid", "Invalid", "Send", "Send", "Valid"]


def coinbase(kind: str, sequence: int, **facts: object) -> dict:
    return {"type": kind, "product_id": "X", "sequence": sequence, "time": "2026-01-02T03:04:05.5Z", **facts}


def test_a_coinbase_book_by_orders_follows_the_life_of_orders() -> None:
    resting = {"bids": [["10", "2", "a"]], "asks": [["11", "1", "b"]], "sequence": 3}
    said = [
        coinbase("received", 4, order_id="c"),
        coinbase("open", 5, order_id="c", side="buy", price="9", remaining_size="4"),
        coinbase("match", 6, trade_id=1, maker_order_id="a", side="buy", price="10", size="0.5"),
        coinbase("change", 7, order_id="c", side="buy", price="9", new_size="3"),
        coinbase("done", 8, order_id="b", side="sell", price="11"),
        coinbase("done", 10, order_id="c", side="buy", price="9"),
    ]
    frames = [
        frame(0, resting, kind="http", about="orders X"),
        *(frame(i, s) for i, s in enumerate(said, start=1)),
    ]
    opened = session("coinbaseexchange", "X", channels=("orders",))
    pages, actions = heard(opened, frames)
    assert kinds(actions) == ["Valid", "Invalid", "Fetch"]
    told = parse_book_orders(pages).collect().select("frame", "action", "order_id", "amount", "is_valid")
    assert told.rows() == [
        (0, "add", "a", "2", True),
        (0, "add", "b", "1", True),
        (2, "add", "c", "4", True),
        (3, "reduce", "a", "0.5", True),
        (4, "set", "c", "3", True),
        (5, "remove", "b", None, True),
        (6, "remove", "c", None, False),
    ]


def test_a_kraken_book_by_orders_proves_itself_by_its_checksum() -> None:
    at = "2026-01-02T03:04:05.000001Z"

    def told(kind: str, checksum: int, bids: list, asks: list) -> str:
        data = [{"symbol": "X", "checksum": checksum, "bids": bids, "asks": asks}]
        return json.dumps({"channel": "level3", "type": kind, "data": data})

    def order(order_id: str, price: float, size: float, **facts: str) -> dict:
        return {"order_id": order_id, "limit_price": price, "order_qty": size, "timestamp": at, **facts}

    first = zlib.crc32(b"101" + b"50000000" + b"99" + b"200000000")
    frames = [
        frame(0, told("snapshot", first, [order("a", 9.9, 2)], [order("b", 10.1, 0.5)])),
        frame(1, told("update", 1, [order("a", 9.9, 2, event="delete")], [])),
    ]
    pages, actions = heard(session("kraken", "X", channels=("orders",)), frames)
    assert kinds(actions) == ["Valid", "Invalid", "Send", "Send"]
    assert parse_book_orders(pages).collect()["is_valid"].to_list() == [True, True, False]


# --- trades


def test_lost_trades_are_named_by_the_ids_around_them() -> None:
    def trade(number: int) -> dict:
        return {
            "e": "aggTrade",
            "s": "BTCUSDT",
            "a": number,
            "p": "1",
            "q": "2",
            "T": 1767323045000 + number,
            "m": True,
        }

    _, actions = heard(
        session("binance", "BTCUSDT"), [frame(0, trade(5)), frame(1, trade(6)), frame(2, trade(9))]
    )
    assert kinds(actions) == ["Valid", "Hole"]
    hole = actions[1]
    assert isinstance(hole, Hole)
    assert (hole.after_id, hole.before_id) == ("6", "9")
    assert (hole.until - hole.since) == timedelta(milliseconds=3)


def test_a_trade_that_was_lost_between_two_connections_is_a_hole_from_the_last_one_before() -> None:
    def match(kind: str, number: int, trade_id: int, time: str) -> dict:
        said = {"trade_id": trade_id, "time": time, "price": "1", "size": "2", "side": "buy"}
        return coinbase(kind, number, maker_order_id="m", **said)

    before = session("coinbaseexchange", "X")
    heard(before, [frame(0, match("match", 1, 5, "2026-01-02T03:03:00Z")), frame(1, "", kind="disconnect")])
    after = before.again()
    after.opening(START)
    late = [
        frame(0, match("last_match", 9, 7, "2026-01-02T03:04:04Z")),
        frame(1, match("match", 10, 8, "2026-01-02T03:04:05Z")),
    ]
    _, actions = heard(after, late)
    assert kinds(actions) == ["Valid", "Hole"]
    hole = actions[1]
    assert isinstance(hole, Hole)
    assert (hole.after_id, hole.before_id) == ("5", "7")
    assert (hole.since, hole.until) == (START - timedelta(seconds=65), START - timedelta(seconds=1))


def test_a_coinbase_heartbeat_shows_the_trade_that_was_lost() -> None:
    match = coinbase("match", 1, trade_id=5, price="1", size="2", side="buy", maker_order_id="m")
    beat = coinbase("heartbeat", 2, last_trade_id=6)
    pages, actions = heard(session("coinbaseexchange", "X"), [frame(0, match), frame(1, beat)])
    assert [(a.after_id, a.before_id) for a in actions if isinstance(a, Hole)] == [("5", "7")]
    assert parse_trades(pages).collect()["side"].to_list() == ["sell"]


def test_trades_that_okx_tells_as_one_are_a_hole_and_no_row() -> None:
    def told(number: int, count: str) -> dict:
        one = {
            "tradeId": str(number),
            "px": "1",
            "sz": "2",
            "side": "buy",
            "ts": "1767323045000",
            "count": count,
        }
        return {"arg": {"channel": "trades", "instId": "X"}, "data": [one]}

    pages, actions = heard(
        session("okx", "X"), [frame(0, told(5, "1")), frame(1, told(8, "3")), frame(2, told(9, "1"))]
    )
    assert [(a.after_id, a.before_id) for a in actions if isinstance(a, Hole)] == [("5", "9")]
    assert parse_trades(pages).collect()["trade_id"].to_list() == ["5", "9"]


def test_raw_and_aggregated_trades_of_binance_have_ids_apart() -> None:
    said = [
        {"e": "trade", "s": "BTCUSDT", "t": 5, "p": "1.0", "q": "2", "T": 1767323045000, "m": True},
        {"e": "aggTrade", "s": "BTCUSDT", "a": 5, "p": "1.0", "q": "2", "T": 1767323045000, "m": False},
    ]
    pages, _ = heard(session("binance", "BTCUSDT"), [frame(i, one) for i, one in enumerate(said)])
    told = parse_trades(pages).collect().select("trade_id", "price", "side", "venue", "provider")
    assert told.rows() == [
        ("raw-5", "1.0", "sell", "binance", "ccxt"),
        ("5", "1.0", "buy", "binance", "ccxt"),
    ]


def test_bitstamp_trades_have_the_whole_seconds_that_rest_gives() -> None:
    data = {
        "id": 9,
        "price_str": "1.50",
        "amount_str": "2.0",
        "type": 1,
        "microtimestamp": "1767323045999999",
    }
    said = {"event": "trade", "channel": "live_trades_x", "data": data}
    pages, _ = heard(session("bitstamp", "x"), [frame(0, said)])
    (row,) = parse_trades(pages).collect().select("event_at", "price", "side").rows()
    assert row == (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "1.50", "sell")


def test_a_bitfinex_trade_told_twice_is_one_row() -> None:
    subscribed = {"event": "subscribed", "channel": "trades", "chanId": 7, "symbol": "tBTCUSD"}
    said = [
        subscribed,
        [7, "te", [9, 1767323045123, -0.5, 7.1], 1],
        [7, "tu", [9, 1767323045123, -0.5, 7.1], 2],
    ]
    pages, _ = heard(session("bitfinex", "tBTCUSD"), [frame(i, one) for i, one in enumerate(said)])
    assert parse_trades(pages).collect().select("trade_id", "price", "amount", "side").rows() == [
        ("9", "7.1", "0.5", "sell")
    ]


# --- connections


@pytest.mark.parametrize("name", VENUES)
def test_a_silent_connection_is_given_up_and_all_of_it_marked(name: str) -> None:
    opened = session(name, "X", channels=VENUES[name].channels[:1])
    at_most = VENUES[name].silent_at_most
    assert not any(isinstance(one, Reconnect) for one in opened.tick(START + timedelta(seconds=1)))
    late = opened.tick(START + at_most + timedelta(seconds=1))
    assert kinds(late)[-1] == "Reconnect"
    assert opened.again().subject == opened.subject


def test_a_book_that_never_gets_a_snapshot_ends_in_a_new_connection() -> None:
    opened, asked = session("binance", "BTCUSDT", channels=("book",)), []
    for second in range(1, 120):
        opened.hear(frame(second, {"result": None}, ms=1000))
        asked += opened.tick(START + timedelta(seconds=second))
    assert kinds(asked)[:5] == ["Fetch", "Fetch", "Fetch", "Fetch", "Reconnect"]


def test_a_book_starts_from_a_fresh_snapshot_from_time_to_time() -> None:
    opened = session("binance", "BTCUSDT", channels=("book",))
    opened.hear(snapshot(0, 5))
    opened.hear(frame(1, {"result": None}, ms=299_000))
    assert opened.tick(START + timedelta(seconds=299)) == ()
    assert kinds(opened.tick(START + timedelta(seconds=301))) == ["Fetch"]
    assert opened.tick(START + timedelta(seconds=302)) == ()


def test_a_lost_connection_ends_all_that_was_valid() -> None:
    trade = {"e": "aggTrade", "s": "BTCUSDT", "a": 5, "p": "1", "q": "2", "T": 1767323045000, "m": True}
    frames = [frame(0, trade), snapshot(1, 5), frame(2, "reset by peer", kind="disconnect")]
    _, actions = heard(session("binance", "BTCUSDT"), frames)
    assert kinds(actions) == ["Valid", "Valid", "Invalid", "Invalid"]
    assert all(action.since == START for action in actions[2:])


@pytest.mark.parametrize(
    ("name", "said", "wanted"),
    [
        ("deribit", {"method": "heartbeat", "params": {"type": "test_request"}}, "Send"),
        ("bitstamp", {"event": "bts:request_reconnect", "channel": "", "data": ""}, "Reconnect"),
        ("binance", {"e": "serverShutdown", "E": 1}, "Reconnect"),
        ("binance", {"error": {"code": 2, "msg": "Invalid request"}, "id": 1}, "Reconnect"),
        ("bitfinex", {"event": "info", "code": 20051, "msg": "Stop/Restart"}, "Reconnect"),
        ("bitfinex", {"event": "error", "code": 10300, "msg": "subscribe: invalid"}, "Reconnect"),
        ("okx", {"event": "error", "code": "60012", "msg": "Invalid request"}, "Reconnect"),
        ("okx", {"event": "notice", "code": "64008", "msg": "about to be upgraded"}, "Reconnect"),
        (
            "kraken",
            {"method": "subscribe", "success": False, "error": "Currency pair not supported"},
            "Reconnect",
        ),
        ("bybit", {"op": "subscribe", "success": False, "ret_msg": "error:handler not found"}, "Reconnect"),
        ("coinbaseexchange", {"type": "error", "message": "Failed to subscribe"}, "Reconnect"),
    ],
)
def test_what_a_venue_says_of_the_connection_is_acted_on(name: str, said: dict, wanted: str) -> None:
    assert kinds(session(name, "X").hear(frame(0, said)).actions) == [wanted]


@pytest.mark.parametrize("name", VENUES)
def test_heartbeats_and_acknowledgements_say_nothing(name: str) -> None:
    said = {
        "binance": {"result": None, "id": 1},
        "binanceusdm": {"result": None, "id": 1},
        "binancecoinm": {"stream": "btcusd_perp@bookTicker", "data": {"e": "bookTicker", "s": "X"}},
        "bitfinex": [5, "hb", 1],
        "bitstamp": {"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}},
        "bybit": {"success": True, "ret_msg": "pong", "op": "ping"},
        "coinbaseexchange": {"type": "subscriptions", "channels": []},
        "deribit": {"method": "heartbeat", "params": {"type": "heartbeat"}},
        "kraken": {"channel": "heartbeat"},
        "okx": "pong",
        "polymarket": "PONG",
    }
    assert session(name, "X").hear(frame(0, said[name])).actions == ()


def test_instruments_are_spread_over_connections_as_the_venue_allows() -> None:
    def some(*ids: str) -> list[Instrument]:
        return [Instrument(instrument_id=i, symbol=i, price_digits=1, amount_digits=1) for i in ids]

    bybit = VENUES["bybit"].sessions(some("BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC", "ETH/USDT"), ("book",))
    assert [opened.url.rpartition("/")[2] for opened in bybit] == ["spot", "linear", "inverse"]
    assert bybit[0].subject == "bybit:BTC/USDT,ETH/USDT@book"
    usdm = VENUES["binanceusdm"].sessions(some("BTCUSDT"), ("trades", "book"))
    assert [opened.url for opened in usdm] == [
        "wss://fstream.binance.com/market/stream?streams=btcusdt@aggTrade",
        "wss://fstream.binance.com/public/stream?streams=btcusdt@depth@100ms",
    ]
    assert len(VENUES["bitfinex"].sessions(some(*map(str, range(20))), ("trades", "book"))) == 3


def test_a_stream_a_channel_or_digits_that_are_missing_are_named() -> None:
    plain = [Instrument(instrument_id="BTC/USD", symbol="BTC/USD")]
    with pytest.raises(UsageError, match="kraken"):
        venue("karken")
    with pytest.raises(UsageError, match=r"no channel orders; it has trades, book"):
        VENUES["kraken"].sessions(plain, ("orders",))
    with pytest.raises(UsageError, match=r"how many digits have BTC/USD"):
        VENUES["kraken"].sessions(plain, ("book",))
    with pytest.raises(UsageError, match="at least one"):
        VENUES["okx"].sessions([], ("book",))


@pytest.mark.parametrize("name", VENUES)
def test_opening_and_keeping_alive_send_json_or_known_words(name: str) -> None:
    opened = StreamSession(
        VENUES[name], (Instrument(instrument_id="A/B", symbol="AB"),), VENUES[name].channels
    )
    texts = [action.text for action in opened.opening(START) if isinstance(action, Send)]
    if VENUES[name].keep_alive:
        texts.append(VENUES[name].keep_alive())
    assert all(text in ("ping", "PING") or json.loads(text) for text in texts)
    assert opened.url.startswith("wss://")
    assert opened.feed == f"stream_{name}"


# --- rows


def test_a_book_is_told_at_the_end_of_each_second_in_which_it_changed() -> None:
    frames = [
        snapshot(0, 5, [["1", "1"]], [["3", "1"]]),
        frame(1, depth(6, 6, [["2", "1"]])),
        frame(4, depth(7, 7, [["2", "0"]])),
        frame(19, depth(8, 8)),
        frame(20, "gone", kind="disconnect"),
    ]
    numbered = [
        Frame(number=i, received_at=f.received_at, kind=f.kind, text=f.text, about=f.about)
        for i, f in enumerate(frames)
    ]
    pages, _ = heard(session("binance", "BTCUSDT"), numbered)
    told = (
        parse_book_snapshots(pages)
        .collect()
        .select("event_at", "bid_prices", "sequence", "is_valid", "check")
    )
    assert told.rows() == [
        (START + timedelta(seconds=1), ["2", "1"], 6, True, "sequence"),
        (START + timedelta(seconds=2), ["1"], 7, True, "sequence"),
        (START + timedelta(seconds=5), ["1"], 8, True, "sequence"),
    ]


def test_a_book_whose_connection_ends_within_the_second_of_its_last_frame_is_told_then() -> None:
    frames = [
        snapshot(0, 5, [["1", "1"]], [["3", "1"]]),
        frame(1, depth(6, 6)),
        frame(2, "", kind="disconnect"),
    ]
    pages, _ = heard(session("binance", "BTCUSDT"), frames)
    told = parse_book_snapshots(pages).collect().select("event_at", "sequence", "is_valid", "check")
    assert told.rows() == [(START + timedelta(seconds=0.5), 6, True, "sequence")]


def test_frames_of_the_same_text_are_pages_of_their_own() -> None:
    pages, _ = heard(session("binance", "BTCUSDT"), [frame(0, {"result": None}), frame(1, {"result": None})])
    assert pages["page_id"].n_unique() == 2


def test_what_cannot_be_read_is_named_and_breaks_the_books_around_it() -> None:
    frames = [snapshot(0, 5), frame(1, "<html>"), frame(2, depth(6, 6))]
    pages, actions = heard(session("binance", "BTCUSDT"), frames)
    assert kinds(actions) == ["Valid", "Unreadable", "Invalid", "Fetch"]
    with pytest.raises(ParseError, match="stream_binance binance:id BTCUSDT@trades,book"):
        parse_trades(pages)
    ((page_id, _),) = unreadable(pages)
    assert page_id == pages["page_id"][1]
    rest = pages.filter(pl.col("page_id") != page_id)
    assert parse_book_updates(rest).collect()["is_valid"].to_list() == [True, False]
    assert unreadable(rest) == ()


def test_a_failed_or_garbled_rest_snapshot_leaves_the_book_as_it_was() -> None:
    frames = [
        snapshot(0, 5),
        frame(1, "busy", kind="http", about="book BTCUSDT", status=503),
        frame(2, "<html>", kind="http", about="book BTCUSDT"),
        frame(3, depth(6, 6)),
    ]
    pages, actions = heard(session("binance", "BTCUSDT"), frames)
    assert kinds(actions) == ["Valid"]
    assert parse_book_updates(pages).collect()["is_valid"].to_list() == [True, True]


@pytest.mark.parametrize(("table", "parse"), PARSERS)
def test_no_pages_give_no_rows_of_the_right_columns(table: Table, parse: Parse) -> None:
    empty = bronze_table("stream_kraken").schema.to_frame()
    assert conform(table, parse(empty)).collect().is_empty()


# --- properties


def _life() -> st.SearchStrategy[list[Frame]]:
    """Frames of two books, with gaps, duplicates, crossings, snapshots early and late, and lost connections."""
    step = st.tuples(
        st.sampled_from(
            ["next"] * 8 + ["gap", "again", "snapshot", "old snapshot", "junk", "trade", "crossed"]
        ),
        st.sampled_from(["BTCUSDT", "ETHUSDT"]),
        st.integers(1, 9),
        st.integers(0, 3),
        st.integers(0, 900),
    )
    return st.lists(step, max_size=40).map(_frames)


def _frames(steps: list) -> list[Frame]:
    last, frames, ms = {"BTCUSDT": 0, "ETHUSDT": 0}, [], 0
    for number, (kind, symbol, price, amount, wait) in enumerate(steps):
        ms += wait
        level = [[f"{price / 10}", str(amount)]]
        if kind == "gap":
            last[symbol] += 3
        about, how = "", "recv"
        if kind in ("next", "gap", "crossed"):
            last[symbol] += 2
            asks = level if kind == "crossed" else []
            said: object = depth(last[symbol] - 1, last[symbol], level, asks, symbol)
        elif kind == "again":
            said = depth(max(1, last[symbol] - 1), max(1, last[symbol]), level, (), symbol)
        elif "snapshot" in kind:
            back = 9 if kind == "old snapshot" else price % 4
            about, how = f"book {symbol}", "http"
            said = {"lastUpdateId": max(0, last[symbol] - back), "bids": [["0.1", "1"]], "asks": [["2", "1"]]}
        elif kind == "trade":
            said = {
                "e": "aggTrade",
                "s": symbol,
                "a": number,
                "p": "1",
                "q": "1",
                "T": 1767323045000,
                "m": True,
            }
        else:
            said = "{" * price
        frames.append(frame(number, said, kind=how, about=about, ms=0))
        at = START + timedelta(milliseconds=ms)
        frames[-1] = Frame(number=number, received_at=at, kind=how, text=frames[-1].text, about=about)
    end = START + timedelta(milliseconds=ms + 500)
    return [*frames, Frame(number=len(frames), received_at=end, kind="disconnect", text="closed")]


def _rows(parse: Parse, pages: pl.DataFrame) -> list[str]:
    told = parse(pages).collect()
    return sorted({json.dumps(row, default=str) for row in told.rows(named=True)})


@settings(max_examples=60, deadline=None)
@given(_life(), st.lists(st.integers(0, 40), max_size=6))
def test_however_frames_are_cut_into_batches_and_read_again_silver_is_the_same(
    frames: list[Frame], cuts: list[int]
) -> None:
    pages, _ = heard(session("binance", "BTCUSDT", "ETHUSDT"), frames)
    bad = [page_id for page_id, _ in unreadable(pages)]
    pages = pages.filter(~pl.col("page_id").is_in(bad))
    edges = sorted({0, *cuts, len(frames)})
    for parse in (parse_trades, parse_book_updates, parse_book_snapshots):
        told: set[str] = set()
        for start, end in pairwise(edges):
            new = pages.filter(pl.col("sequence").is_between(start, end - 1))
            since = new["window_start"].min()
            again = (
                pages.clear()
                if since is None
                else pages.filter((pl.col("sequence") < start) & (pl.col("received_at") >= since))
            )
            told |= set(_rows(parse, pl.concat([new, again])))
        assert sorted(told) == _rows(parse, pages)


def test_a_useless_snapshot_stays_useless_where_it_is_read_again_without_what_shows_it() -> None:
    frames = [
        frame(0, depth(10, 12, symbol="ETHUSDT"), ms=0),
        snapshot(1, 5, symbol="ETHUSDT"),
        snapshot(2, 5),
        frame(3, depth(13, 14, symbol="ETHUSDT")),
        frame(8, depth(15, 16, symbol="ETHUSDT")),
        frame(8, depth(6, 6)),
    ]
    at = [0, 100, 100, 200, 1200, 1300]
    numbered = [
        Frame(
            number=i,
            received_at=START + timedelta(milliseconds=ms),
            kind=one.kind,
            text=one.text,
            about=one.about,
        )
        for i, (one, ms) in enumerate(zip(frames, at, strict=True))
    ]
    pages, _ = heard(session("binance", "BTCUSDT", "ETHUSDT"), numbered)
    again = pages.filter(pl.col("received_at") >= pages["window_start"][5])
    assert again["sequence"].to_list() == [1, 2, 3, 4, 5]
    for parse in (parse_book_updates, parse_book_snapshots):
        assert set(_rows(parse, again)) <= set(_rows(parse, pages))


@settings(max_examples=60, deadline=None)
@given(_life())
def test_a_session_and_the_parser_judge_books_alike(frames: list[Frame]) -> None:
    opened = session("binance", "BTCUSDT", "ETHUSDT")
    live: dict[int, bool] = {}
    pages = []
    for one in frames:
        said = opened.hear(one)
        pages.append(page_of(opened, one, said, connection_id="c"))
        symbol = "BTCUSDT" if "BTCUSDT" in one.text + one.about else "ETHUSDT"
        keeper = opened.desk.keepers.get((f"id {symbol}", "book"))
        if keeper:
            live[one.number] = keeper.verdict().is_valid
    table = pages_frame(pages, run_id="r", code_version="0")
    bad = [page_id for page_id, _ in unreadable(table)]
    told = parse_book_updates(table.filter(~pl.col("page_id").is_in(bad))).collect()
    assert all(live[number] == is_valid for number, is_valid in told.select("frame", "is_valid").rows())


FRAMES = [
    ("binance", json.dumps(depth(7, 8, [["1", "2"]], [["3", "4"]]))),
    ("binance", '{"e":"aggTrade","s":"BTCUSDT","a":5,"p":"1","q":"2","T":1767323045000,"m":true}'),
    ("binanceusdm", json.dumps({**depth(7, 8), "T": 1767323045000, "pu": 6})),
    (
        "kraken",
        '{"channel":"book","type":"update","data":[{"symbol":"BTCUSDT","bids":[{"price":1.5,"qty":2.0}],"asks":[],"checksum":5,"timestamp":"2026-01-02T03:04:05.000001Z"}]}',
    ),
    (
        "kraken",
        '{"channel":"trade","type":"update","data":[{"symbol":"BTCUSDT","side":"buy","price":1.5,"qty":2.0,"trade_id":7,"timestamp":"2026-01-02T03:04:05.000001Z"}]}',
    ),
    (
        "kraken",
        '{"channel":"level3","type":"update","data":[{"symbol":"BTCUSDT","checksum":1,"bids":[{"event":"add","order_id":"A","limit_price":1.5,"order_qty":2.0,"timestamp":"2026-01-02T03:04:05Z"}],"asks":[]}]}',
    ),
    (
        "coinbaseexchange",
        '{"type":"l2update","product_id":"BTCUSDT","changes":[["buy","1.5","2"]],"time":"2026-01-02T03:04:05Z"}',
    ),
    (
        "coinbaseexchange",
        '{"type":"snapshot","product_id":"BTCUSDT","bids":[["1.5","2"]],"asks":[["1.6","2"]]}',
    ),
    (
        "coinbaseexchange",
        '{"type":"match","product_id":"BTCUSDT","trade_id":7,"sequence":9,"maker_order_id":"a","taker_order_id":"b","side":"buy","price":"1.5","size":"2","time":"2026-01-02T03:04:05Z"}',
    ),
    ("okx", json.dumps({**okx(8, 7), "arg": {"channel": "books", "instId": "BTCUSDT"}})),
    (
        "okx",
        '{"arg":{"channel":"trades","instId":"BTCUSDT"},"data":[{"tradeId":"7","px":"1.5","sz":"2","side":"buy","ts":"1767323045000","count":"1"}]}',
    ),
    (
        "bybit",
        '{"topic":"orderbook.200.BTCUSDT","type":"snapshot","ts":1767323045000,"data":{"s":"BTCUSDT","b":[["1","2"]],"a":[],"u":7,"seq":9},"cts":1767323045000}',
    ),
    (
        "bybit",
        '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1,"data":[{"T":1767323045000,"s":"BTCUSDT","S":"Buy","v":"2","p":"1.5","i":"abc"}]}',
    ),
    ("bitfinex", "[7,[[1.5,1,2],[1.6,1,-2]],1]"),
    ("bitfinex", '[7,"te",[9,1767323045123,-0.5,7.1],1]'),
    ("bitfinex", '{"event":"subscribed","channel":"book","chanId":7,"symbol":"BTCUSDT","prec":"R0"}'),
    (
        "bitstamp",
        '{"event":"data","channel":"diff_order_book_BTCUSDT","data":{"microtimestamp":"1767323045000000","bids":[["1","2"]],"asks":[]}}',
    ),
    (
        "bitstamp",
        '{"event":"order_created","channel":"live_orders_BTCUSDT","data":{"id":7,"order_type":0,"price_str":"1","amount_str":"2","microtimestamp":"1767323045000000"}}',
    ),
    (
        "bitstamp",
        '{"event":"trade","channel":"live_trades_BTCUSDT","data":{"id":7,"type":0,"price_str":"1","amount_str":"2","microtimestamp":"1767323045000000"}}',
    ),
    (
        "deribit",
        '{"method":"subscription","params":{"channel":"book.BTCUSDT.100ms","data":{"type":"snapshot","timestamp":1767323045000,"instrument_name":"BTCUSDT","change_id":7,"bids":[["new",1.5,2.0]],"asks":[]}}}',
    ),
    (
        "deribit",
        '{"method":"subscription","params":{"channel":"trades.BTCUSDT.100ms","data":[{"trade_seq":7,"trade_id":"8","timestamp":1767323045000,"instrument_name":"BTCUSDT","direction":"buy","price":1.5,"amount":2.0}]}}',
    ),
    (
        "polymarket",
        '[{"event_type":"book","asset_id":"BTCUSDT","timestamp":"1767323045000","bids":[{"price":"0.5","size":"2"}],"asks":[]}]',
    ),
    (
        "polymarket",
        '{"event_type":"price_change","timestamp":"1767323045000","price_changes":[{"asset_id":"BTCUSDT","price":"0.5","size":"2","side":"BUY","best_bid":"0.5","best_ask":"1"}]}',
    ),
]
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just([]), st.just({}), st.just(-1),
    st.just("NaN"), st.just("1e999"), st.just(10**30), st.just("9" * 40), st.just([[]]), st.just([None]), st.just("-0"),
)  # fmt: skip


def _spots(value: object, path: tuple = ()) -> list[tuple]:
    if isinstance(value, dict):
        return [path, *(spot for key, one in value.items() for spot in _spots(one, (*path, key)))]
    if isinstance(value, list):
        return [path, *(spot for i, one in enumerate(value) for spot in _spots(one, (*path, i)))]
    return [path]


def _put(value: object, path: tuple, new: object) -> object:
    if not path:
        return new
    changed = dict(value) if isinstance(value, dict) else list(value)
    changed[path[0]] = _put(changed[path[0]], path[1:], new)
    return changed


@st.composite
def _spoilt(draw: st.DrawFn) -> tuple[str, list[str]]:
    """A venue's frame, then one with a value changed, one cut short, one of random text."""
    name, text = draw(st.sampled_from(FRAMES))
    said = json.loads(text)
    changed = _put(said, draw(st.sampled_from(_spots(said))), draw(JUNK))
    cut = text[: draw(st.integers(0, len(text)))]
    return name, [text, json.dumps(changed), cut, draw(st.text(max_size=20)), text]


@settings(max_examples=200, deadline=None)
@given(_spoilt())
@example(("binance", ["[" * 5000, "{}", "null", "1", '"x"', "[]"]))
def test_no_frame_crashes_a_session_and_what_it_cannot_read_the_parser_refuses(
    told: tuple[str, list[str]],
) -> None:
    name, texts = told
    subscribed = '{"event":"subscribed","channel":"book","chanId":7,"symbol":"BTCUSDT","prec":"P0"}'
    opened = session(name, "BTCUSDT", channels=("trades", "book"))
    frames = [
        frame(i, text) for i, text in enumerate([*([subscribed] if name == "bitfinex" else []), *texts])
    ]
    pages, refused = [], []
    for one in frames:
        said = opened.hear(one)
        pages.append(page_of(opened, one, said, connection_id="c"))
        if any(isinstance(action, Unreadable) for action in said.actions):
            refused.append(pages[-1].page_id)
    table = pages_frame(pages, run_id="r", code_version="0")
    assert [page_id for page_id, _ in unreadable(table)] == refused
    rest = table.filter(~pl.col("page_id").is_in(refused))
    for contract, parse in PARSERS:
        assert "reasons" in conform(contract, parse(rest)).collect().columns


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["binance", "okx", "bitstamp", "coinbaseexchange"]), JUNK, st.text(max_size=30))
def test_no_rest_answer_crashes_a_session(name: str, junk: object, text: str) -> None:
    opened = session(name, "BTCUSDT", channels=("book",))
    body = {"lastUpdateId": 1, "microtimestamp": "1", "sequence": 1, "bids": [["1", "1", "a"]], "asks": []}
    for number, said in enumerate([text, junk, {**body, "bids": junk}, {**body, "lastUpdateId": junk}, body]):
        for about in ("book BTCUSDT", "orders BTCUSDT", "", "book OTHER"):
            opened.hear(
                frame(number, json.dumps(said) if said is not text else text, kind="http", about=about)
            )
