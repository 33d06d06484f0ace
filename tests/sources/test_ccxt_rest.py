"""CCXT over REST: fetching through the twin and a small server, parsing against ccxt's own recorded truth."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest
import stamina
from pydantic import SecretStr, ValidationError

from lakehouse.bronze import Page, pages_frame
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window, parse_moment
from sources import ccxt_derivatives
from sources.ccxt_errors import CASES, sort_error
from sources.ccxt_rest import FEEDS
from sources.ccxt_rules import ExchangeRules, exchange_rules
from sources.client import Answer, Client
from sources.errors import ParseError, Permanent, QuotaExhausted, SourceError, Transient
from sources.feed import Feed
from sources.twin.server import running_twin

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "../shared/recorded/ccxt/ccxt-static"
RECEIVED = datetime(2026, 11, 1, tzinfo=UTC)
MARKETS, OHLCV, TRADES = FEEDS
FUNDING, INTEREST, _ = ccxt_derivatives.FEEDS
BTC_USD = {"id": "XXBTZUSD", "symbol": "BTC/USD", "base": "BTC", "quote": "USD", "type": "spot", "spot": True}
SWAP = {
    "id": "BTCUSDT",
    "symbol": "BTC/USDT:USDT",
    "base": "BTC",
    "quote": "USDT",
    "settle": "USDT",
    "type": "swap",
    "spot": False,
    "swap": True,
    "contract": True,
    "linear": True,
    "inverse": False,
}


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3, cap=True):
        yield


def window(start: str, end: str) -> Window:
    return Window(parse_moment(start), parse_moment(end))


def page(feed: Feed, body: object, *, received_at=RECEIVED, status=200, **request) -> Page:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    asked = {
        "options": {},
        "part": 0,
        "others": [],
        "method": "GET",
        "url": "https://x",
        **request,
    }
    return Page(
        feed=feed.name, subject="s", request=asked, received_at=received_at, body=raw, http_status=status
    )


def bars(body: object, *, exchange="kraken", market=BTC_USD, **arguments) -> Page:
    named = {"symbol": market["symbol"], "timeframe": "1m", **arguments}
    request = {"exchange": exchange, "call": "fetch_ohlcv", "market": market, "arguments": named}
    return page(OHLCV, body, **request)


def trades(body: object, *, exchange="kraken", market=BTC_USD, **arguments) -> Page:
    request = {"exchange": exchange, "call": "fetch_trades", "market": market}
    return page(TRADES, body, **request, arguments={"symbol": market["symbol"], **arguments})


def parsed(feed: Feed, *pages: Page) -> pl.DataFrame:
    return feed.parse(pages_frame(pages, run_id="r", code_version="v")).collect()


def fetched(feed: Feed, client: Client, subject: str, *span: str) -> list[Page]:
    return list(feed.fetch(client, subject, window(*span)))


# What the rows say


def test_a_bar_keeps_the_venues_text_and_is_known_when_it_closes():
    body = {
        "error": [],
        "result": {
            "XXBTZUSD": [
                [1502402520, "3449.992", "3450.0010", "3449.9", "3449.999", "3449.997", "1.01200000", 7],
                [1502402580, "3449.997", "3450.000", "3440.001", "3440.001", "3441.656", "7.36749998", 12],
            ],
            "last": 1502402520,
        },
    }
    asked = bars(body)
    assert parsed(OHLCV, asked).rows(named=True) == [
        {
            "venue": "kraken",
            "instrument_id": "BTC/USD",
            "interval": "1m",
            "open_at": datetime(2017, 8, 10, 22, 2, tzinfo=UTC),
            "event_at": datetime(2017, 8, 10, 22, 3, tzinfo=UTC),
            "known_at": datetime(2017, 8, 10, 22, 3, tzinfo=UTC),
            "ingested_at": RECEIVED,
            "page_id": asked.page_id,
            "provider": "ccxt",
            "open": "3449.992",
            "high": "3450.0010",
            "low": "3449.9",
            "close": "3449.999",
            "volume": "1.01200000",
            "volume_unit": "base",
            "trade_count": 7,
        }
    ]


def test_a_trade_keeps_the_venues_text_and_the_takers_side():
    body = {
        "error": [],
        "result": {"XXBTZUSD": [["3449.10", "1e-05", 1502402520.5, "s", "l", "", 42]], "last": "1"},
    }
    asked = trades(body)
    assert parsed(TRADES, asked).rows(named=True) == [
        {
            "venue": "kraken",
            "instrument_id": "BTC/USD",
            "trade_id": "42",
            "event_at": datetime(2017, 8, 10, 22, 2, 0, 500_000, tzinfo=UTC),
            "known_at": datetime(2017, 8, 10, 22, 2, 0, 500_000, tzinfo=UTC),
            "ingested_at": RECEIVED,
            "page_id": asked.page_id,
            "provider": "ccxt",
            "price": "3449.10",
            "amount": "1e-05",
            "amount_unit": "base",
            "side": "sell",
        }
    ]


def test_numbers_that_come_as_json_numbers_keep_their_digits():
    body = b"[[1560452102,1710327651446,-0.00019983000000000001,73218.12345678901234567]]"
    market = {**BTC_USD, "id": "tBTCUSD"}
    row = parsed(TRADES, trades(body, exchange="bitfinex", market=market)).row(0, named=True)
    assert (row["price"], row["amount"]) == ("73218.12345678901234567", "0.00019983000000000001")
    assert (row["side"], row["trade_id"]) == ("sell", "1560452102")


@pytest.mark.parametrize(
    ("received", "rows"),
    [("2019-01-01T01:59:59Z", 1), ("2019-01-01T02:00:01.9Z", 1), ("2019-01-01T02:00:02Z", 2)],
)
def test_a_bar_that_was_open_or_not_settled_when_it_was_received_is_not_a_bar(received, rows):
    body = [[ms, "1", "2", "1", "2", "3", 0, "0", 4, "0", "0", "0"] for ms in (1546300800000, 1546304400000)]
    asked = bars(body, exchange="binance", market={**BTC_USD, "id": "BTCUSDT"}, timeframe="1h")
    frame = pages_frame([asked], run_id="r", code_version="v")
    at = pl.lit(parse_moment(received)).cast(frame.schema["received_at"])
    assert OHLCV.parse(frame.with_columns(received_at=at)).collect().height == rows


def test_a_month_ends_where_the_calendar_says():
    body = [[1548979200000, "1", "2", "1", "2", "3"]]
    row = parsed(OHLCV, bars(body, exchange="binance", timeframe="1M")).row(0, named=True)
    assert (row["open_at"], row["event_at"]) == (
        datetime(2019, 2, 1, tzinfo=UTC),
        datetime(2019, 3, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("exchange", "unit"), [("binance", "base"), ("bybit", "base"), ("gate", "contracts"), ("whitebit", None)]
)
def test_the_volume_of_contracts_has_the_unit_of_its_venue_and_none_where_it_is_not_known(exchange, unit):
    lists = {
        "bybit": {
            "retCode": 0,
            "retMsg": "OK",
            "result": {"list": [["1546300800000", "1", "1", "1", "1", "2", "2"]]},
        },
        "gate": [{"t": 1546300800, "o": "1", "h": "1", "l": "1", "c": "1", "v": 2}],
        "whitebit": {
            "success": True,
            "message": None,
            "result": [[1546300800, "1", "1", "1", "1", "2", "2"]],
        },
        "binance": [[1546300800000, "1", "1", "1", "1", "2", 0, "2", 4]],
    }
    row = parsed(OHLCV, bars(lists[exchange], exchange=exchange, market=SWAP)).row(0, named=True)
    assert (row["volume"], row["volume_unit"]) == ("2", unit)


def test_contracts_are_counted_in_contracts():
    said = {
        "execId": "e",
        "symbol": "BTCUSDT",
        "price": "1",
        "size": "2",
        "side": "Buy",
        "time": "1707905515968",
    }
    body = {"retCode": 0, "retMsg": "OK", "result": {"category": "linear", "list": [said]}}
    row = parsed(TRADES, trades(body, exchange="bybit", market=SWAP)).row(0, named=True)
    assert (row["instrument_id"], row["amount"], row["amount_unit"]) == ("BTC/USDT:USDT", "2", "contracts")


def test_bad_rows_come_out_as_they_are():
    body = [
        {"a": 1, "p": "-5", "q": None, "T": 1546300800000, "m": False},
        {"a": None, "p": "abc", "q": "1", "T": None},
    ]
    rows = parsed(TRADES, trades(body, exchange="binance", since=1546300800000, limit=1000))
    said = rows.select("trade_id", "event_at", "price", "amount", "side").rows()
    assert sorted(said, key=str) == [
        ("1", datetime(2019, 1, 1, tzinfo=UTC), "-5", None, "buy"),
        (None, None, "abc", "1", None),
    ]


def test_trades_of_one_moment_are_in_the_order_of_their_ids():
    body = [{"a": i, "p": "1", "q": "1", "T": 1546300800000, "m": False} for i in (10, 9, 100)]
    assert parsed(TRADES, trades(body, exchange="binance"))["trade_id"].to_list() == ["9", "10", "100"]


def test_many_pages_of_many_exchanges_are_understood_at_once():
    kraken = {"error": [], "result": {"XXBTZUSD": [["1", "1", 1502402520.5, "s", "l", "", 42]], "last": "1"}}
    binance = [{"a": 1, "p": "1", "q": "1", "T": 1546300800000, "m": False}]
    ether = {**BTC_USD, "id": "ETHUSDT", "symbol": "ETH/USDT", "base": "ETH", "quote": "USDT"}
    rows = parsed(
        TRADES,
        trades(kraken),
        trades(binance, exchange="binance"),
        trades(binance, exchange="binance", market=ether),
    )
    assert rows.select("venue", "instrument_id").rows() == [
        ("binance", "BTC/USD"),
        ("binance", "ETH/USDT"),
        ("kraken", "BTC/USD"),
    ]


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
def test_no_pages_make_an_empty_frame_with_the_tables_columns(feed):
    frame = parsed(feed)
    stored = {c.name: c.dtype for c in feed.table.columns if c.derived is None}
    assert frame.height == 0
    assert {name: pl.String() if t.is_float() else t for name, t in stored.items()} == dict(frame.schema)


@pytest.mark.parametrize(
    ("exchange", "body"),
    [
        ("kraken", {"error": [], "result": {"XXBTZUSD": [], "last": "0"}}),
        ("binance", []),
        ("okx", {"code": "0", "msg": "", "data": []}),
    ],
)
def test_an_answer_without_trades_is_no_error(exchange, body):
    assert parsed(TRADES, trades(body, exchange=exchange)).height == 0


@pytest.mark.parametrize(
    ("exchange", "body", "wrong"),
    [
        ("kraken", b'{"error":[],"result":{"XXBTZUSD":[["3449.1","0.1",15024', "not JSON"),
        ("kraken", b"<html><body>502 Bad Gateway</body></html>", "not JSON"),
        ("kraken", b"\xff\xfe", "not JSON"),
        ("kraken", b"", "not JSON"),
        ("kraken", {"error": ["EGeneral:Internal error"]}, "EGeneral:Internal error"),
        ("kraken", {"error": [], "result": {"XETHZUSD": {}}}, "no rows"),
        ("kraken", {"foo": 1}, "no rows"),
        ("kraken", [1, 2], "no rows"),
        ("kraken", {"error": [], "result": {"XXBTZUSD": [7], "last": "1"}}, "has no attribute"),
        ("binance", {"symbols": {}}, "none of its 1 rows has a time"),
        ("binance", {"code": -1121, "msg": "Invalid symbol."}, "Invalid symbol"),
        ("bitfinex", ["error", 10020, "symbol: invalid"], "symbol: invalid"),
        ("okx", {"code": "51001", "msg": "Instrument ID does not exist", "data": []}, "does not exist"),
    ],
)
def test_an_answer_that_is_not_trades_is_refused_by_name(exchange, body, wrong):
    asked = trades(body, exchange=exchange)
    with pytest.raises(ParseError, match=rf"ccxt_trades s, page {asked.page_id}: .*{wrong}"):
        parsed(TRADES, asked)


def test_an_answer_with_an_error_status_is_refused():
    request = {
        "exchange": "kraken",
        "call": "fetch_trades",
        "market": BTC_USD,
        "arguments": {"symbol": "BTC/USD"},
    }
    with pytest.raises(ParseError, match="502"):
        parsed(TRADES, page(TRADES, b"Bad Gateway", status=502, **request))


# The truth of ccxt's own tests

NAMES = {
    "fetchTrades": ("symbol", "since", "limit", "params"),
    "fetchOHLCV": ("symbol", "timeframe", "since", "limit", "params"),
}
needs_static = pytest.mark.skipif(
    not STATIC.is_dir(), reason="needs the recorded files in ../shared/recorded"
)


@cache
def static(kind: str, exchange: str) -> dict:
    return json.loads((STATIC / kind / f"{exchange}.json").read_text(encoding="utf-8"))


def cases() -> Iterator[object]:
    for path in sorted((STATIC / "response").glob("*.json")):
        for method in NAMES:
            for n, case in enumerate(static("response", path.stem)["methods"].get(method, [])):
                yield pytest.param(path.stem, method, case, id=f"{path.stem}-{method}-{n}")


def static_market(exchange: str, symbol: str) -> dict:
    """The market as our fetch would put it into a page: ccxt resolves other names of a symbol."""
    import ccxt

    if exchange not in ccxt.exchanges:
        pytest.skip(f"this ccxt has no {exchange}")
    venue = getattr(ccxt, exchange)()
    venue.set_markets(static("markets", exchange))
    market = venue.market(symbol)
    plain = {name: str(v) if isinstance(v, float) else v for name, v in market.items()}
    return {name: v for name, v in plain.items() if isinstance(v, str | int | bool)}


def number(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(value))


@needs_static
@pytest.mark.parametrize(("exchange", "method", "case"), list(cases()))
def test_every_recorded_answer_means_what_ccxt_says_it_means(exchange, method, case):
    market = static_market(exchange, case["input"][0])
    arguments = {**dict(zip(NAMES[method], case["input"], strict=False)), "symbol": market["symbol"]}
    options = static("response", exchange).get("options") or {}
    feed = TRADES if method == "fetchTrades" else OHLCV
    call = {"fetchTrades": "fetch_trades", "fetchOHLCV": "fetch_ohlcv"}[method]
    request = {"exchange": exchange, "call": call, "arguments": {"timeframe": "1m", **arguments}}
    if feed is TRADES:
        del request["arguments"]["timeframe"]
    rows = parsed(feed, page(feed, case["httpResponse"], **request, market=market, options=options))
    said = [_trade(row) if feed is TRADES else _bar(row) for row in rows.iter_rows(named=True)]
    expected = [
        (t["timestamp"], t["id"], t["side"], number(t["price"]), number(t["amount"]), t["symbol"])
        if feed is TRADES
        else (t[0], *(number(v) for v in t[1:6]))
        for t in case["parsedResponse"]
    ]
    assert sorted(said, key=str) == sorted(expected, key=str)


def _trade(row: dict) -> tuple:
    at_ms = round(row["event_at"].timestamp() * 1000)
    return (
        at_ms,
        row["trade_id"],
        row["side"],
        number(row["price"]),
        number(row["amount"]),
        row["instrument_id"],
    )


def _bar(row: dict) -> tuple:
    values = (number(row[name]) for name in ("open", "high", "low", "close", "volume"))
    return (round(row["open_at"].timestamp() * 1000), *values)


# The demo's recordings, through the twin

DEMO = [
    (MARKETS, "kraken", "2024-01-01", "2024-01-02", 11),
    (MARKETS, "binance", "2024-01-01", "2024-01-02", 75),
    (MARKETS, "bitstamp", "2024-01-01", "2024-01-02", 10),
    (MARKETS, "bitfinex", "2024-01-01", "2024-01-02", 17),
    (MARKETS, "bybit", "2024-01-01", "2024-01-02", 18),
    (MARKETS, "okx", "2024-01-01", "2024-01-02", 16),
    (MARKETS, "coinbaseexchange", "2024-01-01", "2024-01-02", 6),
    (OHLCV, "kraken:BTC/USD@1m", "2017-08-10T22:02", "2017-08-11T10:02", 719),
    (OHLCV, "kraken:BTC/USDT@1m", "2025-11-10T12:17", "2025-11-11T00:18", 720),
    (OHLCV, "binance:BTC/USDT@1h", "2020-04-30T21:00", "2020-07-01T04:00", 1468),
    (OHLCV, "binance:BTC/USDT@1d", "2019-01-01", "2020-01-02", 366),
    (OHLCV, "binance:ETH/BTC@1d", "2019-01-01", "2020-01-02", 366),
    (OHLCV, "binance:BTC/USDT:USDT@1d", "2019-09-08", "2020-01-02", 116),
    (OHLCV, "bitstamp:BTC/USD@1m", "2019-12-31T07:20", "2020-01-01", 1000),
    (OHLCV, "bitstamp:BTC/USD@1d", "2017-04-07", "2020-01-01", 1000),
    (OHLCV, "bybit:BTC/USDT:USDT@1h", "2024-01-30T16:00", "2024-01-30T19:00", 3),
    (OHLCV, "okx:BTC/USDT@1h", "2024-01-30T16:00", "2024-01-30T19:00", 3),
    (OHLCV, "bitfinex:BTC/USDT@1h", "2019-03-11T10:00", "2019-03-11T11:00", 1),
    (OHLCV, "coinbaseexchange:BTC/USDT@1h", "2024-03-13T11:00", "2024-03-13T12:00", 1),
    (FUNDING, "binance:BTC/USDT:USDT", "2020-09-15", "2020-10-18T00:00:01", 100),
    (FUNDING, "binance:BTC/USD:BTC", "2020-11-01T08:00", "2020-11-17T16:00:01", 50),
    (INTEREST, "bybit:BTC/USDT:USDT@1h", "2025-02-16T17:00", "2025-02-16T18:00", 1),
    (TRADES, "kraken:BTC/USDT", "2025-11-10T17:23:53", "2025-11-11T00:13:55", 1000),
    (TRADES, "binance:BTC/USDT", "2020-01-02T15:10:23", "2020-01-02T15:18:40", 1001),
    (TRADES, "binance:BTC/USDT", "2020-01-02T15:04:05", "2020-01-02T15:04:06", 4),
    (TRADES, "binance:BTC/USDT", "2020-05-28T04:29:05", "2020-05-28T04:29:06", 5),
    (TRADES, "bitstamp:BTC/USD", "2019-06-14T02:11", "2019-06-14T03:12", 383),
    (TRADES, "bybit:BTC/USDT:USDT", "2024-02-14T10:11", "2024-02-14T10:12", 1),
    (TRADES, "okx:BTC/USDT", "2024-03-13T11:00", "2024-03-13T11:01", 1),
    (TRADES, "bitfinex:BTC/USDT", "2024-03-13T11:00", "2024-03-13T11:01", 1),
    (TRADES, "coinbaseexchange:BTC/USDT", "2024-03-13T11:00", "2024-03-13T11:01", 1),
]


@pytest.fixture(scope="module")
def twin_client() -> Iterator[Client]:
    with running_twin(ROOT / "recordings/ccxt") as url, Client(Settings(twin_url=url)) as client:
        yield client


@pytest.mark.parametrize(
    ("feed", "subject", "start", "end", "count"), DEMO, ids=[f"{f.name} {s} {a}" for f, s, a, *_ in DEMO]
)
def test_each_subject_of_the_demo_is_fetched_and_understood(twin_client, feed, subject, start, end, count):
    pages = fetched(feed, twin_client, subject, start, end)
    assert all(page.request["url"].startswith("https://") for page in pages)
    assert [page.sequence for page in pages] == list(range(len(pages)))
    assert parsed(feed, *pages).height == count
    assert {page.page_id for page in pages} == {
        p.page_id for p in fetched(feed, twin_client, subject, start, end)
    }


def test_a_page_says_what_was_asked_and_which_market_is_meant(twin_client):
    page = fetched(TRADES, twin_client, "kraken:BTC/USDT", "2025-11-10T17:23:53", "2025-11-11T00:13:55")[0]
    assert page.window == window("2025-11-10T17:23:53", "2025-11-11T00:13:55")
    assert page.request["url"] == (
        "https://api.kraken.com/0/public/Trades?pair=XBTUSDT&count=1000&since=1762795432999999999"
    )
    assert page.request["arguments"] == {
        "symbol": "BTC/USDT",
        "since": None,
        "limit": 1000,
        "params": {"since": "1762795432999999999"},
    }
    assert {"id": "XBTUSDT", "symbol": "BTC/USDT", "spot": True}.items() <= page.request["market"].items()
    assert "info" not in page.request["market"]


def test_an_instrument_has_the_venues_own_steps_and_bounds(twin_client):
    rows = parsed(MARKETS, *fetched(MARKETS, twin_client, "binance", "2024-01-01", "2024-01-02"))
    spot = rows.row(by_predicate=pl.col("instrument_id") == "BTC/USDT", named=True)
    inverse = rows.row(by_predicate=pl.col("instrument_id") == "BTC/USD:BTC", named=True)
    named = (
        "venue_symbol",
        "type",
        "settle",
        "is_inverse",
        "contract_size",
        "price_step",
        "min_amount",
        "is_active",
    )
    assert tuple(spot[name] for name in named) == (
        "BTCUSDT", "spot", None, None, None, "0.01000000", "0.00001000", True,
    )  # fmt: skip
    assert tuple(inverse[name] for name in named) == (
        "BTCUSD_PERP", "swap", "BTC", True, "100", "0.1", "1", True,
    )  # fmt: skip
    assert spot["event_at"] == spot["known_at"] == spot["ingested_at"]


def test_a_call_of_several_answers_is_understood_from_its_first_page_alone(twin_client):
    pages = fetched(MARKETS, twin_client, "bybit", "2024-01-01", "2024-01-02")
    assert [page.request["part"] for page in pages] == [0, 0, 1, 0, 1]
    assert all(page.request["others"][0]["body"].encode() == following.body for page, following in
               ((pages[1], pages[2]), (pages[3], pages[4])))  # fmt: skip
    assert [parsed(MARKETS, page).height for page in pages] == [7, 9, 0, 2, 0]
    assert parsed(MARKETS, *reversed(pages)).height == 18


def test_each_market_points_at_the_page_that_names_it():
    first = {"products": [{"product_id": "BTC-USD", "base_currency_id": "BTC", "quote_currency_id": "USD"}]}
    future = {
        "product_id": "BIT-28JUL23-CDE",
        "product_type": "FUTURE",
        "future_product_details": {
            "contract_root_unit": "BTC",
            "contract_expiry_type": "EXPIRING",
            "contract_expiry": "2023-07-28T15:00:00Z",
            "contract_size": "0.01",
        },
        "quote_currency_id": "USD",
    }

    def answer(_path: str, asked: dict[str, str]):
        return {"products": [future]} if asked else first

    with venue(answer) as (url, _), Client(Settings(twin_url=url)) as client:
        pages = fetched(MARKETS, client, "coinbase", "2024-01-01", "2024-01-02")
    rows = parsed(MARKETS, *pages)
    assert dict(rows.select("venue_symbol", "page_id").rows()) == {
        "BTC-USD": pages[0].page_id,
        "BIT-28JUL23-CDE": pages[1].page_id,
    }


@pytest.mark.parametrize(
    ("feed", "subject", "message"),
    [
        (MARKETS, "krakn", "unknown exchange 'krakn'; did you mean kraken"),
        (TRADES, "krakn:BTC/USD", "unknown exchange 'krakn'; did you mean kraken"),
        (TRADES, "kraken", "kraken:BTC/USD"),
        (TRADES, "kraken:BTC/USX", "unknown symbol of kraken 'BTC/USX'; did you mean .*BTC/USD"),
        (OHLCV, "kraken:BTC/USD", "kraken:BTC/USD@1m"),
        (OHLCV, "kraken:BTC/USD@1x", "unknown interval of kraken '1x'; did you mean 1"),
        (OHLCV, "kraken:BTC/USD@", "kraken:BTC/USD@1m"),
    ],
)
def test_an_impossible_subject_is_refused_with_what_is_right(twin_client, feed, subject, message):
    with pytest.raises(UsageError, match=message):
        fetched(feed, twin_client, subject, "2024-01-01", "2024-01-02")


def test_a_window_that_has_not_begun_asks_for_nothing(twin_client):
    assert fetched(TRADES, twin_client, "kraken:BTC/USDT", "2999-01-01", "2999-01-02") == []


# A venue that pages, limits and fails

PAIRS = {
    "XXBTZUSD": {"altname": "XBTUSD", "base": "XXBT", "quote": "ZUSD", "pair_decimals": 1, "lot_decimals": 8}
}
Said = tuple[int, dict[str, str], bytes]


@contextmanager
def venue(answer) -> Iterator[tuple[str, list[str]]]:
    """A server that answers requests with what `answer(path, parameters)` says; yields base and requests."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            parts = urlsplit(self.path)
            said = answer(parts.path, {name: v[0] for name, v in parse_qs(parts.query).items()})
            status, headers, body = said if isinstance(said, tuple) else (200, {}, json.dumps(said).encode())
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def kraken_that_says(*sayings):
    """AssetPairs, then the sayings in turn, the last one again and again."""
    left = list(sayings)

    def answer(path: str, _: dict[str, str]):
        if path.endswith("/AssetPairs"):
            return {"error": [], "result": PAIRS}
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


