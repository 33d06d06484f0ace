"""The column-wise readers against ccxt's own parsers: what they take, they read as it does; the rest they leave."""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse.bronze import Page, pages_frame
from lakehouse.settings import Settings
from sources import ccxt_columns
from sources.ccxt_rest import FEEDS
from sources.client import Client
from sources.errors import ParseError
from sources.feed import Feed
from sources.twin.server import running_twin
from sources.watchlist import read_watchlist

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "../shared/recorded"
RECEIVED = datetime(2026, 11, 1, tzinfo=UTC)
NAMED = {feed.name: feed for feed in FEEDS}
FEED_OF = {"fetch_trades": NAMED["ccxt_trades"], "fetch_ohlcv": NAMED["ccxt_ohlcv"]}
SPOT = {"type": "spot", "spot": True}
LINEAR = {"type": "swap", "swap": True, "contract": True, "linear": True, "inverse": False, "settle": "USDT"}
INVERSE = {"type": "swap", "swap": True, "contract": True, "linear": False, "inverse": True, "settle": "BTC"}


@dataclass(frozen=True)
class Case:
    """A body and how it was asked for."""

    exchange: str
    call: str
    market: dict[str, Any]
    body: bytes
    limit: int | None = None
    since: int | None = None


def market(market_id: str, kind: dict[str, Any]) -> dict[str, Any]:
    named = {"id": market_id, "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT"}
    return {**named, "baseId": "BTC", "quoteId": "USDT", **kind}


def page(case: Case, *, options: dict[str, Any] | None = None, **request: Any) -> Page:
    arguments = {
        "symbol": case.market["symbol"],
        "since": case.since,
        "limit": case.limit,
        "params": {} if case.since is None else {"until": 1_900_000_000_000},
        **({"timeframe": "1m"} if case.call == "fetch_ohlcv" else {}),
    }
    asked = {
        "method": "GET",
        "url": "https://x",
        "exchange": case.exchange,
        "call": case.call,
        "arguments": arguments,
        "options": options or {},
        "market": case.market,
        "part": 0,
        "others": [],
        **request,
    }
    return Page(
        feed=FEED_OF[case.call].name,
        subject="s",
        request=asked,
        received_at=RECEIVED,
        body=case.body,
        http_status=200,
    )


def parsed(feed: Feed, *pages: Page) -> pl.DataFrame | None:
    """What parsing gives, but for the page's id; None where it refuses the pages."""
    try:
        return feed.parse(pages_frame(pages, run_id="r", code_version="v")).drop("page_id").collect()
    except ParseError:
        return None


def ccxts_page(case: Case) -> Page:
    """The page that is left to ccxt's parser: a call with options of its own is none of ours."""
    return page(case, options={"read": "by ccxt"})


def columns_of(case: Case) -> pl.DataFrame | None:
    """What the column-wise reader takes."""
    (row,) = pages_frame([page(case)], run_id="r", code_version="v").iter_rows(named=True)
    return ccxt_columns.read(row, json.loads(row["request"]))


def is_read_alike(case: Case) -> bool:
    """Whether the reader takes the page; it fails where ccxt then says something else."""
    if columns_of(case) is None:
        return False
    read, expected = parsed(FEED_OF[case.call], page(case)), parsed(FEED_OF[case.call], ccxts_page(case))
    assert expected is not None, "ccxt refuses what the reader took"
    assert_frame_equal(read, expected)
    return True


# Small pages of every venue, in the shape it documents

KRAKEN_ID, BTCUSDT = "XBTUSDT", "BTCUSDT"


def kraken(rows: list[Any]) -> dict[str, Any]:
    return {"error": [], "result": {KRAKEN_ID: rows, "last": "1762795433971744500"}}


def bybit(rows: list[Any], **more: Any) -> dict[str, Any]:
    result = {"category": "linear", **more, "list": rows}
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1707905516443}


def aggregate(n: int, **more: Any) -> dict[str, Any]:
    return {
        "a": n,
        "p": f"{n}.50",
        "q": "0.10",
        "f": n,
        "l": n,
        "T": 1577977823305 + n // 2,
        "m": n % 2 == 0,
        **more,
    }


def kline(n: int) -> list[Any]:
    at = 1577836800000 + n * 60_000
    return [at, "1.0", "2.0", "0.5", "1.50", "7.25", at + 59_999, "9.75", n, "1", "1", "0"]


