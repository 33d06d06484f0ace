"""CCXT's data of the present and of contracts against what ccxt's own tests say that recorded answers mean."""

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from sources import ccxt_derivatives, ccxt_reference, ccxt_snapshots
from sources.feed import Feed

ROOT = Path(__file__).parents[2]
SHARED = ROOT / "../shared/recorded/ccxt"
STATIC = SHARED / "ccxt-static"
RECEIVED = datetime(2026, 11, 1, tzinfo=UTC)
FEEDS = {feed.name: feed for feed in (*ccxt_snapshots.FEEDS, *ccxt_derivatives.FEEDS)}
METHODS = {
    "fetchTicker": ("ccxt_tickers", "fetch_ticker", ("symbol", "params")),
    "fetchOrderBook": ("ccxt_order_books", "fetch_order_book", ("symbol", "limit", "params")),
    "fetchFundingRateHistory": (
        "ccxt_funding_rates",
        "fetch_funding_rate_history",
        ("symbol", "since", "limit", "params"),
    ),
    "fetchOpenInterest": ("ccxt_open_interest", "fetch_open_interest", ("symbol", "params")),
    "fetchLiquidations": ("ccxt_liquidations", "fetch_liquidations", ("symbol", "since", "limit", "params")),
}
needs_static = pytest.mark.skipif(
    not STATIC.is_dir(), reason="needs the recorded files in ../shared/recorded"
)


@cache
def static(kind: str, exchange: str) -> dict[str, Any]:
    return json.loads((STATIC / kind / f"{exchange}.json").read_text(encoding="utf-8"))


def cases(method: str) -> Iterator[object]:
    for path in sorted((STATIC / "response").glob("*.json")):
        for n, case in enumerate(static("response", path.stem)["methods"].get(method, [])):
            yield pytest.param(path.stem, case, id=f"{path.stem}-{n}")


def static_market(exchange: str, symbol: str) -> dict[str, Any]:
    """The market as our fetch would put it into a page."""
    import ccxt

    if exchange not in ccxt.exchanges:
        pytest.skip(f"this ccxt has no {exchange}")
    venue = getattr(ccxt, exchange)()
    venue.set_markets(static("markets", exchange))
    market = venue.market(symbol)
    plain = {name: str(v) if isinstance(v, float) else v for name, v in market.items()}
    return {name: v for name, v in plain.items() if isinstance(v, str | int | bool)} | {"info": {}}


def page(feed: Feed, body: object, *, exchange: str, call: str, market: dict, **request: Any) -> Page:
    asked = {
        "exchange": exchange, "call": call, "market": market, "options": {}, "part": 0, "others": [],
        "method": "GET", "url": "https://x", **request,
    }  # fmt: skip
    raw = json.dumps(body).encode()
    return Page(feed=feed.name, subject="s", request=asked, received_at=RECEIVED, body=raw, http_status=200)


def parsed(feed: Feed, *pages: Page) -> pl.DataFrame:
    return feed.parse(pages_frame(pages, run_id="r", code_version="v")).collect()


def recorded(method: str, exchange: str, case: dict[str, Any]) -> tuple[pl.DataFrame, Any]:
    """Our rows and ccxt's result of one recorded answer."""
    name, call, names = METHODS[method]
    market = static_market(exchange, case["input"][0])
    arguments = {**dict(zip(names, case["input"], strict=False)), "symbol": market["symbol"]}
    options = static("response", exchange).get("options") or {}
    asked = page(
        FEEDS[name],
        case["httpResponse"],
        exchange=exchange,
        call=call,
        market=market,
        arguments=arguments,
        options=options,
    )
    return parsed(FEEDS[name], asked), case["parsedResponse"]


def number(value: object) -> Decimal | None:
    return None if value is None else Decimal(str(float(str(value))))


