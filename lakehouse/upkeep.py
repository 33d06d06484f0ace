"""Upkeep: few large files instead of many small ones, nothing kept that no reader can ask for, all beside writers.

Nothing here changes a row. Compaction and clustering are Delta's OPTIMIZE, of which the change feed says nothing;
files and log entries go only when they are older than the retention and every consumer is past them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import structlog

from lakehouse.contract import Table
from lakehouse.errors import Contention
from lakehouse.ops import QUARANTINE
from lakehouse.promotion import until_settled
from lakehouse.publish import Run
from lakehouse.store import Store, StoredTable

log = structlog.get_logger()

TARGET_BYTES = 100 * 2**20
_HELD_LONG = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much a table takes: its current version's files, bytes and rows, and the entries of its log."""

    files: int
    size_bytes: int
    rows: int
    log_entries: int


@dataclass(frozen=True, kw_only=True)
class Upkept:
    """What upkeep did to one table, or would do; `remarks` say what was left and why."""

    table: str
    before: Sizes
    after: Sizes
    removed_files: int
    seconds: float
    remarks: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Flat, as `mnemo upkeep` and the artifact of the flow show it."""
        sizes = {
            f"{name}_{when}": value
            for name in Sizes.__dataclass_fields__
            for when, value in (("before", getattr(self.before, name)), ("after", getattr(self.after, name)))
            if name != "rows"
        }
        return {
            "table": self.table,
            "rows": self.after.rows,
            **sizes,
            "removed_files": self.removed_files,
            "seconds": round(self.seconds, 2),
            "remarks": "; ".join(self.remarks),
        }


def upkeep(
    store: Store,
    tables: Iterable[Table],
    run: Run,
    *,
    dry_run: bool = False,
    retention: timedelta | None = None,
    target_bytes: int = TARGET_BYTES,
) -> Iterator[Upkept]:
    """Maintain all tables of a lake; one result for each that is stored. Consumers are looked for among them.

    `retention` is `MNEMO_RETENTION_DAYS` unless given, in whole hours; shorter than the longest write or read it
    would take files from under them. With `dry_run` nothing is written.
    """
    kept = timedelta(days=store.settings.retention_days) if retention is None else retention
    stored = [one for table in tables if (one := store.find(table))]
    for one in stored:
        keeper = _Keeper(one, stored, run.now(), kept, target_bytes)
        yield keeper.look() if dry_run else keeper.work()


@dataclass
class _Keeper:
    """Upkeep of one table at one moment."""

    stored: StoredTable
    others: Sequence[StoredTable]
    now: datetime
    retention: timedelta
    target_bytes: int

    @property
    def table(self) -> Table:
        return self.stored.contract

    def look(self) -> Upkept:
        """What there is to do."""
        before, began = self._sizes(), time.perf_counter()
        blocked = self._not_yet_consumed()
        dead = [] if blocked else self._dead_files()
        crowded = crowded_partitions(self.table, self.stored.files(), self.target_bytes)
        remarks = [f"would write {len(crowded)} partitions anew"] if crowded else []
        return self._done(before, before, len(dead), began, [*remarks, *blocked, *self._aged()])

    def work(self) -> Upkept:
        """Compact, cluster, delete what is too old to be asked for, shorten the log."""
        before, began = self._sizes(), time.perf_counter()
        remarks: list[str] = []
        try:
            until_settled(self._write_anew)
        except Contention:
            remarks.append("somebody else maintains it at this moment; files were left as they are")
        blocked = self._not_yet_consumed()
        removed = 0 if blocked else until_settled(self._remove_old)
        remarks += [*blocked, *self._aged()]
        log.info("upkeep", table=self.table.name, removed_files=removed, remarks=remarks)
        return self._done(before, self._sizes(), removed, began, remarks)

    def _write_anew(self) -> None:
        """Files of another process's upkeep are gone from under ours: then look again."""
        self.stored.refresh()
        self.stored.write_properties()
        crowded = crowded_partitions(self.table, self.stored.files(), self.target_bytes)
        columns = cluster_columns(self.table)
        if not columns and crowded:
            self.stored.compact(target_bytes=self.target_bytes)
        for partition in crowded if columns else ():
            if partition.is_large:
                self.stored.cluster(columns, partition.values, target_bytes=self.target_bytes)
            else:
                self.stored.compact(partition.values, target_bytes=self.target_bytes)

    def _remove_old(self) -> int:
        self.stored.refresh()
        dead = self._dead_files()
        if dead:
            self.stored.vacuum(self.retention)
        self.stored.clean_log()
        return len(dead)

    def _dead_files(self) -> list[str]:
        """Files that vacuum would delete and that are still there: it also names those that it deleted before."""
        there = set(self._keys())
        return [path for path in self.stored.vacuum(self.retention, dry_run=True) if path in there]

    def _not_yet_consumed(self) -> list[str]:
        """Why the past must be kept: a consumer has still to read commits that are older than the retention."""
        behind = []
        for other, position in self._consumers():
            first = max(position, 0) + 1
            if first > self.stored.version:
                continue
            committed_at = self.stored.committed_at(first)
            if committed_at is None or committed_at <= self.now - self.retention:
                behind.append(
                    f"{other} has consumed it only up to version {max(position, 0)}: old files stay"
                )
        return behind

    def _consumers(self) -> Iterator[tuple[str, int]]:
        """Who reads this table's change feed, as their own logs say; pages wait for their first consumer."""
        for other in self.others:
            other.refresh()
        positions = {
            other.contract.name: other.consumed(f"{other.contract.name}<-{self.stored.id}")
            for other in self.others
        }
        known = {name: position for name, position in positions.items() if position >= 0}
        if self.table.layer == "bronze" and not known:
            known["nobody"] = -1
        return iter(known.items())

    def _aged(self) -> list[str]:
        """Rows that have waited long in quarantine: a person should look; nothing is deleted."""
        if self.table.name != QUARANTINE.name:
            return []
        long = pl.col("quarantined_at") < self.now - _HELD_LONG
        held = self.stored.scan().filter(pl.col("status") == "held", long).select(pl.len()).collect().item()
        return [f"{held} rows have been held for more than {_HELD_LONG.days} days"] if held else []

    def _keys(self) -> list[str]:
        root = f"{self.table.name.replace('.', '/', 1)}/"
        return [key.removeprefix(root) for key in self.stored.store.files.keys(root)]

    def _sizes(self) -> Sizes:
        self.stored.refresh()
        files = self.stored.files()
        entries = [key for key in self._keys() if key.startswith("_delta_log/") and key.endswith(".json")]
        total = files.select(pl.col("size_bytes", "num_records").sum()).row(0) if files.height else (0, 0)
        return Sizes(files=files.height, size_bytes=total[0], rows=total[1], log_entries=len(entries))

    def _done(
        self, before: Sizes, after: Sizes, removed: int, began: float, remarks: Sequence[str]
    ) -> Upkept:
        return Upkept(
            table=self.table.name,
            before=before,
            after=after,
            removed_files=removed,
            seconds=time.perf_counter() - began,
            remarks=tuple(remarks),
        )


