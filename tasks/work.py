"""The two effects of a run, without Prefect: what the tasks wrap and the command line calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from expectations.monitors import MONITORS, View, Watch
from expectations.monitors import look_around as look
from lakehouse import Lake, catalog
from lakehouse import upkeep as maintenance
from lakehouse.coverage import plan
from lakehouse.gaps import settled_windows
from lakehouse.measured import Stopwatch
from lakehouse.migrations import every_table
from lakehouse.publish import Promoted, Run
from lakehouse.rebuild import rebuild_model, rebuild_pages
from lakehouse.window import Window
from sources import backfill, backfill_plan, registry
from sources.errors import ParseError
from sources.ingest import Ingested, ingest
from sources.watchlist import Order, read_watchlist
from tasks import engine, jobs, session

if TYPE_CHECKING:
    from sources.recorder.recording import Pulse

log = structlog.get_logger()

_TELL_EVERY_S = 60.0


def fetch(order: Order, run: Run) -> Ingested:
    """Carry out one order."""
    feed = registry.feed(order.feed)
    watch = Stopwatch()
    try:
        done = ingest(session.store(), feed, order.subject, order.window, client=session.client(), run=run)
        return replace(done, wall_s=round(watch.read().wall_s, 3))
    finally:
        session.client().tell_usage(every_s=_TELL_EVERY_S)


def plan_backfill(
    feed: str, subjects: Sequence[str], wanted: Window, order: backfill_plan.Direction
) -> backfill_plan.Plan:
    """What of a window of some subjects is not covered, and what fetching it costs."""
    return backfill_plan.plan(
        session.store(), registry.feed(feed), subjects, wanted, client=session.client(), order=order
    )


def backfill_on_cluster(
    feed: str,
    subjects: Sequence[str],
    wanted: Window,
    order: backfill_plan.Direction,
    run: Run,
    *,
    parallel: int,
) -> backfill.Report:
    """Plan and fetch on the cluster, each subject by a worker."""
    return jobs.backfill_subjects(feed, subjects, wanted, order, parallel=parallel, run=run)


def carry_out(
    plan: backfill_plan.Plan,
    run: Run,
    *,
    parallel: int,
    tell: Callable[[backfill.Step], None] = lambda _: None,
) -> backfill.Report:
    """Fetch what is planned."""
    return backfill.carry_out(
        plan, store=session.store(), client=session.client(), run=run, parallel=parallel, tell=tell
    )


def stream(
    name: str,
    subjects: Sequence[str],
    *,
    channels: Sequence[str],
    seconds: float | None,
    run: Run,
    metrics_at: tuple[str, int] | None = None,
    beat: Callable[[Pulse], None] = lambda _: None,
) -> Pulse:
    """Record a live stream until a signal comes, or for so many seconds."""
    from sources.recorder.streaming import record_stream  # sockets: only where something is recorded

    return record_stream(
        name,
        subjects,
        channels=channels,
        seconds=seconds,
        metrics_at=metrics_at,
        store=session.store(),
        client=session.client(),
        run=run,
        beat=beat,
    )


def missing(orders: Iterable[Order]) -> Iterator[Order]:
    """What of the orders is not covered yet, window by window."""
    for order in orders:
        intervals = settled_windows(session.store(), order.feed, order.subject)
        for window in plan(order.window, intervals):
            yield replace(order, window=window)


def promote(table: str, run: Run) -> list[Promoted]:
    """Promote everything new into one table."""
    promoted = jobs.promote_on_cluster if engine.is_cluster() else jobs.promote_here
    done = list(promoted(table, run))
    log.info(
        "promoted",
        table=table,
        levels=[one.level for one in done if one.level],
        published_rows=sum(one.published_rows for one in done),
        quarantined_rows=sum(one.quarantined_rows for one in done),
    )
    return done


def upkeep(run: Run, *, dry_run: bool) -> Iterator[maintenance.Upkept]:
    """Maintain every table that is stored, one after the other."""
    return maintenance.upkeep(session.store(), every_table(session.store()), run, dry_run=dry_run)


def look_around(lake: Lake, now: datetime) -> Watch:
    """What all monitors see of a lake; nothing is written. What the watchlist fetches up to now must not be stale."""
    orders = read_watchlist(lake.settings, now=now)
    rolling = {(order.feed, order.subject) for order in orders if order.window.end == now}
    return look(View(lake=lake, now=now, rolling=rolling), MONITORS)


def rebuild(table: str, run: Run) -> Promoted:
    """Make one table again from all that it is made from; see `lakehouse.rebuild`."""
    from expectations.gate import Gate  # heavy: only where something is judged

    judge = Gate(session.files()).judge
    if table in catalog.models():
        done = rebuild_model(session.store(), catalog.models()[table], judge=judge, run=run)
    else:
        feeds = registry.feeds_filling(table)
        sources = [(feed.bronze, feed.parse) for feed in feeds]
        streaming = {feed.bronze.name: feed.streaming for feed in feeds if feed.streaming}
        contract = catalog.table(table)
        done = rebuild_pages(
            session.store(),
            contract,
            sources,
            judge=judge,
            run=run,
            parse_error=ParseError,
            streaming=streaming,
        )
    log.info("rebuilt", table=table, level=done.level, published_rows=done.published_rows)
    return done
