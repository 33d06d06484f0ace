"""Frames and scans are judged by a pure function: what has no Polars rule is an error, and threads do not meet."""

import ast
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from expectations import polars_gx
from expectations.polars_gx import (
    CannotJudge,
    ExpectColumnTypesToFitContract,
    ExpectRowsToKeepRule,
    validate,
)
from expectations.polars_gx.library import ExpectationSuite, RowColumn, gxe

AT = datetime(2024, 1, 1, tzinfo=UTC)
NAIVE = AT.replace(tzinfo=None)
FRAME = pl.DataFrame(
    {
        "n": [1.0, -1.0, None, float("nan")],
        "t": ["a", "b", None, "b"],
        "day": [date(2024, 1, 1)] * 4,
        "at": [NAIVE] * 4,
        "list": [[1.0]] * 4,
    }
)


def judge(*expectations, frame=FRAME, **said):
    return validate(ExpectationSuite(name="s", expectations=list(expectations)), frame, **said)


def test_a_scan_is_judged_as_the_frame_it_reads(tmp_path):
    frame = pl.DataFrame({"n": [1.0, -1.0] * 50, "id": [*range(99), 0]})
    frame.write_parquet(tmp_path / "rows.parquet")
    wanted = (
        gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0),
        gxe.ExpectColumnValuesToBeUnique(column="id"),
        gxe.ExpectColumnQuantileValuesToBeBetween(
            column="id", quantile_ranges={"quantiles": [0.5], "value_ranges": [[49, 49]]}
        ),
    )
    of_frame = judge(*wanted, frame=frame)
    of_scan = judge(*wanted, frame=pl.scan_parquet(tmp_path / "rows.parquet"))
    assert [result.result for result in of_scan.results] == [result.result for result in of_frame.results]
    assert of_scan.results[1].result["partial_unexpected_index_list"] == [0, 99]


def test_results_keep_the_order_of_the_suite_and_say_which_rows():
    result = judge(
        gxe.ExpectColumnValuesToBeInSet(column="t", value_set=["a"]),
        gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0),
        gxe.ExpectTableRowCountToEqual(value=4),
    )
    assert [found.success for found in result.results] == [False, False, True]
    assert result.results[0].result["partial_unexpected_list"] == ["b", "b"]
    assert result.results[0].result["partial_unexpected_index_list"] == [1, 3]
    assert result.statistics["successful_expectations"] == 1
    assert result.success is False


@pytest.mark.parametrize(
    ("result_format", "said"),
    [
        ({"result_format": "BOOLEAN_ONLY"}, {}),
        ({"result_format": "BASIC"}, {"partial_unexpected_list": [-1.0]}),
        (
            {"result_format": "COMPLETE"},
            {"unexpected_list": [-1.0], "unexpected_index_list": [1], "unexpected_index_query": "frame[[1]]"},
        ),
        (
            {"result_format": "COMPLETE", "unexpected_index_column_names": ["t"]},
            {"unexpected_index_list": [{"n": -1.0, "t": "b"}]},
        ),
        (
            {"result_format": "SUMMARY", "include_unexpected_rows": True},
            {
                "unexpected_rows": [
                    {"n": -1.0, "t": "b", "day": "2024-01-01", "at": "2024-01-01 00:00:00", "list": "1.0"}
                ]
            },
        ),
    ],
)
def test_every_result_format_of_the_library_is_answered(result_format, said):
    (found,) = judge(
        gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0), result_format=result_format
    ).results
    assert found.success is False
    assert {name: found.result.get(name) for name in said} == said