def cluster_columns(table: Table) -> tuple[str, ...]:
    """What the large partitions of a table are ordered by: the subject, as far as it is not the partition.

    Only where a partition is a day: it stops growing, so it is written anew once or twice and not for ever. There it
    pays: one instrument's day of 8 million trades of 20 instruments in 8 files reads in 31 ms instead of 349, for
    four times the CPU of compaction and a seventh more bytes. Adding the time to the order made both worse.
    Bronze is read by commit, so its order is the order of arrival.
    """
    has_days = any(table.column(name).dtype == pl.Date for name in table.partition_by)
    if table.layer == "bronze" or not has_days:
        return ()
    return tuple(name for name in table.subject if name not in table.partition_by)


@dataclass(frozen=True)
class Partition:
    """One partition: its values as text, and whether it needs more than one file."""

    values: Mapping[str, str]
    is_large: bool


def crowded_partitions(table: Table, files: pl.DataFrame, target_bytes: int) -> list[Partition]:
    """The partitions that are to be written anew: `files` is what `StoredTable.files` gives, its bounds included.

    Those with several files small enough to be put together; of a table that is clustered, the large ones not by their
    size but when their files overlap in the subject, so that reading one subject reads them all.
    """
    if files.is_empty():
        return []
    columns, by = cluster_columns(table), [f"partition.{name}" for name in table.partition_by]
    is_small = pl.col("size_bytes") < target_bytes
    found = (
        files.with_columns(*_bounds(columns))
        .sort("lower", "upper")
        .group_by(*(pl.col(name) for name in by), pl.lit(0).alias("all"), maintain_order=True)
        .agg(
            is_large=pl.col("size_bytes").sum() > target_bytes,
            is_scattered=is_small.sum() > 1,
            is_unordered=(pl.col("lower") < pl.col("upper").shift()).any(),
        )
    )
    by_order = pl.lit(bool(columns)) & pl.col("is_large")
    crowded = found.filter(pl.when(by_order).then("is_unordered").otherwise("is_scattered"))
    values = crowded.select(
        pl.col(name).cast(pl.String).alias(name.removeprefix("partition.")) for name in by
    )
    rows = values.to_dicts() if by else [{}] * crowded.height
    return [Partition(row, large) for row, large in zip(rows, crowded["is_large"], strict=True)]


def _bounds(columns: Sequence[str]) -> tuple[pl.Expr, pl.Expr]:
    """Bounds of the column that files are ordered by."""
    if not columns:
        return pl.lit(0).alias("lower"), pl.lit(0).alias("upper")
    return pl.col(f"min.{columns[0]}").alias("lower"), pl.col(f"max.{columns[0]}").alias("upper")
