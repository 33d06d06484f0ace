"""Whole data sets of the BIS: how they are asked for, the bulk file in their place, snapshots that become vintages."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
import stamina

from lakehouse.asof import versions_at
from lakehouse.bronze import Page, pages_frame
from lakehouse.clean import new_rows
from lakehouse.conform import conform
from lakehouse.coverage import Asked
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.bis_flows import FLOWS
from sources.bis_sdmx import BULK_HOST, FEEDS, HOST
from sources.client import Client
from sources.errors import ParseError, Permanent, Transient
from sources.twin.recording import Recording
from sources.twin.server import Twin, serving

RECORDED = Path(__file__).parents[2] / "../shared/recorded/bis/ws_gli"
OBSERVATIONS, SERIES = FEEDS
TOTAL, LOANS = "Q.USD.3P.N.A.I.B.USD", "Q.USD.3P.N.B.I.G.USD"
WINDOW = Window(datetime(2000, 1, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
RECEIVED = datetime(2026, 10, 9, 12, tzinfo=UTC)

needs_recorded = pytest.mark.skipif(
    not RECORDED.exists(), reason="needs the files in ../shared/recorded/bis/ws_gli"
)

# Headers as public copies of answers show them, 2026; the rows are made up. Only WS_GLI is recorded whole.
HEADERS = {
    "WS_CBPOL": "FREQ,REF_AREA,UNIT_MEASURE,UNIT_MULT,TIME_FORMAT,COMPILATION,DECIMALS,SOURCE_REF,SUPP_INFO_BREAKS,"
    "TITLE,TIME_PERIOD,OBS_VALUE,OBS_STATUS,OBS_CONF,OBS_PRE_BREAK",
    "WS_TC": "FREQ,BORROWERS_CTY,TC_BORROWERS,TC_LENDERS,VALUATION,UNIT_TYPE,TC_ADJUST,COLLECTION,DECIMALS,UNIT_MULT,"
    "UNIT_MEASURE,TITLE_TS,TIME_PERIOD,OBS_VALUE,OBS_STATUS,OBS_PRE_BREAK,OBS_CONF",
    "WS_CREDIT_GAP": "FREQ,BORROWERS_CTY,TC_BORROWERS,TC_LENDERS,CG_DTYPE,COLLECTION,DECIMALS,UNIT_MEASURE,UNIT_MULT,"
    "TIME_FORMAT,TITLE_TS,TIME_PERIOD,OBS_VALUE,OBS_STATUS,OBS_CONF,OBS_PRE_BREAK",
    "WS_DSR": "FREQ,BORROWERS_CTY,DSR_BORROWERS,COLLECTION,UNIT_MEASURE,UNIT_MULT,DECIMALS,TITLE_TS,TIME_PERIOD,"
    "OBS_VALUE,OBS_CONF,OBS_PRE_BREAK,OBS_STATUS",
    "WS_EER": "FREQ,EER_TYPE,EER_BASKET,REF_AREA,UNIT_MEASURE,TIME_FORMAT,COLLECTION,TITLE_TS,TIME_PERIOD,OBS_VALUE,"
    "OBS_STATUS,OBS_CONF,OBS_PRE_BREAK",
}


def body_of(flow: str, *rows: dict[str, str]) -> bytes:
    """An answer with the columns of a data set; what a row does not name is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, HEADERS[flow].split(","), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def recorded(key: str) -> bytes:
    return (RECORDED / f"{key}.csv").read_bytes()


def all_of_gli() -> bytes:
    """The two recorded series as one answer."""
    _, rows = recorded(LOANS).split(b"\n", 1)
    return recorded(TOTAL) + rows


def page(subject: str, body: bytes, *, at: datetime = RECEIVED, **request: str) -> Page:
    return Page(feed="bis_observations", subject=subject, request=request, received_at=at, body=body)


def frame(*pages: Page) -> pl.DataFrame:
    return pages_frame(pages, run_id="r", code_version="v")


