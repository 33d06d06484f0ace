"""What every gold model keeps, whatever its inputs: no look-ahead, no dependence on row order, pieces make the whole.

The models are those of the catalogue: a new one fails here until INPUTS says how its inputs are made up.
"""

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse import catalog
from lakehouse.clean import new_rows
from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.gold import candles, macro_panel, volatility
from lakehouse.lineage import Scope, dirtied
from lakehouse.model import Model
from lakehouse.silver import asset_metrics, observations, prediction_markets, trades
from lakehouse.silver import bars as vendor_bars
from lakehouse.silver import candles as delivered_candles
from lakehouse.verdict import REASONS

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
START = datetime(2024, 1, 1, 22, tzinfo=UTC)
INSTRUMENT = {"venue": "kraken", "instrument_id": "BTC/USD"}

Frames = dict[str, pl.DataFrame]


def frame(contract: Table, rows: list[dict]) -> pl.DataFrame:
    filled = {"page_id": 1, "provider": "ccxt", "known_at_basis": "published"}
    names = contract.schema.names()
    clocked = [{"ingested_at": row["known_at"], **filled, **row} for row in rows]
    return pl.DataFrame([{name: row.get(name) for name in names} for row in clocked], schema=contract.schema)


def prices(rng: random.Random) -> dict[str, float]:
    first, last = rng.randint(90, 110), rng.randint(90, 110)
    return {
        "open": first,
        "close": last,
        "high": max(first, last) + rng.randint(0, 3),
        "low": min(first, last) - rng.randint(0, 3),
    }


def bar(rng: random.Random, interval: str, open_at: datetime, length: timedelta, late: timedelta) -> dict:
    closed = open_at + length
    when = {"interval": interval, "open_at": open_at, "event_at": closed, "known_at": closed + late}
    measured = {"volume": rng.randint(0, 9) / 10, "volume_unit": "base", "trade_count": rng.choice([None, 3])}
    return INSTRUMENT | when | prices(rng) | measured


