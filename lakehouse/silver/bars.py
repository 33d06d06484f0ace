"""silver.bars: bars of equities, currencies and coins from vendors that are not venues."""

from datetime import timedelta

import polars as pl

from lakehouse.bars import BAR_RULES
from lakehouse.contract import Column, Table
from lakehouse.fields import CLOSE, EVENT_AT, HIGH, INTERVAL, LOW, OPEN, OPEN_AT, PROVENANCE, VOLUME

TABLE = Table(
    name="silver.bars",
    doc="Vendor bars, raw and adjusted figures apart; a restated bar is a new row.",
    columns=(
        Column(name="symbol", dtype=pl.String(), doc="Symbol by the vendor: IBM, EUR/USD, BTC/EUR."),
        INTERVAL,
        OPEN_AT.but(
            doc="First moment of the bar, in UTC; a daily bar begins at midnight of the vendor's time zone."
        ),
        EVENT_AT.but(doc="End of the bar: the first moment that is no longer in it."),
        *PROVENANCE,
        Column(
            name="asset_class",
            dtype=pl.String(),
            values=("equity", "fx", "crypto"),
            doc="What the symbol is.",
        ),
        OPEN.but(doc="As traded, not adjusted."),
        HIGH.but(doc="As traded, not adjusted."),
        LOW.but(doc="As traded, not adjusted."),
        CLOSE.but(doc="As traded, not adjusted."),
        VOLUME.but(unit="shares or base", nullable=True, doc="Amount traded; null where there is none (FX)."),
        CLOSE.but(
            name="adjusted_close", nullable=True, doc="Close adjusted for splits and dividends, where given."
        ),
        Column(
            name="dividend",
            dtype=pl.Float64(),
            unit="quote",
            nullable=True,
            lower=0,
            doc="Dividend of the day.",
        ),
        Column(
            name="split_factor",
            dtype=pl.Float64(),
            nullable=True,
            above=0,
            doc="Split coefficient of the day.",
        ),
    ),
    key=("provider", "symbol", "interval", "open_at", "known_at"),
    subject=("provider", "symbol", "interval"),
    owner="market-data",
    rules=BAR_RULES,
    freshness=timedelta(days=5),
)
