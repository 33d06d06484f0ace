"""silver.instruments: what can be traded where, with its history."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import UTC_US, Column, Table
from lakehouse.fields import EVENT_AT, INSTRUMENT_ID, PROVENANCE, VENUE

TABLE = Table(
    name="silver.instruments",
    doc="Every instrument of a venue; a new row whenever the venue changes anything about it.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        EVENT_AT.but(
            doc="When the venue's answer was received: a venue does not say since when a change holds."
        ),
        *PROVENANCE,
        Column(name="venue_symbol", dtype=pl.String(), doc="The venue's own id of the instrument."),
        Column(
            name="type",
            dtype=pl.String(),
            values=("spot", "swap", "future", "option", "index"),
            doc="Kind of instrument.",
        ),
        Column(name="base", dtype=pl.String(), doc="Asset that is bought and sold."),
        Column(name="quote", dtype=pl.String(), doc="Asset that prices are in."),
        Column(
            name="settle",
            dtype=pl.String(),
            nullable=True,
            doc="Asset that a contract settles in; null for spot.",
        ),
        Column(
            name="is_inverse",
            dtype=pl.Boolean(),
            nullable=True,
            doc="Whether a contract pays in its base; null for spot.",
        ),
        Column(
            name="contract_size",
            dtype=pl.Float64(),
            nullable=True,
            above=0,
            doc="Base (or quote, if inverse) per contract.",
        ),
        Column(
            name="price_step",
            dtype=pl.Float64(),
            nullable=True,
            above=0,
            unit="quote",
            doc="Smallest price step.",
        ),
        Column(name="amount_step", dtype=pl.Float64(), nullable=True, above=0, doc="Smallest amount step."),
        Column(name="min_amount", dtype=pl.Float64(), nullable=True, lower=0, doc="Smallest order amount."),
        Column(name="max_amount", dtype=pl.Float64(), nullable=True, lower=0, doc="Largest order amount."),
        Column(
            name="min_cost",
            dtype=pl.Float64(),
            nullable=True,
            lower=0,
            unit="quote",
            doc="Smallest order value.",
        ),
        Column(
            name="is_active",
            dtype=pl.Boolean(),
            nullable=True,
            doc="Whether it trades now; null where not said.",
        ),
        Column(
            name="listed_at", dtype=UTC_US, unit="UTC", nullable=True, doc="When trading began, where said."
        ),
        Column(
            name="expires_at", dtype=UTC_US, unit="UTC", nullable=True, doc="When a dated contract expires."
        ),
    ),
    key=("venue", "instrument_id", "known_at"),
    subject=("venue", "instrument_id"),
    owner="market-data",
    freshness=timedelta(days=2),
)
