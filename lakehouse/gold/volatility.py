"""gold.volatility: five estimators of annualised volatility over rolling windows of bars.

A window of n bars needs the bar before it too (for the first return) and no gap among the n + 1; each version
of one of its bars gives a version of the window.

A year has 365 days of 24 hours for coins, which trade at any hour. Daily bars of equities are counted in the sessions
of their exchange, of which a year has those of the twelve months that end with the window; a day without a session is
no gap. Prices of equities are as traded: a split that its bar tells is undone, dividends are in the returns.

A change of a row of gold.candles or silver.bars dirties the windows of its instrument and interval that end within
max(WINDOWS) bars from it. Realised variance from returns within days is in gold.realised_volatility.
"""

from datetime import timedelta
from functools import partial
from math import log

import polars as pl

from lakehouse.asof import MOMENT, drop_repeats, versions_at
from lakehouse.contract import Column, Table
from lakehouse.fields import EVENT_AT, INGESTED_AT, INSTRUMENT_ID, INTERVAL, KNOWN_AT, VENUE
from lakehouse.gold import candles
from lakehouse.intervals import LENGTHS
from lakehouse.model import Inputs, Model, Reach, Row
from lakehouse.sessions import with_sessions

INTERVALS = ("1h", "1d")
WINDOWS = (7, 30)

YEAR = timedelta(days=365)
"""Coins trade on every hour of the year."""

VENDOR_ZONE = "America/New_York"
"""Days of equities' bars begin at midnight there (AlphaVantage, whatever the exchange)."""

SESSIONS_SPAN = timedelta(days=75)
"""Longer than any max(WINDOWS) sessions in a row, holidays and closures counted."""

_VOLATILITY = Column(
    name="volatility", dtype=pl.Float64(), lower=0, unit="log return, annualised", doc="Standard deviation."
)
_ESTIMATES = ("close_to_close", "parkinson", "garman_klass", "rogers_satchell", "yang_zhang")

