"""Upkeep: fewer files and less log, the same rows, nothing gone that somebody may still ask for, beside writers."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.contract import UTC_US, Column, Table
from lakehouse.errors import MnemoError
from lakehouse.ops import QUARANTINE
from lakehouse.promotion import promote_pages
from lakehouse.publish import Run
from lakehouse.silver.trades import TABLE as TRADES
from lakehouse.store import StoredTable, open_store
from lakehouse.upkeep import upkeep
from lakehouse.verdict import Batch, Verdict

SOURCE = bronze_table("test_numbers")
NUMBERS = Table(
    name="silver.numbers",
    doc="Numbers.",
    columns=(
        Column(name="n", dtype=pl.Int64(), doc="A number."),
        Column(name="event_at", dtype=UTC_US, unit="UTC", doc="When."),
        Column(name="ingested_at", dtype=UTC_US, unit="UTC", doc="Received."),
        Column(name="page_id", dtype=pl.Int64(), doc="Page."),
    ),
    key=("n",),
    subject=("n",),
    owner="tests",
)
TABLES = (SOURCE, NUMBERS)
AT = datetime(2024, 1, 1, tzinfo=UTC)
NONE = timedelta(0)
LONG_AGO = 30 * 86400


def now() -> datetime:
    return datetime.now(UTC)


RUN = Run(run_id="test", code_version="0", now=now)


def parse(pages: pl.DataFrame) -> pl.LazyFrame:
    n = pl.col("body").cast(pl.String).cast(pl.Int64).alias("n")
    return pages.lazy().select(
        n,
        pl.lit(AT).dt.cast_time_unit("us").alias("event_at"),
        pl.col("received_at").alias("ingested_at"),
        "page_id",
    )


def judge(batch: Batch) -> Verdict:
    return Verdict(batch=batch, findings=(), reasons={})


def deliver(store, n: int) -> None:
    page = Page(
        feed="test_numbers", subject="s", request={"url": str(n)}, received_at=AT, body=str(n).encode()
    )
    store.open(SOURCE).append(pages_frame([page], run_id="r", code_version="0"), positions={}, said={})


def promote(store) -> None:
    promote_pages(store, NUMBERS, SOURCE, parse, judge=judge, run=RUN, parse_error=MnemoError)


def numbers(stored: StoredTable | None) -> list[int]:
    assert stored is not None
    return stored.scan().collect()["n"].sort().to_list()


def kept_up(store, *, tables=TABLES, **options) -> dict:
    return {one.table: one for one in upkeep(store, tables, RUN, **options)}


@pytest.fixture
def folder(settings, tmp_path):
    """A lake in a folder, where files can be made old."""
    return open_store(settings.model_copy(update={"lake": str(tmp_path / "lake")}))


def age(store, table: Table, pattern: str = "**/*") -> None:
    """Make a table's files look as if they were a month old."""
    then = now().timestamp() - LONG_AGO
    for path in Path(store.uri(table.name)).glob(pattern):
        if path.is_file():
            os.utime(path, (then, then))


def data_files(store, table: Table) -> set[str]:
    return {
        path.name for path in Path(store.uri(table.name)).rglob("*.parquet") if "_delta_log" not in path.parts
    }


def test_small_files_become_one_and_consumers_go_on_where_they_were(store):
    for n in range(12):
        deliver(store, n)
    promote(store)
    deliver(store, 12)

    done = kept_up(store)[SOURCE.name]
    promote(store)

    assert (done.before.files, done.after.files, done.after.rows) == (13, 1, 13)
    assert numbers(store.find(NUMBERS)) == list(range(13))
    assert store.find(SOURCE).changes(0, store.find(SOURCE).version).height == 13


def test_the_second_upkeep_finds_nothing_to_write(store):
    for n in range(3):
        deliver(store, n)
    promote(store)
    kept_up(store)
    version = store.find(SOURCE).version

    assert kept_up(store)[SOURCE.name].removed_files == 0
    assert store.find(SOURCE).version == version


def test_a_dry_run_tells_and_changes_nothing(store):
    for n in range(3):
        deliver(store, n)
    version = store.find(SOURCE).version

    done = kept_up(store, dry_run=True)[SOURCE.name]

    assert done.remarks == ("would write 1 partitions anew",)
    assert (done.before, store.find(SOURCE).version) == (done.after, version)


