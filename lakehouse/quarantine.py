"""Quarantine: what could not be promoted, and how it gets out again."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import polars as pl

from lakehouse.contract import Table
from lakehouse.errors import MnemoError, UsageError
from lakehouse.ops import QUARANTINE, VERDICTS
from lakehouse.promotion import Parse, clean, parse_what_can_be, until_settled
from lakehouse.publish import Candidate, Promoted, Run, batch_id_of, positions_of, settle
from lakehouse.store import Store
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
) -> Promoted | None:
    """Parse the pages of held rows again, judge by today's rules and publish what passes; the rest stays held.

    `held` are rows of ops.quarantine, all of one silver table and one bronze table. None where nothing passes.
    """
    stored = store.find(source)
    if stored is None:
        raise UsageError(f"{source.name} is gone: its pages cannot be read again")
    wanted = held["page_id"].drop_nulls().unique()
    pages = stored.scan().filter(pl.col("page_id").is_in(wanted.implode())).collect()
    rows, unreadable = parse_what_can_be(parse, pages, parse_error)
    target = store.open(table)
    cleaned = clean(table, target, rows)
    passing = cleaned.filter(pl.col(REASONS).list.len() == 0)
    if passing.is_empty():
        return None
    batch_id = batch_id_of("release", table.name, sorted(held["quarantine_id"]), run.run_id)
    app = f"{table.name}<-release"
    position = target.position(app) + 1
    candidate = Candidate(
        batch_id=batch_id,
        inputs=(source.name,),
        positions={app: position},
        begun=positions_of(store.open(VERDICTS), [app]),
        rows=passing,
    )
    outcome = settle(store, target, candidate, judge, run)
    if outcome.level != "blocked":
        released = _now_published(table, held, passing, {page_id for page_id, _ in unreadable})
        _mark_released(store, released)
    return outcome


def _now_published(
    table: Table, held: pl.DataFrame, passing: pl.DataFrame, unreadable: set[int]
) -> list[str]:
    """Ids of the held rows whose key has passed, and of the held pages that can be read now."""
    published = {_key(table, row) for row in passing.iter_rows(named=True)}
    return [
        row["quarantine_id"]
        for row in held.iter_rows(named=True)
        if (row["row"] is None and row["page_id"] not in unreadable)
        or (row["row"] is not None and _key(table, orjson.loads(row["row"])) in published)
    ]


def _key(table: Table, row: Mapping[str, object]) -> bytes:
    said = orjson.dumps({name: row[name] for name in table.identity}, option=orjson.OPT_UTC_Z)
    return orjson.dumps(orjson.loads(said))


def _mark_released(store: Store, quarantine_ids: list[str]) -> None:
    if quarantine_ids:
        listed = ", ".join(f"'{one}'" for one in quarantine_ids)
        where = f"quarantine_id in ({listed})"
        until_settled(lambda: store.open(QUARANTINE).set_where(where, {"status": "released"}))