@pytest.mark.parametrize(
    ("expectation", "reason"),
    [
        (
            gxe.ExpectColumnValuesToBeOfType(column="n", type_="float"),
            "expect_column_values_to_be_of_type cannot be judged",
        ),
        (gxe.ExpectColumnValuesToMatchStrftimeFormat(column="t", strftime_format="%Y"), "no rule"),
        (
            gxe.ExpectColumnValuesToBeBetween(column="absent", min_value=0),
            "there is no column absent, only n, t",
        ),
        (gxe.ExpectColumnValuesToBeBetween(column="t", min_value=0), "column t is String"),
        (gxe.ExpectColumnValuesToBeBetween(column="n", min_value="2024-01-01"), "is no bound for it"),
        (gxe.ExpectColumnValuesToBeBetween(column="day", min_value=NAIVE), "no order"),
        (
            gxe.ExpectColumnValuesToBeBetween(column="at", min_value=AT),
            "without a zone",
        ),
        (gxe.ExpectColumnValuesToBeBetween(column="n", min_value=2, max_value=1), "above the upper bound"),
        (gxe.ExpectColumnValuesToMatchRegex(column="t", regex="(?<=a)b"), "Polars does not know"),
        (gxe.ExpectColumnValuesToMatchRegex(column="n", regex="1"), "only text"),
        (gxe.ExpectColumnValuesToBeInSet(column="list", value_set=[1]), "cannot be looked up"),
        (gxe.ExpectColumnValuesToBeIncreasing(column="t"), "have an order"),
        (gxe.ExpectColumnPairValuesToBeEqual(column_A="n", column_B="t"), "different types"),
        (ExpectRowsToKeepRule(rule="nobody_knows"), "nothing was given to check the rule nobody_knows"),
        (ExpectRowsToKeepRule(rule="typo", sql="absent > 0"), "absent"),
    ],
)
def test_what_cannot_be_measured_is_an_error_and_never_a_pass(expectation, reason):
    with pytest.raises(CannotJudge, match=reason):
        judge(expectation)


def test_a_row_condition_chooses_rows_as_pandas_does():
    missing = RowColumn("n").is_null()
    counts = [
        judge(gxe.ExpectTableRowCountToEqual(value=0, row_condition=condition))
        .results[0]
        .result["observed_value"]
        for condition in (missing, RowColumn("n") > 0, RowColumn("n") != 1, missing | (RowColumn("n") < 0))
    ]
    assert counts == [2, 1, 3, 3]


@pytest.mark.parametrize("name", ["len", "hash", "unexpected", "value", "0 value", "index"])
def test_columns_may_have_any_name(name):
    found = judge(
        gxe.ExpectColumnValuesToBeUnique(column=name),
        gxe.ExpectColumnValuesToBeBetween(column=name, max_value=1),
        gxe.ExpectColumnMaxToBeBetween(column=name, max_value=1),
        frame=pl.DataFrame({name: [1, 2, 2]}),
    ).results
    assert [one.result.get("unexpected_count") for one in found] == [2, 2, None]


def test_a_suite_of_nothing_passes():
    assert judge().success


@pytest.mark.parametrize(
    ("dtype", "values", "allowed", "unexpected"),
    [
        (pl.Float32, [0.1, 0.5], [0.5], 1),
        (pl.Int8, [1, 2], [1, 2.0, 300], 0),
        (pl.UInt64, [1, 2**64 - 1], [2**64 - 1, -1], 1),
        (pl.Boolean, [True, False], [True, 0], 1),
        (pl.Datetime("ms", "UTC"), [AT, None], [AT], 0),
        (pl.Datetime("us"), [NAIVE], ["2024-01-01"], 1),
    ],
)
def test_a_set_is_looked_up_in_the_type_of_the_column(dtype, values, allowed, unexpected):
    frame = pl.DataFrame({"x": pl.Series(values, dtype=dtype)})
    (found,) = judge(gxe.ExpectColumnValuesToBeInSet(column="x", value_set=allowed), frame=frame).results
    assert found.result["unexpected_count"] == unexpected


def test_conditions_that_read_alike_are_told_apart():
    frame = pl.DataFrame({"code": ["1", "2"], "n": [1.0, -1.0]})
    of_text, of_number = (
        gxe.ExpectTableRowCountToEqual(value=1, row_condition=RowColumn("code") == code) for code in ("1", 1)
    )
    found = judge(of_text, of_number, frame=frame).results
    assert [one.result["observed_value"] for one in found] == [1, 0]


