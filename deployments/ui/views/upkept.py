"""What was done to the files of tables, and how they lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from deployments.ui.blocks import Bytes, Column, Grid, Link, Page, Stat, Stats, Tone, to
from deployments.ui.shelf import Facts, Shelf
from lakehouse.store import StoredTable

_COMMITS = 40
_SMALL_BYTES = 8_000_000
_OPENERS = 8
_FIGURES = {
    "numFilesAdded": "files written",
    "numFilesRemoved": "files replaced",
    "num_added_files": "files written",
    "num_removed_files": "files replaced",
    "num_added_rows": "rows",
    "numFilesToDelete": "files to delete",
    "sizeOfDataToDelete": "bytes to delete",
    "numDeletedFiles": "files deleted",
}
"""What the log of a table counts, in words."""
_QUIET = ("CREATE TABLE", "WRITE", "MERGE", "UPDATE")
"""Commits that bring or change rows: all others maintain the table."""


def upkeep(shelf: Shelf, _asked: Mapping[str, str]) -> Page:
    """What was done to the files of each table, and how they lie now."""
    stored = shelf.several(shelf.names())
    with ThreadPoolExecutor(_OPENERS) as pool:
        told = list(pool.map(lambda item: _maintained(shelf, *item), stored.items()))
    done = sorted((one for each in told for one in each), key=lambda one: one["at"], reverse=True)
    facts = [one for one in shelf.facts() if one.files]
    return Page(
        title="Upkeep",
        lead="Compaction, ordering, removal of old files and changes of layout, as the tables' own logs tell them.",
        blocks=(_upkeep_stats(facts), _operations(done), _layout(facts)),
    )


def _maintained(shelf: Shelf, name: str, stored: StoredTable) -> list[dict[str, Any]]:
    """The newest commits of a table that brought no rows."""

    def read() -> list[dict[str, Any]]:
        with stored.store.errors():
            told = stored.delta.history(_COMMITS)
        return [_operation(name, one) for one in told if _is_upkeep(one)]

    return shelf.once("maintained", (name,), read)


def _is_upkeep(commit: Mapping[str, Any]) -> bool:
    """Whether a commit maintains the table; one that writes all of it anew does."""
    is_rewrite = (commit.get("operationParameters") or {}).get("mode") == "Overwrite"
    return is_rewrite or commit.get("operation") not in _QUIET


def _operation(name: str, commit: Mapping[str, Any]) -> dict[str, Any]:
    metrics = commit.get("operationMetrics") or {}
    return {
        "table": name,
        "at": datetime.fromtimestamp(commit["timestamp"] / 1000, UTC),
        "operation": str(commit.get("operation", "")).lower(),
        "version": commit.get("version"),
        "metrics": ", ".join(_metrics(metrics)),
    }


def _metrics(metrics: Mapping[str, Any]) -> Iterator[str]:
    for name, words in _FIGURES.items():
        if metrics.get(name):
            yield f"{metrics[name]:,} {words}"


def _upkeep_stats(facts: Sequence[Facts]) -> Stats:
    files = sum(one.files for one in facts)
    size = sum(one.size_bytes for one in facts)
    crowded = [one for one in facts if one.files > 50 and one.size_bytes / one.files < _SMALL_BYTES]
    tone: Tone = "warn" if crowded else "good"
    return Stats(
        (
            Stat("data files", f"{files:,}", f"{len(facts)} tables"),
            Stat("mean file", f"{size / max(files, 1) / 1e6:,.2f} MB"),
            Stat(
                "tables with many small files",
                str(len(crowded)),
                "over 50 files, under 8 MB on average",
                tone,
            ),
        )
    )


def _operations(done: Sequence[Mapping[str, Any]]) -> Grid:
    rows = [
        [
            one["at"],
            Link(one["table"], to("/table", name=one["table"])),
            one["operation"],
            one["version"],
            one["metrics"],
        ]
        for one in done[:200]
    ]
    columns = (
        Column("At"),
        Column("Table"),
        Column("Operation"),
        Column("Version", is_number=True),
        Column("What it did", is_wide=True),
    )
    note = f"from the newest {_COMMITS} commits of each table"
    return Grid(
        caption="History",
        columns=columns,
        rows=rows,
        note=note,
        empty="no table was maintained yet: `mnemo upkeep`",
    )


def _layout(facts: Sequence[Facts]) -> Grid:
    ordered = sorted(facts, key=lambda one: one.files, reverse=True)
    rows = [
        [
            Link(one.table.name, to("/table", name=one.table.name)),
            one.files,
            Bytes(one.size_bytes),
            Bytes(one.size_bytes // one.files),
            one.rows // one.files,
            one.version,
        ]
        for one in ordered
    ]
    names = ("Files", "Size", "Mean file", "Rows a file", "Version")
    columns = [Column("Table"), *(Column(name, is_number=True) for name in names)]
    return Grid(caption="How the files lie", columns=columns, rows=rows)
