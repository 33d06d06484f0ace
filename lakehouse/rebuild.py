"""rebuild: a table computed from nothing by today's code, in the place of what is stored.

Silver from all pages of bronze in the order they were received, gold from all of its inputs. One commit replaces the
table and says what it was made from: a reader sees the old table or the new one, and promotions go on from there. With
unchanged code and input that came in order, the rows are those that promotions have made.

A promotion that commits meanwhile makes the rebuild begin again. Where the gate blocks it, nothing is replaced and
only the verdict is recorded. Rows that fail are put in quarantine unless they are there already, word for word; held
rows that pass now are released. Rows that were held back with their whole batch stay out until
`mnemo quarantine release` lets them in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import orjson
import polars as pl

from lakehouse.clean import new_rows
from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.errors import MnemoError, UsageError
from lakehouse.model import Model
from lakehouse.ops import VERDICTS
from lakehouse.promotion import (
    Parse,
    Streaming,
    built,
    parse_what_can_be,
    position_name,
    stored_inputs,
    until_settled,
    with_context,
)
from lakehouse.publish import BLOCKED, Candidate, Promoted, Run, batch_id_of, positions_of, settle
from lakehouse.quarantine import held_rows, identity_of, mark_released
from lakehouse.store import Store, StoredTable
from lakehouse.vanished import with_vanished
from lakehouse.verdict import REASONS, Judge

Feeding = tuple[Table, Parse]
"""A bronze table and how its pages are understood."""


def rebuild_pages(
    store: Store,
    table: Table,
    sources: Sequence[Feeding],
    *,
    judge: Judge,
    run: Run,
    parse_error: type[MnemoError],
    streaming: Mapping[str, Streaming] | None = None,
) -> Promoted:
    """Make a silver table again from all its bronze tables; its rows are held in memory, their pages a day at a time.

    `streaming` says by name which bronze tables are those of streams.

    Raises UsageError where there are no pages, Contention when promotions keep committing first.
    """
    return until_settled(
        lambda: _rebuild_pages_once(store, table, sources, judge, run, parse_error, streaming or {})
    )


def rebuild_model(store: Store, model: Model, *, judge: Judge, run: Run) -> Promoted:
    """Make a gold table again from all rows of its inputs.

    Its history is restated: a row that was published before late input came in is not found again. It stays readable
    through Delta's time travel. Errors as in `rebuild_pages`.
    """
    return until_settled(lambda: _rebuild_model_once(store, model, judge, run))


def _rebuild_pages_once(
    store: Store,
    table: Table,
    sources: Sequence[Feeding],
    judge: Judge,
    run: Run,
    parse_error: type[MnemoError],
    streaming: Mapping[str, Streaming],
) -> Promoted:
    target = store.open(table)
    stored = {bronze.name: pages for bronze, _ in sources if (pages := store.find(bronze))}
    frames = [_nothing(table)]
    unreadable: list[tuple[int, str]] = []
    for bronze, parse in sources:
        how = streaming.get(bronze.name)
        for day in _days_of(stored.get(bronze.name), how):
            parsed, failed = parse_what_can_be(parse, day, parse_error, how)
            frames.append(conform(table, parsed).collect())
            unreadable += failed
    blocked = _blocked(store, table)
    rows = with_vanished(
        table, pl.concat(frames), _nothing(table), held_pages=blocked["page_id"].unique().to_list()
    )
    rows = _without(table, blocked, rows)
    candidate = _candidate(store, target, stored, rows, tuple(unreadable))
    outcome = settle(store, target, candidate, judge, run)
    if outcome.level != "blocked":
        mark_released(store, _passing_now(store, table, candidate))
    return outcome


def _rebuild_model_once(store: Store, model: Model, judge: Judge, run: Run) -> Promoted:
    target = store.open(model.table)
    inputs = stored_inputs(store, model)
    rows = built(model, inputs, None)
    return settle(store, target, _candidate(store, target, inputs, rows), judge, run)


def _candidate(
    store: Store,
    target: StoredTable,
    inputs: Mapping[str, StoredTable],
    rows: pl.DataFrame,
    unreadable: tuple[tuple[int, str], ...] = (),
) -> Candidate:
    """The whole table as one batch, numbered by a counter of its own."""
    if not inputs:
        raise UsageError(f"{target.contract.name} cannot be rebuilt: nothing that it is made from is stored")
    table, app = target.contract, f"{target.contract.name}<-rebuild"
    begun = positions_of(store.open(VERDICTS), [app])
    nothing_stored = rows.select(table.schema.names()).clear()
    return Candidate(
        batch_id=batch_id_of(app, target.id, begun[app] + 1),
        inputs=tuple(inputs),
        positions={app: begun[app] + 1},
        consumed={position_name(table, stored): stored.version for stored in inputs.values()},
        begun=begun,
        rows=new_rows(table, rows, nothing_stored),
        unreadable=unreadable,
        is_rebuild=True,
    )


def _blocked(store: Store, table: Table) -> pl.DataFrame:
    """The rows that wait in quarantine because their whole batch was held back."""
    return _held(store, table).filter(pl.col("row").is_not_null() & pl.col("reasons").list.contains(BLOCKED))


def _without(table: Table, blocked: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows but those."""
    waiting = {_from_page(table, orjson.loads(one["row"])) for one in blocked.iter_rows(named=True)}
    if not waiting:
        return rows
    is_suspect = pl.col("page_id").is_in(blocked["page_id"].unique().implode())
    suspects = rows.filter(is_suspect)
    stays = pl.Series(
        [_from_page(table, row) in waiting for row in suspects.iter_rows(named=True)], dtype=pl.Boolean
    )
    return pl.concat([rows.filter(~is_suspect), suspects.filter(~stays)])


