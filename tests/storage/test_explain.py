"""Explaining: every number of gold leads to bytes that a provider sent, and to the gate that let it in."""

import hashlib
import re
from datetime import UTC, datetime

import pytest

from lakehouse import Lake, catalog
from lakehouse.errors import UsageError
from lakehouse.explain import Explanation
from lakehouse.promotion import promote_model, promote_pages
from lakehouse.publish import Run
from lakehouse.rebuild import rebuild_model
from lakehouse.settings import Settings
from lakehouse.store import open_store
from lakehouse.verdict import Batch, Verdict
from sources import registry
from sources.client import Client
from sources.errors import ParseError
from sources.ingest import ingest
from sources.twin.server import running_twin
from sources.watchlist import read_watchlist, recordings_folder

FEEDS = ("ccxt_ohlcv", "ccxt_trades", "fred_observations", "bis_observations", "alphavantage_daily")
FIGURES = ("close", "price", "value")
CANDLE = {"venue": "bitstamp", "instrument_id": "BTC/USD", "interval": "1d", "open_at": "2019-01-01"}


def pass_all(batch: Batch) -> Verdict:
    return Verdict(batch=batch, findings=(), reasons={})


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(run_id="a-run", code_version="1.2.3", now=lambda: datetime.now(UTC))


@pytest.fixture(scope="module")
def demo(tmp_path_factory, run) -> Lake:
    """A lake with what the demo's watchlist asks of some feeds, from recorded bytes over HTTP to gold."""
    settings = Settings(lake=str(tmp_path_factory.mktemp("lake")), offline=True)
    store = open_store(settings)
    orders = read_watchlist(settings, now=datetime.now(UTC), feeds=FEEDS)
    with (
        running_twin(recordings_folder(settings)) as url,
        Client(settings.model_copy(update={"twin_url": url})) as client,
    ):
        for order in orders:
            feed = registry.feed(order.feed)
            ingest(store, feed, order.subject, order.window, client=client, run=run)
    for feed in map(registry.feed, FEEDS):
        promote_pages(
            store, feed.table, feed.bronze, feed.parse, judge=pass_all, run=run, parse_error=ParseError
        )
    for model in catalog.models().values():
        promote_model(store, model, judge=pass_all, run=run)
    return Lake(store)


def leaves(found: Explanation) -> list[Explanation]:
    below = [leaf for part in found.parts for one in part.shown for leaf in leaves(one)]
    return below or [found]


