"""What is new in a batch: the same rows however the deliveries were cut into batches."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.clean import CONTRADICTS, new_builds, new_rows
from lakehouse.contract import Column, Table
from lakehouse.fields import EVENT_AT, INGESTED_AT, KNOWN_AT, KNOWN_AT_BASIS, PAGE_ID

DAY = datetime(2024, 1, 1, tzinfo=UTC)
NAME = Column(name="name", dtype=pl.String(), doc="Name.")
PRICE = Column(name="price", dtype=pl.Int64(), doc="Price.")
COLUMNS = (NAME, EVENT_AT, KNOWN_AT, INGESTED_AT, PAGE_ID, PRICE)
FACTS = Table(name="silver.facts", doc="", columns=COLUMNS, key=("name",), subject=("name",), owner="tests")
VERSIONS = Table(
    name="silver.versions",
    doc="",
    columns=COLUMNS,
    key=("name", "known_at"),
    subject=("name",),
    owner="tests",
)

# (name, day it claims to have been known, day received, price)
Delivery = tuple[str, int, int, int]


def batch(deliveries: list[Delivery]) -> pl.DataFrame:
    rows = [
        {
            "name": name,
            "event_at": DAY,
            "known_at": DAY + timedelta(days=known),
            "ingested_at": DAY + timedelta(days=received),
            "page_id": received,
            "price": price,
            "reasons": [],
            "remarks": [],
        }
        for name, known, received, price in deliveries
    ]
    texts = {"reasons": pl.List(pl.String), "remarks": pl.List(pl.String)}
    return pl.DataFrame(rows, schema={**VERSIONS.schema, **texts}, orient="row")


def publish(table: Table, batches: list[list[Delivery]]) -> tuple[list[tuple], list[tuple]]:
    """Rows after all batches as (name, day known, price), and the contradictions."""
    stored, held = batch([]), batch([])
    for deliveries in batches:
        rows = new_rows(table, batch(deliveries), stored.select(table.schema.names()))
        is_good = pl.col("reasons").list.len() == 0
        stored, held = pl.concat([stored, rows.filter(is_good)]), pl.concat([held, rows.filter(~is_good)])
    return brief(stored), brief(held)


def brief(rows: pl.DataFrame) -> list[tuple]:
    days = (pl.col("known_at") - DAY).dt.total_days()
    return sorted(rows.select("name", days, "price").rows())


def test_a_repeat_is_dropped_and_a_contradiction_of_an_immutable_fact_is_named():
    rows = new_rows(
        FACTS, batch([("a", 0, 1, 5), ("a", 0, 2, 5), ("a", 0, 3, 6)]), batch([]).select(FACTS.schema.names())
    )

    assert rows.select("price", "reasons").rows() == [(5, []), (6, [CONTRADICTS])]


def test_a_restated_fact_is_a_version_known_when_it_was_received():
    assert publish(VERSIONS, [[("a", 0, 1, 5)], [("a", 0, 2, 6)], [("a", 0, 3, 5)]]) == (
        [("a", 0, 5), ("a", 2, 6), ("a", 3, 5)],
        [],
    )


def test_versions_that_the_provider_dates_keep_their_dates():
    vintages = [("a", 0, 9, 5), ("a", 3, 9, 6), ("a", 6, 9, 7)]

    assert publish(VERSIONS, [vintages, [*vintages, ("a", 8, 9, 8)]]) == (
        [("a", 0, 5), ("a", 3, 6), ("a", 6, 7), ("a", 8, 8)],
        [],
    )


def test_a_version_that_says_what_the_one_before_said_is_not_news():
    assert publish(VERSIONS, [[("a", 0, 1, 5)], [("a", 1, 1, 5), ("a", 2, 2, 6)]])[0] == [
        ("a", 0, 5),
        ("a", 2, 6),
    ]


def test_the_newest_of_several_versions_is_revised_and_the_past_stays():
    first = [("a", 0, 7, 5), ("a", 3, 7, 6)]
    rebuilt = [("a", 0, 9, 50), ("a", 3, 9, 60)]

    assert publish(VERSIONS, [first, rebuilt, rebuilt]) == (
        [("a", 0, 5), ("a", 3, 6), ("a", 9, 60)],
        [("a", 0, 50), ("a", 0, 50)],
    )


def test_a_version_told_late_finds_the_later_one_still_there():
    """The version of day 6 says what that of day 0 said: dropped as a repeat it would leave day 3's as the newest."""
    assert publish(VERSIONS, [[("a", 0, 7, 5), ("a", 6, 7, 5)], [("a", 3, 8, 6)]]) == (
        [("a", 0, 5), ("a", 3, 6), ("a", 6, 5)],
        [],
    )