def ms(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


# What ccxt computes, or fills with another quantity: we say nothing there. Its reading of deribit was another once.
LEFT_OUT = {
    "bitfinex": {"open"},
    "bitstamp": {"quote_volume"},
    "bybit": {"vwap"},
    "gate": {"open", "vwap"},
    "kraken": {"open", "quote_volume"},
    "kucoin": {"open", "vwap", "base_volume"},
    "okx": {"vwap"},
    "paradex": {"open"},
    "whitebit": {"vwap"},
}
ELSEWHERE = "this ccxt asks another address than the recorded one"
KEYED = "a call that needs a key, which we never make"


def check_ticker(exchange: str, rows: pl.DataFrame, expected: dict[str, Any]) -> None:
    (row,) = rows.rows(named=True)
    theirs = ccxt_snapshots._CCXT_NAMES
    other = {name for name, theirs in theirs.items() if number(row[name]) != number(expected[theirs])}
    if exchange == "deribit":
        assert other == {"base_volume", "quote_volume"}
        price = number(row["quote_volume"]) / number(row["base_volume"])
        assert number(row["low"]) < price < number(row["high"])
        return
    assert other <= LEFT_OUT.get(exchange, set())
    assert all(row[name] is None for name in other)
    if row["is_dated_by_venue"]:
        assert ms(row["event_at"]) == expected["timestamp"]
    else:
        assert row["event_at"] == RECEIVED
        assert expected["timestamp"] is None or exchange in {"coinbase", "coinbaseexchange"}


def check_book(rows: pl.DataFrame, expected: dict[str, Any]) -> None:
    (row,) = rows.rows(named=True)
    for side in ("bid", "ask"):
        levels = zip(row[f"{side}_prices"], row[f"{side}_amounts"], strict=True)
        expected_levels = [(number(level[0]), number(level[1])) for level in expected[f"{side}s"]]
        assert [(number(p), number(a)) for p, a in levels] == expected_levels
    assert (
        row["event_at"] == RECEIVED
        if expected["timestamp"] is None
        else ms(row["event_at"]) == expected["timestamp"]
    )
    assert expected["nonce"] in (None, row["sequence"])
    assert conform(FEEDS["ccxt_order_books"].table, rows.lazy()).collect()["reasons"].to_list() == [[]]


@needs_static
@pytest.mark.parametrize(("exchange", "case"), list(cases("fetchTicker")))
def test_a_ticker_says_what_ccxt_says_or_nothing(exchange, case):
    if exchange == "coinbaseinternational":
        pytest.skip(ELSEWHERE)
    check_ticker(exchange, *recorded("fetchTicker", exchange, case))


@needs_static
@pytest.mark.parametrize(("exchange", "case"), list(cases("fetchOrderBook")))
def test_a_book_has_the_levels_that_ccxt_sees(exchange, case):
    if case["input"][-1] == {"uta": True, "tradeType": "SPOT"}:
        pytest.skip(KEYED)
    check_book(*recorded("fetchOrderBook", exchange, case))


@needs_static
@pytest.mark.parametrize(("exchange", "case"), list(cases("fetchFundingRateHistory")))
def test_settled_funding_is_what_ccxt_says(exchange, case):
    if exchange == "coinbaseinternational":
        pytest.skip(ELSEWHERE)
    rows, expected = recorded("fetchFundingRateHistory", exchange, case)
    said = [(ms(row["event_at"]), number(row["rate"])) for row in rows.iter_rows(named=True)]
    if exchange == "bitstamp":
        # ccxt reads seconds as thousandths of milliseconds and drops all rows: its own test expects none.
        assert expected == []
        raw = case["httpResponse"]["funding_rate_history"]
        expected = [{"timestamp": int(r["timestamp"]) * 1000, "fundingRate": r["funding_rate"]} for r in raw]
    assert said == [(r["timestamp"], number(r["fundingRate"])) for r in expected]
    assert rows["instrument_id"].unique().to_list() == [case["input"][0]]


@needs_static
@pytest.mark.parametrize(("exchange", "case"), list(cases("fetchOpenInterest")))
def test_open_interest_is_what_ccxt_says(exchange, case):
    rows, expected = recorded("fetchOpenInterest", exchange, case)
    (row,) = rows.rows(named=True)
    said = (ms(row["event_at"]), number(row["amount"]), number(row["value"]))
    amounts = (number(expected["openInterestAmount"]), number(expected["openInterestValue"]))
    assert said == (expected["timestamp"], *amounts)


@needs_static
@pytest.mark.parametrize(("exchange", "case"), list(cases("fetchLiquidations")))
def test_liquidations_are_what_ccxt_says_but_for_the_side(exchange, case):
    """ccxt names the position's side: the recorded orders were filled above their limits, so they sold."""
    rows, expected = recorded("fetchLiquidations", exchange, case)
    other = {"buy": "sell", "sell": "buy"}
    said = [
        (ms(r["event_at"]), number(r["price"]), number(r["amount"]), r["side"])
        for r in rows.iter_rows(named=True)
    ]
    assert said == [
        (r["timestamp"], number(r["price"]), number(r["contracts"]), other[r["side"]]) for r in expected
    ]
    assert all(float(r["info"]["fill_price"]) > float(r["info"]["order_price"]) for r in expected)


# Recorded by others


def spot(symbol: str, venue_symbol: str) -> dict[str, Any]:
    base, quote = symbol.split("/")
    return {"id": venue_symbol, "symbol": symbol, "base": base, "quote": quote, "type": "spot", "spot": True}


def contract(symbol: str, venue_symbol: str, **own: Any) -> dict[str, Any]:
    pair, _, settle = symbol.partition(":")
    base, quote = pair.split("/")
    return {
        "id": venue_symbol, "symbol": symbol, "base": base, "quote": quote, "settle": settle, "type": "swap",
        "spot": False, "swap": True, "contract": True, "linear": settle == quote, "inverse": settle != quote, **own,
    }  # fmt: skip


RS = SHARED / "ccxt-rs"


@pytest.mark.skipif(not RS.is_dir(), reason="needs the recorded files in ../shared/recorded")
@pytest.mark.parametrize("exchange", ["binance", "okx"])
@pytest.mark.parametrize(
    "name", ["fetch_ticker_BTC_USDT", "fetch_ticker_ETH_USDT", "fetch_order_book_BTC_USDT"]
)
def test_what_another_ccxt_made_of_an_answer_is_what_we_make_of_it(exchange, name):
    case = json.loads((RS / exchange / f"{name}.json").read_text())
    symbol = case["args"][0]
    market = spot(symbol, symbol.replace("/", "-" if exchange == "okx" else ""))
    feed = FEEDS["ccxt_tickers" if "ticker" in name else "ccxt_order_books"]
    asked = page(
        feed,
        case["http_response"],
        exchange=exchange,
        call=case["method"],
        market=market,
        arguments={"symbol": symbol},
    )
    if "ticker" in name:
        check_ticker(exchange, parsed(feed, asked), case["parsed_response"])
    else:
        check_book(parsed(feed, asked), {"nonce": None, "timestamp": None, **case["parsed_response"]})


@cache
def routes(name: str) -> dict[str, Any]:
    raw = (SHARED / "gocryptotrader" / name).read_bytes()
    return json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw)["routes"]


