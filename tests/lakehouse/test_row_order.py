"""Rows are ordered by one number, and readers who skip by it miss none."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.fields import ORDER_REPEATS
from lakehouse.read import _in_window
from lakehouse.silver.trades import TABLE

ORDER = TABLE.column("row_order").derived
MOMENTS = st.integers(-(2**45), 2**52).map(
    lambda us: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
)
NAMES = st.sampled_from(["BTC/USD", "BTC/USDT", "BTC/USDT:USDT", "ETH/USD", ""]) | st.text(max_size=20)


def in_order(rows: list[tuple[str, datetime]]) -> pl.DataFrame:
    schema = {name: TABLE.schema[name] for name in ("instrument_id", "event_at")}
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(row_order=ORDER)


@given(
    rows=st.lists(st.tuples(NAMES, MOMENTS), min_size=1, max_size=30),
    start=MOMENTS,
    lasts=st.timedeltas(timedelta(0), 2 * ORDER_REPEATS),
    offsets=st.lists(st.timedeltas(timedelta(days=-1), 2 * ORDER_REPEATS), max_size=10),
)
def test_a_window_of_one_instrument_has_all_its_rows_wherever_it_lies(rows, start, lasts, offsets):
    who = rows[0][0]
    told = in_order([*rows, *((who, start + offset) for offset in offsets)])
    end = start + lasts

    found = told.filter(
        *_in_window(TABLE, start, end, {"instrument_id": who}), pl.col("instrument_id") == who
    )

    time = pl.col("event_at")
    assert found.equals(told.filter(time >= start, time < end, pl.col("instrument_id") == who))


@given(first=NAMES, second=NAMES, start=MOMENTS)
def test_what_begins_otherwise_lies_in_the_order_of_the_alphabet(first, second, start):
    rows = in_order([(first, start), (second, start)])
    begins = [name.encode().ljust(3, b"\0")[:3] for name in (first, second)]
    if begins[0] < begins[1]:
        assert rows["row_order"][0] < rows["row_order"][1]


def test_instruments_that_begin_alike_are_kept_apart():
    start = datetime(2024, 1, 1, tzinfo=UTC)
    names = ["BTC/USD", "BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC", "BTC/USDC", "BTC/EUR"]
    rows = in_order([(name, start + timedelta(days=day)) for name in names for day in range(30)])
    assert rows.sort("row_order")["instrument_id"].rle().len() == len(names)
