"""FRED and ALFRED (Federal Reserve Bank of St. Louis): macro series with all their vintages, API version 1.

This product uses the FRED API but is not endorsed or certified by the Federal Reserve Bank of St. Louis.
Documentation: https://fred.stlouisfed.org/docs/api/fred/

- A key is needed, as the parameter `api_key`; a bad one is answered with 400, not 401. 120 requests a
  minute.
- Values are text; `.` means missing. `file_type=json` must be sent, the default is XML.
- A row holds for the real-time period [realtime_start, realtime_end], both ends included and *cut to the
  period asked for*; the current value ends on 9999-12-31. Both bounds are sent with every request for
  values: alone, each has another default.
- One request may not touch more than 2,000 vintages, so the vintages are listed first and asked for in
  groups.
- Vintages are dates (days of US Central time) without a clock time. A value counts as known from the
  following midnight UTC: `known_at` = realtime_start + 1 day.
- The archive begins later than many series: the first vintage of an old period is not its first release.
- `date` is the first day of the period. Weekly and biweekly series that say `Ending <day>` name its last
  day, those that say `As of <day>` the very day.
- Units, title and frequency change over time (a new base year); each vintage gets those that held on its
  day.
- Units stay in the provider's words ("Billions of Dollars") with `unit_multiplier` 0: the words already
  tell the scale, and they are free text that no rule reads without mistakes.

Plain requests are used, not the package fredapi: it hands out parsed pandas objects instead of the bytes
that bronze keeps, asks for XML without time-out, retry or paging, reports 429 and 400 alike, drops
realtime_end and fails beyond 2,000 vintages. It is right for a look at a series in a notebook, where none
of this matters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import count
from typing import Any

import orjson
import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import UTC_US
from lakehouse.coverage import Asked, Claim
from lakehouse.errors import UsageError
from lakehouse.silver import observations, series
from lakehouse.window import Window
from sources.client import Answer, Client, Host
from sources.errors import ParseError, Transient
from sources.feed import Feed
from sources.proofs import snapshot, until_told

PROVIDER = "fred"
KEY_SETTING = "MNEMO_FRED_API_KEY"
KEY_URL = "https://fredaccount.stlouisfed.org/apikeys"
HOST = Host(name="FRED", url="https://api.stlouisfed.org", min_interval_s=0.5)

SERIES_PATH = "/fred/series"
VINTAGES_PATH = "/fred/series/vintagedates"
OBSERVATIONS_PATH = "/fred/series/observations"
FIRST_DAY, LAST_DAY = "1776-07-04", "9999-12-31"

_MOST_VINTAGES = 1_000
_MOST_DATES = 10_000
_MOST_OBSERVATIONS = 100_000
_YEAR_AND_LAG = timedelta(days=500)
"""Annual series are dated by their first day and come out up to four months after their last."""
_SERIES_ID = re.compile(r"[A-Za-z0-9_.\-]+")

Params = dict[str, str | int]


@dataclass(frozen=True, kw_only=True)
class Span:
    """Vintages that one request asks for: a real-time period, both days included.

    Values older than `start` come back cut to it; where `repeats` is set they were in the span before.
    """

    start: str = FIRST_DAY
    end: str = LAST_DAY
    repeats: bool = False


def series_params(series_id: str) -> Params:
    """What is sent to SERIES_PATH for the description of a series as it is today."""
    return {"series_id": series_id, "file_type": "json"}


def history_params(series_id: str) -> Params:
    """What is sent to SERIES_PATH for all descriptions that a series ever had."""
    return {**series_params(series_id), "realtime_start": FIRST_DAY, "realtime_end": LAST_DAY}


def vintages_params(series_id: str) -> Params:
    """What is sent to VINTAGES_PATH; `offset` goes up with further pages."""
    return {**history_params(series_id), "sort_order": "asc", "limit": _MOST_DATES, "offset": 0}


def observations_params(series_id: str, window: Window, span: Span) -> Params:
    """What is sent to OBSERVATIONS_PATH for all that the span says about periods dated inside the window."""
    return {
        "series_id": series_id,
        "file_type": "json",
        "realtime_start": span.start,
        "realtime_end": span.end,
        "observation_start": window.start.date().isoformat(),
        "observation_end": (window.end - timedelta(microseconds=1)).date().isoformat(),
        "output_type": 1,
        "sort_order": "asc",
        "limit": _MOST_OBSERVATIONS,
        "offset": 0,
    }


def spans(vintages: Sequence[str], *, most: int = _MOST_VINTAGES) -> Iterator[Span]:
    """Spans that together cover all time, each with at most `most` vintages that are new in it.

    A span begins on the last vintage of the one before, so that what is cut to its first day is known to be a
    repetition and everything later carries its true date.
    """
    firsts = [None, *vintages[most - 1 : -1 : most]]
    lasts = [*firsts[1:], None]
    for first, last in zip(firsts, lasts, strict=True):
        yield Span(start=first or FIRST_DAY, end=last or LAST_DAY, repeats=first is not None)


def fetch_series(client: Client, series_id: str, window: Window) -> Iterator[Page]:
    """One page: the description as it is today. The window is only kept: descriptions have no periods."""
    asker = _asker(client, "fred_series", series_id, window)
    yield asker.ask(SERIES_PATH, series_params(series_id), rows="seriess").page


def fetch_observations(client: Client, series_id: str, window: Window) -> Iterator[Page]:
    """Descriptions, vintage dates, then every vintage of the periods dated inside the window.

    Revisions of a period are found only by a window that holds the period, however late they come.
    """
    asker = _asker(client, "fred_observations", series_id, window)
    history = asker.ask(SERIES_PATH, history_params(series_id), rows="seriess", kind="series")
    yield history.page
    vintages: list[str] = []
    for said in asker.ask_all(
        VINTAGES_PATH, vintages_params(series_id), rows="vintage_dates", kind="vintages"
    ):
        yield said.page
        vintages += said.rows
    described = [_only(entry, _DESCRIPTION) for entry in history.rows]
    for span in spans(vintages):
        context = {
            "kind": "observations",
            "described": described,
            "repeats": span.start if span.repeats else None,
        }
        params = observations_params(series_id, window, span)
        for said in asker.ask_all(OBSERVATIONS_PATH, params, rows="observations", **context):
            yield said.page


def parse_series(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.series; `known_at` is when the provider last updated the series."""
    entries = [
        {**_texts(page, entry, _SERIES, optional=("notes",)), **_only(page, _STAMP)}
        for page in pages.iter_rows(named=True)
        for entry in _rows(page, "seriess")
    ]
    updated = pl.col("last_updated").str.to_datetime("%Y-%m-%d %H:%M:%S%#z", time_unit="us", strict=False)
    changed_at = pl.coalesce(updated, "received_at")
    return pl.LazyFrame(entries, schema={**_SERIES, **_STAMP}, strict=False).select(
        series_id="id",
        event_at=changed_at,
        known_at=changed_at,
        ingested_at="received_at",
        page_id="page_id",
        provider=pl.lit(PROVIDER),
        title="title",
        frequency="frequency_short",
        unit="units",
        unit_multiplier=pl.lit(0, pl.Int64),
        seasonal_adjustment="seasonal_adjustment_short",
        notes="notes",
    )


