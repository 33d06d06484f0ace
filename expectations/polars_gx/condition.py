"""What makes a row unexpected, and the shape of the rules that say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from expectations.polars_gx.question import Question


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Rows within `within` for which `unexpected` is true; null counts as expected.

    Where `arrange` is given, it is applied to the rows first (sorts or groups them), and `unexpected` reads its result.
    `is_row_by_row`: whether a row can be judged without the others. Repeats of a `key` are found without `unexpected`.
    `shown` are the columns that examples consist of.
    """

    within: tuple[pl.Expr, ...]
    shown: tuple[str, ...]
    unexpected: pl.Expr | None = None
    arrange: Callable[[pl.LazyFrame], pl.LazyFrame] | None = None
    is_row_by_row: bool = True
    key: tuple[str, ...] = ()

    def judged(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The rows that `unexpected` reads."""
        rows = frame.filter(*self.within)
        return self.arrange(rows) if self.arrange else rows


Rule = Callable[[Question], Condition]
