"""`mnemo doctor` names what is wrong and what to do, one cause at a time."""

import json
import socket
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import pytest

from deployments import doctor

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def healthy(s3, monkeypatch, tmp_path):
    """Settings in which nothing is wrong; a test breaks one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr(doctor, "_PREFECT_PORT", 9)
    whole = {
        "MNEMO_HOME": str(tmp_path / "home"),
        "MNEMO_LAKE": "s3://lake/doctor",
        "MNEMO_S3_ENDPOINT": s3.endpoint,
        "MNEMO_S3_ACCESS_KEY": s3.access_key,
        "MNEMO_S3_SECRET_KEY": s3.secret_key,
    }
    for name, value in whole.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def found(result: str) -> dict[str, dict]:
    return {one["check"]: one for one in doctor.run() if one["result"] == result}


@contextmanager
def answering(status: int, body: bytes = b"", **headers: str):
    """The address of a server that gives everybody the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_where_nothing_is_wrong_nothing_is_said_to_be(healthy):
    assert found("wrong") == {}
    assert {"settings", "store", "clock", "watchlist", "prefect", "polars"} <= set(found("good"))
    assert all(one["to_do"] for one in found("note").values())


@pytest.mark.parametrize(
    ("broken", "check", "about", "to_do"),
    [
        ({"MNEMO_LAEK": "x"}, "settings", "did you mean MNEMO_LAKE", ".env.example"),
        ({"MNEMO_S3_SECRET_KEY": ""}, "settings", "MNEMO_S3_SECRET_KEY is not set", ".env"),
        ({"MNEMO_RETENTION_DAYS": "many"}, "settings", "MNEMO_RETENTION_DAYS", ".env"),
        ({"MNEMO_S3_ENDPOINT": NOWHERE}, "store", NOWHERE, "start the store"),
        ({"MNEMO_LAKE": "s3://no-such-bucket/x"}, "store", "", "bucket|policies"),
        ({"MNEMO_S3_ACCESS_KEY": "nobody"}, "store", "", "correct MNEMO_S3_ACCESS_KEY"),
        ({"MNEMO_S3_SECRET_KEY": "wrong"}, "store", "", "correct MNEMO_S3_SECRET_KEY"),
        ({"MNEMO_WATCHLIST": "away.yaml"}, "watchlist", "away.yaml", "MNEMO_WATCHLIST"),
        ({"MNEMO_ALERTS": "away.yaml"}, "alerts", "away.yaml", "docs/alerts.md"),
        ({"MNEMO_ENGINE": "dask://127.0.0.1:9"}, "engine", "127.0.0.1:9", "dask scheduler"),
        ({"PREFECT_API_URL": f"{NOWHERE}/api"}, "prefect server", NOWHERE, "mnemo up"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_broken_setting_is_named_with_what_to_do(healthy, broken, check, about, to_do):
    for name, value in broken.items():
        healthy.setenv(name, value)

    wrong = found("wrong")

    assert set(wrong) == {check}
    assert about in wrong[check]["about"]
    assert any(one in wrong[check]["to_do"] for one in to_do.split("|"))


def test_a_watchlist_of_a_feed_that_there_is_not_names_the_nearest(healthy, tmp_path):
    (tmp_path / "watchlist.yaml").write_text("- {feed: ccxt_trade, subject: x}\n")
    healthy.setenv("MNEMO_WATCHLIST", str(tmp_path / "watchlist.yaml"))

    assert "did you mean ccxt_trades" in found("wrong")["watchlist"]["about"]


def test_a_home_that_cannot_be_written_is_found(healthy, tmp_path):
    (tmp_path / "file").write_text("")
    healthy.setenv("MNEMO_HOME", str(tmp_path / "file" / "home"))

    assert "MNEMO_HOME" in found("wrong")["home"]["to_do"]


def test_a_clock_that_is_not_the_stores_is_found(healthy):
    wrong_by = 2 * doctor.LONGEST_SKEW
    for moment in (datetime.now(UTC) - wrong_by, datetime.now(UTC) + wrong_by + timedelta(seconds=5)):
        with answering(200, Date=format_datetime(moment, usegmt=True)) as endpoint:
            healthy.setenv("MNEMO_S3_ENDPOINT", endpoint)
            assert "NTP" in found("wrong")["clock"]["to_do"]


@pytest.mark.parametrize(
    ("status", "body", "about", "to_do"),
    [
        (401, b"", "refuses us", "PREFECT_API_AUTH_STRING"),
        (404, b"", "no Prefect API", "ends with /api"),
        (200, b"<html>", "no Prefect API", "ends with /api"),
        (200, b'"3.0.0"', "version 3.0.0", "docs/upgrade.md"),
    ],
)
def test_a_prefect_server_that_answers_otherwise_is_told_apart(healthy, status, body, about, to_do):
    with answering(status, body) as url:
        healthy.setenv("PREFECT_API_URL", f"{url}/api")
        wrong = found("wrong")["prefect server"]

    assert about in wrong["about"]
    assert to_do in wrong["to_do"]


def test_a_prefect_server_of_our_version_is_good(healthy):
    with answering(200, json.dumps(version("prefect")).encode()) as url:
        healthy.setenv("PREFECT_API_URL", f"{url}/api")
        assert version("prefect") in found("good")["prefect server"]["about"]


def test_a_password_in_an_address_is_not_repeated(healthy):
    healthy.setenv("PREFECT_API_URL", "http://user:planted@127.0.0.1:9/api")

    assert "planted" not in json.dumps(doctor.run())


def test_a_taken_port_is_noted_with_the_option_for_another(healthy):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        healthy.setattr(doctor, "_PREFECT_PORT", taken.getsockname()[1])
        assert "--port" in found("note")["ports"]["to_do"]


@pytest.mark.parametrize(
    ("package", "installed"), [("fastapi", "0.155.0"), ("sqlalchemy", "2.1.0"), ("deltalake", "1.6.6")]
)
def test_a_version_out_of_the_pins_is_named_with_the_one_that_is_wanted(
    healthy, tmp_path, package, installed
):
    info = tmp_path / "packages" / f"{package}-{installed}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {installed}\n")
    healthy.syspath_prepend(info.parent)

    wrong = found("wrong")

    assert set(wrong) == {package}
    assert wrong[package]["about"].startswith(installed)
    assert f"pip install '{package}" in wrong[package]["to_do"]
