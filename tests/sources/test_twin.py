"""The offline twin over real HTTP, and the file format of its recordings."""

from __future__ import annotations

import gzip
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import SettingsError
from lakehouse.settings import Settings
from sources.client import Client, Host
from sources.errors import Permanent, Transient
from sources.twin.recording import Recording, read_folder, request_of, write_file
from sources.twin.server import Twin, running_twin, serving
from sources.twin.sessions import read_sessions

TRADES = "https://api.kraken.com/0/public/Trades?pair=XBTUSDT&since=1"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    """One client for all tests; it does not ask the environment for proxies."""
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def empty_twin() -> Iterator[str]:
    with serving(Twin([])) as url:
        yield url


def under(twin: str, real: str) -> str:
    """Where the twin serves what is really at `real`."""
    return real.replace("https:/", twin)


LITERAL = [
    Recording(url=f"{TRADES}&case={number}", status=status, headers=headers, body=body)
    for number, (status, headers, body) in enumerate(
        [
            (200, JSON, b'{"error":[],"result":{"XBTUSDT":[],"last":"1"}}'),
            (200, {"content-type": "application/octet-stream"}, b"\xff\xfe\x00 not UTF-8 \x80\r\n"),
            (200, {"content-type": "text/csv; charset=utf-8"}, "Zürich,Kraków\r\n".encode()),
            (200, JSON, b'{"error":[],"result":{"XBTUS'),
            (200, {"content-type": "text/html"}, b"<html><body>We will be right back</body></html>"),
            (200, {}, b""),
            (204, {}, b""),
            (404, JSON, b'{"message":"NotFound"}'),
            (429, {"content-type": "text/plain", "retry-after": "17"}, b"Too Many Requests"),
            (500, {"content-type": "text/html"}, b"<h1>Internal Server Error</h1>"),
            (521, {"content-type": "text/plain", "cf-ray": "8a1-FRA"}, b"error code: 521"),
        ]
    )
]


@pytest.fixture(scope="module")
def literal_twin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("literal")
    write_file(folder / "kraken/trades.jsonl.gz", LITERAL)
    with running_twin(folder) as url:
        yield url


@pytest.mark.parametrize("recorded", LITERAL, ids=lambda recorded: f"{recorded.status}-{recorded.body[:9]!r}")
def test_recorded_bytes_status_and_headers_are_served_as_they_are(
    literal_twin: str, http: httpx.Client, recorded: Recording
) -> None:
    answer = http.get(under(literal_twin, recorded.url))
    assert (answer.status_code, answer.content) == (recorded.status, recorded.body)
    answer.headers.pop("content-length", None)
    assert dict(answer.headers) == recorded.headers


def test_headers_of_the_recorded_connection_are_not_repeated(http: httpx.Client) -> None:
    of_the_wire = {
        "Transfer-Encoding": "chunked",
        "Content-Encoding": "gzip",
        "Content-Length": "3",
        "Connection": "close",
        "Keep-Alive": "timeout=5",
        "Trailer": "expires",
        "Upgrade": "h2c",
    }
    kept = {
        "Content-Type": "application/json",
        "X-MBX-USED-WEIGHT-1M": "2",
        "Date": "Thu, 08 Aug 2024 23:54:15 GMT",
    }
    with serving(Twin([Recording(url=TRADES, body=b'{"whole":true}', headers=of_the_wire | kept)])) as twin:
        answer = http.get(under(twin, TRADES))
    assert answer.content == b'{"whole":true}'
    assert answer.headers == httpx.Headers(kept | {"content-length": "14"})


