"""Where the shares of a promotion and the subjects of a backfill are worked on: here, or on a Dask cluster.

Plain futures: names of tables and feeds travel, never frames, and each process opens the lake by its own settings. A
job whose worker dies runs elsewhere, and finds in the table's log what it had finished; one that kills every worker it
meets fails by its name, and the others go on.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import structlog

from lakehouse.errors import SettingsError
from tasks import session

if TYPE_CHECKING:
    from distributed import Client, Future

log = structlog.get_logger()

T = TypeVar("T")

_DEADLINE_S = 30
"""How long a scheduler may take to answer."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One call of a function; `name` says what it works on."""

    name: str
    arguments: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """What became of a job: its value, or why there is none."""

    job: Job
    value: T | None = None
    error: BaseException | None = None


def is_cluster() -> bool:
    """Whether `MNEMO_ENGINE` names a cluster, so that work is cut to run side by side."""
    return session.settings().engine != "local"


def run_all(function: Callable[..., T], jobs: Sequence[Job]) -> Iterator[Outcome[T]]:
    """The outcome of each job, in the order in which they are done; an error of one does not stop the others.

    `function` is one that can be imported; it may run twice where a worker dies, so it must find what it has done.
    """
    from distributed import KilledWorker

    client = cluster()
    at_once = max(1, sum(client.nthreads().values()))
    suspects = []
    for outcome in _run(client, function, jobs, at_once):
        if isinstance(outcome.error, KilledWorker):
            suspects.append(outcome)
        else:
            yield outcome
    if len(suspects) == 1:
        yield suspects[0]
    else:  # whoever was on a worker that another job killed is innocent: each is tried again by itself
        yield from _run(client, function, [one.job for one in suspects], 1)


def _run(
    client: Client, function: Callable[..., T], jobs: Sequence[Job], at_once: int
) -> Iterator[Outcome[T]]:
    """Never more than `at_once` are with the workers: a job that kills its worker should take no others along."""
    from distributed import as_completed

    waiting = iter(jobs)
    running: dict[Future, Job] = {}

    def submit(job: Job) -> Future:
        future = client.submit(function, *job.arguments, key=f"{job.name} {uuid.uuid4()}", pure=False)
        running[future] = job
        return future

    done = as_completed(
        [submit(job) for job in islice(waiting, at_once)],
        loop=client.loop,
        with_results=True,
        raise_errors=False,
    )
    for future, result in done:
        job = running.pop(future)
        if following := next(waiting, None):
            done.add(submit(following))
        yield _outcome(job, future, result)


def _outcome(job: Job, future: Future, result: Any) -> Outcome[Any]:
    if future.status == "finished":
        return Outcome(job=job, value=result)
    error = result[1] if isinstance(result, tuple) else result
    log.warning("a job failed", job=job.name, because=str(error))
    return Outcome(job=job, error=error)


@session.once
def cluster() -> Client:
    """The cluster that the setting names, one connection for the process; `dask` starts one on this machine."""
    try:
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise SettingsError(
            "MNEMO_ENGINE names Dask, which is not installed: `pip install mnemo-quant[dask]`"
        ) from None
    engine = session.settings().engine
    if engine == "dask":
        local = LocalCluster(processes=True, threads_per_worker=1, host="127.0.0.1", dashboard_address=None)
        session.keep_open(local)
        return session.keep_open(Client(local, set_as_default=False))
    address = engine.replace("dask://", "tcp://", 1)
    try:
        return session.keep_open(Client(address, timeout=_DEADLINE_S, set_as_default=False))
    except OSError as error:
        raise SettingsError(f"no Dask scheduler answers at {address} (setting MNEMO_ENGINE)") from error
