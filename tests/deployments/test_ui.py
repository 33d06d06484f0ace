"""The lake's page: every view over a lake of recorded bytes; nothing is written, text of providers stays text."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import polars as pl
import pytest

from deployments.ui.app import Desk, running
from deployments.ui.export import INDEX, write_site
from deployments.ui.menu import VIEWS
from deployments.ui.shelf import Shelf
from expectations.gate import Gate
from lakehouse import Lake, catalog
from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.gold.trade_outliers import TABLE as OUTLIERS
from lakehouse.ledger import promote_coverage
from lakehouse.ops import ALERTS, MONITORS
from lakehouse.promotion import promote_model, promote_pages
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.silver.book_snapshots import TABLE as BOOKS
from lakehouse.silver.prediction_markets import TABLE as MARKETS
from lakehouse.silver.series import TABLE as SERIES
from lakehouse.store import Store, open_store
from sources import registry
from sources.client import Client
from sources.errors import ParseError
from sources.ingest import ingest
from sources.twin.server import running_twin
from sources.watchlist import read_watchlist, recordings_folder

ROOT = Path(__file__).parents[2]
FEEDS = (
    "bis_observations",
    "ccxt_ohlcv",
    "ccxt_trades",
    "fred_observations",
    "fred_series",
    "polymarket_books",
    "polymarket_markets",
)
MENU = [view.path for view in VIEWS if view.menu]
HOSTILE = "<script>alert('market')</script> & <img src=x onerror=alert(1)>?"
CANDLE = "/explain?table=gold.candles&venue=bitstamp&instrument_id=BTC/USD&interval=1d&open_at=2019-01-01"


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    """A lake of recorded bytes, with books, frames of a stream, an outlier and a hostile market made up beside them."""
    settings = Settings(lake=str(tmp_path_factory.mktemp("lake")), offline=True)
    store, run = open_store(settings), Run(run_id="ui", code_version="0", now=lambda: datetime.now(UTC))
    fetch(store, settings, run)
    judge = Gate(store.files).judge
    for feed in map(registry.feed, FEEDS):
        promote_pages(
            store, feed.table, feed.bronze, feed.parse, judge=judge, run=run, parse_error=ParseError
        )
        promote_coverage(store, feed.source)
    make_up(store)
    for name in ("candles", "liquidity", "macro_panel", "reconciliation", "reconciliation_days"):
        promote_model(store, catalog.models()[f"gold.{name}"], judge=judge, run=run)
    return Lake(store)


def fetch(store: Store, settings: Settings, run: Run) -> None:
    orders = read_watchlist(settings, now=datetime.now(UTC), feeds=FEEDS)
    with (
        running_twin(recordings_folder(settings)) as url,
        Client(settings.model_copy(update={"twin_url": url})) as client,
    ):
        for order in orders:
            ingest(store, registry.feed(order.feed), order.subject, order.window, client=client, run=run)


def make_up(store: Store) -> None:
    market = store.open(MARKETS).scan().head(1).collect()
    later = market.with_columns(
        pl.col("known_at", "ingested_at") + timedelta(days=1), question=pl.lit(HOSTILE)
    )
    store.open(MARKETS).append(later, positions={}, said={})
    append(store, BOOKS, [book(minute) for minute in range(30)])
    append(store, OUTLIERS, [outlier()])
    append(store, ALERTS, [alert("opened", 1), alert("resolved", 2), alert("opened", 3)])
    append(store, MONITORS, [look("passed", 1), look("critical", 2)])
    append_frames(store)


def alert(event: str, serial: int) -> dict:
    texts = dict.fromkeys(("route", "subject", "owner", "link", "detail", "run_id"), "")
    return {
        **texts,
        "serial": serial,
        "fingerprint": "f",
        "event": event,
        "status": "resolved" if event == "resolved" else "open",
        "monitor": "staleness",
        "table": "silver.trades",
        "severity": "critical",
        "summary": HOSTILE,
        "measured": 2.0,
        "limit": 1.0,
        "silenced_until": None,
        "recorded_at": datetime(2024, 1, serial, tzinfo=UTC),
    }


def look(level: str, day: int) -> dict:
    texts = dict.fromkeys(("subject", "docs_key", "code_version", "run_id"), "")
    return {
        **texts,
        "looked_at": datetime(2024, 1, day, tzinfo=UTC),
        "monitor": "staleness",
        "table": "silver.trades",
        "measured": float(day),
        "limit": 1.0,
        "unit": "days",
        "level": level,
        "summary": f"looked on day {day}",
    }


def append(store: Store, table: Table, rows: list[dict]) -> None:
    frame = conform(table, pl.LazyFrame(rows)).collect().select(table.schema.names())
    store.open(table).append(frame, positions={}, said={})


def book(minute: int) -> dict:
    at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
    prices = [100.0 - 0.01 * level for level in range(5)]
    return {
        "venue": "kraken",
        "instrument_id": "BTC/USD",
        "event_at": at,
        "known_at": at,
        "ingested_at": at,
        "page_id": 1,
        "provider": "ccxt",
        "sequence": minute,
        "bid_prices": prices,
        "bid_amounts": [1.0 + minute] * 5,
        "ask_prices": [200.01 - price for price in prices],
        "ask_amounts": [2.0] * 5,
        "amount_unit": "base",
        "is_valid": True,
        "check": "checksum",
    }


def outlier() -> dict:
    at = datetime(2020, 6, 30, 12, tzinfo=UTC)
    subject = {"venue": "binance", "instrument_id": "BTC/USDT", "trade_id": "far-off"}
    figures = {"price": 12_000.0, "level": 9_100.0, "mad": 1.0}
    return {**subject, "event_at": at, "known_at": at, "ingested_at": at, **figures}


def append_frames(store: Store) -> None:
    table = bronze_table("stream_kraken")
    frames = [
        Page(
            feed="stream_kraken",
            subject="kraken",
            request={"method": "WS", "url": "wss://ws.kraken.com/v2"},
            received_at=datetime.now(UTC),
            body=f"frame {number}".encode(),
            connection_id="one",
            sequence=number,
        )
        for number in range(5)
    ]
    store.open(table).append(pages_frame(frames, run_id="ui", code_version="0"), positions={}, said={})


@pytest.fixture(scope="module")
def page(lake):
    """A client of the page over that lake."""
    with client_of(lake) as client:
        yield client


@contextmanager
def client_of(lake: Lake) -> Iterator[httpx.Client]:
    """The real server, asked over HTTP."""
    with (
        running(Desk(open_lake=lambda: lake)) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        yield client


class Links(HTMLParser):
    """The addresses in a document, and the elements that it holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.hrefs: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        said = dict(attrs)
        self.tags.append((tag, said))
        if tag == "a":
            self.hrefs.append(said["href"])


