"""The gate judges whole batches, and its pages can be read by people without a network."""

import html
import logging
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import orjson
import polars as pl
import pytest

from expectations.gate import Gate
from lakehouse.catalog import tables
from lakehouse.conform import conform
from lakehouse.contract import UTC_US, Column, Rule, Table
from lakehouse.files import LocalFiles
from lakehouse.verdict import Batch

AT = datetime(2024, 1, 2, 3, tzinfo=UTC)
TABLE = Table(
    name="silver.samples",
    doc="For these tests.",
    columns=(
        Column(name="name", dtype=pl.String(), doc="Name.", pattern="^[a-z]+$"),
        Column(name="event_at", dtype=UTC_US, doc="Time."),
        Column(name="low", dtype=pl.Float64(), doc="Low.", above=0),
        Column(name="high", dtype=pl.Float64(), doc="High.", nullable=True, upper=100),
        Column(name="side", dtype=pl.String(), doc="Side.", nullable=True, values=("buy", "sell")),
    ),
    key=("name", "event_at"),
    subject=("name",),
    owner="tests",
    rules=(
        Rule(name="high_below_low", check=pl.col("high") >= pl.col("low"), reason="high is below low"),
        Rule(name="low_is_tiny", check=pl.col("low") > 0.001, reason="low is tiny", severity="warning"),
    ),
    tolerance=0.1,
)


