"""FRED: requests against the twin and a small server that cuts as FRED does; parsing against recorded answers."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest
import stamina
import yaml
from pydantic import SecretStr

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.client import Client
from sources.errors import MissingKey, ParseError, Permanent, Transient
from sources.fred_api import FEEDS, spans
from sources.twin.server import running_twin

ROOT = Path(__file__).parents[2]
CASSETTES = ROOT / "../shared/recorded/fred/pyfredapi"
SERIES, OBSERVATIONS = FEEDS
RECEIVED = datetime(2025, 1, 20, 14, 56, 17, tzinfo=UTC)
GDP_WINDOW = Window(datetime(1947, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
KEY = "abcdefghijklmnopqrstuvwxyz012345"
GDP = {
    "realtime_start": "2024-12-19",
    "frequency": "Quarterly",
    "frequency_short": "Q",
    "units": "Billions of Dollars",
}

needs_cassettes = pytest.mark.skipif(
    not CASSETTES.is_dir(), reason="needs the cassettes in ../shared/recorded"
)


def page(body, *, feed=OBSERVATIONS.name, subject="GDP", **request) -> Page:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Page(feed=feed, subject=subject, request=request, received_at=RECEIVED, body=raw)


def observed(body, *, subject="GDP", described=(GDP,), repeats=None, **context) -> Page:
    said = {"kind": "observations", "described": list(described), "repeats": repeats}
    return page(body, subject=subject, **said, **context)


def frame(*pages: Page) -> pl.DataFrame:
    return pages_frame(pages, run_id="r", code_version="v")


def parsed(*pages: Page) -> pl.DataFrame:
    return OBSERVATIONS.parse(frame(*pages)).collect()


def row(day: str, vintage: str, value: str) -> dict[str, str]:
    return {"realtime_start": vintage, "realtime_end": "9999-12-31", "date": day, "value": value}


def cassette(name: str) -> dict[str, dict]:
    """The answers of a cassette by the day of retrieval."""
    raw = (CASSETTES / name).read_bytes()
    recorded = yaml.load(gzip.decompress(raw) if name.endswith(".gz") else raw, yaml.CSafeLoader)
    answers = [interaction["response"] for interaction in recorded["interactions"]]
    return {
        parsedate_to_datetime(answer["headers"]["Date"][0]).date().isoformat(): json.loads(
            answer["body"]["string"]
        )
        for answer in answers
    }


def latest(rows: pl.DataFrame) -> dict[date, str | None]:
    """The newest value of each period."""
    newest = rows.sort("known_at").group_by("period_start").last()
    return dict(newest.select("period_start", "value").iter_rows())


def said(body: dict) -> dict[date, str | None]:
    rows = ((date.fromisoformat(o["date"]), o["value"]) for o in body["observations"])
    return {day: None if value == "." else value for day, value in rows}


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


# What the rows say


def test_each_vintage_of_a_period_is_a_row_known_from_the_day_after_it():
    rows = parsed(
        observed(
            {
                "observations": [
                    row("2024-07-01", "2024-10-30", "29349.924"),
                    row("2024-07-01", "2024-11-27", "29354.321"),
                ]
            }
        )
    )
    assert rows.drop("page_id").sort("known_at").rows(named=True) == [
        {
            "series_id": "GDP",
            "period_start": date(2024, 7, 1),
            "event_at": datetime(2024, 10, 1, tzinfo=UTC),
            "known_at": datetime(2024, 10, 31, tzinfo=UTC),
            "ingested_at": RECEIVED,
            "provider": "fred",
            "known_at_basis": "published",
            "value": "29349.924",
            "unit": "Billions of Dollars",
            "unit_multiplier": 0,
            "status": None,
        },
        {
            "series_id": "GDP",
            "period_start": date(2024, 7, 1),
            "event_at": datetime(2024, 10, 1, tzinfo=UTC),
            "known_at": datetime(2024, 11, 28, tzinfo=UTC),
            "ingested_at": RECEIVED,
            "provider": "fred",
            "known_at_basis": "published",
            "value": "29354.321",
            "unit": "Billions of Dollars",
            "unit_multiplier": 0,
            "status": None,
        },
    ]


def test_a_dot_is_a_missing_value_and_not_a_missing_row():
    rows = parsed(observed({"observations": [row("1946-01-01", "1991-12-04", ".")]}))
    assert rows["value"].to_list() == [None]


@pytest.mark.parametrize(
    ("short", "words", "day", "period_start", "ends"),
    [
        ("D", "Daily", "2024-02-29", "2024-02-29", "2024-03-01"),
        ("W", "Weekly, Ending Friday", "2024-01-05", "2023-12-30", "2024-01-06"),
        ("W", "Weekly, As of Wednesday", "2024-01-03", "2024-01-03", "2024-01-04"),
        ("W", "Weekly", "2024-01-01", "2024-01-01", "2024-01-08"),
        ("BW", "Biweekly, Ending Wednesday", "2024-01-17", "2024-01-04", "2024-01-18"),
        ("M", "Monthly", "2024-02-01", "2024-02-01", "2024-03-01"),
        ("Q", "Quarterly, End of Period", "2024-10-01", "2024-10-01", "2025-01-01"),
        ("SA", "Semiannual", "2024-07-01", "2024-07-01", "2025-01-01"),
        ("A", "Annual", "2023-01-01", "2023-01-01", "2024-01-01"),
    ],
)
def test_a_period_ends_where_its_frequency_says(short, words, day, period_start, ends):
    described = {**GDP, "frequency": words, "frequency_short": short}
    rows = parsed(observed({"observations": [row(day, "2025-01-10", "1")]}, described=[described]))
    assert rows["period_start"].to_list() == [date.fromisoformat(period_start)]
    assert rows["event_at"].to_list() == [datetime.fromisoformat(ends).replace(tzinfo=UTC)]


def test_a_vintage_carries_the_unit_of_its_day():
    described = [
        {**GDP, "realtime_start": "1991-12-04", "units": "Billions of 1987 Dollars"},
        {**GDP, "realtime_start": "1996-01-19", "units": "Billions of Chained 1992 Dollars"},
    ]
    vintages = ["1991-11-01", "1996-01-18", "1996-01-19", "2003-05-01"]
    rows = parsed(
        observed({"observations": [row("1990-01-01", v, "1") for v in vintages]}, described=described[::-1])
    )
    assert rows.sort("known_at")["unit"].to_list() == [
        "Billions of 1987 Dollars",
        "Billions of 1987 Dollars",
        "Billions of Chained 1992 Dollars",
        "Billions of Chained 1992 Dollars",
    ]


def test_pages_of_several_series_keep_their_own_units():
    percent = {**GDP, "frequency_short": "M", "frequency": "Monthly", "units": "Percent"}
    rows = parsed(
        observed(
            {"observations": [row("2024-01-01", "2024-02-02", "3.7")]}, subject="UNRATE", described=[percent]
        ),
        page({"vintage_dates": ["2024-02-02"]}, kind="vintages"),
        observed({"observations": [row("2024-01-01", "2024-04-25", "28269.174")]}),
    )
    assert set(rows.select("series_id", "unit", "value").iter_rows()) == {
        ("UNRATE", "Percent", "3.7"),
        ("GDP", "Billions of Dollars", "28269.174"),
    }


def test_rows_that_cannot_be_read_are_left_to_the_gate():
    rows = parsed(
        observed({"observations": [row("2024-13-01", "2024-10-30", "1"), row("2024-07-01", "soon", "x")]})
    )
    judged = conform(OBSERVATIONS.table, rows.lazy()).collect()
    assert [sorted(reasons) for reasons in judged["reasons"]] == [
        ["known_at_missing", "value_not_a_number"],
        ["event_at_missing", "period_start_missing"],
    ]


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
def test_no_pages_give_no_rows_that_still_fit_the_table(feed):
    assert conform(feed.table, feed.parse(frame())).collect().is_empty()


def test_an_empty_answer_is_no_error():
    assert parsed(observed({"count": 0, "observations": []})).is_empty()


@pytest.mark.parametrize(
    "body",
    [
        b'{"observations":[{"date":',
        b"<html>Service Unavailable</html>",
        {"error_code": 400, "error_message": "Bad Request.  The series does not exist."},
        {"observations": {}},
        {"observations": [1]},
        [],
    ],
)
def test_a_page_that_is_no_answer_is_named(body):
    bad = observed(body)
    with pytest.raises(ParseError, match=rf"feed fred_observations, GDP, page {bad.page_id}: .*observations"):
        parsed(bad)


def test_an_unknown_frequency_is_named():
    with pytest.raises(ParseError, match="'5Y'"):
        parsed(observed({"observations": []}, described=[{**GDP, "frequency_short": "5Y"}]))


INFO = {
    "id": "GDP",
    "realtime_start": "2024-12-19",
    "title": "Gross Domestic Product",
    "frequency": "Quarterly",
    "frequency_short": "Q",
    "units": "Billions of Dollars",
    "seasonal_adjustment": "Seasonally Adjusted Annual Rate",
    "seasonal_adjustment_short": "SAAR",
    "last_updated": "2024-12-19 07:51:08-06",
    "popularity": 93,
}


def test_a_description_cut_to_the_day_of_asking_is_dated_by_the_last_update():
    body = {"realtime_start": "2024-12-19", "seriess": [INFO]}
    rows = SERIES.parse(frame(page(body, feed=SERIES.name))).collect()
    assert rows.drop("page_id").rows(named=True) == [
        {
            "series_id": "GDP",
            "event_at": datetime(2024, 12, 19, 13, 51, 8, tzinfo=UTC),
            "known_at": datetime(2024, 12, 19, 13, 51, 8, tzinfo=UTC),
            "ingested_at": RECEIVED,
            "provider": "fred",
            "title": "Gross Domestic Product",
            "frequency": "Q",
            "unit": "Billions of Dollars",
            "unit_multiplier": 0,
            "seasonal_adjustment": "SAAR",
            "notes": None,
        }
    ]


def test_every_description_that_a_series_had_is_a_row_known_from_the_day_after_it_began():
    """Hand-made from the documentation of fred/series: no recording asks for more than the present."""
    old = {**INFO, "realtime_start": "1991-12-04", "units": "Billions of 1987 Dollars"}
    new = {**INFO, "realtime_start": "1996-01-19", "units": "Billions of Chained 1992 Dollars"}
    body = {"realtime_start": "1776-07-04", "seriess": [new, old]}
    rows = SERIES.parse(frame(page(body, feed=SERIES.name))).collect()
    assert rows.sort("known_at").select("unit", "known_at").rows() == [
        ("Billions of 1987 Dollars", datetime(1991, 12, 5, tzinfo=UTC)),
        ("Billions of Chained 1992 Dollars", datetime(1996, 1, 20, tzinfo=UTC)),
    ]


def test_all_descriptions_are_asked_for():
    archive = Archive(vintages=1)
    with client_at(archive.answer) as client:
        list(SERIES.fetch(client, "X", WINDOW))
    ((path, asked),) = archive.asked
    assert (path, asked["realtime_start"], asked["realtime_end"]) == (
        "/fred/series",
        "1776-07-04",
        "9999-12-31",
    )


# What a vintage is


def cut(*rows: dict[str, str], start: str = "1776-07-04") -> dict:
    return {"realtime_start": start, "realtime_end": "9999-12-31", "observations": list(rows)}


def test_a_value_cut_to_the_first_day_asked_for_has_no_vintage_and_is_held_back():
    rows = parsed(observed(cut(row("2024-07-01", "1776-07-04", "1"), row("2024-07-01", "2024-10-30", "2"))))
    judged = conform(OBSERVATIONS.table, rows.lazy()).collect().sort("value")
    assert judged.select("value", "reasons").rows() == [(1.0, ["known_at_missing"]), (2.0, [])]


def test_a_value_that_begins_on_the_first_day_asked_for_is_a_vintage_where_the_provider_lists_that_day():
    body = cut(row("2024-07-01", "2024-10-30", "2"), start="2024-10-30")
    (known_at,) = parsed(observed(body, archive_from="2024-10-30"))["known_at"]
    assert known_at == datetime(2024, 10, 31, tzinfo=UTC)


MONTHLY = {**GDP, "frequency": "Monthly", "frequency_short": "M"}


@pytest.mark.parametrize(
    ("vintages", "context", "basis"),
    [
        (["2024-02-13"], {}, ["published"]),
        (["2024-05-31", "2024-06-12"], {}, ["published", "published"]),
        (["2024-06-01", "2024-06-12"], {}, ["archived", "published"]),
        (["2024-02-13", "2024-03-12"], {"archive_from": "2024-02-13"}, ["archived", "published"]),
        (["2024-02-13", "2025-01-10"], {"archive_from": "1991-12-04"}, ["published", "published"]),
        (["2024-06-01"], {"after": "2024-01-01"}, ["published"]),
        (["2024-06-01"], {"after": "2023-12-01"}, ["archived"]),
        (["2024-02-13", "2024-06-12"], {"repeats": "2024-02-13"}, ["published"]),
    ],
)
def test_a_first_vintage_that_comes_late_or_with_the_archive_is_not_taken_for_the_first_release(
    vintages, context, basis
):
    body = {"observations": [row("2024-01-01", vintage, vintage) for vintage in vintages]}
    rows = parsed(observed(body, described=[MONTHLY], **context)).sort("known_at")
    assert rows["known_at_basis"].to_list() == basis


# Recorded answers of the provider


@needs_cassettes
@pytest.mark.parametrize(
    ("retrieved", "vintages", "missing"), [("2024-11-03", 393, 245), ("2025-01-20", 395, 245)]
)
def test_the_newest_vintages_are_the_values_that_the_provider_gives_today(retrieved, vintages, missing):
    rows = parsed(observed(cassette("get_series_all_releases_json_.yaml.gz")[retrieved]))
    today = said(cassette("get_series_json_.yaml")[retrieved])
    assert len(today) == 315
    assert latest(rows) == today
    assert rows["known_at"].n_unique() == vintages
    assert rows["value"].null_count() == missing
    dates = cassette("get_series_vintagedates.yaml")[retrieved]["vintage_dates"]
    assert set(rows["known_at"].dt.date()) == {date.fromisoformat(day) + timedelta(days=1) for day in dates}


@needs_cassettes
def test_what_was_known_on_a_past_day_is_what_the_provider_says_was_known():
    rows = parsed(observed(cassette("get_series_all_releases_json_.yaml.gz")["2025-01-20"]))
    known = rows.filter(pl.col("known_at") <= datetime(2019, 1, 2, tzinfo=UTC))
    recorded = parsed(observed(cassette("get_series_asof_date_json_.yaml.gz")["2025-01-20"]))
    assert latest(known) == latest(recorded)
    assert len(known) == len(recorded) == 2902


@needs_cassettes
def test_the_first_row_of_a_period_is_its_first_release():
    rows = parsed(observed(cassette("get_series_all_releases_json_.yaml.gz")["2025-01-20"]))
    first = {
        (day, known.date() - timedelta(days=1), value)
        for day, known, value in rows.filter(pl.col("value").is_not_null())
        .sort("known_at")
        .group_by("period_start")
        .first()
        .select("period_start", "known_at", "value")
        .iter_rows()
    }
    released = {
        (date.fromisoformat(o["date"]), date.fromisoformat(o["realtime_start"]), o["value"])
        for o in cassette("get_series_initial_release_json_.yaml")["2025-01-20"]["observations"]
    }
    assert len(released) == 132
    assert released <= first


@needs_cassettes
@pytest.mark.parametrize(("retrieved", "published"), [("2024-11-03", 132), ("2025-01-20", 132)])
def test_what_is_called_published_first_is_exactly_what_the_provider_calls_initial_releases(
    retrieved, published
):
    body = cassette("get_series_all_releases_json_.yaml.gz")[retrieved]
    first_vintage = min(o["realtime_start"] for o in body["observations"])
    rows = parsed(observed(body, archive_from=first_vintage)).sort("known_at")
    first = rows.group_by("period_start").first()
    initial = {
        date.fromisoformat(o["date"])
        for o in cassette("get_series_initial_release_json_.yaml")[retrieved]["observations"]
    }
    assert set(first.filter(known_at_basis="published")["period_start"]) == initial
    assert (len(initial), (first["known_at_basis"] == "archived").sum()) == (published, 315 - published)
    assert (rows["known_at_basis"] == "archived").sum() == 315 - published


@needs_cassettes
def test_no_recorded_value_was_known_before_its_period_had_ended():
    rows = parsed(observed(cassette("get_series_all_releases_json_.yaml.gz")["2025-01-20"]))
    assert rows.select((pl.col("known_at") - pl.col("event_at")).min()).item() == timedelta(days=25)


@needs_cassettes
def test_a_later_retrieval_adds_vintages_and_changes_none():
    answers = cassette("get_series_all_releases_json_.yaml.gz")
    old, new = (
        set(parsed(observed(answers[day])).select("period_start", "known_at", "value").iter_rows())
        for day in ("2024-11-03", "2025-01-20")
    )
    assert old < new
    assert sorted(new - old) == [
        (date(2024, 7, 1), datetime(2024, 11, 28, tzinfo=UTC), "29354.321"),
        (date(2024, 7, 1), datetime(2024, 12, 20, tzinfo=UTC), "29374.914"),
    ]


@pytest.mark.parametrize(
    ("feed", "rows"), [(SERIES, 1), (OBSERVATIONS, 3201)], ids=lambda x: getattr(x, "name", x)
)
def test_the_demo_gives_clean_rows_over_the_twin_without_a_key(feed, rows):
    with (
        running_twin(ROOT / "recordings" / "fred") as url,
        Client(Settings(_env_file=None, twin_url=url)) as client,
    ):
        pages = list(feed.fetch(client, "GDP", GDP_WINDOW))
    judged = conform(feed.table, feed.parse(frame(*pages))).collect()
    assert len(judged) == rows
    assert judged["reasons"].list.len().sum() == 0
    assert judged.select(feed.table.key).n_unique() == rows
    assert [page.sequence for page in pages] == list(range(len(pages)))


# How it is asked for


TOO_MANY = json.dumps(
    {
        "error_code": 400,
        "error_message": "Bad Request.  This exceeds the maximum number of vintage dates allowed (2000).",
    }
).encode()


class Archive:
    """Answers as FRED does for one daily series: periods cut to what is asked, in pages of `page_size`."""

    def __init__(self, vintages: int, page_size: int = 100_000) -> None:
        first = date(2010, 1, 1)
        self.days = [(first + timedelta(days=n)).isoformat() for n in range(vintages)]
        self.page_size = page_size
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def truth(self) -> set[tuple[str, str, str]]:
        """Period, vintage and value: every other vintage changes one of nine periods, in turn."""
        return {(f"2009-0{1 + n % 9}-01", day, f"{n // 2}") for n, day in enumerate(self.days) if n % 2 == 0}

    def answer(self, path: str, asked: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append((path, asked))
        if path == "/fred/series":
            entry = {**GDP, "id": "X", "frequency": "Monthly", "frequency_short": "M"}
            return 200, json.dumps({"seriess": [entry]}).encode()
        if path == "/fred/series/vintagedates":
            start, end = asked["realtime_start"], asked["realtime_end"]
            return 200, self.paged("vintage_dates", self.days, asked, start, end)
        start, end = asked["realtime_start"], asked["realtime_end"]
        if sum(start <= day <= end for day in self.days) > 2000:
            return 400, TOO_MANY
        return 200, self.paged("observations", self.cut(start, end), asked, start, end)

    def cut(self, start: str, end: str) -> list[dict[str, str]]:
        rows = []
        for period in sorted({period for period, _, _ in self.truth}):
            versions = sorted((vintage, value) for p, vintage, value in self.truth if p == period)
            ends = [date.fromisoformat(v).toordinal() - 1 for v, _ in versions[1:]] + [date.max.toordinal()]
            for (vintage, value), last in zip(versions, ends, strict=True):
                if vintage <= end and date.fromordinal(last).isoformat() >= start:
                    rows.append(row(period, max(vintage, start), value))
        return rows

    def paged(self, name: str, rows: list, asked: dict[str, str], start: str, end: str) -> bytes:
        offset = int(asked["offset"])
        said = {"realtime_start": start, "realtime_end": end, "count": len(rows), "offset": offset}
        return json.dumps({**said, name: rows[offset : offset + self.page_size]}).encode()


@contextmanager
def client_at(answer, content_type: str = "application/json") -> Iterator[Client]:
    """A client whose FRED is a server on loopback that answers with `answer(path, parameters)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            status, body = answer(parts.path, dict(parse_qsl(parts.query)))
            self.send_response_only(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = f"http://127.0.0.1:{http.server_port}"
        providers = {"MNEMO_FRED_URL": SecretStr(url), "MNEMO_FRED_API_KEY": SecretStr(KEY)}
        try:
            with Client(Settings(_env_file=None, providers=providers)) as client:
                yield client
        finally:
            http.shutdown()
            thread.join()


WINDOW = Window(datetime(2009, 1, 1, tzinfo=UTC), datetime(2009, 12, 31, tzinfo=UTC))


def fetched(archive: Archive) -> set[tuple[str, str, str]]:
    with client_at(archive.answer) as client:
        pages = list(OBSERVATIONS.fetch(client, "X", WINDOW))
    rows = parsed(*pages).select(
        pl.col("period_start").cast(pl.String),
        pl.col("known_at").dt.offset_by("-1d").dt.date().cast(pl.String),
        "value",
    )
    assert rows.n_unique() == len(rows)
    return set(rows.iter_rows())


def test_vintages_beyond_what_one_request_may_touch_keep_their_true_dates():
    archive = Archive(vintages=2300)
    assert fetched(archive) == archive.truth
    spans_asked = [
        (asked["realtime_start"], asked["realtime_end"])
        for path, asked in archive.asked
        if path.endswith("observations")
    ]
    days = archive.days
    assert spans_asked == [
        ("1776-07-04", days[999]),
        (days[999], days[1999]),
        (days[1999], "9999-12-31"),
    ]


@pytest.mark.parametrize(
    ("vintages", "most", "starts"), [(0, 3, [0]), (3, 3, [0]), (4, 3, [0, 2]), (7, 3, [0, 2, 5])]
)
def test_spans_cover_all_time_and_overlap_by_one_vintage(vintages, most, starts):
    days = [f"2020-01-0{n + 1}" for n in range(vintages)]
    made = list(spans(days, most=most))
    assert [span.start for span in made] == ["1776-07-04", *(days[n] for n in starts[1:])]
    assert [span.end for span in made] == [*(days[n] for n in starts[1:]), "9999-12-31"]
    assert [span.repeats for span in made] == [False, *(True for _ in starts[1:])]


def test_too_many_vintages_for_one_request_are_an_error_and_not_an_empty_answer():
    def answer(path, asked):
        return (400, TOO_MANY) if path.endswith("observations") else Archive(vintages=3).answer(path, asked)

    with (
        client_at(answer) as client,
        pytest.raises(Permanent, match=r"400 .*maximum number of vintage dates allowed \(2000\)"),
    ):
        list(OBSERVATIONS.fetch(client, "X", WINDOW))


def test_a_first_vintage_is_not_looked_for_on_the_second_page_of_a_period():
    """Three rows a page cut periods in two: what continues on the next page is no first vintage."""
    archive = Archive(vintages=200, page_size=3)
    with client_at(archive.answer) as client:
        pages = list(OBSERVATIONS.fetch(client, "X", WINDOW))
    archived = parsed(*pages).filter(known_at_basis="archived")
    by_period = archived.group_by("period_start").len()
    assert by_period["len"].max() == 1


def test_all_pages_are_fetched_until_the_providers_own_count():
    archive = Archive(vintages=40, page_size=7)
    assert fetched(archive) == archive.truth
    offsets = [asked["offset"] for path, asked in archive.asked if path.endswith("observations")]
    assert offsets == ["0", "7", "14"]


def test_the_window_bounds_the_periods_and_the_key_goes_nowhere_else():
    archive = Archive(vintages=2)
    with client_at(archive.answer) as client:
        pages = list(OBSERVATIONS.fetch(client, "X", WINDOW))
    asked = archive.asked[-1][1]
    assert asked == {
        "api_key": KEY,
        "series_id": "X",
        "file_type": "json",
        "realtime_start": "1776-07-04",
        "realtime_end": "9999-12-31",
        "observation_start": "2009-01-01",
        "observation_end": "2009-12-30",
        "output_type": "1",
        "sort_order": "asc",
        "limit": "100000",
        "offset": "0",
    }
    assert KEY not in str(pages)


def test_an_answer_that_stops_short_of_its_own_count_is_not_taken_for_all():
    def answer(path, asked):
        if path == "/fred/series":
            return 200, json.dumps({"seriess": [GDP]}).encode()
        return 200, b'{"count": 5, "vintage_dates": []}'

    with client_at(answer) as client, pytest.raises(Transient, match="GDP: 0 of 5 vintage_dates"):
        list(OBSERVATIONS.fetch(client, "GDP", WINDOW))


@pytest.mark.parametrize("offset", [None, 0, 3])
def test_a_page_sent_again_in_place_of_the_next_is_not_counted_twice(offset):
    said = {"count": 6, "vintage_dates": ["2020-01-01", "2020-01-02", "2020-01-03"]}
    said |= {} if offset is None else {"offset": offset}

    def answer(path, asked):
        body = {"seriess": [GDP]} if path == "/fred/series" else said
        return 200, json.dumps(body).encode()

    with client_at(answer) as client, pytest.raises(Transient, match="GDP: the page of vintage_dates from"):
        list(OBSERVATIONS.fetch(client, "GDP", WINDOW))


def test_vintage_dates_out_of_order_are_not_cut_into_spans():
    def answer(path, asked):
        dates = ["2020-01-02", "2020-01-01"]
        body = {"seriess": [GDP]} if path == "/fred/series" else {"count": 2, "vintage_dates": dates}
        return 200, json.dumps(body).encode()

    with (
        client_at(answer) as client,
        pytest.raises(Transient, match="GDP: the vintage dates are not in order"),
    ):
        list(OBSERVATIONS.fetch(client, "GDP", WINDOW))


@pytest.mark.parametrize(
    ("code", "error"),
    [(400, Permanent), (404, Permanent), (423, Transient), (429, Transient), (500, Transient)],
)
def test_an_error_body_with_status_200_counts_by_its_own_code(code, error):
    with (
        client_at(lambda *_: (200, refusal(code, "Sorry."))) as client,
        pytest.raises(error, match=rf"fred answered {code} to \S+: Sorry\.") as raised,
    ):
        list(SERIES.fetch(client, "GDP", WINDOW))
    assert type(raised.value) is error
    assert raised.value.pages


@pytest.mark.parametrize("content_type", ["text/xml; charset=UTF-8", "text/html", "application/octet-stream"])
def test_the_body_is_looked_at_and_not_its_content_type(content_type):
    body = {"realtime_start": "1776-07-04", "seriess": [INFO]}
    with client_at(lambda *_: (200, json.dumps(body).encode()), content_type) as client:
        (page,) = SERIES.fetch(client, "GDP", WINDOW)
    assert page.content_type == content_type
    assert SERIES.parse(frame(page)).collect()["series_id"].to_list() == ["GDP"]


def test_xml_in_place_of_json_is_an_outage():
    xml = b'<?xml version="1.0" encoding="utf-8" ?><seriess><series id="GDP"/></seriess>'
    with (
        client_at(lambda *_: (200, xml), "application/json") as client,
        pytest.raises(Transient, match="without a list seriess"),
    ):
        list(SERIES.fetch(client, "GDP", WINDOW))


def test_html_with_status_200_is_an_outage():
    with (
        client_at(lambda *_: (200, b"<html>maintenance</html>")) as client,
        pytest.raises(Transient, match="without a list seriess"),
    ):
        list(SERIES.fetch(client, "GDP", WINDOW))


GARBAGE = [b"<html>maintenance</html>", b'{"observations": [{"date', b"\xff\xfe\x00", b"[]"]


@pytest.mark.parametrize("body", GARBAGE)
@pytest.mark.parametrize("garbled", ["series", "series/vintagedates", "series/observations"])
def test_what_came_in_place_of_data_is_kept_as_a_page_that_cannot_be_parsed(garbled, body):
    archive = Archive(vintages=2)

    def answer(path, asked):
        return (200, body) if path == f"/fred/{garbled}" else archive.answer(path, asked)

    with client_at(answer) as client, pytest.raises(Transient) as raised:
        list(OBSERVATIONS.fetch(client, "X", WINDOW))
    (kept,) = raised.value.pages
    assert (kept.body, kept.http_status, kept.feed, kept.subject) == (body, 200, OBSERVATIONS.name, "X")
    assert KEY not in str(kept)
    with pytest.raises(ParseError, match=str(kept.page_id)):
        parsed(kept)


@pytest.mark.parametrize("name", ["value", "date", "realtime_start"])
@pytest.mark.parametrize("change", ["renamed", "nested"])
def test_a_field_that_is_renamed_or_nested_is_named(name, change):
    said = row("2024-07-01", "2024-10-30", "1")
    old = said.pop(name)
    said |= {"val": old} if change == "renamed" else {name: [old]}
    with pytest.raises(ParseError, match=rf"page -?\d+: .*{name}"):
        parsed(observed({"observations": [said]}))


@pytest.mark.parametrize("odd", [[], {"a": 1}])
def test_a_description_with_a_list_or_an_object_in_a_text_is_refused(odd):
    texts = ("id", "title", "frequency_short", "units", "seasonal_adjustment_short", "last_updated")
    said = {**dict.fromkeys((*texts, "realtime_start"), "x"), "title": odd}
    with pytest.raises(ParseError, match=r"page -?\d+: title is a"):
        SERIES.parse(frame(page({"seriess": [said]}, feed=SERIES.name))).collect()


def refusal(code: int, message: str) -> bytes:
    return json.dumps({"error_code": code, "error_message": message}).encode()


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (
            400,
            refusal(400, "Bad Request.  The value for variable api_key is not registered."),
            Permanent,
            "not registered. .*MNEMO_FRED_API_KEY",
        ),
        (
            400,
            refusal(400, "Bad Request.  The series does not exist."),
            Permanent,
            r"fred answered 400 to \S+: Bad Request\.  The series does not exist\.$",
        ),
        (429, b"Too Many Requests", Transient, "fred answered 429 .*: Too Many Requests"),
        (423, b"", Transient, "fred answered 423"),
        (
            500,
            refusal(500, "Internal Server Error"),
            Transient,
            "fred answered 500 .*: Internal Server Error",
        ),
    ],
)
def test_refusals_say_what_the_provider_means(status, body, error, says):
    with client_at(lambda *_: (status, body)) as client, pytest.raises(error, match=says) as raised:
        list(SERIES.fetch(client, "GDP", WINDOW))
    assert type(raised.value) is error


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
def test_a_key_is_asked_for_by_name(feed):
    with (
        Client(Settings(_env_file=None)) as client,
        pytest.raises(MissingKey, match=rf"{feed.name} needs MNEMO_FRED_API_KEY"),
    ):
        list(feed.fetch(client, "GDP", WINDOW))


@pytest.mark.parametrize("subject", ["", "GDP&limit=1", "binance:BTC/USDT"])
def test_what_cannot_be_a_series_id_is_refused(subject):
    with Client(Settings(_env_file=None)) as client, pytest.raises(UsageError, match="not a FRED series id"):
        list(SERIES.fetch(client, subject, WINDOW))
