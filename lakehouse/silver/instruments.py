"""silver.instruments: what can be traded where, with its history.

Assets have one identity across providers: `base_asset` and `quote_asset` are ids of CoinMetrics, as in
`silver.asset_metrics`; how a venue's code becomes one is said in `sources/assets.yaml`. A symbol that was renamed is
seen as versions: the same `venue_symbol` under another `instrument_id`, or the other way round. That the two are one
thing is not said here, because venues give symbols of dead instruments to new ones.
"""

from datetime import timedelta

import polars as pl

from lakehouse.contract import UTC_US, Census, Column, Table
from lakehouse.fields import EVENT_AT, INSTRUMENT_ID, PROVENANCE, VENUE

ASSET_PATTERN = r"^[a-z0-9_.]+$"
"""Ids of CoinMetrics: lower case, `usdt_eth` for a token's part on one chain."""

TABLE = Table(
    name="silver.instruments",
    doc="Every instrument of a venue; a new row whenever the venue changes anything about it or lists it no longer.",
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
            name="base_asset",
            dtype=pl.String(),
            nullable=True,
            pattern=ASSET_PATTERN,
            doc="CoinMetrics id of the base; null where the venue's code is not certain to mean one.",
        ),
        Column(
            name="quote_asset",
            dtype=pl.String(),
            nullable=True,
            pattern=ASSET_PATTERN,
            doc="CoinMetrics id of the quote; null where not certain.",
        ),
        Column(
            name="settle_asset",
            dtype=pl.String(),
            nullable=True,
            pattern=ASSET_PATTERN,
            doc="CoinMetrics id of the settlement asset; null for spot and where not certain.",
        ),
        Column(
            name="asset_basis",
            dtype=pl.String(),
            nullable=True,
            values=("venue", "common"),
            doc="Why the ids are certain: the codes mean them on every venue, or a rule for this venue says so.",
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
            name="status",
            dtype=pl.String(),
            nullable=True,
            values=("listed", "delisted"),
            doc="Whether the venue's newest list names it; delisted since event_at, then otherwise as last listed.",
        ),
        Column(
            name="list_name",
            dtype=pl.String(),
            nullable=True,
            doc="Which of the venue's lists it is from: a type of markets, or all.",
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
    census=Census(
        of=("venue", "list_name"), gone={"is_active": False, "status": "delisted"}, ends="expires_at"
    ),
)
