"""Watch: what is wrong with the lake now, recorded, and told to whom it concerns."""

from __future__ import annotations

from prefect import flow

from expectations.monitors import Watch
from lakehouse.errors import MnemoError
from tasks.alert import HOOKS, tell_alerts
from tasks.watch import watch_lake


class WatchIncomplete(MnemoError):
    """Some monitors could not look; what the others saw is recorded and told."""


@flow(name="watch", flow_run_name="watch", timeout_seconds=1800, **HOOKS)
def watch() -> Watch:
    """Have every monitor look and tell what is new and what is over. What is wrong with the lake fails no run."""
    seen = watch_lake()
    tell_alerts(seen.alerts(), seen.checked)
    if seen.failed:
        raise WatchIncomplete("\n".join(f"{name}: {error}" for name, error in seen.failed.items()))
    return seen
