"""Coinbase Exchange: level2_batch, matches, and full.

- `side` of a match is that of the resting order: the taker did the opposite.
- Messages may be lost on level2_batch and nothing shows it; `heartbeat` names the last trade each second, so that lost
  trades are seen. Trade ids count a product's trades one by one.
- full needs a key today: its frames can be read and its books kept, but it is not subscribed here. Its `sequence`
  counts a product's messages one by one; the snapshot comes over REST.

https://docs.cdp.coinbase.com/exchange/websocket-feed/channels
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from sources.book import Level, OrderEvent, Side
from sources.stream import Channel, Fetch, Instrument, Send
from sources.venues.keeping import Rule
from sources.venues.said import BookSaid, OrdersSaid, Reached, Refused, Said, Trade, iso_us
from sources.venues.session import Topics, VenueStream
from sources.venues.wire import listed, text, whole

_ABOUT = "orders "
_OPPOSITE: Mapping[str, Side] = {"buy": "sell", "sell": "buy"}
_SAME: Mapping[str, Side] = {"buy": "buy", "sell": "sell"}
_BOOK_SIDES: tuple[tuple[str, Side], ...] = (("bids", "buy"), ("asks", "sell"))
_NAMES: Mapping[Channel, tuple[str, ...]] = {
    "trades": ("matches", "heartbeat"),
    "book": ("level2_batch",),
    "orders": ("full",),
}


def read(frame: str, topics: Topics) -> Sequence[Said]:
    """What a frame says. What changes single orders is read only where a product's topic is of orders."""
    said = orjson.loads(frame)
    kind = said["type"]
    if kind == "l2update":
        return (_changes(said),)
    if kind == "snapshot":
        key = text(said["product_id"])
        at = said.get("time")
        bids, asks = listed(said["bids"]), listed(said["asks"])
        return (BookSaid(key, None if at is None else iso_us(at), is_snapshot=True, bids=bids, asks=asks),)
    if kind == "heartbeat":
        at_ms = iso_us(said["time"]) // 1000
        return (Reached(text(said["product_id"]), whole(said["last_trade_id"]), at_ms),)
    if kind == "error":
        return (Refused(f"{said.get('message')}: {said.get('reason')}"[:200]),)
    return [*_trades(said), *_orders(said, topics)]


def read_http(about: str, body: str) -> Sequence[Said]:
    """A book of level 3."""
    said = orjson.loads(body)
    events = [
        OrderEvent("add", text(order_id), side, text(price), text(size))
        for name, side in _BOOK_SIDES
        for price, size, order_id in said[name]
    ]
    sequence = whole(said["sequence"])
    key = about.removeprefix(_ABOUT)
    return (OrdersSaid(key, None, is_snapshot=True, events=events, last=sequence, is_http=True),)


def _changes(said: Mapping[str, Any]) -> BookSaid:
    bids: list[Level] = []
    asks: list[Level] = []
    sides = {"buy": bids, "sell": asks}
    for side, price, size in said["changes"]:
        sides[side].append((price, size))
    return BookSaid(text(said["product_id"]), iso_us(said["time"]), is_snapshot=False, bids=bids, asks=asks)


def _trades(said: Mapping[str, Any]) -> Iterable[Trade]:
    if said["type"] in ("match", "last_match"):
        number = whole(said["trade_id"])
        yield Trade(
            text(said["product_id"]),
            str(number),
            iso_us(said["time"]) // 1000,
            text(said["price"]),
            text(said["size"]),
            _OPPOSITE[said["side"]],
            number,
        )


def _orders(said: Mapping[str, Any], topics: Topics) -> Iterable[OrdersSaid]:
    key, sequence = said.get("product_id"), said.get("sequence")
    topic = topics.get(key) if type(key) is str else None
    if topic is None or topic.channel != "orders" or sequence is None:
        return
    at_us, number = iso_us(said["time"]), whole(sequence)
    event = _EVENTS[said["type"]](said)
    events = [] if event is None else [event._replace(at_us=at_us)]
    yield OrdersSaid(key, at_us, is_snapshot=False, events=events, first=number, last=number)  # type: ignore[arg-type]


def _opened(said: Mapping[str, Any]) -> OrderEvent:
    return OrderEvent(
        "add", text(said["order_id"]), _SAME[said["side"]], text(said["price"]), text(said["remaining_size"])
    )


def _done(said: Mapping[str, Any]) -> OrderEvent:
    return OrderEvent("remove", text(said["order_id"]), _SAME[said["side"]], said.get("price") or "", "")


def _matched(said: Mapping[str, Any]) -> OrderEvent:
    return OrderEvent(
        "reduce", text(said["maker_order_id"]), _SAME[said["side"]], text(said["price"]), text(said["size"])
    )


def _changed(said: Mapping[str, Any]) -> OrderEvent | None:
    price = said.get("new_price") or said.get("price")
    size = said.get("new_size")
    if not price or size is None:  # of a market order, which never rests
        return None
    return OrderEvent("set", text(said["order_id"]), _SAME[said["side"]], text(price), text(size))


_EVENTS: Mapping[str, Callable[[Mapping[str, Any]], OrderEvent | None]] = {
    "received": lambda _: None,
    "activate": lambda _: None,
    "last_match": lambda _: None,
    "open": _opened,
    "done": _done,
    "match": _matched,
    "change": _changed,
}


def _request(kind: str, symbols: Sequence[str], names: Sequence[str]) -> str:
    return orjson.dumps({"type": kind, "product_ids": list(symbols), "channels": list(names)}).decode()


def _subscribe(instruments: Sequence[Instrument], channels: Sequence[Channel]) -> Iterable[str]:
    names = [name for channel in channels for name in _NAMES[channel]]
    yield _request("subscribe", [instrument.symbol for instrument in instruments], names)


def _renew(instrument: Instrument, channel: Channel, topics: Topics) -> Iterable[Send | Fetch]:  # noqa: ARG001
    if channel == "orders":
        url = f"https://api.exchange.coinbase.com/products/{instrument.symbol}/book?level=3"
        return [Fetch(url=url, about=_ABOUT + instrument.symbol)]
    names = _NAMES[channel]
    return [Send(text=_request(kind, [instrument.symbol], names)) for kind in ("unsubscribe", "subscribe")]


STREAMS = (
    VenueStream(
        name="coinbaseexchange",
        venue="coinbaseexchange",
        channels=("trades", "book"),
        cannot_show={"book": "changes that the venue left out: level2_batch has neither number nor checksum"},
        url=lambda _instruments, _channels: "wss://ws-feed.exchange.coinbase.com",
        subscribe=_subscribe,
        renew=_renew,
        read=read,
        read_http=read_http,
        rules={"book": Rule(), "orders": Rule(chain="next", asks_rest=True, crosses_for_us=1_000_000)},
    ),
)
