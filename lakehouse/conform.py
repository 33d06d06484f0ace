"""Conforming: a parsed or built frame becomes rows of its table, each with what is wrong with it.

Names and types are checked as a whole: a frame that does not fit is an error. Values are judged row by row:
a row that breaks a critical rule stays and carries the rule's name in `reasons`; a warning's name goes to
`remarks`. Nothing is repaired or dropped, and no number is narrowed unseen. Everything is one lazy pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import chain

import polars as pl

from lakehouse.clean import CONTRADICTS
from lakehouse.contract import Column, Rule, Severity, Table
from lakehouse.errors import ContractError
from lakehouse.verdict import REASONS, REMARKS

# 15 significant decimal digits survive any Float64 that is not next to zero (DBL_DIG of IEEE 754 doubles).
_SAFE_DIGITS = 15
_SAFE_MAGNITUDE = 1e-290
# Up to here every whole number is a Float64 of its own.
_SAFE_WHOLE = 2**53


def conform(table: Table, frame: pl.LazyFrame) -> pl.LazyFrame:
    """The table's columns in order, plus `reasons` and `remarks`: lists of rule names, empty for a clean row.

    The frame holds every column that is not derived. Numbers may come as the provider's own text, in lists too,
    whole ones in any width; a value that is not a number, not whole where it must be, or not held exactly by its
    type is a reason or a remark. NaN is missing. Raises ContractError with all missing, extra and mistyped columns.
    """
    given = frame.collect_schema()
    stored = [column for column in table.columns if column.derived is None]
    _check_schema(table, given, stored)
    readings = [_read(column, given[column.name]) for column in stored]
    flaws = [flaw for reading in readings for flaw in reading.flaws]
    return (
        frame.select(
            *(reading.value for reading in readings), *(flaw.found.alias(flaw.name) for flaw in flaws)
        )
        .with_columns(
            **{column.name: column.derived for column in table.columns if column.derived is not None}
        )
        .select(
            *table.schema.names(),
            _broken(table, flaws, severity="critical").alias(REASONS),
            _broken(table, flaws, severity="warning").alias(REMARKS),
        )
    )


def explain_reason(table: Table, name: str) -> str:
    """The sentence for people behind a name in `reasons` or `remarks`; else the name itself."""
    if name == CONTRADICTS:
        return f"another row with the same {', '.join(table.identity)} is already published and says something else"
    rules = chain(table.row_rules, reading_rules(table))
    return next((rule.reason for rule in rules if rule.name == name), name)


def reading_rules(table: Table) -> Iterator[Rule]:
    """What reading the values of numeric columns may find; the checks look into a conformed frame's lists."""
    for column in table.columns:
        is_float = column.dtype.is_float() or column.is_float_list
        if column.derived is None and (column.dtype.is_numeric() or is_float):
            yield _reading_rule(column, "not_a_number", "is not a number")
        if column.derived is None and column.dtype.is_integer():
            yield _reading_rule(column, "not_whole", f"is not a whole number that fits {column.dtype}")
        if column.derived is None and is_float:
            yield _reading_rule(column, "rounded", "has more digits than Float64 holds", severity="warning")


def _reading_rule(column: Column, suffix: str, meaning: str, *, severity: Severity = "critical") -> Rule:
    name = f"{column.name}_{suffix}"
    listed_in = pl.col(REASONS if severity == "critical" else REMARKS)
    # What could not be read is null now, what was rounded is not: the value itself tells where to look.
    is_null = pl.col(column.name).is_null()
    if severity == "critical" and column.is_float_list:
        is_null = pl.col(column.name).list.eval(pl.element().is_null()).list.any().fill_null(value=True)
    is_other = ~is_null if severity == "critical" else is_null
    check = is_other | ~listed_in.list.contains(name)
    return Rule(name=name, check=check, reason=f"{column.name} {meaning}", severity=severity)


@dataclass(frozen=True)
class _Flaw:
    """Something that was seen while a column was read; `found` is true in the rows that have it."""

    name: str
    found: pl.Expr
    severity: Severity = "critical"


