"""freqtrade: its own `trades_to_ohlcv` of one day's trades, of each pair and interval."""

import json
import sys
import time

import pandas as pd
from freqtrade.constants import DEFAULT_TRADES_COLUMNS
from freqtrade.data.converter import trades_to_ohlcv

from benchmarks.measure import peak_gib

told = json.load(sys.stdin)
frame = pd.concat([pd.read_parquet(file) for file in told["files"]])
frame["timestamp"] = frame["event_at"].dt.as_unit("ms").astype("int64")
frame = frame.rename(columns={"trade_id": "id", "event_at": "date"})
frame["type"], frame["cost"] = None, frame["price"] * frame["amount"]
columns = [*DEFAULT_TRADES_COLUMNS, "date"]
pairs = [rows[columns].reset_index(drop=True) for _, rows in frame.groupby("instrument_id")]

wall, cpu = time.perf_counter(), time.process_time()
found = sum(
    len(trades_to_ohlcv(rows, interval)) for rows in pairs for interval in ("1m", "5m", "15m", "1h", "1d")
)
spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
print(json.dumps({**spent, "gib": peak_gib(), "found": found}))
