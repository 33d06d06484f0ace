"""volume: rows a day of each table and subject against the days before.

Judged is the last day that is over and has later rows after it: how many rows the day that is still coming in will
have, nobody knows, and that none come at all is the business of `staleness`. Days without rows count as none.

Distance is the modified z-score, 0.6745 (x - median) / MAD (B. Iglewicz and D. C. Hoaglin, How to Detect and Handle
Outliers, 1993, section 3.4), of the logarithm of the rows: half as many is as far as twice as many. The deviation is
taken to be at least `LEAST_DEVIATION`: bars come in the same number each day.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import polars as pl

from expectations.monitors.monitor import MEASURED, Monitor, View, measured, newest_moment
from lakehouse.catalog import tables
from lakehouse.contract import Table
from lakehouse.store import StoredTable

HISTORY = timedelta(days=28)
LEAST_DAYS = 14
"""Of history; with fewer nothing is judged."""
LEAST_WEEKS = 3
"""Of history with that day of the week, for comparing with it alone."""
LEAST_ROWS = 20
"""A day, by the median: what has fewer comes and goes."""
LEAST_DEVIATION = 0.1
"""Of the logarithm, about a tenth of the rows."""
LIMIT = 6.0
"""Above the 3.5 that Iglewicz and Hoaglin recommend: trading has bursts, and thousands of subjects are judged."""

_NORMAL = 0.6745
_PRESENT = timedelta(days=7)
"""A subject whose newest row is older has no present to judge."""


def look(view: View) -> pl.DataFrame:
    """Modified z-scores of the last whole day of every silver subject that is still coming in."""
    found = [
        distances(counts, table)
        for table, stored in _present(view)
        if (counts := _rows_a_day(stored, view.now)).height
    ]
    return pl.concat(found) if found else MEASURED.to_frame()


def distances(counts: pl.DataFrame, table: Table) -> pl.DataFrame:
    """From the rows of each subject and day (`day`, `rows`) how unusual the last but one day of each subject is.

    The lesser of two distances: from all days, and from the same days of the week, as some markets close.
    """
    rows, day, judged = pl.col("rows"), pl.col("day"), pl.col("judged")
    past, is_same = rows.filter(day < judged), day.dt.weekday() == judged.dt.weekday()
    same = rows.filter((day < judged) & is_same)
    of_day = rows.filter(day == judged).first()
    found = (
        _every_day(counts, table)
        .group_by(table.subject, maintain_order=True)
        .agg(
            measured=pl.min_horizontal(
                _distance(of_day, past), pl.when(same.len() >= LEAST_WEEKS).then(_distance(of_day, same))
            ),
            usual=past.median(),
            days=past.len(),
            rows=of_day,
            day=judged.first(),
        )
        .filter(pl.col("days") >= LEAST_DAYS, pl.col("usual") >= LEAST_ROWS)
        .with_columns(subject=pl.concat_str(table.subject, separator=" "))
    )
    said = pl.format("{}: {} rows on {}, usually {}", "subject", "rows", "day", pl.col("usual").round())
    return measured(found.with_columns(table=pl.lit(table.name), limit=LIMIT, summary=said))


def _distance(rows: pl.Expr, past: pl.Expr) -> pl.Expr:
    logs = past.log1p()
    deviation = (logs - logs.median()).abs().median().clip(LEAST_DEVIATION * _NORMAL)
    return _NORMAL * (rows.log1p() - logs.median()).abs() / deviation


def _every_day(counts: pl.DataFrame, table: Table) -> pl.DataFrame:
    """Every day from a subject's first to its last but one, which is the judged one; zero where it has no rows."""
    span = counts.group_by(table.subject, maintain_order=True).agg(
        day=pl.date_ranges(pl.col("day").min(), pl.col("day").max(), closed="left"),
        judged=pl.col("day").max() - timedelta(days=1),
    )
    days = span.explode("day").drop_nulls("day")
    return days.join(counts, on=[*table.subject, "day"], how="left").with_columns(pl.col("rows").fill_null(0))


def _present(view: View) -> Iterator[tuple[Table, StoredTable]]:
    """The tables of events that have rows of the last days, as their files' statistics say."""
    since = view.now - _PRESENT
    for table in tables().values():
        if table.layer != "silver" or table.range_column is None:
            continue
        stored = view.lake.store.find(table)
        if stored and (newest := newest_moment(stored)) and newest >= since:
            yield table, stored


def _rows_a_day(stored: StoredTable, now: datetime) -> pl.DataFrame:
    """Rows of each subject and day, of subjects with any in the last days."""
    table = stored.contract
    since = now - HISTORY - _PRESENT
    day = pl.col(table.time_column).dt.date()
    rows = stored.scan().filter(pl.col(table.time_column) >= since, pl.col(table.time_column) < now)
    counts = rows.group_by(*table.subject, day=day).agg(rows=pl.len().cast(pl.Int64))
    is_present = pl.col("day").max().over(table.subject) >= (now - _PRESENT).date()
    return counts.filter(is_present).collect(engine="streaming")


MONITOR = Monitor(
    name="volume",
    doc=f"Each subject's last whole day has about as many rows as the {HISTORY.days} days before it.",
    unit="modified z-score",
    severity="warning",
    look=look,
)
