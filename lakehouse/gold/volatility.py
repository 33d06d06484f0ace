"""gold.volatility: five estimators of annualised volatility over rolling windows of bars.

A window of n bars needs the bar before it too (for the first return) and no gap among the n + 1; each version
of one of its bars gives a version of the window.

A change of a row of gold.candles dirties the windows of its venue, instrument and interval that end within
max(WINDOWS) bars from it.
"""

from datetime import timedelta
from math import log

import polars as pl

from lakehouse.asof import MOMENT, drop_repeats, versions_at
from lakehouse.contract import Column, Table
from lakehouse.fields import EVENT_AT, INGESTED_AT, INSTRUMENT_ID, INTERVAL, KNOWN_AT, VENUE
from lakehouse.gold import candles
from lakehouse.intervals import LENGTHS
from lakehouse.model import Inputs, Model, Reach, Row

INTERVALS = ("1h", "1d")
WINDOWS = (7, 30)

YEAR = timedelta(days=365)
"""Coins trade on every hour of the year."""

_VOLATILITY = Column(
    name="volatility", dtype=pl.Float64(), lower=0, unit="log return, annualised", doc="Standard deviation."
)
_ESTIMATES = ("close_to_close", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang")

TABLE = Table(
    name="gold.volatility",
    doc="Annualised volatility (365 days of 24 h) of each instrument over full windows of consecutive bars.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        INTERVAL.but(values=INTERVALS),
        Column(
            name="window", dtype=pl.Int64(), lower=2, unit="bars", doc="Number of bars that are looked at."
        ),
        EVENT_AT.but(doc="End of the window's last bar."),
        KNOWN_AT.but(doc="When the window's bars were known to be these."),
        INGESTED_AT.but(doc="When the last thing that the window was made from reached this lake."),
        _VOLATILITY.but(name="close_to_close", doc="Sample deviation of log returns between closes."),
        _VOLATILITY.but(name="parkinson", doc="From high and low (Parkinson 1980)."),
        _VOLATILITY.but(name="garman_klass", doc="From open, high, low, close (Garman and Klass 1980)."),
        _VOLATILITY.but(name="rogers_satchell", doc="Free of drift (Rogers and Satchell 1991)."),
        _VOLATILITY.but(
            name="yang_zhang", doc="Free of drift, with the jumps between bars (Yang and Zhang 2000)."
        ),
    ),
    key=("venue", "instrument_id", "interval", "window", "event_at", "known_at"),
    subject=("venue", "instrument_id", "interval"),
    owner="research",
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.volatility from all rows of gold.candles; incomplete bars break a window."""
    bars = inputs["gold.candles"].filter(candles.COMPLETE)
    return pl.concat([_windows(bars, interval, bars_in=n) for interval in INTERVALS for n in WINDOWS])


def close_to_close() -> pl.Expr:
    """Variance per bar: sample variance of ln(C_i / C_{i-1})."""
    return _return("close", since="close").var()


def parkinson() -> pl.Expr:
    """Variance per bar: mean of ln(H/L)^2 / (4 ln 2).

    M. Parkinson, The extreme value method for estimating the variance of the rate of return, Journal of
    Business 53 (1980).
    """
    return _inside(_log("high", "low") ** 2).mean() / (4 * log(2))


def garman_klass() -> pl.Expr:
    """Variance per bar: mean of ln(H/L)^2 / 2 - (2 ln 2 - 1) ln(C/O)^2.

    M. B. Garman and M. J. Klass, On the estimation of security price volatilities from historical data,
    Journal of Business 53 (1980), in the simplified form.
    """
    return _inside(0.5 * _log("high", "low") ** 2 - (2 * log(2) - 1) * _log("close", "open") ** 2).mean()


def rogers_satchell() -> pl.Expr:
    """Variance per bar: mean of ln(H/C) ln(H/O) + ln(L/C) ln(L/O).

    L. C. G. Rogers and S. E. Satchell, Estimating variance from high, low and closing prices, Annals of
    Applied Probability 1 (1991).
    """
    up = _log("high", "close") * _log("high", "open")
    down = _log("low", "close") * _log("low", "open")
    return _inside(up + down).mean()


def yang_zhang(bars_in: int) -> pl.Expr:
    """Variance per bar: V_open + k V_close + (1 - k) V_RS with k = 0.34 / (1.34 + (n + 1) / (n - 1)).

    V_open and V_close are the sample variances of ln(O_i / C_{i-1}) and ln(C_i / O_i).
    D. Yang and Q. Zhang, Drift-independent volatility estimation based on high, low, open, and close prices,
    Journal of Business 73 (2000).
    """
    k = 0.34 / (1.34 + (bars_in + 1) / (bars_in - 1))
    within = _inside(_log("close", "open")).var()
    return _return("open", since="close").var() + k * within + (1 - k) * rogers_satchell()


def _windows(bars: pl.LazyFrame, interval: str, *, bars_in: int) -> pl.LazyFrame:
    length = LENGTHS[interval]
    window = ("venue", "instrument_id", "interval", "window_end")
    ends = [step * length for step in range(bars_in + 1)]
    members = (
        bars.filter(pl.col("interval") == interval)
        .with_columns(window_end=pl.lit(pl.Series([ends], dtype=pl.List(pl.Duration("us")))).first())
        .explode("window_end")
        .with_columns(window_end=pl.col("event_at") + pl.col("window_end"))
    )
    # Nothing can be said before the last bar is over: earlier moments are moved there.
    moments = members.select(*window, pl.max_horizontal("known_at", "window_end").alias(MOMENT)).unique()
    known = versions_at(members, moments, on=window, fact=("open_at",))
    per_year = YEAR / length
    variances = {
        "close_to_close": close_to_close(),
        "parkinson": parkinson(),
        "garman_klass": garman_klass(),
        "rogers_satchell": rogers_satchell(),
        "yang_zhang": yang_zhang(bars_in),
    }
    estimates = [(v.clip(lower_bound=0) * per_year).sqrt().alias(name) for name, v in variances.items()]
    rows = (
        known.group_by(*window, MOMENT)
        .agg(pl.len().alias("bars"), pl.col("ingested_at").max(), *estimates)
        .filter(pl.col("bars") == bars_in + 1)
        .with_columns(pl.lit(bars_in, dtype=pl.Int64).alias("window"))
        .rename({"window_end": "event_at", MOMENT: "known_at"})
        .select(TABLE.schema.names())
    )
    return drop_repeats(rows, identity=TABLE.identity, contents=_ESTIMATES)


def _log(over: str, under: str) -> pl.Expr:
    return (pl.col(over) / pl.col(under)).log()


def _inside(per_bar: pl.Expr) -> pl.Expr:
    """A figure of each of the n bars in time order, without the bar before them."""
    return per_bar.sort_by("open_at").slice(1)


def _return(price: str, *, since: str) -> pl.Expr:
    """Log of a bar's price over the price of the bar before it, for each of the n bars."""
    return (pl.col(price).sort_by("open_at") / pl.col(since).sort_by("open_at").shift(1)).log()


def _bars_of_window(window: Row, bars: pl.LazyFrame) -> pl.LazyFrame:
    earliest = window["event_at"] - window["window"] * LENGTHS[window["interval"]]
    return bars.filter(pl.col("event_at") >= earliest)


_SUBJECT = ("venue", "instrument_id", "interval")

MODEL = Model(
    table=TABLE,
    groups=_SUBJECT,
    clock="event_at",
    reaches=tuple(
        Reach(
            input="gold.candles",
            by={name: name for name in _SUBJECT},
            before=max(WINDOWS) * LENGTHS[interval],
            where=(pl.col("interval") == interval) & candles.COMPLETE,
            made_of=_bars_of_window,
        )
        for interval in INTERVALS
    ),
    build=build,
)
