"""What is gone: facts that a whole delivery no longer names (`lakehouse.contract.Census`). Pure.

A venue does not say that it delisted an instrument: the next list is one shorter. The missing row is told here, so that
it is judged and published like every other, and the same whatever the batches: a later delivery that names the fact
again is a version of its own, and everything in between can be read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl
import structlog

from lakehouse.contract import Census, Table
from lakehouse.verdict import REASONS, REMARKS

log = structlog.get_logger()

_FACT = "__fact"
_NUMBER = "__number"
_STORED = "__stored"


def with_vanished(
    table: Table, batch: pl.DataFrame, stored: pl.DataFrame, *, held_pages: Collection[int] = ()
) -> pl.DataFrame:
    """A conformed batch, and a row for each fact that was there and that a delivery of the batch does not name.

    `stored` holds all stored versions of every census in the batch. A row with reasons names its fact too: it waits in
    quarantine, but the fact is not gone. A delivery that names less than half of what was there is not believed (half a
    page, a venue that is down): nothing is gone by it, and that is logged; what has ended by itself does not count. An
    empty one has no rows, so it says nothing. Deliveries with a row from `held_pages` are passed over: they were held
    back with their whole batch.
    """
    if table.census is None or batch.is_empty():
        return batch
    told = _together(table, table.census, batch, stored)
    ends = told[table.census.ends] if table.census.ends else pl.repeat(None, told.height, eager=True)
    censuses = _steps(table.census, told, held_pages).partition_by(table.census.of, maintain_order=True)
    gone = [one for steps in censuses for one in _gone_by(table, steps.iter_rows(named=True), ends)]
    return pl.concat([batch, _gone_rows(table, table.census, told, gone).select(batch.columns)])


@dataclass(frozen=True)
class _Gone:
    """The last row of a fact by number, and the delivery that does not name it."""

    number: int
    at: datetime
    page_id: int


def _together(table: Table, census: Census, batch: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Rows that belong to a census, numbered in the order in which they count: of one moment the last does."""
    both = pl.concat(
        [rows.with_columns(pl.lit(flag).alias(_STORED)) for rows, flag in ((batch, False), (stored, True))],
        how="diagonal",
    )
    order = {"ingested_at": False, _STORED: False, "known_at": False, "page_id": True}
    return (
        both.filter(pl.all_horizontal(pl.col(name).is_not_null() for name in census.of))
        .sort(list(order), descending=list(order.values()), maintain_order=True)
        .with_columns(pl.struct(table.identity).rank("dense").alias(_FACT))
        .with_row_index(_NUMBER)
    )


def _steps(census: Census, told: pl.DataFrame, held_pages: Collection[int]) -> pl.DataFrame:
    """One row for each census and moment of receipt: the facts it names, finds there (and in which rows), and gone."""
    is_gone = pl.all_horizontal(pl.col(name).eq_missing(pl.lit(value)) for name, value in census.gone.items())
    is_good = pl.col(REASONS).list.len().fill_null(0) == 0
    is_told = ~pl.col(_STORED)
    is_held = is_told & pl.col("page_id").is_in(pl.Series(list(held_pages), dtype=pl.Int64).implode())
    return (
        told.group_by(*census.of, "ingested_at", maintain_order=True)
        .agg(
            named=pl.col(_FACT).filter(is_told),
            there=pl.col(_FACT).filter(is_good & ~is_gone),
            rows=pl.col(_NUMBER).filter(is_good & ~is_gone),
            gone=pl.col(_FACT).filter(is_good & is_gone),
            page_id=pl.col("page_id").filter(is_told).min(),
            is_held=is_held.any(),
        )
        .filter(~pl.col("is_held"))
    )


def _gone_by(table: Table, steps: Iterable[Mapping[str, Any]], ends: pl.Series) -> Iterator[_Gone]:
    """What each delivery of one census leaves out, in the order they were received; `ends` by number of row."""
    last: dict[int, int] = {}
    for step in steps:
        missing = last.keys() - set(step["named"]) if step["named"] else set()
        if 2 * len(missing) > len(last) and not _is_due(step["ingested_at"], missing, last, ends):
            _doubt(table, step, missing=len(missing), listed=len(last))
            missing = set()
        for fact in sorted(missing):
            yield _Gone(last.pop(fact), step["ingested_at"], step["page_id"])
        for fact in step["gone"]:
            last.pop(fact, None)
        last.update(zip(step["there"], step["rows"], strict=True))


def _is_due(at: datetime, missing: Set[int], last: Mapping[int, int], ends: pl.Series) -> bool:
    """Whether half of those that had not ended by themselves are still named."""
    ended = {fact for fact, row in last.items() if ends[row] is not None and ends[row] <= at}
    return 2 * len(missing - ended) <= len(last.keys() - ended)


def _doubt(table: Table, step: Mapping[str, Any], *, missing: int, listed: int) -> None:
    census = table.census
    log.warning(
        "a delivery names less than half of what was there: nothing of it is taken for gone",
        table=table.name,
        census={name: step[name] for name in census.of} if census else {},
        received_at=str(step["ingested_at"]),
        page_id=step["page_id"],
        missing=missing,
        listed=listed,
    )


def _gone_rows(table: Table, census: Census, told: pl.DataFrame, gone: list[_Gone]) -> pl.DataFrame:
    """The last version of each fact that is gone, as of the delivery that does not name it."""
    schema = {_NUMBER: told.schema[_NUMBER], "__at": told.schema["ingested_at"], "__page_id": pl.Int64()}
    found = pl.DataFrame([(one.number, one.at, one.page_id) for one in gone], schema=schema, orient="row")
    at = pl.col("__at")
    values = [pl.lit(value).cast(table.schema[name]).alias(name) for name, value in census.gone.items()]
    nothing = [pl.lit([], dtype=told.schema[name]).alias(name) for name in (REASONS, REMARKS)]
    times = [at.alias(name) for name in dict.fromkeys((table.time_column, "known_at", "ingested_at"))]
    derived = {column.name: column.derived for column in table.columns if column.derived is not None}
    return (
        found.join(told, on=_NUMBER, how="left", maintain_order="left")
        .with_columns(*times, *values, *nothing, pl.col("__page_id").alias("page_id"))
        .with_columns(**derived)
    )
