"""Alpha Vantage's intraday bars: recorded answers, time zones, and what is asked for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import polars as pl
import pytest
from pydantic import SecretStr

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.coverage import Asked
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window, iso, parse_moment
from sources.alpha_vantage_answers import KEY_SETTING
from sources.alpha_vantage_intraday import FEEDS
from sources.client import Client
from sources.errors import ParseError
from sources.twin.recording import Recording
from sources.twin.server import Twin, serving

RECORDED = Path(__file__).parents[2] / "../shared/recorded/alphavantage"
needs_recorded = pytest.mark.skipif(not RECORDED.exists(), reason="needs the files of ../shared/recorded")
(FEED,) = FEEDS
KEY = "KX7Q2M9D4TLB80ZC"
NOW = datetime(2026, 5, 17, 17, 12, 41, tzinfo=UTC)
OHLCV = "timestamp,open,high,low,close,volume"


def window(start: str, end: str) -> Window:
    return Window(parse_moment(start), parse_moment(end))


def pages(subject: str, body: bytes, received_at: datetime = NOW, url: str = "u") -> pl.DataFrame:
    page = Page(feed=FEED.name, subject=subject, request={"url": url}, received_at=received_at, body=body)
    return pages_frame([page], run_id="run", code_version="0")


def parsed(subject: str, *stamps: str, received_at: datetime = NOW) -> pl.DataFrame:
    lines = "".join(f"{stamp},1,1,1,1,1\n" for stamp in stamps)
    return FEED.parse(pages(subject, f"{OHLCV}\n{lines}".encode(), received_at)).collect()


def recorded(name: str) -> bytes:
    return (RECORDED / "portfoliotree" / name).read_bytes()


# What the rows say


@needs_recorded
@pytest.mark.parametrize(
    ("subject", "name", "count", "newest", "figures"),
    [
        (
            "IBM@5min",
            "time_series/TIME_SERIES_INTRADAY_3dbdcdc7.csv",
            100,
            ("IBM", "equity", "5m", datetime(2026, 5, 15, 23, 55, tzinfo=UTC)),
            (219.03, 219.03, 219.0, 219.0, 158.0),
        ),
        (
            "fx:EUR/USD@5min",
            "forex/FX_INTRADAY_f0be5c32.csv",
            100,
            ("EUR/USD", "fx", "5m", datetime(2026, 5, 15, 21, 5, tzinfo=UTC)),
            (1.1625, 1.1625, 1.1625, 1.1625, None),
        ),
        (
            "crypto:ETH/USD@5min",
            "crypto/CRYPTO_INTRADAY_38f15660.csv",
            99,
            ("ETH/USD", "crypto", "5m", datetime(2026, 5, 17, 17, 5, tzinfo=UTC)),
            (2182.77, 2182.88, 2181.35, 2182.05, 60.0),
        ),
    ],
)
def test_recorded_bars_begin_at_their_stamp_and_the_one_that_is_not_over_is_left_out(
    subject, name, count, newest, figures
):
    rows = conform(FEED.table, FEED.parse(pages(subject, recorded(name)))).collect()
    assert rows.height == count
    assert rows["reasons"].list.len().sum() == 0
    assert rows.select("symbol", "asset_class", "interval", "open_at").row(0) == newest
    assert rows.select("open", "high", "low", "close", "volume").row(0) == figures
    assert (rows["event_at"] - rows["open_at"]).unique().to_list() == [timedelta(minutes=5)]
    assert rows["known_at"].to_list() == rows["event_at"].to_list()


@needs_recorded
def test_the_recorded_bars_of_a_day_lie_within_its_recorded_daily_bar():
    body = recorded("time_series/TIME_SERIES_INTRADAY_3dbdcdc7.csv")
    rows = conform(FEED.table, FEED.parse(pages("IBM@5min", body))).collect()
    in_session = rows.filter(pl.col("open_at") < datetime(2026, 5, 15, 20, tzinfo=UTC))
    assert (in_session["low"].min(), in_session["high"].max()) >= (217.615, 217.98)
    assert in_session["high"].max() <= 220.91
    assert in_session.sort("open_at")["close"][-1] == pytest.approx(219.3, abs=0.05)


@pytest.mark.parametrize(
    ("stamp", "open_at"),
    [
        ("2026-03-06 09:30:00", datetime(2026, 3, 6, 14, 30, tzinfo=UTC)),
        ("2026-03-09 09:30:00", datetime(2026, 3, 9, 13, 30, tzinfo=UTC)),
        ("2025-10-31 19:55:00", datetime(2025, 10, 31, 23, 55, tzinfo=UTC)),
        ("2025-11-03 04:00:00", datetime(2025, 11, 3, 9, tzinfo=UTC)),
    ],
)
def test_equity_stamps_are_wall_time_of_new_york_on_both_sides_of_a_clock_change(stamp, open_at):
    assert parsed("IBM@5min", stamp)["open_at"].to_list() == [open_at]


@pytest.mark.parametrize(
    "stamp",
    ["2025-11-02 01:30:00", "2026-03-08 02:30:00", "2026-05-15 20:00:00", "2026-05-15 03:55:00"],
    ids=["told twice", "never told", "after trading", "before trading"],
)
def test_a_bar_when_new_york_does_not_trade_shows_that_the_stamps_are_of_another_zone(stamp):
    with pytest.raises(ParseError, match=f"has a bar at {stamp}.*another time zone"):
        parsed("IBM@5min", "2026-05-15 09:30:00", stamp)


@pytest.mark.parametrize("subject", ["fx:EUR/USD@5min", "crypto:ETH/USD@5min"])
def test_currencies_and_coins_run_on_utc_through_every_clock_change(subject):
    head = "timestamp,open,high,low,close" + ("" if subject.startswith("fx") else ",volume")
    row = "2025-11-02 06:30:00,1,1,1,1" + ("" if subject.startswith("fx") else ",1")
    rows = FEED.parse(pages(subject, f"{head}\n{row}\n".encode())).collect()
    assert rows["open_at"].to_list() == [datetime(2025, 11, 2, 6, 30, tzinfo=UTC)]


def test_adjusted_bars_have_a_symbol_of_their_own_and_are_known_since_they_were_received():
    rows = parsed("adjusted:IBM@60min", "2026-05-15 09:00:00")
    assert rows.select("symbol", "interval", "open_at", "event_at", "known_at", "adjusted_close").rows() == [
        (
            *("adjusted:IBM", "1h"),
            *(datetime(2026, 5, 15, hour, tzinfo=UTC) for hour in (13, 14)),
            *(NOW, None),
        )
    ]
    assert FEED.about("adjusted:IBM@60min") == [
        {"provider": "alphavantage", "symbol": "adjusted:IBM", "interval": "1h"}
    ]


def test_a_bar_is_left_out_until_it_is_over():
    start = datetime(2026, 5, 15, 13, 30, tzinfo=UTC)
    for seconds, count in ((299, 0), (300, 1)):
        received_at = start + timedelta(seconds=seconds)
        assert parsed("IBM@5min", "2026-05-15 09:30:00", received_at=received_at).height == count


def test_stamps_that_cannot_be_read_are_left_to_the_gate():
    rows = parsed("IBM@5min", "2026-05-15")
    (reasons,) = conform(FEED.table, rows.lazy()).collect()["reasons"]
    assert {"open_at_missing", "event_at_missing"} <= set(reasons)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>\n", b'{"Information": "x"}\n', OHLCV.encode(), b"timestamp,1. open\n", b"a,b\n1,2,3\n"],
)
def test_what_is_not_the_csv_of_the_function_is_refused(body):
    with pytest.raises(ParseError, match=f"{FEED.name} IBM@5min: page"):
        FEED.parse(pages("IBM@5min", body)).collect()


# What is asked for


def recordings_for(*queries: dict[str, str]) -> list[Recording]:
    return [
        Recording(
            url=f"https://www.alphavantage.co/query?{urlencode(query)}",
            body=f"{OHLCV}\n".encode(),
            headers={"content-type": "application/x-download"},
        )
        for query in queries
    ]


def fetched(subject: str, span: Window, *queries: dict[str, str]) -> list[Page]:
    """The pages of a fetch from a provider that knows these queries only."""
    with serving(Twin(recordings_for(*queries))) as url:
        settings = Settings(twin_url=url, providers={KEY_SETTING: SecretStr(KEY)}, _env_file=None)
        with Client(settings, now=lambda: NOW, attempts=1) as client:
            return list(FEED.fetch(client, subject, span))


RAW = {"function": "TIME_SERIES_INTRADAY", "symbol": "IBM", "interval": "5min"}
SENT = {"adjusted": "false", "extended_hours": "true"}
CSV = {"datatype": "csv"}
FULL = {"outputsize": "full"}


def test_one_request_is_enough_where_a_hundred_bars_reach_the_window():
    span = window("2026-05-17T09:00:00", "2026-05-17T17:00:00")
    (page,) = fetched("IBM@5min", span, {**RAW, **SENT, **CSV})
    assert page.window is None
    assert KEY not in str(page)


def test_older_windows_are_asked_for_by_whole_months_that_each_answer_for_their_part():
    span = window("2025-12-31T12:00:00", "2026-02-01T05:00:00")
    months = [{**RAW, **SENT, "month": month, **FULL, **CSV} for month in ("2025-12", "2026-01")]
    found = fetched("IBM@5min", span, *months)
    assert [(page.sequence, str(page.window)) for page in found] == [
        (0, "[2025-12-31T12:00:00Z, 2026-01-01T05:00:00Z)"),
        (1, "[2026-01-01T05:00:00Z, 2026-02-01T05:00:00Z)"),
    ]
    assert FEED.cost("IBM@5min", span) == 2


def test_months_that_have_not_begun_are_not_asked_for():
    span = window("2026-05-01T04:00:00", "2027-01-01")
    (page,) = fetched("IBM@5min", span, {**RAW, **SENT, "month": "2026-05", **FULL, **CSV})
    assert str(page.window) == "[2026-05-01T04:00:00Z, 2026-06-01T04:00:00Z)"


@pytest.mark.parametrize(
    ("subject", "query"),
    [
        ("adjusted:IBM@5min", {**RAW, **SENT, "adjusted": "true", "month": "2026-04", **FULL, **CSV}),
        (
            "fx:EUR/USD@60min",
            {
                "function": "FX_INTRADAY",
                "from_symbol": "EUR",
                "to_symbol": "USD",
                "interval": "60min",
                **FULL,
                **CSV,
            },
        ),
        (
            "crypto:ETH/USD@1min",
            {
                "function": "CRYPTO_INTRADAY",
                "symbol": "ETH",
                "market": "USD",
                "interval": "1min",
                **FULL,
                **CSV,
            },
        ),
    ],
)
def test_each_kind_is_asked_for_in_its_way(subject, query):
    span = window("2026-04-02", "2026-04-03")
    (page,) = fetched(subject, span, query)
    assert parse_qs(urlsplit(page.request["url"]).query) == {name: [value] for name, value in query.items()}


@pytest.mark.parametrize(
    "subject", ["IBM", "IBM@2min", "TSCO.LON@5min", "fx:EURUSD@5min", "@5min", "IBM@5min@5min", ""]
)
def test_a_subject_that_cannot_be_or_whose_time_zone_is_not_known_is_refused(subject):
    with (
        Client(Settings(_env_file=None)) as client,
        pytest.raises(UsageError, match="IBM@5min, adjusted:IBM@5min"),
    ):
        list(FEED.fetch(client, subject, window("2026-04-02", "2026-04-03")))


# What an answer proves

DAY = window("2026-05-15", "2026-05-16")


def proven(subject: str, hours: list[int], url: str) -> list[tuple[str, str, str]]:
    opens = [DAY.start + timedelta(hours=hour) for hour in hours]
    schema = {name: pl.Datetime("us", "UTC") for name in ("open_at", "event_at")}
    rows = pl.DataFrame([(at, at + timedelta(hours=1)) for at in opens], schema=schema, orient="row")
    asked = Asked(subject=subject, window=DAY, at=NOW + timedelta(days=9))
    claims = FEED.proof(asked, pages(subject, b"", url=url), rows)
    return [(iso(one.window.start)[8:13], iso(one.window.end)[8:13], one.status) for one in claims]


@pytest.mark.parametrize(
    ("subject", "url", "claims"),
    [
        ("IBM@60min", "month=2026-05&outputsize=full", [("15T00", "16T00", "complete")]),
        ("IBM@60min", "interval=60min", [("15T00", "15T20", "missing"), ("15T20", "16T00", "complete")]),
        (
            "fx:EUR/USD@60min",
            "outputsize=full",
            [("15T00", "15T20", "unavailable"), ("15T20", "16T00", "complete")],
        ),
        (
            "crypto:ETH/USD@60min",
            "outputsize=full",
            [
                ("15T00", "15T20", "unavailable"),
                ("15T20", "15T22", "complete"),
                ("15T22", "15T23", "degraded"),
                ("15T23", "16T00", "complete"),
            ],
        ),
    ],
)
def test_an_answer_proves_nothing_before_its_oldest_bar_unless_it_was_asked_for_a_month(subject, url, claims):
    assert proven(subject, [20, 21, 23], url) == claims


def test_no_bars_prove_nothing():
    assert proven("IBM@60min", [], "month=2026-05") == [("15T00", "16T00", "degraded")]
