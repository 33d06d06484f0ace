"""What tables expect of whole batches: planted defects are found, and small, late or repeated batches are no alarm."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from expectations.gate import Gate
from lakehouse.catalog import tables
from lakehouse.conform import conform
from lakehouse.contract import UTC_US, Column, Table
from lakehouse.expects import (
    Apart,
    CountedIds,
    FinerBarsAddUp,
    Fresh,
    InOrder,
    Level,
    Levels,
    LikePast,
    OnGrid,
    PeersAgree,
    SumsUp,
)
from lakehouse.history import PAST, ROWS_A_DAY, figures, figures_said, read_past
from lakehouse.verdict import Batch

AT = datetime(2024, 1, 31, tzinfo=UTC)
TYPES = {
    datetime: UTC_US,
    date: pl.Date(),
    str: pl.String(),
    float: pl.Float64(),
    int: pl.Int64(),
    bool: pl.Boolean(),
}


def at(**after) -> datetime:
    return AT + timedelta(**after)


def table_of(expect, columns, **said) -> Table:
    known = {name: next(one for one in values if one is not None) for name, values in columns.items()}
    declared = [
        Column(name=name, dtype=TYPES[type(value)], doc="-", nullable=True) for name, value in known.items()
    ]
    number = Column(name="number", dtype=pl.Int64(), doc="-")
    first = next(iter(columns))
    return Table(
        name="silver.samples",
        doc="-",
        columns=(number, *declared),
        key=("number",),
        owner="tests",
        time_column=said.pop("time_column", first),
        subject=said.pop("subject", ("number",)),
        expects=() if isinstance(expect, Fresh) else (expect,),
        **said,
    )


def finding(expect, columns, *, repeats=0, past=None, judged_at=AT, **said):
    """What the gate says of the expectation, in a batch of these rows."""
    table = table_of(expect, columns, **said)
    length = len(next(iter(columns.values())))
    given = pl.DataFrame(
        {"number": range(length), **columns}, schema_overrides={c.name: c.dtype for c in table.columns}
    )
    batch = Batch(
        batch_id="b",
        table=table,
        inputs=(),
        frame=conform(table, given.lazy()).collect(),
        judged_at=judged_at,
        repeats=repeats,
        past=PAST.to_frame() if past is None else past,
    )
    (found,) = [
        one for one in Gate(None).judge(batch).findings if one.expectation.endswith(f"({expect.name})")
    ]
    return found


def unexpected(expect, columns, **said) -> int:
    found = finding(expect, columns, **said)
    assert found.passed == (found.unexpected == 0)
    return found.unexpected


def test_the_finding_has_the_sentence_and_the_severity_of_the_declaration():
    expect = Levels(
        name="levels",
        meaning="As large as said",
        severity="critical",
        value="v",
        subject=("s",),
        bounds=(Level(starts="a/", lower=1, upper=2),),
    )
    found = finding(expect, {"s": ["a"], "v": [3.0]})
    assert (found.meaning, found.severity) == ("As large as said (critical)", "critical")
    assert (found.passed, found.unexpected) == (False, 1)


SEQUENCE = InOrder(
    name="x", meaning="-", column="n", within=("book",), order_by=("frame", "part"), unless="is_snapshot"
)


@pytest.mark.parametrize(
    ("numbers", "snapshots", "falls"),
    [
        ([1, 2, 2, 9], [False] * 4, 0),
        ([1, 5, 4, 9], [False] * 4, 1),
        ([1, 5, 4, 9], [False, False, True, False], 0),
        ([1, None, 0, 9], [False] * 4, 1),
    ],
)
def test_a_sequence_that_falls_on_its_connection_is_found_however_rows_lie(numbers, snapshots, falls):
    rows = pl.DataFrame(
        {
            "book": ["a"] * 4,
            "frame": [1, 1, 2, 3],
            "part": [0, 1, 0, 0],
            "n": numbers,
            "is_snapshot": snapshots,
        }
    )
    other = rows.with_columns(book=pl.lit("b"), n=pl.lit(0, dtype=pl.Int64), is_snapshot=False)
    shuffled = pl.concat([rows, other]).sample(fraction=1, shuffle=True, seed=1)
    assert unexpected(SEQUENCE, shuffled.to_dict(as_series=False)) == falls


IDS = CountedIds(name="x", meaning="-", id="id", within=("venue",))


def trades(**pages: list[int]) -> dict:
    rows = [(name[0], number, str(one)) for number, (name, ids) in enumerate(pages.items()) for one in ids]
    return dict(zip(("venue", "page_id", "id"), map(list, zip(*rows, strict=True)), strict=True))


def but(ids, *lost):
    return [one for one in ids if one not in lost]


@pytest.mark.parametrize(
    ("pages", "repeats", "groups"),
    [
        ({"a": range(100)}, 0, 0),
        ({"a": but(range(100), 50)}, 0, 1),
        ({"a": but(range(100), 50)}, 1, 0),
        ({"a1": range(100), "a2": range(5000, 5100)}, 0, 0),
        ({"a1": but(range(100), 50, 51), "a2": [50, 51]}, 0, 0),
        ({"a1": range(100), "a2": range(90, 200)}, 0, 0),
        ({"a": range(0, 100, 2)}, 0, 0),
        ({"a": range(100), "b": but(range(100), 7)}, 0, 1),
    ],
    ids=[
        "whole",
        "a hole",
        "rows came again",
        "two windows",
        "told by another page",
        "pages overlap",
        "shared ids",
        "one of two",
    ],
)
def test_an_id_missing_inside_a_page_is_found_where_ids_count(pages, repeats, groups):
    assert unexpected(IDS, trades(**pages), repeats=repeats) == groups


def test_a_trade_that_is_held_back_is_no_missing_id():
    table = tables()["silver.trades"]
    names = [column.name for column in table.columns if column.derived is None]
    row = {
        "venue": "v",
        "instrument_id": "A/B",
        "event_at": AT,
        "known_at": AT,
        "ingested_at": AT,
        "page_id": 1,
    }
    rows = [
        {
            **row,
            "provider": "p",
            "trade_id": str(n),
            "price": "1" if n != 50 else "-1",
            "amount": "1",
            "amount_unit": "base",
            "side": "buy",
        }
        for n in range(100)
    ]
    frame = conform(table, pl.LazyFrame(rows).select(names)).collect()
    verdict = Gate(None).judge(Batch(batch_id="b", table=table, inputs=(), frame=frame, judged_at=AT))
    assert verdict.reasons == {"price_too_low": 1}
    assert not [one for one in verdict.findings if not one.passed and "ids_without_holes" in one.expectation]


@pytest.mark.parametrize(
    ("interval", "opens", "ends", "off"),
    [
        ("1h", at(hours=1), at(hours=2), 0),
        ("1h", at(minutes=30), at(minutes=90), 1),
        ("1h", at(hours=1), at(hours=3), 1),
        ("1d", at(hours=16), at(hours=40), 0),
        ("1w", at(hours=16), at(hours=40), 0),
    ],
)
def test_a_bar_off_its_grid_or_of_another_length_is_found(interval, opens, ends, off):
    expect = OnGrid(name="x", meaning="-")
    assert unexpected(expect, {"open_at": [opens], "event_at": [ends], "interval": [interval]}) == off


@pytest.mark.parametrize(
    ("second", "overlaps"), [(24, 0), (23, 1), (0, 0)], ids=["next", "overlap", "version"]
)
def test_a_bar_that_begins_before_the_one_before_it_is_over_is_found(second, overlaps):
    opens = [at(hours=second), AT]
    ends = [one + timedelta(days=1) for one in opens]
    columns = {"open_at": opens, "event_at": ends, "symbol": ["a", "a"]}
    assert unexpected(Apart(name="x", meaning="-", within=("symbol",)), columns) == overlaps


def bars(minutes=60, **hour) -> dict:
    """An hour, and its minutes: volumes 1, highs and lows rise by one."""
    base = {
        "venue": "v",
        "instrument_id": "A/B",
        "built_from": "trades",
        "source_interval": "-",
        "is_empty": False,
    }
    parts = [
        {
            **base,
            "interval": "1m",
            "open_at": at(minutes=n),
            "known_at": at(hours=2),
            "high": 100.0 + n,
            "low": 50.0 + n,
            "volume": 1.0,
        }
        for n in range(minutes)
    ]
    whole = {**base, "interval": "1h", "open_at": AT, "known_at": at(hours=2), "high": 159.0, "low": 50.0}
    rows = [*parts, {**whole, "volume": 60.0, **hour}]
    return {
        name: [row[name] for row in rows]
        for name in ("open_at", *base, "interval", "known_at", "high", "low", "volume")
    }


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ({}, 0),
        ({"volume": 61.0}, 1),
        ({"high": 160.0}, 1),
        ({"low": 49.0}, 1),
        ({"volume": 61.0, "minutes": 59}, 0),
        ({"volume": 61.0, "built_from": "candles"}, 0),
    ],
    ids=["adds up", "volume", "high", "low", "a minute is not there", "of another source"],
)
def test_an_hour_that_its_minutes_contradict_is_found(said, wrong):
    expect = FinerBarsAddUp(name="x", meaning="-", finer="1m", coarser="1h")
    assert unexpected(expect, bars(**said)) == wrong


PEERS = PeersAgree(
    name="x",
    meaning="-",
    value="close",
    peer="venue",
    market=("market",),
    moment="open_at",
    where={"interval": "1m"},
    bound_bps=100,
)


@pytest.mark.parametrize(
    ("venues", "minutes", "off"),
    [("abc", 30, 1), ("ab", 30, 0), ("abc", 29, 0)],
    ids=["three met", "two tell nothing", "too few moments"],
)
def test_a_venue_that_is_usually_far_from_the_others_is_found(venues, minutes, off):
    rows = [(at(minutes=n), one, 102.0 if one == "a" else 100.0) for n in range(minutes) for one in venues]
    opens, names, closes = map(list, zip(*rows, strict=True))
    columns = {"open_at": opens, "venue": names, "close": closes, "known_at": opens}
    constant = {"market": ["m"] * len(rows), "interval": ["1m"] * len(rows)}
    assert unexpected(PEERS, {**columns, **constant}) == off


@pytest.mark.parametrize(
    ("prices", "outcomes", "off"),
    [
        ([0.4, 0.6], [0, 1], 0),
        ([0.4, 0.7], [0, 1], 1),
        ([0.4], [0], 0),
        ([0.1, 0.1], [0, 2], 0),
        ([0.4, None], [0, 1], 0),
        ([0.2, 0.3, 0.5], [0, 1, 2], 0),
    ],
    ids=["one", "more than one", "half a market", "one is not there", "one has no price", "three"],
)
def test_outcomes_whose_prices_do_not_add_up_are_found(prices, outcomes, off):
    expect = SumsUp(name="x", meaning="-", column="price", over=("market",), part="i", to=1, tolerance=0.05)
    columns = {"market": ["m"] * len(prices), "price": prices, "i": outcomes}
    assert unexpected(expect, columns) == off


@pytest.mark.parametrize(
    ("series", "value", "power", "off"),
    [("GLI", 8e6, 6, 0), ("GLI", 8e6, 9, 1), ("GLI", 8e6, 0, 1), ("GLI.B", 8e6, 0, 0)],
    ids=["trillions", "thousandfold", "without its multiplier", "another series"],
)
def test_a_known_series_in_a_wrong_unit_is_found(series, value, power, off):
    expect = Levels(
        name="x",
        meaning="-",
        value="value",
        times_ten_to="power",
        subject=("provider", "series"),
        bounds=(Level(starts="bis/GLI/", lower=1e12, upper=1e14),),
    )
    columns = {
        "provider": ["bis"] * 3,
        "series": [series] * 3,
        "value": [value, None, value],
        "power": [power] * 3,
    }
    assert unexpected(expect, columns) == off


def test_credit_of_the_bis_without_its_multiplier_is_held_back_whole():
    table = tables()["silver.observations"]
    names = [column.name for column in table.columns if column.derived is None]
    row = {
        "series_id": "WS_GLI/Q.USD.3P.N.A.I.B.USD", "period_start": date(2024, 1, 1), "event_at": AT, "known_at": AT,
        "ingested_at": AT, "page_id": 1, "provider": "bis", "known_at_basis": "received", "value": "13000000",
        "unit": "USD", "status": "A",
    }  # fmt: skip
    for power, level in ((6, "passed"), (0, "blocked")):
        frame = conform(table, pl.LazyFrame([{**row, "unit_multiplier": power}]).select(names)).collect()
        batch = Batch(batch_id="b", table=table, inputs=(), frame=frame, judged_at=AT)
        assert Gate(None).judge(batch).level == level


LIKE = LikePast(name="x", meaning="-", rows_factor=10, levels={"price": 10}, rows=20)


def ticks(day: int, *, count=50, price=100.0, days=1) -> dict:
    times = [at(days=day + n % days, seconds=n) for n in range(count * days)]
    return {"event_at": times, "market": ["m"] * len(times), "price": [price] * len(times)}


def past_of(*batches: dict) -> pl.DataFrame:
    """The figures of batches, as their commits would tell them, a day apart."""
    found = []
    for number, columns in enumerate(batches):
        rows = pl.LazyFrame(columns, schema_overrides={"event_at": UTC_US})
        told = figures(rows, subject=("market",), clock="event_at", levels=("price",)).collect()
        found.append(told.select(pl.lit(at(days=number), dtype=UTC_US).alias("judged_at"), pl.all()))
    return pl.concat(found, how="vertical")


WEEK = [ticks(day) for day in range(5)]


@pytest.mark.parametrize(
    ("batch", "past", "repeats", "off"),
    [
        (ticks(5), WEEK, 0, 0),
        (ticks(5, price=100_000.0), WEEK, 0, 1),
        (ticks(5, price=0.1), WEEK, 0, 1),
        (ticks(5, count=1000), WEEK, 0, 1),
        (ticks(5, price=100_000.0), [], 0, 0),
        (ticks(5, price=100_000.0), WEEK[:2], 0, 0),
        (ticks(5, price=100_000.0, count=19), WEEK, 0, 0),
        (ticks(-2000, price=1.0, count=9000), WEEK, 0, 0),
        (ticks(5, count=20), [ticks(day, count=500) for day in range(5)], 0, 0),
        (ticks(5, count=20, days=4), [ticks(day, count=500) for day in range(5)], 0, 1),
        (ticks(5, count=20, days=4), [ticks(day, count=500) for day in range(5)], 9, 0),
    ],
    ids=["alike", "thousandfold", "a thousandth", "many rows", "no past", "too short a past", "few rows",
         "an old window", "part of a day", "few rows on full days", "the others came again"],
)  # fmt: skip
def test_levels_and_row_counts_unlike_those_of_batches_around_are_found(batch, past, repeats, off):
    told = past_of(*past) if past else None
    assert unexpected(LIKE, batch, past=told, repeats=repeats, subject=("market",)) == off


FRESH = Fresh(name="fresh", meaning="-")


@pytest.mark.parametrize(
    ("came_to", "newest", "stale"),
    [(4, 5, 0), (4, 4.5, 1), (2, 4.5, 0), (4, -900, 0), (None, -900, 0)],
    ids=["fresh", "goes on too late", "was stale before", "fills in the past", "the first"],
)
def test_only_what_goes_on_from_a_fresh_table_can_be_stale(came_to, newest, stale):
    """The table was judged at day 5 when its newest row was `came_to` days old; it promises one day and a half."""
    past = None if came_to is None else past_of(ticks(came_to)).with_columns(judged_at=at(days=5))
    columns = {"event_at": [at(days=newest, seconds=60)], "market": ["m"]}
    said = {"freshness": timedelta(days=1.5), "subject": ("market",), "judged_at": at(days=6.2)}
    assert unexpected(FRESH, columns, past=past, **said) == stale


def test_a_commit_tells_the_figures_that_later_batches_are_compared_with(store):
    table = replace(tables()["silver.prediction_prices"], expects=(LIKE,))
    stored = store.open(table)
    times = [at(hours=6 * n) for n in range(8)]
    columns = {
        "token_id": ["1"] * 8, "event_at": times, "known_at": times, "ingested_at": times, "page_id": [1] * 8,
        "provider": ["p"] * 8, "price": [0.25] * 8, "kind": ["history"] * 8,
    }  # fmt: skip
    rows = pl.DataFrame(columns, schema=table.schema)
    stored.append(rows, positions={}, said={"batch": "b", **figures_said(table, rows, AT)})
    stored.append(rows.clear(), positions={}, said={"batch": "c", **figures_said(table, rows.clear(), AT)})

    past = read_past(stored).sort("measure")
    assert past.drop("judged_at", "first", "last").rows() == [
        ("1", 2, 8, "price", 0.25),
        ("1", 2, 8, ROWS_A_DAY, 4.0),
    ]
    assert past.select("judged_at", "first", "last").unique().rows() == [(AT, times[0], times[-1])]


def test_what_a_contract_expects_changes_its_fingerprint():
    table = tables()["silver.trades"]
    assert replace(table, expects=()).fingerprint != table.fingerprint
