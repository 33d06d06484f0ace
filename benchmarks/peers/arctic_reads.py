"""ArcticDB: slices of its own copy of the trades on the S3 server that is told, a symbol an instrument.

The copy is written in two versions, up to the time `half` and the rest; it is not measured.
"""

import json
import sys
from collections.abc import Callable

import arcticdb
import pandas as pd

from benchmarks.measure import costs

told = json.load(sys.stdin)
library = arcticdb.Arctic(told["arctic"]).create_library("reads")
frames = [pd.read_parquet(file) for file in told["files"]]
whole = pd.concat(frames).astype({"instrument_id": "category"})
del frames
whole["event_at"] = whole["event_at"].dt.tz_localize(None)
half = pd.Timestamp(told["half"]).tz_localize(None)
for name, found in whole.groupby("instrument_id", observed=True):
    rows = found.drop(columns="instrument_id").set_index("event_at").sort_index()
    library.write(name, rows[rows.index < half])
    library.append(name, rows[rows.index >= half])
del whole
symbols = library.list_symbols()


def between(name: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Both ends belong to it, as in ArcticDB."""
    start, end = (pd.Timestamp(one).tz_localize(None) for one in told["spans"][name])
    return start, end - pd.Timedelta(microseconds=1)


def one(span: str, **more: int) -> int:
    return len(library.read(told["who"], date_range=between(span), **more).data)


def all_of_them() -> int:
    wanted = [arcticdb.ReadRequest(symbol, date_range=between("last")) for symbol in symbols]
    return sum(len(found.data) for found in library.read_batch(wanted))


def opening() -> int:
    """The hour, from connecting on."""
    fresh = arcticdb.Arctic(told["arctic"]).get_library("reads")
    return len(fresh.read(told["who"], date_range=between("hour")).data)


reads: dict[str, Callable[[], int]] = {
    **{span: lambda span=span: one(span) for span in ("hour", "day", "year")},
    "day as of noon": lambda: one("day", as_of=0),
    "last hour of all": all_of_them,
    "hour, from opening on": opening,
}
print(
    json.dumps(
        {name: {"rows": read(), **vars(costs(read, runs=told["runs"]))} for name, read in reads.items()}
    )
)
