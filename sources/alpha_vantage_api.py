"""Alpha Vantage (https://www.alphavantage.co/documentation/): daily, weekly and monthly bars.

How it is asked: alpha_vantage_answers. Quirks that this module answers for:
- Newest row first. Without `outputsize=full` a daily answer stops at the 100 newest rows, silently; free keys may get
  no more. Weekly and monthly answers are whole; those of coins hold the last year or less.
- Equity rows carry the trading date of the exchange; here a day runs from midnight to midnight in New York.
  For listings elsewhere (`TSCO.LON`) that is later than their own close, so nothing is known too early.
  Currencies and coins run on UTC.
- Weeks and months are stamped with their last trading day, the current ones with today: their row changes until they
  are over, and so does today's. Here a week begins on Monday, a month on its first, and only bars that are over are
  taken.
- Prices are as traded; splits are not undone. Adjusted closes are rewritten back to the first row at every
  dividend, so they are known only since they were received. Watch a symbol raw or adjusted, not both: the two
  would revise each other.
- A ticker may pass to another company; an old one is answered with an error, or worse, with the other's prices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.coverage import Asked, Claim, minus, period
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
    closed,
    csv,
    joined,
    midnight,
    quota,
    reach_back,
    rows_of,
)
from sources.client import Client
from sources.errors import Transient
from sources.feed import Feed
from sources.proofs import every_bar, told_until

_ADJUSTED = (*OHLC, "adjusted_close", "volume", "dividend_amount")


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Bars of one kind of thing and one length."""

    kind: Kind
    function: str
    columns: tuple[str, ...]
    has_full: bool = False
    """Whether `outputsize=full` asks for more than the newest rows."""
    newest_only: bool = False
    """Whether older rows cannot be had."""


@dataclass(frozen=True, kw_only=True)
class Length:
    """Bars of one length: a feed. `closure` is the longest time without a bar in which none need be lost."""

    feed: str
    interval: str
    closure: timedelta
    bars: tuple[Bars, ...]

    @property
    def settles_after(self) -> timedelta:
        """So long after the newest bar the next one may still be due."""
        return {"1d": timedelta(days=5), "1w": timedelta(days=8), "1M": timedelta(days=33)}[self.interval]


SUBJECTS = "IBM, adjusted:IBM, fx:EUR/USD, crypto:BTC/EUR"
DAILY = Length(
    feed="alphavantage_daily",
    interval="1d",
    closure=timedelta(days=7),
    bars=(
        Bars(kind=EQUITY, function="TIME_SERIES_DAILY", columns=OHLCV, has_full=True),
        Bars(
            kind=ADJUSTED,
            function="TIME_SERIES_DAILY_ADJUSTED",
            columns=(*_ADJUSTED, "split_coefficient"),
            has_full=True,
        ),
        Bars(kind=FX, function="FX_DAILY", columns=OHLC, has_full=True),
        Bars(kind=CRYPTO, function="DIGITAL_CURRENCY_DAILY", columns=OHLCV, newest_only=True),
    ),
)
WEEKLY = Length(
    feed="alphavantage_weekly",
    interval="1w",
    closure=timedelta(0),
    bars=(
        Bars(kind=EQUITY, function="TIME_SERIES_WEEKLY", columns=OHLCV),
        Bars(kind=ADJUSTED, function="TIME_SERIES_WEEKLY_ADJUSTED", columns=_ADJUSTED),
        Bars(kind=FX, function="FX_WEEKLY", columns=OHLC),
        Bars(kind=CRYPTO, function="DIGITAL_CURRENCY_WEEKLY", columns=OHLCV, newest_only=True),
    ),
)
MONTHLY = Length(
    feed="alphavantage_monthly",
    interval="1M",
    closure=timedelta(0),
    bars=(
        Bars(kind=EQUITY, function="TIME_SERIES_MONTHLY", columns=OHLCV),
        Bars(kind=ADJUSTED, function="TIME_SERIES_MONTHLY_ADJUSTED", columns=_ADJUSTED),
        Bars(kind=FX, function="FX_MONTHLY", columns=OHLC),
        Bars(kind=CRYPTO, function="DIGITAL_CURRENCY_MONTHLY", columns=OHLCV, newest_only=True),
    ),
)


def fetch_bars(length: Length, client: Client, subject: str, window: Window) -> Iterator[Page]:
    """A page of the newest rows; one of all rows too, where the window begins before the oldest of 100.

    Raises Transient where all rows are fewer than the newest: the provider withholds some.
    """
    wanted, symbols = _read(length, subject)
    get = partial(ask, client, feed=length.feed, subject=subject, window=None)
    params = {"function": wanted.function, **symbols}
    newest = get(params, sequence=0)
    yield newest
    if not (wanted.has_full and _is_cut_after(newest.body, window.start.date())):
        return
    every = get({**params, "outputsize": "full"}, sequence=1)
    yield every
    if len(rows_of(every.body)) < len(rows_of(newest.body)):
        raise Transient(f"feed {length.feed}, {subject}: all rows are fewer than the newest {COMPACT_ROWS}")


