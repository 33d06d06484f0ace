"""Which partitions upkeep writes anew, and how, by what the log tells of their files."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse.silver.candles import TABLE as CANDLES
from lakehouse.silver.trades import TABLE as TRADES
from lakehouse.upkeep import Partition, crowded_partitions

NOW = datetime(2024, 2, 1, tzinfo=UTC)
MB = 2**20
ORDERED = [(0, 10, 90), (10, 20, 95), (20, 30, 97), (30, 35, 40)]
"""Lower and upper bound of the order, and MB."""


def files(told: list[tuple[int, int, int]], age: timedelta = timedelta(0)) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "path": str(number),
                "partition.venue": "kraken",
                "partition.event_month": NOW.date(),
                "min.row_order": lower,
                "max.row_order": upper,
                "size_bytes": megabytes * MB,
                "modification_time": int(1000 * (NOW - age).timestamp()),
            }
            for number, (lower, upper, megabytes) in enumerate(told)
        ]
    )


@pytest.mark.parametrize(
    ("told", "age", "wanted"),
    [
        pytest.param([(0, 35, 5)], 0, None, id="one file"),
        pytest.param([(n, n, 1) for n in range(50)], 0, "compact", id="one instrument a file"),
        pytest.param([(0, 35, 60), (5, 40, 20)], 0, "order", id="two that fit one"),
        pytest.param([(0, 10, 60), (10, 20, 30)], 48, None, id="two in order"),
        pytest.param(ORDERED, 48, None, id="in order"),
        pytest.param([*ORDERED, (0, 35, 5)], 0, None, id="one more"),
        pytest.param([*ORDERED, (0, 35, 5), (0, 35, 5)], 0, "compact", id="two more"),
        pytest.param([*ORDERED, *[(0, 35, 25)] * 2], 0, None, id="a sixth more"),
        pytest.param([*ORDERED, *[(0, 35, 25)] * 4], 0, "order", id="a third more"),
        pytest.param([*ORDERED, (0, 35, 5)], 25, "order", id="one more a day ago"),
        pytest.param([(7, 7, 90)] * 5, 48, None, id="one instrument at one moment"),
    ],
)
def test_a_month_is_ordered_where_it_pays_and_else_has_its_small_files_put_together(told, age, wanted):
    (found,) = crowded_partitions(TRADES, files(told, timedelta(hours=age)), 100 * MB, NOW) or (None,)

    values = {"venue": "kraken", "event_month": "2024-02-01"}
    assert found == (wanted and Partition(values, wants_order=wanted == "order"))


def test_a_table_without_an_order_has_its_small_files_put_together():
    told = files([(0, 35, 60), (5, 40, 20)]).rename({"partition.event_month": "partition.interval"})

    found = crowded_partitions(CANDLES, told, 100 * MB, NOW)

    assert [one.wants_order for one in found] == [False]
    assert crowded_partitions(CANDLES, told[:1], 100 * MB, NOW) == []
