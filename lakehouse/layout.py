"""How a table is stored, and how that differs from what its contract declares. Pure: nothing here touches storage."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.errors import ContractError

Change = Literal[
    "added", "widened", "narrowed", "retyped", "dropped", "renamed", "partitioning", "key", "doc", "property"
]
Way = Literal["in place", "rewrite", "note", "migration"]
"""How a difference goes: columns are added in place; values are rewritten in one commit; notes (texts, properties)
are brought up to date by `mnemo migrate` alone; everything else needs a declared migration."""

_WIDER = {(pl.Int32(), pl.Int64()), (pl.Int32(), pl.Float64())}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a Delta table says of itself. `key` is None in tables from before keys were noted."""

    columns: Mapping[str, pl.DataType]
    comments: Mapping[str, str]
    partition_by: tuple[str, ...]
    key: tuple[str, ...] | None
    doc: str
    properties: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One thing in which the stored table is not what the contract declares; `column` is empty for the table's own."""

    table: str
    column: str
    change: Change
    stored: str
    declared: str
    way: Way

    def __str__(self) -> str:
        where = f"{self.column} " if self.column else ""
        return f"{where}{self.change} (stored: {self.stored or 'nothing'}, declared: {self.declared or 'nothing'})"


def comment(column: Column) -> str:
    """What is stored beside a column for readers who have only the table."""
    return f"{column.doc} [{column.unit}]" if column.unit else column.doc


def declared(table: Table, properties: Mapping[str, str]) -> Layout:
    """The layout that a contract asks for, with the properties that every table of the lake has."""
    return Layout(
        columns=table.schema,
        comments={column.name: comment(column) for column in table.columns},
        partition_by=table.partition_by,
        key=table.key,
        doc=table.doc,
        properties=properties,
    )


def differences(table: Table, stored: Layout, wanted: Layout) -> tuple[Difference, ...]:
    """Everything in which a stored table differs from its contract, columns first."""
    found = [*_column_differences(table, stored), *_table_differences(stored, wanted)]
    return tuple(
        Difference(table=table.name, column=column, change=change, stored=was, declared=is_, way=way)
        for column, change, was, is_, way in found
    )


_Found = tuple[str, Change, str, str, Way]


def _column_differences(table: Table, stored: Layout) -> Iterator[_Found]:
    gone = [name for name in stored.columns if name not in table.schema]
    for column in table.columns:
        was = stored.columns.get(column.name)
        said = stored.comments.get(column.name, "")
        if was is None:
            origin = _origin(column, stored, gone)
            if origin:
                gone.remove(origin)
                yield column.name, "renamed", origin, column.name, "migration"
            else:
                yield column.name, "added", "", str(column.dtype), _way_to_fill(column)
        elif was != column.dtype:
            change, way = _type_change(was, column.dtype)
            yield column.name, change, str(was), str(column.dtype), way
        elif said != comment(column):
            yield column.name, "doc", said, comment(column), "note"
    for name in gone:
        yield name, "dropped", str(stored.columns[name]), "", "migration"


def _origin(column: Column, stored: Layout, gone: list[str]) -> str | None:
    """The column that is no longer declared and says just what this new one says."""
    said = comment(column)
    alike = [
        name for name in gone if stored.columns[name] == column.dtype and stored.comments.get(name) == said
    ]
    return alike[0] if alike else None


def _way_to_fill(column: Column) -> Way:
    """Old rows read a new column as null where they may, else it is computed, else somebody must say."""
    if column.derived is not None:
        return "rewrite"
    return "in place" if column.nullable else "migration"


def _type_change(was: pl.DataType, becomes: pl.DataType) -> tuple[Change, Way]:
    if (was, becomes) in _WIDER:
        return "widened", "rewrite"
    return ("narrowed" if (becomes, was) in _WIDER else "retyped"), "migration"


def _table_differences(stored: Layout, wanted: Layout) -> Iterator[_Found]:
    if stored.partition_by != wanted.partition_by:
        yield "", "partitioning", ", ".join(stored.partition_by), ", ".join(wanted.partition_by), "migration"
    if stored.key is not None and stored.key != wanted.key:
        yield "", "key", ", ".join(stored.key), ", ".join(wanted.key or ()), "migration"
    if stored.key is None:
        yield "", "key", "", ", ".join(wanted.key or ()), "note"
    if stored.doc != wanted.doc:
        yield "", "doc", stored.doc, wanted.doc, "note"
    other = {name for name, value in wanted.properties.items() if stored.properties.get(name) != value}
    if other:
        yield "", "property", _listed(stored.properties, other), _listed(wanted.properties, other), "note"


def _listed(properties: Mapping[str, str], names: Collection[str]) -> str:
    return ", ".join(f"{name}={properties[name]}" for name in sorted(names) if name in properties)


def fit(table: Table, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows of an older layout as rows of the contract: new columns null or computed, narrow numbers widened.

    Raises ContractError naming every column that does not follow from what is there.
    """
    present = rows.collect_schema()
    wrong = [name for name in present if name not in table.schema]
    for column in table.columns:
        was = present.get(column.name)
        if was is None and _way_to_fill(column) == "migration":
            wrong.append(column.name)
        if was is not None and was != column.dtype and _type_change(was, column.dtype)[1] == "migration":
            wrong.append(column.name)
    if wrong:
        raise ContractError(f"{table.name}: rows do not become the contract's: {', '.join(wrong)}")
    # A cast to the same type would keep the filter from the files' bounds.
    narrow = [name for name in present if present[name] != table.schema[name]]
    new = [column for column in table.columns if column.name not in present]
    return (
        rows.with_columns(pl.col(name).cast(table.schema[name]) for name in narrow)
        .with_columns(_fill(column).cast(column.dtype).alias(column.name) for column in new)
        .select(table.schema.names())
    )


def _fill(column: Column) -> pl.Expr:
    return pl.lit(None) if column.derived is None else column.derived
