"""The twin over WebSocket: plays recorded sessions, or venues that are made up, at any speed and with faults on demand.

`wss://ws.kraken.com/v2` is at `ws://127.0.0.1:<port>/ws.kraken.com/v2`. Each connection is played from the beginning of
its recording; what was recorded after the first message of the client waits for the first message now.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, Protocol, get_args
from urllib.parse import urlsplit

import structlog
from starlette.types import Receive, Scope, Send

from sources.twin.sessions import RecordedSession

log = structlog.get_logger()

FaultKind = Literal["gap", "duplicate", "reorder", "alter", "disconnect", "stall"]
FAULTS: tuple[FaultKind, ...] = get_args(FaultKind)

_STEP_S = 0.002
_AT_ONCE = 200
_GOING_AWAY, _POLICY, _BROKEN = 1001, 1008, 1012
_CHECKSUM = re.compile(r'("(?:checksum|c)"\s*:\s*"?)(-?\d+)')
_LAST_DIGIT = re.compile(r"(\d)(\D*)$")


class Script(Protocol):
    """What a venue says over one connection."""

    def hear(self, text: str) -> Iterable[str]:
        """The answers to a message of the client."""

    def due(self, elapsed_s: float) -> Iterator[str]:
        """What the venue says by itself up to that time since the connection began; ends when nothing is due now."""

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to be said."""


@dataclass(kw_only=True)
class Faults:
    """What goes wrong, one kind after the other, so many seconds after the one before; of all connections together.

    gap: a frame is not sent; duplicate: it is sent twice; reorder: after the one that follows it; alter: with another
    checksum, or another last digit where it has none; disconnect: instead of it the connection is closed; stall:
    neither it nor any other is sent.
    """

    kinds: tuple[FaultKind, ...] = ()
    every_s: float = math.inf
    injected: list[tuple[FaultKind, str]] = field(default_factory=list)
    """Each with the frame that it befell."""
    _last_s: float | None = None

    def next(self, now_s: float, frame: str) -> FaultKind | None:
        """The fault of this frame, which is sent now, if any."""
        if not self.kinds:
            return None
        if self._last_s is None:
            self._last_s = now_s
        if now_s - self._last_s < self.every_s:
            return None
        self._last_s = now_s
        kind = self.kinds[len(self.injected) % len(self.kinds)]
        self.injected.append((kind, frame))
        return kind


class Recorded:
    """A recorded session as a script; `speed` 20 plays a minute in three seconds, infinite all at once."""

    def __init__(self, session: RecordedSession, speed: float) -> None:
        said = [event for event in session.events if event.kind in ("send", "recv", "disconnect")]
        first = next((number for number, event in enumerate(said) if event.kind == "send"), None)
        self._upto = math.inf if first is None else first
        self._events = [event for event in said if event.kind != "send"]
        begun = session.events[0].at
        self._due_s = [(event.at - begun) / timedelta(seconds=1) / speed for event in self._events]
        self._next = 0

    def hear(self, text: str) -> Iterable[str]:  # noqa: ARG002 - whatever it is, it begins
        """Nothing but what was recorded."""
        self._upto = math.inf
        return ()

    def due(self, elapsed_s: float) -> Iterator[str]:
        """What had been received by then."""
        while self._next < min(len(self._events), self._upto) and self._due_s[self._next] <= elapsed_s:
            event = self._events[self._next]
            if event.kind == "disconnect":
                self._next = len(self._events)
                return
            self._next += 1
            yield event.text

    @property
    def is_over(self) -> bool:
        """Whether all was said."""
        return self._next >= len(self._events)


class Sockets:
    """The WebSocket half of the twin, an ASGI application. `scripts` makes one for each connection, by host and path.

    `sent` holds what was really sent, connection by connection. A client that does not take what is sent for
    `slow_after_s` is cut off, as venues do.
    """

    def __init__(
        self,
        scripts: Mapping[str, Callable[[], Script]],
        *,
        faults: Faults | None = None,
        slow_after_s: float = 10.0,
    ) -> None:
        self._scripts, self._faults, self._slow_after_s = scripts, faults or Faults(), slow_after_s
        self.sent: list[list[str]] = []
        self.received: list[list[str]] = []
        self.cut_off = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        script = self._scripts.get(scope["path"].lstrip("/").rstrip("/"))
        if script is None:
            log.warning(
                "no session is recorded for this address", path=scope["path"], known=sorted(self._scripts)
            )
            await send({"type": "websocket.close", "code": _POLICY})
            return
        await send({"type": "websocket.accept"})
        connection = _Playing(script(), self._faults, receive, send, self._slow_after_s)
        self.sent.append(connection.sent)
        self.received.append(connection.received)
        try:
            await connection.play()
        except TimeoutError:
            self.cut_off += 1
            log.warning("a client is too slow", path=scope["path"], sent=len(connection.sent))


