"""Candles from 5 and from 55 million trades, through the lake on the embedded S3 server. `python -m benchmarks.candles`

The trades are synthetic: 5 instruments of one venue, taken in turn each 48.7 ms and moved by up to 40 ms, so 4.1 trades
a second each, over 31 days for the larger number; ids that count on per instrument, prices in cents on two sine waves
with noise, amounts of four decimals, two buys to a sell. They are stored a million a commit, as live promotions would
leave them. Filling is not measured; it goes past bronze.

Ours is `promote_model` of gold.candles as it stands: read the trades, build 1m, 5m, 15m, 1h and 1d bars with all that
proves them whole, conform, judge by the real gate, commit. Wall and CPU seconds and peak memory of a process of its
own. The gate imports Great Expectations when it first judges: these 3 CPU seconds are in the time.

Peers, each in a process of its own in the same run, only compute, and prove, judge and commit nothing: a plain scan of
the columns that candles need, and the same bars in DuckDB's SQL, both over the same files on the same server; ArcticDB
with its own `resample` into minutes (the longer bars of these, by pandas) from its own copy on the same server, whose
writing is not measured; pandas on the first day, and freqtrade's `trades_to_ohlcv` on it, which has no bought volume:
their times are taken times the number of days.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import polars as pl

from benchmarks.lake import passing_lake, settings_in, told_of
from benchmarks.measure import peak_gib
from benchmarks.peers.environment import Environment, LeftOut, leave_out
from benchmarks.report import Figure, figure, report
from lakehouse.conform import conform
from lakehouse.gold import candles
from lakehouse.promotion import promote_model
from lakehouse.publish import Run
from lakehouse.silver.trades import TABLE
from lakehouse.sql import connect
from lakehouse.store import Store, open_store

START = datetime(2024, 1, 1, tzinfo=UTC)
SIZES, PER_COMMIT = (5_000_000, 55_000_000), 1_000_000
INSTRUMENTS, STEP_US = 5, 48_700
SECONDS_ASKED, GIB_ASKED = {55_000_000: 60}, {55_000_000: 1.0}
A_DAY = 86_400_000_000 // STEP_US
"""Trades of a day."""
COLUMNS = ("instrument_id", "trade_id", "event_at", "price", "amount", "side")
INTERVALS = {"1m": "1 minute", "5m": "5 minutes", "15m": "15 minutes", "1h": "1 hour", "1d": "1 day"}


def trades(first: int, count: int) -> pl.LazyFrame:
    """Trades number `first` up to `first + count`, as the module says."""
    n = pl.col("n")
    own, who = n // INSTRUMENTS, n % INSTRUMENTS
    at = pl.lit(START) + pl.duration(microseconds=n * STEP_US + n * 2_654_435_761 % 40_000)
    wave = 1 + 0.02 * (own / 2e5).sin() + 0.001 * (own / 3e3).sin()
    return (
        pl.select(n=pl.int_range(first, first + count, dtype=pl.Int64))
        .lazy()
        .select(
            venue=pl.lit("benchmark"),
            instrument_id=pl.concat_str(pl.lit("A"), who, pl.lit("/USD")),
            trade_id=own.cast(pl.String),
            event_at=at,
            known_at=at,
            ingested_at=at,
            page_id=n // 1000,
            provider=pl.lit("benchmark"),
            price=(10_000 * (1 + who) * wave + n * 40_503 % 97 / 100).round(2),
            amount=(n * 2_654_435_761 % 9_973 + 1) / 10_000,
            amount_unit=pl.lit("base"),
            side=pl.when(n * 40_503 % 3 == 0).then(pl.lit("sell")).otherwise(pl.lit("buy")),
        )
    )


def fill(store: Store, size: int) -> None:
    """Store so many trades."""
    table = store.open(TABLE)
    for first in range(0, size, PER_COMMIT):
        frame = conform(TABLE, trades(first, min(PER_COMMIT, size - first))).collect()
        table.append(frame.select(TABLE.schema.names()), positions={}, said={})


def promoted(store: Store) -> int:
    """The number of bars that a promotion published."""
    from expectations.gate import Gate  # heavy, and the peers do without

    gate = Gate(None)
    run = Run(run_id="b", code_version="0", now=lambda: datetime.now(UTC))
    promote_model(store, candles.MODEL, judge=gate.judge, run=run)
    return int(store.open(candles.TABLE).scan().select(pl.len()).collect().item())


def scanned(store: Store) -> int:
    """The number of trades, after all values of the columns were looked at."""
    rows = store.open(TABLE).scan().select(pl.col(COLUMNS).max(), rows=pl.len())
    return int(rows.collect(engine="streaming")["rows"].item())


def counted_by_duckdb(store: Store) -> int:
    """The number of bars that DuckDB makes."""
    with connect(store) as connection:
        connection.execute("set timezone = 'UTC'")
        connection.execute(
            f"""create temp table minutes as
            select venue, instrument_id, time_bucket(interval '1 minute', event_at) as minute,
              arg_min(price, event_at) as open, max(price) as high, min(price) as low,
              arg_max(price, event_at) as close, sum(amount) as volume, count(*) as trades,
              sum(amount * price) as quote, sum(amount) filter (side = 'buy') as bought
            from delta_scan('{store.uri(TABLE.name)}') group by all"""
        )
        bars = " union all ".join(
            f"""select '{name}' as interval, venue, instrument_id, time_bucket(interval '{length}', minute) as open_at,
              arg_min(open, minute), max(high), min(low), arg_max(close, minute), sum(volume), sum(trades),
              sum(quote) / sum(volume), sum(bought) from minutes group by all"""
            for name, length in INTERVALS.items()
        )
        connection.execute(f"create temp table bars as {bars}")
        found = connection.execute("select count(*) from bars").fetchone()
        return int(found[0]) if found else 0


def counted_by_pandas(store: Store) -> int:
    """The number of bars that pandas makes of the first day."""
    with connect(store) as connection:
        columns = connection.execute(
            f"select {', '.join(COLUMNS)} from delta_scan('{store.uri(TABLE.name)}') where event_at < '2024-01-02'"
        ).fetchnumpy()
    day = pd.DataFrame(columns)
    day["quote"] = day["price"] * day["amount"]
    day["bought"] = day["amount"].where(day["side"] == "buy")
    day = day.sort_values("event_at")
    figures = {
        "open": ("price", "first"),
        "high": ("price", "max"),
        "low": ("price", "min"),
        "close": ("price", "last"),
        "volume": ("amount", "sum"),
        "trades": ("amount", "count"),
        "quote": ("quote", "sum"),
        "bought": ("bought", "sum"),
    }
    starts = [day["event_at"].dt.floor(length) for length in ("1min", "5min", "15min", "1h", "1D")]
    return sum(len(day.groupby(["instrument_id", start]).agg(**figures)) for start in starts)


RUNS: Mapping[str, Callable[[Store], int]] = {
    "ours": promoted,
    "plain Parquet scan": scanned,
    "DuckDB": counted_by_duckdb,
    "pandas": counted_by_pandas,
}
OF_A_DAY = ("pandas", "freqtrade trades_to_ohlcv")
"""Peers that are given the first day alone."""
ELSEWHERE = {
    "ArcticDB resample": ("arcticdb", "arctic_resample.py"),
    "freqtrade trades_to_ohlcv": ("freqtrade", "freqtrade_candles.py"),
}
"""Peers in environments of their own."""


def run_here(name: str, home: Path, size: int) -> dict[str, float]:
    """Wall and CPU seconds, peak GiB and the number found of one of the runs, in this process."""
    store = open_store(settings_in(home, f"candles-{size}"))
    wall, cpu = time.perf_counter(), time.process_time()
    found = RUNS[name](store)
    spent = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    return {**spent, "gib": peak_gib(), "found": found}


def measured(name: str, home: Path, size: int) -> dict[str, float]:
    """The same in a process of its own. Its peak counts from that of this process on, which therefore does no work."""
    found: dict[str, float] = json.loads(alone(name, home, size).splitlines()[-1])
    return found


def alone(name: str, home: Path, size: int) -> str:
    """What is printed by this program with these arguments."""
    command = [sys.executable, "-m", "benchmarks.candles", name, str(home), str(size)]
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout


def elsewhere(name: str, home: Path, size: int) -> dict[str, float]:
    """The same of a peer in its own environment, which gets the trades as files. Raises LeftOut."""
    environment, script = ELSEWHERE[name]
    folder = home / f"trades-{size}"
    given = sorted(folder.iterdir())[:1] if name in OF_A_DAY else sorted(folder.iterdir())
    told = {**told_of(settings_in(home, "peer")), "files": [str(file) for file in given], "size": size}
    found: dict[str, float] = Environment(environment).run(script, told)
    return found


def agree(theirs: Mapping[str, float], ours: Mapping[str, float]) -> None:
    """Raises LeftOut where a peer made other bars; ours leaves out the first and the last, which are not over."""
    unfinished = 2 * INSTRUMENTS * len(INTERVALS)
    if not 0 <= theirs["found"] - ours["found"] <= unfinished:
        raise LeftOut(f"it made {theirs['found']:,} bars, ours are {ours['found']:,}")


def lay_out(home: Path, size: int) -> None:
    """The trades as files, a day each, for peers that have their own copy."""
    folder = home / f"trades-{size}"
    folder.mkdir()
    for number, first in enumerate(range(0, size, A_DAY)):
        count = min(A_DAY, size - first)
        trades(first, count).select(COLUMNS).sink_parquet(folder / f"{number:03}.parquet")


def prepare(home: Path, size: int) -> None:
    """All that is not measured."""
    fill(open_store(settings_in(home, f"candles-{size}")), size)
    lay_out(home, size)


def of_size(home: Path, size: int) -> Iterator[Figure]:
    """Ours and each peer."""
    ours, what = measured("ours", home, size), f"{size:,} trades to bars"
    yield figure(what, ours["wall_s"], "s", goal=SECONDS_ASKED.get(size))
    yield figure(what, ours["cpu_s"], "CPU s")
    yield figure(f"{what}, peak memory", ours["gib"], "GiB", goal=GIB_ASKED.get(size))
    yield figure(f"{what}, bars", ours["found"], "bars")
    for peer in [*RUNS, *ELSEWHERE]:
        if peer == "ours":
            continue
        try:
            theirs = elsewhere(peer, home, size) if peer in ELSEWHERE else measured(peer, home, size)
            if peer in ("DuckDB", "ArcticDB resample"):
                agree(theirs, ours)
        except LeftOut as why:
            leave_out(peer, why)
            continue
        share = size / A_DAY if peer in OF_A_DAY else 1
        wall, cpu, gib = share * theirs["wall_s"], share * theirs["cpu_s"], theirs["gib"]
        yield figure(what, wall, "s", peer=peer, ratio=wall / ours["wall_s"])
        yield figure(what, cpu, "CPU s", peer=peer, ratio=cpu / ours["cpu_s"])
        yield figure(f"{what}, peak memory", gib, "GiB", peer=peer, ratio=gib / ours["gib"])


def figures() -> Iterator[Figure]:
    with passing_lake("candles") as settings:
        for size in SIZES:
            alone("prepare", settings.home, size)
            yield from of_size(settings.home, size)


def main() -> None:
    """With arguments one run in this process, as JSON; else all of them."""
    if len(sys.argv) > 1:
        name, home, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
        if name == "prepare":
            prepare(home, size)
        else:
            print(json.dumps(run_here(name, home, size)))
    else:
        report("candles", figures())


if __name__ == "__main__":
    main()
