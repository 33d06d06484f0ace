"""Backfill on a real store: only what is missing is asked for, whatever happened before and whoever else is at it."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import polars as pl
import pytest
import structlog

from lakehouse.bronze import Page
from lakehouse.errors import UsageError
from lakehouse.ledger import promote_coverage
from lakehouse.promotion import promote_pages
from lakehouse.silver.candles import TABLE
from lakehouse.verdict import Verdict
from lakehouse.window import Window
from sources.backfill import carry_out
from sources.backfill_plan import Cell, plan
from sources.client import Client
from sources.errors import MissingKey, ParseError, Permanent, QuotaExhausted, Transient
from sources.feed import Feed
from sources.proofs import every_bar, snapshot
from sources.quota import Quota, a_day
from sources.quota_ledger import QuotaLedger

DAY = datetime(2024, 1, 1, tzinfo=UTC)
SUBJECTS = ("kraken:BTC/USD@1h", "kraken:ETH/USD@1h")
BTC, ETHER = SUBJECTS
FREE_KEY = Quota(provider="test", host="example.org", limits=a_day(25))


def at(hour: int) -> datetime:
    return DAY + timedelta(hours=hour)


def span(start: int, end: int) -> Window:
    return Window(at(start), at(end))


WANTED = span(0, 24)


class Venue:
    """Bars of every hour, six a window; remembers what it was asked for and raises what is in store for a window."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Window]] = []
        self.troubles: dict[datetime, list[Exception]] = {}
        self.lacks: set[datetime] = set()
        self.meanwhile = lambda: None

    def fetch(self, client, subject, window):
        self.asked.append((subject, window))
        self.meanwhile()
        if self.troubles.get(window.start):
            raise self.troubles[window.start].pop(0)
        hours = [hour for hour in range(24) if at(hour) in window and at(hour) not in self.lacks]
        yield Page(
            feed="test_bars",
            subject=subject,
            request={"method": "GET", "url": f"https://example.org/{window.start_ms}"},
            received_at=client.now(),
            window=window,
            body=orjson.dumps(hours),
        )

    @property
    def feed(self) -> Feed:
        return Feed(
            name="test_bars",
            provider="test",
            doc="",
            table=TABLE,
            subjects="",
            fetch=self.fetch,
            parse=parse,
            proof=lambda asked, _, rows: every_bar(asked, rows["open_at"], "1h"),
            about=lambda subject: [{"venue": "kraken", "instrument_id": subject[7:14], "interval": "1h"}],
            step=lambda _: timedelta(hours=6),
            cost=lambda _, window: -(-(window.end - window.start) // timedelta(hours=3)),
            quota=lambda *_: FREE_KEY,
        )


def parse(pages: pl.DataFrame) -> pl.LazyFrame:
    rows = []
    for page in pages.iter_rows(named=True):
        clocks = {"ingested_at": page["received_at"], "page_id": page["page_id"], "provider": "test"}
        named = {"venue": "kraken", "instrument_id": page["subject"][7:14], "interval": "1h"}
        for hour in orjson.loads(page["body"]):
            prices = dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
            ends = {"open_at": at(hour), "event_at": at(hour + 1), "known_at": at(hour + 1)}
            rows.append({**named, **clocks, **ends, **prices, "trade_count": None, "volume_unit": "base"})
    return pl.DataFrame(rows, schema=TABLE.schema, orient="row").lazy()


@pytest.fixture
def venue() -> Venue:
    return Venue()


@pytest.fixture
def client(settings, tmp_path):
    """A day after the window, with a home of its own."""
    own = settings.model_copy(update={"home": tmp_path})
    with Client(
        own, now=lambda: at(48), ledger=QuotaLedger(tmp_path / "quota", clock=lambda: at(48).timestamp())
    ) as c:
        yield c


@pytest.fixture
def backfill(store, client, run):
    """Plan and carry out; the report."""

    def call(feed, *, subjects=(BTC,), wanted=WANTED, order="oldest-first", **how):
        planned = plan(store, feed, subjects, wanted, client=client, order=order)
        return carry_out(planned, store=store, client=client, run=run, sleep=lambda _: None, **how)

    return call


@pytest.fixture
def promote(store, run):
    def call(feed):
        def judge(batch):
            return Verdict(batch=batch, findings=(), reasons={})

        promote_pages(store, TABLE, feed.bronze, feed.parse, judge=judge, run=run, parse_error=ParseError)
        promote_coverage(store, feed.source)

    return call


QUARTERS = [span(start, start + 6) for start in (0, 6, 12, 18)]


@pytest.mark.parametrize(("order", "windows"), [("oldest-first", QUARTERS), ("newest-first", QUARTERS[::-1])])
def test_windows_of_the_feeds_step_are_asked_for_in_the_order_wanted(venue, backfill, order, windows):
    report = backfill(venue.feed, order=order, parallel=1)
    assert [window for _, window in venue.asked] == windows
    assert (report.windows, report.pages, report.new_pages, report.left) == (4, 4, 4, 0)


def test_what_was_fetched_is_not_asked_for_again_before_it_is_judged_nor_after(venue, backfill, promote):
    backfill(venue.feed, wanted=span(0, 12))
    backfill(venue.feed)
    promote(venue.feed)
    backfill(venue.feed)
    assert sorted(window for _, window in venue.asked) == QUARTERS


def test_what_the_judgement_calls_a_hole_is_asked_for_again_and_nothing_else(venue, backfill, promote):
    venue.lacks = {at(8)}
    backfill(venue.feed)
    promote(venue.feed)
    venue.asked.clear()
    venue.lacks.clear()
    backfill(venue.feed)
    assert venue.asked == [(BTC, span(8, 9))]


def test_the_plan_tells_windows_requests_time_and_what_the_day_has_left(venue, store, client):
    planned = plan(store, venue.feed, SUBJECTS, WANTED, client=client, order="oldest-first")
    first, second = planned.records()
    assert first == {
        "feed": "test_bars",
        "subject": BTC,
        "windows": 4,
        "start": WANTED.start,
        "end": WANTED.end,
        "requests": 8,
        "is_exact": True,
        "seconds": 0.0,
        "limit": "25 a day (UTC)",
        "left_today": 25,
    }
    assert (second["subject"], planned.requests, venue.asked) == (ETHER, 16, [])


def test_time_at_the_providers_pace_is_that_of_the_slowest_host(venue, store, client):
    slow, quick = (Quota(provider="test", host=str(pace), min_interval_s=pace) for pace in (10, 1))
    feed = replace(venue.feed, quota=lambda _, subject: slow if subject == BTC else quick)
    planned = plan(store, feed, SUBJECTS, WANTED, client=client, order="oldest-first")
    assert ([part.seconds for part in planned.parts], planned.seconds) == ([84.0, 8.4], 84.0)


def test_what_is_still_to_come_is_not_planned(venue, store, client):
    planned = plan(store, venue.feed, [BTC], span(40, 70), client=client, order="oldest-first")
    assert planned.cells[-1] == Cell(subject=BTC, window=span(42, 48), missing=(span(42, 48),))


def test_a_feed_that_tells_only_the_present_has_nothing_to_backfill(venue, backfill):
    with pytest.raises(UsageError, match="test_bars tells only what holds now"):
        backfill(replace(venue.feed, proof=snapshot))


def test_what_fails_for_a_while_is_tried_again_after_the_rest(venue, backfill):
    venue.troubles = {at(6): [Transient("busy"), Transient("busy")]}
    with structlog.testing.capture_logs() as events:
        report = backfill(venue.feed, parallel=1)
    assert [window for _, window in venue.asked] == [*QUARTERS, QUARTERS[1], QUARTERS[1]]
    assert (report.windows, report.left, report.errors) == (4, 0, ())
    waits = [one for one in events if one["event"] == "waiting for a provider"]
    assert [(one["wait_s"], one["because"]) for one in waits] == [(5.0, "busy"), (5.0, "busy")]


def test_what_keeps_failing_is_left_with_its_reason_and_comes_next_time(venue, backfill):
    venue.troubles = {at(6): [Transient("busy")] * 3}
    report = backfill(venue.feed)
    assert (report.windows, report.left, report.errors) == (3, 1, (f"{BTC}: busy",))
    assert backfill(venue.feed).windows == 1


def test_a_spent_budget_ends_the_backfill_with_when_it_is_renewed(venue, backfill):
    spent = QuotaExhausted("25 a day are used", renewed_at=at(72))
    venue.troubles = {at(6): [spent]}
    report = backfill(venue.feed, parallel=1)
    assert [window for _, window in venue.asked] == QUARTERS[:2]
    assert (report.windows, report.left, report.renewed_at) == (1, 3, at(72))


def test_a_subject_that_is_refused_again_and_again_is_given_up_and_others_go_on(venue, backfill):
    def refuse(client, subject, window):
        if subject == BTC:
            venue.asked.append((subject, window))
            raise Permanent("not from your country")
        yield from venue.fetch(client, subject, window)

    report = backfill(replace(venue.feed, fetch=refuse), subjects=SUBJECTS, parallel=1)
    assert [subject for subject, _ in venue.asked].count(BTC) == 3
    assert (report.windows, report.left) == (4, 4)


@pytest.mark.parametrize("error", [UsageError("unknown symbol"), MissingKey("no key")])
def test_a_subject_that_cannot_be_asked_for_is_asked_once(venue, backfill, error):
    venue.troubles = {at(0): [error]}
    report = backfill(venue.feed, parallel=1)
    assert (len(venue.asked), report.left, report.errors) == (1, 4, (f"{BTC}: {error}",))


def test_what_is_no_error_of_a_provider_is_raised(venue, backfill):
    venue.troubles = {at(6): [ZeroDivisionError()]}
    with pytest.raises(ZeroDivisionError):
        backfill(venue.feed)


def test_progress_is_told_for_each_window(venue, backfill):
    steps = []
    backfill(venue.feed, parallel=1, tell=steps.append)
    assert [(step.cell.window, step.said) for step in steps] == [(window, "1 pages") for window in QUARTERS]


def test_two_backfills_of_one_range_ask_for_each_window_once(venue, store, client, run):
    planned = plan(store, venue.feed, SUBJECTS, WANTED, client=client, order="oldest-first")
    reports = []

    def work():
        reports.append(carry_out(planned, store=store, client=client, run=run, sleep=lambda _: None))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(venue.asked) == sorted((subject, window) for subject in SUBJECTS for window in QUARTERS)
    assert sum(one.windows for one in reports) == 8
    assert sum(one.covered_meanwhile for one in reports) == 8


def test_a_window_that_somebody_else_brought_meanwhile_is_not_asked_for(venue, store, client, run, backfill):
    planned = plan(store, venue.feed, [BTC], WANTED, client=client, order="oldest-first")
    backfill(venue.feed, wanted=span(0, 12))
    venue.asked.clear()
    report = carry_out(planned, store=store, client=client, run=run, sleep=lambda _: None)
    assert sorted(window for _, window in venue.asked) == QUARTERS[2:]
    assert (report.windows, report.covered_meanwhile) == (2, 2)


def test_no_lock_is_left_behind(venue, backfill, tmp_path):
    backfill(venue.feed)
    assert list((tmp_path / "backfill").iterdir()) == []