def numbers_in(body: bytes) -> set[float]:
    return {float(text) for text in re.findall(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", body.decode())}


@pytest.mark.parametrize("table", catalog.models())
def test_a_row_of_gold_leads_to_recorded_bytes_that_hold_the_number(demo, table):
    contract = catalog.table(table)
    filled = demo.scan(table).collect() if demo.store.find(contract) else contract.schema.to_frame()
    if filled.is_empty():
        pytest.skip("the recordings of these feeds fill no row of it")
    rows = filled.sample(min(10, filled.height), seed=11)

    for row in rows.iter_rows(named=True):
        found = demo.explain(table, {name: row[name] for name in contract.identity}, every_row="close" in row)

        assert found.row == row
        told = set()
        for end in leaves(found):
            assert end.table.startswith("silver.")
            figures = {end.row[name] for name in FIGURES if end.row.get(name) is not None}
            assert figures <= numbers_in(end.page.body)
            told |= figures
        assert row.get("close", row.get("value")) in told | {None}


def test_every_part_of_the_way_says_who_let_it_in(demo):
    found = demo.explain("gold.candles", CANDLE)

    (bar,) = found.parts[0].shown
    for one, table in ((found, "gold.candles"), (bar, "silver.candles")):
        assert one.admission.found_by == "commit"
        assert (one.admission.run_id, one.admission.code_version) == ("a-run", "1.2.3")
        assert one.admission.contract == catalog.table(table).fingerprint
        assert one.admission.level in ("passed", "warning")
        assert one.admission.batch_id in demo.scan("ops.verdicts", table=table).collect()["batch_id"]
    assert bar.page.request["url"].startswith("https://www.bitstamp.net/api/v2/ohlc/btcusd/")
    assert bar.page.http_status == 200
    assert bar.page.sha256 == hashlib.sha256(bar.page.body).hexdigest()
    assert found.pages() == (bar.page,)


def test_many_rows_are_counted_and_all_are_followed_when_asked(demo):
    window = demo.scan("gold.volatility", window=30).collect().row(0, named=True)
    key = {name: window[name] for name in catalog.table("gold.volatility").identity}

    brief = demo.explain("gold.volatility", key)
    whole = demo.explain("gold.volatility", key, every_row=True)

    assert (brief.parts[0].rows, len(brief.parts[0].shown)) == (31, 2)
    assert len(whole.parts[0].shown) == 31
    assert whole.parts[0].last_event_at == window["event_at"]
    assert [one.row["event_at"] for one in whole.parts[0].shown][::30] == [
        one.row["event_at"] for one in brief.parts[0].shown
    ]


def test_a_figure_of_a_panel_is_made_of_what_it_compares_with(demo):
    row = demo.scan("gold.macro_panel", series_id="GDP").sort("known_at").collect().row(-1, named=True)

    found = demo.explain(
        "gold.macro_panel",
        {name: row[name] for name in ("provider", "series_id", "event_at")},
        every_row=True,
    )

    values = [one.row["value"] for one in found.parts[0].shown]
    assert values == [row["year_ago_value"], row["previous_value"], row["value"]]


def test_as_json_it_is_a_tree_without_bodies(demo):
    said = demo.explain("gold.candles", CANDLE).to_dict()

    silver = said["parts"][0]["shown"][0]
    assert said["row"]["close"] == silver["row"]["close"]
    assert silver["page"]["size_bytes"] > 0
    assert "body" not in silver["page"]


def test_a_row_that_a_later_commit_has_moved_is_still_explained(demo):
    stored = demo.store.find(catalog.table("silver.candles"))
    stored.replace(stored.scan().collect(), positions={}, said={})

    bar = demo.explain("silver.candles", CANDLE)

    assert bar.page.body
    assert bar.admission.found_by == "time"
    assert bar.admission.batch_id in demo.scan("ops.verdicts", table="silver.candles").collect()["batch_id"]


def test_after_a_rebuild_the_rebuild_let_it_in(demo, run):
    done = rebuild_model(demo.store, catalog.models()["gold.candles"], judge=pass_all, run=run)

    found = demo.explain("gold.candles", CANDLE)

    assert found.admission.batch_id == done.batch_id
    assert leaves(found)[0].page.subject == "bitstamp:BTC/USD@1d"


@pytest.mark.parametrize(
    ("table", "key", "answer"),
    [
        ("gold.candles", {"venue": "bitstamp"}, "missing: instrument_id, interval, open_at"),
        ("gold.candles", CANDLE | {"venue": "bitstmp"}, "no row with venue=bitstmp; nearest: bitstamp"),
        (
            "gold.candles",
            CANDLE | {"open_at": "2019-01-01T07:00"},
            "nearest: 2019-01-01T00:00:00Z, 2019-01-02",
        ),
        ("gold.candles", CANDLE | {"open_at": "noon"}, "open_at='noon' of gold.candles is not a value"),
        ("gold.candles", CANDLE | {"vnue": "x"}, "did you mean venue"),
        ("ops.verdicts", {"batch_id": "x"}, "explain takes silver and gold tables"),
        ("silver.prediction_prices", {}, "silver.prediction_prices is empty"),
    ],
    ids=["missing", "text", "time", "malformed", "column", "layer", "empty"],
)
def test_an_unknown_key_is_answered_with_the_columns_wanted_and_what_is_near(demo, table, key, answer):
    with pytest.raises(UsageError, match=re.escape(answer)):
        demo.explain(table, key)
