"""Frames become rows of their table, each with what is wrong with it."""

from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.conform import conform, explain_reason, reading_rules
from lakehouse.contract import UTC_US, Column, Rule, Table
from lakehouse.errors import ContractError

AT = datetime(2024, 1, 2, 3, tzinfo=UTC)

TABLE = Table(
    name="silver.samples",
    doc="For these tests.",
    columns=(
        Column(name="name", dtype=pl.String(), doc="Name.", values=("a", "b")),
        Column(name="event_at", dtype=UTC_US, doc="Time."),
        Column(name="price", dtype=pl.Float64(), doc="Price.", above=0),
        Column(name="volume", dtype=pl.Float64(), doc="Volume.", nullable=True, lower=0),
        Column(name="trade_count", dtype=pl.Int64(), doc="Count.", nullable=True),
        Column(name="event_date", dtype=pl.Date(), doc="Day.", derived=pl.col("event_at").dt.date()),
    ),
    key=("name", "event_at"),
    subject=("name",),
    owner="tests",
    rules=(
        Rule(
            name="volume_above_price",
            check=pl.col("volume") <= pl.col("price"),
            reason="volume is above price",
        ),
        Rule(
            name="price_is_high",
            check=pl.col("price") < 1000,
            reason="price is 1000 or more",
            severity="warning",
        ),
    ),
)


def rows(**columns: list) -> pl.LazyFrame:
    """Good rows, with some columns put in place of the good ones."""
    length = len(next(iter(columns.values()), [0]))
    good = pl.DataFrame(
        {
            "name": ["a"] * length,
            "event_at": pl.Series([AT] * length, dtype=UTC_US),
            "price": ["10.5"] * length,
            "volume": ["1"] * length,
            "trade_count": pl.Series([3] * length, dtype=pl.Int64),
        }
    )
    return good.with_columns(**{name: pl.Series(values) for name, values in columns.items()}).lazy()


def notes(frame: pl.LazyFrame) -> list[tuple[list[str], list[str]]]:
    """Reasons and remarks of each row."""
    return conform(TABLE, frame).select("reasons", "remarks").collect(engine="streaming").rows()


def test_a_clean_row_comes_out_in_contract_order_with_its_derived_columns_and_nothing_to_say():
    frame = conform(TABLE, rows().select("volume", "price", "trade_count", "event_at", "name"))
    assert frame.collect_schema() == pl.Schema(
        TABLE.schema | {"reasons": pl.List(pl.String), "remarks": pl.List(pl.String)}
    )
    assert frame.collect().rows() == [("a", AT, 10.5, 1.0, 3, date(2024, 1, 2), [], [])]


def test_every_column_that_does_not_fit_is_listed_in_one_error():
    given = {"name": pl.Int64, "event_at": pl.Datetime("us"), "price": pl.Boolean, "trade_count": pl.Int64}
    frame = pl.LazyFrame(schema={**given, "extra": pl.Int64})
    with pytest.raises(ContractError) as caught:
        conform(TABLE, frame)
    assert str(caught.value) == (
        "silver.samples: missing volume; extra extra; name is Int64, not String; "
        "event_at is Datetime(time_unit='us', time_zone=None), not Datetime(time_unit='us', time_zone='UTC'); "
        "price is Boolean, not Float64"
    )


@pytest.mark.parametrize(
    "dtype",
    [pl.Datetime("ms", "UTC"), pl.Datetime("ns", "UTC"), pl.Datetime("us"), pl.Datetime("us", "Asia/Tokyo")],
)
def test_times_in_another_unit_or_zone_are_an_error(dtype):
    frame = rows().with_columns(pl.lit(None, dtype=dtype).alias("event_at"))
    with pytest.raises(ContractError, match="event_at is Datetime"):
        conform(TABLE, frame)


def test_a_derived_column_that_is_delivered_is_an_error():
    with pytest.raises(ContractError, match="extra event_date"):
        conform(TABLE, rows().with_columns(event_date=pl.lit(date(2024, 1, 1))))


