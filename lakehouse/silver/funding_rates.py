"""silver.funding_rates: what holders of perpetual contracts paid each other."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.fields import CLOSE, EVENT_AT, INSTRUMENT_ID, PROVENANCE, VENUE

TABLE = Table(
    name="silver.funding_rates",
    doc="Funding that was settled, one row a settlement; longs pay shorts where the rate is positive.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        EVENT_AT.but(doc="When it was settled."),
        *PROVENANCE,
        Column(
            name="rate",
            dtype=pl.Float64(),
            unit="fraction of the position's value, per interval",
            lower=-1,
            upper=1,
            doc="The rate of this settlement, as the venue gives it: not annualised.",
        ),
        Column(
            name="interval_hours",
            dtype=pl.Float64(),
            unit="hours",
            nullable=True,
            above=0,
            doc="Time that the rate is for, where the venue says it.",
        ),
        CLOSE.but(name="mark_price", nullable=True, doc="Mark price at the settlement, where given."),
    ),
    key=("provider", "venue", "instrument_id", "event_at", "known_at"),
    subject=("venue", "instrument_id"),
    owner="market-data",
    partition_by=("venue",),
    freshness=timedelta(days=2),
)
