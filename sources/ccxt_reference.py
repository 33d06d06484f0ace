"""Bars of mark, index and premium prices of contracts, of any exchange that ccxt knows, over REST.

Nobody traded at these prices: bars have no volume, a premium may be negative. Closed bars only, in steps that one
answer holds; what a venue has and how much comes at once is in `exchanges.yaml`.

Documentation: https://docs.ccxt.com
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from math import ceil
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.coverage import Asked, Claim
from lakehouse.errors import UsageError, unknown
from lakehouse.silver import reference_candles
from lakehouse.window import Window
from sources.ccxt_exchange import Reply, attributes, connected, needed
from sources.ccxt_pages import (
    DOCUMENTATION,
    PROVIDER,
    Kept,
    Row,
    bar_subject,
    call_of,
    contract_of,
    past,
    reply_pages,
    table_frame,
)
from sources.ccxt_paging import candle_pages
from sources.ccxt_quota import LIMITS, PAGES_AT_ONCE, bar_quota
from sources.ccxt_rules import Price, ReferenceRules, exchange_rules, rules_of
from sources.client import Client
from sources.feed import Feed
from sources.proofs import every_bar

REFERENCE = "ccxt_reference_ohlcv"

_PARAMETERS: Mapping[Price, str] = {"mark": "mark", "index": "index", "premium": "premiumIndex"}
_CALLS: Mapping[Price, str] = {
    "mark": "fetchMarkOHLCV",
    "index": "fetchIndexOHLCV",
    "premium": "fetchPremiumIndexOHLCV",
}


def fetch_reference_ohlcv(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """Bars of one price that open in the window, as far as it is past."""
    exchange, symbol, interval, price = _reference_subject(subject)
    rules, declared = needed(exchange, "reference", rules_of(exchange).reference), attributes(exchange)
    offered: list[Price] = [one for one in rules.prices if declared.has.get(_CALLS[one])]
    parameter = {one: _PARAMETERS[one] for one in offered}.get(price)  # type: ignore[call-overload]
    if parameter is None:
        raise unknown(f"price of {exchange}", price, offered)
    if interval not in declared.timeframes:
        raise unknown(f"interval of {exchange}", interval, declared.timeframes)
    pages = partial(reply_pages, feed=REFERENCE, subject=subject, numbers=count())
    with connected(client, partial(pages, window=window)) as ask:
        market = contract_of(client, ask, exchange, symbol)

        def bars(*, params: Mapping[str, Any], **arguments: Any) -> Reply:
            asked = {"timeframe": interval, "params": {**params, "price": parameter}, **arguments}
            return ask(call_of("fetch_ohlcv", exchange, market, asked, with_own_facts=True))

        length = timedelta(seconds=declared.parse_timeframe(interval))
        for span in past(client, window):
            for step, reply in candle_pages(bars, span, rules, bar=length):
                yield from pages(reply, window=step)


def parse_reference_ohlcv(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.reference_candles: closed bars only, as of `ccxt_ohlcv`."""
    end = pl.col("open_at").dt.offset_by(pl.col("interval").str.replace("M", "mo", literal=True))
    settled_at = pl.col("event_at") + pl.col("venue").replace_strict(
        {venue: _settling(venue) for venue in exchange_rules()},
        default=_settling(None),
        return_dtype=pl.Duration("us"),
    )
    return (
        table_frame(pages, _reference_rows, reference_candles.TABLE, ms=("open_at",))
        .with_columns(event_at=end, known_at=end)
        .filter(pl.col("event_at").is_null() | (settled_at <= pl.col("ingested_at")))
    )


def prove_reference_ohlcv(asked: Asked, _pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """Every bar that had closed."""
    exchange, _, interval, _ = _reference_subject(asked.subject)
    return every_bar(replace(asked, at=asked.at - _settling(exchange)), rows["open_at"], interval)


def _about(subject: str) -> list[dict[str, str]]:
    exchange, symbol, interval, price = _reference_subject(subject)
    return [{"venue": exchange, "instrument_id": symbol, "price_type": price, "interval": interval}]


def _length_of_page(subject: str) -> timedelta:
    exchange, _, interval, _ = _reference_subject(subject)
    rules = rules_of(exchange).reference
    return timedelta(seconds=attributes(exchange).parse_timeframe(interval)) * (rules.limit if rules else 1)


def _step(subject: str) -> timedelta:
    return PAGES_AT_ONCE * _length_of_page(subject)


def _cost(subject: str, window: Window) -> int:
    return ceil((window.end - window.start) / _length_of_page(subject))


FEEDS: tuple[Feed, ...] = (
    Feed(
        name=REFERENCE,
        provider=PROVIDER,
        doc="Bars of the mark, index or premium price of a contract, closed ones only.",
        table=reference_candles.TABLE,
        subjects="exchange:symbol@interval#price: binance:BTC/USDT:USDT@1h#mark (mark, index, premium)",
        fetch=fetch_reference_ohlcv,
        parse=parse_reference_ohlcv,
        step=_step,
        cost=_cost,
        paging="steps of as many bars as an answer holds",
        quota=bar_quota,
        limits=LIMITS,
        proof=prove_reference_ohlcv,
        about=_about,
        documentation=DOCUMENTATION,
    ),
)


def _reference_subject(subject: str) -> tuple[str, str, str, str]:
    """Exchange, symbol, interval and price."""
    bar, _, price = subject.rpartition("#")
    if not bar or not price:
        shape = "exchange:symbol@interval#price, such as binance:BTC/USDT:USDT@1h#mark"
        raise UsageError(f"subject {subject!r} is not {shape}")
    return *bar_subject(bar), price


def _settling(exchange: str | None) -> timedelta:
    rules = exchange_rules().get(exchange or "")
    return timedelta(seconds=((rules and rules.reference) or ReferenceRules()).settles_s)


def _reference_rows(kept: Kept) -> Iterator[Row]:
    price_types = {parameter: price for price, parameter in _PARAMETERS.items()}
    shared = {
        **kept.provenance,
        "instrument_id": kept.market["symbol"],
        "interval": kept.call.arguments["timeframe"],
        "price_type": price_types[kept.call.arguments["params"]["price"]],
    }
    for open_ms, open_, high, low, close, *_ in kept.rows:
        yield {**shared, "open_at": open_ms, "open": open_, "high": high, "low": low, "close": close}
