"""A spool: records in a folder, durable within milliseconds, read once and then forgotten. Knows nothing of streams.

Records are counted from 0 for as long as the folder lives. They lie in segments. A segment begins with a memo: what the
owner must know of all the records before it, which may be gone. A record is its length and checksum, then its bytes;
the checksum counts the number in, so that nothing left over from before can pass for a record.

One thread writes and syncs whatever has come in meanwhile. Segments have their full length before they are used, of
zeros or of what was forgotten: to sync bytes within a file takes a third of the time that a growing file takes. After a
crash the torn end of the last segment is left as it is and a new segment begins; a record is there whole or not at all.
Another process may read meanwhile, told how far records are durable.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import structlog

from lakehouse.errors import MnemoError

log = structlog.get_logger()

_FRAME = struct.Struct("<II")
_SUFFIX, _SPARE = ".segment", ".spare"
_SPARES = 2
_ENDLESS = 1 << 62
_BLOCK = 1 << 18
_ZEROS = bytes(1 << 17)
_BETWEEN_ZEROS_S = 0.005
"""The disk is to have time for records, too."""


class SpoolFailed(MnemoError):
    """The disk refuses to be written: what comes from now on cannot be kept."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How a spool trades latency against work, and how much it holds.

    Records that come while others are synced are synced together. `linger_s` gathers them for longer: fewer syncs.
    """

    linger_s: float = 0.0
    segment_bytes: int = 16 << 20
    most_bytes: int = 4 << 30
    most_unwritten_bytes: int = 8 << 20


class Synced(NamedTuple):
    """What one sync made durable: so many records and bytes, the oldest of which came so many seconds before."""

    records: int
    size: int
    age_s: float


class Spool:
    """A folder of records, written by this process alone. BlockingIOError where another process writes it.

    `append` and `sync` are for one thread, `forget` for one other. `on_durable` is told of each sync.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pace: Pace | None = None,
        on_durable: Callable[[Synced], None] = lambda _synced: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.on_durable = on_durable
        self._pace = pace or Pace()
        self._lock_file = _lock(folder)
        self._segments = _segments(folder)
        self._spares = self._found_spares()
        self.found = self._read_last()
        self._count = self._segments[-1].first + len(self.found.records) if self._segments else 0
        self._durable = self._count
        self._unwritten, self._is_closing = _Unwritten(), False
        self._failed: OSError | None = None
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(1, "spool zeros")
        self._zeros: Future[Path] | None = None
        self._writing: _Writing | None = None
        self._writer = threading.Thread(target=self._write_forever, name=f"spool {folder.name}", daemon=True)

    @property
    def count(self) -> int:
        """How many records ever came."""
        return self._count

    @property
    def durable(self) -> int:
        """How many of them are on disk."""
        return self._durable

    @property
    def first(self) -> int:
        """The number of the oldest record that is here."""
        return self._segments[0].first if self._segments else 0

    @property
    def segments(self) -> int:
        """How many segments there are."""
        return len(self._segments)

    @property
    def size_bytes(self) -> int:
        """About what the folder holds on disk."""
        return self.segments * self._pace.segment_bytes

    @property
    def is_full(self) -> bool:
        """Whether nothing more should come for now; nothing is refused."""
        return (
            self._unwritten.size > self._pace.most_unwritten_bytes or self.size_bytes > self._pace.most_bytes
        )

    def start(self, memo: bytes) -> None:
        """Begin to write; a spool that is only to be emptied need not."""
        self.found = Found(memo=memo, records=())
        self._memo = memo
        self._writing = self._begin_segment(self._count)
        self._writer.start()

    def append(self, record: bytes, *, memo: bytes | None = None, since_s: float | None = None) -> int:
        """Take a record; its number. It is on disk soon, as `durable` tells.

        `memo` takes the place of the one before it once this record is written. `since_s` is when it came, by
        `time.perf_counter`. Raises SpoolFailed once the disk has refused a write.
        """
        self._check()
        with self._changed:
            number = self._count
            framed = _framed(record, number)
            if not self._unwritten.records:
                self._unwritten.oldest_s = time.perf_counter() if since_s is None else since_s
                self._changed.notify_all()
            self._unwritten.records.append(framed)
            self._unwritten.size += len(framed)
            if memo is not None:
                self._unwritten.memo = memo
            self._count += 1
        return number

    def sync(self) -> None:
        """Return once all that came is durable; SpoolFailed where that cannot be."""
        with self._changed:
            wanted = self._count
            self._changed.wait_for(lambda: self._durable >= wanted or self._failed)
        self._check()

    def forget(self, upto: int) -> None:
        """Give up the segments that hold only smaller numbers. The newest stays, for its memo."""
        with self._changed:
            after = self._segments[1:]
            gone = [one for one, later in zip(self._segments, after, strict=False) if later.first <= upto]
            self._segments = self._segments[len(gone) :]
        for one in gone:  # without the lock: the disk may take its time, and records come meanwhile
            self._give_up(one.path)

    def close(self) -> None:
        """Write what is left and let go of the folder."""
        if self._writing:
            with self._changed:
                self._is_closing = True
                self._changed.notify_all()
            self._writer.join()
            self._writing.close()
        self._pool.shutdown()
        os.close(self._lock_file)

    def _check(self) -> None:
        if self._failed:
            raise SpoolFailed(f"the spool {self.folder} cannot be written: {self._failed}")

    def _read_last(self) -> Found:
        """What the newest segment holds. One without a memo was begun by a process that died of it."""
        while self._segments:
            last = self._segments[-1]
            with closing(_Reading(last)) as reading:
                if (memo := reading.next(last.first)) is not None:
                    return Found(memo=memo, records=tuple(reading.rest(last.first)))
            last.path.unlink()
            self._segments.pop()
        return Found(memo=b"", records=())

    def _found_spares(self) -> list[Path]:
        """Spare segments that were left behind; one that is not whole was being made by a process that died of it."""
        found = list(self.folder.glob(f"*{_SPARE}"))
        whole = [one for one in found if one.stat().st_size == self._pace.segment_bytes]
        for one in set(found) - set(whole):
            one.unlink()
        return whole

    def _give_up(self, path: Path) -> None:
        """Keep a segment to be written over; it has its length already, and the disk need not be given zeros."""
        if len(self._spares) < _SPARES and path.stat().st_size == self._pace.segment_bytes:
            spare = path.rename(path.with_suffix(_SPARE))
            with self._changed:
                self._spares.append(spare)
        else:
            path.unlink()

    def _write_forever(self) -> None:
        try:
            while self._write_some():
                pass
        except OSError as error:
            log.exception("the spool cannot be written", folder=str(self.folder))
            with self._changed:
                self._failed = error
                self._changed.notify_all()

    def _write_some(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._unwritten.records or self._is_closing)
        if self._pace.linger_s and not self._is_closing:
            time.sleep(self._pace.linger_s)
        with self._changed:
            batch, self._unwritten = self._unwritten, _Unwritten()
        if not batch.records or self._writing is None:
            return False
        if self._writing.offset + batch.size > self._pace.segment_bytes:
            full, self._writing = self._writing, self._begin_segment(self._durable)
            full.close()
        self._writing.write(b"".join(batch.records))
        self._memo = self._memo if batch.memo is None else batch.memo
        with self._changed:
            self._durable += len(batch.records)
            self._changed.notify_all()
        age_s = time.perf_counter() - batch.oldest_s
        self.on_durable(Synced(len(batch.records), batch.size, age_s))
        return True

    def _begin_segment(self, first: int) -> _Writing:
        ordinal = self._segments[-1].ordinal + 1 if self._segments else 0
        segment = _Segment(ordinal, first, self.folder / f"{ordinal:010d}-{first:020d}{_SUFFIX}")
        self._spare().rename(segment.path)
        writing = _Writing(segment.path)
        writing.write(_framed(self._memo, first))
        _sync_folder(self.folder)
        with self._changed:
            self._segments = [*self._segments, segment]
            if not self._spares and not self._zeros:
                self._zeros = self._pool.submit(self._make_zeros)
        return writing

    def _spare(self) -> Path:
        with self._changed:
            if self._spares:
                return self._spares.pop()
        zeros, self._zeros = self._zeros or self._pool.submit(self._make_zeros), None
        return zeros.result()

    def _make_zeros(self) -> Path:
        path = self.folder / f"zeros{_SPARE}"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_DSYNC)
        try:
            for start in range(0, self._pace.segment_bytes, len(_ZEROS)):
                time.sleep(_BETWEEN_ZEROS_S if start else 0)
                os.pwrite(file, _ZEROS[: self._pace.segment_bytes - start], start)
        finally:
            os.close(file)
        return path


