"""From the spool into bronze: each entry in one commit, and each commit once.

A commit carries the number of the next entry of the spool as its position, so whoever is killed between commit and
clean-up finds there how far it had come.
"""

from __future__ import annotations

from lakehouse.bronze import bronze_table, pages_frame
from lakehouse.promotion import until_settled
from lakehouse.publish import Run
from lakehouse.store import Store
from lakehouse.streamed import joined, write_streamed
from sources.recorder.entry import Entry, read_entry
from sources.recorder.journal import Tally
from sources.spool import Spool

MOST_BYTES = 32 << 20


class Landing:
    """Moves one spool's entries into the bronze table of a feed; for one thread."""

    def __init__(self, store: Store, feed: str, spool: Spool, *, run: Run, tally: Tally) -> None:
        self._store, self._spool, self._run, self._tally = store, spool, run, tally
        self._table = bronze_table(feed)
        self._app = f"{self._table.name}<-spool {spool.id}"
        self._is_placed = False
        self._batch: tuple[list[Entry], int] | None = None

    def land(self, most_bytes: int = MOST_BYTES) -> int:
        """Commit what is durable, at most so many bytes; how many entries that was. A batch that failed comes again.

        Raises the store's errors.
        """
        if not self._is_placed:
            self._place()
        if self._batch is None:
            entries = [read_entry(one) for one in self._spool.read(most_bytes)]
            self._batch = entries, self._spool.next_read
        entries, upto = self._batch
        if entries:
            until_settled(lambda: self._commit(entries, upto))
            self._spool.forget(upto)
            self._tally.landed_frames += sum(one.page is not None for one in entries)
        self._tally.landed_at = self._run.now()
        self._batch = None
        return len(entries)

    def land_all(self) -> None:
        """Commit all that is durable by now, in as few commits as may be."""
        if not self._is_placed:
            self._place()
        upto = self._spool.durable
        while self._batch or self._spool.next_read < upto:
            if not self.land():
                break

    def _place(self) -> None:
        stored = self._store.find(self._table)
        if stored:
            self._spool.skip_to(stored.position(self._app))
            self._spool.forget(stored.position(self._app))
        self._is_placed = True

    def _commit(self, entries: list[Entry], upto: int) -> None:
        stored = self._store.open(self._table)
        if stored.position(self._app) >= upto:
            return
        pages = [one.page for one in entries if one.page]
        told = joined(claim for one in entries for claim in one.told)
        said = {"run": self._run.run_id, "code": self._run.code_version}
        rows = pages_frame(pages, run_id=self._run.run_id, code_version=self._run.code_version)
        stored.append(
            rows,
            positions={self._app: upto},
            said={**said, **({"streamed": write_streamed(told)} if told else {})},
        )
