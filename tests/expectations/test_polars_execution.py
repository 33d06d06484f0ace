"""Frames judged by Polars counts get the verdict that Great Expectations' own pandas engine gives them."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import polars as pl
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from expectations.library import ExpectationSuite, RowColumn, gxe
from expectations.polars_execution import CannotJudge, validate
from expectations.rules import ExpectColumnTypesToFitContract, ExpectRowsToKeepRule

SCHEMA = {
    "number": pl.Float64,
    "text": pl.String,
    "left": pl.String,
    "right": pl.Float64,
    "is_ok": pl.Boolean,
}
OK = {"row_condition": RowColumn("is_ok") == True}  # noqa: E712 - builds a condition
KEY = {"column_list": ["left", "right"]}

SUPPORTED = [
    gxe.ExpectTableRowCountToBeBetween(min_value=1),
    gxe.ExpectTableRowCountToBeBetween(max_value=3),
    gxe.ExpectColumnValuesToNotBeNull(column="number", mostly=0.7),
    gxe.ExpectColumnValuesToNotBeNull(column="text"),
    gxe.ExpectColumnValuesToBeBetween(column="number", min_value=0, mostly=0.8),
    gxe.ExpectColumnValuesToBeBetween(column="number", min_value=0, strict_min=True),
    gxe.ExpectColumnValuesToBeBetween(column="number", max_value=1, strict_max=True, mostly=0.5),
    gxe.ExpectColumnValuesToBeBetween(column="number", min_value=-1, max_value=1),
    gxe.ExpectColumnValuesToBeInSet(column="text", value_set=["a", "1m"], mostly=0.5),
    gxe.ExpectColumnValuesToMatchRegex(column="text", regex=r"^\d+[smh]$", mostly=0.5),
    gxe.ExpectColumnValuesToBeUnique(column="number"),
    gxe.ExpectColumnValuesToBeUnique(column="text", **OK),
    gxe.ExpectCompoundColumnsToBeUnique(**KEY),
    gxe.ExpectCompoundColumnsToBeUnique(**KEY, ignore_row_if="any_value_is_missing", mostly=0.5),
    gxe.ExpectCompoundColumnsToBeUnique(**KEY, ignore_row_if="never"),
    gxe.ExpectCompoundColumnsToBeUnique(**KEY, ignore_row_if="any_value_is_missing", **OK),
]
COMPARED = ("element_count", "missing_count", "unexpected_count", "unexpected_percent", "observed_value")

numbers = st.none() | st.sampled_from([0.0, 1.0, -1.0, 0.5, float("nan"), float("inf"), -2.5])
texts = st.none() | st.sampled_from(["a", "1m", "15m", "m", ""])
frames = st.lists(
    st.tuples(numbers, texts, st.none() | st.sampled_from("xy"), numbers, st.booleans()), max_size=12
)


@pytest.fixture(scope="module")
def judge_by_pandas():
    """The library's own way: a data source in memory and the pandas engine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's own
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("memory").add_dataframe_asset("frame")
        definition = asset.add_batch_definition_whole_dataframe("whole")

        def judge(suite, frame):
            dtypes = {"number": "float64", "text": object, "left": object, "right": "float64", "is_ok": bool}
            columns = frame.to_dict(as_series=False)
            data = pd.DataFrame(
                {name: pd.Series(columns[name], dtype=dtype) for name, dtype in dtypes.items()}
            )
            return definition.get_batch(batch_parameters={"dataframe": data}).validate(suite)

        yield judge


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate])  # shrinking takes minutes
@example(rows=[])
@example(rows=[(None, None, None, None, True)] * 3)
@example(rows=[(1.0, "a", "x", 1.0, True), (1.0, "a", "x", 1.0, False), (1.0, "a", "x", 1.0, True)])
@given(rows=frames)
def test_the_verdict_is_that_of_the_pandas_engine(judge_by_pandas, rows):
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    suite = ExpectationSuite(name="all", expectations=SUPPORTED)
    theirs = judge_by_pandas(suite, frame)
    ours = validate(suite, frame, checks={}, meta={})
    assert ours.success == theirs.success
    assert ours.statistics == theirs.statistics
    for our, their in zip(ours.results, in_order_of(ours.results, theirs.results), strict=True):
        assert our.success == their.success, our.expectation_config
        assert {name: our.result.get(name) for name in COMPARED} == {
            name: their.result.get(name) for name in COMPARED
        }, our.expectation_config
        if "column" in our.expectation_config.kwargs:
            assert our.result["partial_unexpected_list"] == [
                None if pd.isna(value) else value for value in their.result["partial_unexpected_list"]
            ]