def parse_bars(length: Length, pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.bars; prices and volumes as the provider's text.

    Only closed bars: a row whose day, week or month had not ended when the page was received is left out; it comes
    again. Raises ParseError for a page that is not the CSV of its function.
    """
    return joined(bars.TABLE, [_bars(length, page) for page in pages.iter_rows(named=True)])


def prove_bars(length: Length, asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """What the answer reaches back to, and in it: coins by their days, the rest up to the newest bar.

    Nobody says here which days are holidays, so only a long time without bars is told apart.
    """
    wanted, _ = _read(length, asked.subject)
    if rows.is_empty():
        return _until_newest(length, asked, pages, rows)
    is_cut = wanted.newest_only or _is_compact(wanted, pages)
    reached, claims = reach_back(asked, rows, can_be_had=wanted.has_full) if is_cut else (asked, [])
    if reached is None:
        return claims
    if wanted.kind is CRYPTO:
        return [*claims, *every_bar(reached, rows["open_at"], length.interval)]
    return [*claims, *_without_closures(length, _until_newest(length, reached, pages, rows), rows)]


def _is_compact(wanted: Bars, pages: pl.DataFrame) -> bool:
    """Whether an answer stopped at its newest rows and nothing more was asked for."""
    is_full = pages["request"].str.contains("outputsize=full", literal=True).any()
    most = max((len(rows_of(body)) for body in pages["body"]), default=0)
    return wanted.has_full and not is_full and most >= COMPACT_ROWS


def _until_newest(length: Length, asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    why = "whether a time without a row was a holiday or is lost"
    return told_until(length.settles_after, cannot_show=why)(asked, pages, rows)


def _without_closures(length: Length, claims: list[Claim], rows: pl.DataFrame) -> list[Claim]:
    """The claims, without the times in which no bar is longer than an exchange is usually closed."""
    told = rows.select("open_at", "event_at").drop_nulls().unique().sort("open_at")
    next_at = pl.col("open_at").shift(-1)
    holes = told.select("event_at", next_at).filter(pl.col("open_at") - pl.col("event_at") > length.closure)
    gaps = [Window(start, end) for start, end in holes.iter_rows()]
    kept = [replace(claim, window=window) for claim in claims for window in minus(claim.window, gaps)]
    lost = [
        replace(
            claim,
            window=window,
            status="degraded",
            cannot_show="whether the exchange was closed for so long or rows are withheld",
        )
        for claim in claims
        for window in _shared(claim.window, gaps)
    ]
    return sorted([*kept, *lost], key=lambda claim: claim.window)


def _shared(window: Window, gaps: list[Window]) -> list[Window]:
    return minus(window, minus(window, gaps)) if gaps else []


def _read(length: Length, subject: str) -> tuple[Bars, dict[str, str]]:
    for one in length.bars:
        symbols = one.kind.ask(subject)
        if symbols is not None:
            return one, symbols
    raise UsageError(f"subject {subject!r} of {length.feed} is none of {SUBJECTS}")


def _is_cut_after(body: bytes, wanted: date) -> bool:
    """Whether an answer of the newest rows may lack some since `wanted`: full, and its last is younger."""
    rows = rows_of(body)
    return len(rows) >= COMPACT_ROWS and rows[-1][:10].decode("ascii", "replace") > wanted.isoformat()


def _bars(length: Length, page: Mapping[str, Any]) -> pl.LazyFrame:
    wanted, symbols = _read(length, page["subject"])
    day = pl.col("timestamp").str.to_date("%Y-%m-%d", strict=False)
    every = period(length.interval)
    first = day.dt.truncate(every)
    rows = csv(page, wanted.columns).with_columns(
        symbol=pl.lit("/".join(symbols.values())),
        interval=pl.lit(length.interval),
        asset_class=pl.lit(wanted.kind.asset_class),
        open_at=midnight(first, wanted.kind.zone),
        event_at=midnight(first.dt.offset_by(every), wanted.kind.zone),
    )
    names = {"dividend_amount": "dividend", "split_coefficient": "split_factor"}
    return closed(rows, wanted.kind).rename(names, strict=False)


def _feed(length: Length, *, doc: str, anchor: str) -> Feed:
    def about(subject: str) -> list[dict[str, str]]:
        _, symbols = _read(length, subject)
        symbol = "/".join(symbols.values())
        return [{"provider": PROVIDER, "symbol": symbol, "interval": length.interval}]

    def cost(subject: str, _window: Window) -> int:
        wanted, _ = _read(length, subject)
        return 2 if wanted.has_full else 1

    return Feed(
        name=length.feed,
        provider=PROVIDER,
        doc=doc,
        table=bars.TABLE,
        subjects=SUBJECTS,
        fetch=partial(fetch_bars, length),
        parse=partial(parse_bars, length),
        proof=partial(prove_bars, length),
        about=about,
        cost=cost,
        paging="the newest 100 rows, else all in one answer",
        quota=quota,
        key_setting=KEY_SETTING,
        key_url=KEY_URL,
        documentation=f"https://www.alphavantage.co/documentation/#{anchor}",
    )


FEEDS = (
    _feed(DAILY, doc="Daily bars of equities, currencies and coins, newest 100 or all.", anchor="daily"),
    _feed(
        WEEKLY, doc="Weekly bars of equities, currencies and coins, all weeks that are over.", anchor="weekly"
    ),
    _feed(
        MONTHLY,
        doc="Monthly bars of equities, currencies and coins, all months that are over.",
        anchor="monthly",
    ),
)
