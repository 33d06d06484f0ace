"""A spool: records in a folder, durable within milliseconds, read once and then forgotten. Knows nothing of streams.

Records are counted from 0 for as long as the folder lives. They lie in segments. A segment begins with a memo: what the
owner must know of all the records before it, which may be gone. A record is its length and checksum, then its bytes;
the checksum counts the number in, so that nothing left over from before can pass for a record. A length of 0 ends a
segment.

One thread writes and syncs whatever has come in meanwhile. Segments are filled with zeros before they are used: to
sync bytes that lie within a file takes a third of the time that a growing file takes. After a crash the torn end of the
last segment is left as it is and a new segment begins; a record is there whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from lakehouse.errors import MnemoError

log = structlog.get_logger()

_FRAME = struct.Struct("<II")
_SUFFIX = ".segment"
_NEXT = "next.zeros"
_ZEROS = bytes(1 << 20)


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


class Spool:
    """A folder of records, held by this process alone. BlockingIOError where another process holds it.

    `append` and `sync` are for one thread; `read`, `skip_to` and `forget` for one other. `on_durable` is told of each
    sync how many records it made durable, and how many seconds ago the oldest of them came.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pace: Pace | None = None,
        on_durable: Callable[[int, float], None] = lambda _count, _age_s: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.id = folder.name
        self.on_durable = on_durable
        self._folder, self._pace = folder, pace or Pace()
        self._lock_file = _lock(folder)
        self._segments = _segments(folder)
        self.found = self._read_last()
        self._count = self._segments[-1].first + len(self.found.records) if self._segments else 0
        self._durable = self._count
        self._next_read = self._segments[0].first if self._segments else 0
        self._place: _Place | None = None
        self._unwritten, self._is_closing = _Unwritten(), False
        self._failed: OSError | None = None
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(1, "spool zeros")
        self._writing: _Writing | None = None
        self._writer = threading.Thread(target=self._write_forever, name=f"spool {self.id}", daemon=True)

    @property
    def count(self) -> int:
        """How many records ever came."""
        return self._count

    @property
    def durable(self) -> int:
        """How many of them are on disk."""
        return self._durable

    @property
    def next_read(self) -> int:
        """The number of the record that is read next."""
        return self._next_read

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
        self._zeros = self._pool.submit(self._make_zeros)
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

    def skip_to(self, number: int) -> None:
        """Go on reading at a record that lies ahead."""
        self._next_read = max(self._next_read, min(number, self._durable))
        self._place = None

    def read(self, most_bytes: int) -> list[bytes]:
        """The next durable records, at most so many bytes, but at least one where there is one."""
        found: list[bytes] = []
        size = 0
        while size < most_bytes and (record := self._next()) is not None:
            found.append(record)
            size += len(record)
        return found

    def forget(self, upto: int) -> None:
        """Delete the segments that hold only smaller numbers. The newest stays, for its memo."""
        with self._changed:
            after = self._segments[1:]
            gone = [one for one, later in zip(self._segments, after, strict=False) if later.first <= upto]
            self._segments = self._segments[len(gone) :]
        for one in gone:
            one.path.unlink()

    def close(self) -> None:
        """Write what is left and let go of the folder."""
        if self._writing:
            with self._changed:
                self._is_closing = True
                self._changed.notify_all()
            self._writer.join()
            self._writing.close()
        self._pool.shutdown()
        self._leave()
        os.close(self._lock_file)

    def _check(self) -> None:
        if self._failed:
            raise SpoolFailed(f"the spool {self._folder} cannot be written: {self._failed}")

    def _read_last(self) -> Found:
        """What the newest segment holds. One without a memo was begun by a process that died of it."""
        while self._segments:
            last = self._segments[-1]
            file = os.open(last.path, os.O_RDONLY)
            try:
                if (memo := _record(file, 0, last.first)) is not None:
                    offset = _FRAME.size + len(memo)
                    return Found(memo=memo, records=tuple(_records(file, offset, last.first)))
            finally:
                os.close(file)
            last.path.unlink()
            self._segments.pop()
        return Found(memo=b"", records=())

    def _next(self) -> bytes | None:
        while self._next_read < self._durable:
            place = self._place = self._place or self._find()
            segments = self._segments
            after = next((one for one in segments if one.path > place.segment.path), None)
            if after is None or self._next_read < after.first:
                record = _record(place.file, place.offset, self._next_read)
                if record is not None:
                    place.offset += _FRAME.size + len(record)
                    self._next_read += 1
                    return record
            if after is None:
                return None
            self._lose(after.first - self._next_read, place)
            self._next_read = after.first
            self._leave()
        return None

    def _find(self) -> _Place:
        """Where the record lies that is read next."""
        segment = [one for one in self._segments if one.first <= self._next_read][-1]
        place = _Place(segment, os.open(segment.path, os.O_RDONLY))
        for number in (segment.first, *range(segment.first, self._next_read)):
            place.offset += _FRAME.size + len(_record(place.file, place.offset, number) or b"")
        return place

    def _leave(self) -> None:
        if self._place:
            os.close(self._place.file)
            self._place = None

    def _lose(self, count: int, place: _Place) -> None:
        if count:
            log.error(
                "the disk has changed records of the spool", records=count, segment=str(place.segment.path)
            )

    def _write_forever(self) -> None:
        try:
            while self._write_some():
                pass
        except OSError as error:
            log.exception("the spool cannot be written", folder=str(self._folder))
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
            self._writing.close()
            self._writing = self._begin_segment(self._durable)
        self._writing.write(b"".join(batch.records))
        self._memo = self._memo if batch.memo is None else batch.memo
        with self._changed:
            self._durable += len(batch.records)
            self._changed.notify_all()
        self.on_durable(len(batch.records), time.perf_counter() - batch.oldest_s)
        return True

    def _begin_segment(self, first: int) -> _Writing:
        zeros = self._zeros.result()
        ordinal = self._segments[-1].ordinal + 1 if self._segments else 0
        segment = _Segment(ordinal, first, self._folder / f"{ordinal:010d}-{first:020d}{_SUFFIX}")
        zeros.rename(segment.path)
        writing = _Writing(segment.path)
        writing.write(_framed(self._memo, first))
        _sync_folder(self._folder)
        with self._changed:
            self._segments = [*self._segments, segment]
        self._zeros = self._pool.submit(self._make_zeros)
        return writing

    def _make_zeros(self) -> Path:
        path = self._folder / _NEXT
        with path.open("wb") as file:
            for start in range(0, self._pace.segment_bytes, len(_ZEROS)):
                file.write(_ZEROS[: self._pace.segment_bytes - start])
            file.flush()
            os.fsync(file.fileno())
        return path


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
class _Place:
    segment: _Segment
    file: int
    offset: int = 0


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


def _record(file: int, offset: int, number: int) -> bytes | None:
    """The record that begins there; None where none does that is whole and has that number."""
    framed = os.pread(file, _FRAME.size, offset)
    if len(framed) < _FRAME.size:
        return None
    length, checksum = _FRAME.unpack(framed)
    record = os.pread(file, length, offset + _FRAME.size) if length else b""
    return record if record and len(record) == length and _checksum(record, number) == checksum else None


def _records(file: int, offset: int, number: int) -> Iterator[bytes]:
    while (record := _record(file, offset, number)) is not None:
        yield record
        offset += _FRAME.size + len(record)
        number += 1


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
