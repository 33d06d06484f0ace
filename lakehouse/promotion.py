"""promote: read new input, parse or build, conform, clean, gate, publish. The only way into silver and gold.

Each step may be repeated after a kill at any moment with the same result:

1. The target's log says up to which version of its input it has consumed.
2. The verdict, then the quarantined rows, then the good rows are committed, each with the position of the batch's end.
   A run that finds a verdict ahead of the target finishes that very batch first, with the same end.
3. Every publishing commit also advances a counter of the target for each share of subjects that it touched, so that
   of two promotions that touch one the later one conflicts, reads again and judges again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import groupby
from typing import TypeVar

import polars as pl
import structlog

from lakehouse.clean import new_builds, new_rows
from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.coverage import read_records
from lakehouse.errors import Contention, MnemoError
from lakehouse.lineage import Scope, dirtied, in_spans, spans
from lakehouse.model import Model
from lakehouse.ops import VERDICTS
from lakehouse.publish import Candidate, Promoted, Run, batch_id_of, positions_of, settle, with_cost
from lakehouse.shares import SHARES, Share, share_name, share_of, shares_of, split
from lakehouse.store import CommitConflict, Store, StoredTable
from lakehouse.vanished import with_vanished
from lakehouse.verdict import Judge

log = structlog.get_logger()

_MAX_COMMITS = 256
_MAX_COMMITS_OF_STREAMS = 24
"""A stream commits every few seconds, and megabytes at a time."""
_ATTEMPTS = 12
_ROWS_AT_ONCE = 20_000_000
"""Of the inputs, about: what is larger is built by stretches of time, so that memory does not grow with the table."""

T = TypeVar("T")
Parse = Callable[[pl.DataFrame], pl.LazyFrame]


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """How the pages of a stream are read, of which many make one state.

    `unreadable` gives id and reason of every page for which parsing raises; without those it does not. Where
    `needs_context` is set, a page is parsed with those before it on its connection, from its `window_start` on; rows
    of theirs that come out again are known already.
    """

    unreadable: Callable[[pl.DataFrame], tuple[tuple[int, str], ...]]
    needs_context: bool


def promote_pages(
    store: Store,
    table: Table,
    source: Table,
    parse: Parse,
    *,
    judge: Judge,
    run: Run,
    parse_error: type[MnemoError],
    streaming: Streaming | None = None,
) -> list[Promoted]:
    """Promote all new pages of one bronze table into a silver table, batch by batch, oldest first.

    A page for which `parse` raises `parse_error` goes to quarantine; the others go on. Raises Contention when others
    keep committing first. How pages were cut into batches cannot be seen in what is published.
    """
    pages = store.find(source)
    if pages is None:
        return []
    done: list[Promoted] = []
    with store.errors():
        while outcome := with_cost(
            lambda: until_settled(
                lambda: _promote_next_pages(store, table, pages, parse, judge, run, parse_error, streaming)
            )
        ):
            done.append(outcome)
    return done


def shares_to_promote(store: Store, table: Table, source: Table) -> tuple[Share, ...]:
    """What is new in a bronze table, cut so that processes can promote it side by side; () where that cannot be.

    Only the log is read, of which a fetch's commit says whose pages it brought.
    """
    pages, target = store.find(source), store.open(table)
    if pages is None:
        return ()
    app = position_name(table, pages)
    if store.open(VERDICTS).position(app) > target.position(app):
        return ()  # a batch of everything has begun: it must be finished as it is
    return new_shares(pages, target, app, pages.version)


def new_shares(pages: StoredTable, target: StoredTable, app: str, upto: int) -> tuple[Share, ...]:
    """The shares of what a target has not consumed yet; () where a commit does not say whose pages it brought."""
    told = pages.appends(max(target.consumed(app), 0), upto)
    if told is None or any("fetched" not in said for _, said in told):
        return ()
    subjects = {version: {one.subject for one in read_records(said["fetched"])} for version, said in told}
    return split(subjects, [target.position_of_share(app, number) for number in range(SHARES)], upto)


def promote_share(
    store: Store,
    table: Table,
    source: Table,
    parse: Parse,
    share: Share,
    *,
    judge: Judge,
    run: Run,
    parse_error: type[MnemoError],
) -> list[Promoted]:
    """Promote the new pages of one share, as `promote_pages` does; nothing where that was done already."""
    pages = store.find(source)
    if pages is None:
        return []
    done: list[Promoted] = []
    with store.errors():
        while outcome := with_cost(
            lambda: until_settled(
                lambda: _promote_next_of_share(store, table, pages, parse, share, judge, run, parse_error)
            )
        ):
            done.append(outcome)
    return done


def promote_model(store: Store, model: Model, *, judge: Judge, run: Run) -> list[Promoted]:
    """Build again what of a gold table the news of its inputs dirties, and publish what came out differently.

    Of the inputs only the new commits are read, and the rows that the dirty pieces need (see `lakehouse.lineage`). The
    whole table is built the first time, where an input can no longer tell what is new in it, and after a batch that was
    blocked, whose pieces are missing.
    """
    with store.errors():
        outcome = with_cost(lambda: until_settled(lambda: _promote_model_once(store, model, judge, run)))
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
    streaming: Streaming | None,
) -> Promoted | None:
    pages.refresh()
    target = store.open(table)
    app = position_name(table, pages)
    done = target.consumed(app)
    begun = store.open(VERDICTS).position(app)
    most = _MAX_COMMITS_OF_STREAMS if streaming else _MAX_COMMITS
    upto = begun if begun > done else min(pages.version, max(done, 0) + most)
    if done >= upto:
        return None
    new = with_context(pages, pages.changes(max(done, 0), upto), streaming)
    rows, unreadable = parse_what_can_be(parse, new, parse_error, streaming)
    cleaned, repeats, touched = _what_is_new(
        target, conform(table, rows).collect(engine="streaming"), new_rows
    )
    candidate = Candidate(
        batch_id=batch_id_of(app, done, upto),
        inputs=(pages.contract.name,),
        positions={app: upto},
        begun={app: begun},
        rows=cleaned,
        repeats=repeats,
        touched=touched,
        unreadable=unreadable,
    )
    return settle(store, target, candidate, judge, run)


def _promote_next_of_share(
    store: Store,
    table: Table,
    pages: StoredTable,
    parse: Parse,
    share: Share,
    judge: Judge,
    run: Run,
    parse_error: type[MnemoError],
) -> Promoted | None:
    pages.refresh()
    target = store.open(table)
    app = share_name(position_name(table, pages), share.number)
    done = target.position_of_share(position_name(table, pages), share.number)
    begun = store.open(VERDICTS).position(app)
    versions, upto = next_versions(share, done, begun)
    if done >= upto:
        return None
    new = pages_of_share(pages, share, versions)
    rows, unreadable = parse_what_can_be(parse, new, parse_error)
    cleaned, repeats, touched = _what_is_new(
        target, conform(table, rows).collect(engine="streaming"), new_rows
    )
    idle = share.idle if upto == share.upto else ()
    candidate = Candidate(
        batch_id=batch_id_of(app, done, upto),
        inputs=(pages.contract.name,),
        positions={app: upto},
        consumed={share_name(position_name(table, pages), number): upto for number in idle},
        begun={app: begun},
        rows=cleaned,
        repeats=repeats,
        touched=touched,
        unreadable=unreadable,
    )
    return settle(store, target, candidate, judge, run)


def next_versions(share: Share, done: int, begun: int = -1) -> tuple[Sequence[int], int]:
    """The commits of a share that come next, and up to where they bring it; a batch that has begun is finished."""
    left = [version for version in share.versions if version > done]
    if begun > done:
        return [version for version in left if version <= begun], begun
    return left[:_MAX_COMMITS], share.upto if len(left) <= _MAX_COMMITS else left[_MAX_COMMITS - 1]


def pages_of_share(pages: StoredTable, share: Share, versions: Sequence[int]) -> pl.DataFrame:
    """The pages that some commits brought, those of other shares left out."""
    found = [pages.contract.schema.to_frame()]
    found += [pages.changes(first - 1, last) for first, last in _runs(versions)]
    whole = pl.concat(found)
    subjects = [one for one in whole["subject"].unique() if share_of(one) == share.number]
    return whole.filter(pl.col("subject").is_in(subjects))


def _runs(versions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    for _, run in groupby(enumerate(versions), key=lambda one: one[1] - one[0]):
        numbers = [number for _, number in run]
        yield numbers[0], numbers[-1]


def _promote_model_once(store: Store, model: Model, judge: Judge, run: Run) -> Promoted | None:
    inputs = stored_inputs(store, model)
    target = store.open(model.table)
    positions = {position_name(model.table, stored): stored.version for stored in inputs.values()}
    if all(target.position(app) >= version for app, version in positions.items()):
        return None
    scope = None if _was_blocked(store, model.table) else _dirtied(model, target, inputs)
    find = partial(new_builds, has_every_version=model.builds_every_version)
    cleaned, repeats, touched = _what_is_new(target, built(model, inputs, scope), find)
    candidate = Candidate(
        batch_id=batch_id_of(model.table.name, *sorted(positions.items())),
        inputs=model.inputs,
        positions=positions,
        begun=positions_of(store.open(VERDICTS), positions),
        rows=cleaned,
        repeats=repeats,
        touched=touched,
    )
    return settle(store, target, candidate, judge, run)


def _was_blocked(store: Store, table: Table) -> bool:
    verdicts = store.open(VERDICTS).scan().filter(pl.col("table") == table.name)
    last = verdicts.select(pl.col("level").sort_by("judged_at").last()).collect().item()
    return bool(last == "blocked")


def _dirtied(model: Model, target: StoredTable, inputs: Mapping[str, StoredTable]) -> Scope | None:
    """What the commits that the target has not consumed yet dirty; None for all of it."""
    done = {name: target.position(position_name(model.table, stored)) for name, stored in inputs.items()}
    if max(done.values()) < 0:
        return None
    news: dict[str, pl.LazyFrame] = {}
    for name, stored in inputs.items():
        if done[name] < 0:
            news[name] = stored.scan()
        elif (rows := stored.news(done[name], stored.version)) is None:
            return None
        elif rows.height:
            news[name] = rows.lazy()
    return dirtied(model, news, {name: stored.scan() for name, stored in inputs.items()})


def built(model: Model, inputs: Mapping[str, StoredTable], scope: Scope | None) -> pl.DataFrame:
    """The conformed rows of a model's table that are in the scope; None is all of them."""
    scopes = [scope] if scope is not None else _whole(model, inputs)
    return pl.concat(
        conform(model.table, _build(model, inputs, one)).collect(engine="streaming") for one in scopes
    )


