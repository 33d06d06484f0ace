"""Polars and DuckDB read every table of the demo by its address, and see the same rows as `lake.scan`."""

from datetime import UTC, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse import catalog
from lakehouse.sql import connect
from sources import registry
from sources.watchlist import read_watchlist

pytestmark = pytest.mark.slow


def test_every_table_of_the_demo_is_there(lake, held):
    orders = read_watchlist(lake.store.settings.model_copy(update={"offline": True}), now=datetime.now(UTC))
    feeds = [registry.feed(order.feed) for order in orders]
    expected = {
        *(feed.bronze.name for feed in feeds),
        *(feed.table.name for feed in feeds),
        *catalog.models(),
    }

    assert expected - {name for name, rows in held.items() if rows.height} == set()


def test_polars_by_address_sees_what_the_lake_scans(lake, held, ordered):
    for name, rows in held.items():
        assert_frame_equal(ordered(lake.scan(name, versions=True).collect(), name), rows)


def test_duckdb_by_address_sees_the_same(lake, held, ordered):
    with connect(lake.store) as duck:
        duck.execute("set timezone = 'UTC'")
        for name, rows in held.items():
            found = pl.DataFrame(duck.sql(f"select * from delta_scan('{lake.uri(name)}')"))
            assert_frame_equal(ordered(found, name), rows)


def test_sql_and_scan_agree_on_the_newest_version(lake, held, ordered):
    for name in set(held) & set(catalog.promotion_order()):
        found = lake.sql(f"select * from {name}")
        assert_frame_equal(ordered(found, name), ordered(lake.scan(name).collect(), name))
