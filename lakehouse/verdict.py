"""A batch that wants to be published, and what its gate says of it.

The judge itself is given to `lakehouse.promotion.promote`: this package knows no validation library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import polars as pl

from lakehouse.contract import Severity, Table
from lakehouse.history import PAST

Level = Literal["passed", "warning", "blocked"]

REASONS = "reasons"
REMARKS = "remarks"


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A whole candidate batch, failing rows included.

    `frame` holds the table's columns and two lists of text: `reasons`, the critical rules a row breaks (such a row
    is never published), and `remarks`, the warnings. `repeats` rows beside them say only what is published already;
    they count where shares are judged. `batch_id` names the input positions that it came from. `past` holds the figures
    of the batches before (`lakehouse.history.PAST`).
    """

    batch_id: str
    table: Table
    inputs: tuple[str, ...]
    frame: pl.DataFrame = field(repr=False)
    judged_at: datetime
    repeats: int = 0
    past: pl.DataFrame = field(default_factory=PAST.to_frame, repr=False)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one expectation found."""

    expectation: str
    column: str
    severity: Severity
    passed: bool
    unexpected: int
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The judgement of a batch. A failed critical finding blocks the whole batch."""

    batch: Batch
    findings: tuple[Finding, ...]
    reasons: Mapping[str, int]
    docs_key: str = ""
    """Where the page for people is, within the lake's files; empty where none was written."""

    @property
    def level(self) -> Level:
        """blocked: nothing is published; warning: published, and somebody should look; passed: all good."""
        failed = {finding.severity for finding in self.findings if not finding.passed}
        if "critical" in failed:
            return "blocked"
        return "warning" if failed or self.reasons else "passed"


Judge = Callable[[Batch], Verdict]
