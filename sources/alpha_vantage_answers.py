"""How Alpha Vantage is asked and what its answers have in common: limits, errors inside good answers, CSV, subjects.

What each kind of data means is said in alpha_vantage_api, alpha_vantage_intraday and alpha_vantage_macro.
Documentation: https://www.alphavantage.co/documentation/

- Answers are asked for as CSV; its columns are checked by name, so a renamed one is refused.
- Errors come with HTTP 200 as JSON in place of the CSV, one of them with the caller's key inside (the client takes it
  out). `refuse_error_body` tells them apart by their wording; only throttling is worth another try.
- A free key has 25 requests a day. Nobody says when the day begins, so it is counted in UTC and in New York.
- Premium functions answer free keys with made-up rows and a `message` that says so: never stored.

Terms: free keys are for personal use; check the licence before passing the data on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import UTC_US, Table
from lakehouse.coverage import Asked, Claim
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.client import Answer, Client, Host
from sources.errors import ParseError, Permanent, QuotaExhausted, Transient
from sources.quota import Limit, Quota, a_day

PROVIDER = "alphavantage"
KEY_SETTING = "MNEMO_ALPHAVANTAGE_API_KEY"
KEY_URL = "https://www.alphavantage.co/support/#api-key"
HOST = Host(
    name="ALPHAVANTAGE",
    url="https://www.alphavantage.co",
    min_interval_s=1.2,
    limits=(*a_day(25, "UTC", "America/New_York"), Limit(units=5, window_s=60)),
    key_setting=KEY_SETTING,
)
COMPACT_ROWS = 100
"""The most rows of an answer without `outputsize=full`."""

OHLC = ("timestamp", "open", "high", "low", "close")
OHLCV = (*OHLC, "volume")
_TICKER = r"[A-Z0-9][A-Z0-9.\-]*"
_PAIR = r"([A-Z0-9]+)/([A-Z0-9]+)"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of thing that has bars: how a subject names it and on which clock it runs."""

    subject: re.Pattern[str]
    """Its groups are the values of `parameters`."""
    parameters: tuple[str, ...]
    asset_class: str
    zone: str
    is_known_at_close: bool = True

    def ask(self, subject: str) -> dict[str, str] | None:
        """The request's parameters; None for a subject of another kind."""
        found = self.subject.fullmatch(subject)
        return None if found is None else dict(zip(self.parameters, found.groups(), strict=True))


EQUITY = Kind(
    subject=re.compile(f"({_TICKER})"),
    parameters=("symbol",),
    asset_class="equity",
    zone="America/New_York",
)
ADJUSTED = Kind(
    subject=re.compile(f"adjusted:({_TICKER})"),
    parameters=("symbol",),
    asset_class="equity",
    zone="America/New_York",
    is_known_at_close=False,
)
FX = Kind(
    subject=re.compile(f"fx:{_PAIR}"),
    parameters=("from_symbol", "to_symbol"),
    asset_class="fx",
    zone="UTC",
)
CRYPTO = Kind(
    subject=re.compile(f"crypto:{_PAIR}"),
    parameters=("symbol", "market"),
    asset_class="crypto",
    zone="UTC",
)


def ask(
    client: Client,
    params: Mapping[str, str],
    *,
    feed: str,
    subject: str,
    window: Window | None,
    sequence: int,
) -> Page:
    """The page of one request for CSV.

    Raises what an error body means, with the body as a page; MissingKey without a key.
    """
    key = client.key(KEY_SETTING, feed=feed, url=KEY_URL)
    page = partial(Answer.page, feed=feed, subject=subject, window=window, sequence=sequence)
    answer = client.get(
        HOST,
        "/query",
        {**params, "datatype": "csv"},
        secrets={"apikey": key},
        explain=refuse_error_body,
        keep=page,
    )
    return page(answer)


def quota(settings: Settings, _subject: str) -> Quota:
    """The limits that all requests count against."""
    return HOST.quota(settings)


