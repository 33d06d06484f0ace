"""What judging a batch costs beside parsing and publishing it, and beside pandas. `python -m benchmarks.gate`

Ten million trades as Binance's recorded pages give them, no two alike: parsed by the feed, conformed, published into
silver on the embedded S3 server. 16 expectations of Great Expectations' own on that batch, in memory; the whole gate of
silver.trades on it; the same 16 by the library's pandas engine, conversion included. CPU seconds of processes of their
own, all threads counted; peak memory is what judging adds to a process that holds the batch (Linux only).

Asked for: at most 15 % of what parsing and publishing take, a twelfth of pandas, 500 MB, and 30 ms for a tiny batch.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.parse import FEED, answers, fetched
from benchmarks.report import Figure, figure, report
from lakehouse.bronze import pages_frame
from lakehouse.conform import conform
from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.settings import Settings
from lakehouse.silver.trades import TABLE
from lakehouse.store import open_store
from lakehouse.verdict import Batch

ROUNDS, PAGES = 20, 500
TRADES = ROUNDS * PAGES * 1000
TINY = 20
SHARE_ASKED, MB_ASKED, TINY_MS_ASKED = 0.15, 500, 30
COLUMNS = [
    "venue",
    "instrument_id",
    "trade_id",
    "event_at",
    "page_id",
    "price",
    "amount",
    "amount_unit",
    "side",
]
Found = dict[str, float]


def suite() -> Any:
    """16 expectations that the library's pandas engine knows too."""
    from expectations.polars_gx.library import ExpectationSuite, gxe

    required = ("instrument_id", "trade_id", "event_at", "price", "amount", "side")
    return ExpectationSuite(
        name="trades",
        expectations=[
            gxe.ExpectTableRowCountToBeBetween(min_value=1),
            *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in required),
            gxe.ExpectColumnValuesToBeBetween(column="price", min_value=0, strict_min=True),
            gxe.ExpectColumnValuesToBeBetween(column="amount", min_value=0, strict_min=True),
            gxe.ExpectColumnValuesToBeInSet(column="side", value_set=["buy", "sell"]),
            gxe.ExpectColumnValuesToBeInSet(column="amount_unit", value_set=["base", "quote", "contracts"]),
            gxe.ExpectColumnValuesToMatchRegex(column="trade_id", regex=r"^\d+$"),
            gxe.ExpectColumnValuesToBeIncreasing(column="event_at"),
            gxe.ExpectCompoundColumnsToBeUnique(column_list=["venue", "instrument_id", "trade_id"]),
            gxe.ExpectColumnMeanToBeBetween(column="price", min_value=1),
            gxe.ExpectColumnMaxToBeBetween(column="amount", max_value=10_000),
        ],
    )


def path(home: Path) -> Found:
    """CPU seconds of parsing and of publishing; the conformed batch is left in files for the others."""
    server = ensure_running(home, bucket="lake")
    secret = {"s3_access_key": server.access_key, "s3_secret_key": server.secret_key}
    settings = Settings.model_validate({"lake": "s3://lake/gate", "s3_endpoint": server.endpoint, **secret})
    table, numbers = open_store(settings).open(TABLE), count()
    cost = {"parse": 0.0, "publish": 0.0}
    for number in range(ROUNDS):
        told = fetched("binance", answers("binance", numbers, PAGES))
        pages = pages_frame(told, run_id="b", code_version="0")
        rows = timed(cost, "parse", lambda pages=pages: FEED.parse(pages).collect())
        frame = conform(TABLE, rows.lazy()).collect()
        frame.write_parquet(home / f"{number:02}.parquet")
        good = frame.select(TABLE.schema.names())
        timed(cost, "publish", lambda good=good: table.append(good, positions={}, said={}))
    return cost


def timed(cost: Found, what: str, work: Callable[[], Any]) -> Any:
    """What the work returns; its CPU seconds are added to the cost."""
    began = time.process_time()
    done = work()
    cost[what] += time.process_time() - began
    return done


def ours(home: Path) -> Found:
    """The 16 expectations on Polars: CPU seconds, wall seconds, extra MB, and milliseconds for ten rows."""
    from expectations.polars_gx import validate

    wanted, frame = suite(), batch(home)
    judge = lambda rows: validate(wanted, rows)  # noqa: E731
    judge(frame.head(10))
    tiny = [cpu_of(lambda: judge(frame.head(10)))["cpu"] for _ in range(TINY)]
    return {**cpu_of(lambda: judge(frame)), "tiny_ms": statistics.median(tiny) * 1000}