WRITTEN_DIFFERENTLY = [
    ("https://api.kraken.com/t?a=1&b=2", "https://api.kraken.com/t?b=2&a=1"),
    ("https://api.kraken.com/t?a=1", "https://api.kraken.com/t?a=1&api_key=hush"),
    ("https://api.kraken.com/t", "https://api.kraken.com/t?APIKEY=hush"),
    (
        "https://www.alphavantage.co/query?symbol=IBM",
        "https://www.alphavantage.co/query?apikey=k&symbol=IBM",
    ),
    ("https://x.example/t?id=2&id=1", "https://x.example/t?id=1&id=2"),
    ("https://x.example/t?at=2024-01-01T00%3A00%3A00Z", "https://x.example/t?at=2024-01-01T00:00:00Z"),
    ("https://x.example/t?q=a+b&e=", "https://x.example/t?e=&q=a%20b"),
    ("https://stats.bis.org/data/WS_GLI/Q.USD+EUR.A", "https://stats.bis.org/data/WS_GLI/Q.USD%2BEUR.A"),
    ("https://www.bitstamp.net/api/v2/ohlc/btcusd/", "https://www.bitstamp.net/api/v2/ohlc/btcusd"),
    ("https://API.Kraken.com/u", "https://api.kraken.com/u"),
]


@pytest.fixture(scope="module")
def twin_of_many() -> Iterator[str]:
    recordings = [Recording(url=real, body=real.encode()) for real, _ in WRITTEN_DIFFERENTLY]
    with serving(Twin([*recordings, Recording(url=TRADES, body=b"found")])) as url:
        yield url


@pytest.mark.parametrize(("recorded", "asked"), WRITTEN_DIFFERENTLY)
def test_a_request_is_found_however_it_is_written(
    twin_of_many: str, http: httpx.Client, recorded: str, asked: str
) -> None:
    assert http.get(under(twin_of_many, asked)).text == recorded
    assert request_of("get", recorded) == request_of("GET", asked)


@pytest.mark.parametrize(
    "asked",
    [
        TRADES.replace("since=1", "since=2"),
        TRADES + "&count=1",
        TRADES.replace("&since=1", ""),
        TRADES + "&since=1",
        TRADES.replace("Trades", "trades"),
        TRADES.replace("XBTUSDT", "xbtusdt"),
    ],
)
def test_any_other_request_is_unknown(twin_of_many: str, http: httpx.Client, asked: str) -> None:
    assert http.get(under(twin_of_many, TRADES)).text == "found"
    assert http.get(under(twin_of_many, asked)).json() == {"error": ["EQuery:Unknown asset pair"]}


def test_a_sequence_is_answered_in_file_order_and_the_last_answer_stays(
    tmp_path: Path, http: httpx.Client
) -> None:
    (tmp_path / "1.jsonl").write_text(
        f'{{"url": "{TRADES}", "status": 429, "headers": {{"Retry-After": 2}}, "body": "slow down"}}\n'
        "\n"
        '{"url": "https://api.kraken.com/0/public/Trades?pair=other", "body": "other"}\n'
    )
    (tmp_path / "2.jsonl").write_text(
        f'{{"method": "get", "url": "{TRADES}", "status": "200", "body": "[]"}}\n'
    )
    for _ in range(2):  # each start begins anew
        with running_twin(tmp_path) as twin:
            answers = [http.get(under(twin, TRADES)) for _ in range(4)]
        assert [(a.status_code, a.text) for a in answers] == [
            (429, "slow down"),
            (200, "[]"),
            (200, "[]"),
            (200, "[]"),
        ]
        assert [a.headers.get("retry-after") for a in answers] == ["2", None, None, None]


def test_a_post_is_told_apart_by_its_body(http: httpx.Client) -> None:
    info = "https://api.hyperliquid.xyz/info"
    recordings = [
        Recording(method="post", url=info, request_body='{"type":"meta","dex":""}', body=b"meta"),
        Recording(method="POST", url=info, request_body='{"type":"l2Book","coin":"BTC"}', body=b"book"),
        Recording(method="POST", url="https://clob.polymarket.com/books", body=b"any"),
    ]
    with serving(Twin(recordings)) as twin:
        assert http.post(under(twin, info), json={"coin": "BTC", "type": "l2Book"}).text == "book"
        assert http.post(under(twin, info), content=b'{"dex": "", "type": "meta"}').text == "meta"
        assert http.post(under(twin, info), json={"type": "meta"}).status_code == 422
        assert http.get(under(twin, info)).status_code == 422
        assert http.post(f"{twin}/clob.polymarket.com/books", json=[{"token_id": "1"}]).text == "any"


