"""What promoting a batch cost and how late its rows are: measured where it happens, written by `lakehouse.metrics`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, ParamSpec, TypeVar

import polars as pl

from lakehouse.contract import UTC_US, Table

P = ParamSpec("P")
R = TypeVar("R")

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds by the clock and of all processors; what other threads of the process do meanwhile counts too."""

    wall_s: float
    cpu_s: float


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def read(self) -> Spent:
        """What was spent until now."""
        return Spent(wall_s=time.perf_counter() - self._wall_s, cpu_s=time.process_time() - self._cpu_s)


@dataclass
class Timed(Generic[P, R]):
    """A function that remembers what its last call spent."""

    function: Callable[P, R]
    spent: Spent | None = field(default=None, init=False)

    def __call__(self, *args: P.args, **named: P.kwargs) -> R:
        """Call it."""
        watch = Stopwatch()
        try:
            return self.function(*args, **named)
        finally:
            self.spent = watch.read()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One batch: when it was published, how large it was, what it cost and how late its rows were.

    `delays_s` holds seconds by hop and quantile, such as `delays_s["event_to_received"]["p95"]`.
    """

    published_at: datetime
    judged_rows: int
    size_bytes: int
    judging: Spent | None
    delays_s: dict[str, dict[str, float]]
    lag_s: float | None
    whole: Spent | None = None
    """From the first read to the last commit; None where the promotion was not measured as a whole."""


def measure(
    table: Table, rows: pl.DataFrame, *, judged_rows: int, judging: Spent | None, published_at: datetime
) -> Measured:
    """The figures of the published rows of a batch."""
    at = pl.lit(published_at, dtype=UTC_US)
    return Measured(
        published_at=published_at,
        judged_rows=judged_rows,
        size_bytes=int(rows.estimated_size()),
        judging=judging,
        delays_s=_delays_s(rows, _hops(table, at)),
        lag_s=_lag_s(rows, table, at),
    )


def _hops(table: Table, published_at: pl.Expr) -> dict[str, pl.Expr]:
    """How long each row took, by hop. When a row of gold happened says nothing of how late a provider was."""
    if "ingested_at" not in table.schema:
        return {}
    received = pl.col("ingested_at")
    event = {"event_to_received": received - _moment(table)} if table.layer == "silver" else {}
    return {**event, "received_to_published": published_at - received}


def _moment(table: Table) -> pl.Expr:
    """A table's time; a day begins at midnight."""
    return pl.col(table.time_column).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _delays_s(rows: pl.DataFrame, hops: dict[str, pl.Expr]) -> dict[str, dict[str, float]]:
    if rows.is_empty() or not hops:
        return {}
    wanted = [
        (hop.dt.total_microseconds().quantile(share, "nearest") / _MICROSECONDS).alias(f"{name} {quantile}")
        for name, hop in hops.items()
        for quantile, share in QUANTILES.items()
    ]
    found = rows.select(wanted).row(0, named=True)
    told = {name: {quantile: found[f"{name} {quantile}"] for quantile in QUANTILES} for name in hops}
    return {name: said for name, said in told.items() if None not in said.values()}


def _lag_s(rows: pl.DataFrame, table: Table, published_at: pl.Expr) -> float | None:
    """From the newest of the rows' own times to when they could be read."""
    if rows.is_empty() or table.time_column not in rows.columns:
        return None
    lag = (published_at - _moment(table).max()).dt.total_microseconds() / _MICROSECONDS
    found = rows.select(lag).item()
    return None if found is None else float(found)
