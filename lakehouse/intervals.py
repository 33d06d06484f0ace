"""How long the bars of each interval are. Weeks and months are left out: they do not divide evenly."""

from datetime import timedelta

LENGTHS = {
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


def dividing(interval: str) -> tuple[str, ...]:
    """The intervals whose bars make up one bar of `interval`, itself included; finest first."""
    return tuple(name for name, length in LENGTHS.items() if not LENGTHS[interval] % length)
