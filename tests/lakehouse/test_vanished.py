"""What a whole delivery no longer names is gone, whatever the batches, and nothing else is."""

import re
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from structlog.testing import capture_logs

from lakehouse.clean import new_rows
from lakehouse.conform import conform
from lakehouse.contract import UTC_US, Census, Column, Table
from lakehouse.fields import EVENT_AT, INGESTED_AT, KNOWN_AT, PAGE_ID, VENUE
from lakehouse.vanished import with_vanished

DAY_0 = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TABLE = Table(
    name="silver.test_listings",
    doc="Test.",
    columns=(
        VENUE,
        Column(name="kind", dtype=pl.String(), nullable=True, doc="Which list of the venue."),
        Column(name="name", dtype=pl.String(), doc="Name."),
        EVENT_AT,
        KNOWN_AT,
        INGESTED_AT,
        PAGE_ID,
        Column(name="step", dtype=pl.Float64(), above=0, doc="Price step."),
        Column(name="is_active", dtype=pl.Boolean(), nullable=True, doc="Trades now."),
        Column(name="ends_at", dtype=UTC_US, nullable=True, doc="When it expires."),
        Column(
            name="day",
            dtype=pl.Date(),
            derived=pl.col("event_at").dt.date(),
            doc="Day of event_at.",
        ),
    ),
    key=("venue", "name", "known_at"),
    subject=("venue", "name"),
    owner="test",
    census=Census(of=("venue", "kind"), gone={"is_active": False}, ends="ends_at"),
)
SCHEMA = {column.name: column.dtype for column in TABLE.columns if column.derived is None}


def listing(day: int, names: str, *, venue="kraken", kind: str | None = "spot", **said) -> pl.DataFrame:
    """One delivery: a letter names a fact, followed by `!` one with a price step that breaks a rule."""
    at = DAY_0 + day * DAY
    shared = {"event_at": at, "known_at": at, "ingested_at": at, "page_id": 100 + day, "is_active": True}
    shared |= {"venue": venue, "kind": kind, "ends_at": None, "step": 1.0} | said
    rows = [
        {**shared, "name": name, **({"step": -1.0} if is_bad else {})}
        for name, is_bad in re.findall("([a-z])(!?)", names)
    ]
    return conform(TABLE, pl.DataFrame(rows, schema=SCHEMA, orient="row").lazy()).collect()


def promoted(*batches: list[pl.DataFrame]) -> pl.DataFrame:
    """What is published after batches of deliveries."""
    stored = listing(0, "").select(TABLE.schema.names())
    for batch in batches:
        fresh = new_rows(TABLE, with_vanished(TABLE, pl.concat(batch), stored), stored)
        good = fresh.filter(pl.col("reasons").list.len() == 0)
        stored = pl.concat([stored, good.select(TABLE.schema.names())])
    return stored.sort(TABLE.key)


def versions(stored: pl.DataFrame) -> list[tuple]:
    day = (pl.col("known_at") - DAY_0).dt.total_days()
    return stored.select("name", day.alias("day"), "is_active").sort("name", "day").rows()


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        pytest.param(
            ["abc", "ab"],
            [("a", 0, True), ("b", 0, True), ("c", 0, True), ("c", 1, False)],
            id="not named any more",
        ),
        pytest.param(
            ["abc", "ab", "ab", "ab"],
            [("a", 0, True), ("b", 0, True), ("c", 0, True), ("c", 1, False)],
            id="gone once",
        ),
        pytest.param(
            ["abc", "ab", "abc", "ab"],
            [
                ("a", 0, True),
                ("b", 0, True),
                *(("c", 0, True), ("c", 1, False), ("c", 2, True), ("c", 3, False)),
            ],
            id="listed again, gone again",
        ),
        pytest.param(
            ["abc", "abc!", "abc"],
            [("a", 0, True), ("b", 0, True), ("c", 0, True)],
            id="a row in quarantine names it too",
        ),
        pytest.param(
            ["abc", "", "abc"],
            [("a", 0, True), ("b", 0, True), ("c", 0, True)],
            id="an empty list takes nothing away",
        ),
        pytest.param(
            ["abc", "a", "abc"],
            [("a", 0, True), ("b", 0, True), ("c", 0, True)],
            id="half a list takes nothing away",
        ),
        pytest.param(
            ["abcd", "ab"],
            [
                ("a", 0, True),
                ("b", 0, True),
                ("c", 0, True),
                ("c", 1, False),
                ("d", 0, True),
                ("d", 1, False),
            ],
            id="exactly half is believed",
        ),
        pytest.param(
            ["ab", "abc!", "ab"],
            [("a", 0, True), ("b", 0, True)],
            id="what was never published is never gone",
        ),
    ],
)
@pytest.mark.parametrize("is_one_batch", [True, False])
def test_the_versions_of_what_deliveries_name(lists, expected, is_one_batch):
    deliveries = [listing(day, names) for day, names in enumerate(lists)]

    stored = promoted(deliveries) if is_one_batch else promoted(*([one] for one in deliveries))

    assert versions(stored) == expected


