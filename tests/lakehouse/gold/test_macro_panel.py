"""gold.macro_panel: growth across breaks, z-scores, and the vintages that ALFRED's recorded answers tell."""

import gzip
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from lakehouse.gold import macro_panel
from lakehouse.silver import observations

RECORDED = Path(__file__).parents[3] / "../shared/recorded/fred/pyfredapi"
needs_recordings = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded provider data are not here")

DAY = timedelta(days=1)


def after_three_months(start: date) -> datetime:
    return datetime(start.year + (start.month + 2) // 12, (start.month + 2) % 12 + 1, 1, tzinfo=UTC)


def quarter(start: date, value: float | None, known_at: datetime | None = None, **said: object) -> dict:
    end = after_three_months(start)
    clocks = {"event_at": end, "known_at": known_at or end + 30 * DAY, "ingested_at": end + 30 * DAY}
    series = {"provider": "bis", "series_id": "S", "page_id": 1, "known_at_basis": "published"}
    measured = {"value": value, "unit": "USD", "unit_multiplier": 6, "status": "A"}
    return {"period_start": start} | clocks | series | measured | said


def quarters(values: list[float], *, since: int = 2000) -> list[dict]:
    starts = [date(since + n // 4, n % 4 * 3 + 1, 1) for n in range(len(values))]
    return [quarter(start, value) for start, value in zip(starts, values, strict=True)]


def panel(rows: list[dict]) -> list[dict]:
    frame = pl.LazyFrame(rows, schema_overrides=observations.TABLE.schema)
    built = macro_panel.build({"silver.observations": frame})
    return built.sort("known_at", "event_at").collect(engine="streaming").to_dicts()


def test_no_growth_is_told_across_a_break() -> None:
    rows = quarters([100.0, 100, 100, 100, 110, 121, 130, 140, 150, 160])
    rows[4]["status"] = "B"
    found = [(row["growth"], row["yoy_growth"]) for row in panel(rows)]
    assert found[3] == (0.0, None)
    assert found[4] == (None, None)
    assert found[5] == (pytest.approx(0.1), None)
    assert [yoy is None for _, yoy in found[4:]] == [True, True, True, True, False, False]
    assert found[8] == (pytest.approx(150 / 140 - 1), pytest.approx(150 / 110 - 1))


def test_a_break_counts_from_when_it_was_marked_until_it_is_taken_back() -> None:
    rows = quarters([100.0, 110])
    marked, taken_back = datetime(2000, 9, 1, tzinfo=UTC), datetime(2000, 10, 1, tzinfo=UTC)
    rows.append(quarter(date(2000, 4, 1), 110.0, marked, status="B"))
    rows.append(quarter(date(2000, 4, 1), 110.0, taken_back))
    found = [(row["known_at"], row["growth"]) for row in panel(rows)][1:]
    assert found == [
        (datetime(2000, 7, 31, tzinfo=UTC), pytest.approx(0.1)),
        (marked, None),
        (taken_back, pytest.approx(0.1)),
    ]


def test_zscores_compare_with_the_ten_years_before_as_they_were_first_told() -> None:
    rng = np.random.default_rng(3)
    values = list(100 * np.exp(np.cumsum(rng.normal(size=60) / 50)))
    rows = panel(quarters(values))
    assert len(rows) == 60
    growth = [None] * 4 + [values[n] / values[n - 4] - 1 for n in range(4, 60)]
    for n, row in enumerate(rows):
        for name, figures in (("value", values), ("yoy_growth", growth)):
            before = [one for one in figures[max(0, n - 40) : n] if one is not None]
            if len(before) < macro_panel.ZSCORE_FIGURES:
                assert row[f"{name}_zscore"] is None
            else:
                expected = (figures[n] - np.mean(before)) / np.std(before, ddof=1)
                assert row[f"{name}_zscore"] == pytest.approx(expected, rel=1e-9)


def test_a_revision_of_the_past_does_not_move_what_zscores_compare_with() -> None:
    rows = quarters([100.0 + n % 5 for n in range(30)])
    revised = quarter(date(2002, 1, 1), 500.0, after_three_months(date(2007, 1, 1)) + DAY)
    before, after = panel(rows)[-1], panel([*rows, revised])[-1]
    assert before["value_zscore"] == after["value_zscore"] is not None


def test_levels_in_another_unit_are_no_measure() -> None:
    rows = quarters([100.0 + n % 5 for n in range(30)])
    for row in rows[25:]:
        row["unit"] = "EUR"
    assert [row["value_zscore"] is None for row in panel(rows)[24:26]] == [False, True]


def test_a_series_that_does_not_move_has_no_zscore() -> None:
    assert panel(quarters([100.0] * 30))[-1]["value_zscore"] is None


def answer(name: str, index: int = -1) -> list[dict]:
    raw = (RECORDED / name).read_bytes()
    text = gzip.decompress(raw) if name.endswith(".gz") else raw
    interactions = yaml.load(text, Loader=yaml.CSafeLoader)["interactions"]
    return json.loads(interactions[index]["response"]["body"]["string"])["observations"]


def midnight(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def value_of(said: dict) -> float | None:
    return None if said["value"] == "." else float(said["value"])


@pytest.fixture(scope="module")
def gdp() -> list[dict]:
    """The panel of all vintages of GDP; a vintage is known when its day is over."""
    said = answer("get_series_all_releases_json_.yaml.gz")
    return panel(
        [
            quarter(date.fromisoformat(o["date"]), value_of(o), midnight(o["realtime_start"]) + DAY)
            for o in said
        ]
    )


@needs_recordings
def test_what_the_panel_knew_on_a_day_is_what_alfred_says_was_known_on_it(gdp) -> None:
    """ALFRED's own answer for 2019-01-01: another request than that which the panel is made from."""
    as_of = answer("get_series_asof_date_json_.yaml.gz")
    known = {o["date"]: value_of(o) for o in as_of if o["realtime_end"] >= "2019-01-01"}
    newest = max(day for day, value in known.items() if value is not None)
    row = [row for row in gdp if row["known_at"] <= midnight("2019-01-01") + DAY][-1]
    assert row["period_start"].isoformat() == newest == "2018-07-01"
    assert row["value"] == known[newest] == 20658.204
    assert row["previous_value"] == known["2018-04-01"]
    assert row["yoy_growth"] == known[newest] / known["2017-07-01"] - 1


@needs_recordings
def test_the_first_figure_of_each_period_is_what_alfred_calls_its_initial_release(gdp) -> None:
    first = {o["date"]: o for o in answer("get_series_initial_release_json_.yaml")}
    found = {}
    for row in gdp:
        found.setdefault(row["period_start"].isoformat(), row)
    both = sorted(set(first) & set(found))
    assert len(both) == 132
    for day in both:
        assert found[day]["value"] == float(first[day]["value"])
        assert found[day]["known_at"] == midnight(first[day]["realtime_start"]) + DAY


@needs_recordings
def test_what_holds_now_is_what_fred_says_now(gdp) -> None:
    now = {o["date"]: value_of(o) for o in answer("get_series_json_.yaml")}
    row = gdp[-1]
    assert row["period_start"].isoformat() == max(now)
    assert row["value"] == now[max(now)]
    assert row["growth"] == now["2024-07-01"] / now["2024-04-01"] - 1
