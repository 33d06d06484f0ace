"""silver.release_dates: when statistics come out, past and planned."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.fields import EVENT_AT, PROVENANCE

RELEASE_ID = Column(
    name="release_id",
    dtype=pl.String(),
    doc="The provider's id of the release: 53 is FRED's Gross Domestic Product.",
)
RELEASE_NAME = Column(name="release_name", dtype=pl.String(), doc="The provider's name of the release.")

TABLE = Table(
    name="silver.release_dates",
    doc="Days on which releases brought data, and the days ahead that are planned; a plan that was not kept stays one.",
    columns=(
        RELEASE_ID,
        Column(name="release_date", dtype=pl.Date(), doc="The day; the provider gives no clock time."),
        EVENT_AT.but(doc="End of the day: the first moment after it."),
        *PROVENANCE,
        RELEASE_NAME,
        Column(
            name="status",
            dtype=pl.String(),
            values=("planned", "released"),
            doc="released where the provider says that data came; planned was known when it was received.",
        ),
    ),
    key=("provider", "release_id", "release_date", "known_at"),
    subject=("provider", "release_id"),
    owner="macro",
    freshness=timedelta(days=40),
)
