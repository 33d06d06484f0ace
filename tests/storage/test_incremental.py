"""Incremental work: gold made piece by piece is gold made whole, and a rebuild makes what promotions made."""

import json
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse import catalog, promotion
from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.contract import Column, Table
from lakehouse.errors import MnemoError, UsageError
from lakehouse.fields import EVENT_AT, PROVENANCE
from lakehouse.gold import candles, macro_panel, volatility
from lakehouse.promotion import promote_model, promote_pages
from lakehouse.quarantine import held_rows
from lakehouse.rebuild import rebuild_model, rebuild_pages
from lakehouse.silver import candles as silver_candles
from lakehouse.store import open_store
from lakehouse.verdict import Batch, Finding, Verdict

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
START = datetime(2024, 1, 1, tzinfo=UTC)
LONG_AGO, FOREVER = START - 4000 * DAY, START + 4000 * DAY
MODELS = (candles.MODEL, volatility.MODEL, macro_panel.MODEL)


@pytest.fixture
def store(settings, tmp_path):
    """A lake in a folder: many small commits are quicker there."""
    return open_store(settings.model_copy(update={"lake": str(tmp_path / "lake")}))


def pass_all(batch: Batch) -> Verdict:
    return Verdict(batch=batch, findings=(), reasons={})


def block(batch: Batch) -> Verdict:
    finding = Finding(
        expectation="never",
        column="",
        severity="critical",
        passed=False,
        unexpected=1,
        meaning="nothing passes",
    )
    return Verdict(batch=batch, findings=(finding,), reasons={})


def deliver(store, table: str, rows: list[dict], *, at: datetime) -> None:
    """Append rows of silver as if they had been received at that moment."""
    contract = catalog.table(table)
    names = contract.schema.names()
    filled = {"page_id": 1, "provider": "fred", "ingested_at": at, "known_at_basis": "published"}
    frame = pl.DataFrame(
        [{name: (filled | row).get(name) for name in names} for row in rows],
        schema=contract.schema,
        orient="row",
    )
    derived = {column.name: column.derived for column in contract.columns if column.derived is not None}
    store.open(contract).append(frame.with_columns(**derived), positions={}, said={})


def bar(rng, instrument: str, open_at: datetime, length: timedelta, interval: str) -> dict:
    first, last = rng.randint(90, 110), rng.randint(90, 110)
    return {
        "venue": "kraken",
        "instrument_id": instrument,
        "interval": interval,
        "open_at": open_at,
        "event_at": open_at + length,
        "known_at": open_at + length,
        "open": first,
        "close": last,
        "high": max(first, last) + 1,
        "low": min(first, last) - 1,
        "volume": 1.5,
        "volume_unit": "base",
    }


def trade(rng, instrument: str, number: int, at: datetime) -> dict:
    said = {"price": rng.randint(90, 110), "amount": rng.randint(1, 9), "amount_unit": "base", "side": "buy"}
    where = {"venue": "kraken", "instrument_id": instrument, "trade_id": str(number)}
    return where | said | {"event_at": at, "known_at": at}


