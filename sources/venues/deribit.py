"""Deribit: books and trades each 100 ms, over JSON-RPC.

- The first message of a book is the whole book (`type` snapshot; without `type`, a `prev_change_id` of 0 or none); each
  change names the one before (`prev_change_id`).
- Trades are counted one by one in each instrument (`trade_seq`); their ids are not.
- The venue asks whether we are alive (`test_request`) and must be answered.

https://docs.deribit.com
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson

from sources.book import Level, Side
from sources.stream import Channel, Instrument, Send
from sources.venues.keeping import Rule
from sources.venues.said import BookSaid, Refused, Reply, Said, Trade, epoch_us
from sources.venues.session import Topics, VenueStream
from sources.venues.wire import exactly, listed, optional, text, whole

_NAMES: Mapping[Channel, str] = {"trades": "trades", "book": "book"}
_SIDES: Mapping[str, Side] = {"buy": "buy", "sell": "sell"}
_HEARTBEAT_S = 30


def read(frame: str, topics: Topics) -> Sequence[Said]:  # noqa: ARG001
    """What a frame says."""
    said = exactly(frame)
    method = said.get("method")
    if method == "heartbeat":
        is_test = said["params"]["type"] == "test_request"
        return (Reply(_request("public/test", {})),) if is_test else ()
    if method != "subscription":
        return (Refused(str(said["error"])[:200]),) if "error" in said else ()
    channel, data = said["params"]["channel"], said["params"]["data"]
    if channel.startswith("book."):
        return (_book(data),)
    return [_trade(one) for one in data] if channel.startswith("trades.") else ()


def _book(data: Mapping[str, Any]) -> BookSaid:
    previous = optional(data.get("prev_change_id"))
    return BookSaid(
        text(data["instrument_name"]),
        epoch_us(whole(data["timestamp"]), 1000),
        data.get("type") == "snapshot" or not previous,
        [_level(level) for level in listed(data["bids"])],
        [_level(level) for level in listed(data["asks"])],
        last=whole(data["change_id"]),
        previous=previous,
    )


def _level(level: Sequence[str]) -> Level:
    action, price, amount = level
    return price, "0" if action == "delete" else amount


def _trade(one: Mapping[str, Any]) -> Trade:
    at_ms = epoch_us(whole(one["timestamp"]), 1000) // 1000
    side = _SIDES[one["direction"]]
    return Trade(
        text(one["instrument_name"]),
        text(one["trade_id"]),
        at_ms,
        text(one["price"]),
        text(one["amount"]),
        side,
        whole(one["trade_seq"]),
    )


def _request(method: str, params: Mapping[str, Any]) -> str:
    said = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return orjson.dumps(said).decode()


def _channels(instruments: Iterable[Instrument], channels: Iterable[Channel]) -> list[str]:
    return [f"{_NAMES[channel]}.{i.symbol}.100ms" for channel in channels for i in instruments]


def _subscribe(instruments: Sequence[Instrument], channels: Sequence[Channel]) -> Iterable[str]:
    yield _request("public/set_heartbeat", {"interval": _HEARTBEAT_S})
    yield _request("public/subscribe", {"channels": _channels(instruments, channels)})


def _renew(instrument: Instrument, channel: Channel, topics: Topics) -> Iterable[Send]:  # noqa: ARG001
    params = {"channels": _channels([instrument], [channel])}
    yield Send(text=_request("public/unsubscribe", params))
    yield Send(text=_request("public/subscribe", params))


STREAMS = (
    VenueStream(
        name="deribit",
        venue="deribit",
        channels=("trades", "book"),
        url=lambda _instruments, _channels: "wss://www.deribit.com/ws/api/v2",
        subscribe=_subscribe,
        renew=_renew,
        read=read,
        rules={"book": Rule(chain="previous")},
        silent_at_most=timedelta(seconds=2 * _HEARTBEAT_S + 5),
        capacity=100,
    ),
)
