"""silver.reference_candles: bars of prices that nobody traded at: mark, index, premium."""

from datetime import timedelta

import polars as pl

from lakehouse.bars import BAR_RULES
from lakehouse.contract import Column, Table
from lakehouse.fields import (
    CLOSE,
    EVENT_AT,
    HIGH,
    INSTRUMENT_ID,
    INTERVAL,
    LOW,
    OPEN,
    OPEN_AT,
    PROVENANCE,
    VENUE,
)

_ANY = {"above": None}
"""A premium may be negative."""

TABLE = Table(
    name="silver.reference_candles",
    doc="Closed bars of mark, index and premium prices as the venue delivered them.",
    columns=(
        VENUE,
        INSTRUMENT_ID.but(doc="The contract that the price is made for, in ccxt's notation."),
        Column(
            name="price_type",
            dtype=pl.String(),
            values=("mark", "index", "premium"),
            doc="mark: what positions are valued at; index: the underlying's price; premium: their relation.",
        ),
        INTERVAL,
        OPEN_AT,
        EVENT_AT.but(doc="End of the bar: the first moment that is no longer in it."),
        *PROVENANCE,
        OPEN.but(**_ANY, doc="First value."),
        HIGH.but(**_ANY, doc="Highest value."),
        LOW.but(**_ANY, doc="Lowest value."),
        CLOSE.but(**_ANY, doc="Last value."),
    ),
    key=("venue", "instrument_id", "price_type", "interval", "open_at", "known_at"),
    subject=("venue", "instrument_id", "price_type", "interval"),
    owner="market-data",
    partition_by=("venue", "interval"),
    rules=BAR_RULES,
    freshness=timedelta(days=2),
)
