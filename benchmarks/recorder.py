"""How fast frames become durable, and whether memory stays flat. `python -m benchmarks.recorder [SECONDS]`

A process of its own streams 10,000 messages a second, as a made-up Kraken has them (trades, and a tenth changes of a
book with its checksum), over a WebSocket on 127.0.0.1; all are made and framed before, so that little of the machine is
taken from the recorder. That is the whole one: it hears every frame with the venue's session, keeps the book, spools,
syncs and lands in bronze, in a folder. What is asked for: 99 of 100 frames durable within 5 ms, for 60 s
(`python -m benchmarks.recorder`; with a number, for so many seconds).

- `frame to durable`: from a frame's receipt until the sync that holds it is over; every frame of a sync counts with the
  age of its oldest. The peer writes the same bytes sync by sync with pwrite and fdatasync and does nothing else, right
  after: what the disk can do in these minutes.
- `sent to received`: from when the venue handed a frame to its socket until the recorder had it, by one clock.

Whatever else the machine does shows in all of them; what was written before is on disk when they begin.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

import polars as pl
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.server import ServerConnection, serve

from benchmarks.report import Figure, figure, report
from lakehouse.bronze import bronze_table
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.store import Store
from sources.client import Client
from sources.recorder.recording import Pulse, Recorder, Rhythm
from sources.spool import Synced
from sources.stream import Instrument
from sources.twin.kraken import MadeUpKraken
from sources.venues import venue

PER_S = 10_000
GOAL_MS = 5.0
BTC = Instrument(instrument_id="BTC/USD", symbol="BTC/USD", price_digits=1, amount_digits=8)
TIME = '"timestamp":"'
TIME_LENGTH = len("2024-01-01T00:00:00.000000Z")
SEGMENT = 16 << 20
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}
WHOSE = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def stream(seconds: float, told: Connection) -> None:
    """Serve the frames until told to stop."""
    ticks = iter(range(10**9))
    market = MadeUpKraken(per_s=1, book_share=0.1, most=seconds * PER_S, now_s=lambda: next(ticks) * 10**7)
    opening = [market.snapshot("trade"), market.snapshot("book")]
    market.go_on()
    market.go_on()
    frames = [framed(text) for _, text in market.log]

    def play(client: ServerConnection) -> None:
        client.recv()
        with suppress(ConnectionClosed, OSError):
            for text in opening:
                client.send(text)
            pour(client, frames)
            for _ in client:
                pass

    with serve(play, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told.send(f"http://127.0.0.1:{server.socket.getsockname()[1]}")
        told.recv()


def framed(text: str) -> tuple[bytes, bytes]:
    """A frame as it goes over the wire: what comes before its time, and what comes after."""
    wire = Frame(Opcode.TEXT, text.encode()).serialize(mask=False)
    at = wire.index(TIME.encode()) + len(TIME)
    return wire[:at], wire[at + TIME_LENGTH :]


def pour(client: ServerConnection, frames: list[tuple[bytes, bytes]]) -> None:
    """Send frames at their pace, with the time when they are sent."""
    begun_s, done = time.monotonic(), 0
    while done < len(frames):
        due = min(int((time.monotonic() - begun_s) * PER_S), len(frames))
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}".encode()
        with client.protocol_mutex:
            client.socket.sendall(b"".join(before + now + after for before, after in frames[done:due]))
        done = due
        time.sleep(0.001)


def percentile(ages: pl.DataFrame, share: float) -> float:
    """The age in milliseconds within which such a share of the records was durable."""
    ordered = ages.sort("age_s").with_columns(so_far=pl.col("records").cum_sum())
    within = ordered.filter(pl.col("so_far") >= share * pl.col("records").sum())
    return 1000 * float(within["age_s"][0])


def disk_alone(folder: Path, syncs: pl.DataFrame, seconds: float) -> pl.DataFrame:
    """The same syncs by a process that does nothing else, in a file that has its length already."""
    path, done = folder / "disk", []
    path.write_bytes(bytes(SEGMENT))
    file, at = os.open(path, os.O_WRONLY), 0
    os.fsync(file)
    ends_s = time.monotonic() + seconds
    for records, size, _ in syncs.iter_rows():
        if time.monotonic() > ends_s:
            break
        at = at if at + size <= SEGMENT else 0
        content = os.urandom(size)
        began_s = time.perf_counter()
        os.pwrite(file, content, at)
        os.fdatasync(file)
        done.append(Synced(records, size, time.perf_counter() - began_s))
        at += size
        time.sleep(0.001)
    os.close(file)
    return pl.DataFrame(done, schema=Synced._fields, orient="row")


def sent_to_received_ms(store: Store) -> pl.Series:
    """How long each frame was on its way, from what bronze says."""
    stored = store.find(bronze_table("stream_kraken"))
    assert stored
    sent = pl.col("body").cast(pl.String).str.extract(f'{TIME}([^"]+)').str.to_datetime(time_zone="UTC")
    pages = stored.scan().filter(pl.col("request").str.contains('"kind":"recv"'))
    return pages.select(pl.col("received_at") - sent).collect().to_series().dt.total_microseconds() / 1000


def resident_mib() -> float:
    """Memory of the recorder and of its process that lands."""
    feeders = {str(one.pid) for one in multiprocessing.active_children()}
    children = " ".join(one.read_text() for one in Path("/proc/self/task").glob("*/children")).split()
    pages = 0
    for pid in {"self", *children} - feeders:
        with suppress(OSError):  # it has just ended
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def cpu_s() -> float:
    """CPU seconds of this process and of the children that have ended."""
    return sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime for who in WHOSE)


def measure(seconds: float, url: str, folder: Path) -> Iterator[Figure]:
    """The figures of one run."""
    synced: list[Synced] = []
    memory: list[float] = []

    def watch(_pulse: Pulse) -> None:
        memory.append(resident_mib())

    settings = Settings(home=folder / "home", lake=str(folder / "lake"), twin_url=url)
    store, kraken = Store(settings), venue("kraken")
    begun_s, cpu_before_s = time.monotonic(), cpu_s()
    with Client(settings) as client:
        recorder = Recorder(
            kraken,
            kraken.sessions([BTC], ("trades", "book")),
            store=store,
            client=client,
            run=Run(run_id="bench", code_version="0", now=lambda: datetime.now(UTC)),
            home=settings.home,
            rhythm=Rhythm(beat_s=0.5),
            beat=watch,
            on_durable=synced.append,
        )
        pulse = recorder.run(seconds=seconds)
    took_s = time.monotonic() - begun_s
    cores = (cpu_s() - cpu_before_s) / took_s
    third = max(1, len(memory) // 3)
    yield figure("messages received", pulse.frames / seconds, "1/s")
    syncs = pl.DataFrame(synced, schema=Synced._fields, orient="row")
    yield from compared(syncs, disk_alone(folder, syncs, seconds))
    on_its_way = sent_to_received_ms(store)
    for name, share in SHARES.items():
        yield figure(f"sent to received, {name}", on_its_way.quantile(share) or 0.0, "ms")
    yield figure("CPU of the recorder, landing too", cores, "cores")
    yield figure("memory, most of the second third", max(memory[third : 2 * third], default=0.0), "MiB")
    yield figure("memory, most of the last third", max(memory[-third:]), "MiB")
    yield figure("frames not in bronze at the end", pulse.spooled_frames, "frames")


def compared(syncs: pl.DataFrame, alone: pl.DataFrame) -> Iterator[Figure]:
    """Frame to durable, beside the disk alone."""
    for name, share in SHARES.items():
        ours, floor = percentile(syncs, share), percentile(alone, share)
        what, goal = f"frame to durable spool, {name}", GOAL_MS if name == "p99" else None
        yield figure(what, ours, "ms", goal=goal)
        yield figure(what, floor, "ms", peer="pwrite, fdatasync", ratio=floor / ours)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    ours, theirs = multiprocessing.Pipe()
    feeder = multiprocessing.get_context("spawn").Process(target=stream, args=(seconds, theirs))
    feeder.start()
    url = ours.recv()
    os.sync()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        report("recorder", measure(seconds, url, Path(folder)))
    ours.send("stop")
    feeder.join()


if __name__ == "__main__":
    main()
