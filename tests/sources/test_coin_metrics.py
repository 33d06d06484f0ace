"""CoinMetrics: paging against a server on loopback and the twin, parsing of documented and recorded values."""

import csv
import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import polars as pl
import pytest
import stamina
from pydantic import SecretStr

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.coverage import Asked
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window, iso, parse_moment
from sources.client import Client
from sources.coin_metrics import FEEDS
from sources.errors import ParseError, Permanent, Transient
from sources.twin.server import running_twin

ROOT = Path(__file__).parents[2]
COMMUNITY_CSV = ROOT / "../shared/recorded/coinmetrics/csv/btc_20191101.csv.gz"
(FEED,) = FEEDS
RECEIVED = datetime(2024, 5, 1, tzinfo=UTC)
KEY = "paid-key-0123456789"


def told(*rows: dict, subject: str) -> pl.DataFrame:
    return parsed(page(json.dumps({"data": rows}).encode(), subject=subject))


def page(body: bytes, *, subject: str) -> Page:
    return Page(feed=FEED.name, subject=subject, request={}, received_at=RECEIVED, body=body)


def parsed(*pages: Page) -> pl.DataFrame:
    return FEED.parse(pages_frame(pages, run_id="r", code_version="v")).collect()


def window(start: str, end: str) -> Window:
    return Window(parse_moment(start), parse_moment(end))


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


# What the rows say


def test_each_metric_is_a_row_known_when_it_was_reviewed_or_else_after_the_usual_lag():
    rows = told(
        {
            "asset": "btc",
            "time": "2020-02-29T00:00:00.000000000Z",
            "PriceUSD": "8582.09029964933",
            "SplyBMXNtv": "283220.10827406",
            "SplyBMXNtv-status": "reviewed",
            "SplyBMXNtv-status-time": "2020-03-01T09:59:13.847251000Z",
        },
        subject="btc:PriceUSD,SplyBMXNtv@1d",
    )
    shared = {
        "asset": "btc",
        "frequency": "1d",
        "event_at": datetime(2020, 2, 29, tzinfo=UTC),
        "ingested_at": RECEIVED,
        "provider": "coinmetrics",
    }
    assert rows.drop("page_id").rows(named=True) == [
        {
            **shared,
            "metric": "PriceUSD",
            "known_at": datetime(2020, 3, 1, 7, tzinfo=UTC),
            "known_at_basis": "estimated",
            "value": "8582.09029964933",
            "status": None,
        },
        {
            **shared,
            "metric": "SplyBMXNtv",
            "known_at": datetime(2020, 3, 1, 9, 59, 13, 847251, tzinfo=UTC),
            "known_at_basis": "published",
            "value": "283220.10827406",
            "status": "reviewed",
        },
    ]


@pytest.mark.parametrize(
    ("metric", "frequency", "lag"),
    [
        ("ReferenceRate", "1s", timedelta(0)),
        ("ReferenceRateEUR", "1m", timedelta(0)),
        ("ReferenceRateUSD", "1h", timedelta(minutes=5)),
        ("ReferenceRateUSD", "1d", timedelta(minutes=5)),
        ("ReferenceRateUSD", "1d-ny-close", timedelta(minutes=5)),
        ("PriceUSD", "1d", timedelta(hours=31)),
        ("AdrActCnt", "1h", timedelta(hours=8)),
        ("PriceUSD", "1b", timedelta(hours=7)),
    ],
)
def test_reference_rates_are_known_at_their_moment_and_interval_metrics_after_their_interval(
    metric, frequency, lag
):
    stamp = "2020-06-18T00:00:00.000000000Z"
    rows = told({"asset": "btc", "time": stamp, metric: "1"}, subject=f"btc:{metric}@{frequency}")
    assert (rows["known_at"] - rows["event_at"]).to_list() == [lag]


def test_null_is_a_row_without_value_and_an_absent_metric_is_no_row():
    rows = told(
        {"asset": "btc", "time": "2009-01-03T00:00:00.000000000Z", "PriceUSD": None, "AdrActCnt": "0"},
        {"asset": "btc", "time": "2009-01-04T00:00:00.000000000Z", "AdrActCnt": "1"},
        subject="btc:PriceUSD,AdrActCnt@1d",
    )
    assert rows.select("metric", "value").rows() == [
        ("PriceUSD", None),
        ("AdrActCnt", "0"),
        ("AdrActCnt", "1"),
    ]