TWO_TRADES = {
    "error": [],
    "result": {
        "XXBTZUSD": [["1", "1", 1704067200.5, "s", "l", "", 1], ["2", "1", 1704067201.5, "b", "l", "", 2]],
        "last": "1704067201500000000",
    },
}


def test_a_spent_rate_limit_is_waited_for_and_asked_again():
    sayings = (429, {"Retry-After": "1"}, b'{"error":["EAPI:Rate limit exceeded"]}'), TWO_TRADES
    with venue(kraken_that_says(*sayings)) as (url, asked), Client(Settings(twin_url=url)) as client:
        pages = fetched(TRADES, client, "kraken:BTC/USD", "2024-01-01", "2024-01-02")
    assert [urlsplit(path).path for path in asked] == [
        "/api.kraken.com/0/public/AssetPairs",
        "/api.kraken.com/0/public/Trades",
        "/api.kraken.com/0/public/Trades",
    ]
    assert [page.http_status for page in pages] == [200]
    assert parsed(TRADES, *pages)["trade_id"].to_list() == ["1", "2"]


@pytest.mark.parametrize(
    ("saying", "error", "message"),
    [
        ((451, {}, b"Unavailable For Legal Reasons"), Permanent, "refuses this place of origin"),
        ((200, {}, b'{"error":[],"result":{"XXBTZUSD":[["1","1"'), Transient, "not JSON"),
        ((200, {"content-length": "999"}, b'{"error":[],'), Transient, "does not answer"),
        ((200, {}, b"<html>Just a moment...</html>"), Transient, "not JSON"),
        ((503, {}, b"<html>busy</html>"), Transient, "503"),
        ((200, {}, b'{"error":["EAPI:Rate limit exceeded"]}'), Transient, "Rate limit"),
        ((200, {}, b'{"error":["EQuery:Unknown asset pair"]}'), Permanent, "Unknown asset pair"),
        ((200, {}, b'{"error":[],"result":{"XXBTZUSD":[7]}}'), Permanent, "cannot read the answer"),
    ],
)
def test_what_goes_wrong_at_the_venue_is_sorted_by_what_can_be_done(saying, error, message):
    with (
        venue(kraken_that_says(saying)) as (url, asked),
        Client(Settings(twin_url=url)) as client,
        pytest.raises(error, match=message) as raised,
    ):
        fetched(TRADES, client, "kraken:BTC/USD", "2024-01-01", "2024-01-02")
    assert type(raised.value) is error
    assert len(asked) == 1 + (3 if error is Transient else 1)


