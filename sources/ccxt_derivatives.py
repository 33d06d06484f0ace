"""Funding, open interest and liquidations of contracts, of any exchange that ccxt knows, over REST.

- Funding is what was settled, at the moment of settlement: several venues are a few seconds late on the grid, and
  intervals change (8, 4, 1 hours). A rate is never annualised, nor are rates of overlapping hours taken for settled.
- Open interest differs by venue: base, contracts or money, counted once or for buyer and seller (`exchanges.yaml`).
  A sample of a series is known when its interval is over: venues do not say which end of it they mean.
- The side of a liquidation is what the forced order did: a long position is closed by selling. Venues and ccxt name
  either the order or the position.

Documentation: https://docs.ccxt.com
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.coverage import Asked, Claim, minus, overlap
from lakehouse.errors import unknown
from lakehouse.silver import funding_rates, liquidations, open_interest
from lakehouse.window import Window, epoch_ms
from sources.ccxt_exchange import Method, Reply, attributes, connected, needed
from sources.ccxt_pages import (
    DOCUMENTATION,
    PROVIDER,
    Kept,
    Market,
    Row,
    about_market,
    bar_subject,
    call_of,
    contract_of,
    market_subject,
    past,
    reply_pages,
    table_frame,
    text_of,
)
from sources.ccxt_paging import history_pages
from sources.ccxt_quota import LIMITS, quota
from sources.ccxt_rules import (
    FundingRules,
    HistoryRules,
    LiquidationRules,
    OpenInterestRules,
    amount_unit,
    exchange_rules,
    rules_of,
)
from sources.client import Client
from sources.feed import Feed
from sources.proofs import every_bar, paged_to_end, snapshot

FUNDING = "ccxt_funding_rates"
OPEN_INTEREST = "ccxt_open_interest"
LIQUIDATIONS = "ccxt_liquidations"

_NO_LIMIT_DAYS = 36_500
_ID_DIGITS = 32


def fetch_funding_rates(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """Settlements of the window, as far as it is past and the venue still tells them."""
    exchange, symbol = market_subject(subject)
    rules = needed(exchange, "funding", rules_of(exchange).funding)
    history = _History(feed=FUNDING, subject=subject, method="fetch_funding_rate_history", rules=rules)
    yield from history.pages(client, exchange, symbol, window)


def fetch_open_interest(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """Samples of the window, as far as the venue keeps them; without an interval the present, whatever the window."""
    exchange, symbol, interval = _interest_subject(subject)
    rules = needed(exchange, "open_interest", rules_of(exchange).open_interest)
    method: Method = "fetch_open_interest_history" if interval else "fetch_open_interest"
    history = _History(feed=OPEN_INTEREST, subject=subject, method=method, rules=rules)
    if not interval:
        yield from history.present(client, exchange, symbol)
    elif interval in rules.intervals:
        yield from history.pages(client, exchange, symbol, window, timeframe=interval)
    else:
        raise unknown(f"interval of open interest of {exchange}", interval, rules.intervals)


def fetch_liquidations(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """Forced closings of the window, as far as it is past and the venue publishes them."""
    exchange, symbol = market_subject(subject)
    rules = needed(exchange, "liquidations", rules_of(exchange).liquidations)
    history = _History(feed=LIQUIDATIONS, subject=subject, method="fetch_liquidations", rules=rules)
    yield from history.pages(client, exchange, symbol, window)


def parse_funding_rates(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.funding_rates; known when settled."""
    frame = table_frame(pages, _funding_rows, funding_rates.TABLE, ms=("event_at",))
    return frame.with_columns(known_at=pl.col("event_at"))


