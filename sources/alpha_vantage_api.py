"""Alpha Vantage (https://www.alphavantage.co/documentation/): daily bars and macro series, asked for as CSV.

Quirks that this module answers for:
- Errors come with HTTP 200 as JSON in place of the CSV, one of them with the caller's key inside (the client
  takes it out). `refuse_error_body` tells them apart by their wording; only throttling is worth another try,
  because a free key has 25 requests a day.
- Premium functions answer free keys with made-up rows and a `message` that says so: never stored.
- Newest row first. `.` is a missing value in macro series.
- Without `outputsize=full` the answer stops at the 100 newest rows, silently.
- Equity rows carry the trading date of the exchange; here a day runs from midnight to midnight in New York.
  For listings elsewhere (`TSCO.LON`) that is later than their own close, so nothing is known too early.
  Currencies and coins run on UTC.
- Prices are as traded; splits are not undone. Adjusted closes are rewritten back to the first row at every
  dividend, so they are known only since they were received. Watch a symbol raw or adjusted, not both: the two
  would revise each other.
- Macro series are copies of FRED without vintages or release dates: what was known when is estimated.

Terms: free keys are for personal use; check the licence before passing the data on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import UTC_US, Table
from lakehouse.coverage import Asked, Claim
from lakehouse.errors import UsageError, unknown
from lakehouse.silver import bars, observations
from lakehouse.window import Window
from sources.client import Answer, Client, Host
from sources.errors import ParseError, Permanent, QuotaExhausted, Transient
from sources.feed import Feed
from sources.proofs import every_bar, told_until

KEY_SETTING = "MNEMO_ALPHAVANTAGE_API_KEY"
KEY_URL = "https://www.alphavantage.co/support/#api-key"
HOST = Host(name="ALPHAVANTAGE", url="https://www.alphavantage.co", min_interval_s=1.2)

_COMPACT_ROWS = 100
_LONGEST_WEEKEND = timedelta(days=5)
_MONTH_AND_LAG = timedelta(days=31 + 16)


@dataclass(frozen=True, kw_only=True)
class Daily:
    """How one kind of daily bar is asked for and what its answer looks like."""

    function: str
    subject: re.Pattern[str]
    """Its groups are the values of `parameters`."""
    parameters: tuple[str, ...]
    columns: tuple[str, ...]
    asset_class: str
    zone: str
    has_full: bool = True
    """Whether `outputsize=full` asks for more than the newest rows."""
    is_known_at_close: bool = True

    def ask(self, subject: str) -> dict[str, str] | None:
        """The request's parameters; None for a subject of another kind."""
        found = self.subject.fullmatch(subject)
        return None if found is None else dict(zip(self.parameters, found.groups(), strict=True))


@dataclass(frozen=True, kw_only=True)
class Macro:
    """How one macro series is asked for; the CSV says neither unit nor release date, so they stand here.

    Units are those of the JSON form of the same answer. All series are monthly. `lag` is how long after the
    end of the month the value is usually out.
    """

    function: str
    unit: str
    lag: timedelta
    parameters: Mapping[str, str] = field(default_factory=dict)


_OHLC = ("timestamp", "open", "high", "low", "close")
_TICKER = r"[A-Z0-9][A-Z0-9.\-]*"
_PAIR = r"([A-Z0-9]+)/([A-Z0-9]+)"

DAILY = (
    Daily(
        function="TIME_SERIES_DAILY",
        subject=re.compile(f"({_TICKER})"),
        parameters=("symbol",),
        columns=(*_OHLC, "volume"),
        asset_class="equity",
        zone="America/New_York",
    ),
    Daily(
        function="TIME_SERIES_DAILY_ADJUSTED",
        subject=re.compile(f"adjusted:({_TICKER})"),
        parameters=("symbol",),
        columns=(*_OHLC, "adjusted_close", "volume", "dividend_amount", "split_coefficient"),
        asset_class="equity",
        zone="America/New_York",
        is_known_at_close=False,
    ),
    Daily(
        function="FX_DAILY",
        subject=re.compile(f"fx:{_PAIR}"),
        parameters=("from_symbol", "to_symbol"),
        columns=_OHLC,
        asset_class="fx",
        zone="UTC",
    ),
    Daily(
        function="DIGITAL_CURRENCY_DAILY",
        subject=re.compile(f"crypto:{_PAIR}"),
        parameters=("symbol", "market"),
        columns=(*_OHLC, "volume"),
        asset_class="crypto",
        zone="UTC",
        has_full=False,
    ),
)