class _Playing:
    """One connection that is played."""

    def __init__(
        self, script: Script, faults: Faults, receive: Receive, send: Send, slow_after_s: float
    ) -> None:
        self._script, self._faults = script, faults
        self._receive, self._send, self._slow_after_s = receive, send, slow_after_s
        self._held: list[str] = []
        self._turn = asyncio.Lock()
        self._is_stalled = self._is_closed = False
        self.sent: list[str] = []
        self.received: list[str] = []

    async def play(self) -> None:
        """Say everything, until the client goes or a fault ends it."""
        listening = asyncio.create_task(self._listen())
        begun_s = time.monotonic()
        try:
            while not (self._is_closed or listening.done()):
                due = self._script.due(time.monotonic() - begun_s)
                for frame in itertools.islice(due, _AT_ONCE):
                    await self._say(frame)
                if self._script.is_over and not self._is_stalled:
                    await self._close(_GOING_AWAY)
                await asyncio.sleep(_STEP_S)
        finally:
            listening.cancel()

    async def _listen(self) -> None:
        while not self._is_closed:
            message = await self._receive()
            if message["type"] == "websocket.disconnect":
                self._is_closed = True
                return
            text = message.get("text") or ""
            self.received.append(text)
            for answer in self._script.hear(text):
                await self._put(answer)

    async def _say(self, frame: str) -> None:
        is_deaf = self._is_stalled or self._is_closed
        fault = None if is_deaf else self._faults.next(time.monotonic(), frame)
        if fault == "disconnect":
            await self._close(_BROKEN)
        elif fault == "stall":
            self._is_stalled = True
        elif fault == "reorder":
            self._held.append(frame)
        elif fault == "duplicate":
            await self._put(frame, frame)
        elif fault == "alter":
            await self._put(altered(frame))
        elif fault is None and not self._is_stalled:
            await self._put(frame, *self._held)
            self._held.clear()

    async def _put(self, *frames: str) -> None:
        async with self._turn:
            for frame in frames:
                if not (self._is_closed or self._is_stalled):
                    self.sent.append(frame)
                    sending = self._send({"type": "websocket.send", "text": frame})
                    await asyncio.wait_for(sending, self._slow_after_s)

    async def _close(self, code: int) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._send({"type": "websocket.close", "code": code})


def recorded_scripts(
    sessions: Iterable[RecordedSession], *, speed: float = 1.0
) -> dict[str, Callable[[], Script]]:
    """Scripts by address; of several sessions with one address the first connection gets the first, the last stays."""
    by_address: dict[str, list[RecordedSession]] = {}
    for session in sessions:
        parts = urlsplit(session.url)
        by_address.setdefault(f"{parts.netloc}{parts.path}".rstrip("/"), []).append(session)
    return {address: _in_turn(told, speed) for address, told in by_address.items()}


def altered(frame: str) -> str:
    """A frame with a wrong checksum; with another last digit where it has none."""
    if _CHECKSUM.search(frame):
        return _CHECKSUM.sub(lambda found: f"{found[1]}{int(found[2]) ^ 1}", frame)
    return _LAST_DIGIT.sub(lambda found: f"{9 - int(found[1])}{found[2]}", frame)


def fuzzed(frame: str, chance: random.Random) -> str:
    """A frame that was cut, or some of whose characters are others."""
    if not frame or chance.random() < 0.3:
        return frame[: chance.randrange(len(frame) + 1)]
    letters = list(frame)
    for _ in range(chance.randrange(1, 6)):
        letters[chance.randrange(len(letters))] = chance.choice('{}[]",:019.eE-nulltrue\\ué\u2028')
    return "".join(letters)


def _in_turn(sessions: list[RecordedSession], speed: float) -> Callable[[], Script]:
    turn = itertools.chain(sessions[:-1], itertools.repeat(sessions[-1]))
    return lambda: Recorded(next(turn), speed)
