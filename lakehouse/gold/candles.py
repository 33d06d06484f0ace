"""gold.candles: bars of 1 s to 1 d, from trades where they cover the bar, else from delivered candles.

Weeks and months are in gold.calendar_candles, made from the days of this table: a month made from its trades would have
to be read whole for every new one. Seconds are many, so they are stored for some instruments only, from trades alone.

A bar without trades is a row where it is certain that there was none: a volume of zero and the price before. No trade
is left out; `outliers` counts those that gold.trade_outliers flags.

A bar has as many versions as there were states of what is known of it. Where a trade-built bar is known, it takes the
place of the candle-built one from that moment on.

A change of an input dirties the bars of its venue and instrument in the UTC day of the changed row's event_at and in
the days beside it: what proves a bar to be whole and over may be a day away.
"""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from lakehouse.bars import BAR_RULES, BARS_ON_GRID
from lakehouse.contract import Column, Table
from lakehouse.expects import FinerBarsAddUp, PeersAgree
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
from lakehouse.outliers import with_outliers
from lakehouse.rolled_bars import EDGE, ROLLED, bars_from_bars
from lakehouse.trade_bars import bars_from_trades

INTERVALS = ("1m", "5m", "15m", "1h", "1d")
"""Stored for every instrument; any of `lakehouse.intervals.LENGTHS` may be."""

SECONDS = ("1s", "5s")
SECONDS_OF = (("binance", "BTC/USDT"), ("kraken", "BTC/USD"))
"""The venues and instruments of which bars of `SECONDS` are stored too."""

COMPLETE = pl.col("coverage").is_null() | (pl.col("coverage") >= 0.9)
"""Bars fit to compute with. Not all of a bar's parts are asked for: some venues leave out parts without
trades."""

TABLE = Table(
    name="gold.candles",
    doc="Closed bars of all venues in the same intervals; every state of knowledge about a bar is a row.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        INTERVAL.but(values=(*SECONDS, *INTERVALS)),
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
        Column(
            name="is_empty",
            dtype=pl.Boolean(),
            nullable=True,
            doc="Nothing was traded: the prices are the close before. Null where the volume is not known.",
        ),
        Column(
            name="outliers",
            dtype=pl.Int64(),
            nullable=True,
            lower=0,
            unit="trades",
            doc="Trades inside that gold.trade_outliers flags; they are in all figures. Null for candles.",
        ),
    ),
    key=("venue", "instrument_id", "interval", "open_at", "known_at"),
    subject=("venue", "instrument_id", "interval"),
    owner="market-data",
    partition_by=("venue", "interval"),
    rules=BAR_RULES,
    expects=(
        BARS_ON_GRID,
        FinerBarsAddUp(
            name="minutes_make_hours",
            meaning="An hour has the highest high, the lowest low and the volume of its minutes",
            finer="1m",
            coarser="1h",
        ),
        FinerBarsAddUp(
            name="hours_make_days",
            meaning="A day has the highest high, the lowest low and the volume of its hours",
            finer="1h",
            coarser="1d",
        ),
        PeersAgree(
            name="venues_agree",
            meaning="A venue's closes are usually within 5% of the median of all venues in the same minute",
            value="close",
            peer="venue",
            market=("instrument_id",),
            moment="open_at",
            where={"interval": "1m", "is_empty": False},
            bound_bps=500,
        ),
    ),
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.candles from all rows of silver.trades, silver.candles and gold.trade_outliers."""
    bar = ["venue", "instrument_id", "interval", "open_at"]
    trades = inputs["silver.trades"]
    of_minutes = bars_from_trades(trades, INTERVALS)
    of_seconds = bars_from_trades(trades.filter(_has_seconds()), SECONDS, step="1s")
    traded = pl.concat([of_minutes, of_seconds]).cache()
    taken_over = traded.select(*bar, pl.col("known_at").alias("taken_over_at"))
    rolled = bars_from_bars(inputs["silver.candles"].with_columns(_nulls(ROLLED)), INTERVALS)
    is_due = pl.col("taken_over_at").is_null() | (pl.col("known_at") < pl.col("taken_over_at"))
    due = (
        rolled.join(taken_over, on=bar, how="left").filter(is_due).with_columns(built_from=pl.lit("candles"))
    )
    flagged = with_outliers(traded, inputs["gold.trade_outliers"], (*SECONDS, *INTERVALS)).with_columns(
        _nulls({"source_interval": pl.String(), "coverage": pl.Float64()}), built_from=pl.lit("trades")
    )
    return pl.concat([frame.select(TABLE.schema.names()) for frame in (flagged, due)])


def _has_seconds() -> pl.Expr:
    return pl.any_horizontal(
        (pl.col("venue") == venue) & (pl.col("instrument_id") == instrument_id)
        for venue, instrument_id in SECONDS_OF
    )


def _nulls(dtypes: Mapping[str, pl.DataType]) -> list[pl.Expr]:
    return [pl.lit(None, dtype=dtype).alias(name) for name, dtype in dtypes.items()]


def _trades_inside(bar: Row, trades: pl.LazyFrame) -> pl.LazyFrame:
    """Of a bar without trades the one whose price it has."""
    if bar["built_from"] != "trades":
        return trades.clear()
    if bar["is_empty"]:
        number = pl.col("trade_id").cast(pl.Int64, strict=False)
        before = trades.filter(pl.col("event_at") < bar["open_at"])
        return before.sort("event_at", number, "trade_id", nulls_last=False).tail(1)
    return trades.filter(pl.col("event_at").is_between(bar["open_at"], bar["event_at"], closed="left"))


def _flags_inside(bar: Row, flags: pl.LazyFrame) -> pl.LazyFrame:
    return flags.clear() if bar["is_empty"] else _trades_inside(bar, flags)


def _candles_inside(bar: Row, parts: pl.LazyFrame) -> pl.LazyFrame:
    is_inside = pl.col("open_at").is_between(bar["open_at"], bar["event_at"], closed="left")
    is_source = pl.col("interval") == pl.lit(bar["source_interval"])
    return parts.filter(is_inside & is_source) if bar["built_from"] == "candles" else parts.clear()


_SOURCES = (
    ("silver.trades", _trades_inside),
    ("silver.candles", _candles_inside),
    ("gold.trade_outliers", _flags_inside),
)

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
