"""silver.series: what the series of silver.observations are."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.fields import EVENT_AT, PROVENANCE, SERIES_ID

TABLE = Table(
    name="silver.series",
    doc="Title, unit and frequency of macro series; changed descriptions are new rows.",
    columns=(
        SERIES_ID,
        EVENT_AT.but(
            doc="Since when the description holds, where the provider says so; else when it last updated the series; "
            "else when the answer was received."
        ),
        *PROVENANCE,
        Column(name="title", dtype=pl.String(), doc="The provider's title."),
        Column(name="frequency", dtype=pl.String(), doc="D, W, M, Q, A or the provider's word."),
        Column(name="unit", dtype=pl.String(), doc="Unit of the values before the multiplier."),
        Column(
            name="unit_multiplier",
            dtype=pl.Int64(),
            doc="Power of ten that values are to be multiplied with.",
        ),
        Column(
            name="seasonal_adjustment",
            dtype=pl.String(),
            nullable=True,
            doc="How it is adjusted, where said.",
        ),
        Column(
            name="notes",
            dtype=pl.String(),
            nullable=True,
            doc="The provider's notes: sources, breaks, copyright.",
        ),
    ),
    key=("provider", "series_id", "known_at"),
    subject=("provider", "series_id"),
    owner="macro",
    freshness=timedelta(days=10),
)
