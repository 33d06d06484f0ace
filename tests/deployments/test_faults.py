"""A provider that misbehaves in every way at once: the run finishes, says so, loses nothing, publishes nothing bad."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml

from lakehouse import Lake
from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.settings import Settings
from sources.twin.recording import read_folder, write_file

ROOT = Path(__file__).parents[2]
MNEMO = Path(sys.executable).with_name("mnemo")
IBM, EURO, BTC = "function=TIME_SERIES_DAILY&", "function=FX_DAILY&", "function=DIGITAL_CURRENCY_DAILY&"
LOANS = "Q.USD.3P.N.B.I.G.USD"


def spoil(recording):
    """The recordings that take the place of a good one."""
    if IBM in recording.url and "outputsize" not in recording.url:
        head, first, *rest = recording.body.splitlines()
        date, open_, high, low, close, volume = first.split(b",")
        worse = b",".join([date, open_, low, high, close, volume])
        return [replace(recording, body=b"\n".join([head, worse, *rest, b""]))]
    if EURO in recording.url:
        return [replace(recording, body=b"\x00\xffnot a table at all\n" * 3)]
    if BTC in recording.url:
        busy = replace(recording, status=429, headers={"retry-after": "0"}, body=b"busy")
        return [busy, busy, recording]
    if "/book" in recording.url:
        return [replace(recording, body=recording.body[:200])]
    if LOANS in recording.url:
        return [replace(recording, status=500, headers={}, body=b"oops")]
    return [recording]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    kept = ("alphavantage", "bis", "polymarket")
    for provider in kept:
        found = read_folder(ROOT / "recordings" / provider)
        write_file(folder / provider / "all.jsonl.gz", [bad for good in found for bad in spoil(good)])
    shutil.copy(ROOT / "recordings" / "watchlist.yaml", folder)
    entries = yaml.safe_load((folder / "watchlist.yaml").read_text())
    wanted = [one for one in entries if one["feed"].startswith(kept) and "BIS_DER" not in one["subject"]]
    (folder / "watchlist.yaml").write_text(yaml.safe_dump(wanted))
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    ensure_running(home, bucket="lake")
    yield home
    release(home, wait=True)


@pytest.fixture(scope="module")
def told(home, recordings):
    """Exit code and what was said for each command of the run."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MNEMO_", "PREFECT_"))
    }
    environment = {
        **inherited,
        "MNEMO_HOME": str(home),
        "MNEMO_OFFLINE": "1",
        "MNEMO_RECORDINGS": str(recordings),
    }

    def call(*arguments):
        done = subprocess.run(
            [MNEMO, *arguments],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    feeds = ("alphavantage_daily", "bis_observations", "polymarket_books", "polymarket_prices")
    said = {feed: call("ingest", feed, "--json") for feed in feeds}
    said["promote"] = call("promote", "silver.bars", "silver.observations", "silver.book_snapshots", "--json")
    said["quarantine"] = call("quarantine", "list", "--json")
    return said


@pytest.fixture
def lake(home, told):
    return Lake.open(Settings(home=home))


def test_a_provider_that_keeps_failing_is_named_and_the_other_subjects_are_fetched(told):
    code, _, err = told["bis_observations"]

    assert code == 1
    assert "500" in err
    assert LOANS in err
    assert "1 other subjects were fetched" in err


def test_a_busy_provider_is_asked_again_when_it_said(told, lake):
    assert told["alphavantage_daily"][0] == 0
    assert lake.scan("silver.bars", asset_class="crypto").collect().height > 100


def test_no_bad_row_is_published_and_the_rest_goes_on(told, lake):
    bars = lake.scan("silver.bars").collect()

    assert told["promote"][0] == 0
    assert bars.filter(pl.col("high") < pl.col("low")).is_empty()
    assert bars.filter(pl.col("symbol") == "IBM").height == 99
    assert lake.scan("silver.observations", provider="bis").collect().height == 105


def test_what_was_bad_is_in_quarantine_with_its_reason_and_its_bytes_are_in_bronze(told, lake):
    held = lake.scan("ops.quarantine").collect()
    by_reason = dict(held.explode("reasons")["reasons"].value_counts().iter_rows())

    assert by_reason["high_below_low"] == 1
    assert by_reason["unreadable_page"] == 11  # ten truncated books and the garbage of EUR/USD
    assert "not" in held.filter(pl.col("row").is_null())["explanation"][0]
    bronze = pl.concat(
        [
            lake.scan(f"bronze.{feed}").select("page_id", "body")
            for feed in ("alphavantage_daily", "polymarket_books")
        ]
    ).collect()
    assert set(held["page_id"]) <= set(bronze["page_id"])


def test_the_quarantine_is_listed_by_batch_with_counts(told):
    code, out, _ = told["quarantine"]

    assert code == 0
    listed = json.loads(out)
    assert {one["table"] for one in listed} == {"silver.bars", "silver.book_snapshots"}
    assert all(one["status"] == "held" for one in listed)
