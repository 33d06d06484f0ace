"""Bybit v5, spot and derivatives: recent trades and bars.

Documentation: https://bybit-exchange.github.io/docs/v5/market/recent-trade
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sources.ccxt_columns.exactly import (
    Columns,
    Unlike,
    enclosed,
    from_ms,
    ids,
    plain_json,
    records,
    same,
    sides,
    texts,
    tuples,
)

_TRADE = ("execId", "symbol", "price", "size", "side", "time", "isBlockTrade")


def trades(body: bytes, market: Mapping[str, Any]) -> Columns:
    """Ids are UUIDs for contracts and numbers for spot, as text."""
    said = records(_result(body, "category")["list"], _TRADE, ("isRPITrade", "seq"))
    same(said["symbol"], market["id"])
    return {
        "trade_id": ids(said["execId"]),
        "event_at": from_ms(said["time"]),
        "price": texts(said["price"]),
        "amount": texts(said["size"]),
        "side": sides(said["side"], buy="Buy", sell="Sell"),
    }


def candles(body: bytes, market: Mapping[str, Any]) -> Columns:
    """Milliseconds, open, high, low, close, volume, turnover. Of inverse contracts the turnover counts base."""
    said = tuples(_result(body, "category", "symbol")["list"], 7)
    return {
        "open_at": from_ms(said[0]),
        "open": texts(said[1]),
        "high": texts(said[2]),
        "low": texts(said[3]),
        "close": texts(said[4]),
        "volume": texts(said[6 if market.get("inverse") else 5]),
    }


def _result(body: bytes, *names: str) -> dict[str, Any]:
    said = enclosed(plain_json(body), ("retCode", "retMsg", "result"), ("retExtInfo", "time"))
    if str(said["retCode"]) != "0":
        raise Unlike("an error")
    return enclosed(said["result"], (*names, "list"))
