"""Bars made from finer bars, in every version that the finer bars' revisions give them.

For each bar one source interval is used: the same interval where the venue delivers it, else the one that
covers the bar best, else the finest. A bar is not known before something proves that it is over: its own last
source bar, or any bar of the instrument that became known within `EDGE` after both its ends: the bar's and its
own (an old bar that is restated much later tells of its own day only).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import polars as pl

from lakehouse.asof import MOMENT, drop_repeats, versions_at
from lakehouse.exact import AMOUNT_DECIMALS, PRODUCT_DECIMALS, exact, inexact
from lakehouse.intervals import LENGTHS, dividing, end_of, open_of

EDGE = timedelta(days=1)
"""How late after a bar's end a sign that it is over may come: rows of the next UTC day suffice."""

ROLLED = {"vwap": pl.Float64(), "buy_volume": pl.Float64(), "outliers": pl.Int64()}
"""What bars of gold have beside those of silver.candles; null where they do not."""

_INSTRUMENT = ("venue", "instrument_id")
_BAR = (*_INSTRUMENT, "interval", "open_at", "event_at")
_CONTENTS = (
    "open",
    "high",
    "low",
    "close",
    "volume",
    "volume_unit",
    "trade_count",
    "vwap",
    "buy_volume",
    "outliers",
    "source_interval",
    "coverage",
)


def bars_from_bars(bars: pl.LazyFrame, intervals: Iterable[str], *, finer_only: bool = False) -> pl.LazyFrame:
    """Bars of the intervals from rows with the columns of silver.candles and those of `ROLLED`.

    Adds `source_interval`, `coverage`, the share of a bar's source bars that was there, and `is_empty`.
    With `finer_only` bars of the same interval are not looked at.
    """
    sources = pl.concat([_assign(bars, interval) for interval in intervals])
    if finer_only:
        sources = sources.filter(pl.col("source_interval") != pl.col("interval"))
    parts = versions_at(sources, _moments(sources, bars), on=_BAR, fact=("source_interval", "source_open_at"))
    best = pl.struct(
        is_same=pl.col("source_interval") == pl.col("interval"),
        share="coverage",
        fineness=-_length("source_interval").dt.total_seconds(),
    )
    chosen = _roll_up(parts).group_by(*_BAR, MOMENT).agg(pl.all().max_by(best))
    return drop_repeats(chosen.rename({MOMENT: "known_at"}), identity=_BAR, contents=_CONTENTS)


def _assign(bars: pl.LazyFrame, interval: str) -> pl.LazyFrame:
    open_at = open_of(pl.col("open_at"), interval)
    closes_in_time = pl.col("event_at") <= end_of(open_at, interval)
    return bars.filter(pl.col("interval").is_in(dividing(interval)), closes_in_time).select(
        *_INSTRUMENT,
        pl.lit(interval).alias("interval"),
        open_at.alias("open_at"),
        end_of(open_at, interval).alias("event_at"),
        pl.col("interval").alias("source_interval"),
        pl.col("open_at").alias("source_open_at"),
        pl.col("event_at").alias("source_event_at"),
        *("known_at", "ingested_at", "open", "high", "low", "close", "volume", "volume_unit", "trade_count"),
        *ROLLED,
    )


def _moments(sources: pl.LazyFrame, bars: pl.LazyFrame) -> pl.LazyFrame:
    is_last = pl.col("source_event_at") == pl.col("event_at")
    ends = sources.group_by(*_BAR).agg(last_known_at=pl.col("known_at").filter(is_last).min())
    is_prompt = pl.col("known_at") - pl.col("event_at") <= EDGE
    later = bars.filter(is_prompt).select(*_INSTRUMENT, later_known_at="known_at").sort("later_known_at")
    proven = ends.sort("event_at").join_asof(
        later,
        left_on="event_at",
        right_on="later_known_at",
        by=list(_INSTRUMENT),
        strategy="forward",
        tolerance=EDGE,
        check_sortedness=False,  # cannot be checked with `by`; both sides were sorted just above
    )
    over_at = pl.max_horizontal("event_at", pl.min_horizontal("last_known_at", "later_known_at"))
    is_proven = pl.any_horizontal(pl.col("last_known_at", "later_known_at").is_not_null())
    over = proven.filter(is_proven).select(*_BAR, over_at.alias("over_at"))
    moments = sources.select(*_BAR, "known_at").join(over, on=_BAR)
    return moments.select(*_BAR, pl.max_horizontal("known_at", "over_at").alias(MOMENT)).unique()


def _roll_up(parts: pl.LazyFrame) -> pl.LazyFrame:
    """One row for each bar, moment and source interval."""
    is_measured = pl.col("volume").is_not_null().all() & (pl.col("volume_unit").n_unique() == 1)
    return (
        parts.group_by(*_BAR, MOMENT, "source_interval")
        .agg(
            pl.col("ingested_at").max(),
            pl.col("open").min_by("source_open_at"),
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").max_by("source_open_at"),
            pl.when(is_measured)
            .then(exact(pl.col("volume"), decimals=AMOUNT_DECIMALS).sum())
            .alias("volume"),
            pl.when(is_measured).then(pl.col("volume_unit").min()).alias("volume_unit"),
            *(_sum_of_all(name) for name in ("trade_count", "outliers")),
            inexact(_sum_of_all("buy_volume", exact(pl.col("buy_volume"), decimals=AMOUNT_DECIMALS))),
            # What was not traded at has no price to weigh.
            _sum_of_all("counter", exact(_counter(), decimals=PRODUCT_DECIMALS)),
            pl.len().alias("bars"),
        )
        .with_columns(
            inexact(pl.col("volume")),
            _vwap().alias("vwap"),
            is_empty=pl.col("volume") == 0,
            coverage=pl.col("bars") / ((pl.col("event_at") - pl.col("open_at")) / _length("source_interval")),
        )
        .drop("bars", "counter")
    )


def _sum_of_all(name: str, values: pl.Expr | None = None) -> pl.Expr:
    """The sum, null where one of them is."""
    values = pl.col(name) if values is None else values
    return pl.when(values.is_not_null().all()).then(values.sum()).alias(name)


def _counter() -> pl.Expr:
    """What the volume is worth on the other side, by the bar's vwap; null where that is not known."""
    is_quote = pl.col("volume_unit") == "quote"
    worth = (
        pl.when(is_quote).then(pl.col("volume") / pl.col("vwap")).otherwise(pl.col("volume") * pl.col("vwap"))
    )
    return pl.when(pl.col("volume") == 0).then(0.0).otherwise(worth)


def _vwap() -> pl.Expr:
    volume, counter = inexact(pl.col("volume")), inexact(pl.col("counter"))
    ratio = pl.when(pl.col("volume_unit") == "quote").then(volume / counter).otherwise(counter / volume)
    is_traded = (volume > 0) & (counter > 0)
    return pl.when(is_traded).then(ratio.clip(pl.col("low"), pl.col("high")))


def _length(column: str) -> pl.Expr:
    return pl.col(column).replace_strict(LENGTHS, return_dtype=pl.Duration("us"))
