"""promote: read new input, parse or build, conform, clean, gate, publish. The only way into silver and gold.

Each step may be repeated after a kill at any moment with the same result:

1. The target's log says up to which version of its input it has consumed.
2. The verdict, then the quarantined rows, then the good rows are committed, each with the position of the batch's end.
   A run that finds a verdict ahead of the target finishes that very batch first, with the same end.
3. Every publishing commit also advances one counter of the target, so that of two promotions at once the later one
   conflicts, reads again and judges again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import polars as pl

from lakehouse.clean import CONTRADICTS, new_rows
from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.errors import Contention, MnemoError
from lakehouse.model import Model
from lakehouse.ops import VERDICTS
from lakehouse.publish import Candidate, Promoted, Run, batch_id_of, positions_of, settle
from lakehouse.store import CommitConflict, Store, StoredTable
from lakehouse.verdict import REASONS, Judge

_MAX_COMMITS = 256
_ATTEMPTS = 12

T = TypeVar("T")
Parse = Callable[[pl.DataFrame], pl.LazyFrame]


def promote_pages(
    store: Store,
    table: Table,
    source: Table,
    parse: Parse,
    *,
    judge: Judge,
    run: Run,
    parse_error: type[MnemoError],
) -> list[Promoted]:
    """Promote all new pages of one bronze table into a silver table, batch by batch, oldest first.

    A page for which `parse` raises `parse_error` goes to quarantine; the others go on. Raises Contention when others
    keep committing first.
    """
    pages = store.find(source)
    if pages is None:
        return []
    done: list[Promoted] = []
    while outcome := until_settled(
        lambda: _promote_next_pages(store, table, pages, parse, judge, run, parse_error)
    ):
        done.append(outcome)
    return done


def promote_model(store: Store, model: Model, *, judge: Judge, run: Run) -> list[Promoted]:
    """Build a gold table again from its inputs where one of them has news, and publish what came out differently."""
    outcome = until_settled(lambda: _promote_model_once(store, model, judge, run))
    return [outcome] if outcome else []


def until_settled(attempt: Callable[[], T]) -> T:
    """Try again, with jitter, as long as others commit first; Contention after a dozen times."""
    for tried in range(_ATTEMPTS):
        try:
            return attempt()
        except CommitConflict:
            time.sleep(random.uniform(0, 0.05 * 2 ** min(tried, 6)))  # noqa: S311 - jitter, not a secret
    raise Contention(f"others committed first {_ATTEMPTS} times; try again later")


def _promote_next_pages(
    store: Store,
    table: Table,
    pages: StoredTable,
    parse: Parse,
    judge: Judge,
    run: Run,
    parse_error: type[MnemoError],
) -> Promoted | None:
    pages.refresh()
    target = store.open(table)
    app = f"{table.name}<-{pages.id}"
    done = target.position(app)
    begun = store.open(VERDICTS).position(app)
    upto = begun if begun > done else min(pages.version, max(done, 0) + _MAX_COMMITS)
    if done >= upto:
        return None
    new = pages.changes(max(done, 0), upto)
    rows, unreadable = parse_what_can_be(parse, new, parse_error)
    candidate = Candidate(
        batch_id=batch_id_of(app, done, upto),
        inputs=(pages.contract.name,),
        positions={app: upto},
        begun={app: begun},
        rows=clean(table, target, rows),
        unreadable=unreadable,
    )
    return settle(store, target, candidate, judge, run)


def _promote_model_once(store: Store, model: Model, judge: Judge, run: Run) -> Promoted | None:
    inputs = {name: store.find(table) for name, table in _input_tables(model).items()}
    target = store.open(model.table)
    versions = {f"{model.table.name}<-{stored.id}": stored.version for stored in inputs.values() if stored}
    if not versions or all(target.position(app) >= version for app, version in versions.items()):
        return None
    frames = {
        name: stored.scan() if stored else _input_tables(model)[name].schema.to_frame(eager=False)
        for name, stored in inputs.items()
    }
    candidate = Candidate(
        batch_id=batch_id_of(model.table.name, *sorted(versions.items())),
        inputs=model.inputs,
        positions=versions,
        begun=positions_of(store.open(VERDICTS), versions),
        rows=_without_rewritten_past(clean(model.table, target, model.build(frames))),
    )
    return settle(store, target, candidate, judge, run)


def _without_rewritten_past(rows: pl.DataFrame) -> pl.DataFrame:
    """Rebuilt with input that came late, superseded versions come out differently; what was published then stands."""
    return rows.filter(~pl.col(REASONS).list.contains(CONTRADICTS))


def _input_tables(model: Model) -> dict[str, Table]:
    from lakehouse.catalog import table  # the catalog imports every model

    return {name: table(name) for name in model.inputs}


def parse_what_can_be(
    parse: Parse, pages: pl.DataFrame, parse_error: type[MnemoError]
) -> tuple[pl.LazyFrame, tuple[tuple[int, str], ...]]:
    """All pages at once; where that fails, page by page to find the ones that nobody can read."""
    try:
        return parse(pages).collect().lazy(), ()
    except parse_error:
        pass
    frames, unreadable = [parse(pages.clear()).collect()], []
    for page in pages.iter_slices(1):
        try:
            frames.append(parse(page).collect())
        except parse_error as error:
            unreadable.append((int(page["page_id"][0]), str(error)))
    return pl.concat(frames, how="vertical_relaxed").lazy(), tuple(unreadable)


def clean(table: Table, target: StoredTable, rows: pl.LazyFrame) -> pl.DataFrame:
    """The conformed rows that the target does not hold yet, with their reasons and remarks."""
    batch = conform(table, rows).collect(engine="streaming")
    return new_rows(table, batch, _stored_alike(table, target, batch))


def _stored_alike(table: Table, target: StoredTable, batch: pl.DataFrame) -> pl.DataFrame:
    """The stored rows of the batch's partitions and time range; whole files are skipped by both."""
    stored = target.scan()
    for name in table.partition_by:
        stored = stored.filter(pl.col(name).is_in(batch[name].unique().drop_nulls().implode()))
    if table.range_column is not None and batch[table.range_column].count():
        times = batch[table.range_column]
        stored = stored.filter(pl.col(table.range_column).is_between(times.min(), times.max()))
    return stored.collect(engine="streaming")
