"""What monitors saw, judged by Great Expectations: one expectation a monitor, and a page beside the gates'."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from expectations.docs import page_key, sidecar_key
from expectations.monitors.monitor import Monitor
from expectations.monitors.watch import Watch
from lakehouse.files import Files
from lakehouse.ops import MONITORS
from lakehouse.publish import Run, batch_id_of
from lakehouse.verdict import Batch, Finding, Verdict
from lakehouse.window import iso

if TYPE_CHECKING:
    from expectations.polars_gx.library import ExpectationSuiteValidationResult

SUITE = MONITORS.name


def judge(watch: Watch) -> ExpectationSuiteValidationResult:
    """The library's own result: of each monitor that looked, that no figure is beyond its limit.

    Importing the library takes 10 CPU seconds.
    """
    from expectations import polars_gx
    from expectations.polars_gx.library import ExpectationSuite

    suite = ExpectationSuite(name=SUITE, expectations=[_expectation(monitor) for monitor in watch.monitors])
    return polars_gx.validate(suite, watch.figures)


def with_page(watch: Watch, files: Files, run: Run, looked_at: datetime) -> Watch:
    """Judge and write the page; the watch that knows where it is."""
    result = judge(watch)
    batch_id = batch_id_of(SUITE, run.run_id, looked_at)
    key = page_key(SUITE, batch_id)
    batch = Batch(batch_id=batch_id, table=MONITORS, inputs=(), frame=watch.figures, judged_at=looked_at)
    verdict = Verdict(batch=batch, findings=tuple(map(_finding, result.results)), reasons={}, docs_key=key)
    _write_page(files, verdict, result, watch)
    return replace(watch, docs_key=key)


def _expectation(monitor: Monitor) -> Any:
    from expectations.polars_gx.library import RowColumn, gxe

    return gxe.ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="limit",
        column_B="measured",
        or_equal=True,
        row_condition=RowColumn("monitor") == monitor.name,
        severity=monitor.severity,
        description=f"{monitor.name}: {monitor.doc} ({monitor.severity})",
    )


def _finding(entry: Any) -> Finding:
    config = entry.expectation_config
    return Finding(
        expectation=config.type,
        column="measured",
        severity="critical" if config.severity == "critical" else "warning",
        passed=bool(entry.success),
        unexpected=int(entry.result.get("unexpected_count") or 0),
        meaning=config.description,
    )


def _write_page(
    files: Files, verdict: Verdict, result: ExpectationSuiteValidationResult, watch: Watch
) -> None:
    from expectations.page import render_page

    batch = verdict.batch
    wrong = watch.wrong
    summary = {
        "table": batch.table.name,
        "batch_id": batch.batch_id,
        "judged_at": iso(batch.judged_at),
        "level": verdict.level,
        "rows": batch.frame.height,
        "failed_rows": wrong.height,
        "reasons": dict(wrong["monitor"].value_counts(sort=True).iter_rows()),
        "remarks": {},
        "failed": Counter(finding.severity for finding in verdict.findings if not finding.passed),
    }
    files.put(verdict.docs_key, render_page(result, verdict, summary).encode())
    files.put(sidecar_key(batch.table.name, batch.batch_id), orjson.dumps(summary))
