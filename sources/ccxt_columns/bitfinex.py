"""Bitfinex v2: trades and bars, all in JSON numbers.

Documentation: https://docs.bitfinex.com/reference/rest-public-trades
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from sources.ccxt_columns.exactly import Columns, Unlike, from_ms, ids, literal_json, numbers, tuples

# ccxt writes a number anew when it takes its sign away; it comes out as it was if it had no exponent and no spare zero.
_STAYS_AS_IT_IS = r"\A-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?\z"


def trades(body: bytes, _market: Mapping[str, Any]) -> Columns:
    """Id, milliseconds, amount, price. An amount below zero was sold."""
    said = tuples(literal_json(body), 4)
    amounts = numbers(said[2])
    if not amounts.str.contains(_STAYS_AS_IT_IS).all():
        raise Unlike("an amount with an exponent")
    is_sold = amounts.str.starts_with("-")
    return {
        "trade_id": ids(said[0]),
        "event_at": from_ms(said[1]),
        "price": numbers(said[3]),
        "amount": amounts.str.strip_prefix("-"),
        "side": is_sold.replace_strict([True, False], ["sell", "buy"], return_dtype=pl.String),
    }


def candles(body: bytes, _market: Mapping[str, Any]) -> Columns:
    """Milliseconds, open, close, high, low, volume."""
    said = tuples(literal_json(body), 6)
    return {
        "open_at": from_ms(said[0]),
        "open": numbers(said[1]),
        "high": numbers(said[3]),
        "low": numbers(said[4]),
        "close": numbers(said[2]),
        "volume": numbers(said[5]),
    }
