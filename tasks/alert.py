"""Prefect: tell of alerts as a task, and of flow runs that fail as a hook. `tasks.tell` does it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from lakehouse.alerts import Alert, looked_for
from tasks import session
from tasks.tell import Told, tell

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.schemas.objects import FlowRun, State

__all__ = ["HOOKS", "tell", "tell_alerts", "tell_outcome"]

FLOW = "flow"


@task(name="alert", task_run_name="alerts", cache_policy=NO_CACHE)
def tell_alerts(found: Sequence[Alert], checked: Collection[str]) -> Told:
    """Record and send; see `tasks.tell.tell`."""
    return tell(found, checked=checked, run=session.new_run(flow_run.id))


def tell_outcome(flow: Flow[Any, Any], run: FlowRun, state: State[Any]) -> None:
    """A hook for `on_failure`, `on_crashed` and `on_completion`: a run that failed is an alert until one completes."""
    found = [] if state.is_completed() else [failed_run(flow.name, str(run.id), state)]
    tell(found, checked=[looked_for(FLOW, "", flow.name)], run=session.new_run(str(run.id)))


HOOKS: Mapping[str, Any] = {
    "on_failure": [tell_outcome],
    "on_crashed": [tell_outcome],
    "on_completion": [tell_outcome],
}
"""For `@flow(...)`: whoever is responsible hears when a run of it has failed, and when one completes again."""


def failed_run(name: str, run_id: str, state: State[Any]) -> Alert:
    """The alert of a flow run that failed or crashed."""
    said = state.message or ""
    for secret in session.settings().secrets:
        said = said.replace(secret, "***")
    address = PREFECT_UI_URL.value()
    return Alert(
        monitor=FLOW,
        table="",
        subject=name,
        severity="critical",
        owner="operations",
        summary=f"run {run_id} ended as {state.name}: {said}",
        link=f"{address}/runs/flow-run/{run_id}" if address else "",
    )