def parsed(*pages: Page) -> pl.DataFrame:
    return OBSERVATIONS.parse(frame(*pages)).collect()


def api(flow: str, key: str, body: bytes = b"", status: int = 200) -> Recording:
    path = f"/api/v2/data/dataflow/BIS/{flow}/{FLOWS[flow].version}/{key}?format=csv"
    return Recording(url=f"{HOST.url}{path}", body=body, status=status)


def bulk(flow: str, body: bytes = b"", status: int = 200) -> Recording:
    return Recording(url=f"{BULK_HOST.url}/static/bulk/{flow}_csv_flat.zip", body=body, status=status)


@contextmanager
def client_of(*recordings: Recording) -> Iterator[Client]:
    with (
        stamina.set_testing(True, attempts=2, cap=True),
        serving(Twin(list(recordings))) as url,
        Client(Settings(_env_file=None, twin_url=url)) as client,
    ):
        yield client


def zipped(text: bytes, name: str = "WS_GLI_csv_flat.csv") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bulk_file:
        bulk_file.writestr(name, text)
    return out.getvalue()


LABELS = {
    "Q": "Quarterly",
    "USD": "US dollar",
    "6": "Millions",
    "A": "Normal value",
    "3P": "Residents: elsewhere",
}


def with_labels(body: bytes) -> bytes:
    """An answer of the API as its bulk file puts it: labels behind names and codes, the period after the key."""
    rows = list(csv.DictReader(io.StringIO(body.decode())))
    plain = {"TIME_PERIOD", "OBS_VALUE", "TITLE"}
    ahead = [*FLOWS["WS_GLI"].dimensions, "TIME_PERIOD", "OBS_VALUE"]
    names = [*ahead, *(name for name in rows[0] if name not in ahead)]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["STRUCTURE", "STRUCTURE_ID", "ACTION", *(f"{name}:Some words" for name in names)])
    for row in rows:
        told = [row[name] if name in plain or not row[name] else _told(row[name]) for name in names]
        writer.writerow(["dataflow", "BIS:WS_GLI(1.0)", "I", *told])
    return out.getvalue().encode()


def _told(code: str) -> str:
    return f"{code}: {LABELS.get(code, 'Some words')}"


# How they are asked for


@pytest.mark.parametrize(
    ("flow", "keys", "version"),
    [
        ("WS_GLI", ["Q......."], "1.0"),
        ("WS_CBPOL", ["D.", "M."], "1.0"),
        ("WS_TC", ["Q......"], "2.0"),
        ("WS_CREDIT_GAP", ["Q...."], "1.0"),
        ("WS_DSR", ["Q.."], "1.0"),
        ("WS_EER", ["D...", "M..."], "1.0"),
    ],
)
@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
def test_a_whole_data_set_is_one_request_a_frequency(feed, flow, keys, version):
    body = b"TIME_PERIOD,OBS_VALUE\n2020,1\n"
    with client_of(*(api(flow, key, body) for key in keys)) as client:
        pages = list(feed.fetch(client, flow, WINDOW))
    base = f"https://stats.bis.org/api/v2/data/dataflow/BIS/{flow}/{version}"
    assert [page.request["url"] for page in pages] == [f"{base}/{key}?format=csv" for key in keys]
    assert [(page.feed, page.subject, page.request["key"]) for page in pages] == [
        (feed.name, flow, key) for key in keys
    ]


@needs_recorded
def test_all_of_ws_gli_gives_the_rows_of_its_series():
    with client_of(api("WS_GLI", "Q.......", all_of_gli())) as client:
        pages = list(OBSERVATIONS.fetch(client, "WS_GLI", WINDOW))
    together = parsed(*pages).drop("page_id", "ingested_at")
    apart = parsed(page(f"WS_GLI/{TOTAL}", recorded(TOTAL)), page(f"WS_GLI/{LOANS}", recorded(LOANS)))
    assert together.rows() == apart.drop("page_id", "ingested_at").rows()
    assert together.height == 210


