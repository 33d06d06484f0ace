"""A gold model: a contract, the pure function that builds its rows, and how these hang on the rows of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import polars as pl

from lakehouse.contract import Table

Inputs = Mapping[str, pl.LazyFrame]
Row = Mapping[str, Any]


def _all_of_them(_row: Row, rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Which rows of an input can matter to which rows of the output; declared once and read in both directions.

    An input row and an output row hang together when the input row passes `where`, the columns paired in `by`
    (output -> input; names of `Model.derived` count as columns of the output) are equal, and the input's time `of`
    lies from `before` before to `after` after the output's time `at`, both included; `before=None` is however long
    before. With `snap` the output's time stands for the whole block it is in (a UTC day), which is built as one.

    Forwards it tells what news of the input dirties, backwards what a row can have come from. It may name too many
    rows, never too few. `made_of` narrows the second for people: from the rows that can matter to a row, those whose
    figures are in it, without those that only prove it to be complete.
    """

    input: str
    by: Mapping[str, str] = field(default_factory=dict)
    at: str = "event_at"
    of: str = "event_at"
    before: timedelta | None = timedelta(0)
    after: timedelta = timedelta(0)
    snap: timedelta = timedelta(0)
    where: pl.Expr = field(default_factory=lambda: pl.lit(value=True), repr=False)
    made_of: Callable[[Row, pl.LazyFrame], pl.LazyFrame] = _all_of_them


@dataclass(frozen=True, kw_only=True)
class Model:
    """How one gold table comes from others.

    `build` gets each input under its name with all its versions (rows of every `known_at`) and returns the table's
    columns, derived ones left out. It is pure: no clock, no I/O, and each row's `known_at` is the latest of what
    the row was made from, so that nothing is known before its inputs are.

    `groups` and `clock` say in what pieces the table is built anew: all rows of some groups over some intervals of
    the clock. A piece depends on nothing but the rows that `reaches` names for it. Where a reach looks at another
    clock of the output (`at`), `grid` names the input on whose rows the output's rows stand one for one (with the
    same groups, `clock` and `at`), so that it tells which pieces those moments are in.
    """

    table: Table
    reaches: tuple[Reach, ...]
    groups: tuple[str, ...]
    clock: str
    build: Callable[[Inputs], pl.LazyFrame]
    grid: str = ""
    derived: Mapping[str, pl.Expr] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for reach in self.reaches:
            is_near = reach.at == self.clock
            if is_near and not set(self.groups) <= set(reach.by):
                raise ValueError(
                    f"{self.table.name}: the reach of {reach.input} must pair all of {self.groups}"
                )
            if not is_near and not self.grid:
                raise ValueError(f"{self.table.name}: the reach of {reach.input} by {reach.at} needs a grid")

    @property
    def builds_every_version(self) -> bool:
        """Whether a piece holds every version of its facts: pieces of `known_at` hold those since then."""
        return self.clock != "known_at"

    @property
    def inputs(self) -> tuple[str, ...]:
        """The tables that it reads."""
        return tuple(dict.fromkeys(reach.input for reach in self.reaches))

    def reaches_of(self, name: str) -> tuple[Reach, ...]:
        """How one input hangs together with the output."""
        return tuple(reach for reach in self.reaches if reach.input == name)