@dataclass(frozen=True)
class _Reading:
    """How a given column becomes the table's column."""

    value: pl.Expr
    flaws: tuple[_Flaw, ...] = ()


def _check_schema(table: Table, given: pl.Schema, stored: list[Column]) -> None:
    names = [column.name for column in stored]
    wrong = [f"missing {name}" for name in names if name not in given]
    wrong += [f"extra {name}" for name in given if name not in names]
    wrong += [
        f"{column.name} is {given[column.name]}, not {column.dtype}"
        for column in stored
        if column.name in given and not _is_readable(column.dtype, given[column.name])
    ]
    if wrong:
        raise ContractError(f"{table.name}: {'; '.join(wrong)}")


def _is_readable(wanted: pl.DataType, given: pl.DataType) -> bool:
    if given == wanted or given == pl.Null():
        return True
    if wanted == pl.String():
        return isinstance(given, pl.Categorical | pl.Enum)
    if wanted.is_integer():
        return given.is_integer() or given in (pl.String(), pl.Float64())
    if isinstance(wanted, pl.List) and isinstance(given, pl.List):
        return _is_readable(_inner(wanted), _inner(given))
    return wanted == pl.Float64() and (given.is_integer() or given == pl.String())


def _inner(dtype: pl.List) -> pl.DataType:
    return dtype.inner() if isinstance(dtype.inner, type) else dtype.inner


def _read(column: Column, given: pl.DataType) -> _Reading:
    if column.is_float_list and given == pl.List(pl.String()):
        return _floats_from_texts(column)
    if column.is_float_list:
        return _Reading(pl.col(column.name).cast(column.dtype).list.eval(pl.element().fill_nan(None)))
    if given == pl.String() and column.dtype.is_float():
        return _float_from_text(column)
    if given == pl.String() and column.dtype.is_integer():
        return _whole_from_text(column)
    if given.is_float() and column.dtype.is_integer():
        return _whole_from_float(column)
    if given.is_integer() and column.dtype.is_float():
        return _float_from_whole(column)
    value = pl.col(column.name).cast(column.dtype, strict=False)
    if given.is_integer() and given != column.dtype:
        return _Reading(value, (_not_whole(column, given_null=pl.col(column.name).is_null(), value=value),))
    return _Reading(value.fill_nan(None) if column.dtype.is_float() else value)


def _float_from_text(column: Column) -> _Reading:
    text = pl.col(column.name)
    number = text.cast(pl.Float64, strict=False)
    rounded = pl.map_batches(
        [text, number],
        lambda pair: _is_rounded(pair[0], pair[1]),
        return_dtype=pl.Boolean,
        is_elementwise=True,
    )
    return _Reading(
        number.fill_nan(None),
        (
            _Flaw(f"{column.name}_not_a_number", text.is_not_null() & number.is_null()),
            _Flaw(f"{column.name}_rounded", rounded, severity="warning"),
        ),
    )


def _floats_from_texts(column: Column) -> _Reading:
    """Lists of text, each element judged as a text of its own."""
    texts = pl.col(column.name)
    numbers = texts.list.eval(pl.element().cast(pl.Float64, strict=False))
    is_unread = (
        texts.list.eval(pl.element().is_not_null() & pl.element().cast(pl.Float64, strict=False).is_null())
    ).list.any()
    rounded = pl.map_batches(
        [texts, numbers],
        lambda pair: _is_any_rounded(pair[0], pair[1]),
        return_dtype=pl.Boolean,
        is_elementwise=True,
    )
    return _Reading(
        numbers.list.eval(pl.element().fill_nan(None)),
        (
            _Flaw(f"{column.name}_not_a_number", is_unread.fill_null(value=False)),
            _Flaw(f"{column.name}_rounded", rounded, severity="warning"),
        ),
    )


def _is_any_rounded(texts: pl.Series, numbers: pl.Series) -> pl.Series:
    """Where one of a list's numbers is not exactly what its text says."""
    flat = pl.DataFrame({"text": texts, "number": numbers}).with_row_index("row").explode("text", "number")
    rounded = flat.filter(_is_rounded(flat["text"], flat["number"]))["row"]
    return pl.Series(range(texts.len()), dtype=rounded.dtype).is_in(rounded.implode())


