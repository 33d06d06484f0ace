"""Coverage: what was asked for, what came, and how that is proven. Pure; stored by `lakehouse.ledger`.

A fetch leaves a record (`Fetched`) in the bronze commit that it describes. Of each stretch that it asked for, the
feed's proof makes claims (`Claim`): this is complete, this is missing. Claims are stored as statements of
`ops.coverage` and never changed; `resolve` says what they amount to by now.

| status      | rows                     | meaning                                                               |
|-------------|--------------------------|-----------------------------------------------------------------------|
| complete    | all                      | everything is here, as far as the proof reaches                       |
| repaired    | all                      | complete, and was missing or unavailable once                         |
| degraded    | some, perhaps all        | something came, but the proof is not whole                            |
| missing     | none                     | asked for and not received                                            |
| unavailable | none                     | the provider does not give it                                         |

What nobody has asked for is in no interval.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import orjson
import polars as pl

from lakehouse.contract import Table
from lakehouse.window import Window, iso, parse_moment

Status = Literal["complete", "repaired", "degraded", "missing", "unavailable"]
Outcome = Literal["answered", "failed", "refused"]

COVERED: tuple[Status, ...] = ("complete", "repaired")
"""What a reader may take for whole."""
REFUSED = "refused"
"""Proof of an interval that the provider refused: it may give it once a person has acted."""
DISPROVED = "disproved"
"""Proof of a claim that takes back whatever was said of its window before: a stream that showed later what it lost."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Pages that answer for one window of a fetch, in the order they came."""

    window: Window
    page_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What one fetch asked and got: the record in its bronze commit.

    `parts` follow each other in time of asking: where the fetch failed, all but the last are whole.
    `detail` says why it failed, without secrets.
    """

    subject: str
    window: Window
    asked_at: datetime
    recorded_at: datetime
    parts: tuple[Part, ...]
    new_pages: int
    outcome: Outcome = "answered"
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A window that a provider was asked for and answered to the end."""

    subject: str
    window: Window
    at: datetime
    """When the asking began: nothing later is covered."""

    @property
    def past(self) -> Window | None:
        """The part of the window that was past then."""
        end = min(self.window.end, self.at)
        return Window(self.window.start, end) if self.window.start < end else None


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What one proof says of one stretch of time, and what it cannot show, as a sentence."""

    window: Window
    status: Status
    proof: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    cannot_show: str = ""


Prove = Callable[[Asked, pl.DataFrame, pl.DataFrame], list[Claim]]
"""From what was asked, the pages of the answer and the rows parsed from them; pure."""

About = Callable[[str], Sequence[Mapping[str, str]]]
"""The subject columns of the table's rows that a feed's subject is about."""


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A claim as it was recorded, under its own `number`, which settles what one moment said twice."""

    claim: Claim
    recorded_at: datetime
    number: str
    run_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """What holds for a stretch of time by now; adjoining ones with one status and one kind of proof are joined."""

    window: Window
    status: Status
    proof: str
    cannot_show: str
    statements: tuple[Statement, ...]


_STRENGTH: Mapping[Status, int] = {"complete": 2, "degraded": 1, "missing": 0, "unavailable": 0}


def resolve(statements: Iterable[Statement]) -> list[Interval]:
    """Disjoint intervals, oldest first, that together are what the statements speak of.

    Rows that are held cannot be lost, so complete outweighs degraded, and that missing and unavailable; among
    equals the newest counts. What was disproved since does not count. The order of the statements does not matter.
    """
    runs: list[list[Interval]] = []
    for window, active in _sweep(sorted(statements, key=lambda one: one.claim.window)):
        interval = _judge(window, active)
        if runs and _continues(runs[-1][-1], interval):
            runs[-1].append(interval)
        else:
            runs.append([interval])
    return [_join(run) for run in runs]


def minus(window: Window, others: Iterable[Window]) -> list[Window]:
    """The parts of a window that lie in none of the others, oldest first."""
    left, start = [], window.start
    for other in sorted(others):
        if other.end <= start:
            continue
        if other.start >= window.end:
            break
        if start < other.start:
            left.append(Window(start, other.start))
        start = other.end
    if start < window.end:
        left.append(Window(start, window.end))
    return left


def overlap(window: Window, other: Window) -> Window | None:
    """The part that two windows share."""
    start, end = max(window.start, other.start), min(window.end, other.end)
    return Window(start, end) if start < end else None


def plan(wanted: Window, settled: Iterable[Window], *, step: timedelta | None = None) -> list[Window]:
    """What is still to be fetched: wanted minus settled, in windows of at most `step`, oldest first."""
    left = minus(wanted, settled)
    return left if step is None else [part for window in left for part in window.split(step)]


