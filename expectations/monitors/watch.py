"""All monitors' looks at once, and what follows from them: what is wrong, alerts, rows of `ops.monitors`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl
import structlog

from expectations.monitors.monitor import MEASURED, Monitor, View
from lakehouse.alerts import Alert
from lakehouse.bronze import bronze_table
from lakehouse.catalog import tables
from lakehouse.ops import MONITORS
from lakehouse.publish import Run

log = structlog.get_logger()

FIGURES = pl.Schema({"monitor": pl.String(), "level": pl.String(), "unit": pl.String(), **MEASURED})
"""The columns of `Watch.figures`: `level` is passed, or the severity of the monitor."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What some monitors saw."""

    monitors: tuple[Monitor, ...]
    """Those that could look."""
    figures: pl.DataFrame = field(repr=False)
    failed: Mapping[str, str] = field(default_factory=dict)
    """Monitors that could not look, with the error: what they saw last still holds."""
    docs_key: str = ""
    """Where its page is, once it has one."""

    @property
    def checked(self) -> set[str]:
        """Names of the monitors that looked."""
        return {monitor.name for monitor in self.monitors}

    @property
    def wrong(self) -> pl.DataFrame:
        """The figures beyond their limits, critical ones first."""
        return self.figures.filter(pl.col("level") != "passed").sort("level", maintain_order=True)

    @property
    def is_critical(self) -> bool:
        """Whether anything critical was seen."""
        return bool((self.figures["level"] == "critical").any())

    def of_tables(self, names: Collection[str]) -> Watch:
        """Only what is about some tables."""
        return replace(self, figures=self.figures.filter(pl.col("table").is_in(list(names))))

    def alerts(self) -> list[Alert]:
        """One for each figure beyond its limit; where a figure has no page of its own it links the watch's."""
        return [
            Alert(
                monitor=row["monitor"],
                table=row["table"],
                subject=row["subject"],
                severity=row["level"],
                owner=_owner(row["table"]),
                summary=row["summary"],
                link=row["link"] or self.docs_key,
                measured=row["measured"],
                limit=row["limit"],
            )
            for row in self.wrong.iter_rows(named=True)
        ]

    def rows(self, run: Run, looked_at: object) -> pl.DataFrame:
        """Rows of `ops.monitors`."""
        link = pl.when(pl.col("link") == "").then(pl.lit(self.docs_key)).otherwise("link")
        said = self.figures.with_columns(
            looked_at=pl.lit(looked_at),
            docs_key=link,
            run_id=pl.lit(run.run_id),
            code_version=pl.lit(run.code_version),
        )
        return said.select(pl.col(name).cast(dtype) for name, dtype in MONITORS.schema.items())


def look_around(view: View, monitors: Sequence[Monitor]) -> Watch:
    """Have each monitor look. One that fails does not stop the others."""
    frames, failed = [FIGURES.to_frame()], {}
    for monitor in monitors:
        try:
            frames.append(_judged(monitor, monitor.look(view)))
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one, the others still see
            failed[monitor.name] = f"{type(error).__name__}: {error}"
            log.warning("monitor failed", monitor=monitor.name, error=failed[monitor.name])
    looked = tuple(monitor for monitor in monitors if monitor.name not in failed)
    return Watch(monitors=looked, figures=pl.concat(frames), failed=failed)


def _judged(monitor: Monitor, seen: pl.DataFrame) -> pl.DataFrame:
    is_wrong = pl.col("measured") > pl.col("limit")
    return seen.with_columns(
        monitor=pl.lit(monitor.name),
        unit=pl.lit(monitor.unit),
        level=pl.when(is_wrong).then(pl.lit(monitor.severity)).otherwise(pl.lit("passed")),
    ).select(FIGURES.names())


def _owner(table: str) -> str:
    """Of the contract; what is about a provider is for those who run the lake."""
    layer, _, name = table.partition(".")
    if layer == "bronze":
        return bronze_table(name).owner
    return tables()[table].owner if table in tables() else MONITORS.owner
