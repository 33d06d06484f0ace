"""FRED's release calendar: when releases brought data, when they are planned, and which series belong to them.

Documentation: https://fred.stlouisfed.org/docs/api/fred/releases_dates.html

- The days ahead are given only with `include_release_dates_with_no_data=true` and a real-time period that reaches
  into the future; with it past days without data come too. So the past is asked for without it, and from today
  on with it: what is in the first answer was released, what is in the second is planned.
- Days, no clock times; planned ones slip. A plan that was not kept stays a row that says `planned`.
- A release that is updated every day lists every day, weekends too.
- `releases/dates` gives at most 1,000 days a page with the names of the releases, `release/dates` 10,000 without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import orjson
import polars as pl

from lakehouse.bronze import Page
from lakehouse.coverage import Asked, Claim
from lakehouse.errors import UsageError
from lakehouse.silver import release_dates, series_releases
from lakehouse.window import Window
from sources.client import Client
from sources.feed import Feed
from sources.fred_api import series_asker
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
    counts,
    cut_at,
    end_of_day,
    objects,
    only,
    quota,
    texts,
)
from sources.proofs import paged_to_end, snapshot

ALL = "all"
RELEASE_PATH = "/fred/release"
DATES_PATH = "/fred/release/dates"
ALL_DATES_PATH = "/fred/releases/dates"
SERIES_RELEASE_PATH = "/fred/series/release"

_MOST_DATES = 10_000
_MOST_DATES_OF_ALL = 1_000


def release_params(release_id: str) -> Params:
    """What is sent to RELEASE_PATH for the name of a release."""
    return {"release_id": release_id, "file_type": "json"}


def dates_params(subject: str, start: str, end: str, *, planned: bool) -> Params:
    """What is sent to DATES_PATH, or for ALL to ALL_DATES_PATH, for the days from `start` to `end`, both included."""
    asked: Params = {"file_type": "json"} if subject == ALL else release_params(subject)
    return {
        **asked,
        "realtime_start": start,
        "realtime_end": end,
        "include_release_dates_with_no_data": str(planned).lower(),
        "sort_order": "asc",
        "limit": _MOST_DATES_OF_ALL if subject == ALL else _MOST_DATES,
        "offset": 0,
    }


def series_release_params(series_id: str) -> Params:
    """What is sent to SERIES_RELEASE_PATH for all releases that a series ever came with."""
    return {
        "series_id": series_id,
        "file_type": "json",
        "realtime_start": FIRST_DAY,
        "realtime_end": LAST_DAY,
    }


def fetch_release_dates(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """The days of a release, or of all, inside the window; then the days planned from now on, whatever the window."""
    if subject != ALL and not (subject.isascii() and subject.isdigit()):
        raise UsageError(
            f"feed fred_release_dates: {subject!r} is neither {ALL} nor the number of a release such as 53"
        )
    asker = Asker(client=client, feed="fred_release_dates", subject=subject, window=window)
    name = None
    if subject != ALL:
        release = asker.ask(RELEASE_PATH, release_params(subject), rows="releases", kind="release")
        yield release.page
        name = release.rows[0].get("name") if release.rows else None
    last = (window.end - timedelta(microseconds=1)).date().isoformat()
    past = (window.start.date().isoformat(), last)
    ahead = (client.now().date().isoformat(), LAST_DAY)
    released = _days(asker, *past, kind="released", name=name)
    planned = _days(asker, *ahead, kind="planned", name=name)
    yield from chain(released, planned)


def fetch_series_releases(client: Client, series_id: str, window: Window) -> Iterator[Page]:
    """One page: all releases that the series ever came with. The window is only kept."""
    asker = series_asker(client, "fred_series_releases", series_id, window)
    yield asker.ask(SERIES_RELEASE_PATH, series_release_params(series_id), rows="releases").page


def parse_release_dates(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.release_dates. A plan is known since it was received, a release from the end of its day."""
    entries = [entry for page in pages.iter_rows(named=True) for entry in _dated(page)]
    day = pl.col("date").str.to_date("%Y-%m-%d", strict=False)
    is_plan = pl.col("status") == "planned"
    return pl.LazyFrame(entries, schema=_DATED, strict=False).select(
        "release_id",
        release_date=day,
        event_at=end_of_day(day),
        known_at=pl.when(is_plan).then("received_at").otherwise(end_of_day(day)),
        ingested_at="received_at",
        page_id="page_id",
        provider=pl.lit(PROVIDER),
        release_name="release_name",
        status="status",
    )


