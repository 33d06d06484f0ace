"""Alpha Vantage's macro series and commodity prices: recorded answers, periods, and when values were known."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pytest
from pydantic import SecretStr

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.coverage import Asked
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window, iso
from sources.alpha_vantage_answers import KEY_SETTING
from sources.alpha_vantage_macro import FEEDS, MACRO
from sources.client import Client
from sources.twin.recording import Recording
from sources.twin.server import Twin, serving

RECORDED = Path(__file__).parents[2] / "../shared/recorded/alphavantage/portfoliotree"
needs_recorded = pytest.mark.skipif(not RECORDED.exists(), reason="needs the files of ../shared/recorded")
(FEED,) = FEEDS
RECEIVED_AT = datetime(2026, 5, 17, 17, 12, 34, tzinfo=UTC)


def told(subject: str, body: bytes, received_at: datetime = RECEIVED_AT) -> pl.DataFrame:
    page = Page(feed=FEED.name, subject=subject, request={}, received_at=received_at, body=body)
    return FEED.parse(pages_frame([page], run_id="run", code_version="0")).collect()


@needs_recorded
@pytest.mark.parametrize(
    ("subject", "name", "count", "missing"),
    [
        ("CPI", "economic/CPI_453fbf7c.csv", 1360, 1),
        ("FEDERAL_FUNDS_RATE", "economic/FEDERAL_FUNDS_RATE_e4372b7a.csv", 862, 0),
        ("TREASURY_YIELD:10year", "economic/TREASURY_YIELD_a4d134a9.csv", 877, 0),
        ("UNEMPLOYMENT", "economic/UNEMPLOYMENT_a0671528.csv", 940, 1),
        ("WTI", "commodities/WTI_6498cf9f.csv", 484, 0),
        ("BRENT", "commodities/BRENT_44bdfc84.csv", 468, 0),
        ("NATURAL_GAS", "commodities/NATURAL_GAS_4be4453d.csv", 352, 0),
        ("ALL_COMMODITIES", "commodities/ALL_COMMODITIES_4033e3d9.csv", 411, 0),
    ],
)
def test_every_recorded_row_is_an_observation_as_it_was_sent_and_none_was_known_before_its_month_ended(
    subject: str, name: str, count: int, missing: int
) -> None:
    body = (RECORDED / name).read_bytes()
    rows = conform(FEED.table, told(subject, body).lazy()).collect()
    sent = [line.split(",") for line in body.decode().split()[1:]]
    assert rows.height == count == len(sent)
    assert rows["reasons"].list.len().sum() == 0
    assert rows["period_start"].cast(pl.String).to_list() == [day for day, _ in sent]
    assert rows["value"].to_list() == [None if value == "." else float(value) for _, value in sent]
    assert rows["value"].null_count() == missing
    assert rows.filter(pl.col("known_at") < pl.col("event_at")).is_empty()
    assert rows["known_at"].max() <= RECEIVED_AT
    assert rows["known_at_basis"].unique().to_list() == ["estimated"]


@pytest.mark.parametrize(
    ("subject", "stamp", "period_start", "event_at", "known_at"),
    [
        ("CPI", "2024-01-01", (2024, 1, 1), (2024, 2, 1), (2024, 2, 17)),
        ("CPI@semiannual", "2024-07-01", (2024, 7, 1), (2025, 1, 1), (2025, 1, 17)),
        ("REAL_GDP", "2023-01-01", (2023, 1, 1), (2024, 1, 1), (2024, 3, 31)),
        ("REAL_GDP@quarterly", "2024-01-01", (2024, 1, 1), (2024, 4, 1), (2024, 5, 2)),
        ("TREASURY_YIELD:2year@daily", "2024-05-10", (2024, 5, 10), (2024, 5, 11), (2024, 5, 15)),
        ("WTI@weekly", "2024-05-10", (2024, 5, 4), (2024, 5, 11), (2024, 5, 25)),
        ("COPPER", "2024-05-01", (2024, 5, 1), (2024, 6, 1), (2024, 7, 18)),
    ],
)
def test_a_value_is_of_its_period_and_known_after_its_usual_lag(
    subject: str, stamp: str, period_start: tuple, event_at: tuple, known_at: tuple
) -> None:
    """No recording exists of any interval but months: the bodies have the form of the recorded ones."""
    rows = told(subject, f"timestamp,value\n{stamp},4.2\n".encode())
    assert rows.select("series_id", "period_start", "event_at", "known_at", "value").row(0) == (
        subject,
        date(*period_start),
        datetime(*event_at, tzinfo=UTC),
        datetime(*known_at, tzinfo=UTC),
        "4.2",
    )


@pytest.mark.parametrize(
    ("subject", "params"),
    [
        ("CPI", {"function": "CPI", "interval": "monthly"}),
        ("REAL_GDP@quarterly", {"function": "REAL_GDP", "interval": "quarterly"}),
        ("REAL_GDP_PER_CAPITA", {"function": "REAL_GDP_PER_CAPITA"}),
        ("TREASURY_YIELD", {"function": "TREASURY_YIELD", "interval": "monthly", "maturity": "10year"}),
        (
            "TREASURY_YIELD:30year@weekly",
            {"function": "TREASURY_YIELD", "interval": "weekly", "maturity": "30year"},
        ),
        ("NONFARM_PAYROLL", {"function": "NONFARM_PAYROLL"}),
        ("NATURAL_GAS@daily", {"function": "NATURAL_GAS", "interval": "daily"}),
    ],
)
def test_interval_and_maturity_are_in_the_subject(subject: str, params: dict) -> None:
    url = f"https://www.alphavantage.co/query?{urlencode({**params, 'datatype': 'csv'})}"
    span = Window(datetime(2020, 1, 1, tzinfo=UTC), RECEIVED_AT)
    with serving(Twin([Recording(url=url, body=b"timestamp,value\n")])) as address:
        settings = Settings(twin_url=address, providers={KEY_SETTING: SecretStr("KX7Q2M9D4")}, _env_file=None)
        with Client(settings, attempts=1) as client:
            (page,) = FEED.fetch(client, subject, span)
    assert (page.request["url"], page.window) == (url, None)


@pytest.mark.parametrize("subject", ["CPI@daily", "TREASURY_YIELD:1year", "GOLD", "WTI@monthly", ""])
def test_a_series_that_the_provider_does_not_have_is_refused_with_the_nearest(subject: str) -> None:
    with Client(Settings(_env_file=None)) as client, pytest.raises(UsageError, match="alphavantage_macro"):
        list(FEED.fetch(client, subject, Window(datetime(2020, 1, 1, tzinfo=UTC), RECEIVED_AT)))


def test_every_series_names_its_unit_and_a_lag_that_is_not_before_the_end_of_its_period() -> None:
    assert len(MACRO) == 65
    assert all(macro.unit and macro.lag > timedelta(0) for macro in MACRO.values())


@pytest.mark.parametrize(
    ("subject", "until"), [("CPI", "2026-03-31"), ("TREASURY_YIELD:10year@daily", "2026-05-08")]
)
def test_a_value_that_is_not_due_yet_is_not_missing_and_older_ones_are_whole(
    subject: str, until: str
) -> None:
    rows = pl.DataFrame({"event_at": [datetime(2026, 2, 1, tzinfo=UTC)]})
    span = Window(datetime(2026, 1, 1, tzinfo=UTC), RECEIVED_AT)
    claims = FEED.proof(Asked(subject=subject, window=span, at=RECEIVED_AT), pl.DataFrame(), rows)
    assert [(iso(one.window.end)[:10], one.status) for one in claims] == [
        (until, "complete"),
        ("2026-05-17", "degraded"),
    ]
