"""Ingest: what a feed fetches becomes pages in its bronze table, with the record of the fetch in the same commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import groupby

import polars as pl
import structlog

from lakehouse.bronze import Page, pages_frame
from lakehouse.coverage import Fetched, Outcome, Part, write_records
from lakehouse.errors import UsageError
from lakehouse.promotion import until_settled
from lakehouse.publish import Run
from lakehouse.store import Store, StoredTable
from lakehouse.window import Window
from sources.client import Client
from sources.errors import MissingKey, Permanent, QuotaExhausted, SourceError
from sources.feed import Feed

log = structlog.get_logger()

_SEEN_WITHIN = timedelta(days=7)
_SETTLES_WITHIN = timedelta(minutes=1)
"""For so long after a window parsing may leave out its last bar as not yet settled."""
_SHOWN = 500


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """What one fetch brought."""

    feed: str
    subject: str
    window: Window
    pages: int
    new_pages: int
    size_bytes: int
    wall_s: float = 0.0


def ingest(store: Store, feed: Feed, subject: str, window: Window, *, client: Client, run: Run) -> Ingested:
    """Fetch and append, in one commit, the pages that are not in bronze yet, and the record of the fetch.

    An answer that says byte for byte what the last answer to its request said is not stored again, if that one came
    within the last week and when the window was over: until then the same bytes may mean more (a bar that has closed
    since). When the provider fails half way, what it sent until then is kept, with what it
    sent in place of data, and the error is raised.

    The record (`lakehouse.coverage.Fetched`) is there also when no page was new and when the provider failed: it is
    all that tells what was asked for. Only a subject that cannot exist and a key that is not set leave none.
    """
    asked_at = client.now()
    pages: list[Page] = []

    def record(outcome: Outcome, detail: str = "") -> int:
        fetched = Fetched(
            subject=subject,
            window=window,
            asked_at=asked_at,
            recorded_at=client.now(),
            parts=_parts(pages, window),
            new_pages=0,
            outcome=outcome,
            detail=detail,
        )
        # A commit that changes the table's columns conflicts with an append: that one begins again.
        return until_settled(lambda: _append(store, feed, window, pages, fetched, run))

    try:
        for page in feed.fetch(client, subject, window):
            pages.append(page)  # noqa: PERF402 - what came before an error is kept
    except (UsageError, MissingKey):
        raise
    except BaseException as error:
        pages += error.pages if isinstance(error, SourceError) else ()
        said = client.redact(f"{type(error).__name__}: {error}")[:_SHOWN]
        record("refused" if _is_refusal(error) else "failed", said)
        raise
    new = record("answered")
    size = sum(len(page.body) for page in pages)
    log.info("ingested", feed=feed.name, subject=subject, window=str(window), pages=len(pages), new_pages=new)
    return Ingested(
        feed=feed.name, subject=subject, window=window, pages=len(pages), new_pages=new, size_bytes=size
    )


def _is_refusal(error: BaseException) -> bool:
    """Whether asking again is useless until a person has acted; a spent quota comes back by itself."""
    return isinstance(error, Permanent) and not isinstance(error, QuotaExhausted)


def _parts(pages: Sequence[Page], window: Window) -> tuple[Part, ...]:
    """Pages that follow each other and answer for one window; those that name none answer for the whole fetch."""
    by_window = groupby(pages, key=lambda page: page.window or window)
    return tuple(
        Part(window=asked, page_ids=tuple(page.page_id for page in told)) for asked, told in by_window
    )


def _append(store: Store, feed: Feed, window: Window, pages: list[Page], fetched: Fetched, run: Run) -> int:
    stored = store.open(feed.bronze)
    rows = pages_frame(pages, run_id=run.run_id, code_version=run.code_version).unique(
        "page_id", maintain_order=True
    )
    if rows.height:
        rows = rows.join(_seen(stored, window, rows), on="page_id", how="anti", maintain_order="left")
    record = write_records([replace(fetched, new_pages=rows.height)])
    stored.append(rows, positions={}, said={"run": run.run_id, "code": run.code_version, "fetched": record})
    return rows.height


def _seen(stored: StoredTable, window: Window, rows: pl.DataFrame) -> pl.DataFrame:
    """Ids of the newest answers to the same requests that came in lately, after the window's end had settled.

    The newest alone: a provider that returns to an earlier answer says something new.
    """
    since = max(window.end + _SETTLES_WITHIN, rows["received_at"][0] - _SEEN_WITHIN)
    is_recent = pl.col("received_date") >= since.date(), pl.col("received_at") >= since
    is_alike = pl.col("subject").is_in(rows["subject"].unique().implode())
    answers = stored.scan().filter(*is_recent, is_alike).group_by("subject", "request")
    with stored.store.errors():
        return answers.agg(pl.col("page_id").max_by("received_at")).select("page_id").collect()