def received(record: Fetched) -> list[Window]:
    """What a fetch got to the end of and was past then; where it failed that is all but its last part."""
    whole = record.parts if record.outcome == "answered" else record.parts[:-1]
    asked = (Asked(subject=record.subject, window=part.window, at=record.asked_at) for part in whole)
    return [one.past for one in asked if one.past]


def is_settled(interval: Interval) -> bool:
    """Whether asking again is of no use: it is here, or the provider does not keep it.

    A refusal is not settled: it passes when the key or the address is put right.
    """
    return interval.status in COVERED or (interval.status == "unavailable" and interval.proof != REFUSED)


def clock(table: Table) -> str:
    """The column that a feed's windows bound: when a bar or a period begins, else when the fact happened."""
    return table.range_column or table.time_column


def period(interval: str) -> str:
    """The interval of a bar in the words of Polars: `1M` is `1mo`."""
    if not re.fullmatch(r"\d+[smhdwM]", interval):
        raise ValueError(f"{interval!r} is not the length of a bar, such as 1m, 1h or 1M")
    return interval.replace("M", "mo")


def write_records(records: Iterable[Fetched]) -> str:
    """Records of fetches as the text that a commit carries."""
    return orjson.dumps([_plain(record) for record in records]).decode()


def read_records(text: str) -> list[Fetched]:
    """The records that a commit carries."""
    return [_fetched(said) for said in orjson.loads(text)]


def _sweep(statements: Sequence[Statement]) -> Iterator[tuple[Window, list[Statement]]]:
    """Each stretch between two neighbouring bounds with the statements that speak of it; `statements` by start."""
    bounds = {bound for one in statements for bound in (one.claim.window.start, one.claim.window.end)}
    edges = sorted(bounds)
    coming = iter(statements)
    after = next(coming, None)
    active: list[Statement] = []
    for start, end in pairwise(edges):
        active = [one for one in active if one.claim.window.end > start]
        while after is not None and after.claim.window.start <= start:
            active.append(after)
            after = next(coming, None)
        if active:
            yield Window(start, end), active


def _judge(window: Window, active: Sequence[Statement]) -> Interval:
    in_order = _still_said(sorted(active, key=lambda one: (one.recorded_at, one.number)))
    winner = max(in_order, key=lambda one: (_STRENGTH[one.claim.status], one.recorded_at, one.number))
    status = winner.claim.status
    if status == "complete":
        before = next(n for n, one in enumerate(in_order) if one.claim.status == "complete")
        was_absent = any(one.claim.status in ("missing", "unavailable") for one in in_order[:before])
        status = "repaired" if was_absent else "complete"
    return Interval(
        window=window,
        status=status,
        proof=winner.claim.proof,
        cannot_show=winner.claim.cannot_show,
        statements=(winner,),
    )


def _still_said(in_order: Sequence[Statement]) -> Sequence[Statement]:
    """The statements from the last one on that takes back those before it."""
    last = max((n for n, one in enumerate(in_order) if one.claim.proof == DISPROVED), default=0)
    return in_order[last:]


def _continues(before: Interval, after: Interval) -> bool:
    alike = (before.status, before.proof, before.cannot_show) == (
        after.status,
        after.proof,
        after.cannot_show,
    )
    return alike and before.window.end == after.window.start


def _join(run: Sequence[Interval]) -> Interval:
    told = dict.fromkeys(one.statements[0].number for one in run)
    by_number = {one.statements[0].number: one.statements[0] for one in run}
    return replace(
        run[0],
        window=Window(run[0].window.start, run[-1].window.end),
        statements=tuple(by_number[number] for number in told),
    )


def _plain(record: Fetched) -> dict[str, Any]:
    return {
        "subject": record.subject,
        "window_start": iso(record.window.start),
        "window_end": iso(record.window.end),
        "asked_at": iso(record.asked_at),
        "recorded_at": iso(record.recorded_at),
        "outcome": record.outcome,
        "detail": record.detail,
        "pages": sum(len(part.page_ids) for part in record.parts),
        "new_pages": record.new_pages,
        "parts": [
            {
                "window_start": iso(part.window.start),
                "window_end": iso(part.window.end),
                "page_ids": part.page_ids,
            }
            for part in record.parts
        ],
    }


def _fetched(said: Mapping[str, Any]) -> Fetched:
    return Fetched(
        subject=said["subject"],
        window=_window(said),
        asked_at=parse_moment(said["asked_at"]),
        recorded_at=parse_moment(said["recorded_at"]),
        parts=tuple(Part(window=_window(part), page_ids=tuple(part["page_ids"])) for part in said["parts"]),
        new_pages=said["new_pages"],
        outcome=said["outcome"],
        detail=said["detail"],
    )


def _window(said: Mapping[str, Any]) -> Window:
    return Window(parse_moment(said["window_start"]), parse_moment(said["window_end"]))
