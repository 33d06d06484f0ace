"""Secrets planted in every setting that holds one are nowhere else, after runs that succeed and runs that fail."""

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

import httpx
import pytest
import yaml

from lakehouse import Lake
from lakehouse.catalog import tables
from lakehouse.settings import Settings

PLANTED = {
    "MNEMO_FRED_API_KEY": "planted+fred/key",
    "MNEMO_ALPHAVANTAGE_API_KEY": "planted+alphavantage/key",
    "MNEMO_COINMETRICS_API_KEY": "planted+coinmetrics/key",
    "MNEMO_ALERT_HOOK": "planted-alert-path",
    "MNEMO_ALERT_PASSWORD": "planted-alert-password",
    "MNEMO_POLYMARKET_CLOB_URL": "http://planted-login:planted-password@127.0.0.1:9",
    "PREFECT_API_AUTH_STRING": "planted-user:planted-auth",
    "PREFECT_SERVER_API_AUTH_STRING": "planted-user:planted-auth",
}
PARTS = {  # what of a setting is secret, where that is not all of it
    "MNEMO_POLYMARKET_CLOB_URL": ("planted-login", "planted-password"),
    "PREFECT_API_AUTH_STRING": ("planted-user:planted-auth", "planted-auth"),
}
BOOK = "65193234666628291664907888364936366210889305490897648116746073820519263548476"
WATCHLIST = [
    {"feed": "fred_series", "subject": "GDP", "start": "1947-01-01", "end": "2025-01-01"},
    {"feed": "fred_observations", "subject": "GDP", "start": "1947-01-01", "end": "2025-01-01"},
    {"feed": "fred_series", "subject": "NOT_RECORDED", "start": "1947-01-01", "end": "2025-01-01"},
    {"feed": "alphavantage_daily", "subject": "IBM", "start": "2025-12-22", "end": "2026-05-16"},
    {"feed": "alphavantage_daily", "subject": "NOT_RECORDED", "start": "2025-12-22", "end": "2026-05-16"},
    {
        "feed": "coinmetrics_asset_metrics",
        "subject": "btc:PriceUSD,SplyBMXNtv@1d",
        "start": "2020-02-29",
        "end": "2020-03-02",
    },
    {
        "feed": "polymarket_books",
        "subject": BOOK,
        "start": "2026-05-17",
        "end": "2026-05-18",
    },  # nobody answers
]
ROUTES = [
    {
        "name": "hook",
        "to": "json://somebody:${MNEMO_ALERT_PASSWORD}@127.0.0.1:9/${MNEMO_ALERT_HOOK}",
        "severity": "warning",
    }
]
FAILING = (
    ("ingest", "fred_series", "--subject", "NOT_RECORDED"),
    ("ingest", "alphavantage_daily", "--subject", "NOT_RECORDED"),
    ("ingest", "polymarket_books", "--subject", BOOK),
    ("alerts", "test"),
    ("doctor",),
)
HOLDS_KEYS = {"keys.json", "server.json", "s3.json"}
"""Files of the embedded server, which only their owner can read."""


@dataclass(frozen=True)
class Secrets:
    """What must not be found, by the setting that holds it."""

    shapes: dict[str, set[bytes]]

    def found_in(self, text: str | bytes) -> set[str]:
        data = text.encode() if isinstance(text, str) else text
        return {name for name, shapes in self.shapes.items() if any(shape in data for shape in shapes)}


def shapes_of(secret: str) -> set[bytes]:
    """A secret as it is, as it looks in an address, in JSON and in a header."""
    texts = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]}
    return {text.encode() for text in texts} | {base64.b64encode(secret.encode())}


@pytest.fixture(scope="module")
def platform(make_platform, tmp_path_factory):
    """A platform with a password, after a daily run and a watch, which log all they can."""
    folder = tmp_path_factory.mktemp("settings")
    (folder / "watchlist.yaml").write_text(yaml.safe_dump(WATCHLIST))
    (folder / "alerts.yaml").write_text(yaml.safe_dump(ROUTES))
    platform = make_platform(
        MNEMO_WATCHLIST=str(folder / "watchlist.yaml"),
        MNEMO_ALERTS=str(folder / "alerts.yaml"),
        PREFECT_LOGGING_LEVEL="DEBUG",
        PREFECT_LOGGING_EXTRA_LOGGERS="httpx,httpcore,urllib3,botocore,ccxt",
        **PLANTED,
    )
    platform.up()
    ask(platform, "GET", "/health")
    for name in ("daily", "watch"):
        finish(platform, name)
    return platform


@pytest.fixture(scope="module")
def secrets(platform) -> Secrets:
    keys = json.loads((platform.home / "s3" / "keys.json").read_text())
    own = {name: (value,) for name, value in keys.items() if name.endswith("secret_key")}
    planted = {name: PARTS.get(name, (value,)) for name, value in PLANTED.items()}
    every = {name: set().union(*map(shapes_of, parts)) for name, parts in (own | planted).items()}
    return Secrets(every)


