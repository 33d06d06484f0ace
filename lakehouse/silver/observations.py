"""silver.observations: macro observations in all their vintages."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Rule, Table
from lakehouse.expects import Level, Levels
from lakehouse.fields import EVENT_AT, KNOWN_AT_BASIS, PROVENANCE, SERIES_ID, VALUE

ARCHIVED = "archived"

_LEVELS = (
    # Dollars of credit outside the United States: 2e12 in 2000, 1.5e13 in 2025; the banks' loans about half of it.
    Level(starts="bis/WS_GLI/Q.USD.3P.N.A.I.B.USD/", lower=1e12, upper=1e14),
    Level(starts="bis/WS_GLI/Q.USD.3P.N.B.I.G.USD/", lower=1e11, upper=1e14),
    # Billions of dollars: 200 after 1945, 30,000 now.
    Level(starts="fred/GDP/", lower=100, upper=1e6),
    # Percent.
    Level(starts="alphavantage/FEDERAL_FUNDS_RATE/", lower=-5, upper=50),
    Level(starts="alphavantage/TREASURY_YIELD", lower=-5, upper=50),
    Level(starts="alphavantage/UNEMPLOYMENT/", lower=0.5, upper=50),
)
"""Wide enough for any period, too narrow for a wrong power of a thousand."""

TABLE = Table(
    name="silver.observations",
    doc="One row for each series, period and vintage; a revision is a new row with a later known_at.",
    columns=(
        SERIES_ID,
        Column(name="period_start", dtype=pl.Date(), doc="First day of the period that the value describes."),
        EVENT_AT.but(doc="End of the period: the first moment after it."),
        *PROVENANCE,
        KNOWN_AT_BASIS.but(
            values=(*KNOWN_AT_BASIS.values, ARCHIVED),
            doc=f"{KNOWN_AT_BASIS.doc[:-1]}; {ARCHIVED}: the archive's first vintage, which is not the first release.",
        ),
        VALUE.but(unit="unit, times ten to the unit_multiplier"),
        Column(name="unit", dtype=pl.String(), doc="Unit of the value before the multiplier."),
        Column(
            name="unit_multiplier",
            dtype=pl.Int64(),
            doc="Power of ten that the value is to be multiplied with.",
        ),
        Column(
            name="status",
            dtype=pl.String(),
            nullable=True,
            doc="The provider's observation status (SDMX OBS_STATUS): A normal, B break, E estimated, P provisional; "
            "H, L, M and Q say why a value is missing.",
        ),
    ),
    key=("provider", "series_id", "period_start", "known_at"),
    subject=("provider", "series_id"),
    owner="macro",
    rules=(
        Rule(
            name="known_before_period",
            check=pl.col("known_at")
            >= pl.col("period_start").cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            reason="the value was known before its period began",
            severity="warning",
        ),
    ),
    expects=(
        Levels(
            name="levels_of_known_series",
            meaning="Series whose size is known are in the unit that they are said to be in: their median is plausible",
            severity="critical",
            value="value",
            times_ten_to="unit_multiplier",
            subject=("provider", "series_id"),
            bounds=_LEVELS,
        ),
    ),
    freshness=timedelta(days=10),
)
