"""Migrations: the plan names every difference, one commit switches a table, a kill changes nothing of the end."""

from dataclasses import replace
from datetime import UTC, date, datetime

import polars as pl
import pytest
from deltalake import DeltaTable, Field, Schema
from deltalake.schema import PrimitiveType

from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.contract import UTC_US, Column, Migration, Table
from lakehouse.errors import ContractError
from lakehouse.migrations import migrate, plan
from lakehouse.ops import MIGRATIONS
from lakehouse.store import CommitConflict, StoredTable

AT = datetime(2024, 1, 1, 12, tzinfo=UTC)
ASSET = Column(name="asset", dtype=pl.String(), doc="Asset.")
SEEN_AT = Column(name="seen_at", dtype=UTC_US, unit="UTC", doc="When.")
COUNT = Column(name="count", dtype=pl.Int32(), doc="How many.", unit="1")
PRICE = Column(name="price", dtype=pl.Float64(), doc="Price.", unit="cent")
OLD = Table(
    name="silver.old",
    doc="Prices.",
    columns=(ASSET, SEEN_AT, COUNT, PRICE),
    key=("asset", "seen_at"),
    subject=("asset",),
    owner="tests",
    time_column="seen_at",
)
ROWS = [("btc", AT, 1, 250.0), ("eth", AT, 2, 125.0)]

NOTE = Column(name="note", dtype=pl.String(), nullable=True, doc="A note.")
DAY = Column(name="day", dtype=pl.Date(), derived=pl.col("seen_at").dt.date(), doc="UTC date.")
IN_UNITS = Migration(
    name="price_in_units",
    doc="Prices were cents.",
    apply=lambda rows: rows.with_columns(pl.col("price") / 100),
)
NAMED_SYMBOL = Migration(
    name="asset_is_symbol",
    doc="An asset is called symbol.",
    apply=lambda rows: rows.rename({"asset": "symbol"}),
)
SAME_ROWS = Migration(name="by_day", doc="A partition a day.", apply=lambda rows: rows)
SYMBOL = ASSET.but(name="symbol")
NEW = replace(
    OLD,
    columns=(SYMBOL, SEEN_AT, COUNT.but(dtype=pl.Int64()), PRICE.but(unit="USD"), NOTE, DAY),
    key=("symbol", "seen_at"),
    subject=("symbol",),
    partition_by=("day",),
    migrations=(IN_UNITS, NAMED_SYMBOL, SAME_ROWS),
)
NEW_ROWS = [
    ("btc", AT, 1, 2.5, None, date(2024, 1, 1)),
    ("eth", AT, 2, 1.25, None, date(2024, 1, 1)),
]


def with_column(table: Table, changed: Column) -> Table:
    columns = tuple(changed if one.name == changed.name else one for one in table.columns)
    return replace(table, columns=columns)


def frame(table: Table, rows: list[tuple]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=table.schema, orient="row")


def rows(stored: StoredTable) -> list[tuple]:
    return sorted(stored.scan().collect().rows())


@pytest.fixture
def old(store) -> StoredTable:
    """A stored table of the old contract, in two commits, with a consumed position."""
    table = store.open(OLD)
    table.append(frame(OLD, ROWS[:1]), positions={"input": 1}, said={})
    table.append(frame(OLD, ROWS[1:]), positions={"input": 2}, said={})
    return table


@pytest.mark.parametrize(
    ("declared", "change", "how"),
    [
        (replace(OLD, columns=(*OLD.columns, NOTE)), ("note", "added"), "by itself"),
        (
            replace(OLD, columns=(*OLD.columns, NOTE.but(nullable=False))),
            ("note", "added"),
            "no migration is declared",
        ),
        (replace(OLD, columns=(*OLD.columns, DAY)), ("day", "added"), "by itself, rows are written anew"),
        (
            with_column(OLD, COUNT.but(dtype=pl.Int64())),
            ("count", "widened"),
            "by itself, rows are written anew",
        ),
        (
            with_column(OLD, PRICE.but(dtype=pl.Int32())),
            ("price", "narrowed"),
            "no migration is declared",
        ),
        (with_column(OLD, PRICE.but(dtype=pl.String())), ("price", "retyped"), "no migration is declared"),
        (replace(OLD, columns=OLD.columns[:3]), ("price", "dropped"), "no migration is declared"),
        (
            replace(OLD, columns=(*OLD.columns[:3], PRICE.but(name="paid"))),
            ("paid", "renamed"),
            "no migration is declared",
        ),
        (replace(OLD, partition_by=("asset",)), ("", "partitioning"), "no migration is declared"),
        (replace(OLD, key=("asset",)), ("", "key"), "no migration is declared"),
        (with_column(OLD, PRICE.but(doc="Paid.")), ("price", "doc"), "mnemo migrate"),
        (replace(OLD, doc="Other."), ("", "doc"), "mnemo migrate"),
        (replace(OLD, migrations=(IN_UNITS,)), ("", "migration"), "migration price_in_units"),
    ],
    ids=lambda said: said[1] if isinstance(said, tuple) else "",
)
def test_the_plan_names_each_difference_and_how_it_goes(store, old, declared, change, how):
    (step,) = plan(store, declared)

    assert ((step.column, step.change), step.how) == (change, how)


