"""freqtrade: its own data handler for trades, a Parquet file a pair in a local folder.

The handler writes a pair's whole file with each store; each run has a folder of its own, so that all write the same.
"""

import json
import sys
from pathlib import Path

import pandas as pd
from freqtrade.constants import DEFAULT_TRADES_COLUMNS
from freqtrade.data.history.datahandlers import get_datahandler
from freqtrade.enums import TradingMode

from benchmarks.measure import costs

told = json.load(sys.stdin)


def as_freqtrade(path: str) -> dict[str, pd.DataFrame]:
    """Its columns, by pair."""
    frame = pd.read_parquet(path)
    # A cast without its unit would depend on what the file was written with.
    frame["timestamp"] = frame["event_at"].dt.as_unit("ms").astype("int64")
    frame = frame.rename(columns={"trade_id": "id"})
    frame["type"], frame["cost"] = None, frame["price"] * frame["amount"]
    pairs = frame.groupby("instrument_id")
    return {name: rows[DEFAULT_TRADES_COLUMNS].reset_index(drop=True) for name, rows in pairs}


batches = [as_freqtrade(file) for file in told["files"]]
folder = Path(told["folder"])
handlers = []
for number in range(len(batches)):
    own = folder / str(number)
    own.mkdir(parents=True)
    handlers.append(get_datahandler(own, "parquet"))
left = iter(zip(handlers, batches, strict=True))


def store() -> None:
    handler, pairs = next(left)
    for pair, rows in pairs.items():
        handler.trades_store(pair, rows, TradingMode.SPOT)


spent = costs(store, runs=len(batches) - 1)
stored = sum(len(pd.read_parquet(file)) for file in folder.rglob("*.parquet"))
print(json.dumps({"cpu_s": spent.cpu_s, "rows": stored}))
