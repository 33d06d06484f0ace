"""Funding, open interest, liquidations, reference bars: fetched from small servers that page as the venues do.

The markets of binance, bybit and okx are the recorded ones of the demo; those of the other venues, and all answers
about contracts, are made by hand after the venues' documentation.
"""

import json
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest
import stamina

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.coverage import Asked
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window, parse_moment
from sources import ccxt_derivatives, ccxt_reference, ccxt_rest, ccxt_snapshots
from sources.client import Client
from sources.errors import ParseError, Permanent, Transient
from sources.feed import Feed
from sources.twin.recording import read_folder

ROOT = Path(__file__).parents[2]
FUNDING, INTEREST, LIQUIDATIONS = ccxt_derivatives.FEEDS
(REFERENCE,) = ccxt_reference.FEEDS
TICKERS, BOOKS = ccxt_snapshots.FEEDS
_, OHLCV, TRADES = ccxt_rest.FEEDS
HOUR_MS = 3_600_000
START_MS = 1_704_067_200_000
NOW = datetime(2024, 3, 1, tzinfo=UTC)

Answer = Callable[[str, dict[str, str]], Any]


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


@contextmanager
def venue(answer: Answer) -> Iterator[tuple[Client, list[tuple[str, dict[str, str]]]]]:
    """A client whose requests get what `answer(path, parameters)` says; yields it and the list of requests.

    Parameters are those of the address and of the body. Paths begin with the venue's host.
    """
    asked: list[tuple[str, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            parts = urlsplit(self.path)
            named = {name: values[0] for name, values in parse_qs(parts.query).items()}
            named |= {name: str(value) for name, value in json.loads(body or b"{}").items()}
            asked.append((parts.path, named))
            said = answer(parts.path, named)
            status, raw = said if isinstance(said, tuple) else (200, json.dumps(said).encode())
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        with Client(Settings(_env_file=None, twin_url=url), now=lambda: NOW) as client:
            yield client, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@cache
def recorded_markets() -> dict[tuple[str, tuple[tuple[str, str], ...]], Any]:
    """Lists of markets among the demo's recordings, by path and parameters."""
    lists = {}
    for recording in read_folder(ROOT / "recordings/ccxt"):
        parts = urlsplit(recording.url)
        if any(word in parts.path for word in ("exchangeInfo", "instruments")):
            named = {name: values[0] for name, values in parse_qs(parts.query).items()}
            lists[f"/{parts.netloc}{parts.path}", tuple(sorted(named.items()))] = json.loads(recording.body)
    return lists


HYPERLIQUID_COIN = {
    "markPx": "1", "midPx": "1", "oraclePx": "1", "openInterest": "20.5", "prevDayPx": "1", "dayNtlVlm": "1",
    "funding": "0.0", "premium": "0", "impactPxs": ["1", "1"],
}  # fmt: skip
MADE_MARKETS: dict[str, Any] = {
    "/api.gateio.ws/api/v4/futures/usdt/contracts": [
        {"name": "BTC_USDT", "quanto_multiplier": "0.0001", "type": "direct", "order_price_round": "0.1",
         "order_size_min": 1, "order_size_max": 10**6, "mark_price_round": "0.01", "in_delisting": False},
    ],
    "/www.deribit.com/api/v2/public/get_instruments": {
        "jsonrpc": "2.0",
        "result": [
            {"instrument_name": "BTC-PERPETUAL", "base_currency": "BTC", "counter_currency": "USD",
             "settlement_currency": "BTC", "settlement_period": "perpetual", "kind": "future",
             "is_active": True, "contract_size": 10, "tick_size": 0.5, "min_trade_amount": 10,
             "creation_timestamp": 1534242287000, "expiration_timestamp": 32503708800000},
        ],
    },
    "/futures.kraken.com/derivatives/api/v3/instruments": {
        "result": "success",
        "instruments": [{"symbol": "PF_XBTUSD", "type": "flexible_futures", "tradeable": True, "tickSize": 0.5,
                         "contractSize": 1, "base": "BTC", "quote": "USD", "contractValueTradePrecision": 4}],
    },
    "/api-futures.kucoin.com/api/v1/contracts/active": {
        "code": "200000",
        "data": [{"symbol": "XBTUSDTM", "type": "FFWCSX", "baseCurrency": "XBT", "quoteCurrency": "USDT",
                  "settleCurrency": "USDT", "status": "Open", "multiplier": 0.001, "tickSize": 0.1,
                  "lotSize": 1, "isInverse": False, "nextFundingRateTime": 1}],
    },
    "/www.bitstamp.net/api/v2/markets/": [
        {"name": "BTC/USD-PERP", "market_symbol": "btcusd-perp", "base_currency": "BTC",
         "counter_currency": "USD", "market_type": "PERPETUAL", "underlying_asset": "BTC",
         "payoff_type": "linear", "trading": "Enabled", "base_decimals": 8, "counter_decimals": 0},
    ],
    "/api-pub.bitfinex.com/v2/conf/pub:info:pair,pub:info:pair:futures,pub:list:pair:securities,"
    "pub:list:pair:margin": [
        [], [["BTCF0:USTF0", [None, None, None, "0.0001", "100", None, None, None, 0.01, 0.005, None]]], [],
        ["BTCF0:USTF0"],
    ],
}  # fmt: skip
HYPERLIQUID_LISTS: dict[str, Any] = {
    "metaAndAssetCtxs": [{"universe": [{"name": "BTC", "szDecimals": 5, "maxLeverage": 50}]}, [HYPERLIQUID_COIN]],
    "spotMetaAndAssetCtxs": [{"tokens": [{"name": "USDC", "szDecimals": 8, "index": 0}], "universe": []}, []],
    "perpDexs": [None],
}  # fmt: skip


def with_markets(answer: Answer) -> Answer:
    """An answer for everything but the lists of markets."""

    def all_answers(path: str, asked: dict[str, str]) -> Any:
        listed = recorded_markets().get((path, tuple(sorted(asked.items()))))
        if listed is None:
            listed = MADE_MARKETS.get(path, HYPERLIQUID_LISTS.get(asked.get("type", "")))
        if listed is None and path.endswith(("/contracts", "/currency_pairs")):
            listed = []
        return answer(path, asked) if listed is None else listed

    return all_answers


def window(start: str, end: str) -> Window:
    return Window(parse_moment(start), parse_moment(end))


def fetched(feed: Feed, client: Client, subject: str, *span: str) -> list[Page]:
    return list(feed.fetch(client, subject, window(*span)))


def parsed(feed: Feed, *pages: Page) -> pl.DataFrame:
    return feed.parse(pages_frame(pages, run_id="r", code_version="v")).collect()


def ms_of(rows: pl.DataFrame, column: str = "event_at") -> list[int]:
    return rows[column].dt.timestamp("ms").sort().to_list()


# Funding: each venue's way of giving its history


def settlements(every_h: int, days: int = 60) -> list[int]:
    """Settlements from 2023-12-31 on, some a few milliseconds late, as they come."""
    first = START_MS - 24 * HOUR_MS
    return [first + n * every_h * HOUR_MS + (n % 3) * 4 for n in range(days * 24 // every_h)]


def binance_funding(asked: dict[str, str], bound: dict[str, int], made: list[int]) -> Any:
    rows = [ms for ms in made if bound["startTime"] <= ms <= bound["endTime"]][: bound["limit"]]
    return [{"symbol": asked["symbol"], "fundingTime": ms, "fundingRate": f"0.{ms % 97:04}"} for ms in rows]


def bybit_funding(asked: dict[str, str], bound: dict[str, int], made: list[int]) -> Any:
    assert "endTime" in bound, "startTime alone is an error"
    rows = [ms for ms in made if bound["startTime"] <= ms <= bound["endTime"]][-bound["limit"] :]
    named = {"symbol": asked["symbol"], "fundingRate": "0.1"}
    listed = [{**named, "fundingRateTimestamp": str(ms)} for ms in rows]
    return {"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": listed[::-1]}}


def okx_funding(asked: dict[str, str], bound: dict[str, int], made: list[int]) -> Any:
    # With `before` alone the newest come: a hole after the start.
    rows = [ms for ms in made if bound.get("before", 0) < ms < bound.get("after", 10**15)][-100:]
    listed = [{"instId": asked["instId"], "fundingTime": str(ms), "realizedRate": "0.1"} for ms in rows]
    return {"code": "0", "msg": "", "data": listed[::-1]}


def gate_funding(_: dict[str, str], bound: dict[str, int], made: list[int]) -> Any:
    rows = [ms for ms in made if bound["from"] <= ms // 1000 <= bound["to"]][-bound["limit"] :]
    return [{"r": "0.1", "t": ms // 1000} for ms in rows[::-1]]


def deribit_funding(_: dict[str, str], bound: dict[str, int], made: list[int]) -> Any:
    rows = [ms for ms in made if bound["start_timestamp"] < ms <= bound["end_timestamp"]][:744]
    said = {"interest_8h": 0.8, "interest_1h": 0.1, "index_price": 1, "prev_index_price": 1}
    return {"jsonrpc": "2.0", "result": [{"timestamp": ms, **said} for ms in rows]}


def hyperliquid_funding(_: dict[str, str], bound: dict[str, int], made: list[int]) -> Any:
    rows = [ms for ms in made if bound["startTime"] <= ms <= bound["endTime"]][:500]
    return [{"coin": "BTC", "fundingRate": "0.1", "premium": "0", "time": ms} for ms in rows]


def kraken_futures_funding(_: dict[str, str], __: dict[str, int], made: list[int]) -> Any:
    at = {ms: datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z") for ms in made}
    said = {"fundingRate": "7", "relativeFundingRate": "0.1"}
    return {"rates": [{"timestamp": at[ms], **said} for ms in made]}


def kucoin_funding(_: dict[str, str], bound: dict[str, int], made: list[int]) -> Any:
    rows = [ms for ms in made if bound["from"] <= ms <= bound["to"]][-100:]
    listed = [{"symbol": "XBTUSDTM", "fundingRate": 0.1, "timepoint": ms} for ms in rows]
    return {"code": "200000", "data": listed[::-1]}


def bitstamp_funding(_: dict[str, str], bound: dict[str, int], made: list[int]) -> Any:
    start, end = bound["since_timestamp"], bound["until_timestamp"]
    rows = [ms for ms in made if start <= ms // 1000 <= end][: bound["limit"]]
    listed = [{"funding_rate": "0.1", "timestamp": str(ms // 1000)} for ms in rows]
    return {"market": "BTC/USD-PERP", "funding_rate_history": listed}


FUNDING_OF = {
    "fapi.binance.com": binance_funding,
    "api.bybit.com": bybit_funding,
    "www.okx.com": okx_funding,
    "api.gateio.ws": gate_funding,
    "www.deribit.com": deribit_funding,
    "api.hyperliquid.xyz": hyperliquid_funding,
    "futures.kraken.com": kraken_futures_funding,
    "api-futures.kucoin.com": kucoin_funding,
    "www.bitstamp.net": bitstamp_funding,
}


def funding_page(path: str, asked: dict[str, str], made: list[int]) -> Any:
    """What each venue answers about funding, by its documentation."""
    return FUNDING_OF[path.split("/")[1]](asked, whole_numbers(asked), made)


def whole_numbers(asked: dict[str, str]) -> dict[str, int]:
    return {name: int(said) for name, said in asked.items() if said.isdigit()}


PERPETUALS = {
    "binance": "BTC/USDT:USDT",
    "bybit": "BTC/USDT:USDT",
    "okx": "BTC/USDT:USDT",
    "gate": "BTC/USDT:USDT",
    "deribit": "BTC/USD:BTC",
    "hyperliquid": "BTC/USDC:USDC",
    "krakenfutures": "BTC/USD:USD",
    "kucoinfutures": "BTC/USDT:USDT",
    "bitstamp": "BTC/USD:USD",
}


@pytest.mark.parametrize("every_h", [8, 1])
@pytest.mark.parametrize("exchange", PERPETUALS)
def test_all_settlements_of_a_window_are_fetched_however_the_venue_pages(exchange, every_h):
    whole_seconds = exchange in {"gate", "krakenfutures", "bitstamp"}
    made = [ms // 1000 * 1000 for ms in settlements(every_h)] if whole_seconds else settlements(every_h)
    answer = with_markets(lambda path, asked: funding_page(path, asked, made))
    with venue(answer) as (client, asked):
        pages = fetched(FUNDING, client, f"{exchange}:{PERPETUALS[exchange]}", "2024-01-01", "2024-02-20")
    rows = parsed(FUNDING, *pages)
    start, end = START_MS, START_MS + 50 * 24 * HOUR_MS
    got = [ms for ms in sorted(set(ms_of(rows))) if start <= ms < end]
    assert got == [ms for ms in made if start <= ms < end]
    assert len(asked) < 60
    assert rows["known_at"].equals(rows["event_at"])


def test_okx_funding_is_walked_from_the_end_so_that_the_newest_rows_leave_no_hole():
    made = settlements(1)
    with venue(with_markets(lambda path, asked: funding_page(path, asked, made))) as (client, asked):
        fetched(FUNDING, client, "okx:BTC/USDT:USDT", "2024-01-01", "2024-01-10")
    requests = [named for path, named in asked if "funding" in path]
    assert requests[0]["after"] == str(START_MS + 9 * 24 * HOUR_MS)
    assert all("before" not in named for named in requests)


def test_what_the_venue_no_longer_keeps_is_not_asked_for():
    with venue(with_markets(lambda path, asked: funding_page(path, asked, []))) as (client, asked):
        assert fetched(FUNDING, client, "okx:BTC/USDT:USDT", "2021-01-01", "2021-02-01") == []
    assert not [path for path, _ in asked if "funding" in path]


def test_deribit_funding_is_the_rate_of_the_hour_not_of_the_eight_hours_before():
    answer = with_markets(lambda path, asked: funding_page(path, asked, settlements(1, days=2)))
    with venue(answer) as (client, _):
        rows = parsed(FUNDING, *fetched(FUNDING, client, "deribit:BTC/USD:BTC", "2024-01-01", "2024-01-02"))
    assert rows.select("rate", "interval_hours").unique().rows() == [("0.1", "1.0")]


def test_kraken_futures_funding_is_the_relative_rate_not_money_a_contract():
    answer = with_markets(lambda path, asked: funding_page(path, asked, settlements(8)))
    with venue(answer) as (client, _):
        rows = parsed(
            FUNDING, *fetched(FUNDING, client, "krakenfutures:BTC/USD:USD", "2024-01-01", "2024-01-02")
        )
    assert rows["rate"].unique().to_list() == ["0.1"]


def test_a_page_that_comes_full_belongs_to_the_half_that_is_asked_for_next():
    made = settlements(1)
    with venue(with_markets(lambda path, asked: funding_page(path, asked, made))) as (client, _):
        pages = fetched(FUNDING, client, "bybit:BTC/USDT:USDT", "2024-01-01", "2024-02-01")
    assert len(pages) > 4
    for page in pages:
        at = parsed(FUNDING, page)["event_at"]
        whole = at.filter(at.is_between(page.window.start, page.window.end, closed="left"))
        hours = (page.window.end - page.window.start) / timedelta(hours=1)
        last_of_window = [other for other in pages if other.window == page.window][-1]
        if page is last_of_window:
            assert abs(whole.len() - hours) <= 1


def test_funding_of_a_spot_market_is_refused():
    with venue(with_markets(lambda *_: [])) as (client, _), pytest.raises(UsageError, match="is no contract"):
        fetched(FUNDING, client, "binance:BTC/USDT", "2024-01-01", "2024-01-02")


def claims_on(moments: list[int], *, subject="binance:BTC/USDT:USDT", start="2024-01-01", end="2024-01-05"):
    rows = pl.DataFrame({"event_at": moments}, schema={"event_at": pl.Int64})
    rows = rows.select(
        pl.from_epoch("event_at", time_unit="ms").dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    )
    asked = Asked(subject=subject, window=window(start, end), at=NOW)
    return [(claim.window, claim.status) for claim in FUNDING.proof(asked, pl.DataFrame(), rows)]


def test_a_settlement_that_is_not_there_is_a_hole_and_a_change_of_the_interval_is_none():
    every_8 = [START_MS + n * 8 * HOUR_MS + n % 2 for n in range(6)]
    every_1 = [every_8[-1] + n * HOUR_MS for n in range(1, 12)]
    day = window("2024-01-01", "2024-01-05")
    assert claims_on([*every_8, *every_1]) == [(day, "complete")]
    assert [status for _, status in claims_on([*every_8[:3], *every_8[4:]])] == [
        "complete",
        "missing",
        "complete",
    ]
    (_, (hole, _), _) = claims_on([ms for n, ms in enumerate([*every_8, *every_1]) if n != 10])
    assert hole.end - hole.start == timedelta(hours=1)
    assert claims_on([]) == [(day, "degraded")]


def test_settlements_from_before_the_venues_reach_are_unavailable():
    moments = [START_MS - 60 * 24 * HOUR_MS + n * 8 * HOUR_MS for n in range(180)]
    found = claims_on(moments, subject="okx:BTC/USDT:USDT", start="2023-10-01", end="2024-01-01")
    assert found == [
        (window("2023-10-01", "2023-11-27"), "unavailable"),
        (window("2023-11-27", "2024-01-01"), "complete"),
    ]


# Open interest


def interest_page(path: str, asked: dict[str, str], every_ms: int) -> Any:
    """What each venue answers about open interest, by its documentation; samples stand on the grid."""
    bound = whole_numbers(asked)

    def grid(start: int, end: int) -> list[int]:
        return list(range(-(-start // every_ms) * every_ms, end + 1, every_ms))

    match path.split("/")[1]:
        case "fapi.binance.com" | "dapi.binance.com":
            rows = grid(bound["startTime"], bound["endTime"])[: bound["limit"]]
            return [{"sumOpenInterest": "2", "sumOpenInterestValue": "9", "timestamp": ms} for ms in rows]
        case "api.bybit.com":
            rows = grid(bound["startTime"], bound["endTime"])[-bound["limit"] :]
            listed = [{"openInterest": "2", "timestamp": str(ms)} for ms in rows[::-1]]
            return {"retCode": 0, "retMsg": "OK", "result": {"symbol": asked["symbol"], "list": listed}}
        case "www.okx.com":
            rows = [ms for ms in grid(bound["begin"], bound["end"]) if bound["begin"] < ms < bound["end"]][
                -100:
            ]
            return {"code": "0", "data": [[str(ms), "200", "2", "9"] for ms in rows[::-1]], "msg": ""}
        case "api.gateio.ws":
            rows = grid(bound["from"] * 1000, 10**13 if False else bound["from"] * 1000 + 100 * every_ms)
            return [
                {"time": ms // 1000, "open_interest": "200", "open_interest_usd": "9"}
                for ms in rows[: bound["limit"]]
            ]
        case "api.kucoin.com":
            rows = grid(bound["startAt"], bound["endAt"])[-bound["pageSize"] :]
            return {
                "code": "200000",
                "data": [{"symbol": "XBTUSDTM", "openInterest": "200", "ts": ms} for ms in rows],
            }
        case "api-pub.bitfinex.com":
            # 23 places and no symbol before them, newest first.
            rows = grid(bound["start"], bound["end"])[-bound["limit"] :]
            return [[ms, *[None] * 16, 5775.2, *[None] * 5] for ms in rows[::-1]]
    raise AssertionError(path)


@pytest.mark.parametrize(
    ("subject", "amount", "unit", "value", "currency", "sides"),
    [
        ("binance:BTC/USDT:USDT@5m", "2", "base", "9", "USDT", "one"),
        ("binance:BTC/USD:BTC@5m", "2", "contracts", "9", "BTC", "one"),
        ("bybit:BTC/USDT:USDT@5m", "2", "base", None, None, "both"),
        ("bybit:BTC/USD:BTC@5m", None, None, "2", "USD", "both"),
        ("okx:BTC/USDT:USDT@5m", "200", "contracts", "9", "USD", "one"),
        ("gate:BTC/USDT:USDT@5m", "200", "contracts", "9", "USD", "unknown"),
        ("kucoinfutures:BTC/USDT:USDT@5m", "200", "contracts", None, None, "unknown"),
        ("bitfinex:BTC/USDT:USDT@1m", "5775.2", "contracts", None, None, "unknown"),
    ],
)
def test_all_samples_of_open_interest_are_fetched_and_say_what_they_count(
    subject, amount, unit, value, currency, sides
):
    every_ms = 60_000 if subject.endswith("@1m") else 300_000
    answer = with_markets(lambda path, asked: interest_page(path, asked, every_ms))
    with venue(answer) as (client, asked):
        pages = fetched(INTEREST, client, subject, "2024-02-20", "2024-02-23")
    rows = parsed(INTEREST, *pages)
    start, end = 1_708_387_200_000, 1_708_387_200_000 + 72 * HOUR_MS
    assert [ms for ms in sorted(set(ms_of(rows))) if ms < end] == list(range(start, end, every_ms))
    named = ("amount", "amount_unit", "value", "value_currency", "sides")
    assert rows.select(named).unique().rows() == [(amount, unit, value, currency, sides)]
    assert ((rows["known_at"] - rows["event_at"]).dt.total_milliseconds() == every_ms).all()
    assert len(asked) < 30
    claims = INTEREST.proof(
        Asked(subject=subject, window=window("2024-02-20", "2024-02-23"), at=NOW), pl.DataFrame(), rows
    )
    assert [claim.status for claim in claims] == ["complete"]


def test_coin_margined_open_interest_is_asked_for_by_pair_and_kind_of_contract():
    answer = with_markets(lambda path, asked: interest_page(path, asked, 300_000))
    with venue(answer) as (client, asked):
        fetched(INTEREST, client, "binance:BTC/USD:BTC@5m", "2024-02-20", "2024-02-21")
    path, named = asked[-1]
    assert path == "/dapi.binance.com/futures/data/openInterestHist"
    assert (named["pair"], named["contractType"]) == ("BTCUSD", "PERPETUAL")


def test_a_sample_whose_interval_is_not_over_is_not_known_yet():
    answer = with_markets(lambda path, asked: interest_page(path, asked, 24 * HOUR_MS))
    with venue(answer) as (client, _):
        pages = fetched(INTEREST, client, "okx:BTC/USDT:USDT@1d", "2024-02-26", "2024-03-02")
    assert parsed(INTEREST, *pages)["event_at"].max() == datetime(2024, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize(
    ("subject", "said", "row"),
    [
        (
            "deribit:BTC/USD:BTC",
            {"jsonrpc": "2.0", "result": [
                {"instrument_name": "BTC-PERPETUAL", "open_interest": 9978637780, "creation_timestamp": START_MS}]},
            (START_MS, None, None, "9978637780", "USD", "unknown"),
        ),
        (
            "okx:BTC/USDT:USDT",
            {"code": "0", "data": [{"instId": "BTC-USDT-SWAP", "instType": "SWAP", "oi": "200", "oiCcy": "2",
                                    "oiUsd": "9", "ts": str(START_MS)}]},
            (START_MS, "200", "contracts", "9", "USD", "one"),
        ),
    ],
)  # fmt: skip
def test_without_an_interval_the_present_open_interest_is_asked_for(subject, said, row):
    with venue(with_markets(lambda *_: said)) as (client, _):
        rows = parsed(INTEREST, *fetched(INTEREST, client, subject, "2020-01-01", "2020-01-02"))
    named = ("amount", "amount_unit", "value", "value_currency", "sides")
    assert (*ms_of(rows), *rows.select(named).row(0)) == row
    assert rows["known_at"].to_list() == [NOW]
    claims = INTEREST.proof(
        Asked(subject=subject, window=window("2020-01-01", "2020-01-02"), at=NOW), pl.DataFrame(), rows
    )
    assert [claim.proof for claim in claims] == ["snapshot"]


# Liquidations


def test_gate_liquidations_are_asked_for_in_seconds_and_a_long_position_is_sold():
    """The sizes are of positions: the order of the first one, limit 36309.2, was filled above it, so it sold."""
    orders = [
        ("33", "36454.4", "36309.2", START_MS // 1000),
        ("-165", "28070", "28225", START_MS // 1000 + 1),
    ]
    made = [
        {"contract": "BTC_USDT", "left": "0", "size": s, "fill_price": f, "order_price": o, "time": t}
        for s, f, o, t in orders
    ]

    def answer(_: str, asked: dict[str, str]) -> Any:
        return [row for row in made if int(asked["from"]) <= row["time"] <= int(asked["to"])]

    with venue(with_markets(answer)) as (client, asked):
        pages = fetched(LIQUIDATIONS, client, "gate:BTC/USDT:USDT", "2024-01-01", "2024-01-01T01:00")
    named = [named for path, named in asked if path.endswith("liq_orders")]
    assert (named[0]["from"], named[-1]["to"]) == ("1704067200", "1704070799")
    rows = parsed(LIQUIDATIONS, *pages).sort("event_at")
    assert rows.select("price", "amount", "amount_unit", "side").rows() == [
        ("36454.4", "33", "contracts", "sell"),
        ("28070", "165", "contracts", "buy"),
    ]


def test_equal_liquidations_are_two_and_the_same_page_gives_the_same_ids():
    row = {
        "contract": "BTC_USDT",
        "left": "0",
        "size": "33",
        "fill_price": "1",
        "order_price": "1",
        "time": START_MS // 1000,
    }
    with venue(with_markets(lambda *_: [row, row])) as (client, _):
        (page, *_) = fetched(LIQUIDATIONS, client, "gate:BTC/USDT:USDT", "2024-01-01", "2024-01-01T00:01")
    ids = parsed(LIQUIDATIONS, page)["liquidation_id"]
    assert ids.n_unique() == 2
    assert parsed(LIQUIDATIONS, page)["liquidation_id"].to_list() == ids.to_list()


def test_more_liquidations_in_a_second_than_a_page_holds_are_not_skipped_unseen():
    row = {
        "contract": "BTC_USDT",
        "left": "0",
        "size": "33",
        "fill_price": "1",
        "order_price": "1",
        "time": START_MS // 1000,
    }
    with (
        venue(with_markets(lambda _, asked: [row] * 100 if asked["from"] == "1704067200" else [])) as (
            client,
            _,
        ),
        pytest.raises(
            Permanent, match=r"gate fetch_liquidations BTC/USDT:USDT: 100 rows or more at 2024-01-01T00:00"
        ),
    ):
        fetched(LIQUIDATIONS, client, "gate:BTC/USDT:USDT", "2024-01-01", "2024-01-01T00:10")


def test_bitfinex_liquidations_are_of_one_instrument_executed_and_sided_by_their_size():
    """An answer is about all instruments; a row with 0 at place 8 is the order that led to an execution."""

    def liquidation(number: int, symbol: str, size: float, executed: int) -> list[list[Any]]:
        price = 33.255 if executed else None
        return [["pos", number, START_MS, None, symbol, size, 32.868, None, executed, 1, None, price]]

    said = [
        liquidation(1, "tBTCF0:USTF0", -8, 0),
        liquidation(1, "tBTCF0:USTF0", -8, 1),
        liquidation(2, "tBTCF0:USTF0", 0.5, 1),
        liquidation(3, "tAVAXF0:USTF0", 1, 1),
    ]
    with venue(with_markets(lambda *_: said)) as (client, asked):
        pages = fetched(LIQUIDATIONS, client, "bitfinex:BTC/USDT:USDT", "2024-01-01", "2024-01-01T01:00")
    assert (asked[-1][1]["start"], asked[-1][1]["end"]) == (str(START_MS), str(START_MS + HOUR_MS - 1))
    rows = parsed(LIQUIDATIONS, *pages)
    assert rows.select("price", "amount", "side").rows() == [
        ("33.255", "8", "buy"),
        ("33.255", "0.5", "sell"),
    ]


# Reference bars


@pytest.mark.parametrize(
    ("subject", "path", "named"),
    [
        ("binance:BTC/USDT:USDT@1h#mark", "/fapi.binance.com/fapi/v1/markPriceKlines", {"symbol": "BTCUSDT"}),
        ("binance:BTC/USDT:USDT@1h#index", "/fapi.binance.com/fapi/v1/indexPriceKlines", {"pair": "BTCUSDT"}),
        ("binance:BTC/USDT:USDT@1h#premium", "/fapi.binance.com/fapi/v1/premiumIndexKlines", {"symbol": "BTCUSDT"}),
        ("binance:BTC/USD:BTC@1h#index", "/dapi.binance.com/dapi/v1/indexPriceKlines", {"pair": "BTCUSD"}),
        ("bybit:BTC/USDT:USDT@1h#premium", "/api.bybit.com/v5/market/premium-index-price-kline", {}),
        ("okx:BTC/USDT:USDT@1h#index", "/www.okx.com/api/v5/market/history-index-candles", {"instId": "BTC-USDT"}),
        (
            "okx:BTC/USDT:USDT@1h#mark",
            "/www.okx.com/api/v5/market/history-mark-price-candles",
            {"instId": "BTC-USDT-SWAP"},
        ),
        (
            "gate:BTC/USDT:USDT@1h#mark",
            "/api.gateio.ws/api/v4/futures/usdt/candlesticks",
            {"contract": "mark_BTC_USDT"},
        ),
        ("krakenfutures:BTC/USD:USD@1h#index", "/futures.kraken.com/api/charts/v1/spot/PF_XBTUSD/1h", {}),
    ],
)  # fmt: skip
def test_reference_bars_are_asked_for_by_their_price(subject, path, named):
    texts = ["0.0001", "0.0002", "-0.0003", "0.0001"]

    def answer(asked_path: str, asked: dict[str, str]) -> Any:
        assert asked_path == path
        assert named.items() <= asked.items()
        listed = [[START_MS + n * HOUR_MS, *texts, "0", 0, "0", 60] for n in range(30)]
        match path.split("/")[1]:
            case "api.bybit.com":
                return {
                    "retCode": 0,
                    "retMsg": "OK",
                    "result": {"list": [[str(row[0]), *texts] for row in listed[::-1]]},
                }
            case "www.okx.com":
                return {"code": "0", "msg": "", "data": [[str(row[0]), *texts, "1"] for row in listed[::-1]]}
            case "api.gateio.ws":
                return [dict(zip("tohlc", [row[0] // 1000, *texts], strict=True)) for row in listed]
            case "futures.kraken.com":
                names = ("time", "open", "high", "low", "close")
                return {
                    "candles": [dict(zip(names, row, strict=False)) for row in listed],
                    "more_candles": False,
                }
        return listed

    with venue(with_markets(answer)) as (client, _):
        pages = fetched(REFERENCE, client, subject, "2024-01-01", "2024-01-02")
    rows = parsed(REFERENCE, *pages)
    assert rows["price_type"].unique().to_list() == [subject.partition("#")[2]]
    assert rows.select("open", "high", "low", "close").unique().rows() == [tuple(texts)]
    assert ms_of(rows, "open_at")[:24] == list(range(START_MS, START_MS + 24 * HOUR_MS, HOUR_MS))
    day = Asked(subject=subject, window=window("2024-01-01", "2024-01-02"), at=NOW)
    assert [claim.status for claim in REFERENCE.proof(day, pl.DataFrame(), rows)] == ["complete"]


def test_a_reference_bar_that_is_open_is_not_a_bar():
    listed = [
        [int(NOW.timestamp() * 1000) - n * HOUR_MS, "1", "1", "1", "1", "0", 0, "0", 60] for n in (2, 1, 0)
    ]
    with venue(with_markets(lambda *_: listed)) as (client, _):
        pages = fetched(
            REFERENCE, client, "binance:BTC/USDT:USDT@1h#mark", "2024-02-29T22:00", "2024-03-01T02:00"
        )
    # The bar that ended this moment may still get its last value.
    assert parsed(REFERENCE, *pages)["open_at"].to_list() == [NOW - timedelta(hours=2)]


# Trades of venues that count amounts in money or page by time


def test_trades_of_deribit_are_asked_for_by_the_thousand_and_counted_in_dollars():
    made = [(n, START_MS + n // 3 * 1000) for n in range(2500)]

    def answer(_: str, asked: dict[str, str]) -> Any:
        bound = whole_numbers(asked)
        assert asked["sorting"] == "asc"
        rows = [t for t in made if bound["start_timestamp"] <= t[1] <= bound["end_timestamp"]][
            : bound["count"]
        ]
        listed = [
            {"trade_id": f"{n}", "trade_seq": n, "timestamp": ms, "price": 100, "amount": 10, "direction": "sell",
             "instrument_name": "BTC-PERPETUAL"}
            for n, ms in rows
        ]  # fmt: skip
        return {"jsonrpc": "2.0", "result": {"trades": listed, "has_more": False}}

    with venue(with_markets(answer)) as (client, asked):
        pages = fetched(TRADES, client, "deribit:BTC/USD:BTC", "2024-01-01", "2024-01-02")
    rows = parsed(TRADES, *pages)
    assert sorted(set(rows["trade_id"].cast(int))) == [n for n, _ in made]
    assert rows.select("amount", "amount_unit", "side").unique().rows() == [("10", "quote", "sell")]
    assert len(asked) < 6


def test_bars_of_okx_from_six_hours_on_begin_by_utc():
    def answer(_: str, asked: dict[str, str]) -> Any:
        assert asked["bar"] == "1Dutc"
        listed = [
            [str(START_MS + n * 24 * HOUR_MS), "1", "2", "1", "2", "3", "4", "5", "1"] for n in range(3)
        ]
        return {"code": "0", "msg": "", "data": listed[::-1]}

    with venue(with_markets(answer)) as (client, _):
        rows = parsed(OHLCV, *fetched(OHLCV, client, "okx:BTC/USDT@1d", "2024-01-01", "2024-01-04"))
    assert [at.hour for at in rows["open_at"]] == [0, 0, 0]


def test_bars_of_coinbase_exchange_are_bounded_on_both_ends_and_no_more_than_300():
    lists = {"/api.exchange.coinbase.com/products": [{"id": "BTC-USD", "status": "online"}]}

    def answer(path: str, asked: dict[str, str]) -> Any:
        if path in lists:
            return lists[path]
        start, end = (datetime.fromisoformat(asked[name]) for name in ("start", "end"))
        assert timedelta(0) < end - start <= timedelta(minutes=300)
        first = int(start.timestamp()) - 120  # rows from before the start are possible
        return [[first + n * 60, 1, 2, 1, 2, 3] for n in range(5)][::-1]

    with venue(answer) as (client, asked):
        pages = fetched(OHLCV, client, "coinbaseexchange:BTC/USD@1m", "2024-01-01", "2024-01-01T12:00")
    assert len(asked) == 1 + 3
    assert parsed(OHLCV, *pages).height == 3 * 3


def test_the_side_of_coinbase_exchange_is_the_makers_and_ours_the_takers():
    lists = {"/api.exchange.coinbase.com/products": [{"id": "BTC-USD", "status": "online"}]}
    said = [{"trade_id": 1, "price": "1", "size": "1", "side": "buy", "time": "2024-01-01T00:00:00Z"}]
    with venue(lambda path, _: lists.get(path, said)) as (client, _):
        rows = parsed(
            TRADES, *fetched(TRADES, client, "coinbaseexchange:BTC/USD", "2024-01-01", "2024-01-02")
        )
    assert rows["side"].to_list() == ["sell"]


def test_trades_that_only_an_account_has_are_not_offered_as_those_of_the_market():
    with (
        venue(with_markets(lambda *_: [])) as (client, _),
        pytest.raises(UsageError, match=r"hyperliquid offers no trades \(ccxt has a call for it"),
    ):
        fetched(TRADES, client, "hyperliquid:BTC/USDC:USDC", "2024-01-01", "2024-01-02")


# The present


def test_a_book_that_ccxt_strips_keeps_its_number_and_the_moment_of_matching():
    book = {"s": "BTCUSDT", "b": [["9999", "1"]], "a": [["10001", "1"], ["10000.5", "2"]], "ts": START_MS + 9,
            "u": 77, "seq": 5, "cts": START_MS}  # fmt: skip
    said = {"retCode": 0, "retMsg": "OK", "result": book}
    with venue(with_markets(lambda *_: said)) as (client, asked):
        rows = parsed(BOOKS, *fetched(BOOKS, client, "bybit:BTC/USDT:USDT", "2024-01-01", "2024-01-02"))
    assert asked[-1][1]["limit"] == "500"
    row = rows.row(0, named=True)
    assert (row["sequence"], row["bid_prices"], row["ask_prices"]) == (77, ["9999"], ["10000.5", "10001"])
    assert (ms_of(rows), row["known_at"], row["amount_unit"]) == ([START_MS], NOW, "contracts")


def test_bitfinex_books_are_asked_for_by_price_and_dated_by_their_receipt():
    said = [["100", 2, "1.5"], ["99.5", 1, "2"], ["1000", 1, "-0.5"], ["101", 3, "-4"]]
    with venue(with_markets(lambda *_: said)) as (client, asked):
        rows = parsed(BOOKS, *fetched(BOOKS, client, "bitfinex:BTC/USDT:USDT", "2024-01-01", "2024-01-02"))
    assert asked[-1][0].endswith("/book/tBTCF0:USTF0/P0")
    row = rows.row(0, named=True)
    assert (row["bid_prices"], row["bid_amounts"]) == (["100", "99.5"], ["1.5", "2"])
    assert (row["ask_prices"], row["ask_amounts"]) == (["101", "1000"], ["4", "0.5"])
    assert (row["event_at"], row["sequence"]) == (NOW, None)


@pytest.mark.parametrize(
    ("subject", "said", "expected"),
    [
        (
            "binance:BTC/USD:BTC",
            [{"symbol": "BTCUSD_PERP", "pair": "BTCUSD", "lastPrice": "100", "weightedAvgPrice": "99", "volume": "7",
              "baseVolume": "5", "closeTime": START_MS, "openPrice": "0", "highPrice": "101", "lowPrice": "98"}],
            {"base_volume": "5", "quote_volume": None, "open": None, "last": "100", "vwap": "99"},
        ),
        (
            "bybit:BTC/USD:BTC",
            {"retCode": 0, "retMsg": "OK", "time": 1, "result": {"category": "inverse", "list": [
                {"symbol": "BTCUSD", "lastPrice": "50", "volume24h": "1000", "turnover24h": "20",
                 "openInterestValue": "1", "markPrice": "50.5", "indexPrice": "49.5"}]}},
            {"base_volume": "20", "quote_volume": "1000", "mark_price": "50.5", "is_dated_by_venue": False},
        ),
        (
            "okx:BTC/USDT:USDT",
            {"code": "0", "data": [{"instType": "SWAP", "instId": "BTC-USDT-SWAP", "last": "50", "vol24h": "1000",
                                    "volCcy24h": "10", "ts": str(START_MS), "bidPx": "49", "bidSz": "3"}]},
            {"base_volume": None, "quote_volume": None, "bid": "49", "bid_amount": "3", "is_dated_by_venue": True},
        ),
        (
            "gate:BTC/USDT:USDT",
            [{"contract": "BTC_USDT", "last": "50", "mark_price": "50", "volume_24h_base": "nan",
              "volume_24h_quote": "nan", "change_percentage": "5"}],
            {"base_volume": None, "quote_volume": None, "open": None, "last": "50"},
        ),
        (
            "krakenfutures:BTC/USD:USD",
            {"ticker": {"symbol": "PF_XBTUSD", "last": 50, "open24h": 49, "lastTime": "2024-01-01T00:00:00.000Z",
                        "bid": 49, "ask": 51, "vol24h": 3, "markPrice": 50}, "result": "success"},
            {"open": "49", "is_dated_by_venue": False, "base_volume": "3", "event_at": NOW},
        ),
    ],
)  # fmt: skip
def test_a_ticker_says_only_what_the_venue_says_in_the_unit_of_the_column(subject, said, expected):
    with venue(with_markets(lambda *_: said)) as (client, _):
        rows = parsed(TICKERS, *fetched(TICKERS, client, subject, "2024-01-01", "2024-01-02"))
    row = rows.row(0, named=True)
    assert {name: row[name] for name in expected} == expected
    assert row["known_at"] == NOW


# What is not there, and what goes wrong


@pytest.mark.parametrize(
    ("feed", "subject", "message"),
    [
        (LIQUIDATIONS, "binance:BTC/USDT:USDT", r"binance offers no liquidations; it has candles, trades, tickers"),
        (LIQUIDATIONS, "deribit:BTC/USD:BTC", r"deribit offers no liquidations \(ccxt has a call for it"),
        (FUNDING, "bitfinex:BTC/USDT:USDT", r"bitfinex offers no funding .*; it has .*open_interest, liquidations"),
        (FUNDING, "kraken:BTC/USD", r"kraken offers no funding; it has candles, trades, tickers, books"),
        (INTEREST, "krakenfutures:BTC/USD:USD", "krakenfutures offers no open_interest"),
        (INTEREST, "deribit:BTC/USD:BTC@1h", "unknown interval of open interest of deribit '1h'"),
        (INTEREST, "binance:BTC/USDT:USDT@1m", "unknown interval of open interest of binance '1m'; did you mean 15m"),
        (REFERENCE, "okx:BTC/USDT:USDT@1h#premium", "unknown price of okx 'premium'; did you mean"),
        (REFERENCE, "binance:BTC/USDT:USDT@1h#marc", "unknown price of binance 'marc'; did you mean mark"),
        (REFERENCE, "binance:BTC/USDT:USDT@1h", "exchange:symbol@interval#price"),
        (REFERENCE, "binance:BTC/USDT:USDT@7h#mark", "unknown interval of binance '7h'"),
        (TICKERS, "hyperliquid:BTC/USDC:USDC", r"hyperliquid offers no tickers .*; it has candles, books, funding"),
        (BOOKS, "krakn:BTC/USD", "unknown exchange 'krakn'; did you mean kraken.* by a row in exchanges.yaml"),
        (TICKERS, "kraken", "kraken:BTC/USD"),
    ],
)  # fmt: skip
def test_what_an_exchange_does_not_offer_is_refused_with_what_it_has(feed, subject, message):
    with venue(with_markets(lambda *_: [])) as (client, _), pytest.raises(UsageError, match=message):
        fetched(feed, client, subject, "2024-01-01", "2024-01-02")


SUBJECTS = {
    FUNDING.name: "binance:BTC/USDT:USDT",
    INTEREST.name: "binance:BTC/USDT:USDT@1h",
    LIQUIDATIONS.name: "gate:BTC/USDT:USDT",
    REFERENCE.name: "binance:BTC/USDT:USDT@1h#mark",
    TICKERS.name: "binance:BTC/USDT:USDT",
    BOOKS.name: "binance:BTC/USDT:USDT",
}
FEEDS = (FUNDING, INTEREST, LIQUIDATIONS, REFERENCE, TICKERS, BOOKS)


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
@pytest.mark.parametrize(
    ("said", "error"),
    [
        ((200, b'[{"symbol":"BTCUSDT","fun'), Transient),
        ((200, b"<html>Just a moment...</html>"), Transient),
        ((503, b"<html>busy</html>"), Transient),
        ((451, b"Unavailable For Legal Reasons"), Permanent),
    ],
)
def test_what_comes_in_place_of_data_is_an_error_and_kept(feed, said, error):
    with venue(with_markets(lambda *_: said)) as (client, _), pytest.raises(error) as raised:
        fetched(feed, client, SUBJECTS[feed.name], "2024-02-20", "2024-02-21")
    status, body = said
    assert [page.body for page in raised.value.pages] == ([body] if status == 200 else [])
    for page in raised.value.pages:
        with pytest.raises(ParseError, match=str(page.page_id)):
            parsed(feed, page)


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
@pytest.mark.parametrize(
    "body", [b"[7]", b'{"code":0}', b'[{"a":1}]', b'{"bids":[["1"', b"<html></html>", b""]
)
def test_a_page_that_is_not_what_the_feed_expects_is_refused_by_name(feed, body):
    said = (200, body)
    with venue(with_markets(lambda *_: said)) as (client, _):
        try:
            pages = fetched(feed, client, SUBJECTS[feed.name], "2024-02-20", "2024-02-20T00:30")
        except (Transient, Permanent) as error:
            pages = error.pages
    assert pages
    for page in pages:
        with pytest.raises(ParseError, match=f"page {page.page_id}"):
            parsed(feed, page)


GOOD: dict[str, Answer] = {
    FUNDING.name: lambda path, asked: funding_page(path, asked, settlements(8)),
    INTEREST.name: lambda path, asked: interest_page(path, asked, HOUR_MS),
    LIQUIDATIONS.name: lambda _, asked: [
        {"contract": "BTC_USDT", "left": "0", "size": "-3", "fill_price": "1", "order_price": "1",
         "time": int(asked["from"])}
    ],
    REFERENCE.name: lambda *_: [[1_708_387_200_000, "1", "2", "1", "2", "0", 0, "0", 60]],
    TICKERS.name: lambda *_: {"symbol": "BTCUSDT", "lastPrice": "1", "closeTime": START_MS, "volume": "2"},
    BOOKS.name: lambda *_: {"lastUpdateId": 1, "T": START_MS, "bids": [["1", "2"]], "asks": [["2", "3"]]},
}  # fmt: skip
ODD: tuple[Any, ...] = (None, "", "NaN", "odd", 10**30, -1, 1.5, True, [], ["1"], [[]], {}, {"a": 1})


def places(said: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where the values of a JSON document are."""
    inside = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()
    for name, value in inside:
        yield (*path, name)
        yield from places(value, (*path, name))


def changed(body: bytes, rng: random.Random) -> bytes:
    """The document with one value replaced."""
    said = json.loads(body)
    *above, last = rng.choice(list(places(said)))
    holder = said
    for name in above:
        holder = holder[name]
    holder[last] = rng.choice(ODD)
    return json.dumps(said).encode()


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
def test_a_changed_answer_gives_rows_that_can_be_judged_or_is_refused_by_name(feed):
    with venue(with_markets(GOOD[feed.name])) as (client, _):
        page = fetched(feed, client, SUBJECTS[feed.name], "2024-02-20", "2024-02-20T12:00")[0]
    rng, judged, refused = random.Random(feed.name), 0, []
    for _ in range(40):
        one = replace(page, body=changed(page.body, rng))
        try:
            rows = parsed(feed, one)
        except ParseError as error:
            refused.append((str(one.page_id), str(error)))
            continue
        assert conform(feed.table, rows.lazy()).collect().height == rows.height
        judged += 1
    assert judged > 5
    assert all(page_id in message for page_id, message in refused)


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
def test_no_pages_make_an_empty_frame_with_the_tables_columns(feed):
    frame = parsed(feed)
    stored = {c.name: c.dtype for c in feed.table.columns if c.derived is None}
    texts = {name: pl.String() if t.is_float() else t for name, t in stored.items()}
    assert {
        name: pl.List(pl.String()) if t == pl.List(pl.Float64()) else t for name, t in texts.items()
    } == dict(frame.schema)
