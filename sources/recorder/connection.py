"""One session's connections, one after the other, each with its frames numbered and written down before they count."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from sources.recorder.journal import Journal
from sources.stream import (
    Action,
    Ask,
    Fetch,
    Frame,
    Heard,
    Kind,
    Reconnect,
    Send,
    Session,
    Unreadable,
    page_of,
)

log = structlog.get_logger()

_LARGEST_FRAME = 64 << 20
_TICK_S = 1.0
_FULL_PAUSE_S = 0.05
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_STEADY = 5
"""A connection that stood for so many times the first wait was no failure."""
_OPEN_WITHIN_S, _CLOSE_WITHIN_S = 10.0, 2.0
_FETCHES_AT_ONCE = 2


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What connections need of the world. `address` says where to connect in place of a venue's address."""

    address: Callable[[str], str]
    ask: Ask
    now: Callable[[], datetime]
    journal: Journal
    tick_s: float = _TICK_S
    first_wait_s: float = _FIRST_WAIT_S


class _Over(Exception):
    """The session wants another connection."""


async def keep_connected(session: Session, around: Surroundings, stop: asyncio.Event) -> None:
    """Connect, and again whenever the connection is lost, ever later while that fails, until told to stop."""
    failures = 0
    while not stop.is_set():
        began = time.monotonic()
        try:
            url = await asyncio.to_thread(session.reach, around.ask, around.now())
            async with connect(
                around.address(url),
                additional_headers=session.headers,
                max_size=_LARGEST_FRAME,
                open_timeout=_OPEN_WITHIN_S,
                close_timeout=_CLOSE_WITHIN_S,
            ) as socket:
                reason = await _Connection(session, socket, around).run(stop)
        except (OSError, TimeoutError, WebSocketException) as error:
            reason = f"{type(error).__name__}: {error}"
        if stop.is_set():
            return
        failures = 0 if time.monotonic() - began > _STEADY * around.first_wait_s else failures + 1
        wait_s = _wait_s(failures, around.first_wait_s)
        log.warning("not connected", url=session.url, reason=reason[:300], again_in_s=round(wait_s, 1))
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), wait_s)
        session = session.again()


class _Connection:
    """One connection that stands."""

    def __init__(self, session: Session, socket: ClientConnection, around: Surroundings) -> None:
        self._session, self._socket, self._around = session, socket, around
        self._heard_at = around.now()
        self._id = f"{self._heard_at:%Y%m%dT%H%M%S%f}-{uuid.uuid4().hex[:8]}"
        self._number = 0
        self._fetches: set[asyncio.Task[None]] = set()
        self._may_fetch = asyncio.Semaphore(_FETCHES_AT_ONCE)
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, stop: asyncio.Event) -> str:
        """Listen until the connection is lost, the session wants another one or all is to stop; why."""
        self._around.journal.tally.connections += 1
        reason = "stopped"
        try:
            self._note("connect", "")
            await self._first_of(self._listen(), self._tick(), stop.wait(), self._failed)
        except _Over as over:
            reason = str(over)
        except ConnectionClosed as closed:
            reason = f"lost: {closed}"
        finally:
            for task in self._fetches:
                task.cancel()
            self._around.journal.tally.disconnects += 1
            self._note("disconnect", reason)
        return reason

    async def _first_of(self, *tasks: Coroutine[Any, Any, Any] | asyncio.Future[None]) -> None:
        """Whatever ends first ends all."""
        running = [asyncio.ensure_future(task) for task in tasks]
        try:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _listen(self) -> None:
        await self._do(self._say(self._session.opening(self._around.now())))
        spool = self._around.journal.spool
        while True:
            while spool.is_full:
                await asyncio.sleep(_FULL_PAUSE_S)
            message = await self._socket.recv()
            text = message if isinstance(message, str) else message.decode("utf-8", "replace")
            if actions := self._note("recv", text):
                await self._do(actions)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._around.tick_s)
            await self._do(self._say(self._session.tick(self._around.now())))

    def _say(self, actions: Sequence[Action]) -> Sequence[Action]:
        self._around.journal.claim(self._session.subject, actions, self._around.now())
        return actions

    async def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                await self._socket.send(action.text)
                await self._do(self._note("send", action.text))
            elif isinstance(action, Fetch):
                task = asyncio.create_task(self._fetch(action))
                self._fetches.add(task)
                task.add_done_callback(self._fetches.discard)
            elif isinstance(action, Reconnect):
                raise _Over(action.reason)

    async def _fetch(self, asked: Fetch) -> None:
        try:
            async with self._may_fetch:
                status, text = await asyncio.to_thread(self._around.ask, asked)
            await self._do(self._note("http", text, about=asked.about, status=status))
        except Exception as error:  # noqa: BLE001 - the connection ends by it, in the task that waits for that
            if not self._failed.done():
                self._failed.set_exception(error)

    def _note(self, kind: Kind, text: str, *, about: str = "", status: int = 200) -> Sequence[Action]:
        since_s = time.perf_counter()
        # What a frame rests on is found again by time: a clock that is set back must not put it behind that.
        self._heard_at = max(self._heard_at, self._around.now())
        frame = Frame(
            number=self._number,
            received_at=self._heard_at,
            kind=kind,
            text=text,
            about=about,
            status=status,
        )
        self._number += 1
        heard = _hear(self._session, frame)
        page = page_of(self._session, frame, heard, connection_id=self._id)
        self._around.journal.keep(page, heard.actions, since_s=since_s)
        return heard.actions


def _hear(session: Session, frame: Frame) -> Heard:
    """What a session makes of a frame. It should never raise; if it does the frame is kept, and a new one begins."""
    try:
        return session.hear(frame)
    except Exception as error:
        log.exception("a session failed", subject=session.subject, frame=frame.number)
        reason = f"{type(error).__name__}: {error}"[:300]
        return Heard(actions=(Unreadable(reason=reason), Reconnect(reason=f"session failed: {reason}")))


def _wait_s(failures: int, first_s: float) -> float:
    longest = min(_LONGEST_WAIT_S, first_s * 2 ** min(failures, 10))
    return random.uniform(longest / 2, longest)  # noqa: S311 - jitter, not a secret