def parse_series_releases(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.series_releases; since when it is so is known unless the answer is cut at that day."""
    entries = [
        {
            **texts(page, entry, ("id", "name", "realtime_start")),
            **only(page, ("subject", *STAMP)),
            "cut_at": cut_at(page),
        }
        for page in pages.iter_rows(named=True)
        for entry in objects(page, "releases")
    ]
    begun = pl.col("realtime_start").str.to_date("%Y-%m-%d", strict=False)
    is_true_start = pl.col("realtime_start") != pl.col("cut_at")
    since = pl.coalesce(pl.when(is_true_start).then(end_of_day(begun)), "received_at")
    return pl.LazyFrame(entries, schema=_BELONGING, strict=False).select(
        series_id="subject",
        event_at=since,
        known_at=since,
        ingested_at="received_at",
        page_id="page_id",
        provider=pl.lit(PROVIDER),
        release_id="id",
        release_name="name",
    )


def prove_release_dates(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """As many days as the provider counted itself."""
    stated, received = counts(pages, {"released": "release_dates"})
    evidence = {"stated": sum(stated.values()), "received": sum(received.values())}
    if asked.past is not None and stated != received:
        why = "which days are missing: the provider counted more than it sent"
        return [
            Claim(window=asked.past, status="degraded", proof="count", evidence=evidence, cannot_show=why)
        ]
    released = rows.filter(pl.col("status") == "released")
    claims = paged_to_end(asked, pages, released)
    return [replace(claim, proof="count", evidence={**claim.evidence, **evidence}) for claim in claims]


FEEDS = (
    Feed(
        name="fred_release_dates",
        provider=PROVIDER,
        doc="Days on which a FRED release brought data, and those planned ahead.",
        table=release_dates.TABLE,
        subjects=f"the number of a release: 53, or {ALL}",
        fetch=fetch_release_dates,
        parse=parse_release_dates,
        proof=prove_release_dates,
        paging="by offset, 10,000 days a page, of all releases 1,000",
        quota=quota,
        key_setting=KEY_SETTING,
        key_url=KEY_URL,
        documentation="https://fred.stlouisfed.org/docs/api/fred/release_dates.html",
    ),
    Feed(
        name="fred_series_releases",
        provider=PROVIDER,
        doc="With which release a FRED series comes out.",
        table=series_releases.TABLE,
        subjects="a FRED series id: GDP",
        fetch=fetch_series_releases,
        parse=parse_series_releases,
        proof=snapshot,
        about=about_series,
        cost=lambda _subject, _window: 1,
        paging="one answer",
        quota=quota,
        key_setting=KEY_SETTING,
        key_url=KEY_URL,
        documentation="https://fred.stlouisfed.org/docs/api/fred/series_release.html",
    ),
)


def _days(asker: Asker, start: str, end: str, *, kind: str, name: str | None) -> Iterator[Page]:
    path = ALL_DATES_PATH if asker.subject == ALL else DATES_PATH
    params = dates_params(asker.subject, start, end, planned=kind == "planned")
    for said in asker.ask_all(path, params, rows="release_dates", kind=kind, release_name=name):
        yield said.page


_DATED = pl.Schema(
    {
        "release_id": pl.String(),
        "date": pl.String(),
        "release_name": pl.String(),
        "status": pl.String(),
        **STAMP,
    }
)
_BELONGING = pl.Schema(
    {
        "subject": pl.String(),
        "id": pl.String(),
        "name": pl.String(),
        "realtime_start": pl.String(),
        "cut_at": pl.String(),
        **STAMP,
    }
)


def _dated(page: dict[str, Any]) -> Iterator[dict[str, str | int | datetime | None]]:
    """The days of one page; the page that names the release has none."""
    request = orjson.loads(page["request"])
    if request["kind"] == "release":
        objects(page, "releases")
        return
    for entry in objects(page, "release_dates"):
        told = texts(page, entry, ("release_id", "date", "release_name"), optional=("release_name",))
        name = told["release_name"] or request["release_name"]
        yield {**told, "release_name": name, "status": request["kind"], **only(page, STAMP)}
