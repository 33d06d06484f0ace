"""Storage: one commit publishes, positions travel with it, and what would corrupt a table is refused."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from lakehouse.contract import Column, Table
from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.errors import ContractError, StoreUnavailable
from lakehouse.store import CommitConflict, open_store

COUNTS = Table(
    name="ops.counts",
    doc="Numbers.",
    columns=(Column(name="n", dtype=pl.Int64(), doc="A number.", unit="1"),),
    key=("n",),
    subject=("n",),
    owner="tests",
    time_column="n",
)
MORE = Table(
    name=COUNTS.name,
    doc=COUNTS.doc,
    columns=(*COUNTS.columns, Column(name="word", dtype=pl.String(), nullable=True, doc="A word.")),
    key=COUNTS.key,
    subject=COUNTS.subject,
    owner="tests",
    time_column="n",
)


def numbers(*values: int) -> pl.DataFrame:
    return pl.DataFrame({"n": values}, schema={"n": pl.Int64})


def test_rows_and_the_position_they_came_from_are_one_commit(store):
    table = store.open(COUNTS)
    assert table.position("input") == -1

    table.append(numbers(1, 2), positions={"input": 7}, said={"run": "r"})

    again = store.open(COUNTS)
    assert again.position("input") == 7
    assert again.scan().collect()["n"].to_list() == [1, 2]


def test_only_what_is_new_is_read(store):
    table = store.open(COUNTS)
    for n in (1, 2, 3):
        table.append(numbers(n), positions={}, said={})

    assert table.changes(1, 3)["n"].sort().to_list() == [2, 3]


def test_the_second_of_two_commits_of_one_position_conflicts(store):
    first, second = store.open(COUNTS), store.open(COUNTS)
    first.append(numbers(1), positions={"input": 1}, said={})

    with pytest.raises(CommitConflict):
        second.append(numbers(1), positions={"input": 1}, said={})

    assert store.open(COUNTS).scan().collect()["n"].to_list() == [1]


def test_a_table_that_many_create_at_once_is_created_once(store):
    together = Barrier(8)

    def create(_) -> str:
        together.wait()
        return store.open(COUNTS).id

    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(create, range(8)))

    assert len(ids) == 1
    assert store.open(COUNTS).version == 0


def test_rows_of_another_type_are_refused_before_delta_would_cut_them(store):
    with pytest.raises(ContractError, match=r"ops\.counts"):
        store.open(COUNTS).append(pl.DataFrame({"n": [1.5]}), positions={}, said={})


def test_a_contract_that_gained_a_column_reads_old_rows_as_null(store):
    store.open(COUNTS).append(numbers(1), positions={}, said={})

    grown = store.open(MORE)

    assert grown.scan().collect().rows() == [(1, None)]


def test_a_contract_that_changed_a_type_is_refused(store):
    store.open(COUNTS)
    changed = Table(
        name=COUNTS.name,
        doc="",
        columns=(COUNTS.columns[0].but(dtype=pl.String()),),
        key=("n",),
        subject=("n",),
        owner="tests",
        time_column="n",
    )

    with pytest.raises(ContractError, match=r"ops\.counts: .*n retyped \(stored: Int64, declared: String\)"):
        store.open(changed)


def test_compacting_twice_from_stale_handles_conflicts(store):
    """deltalake 1.6.6 turns 40 rows into 80 here; the pin to 1.6.3 holds until this passes on a newer one."""
    table = store.open(COUNTS)
    for n in range(40):
        table.append(numbers(n), positions={}, said={})
    handles = [DeltaTable(store.uri(COUNTS.name), storage_options=store.storage_options) for _ in range(2)]
    handles[0].optimize.compact()

    with pytest.raises(CommitFailedError):
        handles[1].optimize.compact()

    assert store.open(COUNTS).scan().collect()["n"].sort().to_list() == list(range(40))


def test_an_unreachable_store_is_named_with_its_setting(settings):
    nowhere = settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})

    with pytest.raises(StoreUnavailable, match=r"http://127\.0\.0\.1:9 \(setting MNEMO_S3_ENDPOINT\)"):
        open_store(nowhere).find(COUNTS)


def test_wrong_keys_are_told_as_such(settings):
    stranger = settings.model_copy(update={"s3_access_key": "nobody"})

    with pytest.raises(StoreUnavailable, match="refuses the keys"):
        open_store(stranger).find(COUNTS)


def test_a_folder_is_a_lake_too(settings, tmp_path):
    local = open_store(settings.model_copy(update={"lake": str(tmp_path / "lake")}))

    local.open(COUNTS).append(numbers(3), positions={}, said={})

    assert local.open(COUNTS).scan().collect()["n"].to_list() == [3]


def test_the_embedded_server_keeps_its_data_and_keys_over_a_restart(tmp_path, settings):
    def lake():
        server = ensure_running(tmp_path, bucket="lake")
        keys = {
            "s3_access_key": server.access_key,
            "s3_secret_key": type(settings.s3_secret_key)(server.secret_key),
        }
        return open_store(settings.model_copy(update={"s3_endpoint": server.endpoint, **keys}))

    lake().open(COUNTS).append(numbers(5), positions={}, said={})
    release(tmp_path)
    kept = lake().open(COUNTS).scan().collect()["n"].to_list()
    release(tmp_path, wait=True)

    assert kept == [5]
