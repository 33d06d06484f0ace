"""Markets, bars and trades of any exchange that ccxt knows, over REST.

- Prices and amounts are the venue's own text; times are whole milliseconds, as ccxt gives them.
- A bar's time is its opening. Most venues also send the bar that is still open: only closed ones are kept.
- `side` is what the taker did. What amounts and volumes of contracts count differs by venue (`exchanges.yaml`).
- How far back trades and bars go, and how they are paged, differs by venue: `exchanges.yaml`, `sources.ccxt_paging`.
- A venue does not say when an instrument changed; it is known when the list is received. Delisted ones just vanish.

Documentation: https://docs.ccxt.com
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from itertools import count
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.coverage import Asked, Claim
from lakehouse.errors import UsageError, unknown
from lakehouse.silver import candles, instruments, trades
from lakehouse.window import Window
from sources.ccxt_exchange import Call, Reply, attributes, connected, market_call, needed
from sources.ccxt_pages import (
    DOCUMENTATION,
    PROVIDER,
    Kept,
    Market,
    Row,
    about_market,
    bar_subject,
    call_of,
    market_of,
    market_subject,
    past,
    reply_pages,
    table_frame,
    text_of,
)
from sources.ccxt_paging import candle_pages, trade_pages
from sources.ccxt_quota import LIMITS, bar_cost, bar_quota, bar_step, quota, trade_step
from sources.ccxt_rules import CandleRules, TradeRules, amount_unit, exchange_rules, rules_of
from sources.client import Client
from sources.feed import Feed
from sources.identity import assets_of
from sources.proofs import every_bar, every_trade, snapshot

MARKETS = "ccxt_markets"
OHLCV = "ccxt_ohlcv"
TRADES = "ccxt_trades"

_TICK_SIZE = 4
"""ccxt's precision mode in which a precision is a step; in the others it counts digits."""


def fetch_markets(client: Client, subject: str, window: Window) -> Iterator[Page]:  # noqa: ARG001
    """The list of an exchange's markets as it is now, whatever the window: a venue keeps no older ones."""
    rules = rules_of(subject)
    pages = partial(reply_pages, feed=MARKETS, subject=subject, numbers=count())
    with connected(client, partial(pages, window=None)) as ask:
        for market_type in rules.market_types:
            yield from pages(ask(market_call(subject, market_type)), window=None)


