"""What providers do wrong, against every feed: each fault is got over, or told by name; half an answer is never taken.

A feed needs a row in `CASES`. The offline twin answers over real HTTP with the recordings of the demo, or with bodies
of a case's own (written by hand after the provider's documentation); a stage in front of it fails as a test wants.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import stamina
from starlette.responses import PlainTextResponse

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.settings import Settings
from lakehouse.window import Window, parse_moment
from sources import registry
from sources.client import Client
from sources.errors import SourceError, Transient
from sources.feed import Feed
from sources.twin.recording import Recording, Request, read_folder, request_to
from sources.twin.server import Twin, serving

RECORDINGS = Path(__file__).parents[2] / "recordings"
FEEDS = {name: feed for name, feed in registry.feeds().items() if not feed.stream}
"""Those that ask; what a live stream survives is in test_venues.py and in tests/storage/test_stream.py."""
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TRIES = 4
SILENCE_S = 0.15
MOST_REQUESTS = 60
"""More than any case needs: who asks more often than that does not come to an end."""
HTML = b"<!DOCTYPE html><html><body><h1>Down for maintenance</h1></body></html>"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One subject of a feed, what the provider answers, and how its words are spoilt. Bodies are JSON or bytes."""

    subject: str
    start: str
    end: str
    renamed: tuple[str, str]
    """A name that parsing cannot do without, and another."""
    empty: object = None
    """The provider's answer where there is nothing; None where it has none: it refuses, or always has something."""
    more: object = None
    """An answer to the last question that promises another page; None where each question has one answer."""
    answers: Mapping[str, object] = field(default_factory=dict)
    """Bodies by host and path, or by host, path and one parameter, beside those of the demo."""
    named: str = ""
    """Another way in which messages name the subject: its part of the address."""

    @property
    def window(self) -> Window:
        return Window(parse_moment(self.start), parse_moment(self.end))


# Windows of what a venue keeps for some days only lie before NOW.
RECENT = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-20T02:00:00Z"}
HOUR_MS = [1_795_132_800_000, 1_795_136_400_000]
"""The hours of RECENT."""
COINMETRICS = "community-api.coinmetrics.io/v4"
COINBASE_SPOT = {
    "market": "coinbase-btc-usd-spot",
    "exchange": "coinbase",
    "type": "spot",
    "base": "btc",
    "quote": "usd",
    "symbol": "BTC-USD",
}
BINANCE_FUTURE = {
    "market": "binance-BTCUSDT-future",
    "exchange": "binance",
    "type": "future",
    "base": "btc",
    "quote": "usdt",
    "symbol": "BTCUSDT",
    "size_asset": "btc",
    "margin_asset": "usdt",
    "contract_size": "1",
}
CONDITION = "0xdde06286a7b9464d344f410ab0b3d2ebc6469904e72c27fd982f65fdbf78768d"
TRADE = {
    "conditionId": CONDITION,
    "asset": "65193234666628291664907888364936366210889305490897648116746073820519263548476",
    "proxyWallet": f"0x{1:040x}",
    "side": "BUY",
    "size": 5,
    "price": 0.5,
    "timestamp": HOUR_MS[0] // 1000 + 60,
    "transactionHash": f"0x{1:064x}",
    "outcome": "Yes",
    "outcomeIndex": 0,
}
LISTED_MARKET = {
    "id": "906973",
    "conditionId": CONDITION,
    "question": "Will it rain?",
    "outcomes": '["Yes", "No"]',
    "outcomePrices": '["0.4", "0.6"]',
    "clobTokenIds": '["111", "222"]',
    "updatedAt": "2026-05-17T06:03:56.46115Z",
    "events": [{"id": "101772", "slug": "some-event"}],
}
LISTED_EVENT = {"id": "101772", "slug": "some-event", "markets": [LISTED_MARKET]}


def coinmetrics(rows: list[dict[str, Any]], path: str, *, has_more: bool = False) -> dict[str, Any]:
    """A page of CoinMetrics; with another after it, which has the same address again and again."""
    address = f"https://{COINMETRICS}/{path}?page_size=10000&paging_from=start&next_page_token=x"
    return {"data": rows, **({"next_page_token": "x", "next_page_url": address} if has_more else {})}


