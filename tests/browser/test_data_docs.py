"""Data Docs as a browser shows them, with the network cut: a thousand verdicts, a phone, the dark, the keyboard."""

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest

from expectations.docs import build_index, page_key, sidecar_key
from expectations.gate import Gate
from lakehouse.catalog import tables
from lakehouse.conform import conform
from lakehouse.files import LocalFiles
from lakehouse.verdict import Batch

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (group browser)")

AT = datetime(2024, 1, 1, tzinfo=UTC)
VERDICTS = 1000
LEVELS = ("passed", "passed", "passed", "warning", "blocked")


@pytest.fixture(scope="module")
def browser():
    found = (
        os.environ.get("MNEMO_TEST_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )
    if not found:
        pytest.skip("no chromium on the path (MNEMO_TEST_CHROMIUM names one)")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def docs(tmp_path_factory) -> Path:
    """A thousand verdicts of all tables, one of them a real page, and the indexes over them."""
    home = tmp_path_factory.mktemp("docs")
    files = LocalFiles(home)
    names = sorted(name for name in tables() if not name.startswith("ops."))
    for number in range(VERDICTS):
        put_verdict(files, names[number % len(names)], number)
    Gate(files).judge(real_batch())
    build_index(files, now=AT + timedelta(days=60))
    return home / "docs"


def put_verdict(files, table: str, number: int) -> None:
    level = LEVELS[number % len(LEVELS)]
    failed = {"passed": {}, "warning": {"warning": 2}, "blocked": {"critical": 1, "warning": 3}}[level]
    reasons = {"price_too_low": number, "amount_not_a_number": 1} if failed else {}
    summary = {
        "table": table,
        "batch_id": f"{number:016x}",
        "judged_at": f"{AT + timedelta(hours=number):%Y-%m-%dT%H:%M:%SZ}",
        "level": level,
        "rows": 100_000 + number,
        "failed_rows": sum(reasons.values()),
        "reasons": reasons,
        "remarks": {},
        "failed": failed,
    }
    files.put(page_key(table, summary["batch_id"]), b"<p>page</p>")
    files.put(sidecar_key(table, summary["batch_id"]), orjson.dumps(summary))


def real_batch() -> Batch:
    table = tables()["silver.trades"]

    schema = {column.name: column.dtype for column in table.columns if column.derived is None}
    frame = conform(
        table,
        pl.LazyFrame({"price": [-1.0, 2.0]}, schema={"price": pl.Float64}).select(
            pl.col(name) if name == "price" else pl.lit(None, dtype=dtype).alias(name)
            for name, dtype in schema.items()
        ),
    ).collect()
    return Batch(
        batch_id="real", table=table, inputs=("bronze.f",), frame=frame, judged_at=AT + timedelta(days=50)
    )


@pytest.fixture(params=["light", "dark"])
def opened(request, browser):
    """Opens pages on a phone without a network; what they tried to load and their errors are noted."""
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme=request.param, offline=True
    )
    page = context.new_page()
    page.asked, page.errors = [], []
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
    yield page
    context.close()


@pytest.mark.parametrize("key", ["index.html", "silver.trades/index.html", "silver.trades/real.html"])
def test_a_page_needs_nothing_else_and_fits_a_phone(docs, opened, key):
    address = (docs / key).as_uri()
    opened.goto(address)
    assert opened.asked == [address]
    assert opened.errors == []
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    ground = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    is_dark = opened.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert ground == ("rgb(20, 25, 31)" if is_dark else "rgb(255, 255, 255)")


def test_the_index_of_a_thousand_verdicts_stays_small(docs, browser):
    page = browser.new_context(offline=True).new_page()
    page.goto((docs / "index.html").as_uri())
    assert page.locator("tbody tr").count() == len([name for name in tables() if not name.startswith("ops.")])
    assert (docs / "index.html").stat().st_size < 100_000


def test_all_links_are_reached_by_the_keyboard_and_lead_somewhere(docs, browser):
    page = browser.new_context(offline=True).new_page()
    page.goto((docs / "index.html").as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches(':focus-visible')")
    page.keyboard.press("Enter")
    page.wait_for_url("**/docs/*.*/index.html")
    while page.evaluate("document.activeElement.closest('tbody') === null"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/docs/*.*/0*.html")


def test_what_is_wrong_is_said_in_words_and_not_by_colour_alone(docs, browser):
    page = browser.new_context(offline=True).new_page()
    page.goto((docs / "silver.trades/real.html").as_uri())
    assert page.locator("h1 .level").inner_text() == "blocked"
    assert page.locator("li .severity.critical").first.inner_text() == "critical"
    page.get_by_role("link", name="All verdicts of silver.trades").click()
    assert page.locator("tbody .severity.critical").first.inner_text().endswith("critical")
