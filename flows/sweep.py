"""The sweep: the guarantee behind everything that events speed up."""

from __future__ import annotations

from prefect import flow

from flows.promote import promote
from lakehouse.publish import Promoted
from tasks.alert import HOOKS
from tasks.recover import recover_runs


@flow(name="sweep", flow_run_name="sweep", timeout_seconds=4 * 3600, **HOOKS)
def sweep() -> list[Promoted]:
    """Mark lost runs and start them again, then promote everything new in every table."""
    recover_runs()
    return promote()
