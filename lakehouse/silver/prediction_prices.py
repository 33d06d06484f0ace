"""silver.prediction_prices: sampled prices of outcome tokens."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.fields import EVENT_AT, PROVENANCE
from lakehouse.silver.prediction_markets import PROBABILITY, TOKEN_ID

TABLE = Table(
    name="silver.prediction_prices",
    doc="Prices of outcome tokens at moments: samples that the provider takes of the book, not trades.",
    columns=(
        TOKEN_ID,
        EVENT_AT.but(doc="The moment of the sample."),
        *PROVENANCE,
        PROBABILITY,
        Column(
            name="kind",
            dtype=pl.String(),
            values=("history", "history_12h"),
            doc="history: a sample a minute; history_12h: two a day, all that is left of a market once it is resolved.",
        ),
    ),
    key=("token_id", "kind", "event_at", "known_at"),
    subject=("token_id",),
    owner="prediction",
    freshness=timedelta(days=2),
)
