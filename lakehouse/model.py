"""A gold model: a contract and the pure function that builds its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from lakehouse.contract import Table

Inputs = Mapping[str, pl.LazyFrame]


@dataclass(frozen=True, kw_only=True)
class Model:
    """How one gold table comes from others.

    `build` gets each input under its name with all its versions (rows of every `known_at`) and returns the table's
    columns, derived ones left out. It is pure: no clock, no I/O, and each row's `known_at` is the latest of what
    the row was made from, so that nothing is known before its inputs are.
    """

    table: Table
    inputs: tuple[str, ...]
    build: Callable[[Inputs], pl.LazyFrame]
