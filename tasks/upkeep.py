"""Prefect task: maintain the lake's tables, and leave what it did as an artifact."""

from __future__ import annotations

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from lakehouse.upkeep import Upkept
from tasks import session, work


@task(
    name="upkeep",
    task_run_name="all tables",
    retries=2,
    retry_delay_seconds=60,
    cache_policy=NO_CACHE,
)
def maintain_tables() -> list[Upkept]:
    """Maintain every table; running it again finds nothing left to do."""
    done = list(work.upkeep(session.new_run(flow_run.id), dry_run=False))
    create_table_artifact(
        key="upkeep",
        description="Sizes and counts before and after",
        table=[one.record() for one in done],
    )
    return done
