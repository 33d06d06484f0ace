"""What the readers of venues are made of: the values of one field over all rows of a page, if they are as expected.

Everything here raises Unlike, or another error of `MISREAD`, where an answer differs from what its venue documents
in any way: a key more or less, another type, an empty text, a moment out of bounds. It repairs and guesses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import polars as pl

Columns = dict[str, pl.Series]
"""Columns by name. Moments are milliseconds since 1970, prices and amounts the venue's text."""

_FIRST_S, _LAST_S = 1_000_000_000, 9_999_999_999
_DIGITS_S = r"\A[1-9][0-9]{9}\z"
_DIGITS_MS = r"\A[1-9][0-9]{12}\z"
_DECIMAL = r"\A-?[0-9]+(\.[0-9]+)?\z"
# An hour from 00 to 23, a second from 00 to 59: what is beyond is another matter for every reader of times.
_ISO_UTC = r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?Z\z"


class Unlike(ValueError):
    """An answer is not exactly as its venue documents it."""


def plain_json(body: bytes) -> Any:
    """A document whose prices and amounts are text; its numbers are Python's."""
    return orjson.loads(body)


def literal_json(body: bytes) -> Any:
    """A document whose prices and amounts are numbers: those with a point or an exponent keep their digits as text."""
    return json.loads(body.decode(), parse_float=str)


def enclosed(said: Any, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    """An object with these keys and no other."""
    if type(said) is not dict or not set(required) <= said.keys() <= {*required, *optional}:
        raise Unlike(f"not an object of {', '.join(required)}")
    return said


def records(rows: Any, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, list[Any]]:
    """The values of every key in a list of objects that have the same keys: these and no other."""
    names = enclosed(_listed(rows)[0], required, optional).keys()
    if set(map(len, rows)) != {len(names)}:
        raise Unlike("rows with other keys")
    return {name: [row[name] for row in rows] for name in names}


def tuples(rows: Any, length: int) -> list[list[Any]]:
    """The values of every position in a list of lists of this length."""
    if set(map(type, _listed(rows))) != {list} or set(map(len, rows)) != {length}:
        raise Unlike(f"not lists of {length}")
    return [[row[at] for row in rows] for at in range(length)]


def same(values: Sequence[Any], expected: str) -> None:
    """Nothing, where all values are this text."""
    if any(value != expected for value in values):
        raise Unlike(f"not only {expected}")


def texts(values: Sequence[Any]) -> pl.Series:
    """Texts that say something."""
    said = pl.Series(values, dtype=pl.String)  # a TypeError where one is not text
    return _all(said, said != "")


def decimals(values: Sequence[Any]) -> pl.Series:
    """Texts that are plain numbers."""
    said = texts(values)
    return _all(said, said.str.contains(_DECIMAL))


def numbers(values: Sequence[Any]) -> pl.Series:
    """The literals of numbers, as `literal_json` gives them."""
    if set(map(type, values)) <= {str}:
        return texts(values)
    _only(values, str, int)
    return texts([str(value) for value in values])


def ids(values: Sequence[Any]) -> pl.Series:
    """Whole numbers as text, or texts."""
    return counts(values).cast(pl.String) if type(values[0]) is int else texts(values)


def counts(values: Sequence[Any]) -> pl.Series:
    """Whole numbers."""
    _only(values, int)
    return pl.Series(values, dtype=pl.Int64)


def from_ms(values: Sequence[Any]) -> pl.Series:
    """Moments that came as milliseconds, a number or text."""
    return _within(_whole(values, _DIGITS_MS), _FIRST_S * 1000, _LAST_S * 1000)


def from_s(values: Sequence[Any]) -> pl.Series:
    """Moments that came as whole seconds, a number or text."""
    return _within(_whole(values, _DIGITS_S), _FIRST_S, _LAST_S) * 1000


def from_fractional_s(values: Sequence[Any]) -> pl.Series:
    """Moments that came as seconds with a fraction, cut to milliseconds as ccxt cuts them: by floating point."""
    _only(values, float, int)
    moments = pl.Series([float(value) for value in values], dtype=pl.Float64)
    return (_within(moments, _FIRST_S, _LAST_S) * 1000).cast(pl.Int64)


def from_iso(values: Sequence[Any]) -> pl.Series:
    """Moments that came as text in UTC, cut to milliseconds."""
    said = texts(values)
    _all(said, said.str.contains(_ISO_UTC))
    moments = said.str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us").dt.epoch("ms")
    return _within(moments, _FIRST_S * 1000, _LAST_S * 1000)


def sides(values: Sequence[Any], *, buy: str | bool, sell: str | bool) -> pl.Series:
    """What the taker did, from the venue's two words for it."""
    _only(values, type(buy))
    words: Mapping[Any, str] = {buy: "buy", sell: "sell"}
    return pl.Series([words[value] for value in values], dtype=pl.String)


def _listed(rows: Any) -> list[Any]:
    """A list with something in it: what an empty one means is for ccxt to say."""
    if type(rows) is not list or not rows:
        raise Unlike("no rows where they should be")
    return rows


def _only(values: Sequence[Any], *types: type) -> None:
    if not set(map(type, values)) <= set(types):
        raise Unlike(f"not only {types}")


def _all(values: pl.Series, are_right: pl.Series) -> pl.Series:
    if not are_right.all(ignore_nulls=False):
        raise Unlike("a value out of bounds")
    return values


def _within(values: pl.Series, least: int, most: int) -> pl.Series:
    low, high = values.min(), values.max()
    if not (isinstance(low, int | float) and isinstance(high, int | float) and least <= low and high <= most):
        raise Unlike("a moment out of bounds")
    return values


def _whole(values: Sequence[Any], digits: str) -> pl.Series:
    if type(values[0]) is int:
        return counts(values)
    said = texts(values)
    return _all(said, said.str.contains(digits)).cast(pl.Int64)