def test_a_version_that_was_restated_before_the_next_came_is_still_a_repeat_afterwards():
    history = [[("a", 0, 1, 5)], [("a", 0, 2, 6)], [("a", 0, 4, 6), ("a", 3, 4, 7)], [("a", 0, 5, 8)]]

    assert publish(VERSIONS, history) == ([("a", 0, 5), ("a", 2, 6), ("a", 3, 7)], [("a", 0, 8)])


def test_a_version_dated_after_its_receipt_is_not_published_twice():
    """A vintage of today is dated to the end of the day."""
    assert publish(VERSIONS, [[("a", 5, 1, 5)], [("a", 5, 2, 6)]]) == ([("a", 5, 5)], [("a", 5, 6)])


def test_a_delivery_promoted_after_a_later_one_that_contradicts_it_is_kept_apart():
    assert publish(VERSIONS, [[("a", 0, 2, 6)], [("a", 0, 1, 5)]]) == ([("a", 0, 6)], [("a", 0, 5)])
    assert publish(FACTS, [[("a", 0, 2, 6)], [("a", 0, 1, 5)]]) == ([("a", 0, 6)], [("a", 0, 5)])


def test_what_a_revision_promoted_late_hides_is_set_right_by_the_next_delivery():
    late = [[("a", 0, 1, 5)], [("a", 0, 3, 5)], [("a", 0, 2, 6)]]

    assert publish(VERSIONS, late)[0] == [("a", 0, 5), ("a", 2, 6)]
    assert publish(VERSIONS, [*late, [("a", 0, 4, 5)]])[0] == [("a", 0, 5), ("a", 2, 6), ("a", 4, 5)]


def test_what_replaces_a_version_is_known_from_its_receipt_and_not_from_an_estimate():
    """A quarter received on day 100, estimated to be public on day 120, and told differently on day 130."""
    basis = KNOWN_AT_BASIS
    table = replace(VERSIONS, columns=(*COLUMNS, basis))
    told = batch([("q", 100, 100, 1), ("q", 120, 130, 2)]).with_columns(pl.lit("estimated").alias(basis.name))

    rows = new_rows(table, told, told.clear().select(table.schema.names()))

    assert brief(rows) == [("q", 100, 1), ("q", 130, 2)]


PRICES = st.integers(1, 3)
CUTS = st.lists(st.integers(1, 4), min_size=1, max_size=12)


def cut(deliveries: list[Delivery], sizes: list[int]) -> list[list[Delivery]]:
    batches, rest = [], deliveries
    for size in sizes:
        batches.append(rest[:size])
        rest = rest[size:]
    return [*batches, rest]


@settings(max_examples=40)
@given(prices=st.lists(PRICES, max_size=12), sizes=CUTS)
def test_batch_boundaries_do_not_change_what_a_restated_fact_becomes(prices, sizes):
    deliveries = [("a", 0, received, price) for received, price in enumerate(prices, start=1)]

    assert publish(VERSIONS, cut(deliveries, sizes)) == publish(VERSIONS, [deliveries])


@settings(max_examples=40)
@given(prices=st.lists(PRICES, max_size=12), sizes=CUTS)
def test_batch_boundaries_do_not_change_what_facts_known_at_receipt_become(prices, sizes):
    deliveries = [("a", received, received, price) for received, price in enumerate(prices, start=1)]

    assert publish(VERSIONS, cut(deliveries, sizes)) == publish(VERSIONS, [deliveries])