class Reader:
    """Reads the records of a spool in their order, in this process or another one; `next_read` comes next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segments = _segments(folder)
        self.next_read = self._segments[0].first if self._segments else 0
        self._reading: _Reading | None = None
        self._end = _ENDLESS

    def go_to(self, number: int) -> None:
        """Go on at that record, or at the oldest one that is there."""
        if number != self.next_read:
            self.close()
            self._segments = _segments(self._folder)
            self.next_read = max(number, self._segments[0].first if self._segments else 0)

    def read(self, upto: int, most_bytes: int) -> list[bytes]:
        """The next records before `upto`, all of which are durable; at most so many bytes, but at least one."""
        found: list[bytes] = []
        size = 0
        self._segments = _segments(self._folder)
        if self._reading:
            self._reading.look_again()
            self._end = self._end_of(self._reading.segment)
        while size < most_bytes and (record := self._next(upto)) is not None:
            found.append(record)
            size += len(record)
        return found

    def close(self) -> None:
        """Let go of the file that is read."""
        if self._reading:
            self._reading.close()
            self._reading = None

    def _next(self, upto: int) -> bytes | None:
        while self.next_read < upto:
            reading = self._reading = self._reading or self._find()
            record = reading.next(self.next_read) if self.next_read < self._end else None
            if record is not None:
                self.next_read += 1
                return record
            if self._end >= upto:
                self._lose(upto - self.next_read, reading.segment)
                self.next_read = upto
                return None
            self._lose(self._end - self.next_read, reading.segment)
            self.next_read = self._end
            self.close()
        return None

    def _find(self) -> _Reading:
        """The segment of the record that is read next, read up to there."""
        before = [one for one in self._segments if one.first <= self.next_read]
        if not before:
            raise SpoolFailed(f"the spool {self._folder} holds no record {self.next_read} any more")
        segment = before[-1]
        self._end = self._end_of(segment)
        reading = _Reading(segment)
        for number in (segment.first, *range(segment.first, self.next_read)):
            reading.next(number)
        return reading

    def _end_of(self, segment: _Segment) -> int:
        """The first number that is in a later segment."""
        return next((one.first for one in self._segments if one.ordinal > segment.ordinal), _ENDLESS)

    def _lose(self, count: int, segment: _Segment) -> None:
        if count:
            log.error("the disk has changed records of the spool", records=count, segment=str(segment.path))


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a spool held when it was opened: the memo of its newest segment, and the records after it."""

    memo: bytes
    records: tuple[bytes, ...] = field(repr=False)


