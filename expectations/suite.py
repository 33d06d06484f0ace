"""The suite of a table: its contract, said in expectations.

A row that breaks a critical rule is held back by itself, so each rule's expectation only warns. What blocks the batch
is the share of such rows beyond the table's tolerance, a key twice among the rows to publish, columns that are not
the contract's, and what the contract expects of a whole batch as critical (`lakehouse.expects`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import polars as pl

from expectations.polars_gx import (
    ExpectColumnTypesToFitContract,
    ExpectRowsToKeepRule,
    ExpectViewToHold,
)
from expectations.polars_gx.library import ExpectationSuite, RowColumn, gxe
from lakehouse.conform import reading_rules
from lakehouse.contract import Column, Rule, Table
from lakehouse.expects import Expect
from lakehouse.verdict import REASONS, REMARKS, Batch

PUBLISHABLE = "is_publishable"
"""Column that the gate puts beside a batch's own: the row breaks no critical rule."""

_UNPUBLISHABLE = "unpublishable_rows"


def build_suite(batch: Batch, rules: Mapping[str, Rule]) -> Any:
    """The ExpectationSuite of the batch's table for its frame (with `is_publishable` beside it) and `custom_rules`.

    Good rows that came again and are not in the batch count where shares are judged: without them the same few bad
    rows, delivered again with each full history, would one day be most of what is new.
    """
    table = batch.table
    return ExpectationSuite(
        name=table.name,
        expectations=[
            *_of_whole_batch(table),
            _share_held_back(table, batch.frame.height, batch.repeats),
            *(found for column in table.columns for found in _of_column(column)),
            *(_of_rule(rule) for name, rule in rules.items() if name != _UNPUBLISHABLE),
            *(_of_batch(expect) for expect in table.expected),
        ],
    )


def custom_rules(table: Table) -> dict[str, Rule]:
    """The rules that no expectation type of the library says, by name."""
    finite = [
        rule
        for column in table.columns
        for rule in column.rules()
        if rule.name == f"{column.name}_not_finite"
    ]
    publishable = Rule(
        name=_UNPUBLISHABLE,
        check=pl.col(REASONS).list.len() == 0,
        reason="any critical rule is broken",
    )
    return {rule.name: rule for rule in (publishable, *reading_rules(table), *finite, *table.rules)}


def views(batch: Batch) -> dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]]:
    """What the expectations of a whole batch look at, by their names."""
    return {expect.name: _view(expect, batch) for expect in batch.table.expected}


def rule_columns(rule: Rule) -> list[str]:
    """The columns that the rule is about."""
    names = dict.fromkeys(rule.check.meta.root_names())
    return [name for name in names if name not in (REASONS, REMARKS)]


def _of_whole_batch(table: Table) -> Iterator[Any]:
    yield gxe.ExpectTableRowCountToBeBetween(
        min_value=1, severity="critical", description="The batch has at least one row (critical)"
    )
    yield ExpectColumnTypesToFitContract(
        column_types={name: str(dtype) for name, dtype in table.schema.items()},
        beside=[REASONS, REMARKS, PUBLISHABLE],
        severity="critical",
        description="The columns and their types are those of the contract (critical)",
    )
    yield _unique_key(table.key)


def _unique_key(key: tuple[str, ...]) -> Any:
    """Only rows to publish: a bad copy of a good row is held back anyway."""
    said: dict[str, Any] = {
        "row_condition": RowColumn(PUBLISHABLE) == True,  # noqa: E712 - builds a condition, compares nothing
        "severity": "critical",
        "description": f"No two rows to publish have the same {', '.join(key)} (critical)",
    }
    if len(key) == 1:
        return gxe.ExpectColumnValuesToBeUnique(column=key[0], **said)
    return gxe.ExpectCompoundColumnsToBeUnique(
        column_list=list(key), ignore_row_if="any_value_is_missing", **said
    )


def _share_held_back(table: Table, rows: int, repeats: int) -> Any:
    """One bad row never blocks a batch, however small: increments often have just a few rows."""
    allowed = min(max(int(table.tolerance * (rows + repeats)), 1), rows)
    return ExpectRowsToKeepRule(
        rule=_UNPUBLISHABLE,
        mostly=(rows - allowed) / rows if rows else 1,
        severity="critical",
        description=f"At most {100 * table.tolerance:g}% of the rows, or one, are held back (critical)",
    )


def _of_column(column: Column) -> Iterator[Any]:
    reasons = {rule.name.removeprefix(f"{column.name}_"): rule.reason for rule in column.rules()}
    said: dict[str, Any] = {"column": column.name, "severity": "warning"}
    if not column.nullable:
        yield gxe.ExpectColumnValuesToNotBeNull(**said, description=_held_back(reasons["missing"]))
    if (bounds := _bounds(column)) is not None:
        outside = " or ".join(reasons[name] for name in ("too_low", "too_high") if name in reasons)
        yield gxe.ExpectColumnValuesToBeBetween(**said, **bounds, description=_held_back(outside))
    if column.values:
        values = list(column.values)
        yield gxe.ExpectColumnValuesToBeInSet(
            **said, value_set=values, description=_held_back(reasons["unknown"])
        )
    if column.pattern:
        pattern = column.pattern
        yield gxe.ExpectColumnValuesToMatchRegex(
            **said, regex=pattern, description=_held_back(reasons["malformed"])
        )


def _bounds(column: Column) -> dict[str, Any] | None:
    if column.lower is None and column.above is None and column.upper is None:
        return None
    low = column.above if column.lower is None else column.lower
    return {"min_value": low, "strict_min": column.lower is None, "max_value": column.upper}


def _of_rule(rule: Rule) -> Any:
    columns = rule_columns(rule)
    return ExpectRowsToKeepRule(
        rule=rule.name,
        column=columns[0] if len(columns) == 1 else None,
        severity="warning",
        description=_held_back(rule.reason)
        if rule.severity == "critical"
        else f"No row where {rule.reason} (warning)",
    )


def _of_batch(expect: Expect) -> Any:
    return ExpectViewToHold(
        view=expect.name,
        mostly=expect.mostly,
        severity=expect.severity,
        description=f"{expect.meaning} ({expect.severity})",
    )


def _view(expect: Expect, batch: Batch) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    def view(rows: pl.LazyFrame) -> pl.LazyFrame:
        return expect.elements(rows if expect.sees_held_back else rows.filter(PUBLISHABLE), batch)

    return view


def _held_back(reason: str) -> str:
    return f"No row where {reason}; such a row is held back (warning)"