def batch(length: int = 20, *, batch_id: str = "b1", judged_at: datetime = AT, **first: object) -> Batch:
    """Good rows of which the first few of some columns are put in place."""
    columns = {
        "name": [chr(97 + n // 26) + chr(97 + n % 26) for n in range(length)],
        "event_at": [AT] * length,
        "low": ["1"] * length,
        "high": ["2"] * length,
        "side": ["buy"] * length,
    }
    for name, values in first.items():
        columns[name][: len(values)] = values
    schema = {"name": pl.String, "event_at": UTC_US, "low": pl.String, "high": pl.String, "side": pl.String}
    frame = conform(TABLE, pl.LazyFrame(columns, schema=schema)).collect()
    return Batch(batch_id=batch_id, table=TABLE, inputs=("bronze.samples",), frame=frame, judged_at=judged_at)


def failed(verdict) -> list[tuple[str, str, str, int]]:
    return [
        (found.expectation, found.column, found.severity, found.unexpected)
        for found in verdict.findings
        if not found.passed
    ]


PROMOTED = [table for table in tables().values() if table.layer in ("silver", "gold")]
UNPUBLISHABLE = "expect_rows_to_keep_rule(unpublishable_rows)"


def test_a_clean_batch_passes_and_every_expectation_says_what_it_means():
    verdict = Gate(None).judge(batch())
    assert verdict.level == "passed"
    assert verdict.docs_key == ""
    assert verdict.reasons == {}
    assert all(finding.meaning for finding in verdict.findings)
    meanings = {finding.meaning for finding in verdict.findings}
    assert "No row where high is below low; such a row is held back (warning)" in meanings
    assert "No row where low is tiny (warning)" in meanings
    assert "At most 10% of the rows, or one, are held back (critical)" in meanings


def test_few_bad_rows_pass_with_their_reasons_counted():
    verdict = Gate(None).judge(batch(high=["abc", "101"]))
    assert failed(verdict) == [
        ("expect_column_values_to_be_between", "high", "warning", 1),
        ("expect_rows_to_keep_rule(high_not_a_number)", "high", "warning", 1),
    ]
    assert verdict.reasons == {"high_not_a_number": 1, "high_too_high": 1}
    assert verdict.level == "warning"


@pytest.mark.parametrize(
    ("first", "finding"),
    [
        ({"low": [None] * 3}, ("expect_column_values_to_not_be_null", "low", "warning", 3)),
        ({"low": ["-1"] * 3}, ("expect_column_values_to_be_between", "low", "warning", 3)),
        ({"high": ["101"] * 3}, ("expect_column_values_to_be_between", "high", "warning", 3)),
        ({"side": ["long"] * 3}, ("expect_column_values_to_be_in_set", "side", "warning", 3)),
        ({"name": ["A1", "A2", "A3"]}, ("expect_column_values_to_match_regex", "name", "warning", 3)),
        ({"high": ["0.5"] * 3}, ("expect_rows_to_keep_rule(high_below_low)", "high, low", "warning", 3)),
        ({"high": ["x"] * 3}, ("expect_rows_to_keep_rule(high_not_a_number)", "high", "warning", 3)),
        ({"high": ["inf"] * 3}, ("expect_rows_to_keep_rule(high_not_finite)", "high", "warning", 3)),
    ],
)
def test_more_bad_rows_than_the_table_tolerates_block_the_batch(first, finding):
    verdict = Gate(None).judge(batch(**first))
    assert verdict.level == "blocked"
    assert {finding, (UNPUBLISHABLE, "", "critical", 3)} <= set(failed(verdict))


def test_rows_that_break_different_rules_are_tolerated_only_together():
    verdict = Gate(None).judge(batch(high=["101", "101"], side=["buy", "buy", "long", "long"]))
    assert (UNPUBLISHABLE, "", "critical", 4) in failed(verdict)
    assert verdict.level == "blocked"


@pytest.mark.parametrize(("bad", "level"), [(1, "warning"), (2, "blocked")])
def test_one_bad_row_never_blocks_a_batch_however_small(bad, level):
    assert Gate(None).judge(batch(3, low=["-1"] * bad)).level == level


def test_a_single_warning_is_reported_and_blocks_nothing():
    verdict = Gate(None).judge(batch(low=["0.0001"], high=["1.123456789012345678"]))
    assert verdict.level == "warning"
    assert failed(verdict) == [
        ("expect_rows_to_keep_rule(high_rounded)", "high", "warning", 1),
        ("expect_rows_to_keep_rule(low_is_tiny)", "low", "warning", 1),
    ]


def test_two_rows_to_publish_under_one_key_block_the_batch_but_a_bad_copy_does_not():
    twice = Gate(None).judge(batch(name=["zz", "zz"]))
    assert failed(twice) == [("expect_compound_columns_to_be_unique", "name, event_at", "critical", 2)]
    assert Gate(None).judge(batch(name=["zz", "zz"], low=["-1"])).level == "warning"


def test_a_batch_without_rows_is_blocked():
    verdict = Gate(None).judge(batch(0))
    assert failed(verdict) == [("expect_table_row_count_to_be_between", "", "critical", 1)]


@pytest.mark.parametrize("shared", [True, False], ids=["one gate", "a gate each"])
def test_gates_in_32_threads_judge_32_different_batches_each_its_own(tmp_path, shared):
    files = LocalFiles(tmp_path)
    gates = [Gate(files)] * 32 if shared else [Gate(files) for _ in range(32)]
    batches = [batch(40, batch_id=f"b{number}", low=["-1"] * number) for number in range(32)]
    with ThreadPoolExecutor(32) as pool:
        verdicts = list(pool.map(lambda gate, one: gate.judge(one), gates, batches))
    assert [verdict.batch.batch_id for verdict in verdicts] == [f"b{number}" for number in range(32)]
    assert [verdict.reasons.get("low_too_low", 0) for verdict in verdicts] == list(range(32))
    pages = [orjson.loads(files.get(f"docs/silver.samples/b{number}.json")) for number in range(32)]
    assert [page["failed_rows"] for page in pages] == list(range(32))


@pytest.mark.parametrize("table", PROMOTED, ids=lambda table: table.name)
def test_every_table_has_a_suite_that_can_be_judged(table):
    columns = {column.name: column.dtype for column in table.columns if column.derived is None}
    frame = conform(table, pl.LazyFrame(schema=columns)).collect()
    verdict = Gate(None).judge(Batch(batch_id="b", table=table, inputs=(), frame=frame, judged_at=AT))
    assert verdict.level == "blocked"


def test_the_page_says_what_failed_and_loads_nothing(tmp_path):
    files = LocalFiles(tmp_path)
    verdict = Gate(files).judge(batch(low=["-1"] * 3, batch_id="1f3a"))
    assert verdict.docs_key == "docs/silver.samples/1f3a.html"
    page = html.unescape(files.get(verdict.docs_key).decode())
    marked = '<span class="severity warning">warning</span> No row where low is not above 0; such a row is held back'
    assert marked in page
    assert "3 of 20 rows broke a critical rule" in page
    assert '<span class="level blocked">blocked</span>' in page
    assert not any(loaded in page for loaded in ("http://", "https://", "src=", "<script", "<link"))


def test_text_from_a_provider_stays_text_on_its_page(tmp_path):
    files = LocalFiles(tmp_path)
    verdict = Gate(files).judge(batch(side=["<script>alert(1)</script>"], name=["<img src=x>", "<b>${x}$$"]))
    page = files.get(verdict.docs_key).decode()
    assert not any(tag in page for tag in ("<script", "<img", "<b>"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_judging_leaves_the_warnings_of_the_process_alone():
    shown, logged = warnings.showwarning, logging.getLogger("py.warnings").handlers
    Gate(None).judge(batch())
    assert warnings.showwarning is shown
    assert logging.getLogger("py.warnings").handlers == logged


def test_a_gate_and_its_index_are_cheap_to_import():
    seen = "import sys, expectations.gate, expectations.docs; print('great_expectations' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"