TRADES: dict[str, tuple[str, Any, list[dict[str, Any]]]] = {
    "binance": (BTCUSDT, [aggregate(n, M=True) for n in (9, 11, 10, 8)], [SPOT]),
    "binance contracts": (BTCUSDT, [aggregate(n) for n in (1, 2)], [LINEAR, INVERSE]),
    "binance contracts without RPI": (BTCUSDT, [aggregate(n, nq="0.10") for n in (1, 2)], [LINEAR]),
    "bitfinex": (
        "tBTCUSD",
        [[2, 1710327651447, -0.00019983, 73218], [1, 1710327651446, 10, 1e-05], [3, 1710327651448, 0.5, 73218.1]],
        [SPOT],
    ),
    "bitstamp": (
        "btcusd",
        [
            {"date": "1560481868", "tid": "90574283", "price": "8194.79", "type": "1", "amount": "0.00288599"},
            {"date": "1560481858", "tid": "90574282", "price": "8193.12", "type": "0", "amount": "0.00156303"},
        ],
        [SPOT],
    ),
    "bybit": (
        BTCUSDT,
        bybit(
            [
                {"execId": i, "symbol": BTCUSDT, "price": "51444.40", "size": "0.972", "side": side,
                 "time": "1707905515968", "isBlockTrade": False, "isRPITrade": False, "seq": "7"}
                for i, side in (("9afd1288", "Buy"), ("1afd1288", "Sell"))
            ]
        ),
        [LINEAR, INVERSE, SPOT],
    ),
    "coinbase": (
        "BTC-USD",
        {
            "trades": [
                {"trade_id": "995098663", "product_id": "BTC-USD", "price": "68923.67", "size": "0.00064",
                 "time": "2026-04-07T00:28:58.544778Z", "side": "SELL", "bid": "", "ask": "", "exchange": "coinbase"},
                {"trade_id": "995098661", "product_id": "BTC-USD", "price": "68924.94", "size": "0.01450854",
                 "time": "2026-04-07T00:28:57Z", "side": "BUY", "bid": "", "ask": "", "exchange": "coinbase"},
            ],
            "best_bid": "68923.66",
            "best_ask": "68923.67",
        },
        [SPOT],
    ),
    "coinbaseexchange": (
        "BTC-USD",
        [
            {"trade_id": 18502034, "side": "sell", "size": "0.00007448", "price": "73271.63000000",
             "time": "2024-03-13T11:00:17.710679Z"},
            {"trade_id": 18502033, "side": "buy", "size": "1", "price": "73271", "time": "2024-03-13T11:00:17Z"},
        ],
        [SPOT],
    ),
    "kraken": (
        KRAKEN_ID,
        kraken(
            [
                ["105433.60000", "0.00027625", 1762795433.9717445, "b", "l", "", 10218208],
                ["105410.10000", "0.00005000", 1762795457, "s", "m", "", 10218209],
            ]
        ),
        [SPOT],
    ),
    "okx": (
        "BTC-USDT",
        {
            "code": "0",
            "msg": "",
            "data": [
                {"instId": "BTC-USDT", "side": side, "sz": "0.0009478", "px": "73239.3", "tradeId": i,
                 "ts": "1710327658374", "source": "0"}
                for i, side in (("497859871", "sell"), ("497859870", "buy"))
            ],
        },
        [SPOT, LINEAR, INVERSE],
    ),
}  # fmt: skip

