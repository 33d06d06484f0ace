"""Markets, bars and trades of any exchange that ccxt knows, over REST.

- Prices and amounts are the venue's own text; times are whole milliseconds, as ccxt gives them.
- A bar's time is its opening. Most venues also send the bar that is still open: only closed ones are kept.
- `side` is what the taker did. Amounts of contracts count contracts; volume differs by venue (`exchanges.yaml`).
- How far back trades and bars go, and how they are paged, differs by venue: `exchanges.yaml`, `sources.ccxt_paging`.
- A venue does not say when an instrument changed; it is known when the list is received. Delisted ones just vanish.

A page is one answer. Where a call needs several (a list of markets in parts), the first page also carries the
others in its request and is understood with them; the pages of the others keep their bytes and give no rows.

Documentation: https://docs.ccxt.com
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any

import orjson
import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import Table
from lakehouse.coverage import Asked, Claim
from lakehouse.errors import UsageError, unknown
from lakehouse.silver import candles, instruments, trades
from lakehouse.window import Window
from sources.ccxt_exchange import (
    MISREAD,
    Ask,
    Call,
    CandleRules,
    Method,
    Replayer,
    Reply,
    attributes,
    connected,
    exchange_rules,
    market_call,
    rules_of,
)
from sources.ccxt_paging import candle_pages, trade_pages
from sources.client import Answer, Client
from sources.errors import ParseError
from sources.feed import Feed
from sources.proofs import every_bar, every_trade, snapshot

PROVIDER = "ccxt"
MARKETS = "ccxt_markets"
OHLCV = "ccxt_ohlcv"
TRADES = "ccxt_trades"

Market = Mapping[str, Any]
Row = dict[str, Any]
RowsOf = Callable[["_Kept"], Iterator[Row]]

# What changes while the market stays the same market, so that the same question keeps the same page id.
_CHANGING = frozenset({"active", "taker", "maker", "percentage", "tierBased", "feeSide"})
_TICK_SIZE = 4
"""ccxt's precision mode in which a precision is a step; in the others it counts digits."""
_YEAR_9999_MS = 253_402_300_799_000


def fetch_markets(client: Client, subject: str, window: Window) -> Iterator[Page]:  # noqa: ARG001
    """The list of an exchange's markets as it is now, whatever the window: a venue keeps no older ones."""
    rules = rules_of(subject)
    pages = partial(_pages, feed=MARKETS, subject=subject, numbers=count())
    with connected(client, partial(pages, window=None)) as ask:
        for market_type in rules.market_types:
            yield from pages(ask(market_call(subject, market_type)), window=None)


