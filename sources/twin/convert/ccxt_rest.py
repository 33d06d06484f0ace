"""Recordings for the feeds of ccxt in the demo, from recorded answers of seven exchanges.

The recorded files keep bodies, most of them without the request as our fetch sends it. The requests here are those
of the subjects and windows of the demo; a test fetches every one of them through the twin.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sources.twin.convert import mit_notice
from sources.twin.recording import Recording

PROVIDER = "ccxt"

PROVENANCE = f"""\
# Exchanges over REST (`ccxt_rest.jsonl.gz`)

The addresses are those that our own fetch sends for the demo's windows; what was asked for in truth is said below,
where it is known. No value of a body was changed by us. Bodies that come from GoCryptoTrader and ccxt were stored
by them as parsed JSON: spaces and the order of keys are not the venue's.

[XChange](https://github.com/knowm/XChange), commit beb5ddf4fd64, MIT, below:

- kraken, BTC/USD 1m bars, 2017-08-10 22:02 to 2017-08-11 10:01 UTC: `example-ohlc-data.json`, unchanged.

[nautilus_trader](https://github.com/nautechsystems/nautilus_trader), commit a95c8042b001, folder
`crates/adapters/kraken/test_data`, GNU Lesser General Public License version 3
(https://www.gnu.org/licenses/lgpl-3.0.txt), Copyright (C) Nautech Systems Pty Ltd; unchanged, and whoever passes
them on keeps this notice:

- kraken, BTC/USDT 1m bars, 2025-11-10 12:17 to 2025-11-11 00:17 UTC: `http_ohlc.json`;
- kraken, 1,000 trades of BTC/USDT within these hours: `http_trades.json`.

[GoCryptoTrader](https://github.com/thrasher-corp/gocryptotrader), commit 7417b81be26a, files
`exchanges/binance/testdata/http.json` and `exchanges/bitstamp/testdata/http.json`, MIT, below:

- binance, BTC/USDT 1h bars, 2020-04-30 21:00 to 2020-07-01 03:00 UTC in two pages, and 1d bars of 2019 (BTC/USDT,
  ETH/BTC): other `endTime`, same bars. Three hours of 2020-06-28 are missing at the venue.
- binance, 1,000 aggregate trades of BTC/USDT, 2020-01-02 15:10:23 to 15:18:39 UTC, asked for with
  `fromId=202790190`, here the answer to the window's first request. That project left out all but the first and
  last trade of the pages around it: the page that follows here is the last trade of the next one.
- binance, 2 + 2 and 5 trades whose ids 303004096 to 303004098 come with the times 2020-01-02 15:04:05 and later,
  and again with 2020-05-28: that project changed the times of the former and the name of their field `m` by hand.
  They are kept as an example of what must not pass unseen. Of the page from id 303004096 the first trade is left
  out, which our fetch does not ask for again.
- binance, lists of markets (spot, USD-M, COIN-M), cut to 25 each by that project.
- binance, BTC/USDT:USDT 1d bars, 2019-09-08 to 2020-01-01: other `startTime` and `endTime`, same bars.
- binance, settled funding: BTC/USDT:USDT 2020-09-15 to 2020-10-18, asked for without bounds, BTC/USD:BTC 2020-11-01
  to 2020-11-17, asked for with bounds that the answer does not keep to.
- bitstamp, BTC/USD 1m bars of 2019-12-31 and 1d bars 2017-04-07 to 2019-12-31 (2019-01-09 is there twice, with
  two closes and volumes): other `start`. BTC/USD trades, 2019-06-14 02:11 to 03:11 UTC: asked for with
  `time=hour`, here with `time=day`.

[ccxt](https://github.com/ccxt/ccxt), folder `ts/src/test/static` in the copy rezaeazi/ccxt_DOY, commit
46253e0e8aeb, MIT, below:

- bybit, okx, bitfinex, coinbaseexchange, a few bars and a trade each: `response/*.json`; other requests.
- bybit, one sample of the open interest of BTC/USDT:USDT, 2025-02-16 17:00 UTC: asked for with `limit=1`.
- kraken, bitstamp, bybit, okx, bitfinex, coinbaseexchange, lists of markets: put together from the venue's own
  description that `markets/*.json` keeps with each market, so only those markets, some of their numbers as text.

Licence of XChange:

{mit_notice("2012 - 2013 Xeiam LLC http://xeiam.com")}
Licence of GoCryptoTrader:

{mit_notice("2014-2023 The GoCryptoTrader Developers")}
Licence of ccxt:

{mit_notice("2017 Igor Kroitor")}"""

_KRAKEN = "https://api.kraken.com/0/public"
_BINANCE = "https://api.binance.com/api/v3"
_BITSTAMP = "https://www.bitstamp.net/api/v2"
_BITFINEX = "https://api-pub.bitfinex.com/v2"
_OKX = "https://www.okx.com/api/v5"
_BYBIT = "https://api.bybit.com/v5/market"
_COINBASE_EXCHANGE = "https://api.exchange.coinbase.com/products"


def recordings(shared: Path) -> Iterator[Recording]:
    """All answers, venue by venue."""
    for venue in (
        _kraken,
        _binance,
        _binance_contracts,
        _bitstamp,
        _bitfinex,
        _bybit,
        _okx,
        _coinbase_exchange,
    ):
        yield from venue(shared)


def _kraken(shared: Path) -> Iterator[Recording]:
    pairs = {market["id"]: market["info"] for market in _markets(shared, "kraken")}
    yield _json(f"{_KRAKEN}/AssetPairs", {"error": [], "result": pairs})
    old, new = shared / "ccxt/xchange/kraken", shared / "ws/nautilus/kraken"
    usd_bars = (old / "example-ohlc-data.json").read_bytes()
    yield _answer(f"{_KRAKEN}/OHLC?pair=XXBTZUSD&interval=1&since=1502402460", usd_bars)
    usdt_bars = (new / "http_ohlc.json").read_bytes()
    yield _answer(f"{_KRAKEN}/OHLC?pair=XBTUSDT&interval=1&since=1762776960", usdt_bars)
    trades = (new / "http_trades.json").read_bytes()
    yield _answer(f"{_KRAKEN}/Trades?pair=XBTUSDT&count=1000&since=1762795432999999999", trades)


def _binance(shared: Path) -> Iterator[Recording]:
    routes = _routes(shared, "binance")
    yield _json(f"{_BINANCE}/exchangeInfo", routes["/api/v3/exchangeInfo"][""])
    yield _json("https://fapi.binance.com/fapi/v1/exchangeInfo", routes["/fapi/v1/exchangeInfo"][""])
    yield _json("https://dapi.binance.com/dapi/v1/exchangeInfo", routes["/dapi/v1/exchangeInfo"][""])
    klines = routes["/api/v3/klines"]
    for symbol, interval, start, recorded_end, end in (
        ("BTCUSDT", "1h", 1588280400000, 1591880400000, 1591880399999),
        ("BTCUSDT", "1h", 1591880400000, 1593572400000, 1593575999999),
        ("BTCUSDT", "1d", 1546300800000, 1577836800000, 1577923199999),
        ("ETHBTC", "1d", 1546300800000, 1577836800000, 1577923199999),
    ):
        asked = f"endTime={recorded_end}&interval={interval}&limit=1000&startTime={start}&symbol={symbol}"
        query = f"interval={interval}&limit=1000&symbol={symbol}&startTime={start}&endTime={end}"
        yield _json(f"{_BINANCE}/klines?{query}", klines[asked])
    trades = routes["/api/v3/aggTrades"]
    for query, recorded, left_out in (
        ("startTime=1577977823000&endTime=1577978319999", "fromId=202790190&limit=1000", 0),
        ("fromId=202791190", "fromId=202791189&limit=1000", 1),
        (
            "startTime=1577977445000&endTime=1577977445999",
            "endTime=1577981045000&limit=1000&startTime=1577977445000",
            0,
        ),
        ("fromId=303004097", "fromId=303004096&limit=1000", 1),
        ("startTime=1590640145000&endTime=1590640145999", "limit=5", 0),
    ):
        said = trades[f"{recorded}&symbol=BTCUSDT"][left_out:]
        yield _json(f"{_BINANCE}/aggTrades?symbol=BTCUSDT&limit=1000&{query}", said)


def _binance_contracts(shared: Path) -> Iterator[Recording]:
    routes = _routes(shared, "binance")
    for path, symbol, query, recorded in (
        (
            "fapi/v1/klines",
            "BTCUSDT",
            "interval=1d&limit=1000&startTime=1567900800000&endTime=1577923199999",
            "endTime=1577836800000&interval=1d&limit=1000&startTime=1546300800000&",
        ),
        ("fapi/v1/fundingRate", "BTCUSDT", "startTime=1600128000000&endTime=1602979200999&limit=1000", ""),
        (
            "dapi/v1/fundingRate",
            "BTCUSD_PERP",
            "startTime=1604217600000&endTime=1605628800999&limit=1000",
            "endTime=1580515200000&limit=50&startTime=1577836800000&",
        ),
    ):
        said = routes[f"/{path}"][f"{recorded}symbol={symbol}"]
        yield _json(f"https://{path[:4]}.binance.com/{path}?symbol={symbol}&{query}", said)


def _bitstamp(shared: Path) -> Iterator[Recording]:
    yield _json(f"{_BITSTAMP}/markets/", [market["info"] for market in _markets(shared, "bitstamp")])
    routes = _routes(shared, "bitstamp")
    for step, start, end in ((60, 1577776800, 1577836799), (86400, 1491523200, 1577923199)):
        bars = routes["/api/v2/ohlc/btcusd/"][f"end=1577836799&limit=1000&start=1546300800&step={step}"]
        yield _json(f"{_BITSTAMP}/ohlc/btcusd/?step={step}&start={start}&end={end}&limit=1000", bars)
    trades = routes["/api/v2/transactions/btcusd/"]["time=hour"]
    yield _json(f"{_BITSTAMP}/transactions/btcusd/?time=day", trades)


def _bitfinex(shared: Path) -> Iterator[Recording]:
    markets = _markets(shared, "bitfinex")
    spot = [[market["id"][1:], market["info"]] for market in markets if market["spot"]]
    futures = [[market["id"][1:], market["info"]] for market in markets if market["swap"]]
    margin = [market["id"][1:] for market in markets if market["margin"]]
    labels = "pub:info:pair,pub:info:pair:futures,pub:list:pair:securities,pub:list:pair:margin"
    yield _json(f"{_BITFINEX}/conf/{labels}", [spot, futures, [], margin])
    query = "limit=10000&start=1552298400000&sort=1&end=1552301999999"
    yield _json(
        f"{_BITFINEX}/candles/trade:1h:tBTCUST/hist?{query}", _response(shared, "bitfinex", "fetchOHLCV")
    )
    query = "start=1710327600000&limit=10000&sort=1&end=1710327659999"
    yield _json(f"{_BITFINEX}/trades/tBTCUST/hist?{query}", _response(shared, "bitfinex", "fetchTrades"))


def _bybit(shared: Path) -> Iterator[Recording]:
    markets = _markets(shared, "bybit")
    for category, query in (("spot", ""), ("linear", "&limit=1000"), ("inverse", "&limit=1000")):
        found = [market["info"] for market in markets if market[category] and not market["option"]]
        url = f"{_BYBIT}/instruments-info?category={category}{query}"
        yield _json(url, _bybit_list(category, found))
        if category != "spot":
            yield _json(f"{url}&status=PreLaunch", _bybit_list(category, []))
    query = "symbol=BTCUSDT&start=1706630400000&limit=1000&end=1706641199999&interval=60&category=linear"
    yield _json(f"{_BYBIT}/kline?{query}", _response(shared, "bybit", "fetchOHLCV"))
    query = "symbol=BTCUSDT&intervalTime=1h&category=linear&startTime=1739725200000&endTime=1739728799999&limit=200"
    yield _json(f"{_BYBIT}/open-interest?{query}", _response(shared, "bybit", "fetchOpenInterest"))
    query = "symbol=BTCUSDT&limit=1000&category=linear"
    yield _json(f"{_BYBIT}/recent-trade?{query}", _response(shared, "bybit", "fetchTrades"))


def _bybit_list(category: str, found: list[Any]) -> dict[str, Any]:
    result = {"category": category, "list": found, "nextPageCursor": ""}
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}}


def _okx(shared: Path) -> Iterator[Recording]:
    markets = _markets(shared, "okx")
    for kind in ("spot", "swap", "future"):
        found = [market["info"] for market in markets if market["type"] == kind]
        kinds = {"future": "FUTURES"}.get(kind, kind.upper())
        url = f"{_OKX}/public/instruments?instType={kinds}"
        yield _json(url, {"code": "0", "msg": "", "data": found})
    query = "instId=BTC-USDT&bar=1H&limit=100&before=1706630399999&after=1706990400000"
    yield _json(f"{_OKX}/market/history-candles?{query}", _response(shared, "okx", "fetchOHLCV"))
    url = f"{_OKX}/market/history-trades?instId=BTC-USDT&limit=100"
    yield _json(url, _response(shared, "okx", "fetchTrades"))


def _coinbase_exchange(shared: Path) -> Iterator[Recording]:
    yield _json(_COINBASE_EXCHANGE, [market["info"] for market in _markets(shared, "coinbaseexchange")])
    query = "granularity=3600&start=2024-03-13T11%3A00%3A00.000Z&end=2024-03-25T22%3A00%3A00.000Z"
    bars = _response(shared, "coinbaseexchange", "fetchOHLCV")
    yield _json(f"{_COINBASE_EXCHANGE}/BTC-USDT/candles?{query}", bars)
    url = f"{_COINBASE_EXCHANGE}/BTC-USDT/trades?limit=1000"
    yield _json(url, _response(shared, "coinbaseexchange", "fetchTrades"))


def _answer(url: str, body: bytes) -> Recording:
    return Recording(url=url, body=body, headers={"content-type": "application/json"})


def _json(url: str, said: Any) -> Recording:
    return _answer(url, json.dumps(said, separators=(",", ":")).encode())


def _routes(shared: Path, venue: str) -> Mapping[str, Mapping[str, Any]]:
    """What gocryptotrader recorded of GET: path -> query -> body."""
    raw = gzip.decompress((shared / f"ccxt/gocryptotrader/{venue}_http.json.gz").read_bytes())
    routes = json.loads(raw)["routes"]
    return {
        path: {answer["queryString"]: answer["data"] for answer in methods.get("GET", [])}
        for path, methods in routes.items()
    }


def _markets(shared: Path, venue: str) -> list[dict[str, Any]]:
    markets = json.loads((shared / f"ccxt/ccxt-static/markets/{venue}.json").read_text(encoding="utf-8"))
    return list(markets.values())


def _response(shared: Path, venue: str, method: str) -> Any:
    """The body of ccxt's first recorded case of a method."""
    said = json.loads((shared / f"ccxt/ccxt-static/response/{venue}.json").read_text(encoding="utf-8"))
    return said["methods"][method][0]["httpResponse"]
