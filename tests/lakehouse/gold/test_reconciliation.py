"""gold.reconciliation and its days: how our bars compare with others', why they differ, and what a bad day becomes."""

import json
import zipfile
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from expectations.gate import Gate
from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.gold import candles, reconciliation, reconciliation_days, trade_outliers
from lakehouse.gold.reconciliation import FIELDS, MARKETS
from lakehouse.silver import bars as vendor_bars
from lakehouse.silver import candles as delivered
from lakehouse.silver import trades
from lakehouse.verdict import Batch

RECORDED = Path(__file__).parents[3] / "../shared/recorded"
needs_recordings = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded provider data are not here")

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
INSTRUMENT = {"venue": "bitstamp", "instrument_id": "BTC/USD"}
PRICES = ("open", "high", "low", "close")
LENGTHS = {"1s": timedelta(seconds=1), "1m": MINUTE, "5m": 5 * MINUTE, "1h": 60 * MINUTE}


def frame(contract: Table, rows: Sequence[dict]) -> pl.LazyFrame:
    names = contract.schema.names()
    filled = [
        {"ingested_at": row["known_at"], "page_id": 1, "provider": "ccxt", "asset_class": "crypto", **row}
        for row in rows
    ]
    return pl.LazyFrame([{name: row.get(name) for name in names} for row in filled], schema=contract.schema)


def bar(open_at: datetime, prices: tuple[float, ...], interval: str = "1m", **said: object) -> dict:
    closed = open_at + LENGTHS[interval]
    when = {"interval": interval, "open_at": open_at, "event_at": closed, "known_at": closed}
    measured = {"volume": 2.0, "volume_unit": "base", "trade_count": 3}
    return INSTRUMENT | when | dict(zip(PRICES, prices, strict=True)) | measured | said


def compared(
    *, ours: Sequence[dict] = (), theirs: Sequence[dict] = (), vendor: Sequence[dict] = ()
) -> list[dict]:
    inputs = {
        "gold.candles": frame(candles.TABLE, [{"built_from": "trades", **row} for row in ours]),
        "silver.candles": frame(delivered.TABLE, theirs),
        "silver.bars": frame(vendor_bars.TABLE, vendor),
    }
    rows = reconciliation.build(inputs).sort("interval", "open_at", "against", "known_at")
    return rows.collect(engine="streaming").to_dicts()


def reasons(row: dict) -> dict[str, str]:
    return {name: row[f"{name}_reason"] for name in FIELDS if row[f"{name}_reason"] != "equal"}


OURS = (100.0, 105.0, 99.0, 101.0)


@pytest.mark.parametrize(
    ("prices", "said", "agrees", "reason", "differing"),
    [
        pytest.param(OURS, {}, True, "equal", {}, id="the same"),
        pytest.param(
            OURS,
            {"volume": 2.000000001},
            True,
            "rounding",
            {"volume": "rounding"},
            id="volumes cut at 8 decimals",
        ),
        pytest.param(
            OURS, {"trade_count": None}, True, "equal", {"trade_count": "not_compared"}, id="no count"
        ),
        pytest.param(
            OURS,
            {"volume": 201.0, "volume_unit": "quote"},
            False,
            "volume_unit",
            {"volume": "volume_unit"},
            id="another unit",
        ),
        pytest.param(
            (100.0, 105.0, 99.0, 100.5),
            {},
            False,
            "trade_order",
            {"close": "trade_order"},
            id="another last trade",
        ),
        pytest.param(
            (100.0, 106.0, 99.0, 101.0),
            {"volume": 2.5, "trade_count": 4},
            False,
            "missing_trades",
            dict.fromkeys(("high", "volume", "trade_count"), "missing_trades"),
            id="they have a trade more",
        ),
        pytest.param(
            (100.0, 104.0, 99.0, 101.0),
            {"volume": 1.5, "trade_count": None},
            False,
            "late_trade",
            dict.fromkeys(("high", "volume"), "late_trade") | {"trade_count": "not_compared"},
            id="they have less volume and say no count",
        ),
        pytest.param(
            (90.0, 95.0, 89.0, 91.0),
            {},
            False,
            "different",
            dict.fromkeys(PRICES, "different"),
            id="other prices",
        ),
    ],
)
def test_each_figure_has_a_reason_and_the_bar_the_gravest(prices, said, agrees, reason, differing) -> None:
    (row,) = compared(ours=[bar(NOON, OURS)], theirs=[bar(NOON, prices, **said)])
    assert (row["agrees"], row["reason"]) == (agrees, reason)
    assert reasons(row) == differing | {"vwap": "not_compared"}
    assert (row["against"], row["rebuilt_from"], row["their_high"]) == ("venue", "trades", prices[1])


