"""Claims of streams: what was whole, what was not, and never more than was received."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest

from lakehouse.bronze import Page
from lakehouse.coverage import Statement, resolve
from lakehouse.streamed import from_plain, joined, plain
from lakehouse.window import Window
from sources.recorder.entry import last_known, read_entry, write_entry, write_memo
from sources.recorder.telling import Teller, starting, teller_from
from sources.spool import Found
from sources.stream import Hole, Invalid, Valid

START = datetime(2024, 1, 1, tzinfo=UTC)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def valid(second: float, proof: str = "sequence") -> Valid:
    return Valid(instrument_id="BTC/USD", channel="trades", at=at(second), proof=proof)


def invalid(second: float, reason: str = "lost") -> Invalid:
    return Invalid(instrument_id="BTC/USD", channel="trades", since=at(second), reason=reason)


def hole(since: float, until: float) -> Hole:
    return Hole(instrument_id="BTC/USD", since=at(since), until=at(until), after_id="7", before_id="9")


def begun() -> Teller:
    return starting("kraken", [("BTC/USD", "trades")], START)


def seconds_of(told) -> list[tuple[float, float, str]]:
    """What the ledger makes of it."""
    said = [
        Statement(claim=one.claim, recorded_at=one.recorded_at, number=f"{n:04}")
        for n, one in enumerate(told)
    ]
    return [
        (
            round((one.window.start - START).total_seconds(), 1),
            round((one.window.end - START).total_seconds(), 1),
            one.status,
        )
        for one in resolve(said)
    ]


def test_nothing_is_whole_before_the_first_proof_and_what_may_still_come_late_is_not_told():
    teller = begun()
    told = [*teller.hear([valid(2)], heard_at=at(1), at=at(2)), *teller.tell(at(60), at(61))]
    assert seconds_of(told) == [(0, 2, "missing"), (2, 55, "complete")]


def test_a_lost_connection_is_missing_until_the_next_proof_and_degraded_just_before():
    teller = begun()
    told = teller.hear([valid(2)], heard_at=at(1), at=at(2))
    told += teller.hear([invalid(100)], heard_at=at(100), at=at(103))
    told += teller.hear([valid(110)], heard_at=at(109), at=at(110))
    told += teller.tell(at(200), at(200))
    assert seconds_of(told) == [
        (0, 2, "missing"),
        (2, 95, "complete"),
        (95, 100, "degraded"),
        (100, 110, "missing"),
        (110, 195, "complete"),
    ]


def test_a_hole_that_shows_late_takes_back_what_was_told():
    teller = begun()
    told = teller.hear([valid(0)], heard_at=at(0), at=at(0))
    told += teller.tell(at(100), at(100))
    told += teller.hear([hole(50, 101)], heard_at=at(100), at=at(101))
    told += teller.tell(at(200), at(200))
    assert seconds_of(told) == [(0, 50, "complete"), (50, 101, "missing"), (101, 195, "complete")]


def test_a_trade_that_was_late_when_the_connection_was_lost_takes_back_what_was_told():
    teller = begun()
    told = teller.hear([valid(0)], heard_at=at(0), at=at(0))
    told += teller.tell(at(100), at(100))
    told += teller.hear([invalid(100)], heard_at=at(100), at=at(103))
    told += teller.hear([valid(110), hole(80, 104)], heard_at=at(109), at=at(110))
    told += teller.tell(at(200), at(200))
    assert seconds_of(told) == [
        (0, 80, "complete"),
        (80, 104, "missing"),
        (104, 110, "missing"),
        (110, 195, "complete"),
    ]


def test_a_book_that_turns_out_to_have_been_wrong_is_taken_back():
    teller = begun()
    told = teller.hear([valid(0)], heard_at=at(0), at=at(0))
    told += teller.tell(at(100), at(100))
    told += teller.hear([invalid(40), valid(101)], heard_at=at(100), at=at(101))
    assert seconds_of(told) == [(0, 40, "complete"), (40, 95, "degraded"), (95, 101, "missing")]


def test_the_end_says_what_was_never_received():
    teller = begun()
    assert seconds_of(teller.end(at(30))) == [(0, 30, "missing")]


def test_what_a_killed_recorder_knew_is_found_in_its_spool():
    teller = begun()
    teller.hear([valid(2)], heard_at=at(1), at=at(2))
    page = Page(feed="stream_kraken", subject="s", request={"url": ""}, received_at=at(9), body=b"{}\nx")
    memo = orjson.dumps(write_memo({"s": (teller, at(2))}))
    ((found, heard_at),) = last_known(Found(memo=memo, records=(write_entry(page),))).values()
    assert heard_at == at(9)
    assert found.plain() == teller.plain() == teller_from(teller.plain()).plain()
    told = [*found.lose(heard_at=heard_at, at=at(20), reason="killed"), *found.end(at(20))]
    assert seconds_of(told) == [(2, 4, "complete"), (4, 9, "degraded"), (9, 20, "missing")]


@pytest.mark.parametrize("window", [None, Window(at(1), at(2))])
def test_a_page_comes_out_of_the_spool_as_it_went_in(window):
    page = Page(
        feed="stream_kraken",
        subject="s",
        request={"url": "wss://x", "number": 3},
        received_at=at(1.5),
        body="zwei\nZeilen \u2028 \x00".encode(),
        window=window,
        connection_id="c",
        sequence=3,
    )
    told = begun().end(at(1))
    entry = read_entry(write_entry(page, told))
    assert entry.page == page
    assert entry.page.page_id == page.page_id
    assert list(entry.told) == told


def test_claims_that_adjoin_are_one():
    teller = begun()
    told = teller.hear([valid(0)], heard_at=at(0), at=at(0))
    for second in (20, 40, 60):
        told += teller.tell(at(second), at(second))
    (one,) = joined(told)
    assert one.claim.window == Window(at(0), at(55))
    assert from_plain(plain(one)) == one
