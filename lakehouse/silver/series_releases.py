"""silver.series_releases: with which release a macro series comes out."""

from datetime import timedelta

from lakehouse.contract import Table
from lakehouse.fields import EVENT_AT, PROVENANCE, SERIES_ID
from lakehouse.silver.release_dates import RELEASE_ID, RELEASE_NAME

TABLE = Table(
    name="silver.series_releases",
    doc="The release that a series belongs to; its days are in silver.release_dates.",
    columns=(
        SERIES_ID,
        EVENT_AT.but(
            doc="Since when it belongs there, where the provider says so; else when the answer was received."
        ),
        *PROVENANCE,
        RELEASE_ID,
        RELEASE_NAME,
    ),
    key=("provider", "series_id", "known_at"),
    subject=("provider", "series_id"),
    owner="macro",
    freshness=timedelta(days=400),
)
