"""Bybit v5: order books and trades of spot, linear, inverse and options, each at an address of its own.

- A snapshot may come at any time and takes the place of the book; so does a change numbered 1, after a restart.
- `u` counts a book's messages one by one (`seq` only grows). Trades have random ids and no count: a lost one is not
  seen. `S` is what the taker did.

https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson

from sources.book import Side
from sources.stream import Channel, Instrument, Send
from sources.venues.keeping import Rule
from sources.venues.said import BookSaid, Refused, Said, Trade, epoch_us
from sources.venues.session import Topics, VenueStream
from sources.venues.wire import listed, text, whole

_SIDES: Mapping[str, Side] = {"Buy": "buy", "Sell": "sell"}


def read(frame: str, topics: Topics) -> Sequence[Said]:  # noqa: ARG001
    """What a frame says."""
    said = orjson.loads(frame)
    topic = said.get("topic")
    if topic is None:
        is_refused = said.get("op") == "subscribe" and said.get("success") is False
        return (Refused(str(said.get("ret_msg"))[:200]),) if is_refused else ()
    if topic.startswith("orderbook."):
        return (_book(said),)
    return [_trade(one) for one in said["data"]] if topic.startswith("publicTrade.") else ()


def _book(said: Mapping[str, Any]) -> BookSaid:
    data = said["data"]
    number = whole(data["u"])
    is_snapshot = {"snapshot": True, "delta": False}[said["type"]] or number == 1
    at_us = epoch_us(whole(said.get("cts") or said["ts"]), 1000)
    bids, asks = listed(data["b"]), listed(data["a"])
    return BookSaid(text(data["s"]), at_us, is_snapshot, bids, asks, first=number, last=number)


def _trade(one: Mapping[str, Any]) -> Trade:
    at_ms = epoch_us(whole(one["T"]), 1000) // 1000
    side = _SIDES[one["S"]]
    return Trade(text(one["s"]), text(one["i"]), at_ms, text(one["p"]), text(one["v"]), side)


def category(instrument: Instrument) -> str:
    """spot, linear, inverse or option, as ccxt's notation tells."""
    pair, _, contract = instrument.instrument_id.partition(":")
    if not contract:
        return "spot"
    if contract.endswith(("-C", "-P")):
        return "option"
    settle = contract.partition("-")[0]
    return "inverse" if pair.startswith(f"{settle}/") else "linear"


def _topics(instrument: Instrument, channels: Sequence[Channel]) -> list[str]:
    depth = 100 if category(instrument) == "option" else 200
    names: Mapping[Channel, str] = {"trades": "publicTrade", "book": f"orderbook.{depth}"}
    return [f"{names[channel]}.{instrument.symbol}" for channel in channels]


def _request(op: str, topics: Sequence[str]) -> str:
    return orjson.dumps({"op": op, "args": list(topics)}).decode()


def _subscribe(instruments: Sequence[Instrument], channels: Sequence[Channel]) -> Iterable[str]:
    """Ten topics at once: spot takes no more."""
    topics = [topic for instrument in instruments for topic in _topics(instrument, channels)]
    return [_request("subscribe", topics[start : start + 10]) for start in range(0, len(topics), 10)]


def _renew(instrument: Instrument, channel: Channel, topics: Topics) -> Iterable[Send]:  # noqa: ARG001
    named = _topics(instrument, [channel])
    return [Send(text=_request(op, named)) for op in ("unsubscribe", "subscribe")]


STREAMS = (
    VenueStream(
        name="bybit",
        venue="bybit",
        channels=("trades", "book"),
        cannot_show={"trades": "trades that were lost: their ids have no order"},
        url=lambda instruments, _channels: f"wss://stream.bybit.com/v5/public/{category(instruments[0])}",
        subscribe=_subscribe,
        renew=_renew,
        read=read,
        rules={"book": Rule(chain="next")},
        keep_alive=lambda: '{"op":"ping"}',
        keep_alive_every=timedelta(seconds=20),
        group=category,
    ),
)
