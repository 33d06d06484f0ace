"""gold.realised_volatility: variance of a UTC day from the returns within it, and what of it was no jump.

A day needs every bar of the sampling interval and the last one before it (288 returns of 5 minutes): a gap among them
is no small return. Each version of one of the bars gives a version of the day.

Realised variance is the sum of squared returns: T. G. Andersen and T. Bollerslev, Answering the skeptics: yes, standard
volatility models do provide accurate forecasts, International Economic Review 39 (1998). Bipower variation converges
to the part of it that is no jumps: O. E. Barndorff-Nielsen and N. Shephard, Power and bipower variation with stochastic
volatility and jumps, Journal of Financial Econometrics 2 (2004).

A change of a row of gold.candles dirties the UTC day that it is in, and that after it when it is the day's last.
"""

from datetime import timedelta
from math import pi

import polars as pl

from lakehouse.asof import MOMENT, drop_repeats, versions_at
from lakehouse.contract import Column, Table
from lakehouse.fields import EVENT_AT, INGESTED_AT, INSTRUMENT_ID, INTERVAL, KNOWN_AT, VENUE
from lakehouse.gold import candles
from lakehouse.intervals import LENGTHS
from lakehouse.model import Inputs, Model, Reach, Row

INTERVALS = ("5m", "1h")
"""Five minutes are usual: shorter ones count the bounce between bid and ask; an hour where bars are few."""

DAYS_A_YEAR = 365
"""Coins trade on every day."""

DAY = timedelta(days=1)

_VARIANCE = Column(
    name="realised_variance", dtype=pl.Float64(), lower=0, unit="squared log return, of the day", doc=""
)
_VOLATILITY = _VARIANCE.but(unit="log return, annualised")
_ESTIMATES = (
    "realised_variance",
    "bipower_variation",
    "jump_share",
    "realised_volatility",
    "bipower_volatility",
)

TABLE = Table(
    name="gold.realised_volatility",
    doc=f"Realised variance and bipower variation of whole UTC days; annualised by {DAYS_A_YEAR} days.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        INTERVAL.but(values=INTERVALS, doc="Length of the bars that returns are taken between."),
        EVENT_AT.but(doc="End of the UTC day."),
        KNOWN_AT.but(doc="When the day's bars were known to be these."),
        INGESTED_AT.but(doc="When the last of them reached this lake."),
        Column(name="returns", dtype=pl.Int64(), lower=2, unit="returns", doc="Returns within the day."),
        _VARIANCE.but(doc="Sum of squared log returns (Andersen and Bollerslev 1998)."),
        _VARIANCE.but(
            name="bipower_variation",
            doc="pi/2 n/(n-1) times the sum of products of neighbouring absolute returns (Barndorff-Nielsen and "
            "Shephard 2004): the variance without jumps.",
        ),
        Column(
            name="jump_share",
            dtype=pl.Float64(),
            unit="ratio",
            nullable=True,
            lower=0,
            upper=1,
            doc="Part of realised variance beyond bipower variation, 0 where there is none; null of a day without "
            "moves.",
        ),
        _VOLATILITY.but(
            name="realised_volatility", doc="Root of realised_variance over a year of such days."
        ),
        _VOLATILITY.but(name="bipower_volatility", doc="Root of bipower_variation over a year of such days."),
    ),
    key=("venue", "instrument_id", "interval", "event_at", "known_at"),
    subject=("venue", "instrument_id", "interval"),
    owner="research",
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.realised_volatility from all rows of gold.candles."""
    bars = inputs["gold.candles"].filter(candles.COMPLETE)
    return pl.concat([_days(bars, interval) for interval in INTERVALS])


def realised_variance(returns: pl.Expr) -> pl.Expr:
    """Sum of squared log returns."""
    return (returns**2).sum()


def bipower_variation(returns: pl.Expr) -> pl.Expr:
    """pi/2 times the sum of |r_i| |r_{i-1}|, times n / (n - 1) for the n - 1 products among n returns."""
    products = returns.abs() * returns.abs().shift(1)
    return pi / 2 * returns.len() / (returns.len() - 1) * products.sum()


def _days(bars: pl.LazyFrame, interval: str) -> pl.LazyFrame:
    day = ("venue", "instrument_id", "interval", "day_end")
    of_interval = bars.filter(pl.col("interval") == interval)
    own_day = pl.col("open_at").dt.truncate("1d") + DAY
    is_last = pl.col("event_at") == own_day
    within = of_interval.with_columns(day_end=own_day)
    before = of_interval.filter(is_last).with_columns(day_end=own_day + DAY)
    members = pl.concat([within, before])
    # Nothing can be said before the day is over: earlier moments are moved there.
    moments = members.select(*day, pl.max_horizontal("known_at", "day_end").alias(MOMENT)).unique()
    known = versions_at(members, moments, on=day, fact=("open_at",))
    closes = pl.col("close").sort_by("open_at")
    returns = (closes / closes.shift(1)).log().slice(1)
    expected = DAY // LENGTHS[interval]
    whole = (
        known.group_by(*day, MOMENT)
        .agg(
            (pl.len().cast(pl.Int64) - 1).alias("returns"),
            pl.col("ingested_at").max(),
            realised_variance(returns).alias("realised_variance"),
            bipower_variation(returns).alias("bipower_variation"),
        )
        .filter(pl.col("returns") == expected)
    )
    variance, continuous = pl.col("realised_variance"), pl.col("bipower_variation")
    rows = whole.rename({"day_end": "event_at", MOMENT: "known_at"}).with_columns(
        pl.when(variance > 0).then((1 - continuous / variance).clip(lower_bound=0)).alias("jump_share"),
        (variance * DAYS_A_YEAR).sqrt().alias("realised_volatility"),
        (continuous * DAYS_A_YEAR).sqrt().alias("bipower_volatility"),
    )
    return drop_repeats(
        rows.select(TABLE.schema.names()), identity=TABLE.identity, contents=("returns", *_ESTIMATES)
    )


def _bars_of_the_day(row: Row, bars: pl.LazyFrame) -> pl.LazyFrame:
    begins = row["event_at"] - DAY
    is_inside = pl.col("event_at").is_between(begins, row["event_at"])
    return bars.filter(is_inside)


_SUBJECT = ("venue", "instrument_id", "interval")

MODEL = Model(
    table=TABLE,
    groups=_SUBJECT,
    clock="event_at",
    reaches=tuple(
        Reach(
            input="gold.candles",
            by={name: name for name in _SUBJECT},
            before=DAY,
            where=(pl.col("interval") == interval) & candles.COMPLETE,
            made_of=_bars_of_the_day,
        )
        for interval in INTERVALS
    ),
    build=build,
)
