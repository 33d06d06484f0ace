"""Judging a frame: Polars counts, the expectations' own classes decide.

`validate` is a pure function that shares no context between calls: threads may judge different frames at once. What
an expectation needs is computed for all of them together; examples of bad values are fetched only where there are
some. An expectation that has no way of counting here is an error, never a pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from expectations.library import (
    ComparisonCondition,
    Expectation,
    ExpectationSuite,
    ExpectationSuiteValidationResult,
    Operator,
    gxe,
)
from expectations.rules import (
    BROKEN,
    BROKEN_VALUES,
    COLUMN_TYPES,
    PUBLISHABLE,
    ROWS,
    ExpectColumnTypesToFitContract,
    ExpectRowsToKeepRule,
)
from lakehouse.errors import MnemoError
from lakehouse.verdict import REASONS, REMARKS

EXAMPLES = 20
"""How many unexpected values a result shows at most."""

_MISSING = "column_values.nonnull.unexpected_count"
_RESULT_FORMAT: dict[str, Any] = {
    "result_format": "SUMMARY",
    "partial_unexpected_count": EXAMPLES,
    "include_unexpected_rows": False,
}


class CannotJudge(MnemoError):
    """An expectation type, or an option of it, that nothing here knows how to count."""


def validate(
    suite: ExpectationSuite, frame: pl.DataFrame, *, checks: Mapping[str, pl.Expr], meta: Mapping[str, Any]
) -> ExpectationSuiteValidationResult:
    """The library's validation result of the suite on the frame.

    `checks` holds, by the name of the rule, what `ExpectRowsToKeepRule` is to check; a check that is null counts as
    kept. NaN counts as missing. Raises CannotJudge.
    """
    expectations = list(suite.expectations)
    metrics = _measure(frame, [_count(expectation, frame.schema, checks) for expectation in expectations])
    results = [_decide(expectation, found) for expectation, found in zip(expectations, metrics, strict=True)]
    return _suite_result(suite, results, meta)


@dataclass(frozen=True, kw_only=True)
class _Count:
    """What one expectation needs to know of a frame.

    `totals` are metrics by name. Rows for which `unexpected` is true are counted as `count_name`, some of their
    values listed as `values_name`. Repeats of a `key` (within the rows that keep all of `within`) are counted apart:
    that takes a pass of its own.
    """

    totals: Mapping[str, pl.Expr] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    unexpected: pl.Expr | None = None
    key: tuple[str, ...] = ()
    within: tuple[pl.Expr, ...] = ()
    values: tuple[str, ...] = ()
    count_name: str = ""
    values_name: str = ""


Metrics = dict[str, Any]


def _count(expectation: Expectation, schema: pl.Schema, checks: Mapping[str, pl.Expr]) -> _Count:
    counter = _COUNTERS.get(type(expectation))
    if counter is None:
        raise CannotJudge(
            f"{expectation.expectation_type} cannot be judged on Polars frames: it has no counter"
        )
    if getattr(expectation, "row_condition", None) is not None and type(expectation) not in _CONDITIONAL:
        raise CannotJudge(f"{expectation.expectation_type} cannot be judged with a row_condition")
    return counter(expectation, schema, checks)


def _rows(_: Expectation, __: pl.Schema, ___: Mapping[str, pl.Expr]) -> _Count:
    return _Count(totals={ROWS: pl.len()})


def _types(_: Expectation, schema: pl.Schema, __: Mapping[str, pl.Expr]) -> _Count:
    types = {name: str(dtype) for name, dtype in schema.items() if name not in _OURS}
    return _Count(totals={ROWS: pl.len()}, constants={COLUMN_TYPES: types})


def _not_null(expectation: Expectation, schema: pl.Schema, _: Mapping[str, pl.Expr]) -> _Count:
    return _Count(
        totals={ROWS: pl.len()},
        unexpected=_is_missing(expectation.column, schema),
        values=(expectation.column,),
        count_name=_MISSING,
        values_name="column_values.nonnull.unexpected_values",
    )


def _between(expectation: Expectation, schema: pl.Schema, _: Mapping[str, pl.Expr]) -> _Count:
    low, high = expectation.min_value, expectation.max_value
    if not all(bound is None or isinstance(bound, int | float) for bound in (low, high)):
        raise CannotJudge(f"{expectation.expectation_type} on {expectation.column}: bounds must be numbers")
    column = pl.col(expectation.column)
    outside = pl.lit(value=False)
    if low is not None:
        outside |= column <= low if expectation.strict_min else column < low
    if high is not None:
        outside |= column >= high if expectation.strict_max else column > high
    return _of_values(expectation, schema, outside)


def _in_set(expectation: Expectation, schema: pl.Schema, _: Mapping[str, pl.Expr]) -> _Count:
    return _of_values(expectation, schema, ~pl.col(expectation.column).is_in(list(expectation.value_set)))


def _match_regex(expectation: Expectation, schema: pl.Schema, _: Mapping[str, pl.Expr]) -> _Count:
    return _of_values(expectation, schema, ~pl.col(expectation.column).str.contains(expectation.regex))


def _of_values(expectation: Expectation, schema: pl.Schema, is_wrong: pl.Expr) -> _Count:
    missing = _is_missing(expectation.column, schema)
    return _Count(
        totals={ROWS: pl.len(), _MISSING: missing.sum()},
        unexpected=is_wrong & ~missing,
        values=(expectation.column,),
        count_name=f"{expectation.map_metric}.unexpected_count",
        values_name=f"{expectation.map_metric}.unexpected_values",
    )


def _unique_values(expectation: Expectation, schema: pl.Schema, _: Mapping[str, pl.Expr]) -> _Count:
    within, missing = _condition(expectation), _is_missing(expectation.column, schema)
    return _Count(
        totals={ROWS: _how_many(within), _MISSING: _how_many([*within, missing])},
        key=(expectation.column,),
        within=(*within, ~missing),
        values=(expectation.column,),
        count_name="column_values.unique.unexpected_count",
        values_name="column_values.unique.unexpected_values",
    )


def _unique_key(expectation: Expectation, schema: pl.Schema, _: Mapping[str, pl.Expr]) -> _Count:
    key, within = tuple(expectation.column_list), _condition(expectation)
    considered = [*within, *_not_ignored(expectation, schema)]
    return _Count(
        totals={ROWS: _how_many(within), "compound_columns.unique.filtered_row_count": _how_many(considered)},
        key=key,
        within=tuple(considered),
        values=key,
        count_name="compound_columns.unique.unexpected_count",
        values_name="compound_columns.unique.unexpected_values",
    )


def _not_ignored(expectation: Expectation, schema: pl.Schema) -> list[pl.Expr]:
    missing = [_is_missing(name, schema) for name in expectation.column_list]
    if expectation.ignore_row_if == "any_value_is_missing":
        return [~pl.any_horizontal(missing)]
    return [~pl.all_horizontal(missing)] if expectation.ignore_row_if == "all_values_are_missing" else []


def _condition(expectation: Expectation) -> list[pl.Expr]:
    """What the rows that it is about keep; only `Column(name) == value` is known."""
    condition = expectation.row_condition
    if condition is None:
        return []
    if isinstance(condition, ComparisonCondition) and condition.operator == Operator.EQUAL:
        return [(pl.col(condition.column.name) == condition.parameter).fill_null(value=False)]
    raise CannotJudge(f"{expectation.expectation_type} cannot be judged where {condition!r}")


def _how_many(conditions: Sequence[pl.Expr]) -> pl.Expr:
    return pl.all_horizontal(conditions).sum() if conditions else pl.len()


def _kept_rule(expectation: Expectation, _: pl.Schema, checks: Mapping[str, pl.Expr]) -> _Count:
    if expectation.rule not in checks:
        raise CannotJudge(f"nothing was given to check the rule {expectation.rule} with")
    check = checks[expectation.rule]
    shown = [name for name in check.meta.root_names() if name not in _OURS]
    return _Count(
        totals={ROWS: pl.len()},
        unexpected=~check,
        values=tuple(shown or check.meta.root_names()),
        count_name=BROKEN,
        values_name=BROKEN_VALUES,
    )


def _is_missing(column: str, schema: pl.Schema) -> pl.Expr:
    value = pl.col(column)
    return (
        value.is_null() | value.is_nan().fill_null(value=False)
        if schema[column].is_float()
        else value.is_null()
    )


_OURS = (REASONS, REMARKS, PUBLISHABLE)
_CONDITIONAL = (gxe.ExpectColumnValuesToBeUnique, gxe.ExpectCompoundColumnsToBeUnique)
_COUNTERS: dict[type, Callable[[Expectation, pl.Schema, Mapping[str, pl.Expr]], _Count]] = {
    gxe.ExpectTableRowCountToBeBetween: _rows,
    gxe.ExpectColumnValuesToNotBeNull: _not_null,
    gxe.ExpectColumnValuesToBeBetween: _between,
    gxe.ExpectColumnValuesToBeInSet: _in_set,
    gxe.ExpectColumnValuesToMatchRegex: _match_regex,
    gxe.ExpectColumnValuesToBeUnique: _unique_values,
    gxe.ExpectCompoundColumnsToBeUnique: _unique_key,
    ExpectColumnTypesToFitContract: _types,
    ExpectRowsToKeepRule: _kept_rule,
}


def _measure(frame: pl.DataFrame, counts: Sequence[_Count]) -> list[Metrics]:
    """The metrics of each count: first all numbers at once, then examples where something is unexpected."""
    keyed = [position for position, count in enumerate(counts) if count.key]
    plans = [_totals(frame, counts), *(_key_proof(frame, counts[position]) for position in keyed)]
    totals, *proofs = pl.collect_all(plans, engine="streaming")
    metrics: list[Metrics] = [dict(count.constants) for count in counts]
    for label, total in totals.row(0, named=True).items():
        number, _, name = label.partition(" ")
        metrics[int(number)][name] = total
    for position, proof in zip(keyed, proofs, strict=True):
        metrics[position] |= _repeats(frame, counts[position], is_proven=proof.item())
    for found, count in zip(metrics, counts, strict=True):
        if count.unexpected is not None:
            rows = frame.lazy().filter(count.unexpected)
            found[count.values_name] = _examples(rows, count) if found[count.count_name] else []
    return metrics


def _totals(frame: pl.DataFrame, counts: Sequence[_Count]) -> pl.LazyFrame:
    """One row of all numbers, each under the position of its count and the name of its metric."""
    totals: dict[str, pl.Expr] = {}
    for position, count in enumerate(counts):
        totals |= {f"{position} {name}": total for name, total in count.totals.items()}
        if count.unexpected is not None:
            totals[f"{position} {count.count_name}"] = count.unexpected.sum()
    return frame.lazy().select(**totals)


def _key_proof(frame: pl.DataFrame, count: _Count) -> pl.LazyFrame:
    """Whether no hash of a key repeats: cheap, and then no key does."""
    rows = _keyed_rows(frame, count).select(pl.struct(count.key).hash().alias("hash"))
    return rows.select(pl.col("hash").n_unique() == pl.len())


def _keyed_rows(frame: pl.DataFrame, count: _Count) -> pl.LazyFrame:
    rows = frame.lazy().filter(*count.within).select(count.key)
    return rows.with_columns(pl.selectors.float().fill_nan(None))


def _repeats(frame: pl.DataFrame, count: _Count, *, is_proven: bool) -> Metrics:
    """Every copy counts as unexpected."""
    if is_proven:
        return {count.count_name: 0, count.values_name: []}
    rows = _keyed_rows(frame, count)
    copies = rows.group_by(count.key).len().filter(pl.col("len") > 1)
    copied = rows.join(copies, on=count.key, how="semi", nulls_equal=True, maintain_order="left")
    number = int(copies.select(pl.col("len").sum()).collect(engine="streaming").item())
    return {count.count_name: number, count.values_name: _examples(copied, count) if number else []}


def _examples(rows: pl.LazyFrame, count: _Count) -> list[Any]:
    """The first few values as text fit for JSON: alone for one column, by name for several."""
    found = rows.select(count.values).head(EXAMPLES).collect(engine="streaming")
    if len(count.values) == 1:
        return [_plain(value) for value in found.to_series()]
    return [{name: _plain(value) for name, value in row.items()} for row in found.iter_rows(named=True)]


def _plain(value: object) -> object:
    if isinstance(value, pl.Series):
        return ", ".join(map(str, value))
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _decide(expectation: Expectation, metrics: Metrics) -> Any:
    configuration = {"result_format": dict(_RESULT_FORMAT)}
    said = expectation._validate(metrics=metrics, runtime_configuration=configuration)
    return expectation._build_evr(raw_response=said)


def _suite_result(suite: ExpectationSuite, results: list[Any], meta: Mapping[str, Any]) -> Any:
    passed = sum(result.success for result in results)
    return ExpectationSuiteValidationResult(
        success=passed == len(results),
        results=results,
        suite_name=suite.name,
        suite_parameters={},
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": 100 * passed / len(results) if results else None,
        },
        meta=dict(meta),
    )
