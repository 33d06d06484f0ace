"""Kill -9 at random moments and crowds of writers, by rounds.py; `make test-crash` runs them long."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROUNDS = Path(__file__).with_name("rounds.py")


@pytest.fixture
def fire(pytestconfig):
    """Run rounds.py; what it reports."""

    def run(*arguments: object) -> dict:
        seed = pytestconfig.getoption("--seed")
        chosen = [] if seed is None else ["--seed", seed]
        command = [sys.executable, ROUNDS, *arguments, *chosen]
        done = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)
        print(done.stdout)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_whatever_is_killed_when_every_row_is_there_once(fire, pytestconfig):
    """Two promoters and an ingester over bronze, silver and gold; exact against the image made of bronze in one go."""
    fire("kills", "--rounds", 200 if pytestconfig.getoption("--thorough") else 12)


def test_eight_writers_and_two_promoters_lose_and_double_nothing(fire, pytestconfig):
    commits = 50 if pytestconfig.getoption("--thorough") else 4
    report = fire("crowd", "--writers", 8, "--commits", commits)

    assert report["rows"]["bronze.crash_trades"] == 8 * commits * 2  # two minutes, a page each
