"""Great Expectations' own validation definitions, checkpoints and actions run on Polars."""

from concurrent.futures import ThreadPoolExecutor
from itertools import count

import polars as pl
import pytest

from expectations.polars_gx import (
    ExpectColumnGapsToBeAtMost,
    ExpectGroupTotalsToBeBetween,
    ExpectViewToHold,
    validate,
)
from expectations.polars_gx.library import BuildBatchRequestError, ExpectationSuite, RowColumn, gx, gxe

FRAME = pl.DataFrame({"n": [1.0, -1.0, None, 9.0], "t": ["a", "b", "b", "a"]})


def wanted():
    """New ones each time: an expectation belongs to one suite."""
    return [
        gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0),
        gxe.ExpectColumnValuesToBeUnique(column="t", row_condition=RowColumn("n") > 0),
        gxe.ExpectColumnPairValuesToBeEqual(column_A="t", column_B="t"),
        gxe.ExpectColumnMeanToBeBetween(column="n", min_value=1),
        gxe.ExpectTableRowCountToEqual(value=4),
        ExpectColumnGapsToBeAtMost(column="n", max_gap=5),
        ExpectGroupTotalsToBeBetween(column="n", group_by=["t"], min_value=0, max_value=10),
        ExpectViewToHold(view="top", query="select max(n) as top, max(n) < 5 as holds from self"),
    ]


names = (f"name{number}" for number in count())


@pytest.fixture(scope="module")
def context():
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
    return context


@pytest.fixture(scope="module")
def batches(context):
    asset = context.data_sources.add_polars("polars").add_dataframe_asset("frames")
    return asset.add_batch_definition_whole_dataframe("whole")


def defined(context, batches, *expectations):
    suite = context.suites.add(ExpectationSuite(name=next(names), expectations=list(expectations)))
    return context.validation_definitions.add(
        gx.ValidationDefinition(name=next(names), data=batches, suite=suite)
    )


@pytest.mark.parametrize("lazily", [False, True])
def test_a_validation_definition_says_what_the_pure_function_says(context, batches, lazily):
    frame = FRAME.lazy() if lazily else FRAME
    native = defined(context, batches, *wanted()).run(batch_parameters={"dataframe": frame})
    direct = validate(ExpectationSuite(name="s", expectations=wanted()), frame)
    told = {result.expectation_config.type: (result.success, result.result) for result in native.results}
    assert told == {
        result.expectation_config.type: (result.success, result.result) for result in direct.results
    }
    assert native.statistics == direct.statistics


def test_what_has_no_rule_fails_with_its_reason_and_the_rest_is_judged(context, batches):
    some = (
        gxe.ExpectColumnValuesToBeOfType(column="n", type_="float"),
        gxe.ExpectColumnValuesToBeBetween(column="absent", min_value=0),
        gxe.ExpectColumnValuesToBeBetween(column="n", min_value=-1),
    )
    found = defined(context, batches, *some).run(batch_parameters={"dataframe": FRAME})
    by_type = {
        (one.expectation_config.type, one.expectation_config.kwargs["column"]): one for one in found.results
    }
    unknown = by_type["expect_column_values_to_be_of_type", "n"]
    absent = by_type["expect_column_values_to_be_between", "absent"]
    assert (unknown.success, absent.success) == (False, False)
    assert "there is no column absent, only n, t" in str(absent.exception_info)
    assert "raised_exception': True" in str(unknown.exception_info).replace('"', "'").replace("true", "True")
    assert by_type["expect_column_values_to_be_between", "n"].success


def test_a_checkpoint_runs_its_actions_and_its_pages_can_be_built(context, batches):
    done = []

    class Note(gx.checkpoint.ValidationAction):
        type: str = "note"

        def run(self, checkpoint_result, action_context=None):  # noqa: ARG002 - the library's signature
            done.append(checkpoint_result.success)
            return {}

    definition = defined(context, batches, *wanted())
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name="checkpoint",
            validation_definitions=[definition],
            actions=[Note(name="note")],
            result_format="COMPLETE",
        )
    )
    found = checkpoint.run(batch_parameters={"dataframe": FRAME})
    assert done == [False]
    (result,) = found.run_results.values()
    assert result.describe_dict()["statistics"]["evaluated_expectations"] == len(wanted())
    assert context.build_data_docs()


def test_threads_share_a_definition_and_judge_each_their_own_frame(context, batches):
    definition = defined(context, batches, gxe.ExpectColumnValuesToBeBetween(column="n", min_value=0))

    def counted(bad):
        frame = pl.DataFrame({"n": [-1.0] * bad + [1.0] * (40 - bad)})
        return definition.run(batch_parameters={"dataframe": frame}).results[0].result["unexpected_count"]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(counted, range(32))) == list(range(32))


@pytest.mark.parametrize("options", [None, {}, {"dataframe": {"n": [1]}}, {"dataframe": FRAME, "other": 1}])
def test_anything_but_one_polars_frame_is_refused(batches, options):
    with pytest.raises(BuildBatchRequestError):
        batches.build_batch_request(batch_parameters=options)