def of_market(path: str, entry: Mapping[str, str], row: Mapping[str, str], **facts: Any) -> Case:
    """A case of CoinMetrics' data of one market, whose reference entry is asked for first."""
    rows = [{"market": entry["market"], "time": "2026-11-20T00:30:00.000000000Z", **row}]
    return Case(
        subject=facts.pop("subject", entry["market"]),
        **RECENT,
        empty=coinmetrics([], path),
        more=coinmetrics(rows, path, has_more=True),
        answers={
            f"{COINMETRICS}/reference-data/markets": coinmetrics([dict(entry)], "reference-data/markets"),
            f"{COINMETRICS}/{path}": coinmetrics(rows, path),
        },
        named=f"markets={entry['market']}",
        **facts,
    )


STRUCTURE = b"""\
<mes:Structure xmlns:mes="http://www.sdmx.org/resources/sdmxml/schemas/v2_1/message"
  xmlns:str="http://www.sdmx.org/resources/sdmxml/schemas/v2_1/structure"
  xmlns:com="http://www.sdmx.org/resources/sdmxml/schemas/v2_1/common"><mes:Structures>
<str:Dataflows><str:Dataflow id="WS_GLI" agencyID="BIS" version="1.0"><str:Structure>
  <Ref id="BIS_GLI" agencyID="BIS" version="1.0"/></str:Structure></str:Dataflow></str:Dataflows>
<str:Codelists><str:Codelist id="CL_FREQ" agencyID="BIS" version="1.0">
  <str:Code id="Q"><com:Name xml:lang="en">Quarterly</com:Name></str:Code></str:Codelist></str:Codelists>
<str:DataStructures><str:DataStructure id="BIS_GLI" agencyID="BIS" version="1.0"><str:DataStructureComponents>
  <str:DimensionList><str:Dimension id="FREQ" position="1"><str:LocalRepresentation><str:Enumeration>
    <Ref id="CL_FREQ" agencyID="BIS" version="1.0"/></str:Enumeration></str:LocalRepresentation></str:Dimension>
  </str:DimensionList></str:DataStructureComponents></str:DataStructure></str:DataStructures>
</mes:Structures></mes:Structure>"""


def bars_of(*stamps: str) -> bytes:
    """A page of Alpha Vantage."""
    rows = [f"{stamp},218.2000,220.9100,217.6150,219.3000,6154450" for stamp in stamps]
    return "\r\n".join(["timestamp,open,high,low,close,volume", *rows, ""]).encode()


def kraken(result: object) -> dict[str, object]:
    return {"error": [], "result": result}


