"""A recorder: connections, their spool, its way into bronze; from start to clean stop.

    connections -> Journal -> Spool -> Landing -> bronze

Each arrow can wait: a full spool keeps connections from reading, a store that does not answer fills the spool. Memory
holds what the disk has not taken yet and one batch for bronze, never more.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog

from lakehouse.errors import MnemoError
from lakehouse.publish import Run
from lakehouse.store import Store
from lakehouse.streamed import Streamed
from sources.client import Client
from sources.recorder.addresses import asker, socket_address
from sources.recorder.connection import Surroundings, keep_connected
from sources.recorder.journal import Journal, Tally
from sources.recorder.landing import Landing
from sources.recorder.telling import LATE
from sources.spool import Pace, Spool, abandoned
from sources.venues.session import StreamSession, VenueStream

log = structlog.get_logger()

_SWITCH_S = 0.0001
"""Python lets a thread run for 5 ms before another gets its turn: too long for the one that syncs frames."""


class NotLanded(MnemoError):
    """Frames are safe in the spool, but bronze does not take them."""


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """How often a recorder does what."""

    land_s: float = 3.0
    """Commits into bronze; with the time that one takes, frames are there within five seconds."""
    tell_s: float = 30.0
    """Claims of what is whole."""
    beat_s: float = 10.0
    tick_s: float = 1.0
    retry_s: float = 2.0
    """Until the next attempt where bronze cannot be written, and where a venue cannot be reached the first time."""
    late: timedelta = LATE


@dataclass(frozen=True, kw_only=True)
class Pulse:
    """How a recorder is doing."""

    stream: str
    at: datetime
    frames: int
    bytes_received: int
    unreadable: int
    connections: int
    disconnects: int
    invalid: int
    """How many channels of instruments are not whole now."""
    spooled_frames: int
    """Entries that are not in bronze yet."""
    spool_bytes: int
    landed_frames: int
    landing_lag_s: float
    """For how long nothing has been brought into bronze."""
    silent_s: float
    """For how long no frame has come."""
    durable_s: float
    """How long the oldest frame of the newest sync took to become durable."""

    def record(self) -> dict[str, Any]:
        """The pulse as plain values."""
        return asdict(self)


class Recorder:
    """Records the sessions of one stream.

    `missed` is told each stretch that was not received whole; `on_durable` of each sync how many entries it made
    durable, and how many seconds ago the oldest of them was received.
    """

    def __init__(
        self,
        stream: VenueStream,
        sessions: Sequence[StreamSession],
        *,
        store: Store,
        client: Client,
        run: Run,
        home: Path,
        rhythm: Rhythm | None = None,
        pace: Pace | None = None,
        missed: Callable[[Streamed], None] = lambda _claim: None,
        beat: Callable[[Pulse], None] = lambda _pulse: None,
        on_durable: Callable[[int, float], None] = lambda _count, _age_s: None,
    ) -> None:
        self._stream, self._sessions, self._store, self._client = stream, sessions, store, client
        self._run, self._rhythm, self._beat = run, rhythm or Rhythm(), beat
        self._on_durable = on_durable
        self._feed = f"stream_{stream.name}"
        self._tally = Tally()
        folder = home / "spool" / stream.name
        self._left = list(abandoned(folder, pace=pace))
        self._spool = self._left.pop(0) if self._left else Spool(folder / uuid.uuid4().hex[:12], pace=pace)
        self._spool.on_durable = self._note_durable
        self._folder = folder
        self._landing = self._landing_of(self._spool)
        self._journal = Journal(self._spool, tally=self._tally, late=self._rhythm.late, missed=missed)
        self._began_at = run.now()
        self._stop: asyncio.Event | None = None

    def run(self, *, seconds: float | None = None) -> Pulse:
        """Record until SIGTERM, SIGINT or `stop`, or for so long; all that came is in bronze when it returns.

        Raises NotLanded where bronze does not take it: the next run brings it there. Raises SpoolFailed where the disk
        does not.
        """
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        try:
            asyncio.run(self._record(seconds))
        finally:
            sys.setswitchinterval(before)
            self._spool.close()
        return self.pulse()

    def stop(self) -> None:
        """End the recording, from any thread."""
        if self._stop:
            self._loop.call_soon_threadsafe(self._stop.set)

    def pulse(self) -> Pulse:
        """How it is doing."""
        now, tally = self._run.now(), self._tally
        return Pulse(
            stream=self._stream.name,
            at=now,
            frames=tally.frames,
            bytes_received=tally.bytes_received,
            unreadable=tally.unreadable,
            connections=tally.connections,
            disconnects=tally.disconnects,
            invalid=self._journal.invalid,
            spooled_frames=self._spool.count - self._spool.next_read,
            spool_bytes=self._spool.size_bytes,
            landed_frames=tally.landed_frames,
            landing_lag_s=(now - (tally.landed_at or self._began_at)).total_seconds(),
            silent_s=(now - (tally.heard_at or self._began_at)).total_seconds(),
            durable_s=tally.durable_s,
        )

    async def _record(self, seconds: float | None) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        now = self._run.now()
        self._journal.recover([one.found for one in (self._spool, *self._left)], now)
        ask = asker(self._client, self._stream.provider, self._stream.venue)
        around = Surroundings(
            address=lambda url: socket_address(self._client.settings, self._stream.provider, url),
            ask=ask,
            now=self._run.now,
            journal=self._journal,
            tick_s=self._rhythm.tick_s,
            first_wait_s=self._rhythm.retry_s,
        )
        for session in self._sessions:
            lines = [(i.instrument_id, c) for i in session.instruments for c in session.channels]
            self._journal.begin(session.subject, self._stream.venue, lines, now)
        landed = threading.Event()
        landing = asyncio.create_task(asyncio.to_thread(self._land_until, landed))
        with _signals(self._loop, self._stop):
            try:
                await self._until_stopped(around, seconds)
            finally:
                self._journal.end(self._run.now())
                await asyncio.to_thread(self._spool.sync)
                landed.set()
                await landing
        await asyncio.to_thread(self._land_rest)

    async def _until_stopped(self, around: Surroundings, seconds: float | None) -> None:
        stop = self._stop or asyncio.Event()
        connections = [
            asyncio.create_task(keep_connected(session, around, stop)) for session in self._sessions
        ]
        others = [
            asyncio.create_task(self._each(self._rhythm.tell_s, lambda: self._journal.tell(self._run.now()))),
            asyncio.create_task(self._each(self._rhythm.beat_s, lambda: self._beat(self.pulse()))),
        ]
        waiting = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait(
                [waiting, *connections, *others], timeout=seconds, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            stop.set()
            for task in (waiting, *others):
                task.cancel()
            ended = await asyncio.gather(*connections, waiting, *others, return_exceptions=True)
        failed = [one for one in ended if isinstance(one, Exception)]
        if failed:
            raise failed[0]

    async def _each(self, every_s: float, act: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(every_s)
            act()

    def _land_until(self, over: threading.Event) -> None:
        """Bring the spool into bronze again and again; what fails is tried again, while frames wait in the spool."""
        wait_s = 0.0
        while not over.wait(wait_s):
            wait_s = self._rhythm.land_s
            try:
                self._land_left()
                self._landing.land_all()
            except Exception as error:  # noqa: BLE001 - whatever it is, recording goes on
                log.warning("bronze does not take frames; they wait in the spool", reason=str(error)[:300])
                wait_s = self._rhythm.retry_s

    def _land_left(self) -> None:
        """Bring what other recorders left behind into bronze, and their spools away."""
        while self._left:
            left = self._left[0]
            self._landing_of(left).land_all()
            self._left.pop(0)
            left.close()
            shutil.rmtree(self._folder / left.id)

    def _land_rest(self) -> None:
        try:
            self._land_left()
            self._landing.land_all()
        except Exception as error:
            left = self._spool.count - self._spool.next_read
            raise NotLanded(
                f"{left} entries of stream {self._stream.name} wait in the spool {self._folder / self._spool.id}, "
                f"because bronze does not take them: {error}; the next `mnemo stream {self._stream.name}` lands them"
            ) from error

    def _landing_of(self, spool: Spool) -> Landing:
        return Landing(self._store, self._feed, spool, run=self._run, tally=self._tally)

    def _note_durable(self, count: int, age_s: float) -> None:
        self._tally.durable_s = age_s
        self._on_durable(count, age_s)


@contextmanager
def _signals(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT end the recording, where they come to this thread."""
    handled = []
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            with suppress(NotImplementedError):
                loop.add_signal_handler(number, stop.set)
                handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)
