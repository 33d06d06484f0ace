"""Polymarket (https://docs.polymarket.com): markets from Gamma, price samples and books from the CLOB.

Quirks that this module answers for:
- No keys. Limits per 10 s: 500 events, 1,000 histories, 1,500 books; delays come before 429.
- A subject of `polymarket_markets` is an event's slug, the last part of its web address, asked for as
  GET /events/slug/SLUG: the one request that gives open, closed and resolved markets alike. Listings
  (/events/keyset; plain offsets are being refused) leave closed ones out unless asked for apart, and change
  from page to page while they are read.
- `outcomes`, `outcomePrices` and `clobTokenIds` are texts that hold JSON arrays, aligned by position. Labels
  are not always Yes and No. Where the lengths differ nothing is guessed: the rows come out without token and
  price, and the checks reject them. A market that has no tokens yet looks the same.
- Token ids are 256-bit numbers: always text.
- Markets from before the order book show the prices "0" and "0": no price.
- `closed` is not a resolution, and `endDate` is the plan. Questions and rules may be edited after listing.
- /prices-history takes seconds and at most 15 days a request; it samples the book, it does not list trades.
  Resolved markets were seen to answer empty below 12 hours, so what is empty is asked for again at that pace.
- /book has milliseconds, and its arrays are worst first; here the best are taken by price, not by place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import Table
from lakehouse.errors import UsageError
from lakehouse.silver import prediction_markets, prediction_prices
from lakehouse.window import Window, parse_moment
from sources.client import Client, Host
from sources.errors import ParseError
from sources.feed import Feed
from sources.proofs import snapshot

GAMMA = Host(name="POLYMARKET_GAMMA", url="https://gamma-api.polymarket.com", min_interval_s=0.02)
CLOB = Host(name="POLYMARKET_CLOB", url="https://clob.polymarket.com", min_interval_s=0.01)

_LONGEST_HISTORY = timedelta(days=14)
_FIDELITIES_MIN = (1, 720)
_ABSURD_PRICE = 10**6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLUG = re.compile(r"[a-z0-9][a-z0-9\-]*")
_TOKEN_ID = re.compile(r"\d{1,78}")

_BronzeRow = dict[str, Any]
_Row = dict[str, Any]
_T = TypeVar("_T")


def fetch_markets(client: Client, event_slug: str, _window: Window) -> Iterator[Page]:
    """One page: the event with all its markets as they are now."""
    if not _SLUG.fullmatch(event_slug):
        raise UsageError(
            f"subject {event_slug!r} is not the slug of an event, such as fed-decision-in-june-825"
        )
    answer = client.get(GAMMA, f"/events/slug/{event_slug}")
    yield answer.page(feed="polymarket_markets", subject=event_slug, window=None, sequence=0)


def fetch_prices(client: Client, token_id: str, window: Window) -> Iterator[Page]:
    """Minute samples of the window, 14 days a page; where there are none, also a page of 12-hour samples."""
    _require_token(token_id)
    sequence = 0
    for part in window.split(_LONGEST_HISTORY):
        span = {"startTs": part.start_ms // 1000, "endTs": part.end_ms // 1000}
        for fidelity in _FIDELITIES_MIN:
            answer = client.get(CLOB, "/prices-history", {"market": token_id, **span, "fidelity": fidelity})
            yield answer.page(feed="polymarket_prices", subject=token_id, window=part, sequence=sequence)
            sequence += 1
            if b'"t"' in answer.body:
                break


def fetch_books(client: Client, token_id: str, _window: Window) -> Iterator[Page]:
    """One page: the token's book as it is now."""
    _require_token(token_id)
    answer = client.get(CLOB, "/book", {"token_id": token_id})
    yield answer.page(feed="polymarket_books", subject=token_id, window=None, sequence=0)


