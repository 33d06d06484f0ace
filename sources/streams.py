"""The feeds of live streams: how the pages that recorders wrote become rows of silver.

Nothing is fetched here: `mnemo stream` records. Each stream has one bronze table, `bronze.stream_<stream>`, and for
each silver table one feed that understands its part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import Table
from lakehouse.errors import UsageError
from lakehouse.promotion import Streaming
from lakehouse.silver import book_orders, book_snapshots, book_updates, trades
from lakehouse.window import Window
from sources.client import Client
from sources.feed import Feed
from sources.stream import Channel
from sources.venues import (
    FALLBACKS,
    STREAMS,
    parse_book_orders,
    parse_book_snapshots,
    parse_book_updates,
    parse_trades,
    unreadable,
)
from sources.venues.session import VenueStream

_DOCUMENTATION = {
    "binance": "https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams",
    "binancecoinm": "https://developers.binance.com/docs/derivatives/coin-margined-futures/websocket-market-streams",
    "binanceusdm": "https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams",
    "bitfinex": "https://docs.bitfinex.com/docs/ws-public",
    "bitstamp": "https://www.bitstamp.net/websocket/v2/",
    "bybit": "https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook",
    "coinbaseexchange": "https://docs.cdp.coinbase.com/exchange/websocket-feed/channels",
    "deribit": "https://docs.deribit.com",
    "kraken": "https://docs.kraken.com/api/docs/websocket-v2/book",
    "okx": "https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel",
    "polymarket": "https://docs.polymarket.com/developers/CLOB/websocket/market-channel",
}

_CCXT_PRO = "https://docs.ccxt.com/#/ccxt.pro.manual"


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What one channel gives one table."""

    channel: Channel
    table: Table
    doc: str
    parse: Callable[[pl.DataFrame], pl.LazyFrame]
    needs_context: bool = True


_PARTS = (
    _Part(channel="trades", table=trades.TABLE, doc="Live trades", parse=parse_trades, needs_context=False),
    _Part(
        channel="book", table=book_updates.TABLE, doc="Live changes of order books", parse=parse_book_updates
    ),
    _Part(
        channel="book",
        table=book_snapshots.TABLE,
        doc="Order books of each second",
        parse=parse_book_snapshots,
    ),
    _Part(channel="orders", table=book_orders.TABLE, doc="Live single orders", parse=parse_book_orders),
)


def _feed(stream: VenueStream, part: _Part) -> Feed:
    return Feed(
        name=f"stream_{stream.name}_{part.table.name.removeprefix('silver.')}",
        provider=stream.provider,
        doc=f"{part.doc} of {stream.name}{', read by ccxt.pro' if stream.name in FALLBACKS else ''}.",
        table=part.table,
        subjects=f"recorded by `mnemo stream {stream.name}`, not fetched",
        fetch=_refuse(stream),
        parse=part.parse,
        paging="none: the venue sends by itself",
        limits="none",
        documentation=_DOCUMENTATION.get(stream.name, _CCXT_PRO),
        stream=stream.name,
        channel=part.channel,
        streaming=Streaming(
            unreadable=unreadable, needs_context=part.needs_context or stream.reread is not None
        ),
    )


def _refuse(stream: VenueStream) -> Callable[[Client, str, Window], Iterator[Page]]:
    def fetch(_client: Client, subject: str, _window: Window) -> Iterator[Page]:
        command = f"mnemo stream {stream.name} --subject {subject}"
        raise UsageError(f"a stream cannot be fetched, only recorded while it is live: {command}")

    return fetch


FEEDS: tuple[Feed, ...] = tuple(
    _feed(stream, part) for stream in STREAMS.values() for part in _PARTS if part.channel in stream.channels
)
