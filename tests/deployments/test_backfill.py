"""`mnemo backfill`: the plan before anything is asked, and what is wrong said at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.embedded_s3 import ensure_running, release

ROOT = Path(__file__).parents[2]
MNEMO = Path(sys.executable).with_name("mnemo")
SPAN = ("--start", "2024-03-01", "--end", "2024-03-31")


@pytest.fixture(scope="module")
def mnemo(tmp_path_factory):
    """Run `mnemo` as a user would; returns exit code, standard output and standard error."""
    home = tmp_path_factory.mktemp("home")
    ensure_running(home, bucket="lake")
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MNEMO_", "PREFECT_"))
    }

    def call(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [MNEMO, *arguments],
            env={**inherited, "MNEMO_HOME": str(home), "MNEMO_OFFLINE": "1", "COLUMNS": "200"},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    yield call
    release(home, wait=True)


def test_a_dry_run_tells_windows_requests_and_time_and_asks_nobody(mnemo):
    subjects = ("--subject", "binance:BTC/USDT@1m", "--subject", "bitstamp:BTC/USD@1m")
    code, out, err = mnemo("backfill", "ccxt_ohlcv", *subjects, *SPAN, "--dry-run", "--json")
    assert (code, err) == (0, "")
    assert [(one["subject"], one["windows"], one["requests"], one["seconds"]) for one in json.loads(out)] == [
        ("binance:BTC/USDT@1m", 6, 44, 2.3),
        ("bitstamp:BTC/USD@1m", 6, 44, 3.5),
    ]
    assert json.loads(mnemo("tables", "--json")[1]) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ccxt_markets", "--subject", "kraken", *SPAN), "ccxt_markets tells only what holds now"),
        (("ccxt_ohlcv", *SPAN), "--subject"),
        (("ccxt_ohlcv", "--subject", "binance:BTC/USDT@1m"), "--start"),
        (("ccxt_ohlcv", "--subject", "binance", *SPAN), "is not exchange:symbol@interval"),
        (("ccxt_bars", "--subject", "x", *SPAN), "did you mean"),
    ],
)
def test_what_cannot_be_backfilled_is_said_at_once(mnemo, arguments, said):
    code, _, err = mnemo("backfill", *arguments, "--dry-run")
    assert code == 2
    assert said in err


def test_what_is_left_and_why_is_told_with_exit_code_one(mnemo):
    asked = ("--subject", "binance:NO/PE@1m", "--start", "2024-03-01", "--end", "2024-03-02")
    code, out, err = mnemo("backfill", "ccxt_ohlcv", *asked, "--json")
    (done,) = json.loads(out)
    assert (code, done["windows"], done["left"]) == (1, 0, 1)
    assert "unknown symbol of binance 'NO/PE'" in done["errors"][0]
    assert "1 windows are left: run it again" in err