def parse_open_interest(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.open_interest: samples whose interval was over, and what was the present when received."""
    frame = table_frame(pages, _interest_rows, open_interest.TABLE, ms=("event_at", "known_at"))
    known_at = pl.coalesce("known_at", "ingested_at")
    return frame.with_columns(known_at=known_at).filter(known_at <= pl.col("ingested_at"))


def parse_liquidations(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.liquidations; known when they happened."""
    frame = table_frame(pages, _liquidation_rows, liquidations.TABLE, ms=("event_at",))
    return frame.with_columns(known_at=pl.col("event_at"))


def prove_funding_rates(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """No distance between settlements that is wider than those before and after it; older than the reach: gone."""
    moments = rows["event_at"].drop_nulls().unique().sort()
    if asked.past is None or moments.is_empty():
        return paged_to_end(asked, pages, rows)
    rules = rules_of(market_subject(asked.subject)[0]).funding or FundingRules()
    found = [*_gone(asked, rules), *_wide(moments)]
    claims = [
        replace(claim, window=window) for claim in found if (window := overlap(claim.window, asked.past))
    ]
    why = "whether settlements lie between the window's edges and the first and last one: there paging is trusted"
    claims += [
        Claim(
            window=window,
            status="complete",
            proof="even_distances",
            evidence={"settlements": moments.len()},
            cannot_show=why,
        )
        for window in minus(asked.past, [claim.window for claim in claims])
    ]
    return sorted(claims, key=lambda claim: claim.window)


def prove_open_interest(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """Every sample whose interval was over, as far back as the venue keeps them."""
    exchange, _, interval = _interest_subject(asked.subject)
    if not interval:
        return snapshot(asked, pages, rows)
    rules = rules_of(exchange).open_interest
    keeps = None
    if rules and rules.reach_days:
        length = timedelta(seconds=attributes(exchange).parse_timeframe(interval))
        keeps = timedelta(days=rules.reach_days) // length
    return every_bar(asked, rows["event_at"], interval, keeps=keeps)


def _about_interest(subject: str) -> list[dict[str, str]]:
    return [dict(zip(("venue", "instrument_id"), _interest_subject(subject), strict=False))]


def _feed(name: str, **facts: Any) -> Feed:
    return Feed(
        name=name, provider=PROVIDER, documentation=DOCUMENTATION, quota=quota, limits=LIMITS, **facts
    )


FEEDS: tuple[Feed, ...] = (
    _feed(
        FUNDING,
        doc="Settled funding of a perpetual contract.",
        table=funding_rates.TABLE,
        subjects="exchange:symbol: binance:BTC/USDT:USDT, okx:BTC/USD:BTC",
        fetch=fetch_funding_rates,
        paging="steps of as much time as an answer holds, or back from the newest",
        parse=parse_funding_rates,
        proof=prove_funding_rates,
        about=about_market,
    ),
    _feed(
        OPEN_INTEREST,
        doc="Open interest of a contract: its history, or the present where no interval is named.",
        table=open_interest.TABLE,
        subjects="exchange:symbol@interval or exchange:symbol: bybit:BTC/USDT:USDT@1h, deribit:BTC/USD:BTC",
        fetch=fetch_open_interest,
        paging="steps of as much time as an answer holds; one answer about now",
        parse=parse_open_interest,
        proof=prove_open_interest,
        about=_about_interest,
    ),
    _feed(
        LIQUIDATIONS,
        doc="Forced closings of positions, as far as the exchange publishes them.",
        table=liquidations.TABLE,
        subjects="exchange:symbol: gate:BTC/USDT:USDT",
        fetch=fetch_liquidations,
        paging="steps of as much time as an answer holds",
        parse=parse_liquidations,
        about=about_market,
    ),
)


@dataclass(frozen=True, kw_only=True)
class _History:
    """One series of a contract, as far as it can be asked for."""

    feed: str
    subject: str
    method: Method
    rules: HistoryRules

    def pages(
        self, client: Client, exchange: str, symbol: str, window: Window, **named: str
    ) -> Iterator[Page]:
        """The answers for the part of the window that is past and within the venue's reach."""
        every_s = attributes(exchange).parse_timeframe(named["timeframe"]) if named else self.rules.every_s
        pages = partial(reply_pages, feed=self.feed, subject=self.subject, numbers=count())
        with connected(client, partial(pages, window=window)) as ask:
            market = contract_of(client, ask, exchange, symbol)

            def some(**arguments: Any) -> Reply:
                return ask(
                    call_of(self.method, exchange, market, {**named, **arguments}, with_own_facts=True)
                )

            for span in self._within_reach(client, window):
                for part, reply in history_pages(some, span, self.rules, every=timedelta(seconds=every_s)):
                    yield from pages(reply, window=part)

    def present(self, client: Client, exchange: str, symbol: str) -> Iterator[Page]:
        """The answer about now."""
        pages = partial(reply_pages, feed=self.feed, subject=self.subject, numbers=count())
        with connected(client, partial(pages, window=None)) as ask:
            market = contract_of(client, ask, exchange, symbol)
            yield from pages(
                ask(call_of(self.method, exchange, market, {}, with_own_facts=True)), window=None
            )

    def _within_reach(self, client: Client, window: Window) -> Iterator[Window]:
        for span in past(client, window):
            oldest = client.now() - timedelta(days=self.rules.reach_days or _NO_LIMIT_DAYS)
            if oldest < span.end:
                yield Window(max(span.start, oldest), span.end)


def _interest_subject(subject: str) -> tuple[str, str, str]:
    """Exchange, symbol and interval; the interval is empty for the present."""
    return bar_subject(subject) if "@" in subject else (*market_subject(subject), "")


def _gone(asked: Asked, rules: HistoryRules) -> Iterable[Claim]:
    if rules.reach_days and asked.window.start < (oldest := asked.at - timedelta(days=rules.reach_days)):
        why = "what was there: the venue keeps no older settlements"
        window = Window(asked.window.start, oldest)
        yield Claim(window=window, status="unavailable", proof="newest_only", cannot_show=why)


def _wide(moments: pl.Series) -> Iterable[Claim]:
    """Where two settlements are further apart than those before and after them."""
    step = pl.col("at").diff()
    usual = pl.max_horizontal(step.shift(1), step.shift(-1))
    frame = pl.DataFrame({"at": moments}).select("at", step=step, usual=usual, before=pl.col("at").shift(1))
    for row in frame.filter(pl.col("step") > pl.col("usual") * 1.5).iter_rows(named=True):
        yield Claim(
            window=Window(row["before"] + row["usual"], row["at"]),
            status="missing",
            proof="even_distances",
            evidence={"before": row["before"], "after": row["at"]},
            cannot_show="whether the venue settled then",
        )


def _funding_rows(kept: Kept) -> Iterator[Row]:
    rules = exchange_rules().get(kept.call.exchange)
    told = (rules and rules.funding) or FundingRules()
    for rate in kept.rows:
        own = rate["info"] if isinstance(rate["info"], dict) else {}
        yield {
            **kept.provenance,
            "instrument_id": kept.market["symbol"],
            "event_at": rate["timestamp"],
            "rate": text_of(own.get(told.rate_field) if told.rate_field else rate["fundingRate"]),
            "interval_hours": text_of(told.interval_hours),
            "mark_price": text_of(own.get(told.mark_price_field)) or None,
        }


def _interest_rows(kept: Kept) -> Iterator[Row]:
    rules = exchange_rules().get(kept.call.exchange)
    told = (rules and rules.open_interest) or OpenInterestRules(sides="unknown")
    interval = kept.call.arguments.get("timeframe")
    length_ms = attributes(kept.call.exchange).parse_timeframe(interval) * 1000 if interval else None
    for said in kept.rows:
        amount, value, at_ms = said["openInterestAmount"], said["openInterestValue"], said["timestamp"]
        is_present = length_ms is None
        yield {
            **kept.provenance,
            "instrument_id": kept.market["symbol"],
            "event_at": epoch_ms(kept.received_at) if is_present and not at_ms else at_ms,
            "known_at": at_ms + length_ms if at_ms and length_ms else None,
            "amount": text_of(amount),
            "amount_unit": None if amount is None else amount_unit(kept.market, told),
            "value": text_of(value),
            "value_currency": None if value is None else _currency(told, kept.market),
            "sides": told.sides,
        }


def _currency(rules: OpenInterestRules, market: Market) -> str | None:
    return str(market[rules.value]) if rules.value in ("quote", "settle") else rules.value


def _liquidation_rows(kept: Kept) -> Iterator[Row]:
    rules = exchange_rules().get(kept.call.exchange)
    told = rules.liquidations if rules else None
    if told is None:
        raise ValueError(
            f"exchanges.yaml has no row liquidations of {kept.call.exchange} that says what they mean"
        )
    same: Counter[str] = Counter()
    for said in kept.rows:
        own = said["info"]
        if not _is_meant(own, kept.market, told):
            continue
        text = json.dumps(own, sort_keys=True)
        same[text] += 1
        yield {
            **kept.provenance,
            "instrument_id": kept.market["symbol"],
            "liquidation_id": hashlib.sha256(f"{text} {same[text]}".encode()).hexdigest()[:_ID_DIGITS],
            "event_at": said["timestamp"],
            "price": text_of(said["price"]),
            "amount": text_of(said["contracts"]),
            "amount_unit": told.amount,
            "side": _order_side(said, own, told),
        }


def _is_meant(own: Any, market: Market, rules: LiquidationRules) -> bool:
    """Whether a row is an execution of the market asked for: ccxt gives all rows of an answer that name's symbol."""
    if rules.market_index is not None and own[rules.market_index] != market["id"]:
        return False
    return rules.executed_index is None or str(own[rules.executed_index]) == "1"


def _order_side(said: Mapping[str, Any], own: Any, rules: LiquidationRules) -> str | None:
    side = said["side"]
    if rules.size_index is not None:
        side = "sell" if str(own[rules.size_index]).startswith("-") else "buy"
    if rules.side == "position":
        return {"buy": "sell", "sell": "buy"}.get(side)
    return str(side) if side else None
