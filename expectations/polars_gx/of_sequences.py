"""Rules for which a row is judged beside others: order, gaps, repeats, distance from the mean, groups, views."""

from __future__ import annotations

import polars as pl

from expectations.polars_gx.condition import Condition, Rule
from expectations.polars_gx.data import Data, View
from expectations.polars_gx.errors import CannotJudge
from expectations.polars_gx.literals import is_number, require
from expectations.polars_gx.question import Question

GAP = "gap_before"
TOTAL = "total"
HOLDS = "holds"


def _out_of_order(sign: int) -> Rule:
    """As the rows lie, missing values left out."""

    def find(asked: Question) -> Condition:
        data, column, groups = asked.data, asked.column, asked.groups
        require(data, [column], what="only numbers and times have an order here", fits=_has_distance)
        step = _steps(data, column).diff()
        step = sign * (step.over(groups) if groups else step)
        return Condition(
            within=(*asked.rows, ~data.is_missing(column)),
            unexpected=step <= 0 if asked.values.get("strictly") else step < 0,
            shown=(*groups, column),
            is_row_by_row=False,
        )

    return find


def _after_gap(asked: Question) -> Condition:
    data, column, groups = asked.data, asked.column, asked.groups
    require(data, [column], what="only numbers and times have gaps", fits=_has_distance)
    same_group = [pl.col(name).eq_missing(pl.col(name).shift(1)) for name in groups]
    gap = pl.when(pl.all_horizontal(pl.lit(value=True), *same_group)).then(_distance(data, column))
    return Condition(
        within=(*asked.rows, ~data.is_missing(column)),
        arrange=lambda frame: frame.sort(*groups, column).with_columns(gap.alias(GAP)),
        unexpected=pl.col(GAP) > asked.values["max_gap"],
        shown=(*groups, column, GAP),
        is_row_by_row=False,
    )


def _total_outside(asked: Question) -> Condition:
    """Groups, not rows; null for a group with a missing value, whose sum nobody knows."""
    data, column, groups = asked.data, asked.values["column"], asked.groups
    require(data, [column], what="only numbers have a sum", fits=is_number)
    value = data.known(column).cast(pl.Float64)
    total = pl.when(value.null_count() == 0).then(value.sum())
    low, high = (pl.lit(bound, dtype=pl.Float64) for bound in asked.bounds)
    is_below, is_above = pl.col(TOTAL) < low, pl.col(TOTAL) > high
    return Condition(
        within=asked.rows,
        arrange=lambda frame: frame.group_by(groups).agg(total.alias(TOTAL)).sort(groups),
        unexpected=pl.when(pl.col(TOTAL).is_not_null()).then(
            is_below.fill_null(value=False) | is_above.fill_null(value=False)
        ),
        shown=(*groups, TOTAL),
        is_row_by_row=False,
    )


def _unlike_view(asked: Question) -> Condition:
    """Rows of a view, not of the frame."""
    name, query = asked.values["view"], asked.values.get("query")
    view = asked.data.views.get(name) or (_queried(query) if query else None)
    if view is None:
        raise CannotJudge(f"nothing was given to look at as the view {name}")
    seen = view(asked.data.frame)
    schema = seen.collect_schema()
    if schema.get(HOLDS) != pl.Boolean:
        raise CannotJudge(f"the view {name} has no boolean column {HOLDS}, only {', '.join(schema)}")
    return Condition(
        within=(),
        arrange=lambda _: seen,
        unexpected=~pl.col(HOLDS),
        shown=tuple(name for name in schema if name != HOLDS),
        is_row_by_row=False,
    )


def _queried(query: str) -> View:
    return lambda rows: rows.sql(query)


def _far_from_mean(asked: Question) -> Condition:
    """Null, and so expected, where the deviation is zero or unknown."""
    data, column, threshold = asked.data, asked.column, asked.values["threshold"]
    require(data, [column], what="only numbers have a mean", fits=is_number)
    value = data.known(column).cast(pl.Float64)
    score = ((value - value.mean()) / value.std()).fill_nan(None)
    is_far = score.abs() >= abs(threshold) if asked.values.get("double_sided") else score >= threshold
    return Condition(
        within=(*asked.rows, ~data.is_missing(column)),
        unexpected=(value.std() > 0) & is_far,
        shown=(column,),
        is_row_by_row=False,
    )


def _repeated_value(asked: Question) -> Condition:
    within = (*asked.rows, ~asked.data.is_missing(asked.column))
    return Condition(within=within, key=(asked.column,), shown=(asked.column,), is_row_by_row=False)


def _repeated_key(asked: Question) -> Condition:
    key = tuple(asked.columns)
    return Condition(within=asked.rows, key=key, shown=key, is_row_by_row=False)


def _steps(data: Data, column: str) -> pl.Expr:
    """Signed numbers whose differences are those of the column."""
    dtype, value = data.dtype(column), data.known(column)
    if dtype.is_temporal():
        return value.to_physical().cast(pl.Int64)
    return value.cast(pl.Int64) if dtype.is_integer() else value


_TICKS_PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY_S = 86_400


def _distance(data: Data, column: str) -> pl.Expr:
    """From the value before: seconds between dates and times, else a plain difference."""
    dtype, steps = data.dtype(column), _steps(data, column).diff().cast(pl.Float64)
    if isinstance(dtype, pl.Datetime):
        return steps / _TICKS_PER_SECOND[dtype.time_unit]
    return steps * _DAY_S if dtype == pl.Date else steps


def _has_distance(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Date or isinstance(dtype, pl.Datetime)


RULES: dict[str, Rule] = {
    "column_values.increasing": _out_of_order(1),
    "column_values.decreasing": _out_of_order(-1),
    "column_values.in_order": _out_of_order(1),
    "column_values.gap": _after_gap,
    "column_values.z_score.under_threshold": _far_from_mean,
    "column_values.unique": _repeated_value,
    "compound_columns.unique": _repeated_key,
    "group_totals.between": _total_outside,
    "view.broken": _unlike_view,
}
