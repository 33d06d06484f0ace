"""Numbers about a whole table or column: a rule for each of the library's metrics, by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from expectations.polars_gx.data import Data
from expectations.polars_gx.errors import CannotJudge
from expectations.polars_gx.literals import is_number, members, require
from expectations.polars_gx.question import Question


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """How one metric is computed: `totals` over the frame, beside all others, or a `plan` of one row of its own.

    `finish` makes the metric's value of that row.
    """

    totals: Mapping[str, pl.Expr] = field(default_factory=dict)
    plan: pl.LazyFrame | None = None
    finish: Callable[[Mapping[str, Any]], Any] = field(default=lambda row: row["value"])


Rule = Callable[[Question], Aggregate]


def _constant(value: Callable[[Data], Any]) -> Rule:
    return lambda asked: Aggregate(finish=lambda _: value(asked.data))


def _column_types(data: Data) -> list[dict[str, Any]]:
    return [{"name": name, "type": str(dtype)} for name, dtype in data.schema.items()]


def _row_count(asked: Question) -> Aggregate:
    return Aggregate(totals={"value": count_rows(asked.rows)})


def count_rows(rows: tuple[pl.Expr, ...]) -> pl.Expr:
    """How many rows keep all of these."""
    return pl.all_horizontal(rows).sum() if rows else pl.len()


def _of_column(
    reduce: Callable[[pl.Expr], pl.Expr],
    *,
    fits: Callable[[pl.DataType], bool] = lambda _: True,
    of_floats: bool = True,
) -> Rule:
    """A reduction of the column's known values; of decimals as floats where `of_floats`."""

    def find(asked: Question) -> Aggregate:
        require(asked.data, [asked.column], what="it has no such number", fits=fits)
        is_cast = of_floats and isinstance(asked.data.dtype(asked.column), pl.Decimal)
        known = _known(asked)
        return Aggregate(totals={"value": reduce(known.cast(pl.Float64) if is_cast else known)})

    return find


def _known(asked: Question) -> pl.Expr:
    known = asked.data.known(asked.column)
    return known.filter(*asked.rows) if asked.rows else known


def _has_middle(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype.is_temporal()


def _has_order(dtype: pl.DataType) -> bool:
    return not dtype.is_nested()


def _unique_share(asked: Question) -> Aggregate:
    known = _known(asked)
    totals = {"unique": known.drop_nulls().n_unique(), "all": known.count()}
    return Aggregate(totals=totals, finish=lambda row: row["unique"] / row["all"] if row["all"] else 0)


def _known_share(asked: Question) -> Aggregate:
    totals = {"known": _known(asked).count(), "all": count_rows(asked.rows)}
    return Aggregate(totals=totals, finish=lambda row: row["known"] / row["all"] if row["all"] else 0)


def _quantiles(asked: Question) -> Aggregate:
    """A value of the column each, the one at the even place of two as near; or between two, as the option says."""
    how = asked.values.get("allow_relative_error") or "nearest"
    what = "only integers, floats and times have quantiles"
    require(asked.data, [asked.column], what=what, fits=_has_quantiles)
    if how not in _PLACES and how not in _SHARES:
        raise CannotJudge(f"there is no interpolation {how}")
    ordered = _known(asked).drop_nulls().sort()
    found = [_quantile(ordered, share, how) for share in asked.values["quantiles"]]
    named = {str(place): value for place, value in enumerate(found)}
    return Aggregate(plan=asked.data.frame.select(**named), finish=lambda row: list(row.values()))


_PLACES: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "nearest": lambda place: place.round(0, mode="half_to_even"),
    "lower": pl.Expr.floor,
    "higher": pl.Expr.ceil,
}
_SHARES: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "linear": lambda fraction: fraction,
    "midpoint": lambda fraction: (fraction > 0) * 0.5,
}


def _quantile(ordered: pl.Expr, share: float, how: str) -> pl.Expr:
    place = (ordered.len().cast(pl.Float64) - 1).clip(0) * share
    if how in _PLACES:
        return _at(ordered, _PLACES[how](place))
    low, high = _at(ordered, place.floor()).cast(pl.Float64), _at(ordered, place.ceil()).cast(pl.Float64)
    part, step = _SHARES[how](place - place.floor()), high - low
    # As numpy has it, from the nearer end: between infinities there is no number.
    return pl.when(part < 0.5).then(low + step * part).otherwise(high - step * (1 - part))


def _at(ordered: pl.Expr, place: pl.Expr) -> pl.Expr:
    return ordered.get(place.cast(pl.Int64), null_on_oob=True)


def _has_quantiles(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float() or isinstance(dtype, pl.Datetime)


def _most_common(asked: Question) -> Aggregate:
    """All values as common as the most common one, in order."""
    modes = _known(asked).drop_nulls().mode().sort().implode()
    return Aggregate(
        plan=asked.data.frame.select(modes.alias("value")), finish=lambda row: list(row["value"])
    )


def _distinct(finish: Callable[[set[Any], set[Any]], Any]) -> Rule:
    """About the column's distinct values and those of a set."""

    def find(asked: Question) -> Aggregate:
        wanted = list(asked.values.get("value_set") or ())
        fitting = set(members(asked.data, asked.column, wanted).drop_nulls())
        unfitting = {value for value in wanted if not _is_among(value, fitting)}
        found = _known(asked).drop_nulls().unique().implode()
        return Aggregate(
            plan=asked.data.frame.select(found.alias("value")),
            finish=lambda row: finish(set(row["value"]), fitting | unfitting),
        )

    return find


def _is_among(value: Any, values: set[Any]) -> bool:
    return any(type(value) is not bool and value == other for other in values)


def _ordered(values: set[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:  # of several types
        return list(values)


AGGREGATES: dict[str, Rule] = {
    "table.row_count": _row_count,
    "table.columns": _constant(lambda data: data.schema.names()),
    "table.column_count": _constant(lambda data: len(data.schema)),
    "table.column_types": _constant(_column_types),
    "column.min": _of_column(pl.Expr.min, fits=_has_order, of_floats=False),
    "column.max": _of_column(pl.Expr.max, fits=_has_order, of_floats=False),
    "column.mean": _of_column(pl.Expr.mean, fits=_has_middle),
    "column.median": _of_column(pl.Expr.median, fits=_has_middle),
    "column.sum": _of_column(pl.Expr.sum, fits=is_number),
    "column.standard_deviation": _of_column(pl.Expr.std, fits=is_number),
    "column.non_null_count": _of_column(pl.Expr.count, of_floats=False),
    "column.non_null_proportion": _known_share,
    "column.unique_proportion": _unique_share,
    "column.distinct_values.count": _of_column(lambda known: known.drop_nulls().n_unique(), of_floats=False),
    "column.distinct_values.not_in_set": _distinct(lambda found, wanted: _ordered(found - wanted)),
    "column.distinct_values.not_in_set.count": _distinct(lambda found, wanted: len(found - wanted)),
    "column.distinct_values.missing_from_column": _distinct(lambda found, wanted: _ordered(wanted - found)),
    "column.distinct_values.missing_from_column.count": _distinct(lambda found, wanted: len(wanted - found)),
    "column.most_common_value": _most_common,
    "column.quantile_values": _quantiles,
}
