"""What answers prove: literal bars and trades in, claims out."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse.coverage import Asked
from lakehouse.window import Window, iso
from sources.proofs import every_bar, every_trade, paged_to_end, snapshot, told_until

DAY = datetime(2024, 1, 1, tzinfo=UTC)
LATER = DAY + timedelta(days=30)
UTC_US = pl.Datetime("us", "UTC")


def at(hours: float) -> datetime:
    return DAY + timedelta(hours=hours)


def asked(start: float, end: float, *, when: datetime = LATER) -> Asked:
    return Asked(subject="s", window=Window(at(start), at(end)), at=when)


def told(claims) -> list[tuple[str, str, str]]:
    return [(iso(one.window.start)[8:16], iso(one.window.end)[8:16], one.status) for one in claims]


def opens(*hours: float) -> pl.Series:
    return pl.Series([at(hour) for hour in hours], dtype=UTC_US)


def events(*hours: float) -> pl.DataFrame:
    return pl.DataFrame({"event_at": opens(*hours)})


@pytest.mark.parametrize(
    ("hours", "rules", "claims"),
    [
        ((0, 1, 2, 3), {}, [("01T00:00", "01T04:00", "complete")]),
        (
            (0, 3),
            {},
            [
                ("01T00:00", "01T01:00", "complete"),
                ("01T01:00", "01T03:00", "missing"),
                ("01T03:00", "01T04:00", "complete"),
            ],
        ),
        (
            (0, 1),
            {"omits_empty": True},
            [("01T00:00", "01T02:00", "complete"), ("01T02:00", "01T04:00", "degraded")],
        ),
        (
            (2, 3),
            {"keeps": 718},
            [("01T00:00", "01T02:00", "unavailable"), ("01T02:00", "01T04:00", "complete")],
        ),
        ((2, 3), {"keeps": 720}, [("01T00:00", "01T02:00", "missing"), ("01T02:00", "01T04:00", "complete")]),
        ((), {}, [("01T00:00", "01T04:00", "missing")]),
        ((-1, 0, 1, 2, 3, 4), {}, [("01T00:00", "01T04:00", "complete")]),
    ],
    ids=["all", "hole", "omitted", "too old", "not too old", "none", "reaching over"],
)
def test_bars_are_counted_one_by_one(hours, rules, claims):
    found = every_bar(asked(0, 4), opens(*hours), "1h", **rules)

    assert told(found) == claims
    assert found[0].evidence["expected"] == 4


def test_a_bar_that_was_still_open_is_asked_for_again():
    found = every_bar(asked(0, 4, when=at(2.5)), opens(0, 1), "1h")

    assert told(found) == [("01T00:00", "01T02:00", "complete")]


@pytest.mark.parametrize(
    ("interval", "hours", "end"),
    [("1d", (16, 40, 64), 88), ("1w", (0, 168), 336), ("1M", (0, 744), 720 + 600)],
    ids=["opening at 16:00", "weeks", "months"],
)
def test_bars_may_open_at_any_hour_and_have_any_length(interval, hours, end):
    window = asked(hours[0], end, when=DAY + timedelta(days=100))
    statuses = {claim.status for claim in every_bar(window, opens(*hours), interval)}

    assert statuses == {"complete"}


def trades(*said: tuple[float, str]) -> pl.DataFrame:
    return pl.DataFrame(
        {"event_at": opens(*(hour for hour, _ in said)), "trade_id": [id_ for _, id_ in said]}
    )


def test_a_jump_in_counted_ids_is_a_hole_between_the_two_trades():
    rows = trades((1, "7"), (2, "8"), (3, "12"), (3.5, "13"))
    found = every_trade(asked(0, 4), rows, are_ids_counted=True, newest_only=False)

    assert sorted(told(found)) == [
        ("01T00:00", "01T02:00", "complete"),
        ("01T02:00", "01T03:00", "missing"),
        ("01T03:00", "01T04:00", "complete"),
    ]
    (hole,) = (one for one in found if one.status == "missing")
    assert hole.evidence == {"after_id": 8, "before_id": 12, "absent": 3}


@pytest.mark.parametrize(
    ("ids", "are_ids_counted"), [(("7", "12"), False), (("7", "x"), True)], ids=["shared ids", "no numbers"]
)
def test_ids_that_count_nothing_leave_the_paging_as_proof(ids, are_ids_counted):
    rows = trades(*zip((1, 2), ids, strict=True))
    (claim,) = every_trade(asked(0, 4), rows, are_ids_counted=are_ids_counted, newest_only=False)

    assert (claim.status, claim.proof) == ("complete", "paged_to_end")
    assert claim.cannot_show == "whether the provider left something out"


def test_what_lies_before_the_newest_trades_is_unavailable():
    rows = trades((3, "a"), (3.5, "b"))
    found = every_trade(asked(0, 4), rows, are_ids_counted=False, newest_only=True)

    assert told(found) == [("01T00:00", "01T03:00", "unavailable"), ("01T03:00", "01T04:00", "complete")]


def test_a_series_is_whole_up_to_what_was_told_or_must_have_been():
    prove = told_until(timedelta(hours=6))
    pages = pl.DataFrame()

    fresh = prove(asked(0, 24, when=at(24)), pages, events(1, 20))
    quiet = prove(asked(0, 24, when=at(24)), pages, events(1))
    old = prove(asked(0, 24), pages, events(1))

    assert told(fresh) == [("01T00:00", "01T20:00", "complete"), ("01T20:00", "02T00:00", "degraded")]
    assert told(quiet) == [("01T00:00", "01T18:00", "complete"), ("01T18:00", "02T00:00", "degraded")]
    assert told(old) == [("01T00:00", "02T00:00", "complete")]


@pytest.mark.parametrize(
    "claims",
    [
        lambda window: paged_to_end(window, pl.DataFrame(), events()),
        lambda window: told_until(timedelta(0))(window, pl.DataFrame(), events()),
        lambda window: every_trade(window, trades(), are_ids_counted=True, newest_only=False),
    ],
    ids=["paged", "series", "trades"],
)
def test_an_answer_without_rows_proves_nothing(claims):
    assert [claim.status for claim in claims(asked(0, 4))] == ["degraded"]


def test_nothing_after_the_asking_is_covered():
    (claim,) = paged_to_end(asked(0, 4, when=at(3)), pl.DataFrame(), events(1))

    assert told([claim]) == [("01T00:00", "01T03:00", "complete")]
    assert paged_to_end(asked(0, 4, when=DAY), pl.DataFrame(), events(1)) == []


def test_a_snapshot_covers_the_moment_of_asking_whatever_the_window():
    (claim,) = snapshot(asked(0, 4), pl.DataFrame(), events(1))

    assert claim.window == Window(LATER, LATER + timedelta(microseconds=1))