@pytest.mark.parametrize("path", MENU)
def test_every_view_shows_the_lake_and_reads_without_scripts(page, path):
    answer = page.get(path)

    assert answer.status_code == 200
    found = Links(answer.text)
    assert [tag for tag, _ in found.tags].count("h1") == 1
    scripts = [said for tag, said in found.tags if tag == "script"]
    assert all("src" in said or said["type"] == "application/json" for said in scripts)
    assert not [
        said for _, said in found.tags if "style" in said or any(name.startswith("on") for name in said)
    ]
    plots = [said for tag, said in found.tags if said.get("class") == "plot"]
    assert all(len(said["aria-label"]) > 20 for said in plots)
    assert answer.text.count("<table>") == answer.text.count("<caption>")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/", ["rows in silver and gold", "held in quarantine", "known gaps", "of 2 d"]),
        (
            "/coverage",
            ["ccxt_ohlcv fills silver.candles", "missing 2020-06-28T02:00:00Z to 2020-06-28T05:00:00Z"],
        ),
        ("/coverage?feed=ccxt_ohlcv&subject=binance:BTC/USDT@1h", ["Stretches of binance:BTC/USDT@1h"]),
        ("/gaps", ["mnemo backfill ccxt_ohlcv", "the provider does not keep it"]),
        ("/lineage?table=gold.candles", ["Ways through gold.candles", "ccxt_trades", "reconciliation_days"]),
        ("/verdicts?table=silver.candles", ["silver.candles", "warning", "contradicts published 1"]),
        ("/quarantine", ["contradicts published", "already published and says something else"]),
        ("/reconciliation", ["bitstamp", "differs"]),
        ("/candles?market=binance:BTC/USDT&interval=1h", ["1,468 bars", "far-off"]),
        ("/books?book=ccxt:kraken:BTC/USD", ["30, 2024-01-01 00:00", "asks are drawn downwards"]),
        ("/vintages?series=fred:GDP&as_of=2009-01-31", ["As known on 2009-01-31: 248 of 315 periods"]),
        ("/recorder", ["Frames a minute", "kraken"]),
        ("/upkeep", ["How the files lie"]),
        ("/alerts", ["Open: 1", "Over: 0", "looked on day 2", "2024-01-03"]),
        ("/table?name=gold.candles", ["The newest 25 rows", "Closed bars of all venues", "explain"]),
        (CANDLE, ["let in by batch", "https://www.bitstamp.net", "sha256"]),
    ],
)
def test_a_view_says_what_it_is_for(page, path, said):
    text = page.get(path).text

    for one in said:
        assert one in text


