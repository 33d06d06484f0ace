"""The one door to Great Expectations: what this package uses of it, imported without its noise.

Importing it takes 10 CPU seconds, so that only what judges a batch comes through here, and late. Some names are
private to the library; `tests/expectations/test_polars_execution.py` compares the result with its pandas engine.
"""

from __future__ import annotations

import logging
import warnings

_show_warning = warnings.showwarning
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the library's own dependencies say of each other at import
    import great_expectations.expectations as gxe
    from great_expectations.core.expectation_suite import ExpectationSuite
    from great_expectations.core.expectation_validation_result import (
        ExpectationSuiteValidationResult,
    )
    from great_expectations.core.run_identifier import RunIdentifier
    from great_expectations.expectations.expectation import (
        BatchExpectation,
        Expectation,
        _format_map_output,
        _mostly_success,
    )
    from great_expectations.expectations.row_conditions import Column as RowColumn
    from great_expectations.expectations.row_conditions import ComparisonCondition, Operator
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    if warnings.showwarning is not _show_warning:
        logging.captureWarnings(capture=False)  # the library turned it on for the whole process

format_map_output = _format_map_output
mostly_success = _mostly_success

__all__ = [
    "BatchExpectation",
    "ComparisonCondition",
    "DefaultJinjaPageView",
    "Expectation",
    "ExpectationSuite",
    "ExpectationSuiteValidationResult",
    "Operator",
    "RowColumn",
    "RunIdentifier",
    "ValidationResultsPageRenderer",
    "format_map_output",
    "gxe",
    "mostly_success",
]
