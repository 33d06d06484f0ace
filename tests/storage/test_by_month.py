"""Trades that an earlier release stored by day are the same by month, read before and after."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse import Lake
from lakehouse.conform import conform
from lakehouse.contract import Column
from lakehouse.errors import ContractError, UsageError
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


def trades() -> pl.LazyFrame:
    """Four days of two instruments, a trade of each a minute."""
    number = pl.col("number")
    at = pl.lit(START) + pl.duration(minutes=number // 2)
    return (
        pl.select(number=pl.int_range(2 * 4 * 24 * 60))
        .lazy()
        .select(
            venue=pl.lit("kraken"),
            instrument_id=pl.when(number % 2 == 0).then(pl.lit("BTC/USD")).otherwise(pl.lit("ETH/USD")),
            trade_id=number.cast(pl.String),
            event_at=at,
            known_at=at,
            ingested_at=at,
            page_id=pl.lit(1),
            provider=pl.lit("test"),
            price=number + 1.5,
            amount=pl.lit(1.0),
            amount_unit=pl.lit("base"),
            side=pl.lit("buy"),
        )
    )


def test_days_become_months_and_every_row_stays(store, run):
    day = conform(BY_DAY, trades()).select(BY_DAY.schema.names()).collect()
    store.open(BY_DAY).append(day, positions={"input": 7}, said={})
    wanted = conform(TABLE, trades()).select(TABLE.schema.names()).collect()
    before = Lake(store).scan(TABLE.name, **JANUARY).collect()
    with pytest.raises(ContractError, match="waits for the migration by_month; run `mnemo migrate`"):
        store.open(TABLE)
    with pytest.raises(UsageError, match="run `mnemo migrate`"):
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
    assert before.height == timedelta(days=2) / timedelta(minutes=1)
    assert Lake(store).sql("select count(*) n from silver.trades").item() == wanted.height