@pytest.mark.parametrize(
    ("column", "value", "reasons", "remarks"),
    [
        ("price", "abc", ["price_not_a_number"], []),
        ("price", "", ["price_not_a_number"], []),
        ("price", None, ["price_missing"], []),
        ("price", "NaN", ["price_missing"], []),
        ("price", "inf", ["price_not_finite"], ["price_is_high"]),
        ("price", "1e400", ["price_not_finite"], ["price_is_high"]),
        ("price", "0.5", ["volume_above_price"], []),
        ("price", "-1", ["price_too_low", "volume_above_price"], []),
        ("price", "1e3", [], ["price_is_high"]),
        ("volume", None, [], []),
        ("volume", "abc", ["volume_not_a_number"], []),
        ("volume", "NaN", [], []),
        ("volume", "0.1234567890123456789", [], ["volume_rounded"]),
        ("volume", "9.007199254740993", [], []),
        ("volume", "0.00000000000000000012", [], []),
        ("volume", "000000000000000000001.5", [], []),
        ("volume", "1e-400", [], ["volume_rounded"]),
        ("volume", "1e-99999999999999999999", [], ["volume_rounded"]),
        ("volume", "0.0000000000000000000", [], []),
        ("trade_count", 1.5, ["trade_count_not_whole"], []),
        ("trade_count", "1.5", ["trade_count_not_whole"], []),
        ("trade_count", "many", ["trade_count_not_a_number"], []),
        ("trade_count", "99999999999999999999", ["trade_count_not_whole"], []),
        ("trade_count", None, [], []),
        ("name", None, ["name_missing"], []),
        ("name", "c", ["name_unknown"], []),
    ],
)
def test_a_row_carries_the_names_of_what_it_breaks(column, value, reasons, remarks):
    assert notes(rows(**{column: [value]})) == [(reasons, remarks)]


@pytest.mark.parametrize(
    ("column", "given", "stored"),
    [
        ("trade_count", pl.Series(["7", "7.0", "1e3", "9007199254740993"]), [7, 7, 1000, 9007199254740993]),
        ("trade_count", pl.Series([7.0, float("nan"), None]), [7, None, None]),
        ("trade_count", pl.Series([7, None], dtype=pl.UInt32), [7, None]),
        ("trade_count", pl.Series([None, None], dtype=pl.Null), [None, None]),
        ("price", pl.Series([7, 8], dtype=pl.Int32), [7.0, 8.0]),
        ("price", pl.Series(["+7", ".5", "1E-3"]), [7.0, 0.5, 0.001]),
        ("price", pl.Series([7.5, 8.0]), [7.5, 8.0]),
        ("name", pl.Series(["a", "b"], dtype=pl.Categorical), ["a", "b"]),
        ("name", pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])), ["a", "b"]),
    ],
)
def test_numbers_and_names_are_read_whatever_their_exact_form(column, given, stored):
    frame = rows(**{column: given}).with_columns(volume=pl.lit(None))
    found = conform(TABLE, frame).collect()
    assert found[column].to_list() == stored
    assert found["reasons"].to_list() == [[]] * len(stored)


def test_a_whole_number_too_long_for_a_float_is_remarked():
    assert notes(rows(volume=pl.Series([2**53, 2**53 + 1], dtype=pl.Int64), price=["1e17", "1e17"])) == [
        ([], ["price_is_high"]),
        ([], ["volume_rounded", "price_is_high"]),
    ]


def test_an_empty_frame_keeps_its_schema():
    found = conform(TABLE, rows().limit(0)).collect()
    assert found.height == 0
    assert found.schema["reasons"] == pl.List(pl.String)


@given(st.lists(st.tuples(st.integers(-(10**19), 10**19), st.integers(-12, 12)), min_size=1, max_size=30))
def test_a_number_is_remarked_exactly_when_its_text_says_something_else(numbers):
    from decimal import Decimal

    texts = [f"{digits}e{exponent}" for digits, exponent in numbers]
    found = conform(TABLE, rows(price=texts)).collect()
    for text, held, remarks in zip(texts, found["price"], found["remarks"], strict=True):
        assert ("price_rounded" in remarks) == (Decimal(text) != Decimal(repr(held)))


def test_every_name_has_a_sentence_for_people():
    assert explain_reason(TABLE, "price_too_low") == "price is not above 0"
    assert explain_reason(TABLE, "volume_above_price") == "volume is above price"
    assert explain_reason(TABLE, "price_not_a_number") == "price is not a number"
    assert (
        explain_reason(TABLE, "trade_count_not_whole") == "trade_count is not a whole number that fits Int64"
    )
    assert explain_reason(TABLE, "volume_rounded") == "volume has more digits than Float64 holds"
    assert explain_reason(TABLE, "something_else") == "something_else"


