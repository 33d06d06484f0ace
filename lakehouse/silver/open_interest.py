"""silver.open_interest: how much of a contract is held."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.fields import EVENT_AT, INSTRUMENT_ID, PROVENANCE, VENUE, VOLUME

TABLE = Table(
    name="silver.open_interest",
    doc="Contracts that are open, at moments.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        EVENT_AT.but(doc="The moment, by the venue; when it was received, where the venue does not say."),
        *PROVENANCE,
        VOLUME.but(name="amount", unit="amount_unit", nullable=True, doc="What is open, in amount_unit."),
        Column(
            name="amount_unit",
            dtype=pl.String(),
            nullable=True,
            values=("base", "quote", "contracts"),
            doc="What amount counts; null where there is none.",
        ),
        VOLUME.but(
            name="value", unit="value_currency", nullable=True, doc="Worth of what is open, where given."
        ),
        Column(
            name="value_currency",
            dtype=pl.String(),
            nullable=True,
            doc="Currency of value: USD, USDT; null where there is none.",
        ),
        Column(
            name="sides",
            dtype=pl.String(),
            values=("one", "both", "unknown"),
            doc="Whether a contract counts once or for buyer and seller.",
        ),
    ),
    key=("provider", "venue", "instrument_id", "event_at", "known_at"),
    subject=("venue", "instrument_id"),
    owner="market-data",
    partition_by=("venue",),
    freshness=timedelta(days=2),
)
