"""Prefect task: record a live stream, with a heartbeat as Prefect events."""

from __future__ import annotations

from collections.abc import Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.runtime import flow_run

from sources.recorder.recording import Pulse
from tasks import session, work

HEARTBEAT = "mnemo.stream.heartbeat"


@task(name="stream", task_run_name="{stream}", cache_policy=NO_CACHE)
def record_live(
    stream: str, subjects: Sequence[str], *, channels: Sequence[str] = (), seconds: float | None = None
) -> Pulse:
    """Record until cancelled, or for so many seconds; all that came is in bronze when it returns."""
    pulse = work.stream(
        stream,
        subjects,
        channels=channels,
        seconds=seconds,
        run=session.new_run(flow_run.id),
        beat=tell_pulse,
    )
    tell_pulse(pulse)
    return pulse


def tell_pulse(pulse: Pulse) -> None:
    """The heartbeat that automations wait for: how many frames, how far behind, what is not whole."""
    emit_event(
        event=HEARTBEAT,
        resource={
            "prefect.resource.id": f"mnemo.stream.{pulse.stream}",
            "prefect.resource.name": pulse.stream,
        },
        payload={**pulse.record(), "at": pulse.at.isoformat()},
    )
