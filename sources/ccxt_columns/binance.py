"""Binance, spot and futures: aggregate trades and bars.

Documentation: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sources.ccxt_columns.exactly import (
    Columns,
    counts,
    from_ms,
    ids,
    plain_json,
    records,
    sides,
    texts,
    tuples,
)

_TRADE = ("a", "p", "q", "f", "l", "T", "m")


def trades(body: bytes, _market: Mapping[str, Any]) -> Columns:
    """`m`: the buyer was the maker, so the taker sold. Only spot has `M`, only futures `nq` (without RPI orders)."""
    said = records(plain_json(body), _TRADE, ("M", "nq"))
    return {
        "trade_id": ids(said["a"]),
        "event_at": from_ms(said["T"]),
        "price": texts(said["p"]),
        "amount": texts(said["q"]),
        "side": sides(said["m"], buy=False, sell=True),
    }


def candles(body: bytes, market: Mapping[str, Any]) -> Columns:
    """Inverse contracts have the volume in contracts at 5 and in base at 7."""
    said = tuples(plain_json(body), 12)
    return {
        "open_at": from_ms(said[0]),
        "open": texts(said[1]),
        "high": texts(said[2]),
        "low": texts(said[3]),
        "close": texts(said[4]),
        "volume": texts(said[7 if market.get("inverse") else 5]),
        "trade_count": counts(said[8]),
    }
