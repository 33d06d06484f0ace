"""The coverage ledger on a real store: every fetch leaves its record, the lake knows its holes, readers may insist."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import polars as pl
import pytest
from pydantic import SecretStr

from lakehouse import Lake, ledger
from lakehouse.bronze import Page
from lakehouse.coverage import plan, read_records
from lakehouse.errors import GapError, UsageError
from lakehouse.gaps import settled_windows
from lakehouse.ledger import promote_coverage
from lakehouse.ops import COVERAGE
from lakehouse.promotion import promote_pages
from lakehouse.silver.candles import TABLE
from lakehouse.verdict import Batch, Verdict
from lakehouse.window import Window
from sources.client import Client
from sources.errors import MissingKey, ParseError, Permanent, QuotaExhausted, Transient
from sources.feed import Feed
from sources.ingest import ingest
from sources.proofs import every_bar

DAY = datetime(2024, 1, 1, tzinfo=UTC)
SUBJECT = "kraken:BTC/USD@1h"
FEED = "test_bars"
STEP = timedelta(hours=4)


def at(hour: int) -> datetime:
    return DAY + timedelta(hours=hour)


WINDOW = Window(at(0), at(8))


def fetch_from(venue: dict[int, float], *, fails: Exception | None = None, before: int = 0):
    """A venue's bars by hour, in pages of four hours; it fails when asked for the hour `before` or a later one."""

    def fetch(client, subject, window):
        for part in window.split(STEP):
            if fails and at(before) <= part.start:
                raise fails
            bars = {hour: close for hour, close in venue.items() if at(hour) in part}
            yield Page(
                feed=FEED,
                subject=subject,
                request={"method": "GET", "url": f"https://example.org/{part.start_ms}"},
                received_at=client.now(),
                window=part,
                body=b"garbage" if None in bars.values() else orjson.dumps(list(bars.items())),
            )

    return fetch


def parse(pages: pl.DataFrame) -> pl.LazyFrame:
    rows = []
    for page in pages.iter_rows(named=True):
        try:
            said = orjson.loads(page["body"])
        except ValueError:
            raise ParseError(f"page {page['page_id']} is not JSON") from None
        clocks = {"ingested_at": page["received_at"], "page_id": page["page_id"], "provider": "test"}
        named = {"venue": "kraken", "instrument_id": "BTC/USD", "interval": "1h", "volume_unit": "base"}
        for hour, close in said:
            prices = dict.fromkeys(("open", "high", "low", "close", "volume"), close)
            ends = {"open_at": at(hour), "event_at": at(hour + 1), "known_at": at(hour + 1)}
            rows.append({**named, **clocks, **ends, **prices, "trade_count": None})
    return pl.DataFrame(rows, schema=TABLE.schema, orient="row").lazy()


def feed(fetch) -> Feed:
    return Feed(
        name=FEED,
        provider="test",
        doc="",
        table=TABLE,
        subjects="",
        fetch=fetch,
        parse=parse,
        proof=lambda asked, _, rows: every_bar(asked, rows["open_at"], "1h"),
        about=lambda _: [{"venue": "kraken", "instrument_id": "BTC/USD", "interval": "1h"}],
    )


def judge(batch: Batch) -> Verdict:
    return Verdict(batch=batch, findings=(), reasons={})


@pytest.fixture
def client(settings):
    """A client whose clock moves on by a minute with each look, a day after the window."""
    moments = iter(at(32) + timedelta(minutes=n) for n in range(10_000))
    with Client(settings, now=lambda: next(moments)) as client:
        yield client


@pytest.fixture
def bring(store, client, run):
    """Fetch a window from a venue and promote it."""

    def call(venue, *, window=WINDOW, promote=True, **failure):
        one = feed(fetch_from(venue, **failure))
        try:
            ingest(store, one, SUBJECT, window, client=client, run=run)
        finally:
            if promote:
                promote_all(store, run)

    return call


def promote_all(store, run):
    one = feed(fetch_from({}))
    promote_pages(store, TABLE, one.bronze, parse, judge=judge, run=run, parse_error=ParseError)
    return promote_coverage(store, one.source)


