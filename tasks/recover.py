"""Prefect task: runs that nobody is at work on are marked, and run again.

The automations do the same as it happens (deployments/automations.py). They hang on events, which a server that dies
can lose; this looks at what is, and is repeated by a schedule.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas import filters
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State, StateType
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.settings import get_current_settings
from prefect.states import AwaitingRetry, Cancelled, Crashed

log = structlog.get_logger()

ATTEMPTS = 3
"""How often a run is started in all before a crash is left to people."""
AGAIN = "again"
"""Tag of deployments whose failed runs are started once more, after a while: a provider may have come to itself."""
START = timedelta(minutes=5)
"""How long a run may be on its way between being taken by a worker and running."""
_MARGIN = timedelta(minutes=1)
_LOOK_BACK = timedelta(days=1)
_PAGE = 200
_HEARTBEAT = "prefect.flow-run.heartbeat"


def silence() -> timedelta:
    """How long a run may be silent before it is lost: three heartbeats; fewer would take live runs for dead."""
    every_s = get_current_settings().flows.heartbeat_frequency
    if every_s is None:
        raise RuntimeError("flows.heartbeat_frequency is not set (prefect.toml): lost runs could not be told")
    return timedelta(seconds=3 * every_s)


@task(name="recover", task_run_name="lost runs", retries=2, retry_delay_seconds=5, cache_policy=NO_CACHE)
def recover_runs() -> list[str]:
    """Mark runs that are lost, start those again that crashed and, once, those that failed; a line for each.

    Lost is what says that it runs but was not heard of for three heartbeats and a minute, and what was taken by a
    worker five minutes ago and does not run. Task runs of flow runs that have ended end with them.
    """
    with get_client(sync_client=True) as client:
        return [*_mark_lost(client), *_end_task_runs(client), *_start_again(client)]


def _mark_lost(client: SyncPrefectClient) -> Iterator[str]:
    now = datetime.now(UTC)
    heard = now - silence() - _MARGIN
    for run in _runs(client, StateType.RUNNING, before=heard):
        if not _was_heard(client, run.id, since=heard):
            yield _set(client, run, Crashed(message="Not heard of for three heartbeats."))
    for run in _runs(client, StateType.PENDING, before=now - START):
        yield _set(client, run, Crashed(message=f"Taken by a worker, but not running {START} later."))
    for run in _runs(client, StateType.CANCELLING, before=now - START):
        yield _set(client, run, Cancelled(message=f"Did not end by itself within {START}."))


def _start_again(client: SyncPrefectClient) -> Iterator[str]:
    """Crashed and failed runs of deployments, but where a later one was started with the same parameters."""
    now = datetime.now(UTC)
    crashed = _runs(client, StateType.CRASHED, after=now - _LOOK_BACK)
    failed = _runs(client, StateType.FAILED, after=now - _LOOK_BACK, before=now - START)
    wanted = [run for run in crashed if run.run_count < ATTEMPTS]
    wanted += [run for run in failed if AGAIN in run.tags and run.run_count == 1]
    for run in wanted:
        if run.deployment_id and not _is_overtaken(client, run):
            was = str(run.state_name).lower()
            again: State[None] = AwaitingRetry(scheduled_time=now, message=f"It had {was}.")
            yield _set(client, run, again)


def _end_task_runs(client: SyncPrefectClient) -> Iterator[str]:
    running = filters.TaskRunFilterState(type=filters.TaskRunFilterStateType(any_=[StateType.RUNNING]))
    for run in client.read_task_runs(
        task_run_filter=filters.TaskRunFilter(state=running),
        flow_run_filter=_in_state(*TERMINAL_STATES),
        limit=_PAGE,
    ):
        client.set_task_run_state(run.id, Crashed(message="Its flow run has ended."), force=True)
        yield f"task run {run.name}: its flow run has ended"


def _runs(
    client: SyncPrefectClient,
    state: StateType,
    *,
    before: datetime | None = None,
    after: datetime | None = None,
) -> Iterator[FlowRun]:
    """Runs that are in a state, and entered it before or after a moment."""
    for run in client.read_flow_runs(flow_run_filter=_in_state(state), limit=_PAGE):
        entered = run.state.timestamp if run.state else datetime.now(UTC)
        if (before is None or entered < before) and (after is None or entered > after):
            yield run


def _in_state(*states: StateType) -> filters.FlowRunFilter:
    wanted = filters.FlowRunFilterStateType(any_=list(states))
    return filters.FlowRunFilter(state=filters.FlowRunFilterState(type=wanted))


def _was_heard(client: SyncPrefectClient, run_id: UUID, *, since: datetime) -> bool:
    beats = EventFilter(
        occurred=EventOccurredFilter(since=since),
        event=EventNameFilter(name=[_HEARTBEAT]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run_id}"]),
    )
    return client.read_events(beats, limit=1).total > 0


def _is_overtaken(client: SyncPrefectClient, run: FlowRun) -> bool:
    if run.deployment_id is None or run.start_time is None:
        return False
    later = filters.FlowRunFilter(
        deployment_id=filters.FlowRunFilterDeploymentId(any_=[run.deployment_id]),
        start_time=filters.FlowRunFilterStartTime(after_=run.start_time),
    )
    found = client.read_flow_runs(flow_run_filter=later, limit=_PAGE)
    others = [one for one in found if one.start_time and one.id != run.id]  # it finds those to come, too
    return any(other.parameters == run.parameters for other in others)


def _set(client: SyncPrefectClient, run: FlowRun, state: State) -> str:
    was = run.state_name
    done = client.set_flow_run_state(run.id, state)
    told = f"{run.name} ({run.id}): {was}, now {state.name}: {done.status.value}"
    log.warning("run recovered", run=str(run.id), was=was, now=state.name, answer=done.status.value)
    return told
