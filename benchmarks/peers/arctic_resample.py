"""ArcticDB: bars by its own `resample` from its own copy of the trades on the S3 server that is told.

The copy has a symbol an instrument, a row a trade; it is written a day at a time, which is not measured.
"""

import json
import sys
import time

import arcticdb
import pandas as pd

from benchmarks.measure import peak_gib

AGGREGATES = {
    "open": ("price", "first"),
    "high": ("price", "max"),
    "low": ("price", "min"),
    "close": ("price", "last"),
    "volume": ("amount", "sum"),
    "trades": ("amount", "count"),
    "quote": ("quote", "sum"),
    "bought": ("bought", "sum"),
}
LONGER = ("5min", "15min", "1h", "1D")
AGAIN = {"open": "first", "high": "max", "low": "min", "close": "last"}
SUMS = ("volume", "trades", "quote", "bought")

told = json.load(sys.stdin)
library = arcticdb.Arctic(told["arctic"]).create_library(f"trades{told['size']}")
for file in told["files"]:
    day = pd.read_parquet(file, columns=["instrument_id", "event_at", "price", "amount", "side"])
    day["event_at"] = day["event_at"].dt.tz_localize(None)
    day["quote"] = day["price"] * day["amount"]
    day["bought"] = day["amount"].where(day["side"] == "buy", 0.0)
    for name, rows in day.drop(columns="side").set_index("event_at").sort_index().groupby("instrument_id"):
        library.append(name, rows.drop(columns="instrument_id"))
symbols = library.list_symbols()

wall, cpu = time.perf_counter(), time.process_time()
found = 0
for symbol in symbols:
    query = arcticdb.QueryBuilder().resample("1min").agg(AGGREGATES)
    minutes = library.read(symbol, query_builder=query).data
    found += len(minutes)
    for length in LONGER:
        bars = minutes.resample(length).agg({**AGAIN, **dict.fromkeys(SUMS, "sum")})
        found += int((bars["trades"] > 0).sum())
spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
print(json.dumps({**spent, "gib": peak_gib(), "found": found}))
