"""How the gates judged, and what they held back: verdicts over time, quarantine by reason with example rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import polars as pl

from deployments.ui import figures, records
from deployments.ui.blocks import Badge, Block, Choice, Column, Figure, Form, Grid, Link, Literally, Page, to
from deployments.ui.shelf import Shelf
from lakehouse import catalog
from lakehouse.conform import explain_reason
from lakehouse.ops import QUARANTINE, VERDICTS

_VERDICTS = 400
_EXAMPLES = 40
_ROW_CHARACTERS = 600
_MARKS = {"passed": "circle", "warning": "diamond", "blocked": "x"}


def verdicts(shelf: Shelf, asked: Mapping[str, str]) -> Page:
    """The history of the gates, newest first."""
    chosen = asked.get("table", "")
    found = shelf.once(("verdicts", chosen), (VERDICTS.name,), lambda: _newest_verdicts(shelf, chosen))
    options = [("", "all tables"), *((name, name) for name in sorted(records.last_verdicts(shelf)))]
    blocks: list[Block] = [
        Form(path="/verdicts", choices=(Choice(name="table", label="Table", chosen=chosen, options=options),))
    ]
    if found.height:
        blocks.append(_history(found))
    blocks.append(_verdict_grid(found))
    lead = "Every batch is judged as a whole before any of it is published. A verdict links to its page of findings."
    return Page(title="Gates", lead=lead, blocks=blocks)


def quarantine(shelf: Shelf, asked: Mapping[str, str]) -> Page:
    """What is held back and why."""
    table, reason = asked.get("table", ""), asked.get("reason", "")
    reasons = shelf.once("reasons", (QUARANTINE.name,), lambda: _reasons(shelf))
    examples = _examples(shelf, table, reason)
    lead = "Nothing is lost: what may not be published waits here with its reasons, and can be judged again."
    return Page(
        title="Quarantine", lead=lead, blocks=(_reason_grid(reasons), _example_grid(examples, table, reason))
    )


def _newest_verdicts(shelf: Shelf, table: str) -> pl.DataFrame:
    rows = records.verdicts(shelf)
    rows = rows.filter(pl.col("table") == table) if table else rows
    return rows.sort("judged_at", descending=True).head(_VERDICTS).collect()


def _history(found: pl.DataFrame) -> Figure:
    traces = []
    for level, group in found.group_by("level", maintain_order=True):
        name = str(level[0])
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": figures.times(group["judged_at"]),
                "y": group["table"].to_list(),
                "customdata": [f"/{key}" if key else "" for key in group["docs_key"].to_list()],
                "marker": {"symbol": _MARKS[name], "size": 9, "color": figures.LEVELS[name]},
            }
        )
    tables = found["table"].n_unique()
    counts = ", ".join(
        f"{count} {name}" for name, count in found["level"].value_counts(sort=True).iter_rows()
    )
    layout = figures.layout(
        yaxis={"categoryorder": "category descending", "automargin": True, "showgrid": True, "dtick": 1},
    )
    return Figure(
        name="verdicts",
        caption="Verdicts over time",
        summary=f"The newest {found.height} verdicts of {tables} tables: {counts}.",
        data=traces,
        layout=layout,
        height=max(180, 110 + 19 * tables),
    )


def _verdict_grid(found: pl.DataFrame) -> Grid:
    rows = [
        [
            Link(f"{one['judged_at']:%Y-%m-%d %H:%M:%S}", f"/{one['docs_key']}")
            if one["docs_key"]
            else one["judged_at"],
            Link(one["table"], to("/table", name=one["table"])),
            records.level(one["level"]),
            one["rows"],
            one["published_rows"],
            one["quarantined_rows"] or None,
            said(one["reasons"]),
            Literally(one["batch_id"]),
        ]
        for one in found.iter_rows(named=True)
    ]
    names = (
        "Judged (UTC)",
        "Table",
        "Verdict",
        "Rows",
        "Published",
        "Held back",
        "Reasons and remarks",
        "Batch",
    )
    numbers = ("Rows", "Published", "Held back")
    columns = [Column(name, is_number=name in numbers, is_wide=name.startswith("Reasons")) for name in names]
    note = f"the newest {_VERDICTS} are shown" if found.height == _VERDICTS else ""
    return Grid(caption="Verdicts", columns=columns, rows=rows, note=note, empty="nothing was judged yet")


def said(reasons: str) -> str:
    """Reasons and how often each, in words."""
    return ", ".join(
        f"{name.replace('_', ' ')} {count:,}" for name, count in orjson.loads(reasons or "{}").items()
    )


def _reasons(shelf: Shelf) -> pl.DataFrame:
    rows = shelf.scan(QUARANTINE.name).select("table", "reasons", "status", "quarantined_at")
    counted = (
        rows.explode("reasons")
        .group_by("table", "reasons")
        .agg(rows=pl.len(), held=(pl.col("status") == "held").sum(), newest=pl.col("quarantined_at").max())
    )
    return counted.sort("held", "rows", descending=True).collect(engine="streaming")


def _reason_grid(found: pl.DataFrame) -> Grid:
    rows = [
        [
            Link(
                one["reasons"].replace("_", " "), to("/quarantine", table=one["table"], reason=one["reasons"])
            ),
            one["table"],
            one["held"],
            one["rows"] - one["held"] or None,
            one["newest"],
            _meaning(one["table"], one["reasons"]),
        ]
        for one in found.iter_rows(named=True)
    ]
    columns = (
        Column("Reason"),
        Column("Table"),
        Column("Held", is_number=True),
        Column("Released", is_number=True),
        Column("Newest"),
        Column("Meaning", is_wide=True),
    )
    return Grid(caption="By reason", columns=columns, rows=rows, empty="the quarantine is empty")


def _meaning(table: str, reason: str) -> str:
    said_ = explain_reason(catalog.tables()[table], reason) if table in catalog.tables() else reason
    return "" if said_ == reason else said_


def _examples(shelf: Shelf, table: str, reason: str) -> Sequence[Mapping[str, Any]]:
    rows = shelf.scan(QUARANTINE.name)
    rows = rows.filter(pl.col("table") == table) if table else rows
    rows = rows.filter(pl.col("reasons").list.contains(reason)) if reason else rows
    return (
        rows.top_k(_EXAMPLES, by="quarantined_at")
        .collect()
        .sort("quarantined_at", descending=True)
        .to_dicts()
    )


def _example_grid(found: Sequence[Mapping[str, Any]], table: str, reason: str) -> Grid:
    rows = [
        [
            one["quarantined_at"],
            one["table"],
            Badge(one["status"], "warn" if one["status"] == "held" else "good"),
            one["explanation"],
            Literally(_shortened(one["row"])) if one["row"] else "a page that nobody can read",
            Literally(one["batch_id"]),
        ]
        for one in found
    ]
    columns = (
        Column("Since"),
        Column("Table"),
        Column("Status"),
        Column("Why", is_wide=True),
        Column("Row", is_wide=True),
        Column("Batch"),
    )
    about = " ".join(one for one in (reason.replace("_", " "), f"of {table}" if table else "") if one)
    caption = f"Example rows, {about}" if about else "Example rows, newest first"
    return Grid(caption=caption, columns=columns, rows=rows, empty="nothing is held back")


def _shortened(text: str) -> str:
    """A row's JSON, with room to break its lines."""
    spaced = text.replace('","', '", "').replace(',"', ', "')
    return spaced if len(spaced) <= _ROW_CHARACTERS else f"{spaced[:_ROW_CHARACTERS]}…"
