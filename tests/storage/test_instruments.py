"""The instrument master: delistings and renames are kept, the same by promotions and by a rebuild."""

import json
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse import Lake
from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.errors import MnemoError
from lakehouse.promotion import promote_pages
from lakehouse.publish import Run
from lakehouse.quarantine import held_rows, release
from lakehouse.rebuild import rebuild_pages
from lakehouse.settings import Settings
from lakehouse.silver.instruments import TABLE
from lakehouse.store import open_store
from lakehouse.verdict import Finding, Verdict

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SOURCE = bronze_table("test_markets")
SCHEMA = {column.name: column.dtype for column in TABLE.columns if column.derived is None}
RUN = Run(run_id="test", code_version="0", now=lambda: START)


class Unreadable(MnemoError):
    pass


def parse(pages: pl.DataFrame) -> pl.LazyFrame:
    """`{"list": name, "markets": {symbol: venue symbol}}`; a venue symbol of null breaks a rule."""
    rows = []
    for page in pages.iter_rows(named=True):
        if not page["body"].startswith(b"{"):
            raise Unreadable("no list of markets")
        said = json.loads(page["body"])
        clocks = dict.fromkeys(("event_at", "known_at", "ingested_at"), page["received_at"])
        told = {"page_id": page["page_id"], "provider": "test", "list_name": said["list"]}
        rows += [
            {
                **clocks,
                **told,
                "venue": page["subject"],
                "instrument_id": symbol,
                "venue_symbol": venue_symbol,
                "type": "spot",
                **dict(zip(("base", "quote"), symbol.split("/"), strict=True)),
                "is_active": True,
                "status": "listed",
            }
            for symbol, venue_symbol in said["markets"].items()
        ]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").lazy()


def listing(day: int, symbols: dict[str, str | None] | str, *, venue="kraken", of="spot") -> Page:
    """The list of a day; of symbols that are words, the venue's own are the same without a slash."""
    if isinstance(symbols, str):
        symbols = {symbol: symbol.replace("/", "") for symbol in symbols.split()}
    return Page(
        feed="test_markets",
        subject=venue,
        request={"method": "GET", "url": f"https://example.org/{of}"},
        received_at=START + day * DAY,
        body=json.dumps({"list": of, "markets": symbols}).encode(),
    )


def deliver(store, *pages: Page) -> None:
    store.open(SOURCE).append(pages_frame(pages, run_id="r", code_version="0"), positions={}, said={})


def promote(store, judge=None):
    return promote_pages(
        store, TABLE, SOURCE, parse, judge=judge or pass_all, run=RUN, parse_error=Unreadable
    )


def rebuild(store):
    return rebuild_pages(store, TABLE, [(SOURCE, parse)], judge=pass_all, run=RUN, parse_error=Unreadable)


def pass_all(batch) -> Verdict:
    return Verdict(batch=batch, findings=(), reasons={})


def block(batch) -> Verdict:
    no = Finding(
        expectation="no", column="", severity="critical", passed=False, unexpected=1, meaning="not today"
    )
    return Verdict(batch=batch, findings=(no,), reasons={})


def versions(store) -> pl.DataFrame:
    return Lake(store).scan(TABLE.name, versions=True).collect().sort(TABLE.key)


def states(store, **asked) -> dict[str, tuple[str, bool]]:
    rows = Lake(store).scan(TABLE.name, **asked).select("instrument_id", "status", "is_active").collect()
    return {symbol: said for symbol, *said in rows.sort("instrument_id").iter_rows()}


def test_a_delisted_instrument_stays_and_says_since_when(store):
    deliver(store, listing(0, "BTC/USD ETH/USD LTC/USD"))
    promote(store)
    deliver(store, listing(1, "BTC/USD ETH/USD"))
    promote(store)

    listed, delisted = ["listed", True], ["delisted", False]
    assert states(store) == {"BTC/USD": listed, "ETH/USD": listed, "LTC/USD": delisted}
    assert states(store, as_of=START) == {"BTC/USD": listed, "ETH/USD": listed, "LTC/USD": listed}
    told = versions(store).filter(pl.col("status") == "delisted").row(0, named=True)
    assert told["event_at"] == told["known_at"] == told["ingested_at"] == START + DAY
    assert told["venue_symbol"] == "LTCUSD"


def test_a_delisting_is_explained_by_the_list_without_it(store):
    later = listing(1, "BTC/USD ETH/USD")
    deliver(store, listing(0, "BTC/USD ETH/USD LTC/USD"))
    deliver(store, later)
    promote(store)

    explained = Lake(store).explain(TABLE.name, {"venue": "kraken", "instrument_id": "LTC/USD"})

    assert explained.page.page_id == later.page_id
    assert explained.page.body == later.body


