"""What a cluster gains, and what a large backfill pays for being orchestrated. `python -m benchmarks.scale`

Shares: 64 made-up assets with a week of minutes each (645,120 rows), promoted into silver.asset_metrics through the
real gate by one process (`local`) and by Dask clusters of one and of two worker processes on this machine; wall
seconds of a run each, imports and the workers' start left out. With two cores a second worker shares them with the
scheduler and the S3 server.

Backfill: the plan of 2,000 assets with 30 daily prices each, as CPU seconds; and 500 of them by the flow `backfill` on
a Prefect server of its own, from a server on loopback that answers at once, two at a time. A subject is one window of
30 days, one request and one commit. What the flow takes is given for each window, and how much of it is not spent in
the functions that its tasks call (planning, fetching, promoting): that is orchestration. Both are of the same run, for
two runs of minutes differ by more; it is the same for any number of windows, as they are no tasks of Prefect's.

500 and not 2,000: each fetch opens the bronze table anew, and its log names a file a fetch until upkeep compacts it,
so that a window costs the more the more came before it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from distributed import Client as Dask
from distributed import LocalCluster

from benchmarks.loopback import in_process, lake, prefect_server, settings_of
from benchmarks.report import Figure, figure, report
from lakehouse.publish import Run
from lakehouse.shares import SHARES, share_of
from lakehouse.silver.asset_metrics import TABLE
from lakehouse.store import open_store
from lakehouse.window import Window, iso
from sources import registry
from sources.backfill_plan import plan
from sources.client import Client
from sources.ingest import ingest

START = datetime(2024, 1, 1, tzinfo=UTC)
FEED = registry.feed("coinmetrics_asset_metrics")
DAYS = 7
MINUTES = Window(START, START + timedelta(days=DAYS))
MONTH = Window(START, START + timedelta(days=30))
PLANNED, FETCHED = 2_000, 500
PARALLEL = 2
WORKERS = (1, 2)


def figures() -> Iterator[Figure]:
    with lake() as around:
        yield from of_shares(around)
        yield from of_backfill(around)


# Shares on a cluster


def of_shares(around: Mapping[str, str]) -> Iterator[Figure]:
    alone = promoted({**around, "MNEMO_LAKE": "s3://lake/alone"}, "local")
    yield figure(f"promotion of {SHARES} shares, local", alone, "s")
    for workers in WORKERS:
        named = {**around, "MNEMO_LAKE": f"s3://lake/cluster{workers}"}
        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None, env=named
            ) as cluster,
            Dask(cluster) as dask,
        ):
            dask.run(warm_up)
            seconds = promoted(named, cluster.scheduler_address.replace("tcp://", "dask://"))
        name = f"promotion of {SHARES} shares, Dask, {workers} worker{'s' if workers > 1 else ''}"
        yield figure(name, seconds, "s")
        yield figure(name, alone, "s", peer="local", ratio=alone / seconds)


def promoted(environment: Mapping[str, str], engine: str) -> float:
    """Wall seconds of promoting what is delivered to a fresh lake, without the imports."""
    settings = settings_of(environment)
    with Client(settings, now=clock) as client:
        for subject in one_of_each_share():
            ingest(open_store(settings), FEED, subject, MINUTES, client=client, run=run())
    done = in_process("benchmarks.scale", "promotion", {**environment, "MNEMO_ENGINE": engine})
    assert done["rows"] == SHARES * DAYS * 24 * 60
    return float(done["seconds"])


def promotion() -> dict[str, float]:
    """In a process of its own."""
    from expectations import gate, suite  # noqa: F401 - its import is not measured
    from tasks import engine, session, work

    if engine.is_cluster():
        engine.cluster()
    began = time.perf_counter()
    done = work.promote(TABLE.name, session.new_run())
    return {"seconds": time.perf_counter() - began, "rows": sum(one.published_rows for one in done)}


def warm_up() -> None:
    """A worker that is at work already."""
    from expectations import suite  # noqa: F401
    from tasks import session

    session.store()


def one_of_each_share() -> list[str]:
    found: dict[int, str] = {}
    for number in range(10_000):
        subject = f"a{number}:PriceUSD@1m"
        found.setdefault(share_of(subject), subject)
    return list(found.values())


# A backfill under Prefect


def of_backfill(around: Mapping[str, str]) -> Iterator[Figure]:
    named = {**around, "MNEMO_LAKE": "s3://lake/backfill"}
    with Client(settings_of(named), now=clock) as client:
        began = time.process_time()
        planned = plan(
            open_store(settings_of(named)),
            FEED,
            subjects(PLANNED),
            MONTH,
            client=client,
            order="oldest-first",
        )
        spent = time.process_time() - began
    cells = len(planned.cells)
    yield figure(f"plan of {cells:,} windows, for each", 1e3 * spent / cells, "CPU ms")
    with prefect_server() as server:
        in_process("benchmarks.scale", "nothing", {**named, **server.environment})
        size, cpu = server.database_bytes, server.cpu_s
        took = in_process("benchmarks.scale", "backfill", {**named, **server.environment})
        grown, server_cpu = server.database_bytes - size, server.cpu_s - cpu
    whole = f"backfill of {FETCHED:,} windows and their promotion"
    yield figure(f"{whole}, for each window", 1e3 * took["whole"] / FETCHED, "ms")
    yield figure(f"{whole}, fetching alone, for each window", 1e3 * took["carry_out"] / FETCHED, "ms")
    extra = took["whole"] - sum(took[name] for name in WORK)
    yield figure(f"{whole}, orchestration, whole", extra, "s")
    yield figure(f"{whole}, orchestration, for each window", 1e3 * extra / FETCHED, "ms")
    yield figure(f"{whole}, Prefect's server, for each window", 1e3 * server_cpu / FETCHED, "CPU ms")
    yield figure(f"growth of Prefect's database by a {whole}", grown / 1e6, "MB")


def nothing() -> None:
    """A first flow: the server makes what it keeps for ever."""
    from prefect import flow

    @flow
    def empty() -> None:
        return None

    empty()


@dataclass
class Stopwatch:
    """How long a function was at work."""

    act: Callable[..., Any]
    seconds: float = 0.0

    def __call__(self, *given: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return self.act(*given, **named)
        finally:
            self.seconds += time.perf_counter() - began


WORK = ("plan_backfill", "carry_out", "promote")


def backfill() -> dict[str, float]:
    """Seconds of the whole flow and of the functions that its tasks call, in a process of its own."""
    from flows.backfill import backfill as flow
    from tasks import work

    nothing()
    watches = {name: Stopwatch(getattr(work, name)) for name in WORK}
    for name, watch in watches.items():
        setattr(work, name, watch)
    began = time.perf_counter()
    flow(FEED.name, subjects(FETCHED), iso(MONTH.start), iso(MONTH.end), parallel=PARALLEL)
    whole = time.perf_counter() - began
    return {"whole": whole, **{name: watch.seconds for name, watch in watches.items()}}


# What both need


def subjects(count: int) -> list[str]:
    return [f"a{number}:PriceUSD@1d" for number in range(count)]


def clock() -> datetime:
    return START + timedelta(days=60)


def run() -> Run:
    return Run(run_id="benchmark", code_version="0", now=clock)


APART = {"promotion": promotion, "nothing": nothing, "backfill": backfill}
"""What is run in a process of its own."""


def main() -> None:
    """Print a JSON object a figure and keep them in `benchmarks/results/scale.json`."""
    if len(sys.argv) > 1:
        print(json.dumps(APART[sys.argv[1]]()))
    else:
        report("scale", figures())


if __name__ == "__main__":
    main()
