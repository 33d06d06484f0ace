"""Kraken spot, WebSocket v2: every message of a book carries a checksum, none a number.

- Prices and amounts are JSON numbers whose digits count: the checksum needs as many as the pair has.
- A book is that of the subscribed depth only: what falls below it is forgotten, since its changes are not sent.
- Trade ids count a pair's trades one by one; REST gives the same ids.
- level3 needs a token; its frames can be read, but are not subscribed here.

https://docs.kraken.com/api/docs/websocket-v2/book
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson

from sources.book import (
    Book,
    Level,
    OrderAction,
    OrderBook,
    OrderEvent,
    Side,
    kraken_checksum,
    kraken_orders_checksum,
)
from sources.stream import Channel, Instrument, Send
from sources.venues.keeping import Rule
from sources.venues.said import BookSaid, OrdersSaid, Refused, Said, Topic, Trade, iso_us
from sources.venues.session import Topics, VenueStream
from sources.venues.wire import exactly, listed, optional, text, whole

DEPTH = 1000

_NAMES: Mapping[Channel, str] = {"trades": "trade", "book": "book", "orders": "level3"}
_SIDES: tuple[tuple[str, Side], ...] = (("asks", "sell"), ("bids", "buy"))
_ACTIONS: Mapping[str, OrderAction] = {"add": "add", "modify": "set", "delete": "remove"}


def read(frame: str, topics: Topics) -> Sequence[Said]:  # noqa: ARG001
    """What a frame says."""
    said = exactly(frame)
    channel = said.get("channel")
    if channel == "book":
        return [_book(one, is_snapshot=_is_snapshot(said)) for one in said["data"]]
    if channel == "trade":
        return sorted(map(_trade, said["data"]), key=lambda trade: trade.number or 0)
    if channel == "level3":
        return [_orders(one, is_snapshot=_is_snapshot(said)) for one in said["data"]]
    if said.get("method") == "subscribe" and said.get("success") is False:
        return (Refused(str(said.get("error"))[:200]),)
    return ()


def _is_snapshot(said: Mapping[str, Any]) -> bool:
    return {"snapshot": True, "update": False}[said["type"]]


def _book(one: Mapping[str, Any], *, is_snapshot: bool) -> BookSaid:
    at = one.get("timestamp")
    return BookSaid(
        text(one["symbol"]),
        None if at is None else iso_us(at),
        is_snapshot,
        [_level(level) for level in one["bids"]],
        [_level(level) for level in one["asks"]],
        checksum=optional(one.get("checksum")),
    )


def _level(level: Mapping[str, str]) -> Level:
    return level["price"], level["qty"]


def _trade(one: Mapping[str, Any]) -> Trade:
    number = whole(one["trade_id"])
    side: Side = {"buy": "buy", "sell": "sell"}[one["side"]]  # type: ignore[assignment]
    at_ms = iso_us(one["timestamp"]) // 1000
    return Trade(text(one["symbol"]), str(number), at_ms, text(one["price"]), text(one["qty"]), side, number)


def _orders(one: Mapping[str, Any], *, is_snapshot: bool) -> OrdersSaid:
    at = one.get("timestamp")
    events = [event for name, side in _SIDES for order in listed(one[name]) for event in _event(order, side)]
    return OrdersSaid(
        text(one["symbol"]),
        None if at is None else iso_us(at),
        is_snapshot,
        events,
        checksum=whole(one["checksum"]),
    )


def _event(order: Mapping[str, Any], side: Side) -> Iterator[OrderEvent]:
    at_us = iso_us(order["timestamp"])
    action = _ACTIONS[order.get("event", "add")]
    yield OrderEvent(
        action, text(order["order_id"]), side, text(order["limit_price"]), text(order["order_qty"]), at_us
    )


def _checksum(book: Book, topic: Topic) -> int | None:
    if topic.price_digits is None or topic.amount_digits is None:
        return None
    return kraken_checksum(book, topic.price_digits, topic.amount_digits)


def _orders_checksum(book: OrderBook, topic: Topic) -> int | None:
    if topic.price_digits is None or topic.amount_digits is None:
        return None
    return kraken_orders_checksum(book, topic.price_digits, topic.amount_digits)


def _request(method: str, channel: Channel, symbols: Sequence[str]) -> str:
    params: dict[str, Any] = {"channel": _NAMES[channel], "symbol": list(symbols)}
    if channel != "trades":
        params["depth"] = DEPTH
    if method == "subscribe":
        params["snapshot"] = True
    return orjson.dumps({"method": method, "params": params}).decode()


def _subscribe(instruments: Sequence[Instrument], channels: Sequence[Channel]) -> Iterable[str]:
    symbols = [instrument.symbol for instrument in instruments]
    return [_request("subscribe", channel, symbols) for channel in channels]


def _renew(instrument: Instrument, channel: Channel, topics: Topics) -> Iterable[Send]:  # noqa: ARG001
    return [
        Send(text=_request(method, channel, [instrument.symbol])) for method in ("unsubscribe", "subscribe")
    ]


STREAMS = (
    VenueStream(
        name="kraken",
        venue="kraken",
        channels=("trades", "book"),
        url=lambda _instruments, _channels: "wss://ws.kraken.com/v2",
        subscribe=_subscribe,
        renew=_renew,
        read=read,
        rules={"book": Rule(checksum=_checksum), "orders": Rule(checksum=_orders_checksum)},
        depth=DEPTH,
        needs_digits=True,
        keep_alive=lambda: '{"method":"ping"}',
        keep_alive_every=timedelta(seconds=30),
        silent_at_most=timedelta(seconds=15),
    ),
)