def test_a_rule_is_judged_by_the_rows_that_break_it_and_a_null_check_counts_as_kept():
    frame = pl.DataFrame({"low": [1.0, 5.0, None, 1.0], "high": [2.0, 2.0, 2.0, 2.0]})
    lenient = ExpectRowsToKeepRule(rule="high_below_low", mostly=0.75)
    strict = ExpectRowsToKeepRule(rule="high_below_low")
    in_sql = ExpectRowsToKeepRule(rule="in_sql", sql="high >= low")
    checks = {"high_below_low": pl.col("high") >= pl.col("low")}
    passed, *failed = judge(lenient, strict, in_sql, frame=frame, checks=checks).results
    assert passed.success
    for one in failed:
        assert not one.success
        assert one.result["unexpected_count"] == 1
        assert one.result["partial_unexpected_list"] == [{"low": 5.0, "high": 2.0}]


@pytest.mark.parametrize(
    ("frame", "observed"),
    [
        (pl.DataFrame(schema={"a": pl.Int64, "b": pl.String}), "as declared"),
        (pl.DataFrame(schema={"a": pl.Int64, "ours": pl.Int8, "b": pl.String}), "as declared"),
        (pl.DataFrame(schema={"b": pl.String, "a": pl.Int64}), "another order"),
        (pl.DataFrame(schema={"a": pl.Int32, "c": pl.String}), "a Int32, c String, b absent"),
    ],
)
def test_columns_and_types_are_compared_with_the_contract(frame, observed):
    fits = ExpectColumnTypesToFitContract(column_types={"a": "Int64", "b": "String"}, beside=["ours"])
    (result,) = judge(fits, frame=frame).results
    assert result.success == (observed == "as declared")
    assert result.result["observed_value"] == observed


@pytest.mark.parametrize(
    ("dtype", "zone"), [("ms", None), ("us", "UTC"), ("ns", "UTC"), ("us", "America/New_York")]
)
def test_times_of_every_unit_and_zone_compare_with_a_moment(dtype, zone):
    bound = datetime(2024, 1, 1, 12, tzinfo=UTC if zone else None)
    frame = pl.DataFrame(
        {"at": [datetime(2024, 1, 1, hour, tzinfo=UTC if zone else None) for hour in (11, 12, 13)]}
    )
    frame = frame.with_columns(pl.col("at").cast(pl.Datetime(dtype, zone)))
    (found,) = judge(gxe.ExpectColumnValuesToBeBetween(column="at", min_value=bound), frame=frame).results
    assert found.result["unexpected_count"] == 1


def test_a_float_bound_on_decimals_is_the_exact_number_that_the_float_is():
    frame = pl.DataFrame({"exact": ["0.1", "0.2"]}, schema={"exact": pl.String}).cast(pl.Decimal(38, 2))
    least, most = 0.1, 1e300
    found = judge(
        gxe.ExpectColumnValuesToBeBetween(column="exact", min_value=least),
        gxe.ExpectColumnValuesToBeBetween(column="exact", max_value=most),
        frame=frame,
    ).results
    assert [one.result["partial_unexpected_list"] for one in found] == [["0.10"], []]


def test_threads_that_judge_different_frames_get_their_own_results():
    suite = ExpectationSuite(
        name="one", expectations=[gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0)]
    )

    def count(bad):
        frame = pl.DataFrame({"n": [-1.0] * bad + [1.0] * (50 - bad)})
        return validate(suite, frame).results[0].result["unexpected_count"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(count, range(50))) == list(range(50))


def test_the_package_knows_nothing_of_the_project_around_it():
    sources = Path(polars_gx.__file__).parent.glob("*.py")
    imported = {
        name
        for source in sources
        for node in ast.walk(ast.parse(source.read_text()))
        for name in ([node.module] if isinstance(node, ast.ImportFrom) else [])
        if name
    }
    allowed = {"great_expectations", "polars", "expectations"} | sys.stdlib_module_names
    assert {name.partition(".")[0] for name in imported} <= allowed
    assert all(
        name.startswith("expectations.polars_gx") for name in imported if name.startswith("expectations")
    )
