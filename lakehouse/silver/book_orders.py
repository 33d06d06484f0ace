"""silver.book_orders: what happened to single resting orders, as it was streamed (L3)."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Rule, Table
from lakehouse.fields import BY_MONTH, EVENT_AT, EVENT_MONTH, INSTRUMENT_ID, PROVENANCE, VENUE, row_order
from lakehouse.silver.book_updates import (
    FRAME_COLUMNS,
    SEQUENCE_COLUMNS,
    SEQUENCE_RISES,
    VALIDITY_COLUMNS,
)

TABLE = Table(
    name="silver.book_orders",
    doc="Events of order books by single orders, one row an order and event; orders of snapshots are rows, too.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        *FRAME_COLUMNS,
        EVENT_AT.but(
            doc="When it happened, by the venue; when it was received, where the venue does not say."
        ),
        *PROVENANCE,
        *SEQUENCE_COLUMNS,
        Column(
            name="action",
            dtype=pl.String(),
            values=("add", "set", "reduce", "remove"),
            doc="add and set: the order rests with this price and amount, newly or changed; reduce: the amount was "
            "taken off; remove: it rests no more.",
        ),
        Column(name="order_id", dtype=pl.String(), doc="The venue's id of the order."),
        Column(
            name="side",
            dtype=pl.String(),
            nullable=True,
            values=("buy", "sell"),
            doc="The side of the resting order; null where the venue does not say.",
        ),
        Column(
            name="price",
            dtype=pl.Float64(),
            nullable=True,
            unit="quote",
            doc="Price of the order; null where the venue does not say it again.",
        ),
        Column(
            name="amount",
            dtype=pl.Float64(),
            nullable=True,
            lower=0,
            unit="amount_unit",
            doc="What rests or, of reduce, what was taken off; null where the venue does not say.",
        ),
        Column(
            name="amount_unit",
            dtype=pl.String(),
            values=("base", "quote", "contracts", "shares"),
            doc="What the amount counts.",
        ),
        *VALIDITY_COLUMNS,
        EVENT_MONTH,
        row_order("instrument_id"),
    ),
    key=("venue", "instrument_id", "connection_id", "frame", "part"),
    subject=("venue", "instrument_id"),
    owner="market-data",
    partition_by=("venue", "event_month"),
    order_by="row_order",
    migrations=(BY_MONTH,),
    rules=(
        Rule(
            name="order_incomplete",
            check=~pl.col("action").is_in(["add", "set"])
            | (pl.col("price").is_not_null() & pl.col("amount").is_not_null() & pl.col("side").is_not_null()),
            reason="a resting order lacks its side, price or amount",
        ),
    ),
    expects=(SEQUENCE_RISES,),
    freshness=timedelta(days=2),
)