def test_daily_and_monthly_policy_rates_are_series_of_their_own():
    """Made up; the columns as public copies of answers show them."""
    row = {"REF_AREA": "US", "UNIT_MEASURE": "368", "UNIT_MULT": "0", "OBS_VALUE": "3.625", "OBS_STATUS": "A"}
    text = 'Mid-point, "target range", of the central bank'
    daily = {**row, "FREQ": "D", "TIME_PERIOD": "2026-08-18", "COMPILATION": text}
    weekend = {**daily, "TIME_PERIOD": "2026-08-22", "OBS_VALUE": "NaN", "OBS_STATUS": "H"}
    monthly = {**row, "FREQ": "M", "TIME_PERIOD": "2026-08"}
    rows = parsed(
        page("WS_CBPOL", body_of("WS_CBPOL", daily, weekend), key="D."),
        page("WS_CBPOL", body_of("WS_CBPOL", monthly), key="M."),
    )
    assert rows.select("series_id", "period_start", "value", "status", "unit").rows() == [
        ("WS_CBPOL/D.US", date(2026, 8, 18), "3.625", "A", "368"),
        ("WS_CBPOL/D.US", date(2026, 8, 22), None, "H", "368"),
        ("WS_CBPOL/M.US", date(2026, 8, 1), "3.625", "A", "368"),
    ]
    assert rows["known_at"][0] == datetime(2026, 9, 2, tzinfo=UTC)
    with pytest.raises(ParseError, match=r"not asked for: M\.US"):
        parsed(page("WS_CBPOL", body_of("WS_CBPOL", monthly), key="D."))


@pytest.mark.parametrize(
    ("flow", "row", "expected"),
    [
        (
            "WS_TC",
            {
                "BORROWERS_CTY": "LU",
                "TC_BORROWERS": "N",
                "TC_LENDERS": "A",
                "VALUATION": "M",
                "UNIT_TYPE": "770",
                "TC_ADJUST": "A",
                "UNIT_MEASURE": "367",
                "UNIT_MULT": "0",
            },
            ("WS_TC/Q.LU.N.A.M.770.A", "367", 0),
        ),
        (
            "WS_TC",
            {
                "BORROWERS_CTY": "MX",
                "TC_BORROWERS": "P",
                "TC_LENDERS": "A",
                "VALUATION": "M",
                "UNIT_TYPE": "XDC",
                "TC_ADJUST": "A",
                "UNIT_MEASURE": "MXN",
                "UNIT_MULT": "9",
            },
            ("WS_TC/Q.MX.P.A.M.XDC.A", "MXN", 9),
        ),
        (
            "WS_CREDIT_GAP",
            {
                "BORROWERS_CTY": "US",
                "TC_BORROWERS": "P",
                "TC_LENDERS": "A",
                "CG_DTYPE": "C",
                "UNIT_MEASURE": "770",
                "UNIT_MULT": "0",
            },
            ("WS_CREDIT_GAP/Q.US.P.A.C", "770", 0),
        ),
        (
            "WS_DSR",
            {"BORROWERS_CTY": "CH", "DSR_BORROWERS": "P", "UNIT_MEASURE": "367", "UNIT_MULT": "0"},
            ("WS_DSR/Q.CH.P", "367", 0),
        ),
        (
            "WS_EER",
            {"FREQ": "M", "EER_TYPE": "N", "EER_BASKET": "B", "REF_AREA": "TH", "UNIT_MEASURE": "882"},
            ("WS_EER/M.N.B.TH", "882", 0),
        ),
    ],
)
def test_every_data_set_says_its_unit_and_scale(flow, row, expected):
    """Made up; the columns as public copies of answers show them. WS_EER has no UNIT_MULT: its index has none."""
    period = "2026-05" if row.get("FREQ") == "M" else "2026-Q1"
    said = {"FREQ": "Q", "TITLE_TS": "Some title", "TIME_PERIOD": period, "OBS_VALUE": "8.5", **row}
    pages = page(flow, body_of(flow, said), key=said["FREQ"] + "." * (len(FLOWS[flow].dimensions) - 1))
    observed = OBSERVATIONS.parse(frame(pages)).collect()
    assert observed.select("series_id", "unit", "unit_multiplier").rows() == [expected]
    assert conform(OBSERVATIONS.table, observed.lazy()).collect()["reasons"].to_list() == [[]]
    described = SERIES.parse(frame(pages)).collect()
    assert described.select("series_id", "title", "frequency").rows() == [
        (expected[0], "Some title", said["FREQ"])
    ]


