"""Trades and bars of the busiest venues, read straight into columns: about ten times as fast as by ccxt.

A page is read here only if it is exactly what its venue documents, asked for as our own fetch asks. Then its rows
are those that ccxt's parser gives (`tests/sources/test_ccxt_columns.py` holds them against each other). Whatever
else an answer may be (empty, an error, a changed field, a value of another type) is left to ccxt's parser.

One module a venue, with `trades` and `candles` where it has them; `exactly` holds the checks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from sources.ccxt_columns import binance, bitfinex, bitstamp, bybit, coinbase, coinbaseexchange, kraken, okx
from sources.ccxt_columns.exactly import Columns
from sources.ccxt_exchange import MISREAD
from sources.ccxt_rules import TradeRules, exchange_rules

Read = Callable[[bytes, Mapping[str, Any]], Columns]

READERS: Mapping[tuple[str, str], Read] = {
    ("binance", "fetch_ohlcv"): binance.candles,
    ("binance", "fetch_trades"): binance.trades,
    ("bitfinex", "fetch_ohlcv"): bitfinex.candles,
    ("bitfinex", "fetch_trades"): bitfinex.trades,
    ("bitstamp", "fetch_ohlcv"): bitstamp.candles,
    ("bitstamp", "fetch_trades"): bitstamp.trades,
    ("bybit", "fetch_ohlcv"): bybit.candles,
    ("bybit", "fetch_trades"): bybit.trades,
    ("coinbase", "fetch_ohlcv"): coinbase.candles,
    ("coinbase", "fetch_trades"): coinbase.trades,
    ("coinbaseexchange", "fetch_ohlcv"): coinbaseexchange.candles,
    ("coinbaseexchange", "fetch_trades"): coinbaseexchange.trades,
    ("kraken", "fetch_ohlcv"): kraken.candles,
    ("kraken", "fetch_trades"): kraken.trades,
    ("okx", "fetch_ohlcv"): okx.candles,
    ("okx", "fetch_trades"): okx.trades,
}
"""By exchange and ccxt's method."""

# Most rows that ccxt passes on, whatever limit is named.
_MOST_CANDLES = {"binance": 1000, "bitfinex": 10_000, "coinbase": 300, "coinbaseexchange": 300, "okx": 300}
# Named no limit, ccxt takes one of its own for bars, everywhere but here.
_WITHOUT_LIMIT = frozenset({"kraken"})
# These give ccxt no moment from which on it wants trades.
_KEEPS_EARLIER = frozenset({("bitfinex", "fetch_trades")})
_MARKET_TYPES = frozenset({"spot", "swap", "future"})
_ARGUMENTS = {
    "fetch_ohlcv": frozenset({"symbol", "timeframe", "since", "limit", "params"}),
    "fetch_trades": frozenset({"symbol", "since", "limit", "params"}),
}
_LATEST_MS = 9_999_999_999_999


def read(page: Mapping[str, Any], request: Mapping[str, Any]) -> pl.DataFrame | None:
    """The rows of one page of a bronze table, in ccxt's order; None where ccxt's own parser must judge.

    Trades: trade_id, event_at, price, amount, side. Bars: open_at, open, high, low, close, volume and, where the
    venue says it, trade_count. Moments are milliseconds since 1970, prices and amounts the venue's own text.
    """
    reader = READERS.get((request["exchange"], request["call"]))
    if reader is None or not _is_plain(page, request):
        return None
    try:
        rows = pl.DataFrame(reader(page["body"], request["market"]))
    except (*MISREAD, pl.exceptions.PolarsError):
        return None
    return _asked_for(rows, request)


def _is_plain(page: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    """Whether it is the only answer to a call as our fetch makes it."""
    is_whole = page["http_status"] == 200 and not request["part"] and not request["others"]
    return bool(is_whole and not request["options"] and _is_plain_market(request) and _asks_plainly(request))


def _is_plain_market(request: Mapping[str, Any]) -> bool:
    market = request["market"]
    return (
        isinstance(market, dict)
        and all(isinstance(market.get(name), str) for name in ("id", "symbol"))
        and market.get("type") in _MARKET_TYPES
        and any(market.get(kind) is True for kind in ("spot", "linear", "inverse"))
        and request["arguments"].get("symbol") == market["symbol"]
    )


def _asks_plainly(request: Mapping[str, Any]) -> bool:
    call, arguments = request["call"], request["arguments"]
    rules = exchange_rules().get(request["exchange"])
    since, params = arguments.get("since"), arguments.get("params") or {}
    return (
        arguments.keys() <= _ARGUMENTS[call]
        and _is_moment(since)
        and _is_moment(params.get("until"))
        and (call == "fetch_ohlcv" or since is None or "until" in params)
        and (params.keys() <= {"until"} or _asks_on(call, params, rules.trades if rules else None))
    )


def _asks_on(call: str, params: Mapping[str, Any], rules: TradeRules | None) -> bool:
    """Whether the parameters are those of our way through a venue's trades."""
    if rules is None or call != "fetch_trades":
        return False
    are_known = params.keys() <= {"until", "since", rules.cursor, *rules.params}
    return are_known and all(rules.params.get(name, value) == value for name, value in params.items())


def _is_moment(ms: object) -> bool:
    return ms is None or (type(ms) is int and 0 <= ms <= _LATEST_MS)


def _asked_for(rows: pl.DataFrame, request: Mapping[str, Any]) -> pl.DataFrame | None:
    """Rows from the moment asked for on, as ccxt cuts and sorts them; None where it would cut others off too."""
    key = (request["exchange"], request["call"])
    if not _fits(rows.height, request["arguments"].get("limit"), *key):
        return None
    order = ("event_at", "trade_id") if "trade_id" in rows.columns else ("open_at",)
    since = None if key in _KEEPS_EARLIER else request["arguments"].get("since")
    kept = rows if since is None else rows.filter(rows[order[0]] >= since)
    return kept if _is_sorted(kept, *order) else kept.sort(order, maintain_order=True)


def _is_sorted(rows: pl.DataFrame, time: str, then: str = "") -> bool:
    """Looking costs a fraction of sorting, and most pages are in order."""
    if not then:
        return rows[time].is_sorted()
    before, after = rows.head(-1), rows.tail(-1)
    is_tied = (before[time] == after[time]) & (before[then] <= after[then])
    return bool(((before[time] < after[time]) | is_tied).all())


def _fits(rows: int, limit: object, exchange: str, call: str) -> bool:
    """Whether ccxt passes on as many rows, asked for as many."""
    if limit is None:
        return call == "fetch_trades" or exchange in _WITHOUT_LIMIT
    most = _MOST_CANDLES.get(exchange, rows) if call == "fetch_ohlcv" else rows
    return type(limit) is int and rows <= min(limit, most)
