"""gold.candles: bars of the usual intervals, from trades where they cover the bar, else from delivered
candles.

A bar has as many versions as there were states of what is known of it. Where a trade-built bar is known, it
takes the place of the candle-built one from that moment on.

A change of silver.trades or silver.candles dirties the bars of its venue and instrument in the UTC day of the
changed row's event_at and in the days beside it: what proves a bar to be whole and over may be a day away.
"""

from datetime import timedelta

import polars as pl

from lakehouse.bars import BAR_RULES
from lakehouse.contract import Column, Table
from lakehouse.fields import (
    CLOSE,
    EVENT_AT,
    HIGH,
    INGESTED_AT,
    INSTRUMENT_ID,
    INTERVAL,
    KNOWN_AT,
    LOW,
    OPEN,
    OPEN_AT,
    TRADE_COUNT,
    VENUE,
    VOLUME,
    VOLUME_UNIT,
)
from lakehouse.model import Inputs, Model, Reach, Row
from lakehouse.rolled_bars import EDGE, bars_from_bars
from lakehouse.trade_bars import bars_from_trades

INTERVALS = ("1m", "5m", "1h", "1d")

COMPLETE = pl.col("coverage").is_null() | (pl.col("coverage") >= 0.9)
"""Bars fit to compute with. Not all of a bar's parts are asked for: some venues leave out parts without
trades."""

TABLE = Table(
    name="gold.candles",
    doc="Closed bars of all venues in the same intervals; every state of knowledge about a bar is a row.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        INTERVAL.but(values=INTERVALS),
        OPEN_AT,
        EVENT_AT.but(doc="End of the bar: the first moment that is no longer in it."),
        KNOWN_AT.but(
            doc="When the bar was known to be this: its end, or the last thing that it was made from."
        ),
        INGESTED_AT.but(doc="When the last thing that the bar was made from reached this lake."),
        OPEN,
        HIGH,
        LOW,
        CLOSE,
        VOLUME.but(
            nullable=True, doc="Amount traded; null where a part has none or the parts differ in unit."
        ),
        VOLUME_UNIT.but(nullable=True),
        Column(
            name="vwap",
            dtype=pl.Float64(),
            unit="quote",
            above=0,
            nullable=True,
            doc="Quote volume over base volume; null for bars built from candles and for amounts in contracts.",
        ),
        TRADE_COUNT,
        VOLUME.but(
            name="buy_volume",
            nullable=True,
            doc="Part of volume that takers bought; null where a side is not said.",
        ),
        Column(
            name="built_from",
            dtype=pl.String(),
            values=("trades", "candles"),
            doc="What the bar was made from.",
        ),
        Column(
            name="source_interval",
            dtype=pl.String(),
            nullable=True,
            doc="Interval of the candles that it was made from; null for trades.",
        ),
        Column(
            name="coverage",
            dtype=pl.Float64(),
            nullable=True,
            above=0,
            upper=1,
            doc="Share of the source candles that were there; null for trades, which cover the whole bar.",
        ),
    ),
    key=("venue", "instrument_id", "interval", "open_at", "known_at"),
    subject=("venue", "instrument_id", "interval"),
    owner="market-data",
    partition_by=("venue", "interval"),
    rules=BAR_RULES,
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.candles from all rows of silver.trades and silver.candles."""
    bar = ["venue", "instrument_id", "interval", "open_at"]
    traded = bars_from_trades(inputs["silver.trades"], INTERVALS)
    rolled = bars_from_bars(inputs["silver.candles"], INTERVALS)
    taken_over = traded.select(*bar, pl.col("known_at").alias("taken_over_at"))
    is_due = pl.col("taken_over_at").is_null() | (pl.col("known_at") < pl.col("taken_over_at"))
    due = rolled.join(taken_over, on=bar, how="left").filter(is_due)
    missing = {
        "vwap": pl.Float64,
        "buy_volume": pl.Float64,
        "source_interval": pl.String,
        "coverage": pl.Float64,
    }
    traded = traded.with_columns(
        pl.lit("trades").alias("built_from"), *_nulls(missing, "source_interval", "coverage")
    )
    due = due.with_columns(pl.lit("candles").alias("built_from"), *_nulls(missing, "vwap", "buy_volume"))
    return pl.concat([frame.select(TABLE.schema.names()) for frame in (traded, due)])


def _nulls(dtypes: dict[str, type[pl.DataType]], *names: str) -> list[pl.Expr]:
    return [pl.lit(None, dtype=dtypes[name]).alias(name) for name in names]


def _trades_inside(bar: Row, trades: pl.LazyFrame) -> pl.LazyFrame:
    is_inside = pl.col("event_at").is_between(bar["open_at"], bar["event_at"], closed="left")
    return trades.filter(is_inside) if bar["built_from"] == "trades" else trades.clear()


def _candles_inside(bar: Row, parts: pl.LazyFrame) -> pl.LazyFrame:
    is_inside = pl.col("open_at").is_between(bar["open_at"], bar["event_at"], closed="left")
    is_source = pl.col("interval") == pl.lit(bar["source_interval"])
    return parts.filter(is_inside & is_source) if bar["built_from"] == "candles" else parts.clear()


_SOURCES = (("silver.trades", _trades_inside), ("silver.candles", _candles_inside))

MODEL = Model(
    table=TABLE,
    groups=("venue", "instrument_id"),
    clock="open_at",
    reaches=tuple(
        Reach(
            input=name,
            by={"venue": "venue", "instrument_id": "instrument_id"},
            at="open_at",
            before=EDGE,
            after=EDGE,
            snap=timedelta(days=1),
            made_of=made_of,
        )
        for name, made_of in _SOURCES
    ),
    build=build,
)
