"""Polymarket's order book (https://docs.polymarket.com): books of tokens and histories of their prices.

Quirks that this module answers for:
- A subject is a token id, a 256-bit number: always text.
- /prices-history takes seconds and at most 15 days a request; it samples the book, it does not list trades.
  Resolved markets were seen to answer empty below 12 hours, so what is empty is asked for again at that pace, and
  such samples are of a kind of their own: `history_12h`.
- /book has milliseconds, and its arrays are worst first; the documentation also shows other orders. Levels are sorted
  here, best first.
- A book carries a hash: SHA-1 of compact JSON, fields in the order of `HASHED` with an empty hash, levels and numbers
  as they were sent. Books that were cut or changed on the way do not match; they are kept, marked as not valid.
- A book is dated by its last change; asked for again before the next change, it is the same book.
- A bid for one outcome at p is shown as an ask for the other at 1-p: the two books of a market are one.
- A market without orders, also one opened minutes ago, answers 404.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import polars as pl

from lakehouse.bronze import Page
from lakehouse.coverage import Asked, Claim
from lakehouse.silver import book_snapshots, prediction_prices
from lakehouse.window import Window
from sources.client import Answer, Client
from sources.feed import Feed
from sources.polymarket_answers import (
    CLOB,
    MILLISECOND,
    PROVIDER,
    SECOND,
    BronzeRow,
    Row,
    broken,
    document,
    epoch,
    frame,
    must_be,
    need,
    objects,
    quota_of,
    require_token,
    said,
)
from sources.proofs import paged_to_end, snapshot

HASHED = (
    "market",
    "asset_id",
    "timestamp",
    "hash",
    "bids",
    "asks",
    "min_order_size",
    "tick_size",
    "neg_risk",
    "last_trade_price",
)

_LONGEST_HISTORY = timedelta(days=14)
_KINDS = {1: "history", 720: "history_12h"}
"""Minutes between samples, and the kind of samples they are, finest first."""
_ABSURD_PRICE = 10**6


def fetch_prices(client: Client, token_id: str, window: Window) -> Iterator[Page]:
    """Minute samples of the window, 14 days a page; where there are none, also a page of 12-hour samples."""
    require_token(token_id)
    numbers = count()
    for part in window.split(_LONGEST_HISTORY):
        span = {"startTs": part.start_ms // 1000, "endTs": part.end_ms // 1000}
        for fidelity in _KINDS:
            params: dict[str, str | int] = {"market": token_id, **span, "fidelity": fidelity}
            page = partial(
                Answer.page, feed="polymarket_prices", subject=token_id, window=part, sequence=next(numbers)
            )
            answer = client.get(CLOB, "/prices-history", params, explain=_MUST_BE_HISTORY, keep=page)
            yield page(answer)
            if json.loads(answer.body)["history"]:
                break


def fetch_books(client: Client, token_id: str, _window: Window) -> Iterator[Page]:
    """One page: the token's book as it is now."""
    require_token(token_id)
    answer = client.get(CLOB, "/book", {"token_id": token_id})
    yield answer.page(feed="polymarket_books", subject=token_id, window=None, sequence=0)