def test_bars_rolled_up_from_finer_candles_are_held_against_the_delivered_ones() -> None:
    finer = [bar(NOON + n * MINUTE, (n + 1, n + 2, n + 1, n + 2)) for n in range(5)]
    coarse = bar(NOON, (1, 6, 1, 5.5), "5m", volume=10.0, trade_count=15)
    (row,) = compared(theirs=[*finer, coarse])
    assert (row["interval"], row["rebuilt_from"], reasons(row)) == (
        "5m",
        "candles",
        {"close": "trade_order", "vwap": "not_compared"},
    )


def test_a_restated_bar_is_compared_again_from_when_it_was_known() -> None:
    restated = bar(NOON, OURS, volume=3.0, known_at=NOON + 60 * MINUTE)
    rows = compared(ours=[bar(NOON, OURS, known_at=NOON + 2 * MINUTE)], theirs=[bar(NOON, OURS), restated])
    assert [(row["known_at"], row["reason"]) for row in rows] == [
        (NOON + 2 * MINUTE, "equal"),
        (NOON + 60 * MINUTE, "missing_trades"),
    ]


@pytest.mark.parametrize(
    ("symbol", "count"),
    [("bitstamp-btc-usd-spot", 1), ("bitstamp-eth-usd-spot", 0), ("kraken-btc-usd-spot", 0)],
)
def test_candles_of_coinmetrics_are_compared_by_the_market_that_is_certain(symbol, count) -> None:
    theirs = bar(NOON, (100, 105, 99, 102), vwap=101.0) | {"provider": "coinmetrics", "symbol": symbol}
    rows = compared(ours=[bar(NOON, OURS, vwap=101.00000001, built_from="candles")], vendor=[theirs])
    assert len(rows) == count
    for row in rows:
        assert (row["against"], row["rebuilt_from"]) == ("coinmetrics", "candles")
        assert reasons(row) == {"close": "trade_order", "vwap": "rounding"}


def test_markets_of_coinmetrics_have_one_instrument_each() -> None:
    assert len(set(MARKETS.values())) == len(MARKETS)
    assert MARKETS["coinbaseexchange", "BTC/USD"] == "coinbase-btc-usd-spot"


def days(rows: list[dict]) -> pl.DataFrame:
    contract = reconciliation.TABLE
    bars = pl.LazyFrame(rows, schema=contract.schema)
    return reconciliation_days.build({"gold.reconciliation": bars}).sort("known_at").collect()


def a_day(wrong: int, *, of: int = 1440, known_late: int = 0) -> list[dict]:
    midnight = datetime(2024, 1, 1, tzinfo=UTC)
    ours = [bar(midnight + n * MINUTE, OURS) for n in range(of)]
    theirs = [bar(row["open_at"], (100, 106 if n < wrong else 105, 99, 101)) for n, row in enumerate(ours)]
    late = [bar(row["open_at"], OURS, known_at=midnight + timedelta(days=3)) for row in ours[:known_late]]
    return compared(ours=ours, theirs=[*theirs, *late])


def test_a_day_says_how_many_bars_agree_when_it_is_over_and_again_when_that_changes() -> None:
    rows = days(a_day(100, known_late=90))
    told = rows.select(
        "day", "known_at", "bars", "agreeing", "share", "high_share", "equal_bars", "different_bars"
    )
    after = datetime(2024, 1, 2, tzinfo=UTC)
    assert told.rows() == [
        (date(2024, 1, 1), after, 1440, 1340, 1340 / 1440, 1340 / 1440, 1340, 100),
        (date(2024, 1, 1), after + timedelta(days=2), 1440, 1430, 1430 / 1440, 1430 / 1440, 1430, 10),
    ]
    assert rows["vwap_share"].to_list() == [None, None]


