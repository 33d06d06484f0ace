"""A run's figures for Prometheus: as a text file, or told to a Pushgateway; both only where a setting names them.

Batch jobs end before anybody could ask them. Every run tells the newest figures of all tables and feeds, its own and
those of others, so that a run of one table does not make the others vanish. The recorder has an endpoint of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
from prometheus_client import CollectorRegistry, push_to_gateway, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from lakehouse.measured import QUANTILES
from lakehouse.ops import HOPS, METRICS
from lakehouse.settings import Settings

JOB = "mnemo"

_TIMEOUT_S = 10
_FIGURES = {
    "rows": ("rows", "judged, or pages received"),
    "new_rows": ("new_rows", "published, or pages stored"),
    "held_rows": ("held_rows", "put in quarantine"),
    "size_bytes": ("bytes", "bodies received, or rows published in memory"),
    "requests": ("requests", "answered"),
    "wall_s": ("seconds", "how long it took"),
    "cpu_s": ("cpu_seconds", "processor time"),
    "gate_wall_s": ("gate_seconds", "how long judging took"),
    "gate_cpu_s": ("gate_cpu_seconds", "processor time of judging"),
    "lag_s": ("lag_seconds", "from the newest row's own time to the commit"),
}


def expose(figures: pl.DataFrame, settings: Settings) -> None:
    """Replace the file and the gateway's group by these rows of `ops.metrics`; OSError where that fails."""
    registry = CollectorRegistry()
    registry.register(_Figures(figures))
    if settings.metrics_file:
        settings.metrics_file.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(settings.metrics_file), registry)
    if settings.metrics_push_url:
        push_to_gateway(settings.metrics_push_url, JOB, registry, timeout=_TIMEOUT_S)


class _Figures(Collector):
    def __init__(self, figures: pl.DataFrame) -> None:
        self._rows = figures.to_dicts()

    def collect(self) -> Iterator[Metric]:
        """A gauge for each figure and kind, of the newest run of each table and subject."""
        for kind in METRICS.column("kind").values:
            rows = [row for row in self._rows if row["kind"] == kind]
            for column, (name, doc) in _FIGURES.items():
                yield _gauge(f"mnemo_{kind}_{name}", f"Newest {kind}: {doc}.", rows, column)
            yield _times(kind, rows)
        yield _delays(self._rows)


def _gauge(name: str, doc: str, rows: list[dict[str, Any]], column: str) -> Metric:
    family = GaugeMetricFamily(name, doc, labels=["table", "subject"])
    for row in rows:
        if row[column] is not None:
            family.add_metric(_labels(row), float(row[column]))
    return family


def _times(kind: str, rows: list[dict[str, Any]]) -> Metric:
    doc = f"Newest {kind}: when it was recorded."
    family = GaugeMetricFamily(f"mnemo_{kind}_timestamp_seconds", doc, labels=["table", "subject"])
    for row in rows:
        family.add_metric(_labels(row), row["recorded_at"].timestamp())
    return family


def _delays(rows: list[dict[str, Any]]) -> Metric:
    doc = "Newest promotion: how late its rows were, by hop."
    family = GaugeMetricFamily("mnemo_latency_seconds", doc, labels=["table", "hop", "quantile"])
    for row in rows:
        for hop in HOPS:
            for quantile, share in QUANTILES.items():
                if (value := row[f"{hop}_{quantile}_s"]) is not None:
                    family.add_metric([row["table"], hop, f"{share:g}"], value)
    return family


def _labels(row: Mapping[str, Any]) -> list[str]:
    return [row["table"], row["subject"]]
