"""silver.prediction_trades: single trades of outcome tokens."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.fields import BY_MONTH, EVENT_AT, EVENT_MONTH, PROVENANCE, row_order
from lakehouse.silver.prediction_markets import PROBABILITY, TOKEN_ID

TABLE = Table(
    name="silver.prediction_trades",
    doc="Trades of outcome tokens, each once, on the side of the taker: the mirrored makers' side is not repeated.",
    columns=(
        Column(
            name="condition_id",
            dtype=pl.String(),
            pattern="^0x([0-9a-f]{62}|[0-9a-f]{64})$",
            doc="On-chain id of the question.",
        ),
        TOKEN_ID,
        Column(
            name="trade_id",
            dtype=pl.String(),
            doc="Made here, for the provider has none: a hash of transaction, token, taker, side, price and amount, "
            "and which of the trades that are alike in all of them it is.",
        ),
        EVENT_AT.but(doc="Time of the block that settled it, to the second."),
        *PROVENANCE,
        PROBABILITY.but(unit="USDC a share", doc="Price of one share."),
        Column(name="amount", dtype=pl.Float64(), unit="shares", above=0, doc="Shares traded."),
        Column(
            name="side", dtype=pl.String(), values=("buy", "sell"), doc="What the taker did with the token."
        ),
        Column(name="taker", dtype=pl.String(), nullable=True, doc="The taker's wallet on chain."),
        Column(
            name="transaction_hash",
            dtype=pl.String(),
            pattern="^0x[0-9a-f]{64}$",
            doc="The transaction on chain; it may hold several trades.",
        ),
        EVENT_MONTH,
        row_order("token_id"),
    ),
    key=("condition_id", "token_id", "trade_id"),
    subject=("condition_id", "token_id"),
    owner="prediction",
    partition_by=("event_month",),
    order_by="row_order",
    migrations=(BY_MONTH,),
    freshness=timedelta(days=2),
)
