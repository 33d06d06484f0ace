"""What Prefect and the engine cost this product's runs. `python -m benchmarks.orchestration`

All on a Prefect server of its own (SQLite, the settings that are shipped) that has nothing else to do; wall seconds
where nothing else is said. `Prefect's server` is that process's CPU seconds.

- An empty flow, its client warm. A second of it is no work: at a flow's end Prefect waits for the thread that sends its
  heartbeats, by which lost runs are found, and that looks up once a second.
- Tasks that do nothing, run in a flow as this product's flows run theirs: in turn as promotions are, by four threads as
  fetches are.
- A share through the engine: 16 shares (an asset each, a day of minutes) are promoted by a Dask cluster of one worker;
  what is not spent in promoting, of the same run, is the engine's. And jobs that do nothing, for each.
- The flow `daily` over 100 made-up assets with 30 daily prices each, from a server on loopback that answers at once:
  fetches, every table's promotion, artifacts, Data Docs and the lake's page. The peer is the same work by the plain
  functions that the tasks call, without Prefect; two rounds, each in fresh lakes. Imports are left out of both; CPU
  seconds are of the process and those that it starts.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.loopback import PrefectServer, in_process, lake, prefect_server
from benchmarks.measure import Costs, costs
from benchmarks.report import Figure, figure, report
from lakehouse.shares import Share
from lakehouse.window import Window

SUBJECTS = 100
DAYS = 30
TASKS = 40
RUNS = 5
ROUNDS = 2
SHARES = 16
JOBS = 200
START = datetime(2024, 1, 1, tzinfo=UTC)
FEED = "coinmetrics_asset_metrics"
MODULE = "benchmarks.orchestration"


def figures() -> Iterator[Figure]:
    with lake() as around, prefect_server() as server:
        yield from of_flows({**around, "MNEMO_LAKE": "s3://lake/flows"}, server)
        yield from of_shares({**around, "MNEMO_LAKE": "s3://lake/shares"})
        yield from of_daily(around, server)


# Flows and tasks that do nothing


def of_flows(around: Mapping[str, str], server: PrefectServer) -> Iterator[Figure]:
    before = server.cpu_s
    found = in_process(MODULE, "flows", {**around, **server.environment})
    spent = server.cpu_s - before
    yield figure("empty flow", [1e3 * one for one in found["empty"]["wall_s"]], "ms")
    yield figure("empty flow", [1e3 * one for one in found["empty"]["cpu_s"]], "CPU ms")
    for how in ("in turn", "by four threads"):
        for of, unit in (("wall_s", "ms"), ("cpu_s", "CPU ms")):
            each = [1e3 * one / TASKS for one in found[how][of]]
            yield figure(f"task that does nothing, {TASKS} of them {how}", each, unit)
    run_tasks = 2 * (RUNS + 1) * TASKS
    yield figure("Prefect's server, for each task of these flows", 1e3 * spent / run_tasks, "CPU ms")


def flows() -> dict[str, Any]:
    """In a process of its own."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    from flows.daily import FETCHERS

    @task(cache_policy=NO_CACHE)
    def nothing(number: int) -> int:
        return number

    @flow
    def empty() -> None:
        return None

    @flow
    def in_turn() -> Costs:
        return costs(lambda: [nothing(number, return_state=True) for number in range(TASKS)], runs=RUNS)

    @flow(task_runner=FETCHERS)
    def by_threads() -> Costs:
        def all_of_them() -> None:
            for future in [nothing.submit(number) for number in range(TASKS)]:
                future.result()

        return costs(all_of_them, runs=RUNS)

    found = {"empty": costs(empty, runs=RUNS), "in turn": in_turn(), "by four threads": by_threads()}
    return {name: {"wall_s": one.wall_s, "cpu_s": one.cpu_s} for name, one in found.items()}


# A share through the engine


def of_shares(around: Mapping[str, str]) -> Iterator[Figure]:
    found = in_process(MODULE, "shares", around)
    each, work = found["whole"] / SHARES, found["work"] / SHARES
    yield figure(f"share of {SHARES}, promoted by one worker", 1e3 * each, "ms")
    yield figure(f"share of {SHARES}, promoted by one worker, the engine's part", 1e3 * (each - work), "ms")
    yield figure("job that does nothing, through the engine", 1e3 * found["idle"] / JOBS, "ms")


def shares() -> dict[str, float]:
    """In a process of its own: seconds of all shares, of the work in them, and of jobs without work."""
    from distributed import LocalCluster

    from lakehouse.promotion import shares_to_promote
    from lakehouse.shares import share_of
    from sources import registry
    from sources.ingest import ingest
    from tasks import engine, session
    from tasks.engine import Job

    alone = LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
    with alone as cluster:
        os.environ["MNEMO_ENGINE"] = cluster.scheduler_address.replace("tcp://", "dask://")
        feed, store = registry.feed(FEED), session.store()
        day = Window(START, START + timedelta(days=1))
        of_share = {
            share_of(subject): subject for subject in (f"a{n}:PriceUSD@1m" for n in range(2 * SHARES))
        }
        for subject in list(of_share.values())[:SHARES]:
            ingest(store, feed, subject, day, client=session.client(), run=session.new_run())
        found = list(shares_to_promote(store, feed.table, feed.bronze))
        engine.cluster().run(warm_up)
        began = time.perf_counter()
        idle = list(engine.run_all(abs, [Job(name=str(n), arguments=(n,)) for n in range(JOBS)]))
        middle = time.perf_counter()
        jobs = [Job(name=str(one.number), arguments=(one,)) for one in found]
        done = list(engine.run_all(timed_share, jobs))
        end = time.perf_counter()
    assert len(idle) == JOBS
    assert len(found) == SHARES
    return {"idle": middle - began, "whole": end - middle, "work": sum(one.value or 0.0 for one in done)}


