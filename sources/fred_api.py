"""FRED and ALFRED (Federal Reserve Bank of St. Louis): macro series with all their vintages, API version 1.

This product uses the FRED API but is not endorsed or certified by the Federal Reserve Bank of St. Louis.
Documentation: https://fred.stlouisfed.org/docs/api/fred/

- A key is needed, as the parameter `api_key`; a bad one is answered with 400, not 401. 120 requests a
  minute.
- Values are text; `.` means missing. `file_type=json` must be sent, the default is XML. Errors may come with
  another content type than their body has: the body is looked at, not the header.
- A row holds for the real-time period [realtime_start, realtime_end], both ends included and *cut to the
  period asked for*; the current value ends on 9999-12-31. Both bounds are sent with every request for
  values: alone, each has another default. A row that begins where the period asked for begins, on a day that
  is no vintage, gets no `known_at`: nobody knows since when it held.
- One request may not touch more than 2,000 vintages (it is answered with 400), so the vintages are listed
  first and asked for in groups.
- Vintages are dates (days of US Central time) without a clock time. A value counts as known from the
  following midnight UTC: `known_at` = realtime_start + 1 day.
- The archive begins later than many series: the first vintage of an old period is not its first release. Its
  `known_at_basis` is `archived`: the figure was public earlier, and may have been another one.
- `date` is the first day of the period. Weekly and biweekly series that say `Ending <day>` name its last
  day, those that say `As of <day>` the very day.
- Units, title and frequency change over time (a new base year); each vintage gets those that held on its
  day. Values are asked for as they are (`units=lin`, own frequency): transformed, a period that still runs
  looks whole.
- Units stay in the provider's words ("Billions of Dollars") with `unit_multiplier` 0: the words already
  tell the scale, and they are free text that no rule reads without mistakes.
- A series that is replaced gets a new id; the old one stays, with DISCONTINUED in its title.

Plain requests are used, not the package fredapi: it hands out parsed pandas objects instead of the bytes
that bronze keeps, asks for XML without time-out, retry, paging or count check, reports 429 and 400 alike, drops
realtime_end, lets later vintages overwrite earlier ones, and fails beyond 2,000 vintages. It is right for a look at
a series in a notebook, where none of this matters: its `get_series` of a short series gives what
`silver.observations` says last, its `get_series_all_releases` the same vintages up to 2,000.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import orjson
import polars as pl

from lakehouse.bronze import Page
from lakehouse.errors import UsageError
from lakehouse.silver import observations, series
from lakehouse.window import Window
from sources.client import Client
from sources.errors import Transient
from sources.feed import Feed
from sources.fred_proof import prove_observations
from sources.fred_rest import (
    FIRST_DAY,
    KEY_SETTING,
    KEY_URL,
    LAST_DAY,
    PROVIDER,
    STAMP,
    Asker,
    Params,
    about_series,
    cut_at,
    day,
    end_of_day,
    listed,
    midnight,
    not_as_expected,
    objects,
    only,
    quota,
    texts,
)
from sources.proofs import snapshot

SERIES_PATH = "/fred/series"
VINTAGES_PATH = "/fred/series/vintagedates"
OBSERVATIONS_PATH = "/fred/series/observations"

_MOST_VINTAGES = 1_000
_MOST_DATES = 10_000
_MOST_OBSERVATIONS = 100_000
_SERIES_ID = re.compile(r"[A-Za-z0-9_.\-]+")


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


def series_asker(client: Client, feed: str, series_id: str, window: Window) -> Asker:
    """Who asks about one series; UsageError for what cannot be a series id."""
    if not _SERIES_ID.fullmatch(series_id):
        raise UsageError(f"feed {feed}: {series_id!r} is not a FRED series id such as GDP")
    return Asker(client=client, feed=feed, subject=series_id, window=window)


def fetch_series(client: Client, series_id: str, window: Window) -> Iterator[Page]:
    """One page: all descriptions that the series ever had. The window is only kept."""
    asker = series_asker(client, "fred_series", series_id, window)
    yield asker.ask(SERIES_PATH, history_params(series_id), rows="seriess").page


def fetch_observations(client: Client, series_id: str, window: Window) -> Iterator[Page]:
    """Descriptions, vintage dates, then every vintage of the periods dated inside the window.

    Revisions of a period are found only by a window that holds the period, however late they come.
    """
    asker = series_asker(client, "fred_observations", series_id, window)
    history = asker.ask(SERIES_PATH, history_params(series_id), rows="seriess", kind="series")
    yield history.page
    vintages: list[str] = []
    for said in asker.ask_all(
        VINTAGES_PATH, vintages_params(series_id), rows="vintage_dates", kind="vintages"
    ):
        yield said.page
        vintages += said.rows
    if any(later <= earlier for earlier, later in pairwise(vintages)):
        raise Transient(f"feed {asker.feed}, {series_id}: the vintage dates are not in order")
    described = [only(entry, _DESCRIPTION) for entry in history.rows]
    for span in spans(vintages):
        yield from _fetch_span(
            asker, window, span, described=described, archive_from=next(iter(vintages), None)
        )


def parse_series(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.series, one for each description and the vintages from which on it held.

    A description that may have held before the period asked for is dated by the last update of the series.
    """
    entries = [
        {**texts(page, entry, _SERIES, optional=("notes",)), "cut_at": cut_at(page), **only(page, STAMP)}
        for page in pages.iter_rows(named=True)
        for entry in objects(page, "seriess")
    ]
    begun = pl.col("realtime_start").str.to_date("%Y-%m-%d", strict=False)
    is_true_start = pl.col("realtime_start") != pl.col("cut_at")
    updated = pl.col("last_updated").str.to_datetime("%Y-%m-%d %H:%M:%S%#z", time_unit="us", strict=False)
    changed_at = pl.coalesce(pl.when(is_true_start).then(end_of_day(begun)), updated, "received_at")
    schema = {**_SERIES, "cut_at": pl.String(), **STAMP}
    return pl.LazyFrame(entries, schema=schema, strict=False).select(
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
            event_at=midnight(_day_after()),
            known_at=end_of_day(pl.when(~pl.col("is_cut")).then("realtime_start")),
            ingested_at="received_at",
            page_id="page_id",
            provider=pl.lit(PROVIDER),
            known_at_basis=pl.when(_is_archived()).then(pl.lit("archived")).otherwise(pl.lit("published")),
            value=pl.col("value").replace(".", None),
            unit="units",
            unit_multiplier=pl.lit(0, pl.Int64),
            status=pl.lit(None, pl.String),
        )
    )