def parse_observations(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.observations, one a period and vintage; pages of descriptions and dates have none.

    Raises ParseError for a page of any kind that is not the answer asked for.
    """
    told = [_told(page) for page in pages.iter_rows(named=True)]
    return (
        pl.concat([_NOTHING_TOLD, *(frame for frame in told if frame is not None)])
        .lazy()
        .select(
            series_id="subject",
            period_start=_first_day(),
            event_at=_midnight(_day_after()),
            known_at=_midnight(pl.col("realtime_start").dt.offset_by("1d")),
            ingested_at="received_at",
            page_id="page_id",
            provider=pl.lit(PROVIDER),
            known_at_basis=pl.lit("published"),
            value=pl.col("value").replace(".", None),
            unit="units",
            unit_multiplier=pl.lit(0, pl.Int64),
            status=pl.lit(None, pl.String),
        )
    )


def prove_observations(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """As many observations as the provider counted itself, for each span of vintages."""
    past = asked.past
    if past is None:
        return []
    stated, received = _counts(pages)
    counts = {"stated": sum(stated.values()), "received": sum(received.values())}
    if stated != received:
        why = "which observations are missing: the provider counted more than it sent"
        return [Claim(window=past, status="degraded", proof="count", evidence=counts, cannot_show=why)]
    why = "revisions that came after this fetch"
    claims = until_told(past, asked.at, rows, _YEAR_AND_LAG, why)
    return [replace(claim, proof="count", evidence={**claim.evidence, **counts}) for claim in claims]


def _counts(pages: pl.DataFrame) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """How many observations the provider stated and sent for each real-time period."""
    stated: Counter[tuple[str, str]] = Counter()
    received: Counter[tuple[str, str]] = Counter()
    for page in pages.iter_rows(named=True):
        if orjson.loads(page["request"]).get("kind") == "observations":
            body = orjson.loads(page["body"])
            span = (str(body.get("realtime_start")), str(body.get("realtime_end")))
            stated[span] = body.get("count", -1)  # what is not stated proves nothing
            received[span] += len(body["observations"])
    return stated, received


def _about(subject: str) -> list[dict[str, str]]:
    return [{"provider": PROVIDER, "series_id": subject}]


FEEDS = (
    Feed(
        name="fred_series",
        provider=PROVIDER,
        doc="Descriptions of FRED series: title, unit, frequency, notes.",
        table=series.TABLE,
        subjects="a FRED series id: GDP",
        fetch=fetch_series,
        parse=parse_series,
        proof=snapshot,
        about=_about,
        key_setting=KEY_SETTING,
        key_url=KEY_URL,
        documentation="https://fred.stlouisfed.org/docs/api/fred/series.html",
    ),
    Feed(
        name="fred_observations",
        provider=PROVIDER,
        doc="Values of FRED series in all vintages (ALFRED); the window bounds the dates of the periods.",
        table=observations.TABLE,
        subjects="a FRED series id: GDP",
        fetch=fetch_observations,
        parse=parse_observations,
        proof=prove_observations,
        about=_about,
        key_setting=KEY_SETTING,
        key_url=KEY_URL,
        documentation="https://fred.stlouisfed.org/docs/api/fred/series_observations.html",
    ),
)


# Fetching


@dataclass(frozen=True, kw_only=True)
class _Said:
    """One answer: its rows, how many there are over all pages, and the page to keep."""

    rows: list[Any]
    total: int
    page: Page


@dataclass(frozen=True, kw_only=True)
class _Asker:
    """Asks one question after another about one series and numbers the pages."""

    client: Client
    feed: str
    series_id: str
    window: Window
    key: str
    numbers: Iterator[int] = field(default_factory=count)

    def ask(self, path: str, params: Params, *, rows: str, **context: Any) -> _Said:
        """One answer; Transient where it lacks the list `rows`: during outages HTML comes with status 200."""
        number = next(self.numbers)

        def page(answer: Answer) -> Page:
            subject, window = self.series_id, self.window
            return answer.page(feed=self.feed, subject=subject, window=window, sequence=number, **context)

        answer = self.client.get(
            HOST,
            path,
            params,
            secrets={"api_key": self.key},
            explain=lambda answer: _must_hold(answer, rows),
            refusal=_refusal,
            keep=page,
        )
        body = orjson.loads(answer.body)
        return _Said(rows=body[rows], total=body.get("count", len(body[rows])), page=page(answer))

    def ask_all(self, path: str, params: Params, *, rows: str, **context: Any) -> Iterator[_Said]:
        """Answers until all rows are here; Transient where the provider stops short of its own count."""
        have = 0
        while True:
            said = self.ask(path, {**params, "offset": have}, rows=rows, **context)
            yield said
            have += len(said.rows)
            if have >= said.total:
                return
            if not said.rows:
                message = f"feed {self.feed}, {self.series_id}: {have} of {said.total} {rows}, then none"
                raise Transient(message)


def _asker(client: Client, feed: str, series_id: str, window: Window) -> _Asker:
    if not _SERIES_ID.fullmatch(series_id):
        raise UsageError(f"feed {feed}: {series_id!r} is not a FRED series id such as GDP")
    key = client.key(KEY_SETTING, feed=feed, url=KEY_URL)
    return _Asker(client=client, feed=feed, series_id=series_id, window=window, key=key)


def _must_hold(answer: Answer, rows: str) -> None:
    kind = str if rows == "vintage_dates" else dict
    try:
        body = orjson.loads(answer.body)
        is_held = all(isinstance(row, kind) for row in body[rows]) and isinstance(body[rows], list)
        is_counted = isinstance(body.get("count", 0), int)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        is_held = is_counted = False
    if not (is_held and is_counted):
        raise Transient(f"fred answered {answer.url} without a list {rows}")


def _refusal(answer: Answer) -> str:
    try:
        said = str(orjson.loads(answer.body)["error_message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
    return f"{said} (see the setting {KEY_SETTING}; keys: {KEY_URL})" if "api_key" in said else said


# Understanding

_STAMP = {"page_id": pl.Int64(), "received_at": UTC_US}
_SERIES = dict.fromkeys(
    ("id", "title", "frequency_short", "units", "seasonal_adjustment_short", "notes", "last_updated"),
    pl.String(),
)
_DESCRIPTION = dict.fromkeys(("realtime_start", "frequency", "frequency_short", "units"), pl.String())
_OBSERVATION = dict.fromkeys(("date", "realtime_start", "value"), pl.String())
_TOLD = pl.Schema(
    {
        "subject": pl.String(),
        **_STAMP,
        "date": pl.Date(),
        "realtime_start": pl.Date(),
        "value": pl.String(),
        "frequency": pl.String(),
        "frequency_short": pl.String(),
        "units": pl.String(),
    }
)
_NOTHING_TOLD = _TOLD.to_frame()
_LISTED = {"series": "seriess", "vintages": "vintage_dates"}
"""The list that is in each kind of page without observations."""
_LENGTH = {"D": "1d", "W": "1w", "BW": "2w", "M": "1mo", "Q": "3mo", "SA": "6mo", "A": "1y"}
_BACK_TO_FIRST = {"W": "-6d", "BW": "-13d"}


def _told(page: Mapping[str, Any]) -> pl.DataFrame | None:
    """The observations of one page with what was said of their series on the day of each vintage."""
    request = orjson.loads(page["request"])
    if request["kind"] != "observations":
        _list(page, _LISTED[request["kind"]])
        return None
    rows = [_texts(page, row, _OBSERVATION) for row in _rows(page, "observations")]
    told = pl.DataFrame(rows, schema=_OBSERVATION, strict=False).with_columns(
        pl.col("date", "realtime_start").str.to_date("%Y-%m-%d", strict=False)
    )
    if request["repeats"]:
        is_repeated = pl.col("realtime_start") <= _day(page, request["repeats"])
        told = told.remove(is_repeated)
    described = _described(page, request["described"])
    first = described.row(0, named=True)
    return (
        told.sort("realtime_start")
        .join_asof(described, on="realtime_start")
        .with_columns(
            pl.col(name).fill_null(first[name]) for name in ("frequency", "frequency_short", "units")
        )
        .with_columns(subject=pl.lit(page["subject"]), **{name: pl.lit(page[name]) for name in _STAMP})
        .select(_TOLD.names())
        .cast(_TOLD)
    )


def _described(page: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    described = pl.DataFrame([_texts(page, entry, _DESCRIPTION) for entry in entries], schema=_DESCRIPTION)
    strange = sorted(set(map(str, described["frequency_short"])) - set(_LENGTH))
    if described.is_empty() or strange:
        raise _not_as_expected(
            page, f"no description with a frequency of {', '.join(_LENGTH)}, but {strange}"
        )
    days = [_day(page, text) for text in described["realtime_start"]]
    return described.with_columns(realtime_start=pl.Series(days, dtype=pl.Date())).sort("realtime_start")


def _first_day() -> pl.Expr:
    back = pl.col("frequency_short").replace_strict(_BACK_TO_FIRST, default="0d", return_dtype=pl.String)
    is_end = pl.col("frequency").str.contains("Ending", literal=True)
    return pl.when(is_end).then(pl.col("date").dt.offset_by(back)).otherwise(pl.col("date"))


def _day_after() -> pl.Expr:
    length = pl.col("frequency_short").replace_strict(_LENGTH, return_dtype=pl.String)
    is_weekly = pl.col("frequency_short").is_in(list(_BACK_TO_FIRST))
    names_a_day = is_weekly & pl.col("frequency").str.contains("Ending|As of")
    return pl.col("date").dt.offset_by(pl.when(names_a_day).then(pl.lit("1d")).otherwise(length))


def _midnight(day: pl.Expr) -> pl.Expr:
    return day.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def _rows(page: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects under a name of a page's body."""
    rows = _list(page, name)
    if not all(isinstance(row, dict) for row in rows):
        raise _not_as_expected(page, f"{name} is not a list of objects")
    return rows


def _list(page: Mapping[str, Any], name: str) -> list[Any]:
    try:
        held = orjson.loads(page["body"])[name]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise _not_as_expected(page, f"no list {name} in the body ({type(error).__name__})") from None
    if not isinstance(held, list):
        raise _not_as_expected(page, f"{name} is not a list")
    return held


def _texts(
    page: Mapping[str, Any], entry: Mapping[str, Any], columns: Iterable[str], *, optional: Iterable[str] = ()
) -> dict[str, str | None]:
    """What an object says under some names; ParseError where one is absent, or has a list or an object there."""
    told: dict[str, str | None] = {}
    for name in columns:
        if name not in entry and name not in optional:
            raise _not_as_expected(page, f"an entry without {name}")
        value = entry.get(name)
        if isinstance(value, list | dict):
            raise _not_as_expected(page, f"{name} is a {type(value).__name__} and not a text")
        told[name] = None if value is None else str(value)
    return told


def _day(page: Mapping[str, Any], text: str | None) -> date:
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        raise _not_as_expected(page, f"{text!r} is not the day of a vintage") from None


def _only(entry: Mapping[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    return {name: entry.get(name) for name in columns}


def _not_as_expected(page: Mapping[str, Any], what: str) -> ParseError:
    return ParseError(f"feed {page['feed']}, {page['subject']}, page {page['page_id']}: {what}")