def parse_markets(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.prediction_markets, one for each market and outcome; prices and volumes as text.

    Raises ParseError for a page that is not the event asked for.
    """
    return _frame(prediction_markets.TABLE, pages, _event_rows)


def parse_prices(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.prediction_prices of kind `history`. Raises ParseError for a page that is no history."""
    return _frame(prediction_prices.TABLE, pages, _history_rows)


def parse_books(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.prediction_prices of kind `book_mid`, one for each book.

    A book with an empty side, or whose best bid is not below its best ask, has no middle: its price is null.
    Raises ParseError for a page that is not the book asked for.
    """
    return _frame(prediction_prices.TABLE, pages, _book_rows)


def _frame(
    table: Table, pages: pl.DataFrame, rows_of: Callable[[_BronzeRow], Iterator[_Row]]
) -> pl.LazyFrame:
    schema = {c.name: pl.String() if c.dtype.is_float() else c.dtype for c in table.columns}
    rows = [
        {**row, "provider": "polymarket", "page_id": page["page_id"], "ingested_at": page["received_at"]}
        for page in pages.iter_rows(named=True)
        for row in rows_of(page)
    ]
    return pl.LazyFrame(rows, schema=schema, orient="row")


def _event_rows(page: _BronzeRow) -> Iterator[_Row]:
    event = _document(page)
    if event.get("slug") != page["subject"]:
        raise _broken(page, f"is about the event {event.get('slug')!r}")
    for market in _need(page, event, "markets", list):
        if not isinstance(market, dict):
            raise _broken(page, "holds a market that is not an object")
        yield from _market_rows(page, group_id=_said(page, event, "id", str), market=market)


def _market_rows(page: _BronzeRow, *, group_id: str | None, market: dict[str, Any]) -> Iterator[_Row]:
    shared = {
        "market_id": _need(page, market, "id", str),
        "event_at": _moment(page, market, "updatedAt") or page["received_at"],
        # Price, volume and liquidity are those of the asking: `updatedAt` does not move with them.
        "known_at": page["received_at"],
        "condition_id": _said(page, market, "conditionId", str),
        "group_id": group_id,
        "question": _said(page, market, "question", str),
        "rules": _said(page, market, "description", str),
        "is_active": _said(page, market, "active", bool),
        "is_closed": _said(page, market, "closed", bool),
        "is_exclusive": _said(page, market, "negRisk", bool),
        "resolution_status": _said(page, market, "umaResolutionStatus", str),
        "starts_at": _moment(page, market, "startDate"),
        "ends_at": _moment(page, market, "endDate"),
        "closed_at": _moment(page, market, "closedTime"),
        "volume": _said(page, market, "volume", str),
        "liquidity": _said(page, market, "liquidity", str),
    }
    for index, outcome in enumerate(_outcomes(page, market)):
        yield {**shared, "outcome_index": index, **outcome}


def _outcomes(page: _BronzeRow, market: dict[str, Any]) -> list[_Row]:
    """Label, token and price of each outcome; the last two are null where the arrays do not fit."""
    labels, tokens, prices = (
        _array(page, market, name) for name in ("outcomes", "clobTokenIds", "outcomePrices")
    )
    count = max(len(labels), len(tokens), 1)
    if not len(labels) == len(tokens) == count or len(prices) not in (0, count):
        padded = [*labels, *[None] * (count - len(labels))]
        return [{"outcome": label, "token_id": None, "price": None} for label in padded]
    shown = prices if any(price.strip("0.") for price in prices) else [None] * count
    return [
        {"outcome": label, "token_id": token, "price": price}
        for label, token, price in zip(labels, tokens, shown, strict=True)
    ]


def _array(page: _BronzeRow, market: dict[str, Any], name: str) -> list[str]:
    """The array inside a text; empty where the market does not have it."""
    text = _said(page, market, name, str)
    if not text:
        return []
    values = _json(page, text)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _broken(page, f"has {name} {text[:80]!r}, which is not an array of texts")
    return values


def _history_rows(page: _BronzeRow) -> Iterator[_Row]:
    for sample in _need(page, _document(page), "history", list):
        if not isinstance(sample, dict):
            raise _broken(page, "holds a sample that is not an object")
        moment = _epoch(page, _need(page, sample, "t", str), unit=timedelta(seconds=1))
        if "p" not in sample:
            raise _broken(page, "holds a sample without p")
        yield _price_row(page, moment, price=_said(page, sample, "p", str), kind="history")


def _book_rows(page: _BronzeRow) -> Iterator[_Row]:
    book = _document(page)
    if book.get("asset_id") != page["subject"]:
        raise _broken(page, f"is the book of {book.get('asset_id')!r}")
    moment = _epoch(page, _need(page, book, "timestamp", str), unit=timedelta(milliseconds=1))
    yield _price_row(page, moment, price=_middle(page, book), kind="book_mid")


def _price_row(page: _BronzeRow, moment: datetime, *, price: str | None, kind: str) -> _Row:
    return {"token_id": page["subject"], "event_at": moment, "known_at": moment, "price": price, "kind": kind}


def _middle(page: _BronzeRow, book: dict[str, Any]) -> str | None:
    bids, asks = (
        [_level(page, level) for level in _need(page, book, side, list)] for side in ("bids", "asks")
    )
    if not bids or not asks or max(bids) >= min(asks):
        return None
    return format((max(bids) + min(asks)) / 2, "f")


def _level(page: _BronzeRow, level: Any) -> Decimal:
    """The price of one level; what lies far beyond any price is as unreadable as text."""
    price = level.get("price") if isinstance(level, dict) else None
    try:
        read = Decimal(price) if isinstance(price, str) else Decimal("NaN")
    except InvalidOperation:
        read = Decimal("NaN")
    if not read.is_finite() or not -_ABSURD_PRICE < read < _ABSURD_PRICE:
        raise _broken(page, f"holds a level without a readable price: {str(level)[:80]}")
    return read


def _epoch(page: _BronzeRow, text: str, *, unit: timedelta) -> datetime:
    try:
        return _EPOCH + int(text) * unit
    except (ValueError, OverflowError):
        raise _broken(page, f"has a time {text[:40]!r} that cannot be read") from None


def _moment(page: _BronzeRow, market: dict[str, Any], name: str) -> datetime | None:
    text = _said(page, market, name, str)
    try:
        return parse_moment(text) if text else None
    except (ValueError, OverflowError):
        raise _broken(page, f"has {name} {text!r}, which is not a time") from None


def _document(page: _BronzeRow) -> dict[str, Any]:
    said = _json(page, page["body"])
    if not isinstance(said, dict):
        raise _broken(page, "is not a JSON object")
    return said


def _json(page: _BronzeRow, text: str | bytes) -> Any:
    """JSON with every number as the text it was sent as."""
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except ValueError as error:
        raise _broken(page, f"is not JSON ({error})") from None


def _said(page: _BronzeRow, thing: dict[str, Any], name: str, kind: type[_T]) -> _T | None:
    value = thing.get(name)
    if value is not None and not isinstance(value, kind):
        raise _broken(page, f"has {name} of type {type(value).__name__}; expected {kind.__name__}")
    return value


def _need(page: _BronzeRow, thing: dict[str, Any], name: str, kind: type[_T]) -> _T:
    value = _said(page, thing, name, kind)
    if value is None:
        raise _broken(page, f"has no {name}")
    return value


def _require_token(token_id: str) -> None:
    if not _TOKEN_ID.fullmatch(token_id):
        raise UsageError(
            f"subject {token_id!r} is not a token id: up to 78 digits (see silver.prediction_markets)"
        )


def _broken(page: _BronzeRow, what: str) -> ParseError:
    return ParseError(f"polymarket {page['feed']} {page['subject']}: page {page['page_id']} {what}")


def _about_token(subject: str) -> list[dict[str, str]]:
    return [{"token_id": subject}]


FEEDS = (
    Feed(
        name="polymarket_markets",
        provider="polymarket",
        doc="Markets of an event with their outcomes, tokens, rules and state.",
        table=prediction_markets.TABLE,
        subjects="slug of an event: fed-decision-in-june-825",
        fetch=fetch_markets,
        parse=parse_markets,
        proof=snapshot,
        documentation="https://docs.polymarket.com/market-data/overview",
    ),
    Feed(
        name="polymarket_prices",
        provider="polymarket",
        doc="Sampled prices of an outcome token.",
        table=prediction_prices.TABLE,
        subjects="token id, up to 78 digits",
        fetch=fetch_prices,
        parse=parse_prices,
        about=_about_token,
        documentation="https://docs.polymarket.com/market-data/overview",
    ),
    Feed(
        name="polymarket_books",
        provider="polymarket",
        doc="Middle of an outcome token's order book at the moment of asking.",
        table=prediction_prices.TABLE,
        subjects="token id, up to 78 digits",
        fetch=fetch_books,
        parse=parse_books,
        proof=snapshot,
        about=_about_token,
        documentation="https://docs.polymarket.com/market-data/overview",
    ),
)