def gate(home: Path) -> Found:
    """The whole gate of the table, as promotions call it."""
    from expectations.gate import Gate

    frame = batch(home)

    def judge(rows: pl.DataFrame) -> object:
        at = datetime.now(UTC)
        return Gate(None).judge(Batch(batch_id="b", table=TABLE, inputs=(), frame=rows, judged_at=at))

    judge(frame.head(10))
    return cpu_of(lambda: judge(frame))


def pandas(home: Path) -> Found:
    """The same 16 by the library's pandas engine, from the Polars frame on."""
    import pandas as pd

    from expectations.polars_gx.library import gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = gx.data_context.types.base.ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("frame")
    definition, wanted, frame = asset.add_batch_definition_whole_dataframe("whole"), suite(), batch(home)

    def judge(rows: pl.DataFrame) -> object:
        data = pd.DataFrame({name: rows[name].to_numpy() for name in COLUMNS})
        data["event_at"] = data["event_at"].dt.tz_localize("UTC")
        return definition.get_batch(batch_parameters={"dataframe": data}).validate(wanted)

    judge(frame.head(10))
    return cpu_of(lambda: judge(frame))


def batch(home: Path) -> pl.DataFrame:
    """The conformed trades in memory, all that a promotion hands to its gate."""
    return pl.read_parquet(home / "*.parquet")


def cpu_of(work: Callable[[], object]) -> Found:
    """CPU and wall seconds of the work, and by how many MB it raised the memory of this process."""
    before = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    began, began_wall = time.process_time(), time.perf_counter()
    work()
    return {
        "cpu": time.process_time() - began,
        "wall": time.perf_counter() - began_wall,
        "mb": memory_mb("VmHWM") - before,
    }


def memory_mb(name: str) -> float:
    """A figure of this process's memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


RUNS: Mapping[str, Callable[[Path], Found]] = {"path": path, "ours": ours, "gate": gate, "pandas": pandas}


def measured(name: str, home: Path) -> Found:
    """One of the runs in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.gate", name, str(home)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def figures(home: Path) -> Iterator[Figure]:
    """Ours, with what is asked for; then what it is measured by."""
    path, ours, gate, pandas = (measured(name, home) for name in RUNS)
    shape, whole = f"16 expectations on {TRADES:,} trades", path["parse"] + path["publish"]
    yield figure("parse and publish the trades, without judging", whole, "CPU s")
    yield figure(shape, ours["cpu"], "CPU s", goal=round(SHARE_ASKED * whole, 2))
    yield figure(
        f"{shape}, of parsing and publishing", 100 * ours["cpu"] / whole, "%", goal=100 * SHARE_ASKED
    )
    yield figure(f"{shape}, wall", ours["wall"], "s")
    yield figure(shape, pandas["cpu"], "CPU s", peer="pandas engine", ratio=pandas["cpu"] / ours["cpu"])
    yield figure(f"{shape}, extra memory", ours["mb"], "MB", goal=MB_ASKED)
    memory = pandas["mb"] / ours["mb"]
    yield figure(f"{shape}, extra memory", pandas["mb"], "MB", peer="pandas engine", ratio=memory)
    yield figure("16 expectations on 10 trades", ours["tiny_ms"], "CPU ms", goal=TINY_MS_ASKED)
    whole_gate = f"gate of silver.trades on {TRADES:,} trades"
    yield figure(whole_gate, gate["cpu"], "CPU s")
    yield figure(
        f"{whole_gate}, of parsing and publishing", 100 * gate["cpu"] / whole, "%", goal=100 * SHARE_ASKED
    )
    yield figure(f"{whole_gate}, extra memory", gate["mb"], "MB", goal=MB_ASKED)


def main() -> None:
    """Print a JSON object a figure and keep them in `benchmarks/results/gate.json`."""
    if len(sys.argv) > 2:
        print(json.dumps(RUNS[sys.argv[1]](Path(sys.argv[2]))))
        return
    home = Path(tempfile.mkdtemp())
    ensure_running(home, bucket="lake")
    report("gate", figures(home))
    release(home, wait=True)
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
