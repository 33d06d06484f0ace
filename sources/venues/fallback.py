"""Every exchange of `exchanges.yaml` without a module of its own here: read by ccxt.pro, as far as that goes.

Pages hold what the venue sent, as everywhere; ccxt.pro only understands it (`sources.venues.watching`), and needs all
frames of a connection for that, from its first one on. That one's request holds the markets, and what had to be asked
before there was an address to connect to. A new connection begins every half hour, which bounds what is read again.

What it cannot prove: ccxt checks numbers of few venues and checksums of fewer, and does not say which. So nothing that
comes this way is called complete. A book is whatever ccxt keeps; it breaks where ccxt gives up, and where it is crossed
for longer than a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from lakehouse.errors import UsageError
from sources.stream import (
    Action,
    Ask,
    Channel,
    Fetch,
    Frame,
    Heard,
    Instrument,
    Reconnect,
    Unreadable,
)
from sources.venues.keeping import Rule
from sources.venues.said import UNREADABLE, Said
from sources.venues.session import StreamSession, Topics, VenueStream
from sources.venues.watching import Watching

_CALLS: Mapping[Channel, str] = {"trades": "watchTrades", "book": "watchOrderBook"}
_CANNOT_SHOW: Mapping[Channel, str] = {
    "trades": "trades that were left out: ccxt.pro does not follow their numbers",
    "book": "changes that were left out: ccxt.pro tells neither numbers nor checksums",
}
_LONG_ENOUGH = 16
"""Letters of what an address carries that may be a token."""


@dataclass(frozen=True, kw_only=True)
class FallbackStream(VenueStream):
    """An exchange as ccxt.pro streams it."""

    def sessions(
        self, instruments: Sequence[Instrument], channels: Sequence[Channel]
    ) -> tuple[StreamSession, ...]:
        """As few connections as may be; UsageError for a channel that ccxt.pro does not have of it."""
        import ccxt.pro

        has = getattr(ccxt.pro, self.name)().has if self.name in ccxt.pro.exchanges else {}
        if absent := [channel for channel in channels if channel in _CALLS and not has.get(_CALLS[channel])]:
            raise UsageError(f"stream {self.name}: ccxt.pro has no {', '.join(absent)} of it")
        return super().sessions(instruments, channels)

    def session(self, instruments: tuple[Instrument, ...], channels: tuple[Channel, ...]) -> StreamSession:
        """One connection."""
        return FallbackSession(self, instruments, channels)


class FallbackSession(StreamSession):
    """A session whose frames ccxt.pro understands."""

    def __init__(
        self, stream: VenueStream, instruments: tuple[Instrument, ...], channels: tuple[Channel, ...]
    ) -> None:
        by_symbol = tuple(replace(one, symbol=one.instrument_id) for one in instruments)
        super().__init__(stream, by_symbol, channels)
        self._began: dict[str, Any] = {}
        self._watching: Watching | None = None
        self._connected_at: datetime | None = None

    def reach(self, ask: Ask, now: datetime) -> str:
        """Where to connect; ConnectionError where the venue does not say, UsageError where ccxt needs several."""
        markets = [_market(self.stream.name, one) for one in self.instruments]
        self._watching = watching = Watching(self.stream.name, markets, self.channels, now)
        asked: list[dict[str, Any]] = []
        while not (watching.url or watching.failure):
            wanted = [action for action in watching.take_actions() if isinstance(action, Fetch)]
            if not wanted:
                raise ConnectionError(f"ccxt.pro wants no connection to {self.stream.name}")
            for one in wanted:
                status, text = ask(one)
                asked.append({"about": one.about, "status": status, "text": text})
                with suppress(*UNREADABLE):  # its failure says so
                    watching.hear(_answer(asked[-1], now))
        if isinstance(watching.failure, UsageError):
            raise watching.failure
        if watching.failure:
            raise ConnectionError(f"{self.stream.name}: {watching.failure}"[:300])
        self.url, self.headers = watching.url.partition("?")[0], watching.headers
        self._began = {"exchange": self.stream.name, "channels": self.channels, "markets": markets}
        self._began["asked"] = [{**one, "text": _without_tokens(one["text"], watching.url)} for one in asked]
        return watching.url

    def opening(self, now: datetime) -> tuple[Action, ...]:
        """What ccxt says first, once the connection was noted."""
        return (*super().opening(now), *self._wishes())

    def hear(self, frame: Frame) -> Heard:
        """What a frame means; where ccxt cannot go on, another connection is wanted."""
        if frame.kind == "connect" and self._watching:
            self._connected_at = frame.received_at
            self._watching.connected(frame.received_at)
            return Heard(note={"ccxt": self._began}, context_at=frame.received_at)
        heard = super().hear(frame)
        actions = [*heard.actions, *self._wishes()]
        if any(isinstance(action, Unreadable) for action in actions):
            actions.append(Reconnect(reason="ccxt.pro cannot read a frame"))
        return heard._replace(actions=tuple(actions), context_at=self._connected_at)

    def tick(self, now: datetime) -> tuple[Action, ...]:
        """Let ccxt do what is due; begin again now and then."""
        if self._watching is None or self._connected_at is None:
            return ()
        if now - self._connected_at > self.stream.renew_after:
            return (Reconnect(reason="started again"),)
        self._watching.advance(now)
        if self._watching.failure:
            return (Reconnect(reason=f"ccxt.pro failed: {self._watching.failure}"[:300]),)
        return (*super().tick(now), *self._wishes())

    def _due(self, now: datetime) -> Iterable[Action]:  # noqa: ARG002 - ccxt asks by itself
        return ()

    def _said(self, frame: Frame) -> Sequence[Said]:
        return self._watching.hear(frame) if self._watching else ()

    def _wishes(self) -> Sequence[Action]:
        return self._watching.take_actions() if self._watching else ()


class Rereading:
    """A connection's frames read again, in their order; without the first one they say nothing."""

    def __init__(self) -> None:
        self._watching: Watching | None = None
        self._number = -1

    def read(self, frame: Frame, request: Mapping[str, Any]) -> Sequence[Said]:
        """What a frame means; raises one of `UNREADABLE` where it cannot be read."""
        if frame.number != self._number + 1:
            self._watching = None
        self._number = frame.number
        if frame.kind == "connect" and frame.number == 0:
            self._watching = _begun(request["ccxt"], frame.received_at)
        elif self._watching and frame.kind in ("recv", "http"):
            return self._watching.hear(frame)
        return ()


