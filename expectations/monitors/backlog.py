"""backlog: what waits to be promoted: batches that were blocked whole, and pages that nobody has promoted.

That a batch is blocked, its gate tells at once, and takes back when the next one passes. Here it is told as long as
somebody has to act: of a silver table while rows of it are held; of a gold table until a later batch passes, which
builds the missing rows again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

import polars as pl

from expectations.monitors.monitor import Monitor, View, measured
from lakehouse.bronze import bronze_table
from lakehouse.catalog import tables
from lakehouse.ops import QUARANTINE, VERDICTS
from lakehouse.promotion import position_name
from lakehouse.publish import BLOCKED
from lakehouse.store import StoredTable

MOST_BLOCKED = timedelta(days=1)
"""Since the oldest blocked batch was held."""
MOST_UNREAD = timedelta(days=2)
"""From a page's commit until a table has consumed it: a daily run that was left out once is no alarm."""

_DAY = timedelta(days=1)
_ENTRIES = 20
"""Of a log, that are read to find the first commit with pages; upkeep commits too."""


def look(view: View) -> pl.DataFrame:
    """Days that blocked batches of each table wait, and that pages wait for each table (limits 1 and 2)."""
    held = view.lake.scan(QUARANTINE.name, status="held").filter(pl.col("reasons").list.contains(BLOCKED))
    since = pl.col("quarantined_at").min()
    batches = held.group_by("table", "batch_id").agg(rows=pl.len(), since=since).collect()
    waiting = measured(_waiting(view))
    if batches.is_empty():
        return waiting
    verdicts = view.lake.scan(VERDICTS.name).filter(
        pl.col("table").is_in(batches["table"].unique().implode())
    )
    judged = verdicts.select("table", "batch_id", "level", "judged_at", "docs_key").collect()
    return pl.concat([blocked(batches, judged, view.now), waiting])


def blocked(held: pl.DataFrame, verdicts: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """From held rows by batch, and the verdicts of their tables, how long each table's have been waiting."""
    last = verdicts.sort("judged_at").group_by("table").agg(last=pl.col("level").last())
    is_open = ~pl.col("table").str.starts_with("gold.") | (pl.col("last") == "blocked")
    found = (
        held.join(verdicts.select("batch_id", "docs_key"), on="batch_id", how="left")
        .join(last, on="table", how="left")
        .filter(is_open)
        .sort("since")
        .group_by("table")
        .agg(
            pl.col("rows").sum(),
            pl.col("since").min(),
            batches=pl.col("batch_id").n_unique(),
            batch=pl.col("batch_id").last(),
            link=pl.col("docs_key").last().fill_null(""),
        )
        .sort("table")
    )
    days = (pl.lit(now) - pl.col("since")).dt.total_seconds(fractional=True) / _DAY.total_seconds()
    said = pl.format(
        "{}: {} rows of {} blocked batches are held, since {}; `mnemo quarantine show {}`",
        "table",
        "rows",
        "batches",
        pl.col("since").dt.strftime("%Y-%m-%d %H:%M UTC"),
        "batch",
    )
    return measured(
        found.with_columns(
            subject=pl.lit("blocked batches"), measured=days, limit=MOST_BLOCKED / _DAY, summary=said
        )
    )


def _waiting(view: View) -> Iterator[dict[str, object]]:
    store = view.lake.store
    silver = [one for table in tables().values() if table.layer == "silver" and (one := store.find(table))]
    for name in store.files.folders("bronze/"):
        pages = store.find(bronze_table(name))
        for consumer, position in _consumers(pages, silver) if pages else ():
            if pages and (since := _first_unread(pages, position)):
                yield _wait(consumer, pages.contract.name, view.now - since)


def _consumers(pages: StoredTable, silver: Sequence[StoredTable]) -> list[tuple[str, int]]:
    """Tables that have consumed pages of a bronze table, each up to which version; nobody is itself, at the start."""
    positions = [(one.contract.name, one.consumed(position_name(one.contract, pages))) for one in silver]
    return [one for one in positions if one[1] >= 0] or [(pages.contract.name, -1)]


def _first_unread(pages: StoredTable, position: int) -> datetime | None:
    """When the first commit with pages after a position was made; None where there is none."""
    if position >= pages.version:
        return None
    upto = min(pages.version, position + _ENTRIES)
    first = next((version for version, said in pages.commits(position, upto) if said), None)
    return None if first is None else pages.committed_at(first)


def _wait(consumer: str, source: str, waited: timedelta) -> dict[str, object]:
    days = waited / _DAY
    return {
        "table": consumer,
        "subject": f"pages of {source}",
        "measured": max(days, 0.0),
        "limit": MOST_UNREAD / _DAY,
        "summary": f"pages of {source} wait for {days:.1f} days to be promoted; `mnemo promote` does that",
    }


MONITOR = Monitor(
    name="backlog",
    doc="No batch stays blocked, and no pages wait long to be promoted.",
    unit="days",
    severity="critical",
    look=look,
)
