"""ArcticDB: trades appended to a symbol an instrument, indexed by time, on the S3 server that is told."""

import json
import sys

import arcticdb
import pandas as pd

from benchmarks.measure import costs

told = json.load(sys.stdin)
library = arcticdb.Arctic(told["arctic"]).create_library("trades")
frames = [pd.read_parquet(file).set_index("event_at") for file in told["files"]]
left = iter(
    [
        {name: rows.drop(columns="instrument_id") for name, rows in frame.groupby("instrument_id")}
        for frame in frames
    ]
)


def append() -> None:
    for name, rows in next(left).items():
        library.append(name, rows)


spent = costs(append, runs=len(frames) - 1)
held = sum(library.get_description(name).row_count for name in library.list_symbols())
print(json.dumps({"cpu_s": spent.cpu_s, "rows": held}))
