"""The way of an exchange's answer into bronze and out of it again, for all feeds over ccxt.

A page is one answer. Where a call needs several (a list of markets in parts), the first page also carries the
others in its request and is understood with them; the pages of the others keep their bytes and give no rows.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson
import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import Table
from lakehouse.errors import UsageError, unknown
from lakehouse.window import Window
from sources import ccxt_columns
from sources.ccxt_exchange import MISREAD, Ask, Call, Method, Replayer, Reply, market_call
from sources.ccxt_rules import rules_of
from sources.client import Answer, Client
from sources.errors import ParseError

PROVIDER = "ccxt"
DOCUMENTATION = "https://docs.ccxt.com"

Market = Mapping[str, Any]
Row = dict[str, Any]
RowsOf = Callable[["Kept"], Iterator[Row]]
FactsOf = Callable[["Kept"], Row]

# What changes while the market stays the same market, so that the same question keeps the same page id.
_CHANGING = frozenset({"active", "taker", "maker", "percentage", "tierBased", "feeSide"})
_OWN_FACTS = ("pair", "contractType", "instFamily")
"""What ccxt looks up in a venue's own description of a contract when it asks for what belongs to it."""
_YEAR_9999_MS = 253_402_300_799_000


@dataclass(frozen=True, kw_only=True)
class Kept:
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

    @property
    def provenance(self) -> Row:
        """The columns that all rows of the page share."""
        return {
            "venue": self.call.exchange,
            "ingested_at": self.received_at,
            "page_id": self.page_ids[0],
            "provider": PROVIDER,
        }

    @property
    def market(self) -> Market:
        """The market that was asked for."""
        if self.call.market is None:
            raise ValueError(f"its request names no market for {self.call.method}")
        return self.call.market


def market_subject(subject: str) -> tuple[str, str]:
    """Exchange and symbol."""
    exchange, _, symbol = subject.partition(":")
    if not exchange or not symbol:
        raise UsageError(f"subject {subject!r} is not exchange:symbol, such as kraken:BTC/USD")
    return exchange, symbol


def bar_subject(subject: str) -> tuple[str, str, str]:
    """Exchange, symbol and interval. A symbol may hold colons, but no @."""
    market, _, interval = subject.rpartition("@")
    exchange, _, symbol = market.partition(":")
    if not exchange or not symbol or not interval:
        raise UsageError(f"subject {subject!r} is not exchange:symbol@interval, such as kraken:BTC/USD@1m")
    return exchange, symbol, interval


def about_market(subject: str) -> list[dict[str, str]]:
    """The subject columns of a table whose rows are about an instrument."""
    return [dict(zip(("venue", "instrument_id"), market_subject(subject), strict=True))]


def past(client: Client, window: Window) -> Iterator[Window]:
    """The part of a window that is past; none where it has not begun."""
    end = min(window.end, client.now())
    if window.start < end:
        yield Window(window.start, end)


def market_of(client: Client, ask: Ask, exchange: str, symbol: str) -> Market:
    """The market of a symbol, from lists that are asked for once a client and only until the symbol is found."""
    known: set[str] = set()
    for market_type in rules_of(exchange).market_types:
        listed = _listed(client, ask, exchange, market_type)
        if symbol in listed:
            return listed[symbol]
        known.update(listed)
    raise unknown(f"symbol of {exchange}", symbol, known)


def contract_of(client: Client, ask: Ask, exchange: str, symbol: str) -> Market:
    """The market of a symbol; UsageError where it is no contract."""
    market = market_of(client, ask, exchange, symbol)
    if not market.get("contract"):
        raise UsageError(f"{exchange}:{symbol} is no contract: only contracts have such data")
    return market


def call_of(
    method: Method,
    exchange: str,
    market: Market,
    arguments: Mapping[str, Any],
    *,
    with_own_facts: bool = False,
) -> Call:
    """The call for a market's data; `with_own_facts` where ccxt needs more of the market than is its own."""
    essence = {name: value for name, value in _plain(market).items() if name not in _CHANGING}
    if with_own_facts:
        own = market.get("info") or {}
        essence["info"] = {name: own[name] for name in _OWN_FACTS if name in own}
    return Call(
        exchange=exchange,
        method=method,
        arguments={"symbol": market["symbol"], **arguments},
        options=rules_of(exchange).options,
        market=essence,
    )


