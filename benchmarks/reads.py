"""Reading slices of a table of 100 million trades on S3 into this process. `python -m benchmarks.reads`

Silver trades of 20 instruments of one venue over the 365 days from 2024-01-01, one of each every 6.3 s: 100,010,000
rows, a commit a day and then `mnemo upkeep`, which leaves a file a month. Read is one instrument's hour, day and year,
a day as it was known at noon (`as_of`), and the last hour of all instruments, each with time, price, amount and side;
through `Lake.scan` with a lake that is open, and the hour also from opening the lake on. Wall and CPU seconds of the
process that reads; medians of 25 after one.

Peers in the same run, on the same server: DuckDB over the same files, through a table that is attached with its
snapshot pinned (for the read from opening on, `delta_scan`); ArcticDB in a process of its own from its own copy, a
symbol an instrument, a version a month, whose writing is not measured. ArcticDB has no time at which a fact was known:
its `as_of` is an earlier version, of which it reads the whole day.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import polars as pl

from benchmarks.lake import passing_lake, told_of
from benchmarks.measure import Costs, costs
from benchmarks.peers.environment import Environment, LeftOut, leave_out
from benchmarks.report import Figure, figure, report
from lakehouse import Lake
from lakehouse.conform import conform
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.silver.trades import TABLE
from lakehouse.sql import connect
from lakehouse.store import open_store
from lakehouse.upkeep import upkeep

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS, INSTRUMENTS, A_DAY = 365, 20, 13_700
STEP_US = 86_400_000_000 // A_DAY
END = START + timedelta(days=DAYS)
RUNS = 25
MOST_OF_ARCTIC = 2.0
"""Times what ArcticDB takes for a slice: what is asked for."""
COLUMNS = ("event_at", "price", "amount", "side")
WHO = "A7/USD"
HOUR = (START + timedelta(days=200, hours=13), START + timedelta(days=200, hours=14))
DAY = (START + timedelta(days=200), START + timedelta(days=201))
NOON = DAY[0] + timedelta(hours=12)
YEAR = (START, END)
LAST = (END - timedelta(hours=1), END)
SLICES: Mapping[str, tuple[datetime, datetime]] = {"hour": HOUR, "day": DAY, "year": YEAR}


def trades(day: int) -> pl.LazyFrame:
    """A day's trades, ordered by instrument and time."""
    n = pl.col("n")
    who, own = n // A_DAY, day * A_DAY + n % A_DAY
    at = pl.lit(START + timedelta(days=day)) + pl.duration(microseconds=n % A_DAY * STEP_US)
    return (
        pl.select(n=pl.int_range(INSTRUMENTS * A_DAY, dtype=pl.Int64))
        .lazy()
        .select(
            venue=pl.lit("benchmark"),
            instrument_id=pl.concat_str(pl.lit("A"), who, pl.lit("/USD")),
            trade_id=own.cast(pl.String),
            event_at=at,
            known_at=at,
            ingested_at=at,
            page_id=own // 1000,
            provider=pl.lit("benchmark"),
            price=(10_000 * (1 + who) * (1 + 0.02 * (own / 2e5).sin()) + n * 40_503 % 97 / 100).round(2),
            amount=(n * 2_654_435_761 % 9_973 + 1) / 10_000,
            amount_unit=pl.lit("base"),
            side=pl.when(n * 40_503 % 3 == 0).then(pl.lit("sell")).otherwise(pl.lit("buy")),
        )
    )


def fill(settings: Settings) -> None:
    """Store all of them, a day a commit, and keep the table up."""
    store = open_store(settings)
    table = store.open(TABLE)
    for day in range(DAYS):
        frame = conform(TABLE, trades(day)).collect()
        table.append(frame.select(TABLE.schema.names()), positions={}, said={})
    list(upkeep(store, [TABLE], Run(run_id="benchmark", code_version="", now=lambda: datetime.now(UTC))))


def lay_out(settings: Settings) -> list[str]:
    """The same as files, a month or so each, for a peer that has its own copy."""
    files = []
    for first in range(0, DAYS, 30):
        file = settings.home / f"{first:03}.parquet"
        days = pl.concat([trades(day) for day in range(first, min(first + 30, DAYS))])
        days.select("instrument_id", *COLUMNS).sink_parquet(file)
        files.append(str(file))
    return files


# Reading: each gives the number of rows


def ours(lake: Lake) -> dict[str, Callable[[], int]]:
    def read(start: datetime, end: datetime, **more: Any) -> int:
        return lake.scan(TABLE.name, start=start, end=end, **more).select(COLUMNS).collect().height

    slices = {name: lambda span=span: read(*span, instrument_id=WHO) for name, span in SLICES.items()}
    return {
        **slices,
        "day as of noon": lambda: read(*DAY, instrument_id=WHO, as_of=NOON),
        "last hour of all": lambda: read(*LAST),
    }


