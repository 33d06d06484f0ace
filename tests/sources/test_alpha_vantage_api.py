"""Alpha Vantage pages become bars and observations; errors inside good answers are told apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from pydantic import SecretStr

from lakehouse.bronze import Page, pages_frame
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.alpha_vantage_api import FEEDS, KEY_SETTING, parse_daily, parse_macro
from sources.client import Client
from sources.errors import MissingKey, ParseError, Permanent, QuotaExhausted, SourceError, Transient
from sources.twin.recording import Recording, read_folder
from sources.twin.server import Twin, serving

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "../shared/recorded/alphavantage"
KEY = "KX7Q2M9D4TLB80ZC"
QUERY = "https://www.alphavantage.co/query"
RECEIVED_AT = datetime(2026, 5, 17, 17, 12, 41, tzinfo=UTC)
SPRING = Window(datetime(2025, 12, 22, tzinfo=UTC), datetime(2026, 5, 16, tzinfo=UTC))
OHLCV = "timestamp,open,high,low,close,volume"

daily_feed, macro_feed = FEEDS
recordings = list(read_folder(ROOT / "recordings/alphavantage"))


def pages(subject: str, body: bytes, received_at: datetime = RECEIVED_AT) -> pl.DataFrame:
    page = Page(feed="alphavantage_daily", subject=subject, request={}, received_at=received_at, body=body)
    return pages_frame([page], run_id="run", code_version="0")


def body_of(function: str) -> bytes:
    (body,) = (r.body for r in recordings if f"function={function}&" in r.url)
    return body


def client_of(url: str) -> Client:
    settings = Settings(twin_url=url, providers={KEY_SETTING: SecretStr(KEY)}, _env_file=None)
    return Client(settings, attempts=1)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(Twin(recordings)) as url, client_of(url) as client:
        yield client


BARS = ["symbol", "asset_class", "interval", "open_at", "event_at", "known_at"]
FIGURES = ["open", "high", "low", "close", "volume", "adjusted_close", "dividend", "split_factor"]


@pytest.mark.parametrize(
    ("subject", "function", "count", "times", "figures"),
    [
        (
            "IBM",
            "TIME_SERIES_DAILY",
            100,
            ("IBM", "equity", "1d", *[datetime(2026, 5, day, 4, tzinfo=UTC) for day in (15, 16, 16)]),
            ("218.2000", "220.9100", "217.6150", "219.3000", "6154450", None, None, None),
        ),
        (
            "adjusted:IBM",
            "TIME_SERIES_DAILY_ADJUSTED",
            100,
            (
                "IBM",
                "equity",
                "1d",
                *[datetime(2026, 5, day, 4, tzinfo=UTC) for day in (15, 16)],
                RECEIVED_AT,
            ),
            ("218.2", "220.91", "217.615", "219.3", "6154450", "219.3", "0.0000", "1.0"),
        ),
        (
            "fx:EUR/USD",
            "FX_DAILY",
            100,
            ("EUR/USD", "fx", "1d", *[datetime(2026, 5, day, tzinfo=UTC) for day in (15, 16, 16)]),
            ("1.16700", "1.16730", "1.16160", "1.16250", None, None, None, None),
        ),
        (
            "crypto:BTC/EUR",
            "DIGITAL_CURRENCY_DAILY",
            349,
            ("BTC/EUR", "crypto", "1d", *[datetime(2026, 5, day, tzinfo=UTC) for day in (16, 17, 17)]),
            (
                *("68046.85000000", "68144.24000000", "66842.98000000", "67253.01000000", "122.63361384"),
                *(None, None, None),
            ),
        ),
    ],
)
def test_daily_answers_become_closed_bars(
    subject: str, function: str, count: int, times: tuple, figures: tuple
) -> None:
    asked = pages(subject, body_of(function))
    rows = parse_daily(asked).collect()
    assert rows.height == count
    assert rows.select(BARS).row(0) == times
    assert rows.select(FIGURES).row(0) == figures
    assert rows.select("provider", "page_id", "ingested_at").unique().rows() == [
        ("alphavantage", asked["page_id"].item(), RECEIVED_AT)
    ]


def test_the_day_of_new_york_has_23_hours_when_clocks_go_forward() -> None:
    rows = parse_daily(pages("IBM", f"{OHLCV}\n2026-03-08,1,1,1,1,1\n".encode())).collect()
    start, end = datetime(2026, 3, 8, 5, tzinfo=UTC), datetime(2026, 3, 9, 4, tzinfo=UTC)
    assert rows.select("open_at", "event_at").row(0) == (start, end)


@pytest.mark.parametrize(
    ("received_at", "days"),
    [
        (datetime(2026, 5, 16, 3, 59, 59, tzinfo=UTC), [14]),
        (datetime(2026, 5, 16, 4, 0, 0, tzinfo=UTC), [15, 14]),
    ],
)
def test_a_bar_is_left_out_until_its_day_is_over_in_new_york(received_at: datetime, days: list[int]) -> None:
    body = f"{OHLCV}\n2026-05-15,1,1,1,1,1\n2026-05-14,1,1,1,1,1\n".encode()
    rows = parse_daily(pages("IBM", body, received_at)).collect()
    assert rows["open_at"].dt.day().to_list() == days


def test_impossible_and_unreadable_figures_come_out_as_they_were_sent() -> None:
    body = f"{OHLCV}\n2026-05-14,10,9,11,,abc\nyesterday,1,1,1,1,1\n".encode()
    rows = parse_daily(pages("IBM", body)).collect()
    assert rows.select("open", "high", "low", "close", "volume").row(0) == ("10", "9", "11", None, "abc")
    assert rows["open_at"].to_list()[1] is None


MACRO = [
    "series_id",
    "period_start",
    "event_at",
    "known_at",
    "known_at_basis",
    "value",
    "unit",
    "unit_multiplier",
]


@pytest.mark.parametrize(
    ("subject", "count", "released", "value", "unit"),
    [
        ("CPI", 1360, 17, "333.020", "index 1982-1984=100"),
        ("UNEMPLOYMENT", 940, 11, "4.3", "percent"),
        ("FEDERAL_FUNDS_RATE", 862, 4, "3.64", "percent"),
        ("TREASURY_YIELD", 877, 4, "4.32", "percent"),
        ("WTI", 484, 11, "100.32", "dollars per barrel"),
        ("BRENT", 468, 11, "117.29", "dollars per barrel"),
    ],
)
def test_macro_answers_become_observations_known_after_their_usual_lag(
    client: Client, subject: str, count: int, released: int, value: str, unit: str
) -> None:
    (page,) = macro_feed.fetch(client, subject, SPRING)
    rows = macro_feed.parse(pages_frame([page], run_id="run", code_version="0")).collect()
    assert rows.height == count
    april = (date(2026, 4, 1), datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, released, tzinfo=UTC))
    assert rows.select(MACRO).row(0) == (subject, *april, "estimated", value, unit, 0)


def test_a_point_is_a_missing_value() -> None:
    rows = parse_macro(pages("UNEMPLOYMENT", body_of("UNEMPLOYMENT"))).collect()
    assert rows.filter(pl.col("value").is_null())["period_start"].to_list() == [date(2025, 10, 1)]


def test_nothing_is_known_later_than_it_was_received() -> None:
    received_at = datetime(2026, 5, 2, tzinfo=UTC)
    rows = parse_macro(pages("CPI", b"timestamp,value\n2026-04-01,333.020\n", received_at)).collect()
    assert rows["known_at"].item() == received_at


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"Information": "late"}\n', "has columns"),
        (b"<html>\n<p>a,b</p>\n", "not CSV"),
        (b"", "cut off"),
        (f"{OHLCV}\n2026-05-15,218.2000,220".encode(), "cut off"),
        (
            b"timestamp,open (EUR),high (EUR),low (EUR),close (EUR),volume\n",
            "has columns .* expected timestamp,",
        ),
        (f"{OHLCV}\n1,2,3,4,5,6,7\n".encode(), "not CSV"),
    ],
)
def test_what_is_not_the_csv_of_the_function_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=f"alphavantage alphavantage_daily IBM: page -?[0-9]+ .*{reason}"):
        parse_daily(pages("IBM", body))


def test_no_pages_and_no_rows_make_empty_frames_of_the_same_columns() -> None:
    empty = parse_daily(pages("IBM", f"{OHLCV}\n".encode())).collect()
    assert (empty.height, empty.schema["close"]) == (0, pl.String)
    assert parse_daily(pages("IBM", b"").clear()).collect_schema() == empty.schema


def test_windows_line_ends_are_read_as_lines() -> None:
    rows = parse_macro(pages("CPI", b"timestamp,value\r\n2026-04-01,333.020\r\n")).collect()
    assert rows["value"].to_list() == ["333.020"]


DAILY_LIMIT = (
    "We have detected your API key as {key} and our standard API rate limit is 25 requests per day. Please "
    "subscribe to any of the premium plans at https://www.alphavantage.co/premium/ to instantly remove all daily "
    "rate limits."
)
BURST = (
    "Thank you for using Alpha Vantage! Please consider spreading out your free API requests more sparingly (1 "
    "request per second). You may subscribe to any of the premium plans at https://www.alphavantage.co/premium/ "
    "to lift the free key rate limit (25 requests per day) and instantly remove all daily rate limits."
)
OLD_LIMIT = (
    "Thank you for using Alpha Vantage! Our standard API call frequency is 5 calls per minute and 500 calls per "
    "day. Please visit https://www.alphavantage.co/premium/ if you would like to target a higher API call frequency."
)
SAMPLE = (
    "This is a premium endpoint. ***THE SAMPLE DATA SCHEMA BELOW IS ARTIFICIAL AND FOR ILLUSTRATION PURPOSES "
    "ONLY***. To access the actual data, please subscribe to either the 600 requests per minute or the 1200 "
    "requests per minute premium plan"
)
DEMO = "The **demo** API key is for demo purposes only. Please claim your free API key at (https://...)."


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"Information": DAILY_LIMIT.format(key=KEY)}, QuotaExhausted),
        ({"Information": BURST}, Transient),
        ({"Information": "Please query the demo URLs at no more than 2 requests per second."}, Transient),
        ({"Note": OLD_LIMIT}, Transient),
        ({"Information": "Thank you! This is a premium endpoint. You may subscribe to any plan"}, Permanent),
        ({"message": SAMPLE, "data": [{"symbol": "MSFT", "close": "418.16"}]}, Permanent),
        ({"Information": DEMO}, Permanent),
        ({"Error Message": "Invalid API call. Please retry or visit the documentation"}, Permanent),
        ({"Error Message": "the parameter apikey is invalid or missing."}, Permanent),
        ({"Global Quote": {}}, Permanent),
        ({}, Permanent),
    ],
)
def test_errors_inside_good_answers_are_told_apart_and_never_show_the_key(
    body: dict, error: type[SourceError]
) -> None:
    url = f"{QUERY}?function=TIME_SERIES_DAILY&symbol=IBM&datatype=csv"
    answer = Recording(url=url, body=json.dumps(body).encode())
    with serving(Twin([answer])) as twin, client_of(twin) as client, pytest.raises(SourceError) as raised:
        list(daily_feed.fetch(client, "IBM", SPRING))
    assert type(raised.value) is error
    assert KEY not in str(raised.value)
    assert "symbol=IBM" in str(raised.value)


@pytest.mark.skipif(not RECORDED.exists(), reason="the folder of recorded files is not here")
@pytest.mark.parametrize(
    "name", ["options/REALTIME_OPTIONS_e1db0de5", "time_series/REALTIME_BULK_QUOTES_505ed5cc"]
)
def test_made_up_rows_of_premium_functions_are_never_stored(name: str) -> None:
    body = (RECORDED / f"portfoliotree/{name}.json").read_bytes()
    answer = Recording(url=f"{QUERY}?function=CPI&interval=monthly&datatype=csv", body=body)
    with (
        serving(Twin([answer])) as twin,
        client_of(twin) as client,
        pytest.raises(Permanent, match="ARTIFICIAL"),
    ):
        list(macro_feed.fetch(client, "CPI", SPRING))


@pytest.mark.parametrize(
    ("subject", "url"),
    [
        ("IBM", f"{QUERY}?function=TIME_SERIES_DAILY&symbol=IBM&datatype=csv"),
        ("adjusted:IBM", f"{QUERY}?function=TIME_SERIES_DAILY_ADJUSTED&symbol=IBM&datatype=csv"),
        ("crypto:BTC/EUR", f"{QUERY}?function=DIGITAL_CURRENCY_DAILY&symbol=BTC&market=EUR&datatype=csv"),
    ],
)
def test_one_request_is_enough_where_the_newest_rows_reach_the_window(
    client: Client, subject: str, url: str
) -> None:
    (page,) = daily_feed.fetch(client, subject, SPRING)
    assert (page.request["url"], page.window, page.content_type) == (url, None, "application/x-download")


def test_all_rows_are_asked_for_where_the_window_begins_before_the_newest() -> None:
    url = f"{QUERY}?function=TIME_SERIES_DAILY&symbol=IBM&datatype=csv"
    newest = Recording(url=url, body=body_of("TIME_SERIES_DAILY"))
    every = Recording(url=f"{url}&outputsize=full", body=f"{OHLCV}\n1999-11-01,1,1,1,1,1\n".encode())
    wanted = Window(datetime(2025, 12, 21, tzinfo=UTC), SPRING.end)
    with serving(Twin([newest, every])) as twin, client_of(twin) as client:
        found = list(daily_feed.fetch(client, "IBM", wanted))
    assert [(page.sequence, page.body) for page in found] == [(0, newest.body), (1, every.body)]


def test_a_short_answer_is_all_there_is() -> None:
    url = f"{QUERY}?function=TIME_SERIES_DAILY&symbol=NEW&datatype=csv"
    young = Recording(url=url, body=f"{OHLCV}\n2026-05-14,1,1,1,1,1\n".encode())
    with serving(Twin([young])) as twin, client_of(twin) as client:
        assert len(list(daily_feed.fetch(client, "NEW", SPRING))) == 1


def test_without_a_key_nothing_is_asked() -> None:
    with Client(Settings(_env_file=None)) as client, pytest.raises(MissingKey, match=KEY_SETTING):
        list(daily_feed.fetch(client, "IBM", SPRING))


@pytest.mark.parametrize("subject", ["ibm", "fx:EURUSD", "crypto:BTC", "bond:X", "", "IBM&apikey=x"])
def test_a_subject_that_cannot_be_is_refused_unasked(client: Client, subject: str) -> None:
    with pytest.raises(UsageError, match="IBM, adjusted:IBM, fx:EUR/USD, crypto:BTC/EUR"):
        list(daily_feed.fetch(client, subject, SPRING))


def test_an_unknown_macro_series_is_refused_with_the_nearest() -> None:
    with Client(Settings(_env_file=None)) as client, pytest.raises(UsageError, match="UNEMPLOYMENT"):
        list(macro_feed.fetch(client, "UNEMPLOYMNT", SPRING))
