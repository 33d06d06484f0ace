"""What a backfill is going to ask for: wanted minus covered, in cells on one grid, with what it costs.

Nothing is remembered but what the lake holds: a run that was killed is resumed by planning again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from lakehouse.coverage import minus
from lakehouse.errors import UsageError
from lakehouse.settled import Settled
from lakehouse.store import Store
from lakehouse.window import Window
from sources.client import Client
from sources.feed import Feed
from sources.proofs import snapshot
from sources.quota import Quota

Direction = Literal["newest-first", "oldest-first"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A stretch of one subject's time that is fetched at once, and what of it is missing as planned."""

    subject: str
    window: Window
    missing: tuple[Window, ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A subject's part of a plan."""

    subject: str
    windows: int
    start: datetime | None
    end: datetime | None
    requests: int
    seconds: float
    """At the pace that the provider allows."""
    quota: Quota | None
    left_today: int | None
    """What the day's budget has left for all subjects; None where there is none."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a backfill is going to ask for."""

    feed: Feed
    cells: tuple[Cell, ...]
    """In the order of their asking."""
    parts: tuple[Part, ...]

    def records(self) -> list[dict[str, Any]]:
        """The plan as plain values, one record a subject."""
        return [
            {
                "feed": self.feed.name,
                "subject": part.subject,
                "windows": part.windows,
                "start": part.start,
                "end": part.end,
                "requests": part.requests,
                "is_exact": self.feed.cost is not None,
                "seconds": part.seconds,
                "limit": str(part.quota or "not known"),
                "left_today": part.left_today,
            }
            for part in self.parts
        ]

    @property
    def requests(self) -> int:
        """About how many requests it takes."""
        return sum(part.requests for part in self.parts)

    @property
    def seconds(self) -> float:
        """How long that takes at the providers' pace; hosts are asked side by side."""
        by_host: defaultdict[str, float] = defaultdict(float)
        for part in self.parts:
            by_host[host_of(part.quota)] += part.seconds
        return max(by_host.values(), default=0.0)


def plan(
    store: Store, feed: Feed, subjects: Sequence[str], wanted: Window, *, client: Client, order: Direction
) -> Plan:
    """What of the wanted window, as far as it is past, is not covered, in cells of the feed's step.

    Raises UsageError for a feed that tells only the present, and where a subject is malformed.
    """
    if feed.proof is snapshot:
        raise UsageError(
            f"{feed.name} tells only what holds now: there is no past to fetch; use `mnemo ingest`"
        )
    past = Window(wanted.start, min(wanted.end, max(client.now(), wanted.start + timedelta(microseconds=1))))
    settled = Settled(store, feed.source).windows_of(dict.fromkeys(subjects))
    cells = {subject: list(_cells(feed, subject, past, windows)) for subject, windows in settled.items()}
    in_order = sorted(
        (cell for found in cells.values() for cell in found),
        key=lambda cell: cell.window.start,
        reverse=order == "newest-first",
    )
    parts = tuple(_part(feed, subject, found, client) for subject, found in cells.items())
    return Plan(feed=feed, cells=tuple(in_order), parts=parts)


def grid(window: Window, step: timedelta | None) -> Iterator[Window]:
    """The window, cut at whole multiples of the step since 1970: whoever cuts, the cuts are the same."""
    if step is None:
        yield window
        return
    start = window.start
    while start < window.end:
        cut = _EPOCH + ((start - _EPOCH) // step + 1) * step
        yield Window(start, min(cut, window.end))
        start = cut


def still_missing(feed: Feed, subject: str, window: Window, settled: Iterable[Window]) -> list[Window]:
    """What of a window is still to be asked for: the parts that are not settled, or one that spans them all.

    One is asked for where that takes no more requests.
    """
    parts = minus(window, settled)
    if len(parts) > 1:
        span = Window(parts[0].start, parts[-1].end)
        if _requests(feed, subject, [span]) <= _requests(feed, subject, parts):
            return [span]
    return parts


def _cells(feed: Feed, subject: str, past: Window, settled: Sequence[Window]) -> Iterator[Cell]:
    for window in grid(past, feed.step(subject) if feed.step else None):
        if missing := still_missing(feed, subject, window, settled):
            yield Cell(subject=subject, window=window, missing=tuple(missing))


def _part(feed: Feed, subject: str, cells: Sequence[Cell], client: Client) -> Part:
    quota = feed.quota(client.settings, subject) if feed.quota else None
    windows = [window for cell in cells for window in cell.missing]
    requests = _requests(feed, subject, windows)
    return Part(
        subject=subject,
        windows=len(cells),
        start=min((window.start for window in windows), default=None),
        end=max((window.end for window in windows), default=None),
        requests=requests,
        seconds=round(requests * quota.units_a_request * quota.pace_s, 1) if quota else 0.0,
        quota=quota,
        left_today=client.requests_left(quota) if quota else None,
    )


def _requests(feed: Feed, subject: str, windows: Iterable[Window]) -> int:
    return sum(feed.cost(subject, window) if feed.cost else 1 for window in windows)


def host_of(quota: Quota | None) -> str:
    """Names whose limits are meant; empty where none are known."""
    return quota.name if quota else ""
