"""What several views read of the lake's own tables: verdicts, quarantine, coverage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from deployments.ui.blocks import Badge, Tone
from deployments.ui.shelf import Shelf
from lakehouse.ops import COVERAGE, QUARANTINE, VERDICTS

LEVELS: Mapping[str, Tone] = {"passed": "good", "warning": "warn", "blocked": "bad"}
STATUSES: Mapping[str, str] = {
    "complete": "all is here, as far as the proof reaches",
    "repaired": "complete, and was missing once",
    "degraded": "something came, the proof is not whole",
    "missing": "asked for and not received",
    "unavailable": "the provider does not give it",
}
TONES: Mapping[str, Tone] = {
    "complete": "good",
    "repaired": "good",
    "degraded": "warn",
    "missing": "bad",
    "unavailable": "muted",
}


def level(name: str | None) -> Badge | None:
    """A verdict's level as a badge."""
    return Badge(name, LEVELS.get(name, "")) if name else None


def status(name: str) -> Badge:
    """A status of coverage as a badge."""
    return Badge(name, TONES.get(name, ""))


def verdicts(shelf: Shelf) -> pl.LazyFrame:
    """All verdicts without their findings, which are long."""
    return shelf.scan(VERDICTS.name).drop("findings")


def last_verdicts(shelf: Shelf) -> Mapping[str, Mapping[str, Any]]:
    """The newest verdict of each table: level, judged_at, docs_key."""

    def read() -> dict[str, dict[str, Any]]:
        newest = (
            verdicts(shelf)
            .group_by("table")
            .agg(pl.col("level", "judged_at", "docs_key").sort_by("judged_at").last())
        )
        return {row["table"]: row for row in newest.collect().iter_rows(named=True)}

    return shelf.once("last verdicts", (VERDICTS.name,), read)


def held(shelf: Shelf) -> Mapping[str, int]:
    """How many rows and pages of each table wait in quarantine."""

    def read() -> dict[str, int]:
        waiting = shelf.scan(QUARANTINE.name).filter(pl.col("status") == "held")
        return dict(waiting.group_by("table").len().collect().iter_rows())

    return shelf.once("held", (QUARANTINE.name,), read)


def coverage(shelf: Shelf) -> pl.DataFrame:
    """What the coverage ledger amounts to; see `Lake.coverage`."""
    return shelf.once("coverage", (COVERAGE.name,), shelf.lake.coverage)
