"""What the library's words for the rows that are considered mean in Polars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from expectations.polars_gx.data import Data
from expectations.polars_gx.errors import CannotJudge
from expectations.polars_gx.library import (
    AndCondition,
    ComparisonCondition,
    NullityCondition,
    Operator,
    OrCondition,
    deserialize_row_condition,
)
from expectations.polars_gx.literals import below, is_among


def rows_of(data: Data, domain: Mapping[str, Any]) -> tuple[pl.Expr, ...]:
    """What the rows of a domain keep: its row condition and what it ignores. Each is true or false."""
    return (*_condition(data, domain.get("row_condition")), *_not_ignored(data, domain))


def _condition(data: Data, said: Any) -> tuple[pl.Expr, ...]:
    condition = deserialize_row_condition(said)
    return () if condition is None else (_where(data, condition),)


def _where(data: Data, condition: Any) -> pl.Expr:
    """As `DataFrame.query` of pandas has it: only != and NOT IN hold for what is missing."""
    if isinstance(condition, AndCondition):
        return pl.all_horizontal(_where(data, part) for part in condition.conditions)
    if isinstance(condition, OrCondition):
        return pl.any_horizontal(_where(data, part) for part in condition.conditions)
    if isinstance(condition, NullityCondition):
        missing = data.is_missing(condition.column.name)
        return missing if condition.is_null else ~missing
    if isinstance(condition, ComparisonCondition):
        return _compares(data, condition.column.name, condition.operator, condition.parameter)
    raise CannotJudge(f"rows cannot be chosen by {condition!r}: build the condition with Column(...)")


def _compares(data: Data, column: str, operator: str, parameter: Any) -> pl.Expr:
    """False where a value is missing; the opposites, != and NOT IN, are true there."""
    holds = {
        Operator.EQUAL: lambda: is_among(data, column, [parameter]),
        Operator.NOT_EQUAL: lambda: ~is_among(data, column, [parameter]),
        Operator.LESS_THAN: lambda: below(data, column, parameter, or_equal=False),
        Operator.LESS_THAN_OR_EQUAL: lambda: below(data, column, parameter, or_equal=True),
        Operator.GREATER_THAN: lambda: ~below(data, column, parameter, or_equal=True),
        Operator.GREATER_THAN_OR_EQUAL: lambda: ~below(data, column, parameter, or_equal=False),
        Operator.IN: lambda: is_among(data, column, parameter),
        Operator.NOT_IN: lambda: ~is_among(data, column, parameter),
    }
    return holds[Operator(operator)]().fill_null(value=False)


_ALL, _ANY, _NONE = "all", "any", "none"
_IGNORED = {
    "both_values_are_missing": _ALL,
    "all_values_are_missing": _ALL,
    "either_value_is_missing": _ANY,
    "any_value_is_missing": _ANY,
    "neither": _NONE,
    "never": _NONE,
}


def _not_ignored(data: Data, domain: Mapping[str, Any]) -> tuple[pl.Expr, ...]:
    columns = domain.get("column_list") or [
        domain[name] for name in ("column_A", "column_B") if name in domain
    ]
    if not columns:
        return ()
    ignored = _IGNORED[domain.get("ignore_row_if") or "never"]
    missing = [data.is_missing(column) for column in columns]
    if ignored == _NONE:
        return ()
    return (~(pl.all_horizontal(missing) if ignored == _ALL else pl.any_horizontal(missing)),)
