"""What a cluster gains, and what being orchestrated costs. `python -m benchmarks.scale`

Shares: 64 made-up assets with three weeks of minutes each (2 million rows), promoted into silver.asset_metrics
through the real gate, by one process (`local`) and by Dask clusters of one and of two worker processes; wall seconds,
the workers' start left out. Backfill: 2,000 assets with 30 days each from a server on loopback that answers at once, by
the flow `backfill` on a Prefect server of its own; the plan, the whole run, and how large Prefect's database is after.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from distributed import Client as Dask
from distributed import LocalCluster

from benchmarks.report import report
from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.shares import SHARES, share_of
from lakehouse.silver.asset_metrics import TABLE
from lakehouse.store import open_store
from lakehouse.window import Window, iso
from sources import registry
from sources.backfill_plan import plan
from sources.client import Client
from sources.ingest import ingest

START = datetime(2024, 1, 1, tzinfo=UTC)
FEED = registry.feed("coinmetrics_asset_metrics")
MINUTES = Window(START, START + timedelta(days=21))
MONTH = Window(START, START + timedelta(days=30))
SUBJECTS = 2_000
PAGE_ROWS = 10_000


def figures() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder, provider() as url:
        home = Path(folder)
        server = ensure_running(home, bucket="lake")
        try:
            store = {
                "MNEMO_HOME": folder,
                "MNEMO_S3_ENDPOINT": server.endpoint,
                "MNEMO_S3_ACCESS_KEY": server.access_key,
                "MNEMO_S3_SECRET_KEY": server.secret_key,
                "MNEMO_COINMETRICS_URL": url,
            }
            yield from of_shares(store)
            yield from of_backfill(store, home)
        finally:
            release(home, wait=True)


# Shares on a cluster


def of_shares(store: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    alone = promoted({**store, "MNEMO_LAKE": "s3://lake/alone"}, "local")
    yield figure("promotion of 64 shares, local", alone, "s", peer=None, ratio=None)
    for workers in (1, 2):
        named = {**store, "MNEMO_LAKE": f"s3://lake/cluster{workers}"}
        os.environ.update(named)
        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
            Dask(cluster) as dask,
        ):
            dask.run(warm_up)
            address = cluster.scheduler_address.replace("tcp://", "dask://")
            seconds = promoted(named, address)
        yield figure(
            f"promotion of 64 shares, Dask with {workers} workers", seconds, "s", "local", alone / seconds
        )


def promoted(environment: Mapping[str, str], engine: str) -> float:
    """Wall seconds of promoting what is delivered to a fresh lake, without the imports."""
    settings = made(environment)
    with Client(settings, now=lambda: START + timedelta(days=60)) as client:
        for subject in one_of_each_share():
            ingest(open_store(settings), FEED, subject, MINUTES, client=client, run=run())
    code = (
        "import time; from tasks import engine, session, work; from expectations import gate, suite\n"
        "engine.is_cluster() and engine.cluster()\n"
        f"began = time.perf_counter(); done = work.promote({TABLE.name!r}, session.new_run())\n"
        "print(time.perf_counter() - began, sum(one.published_rows for one in done))"
    )
    said = python(code, {**environment, "MNEMO_ENGINE": engine}).split()
    assert int(said[1]) == SHARES * 21 * 24 * 60
    return float(said[0])


def warm_up() -> None:
    """A worker that is at work already."""
    from expectations import suite  # noqa: F401
    from tasks import session

    session.store()


def one_of_each_share() -> list[str]:
    found: dict[int, str] = {}
    for number in range(10_000):
        subject = f"a{number}:PriceUSD@1m"
        found.setdefault(share_of(subject), subject)
    return list(found.values())


# A backfill under Prefect


def of_backfill(store: Mapping[str, str], home: Path) -> Iterator[dict[str, Any]]:
    named = {**store, "MNEMO_LAKE": "s3://lake/backfill"}
    subjects = [f"a{number}:PriceUSD@1d" for number in range(SUBJECTS)]
    with Client(made(named), now=lambda: START + timedelta(days=60)) as client:
        began = time.process_time()
        planned = plan(open_store(made(named)), FEED, subjects, MONTH, client=client, order="oldest-first")
        spent = time.process_time() - began
    windows = len(planned.cells)
    yield figure("planning, for each subject and window", 1e3 * spent / windows, "CPU ms", None, None)
    prefect = {"PREFECT_HOME": str(home / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    prefect |= {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"}
    python("from prefect import flow\nflow(lambda: None, name='none')()", {**named, **prefect})
    before = database_bytes(home)
    code = (
        "import time; from flows.backfill import backfill\n"
        "began = time.perf_counter()\n"
        f"backfill({FEED.name!r}, {subjects!r}, {iso(MONTH.start)!r}, {iso(MONTH.end)!r}, parallel=2)\n"
        "print(time.perf_counter() - began)"
    )
    seconds = float(python(code, {**named, **prefect}).split()[-1])
    yield figure(
        f"backfill of {windows} windows and their promotion, for each window",
        1e3 * seconds / windows,
        "ms",
        None,
        None,
    )
    grown = database_bytes(home) - before
    yield figure("growth of Prefect's database by that run", grown / 1e6, "MB", None, None)


def database_bytes(home: Path) -> int:
    return sum(path.stat().st_size for path in (home / "prefect").glob("prefect.db*"))


# What both need


def figure(name: str, value: float, unit: str, peer: str | None, ratio: float | None) -> dict[str, Any]:
    said = {"suite": "scale", "figure": name, "value": round(value, 3), "unit": unit, "peer": peer}
    return {**said, "ratio": None if ratio is None else round(ratio, 2)}


def run() -> Run:
    return Run(run_id="benchmark", code_version="0", now=lambda: START + timedelta(days=60))


def made(environment: Mapping[str, str]) -> Settings:
    given = {name.removeprefix("MNEMO_").lower(): value for name, value in environment.items()}
    url = given.pop("coinmetrics_url")
    return Settings(**given, providers={"MNEMO_COINMETRICS_URL": url})  # type: ignore[arg-type]


def python(code: str, environment: Mapping[str, str]) -> str:
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


class Answers(BaseHTTPRequestHandler):
    """CoinMetrics' time series of any asset, as documented: prices on the grid that was asked for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        step = timedelta(minutes=1) if asked["frequency"] == "1m" else timedelta(days=1)
        first = datetime.fromisoformat(asked.get("next_page_token") or asked["start_time"]).replace(
            tzinfo=UTC
        )
        end = datetime.fromisoformat(asked["end_time"]).replace(tzinfo=UTC)
        count = min(PAGE_ROWS, -(-(end - first) // step))
        told = [
            {
                "asset": asked["assets"],
                "time": (first + n * step).strftime("%Y-%m-%dT%H:%M:%S.000000000Z"),
                "PriceUSD": f"{100 + n % 97}.5",
            }
            for n in range(count)
        ]
        body: dict[str, Any] = {"data": told}
        if (rest := first + count * step) < end:
            more = f"{self.path.partition('&next_page_token')[0]}&next_page_token={rest:%Y-%m-%dT%H:%M:%S}"
            body |= {"next_page_token": f"{rest:%Y-%m-%dT%H:%M:%S}", "next_page_url": more}
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_said: object) -> None:
        return


@contextmanager
def provider() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


if __name__ == "__main__":
    report("scale", figures())
