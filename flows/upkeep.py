"""Upkeep: compact, order, and delete what is older than the retention."""

from __future__ import annotations

from prefect import flow

from lakehouse.upkeep import Upkept
from tasks.upkeep import maintain_tables


@flow(name="upkeep", flow_run_name="upkeep")
def upkeep() -> list[Upkept]:
    """Maintain every table beside whatever else is running; sizes before and after are an artifact."""
    return maintain_tables()