def _held(store: Store, table: Table) -> pl.DataFrame:
    """What waits or was discarded: neither comes in by the back door."""
    return held_rows(store).filter(pl.col("table") == table.name, pl.col("status") != "released")


def _nothing(table: Table) -> pl.DataFrame:
    given = pl.Schema({column.name: column.dtype for column in table.columns if column.derived is None})
    return conform(table, given.to_frame(eager=False)).collect()


def _days_of(pages: StoredTable | None, streaming: Streaming | None) -> Iterator[pl.DataFrame]:
    """Pages of one day after the other, in the order they were received, with what they are understood with."""
    if pages is None:
        return
    rows = pages.scan()
    for day in rows.select(pl.col("received_date").unique().sort()).collect()["received_date"]:
        pages_of_day = rows.filter(pl.col("received_date") == day).sort("received_at", "page_id").collect()
        yield with_context(pages, pages_of_day, streaming)


def _passing_now(store: Store, table: Table, candidate: Candidate) -> list[str]:
    """Ids of held rows whose fact the rebuild published from the same page, and of held pages that can be read now."""
    held = _held(store, table)
    names = {"page_id", *table.identity}
    rows = candidate.rows.filter(pl.col("page_id").is_in(held["page_id"].unique().implode()))
    good = rows.filter(pl.col(REASONS).list.len() == 0)
    bad = rows.filter(pl.col(REASONS).list.len() > 0)
    passing = {_from_page(table, row) for row in good.select(names).iter_rows(named=True)}
    failing = {_from_page(table, row) for row in bad.select(names).iter_rows(named=True)}
    unreadable = {page_id for page_id, _ in candidate.unreadable}
    released = []
    for one in held.iter_rows(named=True):
        if one["row"] is None:
            passes = one["page_id"] not in unreadable
        else:
            fact = _from_page(table, orjson.loads(one["row"]))
            passes = fact in passing and fact not in failing
        if passes:
            released.append(str(one["quarantine_id"]))
    return released


def _from_page(table: Table, row: Mapping[str, object]) -> tuple[object, bytes]:
    return row["page_id"], identity_of(table, row)