def reply_pages(
    reply: Reply, *, feed: str, subject: str, window: Window | None, numbers: Iterator[int]
) -> Iterator[Page]:
    """The pages of a call's answers, each with the call that they answer."""
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


def table_frame(
    pages: pl.DataFrame,
    rows_of: RowsOf,
    table: Table,
    *,
    ms: Sequence[str],
    facts_of: FactsOf | None = None,
) -> pl.LazyFrame:
    """The pages' rows under the table's columns, numbers as text; `ms` are times in milliseconds since 1970.

    `facts_of` are the columns that all rows of a page share; with them `ccxt_columns` reads the pages that it can.

    Raises ParseError for a page that cannot be understood.
    """
    dtypes = {c.name: _text_for_floats(c.dtype) for c in table.columns if c.derived is None}
    schema, replayer = pl.Schema({**dtypes, **dict.fromkeys(ms, pl.Int64())}), Replayer()
    told = [_columns(page, rows_of, facts_of, schema, replayer) for page in pages.iter_rows(named=True)]
    return pl.concat([schema.to_frame(), *told]).lazy().with_columns(_utc(name) for name in ms)


def text_of(value: Any) -> str | None:
    """What a venue said, as text."""
    return None if value is None else str(value)


_LISTING: dict[tuple[str, str], threading.Lock] = {}
_MARKETS_OF: weakref.WeakKeyDictionary[Client, dict[tuple[str, str], dict[str, Market]]] = (
    weakref.WeakKeyDictionary()
)


def _listed(client: Client, ask: Ask, exchange: str, market_type: str) -> dict[str, Market]:
    lists = _MARKETS_OF.setdefault(client, {})
    key = (exchange, market_type)
    with _LISTING.setdefault(key, threading.Lock()):  # threads that need the same list ask for it once
        if key not in lists:
            reply = ask(market_call(exchange, market_type))
            lists[key] = {market["symbol"]: market for market in reversed(reply.rows)}
    return lists[key]


def _plain(market: Market) -> Row:
    """What understanding an answer needs of a market: its plain facts, without the venue's own description."""
    return {name: value for name, value in market.items() if isinstance(value, str | int | bool)}


def _text_for_floats(dtype: pl.DataType) -> pl.DataType:
    if isinstance(dtype, pl.List):
        return pl.List(pl.String())
    return pl.String() if dtype.is_float() else dtype


def _columns(
    page: Mapping[str, Any],
    rows_of: RowsOf,
    facts_of: FactsOf | None,
    schema: pl.Schema,
    replayer: Replayer,
) -> pl.DataFrame:
    """The rows of a page, none where it is understood with another; ParseError names it where it cannot be."""
    try:
        request = orjson.loads(page["request"])
        if facts_of and (read := ccxt_columns.read(page, request)) is not None:
            return _completed(read, facts_of(_asked(page, request)), schema)
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


def _completed(read: pl.DataFrame, facts: Row, schema: pl.Schema) -> pl.DataFrame:
    """Rows with the columns that they share; null is what neither says."""
    shared = pl.DataFrame([facts], schema={n: t for n, t in schema.items() if n not in read.columns})
    # Series by series: with an expression for each of them it costs half as much as reading the page.
    repeated = {one.name: one.new_from_index(0, read.height) for one in shared}
    told = {**read.to_dict(), **repeated}
    return pl.DataFrame([told[name] for name in schema])


def _understood(page: Mapping[str, Any], request: Mapping[str, Any], replayer: Replayer) -> Kept:
    asked = _asked(page, request)
    return replace(asked, rows=replayer.rows(asked.call, asked.answers))


def _asked(page: Mapping[str, Any], request: Mapping[str, Any]) -> Kept:
    """The call and its answers, without rows."""
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
    return Kept(
        call=call,
        rows=[],
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


def _utc(column: str) -> pl.Expr:
    """Milliseconds as a time; null where no calendar has such a time."""
    ms = pl.col(column)
    sane = pl.when(ms.is_between(0, _YEAR_9999_MS)).then(ms)
    return (
        pl.from_epoch(sane, time_unit="ms").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias(column)
    )
