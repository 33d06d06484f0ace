"""A recorder: connections, their spool, its way into bronze; from start to clean stop.

    connections -> Journal -> Spool -> Lander -> bronze

Each arrow can wait: a full spool keeps connections from reading, a store that does not answer fills the spool. Memory
holds what the disk has not taken yet; the process that lands, one batch for bronze.
"""

from __future__ import annotations

import asyncio
import gc
import shutil
import signal
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
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
from sources.recorder.lander import Lander
from sources.recorder.telling import LATE
from sources.spool import Pace, Spool, Synced, abandoned
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

    `missed` is told each stretch that was not received whole; `on_durable` of each sync of the spool.
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
        on_durable: Callable[[Synced], None] = lambda _synced: None,
    ) -> None:
        self._stream, self._sessions, self._client = stream, sessions, client
        self._run, self._rhythm, self._beat = run, rhythm or Rhythm(), beat
        self._on_durable = on_durable
        self._tally = Tally()
        folder = home / "spool" / stream.name
        self._left = list(abandoned(folder, pace=pace))
        self._spool = self._left.pop(0) if self._left else Spool(folder / uuid.uuid4().hex[:12], pace=pace)
        self._spool.on_durable = self._note_durable
        self._lander, self._landed = Lander(store, f"stream_{stream.name}", run), self._spool.first
        self._journal = Journal(self._spool, tally=self._tally, late=self._rhythm.late, missed=missed)
        self._began_at = run.now()
        self._stop: asyncio.Event | None = None
        self._is_terminated = False

    def run(self, *, seconds: float | None = None) -> Pulse:
        """Record until SIGTERM, SIGINT or `stop`, or for so long; all that came is in bronze when it returns.

        A SIGTERM that somebody else handled before, such as Prefect, is handed on to them in the end. Raises NotLanded
        where bronze does not take what came: the next run brings it there. Raises SpoolFailed where the disk does not.
        """
        try:
            self._lander.start()
            with _no_pauses():
                asyncio.run(self._record(seconds))
        finally:
            self._lander.close()
            self._spool.close()
        if self._is_terminated and callable(signal.getsignal(signal.SIGTERM)):
            signal.raise_signal(signal.SIGTERM)
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
            spooled_frames=self._spool.count - self._landed,
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
        with _signals(self._loop, {signal.SIGTERM: self._terminate, signal.SIGINT: self._stop.set}):
            async with self._landing():
                try:
                    await self._until_stopped(around, seconds)
                finally:
                    self._journal.end(self._run.now())
                    await asyncio.to_thread(self._spool.sync)
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

    @asynccontextmanager
    async def _landing(self) -> AsyncIterator[None]:
        """Meanwhile what is durable goes into bronze."""
        over = threading.Event()
        landing = asyncio.create_task(asyncio.to_thread(self._land_until, over))
        try:
            yield
        finally:
            over.set()
            await landing

    def _terminate(self) -> None:
        self._is_terminated = True
        self.stop()

    async def _each(self, every_s: float, act: Callable[[], None]) -> None:
        while True:
            act()
            await asyncio.sleep(every_s)

    def _land_until(self, over: threading.Event) -> None:
        """Bring the spool into bronze again and again; what fails is tried again, while frames wait in the spool."""
        wait_s = 0.0
        while not over.wait(wait_s):
            wait_s = self._rhythm.land_s
            try:
                self._land()
            except Exception as error:  # noqa: BLE001 - whatever it is, recording goes on
                log.warning("bronze does not take frames; they wait in the spool", reason=str(error)[:300])
                wait_s = self._rhythm.retry_s

    def _land(self) -> None:
        """Bring what other recorders left behind into bronze, and their spools away; then what is durable by now."""
        while self._left:
            left = self._left[0]
            self._land_spool(left, left.first)
            self._left.pop(0)
            left.close()
            shutil.rmtree(left.folder)
        self._land_spool(self._spool, self._landed)
        self._tally.landed_at = self._run.now()

    def _land_spool(self, spool: Spool, landed: int) -> None:
        upto = spool.durable
        while landed < upto:
            landed, pages = self._lander.land(spool, upto)
            spool.forget(landed)
            self._tally.landed_frames += pages
            if spool is self._spool:
                self._landed = landed

    def _land_rest(self) -> None:
        try:
            self._land()
        except Exception as error:
            raise NotLanded(
                f"{self._spool.count - self._landed} entries of stream {self._stream.name} wait in the spool "
                f"{self._spool.folder}, because bronze does not take them: {error}; the next "
                f"`mnemo stream {self._stream.name}` lands them"
            ) from error

    def _note_durable(self, synced: Synced) -> None:
        self._tally.durable_s = synced.age_s
        self._on_durable(synced)


@contextmanager
def _no_pauses() -> Iterator[None]:
    """Threads take turns soon, and what was there before is no garbage: to look through it takes 40 ms each time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)


@contextmanager
def _signals(
    loop: asyncio.AbstractEventLoop, acts: Mapping[signal.Signals, Callable[[], None]]
) -> Iterator[None]:
    """What signals do meanwhile, where they come to this thread."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in acts} if is_main else {}
    for number in before:
        loop.add_signal_handler(number, acts[number])
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
