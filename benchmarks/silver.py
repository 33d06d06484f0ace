"""How fast trades that are parsed already are published into silver on S3. `python -m benchmarks.silver`

Two million trades a promotion, onto those of the promotions before: 5 instruments of one venue in turn, 4 trades a
second each, ids that count on, prices and amounts as text, as parsers give them (`benchmarks.candles` describes the
numbers). Ours is the whole of `promote_pages` but parsing: conform, leave out what is stored already, judge by the real
gate, commit verdict and rows, on the embedded S3 server; the same without judging; and the mere commit of 100 rows by
a handle that is held. CPU seconds of the process that publishes, all threads; the server's are its own.

Peers, each in a process of its own, get as many trades as a frame with numbers in place of texts; how many they hold in
the end is compared. None of them looks for what is wrong, and none but dlt for what is there already:

- ArcticDB: `append` to a symbol an instrument, on the same S3 server.
- NautilusTrader: `TradeTick`s of one instrument made by its own wrangler and put in order, then
  `ParquetDataCatalog.write_data`, a local folder.
- freqtrade: `trades_store` of its Parquet handler, a file a pair in a local folder.
- dlt: `merge` (upsert by instrument and trade id) into a Delta table on the same server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from statistics import median

import polars as pl

from benchmarks.candles import trades
from benchmarks.lake import passing_lake, told_of
from benchmarks.measure import Costs, costs
from benchmarks.peers.environment import Environment, LeftOut, leave_out
from benchmarks.report import Figure, figure, report
from expectations.gate import Gate
from lakehouse.bronze import Page, bronze_table, pages_frame
from lakehouse.conform import conform
from lakehouse.errors import MnemoError
from lakehouse.promotion import promote_pages
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.silver.trades import TABLE
from lakehouse.store import Store, open_store
from lakehouse.verdict import Judge, Verdict

RUNS, NEW = 3, 2_000_000
GOAL, COMMIT_MS_GOAL = 600_000, 25
COMMITS, COMMIT_ROWS = 20, 100
SOURCE = bronze_table("benchmark_trades")
PEERS = (
    ("ArcticDB append", "arcticdb", "arctic_append.py"),
    ("NautilusTrader catalog, local", "nautilus", "nautilus_catalog.py"),
    ("freqtrade trades store, local", "freqtrade", "freqtrade_store.py"),
    ("dlt merge", "dlt", "dlt_merge.py"),
)


def parsed(first: int, rows: int) -> pl.DataFrame:
    """Trades as a parser gives them."""
    return trades(first, rows).with_columns(pl.col("price", "amount").cast(pl.String)).collect()


def publishing(store: Store, judge: Judge) -> Costs:
    """Of a promotion of so many trades, onto those before."""
    batches = iter([parsed(number * NEW, NEW) for number in range(RUNS + 1)])
    frame = pl.DataFrame()

    def before() -> None:
        nonlocal frame
        frame = next(batches)
        number = int(frame["page_id"][0])
        request = {"url": f"https://example.org/{number}"}
        page = Page(
            feed="benchmark_trades",
            subject="benchmark",
            request=request,
            received_at=datetime.now(UTC),
            body=b"",
        )
        delivered = pages_frame([page], run_id="b", code_version="0")
        store.open(SOURCE).append(delivered, positions={}, said={})

    def promote() -> None:
        run = Run(run_id="b", code_version="0", now=lambda: datetime.now(UTC))
        (done,) = promote_pages(
            store, TABLE, SOURCE, lambda _: frame.lazy(), judge=judge, run=run, parse_error=MnemoError
        )
        assert done.published_rows == NEW

    return costs(promote, runs=RUNS, before=before)


def commits(store: Store) -> Costs:
    """Of a commit of a few rows by a held handle."""
    table, numbers = store.open(TABLE), count(10**9, COMMIT_ROWS)
    frame = pl.DataFrame()

    def before() -> None:
        nonlocal frame
        rows = conform(TABLE, trades(next(numbers), COMMIT_ROWS)).collect()
        frame = rows.select(TABLE.schema.names())

    return costs(lambda: table.append(frame, positions={}, said={}), runs=COMMITS, before=before)


def accept(batch: object) -> Verdict:
    """No gate."""
    return Verdict(batch=batch, findings=(), reasons={})  # type: ignore[arg-type]


def by_peer(settings: Settings, environment: str, script: str) -> list[float]:
    """Rows per CPU second of each run. Raises LeftOut."""
    files = []
    for number in range(RUNS + 1):
        file = settings.home / f"{environment}-{number}.parquet"
        columns = ("instrument_id", "trade_id", "event_at", "price", "amount", "side")
        trades(number * NEW, NEW).select(columns).sink_parquet(file)
        files.append(str(file))
    told = {**told_of(settings), "files": files, "folder": str(settings.home / environment)}
    said = Environment(environment).run(script, told)
    if said["rows"] != NEW * len(files):
        raise LeftOut(f"it holds {said['rows']} rows of {NEW * len(files)}")
    return [NEW / spent for spent in said["cpu_s"]]


def ours(settings: Settings, name: str, work: Callable[[Store], Costs]) -> Costs:
    """In a lake of its own."""
    return work(open_store(settings.model_copy(update={"lake": f"{settings.lake}-{name}"})))


def figures() -> Iterator[Figure]:
    with passing_lake("silver") as settings:
        what = f"publish {NEW:,} trades"
        gate = Gate(None)
        judged = ours(settings, "judged", lambda store: publishing(store, gate.judge))
        mine = [NEW / spent for spent in judged.cpu_s]
        yield figure(what, mine, "trades / CPU s", goal=GOAL)
        yield figure(f"{what}, wall", [NEW / spent for spent in judged.wall_s], "trades / s")
        unjudged = ours(settings, "unjudged", lambda store: publishing(store, accept))
        yield figure(f"{what} without judging", [NEW / spent for spent in unjudged.cpu_s], "trades / CPU s")
        yield figure("peak memory of these", max(judged.peak_gib, unjudged.peak_gib), "GiB")
        for peer, environment, script in PEERS:
            try:
                theirs = by_peer(settings, environment, script)
            except LeftOut as why:
                leave_out(peer, why)
                continue
            ratio = median(mine) / median(theirs)
            yield figure(what, theirs, "trades / CPU s", peer=peer, ratio=ratio)
        small = ours(settings, "commits", commits)
        spent_ms = [1000 * spent for spent in small.cpu_s]
        yield figure(f"a commit of {COMMIT_ROWS} rows, handle held", spent_ms, "CPU ms", goal=COMMIT_MS_GOAL)
        yield figure(f"a commit of {COMMIT_ROWS} rows, wall", [1000 * spent for spent in small.wall_s], "ms")


if __name__ == "__main__":
    report("silver", figures())