GAMMA = "https://gamma-api.polymarket.com"
CLOB = "https://clob.polymarket.com"
BAD_SYMBOL = {"code": -1121, "msg": "Invalid symbol."}
COINMETRICS = "https://community-api.coinmetrics.io/v4"


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ("https://api.binance.com/api/v3/klines?symbol=NOPE", 400, BAD_SYMBOL),
        ("https://fapi.binance.com/fapi/v1/klines?symbol=NOPE", 400, BAD_SYMBOL),
        ("https://data-api.binance.vision/api/v3/klines?symbol=NOPE", 400, BAD_SYMBOL),
        ("https://api.binance.us/api/v3/klines?symbol=NOPE", 400, BAD_SYMBOL),
        ("https://api.exchange.coinbase.com/products/NO-PE/candles", 404, {"message": "NotFound"}),
        ("https://api.coinbase.com/api/v3/x", 404, {"errors": [{"id": "not_found", "message": "Not found"}]}),
        ("https://api.kraken.com/0/public/OHLC?pair=NOPE", 200, {"error": ["EQuery:Unknown asset pair"]}),
        ("https://futures.kraken.com/x", 200, {"result": "error", "error": "contractNotFound"}),
        ("https://www.bitstamp.net/api/v2/ohlc/nope/", 404, None),
        ("https://api-pub.bitfinex.com/v2/trades/tNOPE/hist", 500, ["error", 10020, "symbol: invalid"]),
        (
            "https://www.okx.com/api/v5/market/candles?instId=NO-PE",
            200,
            {
                "code": "51001",
                "data": [],
                "msg": "Instrument ID, Instrument ID code, or Spread ID doesn't exist.",
            },
        ),
        (
            "https://api.bybit.com/v5/market/kline?symbol=NOPE",
            200,
            {
                "retCode": 10001,
                "retMsg": "Not supported symbols",
                "result": {},
                "retExtInfo": {},
                "time": 1726147060461,
            },
        ),
        ("https://api.kucoin.com/api/v1/x", 200, {"msg": "Unsupported trading pair.", "code": "400100"}),
        (
            "https://api.gateio.ws/api/v4/spot/trades",
            400,
            {"label": "INVALID_CURRENCY_PAIR", "message": "Invalid currency pair"},
        ),
        ("https://api.gateio.ws/api/v4/futures/usdt/trades", 400, {"label": "CONTRACT_NOT_FOUND"}),
        (
            "https://www.deribit.com/api/v2/public/ticker",
            400,
            {"jsonrpc": "2.0", "error": {"code": 13020, "message": "not_found"}},
        ),
        ("https://api.hyperliquid.xyz/info", 422, None),
        (
            f"{COINMETRICS}/timeseries/asset-metrics?assets=n%22ope",
            400,
            {
                "error": {
                    "type": "bad_parameter",
                    "message": "Bad parameter 'assets'. Value 'n\"ope' is not supported.",
                }
            },
        ),
        (
            f"{COINMETRICS}/timeseries/market-candles?markets=nope",
            400,
            {
                "error": {
                    "type": "bad_parameter",
                    "message": "Bad parameter 'markets'. Market 'nope' is not supported.",
                }
            },
        ),
        (
            "https://api.stlouisfed.org/fred/series?series_id=NOPE",
            400,
            {"error_code": 400, "error_message": "Bad Request.  The series does not exist."},
        ),
        ("https://fred.stlouisfed.org/graph/fredgraph.csv?id=NOPE", 404, None),
        (
            "https://www.alphavantage.co/query?function=TIME_SERIES_DAILY&symbol=NOPE&apikey=k",
            200,
            {
                "Error Message": "Invalid API call. Please retry or visit the documentation "
                "(https://www.alphavantage.co/documentation/) for TIME_SERIES_DAILY."
            },
        ),
        (
            "https://stats.bis.org/api/v2/data/dataflow/BIS/WS_GLI/1.0/NOPE",
            404,
            {"errors": [{"code": 404, "message": "No data for data query against the dataflow"}]},
        ),
        (f"{GAMMA}/markets?slug=nope", 200, []),
        (f"{GAMMA}/events/keyset?slug=nope", 200, {"events": []}),
        (f"{GAMMA}/events/123", 404, {"type": "not found error", "error": "id not found"}),
        (f"{GAMMA}/events/slug/nope", 404, {"type": "not found error", "error": "slug not found"}),
        (f"{CLOB}/book?token_id=0", 404, {"error": "No orderbook exists for the requested token id"}),
        (f"{CLOB}/prices-history?market=0", 200, {"history": []}),
        (f"{CLOB}/markets/0x0", 404, {"error": "market not found"}),
        ("https://data-api.polymarket.com/trades?market=0x0", 200, []),
        ("https://notbinance.com/x", 404, {"error": "the offline twin has no recording of notbinance.com"}),
        ("https://[::1/x", 404, {"error": "the offline twin has no recording of [::1"}),
    ],
)
def test_what_is_not_recorded_is_answered_as_the_provider_answers_for_the_unknown(
    empty_twin: str, http: httpx.Client, asked: str, status: int, said: object
) -> None:
    answer = http.get(under(empty_twin, asked))
    assert answer.status_code == status
    if said is not None:
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.json() == said


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        (
            f"{TRADES}&case=3&api_key=hush".replace("since=1", "since=2"),
            {"reason": "recorded with other parameters", "differs": {"since": "asked 2, recorded 1"}},
        ),
        (
            f"{TRADES}&case=3".replace("since=1", "count=5"),
            {
                "reason": "recorded with other parameters",
                "differs": {"count": "asked 5, recorded without", "since": "asked without, recorded 1"},
            },
        ),
        (
            "https://api.kraken.com/0/public/Trade",
            {"reason": "this path is not recorded", "nearest": ["/0/public/Trades"]},
        ),
        ("https://api.bybit.com/v5/market/kline", {"reason": "this host is not recorded"}),
    ],
)
def test_the_operator_is_told_the_nearest_recorded_request(
    literal_twin: str, http: httpx.Client, asked: str, hint: dict[str, object]
) -> None:
    with structlog.testing.capture_logs() as logs:
        http.get(under(literal_twin, asked))
    assert [{name: entry[name] for name in hint} for entry in logs] == [hint]
    assert logs[0]["log_level"] == "warning"
    assert "hush" not in str(logs)


