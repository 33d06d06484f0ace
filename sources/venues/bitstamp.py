"""Bitstamp: diff_order_book, live_orders, live_trades.

- Nothing counts or sums up the changes: a loss cannot be seen. A snapshot is asked for over REST, joined by its
  `microtimestamp`, and asked for again each five minutes; where it differs from our book, the book was wrong.
- Over REST a trade's time is in whole seconds: so it is here, that both say the same of one trade.

https://www.bitstamp.net/websocket/v2/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson

from sources.book import OrderAction, OrderEvent, Side
from sources.stream import Channel, Fetch, Instrument
from sources.venues.keeping import Rule
from sources.venues.said import BookSaid, Closing, OrdersSaid, Ready, Refused, Said, Trade, epoch_us
from sources.venues.session import Topics, VenueStream
from sources.venues.wire import listed, text, whole

_NAMES: Mapping[Channel, str] = {
    "trades": "live_trades_",
    "book": "diff_order_book_",
    "orders": "live_orders_",
}
_BOOKS: tuple[Channel, ...] = ("book", "orders")
_GROUPS: Mapping[Channel, int] = {"book": 1, "orders": 2}
_SIDES: Mapping[int, Side] = {0: "buy", 1: "sell"}
_ACTIONS: Mapping[str, OrderAction] = {
    "order_created": "add",
    "order_changed": "set",
    "order_deleted": "remove",
}
_EVENTS = frozenset({"data", "trade", *_ACTIONS})
_WHY = "changes that were lost between two snapshots: nothing counts them"


def read(frame: str, topics: Topics) -> Sequence[Said]:  # noqa: ARG001
    """What a frame says."""
    said = orjson.loads(frame)
    event, channel = said["event"], said.get("channel", "")
    if event == "bts:request_reconnect":
        return (Closing("asked to reconnect"),)
    if event == "bts:error":
        return (Refused(str(said["data"])[:200]),)
    if event == "bts:subscription_succeeded":
        return [Ready(channel.removeprefix(_NAMES[book]), book) for book in _BOOKS if _NAMES[book] in channel]
    data = said.get("data")
    for name, tell in _TOLD.items():
        if channel.startswith(name) and event in _EVENTS:
            return (tell(channel.removeprefix(name), event, data),)
    return ()


def read_http(about: str, body: str) -> Sequence[Said]:
    """A book by price (`group=1`) or by order (`group=2`)."""
    said = orjson.loads(body)
    channel, _, key = about.partition(" ")
    last = whole(said["microtimestamp"])
    at_us = epoch_us(last, 1_000_000)
    if channel == "book":
        bids, asks = listed(said["bids"]), listed(said["asks"])
        return (BookSaid(key, at_us, is_snapshot=True, bids=bids, asks=asks, last=last, is_http=True),)
    sides: tuple[tuple[str, Side], ...] = (("bids", "buy"), ("asks", "sell"))
    events = [
        OrderEvent("add", text(order_id), side, text(price), text(amount), at_us)
        for name, side in sides
        for price, amount, order_id in said[name]
    ]
    return (OrdersSaid(key, at_us, is_snapshot=True, events=events, last=last, is_http=True),)


def _book(key: str, event: str, data: Mapping[str, Any]) -> BookSaid:  # noqa: ARG001
    last = whole(data["microtimestamp"])
    bids, asks = listed(data["bids"]), listed(data["asks"])
    return BookSaid(key, epoch_us(last, 1_000_000), is_snapshot=False, bids=bids, asks=asks, last=last)


def _orders(key: str, event: str, data: Mapping[str, Any]) -> OrdersSaid:
    last = whole(data["microtimestamp"])
    at_us = epoch_us(last, 1_000_000)
    side = _SIDES[whole(data["order_type"])]
    price, amount = text(data["price_str"]), text(data["amount_str"])
    order = OrderEvent(_ACTIONS[event], str(whole(data["id"])), side, price, amount, at_us)
    return OrdersSaid(key, at_us, is_snapshot=False, events=(order,), last=last)


def _trade(key: str, event: str, data: Mapping[str, Any]) -> Trade:  # noqa: ARG001
    at_ms = epoch_us(whole(data["microtimestamp"]), 1_000_000) // 1_000_000 * 1000
    side = _SIDES[whole(data["type"])]
    return Trade(key, str(whole(data["id"])), at_ms, text(data["price_str"]), text(data["amount_str"]), side)


_TOLD: Mapping[str, Callable[[str, str, Mapping[str, Any]], Said]] = {
    "live_trades_": _trade,
    "diff_order_book_": _book,
    "live_orders_": _orders,
}


def _subscribe(instruments: Sequence[Instrument], channels: Sequence[Channel]) -> Iterable[str]:
    for channel in channels:
        for instrument in instruments:
            data = {"channel": _NAMES[channel] + instrument.symbol}
            yield orjson.dumps({"event": "bts:subscribe", "data": data}).decode()


def _renew(instrument: Instrument, channel: Channel, topics: Topics) -> Iterable[Fetch]:  # noqa: ARG001
    url = f"https://www.bitstamp.net/api/v2/order_book/{instrument.symbol}/?group={_GROUPS[channel]}"
    yield Fetch(url=url, about=f"{channel} {instrument.symbol}")


STREAMS = (
    VenueStream(
        name="bitstamp",
        venue="bitstamp",
        channels=("trades", "book", "orders"),
        cannot_show={"trades": "trades that were lost: nothing counts them", "book": _WHY, "orders": _WHY},
        url=lambda _instruments, _channels: "wss://ws.bitstamp.net",
        subscribe=_subscribe,
        renew=_renew,
        read=read,
        read_http=read_http,
        rules={
            "book": Rule(chain="after", asks_rest=True, crosses_for_us=1_000_000),
            "orders": Rule(chain="after", asks_rest=True, crosses_for_us=1_000_000),
        },
        renew_after=timedelta(minutes=5),
        keep_alive=lambda: '{"event":"bts:heartbeat"}',
    ),
)
