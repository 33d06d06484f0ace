"""Repair of streams: trades that were not received are asked for over REST, by the feed that backfills use.

What comes is merged by the key of silver.trades, and the ledger calls the stretch repaired; what the venue no longer
gives stays missing. Candles follow, since new trades dirty them.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import polars as pl
import structlog

from lakehouse.coverage import COVERED, resolve
from lakehouse.errors import MnemoError
from lakehouse.gaps import statements
from lakehouse.ops import COVERAGE
from lakehouse.store import Store
from lakehouse.streamed import Streamed
from lakehouse.window import Window
from sources.feed import Feed
from sources.stream import UNPROVEN

log = structlog.get_logger()

FEED = "ccxt_trades"
SETTLES_AFTER = timedelta(seconds=10)
"""A venue's REST answers lag behind its stream."""
JOIN_WITHIN = timedelta(seconds=5)
LOOK_BACK = timedelta(hours=24)
"""How far back a recorder that starts mends what earlier ones left open."""

Order = tuple[str, Window]


class Repairs:
    """A thread that fetches what was missed, one stretch after the other, within the venue's limits.

    `fetch(subject, window)` is to leave the pages in bronze; what it raises is logged, and the stretch stays open.
    """

    def __init__(
        self,
        fetch: Callable[[str, Window], object],
        now: Callable[[], datetime],
        *,
        settles_after: timedelta = SETTLES_AFTER,
    ) -> None:
        self._fetch, self._now, self._settles_after = fetch, now, settles_after
        self._missed: queue.SimpleQueue[Streamed] = queue.SimpleQueue()
        self._open: list[Order] = []
        self._over = threading.Event()
        self.done: list[Order] = []
        self.failed: list[Order] = []
        self._thread = threading.Thread(target=self._repair_forever, name="repairs", daemon=True)

    def __enter__(self) -> Repairs:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What is still open is asked for once more, right away."""
        self._over.set()
        self._thread.join()

    def miss(self, claim: Streamed) -> None:
        """A stretch of a stream that was not received whole; only trades can be asked for again."""
        if claim.channel == "trades" and claim.claim.proof != UNPROVEN:
            self._missed.put(claim)

    def add(self, orders: Iterable[Order]) -> None:
        """Stretches to be asked for; call it before the thread runs."""
        self._open += orders

    def _repair_forever(self) -> None:
        while not self._over.wait(0.2):
            self._repair(upto=self._now() - self._settles_after)
        self._repair(upto=self._now())

    def _repair(self, upto: datetime) -> None:
        while not self._missed.empty():
            claim = self._missed.get()
            self._open = joined([*self._open, (claim.subject, claim.claim.window)])
        due = [one for one in self._open if one[1].end <= upto]
        self._open = [one for one in self._open if one not in due]
        for subject, window in due:
            self._ask(subject, window)

    def _ask(self, subject: str, window: Window) -> None:
        try:
            self._fetch(subject, window)
        except MnemoError as error:
            log.warning(
                "what a stream missed stays missing", subject=subject, window=str(window), reason=str(error)
            )
            self.failed.append((subject, window))
        else:
            log.info("what a stream missed was fetched", subject=subject, window=str(window))
            self.done.append((subject, window))


def left_open(store: Store, feeds: Iterable[Feed], subjects: Iterable[str], now: datetime) -> list[Order]:
    """What the ledger says streams of these subjects have missed lately and nobody has mended."""
    ledger = store.find(COVERAGE)
    wanted = list(subjects)
    names = [feed.name for feed in feeds if feed.channel == "trades"]
    if ledger is None or not names:
        return []
    rows = (
        ledger.scan()
        .filter(
            pl.col("feed").is_in([*names, FEED]),
            pl.col("subject").is_in(wanted),
            pl.col("end") > now - LOOK_BACK,
        )
        .collect()
    )
    return [
        (str(subject), interval.window)
        for (subject,), told in rows.group_by("subject", maintain_order=True)
        for interval in resolve(statements(told))
        if interval.status not in COVERED and interval.status != "unavailable" and interval.proof != UNPROVEN
    ]


def joined(orders: Iterable[Order]) -> list[Order]:
    """The same stretches, those of one subject that lie close together as one."""
    found: list[Order] = []
    for subject, window in sorted(orders):
        if found and found[-1][0] == subject and window.start <= found[-1][1].end + JOIN_WITHIN:
            before = found.pop()[1]
            found.append((subject, Window(before.start, max(before.end, window.end))))
        else:
            found.append((subject, window))
    return found