def timed_share(share: Share) -> float:
    """A worker's job: promote a share; seconds."""
    from tasks import session
    from tasks.jobs import promote_one_share

    began = time.perf_counter()
    promote_one_share(FEED, share, share, session.new_run())
    return time.perf_counter() - began


def warm_up() -> None:
    """A worker that is at work already."""
    from expectations import gate, suite  # noqa: F401
    from tasks import session

    session.store()


# A daily run


def of_daily(around: Mapping[str, str], server: PrefectServer) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        watchlist = Path(folder) / "watchlist.yaml"
        entries = [
            f'- {{feed: {FEED}, subject: "a{number}:PriceUSD@1d", days: {DAYS}}}'
            for number in range(SUBJECTS)
        ]
        watchlist.write_text("\n".join(entries))
        named = {**around, "MNEMO_WATCHLIST": str(watchlist)}
        found = [_round(named, server, number) for number in range(ROUNDS)]
    ours, plain, servers = zip(*found, strict=True)
    whole, without = f"daily run of {SUBJECTS} subjects", "plain functions"
    for of, unit in (("wall_s", "s"), ("cpu_s", "CPU s")):
        mine, theirs = ([one[of] for one in runs] for runs in (ours, plain))
        yield figure(whole, mine, unit)
        yield figure(whole, theirs, unit, peer=without, ratio=median(theirs) / median(mine))
        extra = [1e3 * (one - other) / SUBJECTS for one, other in zip(mine, theirs, strict=True)]
        yield figure(f"{whole}, what Prefect adds for each subject", extra, unit.replace("s", "ms"))
    yield figure(f"{whole}, Prefect's server", [one["cpu_s"] for one in servers], "CPU s")
    yield figure(f"growth of Prefect's database by a {whole}", [one["grown_mb"] for one in servers], "MB")


def _round(
    around: Mapping[str, str], server: PrefectServer, number: int
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """The plain functions, then the flow, each in a fresh lake: what they took, and what the server did."""
    plain = in_process(MODULE, "plain", {**around, "MNEMO_LAKE": f"s3://lake/plain{number}"})
    before, size = server.cpu_s, server.database_bytes
    ours = in_process(
        MODULE, "daily", {**around, **server.environment, "MNEMO_LAKE": f"s3://lake/daily{number}"}
    )
    assert ours["rows"] == plain["rows"] > 0
    grown = (server.database_bytes - size) / 1e6
    return ours, plain, {"cpu_s": server.cpu_s - before, "grown_mb": grown}


def daily() -> dict[str, float]:
    """In a process of its own: the flow."""
    from prefect import flow

    from flows.daily import daily as whole

    @flow
    def nothing() -> None:
        return None

    nothing()
    return once(lambda: sum(one.published_rows for one in whole().promoted))


def plain() -> dict[str, float]:
    """In a process of its own: what the flow's tasks call, as they call it."""
    from lakehouse import catalog
    from sources.watchlist import read_watchlist
    from tasks import report as told
    from tasks import session, work

    def whole() -> int:
        run = session.new_run()
        orders = read_watchlist(session.settings(), now=session.utc_now())
        with ThreadPoolExecutor(4) as pool:
            fetched = list(pool.map(lambda order: work.fetch(order, run), orders))
        promoted = [one for table in catalog.promotion_order() for one in work.promote(table, run)]
        told.record_figures(run, promoted=promoted)
        told.record_figures(run, fetched=fetched)
        told.rebuild_docs(run)
        subprocess.run([sys.executable, "-m", "deployments.ui.export"], capture_output=True, check=True)
        return sum(one.published_rows for one in promoted)

    return once(whole)


def once(act: Callable[[], int]) -> dict[str, float]:
    """Wall seconds, CPU seconds and rows of one run, the imports left out."""
    from expectations import docs, gate, suite  # noqa: F401

    rows: list[int] = []
    children = children_cpu_s()
    spent = costs(lambda: rows.append(act()), runs=1, warm_up=0)
    return {"wall_s": spent.wall, "cpu_s": spent.cpu + children_cpu_s() - children, "rows": rows[0]}


def children_cpu_s() -> float:
    """CPU seconds of the processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


APART: Mapping[str, Callable[[], Any]] = {
    "flows": flows,
    "shares": shares,
    "daily": daily,
    "plain": plain,
}
"""What is run in a process of its own."""


def main() -> None:
    """Print a JSON object a figure and keep them in `benchmarks/results/orchestration.json`."""
    if len(sys.argv) > 1:
        print(json.dumps(APART[sys.argv[1]]()))
    else:
        report("orchestration", figures())


if __name__ == "__main__":
    main()
