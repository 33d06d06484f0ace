"""Tickers and order books of any exchange that ccxt knows, over REST: what holds at the moment of asking.

- A ticker says only what the venue says: no sum, average or opening price that ccxt makes up. It is a sample of
  rolling 24 hours, never a source of bars.
- Several venues do not say when their answer holds, some say when the last trade was: then it holds when received.
- Books come by price level, the best first, as deep as `exchanges.yaml` asks for; single orders are not offered.

Documentation: https://docs.ccxt.com
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import count
from typing import Any

import orjson
import polars as pl

from lakehouse.bronze import Page
from lakehouse.silver import book_snapshots, tickers
from lakehouse.window import Window, epoch_ms
from sources.ccxt_exchange import Method, connected, needed
from sources.ccxt_pages import (
    DOCUMENTATION,
    PROVIDER,
    Kept,
    Row,
    about_market,
    call_of,
    market_of,
    market_subject,
    reply_pages,
    table_frame,
    text_of,
)
from sources.ccxt_quota import LIMITS, quota
from sources.ccxt_rules import BookRules, TickerField, TickerRules, amount_unit, exchange_rules, rules_of
from sources.client import Client
from sources.feed import Feed
from sources.proofs import snapshot

TICKERS = "ccxt_tickers"
BOOKS = "ccxt_order_books"

_CCXT_NAMES: Mapping[TickerField, str] = {
    "bid": "bid",
    "bid_amount": "bidVolume",
    "ask": "ask",
    "ask_amount": "askVolume",
    "last": "last",
    "open": "open",
    "high": "high",
    "low": "low",
    "vwap": "vwap",
    "base_volume": "baseVolume",
    "quote_volume": "quoteVolume",
    "mark_price": "markPrice",
    "index_price": "indexPrice",
}


def fetch_tickers(client: Client, subject: str, window: Window) -> Iterator[Page]:  # noqa: ARG001
    """The ticker as it is now, whatever the window: a venue keeps no older ones."""
    exchange, _ = market_subject(subject)
    needed(exchange, "tickers", rules_of(exchange).tickers)
    yield from _fetch_now(client, subject, feed=TICKERS, method="fetch_ticker")


def fetch_order_books(client: Client, subject: str, window: Window) -> Iterator[Page]:  # noqa: ARG001
    """The book as it is now, whatever the window."""
    exchange, _ = market_subject(subject)
    rules = needed(exchange, "books", rules_of(exchange).books)
    yield from _fetch_now(client, subject, feed=BOOKS, method="fetch_order_book", rules=rules)


def parse_tickers(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.tickers, one a page; known when received."""
    return _received(table_frame(pages, _ticker_rows, tickers.TABLE, ms=("event_at",)))


