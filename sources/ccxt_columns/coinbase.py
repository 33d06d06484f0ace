"""Coinbase Advanced Trade: trades and bars.

Documentation: https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/public/get-public-market-trades
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sources.ccxt_columns.exactly import (
    Columns,
    decimals,
    enclosed,
    from_iso,
    from_s,
    ids,
    plain_json,
    records,
    same,
    sides,
    texts,
)

_TRADE = ("trade_id", "product_id", "price", "size", "time", "side", "bid", "ask", "exchange")
_BAR = ("start", "low", "high", "open", "close", "volume")


def trades(body: bytes, market: Mapping[str, Any]) -> Columns:
    """Price and size must be numbers: ccxt multiplies them."""
    said = enclosed(plain_json(body), ("trades", "best_bid", "best_ask"))
    rows = records(said["trades"], _TRADE)
    same(rows["product_id"], market["id"])
    return {
        "trade_id": ids(rows["trade_id"]),
        "event_at": from_iso(rows["time"]),
        "price": decimals(rows["price"]),
        "amount": decimals(rows["size"]),
        "side": sides(rows["side"], buy="BUY", sell="SELL"),
    }


def candles(body: bytes, _market: Mapping[str, Any]) -> Columns:
    """Seconds and numbers, all as text."""
    said = records(enclosed(plain_json(body), ("candles",))["candles"], _BAR)
    return {
        "open_at": from_s(said["start"]),
        **{name: texts(said[name]) for name in ("open", "high", "low", "close", "volume")},
    }
