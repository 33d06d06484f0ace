"""What promoting 100,000 new trades costs onto a small and a large table. `python -m benchmarks.growth`

Synthetic trades: 20 instruments of one venue, one trade each 10 ms, prices as text with 8 decimals; stored a day a
commit, promoted through the real gate on the embedded S3 server. CPU seconds of this process, medians of five.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from benchmarks.report import report
from expectations.gate import Gate
from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.conform import conform
from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.errors import MnemoError
from lakehouse.promotion import promote_pages
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.silver.trades import TABLE
from lakehouse.store import Store, open_store

START = datetime(2024, 1, 1, tzinfo=UTC)
NEW, RUNS = 100_000, 5
SIZES = (1_000_000, 20_000_000)
PER_COMMIT = 1_000_000
SOURCE = bronze_table("benchmark_trades")


def trades(first: int, count: int) -> pl.LazyFrame:
    """Trades number `first` up to `first + count`, as a parser would give them."""
    number = pl.int_range(first, first + count, dtype=pl.Int64, eager=False)
    frame = pl.select(number.alias("n")).lazy()
    at = pl.lit(START) + pl.duration(milliseconds=pl.col("n") * 10)
    return frame.select(
        venue=pl.lit("benchmark"),
        instrument_id=pl.concat_str(pl.lit("A"), pl.col("n") % 20, pl.lit("/USD")),
        trade_id=pl.col("n").cast(pl.String),
        event_at=at,
        known_at=at,
        ingested_at=at,
        page_id=pl.col("n") // 1000,
        provider=pl.lit("benchmark"),
        price=pl.concat_str(pl.lit(100) + pl.col("n") % 97, pl.lit(".12345678")),
        amount=pl.concat_str(pl.lit("0.0"), pl.col("n") % 89 + 1),
        amount_unit=pl.lit("base"),
        side=pl.when(pl.col("n") % 2 == 0).then(pl.lit("buy")).otherwise(pl.lit("sell")),
    )


def parse(pages: pl.DataFrame) -> pl.LazyFrame:
    """A page's body says which trades it stands for: parsing is measured elsewhere."""
    said = [json.loads(body) for body in pages["body"]]
    return pl.concat([trades(*one) for one in said]) if said else trades(0, 0)


def fill(store: Store, rows: int) -> None:
    """Store trades the fast way: what is measured is adding to them."""
    table = store.open(TABLE)
    for first in range(0, rows, PER_COMMIT):
        frame = conform(TABLE, trades(first, min(PER_COMMIT, rows - first))).collect()
        table.append(frame.select(TABLE.schema.names()), positions={}, said={})


def promote_new(store: Store, first: int, gate: Gate) -> float:
    """CPU seconds of promoting the next trades."""
    page = Page(
        feed="benchmark_trades",
        subject="benchmark",
        request={"method": "GET", "url": f"https://example.org/{first}"},
        received_at=START + timedelta(days=400),
        body=json.dumps([first, NEW]).encode(),
    )
    store.open(SOURCE).append(pages_frame([page], run_id="b", code_version="0"), positions={}, said={})
    run = Run(run_id="b", code_version="0", now=lambda: datetime.now(UTC))
    began = time.process_time()
    (done,) = promote_pages(store, TABLE, SOURCE, parse, judge=gate.judge, run=run, parse_error=MnemoError)
    assert done.published_rows == NEW
    return time.process_time() - began


def figures(settings: Settings) -> Iterator[dict[str, object]]:
    """One record a size, the last with the ratio to the first."""
    gate, medians = Gate(None), []
    for size in SIZES:
        store = open_store(settings.model_copy(update={"lake": f"s3://lake/{uuid.uuid4().hex}"}))
        fill(store, size)
        promote_new(store, size, gate)  # warm: imports, caches
        costs = [promote_new(store, size + NEW * n, gate) for n in range(1, RUNS + 1)]
        medians.append(statistics.median(costs))
        yield {
            "suite": "growth",
            "figure": f"promote {NEW:,} trades onto {size:,}",
            "value": round(medians[-1], 3),
            "unit": "CPU s",
            "peer": f"onto {SIZES[0]:,}" if len(medians) > 1 else None,
            "ratio": round(medians[0] / medians[-1], 2),
        }


def main() -> None:
    """Print a JSON object a figure and keep them in `benchmarks/results/growth.json`."""
    home = Path(tempfile.mkdtemp())
    server = ensure_running(home, bucket="lake")
    secret = {"s3_access_key": server.access_key, "s3_secret_key": server.secret_key}
    report("growth", figures(Settings.model_validate({"s3_endpoint": server.endpoint, **secret})))
    release(home, wait=True)
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
