"""Reading JSON frames strictly: what is not of the documented type raises, and no digit of a number is lost."""

from __future__ import annotations

import json
from typing import Any

_INT64 = 2**63


def exactly(text: str) -> Any:
    """A JSON document whose numbers are the texts that were sent; NaN and Infinity are no JSON."""
    return json.loads(text, parse_float=str, parse_int=str, parse_constant=_refuse)


def text(value: object) -> str:
    """A text that is there."""
    if type(value) is not str or not value:
        raise TypeError(f"{str(value)[:60]!r} is no text")
    return value


def whole(value: object) -> int:
    """A whole number, or its text, that fits 64 bits."""
    if type(value) is int:
        number = value
    elif type(value) is str and value.lstrip("-").isdecimal():
        number = int(value)
    else:
        raise TypeError(f"{str(value)[:60]!r} is no whole number")
    if -_INT64 <= number < _INT64:
        return number
    raise ValueError(f"{str(number)[:60]} is beyond 64 bits")


def optional(value: object) -> int | None:
    """The same where it may be left out."""
    return None if value is None else whole(value)


def listed(value: object) -> list[Any]:
    """A list."""
    if type(value) is not list:
        raise TypeError(f"{str(value)[:60]!r} is no list")
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON number")
