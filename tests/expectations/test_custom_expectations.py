"""Expectation types that Great Expectations lacks: steps, order, gaps and totals of groups."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pydantic.v1
import pytest

from expectations.polars_gx import (
    CannotJudge,
    ExpectColumnGapsToBeAtMost,
    ExpectColumnValuesToBeInOrder,
    ExpectColumnValuesToBeMultipleOf,
    ExpectGroupTotalsToBeBetween,
    ExpectViewToHold,
    validate,
)
from expectations.polars_gx.library import ExpectationSuite, RowColumn

AT = datetime(2024, 1, 1, tzinfo=UTC)


def judged(expectation, **columns):
    suite = ExpectationSuite(name="s", expectations=[expectation])
    return validate(suite, pl.DataFrame(columns)).results[0]


def unexpected(expectation, **columns):
    found = judged(expectation, **columns)
    assert found.success == (found.result["unexpected_count"] == 0)
    return found.result["partial_unexpected_list"]


@pytest.mark.parametrize(
    ("step", "prices", "off"),
    [
        (0.1, [0.1, 0.3, 0.7, 1e6 + 0.1], []),
        (0.1, [0.15, 0.3, None, float("nan")], [0.15]),
        (0.00000001, [0.00000003, 0.000000035], [3.5e-08]),
        (5, [10, 12, -5], [12]),
    ],
)
def test_numbers_that_are_no_multiple_of_the_step_are_found(step, prices, off):
    assert unexpected(ExpectColumnValuesToBeMultipleOf(column="price", step=step), price=prices) == off


def test_each_row_may_have_its_own_step_and_without_one_it_is_not_judged():
    expectation = ExpectColumnValuesToBeMultipleOf(column="price", step_column="tick")
    assert unexpected(expectation, price=[1.5, 1.5, 1.5], tick=[0.5, 1.0, None]) == [1.5]


@pytest.mark.parametrize("said", [{}, {"step": 1, "step_column": "tick"}, {"step": 0}])
def test_a_step_is_said_once_and_above_zero(said):
    with pytest.raises(pydantic.v1.ValidationError):
        ExpectColumnValuesToBeMultipleOf(column="price", **said)


def test_order_is_judged_within_each_group_as_the_rows_lie():
    found = unexpected(
        ExpectColumnValuesToBeInOrder(column="sequence", group_by=["book"]),
        book=["a", "b", "a", "b", "a", "b"],
        sequence=[1, 9, 2, 10, None, 8],
    )
    assert found == [{"book": "b", "sequence": 8}]


@pytest.mark.parametrize(("strictly", "repeats"), [(False, []), (True, [1])])
def test_equal_neighbours_are_out_of_order_only_where_order_is_strict(strictly, repeats):
    expectation = ExpectColumnValuesToBeInOrder(column="n", strictly=strictly)
    assert unexpected(expectation, n=[1, 1, 2]) == repeats


def test_gaps_are_found_in_sorted_times_whatever_the_order_of_the_rows():
    minutes = [10, 0, 1, 0, 30]
    found = unexpected(
        ExpectColumnGapsToBeAtMost(column="at", max_gap=60, group_by=["venue"]),
        venue=["a", "a", "a", "b", None],
        at=[AT + timedelta(minutes=number) for number in minutes],
    )
    assert found == [{"venue": "a", "at": str(AT + timedelta(minutes=10)), "gap_before": 540.0}]


@pytest.mark.parametrize(
    ("values", "max_gap", "after"),
    [
        ([1, 2, 3, 5], 1, [{"id": 5, "gap_before": 2.0}]),
        (
            [date(2024, 1, 1), date(2024, 1, 3)],
            86_400,
            [{"id": "2024-01-03", "gap_before": 172_800.0}],
        ),
        ([], 1, []),
        ([None, 1], 1, []),
    ],
)
def test_gaps_of_ids_are_in_their_own_unit_and_of_dates_in_seconds(values, max_gap, after):
    column = pl.Series(values, dtype=pl.Int64) if not any(values[:1]) else values
    assert unexpected(ExpectColumnGapsToBeAtMost(column="id", max_gap=max_gap), id=column) == after


def test_totals_of_groups_are_judged_and_a_group_with_a_missing_value_has_none():
    found = judged(
        ExpectGroupTotalsToBeBetween(
            column="p", group_by=["event"], min_value=0.98, max_value=1.02, mostly=0.5
        ),
        event=["a", "a", "b", "b", "c", "c"],
        p=[0.4, 0.6, 0.4, 0.8, 0.1, None],
    )
    assert found.success
    assert found.result["element_count"] == 2
    assert found.result["partial_unexpected_list"] == [{"event": "b", "total": pytest.approx(1.2)}]


def test_totals_of_nothing_pass():
    expectation = ExpectGroupTotalsToBeBetween(column="p", group_by=["event"], max_value=1)
    assert judged(
        expectation, event=pl.Series([], dtype=pl.String), p=pl.Series([], dtype=pl.Float64)
    ).success


def test_rows_are_chosen_by_a_condition_before_they_are_judged():
    expectation = ExpectColumnGapsToBeAtMost(column="n", max_gap=1, row_condition=RowColumn("side") == "buy")
    assert unexpected(expectation, n=[1, 2, 9], side=["buy", "buy", "sell"]) == []


def test_some_rows_may_be_unexpected():
    expectation = ExpectColumnValuesToBeMultipleOf(column="n", step=2, mostly=0.5)
    found = judged(expectation, n=[1, 2])
    assert (found.success, found.result["unexpected_percent"]) == (True, 50.0)


@pytest.mark.parametrize(
    "expectation",
    [
        ExpectColumnGapsToBeAtMost(column="text", max_gap=1),
        ExpectColumnGapsToBeAtMost(column="n", max_gap=1, group_by=["absent"]),
        ExpectColumnValuesToBeInOrder(column="text"),
        ExpectGroupTotalsToBeBetween(column="text", group_by=["n"], min_value=0),
        ExpectGroupTotalsToBeBetween(column="n", group_by=["text"]),
    ],
)
def test_what_makes_no_sense_is_an_error(expectation):
    with pytest.raises(CannotJudge):
        judged(expectation, text=["a"], n=[1])


BY_VENUE = "select venue, max(price) as top, max(price) < 10 as holds from self group by venue order by venue"
PRICES = {"venue": ["a", "a", "b", "c"], "price": [1.0, 20.0, 2.0, None]}


def test_a_view_may_be_a_query_and_its_rows_are_judged_where_they_hold_or_not():
    found = judged(ExpectViewToHold(view="by venue", query=BY_VENUE), **PRICES)
    assert not found.success
    assert found.result["partial_unexpected_list"] == [{"venue": "a", "top": 20.0}]
    assert (found.result["element_count"], found.result["unexpected_count"]) == (2, 1)


@pytest.mark.parametrize(("mostly", "passes"), [(0.5, True), (0.6, False)])
def test_a_share_of_a_views_rows_may_not_hold(mostly, passes):
    expectation = ExpectViewToHold(view="by venue", query=BY_VENUE, mostly=mostly)
    assert judged(expectation, **PRICES).success is passes


def test_a_view_may_be_a_function_of_the_frame():
    def steps(rows):
        return rows.sort("n").select("n", holds=pl.col("n").diff() == 1)

    suite = ExpectationSuite(name="s", expectations=[ExpectViewToHold(view="steps")])
    (found,) = validate(suite, pl.DataFrame({"n": [7, 5, 4, 1]}), views={"steps": steps}).results
    assert found.result["partial_unexpected_list"] == [4, 7]


def test_a_view_without_rows_to_judge_is_as_expected():
    assert judged(ExpectViewToHold(view="v", query="select null::boolean as holds from self"), n=[1]).success


@pytest.mark.parametrize(
    "said",
    [{}, {"query": "select n from self"}, {"query": "select n as holds from self"}, {"query": "nonsense"}],
)
def test_a_view_that_nobody_gave_or_that_says_nothing_is_an_error(said):
    with pytest.raises(CannotJudge):
        judged(ExpectViewToHold(view="v", **said), n=[1])
