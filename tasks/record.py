"""Prefect tasks: what a run leaves for people, as artifacts and in the Data Docs, and for monitors, as figures."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from expectations.docs import address_of
from lakehouse.publish import Promoted
from lakehouse.settings import Settings
from sources.ingest import Ingested
from tasks import report, session


@task(name="record", task_run_name="artifacts", cache_policy=NO_CACHE)
def record_promotions(promoted: Sequence[Promoted]) -> None:
    """Write the table of promotions, the links to their Data Docs pages, and their figures."""
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
    create_markdown_artifact(
        key="data-docs",
        description="Data Docs of what this run judged",
        markdown=pages_table(promoted, session.settings()),
    )
    report.record_figures(session.new_run(flow_run.id), promoted=promoted)


@task(name="record", task_run_name="figures of the fetches", cache_policy=NO_CACHE)
def record_fetches(fetched: Sequence[Ingested]) -> None:
    """Write what the fetches brought and took."""
    report.record_figures(session.new_run(flow_run.id), fetched=fetched)


@task(name="docs", task_run_name="Data Docs", retries=2, retry_delay_seconds=30, cache_policy=NO_CACHE)
def rebuild_docs() -> None:
    """Delete Data Docs pages past their retention, build the indexes over the others, and link them."""
    done = report.rebuild_docs(session.new_run(flow_run.id))
    create_markdown_artifact(
        key="data-docs-index",
        description="Data Docs of all tables",
        markdown=f"{_link('All verdicts', done.index)}; {done.removed_pages} old pages were deleted."
        " `mnemo docs` opens them on your machine.",
    )


def pages_table(promoted: Sequence[Promoted], settings: Settings) -> str:
    """A table as Markdown: which table was judged, how, and where to read about it."""
    judged = [one for one in promoted if one.docs_key]
    if not judged:
        return "Nothing was judged."
    rows = [
        f"| {one.table} | {one.level} | {_link('page', address_of(settings, one.docs_key))} "
        f"| `mnemo docs {one.batch_id}` |"
        for one in judged
    ]
    return "\n".join(["| table | verdict | page | on your machine |", "| --- | --- | --- | --- |", *rows])


def _link(text: str, address: str) -> str:
    """A link where a browser can follow it, else the address to be copied."""
    return f"[{text}]({address})" if address.startswith("http") else f"`{address}`"
