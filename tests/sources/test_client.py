"""The client against a real server on loopback: what is retried, what is raised, what never shows a key."""

import logging
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import stamina
import structlog
from pydantic import SecretStr

from lakehouse.settings import Settings
from sources.client import Answer, Client, Host, retry_after_s
from sources.errors import MissingKey, Permanent, QuotaExhausted, Transient
from sources.quota import a_day
from sources.quota_ledger import LONGEST_WAIT_S, QuotaLedger

NOW = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
KEY = "s3cr3t/key+of=forty&characters"
HOST = Host(name="FRED", url="https://api.stlouisfed.org/fred", min_interval_s=60.0)


@dataclass
class Server:
    """Answers with `answers` in their order, the last one again and again; remembers what it was asked."""

    url: str = ""
    answers: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.answers.append((status, {n.replace("_", "-"): value for n, value in headers.items()}, body))


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append(self.path)
            status, headers, body = state.answers[min(len(state.asked), len(state.answers)) - 1]
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        http.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Retries happen at once; how long the wait would be is told by `retry_after_s` and the errors."""
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


@contextmanager
def client_of(server: Server, **changes) -> Iterator[Client]:
    providers = {"MNEMO_FRED_URL": SecretStr(server.url), "MNEMO_FRED_API_KEY": SecretStr(KEY)}
    with Client(Settings(_env_file=None, providers=providers), now=lambda: NOW, **changes) as client:
        yield client


def shown(error: BaseException) -> str:
    """Everything that a log of the error would show."""
    return "".join(traceback.format_exception(error)) + repr(error)


def test_an_answer_keeps_the_exact_bytes_and_the_providers_real_address(server):
    server.say(200, b'{"a": 1.10}\r\n', Content_Type="text/json; charset=UTF-8")
    with client_of(server) as client:
        answer = client.get(HOST, "/series", {"series_id": "A B"}, secrets={"api_key": KEY})
    assert answer == Answer(
        method="GET",
        url="https://api.stlouisfed.org/fred/series?series_id=A+B",
        status=200,
        headers=answer.headers,
        body=b'{"a": 1.10}\r\n',
        received_at=NOW,
    )
    assert server.asked == ["/series?series_id=A+B&api_key=s3cr3t%2Fkey%2Bof%3Dforty%26characters"]
    page = answer.page(feed="f", subject="s", window=None, sequence=3, kind="series")
    assert page.request == {"method": "GET", "url": answer.url, "kind": "series"}
    assert (page.http_status, page.content_type, page.sequence) == (200, "text/json; charset=UTF-8", 3)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again_until_it_passes(server, status):
    server.say(status, b"later", Retry_After="0")
    server.say(status, b"later")
    server.say(200, b"now")
    with client_of(server) as client:
        assert client.get(HOST, "/x").body == b"now"
    assert len(server.asked) == 3


def test_a_lasting_failure_is_transient_after_the_last_attempt(server):
    server.say(500, b"<html>down</html>")
    with client_of(server) as client, pytest.raises(Transient) as raised:
        client.get(HOST, "/x", {"a": 1})
    assert str(raised.value) == (
        "fred answered 500 to https://api.stlouisfed.org/fred/x?a=1: <html>down</html>"
    )
    assert len(server.asked) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 451])
def test_a_refusal_is_permanent_at_once(server, status):
    server.say(status, b"no such series")
    with client_of(server) as client, pytest.raises(Permanent, match=rf"fred answered {status} .*no such"):
        client.get(HOST, "/x")
    assert len(server.asked) == 1


def test_the_wait_that_the_provider_asks_for_is_kept_in_the_error(server):
    server.say(429, Retry_After="7")
    with client_of(server) as client, pytest.raises(Transient) as raised:
        client.get(HOST, "/x")
    assert raised.value.retry_after_s == 7.0


def test_the_asked_wait_decides_when_the_next_attempt_is_made(server):
    waits = []
    server.say(429, Retry_After="0")
    server.say(200)
    stamina.instrumentation.set_on_retry_hooks([lambda details: waits.append(details.wait_for)])
    try:
        stamina.set_testing(False)
        with client_of(server) as client:
            client.get(HOST, "/x")
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)
    assert waits == [0.0]


def test_a_wait_too_long_to_sit_through_is_left_to_the_caller(server):
    server.say(429, Retry_After=str(LONGEST_WAIT_S + 1))
    with client_of(server) as client, pytest.raises(Transient) as raised:
        client.get(HOST, "/x")
    assert raised.value.retry_after_s == LONGEST_WAIT_S + 1
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120.0),
        ("-3", 0.0),
        ("Wed, 01 May 2024 12:00:30 GMT", 30.0),
        ("Wed, 01 May 2024 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after_is_read_as_a_number_or_a_date(said, seconds):
    assert retry_after_s({"retry-after": said}, now=NOW) == seconds


def test_a_server_that_says_nothing_is_transient_and_named_with_its_setting():
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as silent:
        server = Server(url=f"http://127.0.0.1:{silent.server_port}")
        with (
            client_of(server, attempts=1, timeout_s=0.05) as client,
            pytest.raises(Transient, match=r"fred does not answer at .*MNEMO_FRED_URL.*ReadTimeout"),
        ):
            client.get(HOST, "/x")


@pytest.mark.parametrize(
    ("address", "shown_as"),
    [
        ("http://user:hunter2@127.0.0.1:1/base", "at http://127.0.0.1:1/base (setting"),
        ("http://user:hun/ter2@127.0.0.1:1", "at http://127.0.0.1:1 (setting"),
        ("http://user:h#unter2@127.0.0.1:1", "(setting"),
    ],
)
def test_a_login_in_an_address_is_not_shown(address, shown_as):
    with client_of(Server(url=address)) as client, pytest.raises(Transient) as raised:
        client.get(HOST, "/x")
    text = shown(raised.value)
    assert shown_as in text
    assert not [part for part in ("user", "hun", "ter2") if part in str(raised.value)]


def test_what_an_explanation_refuses_is_kept_only_after_the_last_attempt(server):
    def explain(answer):
        if answer.body != b"good":
            raise Transient("no data")

    server.say(200, b"bad")
    server.say(200, b"worse")

    def page(answer):
        return answer.page(feed="f", subject="s", window=None, sequence=0)

    with client_of(server) as client, pytest.raises(Transient) as raised:
        client.get(HOST, "/x", explain=explain, keep=page)
    assert [kept.body for kept in raised.value.pages] == [b"worse"]
    assert "worse" not in str(raised.value)


def test_a_refused_connection_is_transient():
    with (
        client_of(Server(url="http://127.0.0.1:1")) as client,
        pytest.raises(Transient, match=r"http://127\.0\.0\.1:1 \(setting MNEMO_FRED_URL\)"),
    ):
        client.get(HOST, "/x")


def test_half_a_body_is_not_an_answer(server):
    server.say(200, b'{"half":', Content_Length="100", Connection="close")
    with client_of(server, timeout_s=0.5) as client, pytest.raises(Transient, match="fred does not answer"):
        client.get(HOST, "/x")


def test_errors_hidden_in_a_good_answer_are_raised_by_the_feeds_own_explanation(server):
    def explain(answer):
        if b"limit" in answer.body:
            raise QuotaExhausted("25 a day")

    server.say(200, b"limit")
    with client_of(server) as client, pytest.raises(QuotaExhausted):
        client.get(HOST, "/x", explain=explain)


def test_a_feed_puts_a_refusal_into_words(server):
    server.say(400, b'{"error_message": "no key"}')
    with (
        client_of(server) as client,
        pytest.raises(Permanent, match=r"fred answered 400 to \S+: set the key$"),
    ):
        client.get(HOST, "/x", refusal=lambda _: "set the key")


def test_other_calls_are_retried_by_the_same_rules():
    errors = [Transient("a"), Transient("b", retry_after_s=1.0)]

    def call():
        if errors:
            raise errors.pop()
        return "done"

    with Client(Settings(_env_file=None)) as client:
        assert client.retry(call) == "done"


ECHOES = {
    "body of an answer": (200, b'{"Information": "your API key as %s is fine"}', {}),
    "body of a refusal": (403, b'{"Information": "your API key as %s is not"}', {}),
    "body of a failure": (500, b"key %s", {}),
    "quoted in the body": (
        200,
        b"next: https://x/?api_key=s3cr3t%%2Fkey%%2Bof%%3Dforty%%26characters&p=2",
        {},
    ),
    "header": (200, b"", {"Link": f"<https://x/?k={KEY}>"}),
}


@pytest.mark.parametrize("place", ECHOES)
def test_a_key_that_the_provider_repeats_reaches_nobody(server, place, caplog):
    status, body, headers = ECHOES[place]
    server.say(status, body % KEY.encode() if b"%s" in body else body.replace(b"%%", b"%"), **headers)
    caplog.set_level(logging.DEBUG)
    with client_of(server) as client, structlog.testing.capture_logs() as events:
        try:
            seen = repr(client.get(HOST, "/x", {"echo": KEY}, secrets={"api_key": KEY}))
        except (Permanent, Transient) as error:
            seen = shown(error)
    assert "REDACTED" in seen
    everything = f"{seen} {events} {caplog.text} {client!r}"
    assert KEY not in everything
    assert "s3cr3t" not in everything


def test_a_key_is_not_shown_when_nobody_answers(caplog):
    caplog.set_level(logging.DEBUG)
    with client_of(Server(url="http://127.0.0.1:1")) as client, pytest.raises(Transient) as raised:
        client.get(HOST, "/x", secrets={"api_key": KEY})
    assert "s3cr3t" not in shown(raised.value) + caplog.text


def test_a_short_key_is_not_cut_out_of_other_words(server):
    server.say(200, b"the demo key in a democracy: apikey=demo&x")
    with client_of(server) as client:
        answer = client.get(HOST, "/x", secrets={"apikey": "demo"})
    assert answer.body == b"the REDACTED key in a democracy: apikey=REDACTED&x"


def test_a_missing_key_is_named_with_its_setting_and_where_to_get_one():
    with (
        Client(Settings(_env_file=None)) as client,
        pytest.raises(MissingKey, match=r"feed f needs MNEMO_FRED_API_KEY, .* get a key at https://keys"),
    ):
        client.key("MNEMO_FRED_API_KEY", feed="f", url="https://keys")


def test_the_offline_twin_stands_in_for_every_provider_and_needs_no_key(server):
    server.say(200)
    with Client(Settings(_env_file=None, twin_url=server.url)) as client:
        key = client.key("MNEMO_FRED_API_KEY", feed="f", url="https://keys")
        answer = client.get(HOST, "/series", secrets={"api_key": key})
    assert server.asked == [f"/api.stlouisfed.org/fred/series?api_key={key}"]
    assert answer.url == "https://api.stlouisfed.org/fred/series"


def test_the_pace_of_a_provider_is_not_kept_at_a_users_own_server(server):
    server.say(200)
    with client_of(server) as client:
        client.get(HOST, "/x")
        client.get(HOST, "/x")
    assert len(server.asked) == 2


def everywhere(server: Server, tmp_path: Path, slept: list[float]) -> Client:
    """A client that keeps limits also here; who waits is told in `slept`."""
    providers = {"MNEMO_FRED_URL": SecretStr(server.url), "MNEMO_FRED_API_KEY": SecretStr(KEY)}
    settings = Settings(_env_file=None, home=tmp_path, providers=providers, limits="everywhere")
    clock = lambda: NOW.timestamp() + sum(slept)  # noqa: E731
    return Client(settings, ledger=QuotaLedger(tmp_path, clock=clock, sleep=slept.append), now=lambda: NOW)


def test_the_pace_is_kept_everywhere_where_the_settings_say_so(server, tmp_path):
    server.say(200)
    slept: list[float] = []
    with everywhere(server, tmp_path, slept) as client:
        client.get(HOST, "/x")
        client.get(HOST, "/x")
    assert [round(seconds, 3) for seconds in slept] == [63.0]


def test_a_wait_that_one_client_is_asked_for_holds_for_the_next(server, tmp_path):
    server.say(429, Retry_After="100")
    server.say(200)
    slept: list[float] = []
    stamina.set_testing(True, attempts=1)
    with everywhere(server, tmp_path, slept) as client, pytest.raises(Transient):
        client.get(HOST, "/x")
    with everywhere(server, tmp_path, slept) as other:
        other.get(HOST, "/x")
    assert [round(seconds, 3) for seconds in slept] == [100.0]


def test_a_budget_that_the_provider_calls_spent_is_spent_for_all(server, tmp_path):
    def explain(_):
        raise QuotaExhausted("25 a day")

    server.say(200, b"limit")
    host = Host(name="FRED", url="https://api.stlouisfed.org", limits=a_day(25))
    with everywhere(server, tmp_path, []) as client:
        with pytest.raises(QuotaExhausted) as raised:
            client.get(host, "/x", explain=explain)
        assert raised.value.renewed_at == datetime(2024, 5, 2, tzinfo=UTC)
        assert client.requests_left(host.quota(client.settings)) == 0
        with pytest.raises(QuotaExhausted, match="renewed at 2024-05-02T00:00:00Z"):
            client.get(host, "/x")
    assert len(server.asked) == 1


def test_limits_that_others_keep_are_waited_for_first(server, tmp_path):
    server.say(200)
    waited = []
    with everywhere(server, tmp_path, []) as client:
        client.also_wait = lambda quota, units: waited.append((quota.host, units))
        client.get(HOST, "/x")
    assert waited == [("api.stlouisfed.org", 1.0)]


def test_an_answer_that_was_made_up_says_so_in_its_page(server):
    server.say(200, b"[]", x_mnemo_synthetic="1")
    server.say(200, b"[]")
    with client_of(server) as client:
        pages = [
            client.get(HOST, "/x").page(feed="f", subject="s", window=None, sequence=0) for _ in range(2)
        ]
    assert [page.request.get("synthetic") for page in pages] == [True, None]
