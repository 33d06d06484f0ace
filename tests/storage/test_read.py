"""Reading: the newest version by default, what was known at a moment when asked, the same rows for every reader."""

from datetime import UTC, datetime

import polars as pl
import pytest

from lakehouse import Lake
from lakehouse.errors import UsageError
from lakehouse.silver.observations import TABLE

APRIL, MAY, JUNE = (datetime(2024, month, 30, tzinfo=UTC) for month in (4, 5, 6))


@pytest.fixture
def lake(store) -> Lake:
    """Two quarters; the first was revised in May."""
    versions = [("2024-01-01", APRIL, 1.6), ("2024-01-01", MAY, 1.3), ("2024-04-01", JUNE, 2.8)]
    rows = pl.DataFrame(
        [
            {
                "series_id": "GDP",
                "period_start": datetime.fromisoformat(start).date(),
                "event_at": datetime.fromisoformat(start).replace(tzinfo=UTC),
                "known_at": known_at,
                "ingested_at": JUNE,
                "page_id": 1,
                "provider": "fred",
                "known_at_basis": "published",
                "value": value,
                "unit": "Percent",
                "unit_multiplier": 0,
                "status": None,
            }
            for start, known_at, value in versions
        ],
        schema=TABLE.schema,
        orient="row",
    )
    store.open(TABLE).append(rows, positions={}, said={})
    return Lake(store)


def values(rows: pl.LazyFrame) -> list[float]:
    return rows.sort("period_start", "known_at").collect()["value"].to_list()


def test_the_newest_version_is_read_by_default(lake):
    assert values(lake.scan(TABLE.name)) == [1.3, 2.8]


@pytest.mark.parametrize(
    ("as_of", "known"),
    [("2024-04-29", []), ("2024-04-30", [1.6]), (MAY, [1.3]), ("2024-12-31T12:00:00+02:00", [1.3, 2.8])],
)
def test_as_of_shows_what_was_known_then(lake, as_of, known):
    assert values(lake.scan(TABLE.name, as_of=as_of)) == known


def test_a_lake_that_is_open_shows_each_commit_and_a_frame_keeps_the_rows_it_was_made_of(lake, store):
    before = lake.scan(TABLE.name, versions=True)
    table = store.open(TABLE)
    table.append(before.head(1).with_columns(value=9.0).collect(), positions={}, said={})

    assert sorted(values(lake.scan(TABLE.name, versions=True))) == [1.3, 1.6, 2.8, 9.0]
    assert values(before) == [1.6, 1.3, 2.8]


def test_an_old_version_never_stands_in_for_the_newest(lake):
    assert values(lake.scan(TABLE.name, value=1.6)) == []
    assert values(lake.scan(TABLE.name, value=1.6, as_of=APRIL)) == [1.6]


def test_every_version_can_be_read(lake):
    assert values(lake.scan(TABLE.name, versions=True)) == [1.6, 1.3, 2.8]


def test_a_half_open_window_and_equal_values_select(lake):
    assert values(lake.scan(TABLE.name, start="2024-01-01", end="2024-04-01", series_id="GDP")) == [1.3]
    assert values(lake.scan(TABLE.name, series_id="CPI")) == []


def test_sql_reads_the_same_rows_as_polars(lake):
    latest = lake.sql("select value from silver.observations order by period_start")
    versions = lake.sql("select count(*) as n from silver.observations_versions")

    assert latest["value"].to_list() == [1.3, 2.8]
    assert versions["n"].to_list() == [3]


def test_the_readers_of_others_open_a_table_by_its_address(lake):
    rows = pl.scan_delta(lake.uri(TABLE.name), storage_options=lake.storage_options).collect()

    assert rows.height == 3


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda lake: lake.scan("silver.observation"), "did you mean silver.observations"),
        (lambda lake: lake.scan(TABLE.name, serie_id="GDP"), "did you mean series_id"),
        (lambda lake: lake.scan(TABLE.name, start="yesterday"), "not a date or time in ISO 8601"),
        (lambda lake: lake.scan("ops.verdicts", as_of="2024-01-01"), "cannot be read as of"),
        (lambda lake: lake.sql("select nonsense from silver.observations"), "nonsense"),
    ],
    ids=["table", "column", "moment", "as of", "sql"],
)
def test_a_wrong_question_is_answered_with_what_is_right(lake, ask, answer):
    with pytest.raises(UsageError, match=answer):
        ask(lake)


def test_a_table_never_written_to_is_empty(lake):
    assert lake.scan("silver.trades", venue="kraken").collect().is_empty()


def test_tables_say_what_they_hold(lake):
    (found,) = [one for one in lake.tables() if one["table"] == TABLE.name]

    assert found["rows"] == 3
    assert found["subjects"] == 1
    assert found["start"] == datetime(2024, 1, 1, tzinfo=UTC)
    assert found["size_bytes"] > 0
    assert found["fresh"] is False
