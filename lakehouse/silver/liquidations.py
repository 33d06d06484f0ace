"""silver.liquidations: positions that venues closed by force."""

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.fields import CLOSE, EVENT_AT, INSTRUMENT_ID, PROVENANCE, VENUE, VOLUME

TABLE = Table(
    name="silver.liquidations",
    doc="Forced closings as venues publish them; several venues publish a part only.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        Column(
            name="liquidation_id",
            dtype=pl.String(),
            doc="The venue's id; where it gives none, what the venue said of it, made into a hash.",
        ),
        EVENT_AT.but(doc="When it happened, by the venue."),
        *PROVENANCE,
        CLOSE.but(name="price", doc="Price, as the venue gives it: of the order or of its execution."),
        VOLUME.but(name="amount", unit="amount_unit", above=0, lower=None, doc="Amount, in amount_unit."),
        Column(
            name="amount_unit",
            dtype=pl.String(),
            values=("base", "quote", "contracts"),
            doc="What amount counts.",
        ),
        Column(
            name="side",
            dtype=pl.String(),
            nullable=True,
            values=("buy", "sell"),
            doc="What the forced order did: sell closes a long position.",
        ),
    ),
    key=("venue", "instrument_id", "liquidation_id"),
    subject=("venue", "instrument_id"),
    owner="market-data",
    partition_by=("venue",),
)