def test_what_is_gone_is_said_as_it_was_last_by_the_delivery_without_it():
    stored = promoted([listing(0, "abc", step=1.0)], [listing(1, "abc", step=2.0)], [listing(2, "ab")])

    at = DAY_0 + 2 * DAY
    assert stored.filter(~pl.col("is_active")).to_dicts() == [
        {
            "venue": "kraken",
            "kind": "spot",
            "name": "c",
            "event_at": at,
            "known_at": at,
            "ingested_at": at,
            "page_id": 102,
            "step": 2.0,
            "is_active": False,
            "ends_at": None,
            "day": at.date(),
        }
    ]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"venue": "binance"}, id="another venue"),
        pytest.param({"kind": "swap"}, id="another list of the venue"),
        pytest.param({"kind": None}, id="not a whole list"),
    ],
)
def test_a_list_says_nothing_about_what_others_list(other):
    stored = promoted([listing(0, "abc")], [listing(1, "de", **other)])

    assert stored.filter(~pl.col("is_active")).is_empty()


def test_half_a_list_is_told_with_its_page():
    with capture_logs() as logs:
        promoted([listing(0, "abcde")], [listing(1, "ab")])

    (said,) = [one for one in logs if "half" in one["event"]]
    assert (said["log_level"], said["table"], said["page_id"]) == ("warning", TABLE.name, 101)
    assert (said["census"], said["missing"], said["listed"]) == ({"venue": "kraken", "kind": "spot"}, 3, 5)


def test_what_has_expired_does_not_make_the_list_doubtful():
    dated = listing(0, "bcde", ends_at=DAY_0 + 5 * DAY)

    early = promoted([pl.concat([listing(0, "a"), dated])], [listing(4, "a")])
    late = promoted([pl.concat([listing(0, "a"), dated])], [listing(5, "a")])

    assert early.filter(~pl.col("is_active")).is_empty()
    assert late.filter(~pl.col("is_active"))["name"].to_list() == ["b", "c", "d", "e"]


def test_a_delivery_that_was_held_back_takes_nothing_away():
    stored = listing(0, "abc").select(TABLE.schema.names())
    batch = pl.concat([listing(1, "ab"), listing(2, "ab")])

    found = with_vanished(TABLE, batch, stored, held_pages=[101])

    assert found.filter(pl.col("name") == "c")["known_at"].to_list() == [DAY_0 + 2 * DAY]


def test_told_again_a_delivery_changes_nothing():
    deliveries = [listing(0, "abc"), listing(1, "ab"), listing(2, "abc")]

    assert_frame_equal(promoted(deliveries, deliveries[:2], deliveries), promoted(deliveries))


LISTS = st.lists(st.sets(st.sampled_from("abcdef")).map(lambda names: "".join(sorted(names))), max_size=8)


@settings(max_examples=60)
@given(lists=LISTS, bad=st.sampled_from("abcdef"), cuts=st.lists(st.integers(1, 3), max_size=8))
def test_the_same_versions_come_out_however_deliveries_are_cut_into_batches(lists, bad, cuts):
    told = [names.replace(bad, f"{bad}!") if day % 3 == 2 else names for day, names in enumerate(lists)]
    deliveries = [listing(day, names) for day, names in enumerate(told)]
    batches, rest = [], deliveries
    for size in cuts:
        batches.append(rest[:size])
        rest = rest[size:]
    batches = [batch for batch in [*batches, rest] if batch]

    assert_frame_equal(promoted(*batches), promoted(*([deliveries] if deliveries else [])))
