"""Monitors find each kind of defect, each its own, and nothing in a clean lake.

The clean lake is one whose feeds are alive: `living` is made here, `demo` is that of `mnemo demo` as it comes, with its
quarantined rows and the gaps of its recordings, and the same living feeds beside it.
"""

import math
import os
import random
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from expectations.monitors import (
    MONITORS,
    View,
    Watch,
    drift,
    look_around,
    quarantine,
    schema_drift,
    staleness,
    volume,
)
from expectations.monitors import (
    quota as quota_monitor,
)
from expectations.monitors.monitor import Monitor
from lakehouse import Lake
from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.catalog import table as contract_of
from lakehouse.ops import COVERAGE, QUARANTINE, QUOTA, VERDICTS
from lakehouse.ops import MONITORS as MONITORS_TABLE
from lakehouse.publish import BLOCKED, Run
from lakehouse.settings import Settings
from lakehouse.store import Store

ROOT = Path(__file__).parents[2]
MNEMO = Path(sys.executable).with_name("mnemo")
NOW = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
TODAY = NOW.replace(hour=0, minute=0)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MARKET = {"venue": "kraken", "instrument_id": "SOL/USD"}
OTHER = {"venue": "kraken", "instrument_id": "ADA/USD"}
ROLLING = {("ccxt_ohlcv", "kraken:SOL/USD@1h"), ("ccxt_markets", "kraken")}
RUN = Run(run_id="test", code_version="0", now=lambda: NOW)


def put(store: Store, name: str, rows: list[dict[str, object]]) -> None:
    """Append rows of a table as they are; what they do not say is null."""
    table = bronze_table(name.removeprefix("bronze.")) if name.startswith("bronze.") else contract_of(name)
    frame = pl.DataFrame(rows, schema=table.schema, orient="row")
    store.open(table).append(frame, positions={}, said={"run": "test"})


def hours(days: int, until: datetime = NOW) -> list[datetime]:
    """The ends of the hours of some days, oldest first."""
    last = until.replace(minute=0)
    return [last - n * HOUR for n in range(24 * days)][::-1]


def candles(
    market: dict[str, str], ends: list[datetime], *, seed: int = 1, volume: float = 100.0
) -> list[dict]:
    chance = random.Random(seed)
    price, rows = 100.0, []
    for end in ends:
        price *= math.exp(chance.gauss(0, 0.004))
        rows.append(
            {
                **market,
                "interval": "1h",
                "open_at": end - HOUR,
                "event_at": end,
                "known_at": end,
                "ingested_at": end,
                "provider": "ccxt",
                "close": price,
                "volume": volume * chance.lognormvariate(0, 0.7),
            }
        )
    return rows


def gold_candles(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "provider"} for row in rows]


def claim(
    feed: str, subject: str, about: dict[str, str], start: datetime, end: datetime, **said: object
) -> dict:
    table = {"ccxt_ohlcv": "silver.candles", "ccxt_markets": "silver.instruments"}[feed]
    return {
        "coverage_id": f"{feed}{subject}{start}{said}",
        "feed": feed,
        "subject": subject,
        "table": table,
        "about": orjson.dumps([about]).decode(),
        "start": start,
        "end": end,
        "status": "complete",
        "proof": "every_bar",
        "evidence": "{}",
        "cannot_show": "",
        "asked_at": end,
        "recorded_at": end,
        "run_id": "test",
        **said,
    }


def of_candles(market: dict[str, str]) -> tuple[str, str, dict[str, str]]:
    return "ccxt_ohlcv", f"kraken:{market['instrument_id']}@1h", {**market, "interval": "1h"}


def page(received_at: datetime, answer: object, *, subject: str = "kraken:SOL/USD@1h") -> Page:
    url = "https://api.kraken.com/0/public/OHLC?pair=SOLUSD&since=" + str(int(received_at.timestamp()))
    return Page(
        feed="ccxt_ohlcv",
        subject=subject,
        request={"method": "GET", "url": url},
        received_at=received_at,
        body=orjson.dumps(answer),
        http_status=200,
        content_type="application/json",
    )


