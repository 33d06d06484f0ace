"""The flow `stream` on a real Prefect server: what it records, its heartbeat as events, how it ends when told to."""

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson
import polars as pl
import pytest

from lakehouse.bronze import bronze_table
from lakehouse.settings import Settings
from lakehouse.silver import instruments
from lakehouse.store import Store, open_store
from sources.twin.kraken import STREAM, MadeUpKraken
from sources.twin.server import Twin, serving
from sources.twin.websocket import Sockets

ROOT = Path(__file__).parents[2]
RUN = """
from deployments.demo import set_up_prefect
set_up_prefect()
from flows.stream import stream
stream("kraken", ["kraken:BTC/USD"], seconds=1)
stream("kraken", ["kraken:BTC/USD"])
"""
BTC = {
    "venue": "kraken",
    "instrument_id": "BTC/USD",
    "venue_symbol": "XXBTZUSD",
    "type": "spot",
    "price_step": 0.1,
    "amount_step": 1e-8,
    "known_at": datetime(2024, 1, 1, tzinfo=UTC),
}


@pytest.fixture
def server(monkeypatch):
    """A Prefect server's API; events are in its database soon after they came."""
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    monkeypatch.setenv("PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL", "0.2")
    with prefect_test_harness(server_startup_timeout=120):
        yield PREFECT_API_URL.value()


@pytest.fixture
def known(tmp_path) -> Store:
    """A lake that knows the instrument."""
    found = open_store(Settings(home=tmp_path, lake=str(tmp_path / "lake")))
    row = pl.DataFrame([BTC], schema=instruments.TABLE.schema, orient="row")
    found.open(instruments.TABLE).append(row, positions={}, said={})
    return found


def wait_for(condition, process: subprocess.Popen) -> None:
    """Until it holds, while the process runs; two minutes at most."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def heartbeats(api: str) -> list[dict]:
    """What the server has of them, the oldest first."""
    asked = {"filter": {"event": {"name": ["mnemo.stream.heartbeat"]}, "order": "ASC"}, "limit": 50}
    answer = httpx.post(f"{api}/events/filter", json=asked, trust_env=False)
    return [one["payload"] for one in answer.raise_for_status().json()["events"]]


def states(api: str) -> list[str]:
    answer = httpx.post(f"{api}/flow_runs/filter", json={"sort": "START_TIME_ASC"}, trust_env=False)
    return [one["state_type"] for one in answer.raise_for_status().json()]


def frames(store: Store) -> list[list[tuple[str, str]]]:
    """Kind and text of what bronze holds, connection by connection."""
    pages = store.open(bronze_table("stream_kraken")).scan().sort("connection_id", "sequence").collect()
    kinds = pages["request"].map_elements(lambda said: orjson.loads(said)["kind"], return_dtype=pl.String)
    told = pages.with_columns(kind=kinds, text=pl.col("body").cast(pl.String))
    connections = told.partition_by("connection_id", maintain_order=True)
    return [list(one.select("kind", "text").iter_rows()) for one in connections]


@pytest.mark.slow
def test_a_run_records_beats_and_lands_all_it_had_when_it_is_told_to_end(server, known, tmp_path):
    sockets = Sockets({STREAM: MadeUpKraken(per_s=300).connection})
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("MNEMO_", "PREFECT_"))}
    with serving(Twin([], sockets=sockets)) as twin:
        environment = {
            **inherited,
            "MNEMO_HOME": str(tmp_path),
            "MNEMO_LAKE": str(tmp_path / "lake"),
            "MNEMO_TWIN_URL": twin,
            "PREFECT_API_URL": server,
        }
        with subprocess.Popen(
            [sys.executable, "-c", RUN],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            wait_for(lambda: len(sockets.sent) > 1 and len(sockets.sent[1]) > 100, process)
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=120)

    assert process.returncode != 0, said
    assert states(server) == ["COMPLETED", "CRASHED"]
    kept = frames(known)
    for here, there in zip(kept, sockets.sent, strict=True):
        heard = [text for kind, text in here if kind == "recv"]
        assert heard == there[: len(heard)]
        assert len(heard) > 50
        assert here[-1] == ("disconnect", "stopped")

    beats = heartbeats(server)
    assert {beat["stream"] for beat in beats} == {"kraken"}
    assert beats[0]["frames"] == 0
    assert len(kept[0]) in [beat["frames"] for beat in beats if beat["spooled_frames"] == 0]
