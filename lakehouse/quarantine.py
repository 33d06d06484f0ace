"""Quarantine: what could not be promoted, and how it gets out again."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import polars as pl

from lakehouse.clean import new_rows
from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.errors import MnemoError, UsageError
from lakehouse.ops import QUARANTINE, VERDICTS
from lakehouse.promotion import (
    Parse,
    Streaming,
    parse_what_can_be,
    stored_alike,
    until_settled,
    with_context,
    with_gone,
)
from lakehouse.publish import Candidate, Promoted, Run, batch_id_of, hold_back, positions_of, settle
from lakehouse.store import Store, StoredTable
from lakehouse.verdict import REASONS, Judge


def held_rows(store: Store, *, batch: str = "") -> pl.DataFrame:
    """Quarantined rows of all batches, or of those whose id begins with `batch`; oldest first."""
    stored = store.find(QUARANTINE)
    rows = stored.scan() if stored else QUARANTINE.schema.to_frame(eager=False)
    return (
        rows.filter(pl.col("batch_id").str.starts_with(batch))
        .sort("quarantined_at", "quarantine_id")
        .collect()
    )


def release(
    store: Store,
    table: Table,
    held: pl.DataFrame,
    *,
    source: Table,
    parse: Parse,
    judge: Judge,
    run: Run,
    parse_error: type[MnemoError],
    streaming: Streaming | None = None,
) -> Promoted | None:
    """Parse the pages of held rows again, judge by today's rules and publish what passes; the rest stays held.

    `held` are rows of ops.quarantine, all of one silver table and one bronze table. What is wrong in a page that could
    not be read before is held from now on. None where nothing new passes.
    """
    stored = store.find(source)
    if stored is None:
        raise UsageError(f"{source.name} is gone: its pages cannot be read again")
    wanted = held["page_id"].drop_nulls().unique()
    pages = stored.scan().filter(pl.col("page_id").is_in(wanted.implode())).collect()
    pages = with_context(stored, pages, streaming)
    rows, unreadable = parse_what_can_be(parse, pages, parse_error, streaming)
    told = with_gone(store.open(table), conform(table, rows).collect())
    outcome = until_settled(lambda: _publish_passing(store, table, source, told, held, judge, run))
    if outcome is None or outcome.level != "blocked":
        good = told.filter(pl.col(REASONS).list.len() == 0)
        mark_released(store, _published_now(table, store.open(table), good, held, dict(unreadable)))
    return outcome


def _publish_passing(
    store: Store, table: Table, source: Table, told: pl.DataFrame, held: pl.DataFrame, judge: Judge, run: Run
) -> Promoted | None:
    target = store.open(table)
    fresh = new_rows(table, told, stored_alike(table, target, told))
    is_good = pl.col(REASONS).list.len() == 0
    app = f"{table.name}<-release"
    candidate = Candidate(
        batch_id=batch_id_of("release", table.name, sorted(held["quarantine_id"]), run.run_id),
        inputs=(source.name,),
        positions={app: target.position(app) + 1},
        begun=positions_of(store.open(VERDICTS), [app]),
        rows=fresh.filter(is_good),
    )
    hold_back(store, table, fresh.filter(~is_good), candidate, run)
    return settle(store, target, candidate, judge, run) if candidate.rows.height else None


def _published_now(
    table: Table, target: StoredTable, good: pl.DataFrame, held: pl.DataFrame, unreadable: Mapping[int, str]
) -> list[str]:
    """Ids of the held rows that pass now and that nothing published contradicts, and of the pages that can be read."""
    contradicting = new_rows(table, good, stored_alike(table, target, good)).filter(
        pl.col(REASONS).list.len() > 0
    )
    passed = {_key(table, row) for row in good.iter_rows(named=True)}
    passed -= {_key(table, row) for row in contradicting.iter_rows(named=True)}
    return [
        row["quarantine_id"]
        for row in held.iter_rows(named=True)
        if (row["row"] is None and row["page_id"] not in unreadable)
        or (row["row"] is not None and _key(table, orjson.loads(row["row"])) in passed)
    ]


def _key(table: Table, row: Mapping[str, object]) -> bytes:
    return _comparable({name: row[name] for name in table.key})


def identity_of(table: Table, row: Mapping[str, object]) -> bytes:
    """What fact a row tells of, the same for a row of a frame and one read back from the quarantine's JSON."""
    return _comparable({name: row[name] for name in table.identity})


def _comparable(said: Mapping[str, object]) -> bytes:
    return orjson.dumps(orjson.loads(orjson.dumps(said, option=orjson.OPT_UTC_Z)))


def mark_released(store: Store, quarantine_ids: list[str]) -> None:
    """Note that what was held has been published after all."""
    if quarantine_ids:
        listed = ", ".join(f"'{one}'" for one in quarantine_ids)
        where = f"quarantine_id in ({listed})"
        until_settled(lambda: store.open(QUARANTINE).set_where(where, {"status": "released"}))
