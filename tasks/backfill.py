"""Prefect task: backfill subjects of one feed over one window."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from lakehouse.window import Window, parse_moment
from sources.backfill import Report
from sources.backfill_plan import Direction
from tasks import session, work
from tasks.report import record_figures

_RETRIES = 2


@task(
    name="backfill",
    task_run_name="{feed}",
    retries=_RETRIES,
    retry_delay_seconds=60,
    cache_policy=NO_CACHE,
)
def backfill_feed(
    feed: str, subjects: list[str], start: str, end: str, *, order: Direction, parallel: int
) -> Report:
    """Fetch what of `start <= t < end` (ISO 8601, UTC) is not covered; running it again fetches what is left."""
    wanted = Window(parse_moment(start), parse_moment(end))
    plan = work.plan_backfill(feed, subjects, wanted, order)
    run = session.new_run(flow_run.id)
    done = work.carry_out(plan, run, parallel=parallel)
    record_figures(run, fetched=[done])
    create_table_artifact(key="backfill", description="What this run fetched", table=[done.record()])
    return done