def picture(store) -> list[tuple[int, int, str]]:
    hour = timedelta(hours=1)
    found = Lake(store).coverage("silver.candles")
    return [
        ((row["start"] - DAY) // hour, (row["end"] - DAY) // hour, row["status"])
        for row in found.iter_rows(named=True)
    ]


def record_of(store, number: int = -1):
    stored = store.open(feed(fetch_from({})).bronze)
    (record,) = read_records(stored.commits(0, stored.version)[number][1]["fetched"])
    return record


ALL = dict.fromkeys(range(8), 5.0)


def without(*hours: int) -> dict[int, float]:
    return {hour: close for hour, close in ALL.items() if hour not in hours}


def test_a_bar_the_venue_did_not_send_is_missing_until_it_comes(store, bring):
    bring(without(2))
    assert picture(store) == [(0, 2, "complete"), (2, 3, "missing"), (3, 8, "complete")]

    bring(ALL, window=Window(at(2), at(3)))
    assert picture(store) == [(0, 2, "complete"), (2, 3, "repaired"), (3, 8, "complete")]
    assert Lake(store).gaps("silver.candles").is_empty()


def test_a_fetch_that_brings_nothing_new_leaves_its_record_all_the_same(store, bring, client, run):
    bring(ALL)
    again = ingest(store, feed(fetch_from(ALL)), SUBJECT, WINDOW, client=client, run=run)
    promote_all(store, run)

    assert again.new_pages == 0
    record = record_of(store)
    assert (record.outcome, record.new_pages, len(record.parts)) == ("answered", 0, 2)
    assert store.open(feed(fetch_from({})).bronze).scan().collect().height == 2
    assert picture(store) == [(0, 8, "complete")]
    assert store.open(COVERAGE).scan().collect().height == 4


@pytest.mark.parametrize(
    ("error", "status", "outcome"),
    [
        (Transient("busy"), "missing", "failed"),
        (QuotaExhausted("25 a day"), "missing", "failed"),
        (RuntimeError("a bug"), "missing", "failed"),
        (Permanent("no such market"), "unavailable", "refused"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else "",
)
def test_a_provider_that_fails_half_way_keeps_what_came_and_is_asked_again_for_the_rest(
    store, bring, error, status, outcome
):
    with pytest.raises(type(error)):
        bring(ALL, fails=error, before=4)

    # The last page before the failure may not be all that there is of its window.
    assert picture(store) == [(0, 8, status)]
    record = record_of(store)
    assert (record.outcome, record.new_pages) == (outcome, 1)
    assert str(error) in record.detail
    assert plan(WINDOW, settled_windows(store, FEED, SUBJECT)) == [WINDOW]

    bring(ALL)
    assert picture(store) == [(0, 8, "repaired")]


def test_pages_before_the_last_one_of_a_failed_fetch_count(store, bring):
    with pytest.raises(Transient):
        bring(dict.fromkeys(range(12), 5.0), window=Window(at(0), at(12)), fails=Transient("busy"), before=8)

    assert picture(store) == [(0, 4, "complete"), (4, 12, "missing")]
    assert plan(Window(at(0), at(12)), settled_windows(store, FEED, SUBJECT)) == [Window(at(4), at(12))]


@pytest.mark.parametrize("error", [UsageError("no such subject"), MissingKey("no key")])
def test_what_was_never_asked_leaves_no_record(store, bring, error):
    with pytest.raises(type(error)):
        bring(ALL, fails=error)

    assert store.find(feed(fetch_from({})).bronze) is None


def test_no_secret_gets_into_the_record_of_a_failure(settings, store, run):
    secret = "a-very-secret-key"
    keyed = settings.model_copy(update={"providers": {"MNEMO_FRED_API_KEY": SecretStr(secret)}})
    one = feed(fetch_from(ALL, fails=Transient(f"busy ?api_key={secret}")))
    with Client(keyed) as client, pytest.raises(Transient):
        ingest(store, one, SUBJECT, WINDOW, client=client, run=run)

    assert "REDACTED" in record_of(store).detail
    assert secret not in record_of(store).detail


def test_the_ledger_never_speaks_of_what_is_not_promoted(store, bring, run):
    bring(ALL, promote=False)

    assert promote_coverage(store, feed(fetch_from({})).source) == 0
    assert picture(store) == []


def test_promoting_again_states_nothing_twice_and_a_lost_ledger_is_made_anew_from_bronze(
    store, bring, run, monkeypatch
):
    bring(without(2))
    with pytest.raises(Transient):
        bring(ALL, fails=Transient("busy"), before=4)
    bring(ALL)
    first = store.open(COVERAGE).scan().collect()

    assert promote_all(store, run) == 0
    assert store.open(COVERAGE).scan().collect().height == first.height

    monkeypatch.setattr(ledger, "COVERAGE", replace(COVERAGE, name="ops.coverage_anew"))
    promote_coverage(store, feed(fetch_from({})).source)
    anew = store.open(ledger.COVERAGE).scan().collect()
    assert anew.sort("coverage_id").equals(first.sort("coverage_id"))


def test_many_promotions_at_once_state_each_fetch_once(store, bring, run):
    for start in range(0, 8, 2):
        bring(ALL, window=Window(at(start), at(start + 2)), promote=False)
    one = feed(fetch_from({}))
    promote_pages(store, TABLE, one.bronze, parse, judge=judge, run=run, parse_error=ParseError)
    store.open(COVERAGE)

    with ThreadPoolExecutor(4) as pool:
        stated = list(pool.map(lambda _: promote_coverage(store, one.source), range(4)))

    assert sum(stated) == 4
    assert store.open(COVERAGE).scan().collect()["coverage_id"].n_unique() == 4
    assert picture(store) == [(0, 8, "complete")]


def test_rows_in_quarantine_and_pages_nobody_can_read_are_not_covered(store, bring):
    bring({**ALL, 1: -5.0, 6: None})

    found = Lake(store).coverage("silver.candles")
    assert picture(store) == [
        (0, 1, "complete"),
        (1, 2, "degraded"),
        (2, 4, "complete"),
        (4, 8, "degraded"),
    ]
    assert found["proof"].to_list() == ["every_bar", "quarantine", "every_bar", "unreadable"]


SPOKEN = {"venue": "kraken", "instrument_id": "BTC/USD", "interval": "1h"}


def read(store, start: int, end: int, on_gap: str, **equals) -> pl.DataFrame:
    rows = Lake(store).scan("silver.candles", start=at(start), end=at(end), on_gap=on_gap, **equals)
    return rows.sort("open_at").collect()


def test_a_reader_who_wants_no_gaps_gets_all_rows_or_an_error_that_names_the_gap(store, bring):
    bring(without(2))

    # Bars are read by their end: those that end in [1, 3) opened in [0, 2).
    assert read(store, 1, 3, "raise", **SPOKEN).height == 2
    assert read(store, 4, 9, "raise", **SPOKEN).height == 5
    with pytest.raises(GapError, match=r"silver\.candles.*instrument_id=BTC/USD.*02:00.*03:00.*missing"):
        read(store, 1, 4, "raise", **SPOKEN)
    with pytest.raises(GapError, match="never asked"):
        read(store, 4, 10, "raise", **SPOKEN)
    with pytest.raises(GapError, match=r"instrument_id=ETH/USD.*never asked"):
        read(store, 1, 3, "raise", **{**SPOKEN, "instrument_id": "ETH/USD"})
    assert read(store, 1, 4, "ignore", **SPOKEN).height == 2


def test_a_mask_tells_row_by_row_what_is_covered(store, bring):
    bring({**ALL, 6: None}, window=WINDOW)
    with pytest.raises(Transient):
        bring({9: 5.0}, window=Window(at(8), at(16)), fails=Transient("busy"), before=12)

    rows = read(store, 0, 24, "mask")
    told = dict(rows.select(pl.col("open_at").dt.hour(), "is_covered").iter_rows())
    assert told == {0: True, 1: True, 2: True, 3: True, 9: False}


@pytest.mark.parametrize(
    ("table", "window", "answer"),
    [
        ("gold.candles", {"start": "2024-01-01", "end": "2024-01-02"}, "not filled by feeds"),
        ("silver.candles", {"start": "2024-01-01"}, "needs start and end"),
        ("silver.candles", {"start": "2024-01-02", "end": "2024-01-01"}, "window is empty"),
    ],
)
def test_a_read_that_cannot_be_checked_is_refused(store, table, window, answer):
    with pytest.raises(UsageError, match=answer):
        Lake(store).scan(table, on_gap="raise", **window)


def test_coverage_is_asked_by_table_feed_subject_and_time(store, bring):
    bring(without(2))
    lake = Lake(store)

    assert lake.coverage(FEED).equals(lake.coverage("silver.candles"))
    assert lake.coverage(FEED, subject="another").is_empty()
    assert lake.coverage(start=at(2), end=at(3))["status"].to_list() == ["missing"]
    assert lake.coverage("silver.trades").is_empty()
    with pytest.raises(UsageError, match="did you mean test_bars"):
        lake.coverage("test_bar")
