"""gold.activity_bars: bars of so many trades, so much base volume or so much quote value, instead of so much time.

They sample more where more is traded (M. Lopez de Prado, Advances in Financial Machine Learning, 2018, chapter 2: tick,
volume and dollar bars). Each UTC day begins anew, so that what comes late changes its day only. Bar n holds the trades
before which at least n, and less than n + 1, times the size was traded since midnight; the trade that fills a bar is in
it whole. The last bar of a day is cut off by midnight (`is_full` false).

Whatever is missing would shift all bars after it. So a day is told up to its first hole: from a recorded trade of the
day before on, ids must count on, or, where fewer than half of them do, no silence be longer than `SILENCE`
(`lakehouse.trade_bars`). It rests on a trade being known when it happens.

A change of silver.trades dirties its instrument in that day and in the days beside it.
"""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from lakehouse.bars import BAR_RULES
from lakehouse.contract import Column, Table
from lakehouse.exact import AMOUNT_DECIMALS, PRODUCT_DECIMALS, exact, inexact
from lakehouse.fields import (
    CLOSE,
    EVENT_AT,
    HIGH,
    INGESTED_AT,
    INSTRUMENT_ID,
    KNOWN_AT,
    LOW,
    OPEN,
    OPEN_AT,
    TRADE_COUNT,
    VENUE,
    VOLUME,
)
from lakehouse.model import Inputs, Model, Reach, Row
from lakehouse.trade_bars import EDGE, SILENCE

SIZES: Mapping[str, tuple[int, ...]] = {"tick": (1_000,), "volume": (100,), "dollar": (1_000_000,)}
"""How large the stored bars are: in trades, in base, in quote."""

_KEY = ("venue", "instrument_id", "kind", "size", "day", "number")
_INSTRUMENT = ("venue", "instrument_id")
_DAY = (*_INSTRUMENT, "day")
_ENDLESS = timedelta(days=9999)
_UNITS = 10**8
"""Base and quote are counted in hundred millionths."""

