"""Trades that an earlier release stored by day are the same by month, read before and after."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse import Lake
from lakehouse.contract import Column
from lakehouse.errors import ContractError
from lakehouse.migrations import migrate, plan
from lakehouse.silver.trades import TABLE

EVENT_DATE = Column(
    name="event_date", dtype=pl.Date(), derived=pl.col("event_at").dt.date(), doc="UTC date of event_at."
)
BY_DAY = replace(
    TABLE,
    columns=(*(one for one in TABLE.columns if one.derived is None), EVENT_DATE),
    partition_by=("venue", "event_date"),
    order_by="",
    migrations=(),
)
START = datetime(2023, 12, 30, tzinfo=UTC)
JANUARY = {"start": "2024-01-01", "end": "2024-02-01", "instrument_id": "BTC/USD"}


@pytest.fixture
def trades(made_trades):
    """Four days of two instruments as a contract declares them, a trade of each every other minute."""
    return partial(
        made_trades,
        numbers=range(4 * 24 * 60),
        instruments=["BTC/USD", "ETH/USD"],
        start=START,
        every=timedelta(minutes=1),
    )


def test_days_become_months_and_every_row_stays(store, run, trades):
    store.open(BY_DAY).append(trades(BY_DAY), positions={"input": 7}, said={})
    wanted = trades(TABLE)
    before = Lake(store).scan(TABLE.name, **JANUARY).collect()
    with pytest.raises(ContractError, match="waits for the migration by_month; run `mnemo migrate`"):
        store.open(TABLE)
    with pytest.raises(ContractError, match="run `mnemo migrate`"):
        Lake(store).sql("select count(*) from silver.trades")

    migrate(store, TABLE, run)

    after = store.open(TABLE)
    assert plan(store, TABLE) == []
    assert after.delta.metadata().partition_columns == ["venue", "event_month"]
    assert after.position("input") == 7
    key = list(TABLE.key)
    assert_frame_equal(after.scan().collect().sort(key), wanted.sort(key))
    assert_frame_equal(Lake(store).scan(TABLE.name, **JANUARY).collect().sort(key), before.sort(key))
    assert before["event_at"].min() == datetime(2024, 1, 1, tzinfo=UTC)
    assert before.height == timedelta(days=2) / timedelta(minutes=2)
    assert Lake(store).sql("select count(*) n from silver.trades").item() == wanted.height