def test_the_front_page_counts_recordings_and_requests_by_host(http: httpx.Client) -> None:
    recordings = [Recording(url=TRADES, body=b"1"), Recording(url=TRADES, body=b"2")]
    with serving(Twin(recordings)) as twin:
        for real in (TRADES, TRADES, TRADES, f"{TRADES}&x=1", f"{CLOB}/book"):
            http.get(under(twin, real))
        assert http.get(twin).json() == {
            "recordings": 2,
            "served": 3,
            "unmatched": 2,
            "hosts": {
                "api.kraken.com": {"recordings": 2, "served": 3, "unmatched": 1},
                "clob.polymarket.com": {"recordings": 0, "served": 0, "unmatched": 1},
            },
        }


def test_many_clients_at_once_share_one_sequence_without_loss() -> None:
    sequence = [Recording(url=TRADES, body=str(turn).encode()) for turn in range(200)]
    with (
        serving(Twin(sequence)) as twin,
        httpx.Client(trust_env=False) as http,
        ThreadPoolExecutor(16) as pool,
    ):
        bodies = list(pool.map(lambda _: http.get(under(twin, TRADES)).text, range(210)))
    assert Counter(bodies) == Counter([*(str(turn) for turn in range(199)), *["199"] * 11])


def test_the_client_waits_out_a_429_and_reads_the_answer_that_follows() -> None:
    recordings = [
        Recording(url=TRADES, status=429, headers={"retry-after": "0"}, body=b"slow down"),
        Recording(url=TRADES, headers=JSON, body=b'{"error":[]}'),
    ]
    with serving(Twin(recordings)) as twin, Client(Settings(twin_url=twin, _env_file=None)) as client:
        kraken = Host(name="KRAKEN", url="https://api.kraken.com")
        answer = client.get(kraken, "/0/public/Trades", {"since": 1, "pair": "XBTUSDT"})
    assert (answer.status, answer.body, answer.url) == (
        200,
        b'{"error":[]}',
        TRADES.replace("pair=XBTUSDT&since=1", "since=1&pair=XBTUSDT"),
    )


