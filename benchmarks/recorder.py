"""How fast frames become durable, and whether memory stays flat. `python -m benchmarks.recorder [SECONDS]`

A process of its own streams 10,000 messages a second, as a made-up Kraken has them (trades, and a tenth changes of a
book with its checksum), over a WebSocket on 127.0.0.1. The recorder is the whole one: it hears every frame with the
venue's session, keeps the book, spools, syncs and lands in bronze, in a folder. Measured is the time from a frame's
receipt until the sync that holds it is over; every frame of a sync is counted with the age of its oldest. What is asked
for: 99 of 100 within 5 ms, for 60 s (`python -m benchmarks.recorder 60`; by default 10 s).
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.report import report
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.store import Store
from sources.client import Client
from sources.recorder.recording import Pulse, Recorder, Rhythm
from sources.stream import Instrument
from sources.twin.kraken import STREAM, MadeUpKraken
from sources.twin.server import Twin, serving
from sources.twin.websocket import Sockets
from sources.venues import venue

PER_S = 10_000
BTC = Instrument(instrument_id="BTC/USD", symbol="BTC/USD", price_digits=1, amount_digits=8)


class Prepared:
    """A made-up Kraken's frames, made before they are due."""

    is_over = False

    def __init__(self, frames: list[str], opening: list[str]) -> None:
        self._frames, self._opening = frames, opening
        self._begun_s: float | None = None
        self._next = 0

    def hear(self, text: str) -> Iterator[str]:
        """Snapshots at once, all else from then on."""
        if "subscribe" in text and self._begun_s is None:
            yield from self._opening
            self._begun_s = time.monotonic()

    def due(self, _elapsed_s: float) -> Iterator[str]:
        """Frames at their pace."""
        if self._begun_s is None:
            return
        upto = int((time.monotonic() - self._begun_s) * PER_S)
        while self._next < min(upto, len(self._frames)):
            self._next += 1
            yield self._frames[self._next - 1]


def stream(seconds: float, told: Connection) -> None:
    """Serve the frames until told to stop."""
    ticks = iter(range(10**9))
    market = MadeUpKraken(per_s=1, book_share=0.1, most=seconds * PER_S, now_s=lambda: next(ticks) * 10**7)
    opening = [market.snapshot("trade"), market.snapshot("book")]
    market.go_on()
    market.go_on()
    frames = [text for _, text in market.log]
    with serving(Twin([], sockets=Sockets({STREAM: lambda: Prepared(frames, opening)}))) as url:
        told.send(url)
        told.recv()


class Ages:
    """How old frames were when they were durable, in buckets of 10 µs."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, count: int, age_s: float) -> None:
        bucket = int(age_s * 100_000)
        self._counts[bucket] = self._counts.get(bucket, 0) + count

    def percentile_ms(self, share: float) -> float:
        left = share * sum(self._counts.values())
        for bucket in sorted(self._counts):
            left -= self._counts[bucket]
            if left <= 0:
                return bucket / 100
        return 0.0


def resident_mib() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def measure(seconds: float, url: str, folder: Path) -> Iterator[dict]:
    """The figures of one run."""
    ages, memory = Ages(), []

    def watch(_pulse: Pulse) -> None:
        memory.append(resident_mib())

    settings = Settings(home=folder / "home", lake=str(folder / "lake"), twin_url=url)
    kraken = venue("kraken")
    with Client(settings) as client:
        recorder = Recorder(
            kraken,
            kraken.sessions([BTC], ("trades", "book")),
            store=Store(settings),
            client=client,
            run=Run(run_id="bench", code_version="0", now=lambda: datetime.now(UTC)),
            home=settings.home,
            rhythm=Rhythm(beat_s=0.5),
            beat=watch,
            on_durable=ages.add,
        )
        began, cpu = time.monotonic(), time.process_time()
        pulse = recorder.run(seconds=seconds)
    took_s = time.monotonic() - began
    third = max(1, len(memory) // 3)
    yield figure("messages received", pulse.frames / seconds, "1/s")
    yield figure("frame to durable spool, p50", ages.percentile_ms(0.50), "ms")
    yield figure("frame to durable spool, p99", ages.percentile_ms(0.99), "ms")
    yield figure("frame to durable spool, p99.9", ages.percentile_ms(0.999), "ms")
    yield figure("CPU of the recorder", (time.process_time() - cpu) / took_s, "cores")
    yield figure("memory, most of the second third", max(memory[third : 2 * third], default=0.0), "MiB")
    yield figure("memory, most of the last third", max(memory[-third:]), "MiB")
    yield figure("frames not in bronze at the end", pulse.spooled_frames, "frames")


def figure(name: str, value: float, unit: str) -> dict:
    return {
        "suite": "recorder",
        "figure": name,
        "value": round(value, 2),
        "unit": unit,
        "peer": None,
        "ratio": None,
    }


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    ours, theirs = multiprocessing.Pipe()
    feeder = multiprocessing.get_context("spawn").Process(target=stream, args=(seconds, theirs))
    feeder.start()
    url = ours.recv()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        report("recorder", measure(seconds, url, Path(folder)))
    ours.send("stop")
    feeder.join()


if __name__ == "__main__":
    main()