@pytest.mark.parametrize(
    ("body", "is_list_garbled"),
    [
        *product(
            [
                b'{"error":[],"result":{"XXBTZUSD":[["1","1"',
                b"<html>Just a moment...</html>",
                b"\xff\xfe\x00",
            ],
            [True, False],
        ),
        (b'{"error":[],"result":{"XXBTZUSD":[7]}}', False),
    ],
)
def test_what_came_in_place_of_data_is_kept_as_a_page_that_cannot_be_parsed(body, is_list_garbled):
    answer = (lambda *_: (200, {}, body)) if is_list_garbled else kraken_that_says((200, {}, body))
    with venue(answer) as (url, _), Client(Settings(twin_url=url)) as client:
        with pytest.raises(SourceError) as raised:
            fetched(TRADES, client, "kraken:BTC/USD", "2024-01-01", "2024-01-02")
        (kept,) = raised.value.pages
    assert (kept.body, kept.http_status, kept.feed, kept.subject) == (
        body,
        200,
        TRADES.name,
        "kraken:BTC/USD",
    )
    with pytest.raises(ParseError, match=str(kept.page_id)):
        parsed(TRADES, kept)


def test_a_refusal_in_words_is_no_page():
    said = (200, {}, b'{"error":["EAPI:Rate limit exceeded"]}')
    with (
        venue(kraken_that_says(said)) as (url, _),
        Client(Settings(twin_url=url)) as client,
        pytest.raises(Transient) as raised,
    ):
        fetched(TRADES, client, "kraken:BTC/USD", "2024-01-01", "2024-01-02")
    assert raised.value.pages == ()


