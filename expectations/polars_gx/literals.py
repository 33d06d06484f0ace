"""Bounds and sets of a suite as literals that compare with a column exactly as they do in Python."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Any

import polars as pl

from expectations.polars_gx.data import Data
from expectations.polars_gx.errors import CannotJudge

_DIGITS = Context(prec=1100)
"""The exact value of any float fits."""


def comparable(data: Data, column: str) -> pl.Expr:
    """The column as its literals are to be compared with: of 32 bits widened, missing values null."""
    value = data.known(column)
    return value.cast(pl.Float64) if data.dtype(column) == pl.Float32 else value


def below(data: Data, column: str, bound: Any, *, or_equal: bool) -> pl.Expr:
    """Whether a value is below the bound. Raises CannotJudge where the two do not compare in Python."""
    value, dtype = comparable(data, column), data.dtype(column)
    if not isinstance(dtype, pl.Decimal):
        literal = _literal(column, dtype, bound)
        return value <= literal if or_equal else value < literal
    exact, largest = _number(column, bound), _largest(dtype)
    if abs(exact) > largest:
        return pl.lit(exact > 0) & value.is_not_null()
    if or_equal:
        return value <= _decimal(exact, dtype, ROUND_FLOOR)
    return value < _decimal(exact, dtype, ROUND_CEILING)


def is_among(data: Data, column: str, values: Iterable[Any]) -> pl.Expr:
    """Whether a value equals one of these; never null. A missing value equals none."""
    fitting = members(data, column, values).drop_nulls()
    if fitting.is_empty():
        return pl.lit(value=False)
    value = comparable(data, column)
    found = (
        value == pl.lit(fitting[0], dtype=fitting.dtype)
        if len(fitting) == 1
        else value.is_in(fitting.implode())
    )
    return found.fill_null(value=False)


def members(data: Data, column: str, values: Iterable[Any]) -> pl.Series:
    """Those of the values that the column can hold, in its type: nothing else can be equal to one of its own."""
    dtype = data.dtype(column)
    dtype = pl.Float64() if dtype == pl.Float32 else dtype
    fitting = [found for value in values if (found := _fitting(column, dtype, value)) is not None]
    return pl.Series(fitting, dtype=dtype, strict=False)  # null for an integer that is too large


def require(data: Data, columns: Collection[str], *, what: str, fits: Callable[[pl.DataType], bool]) -> None:
    """Raise CannotJudge where a column is absent or not of a type that fits; `what` says what fits."""
    for column in columns:
        if not fits(data.dtype(column)):
            raise CannotJudge(f"column {column} is {data.dtype(column)}: {what}")


def is_number(dtype: pl.DataType) -> bool:
    """Whether a column holds integers, floats or decimals."""
    return dtype.is_numeric()


def _literal(column: str, dtype: pl.DataType, bound: Any) -> pl.Expr:
    if dtype.is_numeric():
        _number(column, bound)
        return pl.lit(bound)
    if isinstance(dtype, pl.Datetime):
        return _moment(column, dtype, bound)
    raise CannotJudge(f"column {column} is {dtype}: it has no order that a bound could use")


def _number(column: str, bound: Any) -> Decimal:
    if isinstance(bound, bool) or not isinstance(bound, int | float | Decimal):
        raise CannotJudge(f"column {column} holds numbers: {bound!r} is no bound for it")
    return Decimal(bound)


def _moment(column: str, dtype: pl.Datetime, bound: Any) -> pl.Expr:
    """A literal of the column's own unit and zone, unless it is coarser than the bound."""
    if not isinstance(bound, datetime) or (bound.tzinfo is None) != (dtype.time_zone is None):
        zone = "with" if dtype.time_zone else "without"
        raise CannotJudge(f"column {column} holds times {zone} a zone: {bound!r} is no bound for it")
    if dtype.time_zone is None:
        return pl.lit(bound, dtype=pl.Datetime("us"))
    in_utc = pl.lit(bound.astimezone(UTC).replace(tzinfo=None), dtype=pl.Datetime("us"))
    return in_utc.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)


def _decimal(exact: Decimal, dtype: pl.Decimal, rounding: str) -> pl.Expr:
    """The next decimal of the column's scale: a float is hardly ever one, and compared as a float it costs thrice."""
    return pl.lit(_quantized(exact, dtype, rounding), dtype=pl.Decimal(38, dtype.scale))


def _quantized(exact: Decimal, dtype: pl.Decimal, rounding: str) -> Decimal:
    return exact.quantize(Decimal(1).scaleb(-dtype.scale), rounding=rounding, context=_DIGITS)


def _largest(dtype: pl.Decimal) -> Decimal:
    return Decimal(10 ** (dtype.precision or 38) - 1).scaleb(-dtype.scale, context=_DIGITS)


def _fitting(column: str, dtype: pl.DataType, value: Any) -> Any:
    if isinstance(dtype, pl.Decimal):
        return _fitting_decimal(dtype, value)
    if dtype.is_integer():
        return int(value) if _is_number(value) and value == value // 1 else None
    if dtype.is_float():
        return float(value) if _is_number(value) else None
    for polars, python in ((pl.String, str), (pl.Boolean, bool), (pl.Datetime, datetime)):
        if isinstance(dtype, polars):
            return value if isinstance(value, python) else None
    raise CannotJudge(f"column {column} is {dtype}: its values cannot be looked up in a set")


def _fitting_decimal(dtype: pl.Decimal, value: Any) -> Decimal | None:
    if not _is_number(value) or not abs(exact := Decimal(value)) <= _largest(dtype):
        return None
    rounded = _quantized(exact, dtype, ROUND_FLOOR)
    return rounded if rounded == exact else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool) and value == value