CASES: dict[str, Case] = {
    "ccxt_markets": Case(
        subject="kraken",
        start="2024-01-01",
        end="2024-01-02",
        renamed=("result", "results"),
        empty=kraken({}),
    ),
    "ccxt_ohlcv": Case(
        subject="kraken:BTC/USDT@1m",
        start="2025-11-10T12:17:00Z",
        end="2025-11-11T00:18:00Z",
        renamed=("XBTUSDT", "XBTUSDTX"),
        empty=kraken({"XBTUSDT": [], "last": 1762776960}),
        named="BTC/USDT",
    ),
    "ccxt_trades": Case(
        subject="kraken:BTC/USDT",
        start="2025-11-10T17:23:53Z",
        end="2025-11-11T00:13:55Z",
        renamed=("XBTUSDT", "XBTUSDTX"),
        empty=kraken({"XBTUSDT": [], "last": "1762795432999999999"}),
        more=kraken(
            {
                "XBTUSDT": [["105000.1", "0.1", 1762795500.5, "s", "l", "", 7]],
                "last": "1762795500500000000",
            }
        ),
        named="BTC/USDT",
    ),
    "ccxt_tickers": Case(
        subject="kraken:BTC/USDT",
        **RECENT,
        renamed=("XBTUSDT", "XBTUSDTX"),
        answers={
            "api.kraken.com/0/public/Ticker": kraken(
                {
                    "XBTUSDT": {
                        "a": ["105000.2", "1", "1.000"],
                        "b": ["105000.1", "2", "2.000"],
                        "c": ["105000.1", "0.1"],
                        "v": ["10", "20"],
                        "p": ["104000.0", "104500.0"],
                        "t": [100, 200],
                        "l": ["103000.0", "102000.0"],
                        "h": ["106000.0", "107000.0"],
                        "o": "104000.0",
                    }
                }
            )
        },
        named="BTC/USDT",
    ),
    "ccxt_order_books": Case(
        subject="kraken:BTC/USDT",
        **RECENT,
        renamed=("bids", "offers"),
        answers={
            "api.kraken.com/0/public/Depth": kraken(
                {
                    "XBTUSDT": {
                        "asks": [["105000.2", "1.5", 1795132800], ["105001.0", "2", 1795132801]],
                        "bids": [["105000.1", "0.5", 1795132800], ["104999.0", "2", 1795132801]],
                    }
                }
            )
        },
        named="BTC/USDT",
    ),
    "ccxt_funding_rates": Case(
        subject="binance:BTC/USDT:USDT",
        **RECENT,
        renamed=("fundingRate", "rate"),
        empty=[],
        answers={
            "fapi.binance.com/fapi/v1/fundingRate": [
                {
                    "symbol": "BTCUSDT",
                    "fundingRate": "0.00010000",
                    "fundingTime": HOUR_MS[0],
                    "markPrice": "105000.1",
                }
            ]
        },
        named="BTC/USDT:USDT",
    ),
    "ccxt_open_interest": Case(
        subject="binance:BTC/USDT:USDT@1h",
        **RECENT,
        renamed=("timestamp", "stamp"),
        empty=[],
        answers={
            "fapi.binance.com/futures/data/openInterestHist": [
                {
                    "symbol": "BTCUSDT",
                    "sumOpenInterest": "80000.5",
                    "sumOpenInterestValue": "8400000000.1",
                    "timestamp": at,
                }
                for at in HOUR_MS
            ]
        },
        named="BTC/USDT:USDT",
    ),
    "ccxt_liquidations": Case(
        subject="bitfinex:BTC/USDT:USDT",
        **RECENT,
        renamed=("104900.2", ""),
        empty=[],
        answers={
            "api-pub.bitfinex.com/v2/liquidations/hist": [
                [
                    [
                        *("pos", 145400868, HOUR_MS[0] + 60_000, None, "tBTCF0:USTF0", "-0.5", "105000.1"),
                        *(None, 1, 1, None, "104900.2"),
                    ]
                ]
            ]
        },
        named="BTC/USDT:USDT",
    ),
    "ccxt_reference_ohlcv": Case(
        subject="binance:BTC/USDT:USDT@1h#mark",
        **RECENT,
        renamed=("0.5", '""'),
        empty=[],
        answers={
            "fapi.binance.com/fapi/v1/markPriceKlines": [
                [at, "1.5", "2.5", "0.5", "1.5", "0", at + 3_599_999, "0", 0, "0", "0", "0"] for at in HOUR_MS
            ]
        },
        named="BTC/USDT:USDT",
    ),
    "coinmetrics_asset_metrics": Case(
        subject="btc:PriceUSD,SplyBMXNtv@1d",
        start="2020-02-29",
        end="2020-03-02",
        renamed=("time", "times"),
        empty=coinmetrics([], ""),
        more=coinmetrics(
            [{"asset": "btc", "time": "2020-02-29T00:00:00.000000000Z", "PriceUSD": "8582.09"}],
            "timeseries/asset-metrics",
            has_more=True,
        ),
        named="assets=btc",
    ),
    "coinmetrics_candles": of_market(
        "timeseries/market-candles",
        COINBASE_SPOT,
        {
            "price_open": "1.5",
            "price_close": "1.6",
            "price_high": "1.7",
            "price_low": "1.4",
            "volume": "16.8",
        },
        subject="coinbase-btc-usd-spot@5m",
        renamed=("price_open", "open"),
    ),
    "coinmetrics_trades": of_market(
        "timeseries/market-trades",
        COINBASE_SPOT,
        {"coin_metrics_id": "123", "amount": "0.5", "price": "105000.1", "side": "buy"},
        renamed=("coin_metrics_id", "id"),
    ),
    "coinmetrics_open_interest": of_market(
        "timeseries/market-openinterest",
        BINANCE_FUTURE,
        {"contract_count": "80000.5", "database_time": "2026-11-20T00:30:05.000000000Z"},
        renamed=("contract_count", "count"),
    ),
    "coinmetrics_funding_rates": of_market(
        "timeseries/market-funding-rates",
        BINANCE_FUTURE,
        {"rate": "0.0001", "period": "08:00:00", "database_time": "2026-11-20T00:30:05.000000000Z"},
        renamed=("rate", "rates"),
    ),
    "coinmetrics_catalog": Case(
        subject="market-trades:coinbase-btc-usd-spot",
        **RECENT,
        renamed=("market", "markets"),
        empty=coinmetrics([], ""),
        more=coinmetrics(
            [{"market": "coinbase-btc-usd-spot", "min_time": "2015-01-14T16:07:49.000000000Z"}],
            "catalog-v2/market-trades",
            has_more=True,
        ),
        answers={
            f"{COINMETRICS}/catalog-v2/market-trades": coinmetrics(
                [
                    {
                        "market": "coinbase-btc-usd-spot",
                        "min_time": "2015-01-14T16:07:49.000000000Z",
                        "max_time": "2026-11-20T00:00:00.000000000Z",
                    }
                ],
                "",
            )
        },
        named="markets=coinbase-btc-usd-spot",
    ),
    "fred_series": Case(
        subject="GDP",
        start="1947-01-01",
        end="2025-01-01",
        renamed=("title", "titles"),
        empty={"realtime_start": "1776-07-04", "realtime_end": "9999-12-31", "seriess": []},
    ),
    "fred_observations": Case(
        subject="GDP",
        start="1947-01-01",
        end="2025-01-01",
        renamed=("date", "day"),
        empty={"count": 0, "offset": 0, "limit": 100000, "observations": []},
        more={
            "count": 5,
            "offset": 0,
            "limit": 100000,
            "observations": [
                {
                    "realtime_start": "2024-10-30",
                    "realtime_end": "9999-12-31",
                    "date": "2024-07-01",
                    "value": "29349.924",
                }
            ],
        },
    ),
    "fred_release_dates": Case(
        subject="53",
        start="2024-12-01",
        end="2025-01-20",
        renamed=("date", "day"),
        empty={"count": 0, "offset": 0, "release_dates": []},
        more={"count": 5, "offset": 0, "release_dates": [{"release_id": 53, "date": "2024-12-19"}]},
        answers={
            "api.stlouisfed.org/fred/release": {"releases": [{"id": 53, "name": "Gross Domestic Product"}]},
            "api.stlouisfed.org/fred/release/dates": {
                "count": 1,
                "offset": 0,
                "release_dates": [{"release_id": 53, "date": "2024-12-19"}],
            },
        },
        named="release_id=53",
    ),
    "fred_series_releases": Case(
        subject="GDP",
        start="2024-12-01",
        end="2025-01-20",
        renamed=("name", "names"),
        empty={"realtime_start": "1776-07-04", "realtime_end": "9999-12-31", "releases": []},
        answers={
            "api.stlouisfed.org/fred/series/release": {
                "realtime_start": "1776-07-04",
                "realtime_end": "9999-12-31",
                "releases": [
                    {
                        "id": 53,
                        "realtime_start": "2024-12-19",
                        "realtime_end": "9999-12-31",
                        "name": "Gross Domestic Product",
                    }
                ],
            }
        },
    ),
    "alphavantage_daily": Case(
        subject="IBM",
        start="2025-12-22",
        end="2026-05-16",
        renamed=("close", "closing"),
    ),
    "alphavantage_intraday": Case(
        subject="IBM@5min",
        start="2026-11-20T20:00:00Z",
        end="2026-11-20T21:00:00Z",
        renamed=("close", "closing"),
        answers={
            "www.alphavantage.co/query": bars_of("2026-11-20 15:55:00", "2026-11-20 15:50:00"),
        },
        named="symbol=IBM",
    ),
    "alphavantage_weekly": Case(
        subject="IBM",
        start="2026-11-01",
        end="2026-11-20",
        renamed=("close", "closing"),
        answers={"www.alphavantage.co/query": bars_of("2026-11-13", "2026-11-06")},
    ),
    "alphavantage_monthly": Case(
        subject="IBM",
        start="2026-09-01",
        end="2026-11-20",
        renamed=("close", "closing"),
        answers={"www.alphavantage.co/query": bars_of("2026-10-30", "2026-09-30")},
    ),
    "alphavantage_macro": Case(
        subject="CPI",
        start="1913-01-01",
        end="2026-05-01",
        renamed=("value", "values"),
    ),
    "bis_observations": Case(
        subject="WS_GLI/Q.USD.3P.N.A.I.B.USD",
        start="2000-01-01",
        end="2026-04-01",
        renamed=("UNIT_MULT", "UNIT_MULTIPLIER"),
        named="Q.USD.3P.N.A.I.B.USD",
    ),
    "bis_structures": Case(
        subject="WS_GLI",
        start="2026-01-01",
        end="2026-01-02",
        renamed=("Enumeration", "Listing"),
        answers={"stats.bis.org/api/v2/structure/dataflow/BIS/WS_GLI/1.0": STRUCTURE},
    ),
    "bis_series": Case(
        subject="WS_GLI/Q.USD.3P.N.A.I.B.USD",
        start="2000-01-01",
        end="2026-04-01",
        renamed=("TITLE", "NAME"),
        named="Q.USD.3P.N.A.I.B.USD",
    ),
    "polymarket_markets": Case(
        subject="fed-decision-in-june-825",
        start="2026-05-17",
        end="2026-05-18",
        renamed=("markets", "listings"),
    ),
    "polymarket_event_listing": Case(
        subject="tag:fed-rates",
        start="2026-05-17",
        end="2026-05-18",
        renamed=("conditionId", "condition"),
        empty={"events": []},
        more={"events": [LISTED_EVENT], "next_cursor": "x"},
        answers={"gamma-api.polymarket.com/events/keyset": {"events": [LISTED_EVENT]}},
        named="tag_slug=fed-rates",
    ),
    "polymarket_market_listing": Case(
        subject="tag:100196",
        start="2026-05-17",
        end="2026-05-18",
        renamed=("conditionId", "condition"),
        empty={"markets": []},
        more={"markets": [LISTED_MARKET], "next_cursor": "x"},
        answers={"gamma-api.polymarket.com/markets/keyset": {"markets": [LISTED_MARKET]}},
        named="tag_id=100196",
    ),
    "polymarket_trades": Case(
        subject=CONDITION,
        **RECENT,
        renamed=("timestamp", "time"),
        empty=[],
        more=[TRADE],
        answers={
            "data-api.polymarket.com/trades?offset=0": [TRADE],
            "data-api.polymarket.com/trades?offset=1": [],
        },
    ),
    "polymarket_prices": Case(
        subject="16040015440196279900485035793550429453516625694844857319147506590755961451627",
        start="2026-06-12T16:33:20Z",
        end="2026-06-12T17:03:20Z",
        renamed=("p", "q"),
        empty={"history": []},
    ),
    "polymarket_books": Case(
        subject="65193234666628291664907888364936366210889305490897648116746073820519263548476",
        start="2026-05-17",
        end="2026-05-18",
        renamed=("asset_id", "token"),
    ),
}