@pytest.mark.parametrize(
    ("feed", "asked", "named"),
    [
        (
            TRADES,
            trades([{"a": 1, "p": "1", "q": "1", "T": 10**30, "m": False}], exchange="binance"),
            "event_at",
        ),
        (
            OHLCV,
            bars([[1546300800000, "1", "1", "1", "1", "1", 0, "1", [1]]], exchange="binance"),
            "trade_count",
        ),
    ],
)
def test_a_value_that_no_column_can_hold_is_named(feed, asked, named):
    with pytest.raises(ParseError, match=rf"page {asked.page_id}: a {named} that cannot be read"):
        parsed(feed, asked)


def test_a_login_in_an_address_is_not_shown():
    settings = Settings(providers={"MNEMO_CCXT_URL": SecretStr("http://user:hunter2@127.0.0.1:1/p")})
    with Client(settings) as client, pytest.raises(Transient) as raised:
        fetched(TRADES, client, "kraken:BTC/USD", "2024-01-01", "2024-01-02")
    assert "at http://127.0.0.1:1/p/api.kraken.com/" in str(raised.value)
    assert "user" not in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_nobody_answering_is_transient_and_names_the_setting():
    with venue(kraken_that_says(TWO_TRADES)) as (url, _):
        pass
    settings = Settings(providers={"MNEMO_CCXT_URL": SecretStr(url)})
    with (
        Client(settings) as client,
        pytest.raises(Transient, match=r"kraken does not answer .*MNEMO_CCXT_URL"),
    ):
        fetched(TRADES, client, "kraken:BTC/USD", "2024-01-01", "2024-01-02")


