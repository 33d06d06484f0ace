"""The gate: a whole candidate batch is judged by its table's suite, and its page is written for people.

Making a Gate is cheap; the first judgement imports Great Expectations (10 CPU seconds a process). A Gate may be used
by many threads at once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from expectations.docs import page_key, sidecar_key
from lakehouse.contract import Rule
from lakehouse.errors import MnemoError
from lakehouse.files import Files
from lakehouse.verdict import REASONS, REMARKS, Batch, Finding, Verdict
from lakehouse.window import iso

if TYPE_CHECKING:
    from expectations.polars_gx.library import ExpectationSuiteValidationResult


class CannotJudge(MnemoError):
    """A suite has something that nobody can compute for that batch: nothing is published on its account."""


@dataclass(frozen=True)
class Gate:
    """Judges batches. Pages go to `files` (`docs/<table>/<batch_id>.html`); None writes none."""

    files: Files | None = None

    def judge(self, batch: Batch) -> Verdict:
        """The verdict on a batch, failing rows included. A batch without rows is blocked.

        Judging a batch again replaces its page by the same page. Raises CannotJudge for what nobody can count.
        """
        from expectations.suite import custom_rules

        rules = custom_rules(batch.table)
        result = _validate(batch, rules)
        verdict = Verdict(
            batch=batch,
            findings=tuple(_finding(entry, rules) for entry in result.results),
            reasons=count_names(batch.frame, REASONS),
            docs_key=page_key(batch.table.name, batch.batch_id) if self.files else "",
        )
        if self.files:
            _write_page(self.files, verdict, result)
        return verdict


def count_names(frame: pl.DataFrame, column: str) -> dict[str, int]:
    """How many rows have each reason (or remark), the most frequent first."""
    named = frame.lazy().filter(pl.col(column).list.len() > 0)
    found = named.select(pl.col(column).explode(empty_as_null=False))
    counts = found.group_by(column).len().sort("len", column, descending=[True, False]).collect()
    return dict(counts.iter_rows())


def _validate(batch: Batch, rules: dict[str, Rule]) -> ExpectationSuiteValidationResult:
    from expectations import polars_gx
    from expectations.suite import PUBLISHABLE, build_suite, views

    try:
        return polars_gx.validate(
            build_suite(batch, rules),
            batch.frame.with_columns((pl.col(REASONS).list.len() == 0).alias(PUBLISHABLE)),
            checks={name: rule.check for name, rule in rules.items()},
            views=views(batch),
            meta=_meta(batch),
        )
    except polars_gx.CannotJudge as error:
        raise CannotJudge(f"{batch.table.name}, batch {batch.batch_id}: {error}") from error


def _meta(batch: Batch) -> dict[str, Any]:
    """What the library's pages say of a batch."""
    from expectations.polars_gx.library import RunIdentifier

    return {
        # The library takes a name of digits alone for a time, and stumbles over most.
        "run_id": RunIdentifier(run_name=f"batch {batch.batch_id}", run_time=batch.judged_at),
        "batch_spec": {
            "data_asset_name": batch.table.name,
            "batch_id": batch.batch_id,
            "inputs": ", ".join(batch.inputs),
            "contract": batch.table.fingerprint,
        },
    }


def _finding(entry: Any, rules: dict[str, Rule]) -> Finding:
    config = entry.expectation_config
    name = config.kwargs.get("rule") or config.kwargs.get("view")
    return Finding(
        expectation=f"{config.type}({name})" if name else config.type,
        column=_columns(config.kwargs, rules.get(config.kwargs.get("rule", ""))),
        severity="critical" if config.severity == "critical" else "warning",
        passed=bool(entry.success),
        unexpected=_unexpected(entry),
        meaning=config.description,
    )


def _columns(kwargs: dict[str, Any], rule: Rule | None) -> str:
    from expectations.suite import rule_columns

    if "column_list" in kwargs:
        return ", ".join(kwargs["column_list"])
    return str(kwargs.get("column", "")) or ", ".join(rule_columns(rule) if rule else ())


def _unexpected(entry: Any) -> int:
    """Unexpected rows; for what is asked of the whole batch, 1 where it fails."""
    counted = entry.result.get("unexpected_count")
    return int(not entry.success) if counted is None else int(counted)


def _write_page(files: Files, verdict: Verdict, result: ExpectationSuiteValidationResult) -> None:
    from expectations.page import render_page

    batch = verdict.batch
    summary = {
        "table": batch.table.name,
        "batch_id": batch.batch_id,
        "judged_at": iso(batch.judged_at),
        "level": verdict.level,
        "rows": batch.frame.height,
        "failed_rows": int((batch.frame[REASONS].list.len() > 0).sum()),
        "reasons": dict(verdict.reasons),
        "remarks": count_names(batch.frame, REMARKS),
        "failed": Counter(finding.severity for finding in verdict.findings if not finding.passed),
    }
    files.put(verdict.docs_key, render_page(result, verdict, summary).encode())
    files.put(sidecar_key(batch.table.name, batch.batch_id), orjson.dumps(summary))
