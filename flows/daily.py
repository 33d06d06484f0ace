"""The daily run: fetch what the watchlist names, then promote every table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prefect import flow
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.promote import PromotionsFailed, promote
from lakehouse import catalog
from lakehouse.errors import MnemoError
from lakehouse.publish import Promoted
from lakehouse.window import iso
from sources.errors import MissingKey
from sources.ingest import Ingested
from sources.watchlist import Order, read_watchlist
from tasks import session
from tasks.alert import HOOKS
from tasks.ingest import ingest_subject
from tasks.page import write_page
from tasks.record import rebuild_docs, record_fetches


class RunIncomplete(MnemoError):
    """Some subjects could not be fetched or some tables not promoted; everything else was done."""


@dataclass(frozen=True, kw_only=True)
class DailyReport:
    """What a daily run did and what it could not do."""

    fetched: int
    new_pages: int
    skipped: tuple[str, ...]
    """Subjects of feeds whose key is not set, with the setting that they need."""
    promoted: tuple[Promoted, ...]


FETCHERS: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=4)


@flow(name="daily", flow_run_name="daily", task_runner=FETCHERS, timeout_seconds=12 * 3600, **HOOKS)
def daily(feeds: list[str] | None = None) -> DailyReport:
    """Fetch the watchlist (all of it, or some feeds), then promote all tables in the catalog's order.

    A subject that fails does not stop the others, and what did come is promoted; the run then fails with
    RunIncomplete, which names each. Feeds whose key is not set are left out and reported.
    """
    orders = read_watchlist(session.settings(), now=session.utc_now(), feeds=feeds or ())
    try:
        return run_orders(orders, tables=catalog.promotion_order())
    finally:
        rebuild_docs()
        write_page(return_state=True)  # for people to look at: without it the data are as good


def run_orders(orders: Sequence[Order], *, tables: Sequence[str]) -> DailyReport:
    """Fetch what is ordered, four subjects at a time, then promote some tables; within a flow."""
    futures = [
        ingest_subject.submit(order.feed, order.subject, iso(order.window.start), iso(order.window.end))
        for order in orders
    ]
    outcomes: list[object] = [future.result(raise_on_failure=False) for future in futures]
    promoted, trouble = _promote(tables)
    fetched = [one for one in outcomes if isinstance(one, Ingested)]
    if fetched:
        record_fetches(fetched)
    errors = [one for one in outcomes if isinstance(one, BaseException)]
    skipped = {str(error) for error in errors if isinstance(error, MissingKey)}
    failed = [str(error) for error in errors if not isinstance(error, MissingKey)]
    if failed:
        trouble.insert(0, f"{len(failed)} of {len(orders)} subjects failed:\n" + "\n".join(failed))
    if trouble:
        raise RunIncomplete("\n".join(trouble))
    return DailyReport(
        fetched=len(fetched),
        new_pages=sum(one.new_pages for one in fetched),
        skipped=tuple(sorted(skipped)),
        promoted=tuple(promoted),
    )


def _promote(tables: Sequence[str]) -> tuple[list[Promoted], list[str]]:
    """What was promoted, and what went wrong: fetches that failed must be told as well."""
    if not tables:
        return [], []
    try:
        return promote(list(tables)), []
    except PromotionsFailed as error:
        return [], [str(error)]
