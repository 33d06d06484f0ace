"""The hourly run: what the watchlist marks `every: hour`, and what hangs on it."""

from __future__ import annotations

from prefect import flow

from flows.daily import FETCHERS, DailyReport, run_orders
from flows.promote import dependents
from sources import registry
from sources.watchlist import read_watchlist
from tasks import session, work
from tasks.alert import HOOKS


@flow(name="hourly", flow_run_name="hourly", task_runner=FETCHERS, timeout_seconds=50 * 60, **HOOKS)
def hourly() -> DailyReport:
    """Fetch the part of the watchlist that is wanted each hour, as far as it is not covered, and promote it.

    Promoted are the tables that it fills and those made of them. Fails as `daily` does, with RunIncomplete.
    """
    wanted = read_watchlist(session.settings(), now=session.utc_now(), every="hour")
    silver = {registry.feed(order.feed).table.name for order in wanted}
    return run_orders(list(work.missing(wanted)), tables=sorted(silver | dependents(silver)))