TABLE = Table(
    name="gold.volatility",
    doc="Annualised volatility of each instrument over full windows of consecutive bars.",
    columns=(
        VENUE.but(doc="The exchange, by its ccxt id; of equities the vendor of the bars."),
        INSTRUMENT_ID.but(doc="The instrument in ccxt's notation; of equities the vendor's symbol."),
        INTERVAL.but(values=INTERVALS),
        Column(
            name="window", dtype=pl.Int64(), lower=2, unit="bars", doc="Number of bars that are looked at."
        ),
        EVENT_AT.but(doc="End of the window's last bar."),
        KNOWN_AT.but(doc="When the window's bars were known to be these."),
        INGESTED_AT.but(doc="When the last thing that the window was made from reached this lake."),
        Column(
            name="bars_a_year",
            dtype=pl.Float64(),
            unit="bars",
            above=0,
            doc="What variances a bar were multiplied with: 365 days of 24 hours; of equities the sessions of the "
            "exchange in the year that ends with the window.",
        ),
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
    """Rows of gold.volatility from all rows of gold.candles and silver.bars; incomplete bars break a window."""
    coins = inputs["gold.candles"].filter(candles.COMPLETE)
    equities = _equities(inputs["silver.bars"])
    return pl.concat(
        [
            *(_windows(_of_coins(coins, interval, n), bars_in=n) for interval in INTERVALS for n in WINDOWS),
            *(_windows(_of_equities(equities, n), bars_in=n) for n in WINDOWS),
        ]
    )


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


_SUBJECT = ("venue", "instrument_id", "interval")
_READ = (*_SUBJECT, "open_at", "event_at", "known_at", "ingested_at", "open", "high", "low", "close")
_IS_EQUITY = (pl.col("asset_class") == "equity") & (pl.col("interval") == "1d")


def _of_coins(bars: pl.LazyFrame, interval: str, bars_in: int) -> pl.LazyFrame:
    """Each bar once for each window that it is in; windows are told apart by when they end."""
    length = LENGTHS[interval]
    ends = [step * length for step in range(bars_in + 1)]
    return (
        bars.filter(pl.col("interval") == interval)
        .select(*_READ, split=pl.lit(1.0), bars_a_year=pl.lit(YEAR / length))
        .with_columns(window_end=pl.lit(pl.Series([ends], dtype=pl.List(pl.Duration("us")))).first())
        .explode("window_end")
        .with_columns(window=pl.col("event_at") + pl.col("window_end"))
        # Nothing can be said before the last bar is over: earlier moments are moved there.
        .with_columns(sayable_at=pl.max_horizontal("known_at", "window"))
        .drop("window_end")
    )


def _equities(bars: pl.LazyFrame) -> pl.LazyFrame:
    """Daily bars of equities as those of coins are named, numbered by the sessions of their exchange."""
    daily = bars.filter(_IS_EQUITY).select(
        *(name for name in _READ if name not in _SUBJECT),
        "symbol",
        "interval",
        pl.col("provider").alias("venue"),
        pl.col("symbol").alias("instrument_id"),
        pl.col("split_factor").fill_null(1.0).alias("split"),
    )
    numbered: dict[str, pl.DataType] = {"session": pl.Int64(), "sessions_a_year": pl.Float64()}
    schema = dict(daily.collect_schema()) | numbered
    return daily.map_batches(partial(with_sessions, zone=VENDOR_ZONE), schema=schema)


def _of_equities(bars: pl.LazyFrame, bars_in: int) -> pl.LazyFrame:
    """Each bar once for each window that it is in; windows are told apart by their last session."""
    return (
        bars.with_columns(window=pl.int_ranges(pl.col("session"), pl.col("session") + bars_in + 1))
        .explode("window")
        .select(
            *_READ,
            "split",
            "window",
            pl.col("sessions_a_year").alias("bars_a_year"),
            pl.max_horizontal("known_at", "event_at").alias("sayable_at"),
        )
    )


def _windows(members: pl.LazyFrame, *, bars_in: int) -> pl.LazyFrame:
    window = (*_SUBJECT, "window")
    moments = members.select(*window, pl.col("sayable_at").alias(MOMENT)).unique()
    known = versions_at(members, moments, on=window, fact=("open_at",))
    variances = {
        "close_to_close": close_to_close(),
        "parkinson": parkinson(),
        "garman_klass": garman_klass(),
        "rogers_satchell": rogers_satchell(),
        "yang_zhang": yang_zhang(bars_in),
    }
    yearly = pl.col("bars_a_year").sort_by("open_at").last()
    estimates = [(v.clip(lower_bound=0) * yearly).sqrt().alias(name) for name, v in variances.items()]
    rows = (
        known.group_by(*window, MOMENT)
        .agg(
            pl.len().alias("bars"),
            pl.col("event_at", "ingested_at").max(),
            yearly.alias("bars_a_year"),
            *estimates,
        )
        .filter(pl.col("bars") == bars_in + 1)
        .with_columns(pl.lit(bars_in, dtype=pl.Int64).alias("window"))
        .rename({MOMENT: "known_at"})
        .select(TABLE.schema.names())
    )
    return drop_repeats(rows, identity=TABLE.identity, contents=_ESTIMATES)


def _log(over: str, under: str) -> pl.Expr:
    return (pl.col(over) / pl.col(under)).log()


def _inside(per_bar: pl.Expr) -> pl.Expr:
    """A figure of each of the n bars in time order, without the bar before them."""
    return per_bar.sort_by("open_at").slice(1)


def _return(price: str, *, since: str) -> pl.Expr:
    """Log of a bar's price over the price of the bar before it, for each of the n bars; splits are undone."""
    as_before = pl.col(price) * pl.col("split")
    return (as_before.sort_by("open_at") / pl.col(since).sort_by("open_at").shift(1)).log()


def _bars_of_window(window: Row, bars: pl.LazyFrame) -> pl.LazyFrame:
    earliest = window["event_at"] - window["window"] * LENGTHS[window["interval"]]
    return bars.filter(pl.col("event_at") >= earliest)


def _sessions_of_window(window: Row, bars: pl.LazyFrame) -> pl.LazyFrame:
    """As many days of bars as it has, and the one before; a bar told anew is one day."""
    day = pl.col("event_at")
    return bars.filter(day.rank("dense", descending=True) <= window["window"] + 1)


MODEL = Model(
    table=TABLE,
    groups=_SUBJECT,
    clock="event_at",
    reaches=(
        *(
            Reach(
                input="gold.candles",
                by={name: name for name in _SUBJECT},
                before=max(WINDOWS) * LENGTHS[interval],
                where=(pl.col("interval") == interval) & candles.COMPLETE,
                made_of=_bars_of_window,
            )
            for interval in INTERVALS
        ),
        Reach(
            input="silver.bars",
            by={"venue": "provider", "instrument_id": "symbol", "interval": "interval"},
            before=SESSIONS_SPAN,
            where=_IS_EQUITY,
            made_of=_sessions_of_window,
        ),
    ),
    build=build,
)
