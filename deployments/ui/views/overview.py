"""What the lake holds: every stored table with its rows, span, freshness, last verdict and what is held back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from deployments.ui import records
from deployments.ui.blocks import (
    Badge,
    Block,
    Bytes,
    Column,
    Grid,
    Link,
    Page,
    Share,
    Stat,
    Stats,
    Text,
    Tone,
    to,
)
from deployments.ui.shelf import Facts, Shelf
from lakehouse.coverage import COVERED

_LAYERS = {
    "gold": "Gold: features, built from silver",
    "silver": "Silver: facts, judged before they are published",
    "bronze": "Bronze: pages, the bytes that providers sent",
    "ops": "Ops: the lake about itself",
}
_LATE, _SOON = 1.0, 0.8
"""Shares of a freshness target: from the first on a table is late, from the second on it soon is."""


def overview(shelf: Shelf, _asked: Mapping[str, str]) -> Page:
    """The first page."""
    now, facts = shelf.now(), shelf.facts()
    if not facts:
        return Page(title="The lake", blocks=(_empty(),))
    layers = {name: list(found) for name, found in groupby(facts, key=lambda one: one.table.layer)}
    grids = [_grid(shelf, name, layers[name], now) for name in _LAYERS if name in layers]
    blocks: list[Block] = [Stats(list(_stats(shelf, facts, now))), *_troubles(facts), *grids]
    return Page(
        title="The lake", lead=f"{shelf.lake.store.root}, as of {now:%Y-%m-%d %H:%M} UTC", blocks=blocks
    )


def age(seconds: float) -> str:
    """A stretch of time in its largest unit: 40 s, 12 min, 5 h, 3 d."""
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def freshness(one: Facts, now: datetime) -> Share | str | None:
    """How much of the table's freshness target has passed since its newest row; without a target its age."""
    seconds = one.age_s(now)
    if seconds is None:
        return None
    if one.table.freshness is None:
        return age(seconds)
    passed = seconds / one.table.freshness.total_seconds()
    tone: Tone = "bad" if passed > _LATE else "warn" if passed > _SOON else "good"
    return Share(min(passed, 1.0), tone, f"{age(seconds)} of {age(one.table.freshness.total_seconds())}")


def is_late(one: Facts, now: datetime) -> bool:
    """Whether a table has had no new row for longer than it promises."""
    seconds, target = one.age_s(now), one.table.freshness
    return seconds is not None and target is not None and timedelta(seconds=seconds) > target


def _empty() -> Text:
    return Text(
        "The lake is empty: nothing was ever written. `mnemo demo` fills one; `mnemo ingest` fetches.", "warn"
    )


def _stats(shelf: Shelf, facts: Sequence[Facts], now: datetime) -> Iterator[Stat]:
    rows = sum(one.rows for one in facts if one.table.layer in ("silver", "gold"))
    yield Stat("rows in silver and gold", f"{rows:,}", f"{len(facts)} tables")
    targets = [one for one in facts if one.table.freshness is not None and one.newest_row_at is not None]
    late = [one for one in targets if is_late(one, now)]
    yield Stat(
        "fresh", f"{len(targets) - len(late)} of {len(targets)}", "against target", "bad" if late else "good"
    )
    levels = [verdict["level"] for verdict in records.last_verdicts(shelf).values()]
    blocked, warned = levels.count("blocked"), levels.count("warning")
    tone: Tone = "bad" if blocked else "warn" if warned else "good"
    said = f"{warned} with a warning, {blocked} blocked"
    yield Stat("last verdicts passed", f"{levels.count('passed')} of {len(levels)}", said, tone, "/verdicts")
    held = sum(records.held(shelf).values())
    yield Stat("held in quarantine", f"{held:,}", "rows and pages", "warn" if held else "good", "/quarantine")
    found = records.coverage(shelf)
    gaps = found.filter(~found["status"].is_in(COVERED)).height
    yield Stat(
        "known gaps", f"{gaps:,}", f"in {found.height:,} stretches", "warn" if gaps else "good", "/gaps"
    )


def _troubles(facts: Sequence[Facts]) -> Iterator[Text]:
    for one in facts:
        if one.trouble:
            yield Text(f"{one.table.name}: {one.trouble}", "bad")


def _grid(shelf: Shelf, layer: str, facts: Sequence[Facts], now: datetime) -> Grid:
    judged, held = records.last_verdicts(shelf), records.held(shelf)
    is_judged = layer in ("silver", "gold")
    columns = [
        Column("Table"),
        Column("Rows", is_number=True),
        Column("From"),
        Column("To"),
        Column("Size", is_number=True),
    ]
    if is_judged:
        columns += [
            Column("Newest row", hint="age against the target"),
            Column("Verdict"),
            Column("Held", is_number=True),
        ]
    rows = []
    for one in facts:
        name = one.table.name
        row: list[object] = [
            Link(name.partition(".")[2], to("/table", name=name)),
            one.rows,
            one.start,
            one.end,
        ]
        row.append(Bytes(one.size_bytes))
        if is_judged:
            row += [freshness(one, now), _verdict(judged.get(name)), held.get(name, 0) or None]
        rows.append(row)
    return Grid(caption=_LAYERS[layer], columns=columns, rows=rows)


def _verdict(last: Mapping[str, object] | None) -> Badge | None:
    return records.level(str(last["level"])) if last else None
