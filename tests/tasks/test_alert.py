"""Alerts on their way to real HTTP and SMTP sinks, from a real ops.alerts."""

import email
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from email import policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest
import structlog
from aiosmtpd.controller import Controller
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lakehouse import Lake
from lakehouse.alert_routes import Route, read_routes
from lakehouse.alerts import Alert
from lakehouse.errors import SettingsError, UsageError
from lakehouse.ops import ALERTS
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.store import Store, open_store
from tasks.tell import open_alerts, origin_of, send_test, silence, tell_in

# Of apprise, when it imports its plugins.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
LINK = "docs/silver.trades/1f3a.html"


class HttpSink:
    """Keeps what is posted: paths, and bodies as JSON. Answers `status`."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict]] = []
        self.status = 202
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if sink.status < 400:
                    sink.received.append((self.path, json.loads(body)))
                self.send_response(sink.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *said) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def bodies(self) -> list[dict]:
        return [body for _, body in self.received]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def sink():
    made = HttpSink()
    yield made
    made.close()


class Mailbox:
    """Keeps mail."""

    def __init__(self) -> None:
        self.mails: list[email.message.EmailMessage] = []

    async def handle_DATA(self, server, session, envelope) -> str:  # noqa: ARG002, N802 - as aiosmtpd wants it
        self.mails.append(email.message_from_bytes(envelope.content, policy=policy.default))
        return "250 kept"


@pytest.fixture
def mail():
    """A mailbox and the address of its SMTP server."""
    box = Mailbox()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, f"127.0.0.1:{port}"
    controller.stop()


@pytest.fixture
def store(tmp_path) -> Store:
    """A lake in a folder."""
    return open_store(Settings(lake=str(tmp_path / "lake")))


@pytest.fixture
def run() -> Run:
    """A run whose clock moves on by a second with each look."""
    moments = count()
    return Run(run_id="test", code_version="0", now=lambda: NOON + timedelta(seconds=next(moments)))


def alert(subject="kraken:BTC/USD", severity="critical", monitor="gaps") -> Alert:
    return Alert(
        monitor=monitor,
        table="silver.trades",
        subject=subject,
        severity=severity,
        owner="market-data",
        summary="3 gaps, the longest 42 min",
        link=LINK,
        measured=42.0,
        limit=10.0,
    )


def slack(sink, **but) -> Route:
    return Route(name="desk", to=f"slack+http://{sink.host}/services/T000/B000/tok3n", **but)


def pagerduty(sink, **but) -> Route:
    return Route(name="on-call", to=f"pagerduty+http://r0utingk3y@{sink.host}/v2/enqueue", **but)


def history(store) -> list[dict]:
    return Lake(store).scan("ops.alerts").sort("serial").collect().to_dicts()


def test_slack_gets_one_message_over_many_runs_and_one_when_it_is_over(store, sink, run):
    for _ in range(10):
        tell_in(store, [alert(), alert("b", "warning")], checked=["gaps"], routes=[slack(sink)], run=run)
    ((path, body),) = sink.received
    assert path == "/services/T000/B000/tok3n"
    assert set(body) == {"text"}
    assert body["text"].startswith(f"1 critical, 1 warning in {store.root}\n\n[critical] gaps")
    assert f"read on: {store.root}/{LINK}" in body["text"]
    tell_in(store, [alert("b", "warning")], checked=["gaps"], routes=[slack(sink)], run=run)
    tell_in(store, [alert("b", "warning")], checked=["gaps"], routes=[slack(sink)], run=run)
    assert [one["text"].split(" in ")[0] for one in sink.bodies[1:]] == ["1 resolved"]


def test_pagerduty_gets_an_incident_for_each_alert_and_resolves_it(store, sink, run):
    found = [alert(), alert("b", "warning")]
    for alerts in (found, found, []):
        tell_in(store, alerts, checked=["gaps"], routes=[pagerduty(sink)], run=run)
    assert {path for path, _ in sink.received} == {"/v2/enqueue"}
    assert {one["routing_key"] for one in sink.bodies} == {"r0utingk3y"}
    assert sorted((one["dedup_key"], one["event_action"]) for one in sink.bodies) == sorted(
        (one.fingerprint, action) for one in found for action in ("trigger", "resolve")
    )
    assert {one["payload"]["severity"] for one in sink.bodies} == {"critical", "warning"}


def test_mail_says_what_is_wrong_and_where_to_read_on(store, mail, run):
    box, host = mail
    route = Route(name="mail", to=f"mailto://{host}/?from=lake@example.org&to=desk@example.org&mode=insecure")
    for _ in range(3):
        told = tell_in(store, [alert()], checked=["gaps"], routes=[route], run=run)
    (message,) = box.mails
    assert told.failed == {}
    assert message["Subject"] == f"1 critical in {store.root}"
    assert "desk@example.org" in message["To"]
    said = message.get_body(("plain", "html")).get_content()
    assert "3 gaps, the longest 42 min" in said
    assert LINK in said


def test_any_address_that_apprise_knows_will_do(store, sink, run):
    tell_in(
        store, [alert()], checked=["gaps"], routes=[Route(name="a", to=f"json://{sink.host}/hook")], run=run
    )
    ((path, body),) = sink.received
    assert (path, body["type"], body["title"]) == ("/hook", "failure", f"1 critical in {store.root}")


def test_a_sink_that_is_down_gets_everything_later_and_nothing_twice(store, sink, run, mail):
    box, host = mail
    routes = [slack(sink), Route(name="mail", to=f"mailto://{host}/?from=a@b.org&to=c@d.org&mode=insecure")]
    sink.status = 503
    told = tell_in(store, [alert()], checked=["gaps"], routes=routes, run=run)
    assert (told.failed, told.sent) == ({"desk": "HTTP 503"}, {"mail": 1})
    tell_in(store, [alert(), alert("b")], checked=["gaps"], routes=routes, run=run)
    sink.status = 200
    for _ in range(3):
        tell_in(store, [alert(), alert("b")], checked=["gaps"], routes=routes, run=run)
    assert [one["text"].split(" in ")[0] for one in sink.bodies] == ["2 critical"]
    assert len(box.mails) == 2
    failed = [row["detail"] for row in history(store) if row["event"] == "failed"]
    assert failed == ["HTTP 503"] * 3


def test_of_several_incidents_only_those_that_did_not_arrive_are_sent_again(store, sink, run):
    port_nobody_hears = Route(name="on-call", to="pagerduty+http://k3y@127.0.0.1:9/v2/enqueue")
    told = tell_in(store, [alert()], checked=["gaps"], routes=[port_nobody_hears], run=run)
    assert told.failed == {"on-call": "ConnectionRefusedError"}
    tell_in(store, [alert(), alert("b")], checked=["gaps"], routes=[pagerduty(sink)], run=run)
    assert len(sink.received) == 2


def test_history_is_one_commit_for_what_changed_and_one_for_what_was_sent(store, sink, run):
    def version():
        return store.find(ALERTS).version

    tell_in(store, [alert()], checked=["gaps"], routes=[slack(sink)], run=run)
    assert version() == 2
    tell_in(store, [alert()], checked=["gaps"], routes=[slack(sink)], run=run)
    assert version() == 2
    tell_in(store, [], checked=["gaps"], routes=[], run=run)
    assert version() == 3
    assert [(row["serial"], row["event"], row["status"], row["route"]) for row in history(store)] == [
        (0, "opened", "open", ""),
        (0, "claimed", "open", "desk"),
        (1, "sent", "open", "desk"),
        (2, "resolved", "resolved", ""),
    ]


def test_a_lake_with_nothing_wrong_has_no_history(store, sink, run):
    tell_in(store, [], checked=["gaps"], routes=[slack(sink)], run=run)
    assert store.find(ALERTS) is None


def test_without_routes_alerts_are_recorded(store, run):
    told = tell_in(store, [alert()], checked=["gaps"], routes=[], run=run)
    assert (told.opened, told.sent) == (1, {})
    (only,) = open_alerts(store)
    assert (only["severity"], only["subject"], only["told"]) == ("critical", "kraken:BTC/USD", [])


@pytest.mark.parametrize("callers", [2, 6])
def test_callers_at_the_same_time_send_once(store, sink, run, callers):
    store.open(ALERTS)
    together, told = threading.Barrier(callers), []

    def call():
        together.wait()
        told.append(tell_in(store, [alert(), alert("b")], checked=["gaps"], routes=[slack(sink)], run=run))

    threads = [threading.Thread(target=call) for _ in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == callers
    assert sum(one.opened for one in told) == 2
    assert len(sink.received) == 1


@pytest.mark.parametrize(
    "address",
    [
        "slack+http://{host}/services/T000/s3cr3t",
        "pagerduty+http://s3cr3t@{host}/v2/enqueue",
        "json://user:s3cr3t@{host}/s3cr3t?token=s3cr3t",
        "mailto://user:s3cr3t@{host}/?to=a@b.org&mode=insecure",
        "slack+http://{host}/s3cr3t not an address",
        "nonsense://s3cr3t@{host}/",
    ],
)
@pytest.mark.parametrize("is_up", [True, False])
def test_secrets_of_addresses_are_in_no_log_no_row_and_no_error(
    store, sink, run, tmp_path, caplog, capfd, address, is_up
):
    sink.status = 200 if is_up else 500
    file = tmp_path / "alerts.yaml"
    file.write_text("- {name: desk, to: '${SECRET}'}\n")
    routes = read_routes(file, {"SECRET": address.format(host=sink.host)})
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="apprise")
    with structlog.testing.capture_logs() as logged:
        told = tell_in(store, [alert()], checked=["gaps"], routes=routes, run=run)
        tested = send_test(routes, origin_of(store))
    printed = capfd.readouterr()
    seen = [repr(one) for one in (routes, told, tested, logged, history(store))]
    assert "s3cr3t" not in "\n".join([*seen, caplog.text, printed.out, printed.err])
    assert bool(told.failed) is bool(logged)


def test_a_silenced_alert_is_sent_no_more_until_it_is_over(store, sink, run):
    routes = [slack(sink, cooldown="1s")]
    tell_in(store, [alert()], checked=["gaps"], routes=routes, run=run)
    silence(store, alert().fingerprint, hours=24, why="known, ticket 7", run=run)
    tell_in(store, [alert()], checked=["gaps"], routes=routes, run=run)
    assert len(sink.received) == 1
    assert open_alerts(store)[0]["silenced_until"] > NOON + timedelta(hours=23)
    tell_in(store, [], checked=["gaps"], routes=routes, run=run)
    assert len(sink.received) == 2
    with pytest.raises(UsageError, match="unknown open alert"):
        silence(store, alert().fingerprint, hours=24, why="known", run=run)


def test_a_test_goes_to_every_route_and_leaves_no_history(store, sink):
    dead = Route(name="dead", to="slack+http://127.0.0.1:9/x")
    found = send_test([slack(sink), pagerduty(sink, severity="critical"), dead], origin_of(store))
    assert found == [
        {"route": "desk", "result": "sent"},
        {"route": "on-call", "result": "sent"},
        {"route": "dead", "result": "ConnectionRefusedError"},
    ]
    assert [one.get("event_action") for one in sink.bodies] == [None, "trigger", "resolve"]
    assert store.find(ALERTS) is None
    with pytest.raises(SettingsError, match="MNEMO_ALERTS"):
        send_test([], origin_of(store))
    with pytest.raises(UsageError, match="did you mean dead"):
        send_test([dead], origin_of(store), name="deed")


def test_the_command_line_lists_silences_and_tries_the_routes(store, sink, run, tmp_path):
    (tmp_path / "alerts.yaml").write_text("- {name: desk, to: 'slack+${MNEMO_ALERT_DESK}'}\n")
    tell_in(store, [alert()], checked=["gaps"], routes=[], run=run)

    def mnemo(*arguments: str) -> tuple[int, list[dict]]:
        ours = {
            "MNEMO_LAKE": store.root,
            "MNEMO_ALERTS": str(tmp_path / "alerts.yaml"),
            "MNEMO_ALERT_DESK": f"http://{sink.host}/services/x",
        }
        command = [Path(sys.executable).with_name("mnemo"), "alerts", *arguments, "--json"]
        done = subprocess.run(
            command,
            env={**environment(), **ours},
            capture_output=True,
            cwd=tmp_path,
            timeout=120,
            check=False,
        )
        return done.returncode, json.loads(done.stdout)

    assert mnemo("test") == (0, [{"route": "desk", "result": "sent"}])
    sink.status = 403
    assert mnemo("test", "--route", "desk") == (1, [{"route": "desk", "result": "HTTP 403"}])
    code, (listed,) = mnemo("list")
    assert (code, listed["fingerprint"], listed["owner"]) == (0, alert().fingerprint, "market-data")
    code, (silenced,) = mnemo("silence", listed["fingerprint"], "--why", "known")
    assert (code, bool(silenced["silenced_until"])) == (0, True)


def environment() -> dict[str, str]:
    """What a process gets but settings."""
    return {name: said for name, said in os.environ.items() if not name.startswith(("MNEMO_", "PREFECT_"))}


STEPS = st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.booleans()), min_size=1, max_size=6)


@given(steps=STEPS)
@hypothesis_settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_open_is_what_was_found_last_and_arrives_once_whatever_fails(
    steps, tmp_path_factory, sink, run
):
    store = open_store(Settings(lake=str(tmp_path_factory.mktemp("lake"))))
    sink.received.clear()
    for found, works in [*steps, (set(), True)]:
        sink.status = 200 if works else 503
        alerts = [alert(subject) for subject in found]
        tell_in(store, alerts, checked=["gaps"], routes=[pagerduty(sink)], run=run)
        assert {one["subject"] for one in open_alerts(store)} == found
    for subject in "abc":
        actions = [
            one["event_action"] for one in sink.bodies if one["dedup_key"] == alert(subject).fingerprint
        ]
        could_arrive = any(subject in found and works for found, works in steps)
        assert actions.count("trigger") == could_arrive
        assert (actions[-1:] == ["resolve"]) == any(subject in found for found, _ in steps)


IN_PREFECT = """
import json, os
from deployments.demo import set_up_prefect
set_up_prefect()
from prefect import flow
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from tasks.alert import tell_outcome