def by_duckdb(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, Callable[[], int]]:
    def read(start: datetime, end: datetime, *, who: str | None = None, as_of: datetime | None = None) -> int:
        where = f"event_at >= '{start}' and event_at < '{end}'"
        where += f" and instrument_id = '{who}'" if who else ""
        where += f" and known_at <= '{as_of}'" if as_of else ""
        query = f"select {', '.join(COLUMNS)} from {relation} where {where}"
        return pl.DataFrame(connection.sql(query)).height

    slices = {name: lambda span=span: read(*span, who=WHO) for name, span in SLICES.items()}
    return {
        **slices,
        "day as of noon": lambda: read(*DAY, who=WHO, as_of=NOON),
        "last hour of all": lambda: read(*LAST),
    }


def opening(settings: Settings) -> int:
    """The hour, from opening the lake on."""
    return ours(Lake.open(settings))["hour"]()


def opening_by_duckdb(settings: Settings) -> int:
    """The hour, from connecting on."""
    store = open_store(settings)
    with connect(store) as connection:
        connection.execute("set timezone = 'UTC'")
        return by_duckdb(connection, f"delta_scan('{store.uri(TABLE.name)}')")["hour"]()


def by_arctic(settings: Settings) -> dict[str, tuple[int, Costs]]:
    """Rows and costs by the name of a read. Raises LeftOut."""
    spans = {name: [one.isoformat() for one in span] for name, span in {**SLICES, "last": LAST}.items()}
    told = {"spans": spans, "who": WHO, "runs": RUNS, "version": 200 // 30}
    files = lay_out(settings)
    said = Environment("arcticdb").run("arctic_reads.py", {**told_of(settings), **told, "files": files})
    return {
        name: (one["rows"], Costs(one["wall_s"], one["cpu_s"], one["peak_gib"])) for name, one in said.items()
    }


def timed(reads: Mapping[str, Callable[[], int]]) -> dict[str, tuple[int, Costs]]:
    """Rows and costs by the name of a read."""
    return {name: (read(), costs(read, runs=RUNS)) for name, read in reads.items()}


def beside(
    peer: str, theirs: Mapping[str, tuple[int, Costs]], mine: Mapping[str, tuple[int, Costs]]
) -> Iterator[Figure]:
    """A peer's figures, where it read the same."""
    for name, (rows, spent) in theirs.items():
        asked, own = mine[name]
        by_version = peer == "ArcticDB" and name == "day as of noon"
        if rows != asked and not by_version:
            leave_out(f"{peer}, {name}", LeftOut(f"it read {rows:,} rows, ours are {asked:,}"))
            continue
        what = f"read {name}: {rows:,} rows"
        whose = f"{peer}, whole day of a version" if by_version else peer
        wall_ms, cpu_ms = ([1000 * one for one in runs] for runs in (spent.wall_s, spent.cpu_s))
        yield figure(what, wall_ms, "ms", peer=whose, ratio=spent.wall / own.wall)
        yield figure(what, cpu_ms, "CPU ms", peer=whose, ratio=spent.cpu / own.cpu)
        if peer == "ArcticDB" and name in SLICES:
            yield figure(f"{what}, of ArcticDB's time", own.wall / spent.wall, "times", goal=MOST_OF_ARCTIC)


def figures() -> Iterator[Figure]:
    with passing_lake("reads") as settings:
        fill(settings)
        lake = Lake.open(settings)
        mine = timed({**ours(lake), "hour, from opening on": lambda: opening(settings)})
        for name, (rows, spent) in mine.items():
            yield figure(f"read {name}: {rows:,} rows", [1000 * one for one in spent.wall_s], "ms")
            yield figure(f"read {name}: {rows:,} rows", [1000 * one for one in spent.cpu_s], "CPU ms")
        with connect(open_store(settings)) as connection:
            connection.execute("set timezone = 'UTC'")
            uri = open_store(settings).uri(TABLE.name)
            connection.execute(f"attach '{uri}' as pinned (type delta, pin_snapshot)")
            theirs = timed(by_duckdb(connection, "pinned"))
        theirs |= timed({"hour, from opening on": lambda: opening_by_duckdb(settings)})
        yield from beside("DuckDB", theirs, mine)
        try:
            yield from beside("ArcticDB", by_arctic(settings), mine)
        except LeftOut as why:
            leave_out("ArcticDB", why)


if __name__ == "__main__":
    report("reads", figures())
