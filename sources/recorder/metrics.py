"""A recorder's pulse for Prometheus, at `http://<host>:<port>/metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lakehouse.errors import UsageError
from sources.recorder.recording import Pulse

_COUNTERS = {
    "frames": "Frames heard, sent ones and REST answers among them.",
    "bytes_received": "Bytes of their texts.",
    "unreadable": "Frames that cannot be understood.",
    "connections": "Connections that stood.",
    "disconnects": "Connections that ended.",
    "landed_frames": "Frames brought into bronze.",
}
_GAUGES = {
    "invalid": "Channels of instruments that are not whole now.",
    "spooled_frames": "Entries that are not in bronze yet.",
    "spool_bytes": "What the spool holds on disk.",
    "landing_lag_s": "Seconds since something was last brought into bronze.",
    "silent_s": "Seconds since the newest frame.",
    "durable_s": "Seconds until the oldest frame of the newest sync was durable.",
}


@contextmanager
def metrics(pulse: Callable[[], Pulse], host: str, port: int) -> Iterator[None]:
    """Serve the pulse as it is whenever it is asked for; UsageError where host and port cannot be had."""
    registry = CollectorRegistry()
    registry.register(_Collector(pulse))
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise UsageError(f"metrics cannot be served at {host}:{port}: {error}") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Collector(Collector):
    def __init__(self, pulse: Callable[[], Pulse]) -> None:
        self._pulse = pulse

    def collect(self) -> Iterator[Metric]:
        pulse = self._pulse()
        for name, doc in _COUNTERS.items():
            family: Metric = CounterMetricFamily(f"mnemo_stream_{name}", doc, labels=["stream"])
            yield _with(family, pulse, name)
        for name, doc in _GAUGES.items():
            yield _with(GaugeMetricFamily(f"mnemo_stream_{name}", doc, labels=["stream"]), pulse, name)

    def describe(self) -> Iterator[Metric]:
        """Nothing beforehand: the pulse is only taken when it is asked for."""
        return iter(())


def _with(family: Metric, pulse: Pulse, name: str) -> Metric:
    family.add_sample(
        f"{family.name}_total" if family.type == "counter" else family.name,
        {"stream": pulse.stream},
        float(getattr(pulse, name)),
    )
    return family
