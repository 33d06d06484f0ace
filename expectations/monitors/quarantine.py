"""quarantine: rows that are held anew in large numbers, and rows that nobody has looked at for a month.

Rows of batches that were blocked whole are left out: `backlog` tells of those.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from expectations.monitors.monitor import Monitor, View, measured
from lakehouse.ops import QUARANTINE, VERDICTS
from lakehouse.publish import BLOCKED
from lakehouse.quarantine import aged

DAY = timedelta(days=1)
HISTORY_DAYS = 28
LEAST_ROWS = 10
"""So many anew in a day are never too many."""
USUAL_TIMES = 3.0
"""Of the mean of the days before."""
MOST_OF_JUDGED = 0.01
"""Share of the rows that gates judged in the same day."""
MOST_AGE = timedelta(days=30)


def look(view: View) -> pl.DataFrame:
    """Rows held anew in the last day, and rows held for more than 30 days, of each table with any."""
    is_single = ~pl.col("reasons").list.contains(BLOCKED)
    held = view.lake.scan(QUARANTINE.name, status="held").filter(is_single)
    since = view.now - DAY * (HISTORY_DAYS + 1)
    times = held.filter(pl.col("quarantined_at").is_between(since, view.now, closed="left"))
    judged = view.lake.scan(VERDICTS.name, start=view.now - DAY, end=view.now)
    rows = judged.group_by("table").agg(judged=pl.col("rows").sum()).collect()
    batches = aged(view.lake.store, view.now, MOST_AGE).filter(is_single)
    return pl.concat(
        [growth(times.select("table", "quarantined_at").collect(), rows, view.now), _old(batches)]
    )


def growth(held: pl.DataFrame, judged: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """What was held anew in the last day, beside what is usual and what gates judged in that day.

    `held` are the `table` and `quarantined_at` of rows held in the last 29 days.
    """
    at = pl.col("quarantined_at")
    found = (
        held.group_by("table")
        .agg(new=(at >= now - DAY).sum(), usual=(at < now - DAY).sum() / HISTORY_DAYS)
        .filter(pl.col("new") > 0)
        .join(judged, on="table", how="left")
        .sort("table")
    )
    allowed = pl.max_horizontal(
        pl.lit(float(LEAST_ROWS)),
        pl.col("usual") * USUAL_TIMES,
        pl.col("judged").fill_null(0) * MOST_OF_JUDGED,
    )
    said = pl.format("{}: {} rows held in a day, usually {}", "table", "new", pl.col("usual").round(1))
    return measured(
        found.with_columns(subject=pl.lit("held anew"), measured=pl.col("new"), limit=allowed, summary=said)
    )


def _old(batches: pl.DataFrame) -> pl.DataFrame:
    """From the batches with rows that have waited for too long, oldest first, how many rows that are."""
    old = batches.group_by("table", maintain_order=True).agg(
        measured=pl.col("rows").sum(), batch=pl.col("batch_id").first()
    )
    said = pl.format(
        "{}: {} rows are held for more than {} days; `mnemo quarantine show {}`",
        "table",
        "measured",
        pl.lit(MOST_AGE.days),
        "batch",
    )
    return measured(old.with_columns(subject=pl.lit("held for long"), limit=0.0, summary=said))


MONITOR = Monitor(
    name="quarantine",
    doc="The quarantine does not swell, and nothing waits in it for more than a month.",
    unit="rows",
    severity="warning",
    look=look,
)