def parse_prices(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.prediction_prices. Raises ParseError for a page that is no history."""
    return frame(prediction_prices.TABLE, pages, _history_rows)


def parse_books(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.book_snapshots, one for each page, all levels that were sent.

    Raises ParseError for a page that is not the book asked for.
    """
    return frame(book_snapshots.TABLE, pages, _book_rows)


def book_hash(book: dict[str, Any]) -> str | None:
    """The hash that the provider computes of a book, an answer of /book read as JSON.

    Null where a field is not there that it is made from.
    """
    if not all(name in book for name in HASHED):
        return None
    hashed = {name: "" if name == "hash" else book[name] for name in HASHED}
    compact = json.dumps(hashed, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha1(compact.encode(), usedforsecurity=False).hexdigest()


def prove_prices(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """The answer is taken for whole where it holds minute samples; coarser ones leave the minutes open."""
    claims = paged_to_end(asked, pages, rows)
    if rows.is_empty() or (rows["kind"] == "history").any():
        return claims
    why = "the prices within 12 hours: of a resolved market the provider gives no finer samples"
    return [replace(claim, status="degraded", cannot_show=why) for claim in claims]


def _history_rows(page: BronzeRow) -> Iterator[Row]:
    kind = _kind(page)
    for sample in objects(page, need(page, document(page), "history", list), "sample"):
        at = epoch(page, need(page, sample, "t", str), unit=SECOND)
        if "p" not in sample:
            raise broken(page, "holds a sample without p")
        price = said(page, sample, "p", str)
        yield {"token_id": page["subject"], "event_at": at, "known_at": at, "price": price, "kind": kind}


def _kind(page: BronzeRow) -> str:
    asked = parse_qs(urlsplit(json.loads(page["request"]).get("url", "")).query)
    return _KINDS[int(asked.get("fidelity", ["1"])[0])]


class _Level(NamedTuple):
    price: Decimal
    price_text: str
    size_text: str


def _book_rows(page: BronzeRow) -> Iterator[Row]:
    book = document(page)
    if book.get("asset_id") != page["subject"]:
        raise broken(page, f"is the book of {book.get('asset_id')!r}")
    at = epoch(page, need(page, book, "timestamp", str), unit=MILLISECOND)
    bids = sorted(_levels(page, book, "bids"), reverse=True)
    asks = sorted(_levels(page, book, "asks"))
    computed = book_hash(json.loads(page["body"]))
    is_hashed = computed is not None and bool(said(page, book, "hash", str))
    yield {
        "venue": PROVIDER,
        "instrument_id": page["subject"],
        "event_at": at,
        "known_at": at,
        "sequence": None,
        "bid_prices": [level.price_text for level in bids],
        "bid_amounts": [level.size_text for level in bids],
        "ask_prices": [level.price_text for level in asks],
        "ask_amounts": [level.size_text for level in asks],
        "amount_unit": "shares",
        "is_valid": not is_hashed or book["hash"] == computed,
        "check": "checksum" if is_hashed else "snapshot",
    }


def _levels(page: BronzeRow, book: dict[str, Any], side: str) -> Iterator[_Level]:
    for level in need(page, book, side, list):
        price, size = (level.get(name) if isinstance(level, dict) else None for name in ("price", "size"))
        if not isinstance(size, str):
            raise broken(page, f"holds a level without a readable size: {str(level)[:80]}")
        yield _Level(_price(page, level, price), str(price), size)


def _price(page: BronzeRow, level: Any, price: Any) -> Decimal:
    """The price as a number; what lies far beyond any price is as unreadable as text."""
    try:
        read = Decimal(price) if isinstance(price, str) else Decimal("NaN")
    except InvalidOperation:
        read = Decimal("NaN")
    if not read.is_finite() or not -_ABSURD_PRICE < read < _ABSURD_PRICE:
        raise broken(page, f"holds a level without a readable price: {str(level)[:80]}")
    return read


def _about_token(subject: str) -> list[dict[str, str]]:
    return [{"token_id": subject}]


def _about_book(subject: str) -> list[dict[str, str]]:
    return [{"venue": PROVIDER, "instrument_id": subject}]


_MUST_BE_HISTORY = must_be(
    "a history", lambda told: isinstance(told, dict) and isinstance(told.get("history"), list)
)

FEEDS = (
    Feed(
        name="polymarket_prices",
        provider=PROVIDER,
        doc="Sampled prices of an outcome token.",
        table=prediction_prices.TABLE,
        subjects="token id, up to 78 digits",
        fetch=fetch_prices,
        parse=parse_prices,
        proof=prove_prices,
        about=_about_token,
        step=lambda _subject: _LONGEST_HISTORY,
        paging="14 days a request",
        quota=quota_of(CLOB),
        documentation="https://docs.polymarket.com/market-data/overview",
    ),
    Feed(
        name="polymarket_books",
        provider=PROVIDER,
        doc="Order book of an outcome token at the moment of asking, checked by its hash.",
        table=book_snapshots.TABLE,
        subjects="token id, up to 78 digits",
        fetch=fetch_books,
        parse=parse_books,
        proof=snapshot,
        about=_about_book,
        paging="one answer",
        quota=quota_of(CLOB),
        documentation="https://docs.polymarket.com/market-data/overview",
    ),
)
