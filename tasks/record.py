"""Prefect task: leave artifacts for people, a table of what was promoted and where to read about it."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE

from lakehouse.publish import Promoted
from tasks import session


@task(name="record", task_run_name="artifacts", cache_policy=NO_CACHE)
def record_promotions(promoted: Sequence[Promoted]) -> None:
    """Write the table of promotions, and rebuild the index of the Data Docs and link it."""
    from expectations.docs import build_index

    create_table_artifact(
        key="promotions",
        description="What this run promoted",
        table=[
            {
                "table": one.table,
                "verdict": one.level or "nothing new",
                "published rows": one.published_rows,
                "quarantined rows": one.quarantined_rows,
                "page": one.docs_key,
            }
            for one in promoted
        ],
    )
    index = f"{session.store().root}/{build_index(session.files())}"
    create_markdown_artifact(
        key="data-docs",
        description="Data Docs",
        markdown=f"Data Docs: `{index}`; open them with `mnemo docs`.",
    )
