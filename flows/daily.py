"""The daily run: fetch what the watchlist names, then promote every table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prefect import flow
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from flows.promote import PromotionsFailed, promote
from lakehouse.errors import MnemoError
from lakehouse.publish import Promoted
from lakehouse.window import iso
from sources.errors import MissingKey
from sources.ingest import Ingested
from sources.watchlist import read_watchlist
from tasks import session
from tasks.ingest import ingest_subject


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


_FETCHERS: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=4)


@flow(name="daily", flow_run_name="daily", task_runner=_FETCHERS)
def daily(feeds: list[str] | None = None) -> DailyReport:
    """Fetch the watchlist (all of it, or some feeds), then promote all tables in the catalog's order.

    A subject that fails does not stop the others, and what did come is promoted; the run then fails with
    RunIncomplete, which names each. Feeds whose key is not set are left out and reported.
    """
    orders = read_watchlist(session.settings(), now=session.utc_now(), feeds=feeds or ())
    futures = [
        ingest_subject.submit(order.feed, order.subject, iso(order.window.start), iso(order.window.end))
        for order in orders
    ]
    outcomes: list[object] = [future.result(raise_on_failure=False) for future in futures]
    promoted, trouble = _promote_all()
    errors = [one for one in outcomes if isinstance(one, BaseException)]
    skipped = {str(error) for error in errors if isinstance(error, MissingKey)}
    failed = [str(error) for error in errors if not isinstance(error, MissingKey)]
    if failed:
        trouble.insert(0, f"{len(failed)} of {len(orders)} subjects failed:\n" + "\n".join(failed))
    if trouble:
        raise RunIncomplete("\n".join(trouble))
    fetched = [one for one in outcomes if isinstance(one, Ingested)]
    return DailyReport(
        fetched=len(fetched),
        new_pages=sum(one.new_pages for one in fetched),
        skipped=tuple(sorted(skipped)),
        promoted=tuple(promoted),
    )


def _promote_all() -> tuple[list[Promoted], list[str]]:
    """What was promoted, and what went wrong: fetches that failed must be told as well."""
    try:
        return promote(), []
    except PromotionsFailed as error:
        return [], [str(error)]
