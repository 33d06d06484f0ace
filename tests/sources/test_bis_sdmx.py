"""BIS pages become observations and series; what is no such page is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from lakehouse.bronze import Page, pages_frame
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.bis_sdmx import FEEDS, parse_observations, parse_series
from sources.client import Client
from sources.errors import ParseError, Permanent
from sources.twin.recording import Recording, read_folder
from sources.twin.server import Twin, serving

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "../shared/recorded/bis"
needs_recorded = pytest.mark.skipif(not RECORDED.exists(), reason="the folder of recorded files is not here")
CREDIT = "WS_GLI/Q.USD.3P.N.A.I.B.USD"
LOANS = "WS_GLI/Q.USD.3P.N.B.I.G.USD"
RECEIVED_AT = datetime(2026, 10, 9, 12, tzinfo=UTC)
ANY_WINDOW = Window(datetime(2000, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))
HEADER = "FREQ,CURR_DENOM,BORROWERS_CTY,TITLE,UNIT_MEASURE,UNIT_MULT,TIME_PERIOD,OBS_VALUE,OBS_STATUS"

observations_feed, series_feed = FEEDS
recordings = list(read_folder(ROOT / "recordings/bis"))


def pages(*said: tuple[str, bytes], received_at: datetime = RECEIVED_AT) -> pl.DataFrame:
    found = [
        Page(feed="bis_observations", subject=subject, request={}, received_at=received_at, body=body)
        for subject, body in said
    ]
    return pages_frame(found, run_id="run", code_version="0")


def small(*rows: str, header: str = HEADER) -> bytes:
    return "\n".join([header, *rows, ""]).encode()


def body_of(subject: str) -> bytes:
    (body,) = (r.body for r in recordings if f"/1.0/{subject.partition('/')[2]}?" in r.url)
    return body


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(Twin(recordings)) as url, Client(Settings(twin_url=url, _env_file=None)) as client:
        yield client


def test_quarters_become_observations_with_unit_scale_and_estimated_publication() -> None:
    asked = pages((CREDIT, body_of(CREDIT)))
    rows = parse_observations(asked).collect()
    assert rows.height == 105
    assert rows.row(0, named=True) == {
        "series_id": CREDIT,
        "period_start": date(2000, 1, 1),
        "event_at": datetime(2000, 4, 1, tzinfo=UTC),
        "known_at": datetime(2000, 7, 30, tzinfo=UTC),
        "ingested_at": RECEIVED_AT,
        "page_id": asked["page_id"].item(),
        "provider": "bis",
        "known_at_basis": "estimated",
        "value": "2337357.294",
        "unit": "USD",
        "unit_multiplier": 6,
        "status": "A",
    }


def test_dollar_credit_has_the_level_that_the_bis_reports() -> None:
    rows = (
        parse_observations(pages((CREDIT, body_of(CREDIT)))).filter(period_start=date(2020, 4, 1)).collect()
    )
    dollars = float(rows["value"].item()) * 10 ** rows["unit_multiplier"].item()
    assert dollars == pytest.approx(12.7e12, rel=0.01)


@needs_recorded
def test_values_are_those_after_the_revision_of_the_day_of_retrieval() -> None:
    revisions = json.loads((RECORDED / "ws_gli/revisions.json").read_bytes())
    expected = {said["period"]: str(said["value_2026-10-09"]) for said in revisions["observations"]}
    rows = parse_observations(pages((CREDIT, body_of(CREDIT)))).collect()
    starts = {"2025-Q1": date(2025, 1, 1), "2025-Q2": date(2025, 4, 1), "2026-Q1": date(2026, 1, 1)}
    found = dict(rows.select("period_start", "value").iter_rows())
    assert {period: found[start] for period, start in starts.items()} == expected


def test_nothing_is_known_later_than_it_was_received() -> None:
    received_at = datetime(2026, 5, 1, tzinfo=UTC)
    rows = parse_observations(pages((CREDIT, body_of(CREDIT)), received_at=received_at)).collect()
    newest = rows.row(-1, named=True)
    assert (newest["event_at"], newest["known_at"]) == (datetime(2026, 4, 1, tzinfo=UTC), received_at)


def test_series_are_described_once_a_page() -> None:
    rows = parse_series(pages((CREDIT, body_of(CREDIT)), (LOANS, body_of(LOANS)))).collect()
    shown = ["series_id", "title", "frequency", "unit", "unit_multiplier", "event_at", "known_at"]
    assert rows.select(shown).rows() == [
        (
            CREDIT,
            "USD denominated credit (bank loans & debt securities) to non-bank borrowers located outside the US",
            *("Q", "USD", 6, RECEIVED_AT, RECEIVED_AT),
        ),
        (
            LOANS,
            "USD denominated bank loans to non-bank borrowers located outside the US",
            *("Q", "USD", 6, RECEIVED_AT, RECEIVED_AT),
        ),
    ]


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("2002", date(2002, 1, 1), datetime(2003, 1, 1, tzinfo=UTC)),
        ("2002-S2", date(2002, 7, 1), datetime(2003, 1, 1, tzinfo=UTC)),
        ("2002-Q4", date(2002, 10, 1), datetime(2003, 1, 1, tzinfo=UTC)),
        ("2004-02", date(2004, 2, 1), datetime(2004, 3, 1, tzinfo=UTC)),
        ("2004-02-29", date(2004, 2, 29), datetime(2004, 3, 1, tzinfo=UTC)),
        ("2004-Q5", None, None),
        ("2004-13", None, None),
    ],
)
def test_periods_of_every_frequency_are_dated(period: str, start: date | None, end: datetime | None) -> None:
    body = small(f"X,USD,3P,Credit,USD,6,{period},1,A")
    rows = parse_observations(pages(("WS_X/X.USD.3P", body))).collect()
    assert rows.select("period_start", "event_at").row(0) == (start, end)


@pytest.mark.parametrize(
    ("value", "status", "expected"),
    [
        ("1.50", "A", ("1.50", "A")),
        ("", "A", (None, "A")),
        ("NaN", "", (None, None)),
        ("NaN", "H", (None, "H")),
        ("", "L", (None, "L")),
        ("0", "Q", (None, "Q")),
        ("7", "M", (None, "M")),
        ("7", "", ("7", None)),
        ("7", "B", ("7", "B")),
        ("x", "E", ("x", "E")),
    ],
)
def test_missing_values_are_null_with_their_reason_and_everything_else_is_the_text_sent(
    value: str, status: str, expected: tuple[str | None, str | None]
) -> None:
    body = small(f"Q,USD,3P,Credit,USD,6,2020-Q1,{value},{status}")
    rows = parse_observations(pages(("WS_X/Q.USD.3P", body))).collect()
    assert rows.select("value", "status").rows() == [expected]


def test_a_key_with_open_positions_brings_every_series_that_fits() -> None:
    body = small("Q,USD,3P,A,USD,6,2020-Q1,1,A", "Q,EUR,4T,B,EUR,6,2020-Q1,2,A")
    rows = parse_observations(pages(("WS_X/Q.USD+EUR.", body))).collect()
    assert rows.select("series_id", "value", "unit").rows() == [
        ("WS_X/Q.USD.3P", "1", "USD"),
        ("WS_X/Q.EUR.4T", "2", "EUR"),
    ]


def test_an_answer_without_rows_is_an_empty_frame() -> None:
    rows = parse_observations(pages(("WS_X/Q.USD.3P", small()))).collect()
    assert (rows.height, rows.schema["value"]) == (0, pl.String)
    assert parse_observations(pages()).collect_schema() == rows.schema


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (body_of(CREDIT)[:5000], "cut off"),
        (b"", "cut off"),
        (b"<html>Service unavailable</html>\n", "TIME_PERIOD"),
        (b'{"errors":[{"code":503}]}\n', "TIME_PERIOD"),
        (body_of(CREDIT) + b"Q,USD" + b",x" * 30 + b"\n", "is not CSV"),
        (body_of(CREDIT).replace(b"UNIT_MULT", b"UNITS", 1), "no column UNIT_MULT"),
        (body_of(CREDIT).replace(b"\nQ,USD,3P", b"\nQ,EUR,3P", 1), r"not asked for: Q\.EUR\.3P"),
    ],
)
def test_what_is_not_the_series_asked_for_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=f"bis bis_observations {CREDIT}: page -?[0-9]+ .*{reason}"):
        parse_observations(pages((CREDIT, body)))


@needs_recorded
def test_another_flow_with_other_dimensions_is_read_by_the_length_of_its_key() -> None:
    subject = "BIS_DER/A............."
    body = (RECORDED / "sdmxthon/data_v1.csv").read_bytes()
    with pytest.raises(ParseError, match="no column UNIT_MEASURE, UNIT_MULT"):
        parse_observations(pages((subject, body)))
    header, *lines = body.decode().splitlines()
    scaled = small(*(f"{line},6,USD" for line in lines), header=f"{header},UNIT_MULT,UNIT_MEASURE")
    rows = parse_observations(pages((subject, scaled))).collect()
    assert (rows.height, rows["value"].null_count(), rows["series_id"].n_unique()) == (1000, 640, 42)
    assert rows["series_id"][0] == "BIS_DER/A.U.A.B.5J.A.1E.A.HKD.TO1.A.A.3.C"


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
def test_a_fetch_over_http_brings_the_recorded_bytes(client: Client, feed) -> None:
    (page,) = feed.fetch(client, CREDIT, ANY_WINDOW)
    assert (page.feed, page.body, page.window) == (feed.name, body_of(CREDIT), None)
    assert page.request["url"] == (
        "https://stats.bis.org/api/v2/data/dataflow/BIS/WS_GLI/1.0/Q.USD.3P.N.A.I.B.USD?format=csv"
    )
    rows = feed.parse(pages_frame([page], run_id="run", code_version="0")).collect()
    assert rows["series_id"].unique().to_list() == [CREDIT]


def test_404_is_explained_as_no_data_or_wrong_key() -> None:
    missing = Recording(url=recordings[0].url, status=404, body=b"No results found")
    with (
        serving(Twin([missing])) as url,
        Client(Settings(twin_url=url, _env_file=None)) as client,
        pytest.raises(Permanent, match=r"404 .*no such key or flow, or one without data"),
    ):
        list(observations_feed.fetch(client, CREDIT, ANY_WINDOW))


@pytest.mark.parametrize(
    "subject", ["WS_X", "WS_GLI/Q.USD", "WS_GLI/all", "ws_gli/Q.USD", "WS_GLI/Q.USD/../x", ""]
)
def test_a_subject_that_cannot_be_a_key_is_refused_unasked(client: Client, subject: str) -> None:
    with pytest.raises(UsageError, match=r"FLOW/KEY|one key position"):
        list(series_feed.fetch(client, subject, ANY_WINDOW))
