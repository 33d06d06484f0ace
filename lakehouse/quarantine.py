"""Quarantine: what could not be promoted, how it gets out again, and how it is given up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import orjson
import polars as pl

from lakehouse.catalog import tables
from lakehouse.clean import CONTRADICTS, new_rows
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
    rows = _scan(store).filter(pl.col("batch_id").str.starts_with(batch))
    return rows.sort("quarantined_at", "quarantine_id").collect()


def reasons_of(rows: pl.DataFrame) -> pl.DataFrame:
    """How often each table's rows are held for each reason: `table`, `reason`, `rows`, `batches`, `oldest`."""
    named = rows.explode("reasons").rename({"reasons": "reason"}).group_by("table", "reason")
    counted = named.agg(
        pl.len().alias("rows"),
        pl.col("batch_id").n_unique().alias("batches"),
        pl.col("quarantined_at").min().alias("oldest"),
    )
    return counted.sort("rows", "table", "reason", descending=[True, False, False])


def aged(store: Store, now: datetime, older_than: timedelta) -> pl.DataFrame:
    """Batches of which rows have been held for longer than that, the oldest first.

    Columns: `table`, `batch_id`, `rows`, `quarantined_at`, `reasons` (a list, the most frequent first), `owner` (empty
    where the table is not known any more) and `age` (a duration).
    """
    held = _scan(store).filter(pl.col("status") == "held", pl.col("quarantined_at") < now - older_than)
    counted = held.group_by("table", "batch_id").agg(
        pl.len().cast(pl.Int64).alias("rows"),
        pl.col("quarantined_at").min(),
        pl.col("reasons").explode(empty_as_null=False).value_counts(sort=True, name="n"),
    )
    batches = counted.collect()
    owners = {name: table.owner for name, table in tables().items()}
    return batches.with_columns(
        pl.col("reasons").list.eval(pl.element().struct.field("reasons")),
        owner=pl.col("table").replace_strict(owners, default="", return_dtype=pl.String),
        age=pl.lit(now) - pl.col("quarantined_at"),
    ).sort("quarantined_at", "table", "batch_id")


def discard(store: Store, held: pl.DataFrame, *, by: str, why: str, at: datetime) -> int:
    """Give held rows up, under a person's name and reason; how many.

    They stay where they are, and may be released later. UsageError without a name or a reason.
    """
    if not (by.strip() and why.strip()):
        raise UsageError("who discards rows gives a name and says why")
    ids = held.filter(pl.col("status") == "held")["quarantine_id"].to_list()
    decided: dict[str, str | datetime] = {
        "discarded_by": by.strip(),
        "discarded_why": why.strip(),
        "discarded_at": at,
    }
    _set_status(store, ids, {"status": "discarded", **decided})
    return len(ids)


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
    not be read before is held from now on. Rows whose fact the provider has told again since, and was published, wait
    no more either. None where nothing new passes.
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
        target = store.open(table)
        passing = _published_now(table, target, good, held, dict(unreadable))
        mark_released(store, list(dict.fromkeys([*passing, *_corrected(table, target, held)])))
    return outcome


def _scan(store: Store) -> pl.LazyFrame:
    stored = store.find(QUARANTINE)
    return stored.scan() if stored else QUARANTINE.schema.to_frame(eager=False)


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
    hold_back(store, table, _not_yet_held(table, fresh.filter(~is_good), held), candidate, run)
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


def _not_yet_held(table: Table, bad: pl.DataFrame, held: pl.DataFrame) -> pl.DataFrame:
    """Bad rows of pages that could not be read before; the others are what is held."""
    told = [(row["page_id"], row["row"]) for row in held.iter_rows(named=True) if row["row"] is not None]
    known = {(page_id, identity_of(table, orjson.loads(said))) for page_id, said in told}
    is_new = [(row["page_id"], identity_of(table, row)) not in known for row in bad.iter_rows(named=True)]
    return bad.filter(pl.Series(is_new, dtype=pl.Boolean))


def _corrected(table: Table, target: StoredTable, held: pl.DataFrame) -> list[str]:
    """Ids of held rows whose fact is published as a later delivery told it.

    Of a fact with versions it is a version that was not known before the one that is held. A contradiction is about
    what is published; it stays.
    """
    told = held.filter(pl.col("row").is_not_null(), ~pl.col("reasons").list.contains(CONTRADICTS))
    if told.is_empty():
        return []
    rows = _read_back(table, told)
    stored = stored_alike(table, target, rows).select(
        *table.identity, later="ingested_at", version="known_at"
    )
    is_later = pl.col("later") > pl.col("ingested_at")
    is_current = pl.col("version") >= pl.col("known_at") if table.keeps_revisions else pl.lit(value=True)
    found = rows.join(stored, on=table.identity, how="inner", nulls_equal=True).filter(is_later, is_current)
    return found["quarantine_id"].unique().sort().to_list()


def _read_back(table: Table, held: pl.DataFrame) -> pl.DataFrame:
    """The clocks of rows that are kept as JSON and what tells them from others, typed, beside their ids."""
    names = dict.fromkeys(
        (*table.identity, *table.partition_by, table.time_column, "known_at", "ingested_at")
    )
    types = {name: table.schema[name] for name in names}
    texts = {name: pl.String() if dtype.is_temporal() else dtype for name, dtype in types.items()}
    rows = held.select("quarantine_id", said=pl.col("row").str.json_decode(pl.Struct(texts))).unnest("said")
    return rows.with_columns(_moment(name, dtype) for name, dtype in types.items() if dtype.is_temporal())


def _moment(name: str, dtype: pl.DataType) -> pl.Expr:
    if dtype == pl.Date:
        return pl.col(name).str.to_date("%Y-%m-%d")
    time = pl.col(name).str.strip_suffix("Z").str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us")
    return time.dt.replace_time_zone("UTC")


def _key(table: Table, row: Mapping[str, object]) -> bytes:
    return _comparable({name: row[name] for name in table.key})


def identity_of(table: Table, row: Mapping[str, object]) -> bytes:
    """What fact a row tells of, the same for a row of a frame and one read back from the quarantine's JSON."""
    return _comparable({name: row[name] for name in table.identity})


def _comparable(said: Mapping[str, object]) -> bytes:
    return orjson.dumps(orjson.loads(orjson.dumps(said, option=orjson.OPT_UTC_Z)))


def mark_released(store: Store, quarantine_ids: list[str]) -> None:
    """Note that what was held has been published after all."""
    _set_status(store, quarantine_ids, {"status": "released"})


def _set_status(store: Store, quarantine_ids: Iterable[str], changes: Mapping[str, str | datetime]) -> None:
    listed = ", ".join(f"'{one}'" for one in quarantine_ids)
    if listed:
        where = f"quarantine_id in ({listed})"
        until_settled(lambda: store.open(QUARANTINE).set_where(where, changes))