def _begun(said: Mapping[str, Any], at: datetime) -> Watching:
    watching = Watching(said["exchange"], said["markets"], said["channels"], at)
    for one in said["asked"]:
        watching.hear(_answer(one, at))
    watching.connected(at)
    return watching


def _answer(said: Mapping[str, Any], at: datetime) -> Frame:
    return Frame(0, at, "http", said["text"], said["about"], said["status"])


def _market(exchange: str, instrument: Instrument) -> Mapping[str, Any]:
    if instrument.market is None:
        raise UsageError(f"stream {exchange}: ccxt's description of {instrument.instrument_id} is not given")
    return instrument.market


def _without_tokens(text: str, url: str) -> str:
    """What was asked, without what it takes to connect: reading it again takes none."""
    for _, value in parse_qsl(urlsplit(url).query):
        if len(value) >= _LONG_ENOUGH:
            text = text.replace(value, "-")
    return text


def _group(instrument: Instrument) -> str:
    """Markets of one kind have one address, as a rule."""
    market = instrument.market or {}
    return f"{market.get('type')} {market.get('settle')} {market.get('linear')}"


def _start_again(instrument: Instrument, channel: Channel, _topics: Topics) -> Sequence[Action]:
    return [Reconnect(reason=f"{channel} of {instrument.instrument_id} must start again")]


def _read_in_order(_frame: str, _topics: Topics) -> Sequence[Said]:
    raise NotImplementedError("a frame that ccxt.pro reads cannot be read alone")


def stream(name: str) -> FallbackStream:
    """The stream of an exchange by ccxt.pro."""
    return FallbackStream(
        name=name,
        venue=name,
        channels=("trades", "book"),
        cannot_show=_CANNOT_SHOW,
        is_proven=False,
        url=lambda _instruments, _channels: "",
        subscribe=lambda _instruments, _channels: (),
        renew=_start_again,
        read=_read_in_order,
        reread=Rereading,
        rules={"book": Rule(crosses_for_us=1_000_000)},
        renew_after=timedelta(minutes=30),
        silent_at_most=timedelta(minutes=10),
        capacity=20,
        group=_group,
    )
