"""Binance: spot, USD-M and COIN-M futures.

- Depth of 100 ms; a snapshot is asked for over REST and joined by its number. Futures name the change before.
- Trades are aggregates, whose ids REST pages by; raw trades (`trade`) have ids of their own and are kept apart as
  `raw-<id>`: never subscribe both. Aggregate ids count an instrument's trades one by one.
- Deleting a level that is not in the snapshot is normal. A connection lasts 24 hours.
- USD-M serves depth and trades at different addresses; a stream at the wrong one is silent.

https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

import orjson

from sources.book import Side
from sources.stream import Channel, Fetch, Instrument
from sources.venues.keeping import Rule
from sources.venues.said import BookSaid, Closing, Refused, Said, Trade, epoch_us
from sources.venues.session import Topics, VenueStream
from sources.venues.wire import listed, text, whole

_STREAMS: Mapping[Channel, str] = {"trades": "aggTrade", "book": "depth@100ms"}
_ABOUT = "book "
_SIDES: Mapping[bool, Side] = {True: "sell", False: "buy"}
"""By whether the buyer was there first."""


def read(frame: str, topics: Topics) -> Sequence[Said]:  # noqa: ARG001
    """What a frame says; other streams than depth and trades say nothing here."""
    said = orjson.loads(frame)
    if "stream" in said:
        said = said["data"]
    event = said.get("e")
    if event == "depthUpdate":
        return (_changes(said),)
    if event == "aggTrade":
        return (_trade(said, str(whole(said["a"])), whole(said["a"])),)
    if (
        event == "trade" and said.get("X", "MARKET") == "MARKET"
    ):  # else of the insurance fund or by deleveraging
        return (_trade(said, f"raw-{whole(said['t'])}", None),)
    if event == "serverShutdown":
        return (Closing("the server is about to shut down"),)
    return (Refused(str(said["error"])[:200]),) if "error" in said else ()


def read_http(about: str, body: str) -> Sequence[Said]:
    """A depth snapshot."""
    said = orjson.loads(body)
    at = said.get("T")
    return (
        BookSaid(
            about.removeprefix(_ABOUT),
            None if at is None else epoch_us(at, 1000),
            is_snapshot=True,
            bids=listed(said["bids"]),
            asks=listed(said["asks"]),
            last=whole(said["lastUpdateId"]),
            is_http=True,
        ),
    )


def _changes(said: Mapping[str, Any]) -> BookSaid:
    at, first, last, previous = said.get("T", said["E"]), said["U"], said["u"], said.get("pu")
    bids, asks = said["b"], said["a"]
    if not (type(first) is type(last) is int and type(bids) is type(asks) is list):
        raise TypeError(f"changes {first!r} to {last!r} of {type(bids)}, {type(asks)}"[:200])
    if not -1 << 63 <= first <= last < 1 << 63:
        raise ValueError(f"changes {first!r} to {last!r}"[:200])
    at_us = epoch_us(whole(at), 1000)
    number = None if previous is None else whole(previous)
    return BookSaid(said["s"], at_us, False, bids, asks, first, last, number)  # noqa: FBT003 - keywords cost


def _trade(said: Mapping[str, Any], trade_id: str, number: int | None) -> Trade:
    at_ms = epoch_us(whole(said["T"]), 1000) // 1000
    return Trade(said["s"], trade_id, at_ms, text(said["p"]), text(said["q"]), _SIDES[said["m"]], number)


def _url(
    instruments: Sequence[Instrument], channels: Sequence[Channel], *, addresses: Mapping[Channel, str]
) -> str:
    streams = (f"{i.symbol.lower()}@{_STREAMS[channel]}" for i in instruments for channel in channels)
    return f"{addresses[channels[0]]}/stream?streams={'/'.join(streams)}"


def _snapshot_from(address: str) -> Callable[[Instrument, Channel, Topics], Iterable[Fetch]]:
    def renew(instrument: Instrument, channel: Channel, topics: Topics) -> Iterable[Fetch]:  # noqa: ARG001
        yield Fetch(url=address.format(symbol=instrument.symbol), about=_ABOUT + instrument.symbol)

    return renew


def _stream(name: str, addresses: Mapping[Channel, str], depth: str, rule: Rule, **facts: Any) -> VenueStream:
    return VenueStream(
        name=name,
        venue="binance",
        channels=("trades", "book"),
        url=partial(_url, addresses=addresses),
        subscribe=lambda _instruments, _channels: (),
        renew=_snapshot_from(depth),
        read=read,
        read_http=read_http,
        rules={"book": rule},
        is_asked_first=True,
        renew_after=timedelta(minutes=5),
        capacity=200,
        **facts,
    )


_SPOT = "wss://stream.binance.com:9443"
_USDM = "wss://fstream.binance.com"
_COINM = "wss://dstream.binance.com"

STREAMS = (
    _stream(
        "binance",
        {"trades": _SPOT, "book": _SPOT},
        "https://api.binance.com/api/v3/depth?symbol={symbol}&limit=5000",
        Rule(chain="next", asks_rest=True),
    ),
    _stream(
        "binanceusdm",
        {"trades": f"{_USDM}/market", "book": f"{_USDM}/public"},
        "https://fapi.binance.com/fapi/v1/depth?symbol={symbol}&limit=1000",
        Rule(chain="previous", asks_rest=True),
        apart=("trades", "book"),
    ),
    _stream(
        "binancecoinm",
        {"trades": _COINM, "book": _COINM},
        "https://dapi.binance.com/dapi/v1/depth?symbol={symbol}&limit=1000",
        Rule(chain="previous", asks_rest=True),
    ),
)
