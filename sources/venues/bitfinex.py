"""Bitfinex v2: books by price (P0) and by order (R0), and trades.

- Frames name a channel by a number that the venue gives on subscribing. Flags, sent first, let every frame carry the
  connection's count (SEQ_ALL) and books their checksum (OB_CHECKSUM); without the count nothing shows a loss.
- A book by price or by order is that of its first 250 levels or orders. It may be crossed for a moment.
- An amount is positive on the bid side and negative on the ask side. A count (P0) or a price (R0) of 0 removes.
- Each trade comes twice, `te` and then `tu`: the first is kept.

https://docs.bitfinex.com/docs/ws-public
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson

from sources.book import Book, Level, OrderBook, OrderEvent, Side, bitfinex_checksum, bitfinex_orders_checksum
from sources.stream import Channel, Instrument, Send
from sources.venues.keeping import Rule
from sources.venues.said import (
    BookSaid,
    Checksum,
    Closing,
    Counted,
    OrdersSaid,
    Refused,
    Said,
    Subscribed,
    Topic,
    Trade,
    epoch_us,
)
from sources.venues.session import Topics, VenueStream
from sources.venues.wire import exactly, text, whole

_SEQ_ALL, _OB_CHECKSUM = 65536, 131072
_RESTART, _RESUMED = "20051", "20061"
_NAMES: Mapping[Channel, Mapping[str, str]] = {
    "trades": {"channel": "trades"},
    "book": {"channel": "book", "prec": "P0", "freq": "F0", "len": "250"},
    "orders": {"channel": "book", "prec": "R0", "len": "250"},
}


def read(frame: str, topics: Topics) -> Sequence[Said]:
    """What a frame says; `topics` tells what its channel number stands for."""
    said = exactly(frame)
    if isinstance(said, dict):
        return tuple(_event(said))
    key, payload = text(said[0]), said[1]
    if isinstance(payload, list):
        counted = _counted(said[2:])
        return [*counted, *_data(key, payload, topics, counted[0].number if counted else None)]
    if payload == "cs":
        return [*_counted(said[3:]), Checksum(key, whole(said[2]))]
    if payload == "te":
        return [*_counted(said[3:]), _trade(key, said[2])]
    return _counted(said[2:] if payload == "hb" else said[3:])


def _event(said: Mapping[str, Any]) -> Iterable[Said]:
    event = said["event"]
    if event == "subscribed" and said["channel"] in ("book", "trades"):
        yield Subscribed(text(said["chanId"]), text(said["symbol"]), _channel(said))
    elif event == "error":
        yield Refused(f"{said.get('code')}: {said.get('msg')}"[:200])
    elif event == "info" and said.get("code") in (_RESTART, _RESUMED):
        yield Closing(str(said.get("msg") or said["code"])[:200])


def _channel(said: Mapping[str, Any]) -> Channel:
    if said["channel"] == "trades":
        return "trades"
    return "orders" if said["prec"] == "R0" else "book"


def _counted(rest: Sequence[Any]) -> Sequence[Counted]:
    return (Counted(whole(rest[0])),) if rest else ()


def _data(key: str, payload: Sequence[Any], topics: Topics, number: int | None) -> Iterable[Said]:
    topic = topics.get(key)
    if topic is None:  # a channel that is neither of books nor of trades
        return
    is_snapshot = not payload or isinstance(payload[0], list)
    rows = payload if is_snapshot else [payload]
    if topic.channel == "trades":
        yield from (_trade(key, row) for row in rows)
    elif topic.channel == "orders":
        yield OrdersSaid(key, None, is_snapshot, [_order(row) for row in rows], last=number)
    else:
        yield _book(key, rows, is_snapshot=is_snapshot)._replace(last=number)


def _book(key: str, rows: Iterable[Sequence[str]], *, is_snapshot: bool) -> BookSaid:
    bids: list[Level] = []
    asks: list[Level] = []
    for price, count, amount in rows:
        side = asks if amount.startswith("-") else bids
        side.append((price, amount.lstrip("-") if whole(count) else "0"))
    return BookSaid(key, None, is_snapshot, bids, asks)


def _order(row: Sequence[str]) -> OrderEvent:
    order_id, price, amount = row
    side: Side = "sell" if amount.startswith("-") else "buy"
    whole(order_id)
    if float(price) == 0.0:
        return OrderEvent("remove", order_id, side, "", "")
    return OrderEvent("set", order_id, side, price, amount.lstrip("-"))


def _trade(key: str, row: Sequence[str]) -> Trade:
    number, at, amount, price = row
    side: Side = "sell" if text(amount).startswith("-") else "buy"
    at_ms = epoch_us(whole(at), 1000) // 1000
    return Trade(key, str(whole(number)), at_ms, text(price), amount.lstrip("-"), side)


def _checksum(book: Book, topic: Topic) -> int:  # noqa: ARG001
    return bitfinex_checksum(book)


def _orders_checksum(book: OrderBook, topic: Topic) -> int:  # noqa: ARG001
    return bitfinex_orders_checksum(book)


def _request(instrument: Instrument, channel: Channel) -> str:
    said = {"event": "subscribe", "symbol": instrument.symbol, **_NAMES[channel]}
    return orjson.dumps(said).decode()


def _subscribe(instruments: Sequence[Instrument], channels: Sequence[Channel]) -> Iterable[str]:
    yield orjson.dumps({"event": "conf", "flags": _SEQ_ALL + _OB_CHECKSUM}).decode()
    for channel in channels:
        yield from (_request(instrument, channel) for instrument in instruments)


def _renew(instrument: Instrument, channel: Channel, topics: Topics) -> Iterable[Send]:
    known = [
        key
        for key, topic in topics.items()
        if (topic.instrument_id, topic.channel) == (instrument.instrument_id, channel)
    ]
    if known:
        yield Send(text=orjson.dumps({"event": "unsubscribe", "chanId": int(known[-1])}).decode())
    yield Send(text=_request(instrument, channel))


STREAMS = (
    VenueStream(
        name="bitfinex",
        venue="bitfinex",
        channels=("trades", "book", "orders"),
        url=lambda _instruments, _channels: "wss://api-pub.bitfinex.com/ws/2",
        subscribe=_subscribe,
        renew=_renew,
        read=read,
        rules={
            "book": Rule(checksum=_checksum, crosses_for_us=1_000_000, counts_connection=True),
            "orders": Rule(checksum=_orders_checksum, crosses_for_us=1_000_000, counts_connection=True),
        },
        silent_at_most=timedelta(seconds=35),
        capacity=8,
    ),
)
