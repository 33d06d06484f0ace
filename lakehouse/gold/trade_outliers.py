"""gold.trade_outliers: the trades that no level of price around them agrees with (`lakehouse.outliers`).

They are flagged and stay: candles are made of all trades and say how many of these are among them. A flag stands once
it is published, also where trades that come late would speak for the price.

A change of silver.trades dirties what its instrument traded in the five minutes after and the ten before.
"""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.fields import EVENT_AT, INGESTED_AT, INSTRUMENT_ID, KNOWN_AT, VENUE
from lakehouse.model import Inputs, Model, Reach, Row
from lakehouse.outliers import NEAR, outliers

_PRICE = Column(name="price", dtype=pl.Float64(), unit="quote", above=0, doc="Price of the trade.")

TABLE = Table(
    name="gold.trade_outliers",
    doc="Trades far from the median price of the minute before, of the minute after and of their own minute.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        Column(name="trade_id", dtype=pl.String(), doc="The venue's id, as in silver.trades."),
        EVENT_AT.but(doc="When the venue matched it."),
        KNOWN_AT.but(doc="When a trade told that the minute after was over: before, nobody could tell."),
        INGESTED_AT.but(doc="When the last of the trades that it was judged by reached this lake."),
        _PRICE,
        _PRICE.but(
            name="level", doc="The median price nearest to it: of its minute, the one before or after."
        ),
        _PRICE.but(
            name="mad",
            above=None,
            lower=0,
            doc="Median absolute deviation of the prices in the minute of that median, not scaled.",
        ),
    ),
    key=("venue", "instrument_id", "trade_id", "known_at"),
    subject=("venue", "instrument_id"),
    owner="market-data",
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.trade_outliers from all rows of silver.trades."""
    return outliers(inputs["silver.trades"]).select(TABLE.schema.names())


def _trades_beside(flag: Row, trades: pl.LazyFrame) -> pl.LazyFrame:
    return trades.filter(pl.col("trade_id") == flag["trade_id"])


MODEL = Model(
    table=TABLE,
    groups=("venue", "instrument_id"),
    clock="event_at",
    reaches=(
        Reach(
            input="silver.trades",
            by={"venue": "venue", "instrument_id": "instrument_id"},
            before=NEAR,
            after=2 * NEAR,
            snap=timedelta(minutes=1),
            made_of=_trades_beside,
        ),
    ),
    build=build,
)
