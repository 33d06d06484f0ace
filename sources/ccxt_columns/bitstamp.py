"""Bitstamp: trades and bars.

Documentation: https://www.bitstamp.net/api/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sources.ccxt_columns.exactly import (
    Columns,
    Unlike,
    enclosed,
    from_s,
    ids,
    plain_json,
    records,
    sides,
    texts,
)

_TRADE = ("date", "tid", "amount", "type", "price")
_BAR = ("timestamp", "open", "high", "low", "close", "volume")


def trades(body: bytes, market: Mapping[str, Any]) -> Columns:
    """`type` is 0 where the taker bought, 1 where it sold. ccxt also looks for keys named as the currencies are."""
    said = records(plain_json(body), _TRADE)
    if not {market["id"], market["baseId"], market["quoteId"]}.isdisjoint(_TRADE):
        raise Unlike("a currency with the name of a field")
    return {
        "trade_id": ids(said["tid"]),
        "event_at": from_s(said["date"]),
        "price": texts(said["price"]),
        "amount": texts(said["amount"]),
        "side": sides(said["type"], buy="0", sell="1"),
    }


def candles(body: bytes, _market: Mapping[str, Any]) -> Columns:
    """Seconds and numbers, all as text."""
    said = enclosed(enclosed(plain_json(body), ("data",))["data"], ("pair", "ohlc"))
    bars = records(said["ohlc"], _BAR)
    return {
        "open_at": from_s(bars["timestamp"]),
        **{name: texts(bars[name]) for name in ("open", "high", "low", "close", "volume")},
    }
