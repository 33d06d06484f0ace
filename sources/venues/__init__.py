"""The venues whose streams are read natively, and the rows of silver that their pages give. No sockets, no clock.

One module a venue says how it is subscribed, what its frames mean and what proves its books. `session` is what a
connection does with that, `rows` what parsing does with it; both keep books by the rules of `keeping`. Exchanges
without a module are read by ccxt.pro (`fallback`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import polars as pl

from lakehouse.errors import unknown
from sources.ccxt_rules import exchange_rules
from sources.venues import (
    binance,
    bitfinex,
    bitstamp,
    bybit,
    coinbaseexchange,
    deribit,
    fallback,
    kraken,
    okx,
    polymarket,
    rows,
)
from sources.venues.session import VenueStream

_MODULES = (binance, bitfinex, bitstamp, bybit, coinbaseexchange, deribit, kraken, okx, polymarket)

VENUES: Mapping[str, VenueStream] = MappingProxyType(
    {stream.name: stream for module in _MODULES for stream in module.STREAMS}
)
"""The streams that are read natively, by name."""

_NATIVE = frozenset({*VENUES, *(stream.venue for stream in VENUES.values())})

FALLBACKS: Mapping[str, VenueStream] = MappingProxyType(
    {name: fallback.stream(name) for name in exchange_rules() if name not in _NATIVE}
)
"""The streams of all other exchanges of `exchanges.yaml`, by name."""

STREAMS: Mapping[str, VenueStream] = MappingProxyType({**VENUES, **FALLBACKS})


def venue(name: str) -> VenueStream:
    """The stream of that name; UsageError with the nearest names where there is none."""
    try:
        return STREAMS[name]
    except KeyError:
        raise unknown("stream", name, STREAMS) from None


def parse_trades(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.trades; ParseError where a page cannot be read."""
    return rows.trade_rows(pages, STREAMS)


def parse_book_updates(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.book_updates; see `sources.venues.rows` for which pages to give."""
    return rows.book_update_rows(pages, STREAMS)


def parse_book_snapshots(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.book_snapshots, one a book and second in which it changed."""
    return rows.book_snapshot_rows(pages, STREAMS)


def parse_book_orders(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.book_orders."""
    return rows.book_order_rows(pages, STREAMS)


def unreadable(pages: pl.DataFrame) -> tuple[tuple[int, str], ...]:
    """Page id and reason of each page for which parsing raises; it does not without them."""
    return rows.unreadable(pages, STREAMS)
