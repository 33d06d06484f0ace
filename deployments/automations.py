"""What the Prefect server does by itself when something happens; `python -m deployments.register` brings it there.

Found again by name: made where missing, put right where different, and what bears our prefix and is not declared
here is taken away. Events can be lost while a server is down; whatever depends on them, the flow `sweep` makes good.
A notification block called `mnemo-alerts` (Slack, e-mail, PagerDuty, a webhook: whatever Prefect has) is told of what
people must look at.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from lakehouse import catalog

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

PREFIX = "mnemo: "
ALERTS = "mnemo-alerts"
_COLLECT = timedelta(seconds=60)
"""Publications within this time start one promotion together."""
_BREATH = timedelta(seconds=15)
_STREAM_SILENCE = timedelta(seconds=90)
_ENDS = (
    *("Completed", "Failed", "Crashed", "Cancelling", "Cancelled"),
    *("Paused", "Suspended", "Scheduled", "AwaitingRetry"),
)
"""States in which nothing is heard of a run, and nothing need be."""


def apply(client: SyncPrefectClient) -> None:
    """Make the server's automations of ours what is declared here; one that somebody switched off stays off."""
    found = {one.name: one for one in client.read_automations() if one.name.startswith(PREFIX)}
    wanted = {one.name: one for one in declared(client)}
    for name, automation in wanted.items():
        if name in found:
            kept = automation.model_copy(update={"enabled": found[name].enabled})
            client.update_automation(found[name].id, kept)
        else:
            client.create_automation(automation)
    for name in found.keys() - wanted.keys():
        client.delete_automation(found[name].id)


def declared(client: SyncPrefectClient) -> Iterator[AutomationCore]:
    """All automations of this project, with the ids of the server's deployments and blocks."""
    from tasks.recover import ATTEMPTS

    yield _promote_dependents(client)
    yield _mark_lost()
    yield _clear_pending()
    yield _run_again()
    if block := _alerts_block(client):
        yield _tell_ends(block, "tell of runs that failed", "Failed")
        yield _tell_ends(
            block, "tell of runs that keep crashing", "Crashed", **{"prefect.run-count": str(ATTEMPTS)}
        )
        yield _tell_silent_streams(block)


def _promote_dependents(client: SyncPrefectClient) -> AutomationCore:
    """Gold is promoted a minute after silver was; what has no news costs a look at its inputs."""
    from prefect.events.actions import RunDeployment

    from tasks.events import DEPENDENTS, PUBLISHED, WAITING

    deployment = client.read_deployment_by_name("promote/promote")
    return _automation(
        "promote what is made of what was published",
        {
            "posture": "Proactive",
            "match": {"prefect.resource.id": "mnemo.table.*", DEPENDENTS: WAITING},
            "after": {PUBLISHED},
            # Never comes: the first publication starts a clock, and the minute's others are collected.
            "expect": {f"{PUBLISHED}.no-more"},
            "for_each": {DEPENDENTS},
            "within": _COLLECT,
        },
        RunDeployment(deployment_id=deployment.id, parameters={"tables": list(catalog.models())}),
    )


def _mark_lost() -> AutomationCore:
    """Three heartbeats missed; fewer would take live runs for dead. See `tasks.recover`."""
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState

    from tasks.recover import silence

    return _automation(
        "mark runs that are not heard of any more",
        {
            **_each_run(after=_states("Running", "heartbeat")),
            "expect": _states("heartbeat", *_ENDS),
            "within": silence(),
        },
        ChangeFlowRunState(state=StateType.CRASHED, message="Not heard of for three heartbeats."),
    )


def _clear_pending() -> AutomationCore:
    """A run that hangs between worker and process holds its deployment's slot; later ones would all be cancelled.

    A heartbeat tells as well that it runs: a server on SQLite misses single events when it is busy.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState

    from tasks.recover import START

    return _automation(
        "clear runs that do not start",
        {
            **_each_run(after=_states("Pending")),
            "expect": _states("heartbeat", "Running", *_ENDS),
            "within": START,
        },
        ChangeFlowRunState(
            state=StateType.CRASHED, message=f"Taken by a worker, but not running {START} later."
        ),
    )


def _run_again() -> AutomationCore:
    """Retries of a flow do not cover crashes.

    What stays Crashed is looked for: an automation that reacts to the event does so again for each time that the
    server fails to note it.
    """
    from prefect.client.schemas.objects import StateType
    from prefect.events.actions import ChangeFlowRunState

    from tasks.recover import ATTEMPTS

    counts = [str(count) for count in range(ATTEMPTS)]
    return _automation(
        "run again what crashed",
        {
            **_each_run(after=_states("Crashed")),
            "match": {"prefect.resource.id": "prefect.flow-run.*", "prefect.run-count": counts},
            "match_related": _of_deployments(),
            "expect": _states("Pending", "Running", "Completed", "Scheduled", "AwaitingRetry"),
            "within": _BREATH,
        },
        ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message="It had crashed."),
    )


def _tell_ends(block: UUID, about: str, state: str, **labels: str) -> AutomationCore:
    from prefect.events.actions import SendNotification

    return _automation(
        about,
        {
            "posture": "Reactive",
            "match": {"prefect.resource.id": "prefect.flow-run.*", **labels},
            "match_related": _of_deployments(),
            "expect": _states(state),
            "for_each": {"prefect.resource.id"},
        },
        SendNotification(
            block_document_id=block,
            subject="{{ flow.name }}: {{ flow_run.state.name }}",
            body="{{ flow.name }} ({{ flow_run.name }}), start {{ flow_run.run_count }}: "
            "{{ flow_run.state.message }}\n{{ flow_run | ui_url }}",
        ),
    )


def _tell_silent_streams(block: UUID) -> AutomationCore:
    from prefect.events.actions import SendNotification

    from tasks.stream import HEARTBEAT

    return _automation(
        "tell of streams that fell silent",
        {
            "posture": "Proactive",
            "match": {"prefect.resource.id": "mnemo.stream.*"},
            "after": {HEARTBEAT},
            "expect": {HEARTBEAT},
            "for_each": {"prefect.resource.id"},
            "within": _STREAM_SILENCE,
        },
        SendNotification(
            block_document_id=block,
            subject="A stream fell silent",
            body=f"{{{{ event.resource.name }}}} was not heard of for {_STREAM_SILENCE.seconds} s.",
        ),
    )


def _automation(about: str, trigger: dict[str, Any], action: Any) -> AutomationCore:
    from prefect.events.schemas.automations import AutomationCore, EventTrigger

    return AutomationCore(
        name=f"{PREFIX}{about}",
        description="Declared in deployments/automations.py.",
        trigger=EventTrigger(**{"threshold": 1, **trigger}),
        actions=[action],
    )


def _each_run(*, after: set[str]) -> dict[str, Any]:
    return {
        "posture": "Proactive",
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "for_each": {"prefect.resource.id"},
        "after": after,
    }


def _states(*names: str) -> set[str]:
    return {f"prefect.flow-run.{name}" for name in names}


def _of_deployments() -> dict[str, str]:
    """Only runs that a worker can take again."""
    return {"prefect.resource.role": "deployment", "prefect.resource.id": "prefect.deployment.*"}


def _alerts_block(client: SyncPrefectClient) -> UUID | None:
    found = [one.id for one in client.read_block_documents() if one.name == ALERTS]
    return found[0] if found else None
