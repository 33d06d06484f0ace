"""Measuring: all metrics that a suite asks for, in as few passes over the frame as can be.

One pass counts everything that can be counted row by row, and gives all sums and bounds; what needs an order, groups or
a proof that keys are unique has a plan of its own beside it, all collected together. Examples of what is unexpected are
fetched only where there is something.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import polars as pl

from expectations.polars_gx.aggregates import AGGREGATES, Aggregate, count_rows
from expectations.polars_gx.condition import Condition
from expectations.polars_gx.conditions import CONDITIONS, SUFFIXES
from expectations.polars_gx.data import Data, Request
from expectations.polars_gx.errors import CannotJudge
from expectations.polars_gx.library import pydantic
from expectations.polars_gx.question import Question

MOST_EXAMPLES = 200
"""How many unexpected values a result holds at most: the library's own limit."""

_ROW = "__row_number"
_COPIES = "__copies"

T = TypeVar("T")


def measure(data: Data, requests: Sequence[Request]) -> list[Any]:
    """The value of each request, in their order. Raises CannotJudge where one has no rule or cannot be computed."""
    try:
        return _measure(data, requests)
    except pl.exceptions.PolarsError as error:
        raise CannotJudge(f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class _Found:
    """What is known of one condition: numbers of rows, and examples of the unexpected where they were asked for."""

    condition: Condition
    unexpected: int
    considered: int
    examples: pl.DataFrame


def _measure(data: Data, requests: Sequence[Request]) -> list[Any]:
    aggregates: dict[str, Aggregate] = {}
    conditions: dict[str, Condition] = {}
    for request in requests:
        name, suffix = _split(request)
        identity = _identity(name, request)
        if suffix and identity not in conditions:
            conditions[identity] = _find(CONDITIONS[name], data, request)
        elif not suffix and identity not in aggregates:
            aggregates[identity] = _find(AGGREGATES[name], data, request)
    counts = {identity: _count(data, condition) for identity, condition in conditions.items()}
    rows = _collect(data, [*aggregates.values(), *counts.values()])
    totals = dict(zip([*aggregates, *(f"{name} rows" for name in counts)], rows, strict=True))
    values = {name: aggregate.finish(totals[name]) for name, aggregate in aggregates.items()}
    found = _examine(data, conditions, {name: totals[f"{name} rows"] for name in counts}, requests)
    return [_answer(request, values, found) for request in requests]


def _find(rule: Callable[[Question], T], data: Data, request: Request) -> T:
    try:
        return rule(Question.of(data, request))
    except CannotJudge as error:
        raise CannotJudge(f"{request.name}: {error}") from error


def _split(request: Request) -> tuple[str, str]:
    if request.name in AGGREGATES:
        return request.name, ""
    name, suffix = request.split(SUFFIXES)
    if not suffix or name not in CONDITIONS:
        raise CannotJudge(f"there is no rule for {request.name} on Polars")
    return name, suffix


def _identity(name: str, request: Request) -> str:
    """The same for requests that ask the same rows the same thing."""
    domain = {
        key: _said(value) for key, value in request.domain.items() if value is not None and key != "batch_id"
    }
    values = {key: value for key, value in request.values.items() if key != "result_format"}
    return f"{name} {sorted(domain.items(), key=str)!r} {sorted(values.items(), key=str)!r}"


def _said(value: Any) -> Any:
    """A row condition by its parts: its own text does not tell the number 1 from the text 1."""
    return value.dict() if isinstance(value, pydantic.BaseModel) else value


def _count(data: Data, condition: Condition) -> Aggregate:
    """Numbers of considered and of unexpected rows; of a key, whether a hash repeats: where none does, no key does.

    Hashes are sorted, not counted: that takes half the time and memory.
    """
    if condition.key:
        hashes = keyed(data, condition).select(pl.struct(condition.key).hash().alias("hash")).sort("hash")
        repeats = (pl.col("hash") == pl.col("hash").shift(1)).sum().alias("unexpected")
        return Aggregate(plan=hashes.select(repeats, pl.len().alias("considered")))
    unexpected = condition.unexpected
    assert unexpected is not None  # noqa: S101 - every condition has either
    if not condition.is_row_by_row:
        judged = condition.judged(data.frame).select(unexpected.alias("unexpected"))
        considered = pl.col("unexpected").is_not_null().sum().alias("considered")
        return Aggregate(plan=judged.select(pl.col("unexpected").sum(), considered))
    counted = pl.all_horizontal(*condition.within, unexpected) if condition.within else unexpected
    return Aggregate(totals={"unexpected": counted.sum(), "considered": count_rows(condition.within)})


def keyed(data: Data, condition: Condition) -> pl.LazyFrame:
    """The key of each considered row, NaN as null."""
    return condition.judged(data.frame).select(data.known(name) for name in condition.key)


def _collect(data: Data, wanted: Sequence[Aggregate]) -> list[Mapping[str, Any]]:
    """One row for each: the shared pass and every plan of its own, all at once."""
    totals = {
        f"{place} {name}": total for place, one in enumerate(wanted) for name, total in one.totals.items()
    }
    alone = [place for place, one in enumerate(wanted) if one.plan is not None]
    plans = [plan for one in wanted if (plan := one.plan) is not None]
    shared = [data.frame.select(**totals)] if totals else []
    frames = pl.collect_all([*plans, *shared], engine="streaming")
    rows: list[dict[str, Any]] = [{} for _ in wanted]
    for place, frame in zip(alone, frames, strict=False):
        rows[place] = frame.row(0, named=True)
    if totals:
        for label, total in frames[-1].row(0, named=True).items():
            number, _, name = label.partition(" ")
            rows[int(number)][name] = total
    return list(rows)


def _examine(
    data: Data,
    conditions: Mapping[str, Condition],
    counts: Mapping[str, Mapping[str, Any]],
    requests: Sequence[Request],
) -> dict[str, _Found]:
    """The exact number of repeats where hashes do, and examples where anything is unexpected."""
    numbers = {name: int(count["unexpected"] or 0) for name, count in counts.items()}
    repeated = [name for name, number in numbers.items() if number and conditions[name].key]
    plans = [copies(data, conditions[name]).select(pl.col(_COPIES).sum()) for name in repeated]
    for name, frame in zip(repeated, pl.collect_all(plans, engine="streaming"), strict=True):
        numbers[name] = int(frame.item() or 0)
    examples = _examples(
        data, conditions, {name: number for name, number in numbers.items() if number}, requests
    )
    return {
        name: _Found(
            condition=condition,
            unexpected=numbers[name],
            considered=int(counts[name]["considered"]),
            examples=examples.get(name, pl.DataFrame()),
        )
        for name, condition in conditions.items()
    }


def copies(data: Data, condition: Condition) -> pl.LazyFrame:
    """Each key that several rows have, with their number."""
    counted = keyed(data, condition).group_by(condition.key).agg(pl.len().alias(_COPIES))
    return counted.filter(pl.col(_COPIES) > 1)


def _examples(
    data: Data, conditions: Mapping[str, Condition], failed: Mapping[str, int], requests: Sequence[Request]
) -> dict[str, pl.DataFrame]:
    limits: dict[str, int | None] = {}
    for request in requests:
        name, suffix = _split(request)
        identity = _identity(name, request)
        if identity in failed and suffix not in ("", ".unexpected_count", ".filtered_row_count"):
            limits[identity] = _most(limits.get(identity, 0), _limit(request))
    plans = []
    for identity, limit in limits.items():
        rows = unexpected_rows(data, conditions[identity])
        plans.append(rows if limit is None else rows.head(limit))
    return dict(zip(limits, pl.collect_all(plans, engine="streaming"), strict=True))


def _limit(request: Request) -> int | None:
    """None: all of them."""
    said = request.result_format
    if said.get("result_format") != "COMPLETE":
        return min(int(said.get("partial_unexpected_count", 20)), MOST_EXAMPLES)
    return None if "index" in request.name else MOST_EXAMPLES


def _most(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else max(one, other)


def unexpected_rows(data: Data, condition: Condition) -> pl.LazyFrame:
    """The unexpected rows in the order of the frame, with their numbers in it."""
    numbered = condition.judged(data.frame.with_row_index(_ROW))
    if condition.unexpected is not None:
        return numbered.filter(condition.unexpected)
    known = numbered.with_columns(data.known(name).alias(f"{_ROW} {name}") for name in condition.key)
    return known.join(
        copies(data, condition),
        left_on=[f"{_ROW} {name}" for name in condition.key],
        right_on=condition.key,
        how="semi",
        nulls_equal=True,
        maintain_order="left",
    )


def _answer(request: Request, values: Mapping[str, Any], found: Mapping[str, _Found]) -> Any:
    name, suffix = _split(request)
    identity = _identity(name, request)
    return _ANSWERS[suffix](request, found[identity]) if suffix else values[identity]


def _shown(request: Request, found: _Found) -> list[Any]:
    """Values for one column, pairs for two, names with values for more."""
    if not found.unexpected:
        return []
    limit = min(_limit(request) or MOST_EXAMPLES, MOST_EXAMPLES)
    shown = found.examples.select(found.condition.shown).head(limit)
    if "column_A" in request.domain:
        return [tuple(map(plain, row)) for row in shown.iter_rows()]
    if len(found.condition.shown) == 1 and "column_list" not in request.domain:
        return [plain(value) for value in shown.to_series()]
    return [{name: plain(value) for name, value in row.items()} for row in shown.iter_rows(named=True)]


def _row_numbers(request: Request, found: _Found) -> list[Any]:
    """Numbers of rows; where the result format names columns that identify a row, those and the values instead."""
    if not found.unexpected:
        return []
    rows = _first(found.examples, _limit(request))
    names = request.result_format.get("unexpected_index_column_names")
    if not names:
        return rows[_ROW].to_list() if _ROW in rows.columns else []
    identifying = [names] if isinstance(names, str) else list(names)
    columns = list(dict.fromkeys([*found.condition.shown, *identifying]))
    return [
        {name: plain(value) for name, value in row.items()}
        for row in rows.select(columns).iter_rows(named=True)
    ]


def _query(request: Request, found: _Found) -> str | None:
    """How to get the rows from a frame of the same rows."""
    if (
        request.result_format.get("return_unexpected_index_query") is False
        or _ROW not in found.examples.columns
    ):
        return None
    return f"frame[{_first(found.examples, _limit(request))[_ROW].to_list()}]"


def _whole_rows(request: Request, found: _Found) -> list[Any]:
    rows = _first(found.examples, _limit(request)).select(pl.exclude(f"^{_ROW}.*$"))
    return [{name: plain(value) for name, value in row.items()} for row in rows.iter_rows(named=True)]


def _first(rows: pl.DataFrame, limit: int | None) -> pl.DataFrame:
    return rows if limit is None else rows.head(limit)


_ANSWERS: Mapping[str, Callable[[Request, _Found], Any]] = {
    ".unexpected_count": lambda _, found: found.unexpected,
    ".filtered_row_count": lambda _, found: found.considered,
    ".unexpected_values": _shown,
    ".unexpected_index_list": _row_numbers,
    ".unexpected_index_query": _query,
    ".unexpected_rows": _whole_rows,
}


def plain(value: object) -> object:
    """A value fit for JSON: numbers and text stay, NaN is null, all else is its text."""
    if isinstance(value, pl.Series | list):
        return ", ".join(map(str, value))
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)