_MONTHLY = {"interval": "monthly"}
_YIELDS = {
    f"TREASURY_YIELD:{maturity}": Macro(
        function="TREASURY_YIELD",
        unit="percent",
        lag=timedelta(days=3),
        parameters={**_MONTHLY, "maturity": maturity},
    )
    for maturity in ("3month", "2year", "5year", "7year", "10year", "30year")
}
MACRO: Mapping[str, Macro] = {
    "CPI": Macro(function="CPI", unit="index 1982-1984=100", lag=timedelta(days=16), parameters=_MONTHLY),
    "UNEMPLOYMENT": Macro(function="UNEMPLOYMENT", unit="percent", lag=timedelta(days=10)),
    "FEDERAL_FUNDS_RATE": Macro(
        function="FEDERAL_FUNDS_RATE", unit="percent", lag=timedelta(days=3), parameters=_MONTHLY
    ),
    "WTI": Macro(function="WTI", unit="dollars per barrel", lag=timedelta(days=10), parameters=_MONTHLY),
    "BRENT": Macro(function="BRENT", unit="dollars per barrel", lag=timedelta(days=10), parameters=_MONTHLY),
    "TREASURY_YIELD": _YIELDS["TREASURY_YIELD:10year"],
    **_YIELDS,
}


def fetch_daily(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """A page of the newest rows; one of all rows too, where the window begins before the oldest of 100."""
    daily, symbols = _daily(subject)
    params = {"function": daily.function, **symbols, "datatype": "csv"}
    answer = _ask(client, "alphavantage_daily", params)
    yield answer.page(feed="alphavantage_daily", subject=subject, window=None, sequence=0)
    if daily.has_full and _is_cut_after(answer.body, window.start.date()):
        answer = _ask(client, "alphavantage_daily", {**params, "outputsize": "full"})
        yield answer.page(feed="alphavantage_daily", subject=subject, window=None, sequence=1)


def fetch_macro(client: Client, subject: str, _window: Window) -> Iterator[Page]:
    """One page: the whole series whatever the window, because old values are revised."""
    macro = _macro(subject)
    answer = _ask(
        client, "alphavantage_macro", {"function": macro.function, **macro.parameters, "datatype": "csv"}
    )
    yield answer.page(feed="alphavantage_macro", subject=subject, window=None, sequence=0)


def parse_daily(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.bars; prices and volumes as the provider's text.

    Only closed bars: a row whose day had not ended when the page was received is left out; it comes again.
    Raises ParseError for a page that is not the CSV of its function.
    """
    return _concat(bars.TABLE, [_bars(page) for page in pages.iter_rows(named=True)])


def parse_macro(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.observations; `.` is a null value.

    Raises ParseError for a page that is not the CSV of its series.
    """
    return _concat(observations.TABLE, [_observations(page) for page in pages.iter_rows(named=True)])


def prove_daily(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """Coins trade every day, so each is counted; of the rest nobody says here which days are holidays."""
    daily, _ = _daily(asked.subject)
    if daily.asset_class == "crypto":
        return every_bar(asked, rows["open_at"], "1d")
    why = "whether a day without a row was a holiday or is lost"
    return told_until(_LONGEST_WEEKEND, cannot_show=why)(asked, pages, rows)


def refuse_error_body(answer: Answer) -> None:
    """Raise what a JSON body means; CSV passes.

    Transient for throttling, QuotaExhausted for the daily limit, Permanent for the rest: unknown symbol or
    function, bad or demo key, premium functions, sample rows, an empty object.
    """
    if answer.body.lstrip()[:1] not in (b"{", b"["):
        return
    said = answer.body.decode("utf-8", "replace")
    message = (
        f"alphavantage answered {answer.url} with an error in place of data: {' '.join(said.split())[:400]}"
    )
    for wording, error in _WORDINGS:
        if wording in said:
            raise error(message)
    raise Permanent(message)


def _burst(message: str) -> Transient:
    return Transient(message, retry_after_s=2.0)


def _minute(message: str) -> Transient:
    return Transient(message, retry_after_s=60.0)


# The first that fits decides: the text about bursts names the daily limit too.
_WORDINGS: tuple[tuple[str, Callable[[str], Exception]], ...] = (
    ("premium endpoint", Permanent),
    ("request per second", _burst),
    ("requests per second", _burst),
    ("calls per minute", _minute),
    ("requests per day", QuotaExhausted),
)


def _ask(client: Client, feed: str, params: Mapping[str, str]) -> Answer:
    key = client.key(KEY_SETTING, feed=feed, url=KEY_URL)
    return client.get(HOST, "/query", params, secrets={"apikey": key}, explain=refuse_error_body)


def _daily(subject: str) -> tuple[Daily, dict[str, str]]:
    for daily in DAILY:
        symbols = daily.ask(subject)
        if symbols is not None:
            return daily, symbols
    raise UsageError(f"subject {subject!r} is none of {_DAILY_SUBJECTS}")


def _macro(subject: str) -> Macro:
    if subject not in MACRO:
        raise unknown("subject of alphavantage_macro", subject, MACRO)
    return MACRO[subject]


def _is_cut_after(body: bytes, wanted: date) -> bool:
    """Whether an answer of the newest rows may lack some since `wanted`: full, and its last is younger."""
    rows = body.split()[1:]
    return len(rows) >= _COMPACT_ROWS and rows[-1][:10].decode("ascii", "replace") > wanted.isoformat()


def _bars(page: dict[str, Any]) -> pl.LazyFrame:
    daily, symbols = _daily(page["subject"])
    day = pl.col("timestamp").str.to_date("%Y-%m-%d", strict=False)
    rows = _csv(page, daily.columns).with_columns(
        symbol=pl.lit("/".join(symbols.values())),
        interval=pl.lit("1d"),
        asset_class=pl.lit(daily.asset_class),
        open_at=_midnight(day, daily.zone),
        event_at=_midnight(day.dt.offset_by("1d"), daily.zone),
    )
    known_at = "event_at" if daily.is_known_at_close else "ingested_at"
    is_open = pl.col("event_at") > pl.col("ingested_at")
    names = {"dividend_amount": "dividend", "split_coefficient": "split_factor"}
    return (
        rows.with_columns(known_at=known_at)
        .rename(names, strict=False)
        .filter(~is_open.fill_null(value=False))
    )


def _observations(page: dict[str, Any]) -> pl.LazyFrame:
    macro = _macro(page["subject"])
    month = pl.col("timestamp").str.to_date("%Y-%m-%d", strict=False)
    rows = _csv(page, ("timestamp", "value")).with_columns(
        period_start=month, event_at=_midnight(month.dt.offset_by("1mo"), "UTC")
    )
    return rows.with_columns(
        series_id=pl.lit(page["subject"]),
        known_at=pl.min_horizontal(pl.col("event_at") + macro.lag, "ingested_at"),
        known_at_basis=pl.lit("estimated"),
        value=pl.when(pl.col("value") != ".").then("value"),
        unit=pl.lit(macro.unit),
        unit_multiplier=pl.lit(0, pl.Int64),
    )


def _midnight(day: pl.Expr, zone: str) -> pl.Expr:
    return day.cast(pl.Datetime("us")).dt.replace_time_zone(zone).dt.convert_time_zone("UTC")


def _csv(page: dict[str, Any], columns: tuple[str, ...]) -> pl.LazyFrame:
    """The page's rows, all text, and where they came from."""
    body: bytes = page["body"]
    if not body.endswith(b"\n"):
        raise _broken(page, "does not end with a line break: the answer was cut off, or is not CSV")
    try:
        frame = pl.read_csv(body, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise _broken(page, f"is not CSV ({error})") from None
    if tuple(frame.columns) != columns:
        raise _broken(page, f"has columns {', '.join(frame.columns)}; expected {', '.join(columns)}")
    return frame.lazy().with_columns(
        provider=pl.lit("alphavantage"),
        page_id=pl.lit(page["page_id"], pl.Int64),
        ingested_at=pl.lit(page["received_at"], UTC_US),
    )


def _concat(table: Table, frames: list[pl.LazyFrame]) -> pl.LazyFrame:
    """The frames under each other with exactly the table's columns; what a frame does not have is null."""
    schema = {c.name: pl.String() if c.dtype.is_float() else c.dtype for c in table.columns}
    return pl.concat([pl.LazyFrame(schema=schema), *frames], how="diagonal").select(list(schema))


def _broken(page: dict[str, Any], what: str) -> ParseError:
    return ParseError(f"alphavantage {page['feed']} {page['subject']}: page {page['page_id']} {what}")


_DAILY_SUBJECTS = "IBM, adjusted:IBM, fx:EUR/USD, crypto:BTC/EUR"


def _about_symbol(subject: str) -> list[dict[str, str]]:
    _, symbols = _daily(subject)
    return [{"provider": "alphavantage", "symbol": "/".join(symbols.values()), "interval": "1d"}]


def _about_series(subject: str) -> list[dict[str, str]]:
    return [{"provider": "alphavantage", "series_id": subject}]


FEEDS = (
    Feed(
        name="alphavantage_daily",
        provider="alphavantage",
        doc="Daily bars of equities, currencies and coins, newest 100 or all.",
        table=bars.TABLE,
        subjects=_DAILY_SUBJECTS,
        fetch=fetch_daily,
        parse=parse_daily,
        proof=prove_daily,
        about=_about_symbol,
        key_setting=KEY_SETTING,
        key_url=KEY_URL,
        documentation="https://www.alphavantage.co/documentation/#daily",
    ),
    Feed(
        name="alphavantage_macro",
        provider="alphavantage",
        doc="Monthly macro series and oil prices, whole history at each fetch, without vintages.",
        table=observations.TABLE,
        subjects=", ".join(MACRO),
        fetch=fetch_macro,
        parse=parse_macro,
        proof=told_until(
            _MONTH_AND_LAG, cannot_show="what a value was between two fetches: revisions overwrite it"
        ),
        about=_about_series,
        key_setting=KEY_SETTING,
        key_url=KEY_URL,
        documentation="https://www.alphavantage.co/documentation/#economic-indicators",
    ),
)
