"""The twin as a venue: candles made up where recordings end and marked so, requests refused, limits counted."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import polars as pl
import pytest

from lakehouse.bronze import pages_frame
from lakehouse.coverage import Asked
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.client import SYNTHETIC, Client
from sources.registry import feed
from sources.twin.recording import Recording, read_folder, request_of
from sources.twin.server import Trouble, Twin, serving
from sources.twin.synthetic import candles
from sources.twin.tally import LIMITS, Tally, VenueLimit

RECORDINGS = Path(__file__).parents[2] / "recordings" / "ccxt"
START = datetime(2024, 3, 1, tzinfo=UTC)
KLINES = "https://api.binance.com/api/v3/klines"
BARS = feed("ccxt_ohlcv")


@pytest.fixture(scope="module")
def http():
    with httpx.Client(trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def synthetic():
    with serving(Twin(read_folder(RECORDINGS), synthetic=True)) as url:
        yield url


def under(twin: str, real: str) -> str:
    return real.replace("https:/", twin)


@pytest.mark.parametrize(
    "subject",
    ["binance:BTC/USDT@1m", "bybit:ETH/USDT@1m", "bitstamp:BTC/USD@1m", "okx:BTC/USDT@1m", "okx:BTC/USDT@1h"],
)
def test_made_up_candles_are_whole_valid_and_marked_in_bronze(synthetic, subject):
    window = Window(START, START + timedelta(hours=20))
    with Client(Settings(_env_file=None, twin_url=synthetic)) as client:
        pages = list(BARS.fetch(client, subject, window))
        asked = Asked(subject=subject, window=window, at=client.now())
    assert all(page.request["synthetic"] for page in pages)

    frame = pages_frame(pages, run_id="", code_version="")
    rows = BARS.parse(frame).collect()
    (claim,) = BARS.proof(asked, frame, rows)
    assert (claim.window, claim.status) == (window, "complete")
    price = {name: pl.col(name).cast(pl.Float64) for name in ("open", "high", "low", "close")}
    is_valid = (price["low"] <= price["open"]) & (price["close"] <= price["high"]) & (price["low"] > 0)
    assert rows.select(is_valid.all()).item()


def test_the_same_asking_gives_the_same_candles_and_one_opens_where_the_last_closed():
    first, second, third = candles("BTCUSDT", 60, 0, 180, most=9)
    assert candles("BTCUSDT", 60, 60, 180, most=9) == [second, third]
    assert (second.open, third.open) == (first.close, second.close)
    assert candles("ETHUSDT", 60, 0, 60, most=9) != [first]


def test_what_is_recorded_is_not_made_up(http):
    recorded = f"{KLINES}?interval=1m&limit=1&symbol=BTCUSDT&startTime=0&endTime=59999"
    with serving(Twin([Recording(url=recorded, body=b"[]")], synthetic=True)) as twin:
        answers = [
            http.get(under(twin, url)) for url in (recorded, recorded.replace("startTime=0", "startTime=1"))
        ]
    assert [SYNTHETIC in answer.headers for answer in answers] == [False, True]


@pytest.mark.parametrize(
    "asked", [f"{KLINES}?symbol=BTCUSDT", "https://api.binance.com/api/v3/aggTrades?symbol=X"]
)
def test_nothing_else_is_made_up(synthetic, http, asked):
    assert http.get(under(synthetic, asked)).status_code == 400


def test_a_twin_makes_nothing_up_unless_asked_to(http):
    with serving(Twin([])) as twin:
        answer = http.get(under(twin, f"{KLINES}?interval=1m&symbol=BTCUSDT&startTime=0&endTime=59999"))
    assert (answer.status_code, SYNTHETIC in answer.headers) == (400, False)


def test_a_share_of_the_requests_is_refused_with_the_wait_asked_for(http):
    url = f"{KLINES}?interval=1m&symbol=BTCUSDT&startTime=0&endTime=59999"
    trouble = Trouble(refused=0.3, failing=0.3, retry_after_s=7, chance=random.Random(1))
    with serving(Twin([], synthetic=True, trouble=trouble)) as twin:
        answers = [http.get(under(twin, url)) for _ in range(30)]
        report = http.get(f"{twin}/twin/report").json()
    statuses = [answer.status_code for answer in answers]
    assert {answer.headers["retry-after"] for answer in answers if answer.status_code == 429} == {"7"}
    assert report["hosts"]["api.binance.com"]["statuses"] == {
        str(status): statuses.count(status) for status in (200, 429, 503)
    }


def test_the_report_tells_requests_repetitions_and_no_violation(synthetic, http):
    with serving(Twin([Recording(url="https://x.example/t?a=1", body=b"")])) as twin:
        for _ in range(2):
            http.get(under(twin, "https://x.example/t?a=1"))
        report = http.get(f"{twin}/twin/report").json()
    assert report == {
        "requests": 2,
        "violations": 0,
        "hosts": {
            "x.example": {
                "requests": 2,
                "statuses": {"200": 2},
                "synthetic": 0,
                "violations": 0,
                "limits": [],
                "repeated": [{"request": "GET x.example/t?a=1", "times": 2}],
            }
        },
    }


@pytest.mark.parametrize(
    ("moments", "most", "violations"),
    [([0, 1, 2, 10, 11], 3, 0), ([0, 1, 2, 9.9], 4, 1), ([0, 0, 0, 0, 0], 5, 2), ([0, 10, 20], 1, 0)],
)
def test_any_stretch_of_time_that_holds_more_than_the_limit_is_a_violation(moments, most, violations):
    tally = Tally((VenueLimit(host="x.example", units=3, window_s=10),))
    for moment in moments:
        tally.ask(request_of("GET", "https://x.example/t"), at_s=moment)
    (limit,) = tally.report()["hosts"]["x.example"]["limits"]
    assert (limit["most"], limit["violations"]) == (most, violations)


@pytest.mark.parametrize(
    ("asked", "used"),
    [
        (f"{KLINES}?limit=1000", {"6000 in 60 s": 2}),
        ("https://fapi.binance.com/fapi/v1/klines?limit=1000", {"2400 in 60 s": 5}),
        ("https://www.okx.com/api/v5/market/history-candles", {"20 in 2 s /history-candles": 1}),
        ("https://gamma-api.polymarket.com/events/slug/x", {"4000 in 10 s": 1, "500 in 10 s ^/events": 1}),
    ],
)
def test_each_venue_counts_in_its_own_way(asked, used):
    tally, request = Tally(LIMITS), request_of("GET", asked)
    tally.ask(request, at_s=0)
    found = tally.report()["hosts"][request.host]["limits"]
    assert {one["limit"]: one["most"] for one in found if one["most"]} == used