def test_what_reading_finds_can_be_asked_of_a_conformed_frame():
    found = conform(TABLE, rows(price=["abc", "1"], volume=["1", "0.1234567890123456789"])).collect()
    broken = {rule.name: found.select(~rule.check).to_series().to_list() for rule in reading_rules(TABLE)}
    assert broken["price_not_a_number"] == [True, False]
    assert broken["volume_rounded"] == [False, True]
    assert not any(broken["trade_count_not_whole"])


LISTS = Table(
    name="silver.lists",
    doc="For these tests.",
    columns=(
        Column(name="name", dtype=pl.String(), doc="Name."),
        Column(name="event_at", dtype=UTC_US, doc="Time."),
        Column(name="prices", dtype=pl.List(pl.Float64()), doc="Prices."),
        Column(name="amounts", dtype=pl.List(pl.Float64()), doc="Amounts.", nullable=True),
    ),
    key=("name", "event_at"),
    subject=("name",),
    owner="tests",
)


def lists(prices: object, amounts: object = None) -> pl.DataFrame:
    """One conformed row."""
    columns = {"prices": pl.Series([prices]), "amounts": pl.Series([amounts], dtype=pl.List(pl.String))}
    frame = pl.DataFrame({"name": ["a"], "event_at": pl.Series([AT], dtype=UTC_US), **columns})
    return conform(LISTS, frame.lazy()).collect(engine="streaming")


@pytest.mark.parametrize(
    ("prices", "stored", "reasons", "remarks"),
    [
        (["1.50", "2e-3", ".5"], [1.5, 0.002, 0.5], [], []),
        ([1.5, 2.0], [1.5, 2.0], [], []),
        ([1, 2], [1.0, 2.0], [], []),
        ([], [], [], []),
        (None, None, ["prices_missing"], []),
        (["1", None], [1.0, None], ["prices_missing"], []),
        (["1", "NaN"], [1.0, None], ["prices_missing"], []),
        ([1.0, float("nan")], [1.0, None], ["prices_missing"], []),
        (["abc", "1"], [None, 1.0], ["prices_not_a_number"], []),
        (["1", "inf"], [1.0, float("inf")], ["prices_not_finite"], []),
        (["0.1234567890123456789", "1"], [0.12345678901234568, 1.0], [], ["prices_rounded"]),
    ],
)
def test_a_list_of_numbers_is_judged_by_each_of_them(prices, stored, reasons, remarks):
    row = lists(prices).row(0, named=True)
    assert (row["prices"], row["reasons"], row["remarks"]) == (stored, reasons, remarks)


def test_lists_of_several_rows_are_judged_apart():
    texts = pl.Series([["1"], [], ["0.1234567890123456789"], None, ["x", "1"]])
    frame = pl.LazyFrame({"name": ["a"] * 5, "event_at": [AT] * 5, "prices": texts, "amounts": texts})
    found = conform(LISTS, frame.with_columns(pl.col("event_at").cast(UTC_US))).collect()
    assert found["remarks"].to_list() == [[], [], ["prices_rounded", "amounts_rounded"], [], []]
    assert found["reasons"].to_list() == [
        [], [], [], ["prices_missing"], ["prices_not_a_number", "amounts_not_a_number"],
    ]  # fmt: skip


def test_what_reading_lists_finds_can_be_asked_and_explained():
    found = lists(["abc", "0.1234567890123456789"])
    broken = {rule.name: found.select(~rule.check).item() for rule in reading_rules(LISTS)}
    assert broken == {
        "prices_not_a_number": True,
        "prices_rounded": True,
        "amounts_not_a_number": False,
        "amounts_rounded": False,
    }
    assert explain_reason(LISTS, "prices_not_a_number") == "prices is not a number"
    assert LISTS.column("prices").type_name == "list of float64"


@pytest.mark.parametrize("dtype", [pl.List(pl.Boolean), pl.String, pl.Float64])
def test_what_is_no_list_of_numbers_is_an_error(dtype):
    frame = pl.LazyFrame(schema={"name": pl.String, "event_at": UTC_US, "prices": dtype, "amounts": pl.Null})
    with pytest.raises(ContractError, match="prices is"):
        conform(LISTS, frame)
