"""Live capture: record a stream into bronze; promotions sweep it on from there."""

from __future__ import annotations

from prefect import flow

from sources.recorder.recording import Pulse
from tasks.stream import record_live


@flow(name="stream", flow_run_name="{stream}")
def stream(
    stream: str, subjects: list[str], channels: list[str] | None = None, seconds: float | None = None
) -> Pulse:
    """Record some subjects of a stream until the run is cancelled, or for so many seconds."""
    return record_live(stream, subjects, channels=channels or (), seconds=seconds)