def test_a_reviewed_value_does_not_replace_its_flash_but_is_known_later():
    stamp = {"asset": "btc", "time": "2020-02-29T00:00:00.000000000Z"}
    flash = {"X": "1", "X-status": "flash", "X-status-time": "2020-03-01T01:00:00.000000000Z"}
    reviewed = {"X": "2", "X-status": "reviewed", "X-status-time": "2020-03-02T09:00:00.000000000Z"}
    told_twice = [told({**stamp, **said}, subject="btc:X@1d") for said in (flash, reviewed)]
    assert [one.select("known_at", "value", "status").row(0) for one in told_twice] == [
        (datetime(2020, 3, 1, 1, tzinfo=UTC), "1", "flash"),
        (datetime(2020, 3, 2, 9, tzinfo=UTC), "2", "reviewed"),
    ]


def test_of_two_blocks_with_one_stamp_both_come_out_and_the_page_tells_them_apart():
    block = {"asset": "eth", "time": "2020-06-18T10:37:23.000000000Z"}
    rows = told(
        {**block, "block_hash": "00a", "height": "1", "X": "374"},
        {**block, "block_hash": "00b", "height": "1", "X": "325"},
        subject="eth:X@1b",
    )
    assert rows["value"].to_list() == ["374", "325"]


def test_nanoseconds_are_cut_to_microseconds():
    rows = told({"asset": "btc", "time": "2020-06-18T11:36:09.123456789Z", "X": "1"}, subject="btc:X@1s")
    assert rows["event_at"].to_list() == [datetime(2020, 6, 18, 11, 36, 9, 123456, tzinfo=UTC)]


def test_numbers_keep_their_digits_even_without_quotes():
    body = b'{"data":[{"asset":"btc","time":"2020-06-18T00:00:00Z","X":0.10000000000000000001}]}'
    assert parsed(page(body, subject="btc:X@1d"))["value"].to_list() == ["0.10000000000000000001"]


def test_rows_that_cannot_be_read_are_left_to_the_gate():
    rows = told(
        {"asset": "btc", "time": "yesterday", "X": "1"},
        {"asset": "btc", "time": "2020-06-18T00:00:00Z", "X": "n/a", "X-status": "odd"},
        subject="btc:X@1d",
    )
    judged = conform(FEED.table, rows.lazy()).collect()
    assert [sorted(reasons) for reasons in judged["reasons"]] == [
        ["event_at_missing", "known_at_missing"],
        ["status_unknown", "value_not_a_number"],
    ]


def test_no_pages_and_empty_answers_give_no_rows_that_still_fit_the_table():
    assert conform(FEED.table, parsed().lazy()).collect().is_empty()
    assert told(subject="btc:X@1d").is_empty()


@pytest.mark.parametrize(
    "body",
    [
        b'{"data":[{"asset"',
        b"<html>",
        b'{"error":{"type":"x","message":"y"}}',
        b'{"data":{}}',
        b'{"data":[1]}',
        b"[]",
    ],
)
def test_a_page_that_is_no_answer_is_named(body):
    bad = page(body, subject="btc:X@1d")
    with pytest.raises(ParseError, match=rf"feed {FEED.name}, btc:X@1d, page {bad.page_id}: .*data"):
        parsed(bad)


@pytest.mark.parametrize("name", ["asset", "time", "X"])
@pytest.mark.parametrize("odd", [["1"], {"v": "1"}, [[]]])
def test_a_field_that_is_no_text_is_named(name, odd):
    with pytest.raises(ParseError, match=rf"btc:X@1d, page -?\d+: {name} is a"):
        told({"asset": "btc", "time": "2020-06-18T00:00:00Z", "X": "1", name: odd}, subject="btc:X@1d")


@pytest.mark.parametrize("name", ["asset", "time"])
def test_a_row_without_what_every_row_has_is_refused(name):
    said = {"asset": "btc", "time": "2020-06-18T00:00:00Z", "X": "1"}
    del said[name]
    with pytest.raises(ParseError, match=rf"btc:X@1d, page -?\d+: a row without {name}"):
        told(said, subject="btc:X@1d")


# How it is asked for


