"""The command line on a lake of its own: exit codes, nearest right names, JSON for machines."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.embedded_s3 import ensure_running, release

ROOT = Path(__file__).parents[2]
MNEMO = Path(sys.executable).with_name("mnemo")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home folder whose S3 server runs all the while, so that no command has to start it."""
    home = tmp_path_factory.mktemp("home")
    ensure_running(home, bucket="lake")
    yield home
    release(home, wait=True)


@pytest.fixture
def mnemo(home):
    """Run `mnemo` as a user would; returns exit code, standard output and standard error."""

    def call(*arguments: str, **settings: str) -> tuple[int, str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("MNEMO_", "PREFECT_"))
        }
        environment = {
            **inherited,
            "MNEMO_HOME": str(home),
            "MNEMO_OFFLINE": "1",
            "COLUMNS": "200",
            **settings,
        }
        done = subprocess.run(
            [MNEMO, *arguments],
            env=environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    return call


def test_fetching_promoting_and_reading_by_hand(mnemo):
    code, out, err = mnemo("ingest", "bis_series", "--json")
    assert (code, err) == (0, "")
    assert [one["new_pages"] for one in json.loads(out)] == [1, 1]

    code, out, _ = mnemo("promote", "silver.series", "--json")
    assert code == 0
    (promoted,) = json.loads(out)
    assert (promoted["table"], promoted["level"], promoted["published_rows"]) == (
        "silver.series",
        "passed",
        2,
    )

    code, out, _ = mnemo("read", "silver.series", "--where", "provider=bis", "--format", "json")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["unit_multiplier"] for row in rows] == [6, 6]
    assert rows[0]["known_at"].endswith("Z")

    code, out, _ = mnemo("verdicts", "silver.series", "--json")
    assert [one["level"] for one in json.loads(out)] == ["passed"]


def test_a_lake_is_maintained_and_as_declared(mnemo):
    assert mnemo("ingest", "bis_series", "--subject", "WS_GLI/Q.USD.3P.N.A.I.B.USD")[0] == 0

    code, out, _ = mnemo("upkeep", "--json")
    kept = {one["table"]: one for one in json.loads(out)}
    assert (code, kept["bronze.bis_series"]["rows"] >= 1) == (0, True)
    assert kept["bronze.bis_series"]["remarks"] == ""

    assert mnemo("migrate", "--plan", "--json")[:2] == (0, "[]\n")
    assert mnemo("migrate")[:2] == (0, "every stored table is as its contract declares\n")


def test_what_is_covered_is_told_with_its_proof_and_not_fetched_again(mnemo):
    asked = ("--subject", "binance:ETH/BTC@1d", "--start", "2019-01-01", "--end", "2020-01-02")
    assert mnemo("ingest", "ccxt_ohlcv", *asked)[0] == 0
    assert mnemo("promote", "silver.candles")[0] == 0

    code, out, _ = mnemo("coverage", "silver.candles", "--json")
    (told,) = json.loads(out)
    assert (code, told["status"], told["proof"]) == (0, "complete", "every_bar")
    assert (told["start"], told["end"]) == ("2019-01-01T00:00:00Z", "2020-01-02T00:00:00Z")
    assert (told["evidence"][0]["expected"], told["evidence"][0]["found"]) == (366, 366)
    assert json.loads(mnemo("gaps", "--json")[1]) == []
    assert mnemo("ingest", "ccxt_ohlcv", *asked, "--missing-only")[:2] == (
        0,
        "everything is covered already\n",
    )


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["tabels"], "did you mean tables"),
        (["quarantine", "lst"], "did you mean list"),
        (["show", "silver.trade"], "did you mean silver.trades"),
        (["promote", "gold.candle"], "did you mean gold.candles"),
        (["ingest", "ccxt_trade"], "did you mean ccxt_trades"),
        (["ingest", "ccxt_trades", "--subject", "krakn:BTC/USD"], "did you mean kraken"),
        (["read", "silver.series", "--where", "provider"], "COLUMN=VALUE"),
        (["read", "silver.series", "--start", "yesterday"], "ISO 8601"),
        (["sql", "selec 1"], "syntax error"),
        (["explain", "silver.series", "provider"], "COLUMN=VALUE"),
        (["rebuild", "ops.verdicts"], "unknown table that can be rebuilt"),
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_answered_with_the_right_ones_and_exit_code_2(mnemo, arguments, answer):
    code, _, err = mnemo(*arguments)

    assert code == 2
    assert answer in err
    assert "Traceback" not in err


def test_a_missing_key_names_the_setting_the_feed_and_where_to_get_one(mnemo):
    code, _, err = mnemo("ingest", "fred_series", "--subject", "GDP", MNEMO_OFFLINE="0")

    assert code == 1
    assert "fred_series needs MNEMO_FRED_API_KEY" in err
    assert "https://" in err


def test_an_unreachable_store_is_one_line_that_names_endpoint_and_setting(mnemo):
    keys = {"MNEMO_S3_ACCESS_KEY": "a", "MNEMO_S3_SECRET_KEY": "b"}
    code, out, err = mnemo("read", "silver.trades", MNEMO_S3_ENDPOINT="http://127.0.0.1:9", **keys)

    assert (code, out) == (1, "")
    assert err.strip() == "the store does not answer at http://127.0.0.1:9 (setting MNEMO_S3_ENDPOINT)"


def test_an_unreachable_provider_is_named_with_its_setting(mnemo):
    away = {"MNEMO_OFFLINE": "0", "MNEMO_BIS_URL": "http://127.0.0.1:9"}
    code, _, err = mnemo("ingest", "bis_series", "--subject", "WS_GLI/Q.USD.3P.N.A.I.B.USD", **away)

    assert code == 1
    assert "http://127.0.0.1:9 (setting MNEMO_BIS_URL)" in err
    assert "Traceback" not in err


def test_an_unknown_setting_is_refused_by_name(mnemo):
    code, _, err = mnemo("tables", MNEMO_LAEK="s3://x")

    assert code == 1
    assert "unknown setting MNEMO_LAEK; did you mean MNEMO_LAKE" in err


def test_doctor_tells_what_is_set_and_what_answers(mnemo):
    code, out, _ = mnemo("doctor", "--json")

    checks = {one["check"]: one["result"] for one in json.loads(out)}
    assert code == 0
    assert checks["store"] == "good"
    assert checks["MNEMO_FRED_API_KEY"] == "note"


def test_a_row_is_explained_and_its_table_made_again(mnemo):
    mnemo("ingest", "bis_series")
    mnemo("promote", "silver.series")
    key = ("provider=bis", "series_id=WS_GLI/Q.USD.3P.N.A.I.B.USD")

    code, tree, err = mnemo("explain", "silver.series", *key)
    assert (code, err) == (0, "")
    assert "GET https://stats.bis.org/api/v2/" in tree
    said = json.loads(mnemo("explain", "silver.series", *key, "--json")[1])
    body = mnemo("explain", "silver.series", *key, "--bytes")[1]
    assert said["row"]["title"] in body
    assert said["page"]["size_bytes"] == len(body.encode())

    before = mnemo("read", "silver.series", "--versions", "--format", "json")[1]
    code, out, err = mnemo("rebuild", "silver.series", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)[0]["level"] == "passed"
    assert mnemo("read", "silver.series", "--versions", "--format", "json")[1] == before


def test_help_and_reading_do_not_pay_for_what_they_do_not_use():
    heavy = "prefect", "great_expectations", "ccxt"
    script = f"import sys, deployments.cli, lakehouse; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