def test_links_lead_somewhere(page):
    """From every view of the menu: no address that the page writes is dead."""
    found = {href for path in MENU for href in Links(page.get(path).text).hrefs if href.startswith("/")}
    # Of many rows that lead to explanations some are enough.
    explained = sorted(href for href in found if href.startswith("/explain"))
    asked = (found - set(explained)) | set(explained[:: max(1, len(explained) // 12)])

    dead = {href: page.get(href).status_code for href in asked if page.get(href).status_code != 200}
    assert not dead


def test_points_of_figures_lead_to_explanations(page):
    text = page.get("/candles?market=bitstamp:BTC/USD&interval=1d").text

    assert '"/explain?table=gold.candles\\u0026venue=bitstamp' in text


@pytest.mark.parametrize("path", ["/books", "/alerts", "/table?name=silver.prediction_markets"])
def test_text_of_a_provider_stays_text(page, path):
    text = page.get(path).text

    assert "alert(&#39;market&#39;)" in text
    assert "<script>alert" not in text
    assert "<img" not in text


def test_looking_writes_nothing(lake, page):
    before = sorted(lake.files.keys(""))
    for path in MENU:
        page.get(path)

    assert sorted(lake.files.keys("")) == before


def test_only_this_machine_may_ask_and_only_to_read(page):
    assert page.get("/", headers={"host": "evil.example"}).status_code == 400
    assert page.post("/").status_code == 405
    policy = page.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    "path",
    [
        "/docs/../silver/trades/x.json",
        "/docs/%2e%2e/ops/x.json",
        "/docs/nothing.html",
        "/static/app.py",
        "/x",
    ],
)
def test_what_is_not_there_is_said_to_be_not_there(page, path):
    assert page.get(path).status_code == 404


def test_data_docs_are_served_as_they_are(lake, page):
    key = next(key for key in lake.files.keys("docs/") if key.endswith(".html"))

    answer = page.get(f"/{key}")

    assert answer.content == lake.files.get(key)
    assert "script-src" not in answer.headers["content-security-policy"]


def test_a_wrong_question_names_what_is_right(page):
    assert "did you mean silver.trades" in page.get("/table?name=silver.trade").text
    assert (
        "missing: interval, open_at" in page.get("/explain?table=gold.candles&venue=x&instrument_id=y").text
    )


@pytest.mark.parametrize("path", MENU)
def test_an_empty_lake_is_said_to_be_empty(tmp_path, path):
    with client_of(Lake(open_store(Settings(lake=str(tmp_path))))) as page:
        assert page.get(path).status_code == 200


def test_a_lake_that_waits_for_a_migration_says_so_and_shows_the_rest(tmp_path):
    store = open_store(Settings(lake=str(tmp_path)))
    title = SERIES.column("title")
    old = replace(SERIES, columns=tuple(c.but(dtype=pl.Int64()) if c is title else c for c in SERIES.columns))
    store.open(old)
    append(store, BOOKS, [book(0)])
    with client_of(Lake(store)) as page:
        text = page.get("/").text
        codes = {page.get(path).status_code for path in MENU}

    assert "silver.series:" in text
    assert "mnemo migrate --plan" in text
    assert "book_snapshots" in text
    assert codes <= {200, 503}


def test_a_store_that_does_not_answer_is_a_page_and_not_a_trace(settings):
    """Nothing listens on port 9."""
    unreachable = Lake(Store(settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})))

    with client_of(unreachable) as page:
        answer = page.get("/")

    assert answer.status_code == 503
    assert "MNEMO_S3_ENDPOINT" in answer.text
    assert "Traceback" not in answer.text
    assert settings.s3_secret_key.get_secret_value() not in answer.text


def test_the_export_is_whole_and_leads_nowhere_else(lake, tmp_path):
    target = open_store(Settings(lake=str(tmp_path))).files

    write_site(Shelf(lake), target)

    keys = set(target.keys("site/"))
    assert {INDEX, "site/page.css", "site/page.js", "site/plotly.min.js", "site/candles.html"} <= keys
    docs = set(lake.files.keys("docs/"))
    pages = sorted(key for key in keys if key.endswith(".html"))
    assert len(pages) < 150
    for key in pages:
        for href in Links(target.get(key).decode()).hrefs:
            aimed = urlsplit(urljoin(f"https://lake/{key}", href))
            assert aimed.netloc == "lake"
            assert aimed.path.lstrip("/") in keys | docs


def test_the_export_is_a_command(lake):
    done = subprocess.run(
        [sys.executable, "-m", "deployments.ui.export"],
        env={"MNEMO_LAKE": lake.settings.lake, "PATH": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stdout.strip()) == (0, INDEX), done.stderr
    assert b"The lake" in lake.files.get(INDEX)