def whole(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response_only(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@contextmanager
def client_at(answer, *, key: str = "", send=whole) -> Iterator[tuple[Client, list[dict[str, str]]]]:
    """A client whose CoinMetrics is `answer(parameters) -> (status, body)`, and what it was asked."""
    asked: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            asked.append(dict(parse_qsl(parts.query)))
            send(self, *answer(asked[-1]))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        providers = {"MNEMO_COINMETRICS_URL": SecretStr(f"http://127.0.0.1:{http.server_port}")}
        if key:
            providers["MNEMO_COINMETRICS_API_KEY"] = SecretStr(key)
        try:
            with Client(Settings(_env_file=None, providers=providers)) as client:
                yield client, asked
        finally:
            http.shutdown()
            thread.join()


def paged(rows: list[dict], *, size: int):
    """Answers as the provider pages: the next address repeats the parameters, the key and adds a token."""

    def answer(asked):
        start = int(asked.get("next_page_token", "0.").split(".")[1] or 0)
        body = {"data": rows[start : start + size]}
        if start + size < len(rows):
            token = f"0.{start + size}"
            query = urlencode({**asked, "next_page_token": token})
            body |= {"next_page_token": token, "next_page_url": f"https://api.coinmetrics.io/v4/x?{query}"}
        return 200, json.dumps(body).encode()

    return answer


SECONDS = [
    {"asset": "btc", "time": f"2020-06-18T11:36:{n:02}.000000000Z", "ReferenceRate": f"94{n:02}.1"}
    for n in range(7)
]
MINUTE = window("2020-06-18T11:36:00", "2020-06-18T11:37:00")


@pytest.mark.parametrize(("key", "host"), [("", "community-api.coinmetrics.io"), (KEY, "api.coinmetrics.io")])
def test_next_pages_are_followed_to_the_end_and_the_key_is_kept_nowhere(key, host):
    with client_at(paged(SECONDS, size=3), key=key) as (client, asked):
        pages = list(FEED.fetch(client, "btc:ReferenceRate@1s", MINUTE))
    assert parsed(*pages)["value"].to_list() == [row["ReferenceRate"] for row in SECONDS]
    assert [params.get("next_page_token") for params in asked] == [None, "0.3", "0.6"]
    assert [params.get("api_key", "") for params in asked] == [key] * 3
    assert {urlsplit(page.request["url"]).netloc for page in pages} == {host}
    assert KEY not in str(pages)


def test_the_first_page_asks_for_the_window_oldest_first():
    with client_at(paged([], size=3)) as (client, asked):
        list(FEED.fetch(client, "btc:PriceUSD,AdrActCnt@1d", window("2020-02-29", "2020-03-02T00:00:00.5")))
    assert asked == [
        {
            "assets": "btc",
            "metrics": "PriceUSD,AdrActCnt",
            "frequency": "1d",
            "start_time": "2020-02-29T00:00:00",
            "end_time": "2020-03-02T00:00:00.500000",
            "end_inclusive": "false",
            "paging_from": "start",
            "page_size": "10000",
        }
    ]


def test_a_page_that_leads_back_to_itself_does_not_go_on_for_ever():
    def answer(asked):
        return 200, json.dumps(
            {"data": [], "next_page_url": f"https://api.coinmetrics.io/v4/x?{urlencode(asked)}"}
        ).encode()

    with client_at(answer) as (client, _), pytest.raises(Transient, match="page 0 names itself"):
        list(FEED.fetch(client, "btc:ReferenceRate@1s", MINUTE))


def test_pages_that_lead_back_in_time_are_not_taken_for_a_whole():
    def answer(asked):
        rows = SECONDS[:3] if "next_page_token" in asked else SECONDS[3:]
        body = {"data": rows}
        if "next_page_token" not in asked:
            query = urlencode({**asked, "next_page_token": "1"})
            body["next_page_url"] = f"https://api.coinmetrics.io/v4/x?{query}"
        return 200, json.dumps(body).encode()

    with client_at(answer) as (client, _), pytest.raises(Transient, match="page 1 does not follow"):
        list(FEED.fetch(client, "btc:ReferenceRate@1s", MINUTE))


HALF = json.dumps({"data": SECONDS}).encode()[:-90]


def promised_longer(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response_only(status)
    handler.send_header("Content-Length", str(len(body) + 90))
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True


def without_last_chunk(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.protocol_version = "HTTP/1.1"
    handler.send_response_only(status)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n%s\r\n" % (len(body), body))
    handler.close_connection = True


def until_closed(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response_only(status)
    handler.end_headers()
    handler.wfile.write(body)
    handler.close_connection = True


@pytest.mark.parametrize("send", [promised_longer, without_last_chunk, until_closed, whole])
def test_an_answer_that_breaks_off_is_tried_again_and_never_parsed_as_whole(send):
    with client_at(lambda _: (200, HALF), send=send) as (client, asked), pytest.raises(Transient) as raised:
        list(FEED.fetch(client, "btc:ReferenceRate@1s", MINUTE))
    assert len(asked) == 2
    for kept in raised.value.pages:
        with pytest.raises(ParseError, match=str(kept.page_id)):
            parsed(kept)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_host_is_asked_again(status):
    answers = iter([(status, b"later"), (200, b'{"data":[]}')])
    with client_at(lambda _: next(answers)) as (client, _):
        assert len(list(FEED.fetch(client, "btc:X@1d", MINUTE))) == 1


def test_the_community_host_is_asked_ten_times_in_six_seconds_at_most():
    keyless = Settings(_env_file=None)
    paid = Settings(_env_file=None, providers={"MNEMO_COINMETRICS_API_KEY": SecretStr(KEY)})
    assert FEED.quota(keyless, "btc:X@1d").pace_s * 10 >= 6
    assert FEED.quota(keyless, "btc:X@1d").host == "community-api.coinmetrics.io"
    assert FEED.quota(paid, "btc:X@1d").host == "api.coinmetrics.io"
    assert FEED.quota(paid, "btc:X@1d").pace_s < 0.01


def error(kind: str, message: str) -> bytes:
    return json.dumps({"error": {"type": kind, "message": message}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "raised", "says"),
    [
        (
            403,
            error("forbidden", "Requested metric 'X' is not available."),
            Permanent,
            "forbidden: .*MNEMO_COINMETRICS_API_KEY",
        ),
        (
            401,
            error("wrong_credentials", "Supplied credentials are not valid."),
            Permanent,
            "needs a paid key in the setting MNEMO_COINMETRICS_API_KEY; keys: https://",
        ),
        (
            400,
            error("bad_parameter", "Bad parameter 'metrics'."),
            Permanent,
            r"bad_parameter: Bad parameter 'metrics'\.$",
        ),
        (429, b"", Transient, "coinmetrics answered 429"),
        (200, b"<html>down</html>", Transient, "without a list data"),
        (200, b'{"data": 1}', Transient, "without a list data"),
    ],
)
def test_refusals_say_what_the_provider_means(status, body, raised, says):
    with client_at(lambda _: (status, body)) as (client, _), pytest.raises(raised, match=says):
        list(FEED.fetch(client, "btc:X@1d", MINUTE))


def test_a_paid_key_that_does_not_reach_a_metric_is_what_the_refusal_names():
    body = error("forbidden", "Requested metric 'X' is not available with supplied credentials.")
    with (
        client_at(lambda _: (403, body), key=KEY) as (client, _),
        pytest.raises(Permanent, match="the key in MNEMO_COINMETRICS_API_KEY does not reach it") as raised,
    ):
        list(FEED.fetch(client, "btc:X@1d", MINUTE))
    assert KEY not in str(raised.value)


@pytest.mark.parametrize(
    "subject", ["btc", "btc:@1d", "btc:PriceUSD", "btc:PriceUSD@2d", "BTC/USD:PriceUSD@1d", "btc:a,@1d"]
)
def test_a_subject_that_cannot_be_is_refused(subject):
    with (
        Client(Settings(_env_file=None)) as client,
        pytest.raises(UsageError, match="coinmetrics_asset_metrics"),
    ):
        list(FEED.fetch(client, subject, MINUTE))


# What an answer proves


def proven(subject: str, rows: dict[str, list[int]], at: datetime) -> list[tuple[str, str, str]]:
    """Claims on three days from rows that say which days a metric has."""
    told = [(datetime(2024, 1, day, tzinfo=UTC), metric) for metric, days in rows.items() for day in days]
    schema = {"event_at": pl.Datetime("us", "UTC"), "metric": pl.String}
    frame = pl.DataFrame(told, schema=schema, orient="row")
    claims = FEED.proof(
        Asked(subject=subject, window=window("2024-01-01", "2024-01-04"), at=at), pl.DataFrame(), frame
    )
    return [(iso(one.window.start)[8:16], iso(one.window.end)[8:16], one.status) for one in claims]


BOTH = "btc:PriceUSD,AdrActCnt@1d"


@pytest.mark.parametrize(
    ("rows", "claims"),
    [
        ({"PriceUSD": [1, 2, 3], "AdrActCnt": [1, 2, 3]}, [("01T00:00", "04T00:00", "complete")]),
        (
            {"PriceUSD": [1, 2, 3], "AdrActCnt": [2, 3]},
            [("01T00:00", "02T00:00", "degraded"), ("02T00:00", "04T00:00", "complete")],
        ),
        (
            {"PriceUSD": [1, 3], "AdrActCnt": [1, 3]},
            [
                ("01T00:00", "02T00:00", "complete"),
                ("02T00:00", "03T00:00", "degraded"),
                ("03T00:00", "04T00:00", "complete"),
            ],
        ),
        ({"PriceUSD": [1, 2, 3]}, [("01T00:00", "04T00:00", "degraded")]),
        ({}, [("01T00:00", "04T00:00", "degraded")]),
    ],
)
def test_stamps_are_counted_and_where_a_metric_has_none_the_stretch_is_not_whole(rows, claims):
    assert proven(BOTH, rows, RECEIVED) == claims


@pytest.mark.parametrize(
    ("subject", "rows", "until"),
    [
        (BOTH, {"PriceUSD": [1, 2], "AdrActCnt": [1, 2]}, "03T00:00"),
        ("btc:ReferenceRateUSD@1d", {"ReferenceRateUSD": [1, 2, 3]}, "04T00:00"),
    ],
)
def test_a_day_is_not_missed_before_it_is_usually_published(subject, rows, until):
    at = datetime(2024, 1, 4, 1, tzinfo=UTC)
    assert proven(subject, rows, at) == [("01T00:00", until, "complete")]


# Recorded answers


DEMO = {
    "btc:PriceUSD,SplyBMXNtv@1d": (window("2020-02-29", "2020-03-02"), 4),
    "btc:ReferenceRate@1s": (window("2020-06-18T11:36:09", "2020-06-18T11:36:11"), 2),
    "btc:FlowTfrToExCnt,PriceUSD@1b": (window("2020-06-18T10:30:00", "2020-06-18T11:10:00"), 4),
}


@pytest.mark.parametrize("subject", DEMO)
def test_the_demo_gives_clean_rows_over_the_twin(subject):
    asked, rows = DEMO[subject]
    with (
        running_twin(ROOT / "recordings" / "coinmetrics") as url,
        Client(Settings(_env_file=None, twin_url=url)) as client,
    ):
        pages = list(FEED.fetch(client, subject, asked))
    judged = conform(FEED.table, parsed(*pages).lazy()).collect()
    assert len(judged) == rows
    assert judged["reasons"].list.len().sum() == 0


def test_a_metric_that_is_not_for_us_is_refused_by_the_twin_as_by_the_provider():
    with (
        running_twin(ROOT / "recordings" / "coinmetrics") as url,
        Client(Settings(_env_file=None, twin_url=url)) as client,
        pytest.raises(Permanent, match="forbidden: Requested metric 'SplyBMXNtv'"),
    ):
        list(FEED.fetch(client, "btc:SplyBMXNtv@1d", window("2020-02-29", "2020-03-02")))


@pytest.mark.skipif(not COMMUNITY_CSV.exists(), reason="needs the community CSV in ../shared/recorded")
def test_ten_years_of_community_data_come_through_paging_whole():
    with gzip.open(COMMUNITY_CSV, "rt") as file:
        days = list(csv.DictReader(file))
    rows = [
        {
            "asset": "btc",
            "time": f"{day['date']}T00:00:00.000000000Z",
            "PriceUSD": day["PriceUSD"] or None,
            "AdrActCnt": day["AdrActCnt"] or None,
        }
        for day in days
    ]
    with client_at(paged(rows, size=1000)) as (client, asked):
        pages = list(FEED.fetch(client, "btc:PriceUSD,AdrActCnt@1d", window("2009-01-03", "2019-11-02")))
    judged = conform(FEED.table, parsed(*pages).lazy()).collect()
    prices, addresses = (judged.filter(metric=metric) for metric in ("PriceUSD", "AdrActCnt"))
    assert len(asked) == 4
    assert len(prices) == len(addresses) == len(days) == 3955
    assert judged["reasons"].list.len().sum() == 0
    assert prices.drop_nulls("value")["event_at"].min() == datetime(2010, 7, 18, tzinfo=UTC)
    assert addresses.sort("event_at")["value"].to_list()[-2:] == [721957.0, None]
    assert prices.sort("event_at")["value"].to_list()[-1] == 9251.38129345412


@pytest.mark.parametrize(
    "body", [b"<html>maintenance</html>", b'{"data":[{"asset"', b"\xff\xfe\x00", b'{"data":{}}']
)
def test_what_came_in_place_of_data_is_kept_as_a_page_that_cannot_be_parsed(body):
    span = window("2020-06-18", "2020-06-19")
    with client_at(lambda _: (200, body)) as (client, _), pytest.raises(Transient) as raised:
        list(FEED.fetch(client, "btc:X@1d", span))
    (kept,) = raised.value.pages
    assert (kept.body, kept.http_status, kept.subject, kept.window) == (body, 200, "btc:X@1d", span)
    with pytest.raises(ParseError, match=str(kept.page_id)):
        parsed(kept)