def test_a_table_that_is_as_declared_has_no_plan(store, old):
    assert plan(store, OLD) == []


@pytest.mark.parametrize("through", ["opening it", "mnemo migrate"])
def test_a_widened_column_is_written_anew_in_one_commit_that_keeps_id_and_positions(store, old, run, through):
    wide = with_column(OLD, COUNT.but(dtype=pl.Int64()))

    if through == "opening it":
        store.open(wide)
    else:
        migrate(store, wide, run)

    after = store.open(wide)
    assert rows(after) == ROWS
    assert after.scan().collect_schema()["count"] == pl.Int64
    assert (after.id, after.version, after.position("input")) == (old.id, old.version + 1, 2)
    assert plan(store, wide) == []
    protocol = after.delta.protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 4)
    assert protocol.reader_features is None


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        (NEW, "price_in_units, asset_is_symbol, by_day"),
        (replace(OLD, migrations=(IN_UNITS,)), "price_in_units"),
        (with_column(OLD, PRICE.but(dtype=pl.String())), "price retyped"),
        (replace(OLD, key=("asset",)), "key"),
    ],
    ids=["several", "values alone", "undeclared", "key"],
)
def test_until_its_migration_ran_a_table_is_not_written_to(store, old, declared, named):
    with pytest.raises(ContractError, match=named):
        store.open(declared)


def test_an_undeclared_difference_is_refused_before_anything_is_changed(store, old, run):
    with pytest.raises(ContractError, match="price: dropped"):
        migrate(store, replace(OLD, columns=(*OLD.columns[:3], NOTE)), run)

    assert store.find(OLD).version == old.version


def test_migrations_run_in_order_once_and_are_listed(store, old, run):
    migrate(store, NEW, run)

    after = store.open(NEW)
    assert rows(after) == NEW_ROWS
    assert after.delta.metadata().partition_columns == ["day"]
    assert plan(store, NEW) == []
    assert migrate(store, NEW, run) == []
    assert store.open(NEW).version == after.version
    listed = store.open(MIGRATIONS).scan().sort("number").collect()
    assert listed.select("table", "number", "name", "version").rows() == [
        ("silver.old", 1, "price_in_units", 3),
        ("silver.old", 2, "asset_is_symbol", 3),
        ("silver.old", 3, "by_day", 3),
    ]


def test_a_later_migration_goes_on_where_the_last_one_ended(store, old, run):
    first = replace(OLD, columns=(*OLD.columns[:3], PRICE.but(unit="USD")), migrations=(IN_UNITS,))
    migrate(store, first, run)
    migrate(store, NEW, run)

    assert rows(store.open(NEW)) == NEW_ROWS
    assert store.open(MIGRATIONS).scan().sort("number").collect()["number"].to_list() == [1, 2, 3]


def test_a_new_table_is_born_migrated(store, run):
    store.open(NEW).append(frame(NEW, NEW_ROWS), positions={}, said={})

    assert plan(store, NEW) == []
    assert migrate(store, NEW, run) == []
    assert store.find(MIGRATIONS) is None
    assert rows(store.open(NEW)) == NEW_ROWS


KILLS = ("before the commit", "after the commit", "after the notes")


@pytest.mark.parametrize("killed", KILLS)
def test_a_migration_killed_anywhere_is_finished_by_the_next(store, old, run, monkeypatch, killed):
    def die(*args, **kwargs):
        raise KeyboardInterrupt

    dying = {
        "before the commit": ("lakehouse.store.write_deltalake", die),
        "after the commit": ("lakehouse.store.StoredTable.write_notes", die),
        "after the notes": ("lakehouse.store.StoredTable.append", die),
    }
    with monkeypatch.context() as patched:
        patched.setattr(*dying[killed])
        with pytest.raises(KeyboardInterrupt):
            migrate(store, NEW, run)
    migrate(store, NEW, run)

    assert rows(store.open(NEW)) == NEW_ROWS
    assert plan(store, NEW) == []
    listed = store.open(MIGRATIONS).scan().sort("number").collect()
    assert listed.select("number", "version").rows() == [(1, 3), (2, 3), (3, 3)]


