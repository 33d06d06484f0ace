"""Great Expectations on Polars: suites judged by the library's own classes, while Polars does the arithmetic.

Two ways in: `validate`, a pure function for frames and lazy scans, and `PolarsDatasource` with `PolarsExecutionEngine`,
so that validation definitions, checkpoints and actions run on Polars too. An expectation without a Polars rule is an
error, never a pass. Importing this imports Great Expectations: 10 CPU seconds.

Nothing here knows the project around it; the package can be taken out as it is.
"""

from expectations.polars_gx.datasource import PolarsDatasource, PolarsFrameAsset
from expectations.polars_gx.engine import PolarsExecutionEngine
from expectations.polars_gx.errors import CannotJudge
from expectations.polars_gx.expectations import (
    ExpectColumnGapsToBeAtMost,
    ExpectColumnTypesToFitContract,
    ExpectColumnValuesToBeInOrder,
    ExpectColumnValuesToBeMultipleOf,
    ExpectGroupTotalsToBeBetween,
    ExpectRowsToKeepRule,
    ExpectViewToHold,
)
from expectations.polars_gx.validate import validate

__all__ = [
    "CannotJudge",
    "ExpectColumnGapsToBeAtMost",
    "ExpectColumnTypesToFitContract",
    "ExpectColumnValuesToBeInOrder",
    "ExpectColumnValuesToBeMultipleOf",
    "ExpectGroupTotalsToBeBetween",
    "ExpectRowsToKeepRule",
    "ExpectViewToHold",
    "PolarsDatasource",
    "PolarsExecutionEngine",
    "PolarsFrameAsset",
    "validate",
]