def fetch_ohlcv(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """Bars that open in the window, as far as it is past."""
    exchange, symbol, interval = bar_subject(subject)
    rules, declared = needed(exchange, "candles", rules_of(exchange).candles), attributes(exchange)
    if interval not in declared.timeframes:
        raise unknown(f"interval of {exchange}", interval, declared.timeframes)
    length = timedelta(seconds=declared.parse_timeframe(interval))
    pages = partial(reply_pages, feed=OHLCV, subject=subject, numbers=count())
    with connected(client, partial(pages, window=window)) as ask:
        market = market_of(client, ask, exchange, symbol)
        if market.get("contract") and rules.contract_volume is None:
            what = f"what volume counts for contracts of {exchange}"
            raise UsageError(f"{OHLCV} {subject}: exchanges.yaml does not say {what}")

        def bars(**arguments: Any) -> Reply:
            return ask(call_of("fetch_ohlcv", exchange, market, {"timeframe": interval, **arguments}))

        for span in past(client, window):
            for step, reply in candle_pages(bars, span, rules, bar=length):
                yield from pages(reply, window=step)


def fetch_trades(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """Trades of the window, as far as it is past and the venue still gives them; a page may reach over it."""
    exchange, symbol = market_subject(subject)
    rules = needed(exchange, "trades", rules_of(exchange).trades)
    pages = partial(reply_pages, feed=TRADES, subject=subject, numbers=count())
    with connected(client, partial(pages, window=window)) as ask:
        market = market_of(client, ask, exchange, symbol)
        limit = rules.contract_limit if market.get("contract") and rules.contract_limit else rules.limit

        def some(**arguments: Any) -> Reply:
            return ask(call_of("fetch_trades", exchange, market, arguments))

        for span in past(client, window):
            for reply in trade_pages(some, span, rules, limit=limit):
                yield from pages(reply, window=span)


def parse_markets(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.instruments, one a market and answer."""
    return table_frame(pages, _market_rows, instruments.TABLE, ms=("listed_at", "expires_at"))


def parse_ohlcv(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.candles: closed bars only, those that had ended and settled when the page was received."""
    end = pl.col("open_at").dt.offset_by(pl.col("interval").str.replace("M", "mo", literal=True))
    settled_at = pl.col("event_at") + pl.col("venue").replace_strict(
        {venue: _settling(venue) for venue in exchange_rules()},
        default=_settling(None),
        return_dtype=pl.Duration("us"),
    )
    return (
        table_frame(pages, _candle_rows, candles.TABLE, ms=("open_at",), facts_of=_candle_facts)
        .with_columns(event_at=end, known_at=end)
        .filter(pl.col("event_at").is_null() | (settled_at <= pl.col("ingested_at")))
    )


def parse_trades(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.trades, in order of instrument, time and id as a number."""
    number = pl.col("trade_id").cast(pl.Int64, strict=False)
    return (
        table_frame(pages, _trade_rows, trades.TABLE, ms=("event_at",), facts_of=_trade_facts)
        .with_columns(known_at=pl.col("event_at"))
        .sort("venue", "instrument_id", "event_at", number, maintain_order=True)
    )


def prove_ohlcv(asked: Asked, _pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """Every bar that had closed, as far back as the venue gives them."""
    exchange, _, interval = bar_subject(asked.subject)
    rules = rules_of(exchange).candles or CandleRules()
    return every_bar(
        replace(asked, at=asked.at - _settling(exchange)),
        rows["open_at"],
        interval,
        omits_empty=rules.omits_empty,
        keeps=rules.limit if rules.newest_only else None,
    )


def prove_trades(asked: Asked, _pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """No jump in the ids where the venue counts them; else, that all pages were received."""
    rules = rules_of(market_subject(asked.subject)[0]).trades or TradeRules()
    newest_only = rules.paging == "newest"
    return every_trade(asked, rows, are_ids_counted=rules.counted_ids, newest_only=newest_only)


def _about_markets(subject: str) -> list[dict[str, str]]:
    return [{"venue": subject}]


def _about_candles(subject: str) -> list[dict[str, str]]:
    return [dict(zip(("venue", "instrument_id", "interval"), bar_subject(subject), strict=True))]


def _feed(name: str, **facts: Any) -> Feed:
    return Feed(name=name, provider=PROVIDER, documentation=DOCUMENTATION, limits=LIMITS, **facts)


FEEDS: tuple[Feed, ...] = (
    _feed(
        MARKETS,
        doc="What can be traded on an exchange, as it says now.",
        table=instruments.TABLE,
        subjects="exchange: kraken",
        fetch=fetch_markets,
        parse=parse_markets,
        paging="one list for each type of market",
        quota=quota,
        proof=snapshot,
        about=_about_markets,
    ),
    _feed(
        OHLCV,
        doc="Bars of an exchange, closed ones only.",
        table=candles.TABLE,
        subjects="exchange:symbol@interval: kraken:BTC/USD@1m, binance:BTC/USDT:USDT@1h",
        fetch=fetch_ohlcv,
        parse=parse_ohlcv,
        step=bar_step,
        cost=bar_cost,
        paging="steps of as many bars as an answer holds",
        quota=bar_quota,
        proof=prove_ohlcv,
        about=_about_candles,
    ),
    _feed(
        TRADES,
        doc="Single trades of an exchange.",
        table=trades.TABLE,
        subjects="exchange:symbol: kraken:BTC/USD, binance:BTC/USDT:USDT",
        fetch=fetch_trades,
        parse=parse_trades,
        step=trade_step,
        paging="by time or trade id, as the exchange has it",
        quota=quota,
        proof=prove_trades,
        about=about_market,
    ),
)


# A wrong row of the table of exchanges stops a run at its start, not when it first asks that exchange.
exchange_rules()


def _settling(exchange: str | None) -> timedelta:
    """How long after its end a bar may still change."""
    rules = exchange_rules().get(exchange or "")
    return timedelta(seconds=((rules and rules.candles) or CandleRules()).settles_s)


def _market_rows(kept: Kept) -> Iterator[Row]:
    has_steps = attributes(kept.call.exchange).precisionMode == _TICK_SIZE
    for market in kept.rows:
        step = market["precision"] if has_steps else {}
        amount, cost = market["limits"]["amount"], market["limits"]["cost"]
        yield {
            **kept.provenance,
            "page_id": kept.page_of(market["id"]),
            "event_at": kept.received_at,
            "known_at": kept.received_at,
            "instrument_id": market["symbol"],
            "venue_symbol": market["id"],
            "type": market["type"],
            "base": market["base"],
            "quote": market["quote"],
            "settle": market["settle"],
            **assets_of(
                kept.call.exchange, base=market["baseId"], quote=market["quoteId"], settle=market["settleId"]
            ),
            "is_inverse": market["inverse"] if market["contract"] else None,
            "contract_size": text_of(market["contractSize"]),
            "price_step": text_of(step.get("price")),
            "amount_step": text_of(step.get("amount")),
            "min_amount": text_of(amount["min"]),
            "max_amount": text_of(amount["max"]),
            "min_cost": text_of(cost["min"]),
            "is_active": market["active"],
            "status": "listed",
            "list_name": _list_name(kept.call),
            "listed_at": market["created"],
            "expires_at": market["expiry"],
        }


def _list_name(call: Call) -> str:
    """Which types of markets were asked for; a list of one type says nothing about the others."""
    return ",".join(call.options.get("fetchMarkets", {}).get("types", ())) or "all"


def _candle_facts(kept: Kept) -> Row:
    return {
        **kept.provenance,
        "instrument_id": kept.market["symbol"],
        "interval": kept.call.arguments["timeframe"],
        "volume_unit": _volume_unit(kept.call.exchange, kept.market),
    }


def _candle_rows(kept: Kept) -> Iterator[Row]:
    facts = _candle_facts(kept)
    for open_ms, open_, high, low, close, volume, trade_count in kept.rows:
        yield {
            **facts,
            "open_at": open_ms,
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
            "volume_unit": None if volume is None else facts["volume_unit"],
            "trade_count": trade_count,
        }


def _trade_facts(kept: Kept) -> Row:
    rules = exchange_rules().get(kept.call.exchange)
    return {
        **kept.provenance,
        "instrument_id": kept.market["symbol"],
        "amount_unit": amount_unit(kept.market, (rules and rules.trades) or TradeRules()),
    }


def _trade_rows(kept: Kept) -> Iterator[Row]:
    facts = _trade_facts(kept)
    for trade in kept.rows:
        yield {
            **facts,
            "trade_id": trade["id"],
            "event_at": trade["timestamp"],
            "price": trade["price"],
            "amount": trade["amount"],
            "side": trade["side"],
        }


def _volume_unit(exchange: str, market: Market) -> str | None:
    if not market.get("contract"):
        return "base"
    rules = exchange_rules().get(exchange)
    return rules.candles.contract_volume if rules and rules.candles else None