def answer(n: int) -> dict:
    """As Kraken gives them, with a field that comes and goes, and a mapping of days."""
    bars = [[1_700_000_000 + n, "1.5", "1.6", "1.4", "1.5", "1.5", "10.1", 7]] * 3
    days = {f"2024-01-{day:02d}": 1 for day in range(1, 2 + n % 9)}
    return {
        "error": [],
        "result": {"SOLUSD": bars, "last": n, "days": days, **({"note": None} if n % 2 else {})},
    }


def put_pages(store: Store, pages: list[Page]) -> None:
    frame = pages_frame(pages, run_id="test", code_version="0")
    store.open(bronze_table("ccxt_ohlcv")).append(frame, positions={}, said={"run": "test"})


def put_life(store: Store) -> None:
    """Feeds that are alive and well, up to now."""
    put(store, "silver.candles", candles(MARKET, hours(40)))
    put(store, "gold.candles", gold_candles(candles(MARKET, hours(40))))
    asked = [TODAY - n * DAY for n in range(40)]
    put(store, COVERAGE.name, [claim(*of_candles(MARKET), at - 2 * DAY, at) for at in asked])
    put(
        store,
        COVERAGE.name,
        [claim("ccxt_markets", "kraken", {"venue": "kraken"}, at - DAY, at) for at in asked],
    )
    put_pages(store, [page(NOW - HOUR - n * DAY, answer(n)) for n in range(12)])
    put(store, QUOTA.name, [quota(used=5.0), quota(used=7.0)])
    days = [TODAY - n * DAY for n in range(5)]
    put(store, "gold.reconciliation_days", [reconciled(day, agreeing=1440) for day in days])
    put(store, "gold.consensus_prices", [consensus(NOW - n * HOUR) for n in range(100)])
    put(store, QUARANTINE.name, [held(NOW - n * DAY, f"few{n}") for n in range(20)])


def quota(**said: object) -> dict:
    return {
        "provider": "alphavantage",
        "host": "www.alphavantage.co",
        "key_id": "ab12",
        "window_start": TODAY,
        "window_s": 86_400.0,
        "zone": "UTC",
        "allowed": 25,
        "machine": "one",
        "observed_at": NOW - timedelta(minutes=1),
        **said,
    }


def reconciled(day: datetime, *, agreeing: int) -> dict:
    of = {**MARKET, "interval": "1m", "against": "venue", "rebuilt_from": "trades"}
    at = {"day": (day - DAY).date(), "event_at": day, "known_at": day, "ingested_at": day}
    return {**of, **at, "bars": 1440, "agreeing": agreeing, "share": agreeing / 1440, "required_share": 0.99}


def consensus(at: datetime, *off: str) -> dict:
    venues = {"venues": sorted({"a", "b", "kraken"} - {*off}), "outlier_venues": list(off)}
    return {
        "instrument_id": "SOL/USD",
        "open_at": at,
        "event_at": at,
        "known_at": at,
        "price": 1.0,
        **venues,
    }


def held(at: datetime, number: str, **said: object) -> dict:
    return {
        "quarantine_id": number,
        "batch_id": f"batch of {number}",
        "table": "silver.trades",
        "inputs": ["bronze.ccxt_trades"],
        "quarantined_at": at,
        "reasons": ["price_too_low"],
        "explanation": "price is not above 0",
        "status": "held",
        **said,
    }


