"""An execution engine for Great Expectations: its validators, checkpoints and actions then run on Polars.

The metrics have no parts that depend on each other here: the library hands all of them over in one round, and they are
measured together. A metric without a rule has no provider, which the library reports as the exception of each
expectation that wants it: those fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

import polars as pl

from expectations.polars_gx.aggregates import AGGREGATES
from expectations.polars_gx.conditions import CONDITIONS, SUFFIXES
from expectations.polars_gx.data import Data, Request
from expectations.polars_gx.errors import CannotJudge
from expectations.polars_gx.expectations import CUSTOM_METRICS
from expectations.polars_gx.library import (
    BatchData,
    BatchMarkers,
    ExecutionEngine,
    MetricFunctionTypes,
    MetricProvider,
    MetricResolutionError,
    register_metric,
    registered_metrics,
)
from expectations.polars_gx.measure import measure
from expectations.polars_gx.rows import rows_of


class PolarsBatchData(BatchData):  # type: ignore[misc] # the library is read without types
    """A frame or scan as an engine holds it."""

    def __init__(self, execution_engine: PolarsExecutionEngine, frame: pl.DataFrame | pl.LazyFrame) -> None:
        super().__init__(execution_engine=execution_engine)
        self.frame = frame


class PolarsExecutionEngine(ExecutionEngine):  # type: ignore[misc]
    """Measures frames and lazy scans. It keeps what is loaded into it: take a new one for each batch."""

    def get_batch_data_and_markers(self, batch_spec: Any) -> tuple[PolarsBatchData, BatchMarkers]:
        """Of a spec whose `batch_data` is a frame or scan."""
        loaded = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        frame = batch_spec.batch_data
        batch_spec.batch_data = type(frame).__name__  # the spec goes into results: it must not hold the data
        return PolarsBatchData(self, frame), BatchMarkers({"ge_load_time": loaded})

    def resolve_metrics(
        self,
        metrics_to_resolve: Iterable[Any],
        metrics: Mapping[Any, Any] | None = None,
        runtime_configuration: Mapping[str, Any] | None = None,
    ) -> dict[Any, Any]:
        """The value of each metric by its id. Raises MetricResolutionError with those that cannot be computed."""
        del metrics, runtime_configuration  # part of the library's signature; nothing here depends on them
        found: dict[Any, Any] = {}
        for batch_id, wanted in _by_batch(metrics_to_resolve).items():
            data = Data.of(self._frame(batch_id))
            found |= _measure_together(data, wanted)
        return found

    def condition_to_filter_clause(self, condition: Any) -> pl.Expr:
        """A row condition that needs no knowledge of the columns' types."""
        raise CannotJudge(f"{condition!r} is read with the frame that it chooses rows of")

    _comparison_condition_to_filter_clause = condition_to_filter_clause
    _nullity_condition_to_filter_clause = condition_to_filter_clause
    _and_condition_to_filter_clause = condition_to_filter_clause
    _or_condition_to_filter_clause = condition_to_filter_clause

    def get_domain_records(self, domain_kwargs: Mapping[str, Any]) -> pl.LazyFrame:
        """The rows of a domain."""
        data = Data.of(self._frame(domain_kwargs.get("batch_id")))
        return data.frame.filter(*rows_of(data, domain_kwargs))

    def _frame(self, batch_id: str | None) -> pl.DataFrame | pl.LazyFrame:
        loaded = self.batch_manager.batch_data_cache
        batch = loaded.get(batch_id or self.batch_manager.active_batch_data_id)
        if batch is None:
            raise CannotJudge(f"batch {batch_id} is not loaded")
        frame: pl.DataFrame | pl.LazyFrame = batch.frame
        return frame


def _by_batch(metrics: Iterable[Any]) -> dict[str | None, list[Any]]:
    batches: dict[str | None, list[Any]] = {}
    for metric in metrics:
        batches.setdefault(metric.metric_domain_kwargs.get("batch_id"), []).append(metric)
    return batches


def _measure_together(data: Data, metrics: list[Any]) -> dict[Any, Any]:
    """Where one fails, each is tried alone: the library leaves out only those that failed."""
    try:
        values = measure(data, [_request(metric) for metric in metrics])
    except CannotJudge:
        _blame(data, metrics)
        raise
    return {metric.id: value for metric, value in zip(metrics, values, strict=True)}


def _blame(data: Data, metrics: list[Any]) -> None:
    failed, reasons = [], []
    for metric in metrics:
        try:
            measure(data, [_request(metric)])
        except CannotJudge as error:
            failed.append(metric)
            reasons.append(str(error))
    if failed:
        raise MetricResolutionError(message="; ".join(dict.fromkeys(reasons)), failed_metrics=failed)


def _request(metric: Any) -> Request:
    return Request(
        name=metric.metric_name, domain=metric.metric_domain_kwargs, values=metric.metric_value_kwargs
    )


class _Measured(MetricProvider):  # type: ignore[misc]
    """Stands for every metric in the library's registry: none depends on another."""

    @classmethod
    def _get_evaluation_dependencies(cls, *_: object, **__: object) -> dict[str, Any]:
        return {}


def _provider(*_: object, **__: object) -> None:
    """Never called: the engine itself resolves all metrics."""


class _Keys:
    """Of a metric: which names in an expectation say of what, and which say how."""

    rows: ClassVar[tuple[str, ...]] = ("batch_id", "table", "row_condition", "condition_parser")
    column: ClassVar[tuple[str, ...]] = ("batch_id", "table", "column", "row_condition", "condition_parser")


def _register() -> None:
    for name in AGGREGATES:
        _register_one(name, *_keys_of(name))
    for name in CONDITIONS:
        for suffix in SUFFIXES:
            if name in CUSTOM_METRICS or name + suffix in registered_metrics:
                _register_one(name + suffix, *_keys_of(name, suffix))


def _keys_of(name: str, suffix: str = "") -> tuple[tuple[str, ...], tuple[str, ...]]:
    if name not in CUSTOM_METRICS:
        known = registered_metrics[name + suffix]
        return known["metric_domain_keys"], known["metric_value_keys"]
    is_count = suffix in ("", ".unexpected_count", ".filtered_row_count")
    values = (*CUSTOM_METRICS[name], *(() if is_count else ("result_format",)))
    return _Keys.column if name.startswith("column_values.") else _Keys.rows, values


def _register_one(name: str, domain: tuple[str, ...], values: tuple[str, ...]) -> None:
    register_metric(
        metric_name=name,
        metric_domain_keys=domain,
        metric_value_keys=values,
        execution_engine=PolarsExecutionEngine,
        metric_class=_Measured,
        metric_provider=_provider,
        metric_fn_type=MetricFunctionTypes.VALUE,
    )


_register()
