"""Prefect task: fetch one subject of one feed over one window into bronze."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from lakehouse.window import Window, parse_moment
from sources.errors import Transient
from sources.ingest import Ingested
from sources.watchlist import Order
from tasks import session, work


def _may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Retry what may pass: the client has already waited a little by itself."""
    return isinstance(state.result(raise_on_failure=False), Transient)


@task(
    name="ingest",
    task_run_name="{feed} {subject}",
    tags=["ingest"],
    retries=2,
    retry_delay_seconds=[10, 60],
    retry_jitter_factor=0.5,
    retry_condition_fn=_may_pass,
    cache_policy=NO_CACHE,
)
def ingest_subject(feed: str, subject: str, start: str, end: str) -> Ingested:
    """Fetch `start <= t < end` (ISO 8601, UTC) of one subject; the answer's pages are in bronze when it returns."""
    order = Order(feed=feed, subject=subject, window=Window(parse_moment(start), parse_moment(end)))
    return work.fetch(order, session.new_run(flow_run.id))
