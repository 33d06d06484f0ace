"""The two effects of a run, without Prefect: what the tasks wrap and the command line calls."""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from lakehouse import catalog
from lakehouse.promotion import promote_model, promote_pages
from lakehouse.publish import Promoted, Run
from sources import registry
from sources.errors import ParseError
from sources.ingest import Ingested, ingest
from sources.watchlist import Order
from tasks import session

log = structlog.get_logger()


def fetch(order: Order, run: Run) -> Ingested:
    """Carry out one order."""
    feed = registry.feed(order.feed)
    return ingest(session.store(), feed, order.subject, order.window, client=session.client(), run=run)


def promote(table: str, run: Run) -> list[Promoted]:
    """Promote everything new into one table."""
    done = list(_promote(table, run))
    log.info(
        "promoted",
        table=table,
        levels=[one.level for one in done if one.level],
        published_rows=sum(one.published_rows for one in done),
        quarantined_rows=sum(one.quarantined_rows for one in done),
    )
    return done


def _promote(table: str, run: Run) -> Iterator[Promoted]:
    from expectations.gate import Gate  # heavy: only where something is judged

    contract = catalog.table(table)
    judge = Gate(session.files()).judge
    if table in catalog.models():
        yield from promote_model(session.store(), catalog.models()[table], judge=judge, run=run)
    for feed in registry.feeds_filling(table):
        yield from promote_pages(
            session.store(), contract, feed.bronze, feed.parse, judge=judge, run=run, parse_error=ParseError
        )
