"""Ingest: what is new becomes pages, what is not is not stored again."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse.bronze import Page
from lakehouse.silver.trades import TABLE
from lakehouse.window import Window
from sources.client import Client
from sources.errors import Transient
from sources.feed import Feed
from sources.ingest import ingest

DAY = datetime(2024, 1, 1, tzinfo=UTC)
WINDOW = Window(DAY, DAY + timedelta(days=1))


def feed_that_answers(*answers: tuple[timedelta, bytes]) -> Feed:
    """One page for each, received that long after the window's end."""

    def fetch(client, subject, window):
        for delay, body in answers:
            yield Page(
                feed="test_answers",
                subject=subject,
                request={"method": "GET", "url": "https://example.org"},
                received_at=window.end + delay,
                window=window,
                body=body,
            )

    return Feed(
        name="test_answers",
        provider="test",
        doc="",
        table=TABLE,
        subjects="",
        fetch=fetch,
        parse=pl.DataFrame.lazy,
    )


HOUR, WEEK = timedelta(hours=1), timedelta(days=7)


@pytest.mark.parametrize(
    ("answers", "stored"),
    [
        ([(HOUR, b"5"), (2 * HOUR, b"5")], [b"5"]),
        ([(HOUR, b"5"), (2 * HOUR, b"6"), (3 * HOUR, b"5")], [b"5", b"6", b"5"]),
        ([(-HOUR, b"5"), (HOUR, b"5")], [b"5", b"5"]),
        ([(timedelta(seconds=1), b"5"), (HOUR, b"5")], [b"5", b"5"]),
        ([(HOUR, b"5"), (2 * HOUR + WEEK, b"5")], [b"5", b"5"]),
    ],
    ids=[
        "the same again",
        "back to an earlier one",
        "asked before the window was over",
        "its last bar not settled",
        "a week later",
    ],
)
def test_an_answer_is_stored_unless_it_repeats_the_last_one(store, settings, run, answers, stored):
    with Client(settings) as client:
        for answer in answers:
            ingest(store, feed_that_answers(answer), "s", WINDOW, client=client, run=run)

    pages = store.open(feed_that_answers().bronze).scan().sort("received_at").collect()
    assert pages["body"].to_list() == stored


def test_what_came_in_place_of_data_is_kept_beside_the_pages_before_it(store, settings, run):
    def fetch(client, subject, window):
        good, bad = feed_that_answers((HOUR, b"good"), (HOUR, b"<html>")).fetch(client, subject, window)
        yield good
        error = Transient("no data")
        error.pages = (bad,)
        raise error

    feed = replace(feed_that_answers(), fetch=fetch)
    with Client(settings) as client, pytest.raises(Transient):
        ingest(store, feed, "s", WINDOW, client=client, run=run)
    assert store.open(feed.bronze).scan().collect()["body"].to_list() == [b"good", b"<html>"]
