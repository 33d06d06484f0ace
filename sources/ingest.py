"""Ingest: what a feed fetches becomes pages in its bronze table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl
import structlog

from lakehouse.bronze import Page, pages_frame
from lakehouse.publish import Run
from lakehouse.store import Store, StoredTable
from lakehouse.window import Window
from sources.client import Client
from sources.feed import Feed

log = structlog.get_logger()

_SEEN_WITHIN = timedelta(days=7)


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What one fetch brought."""

    feed: str
    subject: str
    window: Window
    pages: int
    new_pages: int
    size_bytes: int


def ingest(store: Store, feed: Feed, subject: str, window: Window, *, client: Client, run: Run) -> Ingested:
    """Fetch and append, in one commit, the pages that are not in bronze yet.

    An answer that says byte for byte what a page of the last week said is not stored again, if that page came when
    the window was over: until then the same bytes may mean more (a bar that has closed since). When the provider
    fails half way, what it sent until then is kept, and the error is raised.
    """
    pages: list[Page] = []
    try:
        for page in feed.fetch(client, subject, window):
            pages.append(page)  # noqa: PERF402 - what came before an error is kept
    finally:
        new = _append(store, feed, window, pages, run)
    size = sum(len(page.body) for page in pages)
    log.info("ingested", feed=feed.name, subject=subject, window=str(window), pages=len(pages), new_pages=new)
    return Ingested(
        feed=feed.name, subject=subject, window=window, pages=len(pages), new_pages=new, size_bytes=size
    )


def _append(store: Store, feed: Feed, window: Window, pages: list[Page], run: Run) -> int:
    if not pages:
        return 0
    stored = store.open(feed.bronze)
    rows = pages_frame(pages, run_id=run.run_id, code_version=run.code_version).unique(
        "page_id", maintain_order=True
    )
    rows = rows.join(_seen(stored, window, rows), on="page_id", how="anti", maintain_order="left")
    if rows.height:
        stored.append(rows, positions={}, said={"run": run.run_id, "code": run.code_version})
    return rows.height


def _seen(stored: StoredTable, window: Window, rows: pl.DataFrame) -> pl.DataFrame:
    """Ids of the pages of these subjects that came in lately, after the window's end."""
    since = max(window.end, rows["received_at"][0] - _SEEN_WITHIN)
    is_recent = pl.col("received_date") >= since.date(), pl.col("received_at") >= since
    is_alike = pl.col("subject").is_in(rows["subject"].unique().implode())
    return stored.scan().filter(*is_recent, is_alike).select("page_id").collect()