NAMES = [f"{letter}/USD" for letter in "ABCDEFGH"]


@pytest.fixture
def add_trades(made_trades):
    """Adds trades of all instruments in turn, one a second, in one commit."""

    def add(stored: StoredTable, first: int, count: int) -> None:
        made = made_trades(TRADES, range(first, first + count), NAMES, start=AT, every=timedelta(seconds=1))
        stored.append(made, positions={}, said={})

    return add


def kept_in_order(store, at: datetime) -> tuple[StoredTable, int]:
    """After upkeep at that time with files of about 60 kB, and the version."""
    list(upkeep(store, [TRADES], replace(RUN, now=lambda: at), target_bytes=60_000))
    stored = store.find(TRADES)
    return stored, stored.version


def test_a_large_month_is_ordered_by_instrument_and_time_so_that_reading_one_skips_files(store, add_trades):
    stored = store.open(TRADES)
    for start in (40_000, 0, 60_000, 20_000):
        add_trades(stored, start, 20_000)
    before = stored.scan().collect()

    after, version = kept_in_order(store, now())
    _, again = kept_in_order(store, now())

    files = after.files().sort("min.row_order")
    assert files.height > 1
    assert (files["min.row_order"] >= files["max.row_order"].shift()).all()
    rows = pl.concat(
        [pl.read_parquet(after.store.files.get(f"silver/trades/{path}")) for path in files["path"]]
    )
    assert rows["instrument_id"].rle().len() == len(NAMES)
    for _, one in rows.group_by("instrument_id"):
        assert one["event_at"].is_sorted()
    key = list(TRADES.key)
    assert after.scan().collect().sort(key).equals(before.sort(key))
    assert again == version


def test_a_month_that_grows_is_ordered_once_it_pays_or_once_nobody_writes_to_it(store, add_trades):
    stored = store.open(TRADES)
    add_trades(stored, 0, 40_000)
    add_trades(stored, 40_000, 40_000)
    first, _ = kept_in_order(store, now())
    base = set(first.files()["path"])
    stored.refresh()
    for start in (80_000, 80_100, 80_200):
        add_trades(stored, start, 100)

    grown, _ = kept_in_order(store, now())
    quiet, _ = kept_in_order(store, now() + timedelta(days=2))

    assert len(base & set(grown.files()["path"])) >= len(base) - 1  # the last one of them may be small, too
    assert grown.files().height <= len(base) + 1
    assert not base & set(quiet.files()["path"])
    files = quiet.files().sort("min.row_order")
    assert (files["min.row_order"] >= files["max.row_order"].shift()).all()


def test_old_versions_stay_readable_within_the_retention(folder):
    for n in range(5):
        deliver(folder, n)
    promote(folder)
    past = folder.find(SOURCE).version
    age(folder, SOURCE, "received_date*/*")

    done = kept_up(folder)[SOURCE.name]

    assert done.removed_files == 0
    assert pl.scan_delta(folder.uri(SOURCE.name), version=past).collect().height == 5


def test_what_is_older_than_the_retention_goes(folder):
    for n in range(5):
        deliver(folder, n)
    promote(folder)
    kept_up(folder)
    promote(folder)

    done = kept_up(folder, retention=NONE)[SOURCE.name]

    assert done.removed_files == 5
    assert len(data_files(folder, SOURCE)) == done.after.files == 1
    assert numbers(folder.find(NUMBERS)) == list(range(5))


def test_files_of_a_killed_writer_go_when_they_are_old_and_those_of_a_running_one_stay(folder):
    deliver(folder, 1)
    promote(folder)
    root = Path(folder.uri(SOURCE.name)) / "received_date=2024-01-01"
    (root / "killed.parquet").write_bytes(b"x")
    age(folder, SOURCE, "**/killed.parquet")
    (root / "running.parquet").write_bytes(b"x")

    done = kept_up(folder)[SOURCE.name]

    assert done.removed_files == 1
    left = data_files(folder, SOURCE)
    assert "running.parquet" in left
    assert "killed.parquet" not in left
    assert folder.find(SOURCE).scan().collect().height == 1


