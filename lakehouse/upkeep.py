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
_QUIET = timedelta(days=1)
_ENTANGLED = 0.4
"""The part of a partition's bytes in files that overlap with that of a row, on average, from which on it is ordered."""
_LOOSE = 4
"""What has come since a partition was ordered is put into files of so much less, apart from those that are in order."""


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
        crowded = self._crowded()
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
        crowded = self._crowded()
        if crowded and not self.table.order_by:
            self.stored.compact(target_bytes=self.target_bytes)
        for partition in crowded if self.table.order_by else ():
            if partition.wants_order:
                self.stored.order(partition.values, target_bytes=self.target_bytes)
            else:
                self.stored.compact(partition.values, target_bytes=self.target_bytes // _LOOSE)

    def _crowded(self) -> list[Partition]:
        return crowded_partitions(self.table, self.stored.files(), self.target_bytes, self.now)

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


@dataclass(frozen=True)
class Partition:
    """One partition: its values as text, and whether it is to be ordered or only to have fewer files."""

    values: Mapping[str, str]
    wants_order: bool


def crowded_partitions(
    table: Table, files: pl.DataFrame, target_bytes: int, now: datetime
) -> list[Partition]:
    """The partitions that are to be written anew: `files` is what `StoredTable.files` gives, its bounds included.

    Those with several files small enough to be put together. Of a table that has an order a partition is ordered where
    that is cheap, as all fits one file; where it pays, as files overlap with others of many bytes, so that a partition
    is ordered each time it has grown by about 30 %; and where files overlap and nobody has written to it for a day.
    """
    if files.is_empty():
        return []
    by = [f"partition.{name}" for name in table.partition_by]
    size, overlap = pl.col("size_bytes"), pl.col("overlap").cast(pl.Float64)
    loose_bytes = target_bytes // _LOOSE if table.order_by else target_bytes
    found = (
        _with_overlap(files, table.order_by, by)
        .group_by(*(pl.col(name) for name in by), pl.lit(0).alias("all"), maintain_order=True)
        .agg(
            is_scattered=(size < loose_bytes).sum() > 1,
            overlaps=(overlap > 0).any(),
            is_small=size.sum() <= target_bytes,
            is_entangled=(overlap * size / size.sum()).sum() > _ENTANGLED * size.sum(),
            is_quiet=pl.col("modification_time").max() < 1000 * (now - _QUIET).timestamp(),
        )
        .with_columns(
            wants_order=pl.col("overlaps") & pl.any_horizontal("is_small", "is_entangled", "is_quiet")
        )
        .filter(pl.any_horizontal("is_scattered", "wants_order"))
    )
    values = found.select(pl.col(name).cast(pl.String).alias(name.removeprefix("partition.")) for name in by)
    rows = values.to_dicts() if by else [{}] * found.height
    return [Partition(row, order) for row, order in zip(rows, found["wants_order"], strict=True)]


def _with_overlap(files: pl.DataFrame, order_by: str, by: Sequence[str]) -> pl.DataFrame:
    """Each file with the bytes (`overlap`) of the others of its partition that lie between its bounds in the order."""
    if not order_by:
        return files.with_columns(overlap=0)
    lower, upper = f"min.{order_by}", f"max.{order_by}"
    named = files.select(*by, "path", "size_bytes", lower, upper)
    pairs = named.join(named, on=by, suffix="_other").filter(
        pl.col("path") != pl.col("path_other"),
        pl.col(lower) < pl.col(f"{upper}_other"),
        pl.col(f"{lower}_other") < pl.col(upper),
    )
    overlaps = pairs.group_by("path").agg(overlap=pl.col("size_bytes_other").sum())
    return files.join(overlaps, on="path", how="left", maintain_order="left").with_columns(
        pl.col("overlap").fill_null(0)
    )
