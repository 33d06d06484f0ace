"""silver.trades: single trades of all venues."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.expects import CountedIds, LikePast
from lakehouse.fields import BY_MONTH, EVENT_AT, EVENT_MONTH, INSTRUMENT_ID, PROVENANCE, VENUE, row_order

TABLE = Table(
    name="silver.trades",
    doc="Trades as the venue published them, one row a trade.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        Column(name="trade_id", dtype=pl.String(), doc="The venue's id, unique within the instrument."),
        EVENT_AT.but(doc="When the venue matched it."),
        *PROVENANCE,
        Column(name="price", dtype=pl.Float64(), unit="quote", above=0, doc="Price of the trade."),
        Column(name="amount", dtype=pl.Float64(), unit="amount_unit", above=0, doc="Amount, in amount_unit."),
        Column(
            name="amount_unit",
            dtype=pl.String(),
            values=("base", "quote", "contracts"),
            doc="What amount counts.",
        ),
        Column(
            name="side",
            dtype=pl.String(),
            nullable=True,
            values=("buy", "sell"),
            doc="What the taker did; null where the venue does not say.",
        ),
        EVENT_MONTH,
        row_order("instrument_id"),
    ),
    key=("venue", "instrument_id", "trade_id"),
    subject=("venue", "instrument_id"),
    owner="market-data",
    partition_by=("venue", "event_month"),
    order_by="row_order",
    migrations=(BY_MONTH,),
    expects=(
        CountedIds(
            name="ids_without_holes",
            meaning="Where a venue's ids count trades, none is missing between two trades of a page",
            id="trade_id",
            within=("venue", "instrument_id"),
        ),
        LikePast(
            name="like_past",
            meaning="Trades a day and amounts are within a hundredfold of those of the weeks around, prices a tenfold",
            rows_factor=100,
            levels={"price": 10, "amount": 100},
        ),
    ),
    freshness=timedelta(days=2),
)
