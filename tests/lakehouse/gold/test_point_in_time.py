"""What every gold model keeps, whatever its inputs: no look-ahead, no dependence on row order, pieces make the whole.

The models are those of the catalogue: a new one fails here until INPUTS says how its inputs are made up.
"""

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse import catalog
from lakehouse.clean import new_rows
from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.gold import (
    candles,
    consensus_prices,
    derivatives,
    global_liquidity,
    liquidity,
    macro_panel,
    prediction_panel,
    realised_volatility,
    reconciliation,
    trade_outliers,
    volatility,
)
from lakehouse.lineage import Scope, dirtied, sources_of
from lakehouse.model import Model
from lakehouse.silver import (
    asset_metrics,
    book_snapshots,
    instruments,
    observations,
    prediction_markets,
    prediction_prices,
    trades,
)
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
                    "status": rng.choice([None] * 9 + ["B"]),
                    "known_at_basis": rng.choice(["published", "estimated"]),
                }
                for at in known
            ]
    return rows


def some_credit(rng: random.Random) -> Frames:
    """Series of gold.global_liquidity, with breaks, revisions, and rates around the ends of quarters."""
    ends = [datetime(2021 + n // 4, n % 4 * 3 + 1, 1, tzinfo=UTC) for n in range(9)]
    series = [s for one in global_liquidity.SERIES for s in one.series if rng.random() < 0.9]
    told = [(s, end, end + DAY * 120) for s in series for end in ends if rng.random() < 0.95]
    told += [
        (s, end, known_at + DAY * rng.randint(1, 400)) for s, end, known_at in told if rng.random() < 0.2
    ]
    days = [end - DAY * rng.randint(0, 12) for end in ends for _ in range(3)]
    rates = sorted({(rate.series_id, day) for rate in global_liquidity.RATES for day in days})
    told += [(s, day, day + DAY * rng.randint(1, 5)) for s, day in rates]
    rows = [
        {
            "provider": "bis" if s.startswith("WS_GLI") else "fred",
            "series_id": s,
            "period_start": (end - DAY).date(),
            "event_at": end,
            "known_at": known_at,
            "value": rng.choice([None, *[rng.randint(90, 110)] * 9]),
            "unit": "USD",
            "unit_multiplier": 6,
            "status": rng.choice(["A"] * 9 + ["B"]),
        }
        for s, end, known_at in told
    ]
    unique = {(row["series_id"], row["event_at"], row["known_at"]): row for row in rows}
    return {"silver.observations": frame(observations.TABLE, list(unique.values()))}


def some_prediction_markets(rng: random.Random) -> Frames:
    """Inputs of gold.prediction_panel: a group that grows, markets that stand alone, late prices, payouts."""
    shown, samples, books = [], [], []
    for market in range(6):
        listed = START + HOUR * rng.choice([0, 0, 0, rng.randint(0, 60)])
        asks = {"market_id": f"m{market}", "condition_id": "0x" + f"{market:064x}", "question": "Will it?"}
        asks |= {"is_exclusive": market < 4, "neg_risk_market_id": "0xg" if market < 4 else None}
        asks |= {"is_open_ended": rng.random() < 0.2}
        paid = START + HOUR * rng.randint(30, 90) if rng.random() < 0.3 else None
        for index, outcome in enumerate(("Yes", "No")):
            token = {"token_id": str(market * 2 + index), "outcome": outcome, "outcome_index": index}
            for at in sorted(
                {listed, *(listed + HOUR * rng.randint(1, 90) for _ in range(3)), paid} - {None}
            ):
                price = {"price": rng.choice([None, rng.randint(0, 1000) / 1000])}
                payout = {"payout": 1.0 - index} if at == paid else {}
                shown.append(asks | token | price | payout | {"event_at": listed, "known_at": at})
            for at in {START + MINUTE * rng.randint(-900, 5000) for _ in range(9)}:
                clocks = {"event_at": at, "known_at": at + MINUTE * rng.choice([0, 0, 0, 70, 3000])}
                price = rng.randint(0, 1000) / 1000
                samples.append(token | clocks | {"price": price, "kind": "history"})
                bids, asks_ = rng.choice([[price], []]), [min(1.0, price + 0.01)]
                sides = {"bid_prices": bids, "bid_amounts": bids, "ask_prices": asks_, "ask_amounts": asks_}
                stated = {"venue": "polymarket", "instrument_id": token["token_id"], "amount_unit": "shares"}
                books.append(stated | sides | clocks | {"is_valid": rng.random() < 0.9, "check": "none"})
    return {
        "silver.prediction_markets": frame(prediction_markets.TABLE, shown),
        "silver.prediction_prices": frame(prediction_prices.TABLE, samples),
        "silver.book_snapshots": frame(book_snapshots.TABLE, books),
    }


def some_flags(rng: random.Random, traded: pl.DataFrame) -> list[dict]:
    flags = traded.select(*INSTRUMENT, "trade_id", "event_at", "price").to_dicts()
    said = {"level": 100.0, "mad": 1.0}
    return [
        row | said | {"known_at": row["event_at"] + MINUTE * rng.randint(1, 9)}
        for row in flags
        if rng.random() < 0.05
    ]


def spiky(rng: random.Random) -> Frames:
    """Trades of a calm market with jumps and wrong prices."""
    at, level, rows = START + 118 * MINUTE, 100.0, []
    is_counted, pace = rng.random() < 0.7, rng.choice([1, 4, 20])
    for number in range(400):
        at += timedelta(seconds=rng.randint(0, 2 * pace))
        level *= rng.choice([1.0] * 60 + [1.03, 0.97])
        price = level * rng.choice([1.0] * 40 + [1.1, 0.9]) + rng.choice([0, 0.01, 0.02])
        said = {"price": round(price, 2), "amount": rng.randint(1, 9), "amount_unit": "base", "side": "buy"}
        trade_id = str(number if is_counted else rng.getrandbits(60))
        if rng.random() > 0.0005:
            rows.append(INSTRUMENT | said | {"trade_id": trade_id, "event_at": at, "known_at": at})
    return {"silver.trades": frame(trades.TABLE, rows)}


def days(rng: random.Random) -> Frames:
    """Days of gold.candles over several weeks and months."""
    told = [
        row
        | {
            "built_from": "candles",
            "coverage": rng.choice([None, 1.0, 0.95, 0.5]),
            "vwap": rng.choice([row["low"], row["low"], row["low"], None]),
            "buy_volume": 0.0,
        }
        for row in some_bars(rng, "1d", DAY, 100)
    ]
    return {"gold.candles": frame(candles.TABLE, told)}


def some_days(rng: random.Random) -> Frames:
    """Inputs of gold.realised_volatility: bars of an hour and of five minutes, few of them missing or late."""
    hours, minutes = datetime(2024, 1, 1, 23, tzinfo=UTC), datetime(2024, 1, 1, 23, 55, tzinfo=UTC)
    opens = [("1h", HOUR, hours + HOUR * n) for n in range(24 * 6 + 1)]
    opens += [("5m", 5 * MINUTE, minutes + 5 * MINUTE * n) for n in range(289)]
    told = [
        bar(rng, interval, open_at, length, HOUR * rng.choice([0, 0, 0, 30]))
        for interval, length, open_at in opens
        for _ in range(1 if rng.random() < 0.98 else 2)
        if rng.random() < 0.998
    ]
    unique = {(row["interval"], row["open_at"], row["known_at"]): row for row in told}
    rows = [row | {"built_from": "candles"} for row in unique.values()]
    return {"gold.candles": frame(candles.TABLE, rows)}


def some_figures(rng: random.Random, contract: Table, said: dict, days: list[datetime]) -> pl.DataFrame:
    """Rows of a gold table that gold.features reads: one a day, some late, all numbers made up."""
    numbers = [column.name for column in contract.columns if column.dtype.is_float()]
    rows = []
    for day in days:
        clocks = {"open_at": day - HOUR, "event_at": day, "known_at": day + HOUR * rng.choice([0, 0, 1, 50])}
        rows.append(INSTRUMENT | clocks | {name: rng.random() for name in numbers} | said)
    return frame(contract, rows)


def silver(rng: random.Random) -> Frames:
    delivered = some_bars(rng, "1m", MINUTE, 200)
    if rng.random() < 0.5:
        delivered += [*some_bars(rng, "1h", HOUR, 30), *some_bars(rng, "1d", DAY, 4)]
    traded = frame(trades.TABLE, some_trades(rng))
    return {
        "silver.trades": traded,
        "gold.trade_outliers": frame(trade_outliers.TABLE, some_flags(rng, traded)),
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
        bar(rng, "1d", day, DAY, DAY * rng.choice([0] * 19 + [3]))
        | {"split_factor": rng.choice([None, 1.0, 1.0, 2.0])}
        | {"symbol": symbol, "provider": "alphavantage", "asset_class": asset_class}
        for symbol, asset_class in (("IBM", "equity"), ("EUR/USD", "fx"))
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
    figures = {
        realised_volatility: {"interval": "5m"},
        consensus_prices: {},
        liquidity: {},
        derivatives: {"interval": "1h"},
        global_liquidity: {"currency": rng.choice(["USD", "all"])},
        prediction_panel: {"question": question, "outcome": "Yes", "token_id": "1"},
    }
    for module, said in figures.items():
        made[module.TABLE.name] = some_figures(rng, module.TABLE, said, days)
    made["gold.volatility"] = build(volatility.MODEL, made)
    made["gold.macro_panel"] = build(macro_panel.MODEL, made)
    return made


def unique_rows(contract: Table, rows: list[dict]) -> pl.DataFrame:
    """Of rows with one key the last."""
    return frame(contract, rows).unique(contract.key, keep="last", maintain_order=True)


def some_lateness(rng: random.Random) -> timedelta:
    return rng.choice(
        [timedelta(), timedelta(), timedelta(), timedelta(seconds=3), MINUTE * 7, HOUR * 3, DAY * 2]
    )


def venue_minutes(rng: random.Random) -> Frames:
    """Minute bars of one market on some venues over two hours, late, revised, without volume, far off."""
    rows = []
    for venue in ("kraken", "coinbase", "bitstamp", "gemini")[: rng.randint(1, 4)]:
        for step in range(100):
            if rng.random() < 0.1:
                continue
            minute = bar(rng, "1m", START + MINUTE * step, MINUTE, some_lateness(rng))
            close = rng.choice([100 + rng.random() / 10] * 9 + [rng.randint(80, 120)])
            said = {
                "high": close + 1,
                "low": close - 1,
                "open": close,
                "close": close,
                "built_from": "candles",
            }
            unit = rng.choice(["base"] * 9 + ["contracts"])
            rows.append(minute | said | {"venue": venue, "coverage": 1.0, "volume_unit": unit})
            if rng.random() < 0.1:
                rows.append(rows[-1] | {"known_at": minute["known_at"] + HOUR, "close": 100, "vwap": 100.5})
    return {"gold.candles": unique_rows(candles.TABLE, rows)}


def some_listings(rng: random.Random, venue: str, instrument_id: str) -> list[dict]:
    said = {
        "venue": venue,
        "instrument_id": instrument_id,
        "settle": "USD",
        "is_inverse": ":BTC" in instrument_id,
    }
    if said["is_inverse"]:
        said["settle"] = "BTC"
    sizes = {"expires_at": START + DAY * 20, "contract_size": rng.choice([0.01, 10.0, None])}
    seen = [START + HOUR * rng.randint(-30, 30) for _ in range(rng.randint(0, 2))]
    return [said | sizes | {"event_at": at, "known_at": at} for at in seen]


def some_contracts(rng: random.Random) -> Frames:
    """What venues say of linear, inverse and dated contracts over three days, and the spot beside them."""
    days = [bar(rng, "1d", datetime(2024, 1, day, tzinfo=UTC), DAY, some_lateness(rng)) for day in (1, 2, 3)]
    rows: dict[str, list[dict]] = {"gold.candles": days}
    for venue in ("kraken", "okx"):
        rows["gold.candles"] += some_hours(rng, venue, "BTC/USD", share=0.8)
        for contract in ("BTC/USD:USD", "BTC/USD:BTC", "BTC/USD:BTC-240119"):
            rows.setdefault("silver.instruments", []).extend(some_listings(rng, venue, contract))
            for table, told in told_of_contract(rng, venue, contract).items():
                rows.setdefault(table, []).extend(told)
    return {name: unique_rows(catalog.table(name), told) for name, told in rows.items()}


def some_hours(rng: random.Random, venue: str, instrument_id: str, *, share: float) -> list[dict]:
    about = {"venue": venue, "instrument_id": instrument_id, "coverage": 1.0, "built_from": "candles"}
    hours = [START + HOUR * step for step in range(-20, 40) if rng.random() < share]
    return [bar(rng, "1h", at, HOUR, some_lateness(rng)) | about for at in hours]


def told_of_contract(rng: random.Random, venue: str, contract: str) -> dict[str, list[dict]]:
    about = {"venue": venue, "instrument_id": contract}

    def happened(share: float, **choices: list) -> list[dict]:
        moments = [START + HOUR * step + MINUTE * rng.choice([0, 0, 7, 59]) for step in range(-20, 40)]
        return [
            about
            | {"event_at": at, "known_at": at + some_lateness(rng), "liquidation_id": str(rng.random())}
            | {name: rng.choice(values) for name, values in choices.items()}
            for at in moments
            if rng.random() < share
        ]

    amounts = {"amount": [0.1, 3.7, 9.9], "amount_unit": ["base", "quote", "contracts"]}
    values = {"value": [5e3], "value_currency": ["USD", "BTC", "EUR"], "sides": ["one", "both", "unknown"]}
    providers = {"provider": ["ccxt", "ccxt", "coinmetrics"]}
    kinds = ["mark", "index", "premium"]
    return {
        "silver.funding_rates": happened(
            0.2, **providers, rate=[-0.0003, 0.0001, 0.0007], interval_hours=[8.0, 8.0, None]
        ),
        "silver.open_interest": happened(0.7, **providers, **amounts, **values),
        "silver.liquidations": happened(0.2, **amounts, side=["buy", "sell", None], price=[99.0, 101.0]),
        "silver.reference_candles": [
            row | {"price_type": rng.choice(kinds)} for row in some_hours(rng, venue, contract, share=0.3)
        ],
        "gold.candles": some_hours(rng, venue, contract, share=0.2),
    }


def some_books(rng: random.Random) -> Frames:
    """Order books of some minutes in all units, late, invalid, one-sided."""
    rows = []
    for _ in range(rng.randint(0, 60)):
        at = START + timedelta(seconds=rng.randint(0, 600))
        mid, step = rng.randint(90, 110), rng.choice([0.01, 0.1])
        levels = range(1, rng.choice([1, 5, 20]))
        said = {
            f"{side}_{what}": [figure(level) for level in levels]
            for side, sign in (("bid", -1), ("ask", 1))
            for what, figure in (
                ("prices", lambda level, sign=sign, mid=mid, step=step: mid + sign * step * level),
                ("amounts", lambda _level: rng.randint(1, 9999) / 10),
            )
        }
        unit = rng.choice(["base", "quote", "contracts", "shares"])
        state = {"is_valid": rng.random() < 0.8, "check": "snapshot", "amount_unit": unit}
        rows.append(INSTRUMENT | state | said | {"event_at": at, "known_at": at + some_lateness(rng)})
    listed = some_listings(rng, **INSTRUMENT)
    return {
        "silver.book_snapshots": unique_rows(book_snapshots.TABLE, rows),
        "silver.instruments": unique_rows(instruments.TABLE, [{**row, "quote": "USD"} for row in listed]),
    }


def both_sides(rng: random.Random) -> Frames:
    """Bars of a venue from trades, from finer candles, as delivered, and by CoinMetrics."""
    made = {
        name: rows.with_columns(venue=pl.lit("bitstamp")) if "venue" in rows.columns else rows
        for name, rows in silver(rng).items()
    }
    by_us = build(candles.MODEL, made)
    said = {"provider": "coinmetrics", "symbol": "bitstamp-btc-usd-spot", "asset_class": "crypto"}
    prices = by_us.select(set(by_us.columns) & set(vendor_bars.TABLE.schema)).to_dicts()
    vendor = [row | said | {"volume": 0.1} for row in prices if rng.random() < 0.5]
    rows = frame(vendor_bars.TABLE, vendor).unique(vendor_bars.TABLE.key)
    return made | {"gold.candles": by_us, "silver.bars": rows}


def compared(rng: random.Random) -> Frames:
    return {"gold.reconciliation": build(reconciliation.MODEL, both_sides(rng))}


INPUTS: dict[str, Callable[[random.Random], Frames]] = {
    "gold.reconciliation": both_sides,
    "gold.reconciliation_days": compared,
    "gold.trade_outliers": spiky,
    "gold.activity_bars": spiky,
    "gold.calendar_candles": days,
    "gold.candles": silver,
    "gold.volatility": world,
    "gold.macro_panel": silver,
    "gold.global_liquidity": some_credit,
    "gold.prediction_panel": some_prediction_markets,
    "gold.realised_volatility": some_days,
    "gold.features": world,
    "gold.consensus_prices": venue_minutes,
    "gold.derivatives": some_contracts,
    "gold.liquidity": some_books,
}
"""For each gold table what makes up its inputs at random, late and revised rows among them."""


every_model = pytest.mark.parametrize(
    ("model", "inputs_of"),
    [
        pytest.param(model, INPUTS[name], id=name)
        for name, model in catalog.models().items()
        if name in INPUTS
    ],
)
any_inputs = settings(max_examples=settings().max_examples // 8)


def build(model: Model, inputs: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    lazy = {name: inputs[name].lazy() for name in model.inputs}
    return model.build(lazy).collect(engine="streaming").sort(model.table.key)


def test_every_model_is_held_to_these_rules() -> None:
    assert set(INPUTS) == set(catalog.models()), "INPUTS must say how the inputs of each model are made up"


@every_model
@any_inputs
@given(seed=st.integers(0, 2**32), share=st.floats(0, 1))
def test_what_became_known_later_changes_nothing_before(
    model: Model, inputs_of, seed: int, share: float
) -> None:
    inputs = inputs_of(random.Random(seed))
    built = build(model, inputs)
    moments = pl.concat([f["known_at"] for f in (*inputs.values(), built)]).sort()
    assume(len(moments))
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
    other = pl.col("instrument_id").str.replace("BTC/", "ETH/")
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


@every_model
@settings(max_examples=settings().max_examples // 32)
@given(seed=st.integers(0, 2**32))
def test_rows_can_be_traced_to_what_was_known_when_they_were(model: Model, inputs_of, seed: int) -> None:
    inputs = inputs_of(random.Random(seed))
    for row in build(model, inputs).sample(fraction=1, shuffle=True, seed=1).head(5).iter_rows(named=True):
        found = [
            sources_of(model, reach, catalog.table(reach.input), row, inputs[reach.input].lazy()).collect()
            for reach in model.reaches
        ]
        assert any(rows.height for rows in found) or row.get("is_empty")
        assert all((rows["known_at"] <= row["known_at"]).all() for rows in found)


def outside(scope: Scope, rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.join(scope.within(rows), on=scope.model.table.key, how="anti", nulls_equal=True)
