"""ccxt's objects, changed where they would hide or invent something: rows, digits, zeros, sums.

Numbers stay the venue's own text. A row without a time is kept. What ccxt computes (costs, averages, a price from a
change in per cent) is not: only what the venue said is. Nothing here sends. ccxt is imported late: it is slow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from lakehouse.errors import unknown
from sources.ccxt_rules import CandleRules, ExchangeRules, FundingRules, exchange_rules

_ZERO_IS_NONE = ("bid", "ask", "open", "high", "low", "vwap", "markPrice", "indexPrice")
_AMOUNTS = ("bidVolume", "askVolume", "baseVolume", "quoteVolume")


def exchange_object(name: str, options: Mapping[str, Any]) -> Any:
    """A ccxt object that keeps numbers as the venue's text and hides no row; it cannot send yet.

    Its `raw_rows` says how many rows the last answer held before ccxt chose among them.
    """
    import ccxt

    if name not in ccxt.exchanges:
        raise unknown("exchange", name, ccxt.exchanges)
    rules = exchange_rules().get(name, ExchangeRules())
    config: dict[str, Any] = {"options": dict(options), "enableRateLimit": False}
    if rules.urls:
        config["urls"] = {"api": rules.urls}
    exchange = getattr(ccxt, name)(config)
    exchange.number = str
    exchange.on_json_response = partial(json.loads, parse_float=str)
    _change_lists(exchange, rules.candles or CandleRules())
    _change_items(exchange, rules.funding or FundingRules())
    return exchange


def is_timed(row: Any) -> bool:
    """Whether a row, as ccxt gives it, says when."""
    return bool(row[0] if isinstance(row, list) else row["timestamp"])


def _change_lists(exchange: Any, candles: CandleRules) -> None:
    exchange.parse_trades = partial(_parse_trades, exchange, exchange.parse_trades)
    exchange.parse_ohlcvs = partial(_parse_ohlcvs, exchange, exchange.parse_ohlcvs, candles)
    exchange.parse_ohlcv = partial(_parse_ohlcv, exchange.parse_ohlcv, candles)
    exchange.sort_by_2 = partial(_sort_by_2, exchange.sort_by_2)
    for name in ("filter_by_since_limit", "filter_by_value_since_limit"):
        setattr(exchange, name, partial(_filter, exchange, getattr(exchange, name)))


def _change_items(exchange: Any, funding: FundingRules) -> None:
    exchange.safe_trade = partial(_safe_trade, exchange)
    exchange.safe_ticker = partial(_safe_ticker, exchange)
    exchange.parse_open_interest = partial(_parse_open_interest, exchange.parse_open_interest)
    exchange.parse_order_book_bid_ask = partial(_parse_level, exchange)
    if funding.seconds_field:
        original = exchange.parse_funding_rate_history
        exchange.parse_funding_rate_history = partial(_parse_settlement, original, funding.seconds_field)


def _parse_trades(exchange: Any, original: Callable[..., Any], raw: Any, *args: Any, **named: Any) -> Any:
    rows = exchange.to_array(raw)
    exchange.raw_rows = len(rows)
    return original(rows, *args, **named)


def _parse_ohlcvs(
    exchange: Any, original: Callable[..., Any], rules: CandleRules, raw: Any, *args: Any, **named: Any
) -> Any:
    rows = exchange.to_array(raw)
    exchange.raw_rows = len(rows)
    return original(rows[:-1] if rules.last_is_open else rows, *args, **named)


def _parse_ohlcv(original: Callable[..., Any], rules: CandleRules, raw: Any, market: Any = None) -> Any:
    """The bar as ccxt reads it, with the number of trades as a seventh value."""
    index = rules.trade_count_index
    counted = raw[index] if index is not None and isinstance(raw, list) and len(raw) > index else None
    return [*original(raw, market)[:6], counted]


def _parse_open_interest(original: Callable[..., Any], raw: Any, market: Any = None) -> Any:
    """The sample as ccxt reads it, and when it was: bitfinex's history has no symbol before it, ccxt looks behind."""
    said = original(raw, market)
    if said["timestamp"] is None and isinstance(raw, list) and raw and isinstance(raw[0], int):
        return {**said, "timestamp": raw[0]}
    return said


def _parse_settlement(original: Callable[..., Any], field: str, raw: Any, market: Any = None) -> Any:
    """The settlement with its moment by the venue's own seconds, and with the symbol by which ccxt would drop it."""
    said = original(raw, market)
    return {**said, "symbol": market["symbol"], "timestamp": int(raw[field]) * 1000}


def _parse_level(exchange: Any, level: Any, price: Any = 0, amount: Any = 1, *_: Any) -> list[str | None]:
    """Price and amount as text; ccxt makes them floats."""
    return [exchange.safe_string(level, price), exchange.safe_string(level, amount)]


def _sort_by_2(original: Callable[..., Any], rows: list[Any], first: Any, *rest: Any) -> list[Any]:
    """Sort by two keys as ccxt does, which stumbles over a row without the first: those come last."""
    known = [row for row in rows if row[first] is not None]
    return [*original(known, first, *rest), *(row for row in rows if row[first] is None)]


def _filter(
    exchange: Any, original: Callable[..., Any], rows: list[Any], *args: Any, **named: Any
) -> list[Any]:
    """Filter by time and number as ccxt does, but a row without a time is kept: it is judged later, not lost here."""
    exchange.raw_rows = max(exchange.raw_rows, len(rows))
    timed: list[Any] = []
    untimed: list[Any] = []
    for row in rows:
        (timed if is_timed(row) else untimed).append(row)
    return [*untimed, *original(timed, *args, **named)]


def _safe_trade(exchange: Any, trade: dict[str, Any], _market: Any = None) -> dict[str, Any]:
    """The trade without ccxt's sums of cost and fees, which fail where a price is not a number."""
    texts = {name: exchange.safe_string(trade, name) for name in ("price", "amount")}
    return {**trade, **texts}


def _safe_ticker(exchange: Any, ticker: dict[str, Any], _market: Any = None) -> dict[str, Any]:
    """The ticker with what the venue said only; a price of zero is how several say that there is none."""
    texts = {name: exchange.safe_string(ticker, name) for name in (*_ZERO_IS_NONE, *_AMOUNTS)}
    prices = {name: _none_for_zero(texts[name]) for name in _ZERO_IS_NONE}
    last = _none_for_zero(exchange.safe_string_2(ticker, "last", "close"))
    return {**ticker, **texts, **prices, "last": last}


def _none_for_zero(text: str | None) -> str | None:
    try:
        return text if text is None or float(text) else None
    except ValueError:
        return text
