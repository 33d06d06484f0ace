"""Reconciliation: how many of the bars made here agree with the same bars made by others, by venue and day."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from deployments.ui import figures
from deployments.ui.blocks import Badge, Block, Column, Figure, Grid, Link, Page, Share, Text, to
from deployments.ui.shelf import Shelf
from lakehouse.gold.reconciliation_days import TABLE
from lakehouse.read import newest

_DAYS = 120
_ROWS = 200
_REASONS = [name for name in TABLE.schema.names() if name.endswith("_bars") and name != "equal_bars"]


def reconciliation(shelf: Shelf, _asked: Mapping[str, str]) -> Page:
    """The newest days, as a map and as a table with the worst first."""
    found = shelf.once("reconciled", (TABLE.name,), lambda: _days(shelf))
    if found.is_empty():
        return Page(title="Reconciliation", blocks=(Text("Nothing to compare yet.", "muted"),))
    lead = "Bars made here beside the same bars made by the venue or by CoinMetrics: the share that agrees, day by day."
    blocks: tuple[Block, ...] = (_map(found), _grid(found))
    return Page(title="Reconciliation", lead=lead, blocks=blocks)


def _days(shelf: Shelf) -> pl.DataFrame:
    rows = shelf.scan(TABLE.name)
    days = rows.select(pl.col("day").unique().top_k(_DAYS))
    subject = pl.concat_str(
        pl.format("{}:{} {}", "venue", "instrument_id", "interval"),
        pl.format(" from {}, against {}", "rebuilt_from", "against"),
    )
    return (
        newest(rows.join(days, on="day", how="semi"), TABLE)
        .with_columns(subject=subject)
        .sort("subject", "day")
        .collect()
    )


def _map(found: pl.DataFrame) -> Figure:
    days = sorted(found["day"].unique().to_list())
    subjects = sorted(found["subject"].unique().to_list(), reverse=True)
    shares = {(row["subject"], row["day"]): row for row in found.iter_rows(named=True)}
    cells = [[shares.get((subject, day)) for day in days] for subject in subjects]
    agreeing = found.filter(pl.col("share") >= pl.col("required_share")).height
    return Figure(
        name="reconciliation",
        caption="Share of bars that agree",
        summary=f"{agreeing} of {found.height} days reach the share that is required; {len(subjects)} comparisons.",
        data=[
            {
                "type": "heatmap",
                "x": [f"{day:%Y-%m-%d}" for day in days],
                "y": subjects,
                "z": [[None if cell is None else round(cell["share"], 4) for cell in row] for row in cells],
                "zmin": 0,
                "zmax": 1,
                "colorscale": [[0, figures.BAD], [0.9, figures.WARN], [1, figures.GOOD]],
                "customdata": [["" if cell is None else _table_link(cell) for cell in row] for row in cells],
                "hovertemplate": "%{y}<br>%{x}: %{z:.1%}<extra></extra>",
                "xgap": 2,
                "ygap": 2,
                "colorbar": {"tickformat": ".0%", "thickness": 8, "outlinewidth": 0, "len": 1},
            }
        ],
        layout=figures.layout(xaxis={"type": "category", "showgrid": False}, yaxis={"showgrid": False}),
        height=max(160, 110 + 30 * len(subjects)),
    )


def _grid(found: pl.DataFrame) -> Grid:
    worst = found.sort("share", "day", descending=[False, True]).head(_ROWS)
    rows = [
        [
            Link(f"{one['day']:%Y-%m-%d}", _table_link(one)),
            one["venue"],
            one["instrument_id"],
            one["interval"],
            f"{one['rebuilt_from']} against {one['against']}",
            one["bars"],
            Share(one["share"], "good" if one["share"] >= one["required_share"] else "bad"),
            Badge("agrees", "good") if one["share"] >= one["required_share"] else Badge("differs", "bad"),
            _why(one),
        ]
        for one in worst.iter_rows(named=True)
    ]
    names = ("Day", "Venue", "Instrument", "Interval", "Compared", "Bars", "Agreeing", "", "Why bars differ")
    columns = [
        Column(name, is_number=name in ("Bars", "Agreeing"), is_wide=name.startswith("Why")) for name in names
    ]
    return Grid(caption="Days, the worst first; each leads to its explanation", columns=columns, rows=rows)


def _why(one: Mapping[str, int]) -> str:
    counts = {name.removesuffix("_bars").replace("_", " "): one[name] for name in _REASONS if one[name]}
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _table_link(row: Mapping[str, object]) -> str:
    return to("/explain", table=TABLE.name, **{name: row[name] for name in TABLE.identity})
