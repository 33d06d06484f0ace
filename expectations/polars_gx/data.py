"""What is asked, and of which frame.

A value is missing when it is null or, in a column of floats, NaN: as on pandas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from expectations.polars_gx.errors import CannotJudge

View = Callable[[pl.LazyFrame], pl.LazyFrame]


@dataclass(frozen=True, kw_only=True)
class Data:
    """A frame or scan to be judged.

    `checks` holds what `ExpectRowsToKeepRule` checks, by the name of the rule; `views` what `ExpectViewToHold` looks
    at, by the name of the view.
    """

    frame: pl.LazyFrame
    schema: pl.Schema
    checks: Mapping[str, pl.Expr] = field(default_factory=dict)
    views: Mapping[str, View] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        frame: pl.DataFrame | pl.LazyFrame,
        checks: Mapping[str, pl.Expr] | None = None,
        views: Mapping[str, View] | None = None,
    ) -> Data:
        """Neither a frame nor a scan is read yet, but for a scan's schema."""
        return cls(frame=frame.lazy(), schema=frame.collect_schema(), checks=checks or {}, views=views or {})

    def dtype(self, column: str) -> pl.DataType:
        """The type of a column. Raises CannotJudge where there is none of that name."""
        if column not in self.schema:
            raise CannotJudge(f"there is no column {column}, only {', '.join(self.schema)}")
        return self.schema[column]

    def known(self, column: str) -> pl.Expr:
        """The column with null for whatever is missing."""
        return pl.col(column).fill_nan(None) if self.dtype(column).is_float() else pl.col(column)

    def is_missing(self, column: str) -> pl.Expr:
        """Whether a value is missing; never null."""
        value = pl.col(column)
        return (
            value.is_null() | value.is_nan().fill_null(value=False)
            if self.dtype(column).is_float()
            else value.is_null()
        )


@dataclass(frozen=True, kw_only=True)
class Request:
    """One metric, by the library's name for it: of which rows and columns, with which values."""

    name: str
    domain: Mapping[str, Any]
    values: Mapping[str, Any]

    def split(self, suffixes: tuple[str, ...]) -> tuple[str, str]:
        """The name without its suffix, and the suffix; empty where it has none of these."""
        found = next((suffix for suffix in suffixes if self.name.endswith(suffix)), "")
        return self.name.removesuffix(found), found

    @property
    def result_format(self) -> Mapping[str, Any]:
        """How much of what is unexpected a result shows."""
        said = self.values.get("result_format") or {}
        return {"result_format": said} if isinstance(said, str) else said
