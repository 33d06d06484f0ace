"""Candles from 55 million trades, through the lake on the embedded S3 server. `python -m benchmarks.candles`

The trades are synthetic: 5 instruments of one venue over 31 days, taken in turn each 48.7 ms and moved by up to 40 ms,
so 4.1 trades a second each; ids that count on per instrument, prices in cents on two sine waves with noise, amounts of
four decimals, two buys to a sell. They are stored a million a commit, as live promotions would leave them. Filling is
not measured; it goes past bronze.

Ours is `promote_model` of gold.candles as it stands: read the trades, build 1m, 5m, 15m, 1h and 1d bars with all that
proves them whole, conform, judge by the real gate, commit. Wall time and peak memory (`ru_maxrss`) of a process of its
own, imports included in the memory and not in the time; asked for are 60 s and 1 GiB on two cores.

Peers, each in a process of its own in the same run, over the same files on the same server: a plain scan of the columns
that candles need; the same bars in DuckDB's SQL, from minutes on, without any proof, judgement or commit; pandas on the
first day, its time taken times the number of trades.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import polars as pl

from benchmarks.report import report
from lakehouse.conform import conform
from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.gold import candles
from lakehouse.promotion import promote_model
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.silver.trades import TABLE
from lakehouse.sql import connect
from lakehouse.store import Store, open_store

START = datetime(2024, 1, 1, tzinfo=UTC)
TRADES, PER_COMMIT = 55_000_000, 1_000_000
INSTRUMENTS, STEP_US = 5, 48_700
SECONDS_ASKED, GIB_ASKED = 60, 1.0
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


def filled(store: Store) -> int:
    """Store the trades; the number of them."""
    table = store.open(TABLE)
    for first in range(0, TRADES, PER_COMMIT):
        frame = conform(TABLE, trades(first, min(PER_COMMIT, TRADES - first))).collect()
        table.append(frame.select(TABLE.schema.names()), positions={}, said={})
    return TRADES


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
            f"select {', '.join(COLUMNS)} from delta_scan('{store.uri(TABLE.name)}') where event_date = '2024-01-01'"
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


PEERS: Mapping[str, Callable[[Store], int]] = {
    "plain Parquet scan": scanned,
    "DuckDB": counted_by_duckdb,
    "pandas": counted_by_pandas,
}
RUNS: Mapping[str, Callable[[Store], int]] = {"fill": filled, "ours": promoted, **PEERS}
SHARE = {"pandas": TRADES / min(TRADES, 86_400_000_000 // STEP_US)}
"""How much more work all trades are than what a peer was given."""


def measure(name: str, settings: Settings) -> dict[str, float]:
    """Seconds, peak GiB and the number found of one of the runs, in this process."""
    store = open_store(settings)
    began = time.perf_counter()
    found = RUNS[name](store)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": seconds, "gib": peak, "found": found}


def measured(name: str, home: Path) -> dict[str, float]:
    """The same in a process of its own. Its peak counts from that of this process on, which therefore does no work."""
    command = [sys.executable, "-m", "benchmarks.candles", name, str(home)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def figures(home: Path) -> Iterator[dict[str, object]]:
    """Ours, its ratio against what is asked for; then each peer, ours against it."""
    ours = measured("ours", home)
    shape = f"{TRADES:,} trades to {int(ours['found']):,} bars"
    yield _figure(shape, ours["seconds"], "s", None, SECONDS_ASKED / ours["seconds"])
    yield _figure(f"{shape}, peak memory", ours["gib"], "GiB", None, GIB_ASKED / ours["gib"])
    for peer in PEERS:
        theirs = measured(peer, home)
        seconds = theirs["seconds"] * SHARE.get(peer, 1)
        yield _figure(f"{shape}, by {peer}", seconds, "s", peer, seconds / ours["seconds"])
        yield _figure(
            f"{shape}, peak memory of {peer}", theirs["gib"], "GiB", peer, theirs["gib"] / ours["gib"]
        )


def _figure(figure: str, value: float, unit: str, peer: str | None, ratio: float) -> dict[str, object]:
    return {
        "suite": "candles",
        "figure": figure,
        "value": round(value, 3),
        "unit": unit,
        "peer": peer,
        "ratio": round(ratio, 3),
    }


def _settings(home: Path) -> Settings:
    server = ensure_running(home, bucket="lake")
    secret = {"s3_access_key": server.access_key, "s3_secret_key": server.secret_key}
    return Settings.model_validate({"lake": "s3://lake/gold", "s3_endpoint": server.endpoint, **secret})


def main() -> None:
    """Print a JSON object a figure and keep them in `benchmarks/results/candles.json`."""
    if len(sys.argv) > 2:
        print(json.dumps(measure(sys.argv[1], _settings(Path(sys.argv[2])))))
        return
    home = Path(tempfile.mkdtemp())
    _settings(home)
    measured("fill", home)
    report("candles", figures(home))
    release(home, wait=True)
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
