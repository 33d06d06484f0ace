"""Alpha Vantage (https://www.alphavantage.co/documentation/#intraday): bars of 1 to 60 minutes.

How it is asked: alpha_vantage_answers. Quirks that this module answers for:
- Equities come in wall time of New York, currencies and coins in UTC; a CSV does not say which. Trading runs from 04:00
  to 20:00, so a page of equities with a bar outside that is refused: its stamps are of another zone. At those hours
  no clock is ever changed, so no stamp is ambiguous; US listings only, for which this holds.
- A bar is stamped with its start: the last of a day in bars of five minutes is 19:55, and an answer of 17:12 has the
  bar of 17:10. The documentation does not say it.
- Left to itself the provider adjusts prices for splits and dividends. Here `adjusted` is always sent: false, or true
  for `adjusted:IBM@5min`. Then all prices are adjusted, not the close alone: the symbol in silver.bars is
  `adjusted:IBM`, and what it says is known only since it was received.
- The newest 100 bars are asked for where they reach back to the window, else whole months of equities (one request
  each) and what there is of currencies and coins (about a month).
- Free keys may be refused; bars of coins are a premium function.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from lakehouse.bronze import Page
from lakehouse.coverage import Asked, Claim, overlap
from lakehouse.errors import UsageError
from lakehouse.silver import bars
from lakehouse.window import Window
from sources.alpha_vantage_answers import (
    ADJUSTED,
    COMPACT_ROWS,
    CRYPTO,
    EQUITY,
    FX,
    KEY_SETTING,
    KEY_URL,
    OHLC,
    OHLCV,
    PROVIDER,
    Kind,
    ask,
    broken,
    closed,
    csv,
    joined,
    quota,
    reach_back,
)
from sources.client import Client
from sources.feed import Feed
from sources.proofs import every_bar, told_until

FEED = "alphavantage_intraday"
SUBJECTS = "IBM@5min, adjusted:IBM@5min, fx:EUR/USD@5min, crypto:ETH/USD@5min"
INTERVALS: Mapping[str, str] = {"1min": "1m", "5min": "5m", "15min": "15m", "30min": "30m", "60min": "1h"}
"""The provider's words and ours."""

_SETTLES_AFTER = timedelta(days=5)
_NEW_YORK = ZoneInfo("America/New_York")
_FIRST_HOUR, _LAST_HOUR = 4, 19
_SUBJECT = re.compile(r"(?P<of>.+)@(?P<interval>\d+min)")


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Intraday bars of one kind of thing."""

    kind: Kind
    function: str
    columns: tuple[str, ...]
    params: Mapping[str, str]
    has_months: bool = False


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a subject asks for."""

    bars: Bars
    symbols: Mapping[str, str]
    interval: str

    @property
    def length(self) -> timedelta:
        return timedelta(minutes=int(self.interval.removesuffix("min")))

    @property
    def symbol(self) -> str:
        """What silver.bars calls it."""
        prefix = "adjusted:" if self.bars.kind is ADJUSTED else ""
        return prefix + "/".join(self.symbols.values())


_SESSIONS = {"extended_hours": "true"}
KINDS = (
    Bars(
        kind=EQUITY,
        function="TIME_SERIES_INTRADAY",
        columns=OHLCV,
        params={"adjusted": "false", **_SESSIONS},
        has_months=True,
    ),
    Bars(
        kind=ADJUSTED,
        function="TIME_SERIES_INTRADAY",
        columns=OHLCV,
        params={"adjusted": "true", **_SESSIONS},
        has_months=True,
    ),
    Bars(kind=FX, function="FX_INTRADAY", columns=OHLC, params={}),
    Bars(kind=CRYPTO, function="CRYPTO_INTRADAY", columns=OHLCV, params={}),
)


def read_subject(subject: str) -> Wanted:
    """Read `fx:EUR/USD@5min`; UsageError says what is wrong."""
    match = _SUBJECT.fullmatch(subject)
    if match and match["interval"] in INTERVALS:
        for one in KINDS:
            symbols = one.kind.ask(match["of"])
            if symbols is not None and "." not in "".join(symbols.values()):
                return Wanted(bars=one, symbols=symbols, interval=match["interval"])
    raise UsageError(
        f"subject {subject!r} of {FEED} is none of {SUBJECTS}; intervals: {', '.join(INTERVALS)}; "
        "of listings outside the US the time zone is not known"
    )


