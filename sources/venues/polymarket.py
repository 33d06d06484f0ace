"""Polymarket's market channel: books of outcome tokens.

- A frame is one message or a list of them. `price_change` gives the new total at a price, and the best prices after
  it: they are held against our book. Nothing else shows a loss; a whole `book` comes after each trade that touches it.
- After a change of the tick size the book is not to be used until the next `book`.
- Trades here have no id and cannot be joined with those of the data API: they are not read.
- Beyond some 500 tokens a connection gets no snapshots.

https://docs.polymarket.com/developers/CLOB/websocket/market-channel
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson

from sources.book import Level
from sources.stream import Channel, Instrument, Send
from sources.venues.keeping import Rule
from sources.venues.said import BookSaid, Dropped, Said, epoch_us
from sources.venues.session import Topics, VenueStream
from sources.venues.wire import listed, text, whole

_WHY = "changes that did not move the best prices and were lost"


def read(frame: str, topics: Topics) -> Sequence[Said]:
    """What a frame says; a market's other token is told too, and left out where it was not subscribed."""
    if frame == "PONG":
        return ()
    said = orjson.loads(frame)
    told = [one for message in (said if isinstance(said, list) else [said]) for one in _message(message)]
    return [one for one in told if one.key in topics]


def _message(message: Mapping[str, Any]) -> Iterator[BookSaid | Dropped]:
    event = message.get("event_type")
    if event == "book":
        yield _book(message)
    elif event == "price_change":
        yield from _changes(message)
    elif event == "tick_size_change":
        yield Dropped(text(message["asset_id"]), "the tick size has changed")


def _book(message: Mapping[str, Any]) -> BookSaid:
    bids, asks = ([_level(level) for level in listed(message[side])] for side in ("bids", "asks"))
    at_us = epoch_us(whole(message["timestamp"]), 1000)
    return BookSaid(text(message["asset_id"]), at_us, is_snapshot=True, bids=bids, asks=asks)


def _changes(message: Mapping[str, Any]) -> Iterator[BookSaid]:
    at_us = epoch_us(whole(message["timestamp"]), 1000)
    changes: dict[str, list[Mapping[str, Any]]] = {}
    for change in listed(message["price_changes"]):
        changes.setdefault(text(change["asset_id"]), []).append(change)
    for key, made in changes.items():
        sides: dict[str, list[Level]] = {"BUY": [], "SELL": []}
        for change in made:
            sides[change["side"]].append(_level(change))
        best = (made[-1].get("best_bid") or "", made[-1].get("best_ask") or "")
        yield BookSaid(key, at_us, is_snapshot=False, bids=sides["BUY"], asks=sides["SELL"], best=best)


def _level(level: Mapping[str, str]) -> Level:
    return level["price"], level["size"]


def _request(said: Mapping[str, Any]) -> str:
    return orjson.dumps(said).decode()


def _subscribe(instruments: Sequence[Instrument], channels: Sequence[Channel]) -> Iterable[str]:  # noqa: ARG001
    tokens = [instrument.symbol for instrument in instruments]
    yield _request({"type": "market", "assets_ids": tokens, "custom_feature_enabled": True})


def _renew(instrument: Instrument, channel: Channel, topics: Topics) -> Iterable[Send]:  # noqa: ARG001
    for operation in ("unsubscribe", "subscribe"):
        yield Send(text=_request({"operation": operation, "assets_ids": [instrument.symbol]}))


STREAMS = (
    VenueStream(
        name="polymarket",
        venue="polymarket",
        provider="polymarket",
        channels=("book",),
        cannot_show={"book": _WHY},
        url=lambda _instruments, _channels: "wss://ws-subscriptions-clob.polymarket.com/ws/market",
        subscribe=_subscribe,
        renew=_renew,
        read=read,
        rules={"book": Rule()},
        keep_alive=lambda: "PING",
        keep_alive_every=timedelta(seconds=10),
        capacity=200,
    ),
)
