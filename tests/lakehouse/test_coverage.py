"""What coverage promises: disjoint intervals, nothing forgotten, the same whatever the order; plans fetch the rest."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.coverage import (
    Claim,
    Fetched,
    Part,
    Statement,
    is_settled,
    minus,
    plan,
    read_records,
    resolve,
    write_records,
)
from lakehouse.window import Window

DAY = datetime(2024, 1, 1, tzinfo=UTC)
HOURS = 24


def at(hour: int) -> datetime:
    return DAY + timedelta(hours=hour)


def window(start: int, end: int) -> Window:
    return Window(at(start), at(end))


def said(start: int, end: int, status: str, *, on: int, proof: str = "every_bar") -> Statement:
    claim = Claim(window=window(start, end), status=status, proof=proof)
    return Statement(claim=claim, recorded_at=at(HOURS + on), number=f"{on}")


def hours_of(one: Window) -> set[int]:
    return {hour for hour in range(HOURS) if at(hour) in one}


def picture(*statements: Statement) -> list[tuple[int, int, str]]:
    found = resolve(statements)
    return [
        (
            (one.window.start - DAY) // timedelta(hours=1),
            (one.window.end - DAY) // timedelta(hours=1),
            one.status,
        )
        for one in found
    ]


@pytest.mark.parametrize(
    ("statements", "picture_"),
    [
        ([said(0, 4, "complete", on=1), said(4, 8, "complete", on=2)], [(0, 8, "complete")]),
        (
            [said(0, 8, "missing", on=1), said(2, 4, "complete", on=2)],
            [(0, 2, "missing"), (2, 4, "repaired"), (4, 8, "missing")],
        ),
        ([said(0, 8, "complete", on=1), said(2, 4, "missing", on=2)], [(0, 8, "complete")]),
        ([said(0, 8, "degraded", on=1), said(0, 8, "missing", on=2)], [(0, 8, "degraded")]),
        ([said(0, 8, "degraded", on=1), said(0, 8, "complete", on=2)], [(0, 8, "complete")]),
        ([said(0, 8, "missing", on=1), said(0, 8, "unavailable", on=2)], [(0, 8, "unavailable")]),
        ([said(0, 8, "unavailable", on=1), said(0, 8, "missing", on=2)], [(0, 8, "missing")]),
        (
            [said(0, 2, "complete", on=1), said(5, 6, "complete", on=2)],
            [(0, 2, "complete"), (5, 6, "complete")],
        ),
    ],
    ids=[
        "neighbours are joined",
        "a hole filled in part",
        "held rows are not lost again",
        "rows outweigh a later failure",
        "a proof made whole is no repair",
        "refused after failing",
        "failing after a refusal",
        "what nobody asked for is in no interval",
    ],
)
def test_later_and_stronger_statements_win(statements, picture_):
    assert picture(*statements) == picture_
    assert picture(*reversed(statements)) == picture_


@st.composite
def many_statements(draw):
    count = draw(st.integers(1, 12))
    told = []
    for on in range(count):
        start = draw(st.integers(0, HOURS - 1))
        end = draw(st.integers(start + 1, HOURS))
        told.append(said(start, end, draw(st.sampled_from(STATUSES)), on=on))
    return told


STATUSES = ("complete", "degraded", "missing", "unavailable")


@given(many_statements(), st.randoms(use_true_random=False))
def test_intervals_are_disjoint_cover_what_was_said_and_do_not_depend_on_the_order(told, random):
    found = resolve(told)
    shuffled = random.sample(told, len(told))

    assert all(one.window.end <= after.window.start for one, after in pairwise(found))
    covered = set().union(*(hours_of(one.window) for one in found))
    assert covered == set().union(*(hours_of(one.claim.window) for one in told))
    assert resolve(shuffled) == found


@given(many_statements())
def test_an_hour_is_complete_exactly_if_somebody_proved_it_and_repaired_if_it_was_absent_before(told):
    found = {hour: one.status for one in resolve(told) for hour in hours_of(one.window)}

    for hour, status in found.items():
        mine = [one for one in told if hour in hours_of(one.claim.window)]
        proofs = [one.recorded_at for one in mine if one.claim.status == "complete"]
        assert (status in ("complete", "repaired")) == bool(proofs)
        absent = [one.recorded_at for one in mine if one.claim.status in ("missing", "unavailable")]
        assert (status == "repaired") == bool(proofs and absent and min(absent) < min(proofs))


windows = st.tuples(st.integers(0, HOURS - 1), st.integers(1, HOURS)).map(
    lambda pair: window(pair[0], min(pair[0] + pair[1], HOURS))
)


@given(windows, st.lists(windows, max_size=6), st.integers(1, 6))
def test_a_plan_asks_for_all_that_is_not_settled_and_for_nothing_twice(wanted, settled, step):
    parts = plan(wanted, settled, step=timedelta(hours=step))

    asked = [hour for part in parts for hour in sorted(hours_of(part))]
    assert asked == sorted(hours_of(wanted).difference(*(hours_of(one) for one in settled)))
    assert all(part.end - part.start <= timedelta(hours=step) for part in parts)


def test_without_a_step_a_plan_is_what_is_left():
    left = [window(0, 3), window(5, 8)]

    assert plan(window(0, 8), [window(3, 5)]) == minus(window(0, 8), [window(3, 5)]) == left


@pytest.mark.parametrize(
    ("status", "proof", "settled"),
    [
        ("complete", "every_bar", True),
        ("unavailable", "newest_only", True),
        ("unavailable", "refused", False),
        ("degraded", "every_bar", False),
        ("missing", "every_bar", False),
    ],
)
def test_what_may_come_is_asked_for_again(status, proof, settled):
    (interval,) = resolve([said(0, 1, status, on=1, proof=proof)])

    assert is_settled(interval) is settled


def test_the_record_of_a_fetch_survives_the_commit_it_is_kept_in():
    record = Fetched(
        subject="kraken:BTC/USD",
        window=window(0, 4),
        asked_at=at(30),
        recorded_at=at(31),
        parts=(Part(window=window(0, 2), page_ids=(-1, 2**62)),),
        new_pages=1,
        outcome="failed",
        detail="Transient: busy",
    )

    assert read_records(write_records([record])) == [record]
