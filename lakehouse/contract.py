"""Table contracts: what a table holds, declared once.

The Delta schema, conformance, row checks, the Great Expectations suite, the key that publishing keeps unique,
freshness and the data dictionary are all read from here. Nothing here touches storage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import Literal

import polars as pl

from lakehouse.expects import Expect, Fresh, LikePast

UTC_US = pl.Datetime("us", "UTC")

Severity = Literal["critical", "warning"]
Cell = str | int | float | bool | None


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What must hold in each row. `check` is true where it does; null counts as true (see `Column.nullable`).

    A row that breaks a critical rule goes to quarantine; a warning is published and reported.
    `reason` is the sentence that a person reads beside a row that breaks it.
    """

    name: str
    check: pl.Expr
    reason: str
    severity: Severity = "critical"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its type, unit and meaning, and the bounds that every value keeps (inclusive)."""

    name: str
    dtype: pl.DataType
    doc: str
    unit: str = ""
    nullable: bool = False
    lower: float | None = None
    upper: float | None = None
    above: float | None = None
    values: tuple[str, ...] = ()
    pattern: str = ""
    derived: pl.Expr | None = None
    """Set for a column that is computed from the others while conforming (a partition date)."""

    @property
    def type_name(self) -> str:
        """The type as people say it; times are in UTC, to the microsecond."""
        if isinstance(self.dtype, pl.List):
            return f"list of {_type_name(self.dtype.inner)}"
        return _type_name(self.dtype)

    @property
    def is_float_list(self) -> bool:
        """Whether it holds lists of floating point numbers."""
        return isinstance(self.dtype, pl.List) and self.dtype.inner.is_float()

    def but(self, **changes: object) -> Column:
        """The same column with some facts changed, for the table that needs it so."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def rules(self) -> Iterator[Rule]:
        """The row rules that follow from the declaration."""
        column = pl.col(self.name)
        if not self.nullable:
            reason = f"{self.name} is missing"
            is_there = self._each(pl.Expr.is_not_null)
            # A list that is null has no numbers to judge.
            check = is_there.fill_null(value=False) if self.is_float_list else is_there
            yield Rule(name=f"{self.name}_missing", check=check, reason=reason)
        if self.dtype.is_float() or self.is_float_list:
            reason = f"{self.name} is not a finite number"
            yield Rule(name=f"{self.name}_not_finite", check=self._each(pl.Expr.is_finite), reason=reason)
        if self.lower is not None:
            reason = f"{self.name} is below {self.lower:g}"
            yield Rule(name=f"{self.name}_too_low", check=column >= self.lower, reason=reason)
        if self.above is not None:
            reason = f"{self.name} is not above {self.above:g}"
            yield Rule(name=f"{self.name}_too_low", check=column > self.above, reason=reason)
        if self.upper is not None:
            reason = f"{self.name} is above {self.upper:g}"
            yield Rule(name=f"{self.name}_too_high", check=column <= self.upper, reason=reason)
        if self.values:
            reason = f"{self.name} is none of {', '.join(self.values)}"
            yield Rule(name=f"{self.name}_unknown", check=column.is_in(self.values), reason=reason)
        if self.pattern:
            reason = f"{self.name} does not look like {self.pattern}"
            yield Rule(name=f"{self.name}_malformed", check=column.str.contains(self.pattern), reason=reason)

    def _each(self, test: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
        """Whether a value passes, of a list each of its numbers."""
        column = pl.col(self.name)
        return column.list.eval(test(pl.element())).list.all() if self.is_float_list else test(column)


@dataclass(frozen=True, kw_only=True)
class Migration:
    """A change of a stored table that cannot go by itself: anything but new and wider columns.

    `apply` is pure: all rows of the layout before it in, all rows of the layout after it out. A table's migrations
    run in their order, each once, and are never taken from the list again: their number is the table's position.
    """

    name: str
    doc: str
    apply: Callable[[pl.LazyFrame], pl.LazyFrame]


@dataclass(frozen=True, kw_only=True)
class Census:
    """That a delivery is whole: rows which share `of` and their receipt are all that there is of it at that moment.

    What the next one of it does not name is gone: its last version is told again with the values of `gone`, known
    when that one was received (`lakehouse.vanished`). A row with nothing in a column of `of` is part of no census.
    `ends` is the column with the time from which on a fact is expected to be gone, if there is one.
    """

    of: tuple[str, ...]
    gone: Mapping[str, Cell]
    ends: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table's whole contract.

    `key` names the columns that tell one row from another. Where `known_at` is among them the table keeps
    revisions: one row for each version of a fact. `tolerance` is the share of rows that may break critical rules
    before the whole batch is held back; one row may always. `subject` names the key columns that say what a row is
    about; `order_by` is the derived column (`lakehouse.fields.row_order`) in whose order upkeep keeps the rows of a
    partition; `freshness` is the longest time that may pass without a new row; `census` says that what is no longer
    named is gone; `expects` says what holds of a batch as a whole.
    """

    name: str
    doc: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    subject: tuple[str, ...]
    owner: str
    time_column: str = "event_at"
    partition_by: tuple[str, ...] = ()
    order_by: str = ""
    rules: tuple[Rule, ...] = ()
    expects: tuple[Expect, ...] = ()
    tolerance: float = 0.05
    freshness: timedelta | None = None
    census: Census | None = None
    migrations: tuple[Migration, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        repeated = sorted({name for name in names if names.count(name) > 1})
        used = {*self.key, *self.subject, *self.partition_by, self.time_column}
        used |= {self.order_by} if self.order_by else set()
        used |= (
            {*self.census.of, *self.census.gone, self.census.ends or self.time_column}
            if self.census
            else set()
        )
        unknown = sorted(used - set(names))
        if repeated or unknown:
            raise ValueError(
                f"{self.name}: columns declared twice {repeated}, used but not declared {unknown}"
            )

    @property
    def layer(self) -> str:
        """bronze, silver, gold or ops."""
        return self.name.partition(".")[0]

    @property
    def keeps_revisions(self) -> bool:
        """Whether a fact may have several versions, told apart by `known_at`."""
        return "known_at" in self.key

    @property
    def identity(self) -> tuple[str, ...]:
        """The key of the fact itself, without the version."""
        return tuple(name for name in self.key if name != "known_at")

    @property
    def contents(self) -> tuple[str, ...]:
        """The columns that say something: two rows of one identity that differ in them say different things."""
        silent = {*self.identity, "known_at", "known_at_basis", "ingested_at", "page_id"}
        if self.keeps_revisions:
            silent.add(self.time_column)
        return tuple(c.name for c in self.columns if c.name not in silent and c.derived is None)

    @property
    def range_column(self) -> str | None:
        """The time column that rows of one identity share, so that a range of it finds all of them."""
        for name in self.identity:
            if self.column(name).dtype.is_temporal():
                return name
        return None if self.keeps_revisions else self.time_column

    @cached_property
    def schema(self) -> pl.Schema:
        """Names and types in order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    @cached_property
    def row_rules(self) -> tuple[Rule, ...]:
        """Every rule a row must keep: those of the columns, then those of the table."""
        return (*(rule for column in self.columns for rule in column.rules()), *self.rules)

    @cached_property
    def expected(self) -> tuple[Expect, ...]:
        """All that is expected of a batch: what is declared, and what follows from `freshness`."""
        if self.freshness is None:
            return self.expects
        days = self.freshness.total_seconds() / 86400
        meaning = f"What goes on from a fresh table is itself not older than {days:g} days"
        return (*self.expects, Fresh(name="fresh", meaning=meaning))

    @cached_property
    def compared_levels(self) -> tuple[str, ...]:
        """The columns whose level is compared with earlier batches."""
        return tuple(name for one in self.expects if isinstance(one, LikePast) for name in one.levels)

    @property
    def needs_past(self) -> bool:
        """Whether a batch is compared with figures of earlier ones (`lakehouse.history`)."""
        return any(isinstance(one, LikePast | Fresh) for one in self.expected)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits that change with the contract; written into every commit."""
        said = [(c.name, str(c.dtype), c.unit, c.nullable) for c in self.columns]
        rules = [(rule.name, str(rule.check), rule.severity) for rule in self.row_rules]
        whole = (self.name, said, self.key, rules, self.census, self.expects)
        return hashlib.sha256(repr(whole).encode()).hexdigest()[:12]

    def column(self, name: str) -> Column:
        """The column of that name; KeyError when there is none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{self.name} has no column {name}")


def _type_name(dtype: object) -> str:
    names = {pl.String: "text", pl.Datetime: "time", pl.Binary: "bytes"}
    return next((name for known, name in names.items() if dtype == known), str(dtype).lower())
