"""Expectation types for what the library has none for. They judge as its own do; only Polars can measure them."""

from __future__ import annotations

from typing import Any, ClassVar

from expectations.polars_gx.library import (
    BatchExpectation,
    ColumnMapExpectation,
    format_map_output,
    mostly_success,
    pydantic,
)

_ROWS = "table.row_count"
_RULE = "rows.broken_rule"
_TOTALS = "group_totals.between"
_TYPES = "table.column_types"
_VIEW = "view.broken"


class ExpectColumnValuesToBeMultipleOf(ColumnMapExpectation):  # type: ignore[misc] # the library is read without types
    """The column's numbers are multiples of `step`, or of the step that `step_column` has in the same row.

    Floats are hardly ever exact multiples: `tolerance` is how far off a number may be, as a share of the step. A row
    whose step is missing is not judged.
    """

    step: float | None = None
    step_column: str | None = None
    tolerance: float = 1e-6

    map_metric: ClassVar[str] = "column_values.multiple_of"
    success_keys: ClassVar[tuple[str, ...]] = ("step", "step_column", "tolerance", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "step")

    @pydantic.root_validator  # type: ignore[untyped-decorator]
    def _has_one_step(cls, values: dict[str, Any]) -> dict[str, Any]:  # noqa: N805 - a class method to pydantic
        if (values.get("step") is None) == (values.get("step_column") is None):
            raise ValueError("give either step or step_column")
        if values.get("step") is not None and not values["step"] > 0:
            raise ValueError("step must be above zero")
        return values


class ExpectColumnValuesToBeInOrder(ColumnMapExpectation):  # type: ignore[misc]
    """The column never falls from one row to the next of the same group, in the order in which the rows lie.

    With `strictly` it always rises. Rows without a value are left out. Without `group_by` all rows are one group.
    """

    group_by: list[str] = pydantic.Field(default_factory=list)
    strictly: bool = False

    map_metric: ClassVar[str] = "column_values.in_order"
    success_keys: ClassVar[tuple[str, ...]] = ("group_by", "strictly", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "group_by")


class ExpectColumnGapsToBeAtMost(ColumnMapExpectation):  # type: ignore[misc]
    """Sorted within its group, no value of the column is more than `max_gap` above the one before it.

    The gap is in seconds for dates and times, else in the column's own unit. The order of the rows does not matter. The
    unexpected values are those after a gap, with their group and the gap.
    """

    max_gap: float
    group_by: list[str] = pydantic.Field(default_factory=list)

    map_metric: ClassVar[str] = "column_values.gap"
    success_keys: ClassVar[tuple[str, ...]] = ("max_gap", "group_by", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "max_gap", "group_by")


class ExpectGroupTotalsToBeBetween(BatchExpectation):  # type: ignore[misc]
    """The column's sum over each group lies within the bounds, both included, for the share `mostly` of the groups.

    The elements are groups, not rows. A group in which a value is missing has no known sum and is not judged.
    """

    column: str
    group_by: list[str]
    min_value: float | None = None
    max_value: float | None = None
    mostly: float = 1.0

    metric_dependencies: ClassVar[tuple[str, ...]] = tuple(
        f"{_TOTALS}.{name}" for name in ("filtered_row_count", "unexpected_count", "unexpected_values")
    )
    success_keys: ClassVar[tuple[str, ...]] = ("column", "group_by", "min_value", "max_value", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("column", "group_by", "min_value", "max_value")

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: dict[str, Any] | None = None, **_: object
    ) -> dict[str, Any]:
        groups = metrics[f"{_TOTALS}.filtered_row_count"]
        return _of_share(self, metrics, runtime_configuration, name=_TOTALS, elements=groups)


