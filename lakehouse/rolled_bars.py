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
from lakehouse.exact import AMOUNT_DECIMALS, exact, inexact
from lakehouse.intervals import LENGTHS, dividing

EDGE = timedelta(days=1)
"""How late after a bar's end a sign that it is over may come: rows of the next UTC day suffice."""

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
    "source_interval",
    "coverage",
)


def bars_from_bars(bars: pl.LazyFrame, intervals: Iterable[str]) -> pl.LazyFrame:
    """Bars of the intervals from rows of silver.candles.

    Adds `source_interval` and `coverage`, the share of a bar's source bars that was there.
    """
    sources = pl.concat([_assign(bars, interval) for interval in intervals])
    parts = versions_at(sources, _moments(sources, bars), on=_BAR, fact=("source_interval", "source_open_at"))
    best = pl.struct(
        is_same=pl.col("source_interval") == pl.col("interval"),
        share="coverage",
        fineness=-_length("source_interval").dt.total_seconds(),
    )
    chosen = _roll_up(parts).group_by(*_BAR, MOMENT).agg(pl.all().max_by(best))
    return drop_repeats(chosen.rename({MOMENT: "known_at"}), identity=_BAR, contents=_CONTENTS)


def _assign(bars: pl.LazyFrame, interval: str) -> pl.LazyFrame:
    open_at = pl.col("open_at").dt.truncate(interval)
    closes_in_time = pl.col("event_at") <= open_at + LENGTHS[interval]
    return bars.filter(pl.col("interval").is_in(dividing(interval)), closes_in_time).select(
        *_INSTRUMENT,
        pl.lit(interval).alias("interval"),
        open_at.alias("open_at"),
        (open_at + LENGTHS[interval]).alias("event_at"),
        pl.col("interval").alias("source_interval"),
        pl.col("open_at").alias("source_open_at"),
        pl.col("event_at").alias("source_event_at"),
        *("known_at", "ingested_at", "open", "high", "low", "close", "volume", "volume_unit", "trade_count"),
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
            pl.when(pl.col("trade_count").is_not_null().all())
            .then(pl.col("trade_count").sum())
            .alias("trade_count"),
            pl.len().alias("bars"),
        )
        .with_columns(
            inexact(pl.col("volume")),
            coverage=pl.col("bars") / (_length("interval") / _length("source_interval")),
        )
        .drop("bars")
    )


def _length(column: str) -> pl.Expr:
    return pl.col(column).replace_strict(LENGTHS, return_dtype=pl.Duration("us"))