def _whole_from_text(column: Column) -> _Reading:
    text = pl.col(column.name)
    number = text.cast(pl.Float64, strict=False)
    # "5.0" and "1e3" are whole too; beyond 2^53 only plain digits are.
    value = pl.coalesce(text.cast(column.dtype, strict=False), _whole(number, column.dtype))
    return _Reading(
        value,
        (
            _Flaw(f"{column.name}_not_a_number", text.is_not_null() & number.is_null()),
            _not_whole(column, given_null=number.fill_nan(None).is_null(), value=value),
        ),
    )


def _whole_from_float(column: Column) -> _Reading:
    number = pl.col(column.name).fill_nan(None)
    value = _whole(number, column.dtype)
    return _Reading(value, (_not_whole(column, given_null=number.is_null(), value=value),))


def _float_from_whole(column: Column) -> _Reading:
    whole = pl.col(column.name)
    is_safe = whole.is_between(-_SAFE_WHOLE, _SAFE_WHOLE) | (whole.cast(pl.Float64).cast(pl.Int128) == whole)
    return _Reading(whole.cast(pl.Float64), (_Flaw(f"{column.name}_rounded", ~is_safe, severity="warning"),))


def _whole(number: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """The number as a whole one, null where it is not exactly that."""
    is_whole = (number == number.round()) & number.is_between(-_SAFE_WHOLE, _SAFE_WHOLE)
    return pl.when(is_whole).then(number).cast(dtype, strict=False)


def _not_whole(column: Column, *, given_null: pl.Expr, value: pl.Expr) -> _Flaw:
    return _Flaw(f"{column.name}_not_whole", ~given_null & value.is_null())


def _is_rounded(text: pl.Series, number: pl.Series) -> pl.Series:
    """Where a finite number is not exactly what its text says; only long or tiny ones need a closer look."""
    is_long = text.str.len_bytes() > _SAFE_DIGITS
    is_doubtful = ((is_long | (number.abs() < _SAFE_MAGNITUDE)) & number.is_finite()).fill_null(value=False)
    if not is_doubtful.any():
        return is_doubtful
    doubtful = pl.DataFrame({"text": text, "number": number}).filter(is_doubtful)
    unlike = doubtful.filter(pl.col("text") != pl.col("number").cast(pl.String)).unique()
    rounded = [said for said, held in unlike.iter_rows() if not _is_same(said, held)]
    return is_doubtful & text.is_in(rounded)


def _is_same(said: str, held: float) -> bool:
    try:
        return Decimal(said) == Decimal(repr(held))
    except InvalidOperation:  # an exponent beyond what Decimal reads: the number was flushed to zero
        return False


def _broken(table: Table, flaws: list[_Flaw], *, severity: Severity) -> pl.Expr:
    """Names of what a row breaks. They are joined and split: building lists costs ten times as much."""
    names = [
        pl.when(pl.col(flaw.name)).then(pl.lit(flaw.name)) for flaw in flaws if flaw.severity == severity
    ]
    names += [
        pl.when(_is_broken(rule, flaws)).then(pl.lit(rule.name))
        for rule in table.row_rules
        if rule.severity == severity
    ]
    if not names:
        return pl.lit(pl.Series([[]], dtype=pl.List(pl.String))).first()
    return pl.concat_str(names, separator=",", ignore_nulls=True).str.extract_all("[^,]+")


def _is_broken(rule: Rule, flaws: list[_Flaw]) -> pl.Expr:
    """A value that could not be read has its own reason: it is not called missing as well."""
    unread = [
        pl.col(flaw.name) for flaw in flaws if flaw.severity == "critical" and _is_missing_rule(rule, flaw)
    ]
    return ~pl.any_horizontal(rule.check, *unread) if unread else ~rule.check


def _is_missing_rule(rule: Rule, flaw: _Flaw) -> bool:
    column = rule.name.removesuffix("_missing")
    return rule.name.endswith("_missing") and flaw.name in (f"{column}_not_a_number", f"{column}_not_whole")
