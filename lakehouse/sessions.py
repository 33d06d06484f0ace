"""The days on which stock exchanges trade, from the library exchange_calendars (Apache-2.0).

It is imported where bars of equities are at hand and not before: it brings pandas. Its past changes with its version
only: closures that nobody had planned (a funeral, a storm) are added to it when they have happened.
"""

from __future__ import annotations

import warnings
from datetime import date
from functools import cache
from typing import Any

import polars as pl

EXCHANGES = {
    "": "XNYS",
    "LON": "XLON",
    "TRT": "XTSE",
    "DEX": "XETR",
    "FRK": "XFRA",
    "BSE": "XBOM",
    "SHH": "XSHG",
    "SHZ": "XSHG",
}
"""Suffix of a vendor's symbol -> the exchange (ISO 10383) whose days its bars have. Without a suffix it is one of the
United States, where all exchanges keep the days of New York; Shenzhen keeps those of Shanghai."""

FIRST, LAST = date(1990, 1, 1), date(2049, 12, 31)
"""Bars outside have no session, nor have those of a calendar's first year and after the last day it is known for."""

_SUFFIX = pl.col("symbol").str.extract(r"\.([A-Z]+)$").fill_null("")


def with_sessions(bars: pl.DataFrame, *, zone: str) -> pl.DataFrame:
    """Daily bars with `session` (number of the day among the exchange's) and `sessions_a_year`.

    A bar's day is that of its open_at in the zone. Bars of unknown exchanges, and of days on which theirs does not
    trade, are left out. `sessions_a_year` counts those of the year that ends with the bar's day: nothing of a later
    day is in it.
    """
    exchange = _SUFFIX.replace_strict(EXCHANGES, default=None, return_dtype=pl.String)
    named = bars.with_columns(
        exchange=exchange, date=pl.col("open_at").dt.convert_time_zone(zone).dt.date()
    ).drop_nulls("exchange")
    known = [sessions(one) for one in named["exchange"].unique().sort()]
    return named.join(pl.concat([_NO_SESSIONS, *known]), on=["exchange", "date"]).drop("exchange", "date")


@cache
def sessions(exchange: str) -> pl.DataFrame:
    """The days on which an exchange (ISO 10383) trades: exchange, date, session, sessions_a_year."""
    calendar = _calendar(exchange)
    first = calendar.first_session.date()
    days = pl.Series("date", calendar.sessions.to_numpy()).cast(pl.Date)
    before = days.search_sorted(days.dt.offset_by("-1y"), side="right")
    counted = pl.int_range(1, pl.len() + 1, dtype=pl.Int64)
    is_whole_year = pl.col("date").dt.offset_by("-1y") >= first
    return (
        days.to_frame()
        .select(
            pl.lit(exchange).alias("exchange"),
            "date",
            counted.alias("session"),
            (counted - before.cast(pl.Int64)).cast(pl.Float64).alias("sessions_a_year"),
        )
        .filter(is_whole_year)
    )


def _calendar(exchange: str) -> Any:
    """An exchange's calendar over all of our days that it is known for."""
    import exchange_calendars

    with warnings.catch_warnings():
        # It still calls parts of pandas that will change with the next version.
        warnings.simplefilter("ignore", DeprecationWarning)
        bounds = exchange_calendars.get_calendar(exchange)
        start, end = bounds.bound_min(), bounds.bound_max()
        first = FIRST if start is None else max(FIRST, start.date())
        last = LAST if end is None else min(LAST, end.date())
        return exchange_calendars.get_calendar(exchange, start=first.isoformat(), end=last.isoformat())


_NO_SESSIONS = pl.DataFrame(
    schema={"exchange": pl.String, "date": pl.Date, "session": pl.Int64, "sessions_a_year": pl.Float64}
)
