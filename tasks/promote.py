"""Prefect task: promote everything new into one table."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from lakehouse.publish import Promoted
from tasks import session, work


@task(
    name="promote",
    task_run_name="{table}",
    retries=2,
    retry_delay_seconds=5,
    cache_policy=NO_CACHE,
)
def promote_table(table: str) -> list[Promoted]:
    """Judge and publish what is new; running it again publishes nothing twice."""
    return work.promote(table, session.new_run(flow_run.id))