@pytest.mark.parametrize(("status", "error"), [(503, Transient), (404, Permanent)])
def test_recorded_failures_reach_the_client_as_its_errors(status: int, error: type[Exception]) -> None:
    recording = Recording(url="https://api.kraken.com/x", status=status, body=b"no")
    with (
        serving(Twin([recording])) as twin,
        Client(Settings(twin_url=twin, _env_file=None), attempts=1) as client,
        pytest.raises(error, match=f"kraken answered {status} to https://api.kraken.com/x: no"),
    ):
        client.get(Host(name="KRAKEN", url="https://api.kraken.com"), "/x")


def test_leaving_the_block_stops_the_server_and_frees_its_port(http: httpx.Client) -> None:
    threads = threading.active_count()
    with serving(Twin([Recording(url=TRADES, body=b"1")])) as twin:
        assert http.get(under(twin, TRADES)).text == "1"
    assert threading.active_count() == threads
    with pytest.raises(httpx.ConnectError):
        http.get(under(twin, TRADES))
    with serving(Twin([]), httpx.URL(twin).port or 0) as again:
        assert again == twin


def test_only_loopback_is_bound(http: httpx.Client) -> None:
    with serving(Twin([])) as twin:
        assert httpx.URL(twin).host == "127.0.0.1"
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", httpx.URL(twin).port or 0), timeout=1)


@pytest.mark.parametrize("port", [70000, -1])
def test_an_impossible_port_is_named(port: int) -> None:
    with (
        pytest.raises(SettingsError, match=f"cannot listen on port {port} of 127.0.0.1"),
        serving(Twin([]), port),
    ):
        pass


def test_a_port_in_use_is_named() -> None:
    with serving(Twin([])) as twin:
        port = httpx.URL(twin).port or 0
        with (
            pytest.raises(SettingsError, match=f"port {port} of 127.0.0.1: it is in use"),
            serving(Twin([]), port),
        ):
            pass


def test_serving_for_ever_ends_quietly_on_an_interrupt(tmp_path: Path, http: httpx.Client) -> None:
    write_file(tmp_path / "kraken.jsonl.gz", [Recording(url=TRADES, body=b"[]")])
    code = (
        "import sys, pathlib, structlog; from sources.twin.server import serve_forever;"
        "structlog.configure(processors=[structlog.processors.JSONRenderer()]);"
        "serve_forever(pathlib.Path(sys.argv[1]), 0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = httpx.Response(200, text=process.stdout.readline()).json()
        answer = http.get(under(said["url"], TRADES)).text
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert (answer, said["hosts"], errors, process.returncode) == ("[]", ["api.kraken.com"], "", 0)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("{", "unexpected end"),
        ("[]", "it is not an object"),
        ('{"body": ""}', "has no 'url'"),
        (f'{{"url": "{TRADES}"}}', "has no 'body'"),
        (f'{{"url": "{TRADES}", "body": {{}}}}', "body is not a string"),
        (f'{{"url": "{TRADES}", "body_base64": "%"}}', "base64"),
        (f'{{"url": "{TRADES}", "body": "", "headers": []}}', "headers is not an object"),
        (f'{{"url": "{TRADES}", "body": "", "headers": {{"a b": "c"}}}}', "header 'a b' cannot be sent"),
        (f'{{"url": "{TRADES}", "body": "", "headers": {{"a": "c\\nd: e"}}}}', "header 'a' cannot be sent"),
        (f'{{"url": "{TRADES}", "body": "", "status": 99}}', "status 99 is not within 200..599"),
        (f'{{"url": "{TRADES}", "body": "", "status": null}}', "None"),
        (f'{{"url": "{TRADES}", "body": "x", "status": 204}}', "status 204 has no body"),
        ('{"url": "api.kraken.com/x", "body": ""}', "url is not the http"),
        ('{"url": 1, "body": ""}', "url is not a string"),
    ],
)
def test_a_broken_line_is_named_by_file_and_line(tmp_path: Path, line: str, wrong: str) -> None:
    path = tmp_path / "kraken.jsonl"
    path.write_text(f'{{"url": "{TRADES}", "body": ""}}\n{line}\n')
    with pytest.raises(SettingsError, match=wrong) as raised:
        list(read_folder(tmp_path))
    assert str(raised.value).startswith(f"{path}, line 2: not a recording (")


