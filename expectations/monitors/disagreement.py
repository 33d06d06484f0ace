"""disagreement: providers that tell different things of the same, over the last week.

Two figures: the share of bars on which our bars and those of the venue, or of CoinMetrics, differ
(`gold.reconciliation_days`, against the share that the venue is asked for; one bar may always), and the share of
minutes in which a venue's price was too far from that of all others (`gold.consensus_prices`).
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from expectations.monitors.monitor import Monitor, View, measured
from lakehouse.gold import consensus_prices, reconciliation_days

RECENT = timedelta(days=7)
MOST_OUTLYING = 0.05
"""Share of its minutes."""
LEAST_MINUTES = 60
"""Of a venue, in which it is compared with others; with fewer nothing is judged."""

_DAYS = reconciliation_days.TABLE
_PRICES = consensus_prices.TABLE


def look(view: View) -> pl.DataFrame:
    """Shares of bars that differ, and of minutes in which a venue is far off, from 0 to 1."""
    since = view.now - RECENT
    days = view.lake.scan(_DAYS.name, start=since, end=view.now).collect()
    prices = view.lake.scan(_PRICES.name, start=since, end=view.now)
    told = prices.select("instrument_id", "venues", "outlier_venues").collect()
    return pl.concat([differing(days), outlying(told)])


def differing(days: pl.DataFrame) -> pl.DataFrame:
    """From rows of gold.reconciliation_days the share of bars that differ, of each subject over all days."""
    found = days.group_by(_DAYS.subject, maintain_order=True).agg(
        pl.col("bars").sum(),
        pl.col("agreeing").sum(),
        required=(pl.col("required_share") * pl.col("bars")).sum() / pl.col("bars").sum(),
    )
    differ = pl.col("bars") - pl.col("agreeing")
    said = pl.format("{}: {} of {} bars differ from those of {}", "subject", differ, "bars", "against")
    return measured(
        found.with_columns(
            table=pl.lit(_DAYS.name),
            subject=pl.concat_str(_DAYS.subject, separator=" "),
            measured=differ / pl.col("bars"),
            limit=pl.max_horizontal(1 - pl.col("required"), 1 / pl.col("bars")),
        ).with_columns(summary=said)
    )


def outlying(prices: pl.DataFrame) -> pl.DataFrame:
    """From the lists of venues of gold.consensus_prices the share of minutes in which each venue was far off."""
    listed = [
        prices.select("instrument_id", venue=name).explode("venue").drop_nulls().with_columns(is_off=is_off)
        for name, is_off in (("venues", False), ("outlier_venues", True))
    ]
    found = (
        pl.concat(listed)
        .group_by("instrument_id", "venue")
        .agg(off=pl.col("is_off").sum(), minutes=pl.len())
        .filter(pl.col("minutes") >= LEAST_MINUTES)
        .sort("instrument_id", "venue")
    )
    said = pl.format("{} is far from the other venues in {} of {} minutes", "subject", "off", "minutes")
    return measured(
        found.with_columns(
            table=pl.lit(_PRICES.name),
            subject=pl.concat_str("venue", "instrument_id", separator=" "),
            measured=pl.col("off") / pl.col("minutes"),
            limit=MOST_OUTLYING,
        ).with_columns(summary=said)
    )


MONITOR = Monitor(
    name="disagreement",
    doc="What several providers tell of one thing over the last week is the same, within what they are asked for.",
    unit="share",
    severity="warning",
    look=look,
)
