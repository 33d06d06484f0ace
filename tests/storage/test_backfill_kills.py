"""A backfill over kill -9, refusals and failures: all is there, nothing is fetched again, no limit is exceeded.

The venues are the offline twin's: recorded lists of markets, made-up candles, their own limits counted. The processes
are those that a user starts; they keep the venues' limits as they would on the venues themselves.
"""

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import polars as pl
import pytest

from lakehouse.coverage import read_records
from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.gaps import settled_windows
from lakehouse.ledger import promote_coverage
from lakehouse.ops import QUOTA
from lakehouse.promotion import promote_pages
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.store import open_store
from lakehouse.verdict import Verdict
from lakehouse.window import Window, iso
from sources.backfill_plan import grid
from sources.ccxt_quota import PAGES_AT_ONCE
from sources.errors import ParseError
from sources.registry import feed
from sources.twin.recording import read_folder
from sources.twin.server import Trouble, Twin, serving

ROOT = Path(__file__).parents[2]
MNEMO = Path(sys.executable).with_name("mnemo")
BARS = feed("ccxt_ohlcv")
START = datetime(2024, 3, 1, tzinfo=UTC)
SUBJECTS = {
    "binance": ("BTC/USDT", "ETH/USDT", "ETH/BTC", "LTC/BTC", "BNB/BTC"),
    "bybit": ("BTC/USDT", "ETH/USDT", "ADA/USDT", "LTC/USDT", "XRP/USDT"),
    "bitstamp": ("BTC/USD", "BTC/EUR", "LTC/USD", "ETH/USD", "LINK/USD"),
    "okx": ("BTC/USDT", "ETH/USDT", "ADA/USDT", "LTC/USDT", "XRP/USDT"),
}
QUICK = ("binance", "bybit", "bitstamp")
TIGHT = ("binance", "bybit", "okx")
"""With okx, of whose limit our pace uses most: 17 of 20 requests in two seconds."""
PARALLEL = 2