TABLE = Table(
    name="gold.activity_bars",
    doc="Bars of equal activity within each UTC day, of instruments whose trades are counted in base.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        Column(
            name="kind",
            dtype=pl.String(),
            values=tuple(SIZES),
            doc="What fills a bar: trades, base volume, quote value (dollar, whatever the quote currency is).",
        ),
        Column(
            name="size",
            dtype=pl.Float64(),
            above=0,
            unit="trades, base or quote",
            doc="How much fills a bar.",
        ),
        Column(name="day", dtype=pl.Date(), doc="The UTC day that its bars are counted from."),
        Column(
            name="number",
            dtype=pl.Int64(),
            lower=0,
            doc="Number of the bar in its day, from 0; one may be skipped.",
        ),
        OPEN_AT.but(doc="When its first trade was matched."),
        EVENT_AT.but(doc="When its last trade was matched, or midnight where that cuts it off."),
        KNOWN_AT.but(
            doc="When the trade that filled it was known; of a cut one, the first trade after midnight."
        ),
        INGESTED_AT.but(doc="When the last trade of its day up to its end reached this lake."),
        OPEN,
        HIGH,
        LOW,
        CLOSE,
        VOLUME.but(unit="base"),
        VOLUME.but(name="value", unit="quote", doc="Price times amount, added up."),
        CLOSE.but(name="vwap", doc="Value over volume."),
        TRADE_COUNT.but(nullable=False, lower=1, doc="Trades inside."),
        VOLUME.but(
            name="buy_volume",
            unit="base",
            nullable=True,
            doc="Part of volume that takers bought; null where a side is not said.",
        ),
        Column(
            name="is_full", dtype=pl.Boolean(), doc="False for the last of a day, which midnight cuts off."
        ),
    ),
    key=(*_KEY, "known_at"),
    subject=("venue", "instrument_id", "kind", "size"),
    owner="research",
    partition_by=("venue",),
    rules=BAR_RULES,
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.activity_bars from all rows of silver.trades."""
    trades = _whole(_in_order(inputs["silver.trades"])).cache()
    return pl.concat([_bars(trades, kind, size) for kind, sizes in SIZES.items() for size in sizes])


def _in_order(trades: pl.LazyFrame) -> pl.LazyFrame:
    """What bars need of the trades that are counted in base, in the order in which they were matched."""
    amount, side = pl.col("amount"), pl.col("side")
    return (
        trades.filter(pl.col("amount_unit") == "base")
        .select(
            *_INSTRUMENT,
            *("event_at", "known_at", "ingested_at", "price", "amount", "trade_id"),
            id=pl.col("trade_id").cast(pl.Int64, strict=False),
            day=pl.col("event_at").dt.date(),
            bought=pl.when(side == "buy").then(amount).when(side.is_not_null()).then(0.0),
        )
        .sort(*_INSTRUMENT, "event_at", "id", "trade_id")
        .drop("trade_id")
    )


def _whole(trades: pl.LazyFrame) -> pl.LazyFrame:
    """The trades of each day up to its first hole; a day without a trade just before it has none.

    Adds `next_known_at`, when the trade after was known, and `is_last`: it is of another day, with no hole between.
    """

    def neighbour(name: str, by: int) -> pl.Expr:
        # By hand: a window over so many rows takes several times the memory.
        is_same = pl.all_horizontal(pl.col(one) == pl.col(one).shift(by) for one in _INSTRUMENT)
        return pl.when(is_same).then(pl.col(name).shift(by))

    linked = trades.with_columns(
        follows_on=(pl.col("id") == neighbour("id", 1) + 1).fill_null(value=False),
        goes_on=(pl.col("id") + 1 == neighbour("id", -1)).fill_null(value=False),
        silence=(pl.col("event_at") - neighbour("event_at", 1)).fill_null(_ENDLESS),
        silence_after=neighbour("event_at", -1) - pl.col("event_at"),
        next_day=neighbour("day", -1),
        next_known_at=neighbour("known_at", -1),
    ).drop("id")
    so_far = linked.with_columns(
        ways=pl.int_range(1, pl.len() + 1).over(_DAY),
        counted=pl.col("follows_on").cast(pl.Int64).cum_sum().over(_DAY),
        silence=pl.col("silence").cum_max().over(_DAY),
        known_at=pl.col("known_at").cum_max().over(_DAY),
        ingested_at=pl.col("ingested_at").cum_max().over(_DAY),
    )
    is_counted = (pl.col("counted") == pl.col("ways")) & (pl.col("silence") <= EDGE)
    is_steady = (pl.col("counted") * 2 < pl.col("ways")) & (pl.col("silence") <= SILENCE)
    is_followed = (is_counted & pl.col("goes_on") & (pl.col("silence_after") <= EDGE)) | (
        is_steady & (pl.col("silence_after") <= SILENCE)
    )
    return (
        so_far.with_columns(
            is_whole=is_counted | is_steady, is_last=(pl.col("next_day") > pl.col("day")) & is_followed
        )
        .with_columns(holes=(~pl.col("is_whole")).cast(pl.Int64).cum_sum().over(_DAY))
        .filter(pl.col("holes") == 0)
        .select(
            *_DAY,
            *("event_at", "known_at", "ingested_at", "price", "amount", "bought"),
            *("next_known_at", "is_last"),
        )
    )


def _bars(trades: pl.LazyFrame, kind: str, size: float) -> pl.LazyFrame:
    price, amount = pl.col("price"), pl.col("amount")
    traded = {"tick": pl.lit(1), "volume": amount, "dollar": amount * price}[kind]
    full = int(size * _UNITS)
    numbered = (
        # Whole numbers: sums of floats would fill a bar of 1.0 with eleven times 0.1.
        trades.with_columns(traded=(traded * _UNITS).round().cast(pl.Int128))
        .with_columns(after=pl.col("traded").cum_sum().over(_DAY))
        .with_columns(number=((pl.col("after") - pl.col("traded")) // full).cast(pl.Int64))
    )
    grouped = numbered.group_by(*_DAY, "number", maintain_order=True).agg(
        open_at=pl.col("event_at").first(),
        event_at=pl.col("event_at").last(),
        known_at=pl.col("known_at").last(),
        next_known_at=pl.col("next_known_at").last(),
        ingested_at=pl.col("ingested_at").last(),
        open=price.first(),
        high=price.max(),
        low=price.min(),
        close=price.last(),
        volume=inexact(exact(amount, decimals=AMOUNT_DECIMALS).sum()),
        value=inexact(exact(amount * price, decimals=PRODUCT_DECIMALS).sum()),
        buy_volume=inexact(exact(pl.col("bought"), decimals=AMOUNT_DECIMALS).sum()),
        has_sides=pl.col("bought").is_not_null().all(),
        trade_count=pl.len().cast(pl.Int64),
        is_full=pl.col("after").last() >= (pl.col("number").first() + 1).cast(pl.Int128) * full,
        is_last=pl.col("is_last").last().fill_null(value=False),
    )
    is_cut = ~pl.col("is_full")
    midnight = (pl.col("day") + timedelta(days=1)).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    return grouped.filter(pl.any_horizontal("is_full", "is_last")).select(
        *_INSTRUMENT,
        pl.lit(kind).alias("kind"),
        pl.lit(float(size)).alias("size"),
        "day",
        "number",
        "open_at",
        pl.when(is_cut).then(midnight).otherwise("event_at").alias("event_at"),
        pl.when(is_cut)
        .then(pl.max_horizontal("known_at", "next_known_at"))
        .otherwise("known_at")
        .alias("known_at"),
        *("ingested_at", "open", "high", "low", "close", "volume", "value"),
        (pl.col("value") / pl.col("volume")).clip(pl.col("low"), pl.col("high")).alias("vwap"),
        "trade_count",
        pl.when("has_sides").then("buy_volume").alias("buy_volume"),
        "is_full",
    )


def _trades_of_the_day(bar: Row, trades: pl.LazyFrame) -> pl.LazyFrame:
    return trades.filter(pl.col("event_at").is_between(bar["open_at"], bar["event_at"]))


MODEL = Model(
    table=TABLE,
    groups=_INSTRUMENT,
    clock="open_at",
    reaches=(
        Reach(
            input="silver.trades",
            by={name: name for name in _INSTRUMENT},
            at="open_at",
            before=EDGE,
            after=EDGE,
            snap=timedelta(days=1),
            made_of=_trades_of_the_day,
        ),
    ),
    build=build,
)
