"""Figures of published batches: what a table's next batch is compared with.

They lie in the commits that publish (`said["figures"]`), one row a subject and measure, so that looking back costs the
same however much is stored: the log entries of the last few are read, no data. An entry that upkeep has taken from the
log is a batch less.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

if TYPE_CHECKING:
    from lakehouse.contract import Table
    from lakehouse.store import StoredTable

ROWS_A_DAY = "rows a day"
"""The measure that every subject has: the median of its rows by day of the time column."""

FIGURES = "figures"
_LEVEL = "level of "
_UTC_US = pl.Datetime("us", "UTC")
_OF_A_BATCH = pl.Schema(
    {
        "subject": pl.String(),
        "first": _UTC_US,
        "last": _UTC_US,
        "days": pl.Int64(),
        "rows": pl.Int64(),
        "measure": pl.String(),
        "value": pl.Float64(),
    }
)
PAST = pl.Schema({"judged_at": _UTC_US, **_OF_A_BATCH})
_BATCHES = 5
_COMMITS = 20
"""How far to look for them: upkeep and batches without good rows commit as well."""
_MOST = 200
"""Figures of one commit: those of the subjects with the most rows."""


def figures(
    rows: pl.LazyFrame, *, subject: Sequence[str], clock: str, levels: Iterable[str] = ()
) -> pl.LazyFrame:
    """For each subject its span, days and rows, and by `measure` its rows a day and the level of some columns.

    A level is the geometric mean of what is not zero, signs left out: few large values hardly move it.
    """
    levels = tuple(levels)
    by_day = rows.group_by(*subject, day=pl.col(clock).dt.date()).agg(
        *(part for name in levels for part in _log_parts(name)),
        pl.len().cast(pl.Int64).alias("rows"),
        first=pl.col(clock).min(),
        last=pl.col(clock).max(),
    )
    by_subject = by_day.group_by(subject).agg(
        *(_level(name) for name in levels),
        pl.col("first").min(),
        pl.col("last").max(),
        pl.col("rows").median().alias(ROWS_A_DAY),
        pl.col("rows").sum(),
        days=pl.len().cast(pl.Int64),
    )
    return (
        by_subject.with_columns(
            pl.concat_str(pl.col(subject).cast(pl.String), separator=" ").alias("subject")
        )
        .unpivot(
            [ROWS_A_DAY, *(_LEVEL + name for name in levels)],
            index=["subject", "first", "last", "days", "rows"],
            variable_name="measure",
            value_name="value",
        )
        .filter(pl.col("value").is_finite())
        .with_columns(pl.col("measure").str.strip_prefix(_LEVEL))
        .select(pl.col(name).cast(dtype) for name, dtype in _OF_A_BATCH.items())
    )


def figures_said(table: Table, good: pl.DataFrame, at: datetime) -> dict[str, str]:
    """What the commit that publishes these rows says for later batches; nothing where nobody will ask."""
    if not table.needs_past or good.is_empty():
        return {}
    found = figures(good.lazy(), subject=table.subject, clock=table.time_column, levels=table.compared_levels)
    kept = found.sort("rows", "subject", "measure", descending=[True, False, False]).head(_MOST).collect()
    brief = kept.with_columns(pl.col("value").round_sig_figs(6))
    said = {"judged_at": at, "of": [list(row) for row in brief.iter_rows()]}
    return {FIGURES: orjson.dumps(said, option=orjson.OPT_UTC_Z).decode()}


def read_past(stored: StoredTable) -> pl.DataFrame:
    """The figures of the table's last commits, columns as in `PAST`; empty where nobody will ask."""
    if not stored.contract.needs_past:
        return PAST.to_frame()
    rows = [[one["judged_at"], *figure] for one in islice(_told(stored), _BATCHES) for figure in one["of"]]
    times = [name for name, dtype in PAST.items() if dtype == _UTC_US]
    texts = {name: pl.String() if name in times else dtype for name, dtype in PAST.items()}
    frame = pl.DataFrame(rows, schema=texts, orient="row")
    return frame.with_columns(pl.col(times).str.to_datetime(time_unit="us", time_zone="UTC"))


def _told(stored: StoredTable) -> Iterator[dict[str, Any]]:
    """What the last commits tell, the newest first; others than those of batches are passed over."""
    for version in range(stored.version, max(stored.version - _COMMITS, 0), -1):
        for _, said in stored.commits(version - 1, version):
            if FIGURES in said:
                yield orjson.loads(said[FIGURES])


def _log_parts(name: str) -> tuple[pl.Expr, pl.Expr]:
    size = pl.col(name).abs()
    size = size.filter(size > 0)
    return size.log().sum().alias(f"log {name}"), size.count().alias(f"known {name}")


def _level(name: str) -> pl.Expr:
    return (pl.col(f"log {name}").sum() / pl.col(f"known {name}").sum()).exp().alias(_LEVEL + name)
