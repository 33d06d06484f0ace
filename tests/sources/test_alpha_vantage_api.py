"""Alpha Vantage pages become bars and observations; errors inside good answers are told apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from pydantic import SecretStr

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.coverage import Asked
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window, iso
from sources.alpha_vantage_answers import KEY_SETTING
from sources.alpha_vantage_api import FEEDS
from sources.alpha_vantage_macro import FEEDS as MACRO_FEEDS
from sources.client import Client
from sources.errors import MissingKey, ParseError, Permanent, QuotaExhausted, SourceError, Transient
from sources.feed import Feed
from sources.twin.recording import Recording, read_folder
from sources.twin.server import Twin, serving

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "../shared/recorded/alphavantage"
KEY = "KX7Q2M9D4TLB80ZC"
QUERY = "https://www.alphavantage.co/query"
RECEIVED_AT = datetime(2026, 5, 17, 17, 12, 41, tzinfo=UTC)
SPRING = Window(datetime(2025, 12, 22, tzinfo=UTC), datetime(2026, 5, 16, tzinfo=UTC))
OHLCV = "timestamp,open,high,low,close,volume"

daily_feed, weekly_feed, monthly_feed = FEEDS
(macro_feed,) = MACRO_FEEDS
parse_daily, parse_macro = daily_feed.parse, macro_feed.parse
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


@pytest.mark.parametrize(
    ("feed", "earlier", "over", "starts"),
    [
        (weekly_feed, "2026-05-08", datetime(2026, 5, 18, 4, tzinfo=UTC), [(5, 11, 0), (5, 4, 0)]),
        (monthly_feed, "2026-04-30", datetime(2026, 6, 1, 4, tzinfo=UTC), [(5, 1, 0), (4, 1, 0)]),
    ],
    ids=["weekly", "monthly"],
)
def test_the_current_week_and_month_are_left_out_until_they_are_over_in_new_york(
    feed: Feed, earlier: str, over: datetime, starts: list
) -> None:
    body = f"{OHLCV}\n2026-05-15,1,1,1,1,1\n{earlier},1,1,1,1,1\n".encode()
    for received_at, left in ((over, starts), (over - timedelta(seconds=1), starts[1:])):
        rows = feed.parse(pages("IBM", body, received_at)).collect()
        local = rows["open_at"].dt.convert_time_zone("America/New_York")
        assert [(at.month, at.day, at.hour) for at in local] == left


def recorded(name: str, subject: str, feed=daily_feed) -> pl.DataFrame:
    """A recorded answer as conformed rows, oldest first, as it was received."""
    body = (RECORDED / "portfoliotree" / name).read_bytes()
    judged = conform(feed.table, feed.parse(pages(subject, body))).collect()
    assert judged["reasons"].list.len().sum() == 0
    return judged.sort("open_at")


needs_recorded = pytest.mark.skipif(not RECORDED.exists(), reason="the folder of recorded files is not here")
PRICES = ["open", "high", "low", "close", "volume"]


@needs_recorded
@pytest.mark.parametrize(
    ("daily", "name", "feed", "subject", "rows", "whole"),
    [
        (
            "time_series/TIME_SERIES_DAILY_42a08190.csv",
            "time_series/TIME_SERIES_WEEKLY_74eb54d6.csv",
            *(weekly_feed, "IBM", 1383, 20),
        ),
        (
            "time_series/TIME_SERIES_DAILY_42a08190.csv",
            "time_series/TIME_SERIES_MONTHLY_3ced87e9.csv",
            *(monthly_feed, "IBM", 317, 4),
        ),
        (
            "crypto/DIGITAL_CURRENCY_DAILY_ffab6e21.csv",
            "crypto/DIGITAL_CURRENCY_MONTHLY_708fbbc6.csv",
            *(monthly_feed, "crypto:BTC/EUR", 10, 10),
        ),
    ],
)
def test_recorded_weeks_and_months_are_what_their_recorded_days_come_to(
    daily: str, name: str, feed, subject: str, rows: int, whole: int
) -> None:
    longer = recorded(name, subject, feed)
    assert longer.height == rows == longer["open_at"].n_unique()
    days = recorded(daily, subject)
    inside = days.sort("open_at").join_asof(
        longer.select("open_at", "event_at"), on="open_at", coalesce=False
    )
    rolled = (
        inside.filter(
            pl.col("open_at") < pl.col("event_at_right"), pl.col("open_at_right") >= days["open_at"][0]
        )
        .group_by(pl.col("open_at_right").alias("open_at"), maintain_order=True)
        .agg(
            pl.col("open").first(),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum().round(8),
        )
    )
    assert rolled.height == whole
    assert rolled.select(PRICES).rows() == longer.join(rolled, on="open_at", how="semi").select(PRICES).rows()


@needs_recorded
def test_recorded_raw_and_adjusted_days_tell_the_same_prices_but_for_one_rounding() -> None:
    raw = recorded("time_series/TIME_SERIES_DAILY_42a08190.csv", "IBM")
    adjusted = recorded("time_series/TIME_SERIES_DAILY_ADJUSTED_572d0539.csv", "adjusted:IBM")
    pairs = zip(
        raw.select("open_at", *PRICES).rows(), adjusted.select("open_at", *PRICES).rows(), strict=True
    )
    assert [(one[3], other[3]) for one, other in pairs if one != other] == [(236.131, 236.13099999999997)]
    assert adjusted.filter(pl.col("dividend") > 0)["dividend"].to_list() == [1.68, 1.69]
    assert raw["adjusted_close"].null_count() == 100


@needs_recorded
def test_no_week_of_the_recorded_history_is_missing() -> None:
    weeks = recorded("time_series/TIME_SERIES_WEEKLY_74eb54d6.csv", "IBM", weekly_feed)
    assert weeks["open_at"].to_list()[1:] == weeks["event_at"].to_list()[:-1]


ADJUSTED = "timestamp,open,high,low,close,adjusted_close,volume,dividend_amount,split_coefficient"


def test_a_split_is_told_beside_prices_that_it_does_not_change() -> None:
    body = f"{ADJUSTED}\n2020-08-31,127,131,126,129,126,9,0.0,4.0\n2020-08-28,504,505,498,499,122,9,0.0,1.0\n"
    rows = parse_daily(pages("adjusted:AAPL", body.encode())).collect()
    assert rows.select("close", "adjusted_close", "split_factor").rows() == [
        ("129", "126", "4.0"),
        ("499", "122", "1.0"),
    ]


def test_an_adjusted_close_that_was_rewritten_is_a_version_known_since_it_was_received() -> None:
    later = RECEIVED_AT + timedelta(days=90)
    rows = [
        parse_daily(
            pages("adjusted:IBM", f"{ADJUSTED}\n2026-05-14,1,1,1,1,{close},9,0,1\n".encode(), at)
        ).collect()
        for close, at in (("1.0", RECEIVED_AT), ("0.99", later))
    ]
    assert [one.select("open_at", "known_at", "adjusted_close").row(0)[1:] for one in rows] == [
        (RECEIVED_AT, "1.0"),
        (later, "0.99"),
    ]
    assert rows[0]["open_at"].to_list() == rows[1]["open_at"].to_list()


def test_adjusted_weeks_are_read_with_spaces_in_their_names_and_known_when_received() -> None:
    """No recording exists: the columns are those that the documentation names."""
    head = "timestamp,open,high,low,close,adjusted close,volume,dividend amount"
    body = f"{head}\n2026-05-08,10,12,9,11,10.5,1000,1.69\n".encode()
    rows = weekly_feed.parse(pages("adjusted:IBM", body)).collect()
    assert rows.select("symbol", "interval", "close", "adjusted_close", "dividend", "known_at").rows() == [
        ("IBM", "1w", "11", "10.5", "1.69", RECEIVED_AT)
    ]


def test_currency_weeks_have_no_volume_and_begin_on_monday_in_utc() -> None:
    """No recording exists: the columns are those of the recorded FX_DAILY."""
    body = b"timestamp,open,high,low,close\n2026-05-08,1,2,1,2\n"
    rows = weekly_feed.parse(pages("fx:EUR/USD", body)).collect()
    monday = datetime(2026, 5, 4, tzinfo=UTC)
    assert rows.select("open_at", "event_at", "known_at", "volume").rows() == [
        (monday, monday + timedelta(days=7), monday + timedelta(days=7), None)
    ]


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
@pytest.mark.parametrize("subject", ["IBM", "adjusted:IBM", "fx:EUR/USD", "crypto:BTC/EUR"])
def test_each_length_has_a_function_for_each_kind(feed, subject: str) -> None:
    length = {"daily": "DAILY", "weekly": "WEEKLY", "monthly": "MONTHLY"}[feed.name.partition("_")[2]]
    kinds = {"IBM": "TIME_SERIES_{}", "adjusted:IBM": "TIME_SERIES_{}_ADJUSTED"}
    kinds |= {"fx:EUR/USD": "FX_{}", "crypto:BTC/EUR": "DIGITAL_CURRENCY_{}"}
    symbols = {"IBM": "symbol=IBM", "adjusted:IBM": "symbol=IBM"}
    symbols |= {"fx:EUR/USD": "from_symbol=EUR&to_symbol=USD", "crypto:BTC/EUR": "symbol=BTC&market=EUR"}
    url = f"{QUERY}?function={kinds[subject].format(length)}&{symbols[subject]}&datatype=csv"
    with serving(Twin([Recording(url=url, body=b"timestamp\n")])) as twin, client_of(twin) as client:
        (page,) = feed.fetch(client, subject, SPRING)
    assert page.request["url"] == url


# What an answer proves

JANUARY = Window(datetime(2026, 1, 5, tzinfo=UTC), datetime(2026, 1, 20, tzinfo=UTC))


def proven(feed, subject: str, days: list[date], *, lines: int = 0, full: bool = False):
    """Claims on JANUARY, asked for much later, of rows on these days; `lines` is how many the answer had."""
    body = b"timestamp\n" + b"2026-01-01\n" * (lines or len(days))
    url = f"{QUERY}?function=X" + ("&outputsize=full" if full else "")
    page = Page(feed=feed.name, subject=subject, request={"url": url}, received_at=RECEIVED_AT, body=body)
    opens = [datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days]
    schema = {name: pl.Datetime("us", "UTC") for name in ("open_at", "event_at")}
    rows = pl.DataFrame([(at, at + timedelta(days=1)) for at in opens], schema=schema, orient="row")
    asked = Asked(subject=subject, window=JANUARY, at=RECEIVED_AT)
    claims = feed.proof(asked, pages_frame([page], run_id="r", code_version="0"), rows)
    return [(iso(one.window.start)[8:10], iso(one.window.end)[8:10], one.status) for one in claims]


def days(*numbers: int) -> list[date]:
    return [date(2026, 1, number) for number in numbers]


@pytest.mark.parametrize(
    ("subject", "told", "facts", "claims"),
    [
        ("IBM", days(9, 12, 15, 20), {"lines": 100}, [("05", "09", "missing"), ("09", "20", "complete")]),
        ("IBM", days(9, 12, 15, 20), {"lines": 100, "full": True}, [("05", "20", "complete")]),
        ("IBM", days(9, 12, 15, 20), {"lines": 4}, [("05", "20", "complete")]),
        (
            "IBM",
            days(5, 6, 19, 20),
            {"lines": 4},
            [("05", "07", "complete"), ("07", "19", "degraded"), ("19", "20", "complete")],
        ),
        (
            "crypto:BTC/EUR",
            days(*range(9, 20)),
            {},
            [("05", "09", "unavailable"), ("09", "20", "complete")],
        ),
        (
            "crypto:BTC/EUR",
            days(*range(1, 12), *range(13, 20)),
            {},
            [("05", "12", "complete"), ("12", "13", "missing"), ("13", "20", "complete")],
        ),
        ("IBM", days(21, 22), {"lines": 100}, [("05", "20", "missing")]),
        ("IBM", [], {}, [("05", "20", "degraded")]),
    ],
)
def test_an_answer_of_the_newest_rows_proves_nothing_before_its_oldest(subject, told, facts, claims) -> None:
    assert proven(daily_feed, subject, told, **facts) == claims


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
def test_every_recorded_error_body_is_refused_and_none_becomes_rows() -> None:
    recorded = json.loads((RECORDED / "error_bodies.json").read_bytes())
    told = []
    for one in recorded:
        url = f"{QUERY}?function=TIME_SERIES_DAILY&symbol=IBM&datatype=csv"
        answer = Recording(url=url, status=one["http_status"], body=json.dumps(one["body"]).encode())
        with serving(Twin([answer])) as twin, client_of(twin) as client, pytest.raises(SourceError) as raised:
            list(daily_feed.fetch(client, "IBM", SPRING))
        told.append(type(raised.value).__name__)
        with pytest.raises(ParseError):
            parse_daily(pages("IBM", answer.body)).collect()
    assert told == [
        *("Permanent", "Permanent", "Transient", "QuotaExhausted", "QuotaExhausted", "Transient"),
        *("Permanent", "Permanent", "Transient", "Permanent", "Permanent", "Permanent"),
    ]


def test_a_spent_day_is_told_after_one_request_and_its_body_is_kept_without_the_key() -> None:
    url = f"{QUERY}?function=TIME_SERIES_DAILY&symbol=IBM&datatype=csv"
    said = {"Information": DAILY_LIMIT.format(key=KEY)}
    twin = Twin([Recording(url=url, body=json.dumps(said).encode())])
    settings = Settings(providers={KEY_SETTING: SecretStr(KEY)}, _env_file=None)
    with (
        serving(twin) as address,
        Client(settings.model_copy(update={"twin_url": address}), attempts=4) as client,
        pytest.raises(QuotaExhausted) as raised,
    ):
        list(daily_feed.fetch(client, "IBM", SPRING))
    assert twin.counts["www.alphavantage.co"]["served"] == 1
    (kept,) = raised.value.pages
    assert b"25 requests per day" in kept.body
    assert KEY.encode() not in kept.body


def test_a_page_of_html_with_status_200_is_tried_again() -> None:
    url = f"{QUERY}?function=TIME_SERIES_DAILY&symbol=IBM&datatype=csv"
    answer = Recording(url=url, body=b"<html><body>Bad Gateway</body></html>")
    with (
        serving(Twin([answer])) as twin,
        client_of(twin) as client,
        pytest.raises(Transient, match="Gateway"),
    ):
        list(daily_feed.fetch(client, "IBM", SPRING))


def test_the_budget_is_counted_by_the_key_in_utc_and_new_york() -> None:
    settings = Settings(providers={KEY_SETTING: SecretStr(KEY)}, _env_file=None)
    for feed in (*FEEDS, macro_feed):
        quota = feed.quota(settings, "IBM")
        assert [(limit.units, limit.zone) for limit in quota.budgets] == [
            (25, "UTC"),
            (25, "America/New_York"),
        ]
        assert quota.key_id
    assert [feed.cost("IBM", SPRING) for feed in FEEDS] == [2, 1, 1]


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
    older = b"2025-12-19,1,1,1,1,1\n1999-11-01,1,1,1,1,1\n"
    every = Recording(url=f"{url}&outputsize=full", body=newest.body + older)
    wanted = Window(datetime(2025, 12, 21, tzinfo=UTC), SPRING.end)
    with serving(Twin([newest, every])) as twin, client_of(twin) as client:
        found = list(daily_feed.fetch(client, "IBM", wanted))
    assert [(page.sequence, page.body) for page in found] == [(0, newest.body), (1, every.body)]


def test_all_rows_that_are_fewer_than_the_newest_are_kept_and_asked_for_again() -> None:
    url = f"{QUERY}?function=TIME_SERIES_DAILY&symbol=IBM&datatype=csv"
    newest = Recording(url=url, body=body_of("TIME_SERIES_DAILY"))
    every = Recording(url=f"{url}&outputsize=full", body=f"{OHLCV}\n1999-11-01,1,1,1,1,1\n".encode())
    wanted = Window(datetime(2025, 12, 21, tzinfo=UTC), SPRING.end)
    with serving(Twin([newest, every])) as twin, client_of(twin) as client:
        fetched = daily_feed.fetch(client, "IBM", wanted)
        assert [next(fetched).body, next(fetched).body] == [newest.body, every.body]
        with pytest.raises(Transient, match="all rows are fewer than the newest 100"):
            next(fetched)


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
