"""The pure function: a suite and a frame in, the library's own validation result out.

It shares no context between calls: threads may judge different frames at once. The expectations' own classes decide and
write the result; only the metrics that they ask for are Polars' work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from expectations.polars_gx.data import Data, Request, View
from expectations.polars_gx.errors import CannotJudge
from expectations.polars_gx.library import (
    BatchExpectation,
    ColumnMapExpectation,
    ColumnPairMapExpectation,
    Expectation,
    ExpectationSuite,
    ExpectationSuiteValidationResult,
    MulticolumnMapExpectation,
    registered_metrics,
)
from expectations.polars_gx.measure import measure

SUMMARY: Mapping[str, Any] = {
    "result_format": "SUMMARY",
    "partial_unexpected_count": 20,
    "include_unexpected_rows": False,
}
"""Numbers, 20 examples and the numbers of their rows."""


def validate(
    suite: ExpectationSuite,
    frame: pl.DataFrame | pl.LazyFrame,
    *,
    checks: Mapping[str, pl.Expr] | None = None,
    views: Mapping[str, View] | None = None,
    meta: Mapping[str, Any] | None = None,
    result_format: Mapping[str, Any] = SUMMARY,
) -> ExpectationSuiteValidationResult:
    """The library's validation result of the suite on the frame or scan, its results in the order of the suite.

    `checks` holds, by the name of the rule, what `ExpectRowsToKeepRule` is to check; a check that is null counts as
    kept. `views` holds, by the name of the view, what `ExpectViewToHold` is to look at. NaN counts as missing. Raises
    CannotJudge, naming the expectation, for what has no rule on Polars.
    """
    data, expectations = Data.of(frame, checks, views), list(suite.expectations)
    asked = [_asked(expectation, result_format) for expectation in expectations]
    values = iter(measure(data, [request for wanted in asked for request in wanted.values()]))
    metrics = [{name: next(values) for name in wanted} for wanted in asked]
    results = [
        _decide(expectation, found, result_format)
        for expectation, found in zip(expectations, metrics, strict=True)
    ]
    return _suite_result(suite, results, meta or {})


_MAPS = (ColumnMapExpectation, ColumnPairMapExpectation, MulticolumnMapExpectation)
_OF_SUMMARY = ("unexpected_count", "unexpected_values", "unexpected_index_list")


def _asked(expectation: Expectation, result_format: Mapping[str, Any]) -> dict[str, Request]:
    """The metrics that an expectation wants, by its own name for each.

    It would say so itself, and does where it has its own ways: but at a millisecond each that is most of what judging a
    small batch costs. Those that leave it to their base class are read directly.
    """
    says = type(expectation).get_validation_dependencies
    family = next(
        (kind for kind in (*_MAPS, BatchExpectation) if says is kind.get_validation_dependencies), None
    )
    if family is None or result_format["result_format"] != "SUMMARY" or len(result_format) != len(SUMMARY):
        return _said(expectation, result_format)
    names = expectation.metric_dependencies if family is BatchExpectation else _of_map(expectation, family)
    return {name: _request(expectation, name, result_format) for name in names}


def _of_map(expectation: Expectation, family: type) -> list[str]:
    counted = "column_values.nonnull.unexpected_count"
    if family is not ColumnMapExpectation:
        counted = f"{expectation.map_metric}.filtered_row_count"
    return ["table.row_count", counted, *(f"{expectation.map_metric}.{name}" for name in _OF_SUMMARY)]


def _request(expectation: Expectation, name: str, result_format: Mapping[str, Any]) -> Request:
    definition = registered_metrics.get(name)
    if definition is None:
        raise CannotJudge(f"{expectation.expectation_type}: there is no metric {name}")
    values = {key: getattr(expectation, key, None) for key in definition["metric_value_keys"]}
    if "result_format" in values:
        values["result_format"] = result_format
    domain = {key: getattr(expectation, key, None) for key in definition["metric_domain_keys"]}
    return Request(
        name=name, domain={key: value for key, value in domain.items() if value is not None}, values=values
    )


def _said(expectation: Expectation, result_format: Mapping[str, Any]) -> dict[str, Request]:
    said = expectation.get_validation_dependencies(
        execution_engine=None, runtime_configuration={"result_format": dict(result_format)}
    )
    return {
        name: Request(
            name=metric.metric_name, domain=metric.metric_domain_kwargs, values=metric.metric_value_kwargs
        )
        for name, metric in said.metric_configurations.items()
    }


def _decide(expectation: Expectation, metrics: Mapping[str, Any], result_format: Mapping[str, Any]) -> Any:
    said = expectation._validate(
        metrics=dict(metrics), runtime_configuration={"result_format": dict(result_format)}
    )
    if said is None:  # as types that ask what kind of engine it is answer for one they do not know
        raise CannotJudge(f"{expectation.expectation_type} cannot be judged on Polars")
    return expectation._build_evr(raw_response=said)


def _suite_result(suite: ExpectationSuite, results: list[Any], meta: Mapping[str, Any]) -> Any:
    passed = sum(bool(result.success) for result in results)
    return ExpectationSuiteValidationResult(
        success=passed == len(results),
        results=results,
        suite_name=suite.name,
        suite_parameters={},
        statistics={
            "evaluated_expectations": len(results),
            "successful_expectations": passed,
            "unsuccessful_expectations": len(results) - passed,
            "success_percent": passed / len(results) * 100 if results else None,
        },
        meta=dict(meta),
    )
