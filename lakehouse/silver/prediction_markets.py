"""silver.prediction_markets: questions that are traded, one row for each outcome token and version."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import UTC_US, Column, Table
from lakehouse.expects import SumsUp
from lakehouse.fields import EVENT_AT, PROVENANCE
from lakehouse.silver.instruments import ASSET_PATTERN

TOKEN_ID = Column(
    name="token_id",
    dtype=pl.String(),
    pattern=r"^\d{1,78}$",
    doc="The outcome's token: an unsigned 256-bit number, as text.",
)
PROBABILITY = Column(
    name="price",
    dtype=pl.Float64(),
    lower=0,
    upper=1,
    doc="Price of one share that pays 1 if the outcome comes true.",
)

TABLE = Table(
    name="silver.prediction_markets",
    doc="Markets, their outcomes, rules and state, known since they were received; what changed is a new row.",
    columns=(
        Column(name="market_id", dtype=pl.String(), doc="The provider's id of the market."),
        TOKEN_ID,
        EVENT_AT.but(doc="When the provider last changed the market; prices and volumes move without it."),
        *PROVENANCE,
        Column(
            name="condition_id",
            dtype=pl.String(),
            pattern="^0x([0-9a-f]{62}|[0-9a-f]{64})$",
            doc="On-chain id of the question.",
        ),
        Column(
            name="group_id",
            dtype=pl.String(),
            nullable=True,
            doc="Event that mutually related markets belong to.",
        ),
        Column(
            name="event_slug", dtype=pl.String(), nullable=True, doc="The event, as its web address names it."
        ),
        Column(
            name="event_title", dtype=pl.String(), nullable=True, doc="What the event's markets ask together."
        ),
        Column(
            name="group_item_title",
            dtype=pl.String(),
            nullable=True,
            doc="Short name of the market within its event: a candidate, a bracket.",
        ),
        Column(name="question", dtype=pl.String(), doc="The question, as worded at the time."),
        Column(
            name="rules",
            dtype=pl.String(),
            nullable=True,
            doc="How it will be resolved, as worded at the time.",
        ),
        Column(name="outcome", dtype=pl.String(), doc="Label of the outcome; not always Yes or No."),
        Column(
            name="outcome_index", dtype=pl.Int64(), lower=0, doc="Position of the outcome within its market."
        ),
        PROBABILITY.but(nullable=True, doc="Last price shown with the listing; null where none is set."),
        Column(name="is_active", dtype=pl.Boolean(), nullable=True, doc="Listed."),
        Column(
            name="is_accepting_orders",
            dtype=pl.Boolean(),
            nullable=True,
            doc="Orders are taken; also seen on markets that were closed.",
        ),
        Column(
            name="is_closed",
            dtype=pl.Boolean(),
            nullable=True,
            doc="Closed for trading; not yet a resolution.",
        ),
        Column(
            name="is_exclusive",
            dtype=pl.Boolean(),
            nullable=True,
            doc="One of a group where exactly one pays (negRisk).",
        ),
        Column(
            name="neg_risk_market_id",
            dtype=pl.String(),
            nullable=True,
            doc="On-chain id of the group where exactly one pays: its markets share it.",
        ),
        Column(
            name="is_open_ended",
            dtype=pl.Boolean(),
            nullable=True,
            doc="Outcomes may be added to the group (negRiskAugmented): those listed need not hold the one that pays.",
        ),
        Column(
            name="resolution_source",
            dtype=pl.String(),
            nullable=True,
            doc="Address that the outcome is read from, where the listing names one.",
        ),
        Column(
            name="underlying_asset",
            dtype=pl.String(),
            nullable=True,
            pattern=ASSET_PATTERN,
            doc="CoinMetrics id of the asset whose price decides, as in silver.instruments; null where not certain.",
        ),
        Column(
            name="resolution_status",
            dtype=pl.String(),
            nullable=True,
            doc="Oracle state: requested, proposed, disputed, resolved, settled.",
        ),
        Column(
            name="resolved_at",
            dtype=UTC_US,
            unit="UTC",
            nullable=True,
            doc="When the oracle's answer became final, where the provider says it.",
        ),
        Column(
            name="payout",
            dtype=pl.Float64(),
            unit="USDC a share",
            nullable=True,
            lower=0,
            upper=1,
            doc="What a share pays: 1, 0 or a half; null until resolved, and where what is shown is no payout.",
        ),
        Column(name="starts_at", dtype=UTC_US, unit="UTC", nullable=True, doc="Listing time."),
        Column(
            name="ends_at",
            dtype=UTC_US,
            unit="UTC",
            nullable=True,
            doc="Planned end; never the time of resolution.",
        ),
        Column(name="closed_at", dtype=UTC_US, unit="UTC", nullable=True, doc="When it was closed."),
        Column(
            name="protocol",
            dtype=pl.String(),
            nullable=True,
            doc="Version of the contracts that hold the outcomes, where said: v1, v2.",
        ),
        Column(name="volume", dtype=pl.Float64(), unit="USDC", nullable=True, lower=0, doc="Traded so far."),
        Column(name="liquidity", dtype=pl.Float64(), unit="USDC", nullable=True, doc="Resting in the book."),
    ),
    key=("market_id", "token_id", "known_at"),
    subject=("market_id",),
    owner="prediction",
    expects=(
        SumsUp(
            name="prices_sum_to_one",
            meaning="The prices of all outcomes of a market add up to 1 within 0.05",
            column="price",
            over=("market_id", "known_at"),
            part="outcome_index",
            to=1.0,
            tolerance=0.05,
        ),
    ),
    freshness=timedelta(days=2),
)