def test_the_log_shrinks_to_what_versions_within_the_retention_need(folder):
    for n in range(25):
        deliver(folder, n)
    promote(folder)
    kept_up(folder)
    promote(folder)
    age(folder, SOURCE, "_delta_log/*")

    done = kept_up(folder)[SOURCE.name]

    assert done.before.log_entries > 25
    assert done.after.log_entries < 5
    assert folder.find(SOURCE).scan().collect().height == 25
    deliver(folder, 25)
    promote(folder)
    assert numbers(folder.find(NUMBERS)) == list(range(26))


@pytest.mark.parametrize("consumed", [0, 3], ids=["nobody has", "a consumer is behind"])
def test_nothing_goes_that_a_promotion_has_still_to_read(folder, consumed):
    for n in range(consumed):
        deliver(folder, n)
    if consumed:
        promote(folder)
    for n in range(consumed, 15):
        deliver(folder, n)
    age(folder, SOURCE)

    for _ in range(2):
        done = kept_up(folder, retention=NONE)[SOURCE.name]

    who = NUMBERS.name if consumed else "nobody"
    assert done.remarks == (f"{who} has consumed it only up to version {consumed}: old files stay",)
    assert done.removed_files == 0
    promote(folder)
    assert numbers(folder.find(NUMBERS)) == list(range(15))


def test_two_upkeeps_at_once_lose_and_double_nothing(store):
    for n in range(20):
        deliver(store, n)
    together = threading.Barrier(3)

    def keep(_) -> None:
        together.wait()
        kept_up(store)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(keep, range(3)))
    promote(store)

    assert store.find(SOURCE).files().height == 1
    assert numbers(store.find(NUMBERS)) == list(range(20))


def test_writers_and_promotions_go_on_during_upkeep(folder):
    """Old files go meanwhile: those of a killed writer."""
    rounds, count = 6, 40
    deliver(folder, 0)
    root = Path(folder.uri(SOURCE.name)) / "received_date=2024-01-01"
    done = threading.Event()

    def write(first: int) -> None:
        for n in range(first, count, 2):
            deliver(folder, n)

    def promote_on() -> None:
        while not done.is_set():
            promote(folder)

    def keep() -> int:
        removed = 0
        for number in range(rounds):
            (root / f"killed-{number}.parquet").write_bytes(b"x")
            age(folder, SOURCE, f"**/killed-{number}.parquet")
            removed += kept_up(folder, retention=timedelta(hours=1))[SOURCE.name].removed_files
        return removed

    with ThreadPoolExecutor(4) as pool:
        promoting = pool.submit(promote_on)
        working = [pool.submit(write, 1), pool.submit(write, 2), pool.submit(keep)]
        *_, removed = [one.result() for one in working]
        done.set()
        promoting.result()
    promote(folder)

    assert removed == rounds
    assert numbers(folder.find(NUMBERS)) == list(range(count))


def test_rows_that_wait_long_in_quarantine_are_reported_and_stay(store):
    row = dict.fromkeys(QUARANTINE.schema) | {
        "quarantine_id": "b-0",
        "batch_id": "b",
        "table": NUMBERS.name,
        "inputs": [SOURCE.name],
        "quarantined_at": AT,
        "reasons": ["bad"],
        "explanation": "bad",
        "status": "held",
        "run_id": "r",
    }
    rows = pl.DataFrame([row, row | {"status": "released"}], schema=QUARANTINE.schema, orient="row")
    store.open(QUARANTINE).append(rows, positions={}, said={})

    (done,) = upkeep(store, [QUARANTINE], RUN)

    assert done.remarks == ("1 rows have been held for more than 30 days",)
    assert done.after.rows == 2


def test_the_retention_of_the_settings_reaches_the_tables(store, settings):
    deliver(store, 1)
    longer = open_store(settings.model_copy(update={"retention_days": 30}))

    kept_up(longer)

    properties = store.find(SOURCE).layout.properties
    assert properties["delta.logRetentionDuration"] == "interval 30 days"
    assert properties["delta.enableExpiredLogCleanup"] == "false"
