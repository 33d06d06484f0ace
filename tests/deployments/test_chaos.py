"""Kill -9 in the middle of daily runs: whatever dies, the tables come out as if nothing had, and every run ends.

Each round is a daily run into a lake of its own; the platform is the same for all of them. `--seed N` repeats a run,
`--thorough` has twenty rounds.
"""

import os
import random
import signal
import time

import polars as pl
import pytest
import yaml

from lakehouse import Lake
from lakehouse.catalog import promotion_order
from lakehouse.settings import Settings

VICTIMS = ("flow", "worker", "server", "s3", "worker and flow", "keeper")
WATCHLIST = [
    {
        "feed": "ccxt_ohlcv",
        "subject": "binance:BTC/USDT@1h",
        "start": "2020-04-30T21:00:00Z",
        "end": "2020-07-01T04:00:00Z",
    },
    {"feed": "ccxt_ohlcv", "subject": "bitstamp:BTC/USD@1d", "start": "2017-04-07", "end": "2020-01-01"},
    {
        "feed": "ccxt_trades",
        "subject": "bitstamp:BTC/USD",
        "start": "2019-06-14T02:11:00Z",
        "end": "2019-06-14T03:12:00Z",
    },
    {"feed": "fred_observations", "subject": "GDP", "start": "1947-01-01", "end": "2025-01-01"},
    {"feed": "alphavantage_daily", "subject": "IBM", "start": "2025-12-22", "end": "2026-05-16"},
    {"feed": "alphavantage_macro", "subject": "CPI", "start": "1913-01-01", "end": "2026-05-01"},
]
CLOCKS = ("ingested_at", "known_at")
"""When we heard of a fact differs from run to run; what the fact is does not."""


@pytest.fixture(scope="module")
def platform(make_platform, tmp_path_factory):
    watchlist = tmp_path_factory.mktemp("watchlist") / "watchlist.yaml"
    watchlist.write_text(yaml.safe_dump(WATCHLIST))
    platform = make_platform(MNEMO_WATCHLIST=str(watchlist))
    platform.up()
    return platform


def daily(platform, lake: str) -> str:
    return platform.start("daily", environment={"MNEMO_LAKE": f"s3://lake/{lake}"})


def is_running(platform, run_id: str) -> bool:
    return platform.run(run_id)["state_type"] == "RUNNING"


def ended(platform, run_id: str) -> dict | None:
    """The run once nothing starts it again: a crash twice, a failure once."""
    run = platform.run(run_id)
    starts = {"COMPLETED": 1, "CANCELLED": 1, "FAILED": 2, "CRASHED": 3}
    return run if run["run_count"] >= starts.get(run["state_type"], 99) else None


def kill(platform, victim: str) -> None:
    running = platform.running()
    wanted = {name for name in running if name.split("-")[0] in victim.split()}
    pids = {name: running[name] for name in wanted}
    if victim == "s3":
        pids = {"s3": int((platform.home / "s3" / "server.pid").read_text())}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)


def contents(platform, lake: str) -> dict[str, pl.DataFrame]:
    """Every silver and gold table without the clocks, in one order."""
    opened = Lake.open(Settings(home=platform.home, lake=f"s3://lake/{lake}"))
    found = {}
    for name in promotion_order():
        rows = opened.scan(name, versions=True).collect()
        kept = [column for column in rows.columns if column not in CLOCKS]
        found[name] = rows.select(kept).sort(kept)
    return found


def undisturbed(platform) -> tuple[dict[str, pl.DataFrame], float]:
    """What a daily run makes when nothing is killed, and how long it takes."""
    run_id = daily(platform, "quiet")
    platform.until(lambda: is_running(platform, run_id), 300, "the first run")
    began = time.monotonic()
    run = platform.until(lambda: ended(platform, run_id), 600, "the quiet run")
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    expected = contents(platform, "quiet")
    assert expected["gold.candles"].height
    return expected, time.monotonic() - began


def disturbed(platform, lake: str, victim: str, after_s: float) -> str:
    """Start a daily run, kill something in the middle of it, and see the run end well; what happened."""
    run_id = daily(platform, lake)
    platform.until(lambda: is_running(platform, run_id), 300, "a run to be taken")
    time.sleep(after_s)  # a moment of the run, not a condition
    kill(platform, victim)
    if victim == "keeper":
        platform.up()
    began = time.monotonic()
    run = platform.until(lambda: ended(platform, run_id), 1800, f"the run after kill -9 of {victim}")
    said = f"{victim} at {after_s:.0f} s: {run['state_name']} at start {run['run_count']}"
    assert run["state_type"] == "COMPLETED", f"{said}: {run['state']['message']}"
    return f"{said}, {time.monotonic() - began:.0f} s later"


@pytest.mark.slow
def test_whatever_is_killed_the_tables_are_right_and_every_run_ends(platform, pytestconfig):
    seed = pytestconfig.getoption("--seed")
    seed = random.randrange(10**6) if seed is None else seed
    rounds = 20 if pytestconfig.getoption("--thorough") else len(VICTIMS)
    chance = random.Random(seed)
    print(f"seed {seed}")

    expected, lasted_s = undisturbed(platform)
    for number in range(rounds):
        victim = VICTIMS[number % len(VICTIMS)]
        said = disturbed(platform, f"round-{number}", victim, chance.uniform(0, lasted_s))
        print(f"round {number}: {said}")
        found = contents(platform, f"round-{number}")
        assert [name for name in expected if not expected[name].equals(found[name])] == []

    left = ("RUNNING", "PENDING", "CANCELLING")
    platform.until(lambda: not platform.runs(*left), 600, "all runs to end")