def test_markets_are_asked_for_once_a_run_and_other_settings_lead_the_same_way():
    with (
        venue(kraken_that_says(TWO_TRADES)) as (url, asked),
        Client(Settings(providers={"MNEMO_CCXT_URL": SecretStr(url)})) as client,
    ):
        for _ in range(2):
            fetched(TRADES, client, "kraken:BTC/USD", "2024-01-01", "2024-01-02")
    assert Counter(urlsplit(path).path.rpartition("/")[2] for path in asked) == {"AssetPairs": 1, "Trades": 2}


def test_an_exchange_may_have_another_address(monkeypatch):
    rules = exchange_rules()["kraken"].model_copy(update={"urls": {"public": "https://mirror.example"}})
    monkeypatch.setitem(exchange_rules(), "kraken", rules)
    with venue(kraken_that_says(TWO_TRADES)) as (url, asked), Client(Settings(twin_url=url)) as client:
        pages = fetched(TRADES, client, "kraken:BTC/USD", "2024-01-01", "2024-01-02")
    assert asked[0] == "/mirror.example/0/public/AssetPairs"
    assert pages[0].request["url"].startswith("https://mirror.example/0/public/Trades?")


def test_a_page_of_an_exchange_that_ccxt_no_longer_has_is_refused():
    with pytest.raises(ParseError, match="unknown exchange 'mtgox'"):
        parsed(TRADES, trades([], exchange="mtgox"))


