"""Whatever the order of arrival, the batch boundaries and the replays: the same silver and gold, and no row is lost."""

import json
import tempfile
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse import Lake
from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.errors import MnemoError
from lakehouse.gold import candles as gold
from lakehouse.ops import QUARANTINE
from lakehouse.promotion import promote_model, promote_pages
from lakehouse.publish import UNREADABLE, Run
from lakehouse.settings import Settings
from lakehouse.silver import candles, trades
from lakehouse.store import open_store
from lakehouse.verdict import Verdict

START = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TRADES, CANDLES = bronze_table("test_trades"), bronze_table("test_candles")
INSTRUMENT = {"venue": "kraken", "instrument_id": "BTC/USD"}
RUN = Run(run_id="test", code_version="0", now=lambda: START)


class Unreadable(MnemoError):
    pass


def parse_trades(pages: pl.DataFrame) -> pl.LazyFrame:
    return _parse(pages, trades.TABLE, _trade)


def parse_candles(pages: pl.DataFrame) -> pl.LazyFrame:
    return _parse(pages, candles.TABLE, _candle)


def _parse(pages, table, row_of) -> pl.LazyFrame:
    rows = []
    for page in pages.iter_rows(named=True):
        if page["body"] == b"busy":
            raise Unreadable("busy")
        of_page = {"ingested_at": page["received_at"], "page_id": page["page_id"], "provider": "test"}
        rows += [row_of(said) | INSTRUMENT | of_page for said in json.loads(page["body"])]
    schema = {c.name: c.dtype for c in table.columns if c.derived is None}
    return pl.DataFrame(rows, schema=schema, orient="row").lazy()


def _trade(said) -> dict:
    at = START + said["at"] * timedelta(seconds=1)
    about = {"trade_id": str(said["id"]), "event_at": at, "known_at": at, "price": said["price"]}
    return about | {"amount": 1.0, "amount_unit": "base", "side": None}


def _candle(said) -> dict:
    opened = START + said["minute"] * MINUTE
    clocks = {"open_at": opened, "event_at": opened + MINUTE, "known_at": opened + MINUTE}
    prices = {"open": 100.0, "high": 103.0, "low": said["low"], "close": said["close"]}
    return clocks | prices | {"interval": "1m", "volume": 1.0, "volume_unit": "base", "trade_count": None}


def page(source, minute: int, body: bytes, *, late: timedelta = timedelta(seconds=1)) -> Page:
    return Page(
        feed=source.name.removeprefix("bronze."),
        subject="s",
        request={"method": "GET", "url": f"https://example.org/{minute}"},
        received_at=START + (minute + 1) * MINUTE + late,
        body=body,
    )


@st.composite
def trade_pages(draw) -> list[Page]:
    """A page a minute of trades whose ids count; one of them may have a bad price, a page may not be readable."""
    pages = []
    for minute in range(draw(st.integers(2, 7))):
        said = [
            {
                "id": minute * 3 + n,
                "at": minute * 60 + n * 20,
                "price": draw(st.sampled_from([99.0, 101.5, -1.0])),
            }
            for n in range(3)
        ]
        is_busy = draw(st.integers(0, 9)) == 0
        pages.append(page(TRADES, minute, b"busy" if is_busy else json.dumps(said).encode()))
    return pages


@st.composite
def candle_pages(draw, late: timedelta = timedelta(seconds=1)) -> list[Page]:
    """A page a minute with the bar just closed; it may restate the one before, and a bar may be bad."""
    pages = []
    for minute in range(draw(st.integers(2, 7))):
        bars = [{"minute": minute, "low": draw(st.sampled_from([99.0, 99.0, 200.0])), "close": 100.0}]
        if minute and draw(st.booleans()):
            bars.append(
                {"minute": minute - 1, "low": 99.0, "close": draw(st.sampled_from([100.0, 101.0, 102.0]))}
            )
        pages.append(page(CANDLES, minute, json.dumps(bars).encode(), late=late))
    return pages


EXAMPLES = settings().max_examples // 12
"""Each is a lake of its own."""
CUTS = st.lists(st.integers(1, 3), max_size=6)


@contextmanager
def lake_of(source, deliveries: list[list[Page]]):
    """A lake in a folder in which each list of pages was one commit, promoted at once all the way to gold."""
    table, parse = (trades.TABLE, parse_trades) if source is TRADES else (candles.TABLE, parse_candles)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Settings(lake=str(Path(folder) / "lake")))
        for pages in deliveries:
            store.open(source).append(pages_frame(pages, run_id="r", code_version="0"), positions={}, said={})
            promote_pages(store, table, source, parse, judge=judge, run=RUN, parse_error=Unreadable)
            promote_model(store, gold.MODEL, judge=judge, run=RUN)
        yield Lake(store)


def judge(batch) -> Verdict:
    return Verdict(batch=batch, findings=(), reasons={})