def bodies(name: str, path: str, least: int = 1) -> list[Any]:
    """The answers of a route that are lists of rows, or objects, of some size."""
    said = [one["data"] for one in routes(name)[path]["GET"]]
    return [one for one in said if isinstance(one, list | dict) and len(one) >= least and "label" not in one]


BTC_USDT = contract("BTC/USDT:USDT", "BTCUSDT")
BTC_USD = contract("BTC/USD:BTC", "BTCUSD_PERP")
GATE = contract("BTC/USDT:USDT", "BTC_USDT", settleId="usdt")
needs_routes = pytest.mark.skipif(
    not (SHARED / "gocryptotrader").is_dir(), reason="needs the recorded files in ../shared/recorded"
)


@needs_routes
@pytest.mark.parametrize(
    ("exchange", "market", "file", "path", "at", "rate"),
    [
        ("binance", BTC_USDT, "binance_http.json.gz", "/fapi/v1/fundingRate", "fundingTime", "fundingRate"),
        ("binance", BTC_USD, "binance_http.json.gz", "/dapi/v1/fundingRate", "fundingTime", "fundingRate"),
        ("gate", GATE, "gateio_http.json", "/api/v4/futures/usdt/funding_rate", "t", "r"),
    ],
)
def test_recorded_funding_is_row_for_row_what_the_venue_sent(exchange, market, file, path, at, rate):
    feed, found = FEEDS["ccxt_funding_rates"], 0
    for body in bodies(file, path):
        if any(one.get("symbol", market["id"]) != market["id"] for one in body):
            continue
        asked = page(
            feed, body, exchange=exchange, call="fetch_funding_rate_history", market=market,
            arguments={"symbol": market["symbol"], "since": None, "limit": 1000},
        )  # fmt: skip
        rows = parsed(feed, asked)
        unit = 1000 if exchange == "gate" else 1
        assert [(ms(r["event_at"]), r["rate"]) for r in rows.iter_rows(named=True)] == sorted(
            (one[at] * unit, one[rate]) for one in body
        )
        assert conform(feed.table, rows.lazy()).collect()["reasons"].list.len().sum() == 0
        found += rows.height
    assert found >= 5


