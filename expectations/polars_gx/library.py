"""The one door to Great Expectations: what this package uses of it, imported without its noise.

Importing it takes 10 CPU seconds, so that only what judges comes through here, and late. Some names are private to the
library; `tests/expectations/test_same_as_pandas.py` compares the results with its pandas engine.
"""

from __future__ import annotations

import logging
import warnings

_show_warning = warnings.showwarning
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the library's own dependencies say of each other at import
    import great_expectations as gx
    import great_expectations.expectations as gxe
    from great_expectations.compatibility import pydantic
    from great_expectations.core import IDDict
    from great_expectations.core.batch import BatchData, BatchMarkers, LegacyBatchDefinition
    from great_expectations.core.batch_spec import RuntimeDataBatchSpec
    from great_expectations.core.expectation_suite import ExpectationSuite
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
    )
    from great_expectations.core.metric_function_types import MetricFunctionTypes
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.data_context.store.tuple_store_backend import TupleStoreBackend
    from great_expectations.datasource.fluent import BatchRequest
    from great_expectations.datasource.fluent.batch_identifier_util import make_batch_identifier
    from great_expectations.datasource.fluent.constants import _DATA_CONNECTOR_NAME
    from great_expectations.datasource.fluent.interfaces import Batch, DataAsset, Datasource
    from great_expectations.exceptions import InvalidKeyError, MetricResolutionError
    from great_expectations.exceptions.exceptions import BuildBatchRequestError
    from great_expectations.execution_engine import ExecutionEngine
    from great_expectations.expectations.expectation import (
        BatchExpectation,
        ColumnMapExpectation,
        ColumnPairMapExpectation,
        Expectation,
        MulticolumnMapExpectation,
        _format_map_output,
        _mostly_success,
    )
    from great_expectations.expectations.metrics.metric_provider import MetricProvider
    from great_expectations.expectations.registry import _registered_metrics, register_metric
    from great_expectations.expectations.row_conditions import (
        AndCondition,
        ComparisonCondition,
        NullityCondition,
        Operator,
        OrCondition,
        deserialize_row_condition,
    )
    from great_expectations.expectations.row_conditions import Column as RowColumn
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    if warnings.showwarning is not _show_warning:
        logging.captureWarnings(capture=False)  # the library turned it on for the whole process

DATA_CONNECTOR_NAME = _DATA_CONNECTOR_NAME
format_map_output = _format_map_output
mostly_success = _mostly_success
registered_metrics = _registered_metrics

__all__ = [
    "DATA_CONNECTOR_NAME",
    "AndCondition",
    "Batch",
    "BatchData",
    "BatchExpectation",
    "BatchMarkers",
    "BatchRequest",
    "BuildBatchRequestError",
    "ColumnMapExpectation",
    "ColumnPairMapExpectation",
    "ComparisonCondition",
    "DataAsset",
    "Datasource",
    "DefaultJinjaPageView",
    "ExecutionEngine",
    "Expectation",
    "ExpectationSuite",
    "ExpectationSuiteValidationResult",
    "IDDict",
    "InvalidKeyError",
    "LegacyBatchDefinition",
    "MetricFunctionTypes",
    "MetricProvider",
    "MetricResolutionError",
    "MulticolumnMapExpectation",
    "NullityCondition",
    "Operator",
    "OrCondition",
    "RowColumn",
    "RunIdentifier",
    "RuntimeDataBatchSpec",
    "TupleStoreBackend",
    "ValidationResultsPageRenderer",
    "deserialize_row_condition",
    "format_map_output",
    "gx",
    "gxe",
    "make_batch_identifier",
    "mostly_success",
    "pydantic",
    "register_metric",
    "registered_metrics",
]
