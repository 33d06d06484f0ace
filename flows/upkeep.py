"""Upkeep: compact, order, and delete what is older than the retention."""

from __future__ import annotations

from prefect import flow

from lakehouse.upkeep import Upkept
from tasks.alert import HOOKS
from tasks.record import rebuild_docs
from tasks.upkeep import maintain_tables


@flow(name="upkeep", flow_run_name="upkeep", timeout_seconds=6 * 3600, **HOOKS)
def upkeep() -> list[Upkept]:
    """Maintain every table beside whatever else is running; sizes before and after are an artifact."""
    done = maintain_tables()
    rebuild_docs()
    return done
