"""Promotions on a cluster: the same tables, one commit for each share, whoever is killed."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse.bronze import Page
from lakehouse.ops import COVERAGE
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.shares import SHARES, share_of
from lakehouse.silver.asset_metrics import TABLE
from lakehouse.store import Store, open_store
from lakehouse.window import Window
from sources.client import Client
from sources.coin_metrics import FEEDS
from sources.ingest import ingest

HERE = Path(__file__).parent
(FEED,) = FEEDS
DAY = datetime(2024, 1, 1, tzinfo=UTC)
WINDOW = Window(DAY, DAY + timedelta(days=1))
RUN = Run(run_id="test", code_version="0", now=lambda: DAY)


def _load(name: str):
    spec = spec_from_file_location(name, HERE / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cluster = _load("cluster")


def subjects(per_share: int) -> list[str]:
    """So many subjects of every share."""
    found: dict[int, list[str]] = {number: [] for number in range(SHARES)}
    for number in range(10_000):
        subject = f"a{number}:PriceUSD@1m"
        if len(found[share_of(subject)]) < per_share:
            found[share_of(subject)].append(subject)
    return [subject for of_share in found.values() for subject in of_share]


def deliver(store: Store, wanted: list[str], *, rows: int = 60) -> None:
    """A fetch of each subject into bronze, as ingest does it."""

    def fetch(_client, subject, window):
        asset = subject.partition(":")[0]
        told = [
            {
                "asset": asset,
                "time": f"2024-01-01T{n // 60:02}:{n % 60:02}:00.000000000Z",
                "PriceUSD": f"{n + 1}.5",
            }
            for n in range(rows)
        ]
        yield Page(
            feed=FEED.name,
            subject=subject,
            request={"url": subject},
            received_at=DAY + timedelta(days=2),
            window=window,
            body=json.dumps({"data": told}).encode(),
        )

    made_up = type(FEED)(**{**vars(FEED), "fetch": fetch})
    with Client(Settings(lake="unused"), now=lambda: DAY + timedelta(days=2)) as client:
        for subject in wanted:
            ingest(store, made_up, subject, WINDOW, client=client, run=RUN)


def environment(settings: Settings, home: Path, engine: str) -> dict[str, str]:
    return {
        "MNEMO_LAKE": settings.lake,
        "MNEMO_S3_ENDPOINT": settings.s3_endpoint,
        "MNEMO_S3_ACCESS_KEY": settings.s3_access_key,
        "MNEMO_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        "MNEMO_HOME": str(home),
        "MNEMO_ENGINE": engine,
    }


def promoting(settings: Settings, home: Path, engine: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, HERE / "promoter.py", TABLE.name],
        env={**os.environ, **environment(settings, home, engine), "PYTHONPATH": str(HERE.parents[1])},
        stdout=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen) -> dict:
    out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out.splitlines()[-1])


def rows(store: Store) -> pl.DataFrame:
    stored = store.find(TABLE)
    return stored.scan().collect().sort(TABLE.key) if stored else TABLE.schema.to_frame()


def statements(store: Store) -> pl.DataFrame:
    """What the ledger says, but for the names of commits."""
    return store.open(COVERAGE).scan().drop("coverage_id").sort("subject", "start").collect()


@pytest.fixture
def nodes(settings, tmp_path):
    made = cluster.Cluster(tmp_path, environment(settings, tmp_path / "home", "local"))
    made.add_node()
    made.add_node()
    yield made
    made.close()


@pytest.fixture
def undisturbed(s3, settings, tmp_path) -> Store:
    """The same deliveries, promoted by one process into a lake of its own."""
    return open_store(settings.model_copy(update={"lake": f"{settings.lake}-alone"}))


def promoted_alone(alone: Store, tmp_path: Path) -> Store:
    said(promoting(alone.settings, tmp_path / "home-alone", "local"))
    return alone


def test_a_cluster_makes_the_same_tables_with_one_commit_for_each_share(store, nodes, undisturbed, tmp_path):
    for lake in (store, undisturbed):
        deliver(lake, subjects(per_share=2))

    done = said(promoting(store.settings, tmp_path / "home", nodes.address))

    assert len(set(done["batches"])) == SHARES
    assert store.find(TABLE).version == SHARES
    alone = promoted_alone(undisturbed, tmp_path)
    assert_frame_equal(rows(store), rows(alone))
    assert_frame_equal(statements(store), statements(alone))
    again = said(promoting(store.settings, tmp_path / "home", "local"))
    assert again == {"batches": []}


@pytest.mark.slow
def test_killing_a_worker_and_then_a_node_neither_loses_nor_repeats_a_share(
    store, nodes, undisturbed, tmp_path
):
    for lake in (store, undisturbed):
        deliver(lake, subjects(per_share=1), rows=1_000)
    target = store.open(TABLE)

    at_work = promoting(store.settings, tmp_path / "home", nodes.address)
    cluster.until(lambda: at_work.poll() is not None or (target.refresh() or target.version) >= 8)
    nodes.kill_worker(0)
    cluster.until(lambda: at_work.poll() is not None or (target.refresh() or target.version) >= 24)
    nodes.kill_node(1)

    assert "error" not in said(at_work)
    assert store.find(TABLE).version == SHARES
    alone = promoted_alone(undisturbed, tmp_path)
    assert_frame_equal(rows(store), rows(alone))
    assert_frame_equal(statements(store), statements(alone))


@pytest.mark.slow
def test_a_share_that_kills_every_worker_fails_by_name_and_the_others_are_published(store, nodes, tmp_path):
    wanted = subjects(per_share=1)
    deliver(store, [*wanted, "poison:PriceUSD@1m"])
    doomed = {one for one in wanted if share_of(one) == share_of("poison:PriceUSD@1m")}

    failed = said(promoting(store.settings, tmp_path / "home", nodes.address))["error"]

    assert "poison:PriceUSD@1m" in failed
    assert "KilledWorker" in failed
    published = {f"{asset}:PriceUSD@1m" for asset in rows(store)["asset"].unique()}
    assert published == set(wanted) - doomed
