"""What FRED's answers prove for the coverage ledger: counts, vintages, calendar."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from lakehouse.bronze import Page, pages_frame
from lakehouse.coverage import Asked
from lakehouse.window import Window
from sources import registry

CASSETTES = Path(__file__).parents[2] / "../shared/recorded/fred/pyfredapi"
FEED = registry.feed("fred_observations")
AT = datetime(2025, 1, 20, tzinfo=UTC)
YEAR = Window(datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
MONTHLY = {
    "realtime_start": "2024-01-15",
    "frequency": "Monthly",
    "frequency_short": "M",
    "units": "Percent",
    "observation_start": "2024-01-01",
    "observation_end": "2024-05-01",
}
MONTHS = ("2024-01-01", "2024-02-01", "2024-03-01", "2024-04-01", "2024-05-01")


def page(body: dict, kind: str, **context) -> Page:
    said = {"kind": kind, **context}
    return Page(
        feed=FEED.name, subject="X", request=said, received_at=AT, body=json.dumps(body).encode(), window=YEAR
    )


def vintage_of(day: str) -> str:
    """A fortnight after the month has ended."""
    return (date.fromisoformat(day) + timedelta(days=45)).isoformat()


def pages(*days: str, described=MONTHLY, vintages=None, count=None, value="1") -> list[Page]:
    """The answers for a series that was released once for each of its periods."""
    rows = [
        {"realtime_start": vintage_of(day), "realtime_end": "9999-12-31", "date": day, "value": value}
        for day in days
    ]
    bounds = {"realtime_start": "1776-07-04", "realtime_end": "9999-12-31"}
    listed = [vintage_of(day) for day in days] if vintages is None else vintages
    body = {**bounds, "count": len(rows) if count is None else count, "observations": rows}
    return [
        page({"seriess": [described]}, "series"),
        page({"vintage_dates": listed}, "vintages"),
        page(body, "observations", described=[described], repeats=None),
    ]


def claims(said: list[Page], window: Window = YEAR):
    asked = pages_frame(said, run_id="r", code_version="v")
    rows = FEED.parse(asked).collect()
    return FEED.proof(Asked(subject="X", window=window, at=AT), asked, rows)


def statuses(said: list[Page], window: Window = YEAR) -> list[tuple[str, str, str]]:
    return [
        (claim.window.start.date().isoformat(), claim.window.end.date().isoformat(), claim.status)
        for claim in claims(said, window)
    ]


def test_as_many_observations_and_vintages_as_the_provider_counts_are_whole_up_to_the_newest_period():
    assert statuses(pages(*MONTHS)) == [
        ("2024-01-01", "2024-06-01", "complete"),
        ("2024-06-01", "2025-01-01", "degraded"),
    ]
    evidence = claims(pages(*MONTHS))[0].evidence
    assert {name: evidence[name] for name in ("stated", "received", "vintages_listed", "vintages_seen")} == {
        "stated": 5,
        "received": 5,
        "vintages_listed": 5,
        "vintages_seen": 5,
    }


@pytest.mark.parametrize("count", [4, 6])
def test_another_number_of_rows_than_the_provider_counts_is_not_whole(count):
    (claim,) = claims(pages(*MONTHS, count=count))
    assert (claim.status, claim.evidence["stated"], claim.evidence["received"]) == ("degraded", count, 5)


def test_a_vintage_that_is_listed_and_in_no_value_is_not_whole():
    vintages = [*(vintage_of(day) for day in MONTHS), "2024-09-09"]
    (claim,) = claims(pages(*MONTHS, vintages=vintages))
    assert claim.status == "degraded"
    assert claim.cannot_show.startswith("what 1 vintages said, from 2024-09-09 on")


def test_a_window_inside_the_series_need_not_see_every_vintage():
    vintages = [*(vintage_of(day) for day in MONTHS), "2024-09-09"]
    described = {**MONTHLY, "observation_start": "1990-01-01"}
    assert statuses(pages(*MONTHS, vintages=vintages, described=described))[0][2] == "complete"


def test_a_vintage_that_only_withdrew_values_is_seen_where_they_end():
    said = pages(*MONTHS, vintages=[*(vintage_of(day) for day in MONTHS), "2024-09-09"])
    body = json.loads(said[-1].body)
    body["observations"][0]["realtime_end"] = "2024-09-08"
    said[-1] = page(body, "observations", described=[MONTHLY], repeats=None)
    assert statuses(said)[0][2] == "complete"


def test_a_value_since_a_day_that_is_no_vintage_makes_the_answer_doubtful():
    (claim,) = claims(pages(*MONTHS, vintages=[vintage_of(day) for day in MONTHS[1:]]))
    assert claim.status == "degraded"
    assert "2024-02-15 are not in the list of vintages" in claim.cannot_show


def test_a_month_that_is_left_out_is_missing_and_a_missing_value_is_not():
    without_march = [day for day in MONTHS if day != "2024-03-01"]
    assert statuses(pages(*without_march)) == [
        ("2024-01-01", "2024-03-01", "complete"),
        ("2024-04-01", "2024-06-01", "complete"),
        ("2024-06-01", "2025-01-01", "degraded"),
        ("2024-03-01", "2024-04-01", "missing"),
    ]
    assert statuses(pages(*MONTHS, value="."))[0] == ("2024-01-01", "2024-06-01", "complete")


@pytest.mark.parametrize(
    ("words", "days"),
    [
        ("Weekly, Ending Friday", ("2024-01-05", "2024-01-12", "2024-01-26")),
        ("Weekly, As of Wednesday", ("2024-01-03", "2024-01-10", "2024-01-24")),
    ],
)
def test_a_week_that_is_left_out_is_missing_whatever_day_the_weeks_are_named_by(words, days):
    weekly = {**MONTHLY, "frequency": words, "frequency_short": "W"}
    missing = [one for one in statuses(pages(*days, described=weekly)) if one[2] == "missing"]
    start = "2024-01-13" if "Ending" in words else "2024-01-17"
    end = (date.fromisoformat(start) + timedelta(days=7)).isoformat()
    assert missing == [(start, end, "missing")]


def test_weekdays_that_a_daily_series_leaves_out_are_counted():
    daily = {**MONTHLY, "frequency": "Daily", "frequency_short": "D"}
    days = ("2024-01-04", "2024-01-05", "2024-01-08", "2024-01-10")
    said = claims(pages(*days, described=daily))
    assert [claim.evidence["weekdays_absent"] for claim in said] == [1, 1]
    assert "missing" not in {claim.status for claim in said}


@pytest.mark.skipif(not CASSETTES.is_dir(), reason="needs the cassettes in ../shared/recorded")
@pytest.mark.parametrize(("at", "vintages"), [(0, 393), (1, 395)])
def test_of_the_recorded_series_every_listed_vintage_is_seen(at, vintages):
    """The cassettes hold two retrievals, 2024-11-03 and 2025-01-20, each twice."""

    def body(name: str) -> dict:
        raw = (CASSETTES / name).read_bytes()
        recorded = yaml.load(gzip.decompress(raw) if name.endswith(".gz") else raw, yaml.CSafeLoader)
        told = [json.loads(one["response"]["body"]["string"]) for one in recorded["interactions"]]
        by_count = {one["count"]: one for one in told}
        return by_count[sorted(by_count)[at]]

    newest, listed = body("get_series_all_releases_json_.yaml.gz"), body("get_series_vintagedates.yaml")
    described = {
        **MONTHLY,
        "frequency": "Quarterly",
        "frequency_short": "Q",
        "observation_start": "1946-01-01",
    }
    said = [
        page({"seriess": [described]}, "series"),
        page(listed, "vintages"),
        page(newest, "observations", described=[described], repeats=None),
    ]
    whole = Window(datetime(1946, 1, 1, tzinfo=UTC), AT)
    found = claims(said, whole)
    assert {claim.status for claim in found} <= {"complete", "degraded"}
    assert found[0].status == "complete"
    evidence = found[0].evidence
    assert (evidence["vintages_listed"], evidence["vintages_seen"]) == (vintages, vintages)
    assert evidence["stated"] == evidence["received"] == newest["count"]


def test_nothing_is_claimed_of_the_future():
    future = Window(AT + timedelta(days=1), AT + timedelta(days=2))
    assert claims(pages(*MONTHS), future) == []


def test_frames_without_rows_claim_nothing_whole():
    assert [claim.status for claim in claims(pages())] == ["degraded"]
