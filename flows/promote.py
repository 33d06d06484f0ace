"""Promote tables: silver first, then gold in the order of its inputs."""

from __future__ import annotations

from prefect import flow

from lakehouse import catalog
from lakehouse.errors import MnemoError
from lakehouse.publish import Promoted
from tasks.promote import promote_table
from tasks.record import record_promotions


class PromotionsFailed(MnemoError):
    """Some tables could not be promoted; the others were."""


@flow(name="promote", flow_run_name="promote")
def promote(tables: list[str] | None = None) -> list[Promoted]:
    """Promote the tables named, or all of them; what goes wrong with one does not stop the others."""
    wanted = [catalog.table(name).name for name in tables or catalog.promotion_order()]
    states = [promote_table(name, return_state=True) for name in catalog.promotion_order() if name in wanted]
    promoted = [one for state in states if state.is_completed() for one in state.result()]
    record_promotions(promoted)
    failed = [state.message for state in states if not state.is_completed()]
    if failed:
        raise PromotionsFailed("\n".join(str(message) for message in failed))
    return promoted
