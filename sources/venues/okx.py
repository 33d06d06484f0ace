"""OKX v5: books of 400 levels each 100 ms, and trades.

- Each change names the one before (`prevSeqId`); one that names itself only says that nothing happened.
- `checksum` has been 0 since 2026-06-23; it is read only in frames older than the numbers.
- The snapshot over the stream may be gone one day: after some seconds without one it is asked for over REST.
- `trades` tells several trades of one taker order as one (`count`); such a row would contradict the single trades that
  REST gives, so it gives none, and the single ones are to be fetched. Ids count an instrument's trades one by one.

https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import orjson

from sources.book import Book, Side, okx_checksum
from sources.stream import Channel, Fetch, Instrument, Send
from sources.venues.keeping import Rule
from sources.venues.said import BookSaid, Closing, Merged, Refused, Said, Topic, Trade, epoch_us
from sources.venues.session import Topics, VenueStream
from sources.venues.wire import listed, optional, text, whole

_ABOUT = "book "
_NAMES: Mapping[Channel, str] = {"trades": "trades", "book": "books"}
_BOOKS = frozenset({"books", "books-l2-tbt", "books50-l2-tbt"})
_TRADES = frozenset({"trades", "trades-all"})
_SIDES: Mapping[str, Side] = {"buy": "buy", "sell": "sell"}


def read(frame: str, topics: Topics) -> Sequence[Said]:  # noqa: ARG001
    """What a frame says."""
    if frame == "pong":
        return ()
    said = orjson.loads(frame)
    event = said.get("event")
    if event == "error":
        return (Refused(f"{said.get('code')}: {said.get('msg')}"[:200]),)
    if event == "notice":
        return (Closing(str(said.get("msg"))[:200]),)
    if event is not None:
        return ()
    channel, key = said["arg"]["channel"], text(said["arg"]["instId"])
    if channel in _BOOKS:
        is_snapshot = {"snapshot": True, "update": False}[said["action"]]
        return [_book(key, one, is_snapshot=is_snapshot) for one in said["data"]]
    return [_trade(key, one) for one in said["data"]] if channel in _TRADES else ()


def read_http(about: str, body: str) -> Sequence[Said]:
    """A snapshot; it has a number only where the venue tells `seqId`."""
    said = orjson.loads(body)
    return [
        _book(about.removeprefix(_ABOUT), one, is_snapshot=True)._replace(
            is_http=True, last=whole(one["seqId"]), checksum=None
        )
        for one in said["data"]
    ]


def _book(key: str, one: Mapping[str, Any], *, is_snapshot: bool) -> BookSaid:
    last = optional(one.get("seqId"))
    return BookSaid(
        key,
        epoch_us(whole(one["ts"]), 1000),
        is_snapshot,
        listed(one["bids"]),
        listed(one["asks"]),
        last=last,
        previous=optional(one.get("prevSeqId")),
        checksum=optional(one.get("checksum")) if last is None else None,
    )


def _trade(key: str, one: Mapping[str, Any]) -> Trade | Merged:
    number, merged = whole(one["tradeId"]), whole(one.get("count", 1))
    at_ms = epoch_us(whole(one["ts"]), 1000) // 1000
    if merged > 1:
        return Merged(key, number - merged, number, at_ms)
    side = _SIDES[one["side"]]
    return Trade(key, str(number), at_ms, text(one["px"]), text(one["sz"]), side, number)


def _checksum(book: Book, topic: Topic) -> int:  # noqa: ARG001
    return okx_checksum(book)


def _request(op: str, symbols: Sequence[str], channels: Sequence[Channel]) -> str:
    args = [{"channel": _NAMES[channel], "instId": symbol} for channel in channels for symbol in symbols]
    return orjson.dumps({"op": op, "args": args}).decode()


def _subscribe(instruments: Sequence[Instrument], channels: Sequence[Channel]) -> Iterable[str]:
    yield _request("subscribe", [instrument.symbol for instrument in instruments], channels)


def _renew(instrument: Instrument, channel: Channel, topics: Topics) -> Iterable[Send | Fetch]:  # noqa: ARG001
    url = f"https://www.okx.com/api/v5/market/books?instId={instrument.symbol}&sz=400"
    return [Fetch(url=url, about=_ABOUT + instrument.symbol)]


STREAMS = (
    VenueStream(
        name="okx",
        venue="okx",
        channels=("trades", "book"),
        url=lambda _instruments, _channels: "wss://ws.okx.com:8443/ws/v5/public",
        subscribe=_subscribe,
        renew=_renew,
        read=read,
        read_http=read_http,
        rules={"book": Rule(chain="previous", asks_rest=True, checksum=_checksum)},
        keep_alive=lambda: "ping",
        silent_at_most=timedelta(seconds=45),
    ),
)
