"""What promotion promises: bad rows stay out, nothing is lost, nothing is published twice."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from expectations.gate import Gate
from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.contract import Column, Table
from lakehouse.errors import MnemoError
from lakehouse.fields import EVENT_AT, PROVENANCE
from lakehouse.ops import QUARANTINE, VERDICTS
from lakehouse.promotion import promote_pages
from lakehouse.publish import BLOCKED, UNREADABLE
from lakehouse.quarantine import held_rows, release
from lakehouse.store import CommitConflict, StoredTable
from lakehouse.verdict import Batch, Finding, Verdict

DAY = datetime(2024, 1, 1, tzinfo=UTC)
NAME = Column(name="name", dtype=pl.String(), doc="Name.")
PRICE = Column(name="price", dtype=pl.Float64(), above=0, doc="Price.")
FACTS = Table(
    name="silver.facts",
    doc="Immutable facts.",
    columns=(NAME, EVENT_AT, *PROVENANCE, PRICE),
    key=("name",),
    subject=("name",),
    owner="tests",
)
VERSIONS = Table(
    name="silver.versions",
    doc="Facts that are revised.",
    columns=FACTS.columns,
    key=("name", "event_at", "known_at"),
    subject=("name",),
    owner="tests",
)
SOURCE = bronze_table("test_prices")


class Unreadable(MnemoError):
    pass


def parse(pages: pl.DataFrame) -> pl.LazyFrame:
    rows = []
    for page in pages.iter_rows(named=True):
        try:
            said = json.loads(page["body"])
        except ValueError:
            raise Unreadable(f"page {page['page_id']} is not JSON") from None
        clocks = {"event_at": DAY, "known_at": DAY, "ingested_at": page["received_at"]}
        rows += [
            {"name": name, **clocks, "page_id": page["page_id"], "provider": "test", "price": price}
            for name, price in said.items()
        ]
    schema = dict(FACTS.schema) | {"price": pl.String()}
    return pl.DataFrame(rows, schema=schema, orient="row").lazy()


def judge(batch: Batch) -> Verdict:
    """Half the rows may be bad."""
    bad = batch.frame.filter(pl.col("reasons").list.len() > 0).height
    finding = Finding(
        expectation="mostly_good",
        column="",
        severity="critical",
        passed=bad * 2 <= batch.frame.height,
        unexpected=bad,
        meaning="most rows keep the rules",
    )
    counts = batch.frame.explode("reasons")["reasons"].drop_nulls().value_counts()
    return Verdict(batch=batch, findings=(finding,), reasons=dict(counts.iter_rows()))


def deliver(store, body: str | dict, *, minute: int = 0, subject: str = "s") -> int:
    text = body if isinstance(body, str) else json.dumps(body)
    page = Page(
        feed="test_prices",
        subject=subject,
        request={"method": "GET", "url": f"https://example.org/{minute}"},
        received_at=DAY + timedelta(days=1, minutes=minute),
        body=text.encode(),
    )
    store.open(SOURCE).append(pages_frame([page], run_id="r", code_version="0"), positions={}, said={})
    return page.page_id


def promote(store, run, table=FACTS):
    return promote_pages(store, table, SOURCE, parse, judge=judge, run=run, parse_error=Unreadable)


def rows(store, table=FACTS, *columns) -> list[tuple]:
    shown = columns or ("name", "price")
    return sorted(store.open(table).scan().select(shown).collect().rows())


def held(store) -> list[tuple]:
    return [(row["reasons"], row["status"]) for row in held_rows(store).iter_rows(named=True)]


def test_good_rows_are_published_and_bad_ones_kept_with_reason_and_page(store, run):
    page_id = deliver(store, {"a": "1", "b": "2.5", "c": "-3"})

    (outcome,) = promote(store, run)

    assert rows(store) == [("a", 1.0), ("b", 2.5)]
    (kept,) = held_rows(store).iter_rows(named=True)
    assert kept["page_id"] == page_id
    assert kept["reasons"] == ["price_too_low"]
    assert kept["explanation"] == "price is not above 0"
    assert json.loads(kept["row"])["name"] == "c"
    assert (outcome.level, outcome.published_rows, outcome.quarantined_rows) == ("warning", 2, 1)


def test_a_page_nobody_can_read_is_kept_and_the_others_go_on(store, run):
    deliver(store, {"a": "1"})
    deliver(store, "<html>busy</html>", minute=1)
    deliver(store, {"b": "2"}, minute=2)

    promote(store, run)

    assert rows(store) == [("a", 1.0), ("b", 2.0)]
    assert held(store) == [([UNREADABLE], "held")]


def test_a_batch_that_fails_its_gate_is_held_back_whole(store, run):
    deliver(store, {"a": "1", "b": "-2", "c": "x"})

    (outcome,) = promote(store, run)

    assert outcome.level == "blocked"
    assert rows(store) == []
    assert sorted(held(store)) == [
        ([BLOCKED], "held"),
        (["price_not_a_number", BLOCKED], "held"),
        (["price_too_low", BLOCKED], "held"),
    ]


def test_promoting_again_publishes_nothing_twice(store, run):
    deliver(store, {"a": "1", "b": "-1", "c": "2"})
    promote(store, run)

    assert promote(store, run) == []
    deliver(store, {"a": "1", "d": "4"}, minute=1)
    promote(store, run)

    assert rows(store) == [("a", 1.0), ("c", 2.0), ("d", 4.0)]
    assert len(held(store)) == 1
    assert store.open(VERDICTS).scan().collect().height == 2


def test_an_immutable_fact_that_is_told_differently_is_kept_apart(store, run):
    deliver(store, {"a": "1"})
    promote(store, run)
    deliver(store, {"a": "2", "b": "1"}, minute=1)
    promote(store, run)

    assert rows(store) == [("a", 1.0), ("b", 1.0)]
    assert held(store) == [(["contradicts_published"], "held")]


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "a batch each"])
def test_a_revision_is_a_new_row_known_when_it_was_received(store, run, together):
    for minute, price in enumerate(["1", "1", "2", "2", "1"]):
        deliver(store, {"a": price}, minute=minute)
        if not together:
            promote(store, run, VERSIONS)
    promote(store, run, VERSIONS)

    received = DAY + timedelta(days=1)
    assert rows(store, VERSIONS, "known_at", "price") == [
        (DAY, 1.0),
        (received + timedelta(minutes=2), 2.0),
        (received + timedelta(minutes=4), 1.0),
    ]


STEPS = ("verdict", "quarantine", "rows")


@pytest.mark.parametrize("killed_after", STEPS)
def test_a_run_killed_between_any_two_commits_is_finished_by_the_next(store, run, monkeypatch, killed_after):
    """The kill is real to the store: the commits after it never happen. More input comes in before the restart."""
    deliver(store, {"a": "1", "b": "-1", "c": "3"})
    allowed = STEPS.index(killed_after) + 1
    commits = []
    append = type(store.open(FACTS)).append

    def dying(self, *args, **kwargs):
        if len(commits) == allowed:
            raise KeyboardInterrupt
        commits.append(self.contract.name)
        return append(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(type(store.open(FACTS)), "append", dying)
        if killed_after == "rows":
            promote(store, run)
        else:
            with pytest.raises(KeyboardInterrupt):
                promote(store, run)
    deliver(store, {"d": "4"}, minute=1)
    promote(store, run)

    assert rows(store) == [("a", 1.0), ("c", 3.0), ("d", 4.0)]
    assert held(store) == [(["price_too_low"], "held")]
    judged = store.open(VERDICTS).scan().select("rows", "published_rows").collect().rows()
    assert sorted(judged) == [(1, 1), (3, 2)]


def test_of_two_promotions_at_once_the_later_conflicts_instead_of_overwriting(store, run):
    deliver(store, {"a": "1"})
    promote(store, run)
    first, second = store.open(FACTS), store.open(FACTS)
    none = first.scan().collect().clear()
    serial = first.position("mnemo.promotion") + 1
    first.append(none, positions={"mnemo.promotion": serial}, said={})

    with pytest.raises(CommitConflict):
        second.append(none, positions={"mnemo.promotion": serial}, said={})


def test_released_rows_are_those_that_pass_the_rules_of_today(store, run):
    deliver(store, {"a": "1", "b": "-1", "c": "0", "d": "4"})
    promote(store, run)
    outcome = release(
        store,
        milder_facts(),
        held_rows(store),
        source=SOURCE,
        parse=parse,
        judge=judge,
        run=run,
        parse_error=Unreadable,
    )

    assert outcome.published_rows == 1
    assert rows(store) == [("a", 1.0), ("c", 0.0), ("d", 4.0)]
    states = {json.loads(row["row"])["name"]: row["status"] for row in held_rows(store).iter_rows(named=True)}
    assert states == {"b": "held", "c": "released"}


def test_every_verdict_and_quarantined_row_names_its_batch_and_inputs(store, run):
    deliver(store, {"a": "1", "b": "2", "c": "-1"})
    promote(store, run)

    verdict = store.open(VERDICTS).scan().collect().row(0, named=True)
    kept = store.open(QUARANTINE).scan().collect().row(0, named=True)
    assert verdict["batch_id"] == kept["batch_id"]
    assert verdict["inputs"] == kept["inputs"] == [SOURCE.name]
    assert json.loads(verdict["reasons"]) == {"price_too_low": 1}


def milder_facts() -> Table:
    """FACTS after its rule was mended: a price may be zero."""
    return replace(FACTS, columns=(*FACTS.columns[:-1], PRICE.but(above=None, lower=0)))


def release_all(store, run, table: Table, parser=parse):
    held_now = held_rows(store).filter(pl.col("status") == "held")
    return release(
        store, table, held_now, source=SOURCE, parse=parser, judge=judge, run=run, parse_error=Unreadable
    )


def test_bad_rows_that_come_again_with_each_full_history_neither_block_it_nor_pile_up(store, run):
    history = {f"good{n}": "1" for n in range(30)} | {f"bad{n}": "-1" for n in range(4)}
    gate = Gate(None).judge
    for day in range(4):
        deliver(store, history | {f"new{n}": "2" for n in range(day)}, minute=day)
        promote_pages(
            store, replace(FACTS, tolerance=0.2), SOURCE, parse, judge=gate, run=run, parse_error=Unreadable
        )

    assert len(rows(store)) == 33
    assert len(held(store)) == 4


def test_a_row_judged_bad_only_by_the_attempt_after_a_kill_is_kept(store, run, monkeypatch):
    deliver(store, {"a": "1", "b": "-1", "c": "0.5", "d": "3"})
    with monkeypatch.context() as patched:
        append = StoredTable.append

        def dying(self, *args, **kwargs):
            if self.contract.name == FACTS.name:
                raise KeyboardInterrupt
            return append(self, *args, **kwargs)

        patched.setattr(StoredTable, "append", dying)
        with pytest.raises(KeyboardInterrupt):
            promote(store, run)
    stricter = replace(FACTS, columns=(*FACTS.columns[:-1], PRICE.but(above=None, lower=1)))

    promote(store, run, stricter)

    kept = sorted(json.loads(row["row"])["name"] for row in held_rows(store).iter_rows(named=True))
    assert [name for name, _ in rows(store)] == ["a", "d"]
    assert set(kept) == {"b", "c"}


def test_a_page_that_can_be_read_at_last_loses_none_of_its_rows(store, run):
    deliver(store, {"a": "1", "b": "-1", "c": "-2"})

    def refuses(pages):
        if pages.height:
            raise Unreadable("not yet")
        return parse(pages)

    promote_pages(store, FACTS, SOURCE, refuses, judge=judge, run=run, parse_error=Unreadable)
    assert held(store) == [([UNREADABLE], "held")]

    release_all(store, run, FACTS)

    assert rows(store) == [("a", 1.0)]
    assert sorted(held(store)) == [
        (["price_too_low"], "held"),
        (["price_too_low"], "held"),
        ([UNREADABLE], "released"),
    ]


def test_a_release_killed_before_it_noted_what_it_published_is_noted_by_the_next(store, run, monkeypatch):
    deliver(store, {"a": "1", "b": "0", "c": "2"})
    promote(store, run)
    with monkeypatch.context() as patched:
        patched.setattr(
            "lakehouse.quarantine.mark_released", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            release_all(store, run, milder_facts())

    assert release_all(store, run, milder_facts()) is None
    assert rows(store) == [("a", 1.0), ("b", 0.0), ("c", 2.0)]
    assert held(store) == [(["price_too_low"], "released")]


def test_an_error_that_a_parser_did_not_foresee_holds_up_only_its_page(store, run):
    deliver(store, {"a": "1"})
    deliver(store, [1, 2, 3], minute=1)

    promote(store, run)

    assert rows(store) == [("a", 1.0)]
    (kept,) = held_rows(store).iter_rows(named=True)
    assert kept["explanation"].startswith("AttributeError")
