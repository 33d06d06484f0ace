"""What a rule is given: the frame, the rows and columns that a metric is about, and its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from expectations.polars_gx.data import Data, Request
from expectations.polars_gx.errors import CannotJudge
from expectations.polars_gx.rows import rows_of


@dataclass(frozen=True, kw_only=True)
class Question:
    """One metric of one frame. `rows` are what its rows keep, each true or false."""

    data: Data
    domain: Mapping[str, Any]
    values: Mapping[str, Any]
    rows: tuple[pl.Expr, ...]

    @classmethod
    def of(cls, data: Data, request: Request) -> Question:
        """The question of a request. Raises CannotJudge for rows that cannot be chosen."""
        rows = rows_of(data, request.domain)
        return cls(data=data, domain=request.domain, values=request.values, rows=rows)

    @property
    def column(self) -> str:
        """The column of a domain of one column."""
        return str(self.domain["column"])

    @property
    def columns(self) -> list[str]:
        """The columns of a domain of several."""
        return list(self.domain.get("column_list") or (self.domain["column_A"], self.domain["column_B"]))

    @property
    def groups(self) -> list[str]:
        """The columns that keep groups apart, empty for one group. Raises CannotJudge where one is not there."""
        groups = list(self.values.get("group_by") or ())
        for name in groups:
            self.data.dtype(name)
        return groups

    @property
    def bounds(self) -> tuple[Any, Any]:
        """The lower and the upper bound, of which one may be None. Raises CannotJudge for none, or crossed ones."""
        low, high = self.values.get("min_value"), self.values.get("max_value")
        if low is None and high is None:
            raise CannotJudge("at least one bound is needed")
        if low is not None and high is not None and low > high:
            raise CannotJudge(f"the lower bound {low!r} is above the upper bound {high!r}")
        return low, high