def cut(pages: list[Page], sizes: list[int]) -> list[list[Page]]:
    batches, rest = [], pages
    for size in sizes:
        batches.append(rest[:size])
        rest = rest[size:]
    return [one for one in [*batches, rest] if one]


def contents(lake: Lake, *tables, by_receipt: bool = True) -> list[pl.DataFrame]:
    """All versions of all facts, and what is held; without which page said it first, if that may differ."""
    left_out = set() if by_receipt else {"ingested_at", "page_id"}
    held = lake.scan(QUARANTINE.name).select("table", "reasons", "content_id").collect()
    found = [lake.scan(table.name, versions=True).collect().sort(table.key) for table in tables]
    return [*(rows.drop(left_out, strict=False) for rows in found), held.sort("table", "content_id")]


def assert_same(found: list[pl.DataFrame], expected: list[pl.DataFrame]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert_frame_equal(one, other)


@settings(max_examples=EXAMPLES)
@given(pages=trade_pages(), order=st.randoms(use_true_random=False), sizes=CUTS, replayed=st.booleans())
def test_trades_in_any_order_and_told_twice_give_the_same_silver_and_gold(pages, order, sizes, replayed):
    tables = trades.TABLE, gold.TABLE
    shuffled = order.sample(pages, len(pages)) + (order.sample(pages, len(pages) // 2) if replayed else [])

    with lake_of(TRADES, cut(shuffled, sizes)) as lake, lake_of(TRADES, [pages]) as in_one_go:
        assert_same(contents(lake, *tables, by_receipt=False), contents(in_one_go, *tables, by_receipt=False))


@settings(max_examples=EXAMPLES)
@given(
    pages=st.one_of(candle_pages(), candle_pages(late=timedelta(days=1))), sizes=CUTS, replayed=st.booleans()
)
def test_restated_candles_give_the_same_silver_and_newest_gold_however_they_are_cut(pages, sizes, replayed):
    """Gold made before late input came stays as a version: it was published. What is newest is the same in the end."""
    replays = [pages[:1]] if replayed else []

    with lake_of(CANDLES, [*cut(pages, sizes), *replays]) as lake, lake_of(CANDLES, [pages]) as in_one_go:
        (silver, _), (silver_at_once, _) = contents(lake, candles.TABLE), contents(in_one_go, candles.TABLE)
        found, expected = (
            one.scan(gold.TABLE.name).select(*gold.TABLE.identity, *gold.TABLE.contents).collect()
            for one in (lake, in_one_go)
        )
    assert_frame_equal(silver, silver_at_once)
    assert_frame_equal(found.sort(gold.TABLE.identity), expected.sort(gold.TABLE.identity))


@settings(max_examples=EXAMPLES)
@given(pages=candle_pages(), sizes=CUTS, minutes=st.lists(st.integers(0, 2000), min_size=1, max_size=3))
def test_as_of_shows_the_newest_version_known_by_then_and_nothing_later(pages, sizes, minutes):
    with lake_of(CANDLES, cut(pages, sizes)) as lake:
        for table in (candles.TABLE, gold.TABLE):
            versions = lake.scan(table.name, versions=True).collect()
            for minute in minutes:
                moment = START + minute * MINUTE
                shown = lake.scan(table.name, as_of=moment).collect()
                known = versions.filter(pl.col("known_at") <= moment)
                newest = known.sort("known_at").unique(table.identity, keep="last")
                assert shown["known_at"].max() is None or shown["known_at"].max() <= moment
                assert_frame_equal(shown.sort(table.key), newest.sort(table.key))


@settings(max_examples=EXAMPLES)
@given(pages=trade_pages(), sizes=CUTS, order=st.randoms(use_true_random=False))
def test_every_row_parsed_is_published_held_or_a_repeat(pages, sizes, order):
    """What can be told apart (identity and contents) is counted: repeats are those told before."""
    told = [*pages, *order.sample(pages, 2)]
    readable = pages_frame([one for one in told if one.body != b"busy"], run_id="r", code_version="0")
    facts = [*trades.TABLE.identity, *trades.TABLE.contents]
    parsed = parse_trades(readable).select(facts).collect()

    with lake_of(TRADES, cut(told, sizes)) as lake:
        good = lake.scan(trades.TABLE.name).select(facts).collect()
        held = lake.scan(QUARANTINE.name).filter(pl.col("table") == trades.TABLE.name).collect()

    bad = [_read(json.loads(row)) for row in held.filter(pl.col("row").is_not_null())["row"]]
    found = pl.concat([good, pl.DataFrame(bad, schema=parsed.schema, orient="row")])
    repeats = parsed.height - parsed.n_unique()
    assert found.height + repeats == parsed.height
    assert_frame_equal(found.sort(facts), parsed.unique().sort(facts))
    unreadable = held.filter(pl.col("reasons").list.contains(UNREADABLE))["page_id"]
    assert set(unreadable) == {one.page_id for one in told if one.body == b"busy"}


def _read(row: dict) -> dict:
    """A row as quarantine keeps it."""
    return row | {"event_at": datetime.fromisoformat(row["event_at"])}
