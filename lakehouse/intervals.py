"""How long the bars of each interval are, and where those of the calendar begin: weeks on Monday, months on the 1st.

All of it in UTC. Names are ccxt's: `1m` is a minute, `1M` a month.
"""

from datetime import timedelta

import polars as pl

LENGTHS = {
    "1s": timedelta(seconds=1),
    "5s": timedelta(seconds=5),
    "15s": timedelta(seconds=15),
    "30s": timedelta(seconds=30),
    "1m": timedelta(minutes=1),
    "3m": timedelta(minutes=3),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "30m": timedelta(minutes=30),
    "1h": timedelta(hours=1),
    "2h": timedelta(hours=2),
    "4h": timedelta(hours=4),
    "6h": timedelta(hours=6),
    "8h": timedelta(hours=8),
    "12h": timedelta(hours=12),
    "1d": timedelta(days=1),
}
"""Each of them divides a UTC day."""

CALENDAR = {"1w": "1w", "1M": "1mo"}
"""The intervals made of whole UTC days, with what Polars calls them."""


def dividing(interval: str) -> tuple[str, ...]:
    """The intervals whose bars make up one bar of `interval`, itself included; finest first."""
    if interval in CALENDAR:
        return (*LENGTHS, interval)
    return tuple(name for name, length in LENGTHS.items() if not LENGTHS[interval] % length)


def open_of(time: pl.Expr, interval: str) -> pl.Expr:
    """The first moment of the bar that a time is in."""
    return time.dt.truncate(CALENDAR.get(interval, interval))


def end_of(open_at: pl.Expr, interval: str) -> pl.Expr:
    """The first moment that is no longer in the bar of that open."""
    return open_at.dt.offset_by(CALENDAR.get(interval, interval))