Spoil = Callable[[bytes], bytes]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens to the answers to one request; `times` is how often, for ever by default."""

    status: int | None = None
    """None: what the twin says."""
    headers: Mapping[str, str] = field(default_factory=dict)
    spoil: Spoil = lambda body: body
    sent: float = 1.0
    """The share of the body that is sent before the connection breaks."""
    silence_s: float = 0.0
    times: int = 10**9


BUSY = json.dumps({"error": "busy"}).encode()
TURNED_AWAY = {
    "429": Fault(status=429, headers={"retry-after": "1"}, spoil=lambda _: BUSY),
    "503": Fault(status=503, spoil=lambda _: HTML),
    "a broken connection": Fault(sent=0.5),
}
NOT_AN_ANSWER: Mapping[str, Spoil] = {
    "a page of HTML": lambda _: HTML,
    "no body": lambda _: b"",
    "half a body": lambda body: body[: len(body) // 2],
}


Clean = tuple[list[Page], list[Request], int]
"""Pages without any fault, a request for each address asked, and the number of requests."""


class Stage:
    """The ASGI application before the twin: notes who asks for what, and fails where it is told to."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, str], Clean] = {}
        self.begin(Twin(()))

    def begin(self, twin: Twin, target: Request | None = None, fault: Fault | None = None) -> None:
        """From now on `twin` answers; what is asked at the address of `target`, with the fault."""
        self.twin, self.target, self.fault = twin, target, fault
        self.asked: list[Request] = []
        self.failed = 0

    async def __call__(self, scope, receive, send) -> None:
        host, _, path = scope["path"].lstrip("/").partition("/")
        query = scope["query_string"].decode()
        asked = request_to(scope["method"], host=host, path=f"/{path}", query=query, body=None)
        self.asked.append(asked)
        if len(self.asked) > MOST_REQUESTS:
            await PlainTextResponse("that is enough", 400)(scope, receive, send)
            return
        fault = self.fault
        if fault is None or not self._is_target(asked) or self.failed >= fault.times:
            await self.twin(scope, receive, send)
            return
        self.failed += 1
        status, headers, body = await _answer(self.twin, scope, receive)
        await asyncio.sleep(fault.silence_s)
        spoilt = fault.spoil(body)
        length = str(len(spoilt)).encode()
        named = [(n, v) for n, v in headers if n != b"content-length"]
        named += [(n.encode(), v.encode()) for n, v in fault.headers.items()]
        code = fault.status or status
        start = {
            "type": "http.response.start",
            "status": code,
            "headers": [*named, (b"content-length", length)],
        }
        await send(start)
        part = spoilt[: int(len(spoilt) * fault.sent)]
        if fault.sent < 1:
            await send({"type": "http.response.body", "body": part, "more_body": True})
            raise ConnectionAbortedError("the stage breaks the connection")
        await send({"type": "http.response.body", "body": part})

    def _is_target(self, asked: Request) -> bool:
        return self.target is not None and asked[:3] == self.target[:3]


