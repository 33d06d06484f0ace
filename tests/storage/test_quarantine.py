"""The way out of quarantine, on a real store and by real gates: corrected, released, given up under a name, or aged."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from expectations.gate import Gate
from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.contract import Column, Table
from lakehouse.errors import MnemoError, UsageError
from lakehouse.fields import EVENT_AT, PROVENANCE
from lakehouse.ops import VERDICTS
from lakehouse.promotion import promote_pages
from lakehouse.publish import BLOCKED
from lakehouse.quarantine import aged, discard, held_rows, reasons_of, release
from lakehouse.rebuild import rebuild_pages

DAY = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = 1000
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
VERSIONS = replace(FACTS, name="silver.versions", key=("name", "event_at", "known_at"))
MILDER = (*FACTS.columns[:-1], PRICE.but(above=None, lower=-10))
SOURCE = bronze_table("test_prices")
GOOD = {f"n{number:04}": number + 1 for number in range(ROWS)}
WHAT_IS_SAID = ("name", "event_at", "known_at", "price")


class Unreadable(MnemoError):
    pass


def parse(pages: pl.DataFrame) -> pl.LazyFrame:
    rows = []
    for page in pages.iter_rows(named=True):
        if page["body"].startswith(b"<"):
            raise Unreadable(f"page {page['page_id']} is not JSON")
        clocks = {"event_at": DAY, "known_at": DAY, "ingested_at": page["received_at"]}
        rows += [
            {"name": name, **clocks, "page_id": page["page_id"], "provider": "test", "price": str(price)}
            for name, price in json.loads(page["body"]).items()
        ]
    schema = dict(FACTS.schema) | {"price": pl.String()}
    return pl.DataFrame(rows, schema=schema, orient="row").lazy()


def deliver(store, said, *, minute=0):
    page = Page(
        feed="test_prices",
        subject="s",
        request={"method": "GET", "url": f"https://example.org/{minute}"},
        received_at=DAY + timedelta(days=1, minutes=minute),
        body=said if isinstance(said, bytes) else json.dumps(said).encode(),
    )
    store.open(SOURCE).append(pages_frame([page], run_id="r", code_version="0"), positions={}, said={})


def promote(store, run, table=FACTS):
    judge = Gate(None).judge
    return promote_pages(store, table, SOURCE, parse, judge=judge, run=run, parse_error=Unreadable)


def release_all(store, run, table=FACTS, *, status="held"):
    held = held_rows(store).filter(pl.col("status") == status)
    batches = held.partition_by("batch_id", maintain_order=True)
    how = {"judge": Gate(None).judge, "run": run, "parse_error": Unreadable}
    return [release(store, table, one, source=SOURCE, parse=parse, **how) for one in batches]


def rows(store, table=FACTS, columns=WHAT_IS_SAID):
    return sorted(store.open(table).scan().select(columns).collect().rows())


def states(store):
    return dict(held_rows(store)["status"].value_counts().iter_rows())


def with_bad(share: float) -> dict[str, float]:
    """The good rows, of which some have a price below zero."""
    return GOOD | {name: -1 - GOOD[name] % 9 for name in list(GOOD)[: int(share * ROWS)]}


CLEAN = [(name, DAY, DAY, float(price)) for name, price in GOOD.items()]
FEW, MANY = 0.002, 0.3


@pytest.mark.parametrize(
    ("share", "level", "published"), [(FEW, "warning", 998), (MANY, "blocked", 0)], ids=["few", "many"]
)
def test_few_bad_rows_stay_out_by_themselves_and_many_hold_the_whole_batch(
    store, run, share, level, published
):
    deliver(store, with_bad(share))
    (outcome,) = promote(store, run)

    assert (outcome.level, outcome.published_rows) == (level, published)
    assert len(rows(store)) == published
    assert states(store) == {"held": ROWS - published}
    assert store.open(VERDICTS).scan().collect()["level"].to_list() == [level]


@pytest.mark.parametrize("table", [FACTS, VERSIONS], ids=["immutable", "with versions"])
@pytest.mark.parametrize("share", [FEW, MANY], ids=["few", "many"])
def test_after_the_provider_corrects_itself_nothing_is_held_and_silver_is_the_clean_image(
    store, run, table, share
):
    deliver(store, with_bad(share))
    promote(store, run, table)
    deliver(store, GOOD, minute=1)
    promote(store, run, table)
    release_all(store, run, table)

    assert rows(store, table) == CLEAN
    assert states(store).keys() == {"released"}


@pytest.mark.parametrize("share", [FEW, MANY], ids=["few", "many"])
def test_after_a_rule_is_mended_what_was_held_is_published_as_if_it_had_never_been_held(store, run, share):
    mended = replace(FACTS, columns=MILDER)
    never_held = replace(mended, name="silver.never_held")
    deliver(store, with_bad(share))
    promote(store, run)
    release_all(store, run, mended)
    promote(store, run, never_held)

    assert rows(store, mended, FACTS.schema.names()) == rows(store, never_held, FACTS.schema.names())
    assert len(rows(store)) == ROWS
    assert states(store).keys() == {"released"}


def test_what_the_provider_has_not_corrected_stays_held_once(store, run):
    deliver(store, with_bad(MANY))
    promote(store, run)
    release_all(store, run)
    release_all(store, run)

    assert len(rows(store)) == 0.7 * ROWS
    assert states(store) == {"held": 0.3 * ROWS, "released": 0.7 * ROWS}


def test_a_contradiction_is_not_taken_for_a_correction(store, run):
    deliver(store, {"a": 1})
    promote(store, run)
    deliver(store, {"a": 2}, minute=1)
    promote(store, run)
    deliver(store, {"a": 1, "b": 1}, minute=2)
    promote(store, run)
    release_all(store, run)

    assert [(name, price) for name, _, _, price in rows(store)] == [("a", 1.0), ("b", 1.0)]
    assert states(store) == {"held": 1}


def test_a_version_told_before_the_held_one_is_not_its_correction(store, run):
    deliver(store, {"a": 1})
    deliver(store, {"a": -1}, minute=1)
    promote(store, run, VERSIONS)
    release_all(store, run, VERSIONS)

    assert states(store) == {"held": 1}


@pytest.mark.parametrize(("by", "why"), [("", "wrong"), ("Ada", " ")])
def test_nothing_is_discarded_without_a_name_and_a_why(store, run, by, why):
    deliver(store, {"a": 1, "b": -1})
    promote(store, run)
    with pytest.raises(UsageError, match="name"):
        discard(store, held_rows(store), by=by, why=why, at=DAY)

    assert states(store) == {"held": 1}


def test_what_is_discarded_stays_with_who_and_why_and_does_not_come_again(store, run):
    deliver(store, {"a": 1, "b": -1})
    promote(store, run)
    why = "the venue's test server; it's no market"
    assert discard(store, held_rows(store), by="Ada", why=why, at=DAY) == 1
    deliver(store, {"a": 1, "b": -1, "c": 1}, minute=1)
    promote(store, run)

    (kept,) = held_rows(store).iter_rows(named=True)
    assert (kept["status"], kept["discarded_by"], kept["discarded_why"]) == ("discarded", "Ada", why)
    assert kept["discarded_at"] == DAY
    assert json.loads(kept["row"])["name"] == "b"


def test_what_was_discarded_can_be_released_after_all(store, run):
    deliver(store, {"a": 1, "b": -1})
    promote(store, run)
    discard(store, held_rows(store), by="Ada", why="wrong", at=DAY)
    release_all(store, run, replace(FACTS, columns=MILDER), status="discarded")

    assert [name for name, *_ in rows(store)] == ["a", "b"]
    (kept,) = held_rows(store).iter_rows(named=True)
    assert (kept["status"], kept["discarded_by"]) == ("released", "Ada")


def test_a_rebuild_leaves_out_a_blocked_batch_that_was_discarded(store, run):
    deliver(store, with_bad(MANY))
    promote(store, run)
    discard(store, held_rows(store), by="Ada", why="another market", at=DAY)
    deliver(store, {"z": 1}, minute=1)
    promote(store, run)
    rebuild_pages(
        store, FACTS, [(SOURCE, parse)], judge=Gate(None).judge, run=run, parse_error=Unreadable, streaming={}
    )

    assert [name for name, *_ in rows(store)] == ["z"]
    assert states(store) == {"discarded": ROWS}


def test_reasons_are_counted_over_all_batches(store, run):
    deliver(store, {"a": 1, "b": -1})
    promote(store, run)
    deliver(store, {"c": 1, "d": -1, "e": "x"}, minute=1)
    promote(store, run)

    counted = reasons_of(held_rows(store)).select("table", "reason", "rows", "batches").rows()
    assert counted == [
        ("silver.facts", BLOCKED, 3, 1),
        ("silver.facts", "price_too_low", 2, 2),
        ("silver.facts", "price_not_a_number", 1, 1),
    ]


def test_batches_that_wait_too_long_are_told_with_their_reasons_the_oldest_first(store, run):
    deliver(store, {"a": 1, "b": -1})
    promote(store, run)
    deliver(store, b"<html>", minute=1)
    promote(store, run)
    first, second = held_rows(store)["quarantined_at"].to_list()
    now = second + timedelta(days=3)

    old = aged(store, now, timedelta(days=2))
    shown = old.select("table", "rows", "quarantined_at", "reasons", "owner").rows()
    assert shown == [
        ("silver.facts", 1, first, ["price_too_low"], ""),
        ("silver.facts", 1, second, ["unreadable_page"], ""),
    ]
    assert old["age"].to_list() == [now - first, now - second]
    discard(store, held_rows(store, batch=old["batch_id"][0]), by="Ada", why="wrong", at=now)
    assert aged(store, now, timedelta(days=2))["batch_id"].to_list() == [old["batch_id"][1]]
    assert aged(store, now, timedelta(days=4)).is_empty()


def test_an_empty_quarantine_has_nothing_aged(store):
    assert aged(store, DAY, timedelta(0)).is_empty()


@pytest.fixture
def mnemo(settings, tmp_path):
    """Run `mnemo quarantine` on the lake of the test; exit code and standard output."""
    environment = {
        **os.environ,
        "MNEMO_HOME": str(tmp_path),
        "MNEMO_LAKE": settings.lake,
        "MNEMO_S3_ENDPOINT": settings.s3_endpoint,
        "MNEMO_S3_ACCESS_KEY": settings.s3_access_key,
        "MNEMO_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
    }

    def call(*arguments):
        command = [Path(sys.executable).with_name("mnemo"), "quarantine", *arguments]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout

    return call


def test_by_hand_a_batch_is_listed_discarded_and_then_shown_only_on_request(store, run, mnemo):
    deliver(store, {"a": 1, "b": -1})
    promote(store, run)
    (batch,) = json.loads(mnemo("list", "--json")[1])
    assert (batch["rows"], batch["held"], batch["status"]) == (1, 1, "held")
    assert batch["reasons"] == {"price_too_low": 1}
    assert batch["age_days"] > 0

    assert mnemo("discard", batch["batch_id"], "--by", "Ada", "--why", " ")[0] == 2
    code, out = mnemo("discard", batch["batch_id"][:6], "--by", "Ada", "--why", "wrong", "--json")
    assert (code, json.loads(out)[0]["discarded"]) == (0, 1)

    assert json.loads(mnemo("list", "--json")[1]) == []
    assert [one["status"] for one in json.loads(mnemo("list", "--all", "--json")[1])] == ["discarded"]
    assert json.loads(mnemo("list", "--reasons", "--json")[1]) == []
    (shown,) = json.loads(mnemo("show", batch["batch_id"], "--json")[1])
    assert (shown["discarded_by"], shown["discarded_why"]) == ("Ada", "wrong")