def in_order_of(ours, theirs):
    """Their results in the order of ours: the library sorts them by type."""
    for our in ours:
        kwargs = our.expectation_config.to_json_dict()["kwargs"]
        yield next(
            their for their in theirs if same(their.expectation_config, our.expectation_config.type, kwargs)
        )


def same(config, kind, kwargs):
    theirs = {name: value for name, value in config.to_json_dict()["kwargs"].items() if name != "batch_id"}
    return config.type == kind and theirs == kwargs


def test_threads_that_judge_different_frames_get_their_own_results():
    suite = ExpectationSuite(
        name="one", expectations=[gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0)]
    )

    def judge(bad):
        frame = pl.DataFrame({"n": [-1.0] * bad + [1.0] * (50 - bad)})
        return validate(suite, frame, checks={}, meta={}).results[0].result["unexpected_count"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(judge, range(50))) == list(range(50))


def test_a_rule_is_judged_by_the_rows_that_break_it_and_a_null_check_counts_as_kept():
    frame = pl.DataFrame({"low": [1.0, 5.0, None, 1.0], "high": [2.0, 2.0, 2.0, 2.0]})
    checks = {"high_below_low": pl.col("high") >= pl.col("low")}
    lenient = ExpectRowsToKeepRule(rule="high_below_low", mostly=0.75)
    strict = ExpectRowsToKeepRule(rule="high_below_low")
    suite = ExpectationSuite(name="rules", expectations=[lenient, strict])
    passed, failed = validate(suite, frame, checks=checks, meta={}).results
    assert (passed.success, failed.success) == (True, False)
    assert failed.result["unexpected_count"] == 1
    assert failed.result["partial_unexpected_list"] == [{"low": 5.0, "high": 2.0}]


@pytest.mark.parametrize(
    ("frame", "observed"),
    [
        (pl.DataFrame(schema={"a": pl.Int64, "b": pl.String}), "as declared"),
        (pl.DataFrame(schema={"b": pl.String, "a": pl.Int64}), "another order"),
        (pl.DataFrame(schema={"a": pl.Int32, "c": pl.String}), "a Int32, c String, b absent"),
    ],
)
def test_columns_and_types_are_compared_with_the_contract(frame, observed):
    fits = ExpectColumnTypesToFitContract(column_types={"a": "Int64", "b": "String"})
    (result,) = validate(ExpectationSuite(name="t", expectations=[fits]), frame, checks={}, meta={}).results
    assert result.success == (observed == "as declared")
    assert result.result["observed_value"] == observed


@pytest.mark.parametrize(
    "expectation",
    [
        gxe.ExpectColumnMeanToBeBetween(column="n", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0, row_condition=RowColumn("n") == 1),
        gxe.ExpectColumnValuesToBeUnique(column="n", row_condition=RowColumn("n") > 1),
        gxe.ExpectColumnValuesToBeBetween(column="n", min_value="2024-01-01"),
        ExpectRowsToKeepRule(rule="nobody_knows"),
    ],
)
def test_what_cannot_be_counted_is_an_error_and_never_a_pass(expectation):
    suite = ExpectationSuite(name="unknown", expectations=[expectation])
    with pytest.raises(CannotJudge):
        validate(suite, pl.DataFrame({"n": [1.0]}), checks={}, meta={})
