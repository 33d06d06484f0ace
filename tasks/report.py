"""What a run leaves behind, without Prefect: its figures in `ops.metrics` and for Prometheus, and the Data Docs.

None of it decides anything: the data is published by then, so what fails here is logged and the run goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPException

import polars as pl
import structlog

from lakehouse import metrics
from lakehouse.errors import MnemoError
from lakehouse.metrics import Fetching
from lakehouse.ops import QUARANTINE
from lakehouse.publish import Promoted, Run
from sources.backfill import Report
from sources.ingest import Ingested
from tasks import session

log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class RebuiltDocs:
    """What is to be seen after the Data Docs were put in order."""

    index: str
    removed_pages: int


def record_figures(
    run: Run, *, promoted: Sequence[Promoted] = (), fetched: Sequence[Ingested | Report] = ()
) -> None:
    """Write what a run measured to `ops.metrics`, in one commit, and to where the settings name a Prometheus."""
    try:
        rows = metrics.record(
            session.store(), run, promoted=promoted, fetched=[_fetching(one) for one in fetched]
        )
        if rows.height:
            _expose(run)
    except (MnemoError, OSError, HTTPException) as error:
        log.warning("the figures of the run are lost", run=run.run_id, because=str(error))


def rebuild_docs(run: Run) -> RebuiltDocs:
    """Delete the pages that nobody is to keep, and build the indexes over the others."""
    from expectations.docs import address_of, build_index, prune

    settings, files = session.settings(), session.files()
    before = run.now() - timedelta(days=settings.docs_retention_days)
    removed = prune(files, before=before, held=_held_batches())
    index = build_index(files, now=run.now())
    log.info("Data Docs in order", removed_pages=removed)
    return RebuiltDocs(index=address_of(settings, index), removed_pages=removed)


def _fetching(one: Ingested | Report) -> Fetching:
    """Of a backfill one row for all its subjects: there may be thousands of windows."""
    subject, wall_s = ("", one.seconds) if isinstance(one, Report) else (one.subject, one.wall_s)
    return Fetching(
        feed=one.feed,
        subject=subject,
        pages=one.pages,
        new_pages=one.new_pages,
        size_bytes=one.size_bytes,
        wall_s=wall_s,
    )


def _expose(run: Run) -> None:
    settings = session.settings()
    if not (settings.metrics_file or settings.metrics_push_url):
        return
    from tasks.prometheus import expose  # only where somebody wants it

    expose(metrics.newest(session.store(), now=run.now()), settings)


def _held_batches() -> set[str]:
    stored = session.store().find(QUARANTINE)
    if stored is None:
        return set()
    held = stored.scan().filter(pl.col("status") == "held")
    return set(held.select(pl.col("batch_id").unique()).collect()["batch_id"])
