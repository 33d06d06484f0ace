"""Kraken spot: trades and bars. Both come under the market's own id, with where to go on as `last`.

Documentation: https://docs.kraken.com/api/docs/rest-api/get-recent-trades
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sources.ccxt_columns.exactly import (
    Columns,
    Unlike,
    counts,
    enclosed,
    from_fractional_s,
    from_s,
    ids,
    plain_json,
    sides,
    texts,
    tuples,
)


def trades(body: bytes, market: Mapping[str, Any]) -> Columns:
    """Price, volume, seconds, side, order type, miscellaneous, id."""
    said = tuples(_result(body, market), 7)
    return {
        "trade_id": ids(said[6]),
        "event_at": from_fractional_s(said[2]),
        "price": texts(said[0]),
        "amount": texts(said[1]),
        "side": sides(said[3], buy="b", sell="s"),
    }


def candles(body: bytes, market: Mapping[str, Any]) -> Columns:
    """Seconds, open, high, low, close, vwap, volume, count. The last bar is always the one that is still open."""
    said = tuples(_result(body, market)[:-1], 8)
    return {
        "open_at": from_s(said[0]),
        "open": texts(said[1]),
        "high": texts(said[2]),
        "low": texts(said[3]),
        "close": texts(said[4]),
        "volume": texts(said[6]),
        "trade_count": counts(said[7]),
    }


def _result(body: bytes, market: Mapping[str, Any]) -> list[Any]:
    said = enclosed(plain_json(body), ("error", "result"))
    rows = enclosed(said["result"], (market["id"], "last"))[market["id"]]
    if said["error"] != [] or type(rows) is not list:
        raise Unlike("an error, or no rows")
    return rows