async def _answer(twin: Twin, scope, receive) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """What the twin says."""
    said: list[dict[str, Any]] = []

    async def keep(message) -> None:
        said.append(message)

    await twin(scope, receive, keep)
    body = b"".join(message.get("body", b"") for message in said[1:])
    return said[0]["status"], said[0]["headers"], body


@cache
def demo() -> tuple[Recording, ...]:
    return tuple(read_folder(RECORDINGS))


def body_of(said: object) -> bytes:
    return said if isinstance(said, bytes) else json.dumps(said).encode()


class ByPath(Twin):
    """The twin of the demo's recordings, and of one for each address of a case, whatever the other parameters."""

    def __init__(self, answers: Mapping[str, object]) -> None:
        super().__init__(demo())
        self._bodies = {address: body_of(said) for address, said in answers.items()}

    async def __call__(self, scope, receive, send) -> None:
        address, query = scope["path"].lstrip("/"), scope["query_string"].decode()
        known = [address, *(f"{address}?{one}" for one in query.split("&"))]
        found = [
            Recording(url=f"https://{address}?{query}", body=self._bodies[one])
            for one in known
            if one in self._bodies
        ]
        await (Twin(found) if found else super().__call__)(scope, receive, send)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    stage = Stage()
    with serving(stage) as stage.url:
        yield stage


