"""Rules about several columns of one row.

Where a rule knows nothing, as where a value is missing, the row is unexpected.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from itertools import combinations

import polars as pl

from expectations.polars_gx.condition import Condition, Rule
from expectations.polars_gx.errors import CannotJudge
from expectations.polars_gx.literals import is_among, require
from expectations.polars_gx.question import Question


def _of_columns(is_right: Callable[[Question], pl.Expr]) -> Rule:
    def find(asked: Question) -> Condition:
        unexpected = ~is_right(asked).fill_null(value=False)
        return Condition(within=asked.rows, unexpected=unexpected, shown=tuple(asked.columns))

    return find


def _pair_equal(asked: Question) -> pl.Expr:
    first, second = _of_one_kind(asked)
    return first.eq(second)


def _pair_greater(asked: Question) -> pl.Expr:
    first, second = _of_one_kind(asked)
    return first >= second if asked.values.get("or_equal") else first > second


def _pair_in_set(asked: Question) -> pl.Expr:
    pairs = asked.values.get("value_pairs_set")
    if pairs is None:
        return pl.lit(value=True)
    found = [
        pl.all_horizontal(_equals(asked, *one) for one in zip(asked.columns, pair, strict=True))
        for pair in pairs
    ]
    return pl.any_horizontal(pl.lit(value=False), *found)


def _equals(asked: Question, column: str, value: object) -> pl.Expr:
    return asked.data.is_missing(column) if value is None else is_among(asked.data, column, [value])


def _all_equal(asked: Question) -> pl.Expr:
    first, *others = _of_one_kind(asked)
    return pl.all_horizontal(pl.lit(value=True), *(first.eq_missing(other) for other in others))


def _all_different(asked: Question) -> pl.Expr:
    pairs = combinations(_of_one_kind(asked), 2)
    return pl.all_horizontal(pl.lit(value=True), *(one.ne_missing(other) for one, other in pairs))


def _sums_up(asked: Question) -> pl.Expr:
    require(asked.data, asked.columns, what="only integers and floats are summed up", fits=_is_binary_number)
    values = (asked.data.known(column).cast(pl.Float64) for column in asked.columns)
    return reduce(lambda left, right: left + right, values).fill_nan(None).eq(asked.values["sum_total"])


def _of_one_kind(asked: Question) -> list[pl.Expr]:
    """The columns' known values, where all of them are numbers or all are of one type."""
    kinds = {_is_binary_number(dtype) or dtype for dtype in map(asked.data.dtype, asked.columns)}
    if len(kinds) > 1:
        said = ", ".join(f"{column} {asked.data.dtype(column)}" for column in asked.columns)
        raise CannotJudge(f"columns of different types do not compare: {said}")
    return [asked.data.known(column) for column in asked.columns]


def _is_binary_number(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float()


def _broken_rule(asked: Question) -> Condition:
    """A row for which the check is null keeps the rule. Columns of lists are shown where there is nothing else."""
    rule, data = asked.values["rule"], asked.data
    check = data.checks.get(rule)
    if check is None:
        if not asked.values.get("sql"):
            raise CannotJudge(f"nothing was given to check the rule {rule} with")
        check = pl.sql_expr(asked.values["sql"])
    read = list(dict.fromkeys(check.meta.root_names()))
    plain = [name for name in read if not data.dtype(name).is_nested()]
    return Condition(within=asked.rows, unexpected=~check, shown=tuple(plain or read))


RULES: dict[str, Rule] = {
    "column_pair_values.equal": _of_columns(_pair_equal),
    "column_pair_values.a_greater_than_b": _of_columns(_pair_greater),
    "column_pair_values.in_set": _of_columns(_pair_in_set),
    "multicolumn_values.equal": _of_columns(_all_equal),
    "multicolumn_sum.equal": _of_columns(_sums_up),
    "select_column_values.unique.within_record": _of_columns(_all_different),
    "rows.broken_rule": _broken_rule,
}
