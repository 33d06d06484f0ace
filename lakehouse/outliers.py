"""Trades that no level of price around them agrees with, and how many of them are in a bar. Nothing is left out for it.

The identifier is Hampel's: away from the median by more than a multiple of the median absolute deviation (MAD), which
is scaled by 1.4826 to the standard deviation of a normal distribution (L. Davies and U. Gather, The identification of
multiple outliers, Journal of the American Statistical Association 88, 1993). The multiple of 10 is that of rule Q4 for
single prices in O. E. Barndorff-Nielsen, P. R. Hansen, A. Lunde and N. Shephard, Realized kernels in practice: trades
and quotes, Econometrics Journal 12, 2009. The floor is there because prices that stand still have no deviation, as the
granularity is in C. T. Brownlees and G. M. Gallo, Financial econometric analysis at ultra-high frequency, Computational
Statistics and Data Analysis 51, 2006.

A jump is no outlier: what comes before it agrees with the minute before, what comes after with the minute after.
Flagged is a trade that is away from the level of the minute before, from that of the minute after, and from that of its
own minute, if enough was traded there to say so: a crash that many trades agree on is a price.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from lakehouse.intervals import open_of

NEAR = timedelta(minutes=5)
"""How far the minutes before and after may lie away; further ones say nothing about a trade."""

_SCALE = 1.4826
_INSTRUMENT = ("venue", "instrument_id")
_MINUTE = (*_INSTRUMENT, "minute")
_BAR = (*_INSTRUMENT, "interval", "open_at")


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """From where on a trade is an outlier: both limits must be passed."""

    deviations: float = 10.0
    """Scaled MADs from the median."""
    floor: float = 0.005
    """Share of the median."""
    at_least: int = 5
    """Trades that a minute needs to have a level."""


THRESHOLD = Threshold()


def outliers(trades: pl.LazyFrame, threshold: Threshold = THRESHOLD) -> pl.LazyFrame:
    """The flagged rows of silver.trades, with the median (`level`) that is nearest to the price and its `mad`.

    A flag is known when a trade tells that the minute after is over, which may take `NEAR` too.
    """
    timed = trades.with_columns(minute=open_of(pl.col("event_at"), "1m"))
    minutes = _minutes(timed)
    suspects = minutes.filter(_may_hold_one(threshold))
    wanted = pl.concat(
        [suspects.select(*_INSTRUMENT, minute=name) for name in ("minute", "minute_before", "minute_after")]
    ).unique()
    levels = _levels(timed.join(wanted, on=list(_MINUTE), how="semi"), threshold)
    told = suspects.select(*_MINUTE, "minute_before", "minute_after", "over_known_at")
    for name in ("before", "after"):
        side = levels.rename({each: f"{each}_{name}" for each in ("minute", *_LEVEL)})
        told = told.join(side, on=[*_INSTRUMENT, f"minute_{name}"])
    told = told.join(levels, on=list(_MINUTE), how="left")
    return (
        timed.select(*_MINUTE, "trade_id", "event_at", "known_at", "ingested_at", "price")
        .join(told, on=list(_MINUTE))
        .filter(pl.all_horizontal(_is_away(side, threshold) for side in _SIDES))
        .select(
            *_INSTRUMENT,
            "trade_id",
            "event_at",
            pl.max_horizontal("over_known_at", *_of_all_sides("last_known_at")).alias("known_at"),
            pl.max_horizontal("ingested_at", *_of_all_sides("last_ingested_at")).alias("ingested_at"),
            "price",
            _nearest("level").alias("level"),
            _nearest("mad").alias("mad"),
        )
    )


def with_outliers(bars: pl.LazyFrame, flagged: pl.LazyFrame, intervals: Iterable[str]) -> pl.LazyFrame:
    """Bars of the intervals with `outliers`, the number of flagged trades inside; each later flag makes a version.

    `flagged` are rows of gold.trade_outliers.
    """
    first = flagged.group_by(*_INSTRUMENT, "event_at", "trade_id").agg(
        pl.col("known_at", "ingested_at").min_by("known_at").name.prefix("flag_")
    )
    marks = pl.concat(
        [
            first.with_columns(interval=pl.lit(interval), open_at=open_of(pl.col("event_at"), interval)).drop(
                "event_at", "trade_id"
            )
            for interval in intervals
        ]
    )
    moment = pl.max_horizontal("known_at", "flag_known_at").alias("known_at")
    states = (
        bars.select(*_BAR, "known_at")
        .join(marks, on=list(_BAR))
        .group_by(*_BAR, moment)
        .agg(pl.len().cast(pl.Int64).alias("outliers"), pl.col("flag_ingested_at").max())
        .sort(*_BAR, "known_at")
        .with_columns(
            pl.col("outliers").cum_sum().over(*_BAR), pl.col("flag_ingested_at").cum_max().over(*_BAR)
        )
    )
    names = [*bars.collect_schema().names(), "outliers"]
    clean = bars.join(states, on=[*_BAR, "known_at"], how="anti").with_columns(
        outliers=pl.lit(0, dtype=pl.Int64)
    )
    spotted = (
        bars.drop("known_at")
        .join(states, on=list(_BAR))
        .with_columns(ingested_at=pl.max_horizontal("ingested_at", "flag_ingested_at"))
    )
    return pl.concat([clean.select(names), spotted.select(names)])


_LEVEL = ("level", "mad", "last_known_at", "last_ingested_at")
_SIDES = ("", "_before", "_after")


def _of_all_sides(name: str) -> list[str]:
    return [f"{name}{side}" for side in _SIDES]


def _minutes(timed: pl.LazyFrame) -> pl.LazyFrame:
    """Each minute with trades, with what was traded in the one before and the one after."""
    price = pl.col("price")
    minutes = timed.group_by(*_MINUTE).agg(
        low=price.min(), high=price.max(), trades=pl.len(), first_known_at=pl.col("known_at").min()
    )
    beside = [
        pl.col(name).shift(by).over(*_INSTRUMENT).alias(f"{name}_{side}")
        for name in ("minute", "low", "high", "trades")
        for side, by in (("before", 1), ("after", -1))
    ]
    beside += [
        pl.col(name).shift(-2).over(*_INSTRUMENT).alias(f"over_{said}")
        for name, said in (("minute", "minute"), ("first_known_at", "known_at"))
    ]
    return minutes.sort(*_MINUTE).with_columns(beside)


def _may_hold_one(threshold: Threshold) -> pl.Expr:
    """What no minute with an outlier can fail: its extremes are far from all that was traded on either side."""

    def is_far(side: str) -> pl.Expr:
        is_above = pl.col("high") > pl.col(f"low_{side}") * (1 + threshold.floor)
        is_below = pl.col("low") < pl.col(f"high_{side}") * (1 - threshold.floor)
        distance = (pl.col(f"minute_{side}") - pl.col("minute")).abs()
        return (is_above | is_below) & (distance <= NEAR) & (pl.col(f"trades_{side}") >= threshold.at_least)

    is_over = pl.col("over_minute") - pl.col("minute_after") <= NEAR
    return is_far("before") & is_far("after") & is_over


def _levels(timed: pl.LazyFrame, threshold: Threshold) -> pl.LazyFrame:
    price = pl.col("price")
    return (
        timed.group_by(*_MINUTE)
        .agg(
            pl.len().alias("trades"),
            price.median().alias("level"),
            (price - price.median()).abs().median().alias("mad"),
            pl.col("known_at").max().alias("last_known_at"),
            pl.col("ingested_at").max().alias("last_ingested_at"),
        )
        .filter(pl.col("trades") >= threshold.at_least)
        .drop("trades")
    )


def _is_away(side: str, threshold: Threshold) -> pl.Expr:
    """Whether the price is away from a level; a minute without one does not say."""
    level, mad = pl.col(f"level{side}"), pl.col(f"mad{side}")
    limit = pl.max_horizontal(threshold.deviations * _SCALE * mad, threshold.floor * level)
    return ((pl.col("price") - level).abs() > limit).fill_null(value=True)


def _nearest(name: str) -> pl.Expr:
    """That figure of the level nearest to the price; of equally near ones its own minute comes first, then before."""
    sides = [
        pl.struct(
            distance=(pl.col("price") - pl.col(f"level{side}")).abs().fill_null(float("inf")),
            place=pl.lit(place),
            figure=pl.col(f"{name}{side}"),
        )
        for place, side in enumerate(_SIDES)
    ]
    return pl.concat_list(sides).list.sort().list.first().struct.field("figure")
