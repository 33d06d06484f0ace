"""Rules about one column's values, each by itself. What is missing is never unexpected, but where that is asked."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from expectations.polars_gx.condition import Condition, Rule
from expectations.polars_gx.data import Data
from expectations.polars_gx.errors import CannotJudge
from expectations.polars_gx.literals import below, is_among, is_number, require
from expectations.polars_gx.question import Question


def _of_known(is_wrong: Callable[[Question], pl.Expr]) -> Rule:
    def find(asked: Question) -> Condition:
        unexpected = is_wrong(asked) & ~asked.data.is_missing(asked.column)
        return Condition(within=asked.rows, unexpected=unexpected, shown=(asked.column,))

    return find


def _missing(asked: Question) -> Condition:
    return Condition(within=asked.rows, unexpected=asked.data.is_missing(asked.column), shown=(asked.column,))


def _present(asked: Question) -> Condition:
    return Condition(
        within=asked.rows, unexpected=~asked.data.is_missing(asked.column), shown=(asked.column,)
    )


def _outside(asked: Question) -> pl.Expr:
    low, high = asked.bounds
    outside = pl.lit(value=False)
    if low is not None:
        outside |= below(asked.data, asked.column, low, or_equal=bool(asked.values.get("strict_min")))
    if high is not None:
        outside |= ~below(asked.data, asked.column, high, or_equal=not asked.values.get("strict_max"))
    return outside


def _not_in_set(asked: Question) -> pl.Expr:
    allowed = asked.values.get("value_set")
    return pl.lit(value=False) if allowed is None else ~is_among(asked.data, asked.column, allowed)


def _in_set(asked: Question) -> pl.Expr:
    forbidden = asked.values.get("value_set")
    return pl.lit(value=False) if forbidden is None else is_among(asked.data, asked.column, forbidden)


def _unmatched(asked: Question) -> pl.Expr:
    return ~_matched(asked)


def _matched(asked: Question) -> pl.Expr:
    return _matches(asked.data, asked.column, asked.values["regex"])


def _unmatched_by_list(asked: Question) -> pl.Expr:
    found = [_matches(asked.data, asked.column, regex) for regex in asked.values["regex_list"]]
    return ~(pl.all_horizontal(found) if asked.values.get("match_on") == "all" else pl.any_horizontal(found))


def _matched_by_list(asked: Question) -> pl.Expr:
    return pl.any_horizontal(
        _matches(asked.data, asked.column, regex) for regex in asked.values["regex_list"]
    )


def _matches(data: Data, column: str, regex: str) -> pl.Expr:
    require(data, [column], what="only text can match a pattern", fits=lambda dtype: dtype == pl.String)
    try:
        pl.Series([""]).str.contains(regex)
    except pl.exceptions.ComputeError as error:
        raise CannotJudge(
            f"the pattern {regex!r} has something that Polars does not know: {error}"
        ) from error
    return pl.col(column).str.contains(regex)


def _length_outside(asked: Question) -> pl.Expr:
    low, high = asked.bounds
    length, outside = _length(asked), pl.lit(value=False)
    if low is not None:
        outside |= length <= low if asked.values.get("strict_min") else length < low
    if high is not None:
        outside |= length >= high if asked.values.get("strict_max") else length > high
    return outside


def _length_differs(asked: Question) -> pl.Expr:
    return _length(asked).ne(asked.values["value"])


def _length(asked: Question) -> pl.Expr:
    require(asked.data, [asked.column], what="only text has a length", fits=lambda dtype: dtype == pl.String)
    return pl.col(asked.column).str.len_chars().cast(pl.Int64)


def _off_step(asked: Question) -> pl.Expr:
    """Further from a multiple than `tolerance` steps; where the step is missing nothing is."""
    data, steps = asked.data, asked.values.get("step_column")
    read = [asked.column, *([steps] if steps else [])]
    require(data, read, what="only numbers have steps", fits=is_number)
    step = data.known(steps).cast(pl.Float64) if steps else pl.lit(float(asked.values["step"]))
    number = data.known(asked.column).cast(pl.Float64) / step
    return (number - number.round()).abs().gt(asked.values["tolerance"])


RULES: dict[str, Rule] = {
    "column_values.nonnull": _missing,
    "column_values.null": _present,
    "column_values.between": _of_known(_outside),
    "column_values.in_set": _of_known(_not_in_set),
    "column_values.not_in_set": _of_known(_in_set),
    "column_values.match_regex": _of_known(_unmatched),
    "column_values.not_match_regex": _of_known(_matched),
    "column_values.match_regex_list": _of_known(_unmatched_by_list),
    "column_values.not_match_regex_list": _of_known(_matched_by_list),
    "column_values.value_length.between": _of_known(_length_outside),
    "column_values.value_length.equals": _of_known(_length_differs),
    "column_values.multiple_of": _of_known(_off_step),
}
