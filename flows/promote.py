"""Promote tables: silver first, then gold in the order of its inputs."""

from __future__ import annotations

from collections.abc import Collection

from prefect import flow

from lakehouse import catalog
from lakehouse.alerts import from_promotions, gates_of
from lakehouse.errors import MnemoError
from lakehouse.publish import Promoted
from tasks.alert import HOOKS, tell_alerts
from tasks.events import tell_published
from tasks.promote import promote_table
from tasks.record import record_promotions


class PromotionsFailed(MnemoError):
    """Some tables could not be promoted; the others were."""


@flow(name="promote", flow_run_name="promote", timeout_seconds=4 * 3600, **HOOKS)
def promote(tables: list[str] | None = None) -> list[Promoted]:
    """Promote the tables named, or all of them; what goes wrong with one does not stop the others.

    What was published is told as an event; where a table that is made of it is not among those named, that starts the
    deployment `promote` for it (deployments/automations.py).
    """
    wanted = [catalog.table(name).name for name in tables or catalog.promotion_order()]
    states = [promote_table(name, return_state=True) for name in catalog.promotion_order() if name in wanted]
    promoted = [one for state in states if state.is_completed() for one in state.result()]
    published = [one for one in promoted if one.published_rows]
    for name in dict.fromkeys(one.table for one in published):
        batches = [one for one in published if one.table == name]
        tell_published(name, batches, dependents=dependents([name]) - set(wanted))
    record_promotions(promoted)
    # What is published is published, whoever can be told of it.
    tell_alerts(from_promotions(promoted), gates_of(promoted), return_state=True)
    failed = [state.message for state in states if not state.is_completed()]
    if failed:
        raise PromotionsFailed("\n".join(str(message) for message in failed))
    return promoted


def dependents(tables: Collection[str]) -> set[str]:
    """The gold tables that are made of some tables, and of those, and so on; the catalog's models say it."""
    found: set[str] = set()
    for name, model in catalog.models().items():  # each after those it reads
        if not found.union(tables).isdisjoint(model.inputs):
            found.add(name)
    return found
