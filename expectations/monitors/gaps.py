"""gaps: stretches of the last weeks that feeds were asked for and that are not covered.

Open is what asking again may still mend: missing, degraded, and unavailable because the provider refused. What a
provider does not keep is no gap that anybody can close. The last day is left out: the next fetches reach back over it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl

from expectations.monitors.monitor import Monitor, View, measured
from lakehouse.coverage import COVERED, REFUSED
from lakehouse.gaps import picture
from lakehouse.ops import COVERAGE

SINCE = timedelta(days=30)
"""An older gap has been there for all to see (`mnemo gaps`): nobody wants to hear of it each day."""
UNTIL = timedelta(days=1)
LIMIT_H = 0.0


def look(view: View) -> pl.DataFrame:
    """Hours that are open, for each feed and subject of which any are."""
    start, end = view.now - SINCE, view.now - UNTIL
    is_near = (pl.col("end") > start) & (pl.col("start") < end)
    ledger = view.lake.scan(COVERAGE.name).filter(is_near)
    is_wanting = (~pl.col("status").is_in(COVERED)).any().over("feed", "subject")
    return open_hours(picture(ledger.filter(is_wanting)), start, end)


def open_hours(intervals: pl.DataFrame, start: datetime, end: datetime) -> pl.DataFrame:
    """From the intervals of the ledger how many hours of `start` to `end` are open, by feed and subject."""
    is_closed = pl.col("status").is_in(COVERED) | (
        (pl.col("status") == "unavailable") & (pl.col("proof") != REFUSED)
    )
    inside = pl.min_horizontal("end", pl.lit(end)) - pl.max_horizontal("start", pl.lit(start))
    found = (
        intervals.filter(~is_closed)
        .select(
            "table",
            "status",
            "start",
            hours=inside.dt.total_seconds(fractional=True) / 3600,
            subject=pl.concat_str("feed", "subject", separator=" "),
        )
        .filter(pl.col("hours") > 0)
        .group_by("table", "subject", maintain_order=True)
        .agg(
            pl.col("start").min().dt.strftime("%Y-%m-%d %H:%M UTC"),
            pl.col("status").unique().sort().str.join(" or "),
            measured=pl.col("hours").sum(),
        )
    )
    said = pl.format(
        "{}: {} h are {}, the first from {} on", "subject", pl.col("measured").round(2), "status", "start"
    )
    return measured(found.with_columns(limit=LIMIT_H, summary=said))


MONITOR = Monitor(
    name="gaps",
    doc=f"Nothing that was asked for of the last {SINCE.days} days, today left out, is open.",
    unit="h",
    severity="warning",
    look=look,
)
