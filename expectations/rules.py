"""Expectation types of our own, for what Great Expectations has no type for.

Each takes a metric that `expectations.polars_execution` computes and judges it as the library's own types do.
"""

from __future__ import annotations

from typing import Any, ClassVar

from expectations.library import BatchExpectation, format_map_output, mostly_success

ROWS = "table.row_count"
BROKEN = "rows.broken_rule.unexpected_count"
BROKEN_VALUES = "rows.broken_rule.unexpected_values"
COLUMN_TYPES = "table.column_types"

PUBLISHABLE = "is_publishable"
"""Column that the gate puts beside a batch's own: the row breaks no critical rule."""


class ExpectRowsToKeepRule(BatchExpectation):  # type: ignore[misc] # the library is read without types
    """At least the share `mostly` of all rows keeps the rule of that name; what it checks is given when judging.

    `column` is set where the rule is about one column, so that its page shows it there.
    """

    rule: str
    mostly: float = 1.0
    column: str | None = None

    metric_dependencies: ClassVar[tuple[str, ...]] = (ROWS, BROKEN)
    success_keys: ClassVar[tuple[str, ...]] = ("rule", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("rule",)

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: dict[str, Any] | None = None, **_: object
    ) -> dict[str, Any]:
        rows, broken = metrics[ROWS], metrics[BROKEN]
        output: dict[str, Any] = format_map_output(
            result_format=(runtime_configuration or {})["result_format"],
            success=rows == 0 or mostly_success(rows, broken, self.mostly),
            element_count=rows,
            nonnull_count=rows,
            unexpected_count=broken,
            unexpected_list=metrics.get(BROKEN_VALUES, []),
        )
        return output


class ExpectColumnTypesToFitContract(BatchExpectation):  # type: ignore[misc]
    """The columns are the named ones, in that order, each of its Polars type (as text)."""

    column_types: dict[str, str]

    metric_dependencies: ClassVar[tuple[str, ...]] = (COLUMN_TYPES,)
    success_keys: ClassVar[tuple[str, ...]] = ("column_types",)
    args_keys: ClassVar[tuple[str, ...]] = ("column_types",)

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: dict[str, Any] | None = None, **_: object
    ) -> dict[str, Any]:
        del runtime_configuration  # part of the library's signature; nothing here depends on it
        found = list(metrics[COLUMN_TYPES].items())
        wrong = [f"{name} {dtype}" for name, dtype in found if self.column_types.get(name) != dtype]
        wrong += [f"{name} absent" for name in self.column_types if name not in metrics[COLUMN_TYPES]]
        is_as_declared = found == list(self.column_types.items())
        observed = "as declared" if is_as_declared else ", ".join(wrong) or "another order"
        return {"success": is_as_declared, "result": {"observed_value": observed}}