CANDLES: dict[str, tuple[str, Any, list[dict[str, Any]]]] = {
    "binance": (BTCUSDT, [kline(1), kline(0)], [SPOT, LINEAR, INVERSE]),
    "bitfinex": (
        "tBTCUSD",
        [[1475798460000, 613.8, 613, 613.9, 613.8, 1e-05], [1475798400000, 1, 2, 3, 4, 5]],
        [SPOT],
    ),
    "bitstamp": (
        "btcusd",
        {
            "data": {
                "pair": "BTC/USD",
                "ohlc": [
                    {"timestamp": str(1593961440 + n), "open": "9040.87", "high": "9064.77", "low": "9040.87",
                     "close": "9064.77", "volume": "18.49436608"}
                    for n in (60, 0)
                ],
            }
        },
        [SPOT],
    ),
    "bybit": (
        BTCUSDT,
        bybit([[str(1706637600000 - n), "1", "4", "0.5", "2.0", "7", "9"] for n in (0, 60_000)], symbol=BTCUSDT),
        [LINEAR, INVERSE, SPOT],
    ),
    "coinbase": (
        "BTC-USD",
        {
            "candles": [
                {"start": str(1712192400 + n), "low": "66055.14", "high": "66331.99", "open": "66312.4",
                 "close": "66181.6", "volume": "355.82896243"}
                for n in (60, 0)
            ]
        },
        [SPOT],
    ),
    "coinbaseexchange": ("BTC-USD", [[1710327660, 1, 4.5, 2.10, 3, 5e-05], [1710327600, 1, 4, 2, 3, 5]], [SPOT]),
    "kraken": (
        KRAKEN_ID,
        kraken([[1762777020 + 60 * n, "1.0", "4.0", "0.5", "2.0", "2.5", "0.70", n] for n in range(3)]),
        [SPOT],
    ),
    "okx": (
        "BTC-USDT",
        {
            "code": "0",
            "msg": "",
            "data": [
                [str(1706637600000 - n), "1", "4", "0.5", "2", "5.07", "22.03", "22.04", "1"] for n in (0, 60_000)
            ],
        },
        [SPOT, LINEAR, INVERSE],
    ),
}  # fmt: skip


def small_cases() -> Iterator[Case]:
    for call, told in (("fetch_trades", TRADES), ("fetch_ohlcv", CANDLES)):
        for name, (market_id, said, kinds) in told.items():
            limit = None if name == "kraken" else 100
            for kind in kinds:
                yield Case(name.split()[0], call, market(market_id, kind), json.dumps(said).encode(), limit)


SMALL = list(small_cases())


def of(exchange: str) -> list[Case]:
    return [case for case in SMALL if case.exchange == exchange]


def test_every_reader_has_a_page_to_read():
    assert {(case.exchange, case.call) for case in SMALL} == set(ccxt_columns.READERS)


@pytest.mark.parametrize("case", SMALL, ids=lambda c: f"{c.exchange} {c.call} {c.market['type']}")
def test_a_page_as_documented_is_read_as_ccxt_reads_it(case):
    assert is_read_alike(case)
    assert is_read_alike(replace(case, since=1_000_000_000_000))


@pytest.mark.parametrize("case", SMALL, ids=lambda c: f"{c.exchange} {c.call} {c.market['type']}")
def test_rows_from_before_the_moment_asked_for_are_cut_off_as_ccxt_cuts_them(case):
    time = "event_at" if case.call == "fetch_trades" else "open_at"
    assert is_read_alike(replace(case, since=columns_of(case)[time].max()))


@pytest.mark.parametrize(
    "asked",
    [
        {"part": 1},
        {"others": [{"method": "GET", "url": "https://x", "status": 200, "body": "[]"}]},
        {"options": {"a": 1}},
        {"market": None},
        {"market": {**SMALL[0].market, "type": "option"}},
        {"market": {**SMALL[0].market, "symbol": "ETH/USDT"}},
        {"arguments": {"symbol": "BTC/USDT", "limit": 1}},
        {"arguments": {"symbol": "BTC/USDT", "since": "0"}},
        {"arguments": {"symbol": "BTC/USDT", "params": {"paginate": True}}},
        {"arguments": {"symbol": "BTC/USDT", "params": {"fetchTradesMethod": "publicGetTrades"}}},
        {"exchange": "gate"},
        {"call": "fetch_markets"},
    ],
    ids=str,
)
def test_a_page_that_was_asked_for_in_another_way_is_left_to_ccxt(asked):
    (row,) = pages_frame([page(SMALL[0], **asked)], run_id="r", code_version="v").iter_rows(named=True)
    assert ccxt_columns.read(row, json.loads(row["request"])) is None


def test_an_answer_with_an_error_status_is_left_to_ccxt():
    (row,) = pages_frame([replace(page(SMALL[0]), http_status=500)], run_id="r", code_version="v").iter_rows(
        named=True
    )
    assert ccxt_columns.read(row, json.loads(row["request"])) is None