def some_bars(rng: random.Random, interval: str, length: timedelta, count: int) -> list[dict]:
    first = datetime(2024, 1, 2, tzinfo=UTC) - length * (count // 2)
    opens = [first + length * step for step in range(count) if rng.random() < 0.99]
    on_time = [bar(rng, interval, open_at, length, timedelta()) for open_at in opens]
    restated = [
        bar(rng, interval, at, length, MINUTE * rng.randint(1, 300)) for at in opens if rng.random() < 0.1
    ]
    return on_time + restated


def some_trades(rng: random.Random) -> list[dict]:
    at, rows, is_counted = START, [], rng.random() < 0.7
    for number in range(rng.randint(0, 300)):
        at += timedelta(seconds=rng.choice([0, 1, 5, 20, 50]))
        if rng.random() < 0.01:
            continue
        trade_id = str(number if is_counted else rng.getrandbits(60))
        said = {"price": rng.randint(90, 110), "amount": rng.randint(1, 99) / 10, "amount_unit": "base"}
        side = rng.choice(["buy", "sell"])
        rows.append(INSTRUMENT | said | {"trade_id": trade_id, "event_at": at, "known_at": at, "side": side})
    return rows


def some_observations(rng: random.Random) -> list[dict]:
    rows = []
    for series, months, since in (("GDP", 3, 2020), ("DGS10", 1, 2023)):
        for period in range(16):
            start = datetime(since + period * months // 12, period * months % 12 + 1, 1, tzinfo=UTC)
            end = start + timedelta(days=28 * months)
            known = sorted({end + DAY * rng.randint(0, 150) for _ in range(rng.randint(1, 3))})
            rows += [
                {
                    "provider": "fred",
                    "series_id": series,
                    "period_start": start.date(),
                    "event_at": end,
                    "known_at": at,
                    "value": rng.choice([None, 100.0, 101.5, 103.0, 99.0]),
                    "unit": rng.choice(["USD", "USD", "EUR"]),
                    "unit_multiplier": 9,
                    "known_at_basis": rng.choice(["published", "estimated"]),
                }
                for at in known
            ]
    return rows


def silver(rng: random.Random) -> Frames:
    delivered = some_bars(rng, "1m", MINUTE, 200)
    if rng.random() < 0.5:
        delivered += [*some_bars(rng, "1h", HOUR, 30), *some_bars(rng, "1d", DAY, 4)]
    return {
        "silver.trades": frame(trades.TABLE, some_trades(rng)),
        "silver.candles": frame(delivered_candles.TABLE, delivered),
        "silver.observations": frame(observations.TABLE, some_observations(rng)),
    }


def world(rng: random.Random) -> Frames:
    """Inputs of gold.features: everything that it reads, with late and revised rows."""
    delivered = [*some_bars(rng, "1h", HOUR, 40), *some_bars(rng, "1d", DAY, 40)]
    built = [
        row | {"built_from": "candles", "coverage": rng.choice([None] * 20 + [1.0] * 20 + [0.5])}
        for row in delivered
    ]
    days = [datetime(2023, 12, 20, tzinfo=UTC) + DAY * day for day in range(25)]
    metrics = [
        {
            "asset": asset,
            "metric": metric,
            "frequency": "1d",
            "event_at": day,
            "known_at": day + HOUR * rng.randint(24, 90),
            "value": rng.choice([None, rng.random()]),
        }
        for asset in ("btc", "eth")
        for metric in ("AdrActCnt", "CapMVRVCur")
        for day in days
    ]
    vendor = [
        bar(rng, "1d", day, DAY, timedelta())
        | {"symbol": symbol, "provider": "alphavantage", "asset_class": "fx"}
        for symbol in ("IBM", "EUR/USD")
        for day in days
    ]
    question = "Will there be no change in Fed interest rates after the June 2026 meeting?"
    listing = [
        {"question": question, "outcome": "Yes", "event_at": day, "known_at": day, "price": rng.random()}
        for day in days
    ]
    made = {
        "gold.candles": frame(candles.TABLE, built),
        "silver.asset_metrics": frame(asset_metrics.TABLE, metrics),
        "silver.bars": frame(vendor_bars.TABLE, vendor),
        "silver.prediction_markets": frame(prediction_markets.TABLE, listing),
        "silver.observations": frame(observations.TABLE, some_observations(rng)),
    }
    made["gold.volatility"] = build(volatility.MODEL, made)
    made["gold.macro_panel"] = build(macro_panel.MODEL, made)
    return made


INPUTS: dict[str, Callable[[random.Random], Frames]] = {
    "gold.candles": silver,
    "gold.volatility": world,
    "gold.macro_panel": silver,
    "gold.features": world,
}
"""For each gold table what makes up its inputs at random, late and revised rows among them."""


def nobody(_rng: random.Random) -> Frames:
    raise AssertionError("add the table to INPUTS: no look-ahead test covers it")


every_model = pytest.mark.parametrize(
    ("model", "inputs_of"),
    [pytest.param(model, INPUTS.get(name, nobody), id=name) for name, model in catalog.models().items()],
)
any_inputs = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def build(model: Model, inputs: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    lazy = {name: inputs[name].lazy() for name in model.inputs}
    return model.build(lazy).collect(engine="streaming").sort(model.table.key)


@every_model
@any_inputs
@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_what_became_known_later_changes_nothing_before(
    model: Model, inputs_of, seed: int, share: float
) -> None:
    inputs = inputs_of(random.Random(seed))
    built = build(model, inputs)
    moments = pl.concat([f["known_at"] for f in (*inputs.values(), built)]).sort()
    now = moments[int(share * (len(moments) - 1))]
    past = {name: rows.filter(pl.col("known_at") <= now) for name, rows in inputs.items()}
    assert_frame_equal(
        build(model, past).filter(pl.col("known_at") <= now),
        built.filter(pl.col("known_at") <= now),
        check_exact=True,
    )


@every_model
@any_inputs
@given(seed=st.integers(0, 2**32))
def test_rows_do_not_depend_on_the_order_of_the_inputs(model: Model, inputs_of, seed: int) -> None:
    inputs = inputs_of(random.Random(seed))
    shuffled = {name: rows.sample(fraction=1, shuffle=True, seed=seed % 97) for name, rows in inputs.items()}
    assert_frame_equal(build(model, shuffled), build(model, inputs), check_exact=True)


@every_model
@any_inputs
@given(seed=st.integers(0, 2**32))
def test_rows_fit_their_contract_and_their_key_is_unique(model: Model, inputs_of, seed: int) -> None:
    built = build(model, inputs_of(random.Random(seed)))
    judged = conform(model.table, built.lazy()).collect()
    assert judged.filter(pl.col(REASONS).list.len() > 0).is_empty()
    assert not built.select(model.table.key).is_duplicated().any()


@every_model
@any_inputs
@given(seed=st.integers(0, 2**32))
def test_building_again_publishes_nothing_new(model: Model, inputs_of, seed: int) -> None:
    judged = conform(model.table, build(model, inputs_of(random.Random(seed))).lazy()).collect()
    published = new_rows(model.table, judged, judged.clear())
    assert published.height == judged.height
    assert new_rows(model.table, judged, published).is_empty()


@every_model
def test_no_input_gives_no_rows(model: Model, inputs_of) -> None:
    nothing = {name: rows.clear() for name, rows in inputs_of(random.Random(0)).items()}
    built = build(model, nothing)
    assert built.schema == {name: model.table.schema[name] for name in built.columns}
    assert built.is_empty()


def of_two_instruments(inputs_of, rng: random.Random) -> Frames:
    """Two worlds side by side; what is not about an instrument they share."""
    ours, theirs = inputs_of(rng), inputs_of(rng)
    other = pl.lit("ETH/USD").alias("instrument_id")
    return {
        name: pl.concat([rows, theirs[name].with_columns(other)]) if "instrument_id" in rows.columns else rows
        for name, rows in ours.items()
    }


@every_model
@any_inputs
@given(seed=st.integers(0, 2**32), share=st.sampled_from([0.001, 0.01, 0.3]))
def test_news_change_only_what_they_dirty_and_that_is_built_from_what_it_needs(
    model: Model, inputs_of, seed: int, share: float
) -> None:
    rng = random.Random(seed)
    after = of_two_instruments(inputs_of, rng)
    is_new = {
        name: pl.Series([rng.random() < share for _ in range(rows.height)], dtype=pl.Boolean)
        for name, rows in after.items()
    }
    before = {name: rows.filter(~is_new[name]) for name, rows in after.items()}
    lazy = {name: rows.lazy() for name, rows in after.items()}

    news = {name: after[name].filter(is_new[name]).lazy() for name in model.inputs}
    scope = dirtied(model, news, lazy)

    needed = {name: scope.needed(name, lazy[name]).collect() for name in model.inputs}
    full = build(model, after)
    inside = full.lazy().pipe(scope.within).collect().sort(model.table.key)
    rebuilt = build(model, needed).lazy().pipe(scope.within).collect().sort(model.table.key)
    assert_frame_equal(rebuilt, inside, check_exact=True)
    assert_frame_equal(
        full.join(inside, on=model.table.key, how="anti"),
        build(model, before).lazy().pipe(lambda rows: outside(scope, rows)).collect().sort(model.table.key),
        check_exact=True,
        check_row_order=False,
    )


def outside(scope: Scope, rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.join(scope.within(rows), on=scope.model.table.key, how="anti", nulls_equal=True)