@needs_routes
def test_recorded_open_interest_is_row_for_row_what_the_venue_sent():
    feed, found = FEEDS["ccxt_open_interest"], 0
    for body in bodies("binance_http.json.gz", "/futures/data/openInterestHist"):
        inverse = "pair" in body[0]
        market = BTC_USD if inverse else {**BTC_USDT, "id": body[0]["symbol"]}
        asked = page(
            feed, body, exchange="binance", call="fetch_open_interest_history",
            market={**market, "info": {"pair": "BTCUSD"}},
            arguments={"symbol": market["symbol"], "timeframe": "5m", "since": None, "limit": 500},
        )  # fmt: skip
        rows = parsed(feed, asked)
        assert [(ms(r["event_at"]), r["amount"], r["value"]) for r in rows.iter_rows(named=True)] == sorted(
            (one["timestamp"], one["sumOpenInterest"], one["sumOpenInterestValue"]) for one in body
        )
        units = ("contracts", "BTC", "one") if inverse else ("base", "USDT", "one")
        assert rows.select("amount_unit", "value_currency", "sides").unique().rows() == [units]
        if not inverse:
            # The value of a base amount is a price: were sides counted twice it would still be one.
            price = rows.select(pl.col("value").cast(float) / pl.col("amount").cast(float)).to_series()
            assert price.is_between(10, 100_000).all()
        found += rows.height
    assert found >= 30


@needs_routes
@pytest.mark.parametrize(
    ("exchange", "market", "file", "path"),
    [
        ("binance", spot("BTC/USDT", "BTCUSDT"), "binance_http.json.gz", "/api/v3/depth"),
        ("binance", BTC_USDT, "binance_http.json.gz", "/fapi/v1/depth"),
        ("binance", BTC_USD, "binance_http.json.gz", "/dapi/v1/depth"),
        ("gate", GATE, "gateio_http.json", "/api/v4/futures/usdt/order_book"),
        ("gate", spot("BTC/USDT", "BTC_USDT"), "gateio_http.json", "/api/v4/spot/order_book"),
    ],
)
def test_recorded_books_are_level_for_level_what_the_venue_sent(exchange, market, file, path):
    feed = FEEDS["ccxt_order_books"]
    said = bodies(file, path)
    assert said
    for body in said:
        asked = page(
            feed,
            body,
            exchange=exchange,
            call="fetch_order_book",
            market=market,
            arguments={"symbol": market["symbol"]},
        )
        rows = parsed(feed, asked)
        (row,) = rows.rows(named=True)
        for side in ("bid", "ask"):
            levels = [
                (one["p"], str(one["s"])) if isinstance(one, dict) else tuple(one[:2])
                for one in body[f"{side}s"]
            ]
            assert list(zip(row[f"{side}_prices"], row[f"{side}_amounts"], strict=True)) == levels
        assert row["sequence"] == (body.get("lastUpdateId") or body.get("id"))
        reasons = conform(feed.table, rows.lazy()).collect()["reasons"].item().to_list()
        assert set(reasons) <= {"asks_unsorted", "bids_unsorted"}, path