@pytest.mark.parametrize("flow", ["WS_CBPOL", "WS_TC", "WS_CREDIT_GAP", "WS_DSR"])
@pytest.mark.parametrize("column", ["UNIT_MULT", "UNIT_MEASURE"])
def test_an_answer_without_unit_or_scale_is_refused(flow, column):
    body = f"{HEADERS[flow]}\n".replace(column, f"{column}_OLD").encode()
    with pytest.raises(ParseError, match=f"{flow}: page .* has no column {column}"):
        parsed(page(flow, body))


def test_a_row_without_unit_or_scale_is_held_back():
    row = {
        "FREQ": "Q",
        "BORROWERS_CTY": "CH",
        "DSR_BORROWERS": "P",
        "TIME_PERIOD": "2026-Q1",
        "OBS_VALUE": "1",
    }
    rows = parsed(page("WS_DSR", body_of("WS_DSR", row)))
    assert conform(OBSERVATIONS.table, rows.lazy()).collect()["reasons"].to_list() == [
        ["unit_missing", "unit_multiplier_missing"]
    ]


def test_other_dimensions_than_the_data_set_has_are_refused():
    body = body_of("WS_DSR").replace(b"DSR_BORROWERS", b"BORROWERS")
    with pytest.raises(ParseError, match="FREQ, BORROWERS_CTY, BORROWERS and not FREQ, BORROWERS_CTY, DSR_"):
        parsed(page("WS_DSR", body))


@pytest.mark.parametrize("subject", ["WS_XRU", "WS_GLI/Q.USD", "WS_EER/"])
def test_a_data_set_that_is_not_known_whole_and_a_key_of_another_length_are_refused(subject):
    with client_of() as client, pytest.raises(UsageError, match=r"FLOW/KEY|one key position"):
        list(OBSERVATIONS.fetch(client, subject, WINDOW))


# What comes in place of data

BUSY = [
    (b"<html>Request unsuccessful</html>\n", "no SDMX-CSV: <html>"),
    (b'{"errors": [{"code": 503}]}', "no SDMX-CSV"),
    (b"", "no SDMX-CSV"),
    (b"FREQ,TIME_PERIOD,OBS_VALUE\nQ,2020-Q1,1\nQ,2020-Q2,1.", "half a page"),
    (b"FREQ,TIME_PERIOD,OBS_VALUE\n", "without any row"),
]


@pytest.mark.parametrize(("body", "says"), BUSY)
def test_what_comes_with_status_200_in_place_of_data_may_pass(body, says):
    with client_of(api("WS_GLI", TOTAL, body)) as client, pytest.raises(Transient, match=says) as raised:
        list(OBSERVATIONS.fetch(client, f"WS_GLI/{TOTAL}", WINDOW))
    (kept,) = raised.value.pages
    assert (kept.body, kept.feed, kept.subject) == (body, "bis_observations", f"WS_GLI/{TOTAL}")


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, Permanent), (404, Permanent), (406, Permanent), (429, Transient), (503, Transient)],
)
def test_refusals_of_a_key_are_told_by_kind(status, error):
    with (
        client_of(api("WS_GLI", TOTAL, b"", status)) as client,
        pytest.raises(error, match=f"bis answered {status}"),
    ):
        list(OBSERVATIONS.fetch(client, f"WS_GLI/{TOTAL}", WINDOW))


