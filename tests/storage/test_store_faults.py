"""S3 fails in the middle of a promotion: the run goes on or says clearly why not; nothing is lost or doubled."""

import json
import os
import signal
import threading
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.contract import Column, Table
from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.errors import StoreUnavailable
from lakehouse.fields import EVENT_AT, PROVENANCE
from lakehouse.ops import QUARANTINE, VERDICTS
from lakehouse.promotion import promote_pages
from lakehouse.store import open_store
from lakehouse.verdict import Verdict

DAY = datetime(2024, 1, 1, tzinfo=UTC)
FACTS = Table(
    name="silver.facts",
    doc="Immutable facts.",
    columns=(
        Column(name="name", dtype=pl.String(), doc="Name."),
        EVENT_AT,
        *PROVENANCE,
        Column(name="price", dtype=pl.Float64(), above=0, doc="Price."),
    ),
    key=("name",),
    subject=("name",),
    owner="tests",
)
SOURCE = bronze_table("test_prices")

pytestmark = pytest.mark.slow


def parse(pages: pl.DataFrame) -> pl.LazyFrame:
    rows = [
        {"name": name, "event_at": DAY, "known_at": DAY, "ingested_at": page["received_at"]}
        | {"page_id": page["page_id"], "provider": "test", "price": price}
        for page in pages.iter_rows(named=True)
        for name, price in json.loads(page["body"]).items()
    ]
    return pl.DataFrame(rows, schema=FACTS.schema, orient="row").lazy()


def judge(batch) -> Verdict:
    return Verdict(batch=batch, findings=(), reasons={})


def deliver(store, number: int) -> None:
    """Two good rows and a bad one."""
    page = Page(
        feed="test_prices",
        subject="s",
        request={"method": "GET", "url": f"https://example.org/{number}"},
        received_at=DAY + timedelta(days=1, minutes=number),
        body=json.dumps({f"a{number}": 1.5, f"b{number}": 2.5, f"c{number}": -1.0}).encode(),
    )
    store.open(SOURCE).append(pages_frame([page], run_id="r", code_version="0"), positions={}, said={})


def promote(store, run, judge=judge):
    return promote_pages(store, FACTS, SOURCE, parse, judge=judge, run=run, parse_error=StoreUnavailable)


def assert_exact(store, deliveries: int) -> None:
    """Every row once, in silver or in quarantine; every batch judged once."""
    good = store.open(FACTS).scan().collect()["name"].to_list()
    held = [json.loads(row)["name"] for row in store.open(QUARANTINE).scan().collect()["row"]]
    batches = store.open(VERDICTS).scan().collect()["batch_id"].to_list()
    assert Counter(good) == Counter(f"{letter}{n}" for letter in "ab" for n in range(deliveries))
    assert Counter(held) == Counter(f"c{n}" for n in range(deliveries))
    assert len(batches) == len(set(batches))


LONG = pytest.mark.thorough


@pytest.mark.parametrize(
    "kind",
    [
        "lost answer",
        *(pytest.param(kind, marks=LONG) for kind in ("error 500", "error 503", "slow", "refused")),
    ],
)
def test_a_fault_now_and_then_is_ridden_out(store, faulty, proxy, run, kind):
    """An answer that is lost is the hard one: was it committed or not?"""
    proxy.fail(kind=kind, share=0.2, seed=7)
    for number in range(2):
        deliver(store, number)
        promote(faulty, run)

    assert promote(faulty, run) == []
    assert_exact(store, 2)


STEPS = ("ops/verdicts", "ops/quarantine", "silver/facts")


@pytest.mark.parametrize("table", STEPS)
@pytest.mark.parametrize("kind", ["error 503", pytest.param("lost answer", marks=LONG)])
def test_a_store_that_stays_broken_is_named_and_the_next_run_finishes(store, faulty, proxy, run, table, kind):
    """From the commit of one of the three steps on nothing gets through."""
    deliver(store, 0)
    promote(store, run)
    deliver(store, 1)
    proxy.fail(kind=kind, since=f"{table}/_delta_log/")

    with pytest.raises(StoreUnavailable, match=f"store.* at {proxy.endpoint} .*MNEMO_S3_ENDPOINT"):
        promote(faulty, run)

    proxy.fail()
    deliver(store, 2)
    promote(faulty, run)
    assert_exact(store, 3)


@pytest.fixture
def own_server(tmp_path, settings):
    """A server that this test may kill, and how to start it again; it keeps port and keys."""

    def start():
        release(tmp_path)  # of a server that was killed: forget it
        server = ensure_running(tmp_path, bucket="lake")
        keys = {
            "s3_endpoint": server.endpoint,
            "s3_access_key": server.access_key,
            "s3_secret_key": type(settings.s3_secret_key)(server.secret_key),
        }
        return server, open_store(settings.model_copy(update=keys))

    yield start
    release(tmp_path, wait=True)


def test_a_server_killed_in_the_middle_of_a_promotion_and_started_again_has_lost_nothing(own_server, run):
    server, store = own_server()
    deliver(store, 0)
    starting: list[threading.Thread] = []

    def killing(batch):
        os.kill(server.pid, signal.SIGKILL)
        starting.append(threading.Thread(target=own_server))
        starting[0].start()
        return judge(batch)

    with suppress(StoreUnavailable):  # it is waited for, unless it takes too long
        promote(store, run, killing)

    starting[0].join()
    again, store = own_server()
    assert again.port == server.port
    promote(store, run)
    assert_exact(store, 1)


def test_a_server_that_stays_dead_is_named_and_nothing_is_lost_when_it_is_back(own_server, run):
    server, store = own_server()
    deliver(store, 0)
    promote(store, run)
    deliver(store, 1)

    def killing(batch):
        os.kill(server.pid, signal.SIGKILL)
        return judge(batch)

    with pytest.raises(StoreUnavailable, match=server.endpoint):
        promote(store, run, killing)

    _, store = own_server()
    deliver(store, 2)
    promote(store, run)
    assert_exact(store, 3)