@pytest.mark.parametrize(
    "content",
    [b"not gzip", gzip.compress(b"{}" * 100, mtime=0)[:-9], b""],
    ids=["not gzip", "cut off", "empty"],
)
def test_a_broken_gzip_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kraken.jsonl.gz"
    path.write_bytes(content)
    if not content:
        assert list(read_folder(tmp_path)) == []
        return
    with pytest.raises(SettingsError, match=f"{path}: not a whole gzip file"):
        list(read_folder(tmp_path))


def test_a_folder_without_recordings_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"no recordings .* under {tmp_path}"), running_twin(tmp_path):
        pass


def test_plain_and_gzip_files_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    write_file(tmp_path / "kraken/b.jsonl.gz", [Recording(url=TRADES, body=b"2")])
    (tmp_path / "kraken/a.jsonl").write_text(f'{{"url": "{TRADES}", "body": "1"}}')
    (tmp_path / "kraken/PROVENANCE.md").write_text("where from")
    assert [recording.body for recording in read_folder(tmp_path)] == [b"1", b"2"]


def test_a_secret_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"api\.x\.example/v1 may not hold the secret parameter Api_Key$"):
        write_file(
            tmp_path / "x.jsonl.gz", [Recording(url="https://api.x.example/v1?a=1&Api_Key=hush", body=b"")]
        )
    assert list(tmp_path.iterdir()) == []


def test_the_same_recordings_give_the_same_file(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.jsonl.gz"):
        write_file(tmp_path / name, [Recording(url=TRADES, headers=JSON, body=b"\xff")])
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_every_example_of_the_documentation_is_a_recording(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/recordings.md").read_text(encoding="utf-8")
    examples = re.findall(r"```jsonl\n(.*?)```", text, re.DOTALL)
    for number, example in enumerate(examples):
        kind = "ws.jsonl" if example.startswith('{"event"') else "jsonl"
        (tmp_path / f"{number}.{kind}").write_text(example, encoding="utf-8")
    statuses = [recording.status for recording in read_folder(tmp_path)]
    assert {200, 429, 500} <= set(statuses)
    assert len(read_sessions(tmp_path)) == 1


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
RECORDINGS = st.builds(
    Recording,
    method=st.sampled_from(["GET", "post", "PUT"]),
    url=st.sampled_from([TRADES, f"{GAMMA}/markets?slug=zürich", "https://x.example"]),
    status=st.integers(200, 599).filter(lambda status: status not in {204, 304}),
    headers=st.dictionaries(
        st.from_regex(r"[A-Za-z][-A-Za-z0-9]{0,9}", fullmatch=True), PRINTABLE, max_size=3
    ),
    body=st.one_of(st.binary(max_size=50), TEXT.map(str.encode)),
    received_at=st.none() | st.just("2024-08-08T23:54:15Z"),
    request_body=st.none() | TEXT,
)


@given(recordings=st.lists(RECORDINGS, max_size=5))
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read_back_identically(
    tmp_path_factory: pytest.TempPathFactory, recordings: list[Recording]
) -> None:
    folder = tmp_path_factory.mktemp("recordings")
    write_file(folder / "x.jsonl.gz", recordings)
    assert list(read_folder(folder)) == recordings
