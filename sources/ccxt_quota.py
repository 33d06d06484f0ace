"""What a backfill must know of exchanges: how its requests count, how many there are, how far they go."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache
from math import ceil
from typing import Any

from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.ccxt_exchange import attributes, venue_quota
from sources.ccxt_pages import bar_subject, market_subject
from sources.ccxt_rules import rules_of
from sources.quota import Quota

LIMITS = "the pace of each exchange: that of exchanges.yaml, else ccxt's"
"""For people, who do not want to read a row an exchange."""

PAGES_AT_ONCE = 10
"""A window of bars takes so many requests: few enough to lose at a kill, enough to be worth a commit."""

TRADES_AT_ONCE = timedelta(hours=4)

_BARS = re.compile(r"kline|candle|ohlc", re.IGNORECASE)


def quota(_settings: Settings, subject: str) -> Quota:
    """The pace of the exchange that a subject begins with."""
    return venue_quota(subject.partition(":")[0])


def bar_quota(settings: Settings, subject: str) -> Quota:
    """The same, with what a request for bars costs at most."""
    found = quota(settings, subject)
    return replace(found, units_a_request=_cost_of_bars(found.host))


def bar_step(subject: str) -> timedelta | None:
    """As many bars as PAGES_AT_ONCE answers hold; none where the venue gives its newest bars only."""
    exchange, length = _exchange_and_length(subject)
    rules = rules_of(exchange).candles
    return None if rules and rules.newest_only else length * _limit(exchange) * PAGES_AT_ONCE


def trade_step(subject: str) -> timedelta | None:
    """A few hours; none where a venue is walked from its newest trade, however far back the window lies."""
    rules = rules_of(market_subject(subject)[0]).trades
    return None if rules and rules.paging in ("newest", "backward_id") else TRADES_AT_ONCE


def bar_cost(subject: str, window: Window) -> int:
    """One request for each full page of bars."""
    exchange, length = _exchange_and_length(subject)
    rules = rules_of(exchange).candles
    return (
        1 if rules and rules.newest_only else ceil((window.end - window.start) / (length * _limit(exchange)))
    )


def _limit(exchange: str) -> int:
    rules = rules_of(exchange).candles
    return rules.limit if rules else 1


def _exchange_and_length(subject: str) -> tuple[str, timedelta]:
    exchange, _, interval = bar_subject(subject)
    return exchange, timedelta(seconds=attributes(exchange).parse_timeframe(interval))


@cache
def _cost_of_bars(exchange: str) -> float:
    """What ccxt counts for a request for bars; the most where it has several endpoints."""
    return max(_costs(attributes(exchange).api), default=1.0)


def _costs(api: Mapping[str, Any]) -> Iterator[float]:
    for name, said in api.items():
        if _BARS.search(name):
            yield float(said.get("cost", 1) if isinstance(said, Mapping) else said)
        elif isinstance(said, Mapping):
            yield from _costs(said)
