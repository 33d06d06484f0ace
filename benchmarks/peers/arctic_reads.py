"""ArcticDB: slices of its own copy of the trades on the S3 server that is told, a symbol an instrument.

The copy is appended a file at a time, each a version of the symbols; that is not measured. For the day as of noon the
whole day is read of the version `version`, for ArcticDB does not know when a row was known.
"""

import json
import sys
from collections.abc import Callable

import arcticdb
import pandas as pd

from benchmarks.measure import costs

told = json.load(sys.stdin)
library = arcticdb.Arctic(told["arctic"]).create_library("reads")
for file in told["files"]:
    frame = pd.read_parquet(file)
    frame["event_at"] = frame["event_at"].dt.tz_localize(None)
    for name, rows in frame.set_index("event_at").groupby("instrument_id"):
        library.append(name, rows.drop(columns="instrument_id"))
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
    "day as of noon": lambda: one("day", as_of=told["version"]),
    "last hour of all": all_of_them,
    "hour, from opening on": opening,
}
print(
    json.dumps(
        {name: {"rows": read(), **vars(costs(read, runs=told["runs"]))} for name, read in reads.items()}
    )
)