# Dated by the provider before or after the receipt, or known by the receipt alone.
ANY = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 9), PRICES), max_size=14)


@pytest.mark.parametrize("table", [FACTS, VERSIONS], ids=["facts", "versions"])
@settings(max_examples=40)
@given(deliveries=ANY, sizes=CUTS)
def test_batch_boundaries_change_nothing(table, deliveries, sizes):
    deliveries = sorted({one[2]: one for one in deliveries}.values(), key=lambda one: one[2])

    assert publish(table, cut(deliveries, sizes)) == publish(table, [deliveries])


@pytest.mark.parametrize("table", [FACTS, VERSIONS], ids=["facts", "versions"])
@settings(max_examples=40)
@given(
    claims=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(4, 9)), max_size=12),
    sizes=CUTS,
    told=st.randoms(use_true_random=False),
)
def test_order_of_arrival_does_not_matter_to_facts_that_are_told_in_one_way(table, claims, sizes, told):
    def says(name: str, known: int) -> int:
        return ord(name) + (known % 2 if table is VERSIONS else 0)

    deliveries = [(name, known, received, says(name, known)) for name, known, received in claims]
    shuffled = told.sample(deliveries, len(deliveries))

    rows, contradictions = publish(table, cut(shuffled, sizes))

    assert contradictions == []
    assert {(name, price) for name, _, price in rows} == {(name, price) for name, *_, price in deliveries}
    if table is VERSIONS:
        assert rows == publish(table, [deliveries])[0]


@settings(max_examples=40)
@given(deliveries=ANY, sizes=CUTS)
def test_no_key_is_ever_published_twice(deliveries, sizes):
    rows, _ = publish(VERSIONS, cut(deliveries, sizes))

    keys = [(name, known) for name, known, _ in rows]
    assert len(keys) == len(set(keys))


@settings(max_examples=40)
@given(deliveries=ANY)
def test_delivering_everything_again_publishes_nothing(deliveries):
    once = publish(VERSIONS, [deliveries])[0]

    assert publish(VERSIONS, [deliveries, deliveries])[0] == once


@pytest.mark.parametrize(
    ("stored", "built", "expected"),
    [
        pytest.param(
            [("bar", 2, 2, 8)],
            [("bar", 1, 5, 10)],
            [("bar", 1, 10), ("bar", 5, 10)],
            id="what-holds-now-was-known-before",
        ),
        pytest.param(
            [("bar", 1, 1, 10), ("bar", 2, 2, 8)],
            [("bar", 1, 5, 10)],
            [("bar", 5, 10)],
            id="a-version-is-not-built-any-more",
        ),
        pytest.param([("bar", 1, 1, 8)], [("bar", 1, 1, 8)], [], id="built-alike"),
        pytest.param(
            [("bar", 1, 1, 8), ("bar", 2, 2, 9)],
            [("bar", 1, 5, 7), ("bar", 2, 5, 9)],
            [],
            id="only-the-past-comes-out-differently",
        ),
        pytest.param(
            [("bar", 9, 2, 8)],
            [("bar", 1, 5, 10)],
            [("bar", 1, 10), ("bar", 9, 10)],
            id="received-before-it-was-public",
        ),
    ],
)
def test_late_input_sets_right_what_holds_now_and_leaves_what_was_published(stored, built, expected):
    held = batch(stored).select(VERSIONS.schema.names())

    found = new_builds(VERSIONS, batch(built), held, has_every_version=True)

    assert brief(found) == expected


def test_of_a_fact_whose_newest_version_was_not_built_again_nothing_is_said():
    held = batch([("bar", 2, 2, 8)]).select(VERSIONS.schema.names())

    found = new_builds(VERSIONS, batch([("bar", 1, 5, 10)]), held, has_every_version=False)

    assert brief(found) == [("bar", 1, 10)]