class ExpectRowsToKeepRule(BatchExpectation):  # type: ignore[misc]
    """At least the share `mostly` of all rows keeps the rule of that name; rows for which it is null keep it.

    What it checks is given to `validate` under that name, or is `sql`: an expression of Polars SQL, such as
    `high >= low`. `column` is set where the rule is about one column, so that its page shows it there.
    """

    rule: str
    sql: str | None = None
    mostly: float = 1.0
    column: str | None = None

    metric_dependencies: ClassVar[tuple[str, ...]] = (
        _ROWS,
        f"{_RULE}.unexpected_count",
        f"{_RULE}.unexpected_values",
    )
    success_keys: ClassVar[tuple[str, ...]] = ("rule", "sql", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("rule",)

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: dict[str, Any] | None = None, **_: object
    ) -> dict[str, Any]:
        return _of_share(self, metrics, runtime_configuration, name=_RULE, elements=metrics[_ROWS])


class ExpectViewToHold(BatchExpectation):  # type: ignore[misc]
    """At least the share `mostly` of the rows of a view of the frame holds, as its boolean column `holds` says.

    The view is a function from lazy frame to lazy frame that is given to `validate` under that name, or `query`: Polars
    SQL over `self`, such as `select venue, median(price) < 10 as holds from self group by venue`. A row for which
    `holds` is null is not judged; the other columns are its example.
    """

    view: str
    query: str | None = None
    mostly: float = 1.0

    metric_dependencies: ClassVar[tuple[str, ...]] = tuple(
        f"{_VIEW}.{name}" for name in ("filtered_row_count", "unexpected_count", "unexpected_values")
    )
    success_keys: ClassVar[tuple[str, ...]] = ("view", "query", "mostly")
    args_keys: ClassVar[tuple[str, ...]] = ("view",)

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: dict[str, Any] | None = None, **_: object
    ) -> dict[str, Any]:
        judged = metrics[f"{_VIEW}.filtered_row_count"]
        return _of_share(self, metrics, runtime_configuration, name=_VIEW, elements=judged)


class ExpectColumnTypesToFitContract(BatchExpectation):  # type: ignore[misc]
    """The columns are the named ones, in that order, each of its Polars type (as text); `beside` may be there too."""

    column_types: dict[str, str]
    beside: list[str] = pydantic.Field(default_factory=list)

    metric_dependencies: ClassVar[tuple[str, ...]] = (_TYPES,)
    success_keys: ClassVar[tuple[str, ...]] = ("column_types", "beside")
    args_keys: ClassVar[tuple[str, ...]] = ("column_types",)

    def _validate(
        self, metrics: dict[str, Any], runtime_configuration: dict[str, Any] | None = None, **_: object
    ) -> dict[str, Any]:
        del runtime_configuration  # part of the library's signature; nothing here depends on it
        found = {one["name"]: one["type"] for one in metrics[_TYPES] if one["name"] not in self.beside}
        wrong = [f"{name} {dtype}" for name, dtype in found.items() if self.column_types.get(name) != dtype]
        wrong += [f"{name} absent" for name in self.column_types if name not in found]
        is_as_declared = list(found.items()) == list(self.column_types.items())
        observed = "as declared" if is_as_declared else ", ".join(wrong) or "another order"
        return {"success": is_as_declared, "result": {"observed_value": observed}}


CUSTOM_METRICS: dict[str, tuple[str, ...]] = {
    "column_values.multiple_of": ("step", "step_column", "tolerance"),
    "column_values.in_order": ("group_by", "strictly"),
    "column_values.gap": ("max_gap", "group_by"),
    _TOTALS: ("column", "group_by", "min_value", "max_value"),
    _RULE: ("rule", "sql"),
    _VIEW: ("view", "query"),
}
"""What tells two metrics of that name apart, for the library's registry."""


def _of_share(
    expectation: Any,
    metrics: dict[str, Any],
    runtime_configuration: dict[str, Any] | None,
    *,
    name: str,
    elements: int,
) -> dict[str, Any]:
    """What the library's map expectations say, of elements of which none is missing."""
    unexpected = metrics[f"{name}.unexpected_count"]
    output: dict[str, Any] = format_map_output(
        result_format=(runtime_configuration or {})["result_format"],
        success=elements == 0 or mostly_success(elements, unexpected, expectation.mostly),
        element_count=elements,
        nonnull_count=elements,
        unexpected_count=unexpected,
        unexpected_list=metrics.get(f"{name}.unexpected_values", []),
    )
    return output
