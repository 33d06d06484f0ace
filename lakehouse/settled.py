"""What need not be fetched again: what the coverage ledger has settled, and what came in since and waits for it.

The ledger judges a fetch only after its pages were promoted. Until then the fetch's own record, in its bronze commit,
says what was received: that is taken for settled, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from lakehouse.coverage import read_records, received
from lakehouse.gaps import settled_by_subject
from lakehouse.ledger import Source
from lakehouse.ops import COVERAGE
from lakehouse.promotion import position_name
from lakehouse.store import Store, StoredTable
from lakehouse.window import Window


@dataclass
class Settled:
    """Looks again at what came in since the last look, and at nothing else. Threads may share it."""

    store: Store
    source: Source
    _pages: StoredTable | None = field(default=None, init=False)
    _ledger: StoredTable | None = field(default=None, init=False)
    _ledger_version: int = field(default=-1, init=False)
    _judged_upto: int = field(default=0, init=False)
    _read_upto: int = field(default=0, init=False)
    _waiting: dict[int, dict[str, list[Window]]] = field(default_factory=dict, init=False)
    """By version of bronze: for each subject what was received and is not judged yet."""
    _settled: dict[str, list[Window]] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def windows(self, subject: str) -> list[Window]:
        """The windows of a subject that need not be asked for, by now; they may overlap."""
        return self.windows_of([subject])[subject]

    def windows_of(self, subjects: Collection[str]) -> dict[str, list[Window]]:
        """The same of several subjects, in one look."""
        with self._lock:
            self._look()
            if unknown := [one for one in subjects if one not in self._settled]:
                self._settled.update(settled_by_subject(self.store, self.source.feed, unknown))
            return {one: [*self._settled[one], *self._waiting_of(one)] for one in subjects}

    def _waiting_of(self, subject: str) -> Iterator[Window]:
        for by_subject in self._waiting.values():
            yield from by_subject.get(subject, ())

    def _look(self) -> None:
        self._pages = _newest(self._pages) or self.store.find(self.source.bronze)
        if self._pages is None:
            return
        self._ledger = _newest(self._ledger) or self.store.find(COVERAGE)
        if self._ledger and self._ledger.version != self._ledger_version:
            self._ledger_version = self._ledger.version
            self._settled.clear()
            self._judged_upto = max(self._ledger.consumed(position_name(COVERAGE, self._pages)), 0)
            self._waiting = {v: found for v, found in self._waiting.items() if v > self._judged_upto}
        after = max(self._read_upto, self._judged_upto)
        for version, said in self._pages.commits(after, self._pages.version):
            if "fetched" in said:
                self._waiting[version] = _received(said["fetched"])
        self._read_upto = self._pages.version


def _newest(stored: StoredTable | None) -> StoredTable | None:
    if stored is not None:
        stored.refresh()
    return stored


def _received(records: str) -> dict[str, list[Window]]:
    found: defaultdict[str, list[Window]] = defaultdict(list)
    for record in read_records(records):
        found[record.subject] += received(record)
    return dict(found)
