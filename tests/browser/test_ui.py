"""The lake's page in a real browser: figures are drawn, keys reach everything, nothing is wider than the screen.

Skipped where playwright (group `browser`) or a Chromium is absent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from deployments.ui.app import Desk, running
from deployments.ui.export import write_site
from deployments.ui.menu import VIEWS
from deployments.ui.picture import UNDRAWN, chromium
from deployments.ui.shelf import Shelf
from lakehouse import Lake, catalog
from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.errors import UsageError
from lakehouse.promotion import promote_model
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.silver.candles import TABLE as CANDLES
from lakehouse.silver.observations import TABLE as OBSERVATIONS
from lakehouse.store import Store, open_store
from lakehouse.verdict import Batch, Verdict

playwright = pytest.importorskip("playwright.sync_api", reason="playwright (group browser) is not installed")

try:
    CHROMIUM = chromium()
except UsageError as reason:
    pytest.skip(str(reason), allow_module_level=True)

START = datetime(2024, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.slow

MENU = [view.path for view in VIEWS if view.menu]
# plotly.js would write two styles into the page that no figure here needs; the page's policy refuses them.
HARMLESS = "Applying inline style violates"


@pytest.fixture(scope="module")
def lake(tmp_path_factory) -> Lake:
    """Two days of hourly bars and a series that was told anew each month."""
    store = open_store(Settings(lake=str(tmp_path_factory.mktemp("lake"))))
    append(store, CANDLES, [bar(hour) for hour in range(48)])
    append(store, OBSERVATIONS, [told(month, vintage) for month in range(6) for vintage in range(month, 6)])
    run = Run(run_id="ui", code_version="0", now=lambda: datetime.now(UTC))
    promote_model(store, catalog.models()["gold.candles"], judge=pass_all, run=run)
    return Lake(store)


def pass_all(batch: Batch) -> Verdict:
    return Verdict(batch=batch, findings=(), reasons={})


def append(store: Store, table: Table, rows: list[dict]) -> None:
    frame = conform(table, pl.LazyFrame(rows)).collect().select(table.schema.names())
    store.open(table).append(frame, positions={}, said={})


def bar(hour: int) -> dict:
    opens, ends = START + timedelta(hours=hour), START + timedelta(hours=hour + 1)
    clocks = {"open_at": opens, "event_at": ends, "known_at": ends, "ingested_at": ends}
    prices = {"open": 100.0 + hour, "high": 103.0 + hour, "low": 99.0 + hour, "close": 101.0 + hour}
    subject = {
        "venue": "kraken",
        "instrument_id": "BTC/USD",
        "interval": "1h",
        "provider": "ccxt",
        "page_id": 1,
    }
    return {**subject, **clocks, **prices, "volume": 5.0, "volume_unit": "base", "trade_count": 7}


def told(month: int, vintage: int) -> dict:
    period = START.replace(month=month + 1)
    known = START.replace(month=vintage + 2)
    return {
        "provider": "fred",
        "series_id": "GDP",
        "period_start": period.date(),
        "event_at": START.replace(month=month + 2),
        "known_at": known,
        "ingested_at": known,
        "page_id": 1,
        "known_at_basis": "published",
        "value": 100.0 + 10 * month + vintage,
        "unit": "index",
        "unit_multiplier": 0,
        "status": None,
    }


@pytest.fixture(scope="module")
def address(lake):
    with running(Desk(open_lake=lambda: lake)) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


@contextmanager
def tab(browser, *, width: int = 1280, scheme: str = "light") -> Iterator:
    """A tab, and what went wrong in it."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.wrong = []
    page.on("pageerror", lambda error: page.wrong.append(str(error)))
    page.on("console", lambda said: page.wrong.append(said.text) if said.type == "error" else None)
    yield page
    page.close()


def wait_drawn(page) -> None:
    playwright.expect(page.locator(UNDRAWN)).to_have_count(0, timeout=60_000)


def complaints(page) -> list[str]:
    return [said for said in page.wrong if not said.startswith(HARMLESS)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_view_fits_the_screen_and_draws(browser, address, width, scheme):
    with tab(browser, width=width, scheme=scheme) as page:
        for path in MENU:
            page.goto(address + path)
            wait_drawn(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert not complaints(page)


def test_text_can_be_read_on_its_ground(browser, address):
    """WCAG AA: a contrast of 4.5 for every colour that text has."""
    for scheme in ("light", "dark"):
        with tab(browser, scheme=scheme) as page:
            page.goto(address)
            names = ["ink", "soft", "faint", "accent", "good", "warn", "bad"]
            found = page.evaluate(_CONTRAST, names)
        assert {name: ratio for name, ratio in found.items() if ratio < 4.5} == {}


_CONTRAST = """(names) => {
  const style = getComputedStyle(document.documentElement);
  const light = (name) => {
    const hex = style.getPropertyValue(`--${name}`).trim();
    const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
      .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = light("paper");
  return Object.fromEntries(names.map((name) => {
    const [high, low] = [light(name), ground].sort((a, b) => b - a);
    return [name, (high + 0.05) / (low + 0.05)];
  }));
}"""


def test_a_point_of_a_figure_leads_to_what_it_was_made_from(browser, address):
    with tab(browser) as page:
        page.goto(f"{address}/candles?market=kraken:BTC/USD&interval=1h")
        wait_drawn(page)
        bars = page.locator(".plot .barlayer .point path").first.bounding_box()
        page.mouse.move(bars["x"] + bars["width"] / 2, bars["y"] + bars["height"] - 2)
        page.mouse.click(bars["x"] + bars["width"] / 2, bars["y"] + bars["height"] - 2)
        page.wait_for_url("**/explain?**")
        assert "2024-01-01T00:00:00Z" in page.text_content("main")


def test_the_slider_shows_what_was_known_then_by_keyboard(browser, address):
    with tab(browser) as page:
        page.goto(f"{address}/vintages")
        wait_drawn(page)
        slider = page.get_by_label("As known on").and_(page.locator("input[type=range]"))
        slider.focus()
        page.keyboard.press("Home")
        assert page.text_content(".slider output") == "2024-02-01"
        shown = page.evaluate("document.querySelector('.plot').data[1].y")
        assert shown == [100, None, None, None, None, None]


def test_keys_alone_reach_the_content_a_view_and_an_explanation(browser, address):
    with tab(browser) as page:
        page.goto(address)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.goto(f"{address}/candles")
        page.locator("summary", has_text="The numbers behind it").focus()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_url("**/explain?**")


def test_the_exported_page_opens_from_a_disk(browser, lake, tmp_path):
    write_site(Shelf(lake), open_store(Settings(lake=str(tmp_path))).files)
    with tab(browser) as page:
        page.goto((tmp_path / "site" / "candles.html").as_uri())
        wait_drawn(page)
        page.click("text=Vintages")
        wait_drawn(page)
        assert page.text_content("h1") == "GDP"
        assert not complaints(page)