def parse_order_books(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.book_snapshots, one a page; known when received."""
    return _received(table_frame(pages, _book_rows, book_snapshots.TABLE, ms=("event_at",)))


def _feed(name: str, **facts: Any) -> Feed:
    subjects = "exchange:symbol: kraken:BTC/USD, binance:BTC/USDT:USDT"
    return Feed(
        name=name,
        provider=PROVIDER,
        documentation=DOCUMENTATION,
        subjects=subjects,
        quota=quota,
        limits=LIMITS,
        proof=snapshot,
        about=about_market,
        **facts,
    )


FEEDS: tuple[Feed, ...] = (
    _feed(
        TICKERS,
        doc="Best prices of an instrument and the figures of its last 24 hours, as the exchange says now.",
        table=tickers.TABLE,
        fetch=fetch_tickers,
        paging="one answer",
        parse=parse_tickers,
    ),
    _feed(
        BOOKS,
        doc="Order book of an instrument by price level, as it is now.",
        table=book_snapshots.TABLE,
        fetch=fetch_order_books,
        paging="one answer",
        parse=parse_order_books,
    ),
)


def _fetch_now(
    client: Client, subject: str, *, feed: str, method: Method, rules: BookRules | None = None
) -> Iterator[Page]:
    exchange, symbol = market_subject(subject)
    pages = partial(reply_pages, feed=feed, subject=subject, numbers=count())
    with connected(client, partial(pages, window=None)) as ask:
        market = market_of(client, ask, exchange, symbol)
        arguments: dict[str, Any] = {}
        if rules is not None:
            depth = rules.contract_limit if market.get("contract") else rules.limit
            arguments = {"limit": depth, "params": rules.params}
        yield from pages(ask(call_of(method, exchange, market, arguments)), window=None)


def _received(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Known when received; and held then, where the venue does not say when."""
    received_at = pl.col("ingested_at")
    return frame.with_columns(event_at=pl.coalesce("event_at", received_at), known_at=received_at)


def _ticker_rows(kept: Kept) -> Iterator[Row]:
    rules = exchange_rules().get(kept.call.exchange)
    told = (rules and rules.tickers) or TickerRules()
    for ticker in kept.rows:
        event_ms = _said_ms(kept, ticker["timestamp"]) if told.dated else None
        yield {
            **kept.provenance,
            "instrument_id": kept.market["symbol"],
            "event_at": event_ms,
            "is_dated_by_venue": event_ms is not None,
            **_figures(kept, ticker, told),
        }


def _figures(kept: Kept, ticker: Mapping[str, Any], rules: TickerRules) -> Row:
    figures: Row = {name: text_of(ticker.get(theirs)) for name, theirs in _CCXT_NAMES.items()}
    left_out = {*rules.leave_out}
    if kept.market.get("contract"):
        left_out |= {*rules.leave_out_of_contracts}
    if kept.market.get("inverse"):
        left_out |= {*rules.leave_out_of_inverse}
        if rules.inverse_volumes_swapped:
            base, quote = figures["base_volume"], figures["quote_volume"]
            figures |= {"base_volume": quote, "quote_volume": base}
    if _says_nan(ticker.get("info")):
        figures |= {name: _not_invented(figures[name]) for name in ("base_volume", "quote_volume")}
    return {**figures, **dict.fromkeys(left_out)}


def _says_nan(info: Any) -> bool:
    """Whether the venue said "nan" somewhere, out of which ccxt makes a zero (gate)."""
    return isinstance(info, dict) and "nan" in info.values()


def _not_invented(volume: str | None) -> str | None:
    return None if volume == "0" else volume


def _book_rows(kept: Kept) -> Iterator[Row]:
    rules = exchange_rules().get(kept.call.exchange)
    told = (rules and rules.books) or BookRules()
    said = orjson.loads(kept.answers[0].body) if told.sequence or told.time_ms else None
    for book in kept.rows:
        bids, asks = _best_first(book["bids"], sign=-1), _best_first(book["asks"], sign=1)
        event_ms = _at(said, told.time_ms) or _said_ms(kept, book["timestamp"])
        yield {
            **kept.provenance,
            "instrument_id": kept.market["symbol"],
            "event_at": None if event_ms is None else int(event_ms),
            "sequence": _whole(_at(said, told.sequence) or book["nonce"]),
            "bid_prices": [level[0] for level in bids],
            "bid_amounts": [level[1] for level in bids],
            "ask_prices": [level[0] for level in asks],
            "ask_amounts": [level[1] for level in asks],
            "amount_unit": amount_unit(kept.market, told),
            "is_valid": True,
            "check": "snapshot",
        }


def _best_first(levels: list[list[str | None]], *, sign: int) -> list[list[str | None]]:
    """Levels by their price as a number: ccxt sorts its text. What is no number comes last."""

    def price(level: list[str | None]) -> float:
        try:
            return sign * float(level[0] or "inf")
        except ValueError:
            return float("inf")

    return sorted(levels, key=price)


def _at(said: Any, path: tuple[str | int, ...]) -> Any:
    """What stands at a path of the answer; None where it has no such place."""
    for step in path:
        try:
            said = said[step]
        except (LookupError, TypeError):
            return None
    return said if path else None


def _whole(number: Any) -> int | None:
    return None if number is None else int(number)


def _said_ms(kept: Kept, timestamp: int | None) -> int | None:
    """The venue's own time; ccxt takes the clock where there is none, which stands at the receipt."""
    return None if not timestamp or timestamp == epoch_ms(kept.received_at) else timestamp