def observation(rng, series: str, month: int, known_at: datetime) -> dict:
    start = datetime(2022 + month // 12, month % 12 + 1, 1, tzinfo=UTC)
    return {
        "series_id": series,
        "period_start": start.date(),
        "event_at": start + 31 * DAY,
        "known_at": known_at,
        "value": rng.randint(90, 110),
        "unit": "USD",
        "unit_multiplier": 0,
    }


def deliveries(rng: random.Random) -> dict[str, list[dict]]:
    """What is delivered in the end, of two instruments and two series, in the order of time."""
    both = ("BTC/USD", "ETH/USD")
    bars = [bar(rng, one, START + HOUR * n, HOUR, "1h") for n in range(90) for one in both]
    daily = [bar(rng, one, START - DAY * n, DAY, "1d") for n in range(40) for one in both]
    ticks = [trade(rng, one, n, START + 20 * MINUTE + MINUTE * n) for n in range(400) for one in both]
    figures = [
        observation(rng, series, month, START + DAY * (month - 30 + rng.choice([0, 0, 400])))
        for month in range(24)
        for series in ("GDP", "CPI")
    ]
    return {"silver.candles": daily + bars, "silver.trades": ticks, "silver.observations": figures}


def in_batches(rng: random.Random, rows: list[dict], count: int, *, late: float) -> list[list[dict]]:
    """Rows cut in order; some come in another batch than their own, some bars are delivered again, restated."""
    batches = [[] for _ in range(count)]
    for number, row in enumerate(rows):
        own = number * count // len(rows)
        at = rng.randrange(count) if rng.random() < late else own
        batches[at].append(row)
        if "high" in row and rng.random() < late / 2 and at + 1 < count:
            received = START + 200 * DAY + DAY * (at + 1)
            batches[at + 1].append(row | {"high": row["high"] + 5, "known_at": received})
    return batches


def deliver_until(store, rows: dict[str, list[dict]], begin: datetime, end: datetime) -> None:
    """What became known in between, received when all of it was known."""
    for table, all_rows in rows.items():
        known = [row for row in all_rows if begin <= row["known_at"] < end]
        if known:
            deliver(store, table, known, at=max(row["known_at"] for row in known))


def promote_all(store, run) -> None:
    for model in MODELS:
        promote_model(store, model, judge=pass_all, run=run)


def contents(store, table: Table) -> pl.DataFrame:
    return store.open(table).scan().collect().sort(table.key)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_gold_made_from_each_batch_equals_gold_made_whole_at_each_batch(
    settings, tmp_path, run, monkeypatch, seed
):
    """Late and restated rows included."""
    rng = random.Random(seed)
    pieces = {
        table: in_batches(rng, rows, 4, late=0.05) for table, rows in deliveries(random.Random(seed)).items()
    }
    lakes = [
        open_store(settings.model_copy(update={"lake": str(tmp_path / name)})) for name in ("pieces", "whole")
    ]
    for number in range(4):
        for store in lakes:
            for table, batches in pieces.items():
                deliver(store, table, batches[number], at=START + 200 * DAY + DAY * number)
        promote_all(lakes[0], run)
        with monkeypatch.context() as patched:
            patched.setattr(promotion, "dirtied", lambda *_: None)
            promote_all(lakes[1], run)

    for model in MODELS:
        assert contents(lakes[0], model.table).height > 20
        assert_frame_equal(contents(lakes[0], model.table), contents(lakes[1], model.table), check_exact=True)


@pytest.mark.parametrize("seed", range(2))
def test_input_that_comes_in_order_gives_the_same_gold_however_it_is_cut(settings, tmp_path, run, seed):
    found = []
    for ends in ([FOREVER], [START - 20 * DAY, START + 3 * HOUR, START + 30 * HOUR, FOREVER]):
        store = open_store(settings.model_copy(update={"lake": str(tmp_path / str(len(ends)))}))
        for number, end in enumerate(ends):
            deliver_until(
                store, deliveries(random.Random(seed)), ends[number - 1] if number else LONG_AGO, end
            )
            promote_all(store, run)
        found.append([contents(store, model.table).drop("ingested_at") for model in MODELS])

    for once, in_pieces in zip(*found, strict=True):
        assert_frame_equal(once, in_pieces, check_exact=True)


@pytest.mark.parametrize("rows_at_once", [1, 300])
def test_what_is_too_much_at_once_is_built_by_stretches_of_time_and_comes_out_the_same(
    settings, tmp_path, run, monkeypatch, rows_at_once
):
    found, turns = [], []
    for size in (20_000_000, rows_at_once):
        monkeypatch.setattr(promotion, "_ROWS_AT_ONCE", size)
        monkeypatch.setattr(
            promotion, "_build", lambda *said, go=promotion._build: turns.append(said[2]) or go(*said)
        )
        store = open_store(settings.model_copy(update={"lake": str(tmp_path / str(size))}))
        deliver_until(store, deliveries(random.Random(3)), LONG_AGO, FOREVER)
        promote_all(store, run)
        found.append([contents(store, model.table) for model in MODELS])
        monkeypatch.undo()

    assert len(turns) > len(MODELS) * 2
    for at_once, in_turns in zip(*found, strict=True):
        assert_frame_equal(at_once, in_turns, check_exact=True)


def test_what_has_no_news_is_neither_read_nor_written(store, run):
    rng = random.Random(0)
    for one in ("BTC/USD", "ETH/USD"):
        rows = [bar(rng, one, START + HOUR * n, HOUR, "1h") for n in range(24 * 40)]
        deliver(store, "silver.candles", rows, at=START + 50 * DAY)
    promote_model(store, candles.MODEL, judge=pass_all, run=run)
    before = contents(store, candles.TABLE)
    news = [bar(rng, "BTC/USD", START + 39 * DAY + 24 * HOUR, HOUR, "1h")]
    deliver(store, "silver.candles", news, at=START + 51 * DAY)
    read = []

    def build(inputs):
        read.append(inputs["silver.candles"].collect())
        return candles.build(inputs)

    judged = []

    def judge(batch: Batch) -> Verdict:
        judged.append(batch.frame)
        return pass_all(batch)

    promote_model(store, replace(candles.MODEL, build=build), judge=judge, run=run)

    assert read[0]["instrument_id"].unique().to_list() == ["BTC/USD"]
    assert read[0]["event_at"].min() >= START + 37 * DAY
    assert read[0].height < 24 * 4
    assert judged[0]["instrument_id"].unique().to_list() == ["BTC/USD"]
    after = contents(store, candles.TABLE)
    added = after.join(before, on=candles.TABLE.key, how="anti")
    assert added.select("instrument_id", "interval").unique().rows() == [("BTC/USD", "1h")]
    assert (
        store.open(candles.TABLE).files().filter(pl.col("num_records") > 0)["num_records"].sum()
        == after.height
    )


def test_where_the_change_feed_is_gone_gold_is_made_whole(store, run):
    rng = random.Random(0)
    rows = [bar(rng, "BTC/USD", START + HOUR * n, HOUR, "1h") for n in range(48)]
    deliver(store, "silver.candles", rows[:24], at=START + 5 * DAY)
    promote_model(store, candles.MODEL, judge=pass_all, run=run)
    for row in rows[24:]:
        deliver(store, "silver.candles", [row], at=START + 5 * DAY)
    stored = store.open(silver_candles.TABLE)
    stored.compact(target_bytes=2**20)
    stored.vacuum(timedelta(0))

    promote_model(store, candles.MODEL, judge=pass_all, run=run)

    assert store.open(silver_candles.TABLE).news(1, stored.version) is None
    hours = contents(store, candles.TABLE).filter(pl.col("interval") == "1h")
    assert hours["open_at"].to_list() == [START + HOUR * n for n in range(48)]


def test_what_a_blocked_batch_left_out_is_made_by_the_next(store, run):
    rng = random.Random(0)
    rows = [bar(rng, "BTC/USD", START + HOUR * n, HOUR, "1h") for n in range(24 * 9)]
    for number, judge in enumerate((pass_all, block, pass_all)):
        delivered = rows[number * 24 * 4 :][: 24 * (4, 4, 1)[number]]
        deliver(store, "silver.candles", delivered, at=START + 20 * DAY)
        promote_model(store, candles.MODEL, judge=judge, run=run)

    hours = contents(store, candles.TABLE).filter(pl.col("interval") == "1h")
    assert hours["open_at"].to_list() == [row["open_at"] for row in rows]


def test_an_input_that_was_rebuilt_to_the_same_rows_is_no_news(store, run):
    rng = random.Random(0)
    deliver(store, "silver.candles", [bar(rng, "BTC/USD", START, HOUR, "1h")], at=START + DAY)
    stored = store.open(silver_candles.TABLE)
    rows = stored.scan().collect()
    stored.replace(rows, positions={}, said={})
    stored.replace(
        pl.concat([rows, rows.with_columns(known_at=pl.col("known_at") + HOUR)]), positions={}, said={}
    )

    assert stored.news(1, 2).is_empty()
    assert stored.news(2, 3)["known_at"].to_list() == [START + 2 * HOUR]
    assert stored.news(0, 3).height == 2


# Rebuilding silver.

NAME = Column(name="name", dtype=pl.String(), doc="Name.")
PRICE = Column(name="price", dtype=pl.Float64(), above=0, doc="Price.")
FACTS = Table(
    name="silver.facts",
    doc="Prices that are revised.",
    columns=(NAME, EVENT_AT, *PROVENANCE, PRICE),
    key=("name", "event_at", "known_at"),
    subject=("name",),
    owner="tests",
)
MILDER = replace(FACTS, columns=(*FACTS.columns[:-1], PRICE.but(above=None)))
PAGES = bronze_table("test_prices")


class Unreadable(MnemoError):
    pass


def parse(pages: pl.DataFrame) -> pl.LazyFrame:
    rows = []
    for page in pages.iter_rows(named=True):
        try:
            said = json.loads(page["body"])
        except ValueError:
            raise Unreadable(f"page {page['page_id']} is not JSON") from None
        clocks = {"event_at": START, "known_at": START, "ingested_at": page["received_at"]}
        told = {"page_id": page["page_id"], "provider": "test"}
        rows += [{"name": name, "price": price, **clocks, **told} for name, price in said.items()]
    return pl.DataFrame(rows, schema=dict(FACTS.schema) | {"price": pl.String()}, orient="row").lazy()


def judge_half(batch: Batch) -> Verdict:
    bad = batch.frame.filter(pl.col("reasons").list.len() > 0).height
    passed = bad * 2 <= batch.frame.height
    finding = Finding(
        expectation="mostly_good",
        column="",
        severity="critical",
        passed=passed,
        unexpected=bad,
        meaning="most rows keep the rules",
    )
    return Verdict(batch=batch, findings=(finding,), reasons={})


def answer(store, body: str, minute: int) -> None:
    page = Page(
        feed="test_prices",
        subject="s",
        request={"method": "GET", "url": f"https://example.org/{minute}"},
        received_at=START + DAY + MINUTE * minute,
        body=body.encode(),
    )
    store.open(PAGES).append(pages_frame([page], run_id="r", code_version="0"), positions={}, said={})


def promote(store, run, judge=judge_half):
    return promote_pages(store, FACTS, PAGES, parse, judge=judge, run=run, parse_error=Unreadable)


def rebuild(store, run, table=FACTS, judge=judge_half):
    return rebuild_pages(store, table, [(PAGES, parse)], judge=judge, run=run, parse_error=Unreadable)


def answers(rng: random.Random) -> list[str]:
    names = "abcdef"
    texts = [
        json.dumps({name: str(rng.choice([1, 2, 3, 3, -1])) for name in rng.sample(names, 4)})
        for _ in range(12)
    ]
    texts[5] = "<html>busy</html>"
    return texts


@pytest.mark.parametrize("seed", range(4))
def test_a_rebuilt_table_is_row_for_row_what_promotions_made(store, run, seed):
    rng = random.Random(seed)
    for minute, body in enumerate(answers(rng)):
        answer(store, body, minute)
        if rng.random() < 0.5:
            promote(store, run, pass_all)
    promote(store, run, pass_all)
    before, kept = contents(store, FACTS), held_rows(store)
    version = store.open(FACTS).version

    rebuild(store, run, judge=pass_all)

    assert before.height > 6
    assert_frame_equal(contents(store, FACTS), before, check_exact=True)
    assert_frame_equal(held_rows(store), kept)
    assert store.open(FACTS).version == version + 1
    assert promote(store, run) == []


def test_a_reader_keeps_the_table_it_opened_while_another_takes_its_place(store, run):
    answer(store, '{"a": "1", "b": "-1", "c": "2"}', 0)
    promote(store, run)
    reader = store.find(FACTS).scan()

    rebuild(store, run, table=MILDER)

    assert reader.collect()["name"].sort().to_list() == ["a", "c"]
    assert contents(store, FACTS)["name"].to_list() == ["a", "b", "c"]


def test_what_passes_the_rules_of_today_is_released(store, run):
    answer(store, '{"a": "1", "b": "-1", "c": "2", "d": "x"}', 0)
    promote(store, run)

    rebuild(store, run, table=MILDER)

    states = {json.loads(row["row"])["name"]: row["status"] for row in held_rows(store).rows(named=True)}
    assert states == {"b": "released", "d": "held"}


def test_a_blocked_rebuild_replaces_nothing_and_promotions_go_on(store, run):
    answer(store, '{"a": "1", "b": "2"}', 0)
    promote(store, run)
    before, version = contents(store, FACTS), store.open(FACTS).version
    stricter = replace(FACTS, columns=(*FACTS.columns[:-1], PRICE.but(above=5)))

    blocked = rebuild(store, run, table=stricter)

    assert (blocked.level, blocked.quarantined_rows) == ("blocked", 0)
    assert held_rows(store).is_empty()
    assert_frame_equal(contents(store, FACTS), before)
    assert store.open(FACTS).version == version
    answer(store, '{"c": "3"}', 1)
    promote(store, run)
    assert contents(store, FACTS)["name"].to_list() == ["a", "b", "c"]


def test_a_batch_that_was_held_back_stays_out_until_it_is_released(store, run):
    answer(store, '{"a": "1", "b": "-1", "c": "x"}', 0)
    promote(store, run)
    answer(store, '{"d": "4"}', 1)
    promote(store, run)

    rebuild(store, run)

    assert contents(store, FACTS)["name"].to_list() == ["d"]
    assert held_rows(store)["status"].to_list() == ["held"] * 3


def test_a_promotion_that_commits_meanwhile_is_not_lost(store, run):
    answer(store, '{"a": "1"}', 0)
    promote(store, run)
    judged = []

    def judge(batch: Batch) -> Verdict:
        judged.append(batch.frame["name"].sort().to_list())
        if len(judged) == 1:
            answer(store, '{"b": "2"}', 1)
            promote(store, run)
        return pass_all(batch)

    rebuild(store, run, judge=judge)

    assert judged == [["a"], ["a", "b"]]
    assert contents(store, FACTS)["name"].to_list() == ["a", "b"]


def test_a_rebuild_that_was_killed_before_its_commit_is_simply_run_again(store, run, monkeypatch):
    answer(store, '{"a": "1", "b": "-1", "c": "4"}', 0)
    stored = type(store.open(FACTS))
    with monkeypatch.context() as patched:
        patched.setattr(stored, "replace", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rebuild(store, run)
    assert contents(store, FACTS).is_empty()

    rebuild(store, run)

    assert contents(store, FACTS)["name"].to_list() == ["a", "c"]
    assert held_rows(store).height == 1
    assert promote(store, run) == []


def test_gold_is_rebuilt_to_what_promotions_made(store, run):
    for begin, end in (
        (LONG_AGO, START + 2 * HOUR),
        (START + 2 * HOUR, START + 50 * HOUR),
        (START + 50 * HOUR, FOREVER),
    ):
        deliver_until(store, deliveries(random.Random(7)), begin, end)
        promote_model(store, candles.MODEL, judge=pass_all, run=run)
    before = contents(store, candles.TABLE)

    rebuild_model(store, candles.MODEL, judge=pass_all, run=run)

    assert_frame_equal(contents(store, candles.TABLE), before, check_exact=True)
    assert promote_model(store, candles.MODEL, judge=pass_all, run=run) == []


def test_a_table_whose_inputs_were_never_stored_cannot_be_rebuilt(store, run):
    with pytest.raises(UsageError, match=r"gold\.candles cannot be rebuilt"):
        rebuild_model(store, candles.MODEL, judge=pass_all, run=run)
