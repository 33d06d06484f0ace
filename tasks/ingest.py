"""Prefect task: fetch one subject of one feed over one window into bronze."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from lakehouse.errors import Contention, StoreUnavailable
from lakehouse.window import Window, parse_moment
from sources.errors import Transient
from sources.ingest import Ingested
from sources.watchlist import Order
from tasks import session, work

_DELAYS_S: list[float] = [10, 60]


def _may_pass(_task: Any, run: Any, state: Any) -> bool:
    """Retry what may pass by then: a store that is away, a provider never sooner than it asked for.

    The client has already waited a little by itself; `run.run_count` counts the run that just failed.
    """
    error = state.result(raise_on_failure=False)
    if isinstance(error, StoreUnavailable | Contention):
        return True
    if not isinstance(error, Transient):
        return False
    delay_s = _DELAYS_S[min(run.run_count, len(_DELAYS_S)) - 1]
    return error.retry_after_s is None or error.retry_after_s <= delay_s


@task(
    name="ingest",
    task_run_name="{feed} {subject}",
    retries=len(_DELAYS_S),
    retry_delay_seconds=_DELAYS_S,
    retry_jitter_factor=0.5,
    retry_condition_fn=_may_pass,
    cache_policy=NO_CACHE,
)
def ingest_subject(feed: str, subject: str, start: str, end: str) -> Ingested:
    """Fetch `start <= t < end` (ISO 8601, UTC) of one subject; the answer's pages are in bronze when it returns."""
    order = Order(feed=feed, subject=subject, window=Window(parse_moment(start), parse_moment(end)))
    return work.fetch(order, session.new_run(flow_run.id))