sink = os.environ["SINK"]
said = {"title": "{{subject}}", "message": "{{body}}", "token": "{{token}}"}
hook = CustomWebhookNotificationBlock(
    name="hook", url=f"http://{sink}/webhook/{{{{token}}}}", json_data=said, secrets={"token": "s3cr3t"}
)
hook.save("hook")
Secret(value=f"slack+http://{sink}/slack/s3cr3t").save("desk")

@flow(name="nightly", on_failure=[tell_outcome], on_crashed=[tell_outcome], on_completion=[tell_outcome])
def nightly(works: bool) -> int:
    if not works:
        raise RuntimeError("3 of 5 subjects failed")
    return 1

for works in (False, False, True, True):
    nightly(works, return_state=True)
"""
ROUTES = """
- {name: hook, block: custom-webhook/hook}
- {name: desk, block: secret/desk, monitors: [flow]}
- {name: gone, block: slack-webhook/none}
"""


@pytest.mark.slow
def test_blocks_of_prefect_are_told_of_a_flow_that_fails_and_of_one_that_works_again(tmp_path, sink):
    (tmp_path / "alerts.yaml").write_text(ROUTES)
    ours = {
        "MNEMO_HOME": str(tmp_path),
        "MNEMO_LAKE": str(tmp_path / "lake"),
        "MNEMO_ALERTS": str(tmp_path / "alerts.yaml"),
        "PREFECT_LOGGING_LEVEL": "DEBUG",
        "PREFECT_LOGGING_ROOT_LEVEL": "INFO",  # httpx tells addresses on this level
        "SINK": sink.host,
    }
    done = subprocess.run(
        [sys.executable, "-c", IN_PREFECT],
        env={**environment(), **ours},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    hooked = [body for path, body in sink.received if path == "/webhook/s3cr3t"]
    slacked = [body["text"] for path, body in sink.received if path == "/slack/s3cr3t"]
    assert [one["title"].split(" in ")[0] for one in hooked] == ["1 critical", "1 resolved"]
    assert {one["token"] for one in hooked} == {"s3cr3t"}
    assert "3 of 5 subjects failed" in hooked[0]["message"]
    assert [one.split(" in ")[0] for one in slacked] == ["1 critical", "1 resolved"]
    store = open_store(Settings(lake=str(tmp_path / "lake")))
    assert {row["detail"] for row in history(store) if row["route"] == "gone"} >= {"ValueError"}
    assert "s3cr3t" not in done.stdout + done.stderr + repr(history(store))