@pytest.fixture(scope="module")
def client(stage, tmp_path_factory) -> Iterator[Client]:
    yield from _client(stage, tmp_path_factory, timeout_s=10)


@pytest.fixture(scope="module")
def hasty_client(stage, tmp_path_factory) -> Iterator[Client]:
    yield from _client(stage, tmp_path_factory, timeout_s=SILENCE_S)


def _client(stage, tmp_path_factory, *, timeout_s: float) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("home")
    settings = Settings(_env_file=None, home=home, twin_url=stage.url)
    with Client(settings, now=lambda: NOW, timeout_s=timeout_s) as client:
        yield client


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=TRIES):
        yield


@pytest.fixture
def case(feed: Feed) -> Case:
    return CASES[feed.name]


def fetched(stage: Stage, client: Client, feed: Feed, **how) -> list[Page]:
    """The pages of the feed's case, from a twin that fails as said."""
    case = CASES[feed.name]
    stage.begin(ByPath(case.answers), **how)
    return list(feed.fetch(client, case.subject, case.window))


def clean(stage: Stage, client: Client, feed: Feed) -> Clean:
    """What comes without any fault, fetched twice for all tests: what a client remembers of a fetch is known then."""
    key = id(client), feed.name
    if key not in stage.known:
        fetched(stage, client, feed)
        pages = fetched(stage, client, feed)
        stage.known[key] = pages, list({asked[:3]: asked for asked in stage.asked}.values()), len(stage.asked)
    return stage.known[key]


def parsed(feed: Feed, pages: list[Page]) -> pl.DataFrame:
    frame = pages_frame(pages, run_id="r", code_version="v")
    return conform(feed.table, feed.parse(frame)).collect()


def passing(feed: Feed, pages: list[Page]) -> int:
    """How many rows would be published."""
    return parsed(feed, pages).filter(pl.col("reasons").list.len() == 0).height


def assert_told(error: SourceError, feed: Feed) -> None:
    """The message says whom and what it is about."""
    case = CASES[feed.name]
    provider = case.subject.partition(":")[0] if feed.provider == "ccxt" else feed.provider
    assert provider in str(error).lower()
    assert case.subject in str(error) or (case.named and case.named in str(error))


