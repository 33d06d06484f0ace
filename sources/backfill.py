"""Backfill: a plan is fetched in parallel, as fast as the limits allow, over kills, refusals and company.

A window is one commit; it is looked up once more right before it is asked for, and locked while it is, so that
backfills of the same range on one machine share the work. A run that was killed is resumed by running it again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import structlog

from lakehouse.errors import UsageError
from lakehouse.publish import Run
from lakehouse.settled import Settled
from lakehouse.store import Store
from sources.backfill_plan import Cell, Plan, host_of, still_missing
from sources.client import Client
from sources.errors import MissingKey, Permanent, QuotaExhausted, SourceError, Transient
from sources.feed import Feed
from sources.ingest import Ingested, ingest
from sources.quota import Quota
from sources.quota_ledger import LONGEST_WAIT_S

log = structlog.get_logger()

_TRIES = 3
"""How often a window is tried that fails for reasons that may pass; each time with all retries of the client."""
_REFUSALS = 3
"""After so many refusals in a row a subject is given up: the next window would be refused as well."""
_PAUSE_S = 5.0
_BUSY_PAUSE_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Step:
    """One cell is done with, in whichever way: told while a backfill runs."""

    cell: Cell
    said: str
    pages: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a backfill did. What is in `left` is asked for by running it again."""

    feed: str
    windows: int
    covered_meanwhile: int
    pages: int
    new_pages: int
    size_bytes: int
    seconds: float
    left: int
    errors: tuple[str, ...] = ()
    """Why, each reason once."""
    renewed_at: datetime | None = None
    """When a day's budget that was spent is renewed."""

    def record(self) -> dict[str, Any]:
        """The report as plain values."""
        return {**asdict(self), "errors": list(self.errors)}


