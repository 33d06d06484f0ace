"""Lake.features: what was known at each point of a grid, with its source, its age and when it was known."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse import Lake
from lakehouse.errors import UsageError
from lakehouse.gold import candles, consensus_prices, macro_panel
from lakehouse.panel import COLUMNS
from lakehouse.silver import asset_metrics
from lakehouse.store import open_store

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
START = datetime(2024, 1, 10, tzinfo=UTC)
KRAKEN = {"venue": "kraken", "instrument_id": "BTC/USD"}


@pytest.fixture
def store(settings, tmp_path):
    """A lake in a folder: many small commits are quicker there."""
    return open_store(settings.model_copy(update={"lake": str(tmp_path / "lake")}))


def put(store, contract, rows: list[dict]) -> None:
    filled = {"page_id": 1, "provider": "coinmetrics", "known_at_basis": "published"}
    frame = pl.DataFrame(
        [
            {name: ({"ingested_at": row["known_at"]} | filled | row).get(name) for name in contract.schema}
            for row in rows
        ],
        schema=contract.schema,
        orient="row",
    )
    store.open(contract).append(frame, positions={}, said={})


def bar(interval: str, end: datetime, close: float, length: timedelta) -> dict:
    prices = dict.fromkeys(("open", "high", "low", "close"), close)
    when = {"interval": interval, "open_at": end - length, "event_at": end, "known_at": end + MINUTE}
    return KRAKEN | when | prices | {"volume": 2.0, "volume_unit": "base", "built_from": "trades"}


def metric(day: datetime, known_at: datetime, value: float, asset: str = "btc") -> dict:
    named = {"asset": asset, "metric": "AdrActCnt", "frequency": "1d"}
    return named | {"event_at": day, "known_at": known_at, "value": value}


@pytest.fixture
def lake(store) -> Lake:
    put(
        store,
        candles.TABLE,
        [
            bar("1h", START, 100.0, HOUR),
            bar("1h", START + HOUR, 110.0, HOUR),
            bar("1d", START, 105.0, DAY),
            bar("1d", START + DAY, 120.0, DAY),
        ],
    )
    put(
        store,
        asset_metrics.TABLE,
        [
            metric(START - DAY, START + 90 * MINUTE, 7.0),
            metric(START - 2 * DAY, START + 100 * MINUTE, 6.0),  # an older day, corrected late
            metric(START - DAY, START + 2 * DAY, 8.0),
            metric(START - DAY, START, 1.0, asset="eth"),
        ],
    )
    minute = {"instrument_id": "BTC/USD", "base": "BTC", "quote": "USD", "open_at": START - MINUTE}
    put(store, consensus_prices.TABLE, [minute | {"event_at": START, "known_at": START, "price": 101.0}])
    yields = {"provider": "fred", "series_id": "DGS10", "period_start": (START - 2 * DAY).date()}
    when = {"event_at": START - DAY, "known_at": START - HOUR}
    put(store, macro_panel.TABLE, [yields | when | {"value": 4.1, "unit": "Percent", "unit_multiplier": 0}])
    return Lake(store)


def test_each_column_is_what_was_known_at_the_grid_point_with_source_age_and_when(lake):
    rows = lake.features(["kraken:BTC/USD"], START, START + 3 * HOUR, "1h", ["close", "active_addresses"])
    assert rows.collect().to_dicts() == [
        {
            "asset": "kraken:BTC/USD",
            "at": START + n * HOUR,
            "close": close,
            "close_known_at": known_at,
            "close_lag": None if known_at is None else START + n * HOUR - known_at + MINUTE,
            "close_source": None if known_at is None else "gold.candles",
            "active_addresses": addresses,
            "active_addresses_known_at": START + 90 * MINUTE if addresses else None,
            "active_addresses_lag": DAY + n * HOUR if addresses else None,
            "active_addresses_source": "silver.asset_metrics" if addresses else None,
        }
        for n, close, known_at, addresses in (
            (0, None, None, None),
            (1, 100.0, START + MINUTE, None),
            (2, 110.0, START + HOUR + MINUTE, 7.0),
        )
    ]


def test_a_grid_of_days_takes_bars_of_days(lake):
    rows = lake.features(["kraken:BTC/USD"], START + HOUR, START + 3 * DAY, "1d", ["close"]).collect()
    assert rows["at"].to_list() == [START + HOUR + n * DAY for n in range(3)]
    assert rows["close"].to_list() == [105.0, 120.0, 120.0]


def test_as_of_hides_what_was_known_later(lake):
    asked = (["btc"], START + 3 * DAY, START + 4 * DAY, "1d", ["active_addresses"])
    assert lake.features(*asked).collect()["active_addresses"].to_list() == [8.0]
    before = lake.features(*asked, as_of=START + DAY).collect()
    assert before["active_addresses"].to_list() == [7.0]
    assert before["active_addresses_lag"].to_list() == [4 * DAY]


def test_assets_are_told_what_is_told_of_them(lake):
    names = ["consensus_price", "active_addresses", "us_10y_yield", "close"]
    assets = ["kraken:BTC/USD", "BTC/USD", "btc", "eth"]
    rows = lake.features(assets, START + 2 * HOUR, START + 3 * HOUR, "1h", names).collect()
    assert {row["asset"]: tuple(row[name] for name in names) for row in rows.to_dicts()} == {
        "kraken:BTC/USD": (101.0, 7.0, 4.1, 110.0),
        "BTC/USD": (101.0, 7.0, 4.1, None),
        "btc": (None, 7.0, 4.1, None),
        "eth": (None, 1.0, 4.1, None),
    }


def test_every_feature_can_be_had_at_once_and_nothing_was_known_later(lake):
    rows = lake.features(["kraken:BTC/USD", "eth"], START, START + 2 * DAY, "15m").collect()
    assert rows.height == 2 * 4 * 48
    assert set(rows.columns) == {
        "asset",
        "at",
        *(f"{one.name}{suffix}" for one in COLUMNS for suffix in ("", "_known_at", "_lag", "_source")),
    }
    for one in COLUMNS:
        assert rows.filter(pl.col(f"{one.name}_known_at") > pl.col("at")).is_empty()
    assert lake.feature_columns()["name"].to_list() == [one.name for one in COLUMNS]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"columns": ["volatility_yang_zang_7"]}, r"did you mean volatility_yang_zhang_7"),
        ({"columns": ["close"], "assets": ["btc"]}, r"'close' is told by venue and instrument_id"),
        ({"every": "1 day"}, r"every='1 day' is no step"),
        ({"every": "0h"}, r"is no step"),
        ({"assets": []}, r"name some"),
        ({"assets": ["Kraken BTC"]}, r"'Kraken BTC' is no asset"),
        ({"end": START}, r"window is empty"),
        ({"start": "yesterday"}, r"'yesterday' is not a date"),
    ],
)
def test_a_wrong_question_is_told_what_is_right(lake, changes, said):
    asked = {"assets": ["kraken:BTC/USD"], "start": START, "end": START + DAY, "every": "1h"}
    with pytest.raises(UsageError, match=said):
        lake.features(**asked | changes)