def refuse_error_body(answer: Answer) -> None:
    """Raise what a JSON or HTML body means; CSV passes.

    Transient for throttling and HTML, QuotaExhausted for the daily limit, Permanent for the rest: unknown symbol or
    function, bad or demo key, premium functions, sample rows, an empty object.
    """
    first = answer.body.lstrip()[:1]
    if first not in (b"{", b"[", b"<"):
        return
    said = answer.body.decode("utf-8", "replace")
    message = (
        f"alphavantage answered {answer.url} with an error in place of data: {' '.join(said.split())[:400]}"
    )
    if first == b"<":
        raise Transient(message)
    for wording, error in _WORDINGS:
        if wording in said:
            raise error(message)
    raise Permanent(message)


def rows_of(body: bytes) -> list[bytes]:
    """The lines of a CSV body after its header."""
    return body.split()[1:]


def csv(page: Mapping[str, Any], columns: tuple[str, ...]) -> pl.LazyFrame:
    """The page's rows, all text, and where they came from. Weekly answers write `adjusted close` with a space."""
    body: bytes = page["body"]
    if not body.endswith(b"\n"):
        raise broken(page, "does not end with a line break: the answer was cut off, or is not CSV")
    try:
        frame = pl.read_csv(body, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise broken(page, f"is not CSV ({error})") from None
    if tuple(name.replace(" ", "_") for name in frame.columns) != columns:
        raise broken(page, f"has columns {', '.join(frame.columns)}; expected {', '.join(columns)}")
    frame.columns = list(columns)
    return frame.lazy().with_columns(
        provider=pl.lit(PROVIDER),
        page_id=pl.lit(page["page_id"], pl.Int64),
        ingested_at=pl.lit(page["received_at"], UTC_US),
    )


def closed(rows: pl.LazyFrame, kind: Kind) -> pl.LazyFrame:
    """Bars that had ended when their page was received, with when they were known; the others come again."""
    known_at = "event_at" if kind.is_known_at_close else "ingested_at"
    is_open = pl.col("event_at") > pl.col("ingested_at")
    return rows.with_columns(known_at=known_at).filter(~is_open.fill_null(value=False))


def midnight(day: pl.Expr, zone: str) -> pl.Expr:
    """The first moment of a date in a time zone, in UTC."""
    return day.cast(pl.Datetime("us")).dt.replace_time_zone(zone).dt.convert_time_zone("UTC")


def joined(table: Table, frames: list[pl.LazyFrame]) -> pl.LazyFrame:
    """The frames under each other with exactly the table's columns; what a frame does not have is null."""
    schema = {c.name: pl.String() if c.dtype.is_float() else c.dtype for c in table.columns}
    return pl.concat([pl.LazyFrame(schema=schema), *frames], how="diagonal").select(list(schema))


def reach_back(asked: Asked, rows: pl.DataFrame, *, can_be_had: bool) -> tuple[Asked | None, list[Claim]]:
    """What is left of a window from the oldest row on, and the claim that nothing before it was in the answer."""
    oldest = rows["open_at"].min()
    past = asked.past
    if past is None or oldest is None or oldest <= past.start:  # type: ignore[operator]
        return asked, []
    end = min(oldest, past.end)
    head = Claim(
        window=Window(past.start, end),  # type: ignore[arg-type]
        status="missing" if can_be_had else "unavailable",
        proof="newest_only",
        evidence={"rows": rows.height, "oldest": oldest},
        cannot_show="what was there: the answer holds the newest rows only",
    )
    rest = Window(end, asked.window.end) if end < asked.window.end else None  # type: ignore[operator, arg-type]
    return replace(asked, window=rest) if rest else None, [head]


def broken(page: Mapping[str, Any], what: str) -> ParseError:
    """The error of a page that does not say what its feed should say."""
    return ParseError(f"alphavantage {page['feed']} {page['subject']}: page {page['page_id']} {what}")


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
