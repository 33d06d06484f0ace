"""FRED's release calendar: recorded answers, requests against the twin."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pytest
import stamina
import yaml

from lakehouse.bronze import Page, pages_frame
from lakehouse.clean import new_rows
from lakehouse.conform import conform
from lakehouse.coverage import Asked
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.client import Client
from sources.errors import ParseError, Transient
from sources.fred_calendar import (
    ALL_DATES_PATH,
    DATES_PATH,
    FEEDS,
    RELEASE_PATH,
    SERIES_RELEASE_PATH,
    dates_params,
    release_params,
    series_release_params,
)
from sources.fred_rest import HOST
from sources.twin.recording import Recording
from sources.twin.server import Twin, serving

CASSETTES = Path(__file__).parents[2] / "../shared/recorded/fred/pyfredapi"
DATES, SERIES_RELEASES = FEEDS
RECEIVED = datetime(2025, 1, 20, 15, tzinfo=UTC)
WINDOW = Window(datetime(2024, 12, 1, tzinfo=UTC), datetime(2025, 1, 20, tzinfo=UTC))
NAME = {"releases": [{"id": 10, "name": "Consumer Price Index"}]}

needs_cassettes = pytest.mark.skipif(
    not CASSETTES.is_dir(), reason="needs the cassettes in ../shared/recorded"
)


def days(*said: str, count: int | None = None, offset: int = 0) -> dict:
    rows = [{"release_id": 10, "date": day} for day in said]
    bounds = {"realtime_start": "2024-12-01", "realtime_end": "2025-01-19"}
    return {**bounds, "count": len(rows) if count is None else count, "offset": offset, "release_dates": rows}


def page(body: dict | bytes, kind: str, *, feed=DATES.name, subject="10", at=RECEIVED, name=None) -> Page:
    said = {"kind": kind, "release_name": name}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Page(feed=feed, subject=subject, request=said, received_at=at, body=raw)


def frame(*pages: Page) -> pl.DataFrame:
    return pages_frame(pages, run_id="r", code_version="v")


def parsed(*pages: Page) -> pl.DataFrame:
    return DATES.parse(frame(*pages)).collect()


def recording(path: str, params: dict, body: dict | bytes) -> Recording:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Recording(url=f"{HOST.url}{path}?{urlencode(params)}", body=raw)


@contextmanager
def client_of(*recorded: Recording) -> Iterator[Client]:
    with (
        stamina.set_testing(True, attempts=2, cap=True),
        serving(Twin(list(recorded))) as url,
        Client(Settings(_env_file=None, twin_url=url), now=lambda: RECEIVED) as client,
    ):
        yield client


def cassette(name: str) -> dict:
    """The recorded answer of 2025-01-20."""
    raw = (CASSETTES / name).read_bytes()
    recorded = yaml.load(gzip.decompress(raw) if name.endswith(".gz") else raw, yaml.CSafeLoader)
    answers = [one["response"] for one in recorded["interactions"]]
    (body, *_) = (one["body"]["string"] for one in answers if "20 Jan 2025" in one["headers"]["Date"][0])
    return json.loads(body)


RELEASED = recording(
    DATES_PATH,
    dates_params("10", "2024-12-01", "2025-01-19", planned=False),
    days("2024-12-11", "2025-01-15"),
)
PLANNED = recording(
    DATES_PATH, dates_params("10", "2025-01-20", "9999-12-31", planned=True), days("2025-02-12")
)
NAMED = recording(RELEASE_PATH, release_params("10"), NAME)


def test_days_with_data_are_released_and_days_ahead_are_planned():
    with client_of(NAMED, RELEASED, PLANNED) as client:
        pages = list(DATES.fetch(client, "10", WINDOW))
    assert [page.sequence for page in pages] == [0, 1, 2]
    rows = DATES.parse(frame(*pages)).collect()
    shown = ["release_id", "release_name", "release_date", "status", "event_at", "known_at"]
    received = pages[-1].received_at
    assert rows.select(shown).rows() == [
        (
            *("10", "Consumer Price Index", date(2024, 12, 11), "released"),
            *(datetime(2024, 12, 12, tzinfo=UTC), datetime(2024, 12, 12, tzinfo=UTC)),
        ),
        (
            *("10", "Consumer Price Index", date(2025, 1, 15), "released"),
            *(datetime(2025, 1, 16, tzinfo=UTC), datetime(2025, 1, 16, tzinfo=UTC)),
        ),
        (
            *("10", "Consumer Price Index", date(2025, 2, 12), "planned"),
            *(datetime(2025, 2, 13, tzinfo=UTC), received),
        ),
    ]
    assert conform(DATES.table, rows.lazy()).collect()["reasons"].list.len().sum() == 0


def test_a_plan_stays_known_as_one_until_the_day_brings_data():
    """Planned in January, told again in February, released in February."""
    february = datetime(2025, 2, 20, tzinfo=UTC)
    told = [
        page(days("2025-02-12"), "planned", name="CPI"),
        page(days("2025-02-12"), "planned", name="CPI", at=datetime(2025, 2, 1, tzinfo=UTC)),
        page(days("2025-02-12"), "released", name="CPI", at=february),
    ]
    stored = conform(DATES.table, parsed().lazy()).collect()
    for one in told:
        batch = conform(DATES.table, parsed(one).lazy()).collect()
        stored = pl.concat([stored, new_rows(DATES.table, batch, stored.drop("reasons", "remarks"))])
    assert stored.select("status", "known_at").rows() == [
        ("planned", RECEIVED),
        ("released", datetime(2025, 2, 13, tzinfo=UTC)),
    ]


def test_all_releases_are_paged_until_the_providers_own_count():
    asked = dates_params("all", "2024-12-01", "2025-01-19", planned=False)

    def named(*said: str, offset: int) -> dict:
        body = days(*said, count=3, offset=offset)
        rows = [{**row, "release_name": "Consumer Price Index"} for row in body["release_dates"]]
        return {**body, "release_dates": rows}

    ahead = recording(ALL_DATES_PATH, dates_params("all", "2025-01-20", "9999-12-31", planned=True), days())
    with client_of(
        recording(ALL_DATES_PATH, asked, named("2024-12-11", "2024-12-12", offset=0)),
        recording(ALL_DATES_PATH, {**asked, "offset": 2}, named("2025-01-15", offset=2)),
        ahead,
    ) as client:
        pages = list(DATES.fetch(client, "all", WINDOW))
    rows = DATES.parse(frame(*pages)).collect()
    assert rows["release_date"].to_list() == [date(2024, 12, 11), date(2024, 12, 12), date(2025, 1, 15)]
    assert set(rows["release_name"]) == {"Consumer Price Index"}


@needs_cassettes
def test_the_recorded_days_of_a_release_are_as_many_as_the_provider_counts():
    body = cassette("get_release_dates.yaml")
    rows = parsed(page(body, "released", name=cassette("get_release.yaml")["releases"][0]["name"]))
    assert (rows.height, rows["release_date"].n_unique()) == (body["count"], body["count"])
    assert set(rows.select("release_id", "release_name", "status").iter_rows()) == {
        ("10", "Consumer Price Index", "released")
    }
    assert (rows["release_date"].min(), body["count"]) == (date(1949, 3, 24), 930)
    assert conform(DATES.table, rows.lazy()).collect()["reasons"].list.len().sum() == 0


@needs_cassettes
def test_the_recorded_days_of_all_releases_carry_their_names():
    body = cassette("get_releases_dates.yaml.gz")
    rows = parsed(page(body, "released", subject="all"))
    said = {(str(one["release_id"]), one["release_name"], one["date"]) for one in body["release_dates"]}
    found = rows.select("release_id", "release_name", pl.col("release_date").cast(pl.String))
    assert set(found.iter_rows()) == said
    assert rows.height == body["count"] == 422


@needs_cassettes
def test_a_series_is_linked_to_its_recorded_release():
    body = cassette("get_series_releases.yaml")
    with client_of(recording(SERIES_RELEASE_PATH, series_release_params("GDP"), body)) as client:
        (said,) = SERIES_RELEASES.fetch(client, "GDP", WINDOW)
    rows = SERIES_RELEASES.parse(frame(said)).collect()
    assert rows.select("series_id", "release_id", "release_name", "known_at").rows() == [
        ("GDP", "53", "Gross Domestic Product", said.received_at)
    ]


def test_since_when_a_series_belongs_to_a_release_is_told_where_it_is_not_cut():
    """Hand-made from the documentation of fred/series/release: no recording asks for more than the present."""
    entry = {"id": 53, "realtime_start": "2008-01-01", "name": "Gross Domestic Product"}
    body = {"realtime_start": "1776-07-04", "releases": [entry]}
    rows = SERIES_RELEASES.parse(frame(page(body, "x", feed=SERIES_RELEASES.name, subject="GDP"))).collect()
    assert rows["known_at"].to_list() == [datetime(2008, 1, 2, tzinfo=UTC)]


@pytest.mark.parametrize(("count", "status"), [(2, "complete"), (3, "degraded")])
def test_days_are_whole_where_as_many_came_as_the_provider_counts(count, status):
    pages = frame(page(days("2024-12-11", "2025-01-15", count=count), "released", name="CPI"))
    asked = Asked(subject="10", window=WINDOW, at=RECEIVED)
    (claim,) = DATES.proof(asked, pages, DATES.parse(pages).collect())
    assert (claim.status, claim.evidence["stated"], claim.evidence["received"]) == (status, count, 2)


@pytest.mark.parametrize("kind", ["release", "released", "planned"])
@pytest.mark.parametrize(
    "body",
    [b"<html>Sorry</html>", b'{"release_dates": [{"date', b"[]", b'{"release_dates": [1], "releases": 1}'],
)
def test_a_page_that_is_no_answer_is_named(kind, body):
    bad = page(body, kind)
    with pytest.raises(ParseError, match=rf"feed fred_release_dates, 10, page {bad.page_id}: "):
        parsed(bad)


@pytest.mark.parametrize("name", ["release_id", "date"])
def test_a_field_that_is_renamed_is_named(name):
    body = days("2024-12-11")
    del body["release_dates"][0][name]
    with pytest.raises(ParseError, match=f"an entry without {name}"):
        parsed(page(body, "released"))


def test_a_page_sent_again_in_place_of_the_next_is_an_outage():
    asked = dates_params("10", "2024-12-01", "2025-01-19", planned=False)
    body = days("2024-12-11", "2025-01-15", count=4)
    again = recording(DATES_PATH, {**asked, "offset": 2}, body)
    with (
        client_of(NAMED, recording(DATES_PATH, asked, body), again) as client,
        pytest.raises(Transient, match="the page of release_dates from 2 on came twice"),
    ):
        list(DATES.fetch(client, "10", WINDOW))


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
def test_no_pages_give_no_rows_that_still_fit_the_table(feed):
    assert conform(feed.table, feed.parse(frame())).collect().is_empty()


@pytest.mark.parametrize("subject", ["", "GDP", "10&x", "-1", "ALL"])
def test_what_cannot_be_a_release_is_refused(subject):
    with Client(Settings(_env_file=None)) as client, pytest.raises(UsageError, match="number of a release"):
        list(DATES.fetch(client, subject, WINDOW))
