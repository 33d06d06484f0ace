"""How whole the lake is: coverage of each feed and subject over time, and the gaps with what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from deployments.ui import records
from deployments.ui.blocks import (
    Choice,
    Column,
    Form,
    Grid,
    Key,
    Link,
    Literally,
    Page,
    Share,
    Span,
    Stretch,
    Strip,
    Text,
    Tone,
    to,
)
from deployments.ui.shelf import Shelf
from lakehouse.coverage import COVERED, REFUSED
from lakehouse.window import iso

_SUBJECTS = 40
"""Subjects of a feed that are shown before one asks for the feed."""
_SLOTS = 200
_GAPS = 300
_WORST = {
    name: rank for rank, name in enumerate(["missing", "degraded", "unavailable", "repaired", "complete"])
}


def coverage(shelf: Shelf, asked: Mapping[str, str]) -> Page:
    """A strip of time for each subject of each feed."""
    found = records.coverage(shelf)
    names = sorted(found["feed"].unique().to_list())
    chosen = asked.get("feed", "")
    subject = asked.get("subject", "")
    shown = found.filter(pl.col("feed") == chosen) if chosen else found
    shown = shown.filter(pl.col("subject") == subject) if subject else shown
    grids = [
        _strips(str(feed), group, whole=bool(chosen))
        for (feed,), group in shown.sort("feed", "subject", "start").group_by("feed", maintain_order=True)
    ]
    options = [("", "all feeds"), *((name, name) for name in names)]
    form = Form(
        path="/coverage", choices=(Choice(name="feed", label="Feed", chosen=chosen, options=options),)
    )
    details = (_stretches(shown),) if subject and grids else ()
    nothing = () if grids else (Text("Nothing was fetched yet.", "muted"),)
    return Page(
        title="Coverage",
        lead="What was asked for and how far it is proven to be here. What nobody asked for is blank.",
        blocks=(form, Key(records.STATUSES), *grids, *details, *nothing),
    )


def gaps(shelf: Shelf, _asked: Mapping[str, str]) -> Page:
    """What was asked for and is not covered, and what was mended."""
    found = records.coverage(shelf)
    open_ = found.filter(~pl.col("status").is_in(COVERED)).sort("start", descending=True)
    mended = found.filter(pl.col("status") == "repaired").sort("recorded_at", descending=True)
    return Page(
        title="Gaps",
        lead="Holes that are known, why they are known, and whether asking again can fill them.",
        blocks=(
            _gap_grid("Open gaps", open_.head(_GAPS), open_.height, "no gaps in what was fetched"),
            _gap_grid("Repaired", mended.head(_GAPS), mended.height, "nothing had to be repaired yet"),
        ),
    )


def repair_state(gap: Mapping[str, Any]) -> tuple[str, str]:
    """What can be done about a gap, and the command that does it."""
    if gap["status"] == "repaired":
        return f"repaired {gap['recorded_at']:%Y-%m-%d %H:%M}", ""
    if gap["status"] == "unavailable" and gap["proof"] != REFUSED:
        return "the provider does not keep it", ""
    state = "refused: mend the key, then fetch" if gap["proof"] == REFUSED else "waits for a backfill"
    window = f"--start {iso(gap['start'])} --end {iso(gap['end'])}"
    return state, f"mnemo backfill {gap['feed']} --subject '{gap['subject']}' {window}"


def _strips(feed: str, found: pl.DataFrame, *, whole: bool) -> Grid:
    start, end = _edge(found, "start", "min"), _edge(found, "end", "max")
    subjects = found.partition_by("subject", maintain_order=True)
    shown = subjects if whole else subjects[:_SUBJECTS]
    rows = [[_subject(one), Share(*_covered(one)), _strip(one, start, end)] for one in shown]
    left = len(subjects) - len(shown)
    table = found["table"][0]
    return Grid(
        caption=f"{feed} fills {table}",
        columns=(
            Column("Subject"),
            Column("Covered", is_number=True),
            Column(f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}", is_wide=True),
        ),
        rows=rows,
        note=f"{left} more subjects: choose the feed above to see them" if left else "",
    )


def _stretches(found: pl.DataFrame) -> Grid:
    """Every stretch of one subject, the newest first."""
    rows = [
        [Stretch(one["start"], one["end"]), records.status(one["status"]), _proof(one), one["recorded_at"]]
        for one in found.sort("start", descending=True).head(_GAPS).iter_rows(named=True)
    ]
    columns = (
        Column("From, to"),
        Column("Status"),
        Column("How that is known", is_wide=True),
        Column("Recorded"),
    )
    note = f"the newest {_GAPS} of {found.height:,} are shown" if found.height > _GAPS else ""
    return Grid(caption=f"Stretches of {found['subject'][0]}", columns=columns, rows=rows, note=note)


def _subject(group: pl.DataFrame) -> Link:
    subject = str(group["subject"][0])
    short = subject if len(subject) <= 30 else f"{subject[:14]}…{subject[-14:]}"
    return Link(short, to("/coverage", feed=group["feed"][0], subject=subject))


def _covered(group: pl.DataFrame) -> tuple[float, Tone]:
    lengths = (group["end"] - group["start"]).dt.total_microseconds()
    good = lengths.filter(group["status"].is_in(COVERED)).sum()
    share = int(good) / int(lengths.sum()) if lengths.sum() else 1.0
    return share, "good" if share == 1 else "warn"


def _strip(group: pl.DataFrame, start: datetime, end: datetime) -> Strip:
    length = max((end - start).total_seconds(), 1e-6)
    spans = [
        Span(
            (row["start"] - start).total_seconds() / length,
            (row["end"] - start).total_seconds() / length,
            row["status"],
            f"{row['status']} {iso(row['start'])} to {iso(row['end'])}, proof {row['proof']}",
        )
        for row in group.iter_rows(named=True)
    ]
    counts = group["status"].value_counts(sort=True).iter_rows()
    return Strip(_thinned(spans), ", ".join(f"{number} {name}" for name, number in counts))


def _thinned(spans: Sequence[Span]) -> Sequence[Span]:
    """Few pieces out of many: of those in one slot the worst, so that no hole is lost."""
    if len(spans) <= _SLOTS:
        return spans
    slots: dict[int, list[Span]] = {}
    for span in spans:
        slots.setdefault(int(span.start * _SLOTS), []).append(span)
    return list(_worst_of_each(slots))


def _worst_of_each(slots: Mapping[int, Sequence[Span]]) -> Iterator[Span]:
    for inside in slots.values():
        worst = min(inside, key=lambda span: _WORST.get(span.status, 0))
        yield Span(inside[0].start, max(span.end for span in inside), worst.status, worst.label)


def _edge(found: pl.DataFrame, column: str, of: str) -> datetime:
    edge = found[column].min() if of == "min" else found[column].max()
    assert isinstance(edge, datetime)  # noqa: S101 - the ledger has no empty times
    return edge


def _proof(gap: Mapping[str, Any]) -> str:
    proof = gap["proof"].replace("_", " ")
    return f"{proof}; does not show {gap['cannot_show']}" if gap["cannot_show"] else proof


def _gap_grid(caption: str, found: pl.DataFrame, count: int, empty: str) -> Grid:
    rows = []
    for gap in found.iter_rows(named=True):
        state, command = repair_state(gap)
        rows.append(
            [
                Link(gap["feed"], to("/coverage", feed=gap["feed"])),
                gap["subject"],
                Stretch(gap["start"], gap["end"]),
                records.status(gap["status"]),
                _proof(gap),
                Literally(command) if command else state,
            ]
        )
    return Grid(
        caption=f"{caption}: {count:,}",
        columns=(
            Column("Feed"),
            Column("Subject"),
            Column("From, to"),
            Column("Status"),
            Column("How that is known", is_wide=True),
            Column("Repair", is_wide=True),
        ),
        rows=rows,
        note=f"the newest {_GAPS} are shown" if count > _GAPS else "",
        empty=empty,
    )
