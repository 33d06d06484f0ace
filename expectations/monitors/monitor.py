"""What a monitor is: a look at the lake that measures things, each beside what is too much of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import polars as pl

from lakehouse import Lake
from lakehouse.contract import Severity
from lakehouse.store import StoredTable

MEASURED = pl.Schema(
    {
        "table": pl.String(),
        "subject": pl.String(),
        "measured": pl.Float64(),
        "limit": pl.Float64(),
        "summary": pl.String(),
        "link": pl.String(),
    }
)
"""What `look` gives: one row for each thing that was measured, also where all is well.

`measured` above `limit` is wrong. `table` is empty for what is about a provider. `link` is a key within the lake's
files, empty where there is no page.
"""


@dataclass(frozen=True, kw_only=True)
class View:
    """What monitors look at: a lake, at a moment."""

    lake: Lake
    now: datetime
    rolling: Collection[tuple[str, str]] = field(default=frozenset(), repr=False)
    """Feed and subject of all that is fetched again and again, up to now."""


@dataclass(frozen=True, kw_only=True)
class Monitor:
    """One question about the lake as it is now. `look` reads and changes nothing, and is told the moment."""

    name: str
    doc: str
    unit: str
    """Of what it measures and of its limit."""
    severity: Severity
    """critical: data are missing or late, somebody must act; warning: somebody should look."""
    look: Callable[[View], pl.DataFrame]


def measured(rows: Iterable[Mapping[str, object]] | pl.DataFrame) -> pl.DataFrame:
    """Rows as `look` gives them; `table`, `subject` and `link` may be left out."""
    frame = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(list(rows), infer_schema_length=None)
    absent = [pl.lit("").alias(name) for name in ("table", "subject", "link") if name not in frame.columns]
    if frame.is_empty():
        return MEASURED.to_frame()
    return frame.with_columns(absent).select(pl.col(name).cast(dtype) for name, dtype in MEASURED.items())


def newest_moment(stored: StoredTable) -> datetime | None:
    """The greatest value of a table's time column, as the statistics of its files say; None where there are none."""
    files, name = stored.files(), f"max.{stored.contract.time_column}"
    newest = files[name].max() if name in files.columns else None
    return newest if isinstance(newest, datetime) else None