def _whole(model: Model, inputs: Mapping[str, StoredTable]) -> Sequence[Scope | None]:
    """All of a table, at once or, where its inputs are large, by stretches of whole days."""
    rows = sum(int(files["num_records"].sum()) for one in inputs.values() if (files := one.files()).height)
    is_near = all(reach.at == model.clock and reach.before is not None for reach in model.reaches)
    if rows <= _ROWS_AT_ONCE or not is_near:
        return [None]
    scans = {name: stored.scan() for name, stored in inputs.items()}
    whole = dirtied(model, scans, scans)
    if whole.is_empty:
        return [None]
    days = whole.pieces.select((pl.col("last").max() - pl.col("first").min()).dt.total_days() + 1).item()
    return list(whole.in_turns(timedelta(days=max(1, days * _ROWS_AT_ONCE // rows))))


def _build(model: Model, inputs: Mapping[str, StoredTable], scope: Scope | None) -> pl.LazyFrame:
    frames = {
        name: inputs[name].scan() if name in inputs else table.schema.to_frame(eager=False)
        for name, table in _input_tables(model).items()
    }
    if scope is None:
        return model.build(frames)
    if scope.is_empty:
        return model.build({name: rows.clear() for name, rows in frames.items()})
    return scope.within(model.build({name: scope.needed(name, rows) for name, rows in frames.items()}))


def stored_inputs(store: Store, model: Model) -> dict[str, StoredTable]:
    """The inputs that were ever written to."""
    found = {name: store.find(table) for name, table in _input_tables(model).items()}
    return {name: stored for name, stored in found.items() if stored}


def position_name(table: Table, source: StoredTable) -> str:
    """Under which name a table's log says up to which version of a source it has consumed."""
    return f"{table.name}<-{source.id}"


def _input_tables(model: Model) -> dict[str, Table]:
    from lakehouse.catalog import table  # the catalog imports every model

    return {name: table(name) for name in model.inputs}


def with_context(stored: StoredTable, pages: pl.DataFrame, streaming: Streaming | None) -> pl.DataFrame:
    """The pages, and those before them that they can only be understood with."""
    if streaming is None or not streaming.needs_context:
        return pages
    wanted = pages.group_by("connection_id").agg(
        pl.col("window_start").min().alias("__since"), pl.col("sequence").max().alias("__upto")
    )
    wanted = wanted.drop_nulls()
    if wanted.is_empty():
        return pages
    earliest = wanted["__since"].min()
    before = (
        stored.scan()
        .filter(
            pl.col("received_date") >= pl.lit(earliest).dt.date(),
            pl.col("received_at") >= earliest,
            pl.col("connection_id").is_in(wanted["connection_id"].implode()),
        )
        .join(wanted.lazy(), on="connection_id")
        .filter(pl.col("received_at") >= pl.col("__since"), pl.col("sequence") < pl.col("__upto"))
        .drop("__since", "__upto")
        .join(pages.lazy().select("page_id"), on="page_id", how="anti")
    )
    return pl.concat([before.collect(engine="streaming"), pages])


def parse_what_can_be(
    parse: Parse,
    pages: pl.DataFrame,
    parse_error: type[MnemoError],
    streaming: Streaming | None = None,
) -> tuple[pl.LazyFrame, tuple[tuple[int, str], ...]]:
    """All pages at once; where that fails, page by page to find the ones that nobody can read.

    Parsing is pure: whatever a single page raises is about that page, also what its parser did not foresee.
    """
    try:
        return parse(pages).collect().lazy(), ()
    except Exception:  # noqa: BLE001
        log.info("a page cannot be read; looking for it", pages=pages.height)
    if streaming:
        found = streaming.unreadable(pages)
        bad = pl.Series([page_id for page_id, _ in found], dtype=pl.Int64)
        return parse(pages.filter(~pl.col("page_id").is_in(bad.implode()))).collect().lazy(), found
    frames, unreadable = [parse(pages.clear()).collect()], []
    for page in pages.iter_slices(1):
        try:
            frames.append(parse(page).collect())
        except Exception as error:  # noqa: BLE001
            said = str(error) if isinstance(error, parse_error) else f"{type(error).__name__}: {error}"
            unreadable.append((int(page["page_id"][0]), said))
    return pl.concat(frames, how="vertical_relaxed").lazy(), tuple(unreadable)


def _what_is_new(
    target: StoredTable,
    conformed: pl.DataFrame,
    find: Callable[[Table, pl.DataFrame, pl.DataFrame], pl.DataFrame],
) -> tuple[pl.DataFrame, int, frozenset[int]]:
    """The conformed rows that the target does not hold yet, how many came that it does, and whose rows all were."""
    table = target.contract
    batch = with_gone(target, conformed)
    fresh = find(table, batch, stored_alike(table, target, batch))
    return fresh, max(0, batch.height - fresh.height), shares_of(batch, table.subject)


def with_gone(target: StoredTable, batch: pl.DataFrame) -> pl.DataFrame:
    """A conformed batch with what it shows to be gone, where the table is told by whole deliveries."""
    table = target.contract
    if table.census is None or batch.is_empty():
        return batch
    is_of = [pl.col(name).is_in(batch[name].unique().drop_nulls().implode()) for name in table.census.of]
    return with_vanished(table, batch, target.scan().filter(*is_of).collect())


def stored_alike(table: Table, target: StoredTable, batch: pl.DataFrame) -> pl.DataFrame:
    """The stored rows of the batch's facts; whole files are skipped by their partitions, identities and times.

    Each column of the identity is looked for by itself before all are compared: what rows hold beside it is read of
    few rows only.
    """
    stored = target.scan()
    for name in dict.fromkeys((*table.partition_by, *table.identity)):
        stored = stored.filter(pl.col(name).is_in(batch[name].unique().implode(), nulls_equal=True))
    if table.range_column is not None and batch[table.range_column].count():
        stored = stored.filter(in_spans(table.range_column, _days(batch[table.range_column])))
    facts = batch.lazy().select(table.identity)
    return stored.join(facts, on=table.identity, how="semi", nulls_equal=True).collect(engine="streaming")


def _days(times: pl.Series) -> pl.DataFrame:
    """The days of some times or dates as few intervals (`first`, `last`) of the same type."""
    days = times.drop_nulls().dt.date().unique().cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    last = days + timedelta(days=1, microseconds=-1)
    found = spans(pl.DataFrame({"first": days, "last": last}))
    return found.select(pl.all().dt.date()) if times.dtype == pl.Date() else found
