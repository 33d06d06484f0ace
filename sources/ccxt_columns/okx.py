"""OKX v5, spot and derivatives: trades and bars.

Documentation: https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-trades-history
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


def trades(body: bytes, market: Mapping[str, Any]) -> Columns:
    """`sz` counts contracts where the market is one."""
    said = records(_data(body), ("instId", "side", "sz", "px", "tradeId", "ts"), ("count", "source", "seqId"))
    same(said["instId"], market["id"])
    return {
        "trade_id": ids(said["tradeId"]),
        "event_at": from_ms(said["ts"]),
        "price": texts(said["px"]),
        "amount": texts(said["sz"]),
        "side": sides(said["side"], buy="buy", sell="sell"),
    }


def candles(body: bytes, market: Mapping[str, Any]) -> Columns:
    """Milliseconds, open, high, low, close, volume (contracts where it is one), in base, in quote, confirmed."""
    said = tuples(_data(body), 9)
    return {
        "open_at": from_ms(said[0]),
        "open": texts(said[1]),
        "high": texts(said[2]),
        "low": texts(said[3]),
        "close": texts(said[4]),
        "volume": texts(said[5 if market["type"] == "spot" else 6]),
    }


def _data(body: bytes) -> Any:
    said = enclosed(plain_json(body), ("code", "msg", "data"))
    if said["code"] != "0":
        raise Unlike("an error")
    return said["data"]