def fetch_intraday(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """A page of the newest 100 bars, or one for each month of the window, or one of all that there is."""
    wanted = read_subject(subject)
    asked = {
        "function": wanted.bars.function,
        **wanted.symbols,
        "interval": wanted.interval,
        **wanted.bars.params,
    }
    for number, (params, part) in enumerate(_requests(wanted, window, client.now())):
        yield ask(client, asked | params, feed=FEED, subject=subject, window=part, sequence=number)


def parse_intraday(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.bars that were over when their page was received; prices and volumes as the provider's text.

    Raises ParseError for a page that is not the CSV of its function, or whose stamps are of another time zone.
    """
    return joined(bars.TABLE, [_bars(page) for page in pages.iter_rows(named=True)])


def prove_intraday(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """What the answer reaches back to, and in it: coins by their bars, the rest up to the newest."""
    wanted = read_subject(asked.subject)
    why = "whether a time without a bar had no trade or is lost"
    newest = told_until(_SETTLES_AFTER, cannot_show=why)
    if rows.is_empty() or pages["request"].str.contains("month=", literal=True).all():
        return newest(asked, pages, rows)
    reached, claims = reach_back(asked, rows, can_be_had=wanted.bars.has_months)
    if reached is None:
        return claims
    if wanted.bars.kind is CRYPTO:
        interval = INTERVALS[wanted.interval]
        return [*claims, *every_bar(reached, rows["open_at"], interval, omits_empty=True)]
    return [*claims, *newest(reached, pages, rows)]


def _requests(
    wanted: Wanted, window: Window, now: datetime
) -> Iterator[tuple[dict[str, str], Window | None]]:
    """What is added to the parameters of each request, and the part of the window that it answers for."""
    if window.start >= now - COMPACT_ROWS * wanted.length:
        yield {}, None
    elif wanted.bars.has_months:
        for month in _months(Window(window.start, max(min(window.end, now), window.start + wanted.length))):
            named = f"{month.start.astimezone(_NEW_YORK):%Y-%m}"
            yield {"month": named, "outputsize": "full"}, overlap(month, window)
    else:
        yield {"outputsize": "full"}, None


def _months(window: Window) -> Iterator[Window]:
    """The months of New York that share time with a window."""
    first = window.start.astimezone(_NEW_YORK)
    year, month = first.year, first.month
    while (start := datetime(year, month, 1, tzinfo=_NEW_YORK)) < window.end:
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
        end = datetime(year, month, 1, tzinfo=_NEW_YORK)
        yield Window(start.astimezone(window.start.tzinfo), end.astimezone(window.start.tzinfo))


def _cost(subject: str, window: Window) -> int:
    """Requests for a window that is long over."""
    wanted = read_subject(subject)
    return sum(1 for _ in _months(window)) if wanted.bars.has_months else 1


def _about(subject: str) -> list[dict[str, str]]:
    wanted = read_subject(subject)
    return [{"provider": PROVIDER, "symbol": wanted.symbol, "interval": INTERVALS[wanted.interval]}]


def _bars(page: Mapping[str, Any]) -> pl.LazyFrame:
    wanted = read_subject(page["subject"])
    kind, interval = wanted.bars.kind, INTERVALS[wanted.interval]
    rows = csv(page, wanted.bars.columns).with_columns(
        stamp=pl.col("timestamp").str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    )
    if kind.asset_class == "equity":
        _must_be_new_york(page, rows)
    open_at = (
        pl.col("stamp")
        .dt.replace_time_zone(kind.zone, ambiguous="null", non_existent="null")
        .dt.convert_time_zone("UTC")
    )
    placed = rows.with_columns(
        symbol=pl.lit(wanted.symbol),
        interval=pl.lit(interval),
        asset_class=pl.lit(kind.asset_class),
        open_at=open_at,
        event_at=open_at.dt.offset_by(interval),
    ).drop("stamp")
    return closed(placed, kind)


def _must_be_new_york(page: Mapping[str, Any], rows: pl.LazyFrame) -> None:
    is_traded = pl.col("stamp").dt.hour().is_between(_FIRST_HOUR, _LAST_HOUR)
    outside = rows.filter(~is_traded).select("timestamp").first().collect()
    if outside.height:
        raise broken(page, f"has a bar at {outside.item()}, when New York does not trade: another time zone")


FEEDS = (
    Feed(
        name=FEED,
        provider=PROVIDER,
        doc="Bars of 1 to 60 minutes of US equities (raw or adjusted), currencies and coins; mostly for premium keys.",
        table=bars.TABLE,
        subjects=SUBJECTS,
        fetch=fetch_intraday,
        parse=parse_intraday,
        proof=prove_intraday,
        about=_about,
        cost=_cost,
        paging="the newest 100 bars, else a request a month",
        quota=quota,
        key_setting=KEY_SETTING,
        key_url=KEY_URL,
        documentation="https://www.alphavantage.co/documentation/#intraday",
    ),
)