EVERY_FEED = pytest.mark.parametrize("feed", FEEDS.values(), ids=lambda feed: feed.name)


def test_every_feed_has_a_case_here_and_no_other_has():
    assert sorted(CASES) == sorted(FEEDS)


@EVERY_FEED
def test_without_a_fault_rows_come_that_pass(stage, client, feed):
    pages, *_ = clean(stage, client, feed)

    assert passing(feed, pages) > 0


@EVERY_FEED
@pytest.mark.parametrize("fault", TURNED_AWAY.values(), ids=TURNED_AWAY)
def test_what_passes_is_got_over(stage, client, feed, fault):
    pages, addresses, _ = clean(stage, client, feed)
    for target in addresses:
        again = fetched(stage, client, feed, target=target, fault=replace(fault, times=TRIES - 1))

        assert stage.failed == TRIES - 1
        assert [one.page_id for one in again] == [one.page_id for one in pages]


@EVERY_FEED
def test_silence_is_got_over(stage, hasty_client, feed):
    pages, (*_, target), _ = clean(stage, hasty_client, feed)

    again = fetched(stage, hasty_client, feed, target=target, fault=Fault(silence_s=2 * SILENCE_S, times=1))

    assert stage.failed == 1
    assert [one.page_id for one in again] == [one.page_id for one in pages]


@EVERY_FEED
@pytest.mark.parametrize("fault", TURNED_AWAY.values(), ids=TURNED_AWAY)
def test_what_does_not_pass_is_told_by_name_as_transient(stage, client, feed, fault):
    _, addresses, _ = clean(stage, client, feed)
    for target in addresses:
        with pytest.raises(Transient) as caught:
            fetched(stage, client, feed, target=target, fault=fault)

        assert stage.failed == TRIES
        assert_told(caught.value, feed)


@EVERY_FEED
@pytest.mark.parametrize("spoil", NOT_AN_ANSWER.values(), ids=NOT_AN_ANSWER)
def test_what_is_no_whole_answer_is_never_taken_for_one(stage, client, feed, spoil):
    _, addresses, _ = clean(stage, client, feed)
    for target in addresses:
        assert_refused(stage, client, feed, target, spoil)


@EVERY_FEED
def test_a_changed_field_lets_no_row_pass(stage, client, feed, case):
    _, (*_, target), _ = clean(stage, client, feed)
    name, other = (name.encode() for name in case.renamed)

    def rename(body: bytes) -> bytes:
        assert name in body
        return re.sub(rb"\b%b\b" % name, other, body)

    assert_refused(stage, client, feed, target, rename)


def assert_refused(stage: Stage, client: Client, feed: Feed, target: Request, spoil: Spoil) -> None:
    """Fetching raises an error that says what it is about, or parsing does, or no row passes its checks."""
    try:
        pages = fetched(stage, client, feed, target=target, fault=Fault(spoil=spoil))
        rows = parsed(feed, pages)
    except SourceError as error:
        assert stage.failed
        assert_told(error, feed)
        return
    assert stage.failed
    assert rows.height
    assert rows.filter(pl.col("reasons").list.len() == 0).is_empty()


@EVERY_FEED
def test_an_empty_answer_is_no_row_or_an_error_and_no_end_is_made_up(stage, client, feed, case):
    _, (*_, target), _ = clean(stage, client, feed)
    if case.empty is None:
        pytest.skip("the provider has no empty answer: see the test of what is no whole answer")
    try:
        pages = fetched(stage, client, feed, target=target, fault=Fault(spoil=lambda _: body_of(case.empty)))
        rows = parsed(feed, pages)
    except SourceError as error:
        assert_told(error, feed)
        return

    assert pages
    assert rows.is_empty()


@EVERY_FEED
def test_a_page_that_comes_again_and_again_is_not_followed_for_ever(stage, client, feed, case):
    _, (*_, target), once = clean(stage, client, feed)
    spoil = (lambda _: body_of(case.more)) if case.more else (lambda body: body)
    try:
        fetched(stage, client, feed, target=target, fault=Fault(status=200, spoil=spoil))
    except SourceError as error:
        assert case.more
        assert_told(error, feed)

    assert len(stage.asked) <= (MOST_REQUESTS if case.more else once)