def test_numbers_keep_more_digits_than_a_float_holds():
    body = b"[[1,1710327651446,-0.12345678901234567891,73218.12345678901234567]]"
    case = replace(next(c for c in SMALL if (c.exchange, c.call) == ("bitfinex", "fetch_trades")), body=body)
    assert columns_of(case).row(0, named=True) == {
        "trade_id": "1",
        "event_at": 1710327651446,
        "price": "73218.12345678901234567",
        "amount": "0.12345678901234567891",
        "side": "sell",
    }


def test_pages_of_both_ways_of_reading_are_one_frame():
    feed = FEED_OF["fetch_trades"]
    pages = [page(case) for case in SMALL if case.call == "fetch_trades"]
    odd = [
        replace(p, request={**p.request, "options": {"a": 1}}) if n % 2 else p for n, p in enumerate(pages)
    ]
    assert_frame_equal(parsed(feed, *odd), parsed(feed, *pages))


# Whatever may change in an answer

ODD_TEXTS = ("", "0", "1", "-1", "-1.50", "NaN", "odd", "1e-7", "Buy", "1710327658375", "1710327658")
ODD_NUMBERS = (0, 1, -1, 1.5, -0.1, 1e-7, 1e300, 1710327658375, 1710327658, 10**30, float("nan"))
ODD = st.sampled_from((None, True, False, (), {}, *ODD_TEXTS, *ODD_NUMBERS))


def places(said: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = said.items() if isinstance(said, dict) else enumerate(said) if isinstance(said, list) else ()
    for name, value in inside:
        yield (*path, name)
        yield from places(value, (*path, name))


@st.composite
def mutated(draw: st.DrawFn, exchange: str, call: str) -> Case:
    """A page of one venue with up to three things changed, at any depth, or its text cut or overwritten."""
    case = draw(st.sampled_from([case for case in of(exchange) if case.call == call]))
    said = json.loads(case.body)
    for _ in range(draw(st.integers(0, 3))):
        change(draw, said)
    body = json.dumps(said, indent=draw(st.sampled_from([None, 1]))).encode()
    if draw(st.integers(0, 4)) == 0:
        at = draw(st.integers(0, len(body) - 1))
        body = body[:at] + draw(st.binary(max_size=2)) + body[at + draw(st.integers(0, 2)) :]
    since = draw(st.none() | st.integers(1_400_000_000_000, 1_900_000_000_000))
    return replace(case, body=body, since=since, limit=draw(st.sampled_from([case.limit, 1, 2])))


def change(draw: st.DrawFn, said: Any) -> None:
    """One value taken away, given twice or replaced by an odd one or by one from another place."""
    found = list(places(said))
    if not found:
        return
    *above, last = draw(st.sampled_from(found))
    holder = at(said, above)
    how = draw(st.sampled_from(["odd", "other", "none", "twice", "more"]))
    if how == "odd":
        holder[last] = copied(draw(ODD))
    elif how == "other":
        holder[last] = copied(at(said, draw(st.sampled_from(found))))
    elif how == "none":
        del holder[last]
    elif isinstance(holder, list):
        holder.insert(last, copied(holder[last]))
    else:
        holder[draw(st.sampled_from(["id", "symbol", "error", "code", "M", "time", "quantity"]))] = copied(
            draw(ODD)
        )


def copied(said: Any) -> Any:
    return json.loads(json.dumps(said))


def at(said: Any, path: Any) -> Any:
    for name in path:
        said = said[name]
    return said


@pytest.mark.parametrize(("exchange", "call"), sorted(ccxt_columns.READERS))
@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_taken_from_a_changed_answer_is_what_ccxt_says(exchange, call, data):
    is_read_alike(data.draw(mutated(exchange, call)))


# Everything that was recorded

needs_recorded = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="needs the recorded files in ../shared/recorded"
)


def opened(path: Path) -> str:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()


