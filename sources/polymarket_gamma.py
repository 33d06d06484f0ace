"""Polymarket's catalogue, Gamma (https://docs.polymarket.com/market-data/overview): what its markets say of themselves.

Listings of many events are in `polymarket_listings`. Quirks that this module answers for:
- An event by its slug, the last part of its web address, is one request, and gives open, closed and resolved markets
  alike. A new market may have no tokens for minutes.
- `outcomes`, `outcomePrices` and `clobTokenIds` are texts that hold JSON arrays, aligned by position. Labels are not
  always Yes and No. Where the lengths differ nothing is guessed: the rows come out without token and price, and the
  checks reject them. Markets of version v2 name their tokens `positionIds`.
- Markets from before the order book show the prices "0" and "0": no price.
- `closed` is not a resolution, 0.99 is not one either, and `endDate` is the plan. Questions and rules may be edited
  after listing. Resolved markets of the first years still show the price of their last trade: no payout.
- In a group of `negRisk` markets exactly one pays; `negRiskAugmented` groups may get more outcomes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.errors import UsageError
from lakehouse.silver import prediction_markets
from lakehouse.window import Window
from sources.client import Client
from sources.feed import Feed
from sources.identity import underlying_of
from sources.polymarket_answers import (
    GAMMA,
    PROVIDER,
    BronzeRow,
    Row,
    broken,
    document,
    frame,
    moment,
    need,
    objects,
    quota_of,
    read_json,
    said,
    text,
)
from sources.proofs import snapshot

SLUG = re.compile(r"[a-z0-9][a-z0-9\-]*")

_FEED = "polymarket_markets"
_FINAL = ("resolved", "settled")
_PAYOUTS = (Decimal(0), Decimal("0.5"), Decimal(1))


def fetch_markets(client: Client, event_slug: str, _window: Window) -> Iterator[Page]:
    """One page: the event with all its markets as they are now."""
    if not SLUG.fullmatch(event_slug):
        raise UsageError(
            f"subject {event_slug!r} is not the slug of an event, such as fed-decision-in-june-825"
        )
    answer = client.get(GAMMA, f"/events/slug/{event_slug}")
    yield answer.page(feed=_FEED, subject=event_slug, window=None, sequence=0)


def parse_markets(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.prediction_markets, one for each market and outcome; prices and volumes as text.

    Raises ParseError for a page that is not the event asked for.
    """
    return frame(prediction_markets.TABLE, pages, _event_page_rows)


def event_rows(page: BronzeRow, event: dict[str, Any]) -> Iterator[Row]:
    """Rows of an event object: of each of its markets, of each outcome."""
    for market in objects(page, need(page, event, "markets", list), "market"):
        yield from market_rows(page, event=event, market=market)


def market_rows(page: BronzeRow, *, event: dict[str, Any], market: dict[str, Any]) -> Iterator[Row]:
    """Rows of a market object, one for each outcome; `event` may say less than an event's own page."""
    status = text(page, market, "umaResolutionStatus") or text(page, market, "resolutionStatus")
    source = text(page, market, "resolutionSource") or text(page, event, "resolutionSource")
    shared = {
        "market_id": need(page, market, "id", str),
        "event_at": moment(page, market, "updatedAt") or page["received_at"],
        # Price, volume and liquidity are those of the asking: `updatedAt` does not move with them.
        "known_at": page["received_at"],
        "condition_id": text(page, market, "conditionId"),
        "group_id": text(page, event, "id"),
        "event_slug": text(page, event, "slug"),
        "event_title": text(page, event, "title"),
        "group_item_title": text(page, market, "groupItemTitle"),
        "question": text(page, market, "question"),
        "rules": text(page, market, "description"),
        "is_active": said(page, market, "active", bool),
        "is_accepting_orders": said(page, market, "acceptingOrders", bool),
        "is_closed": said(page, market, "closed", bool),
        "is_exclusive": said(page, market, "negRisk", bool),
        "neg_risk_market_id": text(page, market, "negRiskMarketID") or text(page, event, "negRiskMarketID"),
        "is_open_ended": said(page, event, "negRiskAugmented", bool),
        "resolution_source": source,
        "underlying_asset": underlying_of(source),
        "resolution_status": status,
        "resolved_at": moment(page, market, "umaEndDate"),
        "starts_at": moment(page, market, "startDate"),
        "ends_at": moment(page, market, "endDate"),
        "closed_at": moment(page, market, "closedTime"),
        "protocol": text(page, market, "version"),
        "volume": text(page, market, "volume"),
        "liquidity": text(page, market, "liquidity"),
    }
    outcomes = _outcomes(page, market)
    is_final = status in _FINAL and _is_payout([outcome["price"] for outcome in outcomes])
    for index, outcome in enumerate(outcomes):
        payout = outcome["price"] if is_final else None
        yield {**shared, "outcome_index": index, **outcome, "payout": payout}


def _event_page_rows(page: BronzeRow) -> Iterator[Row]:
    event = document(page)
    if event.get("slug") != page["subject"]:
        raise broken(page, f"is about the event {event.get('slug')!r}")
    yield from event_rows(page, event)


def _outcomes(page: BronzeRow, market: dict[str, Any]) -> list[Row]:
    """Label, token and price of each outcome; the last two are null where the arrays do not fit."""
    labels, prices = (_array(page, market, name) for name in ("outcomes", "outcomePrices"))
    tokens = _array(page, market, "clobTokenIds") or _array(page, market, "positionIds")
    number = max(len(labels), len(tokens), 1)
    if not len(labels) == len(tokens) == number or len(prices) not in (0, number):
        padded = [*labels, *[None] * (number - len(labels))]
        return [{"outcome": label, "token_id": None, "price": None} for label in padded]
    shown = prices if any(price.strip("0.") for price in prices) else [None] * number
    return [
        {"outcome": label, "token_id": token, "price": price}
        for label, token, price in zip(labels, tokens, shown, strict=True)
    ]


def _is_payout(prices: list[str | None]) -> bool:
    """Whether prices are what shares pay: one gets all, or two get half."""
    try:
        paid = [Decimal(price or "NaN") for price in prices]
    except InvalidOperation:
        return False
    return all(one in _PAYOUTS for one in paid) and sum(paid) == 1


def _array(page: BronzeRow, market: dict[str, Any], name: str) -> list[str]:
    """The array inside a text; empty where the market does not have it."""
    written = text(page, market, name)
    if not written:
        return []
    values = read_json(page, written)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise broken(page, f"has {name} {written[:80]!r}, which is not an array of texts")
    return values


FEEDS = (
    Feed(
        name=_FEED,
        provider=PROVIDER,
        doc="Markets of an event with their outcomes, tokens, rules, state and resolution.",
        table=prediction_markets.TABLE,
        subjects="slug of an event: fed-decision-in-june-825",
        fetch=fetch_markets,
        parse=parse_markets,
        proof=snapshot,
        paging="one answer",
        quota=quota_of(GAMMA),
        documentation="https://docs.polymarket.com/market-data/overview",
    ),
)