@needs_recorded
@pytest.mark.parametrize(
    "instead",
    [api("WS_GLI", "Q.......", b"", status) for status in (404, 413, 503)]
    + [api("WS_GLI", "Q.......", body) for body, _ in BUSY],
)
def test_where_the_api_refuses_a_whole_data_set_its_bulk_file_gives_the_same_rows(instead):
    with client_of(instead, bulk("WS_GLI", zipped(with_labels(all_of_gli())))) as client:
        pages = list(OBSERVATIONS.fetch(client, "WS_GLI", WINDOW))
        described = list(SERIES.fetch(client, "WS_GLI", WINDOW))
    assert [page.request["url"] for page in pages] == ["https://data.bis.org/static/bulk/WS_GLI_csv_flat.zip"]
    expected = page("WS_GLI", all_of_gli(), key="Q.......")
    silent = ["page_id", "ingested_at"]
    assert parsed(*pages).drop(silent).rows() == parsed(expected).drop(silent).rows()
    shown = ["series_id", "title", "frequency", "unit", "unit_multiplier"]
    titles = SERIES.parse(frame(*described)).collect().select(shown)
    assert titles.rows() == SERIES.parse(frame(expected)).collect().select(shown).rows()


def test_daily_rows_are_not_kept_twice_where_the_bulk_file_stands_in_for_the_monthly_ones():
    row = {"REF_AREA": "US", "UNIT_MEASURE": "368", "UNIT_MULT": "0", "OBS_VALUE": "3.6", "OBS_STATUS": "A"}
    daily = {**row, "FREQ": "D", "TIME_PERIOD": "2026-08-18"}
    monthly = {**row, "FREQ": "M", "TIME_PERIOD": "2026-08"}
    whole = zipped(body_of("WS_CBPOL", daily, monthly))
    answers = api("WS_CBPOL", "D.", body_of("WS_CBPOL", daily)), api("WS_CBPOL", "M.", b"", 503)
    with client_of(*answers, bulk("WS_CBPOL", whole)) as client:
        pages = list(OBSERVATIONS.fetch(client, "WS_CBPOL", WINDOW))
    assert parsed(*pages)["series_id"].to_list() == ["WS_CBPOL/D.US", "WS_CBPOL/M.US"]


@pytest.mark.parametrize(
    ("status", "file", "error"),
    [
        (404, bulk("WS_GLI", b"", 404), Permanent),
        (503, bulk("WS_GLI", b"", 404), Transient),
        (404, bulk("WS_GLI", b"<html>Sorry</html>"), Transient),
    ],
)
def test_where_both_fail_both_are_told(status, file, error):
    says = rf"bis\S* answered .*WS_GLI_csv_flat\.zip.*before that bis answered {status}"
    with (
        client_of(api("WS_GLI", "Q.......", b"", status), file) as client,
        pytest.raises(error, match=says) as raised,
    ):
        list(OBSERVATIONS.fetch(client, "WS_GLI", WINDOW))
    assert type(raised.value) is error


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (zipped(b"FREQ:Frequency\nQ\n")[:-30], "is not a ZIP of one file"),
        (b"PK and nothing else", "is not a ZIP of one file"),
        (zipped(b"FREQ:Frequency,FREQ:Again\nQ,Q\n"), "names a column twice"),
        (zipped(b"FREQ:Frequency\nQ\n"), "no TIME_PERIOD"),
    ],
)
def test_a_bulk_file_that_is_none_is_refused(body, reason):
    with pytest.raises(ParseError, match=f"WS_GLI: page -?[0-9]+ .*{reason}"):
        parsed(page("WS_GLI", body, key=""))


# What the figures say


