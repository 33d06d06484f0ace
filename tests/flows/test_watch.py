"""The flow `watch` on a real Prefect API, and `mnemo watch`: recorded, told once, and over when it is over."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse import Lake
from lakehouse.ops import QUARANTINE
from lakehouse.publish import BLOCKED
from lakehouse.settings import Settings

ROOT = Path(__file__).parents[2]
MNEMO = Path(sys.executable).with_name("mnemo")
RUN = """
import json
from deployments.demo import set_up_prefect
set_up_prefect()
from flows.watch import watch
from prefect.client.orchestration import get_client
for change in ({}, {}, {"status": "released"}):
    if change:
        from lakehouse.ops import QUARANTINE
        from tasks import session
        session.store().open(QUARANTINE).set_where("status = 'held'", change)
    seen = watch()
    print("wrong", json.dumps(seen.wrong["monitor"].to_list()))
with get_client(sync_client=True) as client:
    found = {one.key: one.data for one in client.read_artifacts()}
print("artifacts", json.dumps(found))
"""


def environment(home: Path) -> dict[str, str]:
    inherited = {n: v for n, v in os.environ.items() if not n.startswith(("MNEMO_", "PREFECT_"))}
    return {**inherited, "MNEMO_HOME": str(home), "MNEMO_LAKE": str(home / "lake"), "MNEMO_OFFLINE": "1"}


def called(home: Path, *command: str) -> tuple[int, str, str]:
    done = subprocess.run(
        command, env=environment(home), cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout, done.stderr


def hold(lake: Lake, number: str, *reasons: str, days: int) -> None:
    """A row that has been in quarantine for some days."""
    row = {
        "quarantine_id": number,
        "batch_id": f"batch-{number}",
        "table": "silver.trades",
        "inputs": ["bronze.ccxt_trades"],
        "quarantined_at": datetime.now(UTC) - timedelta(days=days),
        "reasons": reasons,
        "status": "held",
    }
    rows = pl.DataFrame([row], schema=QUARANTINE.schema, orient="row")
    lake.store.open(QUARANTINE).append(rows, positions={}, said={})


@pytest.fixture
def lake(tmp_path) -> Lake:
    return Lake.open(Settings(lake=str(tmp_path / "lake"), home=tmp_path))


def test_the_command_exits_with_one_for_what_is_critical_only(lake, tmp_path):
    empty = called(tmp_path, MNEMO, "watch")
    hold(lake, "old", "price_too_low", days=40)
    warned = called(tmp_path, MNEMO, "watch", "--json")
    hold(lake, "blocked", BLOCKED, days=3)
    critical = called(tmp_path, MNEMO, "watch")
    elsewhere = called(tmp_path, MNEMO, "watch", "--table", "silver.candles")

    assert (empty[0], "nothing is wrong" in empty[1]) == (0, True)
    assert warned[0] == 0
    assert [(one["monitor"], one["level"], one["measured"]) for one in json.loads(warned[1])] == [
        ("quarantine", "warning", 1.0)
    ]
    assert (critical[0], "mnemo quarantine show batch-blocked" in critical[1]) == (1, True)
    assert elsewhere[0] == 0


@pytest.mark.slow
def test_what_is_wrong_is_recorded_and_told_once_until_it_is_over(lake, tmp_path):
    hold(lake, "old", "price_too_low", days=40)

    code, out, err = called(tmp_path, sys.executable, "-c", RUN)

    assert code == 0, out + err
    said = [line.split(" ", 1) for line in out.splitlines() if line.startswith(("wrong ", "artifacts "))]
    assert [json.loads(text) for name, text in said if name == "wrong"] == [
        ["quarantine"],
        ["quarantine"],
        [],
    ]
    assert set(json.loads(said[-1][1])) == {"watch", "watch-page"}
    kept = lake.scan("ops.monitors").sort("looked_at").collect()
    assert kept.select("monitor", "subject", "level").rows() == [
        ("quarantine", "held for long", "warning"),
        ("quarantine", "held for long", "warning"),
    ]
    assert all("quarantine" in lake.files.get(key).decode() for key in kept["docs_key"])
    told = lake.scan("ops.alerts").sort("serial").collect()
    assert told.select("event", "monitor", "owner").rows() == [
        ("opened", "quarantine", "market-data"),
        ("resolved", "quarantine", "market-data"),
    ]
