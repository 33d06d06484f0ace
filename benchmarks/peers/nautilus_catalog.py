"""NautilusTrader: trades as its `TradeTick`s, by its own wrangler, into its Parquet catalog in a local folder."""

import json
import sys
from pathlib import Path

import pandas as pd
from nautilus_trader.model.data import TradeTick
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.persistence.wranglers import TradeTickDataWrangler
from nautilus_trader.test_kit.providers import TestInstrumentProvider

from benchmarks.measure import costs

told = json.load(sys.stdin)
Path(told["folder"]).mkdir()
catalog = ParquetDataCatalog(told["folder"])
instrument = TestInstrumentProvider.btcusdt_binance()


def as_nautilus(path: str) -> list[pd.DataFrame]:
    """A frame an instrument, as the wrangler wants it."""
    frame = pd.read_parquet(path).set_index("event_at").sort_index()
    frame = frame.rename(columns={"amount": "quantity", "side": "side"})
    frame["side"] = frame["side"].str.upper()
    return [rows[["price", "quantity", "side", "trade_id"]] for _, rows in frame.groupby("instrument_id")]


batches = [as_nautilus(file) for file in told["files"]]
left = iter(batches)
wrangler = TradeTickDataWrangler(instrument=instrument)


def write() -> None:
    ticks = [tick for rows in next(left) for tick in wrangler.process(rows)]
    ticks.sort(key=lambda tick: tick.ts_init)
    catalog.write_data(ticks)


spent = costs(write, runs=len(batches) - 1)
held = sum(len(pd.read_parquet(file)) for file in Path(told["folder"]).rglob("*.parquet"))
print(json.dumps({"cpu_s": spent.cpu_s, "rows": held, "kind": TradeTick.__name__}))