def ask(platform, method: str, path: str, body: dict | None = None):
    """An answer of the Prefect server, to somebody who has the password; a busy one is given its time."""
    user, _, password = PLANTED["PREFECT_API_AUTH_STRING"].partition(":")
    address = f"http://127.0.0.1:{platform.port}/api{path}"

    def answered() -> httpx.Response | None:
        with suppress(httpx.TransportError), httpx.Client(trust_env=False, timeout=60) as client:
            answer = client.request(method, address, json=body, auth=(user, password))
            return None if answer.status_code == 503 else answer
        return None

    answer = platform.until(answered, 300, f"an answer to {path}").raise_for_status()
    return answer.json() if answer.content else None


def finish(platform, name: str) -> None:
    """Run a deployment to its end, whatever that is."""
    deployment = ask(platform, "GET", f"/deployments/name/{name}/{name}")
    run = ask(
        platform, "POST", f"/deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}}
    )
    ended = {"COMPLETED", "FAILED", "CRASHED"}
    state = platform.until(
        lambda: (one := ask(platform, "GET", f"/flow_runs/{run['id']}")["state"])["type"] in ended and one,
        300,
        f"the end of {name}",
    )
    assert state["type"] == ("FAILED" if name == "daily" else "COMPLETED"), state


@pytest.mark.slow
class TestNowhere:
    """Everything that the runs have left, place by place."""

    def test_the_runs_did_what_could_give_a_secret_away(self, platform):
        lake = Lake.open(Settings(home=platform.home))
        asked = lake.scan("bronze.fred_observations").collect()["request"].to_list()

        assert any("api.stlouisfed.org" in one for one in asked)
        assert lake.scan("silver.bars").collect().height
        logs = "".join(
            platform.home.joinpath("platform", f"{one}.log").read_text() for one in ("server", "worker")
        )
        assert "DEBUG" in logs

    def test_no_command_that_fails_says_one(self, platform, secrets):
        for command in FAILING:
            done = platform.mnemo("--debug", *command, check=False)
            assert secrets.found_in(done.stdout + done.stderr) == set(), command

    def test_no_table_holds_one(self, platform, secrets):
        """Pages with bodies and requests, published rows, quarantine, verdicts, coverage, alerts, metrics, quotas."""
        lake = Lake.open(Settings(home=platform.home))
        names = {one["table"] for one in lake.tables()} | set(tables())
        held = {name: secrets.found_in(b"".join(cells(lake, name))) for name in sorted(names)}

        assert {name: found for name, found in held.items() if found} == {}
        assert any(name.startswith("bronze.fred") for name in names)

    def test_no_file_beside_the_tables_holds_one(self, platform, secrets):
        """Data Docs, verdicts, and the logs of the tables with what each commit says."""
        files = Lake.open(Settings(home=platform.home)).files
        keys = [key for key in files.keys("") if not key.endswith(".parquet")]

        assert any(key.startswith("docs/") for key in keys)
        assert {key: found for key in keys if (found := secrets.found_in(files.get(key)))} == {}

    def test_nothing_of_prefect_holds_one(self, platform, secrets):
        """Logs of runs, artifacts, parameters, events, deployments, pools, automations; blocks are encrypted."""
        with closing(
            sqlite3.connect(f"file:{platform.home}/prefect/prefect.db?mode=ro", uri=True)
        ) as database:
            names = [
                name for (name,) in database.execute("select name from sqlite_master where type = 'table'")
            ]
            held = {}
            for name in names:
                rows = database.execute(f'select * from "{name}"').fetchall()
                held[name] = secrets.found_in(repr(rows))

        assert {"log", "artifact", "flow_run", "events", "block_document"} <= set(names)
        assert {name: found for name, found in held.items() if found} == {}

    def test_no_local_file_holds_one(self, platform, secrets):
        """Logs of the platform, Prefect's database with its journal, quotas, pages brought here."""
        held = {
            path.relative_to(platform.home).as_posix(): secrets.found_in(path.read_bytes())
            for path in platform.home.rglob("*")
            if path.is_file() and path.name not in HOLDS_KEYS
        }

        assert {path: found for path, found in held.items() if found} == {}
        assert "platform/worker.log" in held

    def test_files_with_keys_are_their_owners_alone(self, platform):
        modes = {name: (platform.home / "s3" / name).stat().st_mode & 0o077 for name in HOLDS_KEYS}

        assert set(modes.values()) == {0}


def cells(lake: Lake, table: str) -> Iterator[bytes]:
    """Every value of a table, as it is."""
    for row in lake.scan(table, versions=True).collect().iter_rows():
        for value in row:
            yield value if isinstance(value, bytes) else repr(value).encode()