FEEDS = (
    Feed(
        name="fred_series",
        provider=PROVIDER,
        doc="Descriptions of FRED series as they were over time: title, unit, frequency, notes.",
        table=series.TABLE,
        subjects="a FRED series id: GDP",
        fetch=fetch_series,
        parse=parse_series,
        proof=snapshot,
        about=about_series,
        cost=lambda _subject, _window: 1,
        paging="one answer",
        quota=quota,
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
        about=about_series,
        paging="groups of 1,000 vintages, each by offset, 100,000 rows a page",
        quota=quota,
        key_setting=KEY_SETTING,
        key_url=KEY_URL,
        documentation="https://fred.stlouisfed.org/docs/api/fred/series_observations.html",
    ),
)


# Fetching


def _fetch_span(
    asker: Asker, window: Window, span: Span, *, described: list[dict[str, Any]], archive_from: str | None
) -> Iterator[Page]:
    """The pages of one span; each knows the last period of its predecessor, whose vintages it may continue."""
    context = {
        "kind": "observations",
        "described": described,
        "repeats": span.start if span.repeats else None,
        "archive_from": archive_from,
    }
    params = observations_params(asker.subject, window, span)
    for said in asker.ask_all(OBSERVATIONS_PATH, params, rows="observations", after="date", **context):
        yield said.page


# Understanding