def test_a_renamed_symbol_shows_under_both_names_and_a_changed_venue_symbol_as_a_version(store):
    deliver(store, listing(0, {"BTC/USD": "XBTUSD", "MATIC/USD": "MATICUSD", "ETH/USD": "ETHUSD"}))
    deliver(store, listing(1, {"BTC/USD": "BTCUSD", "POL/USD": "MATICUSD", "ETH/USD": "ETHUSD"}))
    promote(store)

    told = versions(store).select("instrument_id", "venue_symbol", "status").rows()
    assert told == [
        ("BTC/USD", "XBTUSD", "listed"),
        ("BTC/USD", "BTCUSD", "listed"),
        ("ETH/USD", "ETHUSD", "listed"),
        ("MATIC/USD", "MATICUSD", "listed"),
        ("MATIC/USD", "MATICUSD", "delisted"),
        ("POL/USD", "MATICUSD", "listed"),
    ]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(listing(1, ""), id="an empty list"),
        pytest.param(listing(1, "BTC/USD"), id="less than half of the list"),
        pytest.param(
            listing(1, {"BTC/USD": "BTCUSD", "ETH/USD": "ETHUSD", "LTC/USD": None}), id="a row in quarantine"
        ),
        pytest.param(listing(1, "A/USD B/USD", venue="binance"), id="another venue"),
        pytest.param(listing(1, "A/USD B/USD", of="swap"), id="another list"),
    ],
)
def test_what_a_list_cannot_tell_delists_nobody(store, odd):
    deliver(store, listing(0, "BTC/USD ETH/USD LTC/USD"))
    deliver(store, odd)
    promote(store)

    assert "delisted" not in versions(store)["status"].to_list()


def test_a_page_that_nobody_can_read_delists_nobody(store):
    deliver(store, listing(0, "BTC/USD ETH/USD LTC/USD"))
    broken = listing(1, "BTC/USD ETH/USD")
    deliver(store, Page(**{**vars(broken), "body": b"<html>busy</html>"}))
    promote(store)

    assert "delisted" not in versions(store)["status"].to_list()
    assert held_rows(store).height == 1


def test_a_delisting_that_was_held_back_waits_for_its_release(store):
    deliver(store, listing(0, "BTC/USD ETH/USD LTC/USD"))
    promote(store)
    deliver(store, listing(1, "BTC/USD ETH/USD"))
    promote(store, judge=block)
    before = versions(store)

    rebuild(store)
    assert_frame_equal(versions(store), before)
    release(
        store,
        TABLE,
        held_rows(store),
        source=SOURCE,
        parse=parse,
        judge=pass_all,
        run=RUN,
        parse_error=Unreadable,
    )

    assert states(store)["LTC/USD"] == ["delisted", False]
    assert held_rows(store)["status"].unique().to_list() == ["released"]


SYMBOLS = ("A/USD", "B/USD", "C/USD", "D/USD")


@st.composite
def lists(draw) -> list[Page]:
    """A list a day, of one or another kind; some rows break a rule, some lists are no lists."""
    pages = []
    for day in range(draw(st.integers(2, 7))):
        named = draw(st.lists(st.sampled_from(SYMBOLS), unique=True))
        symbols = {
            symbol: draw(st.sampled_from([symbol[0], symbol[0], symbol[0] * 2, None])) for symbol in named
        }
        page = listing(day, symbols, of=draw(st.sampled_from(["spot", "spot", "swap"])))
        is_busy = draw(st.integers(0, 9)) == 0
        pages.append(Page(**{**vars(page), "body": b"busy"}) if is_busy else page)
    return pages


@contextmanager
def lake_of(deliveries: list[list[Page]]):
    """The store of a lake in a folder in which each list of pages was one commit, promoted at once."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Settings(lake=str(Path(folder) / "lake")))
        for pages in deliveries:
            deliver(store, *pages)
            promote(store)
        yield store


@settings(max_examples=8)
@given(pages=lists(), sizes=st.lists(st.integers(1, 3), max_size=6))
def test_however_lists_are_cut_into_batches_and_in_a_rebuild_the_versions_are_the_same(pages, sizes):
    batches, rest = [], pages
    for size in sizes:
        batches.append(rest[:size])
        rest = rest[size:]

    with lake_of([one for one in [*batches, rest] if one]) as store, lake_of([pages]) as at_once:
        found, expected = versions(store), versions(at_once)
        rebuild(store)
        rebuilt = versions(store)

    assert_frame_equal(found, expected)
    assert_frame_equal(rebuilt, expected)