def test_secrets_never_reach_a_message():
    secret = "abcdefgh12345678"
    said = (400, {}, json.dumps({"error": [f"EGeneral:Invalid arguments {secret}"]}).encode())
    with venue(kraken_that_says(said)) as (url, _):
        settings = Settings(twin_url=url, providers={"MNEMO_FRED_API_KEY": SecretStr(secret)})
        with Client(settings) as client, pytest.raises(SourceError) as raised:
            fetched(TRADES, client, "kraken:BTC/USD", "2024-01-01", "2024-01-02")
    assert secret not in str(raised.value)
    assert "REDACTED" in str(raised.value)


# Each way of paging, against a venue that behaves as documented

START_MS = 1704067200000
BITFINEX_LISTS = (
    "pub:info:pair",
    "pub:info:pair:futures",
    "pub:list:pair:securities",
    "pub:list:pair:margin",
)
MARKET_LISTS = {
    "/api.kraken.com/0/public/AssetPairs": {"error": [], "result": PAIRS},
    "/api.binance.com/api/v3/exchangeInfo": {
        "symbols": [{"symbol": "BTCUSD", "baseAsset": "BTC", "quoteAsset": "USD", "status": "TRADING", "filters": []}]
    },
    f"/api-pub.bitfinex.com/v2/conf/{','.join(BITFINEX_LISTS)}": [
        [["BTCUSD", [None, None, None, "0.1", "10", None, None, None, None, None, None, None]]], [], [], [],
    ],
    "/www.okx.com/api/v5/public/instruments": {
        "code": "0",
        "data": [{"instId": "BTC-USD", "instType": "SPOT", "baseCcy": "BTC", "quoteCcy": "USD", "state": "live"}],
    },
    "/api.exchange.coinbase.com/products": [{"id": "BTC-USD", "status": "online"}],
    "/api.coinbase.com/api/v3/brokerage/market/products": {
        "products": [{"product_id": "BTC-USD", "base_currency_id": "BTC", "quote_currency_id": "USD"}]
    },
}  # fmt: skip