def abandoned(folder: Path, *, pace: Pace | None = None) -> Iterator[Spool]:
    """Every spool in a folder that no process holds, opened."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        with suppress(BlockingIOError):
            yield Spool(path, pace=pace)


@dataclass(frozen=True)
class _Segment:
    ordinal: int
    first: int
    path: Path


@dataclass
class _Unwritten:
    records: list[bytes] = field(default_factory=list)
    size: int = 0
    oldest_s: float = 0.0
    memo: bytes | None = None


class _Writing:
    """The segment that is written."""

    def __init__(self, path: Path) -> None:
        # One call writes and syncs: each of two would wait for its turn to run Python again.
        self._file = os.open(path, os.O_WRONLY | os.O_DSYNC)
        self.offset = 0

    def write(self, framed: bytes) -> None:
        """Write and sync."""
        view = memoryview(framed)
        while view:
            written = os.pwrite(self._file, view, self.offset)
            self.offset += written
            view = view[written:]

    def close(self) -> None:
        os.close(self._file)


class _Reading:
    """A segment that is read record by record, its file in blocks: a call for each would cost more than all else."""

    def __init__(self, segment: _Segment) -> None:
        self.segment = segment
        self._file = os.open(segment.path, os.O_RDONLY)
        self._at = 0
        self._block, self._block_at = b"", 0

    def next(self, number: int) -> bytes | None:
        """The record that comes next; None where none does that is whole and has that number."""
        framed = self._bytes(self._at, _FRAME.size)
        if len(framed) < _FRAME.size:
            return None
        length, checksum = _FRAME.unpack(framed)
        record = self._bytes(self._at + _FRAME.size, length)
        if not record or len(record) < length or _checksum(record, number) != checksum:
            return None
        self._at += _FRAME.size + length
        return record

    def rest(self, number: int) -> Iterator[bytes]:
        """All records from here on that are whole; the first has that number."""
        while (record := self.next(number)) is not None:
            yield record
            number += 1

    def look_again(self) -> None:
        """What lies ahead may have been written since it was looked at."""
        self._block = b""

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _bytes(self, at: int, length: int) -> bytes:
        """At most so many bytes that lie there."""
        begin = at - self._block_at
        if begin < 0 or begin + length > len(self._block):
            # What is torn may claim any length.
            most = min(max(length, _BLOCK), os.fstat(self._file).st_size - at)
            self._block, self._block_at, begin = os.pread(self._file, max(most, 0), at), at, 0
        return self._block[begin : begin + length]


def _lock(folder: Path) -> int:
    file = os.open(folder / "lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise
    return file


def _segments(folder: Path) -> list[_Segment]:
    found = []
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        ordinal, _, first = path.stem.partition("-")
        found.append(_Segment(int(ordinal), int(first), path))
    return found


def _framed(record: bytes, number: int) -> bytes:
    return _FRAME.pack(len(record), _checksum(record, number)) + record


def _checksum(record: bytes, number: int) -> int:
    return zlib.crc32(record, number & 0xFFFFFFFF)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