_SERIES = dict.fromkeys(
    (
        "id",
        "realtime_start",
        "title",
        "frequency_short",
        "units",
        "seasonal_adjustment_short",
        "notes",
        "last_updated",
    ),
    pl.String(),
)
_DESCRIPTION = dict.fromkeys(("realtime_start", "frequency", "frequency_short", "units"), pl.String())
_OBSERVATION = dict.fromkeys(("date", "realtime_start", "value"), pl.String())
_TOLD = pl.Schema(
    {
        "subject": pl.String(),
        **STAMP,
        "date": pl.Date(),
        "realtime_start": pl.Date(),
        "value": pl.String(),
        "is_first": pl.Boolean(),
        "is_cut": pl.Boolean(),
        "archive_from": pl.Date(),
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
_PROMPT_DAYS = {"D": 120, "W": 120, "BW": 120, "M": 120, "Q": 210, "SA": 400, "A": 400}
"""What comes later than this after the end of its period is not taken for its first release."""


def _told(page: Mapping[str, Any]) -> pl.DataFrame | None:
    """The observations of one page with what was said of their series on the day of each vintage."""
    request = orjson.loads(page["request"])
    if request["kind"] != "observations":
        listed(page, _LISTED[request["kind"]])
        return None
    rows = [texts(page, row, _OBSERVATION) for row in objects(page, "observations")]
    archive_from = _optional_day(page, request.get("archive_from"))
    begun = pl.col("realtime_start")
    told = (
        pl.DataFrame(rows, schema=_OBSERVATION, strict=False)
        .with_columns(pl.col("date", "realtime_start").str.to_date("%Y-%m-%d", strict=False))
        .with_columns(
            is_first=(begun == begun.min().over("date")) & _is_not(_optional_day(page, request.get("after"))),
            is_cut=begun.eq_missing(_optional_day(page, cut_at(page))) & begun.ne_missing(archive_from),
            archive_from=pl.lit(archive_from, pl.Date),
        )
    )
    if request["repeats"]:
        told = told.remove(begun <= day(page, request["repeats"]))
    described = _described(page, request["described"])
    first = described.row(0, named=True)
    return (
        told.sort("realtime_start")
        .join_asof(described, on="realtime_start")
        .with_columns(
            pl.col(name).fill_null(first[name]) for name in ("frequency", "frequency_short", "units")
        )
        .with_columns(subject=pl.lit(page["subject"]), **{name: pl.lit(page[name]) for name in STAMP})
        .select(_TOLD.names())
        .cast(_TOLD)
    )


def _described(page: Mapping[str, Any], entries: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    described = pl.DataFrame([texts(page, entry, _DESCRIPTION) for entry in entries], schema=_DESCRIPTION)
    strange = sorted(set(map(str, described["frequency_short"])) - set(_LENGTH))
    if described.is_empty() or strange:
        raise not_as_expected(page, f"no description with a frequency of {', '.join(_LENGTH)}, but {strange}")
    days = [day(page, text) for text in described["realtime_start"]]
    return described.with_columns(realtime_start=pl.Series(days, dtype=pl.Date())).sort("realtime_start")


def _optional_day(page: Mapping[str, Any], text: str | None) -> date | None:
    return None if text is None else day(page, text)


def _is_not(period: date | None) -> pl.Expr:
    """False for the period that the page before told of too: its first vintage may be there."""
    return pl.lit(value=True) if period is None else pl.col("date") != period


def _is_archived() -> pl.Expr:
    """Whether a period's first vintage is that of the archive, not that of its release.

    FRED does the same: what it gives as initial releases (`output_type=4`) leaves out the archive's first vintage.
    """
    prompt = pl.col("frequency_short").replace_strict(_PROMPT_DAYS, return_dtype=pl.Int64)
    is_late = pl.col("realtime_start") > _day_after() + pl.duration(days=prompt)
    return pl.col("is_first") & (is_late | (pl.col("realtime_start") == pl.col("archive_from")))


def _first_day() -> pl.Expr:
    back = pl.col("frequency_short").replace_strict(_BACK_TO_FIRST, default="0d", return_dtype=pl.String)
    is_end = pl.col("frequency").str.contains("Ending", literal=True)
    return pl.when(is_end).then(pl.col("date").dt.offset_by(back)).otherwise(pl.col("date"))


def _day_after() -> pl.Expr:
    length = pl.col("frequency_short").replace_strict(_LENGTH, return_dtype=pl.String)
    is_weekly = pl.col("frequency_short").is_in(list(_BACK_TO_FIRST))
    names_a_day = is_weekly & pl.col("frequency").str.contains("Ending|As of")
    return pl.col("date").dt.offset_by(pl.when(names_a_day).then(pl.lit("1d")).otherwise(length))
