"""Prefect task: have the monitors look, keep what they saw, and leave it as artifacts."""

from __future__ import annotations

from datetime import datetime

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from expectations.docs import address_of
from expectations.monitors import Watch
from lakehouse import Lake
from lakehouse.ops import MONITORS
from lakehouse.promotion import until_settled
from lakehouse.publish import Run
from lakehouse.store import Store
from tasks import session, work


@task(
    name="watch",
    task_run_name="monitors",
    retries=2,
    retry_delay_seconds=30,
    cache_policy=NO_CACHE,
)
def watch_lake() -> Watch:
    """Look, have Great Expectations judge, write the page, add rows to `ops.monitors`; see docs/monitors.md."""
    run = session.new_run(flow_run.id)
    seen = keep(session.store(), work.look_around(Lake(session.store()), now := run.now()), run, now)
    create_table_artifact(key="watch", description="What is wrong", table=seen.wrong.to_dicts())
    page = address_of(session.store().settings, seen.docs_key)
    create_markdown_artifact(
        key="watch-page",
        description="What the monitors saw",
        markdown=f"{seen.wrong.height} of {seen.figures.height} figures are beyond their limits: [{page}]({page})",
    )
    return seen


def keep(store: Store, seen: Watch, run: Run, looked_at: datetime) -> Watch:
    """Write the page and the rows; what was seen, with its page."""
    from expectations.monitors.verdict import with_page  # heavy: only where something is judged

    kept = with_page(seen, store.files, run, looked_at)
    rows, said = kept.rows(run, looked_at), {"run": run.run_id, "code": run.code_version}
    until_settled(lambda: store.open(MONITORS).append(rows, positions={}, said=said))
    return kept