def run_demo(folder: Path) -> None:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MNEMO_", "PREFECT_"))
    }
    done = subprocess.run(
        [MNEMO, "demo", "--here"],
        env={**inherited, "MNEMO_HOME": str(folder / "home"), "MNEMO_LAKE": str(folder / "lake")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def lake_in(folder: Path) -> Lake:
    return Lake.open(Settings(lake=str(folder / "lake"), home=folder / "home"))


def view_of(lake: Lake, now: datetime = NOW, **said: object) -> View:
    return View(lake=lake, now=now, rolling=ROLLING, **said)


def seen_in(lake: Lake, now: datetime = NOW) -> Watch:
    seen = look_around(view_of(lake, now), MONITORS)
    assert seen.failed == {}
    return seen


@pytest.fixture(scope="module")
def made(request, tmp_path_factory):
    """Clean lakes by name, each made once."""
    done: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in done:
            done[name] = tmp_path_factory.mktemp(name)
            if name == "demo":
                run_demo(done[name])
            put_life(lake_in(done[name]).store)
        return done[name]

    return make


@pytest.fixture(params=["living", pytest.param("demo", marks=pytest.mark.slow)])
def clean(request, made) -> Lake:
    """A clean lake, to be read only."""
    return lake_in(made(request.param))


@pytest.fixture
def lake(clean, tmp_path) -> Lake:
    """A copy that may be spoiled."""
    shutil.copytree(Path(clean.settings.lake), tmp_path / "lake")
    return lake_in(tmp_path)


# Defects: what each does to the lake, and what is seen of it.


def lose_three_hours(store: Store) -> None:
    start = NOW - 5 * DAY
    feed, subject, about = of_candles(OTHER)
    put(store, COVERAGE.name, [claim(feed, subject, about, start, start + 3 * HOUR, status="missing")])


def let_a_subject_die(store: Store) -> None:
    put(store, "silver.candles", candles(OTHER, hours(3, NOW - 5 * DAY)))
    feed, subject, about = of_candles(OTHER)
    put(store, COVERAGE.name, [claim(feed, subject, about, NOW - 8 * DAY, NOW - 5 * DAY)])


def stop_asking_for_markets(store: Store) -> None:
    store.open(COVERAGE).set_where("feed = 'ccxt_markets'", {"status": "missing", "proof": "none"})
    at = NOW - 4 * DAY
    put(
        store,
        COVERAGE.name,
        [claim("ccxt_markets", "kraken", {"venue": "kraken"}, at - 40 * DAY, NOW, recorded_at=at)],
    )


def change_the_unit_of_volume(store: Store) -> None:
    rows = gold_candles(candles(OTHER, hours(35), seed=2))
    since = NOW - 7 * DAY
    changed = [{**row, "volume": row["volume"] * (1000 if row["event_at"] > since else 1)} for row in rows]
    put(store, "gold.candles", changed)


def freeze_a_price(store: Store) -> None:
    rows = gold_candles(candles(OTHER, hours(35), seed=3))
    since = NOW - 7 * DAY
    put(
        store,
        "gold.candles",
        [{**row, "close": 1.0 if row["event_at"] > since else row["close"]} for row in rows],
    )


def change_the_answers(store: Store) -> None:
    changed = answer(3)
    changed["result"]["pages"] = changed["result"].pop("last")
    changed["result"]["SOLUSD"] = [[*bar[:-1], "7"] for bar in changed["result"]["SOLUSD"]]
    put_pages(store, [page(NOW - HOUR / 2, changed), page(NOW - HOUR / 3, changed)])


def halve_a_day(store: Store) -> None:
    ends = [end for end in hours(35) if (end - TODAY + DAY) // DAY != 0 or end.hour % 4 == 0]
    put(store, "silver.candles", candles(OTHER, ends))


def disagree_with_the_venue(store: Store) -> None:
    put(store, "gold.reconciliation_days", [{**reconciled(TODAY, agreeing=700), **OTHER}])


def tell_far_prices(store: Store) -> None:
    put(store, "gold.consensus_prices", [consensus(NOW - n * HOUR / 60, "kraken") for n in range(1, 60)])


def use_a_budget_up(store: Store) -> None:
    put(store, QUOTA.name, [quota(used=24.0, observed_at=NOW)])


def be_sent_away(store: Store) -> None:
    put(store, QUOTA.name, [quota(used=7.0, observed_at=NOW, blocked_until=NOW + 6 * HOUR)])


def hold_many_rows(store: Store) -> None:
    put(store, QUARANTINE.name, [held(NOW - HOUR, f"many{n}") for n in range(200)])


def forget_a_row(store: Store) -> None:
    put(store, QUARANTINE.name, [held(NOW - 40 * DAY, "old")])


def block_a_batch(store: Store) -> None:
    at, batch = NOW - 2 * DAY, {"batch_id": "b", "table": "silver.trades"}
    put(store, QUARANTINE.name, [held(at, f"b{n}", **batch, reasons=[BLOCKED]) for n in range(300)])
    put(
        store,
        VERDICTS.name,
        [{**batch, "judged_at": at, "level": "blocked", "rows": 300, "docs_key": "docs/b.html"}],
    )


def leave_pages_unread(store: Store) -> None:
    """Three days ago by the clock of the log, which no writer lets us set."""
    pages = pages_frame([page(NOW - 3 * DAY, {})], run_id="test", code_version="0")
    stored = store.open(bronze_table("ccxt_tickers"))
    stored.append(pages, positions={}, said={"run": "test"})
    for version in range(stored.version + 1):
        entry = Path(store.root) / "bronze/ccxt_tickers/_delta_log" / f"{version:020d}.json"
        lines = [orjson.loads(line) for line in entry.read_bytes().splitlines()]
        for line in lines:
            if "commitInfo" in line:
                line["commitInfo"]["timestamp"] = int((NOW - 3 * DAY).timestamp() * 1000)
        entry.write_bytes(b"\n".join(orjson.dumps(line) for line in lines))


DEFECTS = {
    lose_three_hours: {("gaps", "silver.candles", "ccxt_ohlcv kraken:ADA/USD@1h")},
    let_a_subject_die: {("staleness", "silver.candles", "kraken ADA/USD 1h")},
    stop_asking_for_markets: {("staleness", "silver.instruments", "kraken")},
    change_the_unit_of_volume: {
        ("drift", "gold.candles", "kraken ADA/USD log volume, population stability index"),
        ("drift", "gold.candles", "kraken ADA/USD log volume, Kolmogorov-Smirnov"),
    },
    freeze_a_price: {
        ("drift", "gold.candles", "kraken ADA/USD log return of close, population stability index"),
        ("drift", "gold.candles", "kraken ADA/USD log return of close, Kolmogorov-Smirnov"),
    },
    change_the_answers: {("schema_drift", "bronze.ccxt_ohlcv", "api.kraken.com")},
    halve_a_day: {("volume", "silver.candles", "kraken ADA/USD 1h")},
    disagree_with_the_venue: {("disagreement", "gold.reconciliation_days", "kraken ADA/USD 1m venue trades")},
    tell_far_prices: {("disagreement", "gold.consensus_prices", "kraken SOL/USD")},
    use_a_budget_up: {("quota", "", "alphavantage www.alphavantage.co ab12 UTC 24.0 h")},
    be_sent_away: {("quota", "", "alphavantage www.alphavantage.co ab12 wait")},
    hold_many_rows: {("quarantine", "silver.trades", "held anew")},
    forget_a_row: {("quarantine", "silver.trades", "held for long")},
    block_a_batch: {("backlog", "silver.trades", "blocked batches")},
    leave_pages_unread: {("backlog", "bronze.ccxt_tickers", "pages of bronze.ccxt_tickers")},
}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.__name__)
def test_a_defect_is_seen_by_the_monitor_it_is_for_and_by_no_other(lake, defect):
    defect(lake.store)
    rolling = ROLLING | {of_candles(OTHER)[:2]}

    seen = look_around(View(lake=lake, now=NOW, rolling=rolling), MONITORS)

    wrong = set(seen.wrong.select("monitor", "table", "subject").iter_rows())
    assert (wrong, dict(seen.failed)) == (DEFECTS[defect], {})


@pytest.mark.slow
def test_a_clean_lake_raises_nothing_over_a_hundred_runs(clean):
    moments = [NOW + n * timedelta(minutes=14) for n in range(100)]

    found = [alert for now in moments for alert in seen_in(clean, now).alerts()]

    assert found == []


def test_a_clean_lake_is_looked_at_and_raises_nothing(clean):
    seen = seen_in(clean)

    of = set(seen.figures["monitor"])
    assert of >= {"staleness", "drift", "schema_drift", "volume", "disagreement", "quota", "quarantine"}
    assert seen.alerts() == []


def failing(_: View) -> pl.DataFrame:
    raise ValueError("cannot read")


def test_a_monitor_that_fails_does_not_stop_the_others_and_does_not_count_as_having_looked(lake):
    broken = Monitor(name="broken", doc="Fails.", unit="", severity="critical", look=failing)

    seen = look_around(view_of(lake), [broken, *MONITORS])

    assert seen.failed == {"broken": "ValueError: cannot read"}
    assert seen.checked == {monitor.name for monitor in MONITORS}


def test_alerts_name_owner_and_severity_and_link_the_page_of_what_they_tell(lake):
    block_a_batch(lake.store)
    use_a_budget_up(lake.store)

    alerts = {alert.monitor: alert for alert in seen_in(lake).alerts()}

    assert (alerts["backlog"].owner, alerts["backlog"].severity) == ("market-data", "critical")
    assert alerts["backlog"].link == "docs/b.html"
    assert (alerts["quota"].owner, alerts["quota"].severity) == ("operations", "warning")
    assert (alerts["quota"].measured, alerts["quota"].limit) == (24 / 25, quota_monitor.MOST_USED)
    assert "96.0% of 25" in alerts["quota"].summary


def test_a_watch_of_some_tables_is_about_nothing_else(lake):
    block_a_batch(lake.store)
    use_a_budget_up(lake.store)

    seen = seen_in(lake).of_tables(["silver.trades"])

    assert seen.is_critical
    assert set(seen.figures["table"]) == {"silver.trades"}


def test_a_watch_becomes_a_verdict_of_great_expectations_a_page_and_rows(lake):
    from expectations.monitors.verdict import judge, with_page

    block_a_batch(lake.store)
    seen = seen_in(lake)

    result = judge(seen)
    told = with_page(seen, lake.files, RUN, NOW)

    failed = {
        entry.expectation_config.description.partition(":")[0]
        for entry in result.results
        if not entry.success
    }
    assert (failed, len(result.results)) == ({"backlog"}, len(MONITORS))
    assert "backlog: No batch stays blocked" in lake.files.get(told.docs_key).decode()
    rows = told.rows(RUN, NOW)
    assert rows.schema == MONITORS_TABLE.schema
    assert rows.filter(pl.col("level") != "passed").select("monitor", "docs_key").rows() == [
        ("backlog", "docs/b.html")
    ]
    assert set(rows.filter(pl.col("level") == "passed")["docs_key"]) == {told.docs_key}
    assert rows.select(MONITORS_TABLE.key).is_duplicated().sum() == 0


# What monitors compute.

EVEN = pl.Series("value", [float(n) for n in range(20)])
HIGH = pl.Series("value", [1.0] * 5 + [19.0] * 15)


def test_the_population_stability_index_has_the_value_of_its_formula():
    # The median of both is 14: of the even ones 15 are not above it, of the high ones 5; half a value is added to each.
    expected = 2 * (15.5 / 21 - 5.5 / 21) * math.log(15.5 / 5.5)

    assert drift.population_stability_index(EVEN, HIGH, bins=2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("recent", "statistic"), [(EVEN, 0.0), (HIGH, 0.7), (EVEN + 100, 1.0)], ids=["equal", "high", "apart"]
)
def test_the_kolmogorov_smirnov_statistic_is_the_greatest_distance(recent, statistic):
    assert drift.kolmogorov_smirnov(EVEN, recent) == pytest.approx(statistic)


numbers = st.lists(st.floats(-1e9, 1e9), min_size=5, max_size=60).map(lambda found: pl.Series("value", found))


@given(numbers, numbers)
def test_measures_of_drift_are_symmetric_and_bounded(one, other):
    psi, ks = drift.population_stability_index(one, other), drift.kolmogorov_smirnov(one, other)

    assert psi == pytest.approx(drift.population_stability_index(other, one))
    assert psi >= -1e-12
    assert ks == pytest.approx(drift.kolmogorov_smirnov(other, one))
    assert 0 <= ks <= 1
    assert drift.population_stability_index(one, one) == drift.kolmogorov_smirnov(one, one) == 0


def counts(*rows: int) -> pl.DataFrame:
    """Rows of one subject on consecutive days up to today; days without rows are not told, as in a lake."""
    days = [(TODAY - (len(rows) - 1 - n) * DAY).date() for n in range(len(rows))]
    table = contract_of("silver.trades")
    told = [{**MARKET, "day": day, "rows": count} for day, count in zip(days, rows, strict=True) if count]
    return pl.DataFrame(
        told, schema={**dict.fromkeys(table.subject, pl.String), "day": pl.Date, "rows": pl.Int64}
    )


WEEK = [1440] * 5 + [0, 0]


@pytest.mark.parametrize(
    ("rows", "is_wrong"),
    [
        ([1440] * 28 + [1440, 3], [False]),
        ([1440] * 28 + [700, 3], [True]),
        ([1440] * 28 + [0, 3], [True]),
        ([1440] * 28 + [3000, 3], [True]),
        (WEEK * 5 + [3], [False]),
        ([1000, 3000, 500, 1500, 800] * 6 + [4000, 3], [False]),
        ([1440] * 10 + [3, 3], []),
        ([5] * 28 + [0, 3], []),
    ],
    ids=["usual", "half", "none", "double", "weekend", "lively", "too short a history", "too few rows"],
)
def test_only_an_unusual_day_of_a_usual_subject_is_told(rows, is_wrong):
    found = volume.distances(counts(*rows), contract_of("silver.trades"))

    assert found.select(pl.col("measured") > pl.col("limit")).to_series().to_list() == is_wrong


@pytest.mark.parametrize(
    ("earlier", "recent", "found"),
    [
        ([b'{"a": 1, "b": {"c": "x"}}'], b'{"a": 1.5, "b": {"c": "y"}}', []),
        ([b'{"a": 1}'], b'{"a": 1, "b": {"c": 1}}', ["b is new"]),
        ([b'{"a": 1, "b": 2}'], b'{"a": 1}', ["b is missing"]),
        ([b'{"a": "1"}'], b'{"a": 1}', ["a was string, is number"]),
        ([b'{"a": 1, "b": 2}', b'{"a": 1}'], b'{"a": 1}', []),
        ([b'{"a": 1}', b'{"a": "1"}'], b'{"a": 1}', []),
        ([b'{"a": null}'], b'{"a": {"b": 1}}', []),
        ([b'{"a": [{"b": 1}]}'], b'{"a": []}', []),
        ([b'{"a": [{"b": 1}]}'], b'{"a": [{"c": 1}]}', ["a.[].c is new", "a.[].b is missing"]),
        ([b'[[1, "2"]]'], b'[["1", "2", 3]]', ["[].[2] is new", "[].[0] was number, is string"]),
        ([b'{"2024-01-01": {"x": 1}}'], b'{"2024-01-02": {"x": 1}}', []),
        ([b"a,b\n1,2\n"], b"a,c\n1,2\n", ["c is new", "b is missing"]),
        ([b"<html>, no JSON"], b"{not JSON", []),
    ],
)
def test_fields_of_answers_are_compared_with_all_that_were_seen_before(earlier, recent, found):
    shapes = schema_drift.shape_of(earlier), schema_drift.shape_of([recent])

    assert schema_drift.differences(*shapes) == found


def test_the_keys_of_a_large_object_are_data():
    markets = {f"M{n}": {"base": "x"} for n in range(100)}
    earlier, recent = orjson.dumps(markets), orjson.dumps({**markets, "NEW": {"base": "y"}})

    assert schema_drift.differences(*(schema_drift.shape_of([one]) for one in (earlier, recent))) == []


@pytest.mark.parametrize(
    ("new", "usual_a_day", "judged", "limit"),
    [(11, 0, 0, 10.0), (50, 20, 0, 60.0), (50, 0, 100_000, 1000.0)],
    ids=["never", "as usual", "of many rows"],
)
def test_rows_held_anew_are_compared_with_what_is_usual_and_what_was_judged(new, usual_a_day, judged, limit):
    times = [NOW - HOUR] * new + [NOW - n * DAY - HOUR for n in range(1, 29)] * usual_a_day
    held_rows = pl.DataFrame({"table": "silver.trades", "quarantined_at": times})
    judged_rows = pl.DataFrame({"table": ["silver.trades"], "judged": [judged]})

    found = quarantine.growth(held_rows, judged_rows, NOW)

    assert found.select("measured", "limit").rows() == [(float(new), limit)]


def test_a_slow_series_is_as_old_as_its_habit_allows():
    quarters = [datetime(2024, month, 1, tzinfo=UTC) for month in (1, 4, 7, 10)]
    told = [{"__of": "GDP", "event": end, "known": end + 30 * DAY} for end in quarters]

    newest, usual_s = staleness.habits(pl.DataFrame(told)).select("newest", "usual_s").row(0)

    assert (newest, usual_s / DAY.total_seconds()) == (quarters[-1], 92 + 30)
