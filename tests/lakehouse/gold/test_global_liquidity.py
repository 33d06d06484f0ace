"""gold.global_liquidity: parts that make up wholes, sums in dollars, growth, and what the BIS was recorded to say."""

import csv
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lakehouse.gold import global_liquidity
from lakehouse.gold.global_liquidity import RATES, SERIES
from lakehouse.silver import observations

RECORDED = Path(__file__).parents[3] / "../shared/recorded/bis/ws_gli"
needs_recordings = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded provider data are not here")

DAY, LAG = timedelta(days=1), timedelta(days=120)
USD, EUR, JPY = SERIES


def quarter_end(text: str) -> datetime:
    year, quarter = int(text[:4]), int(text[-1])
    return datetime(year + quarter // 4, quarter % 4 * 3 + 1, 1, tzinfo=UTC)


def told(series_id: str, quarter: str, value: float | None, **said: object) -> dict:
    end = quarter_end(quarter)
    clocks = {"event_at": end, "known_at": end + LAG, "ingested_at": end + LAG}
    measured = {"value": value, "unit": "USD", "unit_multiplier": 0, "status": "A"}
    named = {"series_id": series_id, "provider": "bis", "period_start": (end - 80 * DAY).date(), "page_id": 1}
    return named | clocks | measured | {"known_at_basis": "estimated"} | said


def rate(currency: str, day: datetime, value: float | None, known_at: datetime | None = None) -> dict:
    (series,) = (one.series_id for one in RATES if one.currency == currency)
    row = told(series, "2000-Q1", value, provider="fred", period_start=day.date())
    return row | {"event_at": day + DAY, "known_at": known_at or day + 7 * DAY}


def build(rows: list[dict]) -> pl.DataFrame:
    frame = pl.LazyFrame(rows, schema_overrides=observations.TABLE.schema)
    built = global_liquidity.build({"silver.observations": frame})
    return built.sort("currency", "event_at", "known_at").collect(engine="streaming")


def all_currencies(quarter: str, dollars: float, euros: float, yen: float, **said: object) -> list[dict]:
    amounts = (dollars, euros, yen)
    return [told(one.credit, quarter, value, **said) for one, value in zip(SERIES, amounts, strict=True)]


def rates(quarter: str, usd_per_eur: float, jpy_per_usd: float) -> list[dict]:
    last_day = quarter_end(quarter) - DAY
    return [rate("EUR", last_day, usd_per_eur), rate("JPY", last_day, jpy_per_usd)]


def test_the_sum_is_in_dollars_of_the_quarters_last_rates_and_counts_nothing_twice() -> None:
    rows = all_currencies("2024-Q1", 100.0, 10.0, 3000.0) + rates("2024-Q1", 1.2, 150.0)
    inside = [told(name, "2024-Q1", 40.0) for name in (USD.loans, "WS_GLI/Q.USD.4T.N.A.I.B.USD")]
    found = build(rows + inside).select("currency", "credit", "usd_rate", "credit_usd").rows()
    assert found == [
        ("EUR", 10.0, 1.2, 12.0),
        ("JPY", 3000.0, pytest.approx(1 / 150), pytest.approx(20.0)),
        ("USD", 100.0, 1.0, 100.0),
        ("all", pytest.approx(132.0), 1.0, pytest.approx(132.0)),
    ]


def test_the_listed_series_are_disjoint() -> None:
    """One region, sector and position of each currency; the parts are instruments of the same whole."""
    for one in SERIES:
        whole, loans, debt = (name.split(".") for name in (one.credit, one.loans, one.debt_securities))
        assert whole[1] == one.currency == whole[7]
        assert (whole[2:4], whole[5]) == (loans[2:4], loans[5]) == (debt[2:4], debt[5])
        assert (whole[4], whole[6], loans[4], loans[6], debt[4], debt[6]) == ("A", "B", "B", "G", "A", "D")
    assert len({one.credit.split(".")[1] for one in SERIES}) == len(SERIES)


@pytest.mark.parametrize(
    ("days", "revised_at", "expected"),
    [
        ([(-1, 1.1), (-4, 1.5)], None, 1.1),
        ([(-4, 1.5), (2, 9.9)], None, 1.5),
        ([(-9, 1.5)], None, None),
        ([(-1, 1.1)], -30, 1.3),
        ([(-1, 1.1)], 30, 1.1),
        ([(-1, None), (-2, 1.4)], None, 1.4),
    ],
    ids=["last day", "not after", "not too old", "as revised by then", "not as revised later", "a holiday"],
)
def test_the_rate_is_that_of_the_quarters_last_trading_day_as_known_then(days, revised_at, expected) -> None:
    end = quarter_end("2024-Q1")
    rows = [told(EUR.credit, "2024-Q1", 10.0)]
    rows += [rate("EUR", end + offset * DAY, value) for offset, value in days]
    if revised_at is not None:
        rows.append(rate("EUR", end - DAY, 1.3, known_at=end + LAG + revised_at * DAY))
    assert build(rows).row(0, named=True)["usd_rate"] == expected


def test_the_sum_waits_for_every_currency() -> None:
    rows = all_currencies("2024-Q1", 100.0, 10.0, 3000.0) + rates("2024-Q1", 1.0, 100.0)
    rows[2] |= {"known_at": quarter_end("2024-Q1") + 200 * DAY}
    (row,) = build(rows).filter(pl.col("currency") == "all").rows(named=True)
    assert (row["known_at"], row["credit"]) == (quarter_end("2024-Q1") + 200 * DAY, 140.0)


@pytest.mark.parametrize(
    ("debt", "agree"), [(60.0, True), (60.00005, True), (61.0, False), (None, None)], ids=str
)
def test_credit_is_checked_against_its_parts(debt: float | None, agree: bool | None) -> None:
    parts = [told(USD.loans, "2024-Q1", 40.0), told(USD.debt_securities, "2024-Q1", debt)]
    (row,) = build([told(USD.credit, "2024-Q1", 100.0), *parts]).rows(named=True)
    assert row["parts_agree"] is agree


def test_growth_stands_beside_that_of_the_bis_and_is_not_told_across_a_break() -> None:
    quarters = [f"{year}-Q{n}" for year in (2022, 2023, 2024) for n in (1, 2, 3, 4)]
    rows = [told(USD.credit, quarter, 100.0 + n) for n, quarter in enumerate(quarters)]
    rows[5]["status"] = "B"
    rows += [told(USD.bis_growth, quarter, 5.0, unit="771") for quarter in quarters]
    found = {row["event_at"]: row for row in build(rows).rows(named=True)}
    yoy = [found[quarter_end(quarter)]["yoy_growth"] for quarter in quarters]
    assert yoy[:4] == [None] * 4
    assert yoy[4] == pytest.approx(104 / 100 - 1)
    assert yoy[5:9] == [None] * 4
    assert yoy[9] == pytest.approx(109 / 105 - 1)
    row = found[quarter_end("2024-Q2")]
    assert (row["bis_yoy_growth"], row["growth_gap"]) == (0.05, pytest.approx(109 / 105 - 1 - 0.05))


def test_what_the_year_before_was_revised_to_is_a_new_version() -> None:
    rows = [told(USD.credit, "2023-Q1", 100.0), told(USD.credit, "2024-Q1", 110.0)]
    revised_at = quarter_end("2024-Q1") + 150 * DAY
    rows.append(told(USD.credit, "2023-Q1", 88.0, known_at=revised_at))
    found = build(rows).filter(pl.col("event_at") == quarter_end("2024-Q1"))
    assert found.select("known_at", "yoy_growth").rows() == [
        (quarter_end("2024-Q1") + LAG, pytest.approx(0.1)),
        (revised_at, pytest.approx(0.25)),
    ]


@needs_recordings
def test_the_recorded_series_give_the_levels_growth_and_parts_that_the_bis_told() -> None:
    """No recording holds growth by the BIS (unit 771): growth is held to plain arithmetic on its levels, and the
    level of 2020-Q2 to its commentary (about 12.7 trillion dollars). The debt securities of 2026-Q1 are as quoted
    beside the recordings."""
    rows, levels = [], {}
    for name in (USD.credit, USD.loans):
        with (RECORDED / f"{name.partition('/')[2]}.csv").open() as lines:
            for line in csv.DictReader(lines):
                said = {"unit_multiplier": int(line["UNIT_MULT"]), "status": line["OBS_STATUS"]}
                rows.append(told(name, line["TIME_PERIOD"], float(line["OBS_VALUE"]), **said))
                levels.setdefault(name, []).append(float(line["OBS_VALUE"]) * 1e6)
    quoted = json.loads((RECORDED / "revisions.json").read_text())["also"]["Q.USD.3P.N.A.I.D.USD 2026-Q1"]
    rows.append(told(USD.debt_securities, "2026-Q1", quoted["value_2026-10-09"], unit_multiplier=6))

    built = build(rows).filter(pl.col("currency") == "USD")

    credit = np.array(levels[USD.credit])
    assert built["credit"].to_list() == list(credit)
    assert built["loans"].to_list() == levels[USD.loans]
    assert built["yoy_growth"].to_list()[4:] == pytest.approx(list(credit[4:] / credit[:-4] - 1), rel=1e-12)
    at_2020 = built.filter(pl.col("event_at") == quarter_end("2020-Q2"))["credit"].item()
    assert at_2020 == pytest.approx(12.7e12, rel=0.02)
    assert (built["parts_agree"].to_list()[-1], built["parts_agree"].null_count()) == (True, 104)
    growth = credit[4:] / credit[:-4] - 1
    before = growth[-41:-1]
    expected = (growth[-1] - before.mean()) / before.std(ddof=1)
    assert built["yoy_growth_zscore"].to_list()[-1] == pytest.approx(expected, rel=1e-9)
