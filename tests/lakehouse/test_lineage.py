"""Reaches: one declaration tells what news dirties, what has to be read for that, and what a row came from."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse import catalog
from lakehouse.contract import Column, Table
from lakehouse.fields import EVENT_AT, INGESTED_AT, KNOWN_AT
from lakehouse.gold import candles, features, macro_panel, volatility
from lakehouse.lineage import FOREVER, Scope, dirtied, sources_of, spans
from lakehouse.model import Model, Reach

DAY, HOUR, SECOND = timedelta(days=1), timedelta(hours=1), timedelta(seconds=1)
NOON = datetime(2024, 3, 10, 12, tzinfo=UTC)
MIDNIGHT = datetime(2024, 3, 10, tzinfo=UTC)
TICK = timedelta(microseconds=1)


def one(table: str, **row: object) -> pl.LazyFrame:
    """One row of a table; what is not given is null, clocks are those of the event."""
    contract = catalog.table(table)
    clocks = {name: row.get("event_at") for name in ("known_at", "ingested_at")}
    filled = {name: (clocks | row).get(name) for name in contract.schema}
    return pl.DataFrame([filled], schema=contract.schema, orient="row").lazy()


BTC = {"venue": "kraken", "instrument_id": "BTC/USD"}
ETH = {"venue": "kraken", "instrument_id": "ETH/USD"}


def pieces(model: Model, news: dict[str, pl.LazyFrame], grid: pl.LazyFrame | None = None) -> list[tuple]:
    inputs = {model.grid: grid} if grid is not None else {}
    return dirtied(model, news, inputs).pieces.rows()


def test_a_trade_dirties_its_instrument_on_its_day_and_the_days_beside_it():
    found = pieces(candles.MODEL, {"silver.trades": one("silver.trades", **BTC, event_at=NOON)})

    assert found == [("kraken", "BTC/USD", MIDNIGHT - DAY, MIDNIGHT + 2 * DAY - TICK)]


def test_news_of_many_rows_is_few_pieces():
    news = pl.concat([one("silver.trades", **BTC, event_at=NOON + n * SECOND) for n in range(50)])
    far = one("silver.trades", **BTC, event_at=NOON - 30 * DAY)

    found = pieces(candles.MODEL, {"silver.trades": pl.concat([news, far])})

    assert [first for *_, first, _ in found] == [MIDNIGHT - 31 * DAY, MIDNIGHT - DAY]


@pytest.mark.parametrize(("interval", "length"), [("1h", HOUR), ("1d", DAY)])
def test_a_bar_dirties_the_windows_that_it_can_be_in(interval, length):
    bar = one("gold.candles", **BTC, interval=interval, event_at=NOON)

    assert pieces(volatility.MODEL, {"gold.candles": bar}) == [
        ("kraken", "BTC/USD", interval, NOON, NOON + 30 * length)
    ]


@pytest.mark.parametrize("change", [{"interval": "1m"}, {"interval": "1h", "coverage": 0.5}], ids=str)
def test_news_that_no_row_is_made_of_dirties_nothing(change):
    bar = one("gold.candles", **BTC, event_at=NOON, **change)

    assert pieces(volatility.MODEL, {"gold.candles": bar}) == []


def test_a_vintage_dirties_its_series_from_then_on():
    row = one(
        "silver.observations", provider="fred", series_id="GDP", event_at=NOON - 90 * DAY, known_at=NOON
    )

    assert pieces(macro_panel.MODEL, {"silver.observations": row}) == [("fred", "GDP", NOON, FOREVER)]


def test_a_metric_dirties_the_bars_of_its_asset_that_became_known_since():
    grid = pl.concat(
        [
            one("gold.candles", **who, interval="1h", event_at=NOON + n * HOUR)
            for who in (BTC, ETH)
            for n in range(-2, 2)
        ]
    )
    metric = one(
        "silver.asset_metrics",
        asset="btc",
        metric="AdrActCnt",
        frequency="1d",
        event_at=NOON - DAY,
        known_at=NOON,
    )

    found = pieces(features.MODEL, {"silver.asset_metrics": metric}, grid)

    assert found == [("kraken", "BTC/USD", "1h", NOON + n * HOUR, NOON + n * HOUR) for n in range(2)]


def test_only_what_the_pieces_need_is_read():
    rows = pl.concat(
        [one("silver.trades", **who, event_at=NOON + n * DAY) for who in (BTC, ETH) for n in range(-5, 6)]
    )
    scope = dirtied(candles.MODEL, {"silver.trades": one("silver.trades", **BTC, event_at=NOON)}, {})

    read = scope.needed("silver.trades", rows).collect()

    assert read["instrument_id"].unique().to_list() == ["BTC/USD"]
    assert (read["event_at"].min(), read["event_at"].max()) == (NOON - 2 * DAY, NOON + 2 * DAY)


def test_two_instruments_of_two_venues_do_not_drag_in_the_other_pairs():
    where = [("kraken", "BTC/USD"), ("binance", "ETH/USD"), ("kraken", "ETH/USD"), ("binance", "BTC/USD")]
    rows = pl.concat([one("silver.trades", venue=v, instrument_id=i, event_at=NOON) for v, i in where])
    scope = dirtied(candles.MODEL, {"silver.trades": rows.head(2)}, {})

    read = scope.needed("silver.trades", rows).select("venue", "instrument_id").collect()

    assert sorted(read.rows()) == sorted(where[:2])


def test_rows_outside_of_the_pieces_are_left_out():
    scope = dirtied(candles.MODEL, {"silver.trades": one("silver.trades", **BTC, event_at=NOON)}, {})
    times = [MIDNIGHT - DAY - TICK, MIDNIGHT - DAY, MIDNIGHT + 2 * DAY - TICK, MIDNIGHT + 2 * DAY]
    rows = pl.concat([one("gold.candles", **who, open_at=at) for who in (BTC, ETH) for at in times])

    inside = scope.within(rows).select("instrument_id", "open_at").collect()

    assert inside.rows() == [("BTC/USD", times[1]), ("BTC/USD", times[2])]


def test_no_news_is_an_empty_scope():
    assert dirtied(candles.MODEL, {}, {}).is_empty
    assert isinstance(dirtied(candles.MODEL, {}, {}), Scope)


def test_a_bar_came_from_the_trades_inside_it_that_were_there():
    bar = {
        **BTC,
        "interval": "1h",
        "open_at": NOON,
        "event_at": NOON + HOUR,
        "known_at": NOON + HOUR,
        "ingested_at": NOON + DAY,
        "built_from": "trades",
    }
    row = one("gold.candles", **bar).collect().row(0, named=True)
    times = [NOON - SECOND, NOON, NOON + HOUR - SECOND, NOON + HOUR]
    rows = [one("silver.trades", **BTC, event_at=at) for at in times]
    late = one("silver.trades", **BTC, event_at=NOON + 2 * SECOND, ingested_at=NOON + 2 * DAY)
    other = one("silver.trades", **ETH, event_at=NOON)

    trades, bars, _flags = candles.MODEL.reaches
    found = sources_of(
        candles.MODEL, trades, catalog.table("silver.trades"), row, pl.concat([*rows, late, other])
    )
    none = sources_of(
        candles.MODEL, bars, catalog.table("silver.candles"), row, one("silver.candles", **BTC, event_at=NOON)
    )

    assert found.collect()["event_at"].to_list() == times[1:3]
    assert none.collect().is_empty()


def test_intervals_become_few_by_filling_the_narrowest_gaps():
    starts = [NOON, NOON + DAY, NOON + 10 * DAY, NOON + 12 * DAY, NOON + 40 * DAY]
    intervals = pl.DataFrame({"first": starts, "last": [start + HOUR for start in starts]})

    found = spans(intervals, at_most=3)

    assert found.rows() == [
        (starts[0], starts[1] + HOUR),
        (starts[2], starts[3] + HOUR),
        (starts[4], starts[4] + HOUR),
    ]
    assert spans(intervals, at_most=5).height == 5


@pytest.mark.parametrize(
    ("reach", "wrong"),
    [
        (Reach(input="silver.trades", by={"venue": "venue"}), "must pair all of"),
        (Reach(input="silver.trades", at="known_at", of="known_at", before=None), "needs a grid"),
    ],
    ids=["groups", "grid"],
)
def test_a_reach_that_cannot_be_followed_is_refused_where_it_is_declared(reach, wrong):
    name = Column(name="name", dtype=pl.String(), doc="Name.")
    table = Table(
        name="gold.x",
        doc="",
        columns=(name, EVENT_AT, KNOWN_AT, INGESTED_AT),
        key=("name",),
        subject=("name",),
        owner="tests",
    )

    with pytest.raises(ValueError, match=wrong):
        Model(table=table, reaches=(reach,), groups=("name",), clock="event_at", build=lambda rows: rows["x"])
