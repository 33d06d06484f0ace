"""gold.calendar_candles: bars of weeks (from Monday) and months of the UTC calendar, from the days of gold.candles.

Only days that are fit to compute with take part, and `coverage` says how many of them were there. A bar has as many
versions as its days give it, and none before something proves that it is over (`lakehouse.rolled_bars`).

A change of a day of gold.candles dirties the weeks and months that begin in the month before it, and those that the
days around it may prove to be over.
"""

from datetime import timedelta

import polars as pl

from lakehouse.bars import BAR_RULES
from lakehouse.contract import Table
from lakehouse.expects import Apart
from lakehouse.gold import candles
from lakehouse.intervals import CALENDAR, end_of
from lakehouse.model import Inputs, Model, Reach, Row
from lakehouse.rolled_bars import EDGE, bars_from_bars

INTERVALS = tuple(CALENDAR)
_LONGEST = timedelta(days=31)
_UNLIKE = ("built_from",)

TABLE = Table(
    name="gold.calendar_candles",
    doc="Closed bars of weeks and months of all venues; every state of knowledge about a bar is a row.",
    columns=tuple(
        column.but(values=INTERVALS) if column.name == "interval" else column
        for column in candles.TABLE.columns
        if column.name not in _UNLIKE
    ),
    key=candles.TABLE.key,
    subject=candles.TABLE.subject,
    owner="market-data",
    rules=BAR_RULES,
    expects=(
        Apart(
            name="bars_apart",
            meaning="No bar begins before the one before it is over",
            within=candles.TABLE.subject,
        ),
    ),
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.calendar_candles from all rows of gold.candles."""
    days = inputs["gold.candles"].filter(_IS_DAY)
    return bars_from_bars(days, INTERVALS).select(TABLE.schema.names())


def _days_inside(bar: Row, days: pl.LazyFrame) -> pl.LazyFrame:
    return days.filter(pl.col("open_at") < end_of(pl.lit(bar["open_at"]), bar["interval"]))


_IS_DAY = (pl.col("interval") == "1d") & candles.COMPLETE

MODEL = Model(
    table=TABLE,
    groups=("venue", "instrument_id"),
    clock="open_at",
    reaches=(
        Reach(
            input="gold.candles",
            by={"venue": "venue", "instrument_id": "instrument_id"},
            at="open_at",
            of="open_at",
            after=_LONGEST + EDGE,
            where=_IS_DAY,
            made_of=_days_inside,
        ),
    ),
    build=build,
)