@needs_recorded
def test_bank_loans_and_debt_securities_are_together_the_total_where_both_are_recorded():
    also = json.loads((RECORDED / "revisions.json").read_bytes())["also"]
    debt = also["Q.USD.3P.N.A.I.D.USD 2026-Q1"]["value_2026-10-09"]
    rows = parsed(page(f"WS_GLI/{TOTAL}", recorded(TOTAL)), page(f"WS_GLI/{LOANS}", recorded(LOANS)))
    newest = rows.filter(period_start=date(2026, 1, 1)).select("series_id", pl.col("value").cast(float))
    said = dict(newest.iter_rows())
    assert said[f"WS_GLI/{LOANS}"] + debt == pytest.approx(said[f"WS_GLI/{TOTAL}"], abs=1e-3)
    by_quarter = rows.with_columns(pl.col("value").cast(float)).pivot(
        "series_id", index="period_start", values="value"
    )
    rest = by_quarter.select(pl.col(f"WS_GLI/{TOTAL}") - pl.col(f"WS_GLI/{LOANS}")).to_series()
    assert (rest.len(), (rest > 0).all()) == (105, True)


@needs_recorded
def test_no_quarter_is_taken_for_known_within_sixty_days_of_its_end():
    rows = parsed(page("WS_GLI", all_of_gli(), key="Q......."))
    assert rows.select((pl.col("known_at") - pl.col("event_at")).min()).item() >= timedelta(days=60)


@needs_recorded
def test_a_value_revised_in_a_later_snapshot_is_a_new_version_and_as_of_tells_both():
    """The values before are quoted in revisions.json; those of 2025 were seen on an unknown earlier day."""
    revised = json.loads((RECORDED / "revisions.json").read_bytes())["observations"]
    before = recorded(TOTAL)
    for one in revised:
        old = one.get("first_seen_value", one.get("value_2026-09-08"))
        text = f",{one['period']},{one['value_2026-10-09']},"
        assert before.count(text.encode()) == 1
        before = before.replace(text.encode(), f",{one['period']},{old},".encode())
    september = datetime(2026, 9, 8, 9, tzinfo=UTC)
    stored = conform(OBSERVATIONS.table, parsed().lazy()).collect()
    for body, at in (
        (before, september),
        (before, september + timedelta(days=8)),
        (recorded(TOTAL), RECEIVED),
    ):
        batch = conform(OBSERVATIONS.table, parsed(page("WS_GLI", body, at=at, key="")).lazy()).collect()
        held = stored.drop("reasons", "remarks")
        stored = pl.concat([stored, new_rows(OBSERVATIONS.table, batch, held)])
    assert stored["reasons"].list.len().sum() == 0
    assert stored.height == 105 + len(revised)

    def as_of(moment: datetime) -> dict[date, float]:
        moments = stored.lazy().select("provider", "series_id").unique().with_columns(moment=pl.lit(moment))
        said = versions_at(stored.lazy(), moments, on=("provider", "series_id"), fact=("period_start",))
        return dict(said.select("period_start", "value").collect().iter_rows())

    quarters = {"2025-Q1": date(2025, 1, 1), "2025-Q2": date(2025, 4, 1), "2026-Q1": date(2026, 1, 1)}
    then, now = as_of(datetime(2026, 10, 1, tzinfo=UTC)), as_of(RECEIVED)
    assert [then[day] for day in quarters.values()] == [13730686.529, 13975968.083, 14742816.992]
    assert [now[day] for day in quarters.values()] == [13735915.923, 13979225.357, 14747653.746]
    assert {day for day in now if now[day] != then[day]} == set(quarters.values())
    new = stored.filter(pl.col("known_at") == RECEIVED)
    assert sorted(new["period_start"]) == list(quarters.values())


@needs_recorded
def test_how_many_series_came_is_kept_with_the_proof():
    pages = frame(page("WS_GLI", all_of_gli(), key="Q......."))
    asked = Asked(subject="WS_GLI", window=WINDOW, at=RECEIVED)
    (claim,) = OBSERVATIONS.proof(asked, pages, OBSERVATIONS.parse(pages).collect())
    assert (claim.status, claim.evidence["series"], claim.evidence["rows"]) == ("complete", 2, 210)