def carry_out(
    plan: Plan,
    *,
    store: Store,
    client: Client,
    run: Run,
    parallel: int = 4,
    tell: Callable[[Step], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Report:
    """Fetch what is planned, with `parallel` threads a host; `tell` is called, by one thread at a time, for each cell.

    What fails for reasons that may pass is tried again after the rest. A spent budget stops its host, a missing key
    and three refusals in a row stop their subject; the report says so. Raises what is not about a provider.
    """
    work = _Work(plan=plan, store=store, client=client, run=run, tell=tell)
    started = time.monotonic()
    try:
        work.run_all(parallel, sleep)
    finally:
        client.tell_usage()
    return work.report(time.monotonic() - started)


@dataclass(kw_only=True)
class _Work:
    """A backfill under way."""

    plan: Plan
    store: Store
    client: Client
    run: Run
    tell: Callable[[Step], None]
    done: list[Ingested] = field(default_factory=list)
    windows: int = 0
    covered_meanwhile: int = 0
    left: int = 0
    errors: dict[str, None] = field(default_factory=dict)
    renewed_at: datetime | None = None
    _stopped: set[str] = field(default_factory=set)
    """Names of quotas and subjects that are not asked any more."""
    _refused: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @cached_property
    def settled(self) -> Settled:
        return Settled(self.store, self.plan.feed.source)

    @cached_property
    def quotas(self) -> Mapping[str, Quota | None]:
        return {part.subject: part.quota for part in self.plan.parts}

    def run_all(self, parallel: int, sleep: Callable[[float], None]) -> None:
        cells: Sequence[Cell] = self.plan.cells
        tries = 1
        while cells:
            outcomes = self._round(cells, parallel)
            busy = [cell for cell, outcome in zip(cells, outcomes, strict=True) if outcome == "busy"]
            failed = {
                cell: outcome
                for cell, outcome in zip(cells, outcomes, strict=True)
                if isinstance(outcome, Transient)
            }
            if failed and tries == _TRIES:
                self._give_up(failed)
                failed = {}
            tries += bool(failed)
            cells = [*busy, *failed]
            if cells:
                sleep(self._pause_s(busy, failed))

    def report(self, seconds: float) -> Report:
        return Report(
            feed=self.plan.feed.name,
            windows=self.windows,
            covered_meanwhile=self.covered_meanwhile,
            pages=sum(one.pages for one in self.done),
            new_pages=sum(one.new_pages for one in self.done),
            size_bytes=sum(one.size_bytes for one in self.done),
            seconds=round(seconds, 1),
            left=self.left,
            errors=tuple(self.errors),
            renewed_at=self.renewed_at,
        )

    def _round(self, cells: Sequence[Cell], parallel: int) -> list[Transient | str]:
        """Every cell once; a pool for each host, so that a slow one holds up no other."""
        by_host: defaultdict[str, list[Cell]] = defaultdict(list)
        for cell in cells:
            by_host[host_of(self.quotas[cell.subject])].append(cell)
        futures: dict[Cell, Future[Transient | str]] = {}
        with ExitStack() as stack:
            pools = [stack.enter_context(ThreadPoolExecutor(parallel)) for _ in by_host]
            try:
                for pool, found in zip(pools, by_host.values(), strict=True):
                    futures |= {cell: pool.submit(self._attempt, cell) for cell in found}
                wait(futures.values(), return_when=FIRST_EXCEPTION)
                return _results(cells, futures)
            finally:
                for pool in pools:  # what is in flight comes to its end
                    pool.shutdown(wait=False, cancel_futures=True)

    def _attempt(self, cell: Cell) -> Transient | str:
        """`done`, `busy` where another process is at it, or the error that may pass."""
        quota = host_of(self.quotas[cell.subject])
        if self._stopped & {quota, cell.subject}:
            self._leave(cell, "left out")
            return "done"
        with _claimed(self.client.settings.home / "backfill", self.plan.feed, cell) as is_ours:
            if not is_ours:
                return "busy"
            try:
                brought = self._fetch(cell)
            except Transient as error:
                return error
            except QuotaExhausted as error:
                self.renewed_at = error.renewed_at
                self._stop(cell, quota, error)
            except (UsageError, MissingKey) as error:
                self._stop(cell, cell.subject, error)
            except Permanent as error:
                self._refuse(cell, error)
            else:
                self._finish(cell, brought)
        return "done"

    def _fetch(self, cell: Cell) -> list[Ingested]:
        missing = still_missing(self.plan.feed, cell.subject, cell.window, self.settled.windows(cell.subject))
        return [
            ingest(self.store, self.plan.feed, cell.subject, window, client=self.client, run=self.run)
            for window in missing
        ]

    def _finish(self, cell: Cell, brought: Sequence[Ingested]) -> None:
        with self._lock:
            self._refused[cell.subject] = 0
            self.done += brought
            self.windows += bool(brought)
            self.covered_meanwhile += not brought
            pages, size = sum(one.pages for one in brought), sum(one.size_bytes for one in brought)
            said = f"{pages} pages" if brought else "covered meanwhile"
            self.tell(Step(cell=cell, said=said, pages=pages, size_bytes=size))

    def _refuse(self, cell: Cell, error: SourceError) -> None:
        self._refused[cell.subject] += 1
        if self._refused[cell.subject] >= _REFUSALS:
            self._stop(cell, cell.subject, error)
        else:
            self._leave(cell, "refused", error)

    def _stop(self, cell: Cell, name: str, error: Exception) -> None:
        self._stopped.add(name)
        self._leave(cell, "stopped", error)

    def _give_up(self, failed: Mapping[Cell, Transient | str]) -> None:
        for cell, error in failed.items():
            self._leave(cell, "failed", error)

    def _leave(self, cell: Cell, said: str, error: object = None) -> None:
        with self._lock:
            self.left += 1
            if error is not None:
                self.errors[f"{cell.subject}: {error}"] = None
            self.tell(Step(cell=cell, said=said))

    def _pause_s(self, busy: Sequence[Cell], failed: Mapping[Cell, Transient | str]) -> float:
        if not failed:
            log.info("another backfill fetches the rest", feed=self.plan.feed.name, windows=len(busy))
            return _BUSY_PAUSE_S
        asked = [error.retry_after_s or 0.0 for error in failed.values() if isinstance(error, Transient)]
        pause_s = min(max(_PAUSE_S, *asked), LONGEST_WAIT_S)
        because = str(next(iter(failed.values())))
        log.warning("waiting for a provider", wait_s=pause_s, windows=len(failed), because=because)
        return pause_s


@contextmanager
def _claimed(folder: Path, feed: Feed, cell: Cell) -> Iterator[bool]:
    """Whether the cell is ours as long as the block lasts: no other thread or process of this machine fetches it.

    The lock ends with the process that holds it, however that ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said = f"{feed.name} {cell.subject} {cell.window}"
    path = folder / f"{hashlib.sha256(said.encode()).hexdigest()[:32]}.lock"
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        if os.fstat(file.fileno()).st_nlink == 0:
            # Whoever had it before has removed the file that we had opened: somebody may hold a new one by now.
            yield False
            return
        try:
            yield True
        finally:
            path.unlink()


def _results(cells: Sequence[Cell], futures: Mapping[Cell, Future[Transient | str]]) -> list[Transient | str]:
    """What came of each cell; raises what is no error of a provider: that ends the run."""
    for future in futures.values():
        if future.done() and (error := future.exception()):
            raise error
    return [futures[cell].result() for cell in cells]
