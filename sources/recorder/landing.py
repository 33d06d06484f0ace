"""From the spool into bronze: each entry in one commit, and each commit once.

A commit carries the number of the next entry of the spool as its position. Whoever lands looks there first how far the
spool has come, so it does not matter who was killed between commit and clean-up, or who else is landing still.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lakehouse.bronze import bronze_table
from lakehouse.promotion import until_settled
from lakehouse.store import Store
from lakehouse.streamed import joined, write_streamed
from sources.recorder.batch import Batch
from sources.spool import Reader

MOST_BYTES = 16 << 20
"""About what one commit brings; several times that is in memory meanwhile."""


class Landed(NamedTuple):
    """What is in bronze: all entries before `upto`. `pages` of them were brought there just now."""

    upto: int
    pages: int


class Landing:
    """Moves the entries of one spool, which another process may be writing, into the bronze table of a feed."""

    def __init__(self, store: Store, feed: str, folder: Path, *, run_id: str, code_version: str) -> None:
        self._store, self._table = store, bronze_table(feed)
        self._run_id, self._code_version = run_id, code_version
        self._app = f"{self._table.name}<-spool {folder.name}"
        self._reader = Reader(folder)
        self._batch = _Read(Batch(), 0, 0)

    def land(self, upto: int, *, most_bytes: int = MOST_BYTES) -> Landed:
        """Commit entries before `upto`, all of which are durable, at most so many bytes.

        Raises the store's errors; what was read is kept for the next attempt.
        """
        return until_settled(lambda: self._land_once(upto, most_bytes))

    def close(self) -> None:
        """Let go of the spool."""
        self._reader.close()

    def _land_once(self, upto: int, most_bytes: int) -> Landed:
        stored = self._store.open(self._table)
        begin = max(stored.position(self._app), 0)
        if begin >= upto:
            return Landed(begin, 0)
        self._batch = self._read(begin, upto, most_bytes)
        batch, end = self._batch.batch, self._batch.end
        told = joined(batch.told)
        said = {"run": self._run_id, "code": self._code_version}
        stored.append(
            batch.frame(run_id=self._run_id, code_version=self._code_version),
            positions={self._app: end},
            said={**said, **({"streamed": write_streamed(told)} if told else {})},
        )
        self._batch = _Read(Batch(), end, end)
        return Landed(end, batch.pages)

    def _read(self, begin: int, upto: int, most_bytes: int) -> _Read:
        if self._batch.begin == begin < self._batch.end:
            return self._batch
        self._reader.go_to(begin)
        batch = Batch()
        for record in self._reader.read(upto, most_bytes):
            batch.add(record)
        return _Read(batch, begin, self._reader.next_read)


class _Read(NamedTuple):
    """Entries that were read: those from `begin` up to before `end`."""

    batch: Batch
    begin: int
    end: int
