"""Which commit brought a row: found by the data file that holds it, without reading the whole log.

The log is searched by halves for the entry that added the file, so the cost grows with the logarithm of its length. A
compaction puts rows into new files, and upkeep deletes old entries: then there is no such commit to be found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import orjson
import polars as pl

from lakehouse.model import Row
from lakehouse.store import StoredTable

_AROUND = 32
"""How far from its place an entry is looked for: writers' clocks differ, and a writer may have to try again."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One entry of a table's log, and what was said with it (`mnemo.batch` is `said["batch"]`)."""

    version: int
    committed_at: datetime
    said: Mapping[str, str]


@dataclass
class CommitFinder:
    """Finds commits of one table; what it has read of the log it keeps."""

    stored: StoredTable
    _entries: dict[int, _Entry | None] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._files = self.stored.files()

    def commit_of(self, row: Row) -> Commit | None:
        """The commit that published a row; None where a later one has moved it or the log no longer tells."""
        file = self._file_of(row)
        if file is None:
            return None
        path, written_ms = str(file["path"]), int(file["modification_time"])
        for version in self._likely_versions(written_ms):
            entry = self._entry(version)
            if entry and path in entry.added:
                return entry.commit if "batch" in entry.commit.said else None
        return None

    def _file_of(self, row: Row) -> Mapping[str, Any] | None:
        files = self._files.filter(*self._may_hold(row))
        if files.height == 1:
            return files.row(0, named=True)
        return next((file for file in files.iter_rows(named=True) if self._holds(file, row)), None)

    def _may_hold(self, row: Row) -> list[pl.Expr]:
        """What the partitions and bounds of files say."""
        conditions = []
        for name, value in row.items():
            if f"partition.{name}" in self._files.columns:
                conditions.append(pl.col(f"partition.{name}").cast(pl.String) == _as_text(value))
            elif isinstance(value, int | date) and f"min.{name}" in self._files.columns:
                lower, upper = pl.col(f"min.{name}"), pl.col(f"max.{name}")
                # Without bounds nothing is known of a file.
                conditions.append(((lower <= value) & (upper >= value)).fill_null(value=True))
        return conditions

    def _holds(self, file: Mapping[str, Any], row: Row) -> bool:
        table, store = self.stored.contract, self.stored.store
        inside = [name for name in table.key if f"partition.{name}" not in self._files.columns]
        rows = pl.scan_parquet(
            f"{store.uri(table.name)}/{file['path']}",
            storage_options=store.storage_options,
            hive_partitioning=False,
        )
        same = [pl.col(name) == pl.lit(row[name], table.schema[name]) for name in inside]
        return bool(rows.filter(*same).select(pl.len()).collect().item())

    def _likely_versions(self, written_ms: int) -> list[int]:
        """Versions around the first one that was committed after a file was written, the nearest first."""
        low, high = 0, self.stored.version
        while low < high:
            middle = (low + high) // 2
            entry = self._entry(middle)
            if entry is None or entry.committed_ms < written_ms:
                low = middle + 1
            else:
                high = middle
        around = range(max(low - _AROUND, 0), min(low + _AROUND, self.stored.version) + 1)
        return sorted(around, key=lambda version: abs(version - low))

    def _entry(self, version: int) -> _Entry | None:
        if version not in self._entries:
            self._entries[version] = _read_entry(self.stored, version)
        return self._entries[version]


@dataclass(frozen=True)
class _Entry:
    commit: Commit
    committed_ms: int
    added: frozenset[str] = field(repr=False)


def _read_entry(stored: StoredTable, version: int) -> _Entry | None:
    """One entry of the log; None where upkeep has deleted it."""
    store = stored.store
    path = f"{store.uri(stored.contract.name)}/_delta_log/{version:020}.json"
    try:
        lines = pl.scan_lines(path, storage_options=store.storage_options).collect().to_series()
    except FileNotFoundError:
        return None
    actions = [orjson.loads(line) for line in lines]
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    added = frozenset(str(action["add"]["path"]) for action in actions if "add" in action)
    committed_ms = int(info.get("timestamp", 0))
    said = {
        name.removeprefix("mnemo."): str(said) for name, said in info.items() if name.startswith("mnemo.")
    }
    at = datetime.fromtimestamp(committed_ms / 1000, UTC)
    return _Entry(Commit(version=version, committed_at=at, said=said), committed_ms, added)


def _as_text(value: object) -> str | None:
    return value.isoformat() if isinstance(value, date) else None if value is None else str(value)