@dataclass
class Bench:
    """A twin and a lake, and processes that backfill one from the other."""

    home: Path
    twin: str
    subjects: list[str]
    window: Window

    def start(self) -> subprocess.Popen:
        inherited = {n: v for n, v in os.environ.items() if not n.startswith(("MNEMO_", "PREFECT_"))}
        named = {"MNEMO_HOME": str(self.home), "MNEMO_TWIN_URL": self.twin, "MNEMO_LIMITS": "everywhere"}
        asked = [part for subject in self.subjects for part in ("--subject", subject)]
        window = ["--start", iso(self.window.start), "--end", iso(self.window.end)]
        return subprocess.Popen(
            [MNEMO, "backfill", BARS.name, *asked, *window, "--parallel", str(PARALLEL), "--json"],
            env={**inherited, **named},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def report(self) -> dict:
        return httpx.get(f"{self.twin}/twin/report", trust_env=False).json()

    def finish(self, *processes: subprocess.Popen) -> list[dict]:
        """Wait for processes to end by themselves; what each reported."""
        reports = []
        for process in processes:
            out, err = process.communicate(timeout=900)
            assert process.returncode == 0, out + err
            reports += json.loads(out)
        return reports

    def kill(self, process: subprocess.Popen, *, after_requests: int) -> bool:
        """Kill -9 after so many requests; False where it was done before."""
        wanted = self.report()["requests"] + after_requests
        while process.poll() is None and self.report()["requests"] < wanted:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return process.returncode == -signal.SIGKILL


@pytest.fixture
def bench(tmp_path, pytestconfig):
    """Give it a number of days and venues; every twentieth request is refused, every fiftieth fails."""
    seed = pytestconfig.getoption("--seed")
    seed = secrets.randbelow(10**6) if seed is None else seed
    print(f"seed {seed}")
    random.seed(seed)
    trouble = Trouble(refused=0.05, failing=0.02, chance=random.Random(seed))
    twin = Twin(read_folder(ROOT / "recordings" / "ccxt"), synthetic=True, trouble=trouble)
    ensure_running(tmp_path, bucket="lake")

    def of(days: int, venues: tuple[str, ...]) -> Bench:
        subjects = [f"{venue}:{symbol}@1m" for venue in venues for symbol in SUBJECTS[venue]]
        return Bench(tmp_path, url, subjects, Window(START, START + timedelta(days=days)))

    with serving(twin) as url:
        yield of
    release(tmp_path, wait=True)


def promote(store) -> None:
    """Silver and the coverage ledger, by a gate that lets all through: the gate itself is tested elsewhere."""
    run = Run(run_id="test", code_version="0", now=lambda: datetime.now(UTC))

    def judge(batch):
        return Verdict(batch=batch, findings=(), reasons={})

    promote_pages(store, BARS.table, BARS.bronze, BARS.parse, judge=judge, run=run, parse_error=ParseError)
    promote_coverage(store, BARS.source)


def assert_whole(bench: Bench, *, kills: int) -> dict:
    """Everything that is promised of the lake and at the twin; the twin's report."""
    store = open_store(Settings(home=bench.home))
    promote(store)
    assert {subject: settled_windows(store, BARS.name, subject) for subject in bench.subjects} == {
        subject: [bench.window] for subject in bench.subjects
    }

    bronze = store.find(BARS.bronze)
    received: dict[str, list[Window]] = {}
    for _, said in bronze.commits(0, bronze.version):
        for record in read_records(said["fetched"]):
            if record.outcome == "answered":
                received.setdefault(record.subject, []).append(record.window)
    for windows in received.values():  # what was there was not asked for again
        assert [one for one, after in pairwise(sorted(windows)) if one.end > after.start] == []

    bars = store.find(BARS.table).scan().select("venue", "instrument_id", "open_at").collect()
    wanted = bars.filter(pl.col("open_at").is_between(bench.window.start, bench.window.end, closed="left"))
    minutes = (bench.window.end - bench.window.start) // timedelta(minutes=1)
    assert (bars.n_unique(), wanted.height) == (bars.height, len(bench.subjects) * minutes)

    report = bench.report()
    assert report["violations"] == 0
    again = [one for host in report["hosts"].values() for one in host["repeated"] if is_for_bars(one)]
    assert sum(one["times"] - 1 for one in again) <= kills * len(report["hosts"]) * PARALLEL * PAGES_AT_ONCE
    assert not [one for one in again if one["times"] > kills + 1]
    assert store.find(QUOTA).scan().collect().height > 0
    return report


def is_for_bars(repeated: dict) -> bool:
    return any(word in repeated["request"] for word in ("/klines", "/kline", "/ohlc/", "candles"))


def backfill_and_kill(bench: Bench, *, kills: int, most_requests: int) -> None:
    started = time.monotonic()
    killed = sum(
        bench.kill(bench.start(), after_requests=random.randint(4, most_requests)) for _ in range(kills)
    )
    bench.finish(bench.start())
    seconds = time.monotonic() - started
    report = assert_whole(bench, kills=killed)
    statuses = {}
    for host in report["hosts"].values():
        for status, count in host["statuses"].items():
            statuses[status] = statuses.get(status, 0) + count
    figures = {
        "requests": report["requests"],
        "statuses": statuses,
        "kills": killed,
        "seconds": round(seconds),
        "violations": report["violations"],
        "limits": {name: host["limits"] for name, host in report["hosts"].items()},
    }
    print(json.dumps(figures))
    assert killed > 0


def test_a_backfill_that_is_killed_and_refused_ends_whole_and_within_every_limit(bench):
    backfill_and_kill(bench(2, QUICK), kills=2, most_requests=30)


@pytest.mark.slow
def test_thirty_days_of_five_subjects_on_three_venues_over_many_kills(bench):
    backfill_and_kill(bench(30, TIGHT), kills=12, most_requests=150)


def test_two_backfills_of_one_range_share_the_work(bench):
    shared = bench(2, ("binance",))
    reports = shared.finish(shared.start(), shared.start())
    pages = sum(one["pages"] for one in reports)
    planned = [(one, cell) for one in shared.subjects for cell in grid(shared.window, BARS.step(one))]
    assert pages == sum(BARS.cost(subject, cell) for subject, cell in planned)
    assert_whole(shared, kills=0)
