"""Backfill: fetch what of a window is not covered, then promote the table that the feed fills."""

from __future__ import annotations

from prefect import flow

from flows.promote import promote
from lakehouse.errors import MnemoError
from sources import registry
from sources.backfill import Report
from sources.backfill_plan import Direction
from tasks.alert import HOOKS
from tasks.backfill import backfill_feed


class BackfillIncomplete(MnemoError):
    """Some windows could not be fetched; the others were, and are promoted."""


@flow(name="backfill", flow_run_name="{feed}", timeout_seconds=24 * 3600, **HOOKS)
def backfill(
    feed: str,
    subjects: list[str],
    start: str,
    end: str,
    order: Direction = "oldest-first",
    parallel: int = 4,
) -> Report:
    """Fetch `start <= t < end` (ISO 8601, UTC) of some subjects as far as it is not covered, and promote it."""
    report = backfill_feed(feed, subjects, start, end, order=order, parallel=parallel)
    promote([registry.feed(feed).table.name])
    if report.left:
        raise BackfillIncomplete("\n".join((f"{report.left} windows of {feed} are left", *report.errors)))
    return report
