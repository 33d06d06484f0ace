"""The whole way on recorded data, with a real Prefect API: what the demo promises, also when it is repeated."""

import importlib.util
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from lakehouse import Lake
from lakehouse.catalog import models, promotion_order
from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.ops import QUARANTINE, VERDICTS
from lakehouse.settings import Settings
from sources import registry
from sources.watchlist import read_watchlist

ROOT = Path(__file__).parents[2]
MNEMO = Path(sys.executable).with_name("mnemo")
# What is recorded of a day's trades fills no bar, and no trade is far off; docs/gold.md says so.
EMPTY = {"gold.activity_bars", "gold.trade_outliers"}
PLOTS = (
    "candles",
    "reconciliation",
    "volatility",
    "derivatives",
    "liquidity",
    "macro_vintages",
    "global_liquidity",
    "prediction",
)


def run_demo(home: Path) -> str:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MNEMO_", "PREFECT_"))
    }
    done = subprocess.run(
        [MNEMO, "demo"],
        env={**inherited, "MNEMO_HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    ensure_running(home, bucket="lake")
    yield home
    release(home, wait=True)


@pytest.fixture(scope="module")
def printed(home):
    return run_demo(home)


@pytest.fixture(scope="module")
def filled() -> set[str]:
    """The tables that the demo's watchlist fills, and what is made of them."""
    orders = read_watchlist(Settings(offline=True), now=datetime.now(UTC))
    silver = {registry.feed(order.feed).table.name for order in orders}
    return {*silver, *models()} - EMPTY


@pytest.fixture
def lake(home, printed):
    return Lake.open(Settings(home=home))


def notebook_module(name: str, monkeypatch):
    """A module of notebooks/, which is no package: a notebook finds what lies beside it."""
    monkeypatch.syspath_prepend(ROOT / "notebooks")
    spec = importlib.util.spec_from_file_location(name, ROOT / "notebooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stored(lake: Lake) -> list[str]:
    """The silver and gold tables with rows."""
    return [one["table"] for one in lake.tables() if one["rows"] and one["table"] in promotion_order()]


def contents(lake: Lake) -> dict[str, pl.DataFrame]:
    """Every silver and gold row."""
    return {
        name: lake.scan(name, versions=True).collect().sort(lake.contract(name).key) for name in stored(lake)
    }


def test_all_six_providers_reach_silver_and_gold_is_made_of_them(lake, filled):
    providers = {
        name: lake.scan(name).select(pl.col("provider").unique()).collect()["provider"].to_list()
        for name in stored(lake)
        if name.startswith("silver.")
    }

    assert {one for names in providers.values() for one in names} == {
        "ccxt",
        "coinmetrics",
        "polymarket",
        "fred",
        "alphavantage",
        "bis",
    }
    assert filled - set(stored(lake)) == set()


def test_every_published_table_has_a_verdict(lake):
    judged = lake.scan(VERDICTS.name).select(pl.col("table").unique()).collect()["table"].to_list()

    assert set(stored(lake)) - set(judged) == set()


def test_the_quarantine_holds_real_defects_with_reasons_that_a_person_understands(lake):
    held = lake.scan(QUARANTINE.name).collect()

    assert held.height > 0
    assert held["explanation"].str.len_chars().min() > 10
    assert held["page_id"].null_count() == 0


def test_progress_is_shown_and_the_summary_names_each_table_and_where_to_look_next(printed, filled):
    assert "ccxt_trades kraken:BTC/USDT: 1 new pages" in printed
    assert all(name in printed for name in filled)
    assert "Where to look next" in printed


def test_gold_candles_read_the_same_by_command_line_polars_and_duckdb(lake, home):
    polars = lake.scan("gold.candles", venue="kraken").collect().sort(lake.contract("gold.candles").key)
    duck = lake.sql("select * from gold.candles where venue = 'kraken'").select(polars.columns)
    called = subprocess.run(
        [MNEMO, "read", "gold.candles", "--venue", "kraken", "--format", "json"],
        env={**os.environ, "MNEMO_HOME": str(home)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    shown = [json.loads(line) for line in called.stdout.splitlines()]

    assert polars.height > 100
    assert duck.sort(lake.contract("gold.candles").key).rows() == polars.rows()
    assert [row["close"] for row in shown] == polars["close"].to_list()


@pytest.mark.parametrize("name", PLOTS)
def test_each_plot_of_the_gold_tables_shows_rows(lake, monkeypatch, name):
    plots = notebook_module("gold_plots", monkeypatch).PLOTS

    drawn = plots[name](lake).to_dict()

    assert set(plots) == set(PLOTS)
    assert all(len(rows) > 0 for rows in drawn["datasets"].values())


def test_the_page_on_gold_names_each_gold_table_and_shows_each_plot_as_a_small_image():
    page = (ROOT / "docs/gold.md").read_text(encoding="utf-8")
    sizes = {name: (ROOT / f"docs/images/{name}.svg").stat().st_size for name in PLOTS}

    assert {name for name in models() if f"`{name}`" not in page} == set()
    assert {name for name in PLOTS if f"(images/{name}.svg)" not in page} == set()
    assert max(sizes.values()) < 150_000


def test_the_notebook_runs_from_top_to_bottom(lake, monkeypatch):
    pytest.importorskip("marimo", reason="the dependency group `notebook` is not installed")
    monkeypatch.setitem(sys.modules, "gold_plots", notebook_module("gold_plots", monkeypatch))

    outputs, _ = notebook_module("first_look", monkeypatch).app.run(defs={"lake": lake})

    assert sum("altair" in type(output).__module__ for output in outputs) == len(PLOTS)


def test_a_second_run_changes_nothing(lake, home):
    before, held = contents(lake), lake.scan(QUARANTINE.name).collect().height

    run_demo(home)

    after = contents(lake)
    assert {name: rows.equals(before[name]) for name, rows in after.items()} == dict.fromkeys(after, True)
    assert lake.scan(QUARANTINE.name).collect().height == held
