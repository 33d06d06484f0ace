"""Coinbase Exchange: trades and bars.

Documentation: https://docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products/get-product-trades
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sources.ccxt_columns.exactly import (
    Columns,
    from_iso,
    from_s,
    ids,
    literal_json,
    numbers,
    plain_json,
    records,
    sides,
    texts,
    tuples,
)


def trades(body: bytes, _market: Mapping[str, Any]) -> Columns:
    """`side` is what the maker did: the taker did the other thing."""
    said = records(plain_json(body), ("trade_id", "side", "size", "price", "time"))
    return {
        "trade_id": ids(said["trade_id"]),
        "event_at": from_iso(said["time"]),
        "price": texts(said["price"]),
        "amount": texts(said["size"]),
        "side": sides(said["side"], buy="sell", sell="buy"),
    }


def candles(body: bytes, _market: Mapping[str, Any]) -> Columns:
    """Seconds, low, high, open, close, volume, all of them JSON numbers."""
    said = tuples(literal_json(body), 6)
    return {
        "open_at": from_s(said[0]),
        "open": numbers(said[3]),
        "high": numbers(said[2]),
        "low": numbers(said[1]),
        "close": numbers(said[4]),
        "volume": numbers(said[5]),
    }