def test_a_reader_of_the_old_version_keeps_reading_and_one_of_the_old_contract_is_not_cut_off(
    store, old, run
):
    reader = store.find(OLD)
    lazy = reader.scan()
    wide = with_column(replace(OLD, columns=(*OLD.columns, NOTE)), COUNT.but(dtype=pl.Int64()))

    migrate(store, wide, run)

    assert sorted(lazy.collect().rows()) == ROWS
    assert rows(reader) == ROWS
    assert rows(store.open(wide)) == [(*row, None) for row in ROWS]


def test_a_table_that_waits_for_its_migration_is_read_as_it_will_be(store, old):
    assert rows(store.find(NEW)) == NEW_ROWS


def test_a_rewrite_during_which_somebody_committed_starts_again(store, old, run, monkeypatch):
    rewrite, other = StoredTable.rewrite, store.open(OLD)

    def interrupted(self):
        monkeypatch.setattr(StoredTable, "rewrite", rewrite)
        other.append(frame(OLD, [("sol", AT, 3, 100.0)]), positions={}, said={})
        rewrite(self)

    monkeypatch.setattr(StoredTable, "rewrite", interrupted)
    migrate(store, NEW, run)

    assert rows(store.open(NEW)) == [*NEW_ROWS, ("sol", AT, 3, 1.0, None, date(2024, 1, 1))]


@pytest.mark.parametrize("declared", [NEW, replace(OLD, migrations=(IN_UNITS,))], ids=["layout", "values"])
def test_an_append_under_way_does_not_slip_in_behind_a_migration(store, old, run, declared):
    late = store.open(OLD)
    migrate(store, declared, run)

    with pytest.raises(CommitConflict):
        late.append(frame(OLD, [("sol", AT, 3, 100.0)]), positions={}, said={})


def test_a_release_that_knows_fewer_migrations_does_not_write(store, old, run):
    migrate(store, replace(OLD, migrations=(IN_UNITS,)), run)

    with pytest.raises(ContractError, match="newer release"):
        store.open(OLD)


def test_who_built_on_a_migrated_table_is_told_all_its_rows(store, old, run):
    migrate(store, NEW, run)
    after = store.open(NEW)
    sol = ("sol", AT, 3, 1.0, None, date(2024, 1, 1))
    after.append(frame(NEW, [sol]), positions={}, said={})

    assert sorted(after.changes(1, after.version).rows()) == [*NEW_ROWS, sol]
    assert after.changes(3, after.version).rows() == [sol]


def page(minute: int) -> pl.DataFrame:
    one = Page(
        feed="test",
        subject="s",
        request={"url": f"https://example.org/{minute}"},
        received_at=AT.replace(minute=minute),
        body=b"{}",
    )
    return pages_frame([one], run_id="r", code_version="0")


def minutes(pages: pl.DataFrame) -> list[int]:
    return sorted(at.minute for at in pages["received_at"])


def test_pages_are_news_once_even_if_their_table_is_rewritten(store, run):
    """Pages that were rewritten are not parsed again, and those that a consumer has not seen are still given to it."""
    bronze = bronze_table("test")
    stored = store.open(bronze)
    for minute in (1, 2):
        stored.append(page(minute), positions={}, said={})
    wide = with_column(bronze, bronze.column("http_status").but(dtype=pl.Int64()))
    migrate(store, wide, run)
    after = store.open(wide)
    late = page(4).with_columns(pl.col("http_status").cast(pl.Int64))
    after.append(late, positions={}, said={})

    assert minutes(after.changes(0, after.version)) == [1, 2, 4]
    assert minutes(after.changes(1, after.version)) == [2, 4]
    assert minutes(after.changes(2, after.version)) == [4]


def test_a_lake_from_before_keys_and_upkeep_is_brought_up(store, run):
    """The first release wrote neither key nor retention into the tables."""
    fields = {"asset": "string", "seen_at": "timestamp", "count": "integer", "price": "double"}
    DeltaTable.create(
        store.uri(OLD.name),
        schema=Schema([Field(name, PrimitiveType(kind)) for name, kind in fields.items()]),
        configuration={"delta.enableChangeDataFeed": "true", "delta.checkpointInterval": "10"},
        storage_options=store.storage_options,
    )
    store.open(OLD).append(frame(OLD, ROWS), positions={}, said={})

    assert {step.change for step in plan(store, OLD)} == {"property", "key", "doc"}
    migrate(store, OLD, run)

    assert plan(store, OLD) == []
    assert rows(store.open(OLD)) == ROWS