@pytest.mark.parametrize(("wrong", "level"), [(14, "passed"), (15, "warning")])
def test_a_day_on_which_too_few_bars_agree_is_a_warning_verdict(wrong, level) -> None:
    table = reconciliation_days.TABLE
    frame = conform(table, days(a_day(wrong)).lazy()).collect()
    batch = Batch(batch_id="b", table=table, inputs=("gold.reconciliation",), frame=frame, judged_at=NOON)
    assert Gate(None).judge(batch).level == level


def coinbase(resolution: str, day: int) -> list[dict]:
    found = RECORDED / f"ohlcv/lean/crypto/coinbase/{resolution}/btcusd/201610{day:02d}_trade.zip"
    with zipfile.ZipFile(found) as archive:
        lines = archive.read(archive.namelist()[0]).decode().split()
    midnight, interval = datetime(2016, 10, day, tzinfo=UTC), {"second": "1s", "minute": "1m"}[resolution]
    return [
        bar(midnight + timedelta(milliseconds=int(ms)), tuple(map(float, prices)), interval)
        | {"volume": float(volume), "trade_count": None}
        for ms, *prices, volume in (line.split(",") for line in lines)
    ]


@needs_recordings
@pytest.mark.parametrize(("day", "seconds", "minutes"), [(7, 4063, 1419), (8, 3453, 1400), (9, 4004, 1397)])
def test_recorded_seconds_of_coinbase_roll_up_to_all_of_its_recorded_minutes(day, seconds, minutes) -> None:
    finer, coarser = coinbase("second", day), coinbase("minute", day)
    rows = compared(theirs=[*finer, *coarser])
    assert (len(finer), len(coarser)) == (seconds, minutes)
    assert [row["reason"] for row in rows] == ["equal"] * minutes


@needs_recordings
def test_recorded_trades_of_kraken_make_the_bars_that_it_delivered_empty_ones_too() -> None:
    """409 of 409: 272 with trades and 137 without, which Kraken tells with volume 0 and the close before."""
    said = json.loads((RECORDED / "ws/nautilus/kraken/http_trades.json").read_bytes())["result"]["XBTUSDT"]
    ohlc = json.loads((RECORDED / "ws/nautilus/kraken/http_ohlc.json").read_bytes())["result"]["XBTUSDT"]
    rows = [
        INSTRUMENT
        | dict.fromkeys(("event_at", "known_at"), EPOCH + timedelta(microseconds=int(seconds * 1e6)))
        | {"trade_id": str(number), "price": float(price), "amount": float(amount), "amount_unit": "base"}
        for price, amount, seconds, _, _, _, number in said
    ]
    theirs = [
        bar(EPOCH + timedelta(seconds=start), tuple(map(float, prices)))
        | {"volume": float(volume), "trade_count": count}
        for start, *prices, _vwap, volume, count in ohlc
    ]
    inputs = {
        "silver.trades": frame(trades.TABLE, rows),
        "silver.candles": frame(delivered.TABLE, []),
        "gold.trade_outliers": frame(trade_outliers.TABLE, []),
    }
    ours = candles.build(inputs).filter(pl.col("interval") == "1m").collect().to_dicts()
    found = compared(ours=ours, theirs=theirs)
    assert [row["reason"] for row in found] == ["equal"] * 409
    assert sum(row["volume"] == 0 for row in found) == 137


@needs_recordings
def test_recorded_bars_of_two_markets_are_told_apart() -> None:
    """Two files under one name: 0 of 100 hours agree with their 5 minute bars, volumes are 13 times apart."""
    folder = RECORDED / "ohlcv/freqtrade"
    said = [
        bar(row[0].replace(tzinfo=UTC), row[1:5], interval) | {"volume": row[5], "trade_count": None}
        for interval in ("5m", "1h")
        for row in pl.read_ipc(folder / f"XRP_USDT_USDT-{interval}-futures.feather")
        .with_columns(pl.col("date").dt.cast_time_unit("us"))
        .rows()
    ]
    rows = compared(theirs=said)
    assert len(rows) == 100
    assert not any(row["agrees"] for row in rows)
    assert sum(row["reason"] == "different" for row in rows) == 99