def ledger(size: int) -> list[tuple[int, int]]:
    """(id, ms) of trades, seven a second with the same time, none in the first 70 minutes."""
    return [(1000 + n, START_MS + 4_200_000 + n // 7 * 1000) for n in range(size)]


def page_of_trades(path: str, asked: dict[str, str], made: list[tuple[int, int]]) -> object:
    """What each venue answers from a ledger, by its documentation."""
    limit = int(asked.get("limit", asked.get("count", 0)))
    match path.split("/")[1]:
        case "api.binance.com":
            if "fromId" in asked:
                rows = [t for t in made if t[0] >= int(asked["fromId"])]
            else:
                rows = [t for t in made if int(asked["startTime"]) <= t[1] <= int(asked["endTime"])]
            return [{"a": i, "p": "1", "q": "1", "T": ms, "m": True} for i, ms in rows[:limit]]
        case "api-pub.bitfinex.com":
            rows = [t for t in made if int(asked["start"]) <= t[1] <= int(asked["end"])]
            return [[i, ms, 1, 1] for i, ms in rows[:limit]]
        case "api.kraken.com":
            rows = [t for t in made if t[1] * 1_000_000 + t[0] > int(asked["since"])][:limit]
            last = rows[-1][1] * 1_000_000 + rows[-1][0] if rows else int(asked["since"])
            listed = [["1", "1", ms / 1000, "s", "l", "", i] for i, ms in rows]
            return {"error": [], "result": {"XXBTZUSD": listed, "last": str(last)}}
        case "www.okx.com":
            rows = [t for t in made if "after" not in asked or t[0] < int(asked["after"])][-limit:]
            listed = [
                {"tradeId": str(i), "px": "1", "sz": "1", "side": "buy", "ts": str(ms)} for i, ms in rows
            ]
            return {"code": "0", "data": listed[::-1]}
        case "api.exchange.coinbase.com":
            rows = [t for t in made if "after" not in asked or t[0] < int(asked["after"])][-limit:]
            at = {
                ms: datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")
                for _, ms in rows
            }
            listed = [
                {"trade_id": i, "price": "1", "size": "1", "side": "buy", "time": at[ms]} for i, ms in rows
            ]
            return listed[::-1]
        case "api.coinbase.com":
            rows = [t for t in made if int(asked["start"]) * 1000 <= t[1] <= int(asked["end"]) * 1000][
                -limit:
            ]
            at = {
                ms: datetime.fromtimestamp(ms / 1000, UTC).isoformat().replace("+00:00", "Z")
                for _, ms in rows
            }
            listed = [
                {"trade_id": str(i), "price": "1", "size": "1", "side": "BUY", "time": at[ms]}
                for i, ms in rows
            ]
            return {"trades": listed[::-1]}
    raise AssertionError(path)


@pytest.mark.parametrize("size", [0, 1, 2500])
@pytest.mark.parametrize("exchange", ["binance", "bitfinex", "coinbase", "coinbaseexchange", "kraken", "okx"])
def test_all_trades_of_a_window_are_fetched_however_the_venue_pages(exchange, size):
    made = ledger(size)

    def answer(path: str, asked: dict[str, str]):
        if path in MARKET_LISTS:
            return {"products": []} if asked.get("product_type") else MARKET_LISTS[path]
        return page_of_trades(path, asked, made)

    with venue(answer) as (url, asked), Client(Settings(twin_url=url)) as client:
        pages = fetched(TRADES, client, f"{exchange}:BTC/USD", "2024-01-01", "2024-01-01T03:00")
    got = parsed(TRADES, *pages)["trade_id"].unique().cast(pl.Int64).sort().to_list()
    assert got == [i for i, _ in made]
    assert len(asked) < 40


@pytest.mark.parametrize(("exchange", "most"), [("bitfinex", 10_000), ("coinbase", 1000)])
def test_more_trades_at_one_moment_than_a_page_holds_are_not_skipped_unseen(exchange, most):
    made = [(1000 + n, START_MS + 5000) for n in range(most + 1)]
    made += [(200_000, START_MS + 1000), (200_001, START_MS + 9000)]
    made.sort(key=lambda trade: trade[1])

    def answer(path: str, asked: dict[str, str]):
        if path in MARKET_LISTS:
            return {"products": []} if asked.get("product_type") else MARKET_LISTS[path]
        return page_of_trades(path, asked, made)

    message = rf"{exchange} fetch_trades BTC/USD: {most} rows or more at 2024-01-01T00:00:05"
    with (
        venue(answer) as (url, _),
        Client(Settings(twin_url=url)) as client,
        pytest.raises(Permanent, match=message),
    ):
        fetched(TRADES, client, f"{exchange}:BTC/USD", "2024-01-01", "2024-01-01T00:01")


def test_bars_are_asked_for_in_bounded_steps_and_an_empty_one_is_not_the_end():
    def answer(path: str, asked: dict[str, str]):
        if path in MARKET_LISTS:
            return MARKET_LISTS[path]
        start, end = int(asked["startTime"]), int(asked["endTime"])
        first = max(start, START_MS + 1500 * 60_000)
        return [[ms, "1", "1", "1", "1", "1", 0, "1", 1] for ms in range(first, end, 60_000)]

    with venue(answer) as (url, asked), Client(Settings(twin_url=url)) as client:
        pages = fetched(OHLCV, client, "binance:BTC/USD@1m", "2024-01-01", "2024-01-02T18:00")
    assert len(pages) == len(asked) - 1 == 3
    assert pages[0].window == window("2024-01-01", "2024-01-01T16:40")
    opened_s = [int(at.timestamp()) for at in parsed(OHLCV, *pages)["open_at"]]
    assert opened_s == list(range(START_MS // 1000 + 1500 * 60, START_MS // 1000 + 42 * 3600, 60))


# Errors, as data

GEO_BINANCE = b'{"code":0,"msg":"Service unavailable from a restricted location according to b. Eligibility"}'


@pytest.mark.parametrize(
    ("exchange", "status", "body", "by_class", "expected", "wait_s"),
    [
        ("binance", 451, GEO_BINANCE, True, Permanent, None),
        ("okx", 451, b"", True, Permanent, None),
        ("binance", 403, b"<html>WAF</html>", True, Transient, 60),
        ("binance", 429, b'{"code":-1003,"msg":"Too many requests."}', True, Transient, None),
        ("binance", 418, b'{"code":-1003,"msg":"IP banned until 1"}', True, QuotaExhausted, None),
        ("bybit", 403, b"CloudFront is configured to block access from your country", True, Permanent, None),
        ("bybit", 403, b"access too frequent", True, Transient, 600),
        ("bybit", 200, b'{"retCode":10009,"retMsg":"IP has been banned"}', False, Permanent, None),
        ("bybit", 200, b'{"retCode":10016,"retMsg":"Internal server error"}', False, Transient, None),
        ("bitstamp", 403, b'{"code":"400.002","reason":"Request rate limit exceeded."}', False, Transient, None),
        ("bitfinex", 429, b'{"error":"ERR_RATE_LIMIT"}', False, Transient, 60),
        ("bitfinex", 200, b'["error",11010,"ratelimit: error"]', False, Transient, 60),
        ("bitfinex", 200, b'["error",10020,"symbol: invalid"]', False, Permanent, None),
        ("kraken", 200, b'{"error":["EAPI:Rate limit exceeded"]}', True, Transient, None),
        ("kraken", 200, b'{"error":["EQuery:Unknown asset pair"]}', False, Permanent, None),
        ("coinbaseexchange", 404, b'{"message":"NotFound"}', False, Permanent, None),
        ("kucoin", 200, b'{"code":"400302","msg":"unavailable in the U.S."}', False, Permanent, None),
        ("gate", 400, b'{"label":"INVALID_PARAM_VALUE","message":"Candlestick too long ago"}', False, Permanent, None),
        ("hyperliquid", 422, b"Failed to deserialize", False, Permanent, None),
        ("okx", 502, b"<html>country code</html>", True, Transient, None),
    ],
)  # fmt: skip
def test_an_error_is_sorted_by_what_the_venue_said(exchange, status, body, by_class, expected, wait_s):
    error = sort_error("m", exchange=exchange, answer=_refusal(status, body), may_pass=by_class)
    assert type(error) is expected
    if isinstance(error, Transient):
        assert error.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("headers", "body", "wait_s"),
    [
        ({"retry-after": "7"}, b"", 7.0),
        ({}, f'{{"error":["EService: Throttled: {int(RECEIVED.timestamp()) + 30}"]}}'.encode(), 30.0),
        ({}, b"", None),
    ],
)
def test_the_wait_that_the_venue_asks_for_is_kept(headers, body, wait_s):
    error = sort_error("m", exchange="kraken", answer=_refusal(429, body, **headers), may_pass=True)
    assert isinstance(error, Transient)
    assert error.retry_after_s == wait_s


def _refusal(status: int, body: bytes, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(
        method="GET", url="https://x", status=status, headers=named, body=body, received_at=RECEIVED
    )


# The table of exchanges


def test_every_row_of_the_table_is_an_exchange_that_ccxt_can_ask():
    import ccxt

    assert {
        "binance",
        "bitfinex",
        "bitstamp",
        "bybit",
        "coinbase",
        "coinbaseexchange",
        "kraken",
        "okx",
    } <= set(exchange_rules())
    for name in exchange_rules():
        has = getattr(ccxt, name)().has
        assert has["fetchTrades"] is has["fetchOHLCV"] is True, name
    assert {name for case in CASES for name in case.exchanges} <= set(ccxt.exchanges)


@pytest.mark.parametrize(
    "change",
    [
        {"pace": 1},
        {"trades": {"limit": 0, "paging": "newest"}},
        {"trades": {"limit": 1, "paging": "forward_id"}},
    ],
)
def test_a_wrong_row_is_refused(change):
    row = {"candles": {"limit": 1}, "trades": {"limit": 1, "paging": "newest"}}
    with pytest.raises(ValidationError):
        ExchangeRules.model_validate({**row, **change})