@needs_routes
@pytest.mark.parametrize(
    ("path", "price", "market"),
    [("/dapi/v1/indexPriceKlines", "index", BTC_USD), ("/dapi/v1/markPriceKlines", "mark", BTC_USD)],
)
def test_recorded_reference_bars_are_row_for_row_what_the_venue_sent(path, price, market):
    (feed,) = ccxt_reference.FEEDS
    for body in bodies("binance_http.json.gz", path):
        asked = page(
            feed, body, exchange="binance", call="fetch_ohlcv", market={**market, "info": {"pair": "BTCUSD"}},
            arguments={"symbol": market["symbol"], "timeframe": "1M", "since": None, "params": {"price": price}},
        )  # fmt: skip
        rows = parsed(feed, asked)
        said = [
            (ms(r["open_at"]), *(r[n] for n in ("open", "high", "low", "close")))
            for r in rows.iter_rows(named=True)
        ]
        assert said == [tuple(one[:5]) for one in body]
        assert conform(feed.table, rows.lazy()).collect()["reasons"].list.len().sum() == 0


VCR = SHARED / "hyperliquid-vcr"
needs_vcr = pytest.mark.skipif(not VCR.is_dir(), reason="needs the recorded files in ../shared/recorded")
COIN = contract("BTC/USDC:USDC", "0", baseName="BTC")


def cassette(name: str) -> Any:
    """The last answer of a cassette."""
    return json.loads(
        yaml.safe_load((VCR / name).read_text())["interactions"][-1]["response"]["body"]["string"]
    )


@needs_vcr
@pytest.mark.parametrize(
    "name", ["test_get_funding_history_1684811870000_", "test_get_funding_history_None_"]
)
def test_recorded_hyperliquid_funding_is_row_for_row_what_the_venue_sent(name):
    # One answer has 1038 rows: ccxt passes on no more than the limit of the call, whatever came.
    feed, body = FEEDS["ccxt_funding_rates"], cassette(f"{name}.yaml")
    asked = page(
        feed, body, exchange="hyperliquid", call="fetch_funding_rate_history", market=COIN,
        arguments={"symbol": COIN["symbol"], "since": 1_681_923_833_000, "limit": 2000},
    )  # fmt: skip
    rows = parsed(feed, asked)
    said = [(ms(r["event_at"]), r["rate"]) for r in rows.iter_rows(named=True)]
    assert said == [(one["time"], one["fundingRate"]) for one in body]
    assert rows.height > 30


@needs_vcr
def test_a_recorded_hyperliquid_book_is_level_for_level_what_the_venue_sent():
    feed, body = FEEDS["ccxt_order_books"], cassette("test_get_l2_snapshot.yaml")
    asked = page(
        feed,
        body,
        exchange="hyperliquid",
        call="fetch_order_book",
        market=COIN,
        arguments={"symbol": COIN["symbol"]},
    )
    (row,) = parsed(feed, asked).rows(named=True)
    for side, levels in zip(("bid", "ask"), body["levels"], strict=True):
        assert row[f"{side}_prices"] == [level["px"] for level in levels]
        assert row[f"{side}_amounts"] == [level["sz"] for level in levels]
    assert (ms(row["event_at"]), row["amount_unit"]) == (body["time"], "base")
