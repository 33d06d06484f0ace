"""The flow `backfill` on a real Prefect API: fetched, promoted, covered; a second run asks for nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from lakehouse import Lake
from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.settings import Settings
from sources.twin.recording import read_folder
from sources.twin.server import Twin, serving

ROOT = Path(__file__).parents[2]
RUN = """
import json
from deployments.demo import set_up_prefect
set_up_prefect()
from flows.backfill import backfill
report = backfill("ccxt_ohlcv", ["bybit:BTC/USDT@1h", "binance:BTC/USDT@1h"], "2024-03-01", "2024-03-08")
print(json.dumps(report.record(), default=str))
"""


@pytest.mark.slow
def test_what_is_missing_is_fetched_and_promoted_once(tmp_path):
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("MNEMO_", "PREFECT_"))}
    ensure_running(tmp_path, bucket="lake")

    def run(twin: str) -> dict:
        environment = {**inherited, "MNEMO_HOME": str(tmp_path), "MNEMO_TWIN_URL": twin}
        done = subprocess.run(
            [sys.executable, "-c", RUN],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    with serving(Twin(read_folder(ROOT / "recordings" / "ccxt"), synthetic=True)) as twin:
        first = run(twin)
        asked = httpx.get(f"{twin}/twin/report", trust_env=False).json()["requests"]
        second = run(twin)
        assert httpx.get(f"{twin}/twin/report", trust_env=False).json()["requests"] == asked

    assert (first["windows"], first["left"], second["windows"]) == (2, 0, 0)
    lake = Lake.open(Settings(home=tmp_path))
    assert lake.scan("silver.candles", interval="1h").collect().height == 2 * 7 * 24
    assert set(lake.coverage("ccxt_ohlcv")["status"]) == {"complete"}
    release(tmp_path, wait=True)