def recorded(exchange: str) -> Iterator[bytes]:
    """Bodies of an exchange, of whatever call: as they are, or as those who recorded them stored them."""
    ccxt = RECORDED / "ccxt"
    for path in sorted((RECORDED / "ws/nautilus").glob(f"{exchange.removesuffix('exchange')}/**/*.json")):
        yield path.read_bytes()
    for path in sorted((ccxt / "xchange").glob(f"{exchange}/*.json")):
        yield path.read_bytes()
    for path in sorted(ccxt.glob(f"gocryptotrader/{exchange}_http.json*")):
        routes = json.loads(opened(path))
        routes = routes.get("routes", routes)
        yield from (
            encoded(c["data"]) for methods in routes.values() for told in methods.values() for c in told
        )
    for path in sorted(ccxt.glob(f"ccxt-static/response/{exchange}.json")):
        methods = json.loads(opened(path))["methods"]
        yield from (encoded(case["httpResponse"]) for told in methods.values() for case in told)
    for path in sorted(ccxt.glob(f"ccxt-rs/{exchange}/*.json*")):
        yield encoded(json.loads(opened(path))["http_response"])
    for path in sorted((RECORDED / "ohlcv").glob(f"{exchange}-raw/*.jsonl.gz")):
        yield from (json.loads(line)["body"].encode() for line in opened(path).splitlines())
    for path in sorted(
        p for p in (ccxt / "coingecko-vcr").glob("*/*.yml*") if p.parent.name.lower() in exchange
    ):
        told = yaml.load(opened(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        yield from (str(i["response"]["body"].get("string", "")).encode() for i in told["http_interactions"])


def encoded(said: Any) -> bytes:
    return said.encode() if isinstance(said, str) else json.dumps(said).encode()


def named(exchange: str, body: bytes) -> str:
    """The venue's id of the market that a body is about, where it says so."""
    try:
        said = json.loads(body)
    except ValueError:
        return "?"
    if exchange == "kraken" and isinstance(said, dict) and isinstance(said.get("result"), dict):
        return next((name for name in said["result"] if name != "last"), "?")
    names = (at(said, path) for path in places(said) if path[-1] in ("symbol", "instId", "product_id"))
    return str(next(names, "?"))


def recorded_cases(exchange: str) -> Iterator[Case]:
    """Every body as the answer to every call for every kind of market."""
    kinds = [
        kind
        for kind in (SPOT, LINEAR, INVERSE)
        if any(c.market.items() >= kind.items() for c in of(exchange))
    ]
    for body in recorded(exchange):
        market_id = named(exchange, body)
        for call, kind in product(("fetch_trades", "fetch_ohlcv"), kinds):
            yield Case(exchange, call, market(market_id, kind), body, 1000)


@needs_recorded
@pytest.mark.parametrize(
    ("exchange", "trades", "bars"),
    [
        ("binance", 75, 99),
        ("bitfinex", 1, 553),
        ("bitstamp", 3, 5),
        ("bybit", 6, 6),
        ("coinbase", 1, 1),
        ("coinbaseexchange", 1, 1),
        ("kraken", 1, 3),
        ("okx", 9, 12),
    ],
)
def test_every_recorded_answer_is_read_as_ccxt_reads_it(exchange, trades, bars):
    taken = [case for case in recorded_cases(exchange) if columns_of(case) is not None]
    for call, count in (("fetch_trades", trades), ("fetch_ohlcv", bars)):
        cases = [case for case in taken if case.call == call]
        read, expected = (
            parsed(FEED_OF[call], *map(page, cases)),
            parsed(FEED_OF[call], *map(ccxts_page, cases)),
        )
        assert len(cases) == count
        assert_frame_equal(read, expected)


# What our own fetch asks for


def fetched(exchange: str) -> Iterator[Page]:
    """The demo's pages of an exchange, over HTTP."""
    settings = Settings(_env_file=None, watchlist=ROOT / "recordings/watchlist.yaml")
    with (
        running_twin(ROOT / "recordings/ccxt") as url,
        Client(Settings(_env_file=None, twin_url=url)) as client,
    ):
        for order in read_watchlist(settings, now=client.now(), feeds=["ccxt_trades", "ccxt_ohlcv"]):
            if order.subject.startswith(f"{exchange}:"):
                yield from NAMED[order.feed].fetch(client, order.subject, order.window)


@pytest.mark.parametrize(
    "exchange", sorted({exchange for exchange, _ in ccxt_columns.READERS} - {"coinbase"})
)
def test_the_pages_that_our_fetch_brings_are_read_by_column(exchange):
    rows = pages_frame(fetched(exchange), run_id="r", code_version="v").iter_rows(named=True)
    left = [row["body"] for row in rows if ccxt_columns.read(row, json.loads(row["request"])) is None]
    assert left == []