def fetch_ohlcv(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """Bars that open in the window, as far as it is past."""
    exchange, symbol, interval = _candle_subject(subject)
    rules, declared = rules_of(exchange).candles, attributes(exchange)
    if interval not in declared.timeframes:
        raise unknown(f"interval of {exchange}", interval, declared.timeframes)
    length = timedelta(seconds=declared.parse_timeframe(interval))
    pages = partial(_pages, feed=OHLCV, subject=subject, numbers=count())
    with connected(client, partial(pages, window=window)) as ask:
        market = _market(client, ask, exchange, symbol)
        if market.get("contract") and rules.contract_volume is None:
            what = f"what volume counts for contracts of {exchange}"
            raise UsageError(f"{OHLCV} {subject}: exchanges.yaml does not say {what}")

        def bars(**arguments: Any) -> Reply:
            return ask(_call("fetch_ohlcv", exchange, market, {"timeframe": interval, **arguments}))

        for past in _past(client, window):
            for step, reply in candle_pages(bars, past, rules, bar=length):
                yield from pages(reply, window=step)


def fetch_trades(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """Trades of the window, as far as it is past and the venue still gives them; a page may reach over it."""
    exchange, symbol = _trade_subject(subject)
    rules = rules_of(exchange).trades
    pages = partial(_pages, feed=TRADES, subject=subject, numbers=count())
    with connected(client, partial(pages, window=window)) as ask:
        market = _market(client, ask, exchange, symbol)
        limit = rules.contract_limit if market.get("contract") and rules.contract_limit else rules.limit

        def some(**arguments: Any) -> Reply:
            return ask(_call("fetch_trades", exchange, market, arguments))

        for past in _past(client, window):
            for reply in trade_pages(some, past, rules, limit=limit):
                yield from pages(reply, window=past)


def parse_markets(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.instruments, one a market and answer."""
    return _frame(pages, _market_rows, instruments.TABLE, ms=("listed_at", "expires_at"))


def parse_ohlcv(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.candles: closed bars only, those that had ended and settled when the page was received."""
    end = pl.col("open_at").dt.offset_by(pl.col("interval").str.replace("M", "mo", literal=True))
    settled_at = pl.col("event_at") + pl.col("venue").replace_strict(
        {venue: _settling(venue) for venue in exchange_rules()},
        default=_settling(None),
        return_dtype=pl.Duration("us"),
    )
    return (
        _frame(pages, _candle_rows, candles.TABLE, ms=("open_at",))
        .with_columns(event_at=end, known_at=end)
        .filter(pl.col("event_at").is_null() | (settled_at <= pl.col("ingested_at")))
    )


def parse_trades(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.trades, in order of instrument, time and id as a number."""
    number = pl.col("trade_id").cast(pl.Int64, strict=False)
    return (
        _frame(pages, _trade_rows, trades.TABLE, ms=("event_at",))
        .with_columns(known_at=pl.col("event_at"))
        .sort("venue", "instrument_id", "event_at", number, maintain_order=True)
    )


def prove_ohlcv(asked: Asked, _pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """Every bar that had closed, as far back as the venue gives them."""
    exchange, _, interval = _candle_subject(asked.subject)
    rules = rules_of(exchange).candles
    return every_bar(
        replace(asked, at=asked.at - _settling(exchange)),
        rows["open_at"],
        interval,
        omits_empty=rules.omits_empty,
        keeps=rules.limit if rules.newest_only else None,
    )


def prove_trades(asked: Asked, _pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """No jump in the ids where the venue counts them; else, that all pages were received."""
    rules = rules_of(_trade_subject(asked.subject)[0]).trades
    newest_only = rules.paging == "newest"
    return every_trade(asked, rows, are_ids_counted=rules.counted_ids, newest_only=newest_only)


def _about_markets(subject: str) -> list[dict[str, str]]:
    return [{"venue": subject}]


def _about_trades(subject: str) -> list[dict[str, str]]:
    return [dict(zip(("venue", "instrument_id"), _trade_subject(subject), strict=True))]


def _about_candles(subject: str) -> list[dict[str, str]]:
    return [dict(zip(("venue", "instrument_id", "interval"), _candle_subject(subject), strict=True))]


def _feed(name: str, **facts: Any) -> Feed:
    return Feed(name=name, provider=PROVIDER, documentation="https://docs.ccxt.com", **facts)


FEEDS: tuple[Feed, ...] = (
    _feed(
        MARKETS,
        doc="What can be traded on an exchange, as it says now.",
        table=instruments.TABLE,
        subjects="exchange: kraken",
        fetch=fetch_markets,
        parse=parse_markets,
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
        proof=prove_trades,
        about=_about_trades,
    ),
)


def _trade_subject(subject: str) -> tuple[str, str]:
    """Exchange and symbol."""
    exchange, _, symbol = subject.partition(":")
    if not exchange or not symbol:
        raise UsageError(f"subject {subject!r} is not exchange:symbol, such as kraken:BTC/USD")
    return exchange, symbol


def _candle_subject(subject: str) -> tuple[str, str, str]:
    """Exchange, symbol and interval. A symbol may hold colons, but no @."""
    market, _, interval = subject.rpartition("@")
    exchange, _, symbol = market.partition(":")
    if not exchange or not symbol or not interval:
        raise UsageError(f"subject {subject!r} is not exchange:symbol@interval, such as kraken:BTC/USD@1m")
    return exchange, symbol, interval


def _settling(exchange: str | None) -> timedelta:
    """How long after its end a bar may still change."""
    rules = exchange_rules().get(exchange or "")
    return timedelta(seconds=rules.candles.settles_s if rules else CandleRules(limit=1).settles_s)


def _past(client: Client, window: Window) -> Iterator[Window]:
    """The part of a window that is past; none where it has not begun."""
    end = min(window.end, client.now())
    if window.start < end:
        yield Window(window.start, end)


_MARKETS_OF: weakref.WeakKeyDictionary[Client, dict[tuple[str, str], dict[str, Market]]] = (
    weakref.WeakKeyDictionary()
)


def _market(client: Client, ask: Ask, exchange: str, symbol: str) -> Market:
    """The market of a symbol, from lists that are asked for once a client and only until the symbol is found."""
    known: set[str] = set()
    for market_type in rules_of(exchange).market_types:
        listed = _listed(client, ask, exchange, market_type)
        if symbol in listed:
            return listed[symbol]
        known.update(listed)
    raise unknown(f"symbol of {exchange}", symbol, known)


def _listed(client: Client, ask: Ask, exchange: str, market_type: str) -> dict[str, Market]:
    lists = _MARKETS_OF.setdefault(client, {})
    key = (exchange, market_type)
    if key not in lists:
        reply = ask(market_call(exchange, market_type))
        lists[key] = {market["symbol"]: market for market in reversed(reply.rows)}
    return lists[key]


def _call(method: Method, exchange: str, market: Market, arguments: Mapping[str, Any]) -> Call:
    return Call(
        exchange=exchange,
        method=method,
        arguments={"symbol": market["symbol"], **arguments},
        options=rules_of(exchange).options,
        market=_essence(market),
    )


def _essence(market: Market) -> Market:
    """What understanding an answer needs of a market: its plain facts, without the venue's own description."""
    plain = {name: value for name, value in market.items() if isinstance(value, str | int | bool)}
    return {name: value for name, value in plain.items() if name not in _CHANGING}


def _pages(
    reply: Reply, *, feed: str, subject: str, window: Window | None, numbers: Iterator[int]
) -> Iterator[Page]:
    call, others = reply.call, reply.answers[1:]
    context: dict[str, Any] = {
        "exchange": call.exchange,
        "call": call.method,
        "arguments": call.arguments,
        "options": call.options,
        "market": call.market,
        "feed": feed,
        "subject": subject,
        "window": window,
    }
    said = [
        {"method": o.method, "url": o.url, "status": o.status, "body": o.body.decode("utf-8", "replace")}
        for o in others
    ]
    for part, answer in enumerate(reply.answers):
        carried = [] if part else said
        yield answer.page(**context, sequence=next(numbers), part=part, others=carried)


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """A page, or all pages of one call, understood."""

    call: Call
    rows: list[Any]
    answers: Sequence[Answer]
    page_ids: Sequence[int]
    received_at: datetime

    def page_of(self, said: str) -> int:
        """The page that says so; the first where none does word for word."""
        if len(self.answers) == 1:
            return self.page_ids[0]
        quoted = f'"{said}"'.encode()
        found = (i for i, a in zip(self.page_ids, self.answers, strict=True) if quoted in a.body)
        return next(found, self.page_ids[0])


def _columns(page: Mapping[str, Any], rows_of: RowsOf, schema: pl.Schema, replayer: Replayer) -> pl.DataFrame:
    """The rows of a page, none where it is understood with another; ParseError names it where it cannot be."""
    try:
        request = orjson.loads(page["request"])
        rows = [] if request["part"] else list(rows_of(_understood(page, request, replayer)))
        return pl.DataFrame([_column(rows, name, dtype) for name, dtype in schema.items()])
    except (UsageError, *MISREAD) as error:
        where = f"{page['feed']} {page['subject']}, page {page['page_id']}"
        raise ParseError(f"{where}: {error}") from error


def _column(rows: Sequence[Row], name: str, dtype: pl.DataType) -> pl.Series:
    try:
        return pl.Series(name, [row.get(name) for row in rows], dtype=dtype)
    except (OverflowError, TypeError, UnicodeError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"a {name} that cannot be read as {dtype}: {error}") from error


def _understood(page: Mapping[str, Any], request: Mapping[str, Any], replayer: Replayer) -> _Kept:
    call = Call(
        exchange=request["exchange"],
        method=request["call"],
        arguments=request["arguments"],
        options=request["options"],
        market=request["market"],
    )
    first = Answer(
        method=request["method"],
        url=request["url"],
        status=page["http_status"],
        headers={"content-type": page["content_type"] or ""},
        body=page["body"],
        received_at=page["received_at"],
    )
    others = [replace(first, **{**said, "body": said["body"].encode()}) for said in request["others"]]
    return _Kept(
        call=call,
        rows=replayer.rows(call, [first, *others]),
        answers=[first, *others],
        page_ids=[page["page_id"], *_page_ids(page, request, others)],
        received_at=page["received_at"],
    )


def _page_ids(page: Mapping[str, Any], request: Mapping[str, Any], others: Iterable[Answer]) -> Iterator[int]:
    """The ids that the pages of the other answers have."""
    for part, other in enumerate(others, start=1):
        asked = {**request, "method": other.method, "url": other.url, "part": part, "others": []}
        yield Page(
            feed=page["feed"],
            subject=page["subject"],
            request=asked,
            received_at=page["received_at"],
            body=other.body,
        ).page_id


def _market_rows(kept: _Kept) -> Iterator[Row]:
    has_steps = attributes(kept.call.exchange).precisionMode == _TICK_SIZE
    for market in kept.rows:
        step = market["precision"] if has_steps else {}
        amount, cost = market["limits"]["amount"], market["limits"]["cost"]
        yield {
            **_provenance(kept),
            "page_id": kept.page_of(market["id"]),
            "event_at": kept.received_at,
            "known_at": kept.received_at,
            "instrument_id": market["symbol"],
            "venue_symbol": market["id"],
            "type": market["type"],
            "base": market["base"],
            "quote": market["quote"],
            "settle": market["settle"],
            "is_inverse": market["inverse"] if market["contract"] else None,
            "contract_size": _text(market["contractSize"]),
            "price_step": _text(step.get("price")),
            "amount_step": _text(step.get("amount")),
            "min_amount": _text(amount["min"]),
            "max_amount": _text(amount["max"]),
            "min_cost": _text(cost["min"]),
            "is_active": market["active"],
            "listed_at": market["created"],
            "expires_at": market["expiry"],
        }


def _candle_rows(kept: _Kept) -> Iterator[Row]:
    market = _asked_market(kept.call)
    unit = _volume_unit(kept.call.exchange, market)
    shared = {**_provenance(kept), "interval": kept.call.arguments["timeframe"]}
    for open_ms, open_, high, low, close, volume, trade_count in kept.rows:
        yield {
            **shared,
            "instrument_id": market["symbol"],
            "open_at": open_ms,
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume,
            "volume_unit": None if volume is None else unit,
            "trade_count": trade_count,
        }


def _trade_rows(kept: _Kept) -> Iterator[Row]:
    market = _asked_market(kept.call)
    unit = "contracts" if market.get("contract") else "base"
    shared = _provenance(kept)
    for trade in kept.rows:
        yield {
            **shared,
            "instrument_id": market["symbol"],
            "trade_id": trade["id"],
            "event_at": trade["timestamp"],
            "price": trade["price"],
            "amount": trade["amount"],
            "amount_unit": unit,
            "side": trade["side"],
        }


def _provenance(kept: _Kept) -> Row:
    return {
        "venue": kept.call.exchange,
        "ingested_at": kept.received_at,
        "page_id": kept.page_ids[0],
        "provider": PROVIDER,
    }


def _asked_market(call: Call) -> Market:
    if call.market is None:
        raise ValueError(f"its request names no market for {call.method}")
    return call.market


def _volume_unit(exchange: str, market: Market) -> str | None:
    if not market.get("contract"):
        return "base"
    rules = exchange_rules().get(exchange)
    return rules.candles.contract_volume if rules else None


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _frame(pages: pl.DataFrame, rows_of: RowsOf, table: Table, *, ms: Sequence[str]) -> pl.LazyFrame:
    """The pages' rows under the table's columns, numbers as text; `ms` are times in milliseconds since 1970.

    Raises ParseError for a page that cannot be understood.
    """
    dtypes = {
        c.name: pl.String() if c.dtype.is_float() else c.dtype for c in table.columns if c.derived is None
    }
    schema, replayer = pl.Schema({**dtypes, **dict.fromkeys(ms, pl.Int64())}), Replayer()
    told = [_columns(page, rows_of, schema, replayer) for page in pages.iter_rows(named=True)]
    return pl.concat([schema.to_frame(), *told]).lazy().with_columns(_utc(name) for name in ms)


def _utc(column: str) -> pl.Expr:
    """Milliseconds as a time; null where no calendar has such a time."""
    ms = pl.col(column)
    sane = pl.when(ms.is_between(0, _YEAR_9999_MS)).then(ms)
    return (
        pl.from_epoch(sane, time_unit="ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias(column)
    )
