"""How fast fetched pages come into bronze on S3. `python -m benchmarks.landing`

Recorded pages of Binance and Kraken, 1,000 trades each, repeated with other ids and times so that no two trades are
alike; 100 pages a commit, onto the embedded S3 server. Rows are the trades in the pages, MB the bodies as the provider
sent them. Ours is the whole of `ingest`: pages with their ids, looking for what is there already, the commit with the
record of the fetch. CPU seconds of the process that lands, all threads; the server's are its own.

Peers in the same run, with the same bytes on the same server: one PUT of all of them, which is the limit; a PUT of each
body as an object, which gives no table either; dlt's pipeline into a Delta table, where a row is a page (number, time,
body), in a process of its own; and for landing rows at once a plain loop over `json.loads` into dicts, `write_delta` of
their frame, unchecked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from benchmarks.lake import passing_lake, told_of
from benchmarks.measure import Costs, costs
from benchmarks.parse import FEED, VENUES, WINDOW, answers, by_dicts, fetched
from benchmarks.peers.environment import Environment, LeftOut, leave_out
from benchmarks.report import Figure, figure, report
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.store import Store, open_store
from sources.client import Answer, Client
from sources.ingest import ingest

RUNS, PAGES = 5, 100
ROWS = PAGES * 1000
GOAL = 135_000
Batch = Sequence[Answer]


def ours(store: Store, exchange: str, client: Client) -> Callable[[Batch], None]:
    run = Run(run_id="benchmark", code_version="0", now=lambda: datetime.now(UTC))

    def land(batch: Batch) -> None:
        feed = replace(FEED, fetch=lambda *_: fetched(exchange, batch))
        done = ingest(store, feed, f"{exchange}:BTC/USDT", WINDOW, client=client, run=run)
        assert done.new_pages == PAGES

    return land


def plain_puts(store: Store) -> Callable[[Batch], None]:
    numbers = count()

    def put(batch: Batch) -> None:
        for answer in batch:
            store.files.put(f"plain/{next(numbers)}", answer.body)

    return put


def one_put(store: Store) -> Callable[[Batch], None]:
    return lambda batch: store.files.put("plain/all", b"".join(answer.body for answer in batch))


def dicts_and_write_delta(settings: Settings, exchange: str) -> Callable[[Batch], None]:
    read = by_dicts(exchange)
    options = {
        "AWS_ENDPOINT_URL": settings.s3_endpoint,
        "AWS_ACCESS_KEY_ID": settings.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": settings.s3_secret_key.get_secret_value(),
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "aws_conditional_put": "etag",
    }

    def write(batch: Batch) -> None:
        frame = read([answer.body for answer in batch])
        frame.write_delta(f"{settings.lake}/dicts_{exchange}", mode="append", storage_options=options)

    return write


def by_dlt(settings: Settings, exchange: str, batches: Sequence[Batch]) -> list[float]:
    """CPU seconds of each batch after the first, which warms up. Raises LeftOut."""
    folder = Path(settings.home, f"dlt_{exchange}")
    folder.mkdir()
    for number, batch in enumerate(batches):
        for page, answer in enumerate(batch):
            folder.joinpath(f"{number:02}-{page:03}").write_bytes(answer.body)
    said = Environment("dlt").run("dlt_landing.py", {**told_of(settings), "folder": str(folder)})
    if said["pages"] != len(batches) * PAGES:
        raise LeftOut(f"it holds {said['pages']} pages of {len(batches) * PAGES}")
    return list(said["cpu_s"])


def each(work: Callable[[Batch], None], batches: Sequence[Batch]) -> Costs:
    """Of each batch after the first, which warms up."""
    left = iter(batches)
    return costs(lambda: work(next(left)), runs=RUNS, warm_up=len(batches) - RUNS)


def figures_of(exchange: str, settings: Settings, client: Client) -> Iterator[Figure]:
    store, numbers = open_store(settings), count()
    batches = [answers(exchange, numbers, PAGES) for _ in range(RUNS + 1)]
    mb = sum(len(answer.body) for answer in batches[0]) / 1e6
    what = f"land trades in bronze, {exchange}"
    mine = each(ours(store, exchange, client), batches)
    yield figure(what, [ROWS / spent for spent in mine.cpu_s], "rows / CPU s", goal=GOAL)
    yield figure(what, [mb / spent for spent in mine.cpu_s], "MB / CPU s")
    yield figure(f"{what}, wall", [ROWS / spent for spent in mine.wall_s], "rows / s")
    for peer, work in (
        ("one PUT of all bytes", one_put(store)),
        ("a PUT for each page", plain_puts(store)),
        ("json.loads, dicts, write_delta", dicts_and_write_delta(settings, exchange)),
    ):
        theirs = each(work, batches)
        rates = [ROWS / spent for spent in theirs.cpu_s]
        yield figure(what, rates, "rows / CPU s", peer=peer, ratio=theirs.cpu / mine.cpu)
    try:
        spent_s = by_dlt(settings, exchange, batches)
    except LeftOut as why:
        leave_out("dlt", why)
        return
    rates = [ROWS / spent for spent in spent_s]
    ratio = sorted(spent_s)[len(spent_s) // 2] / mine.cpu
    yield figure(what, rates, "rows / CPU s", peer="dlt to Delta, a row a page", ratio=ratio)


def figures() -> Iterator[Figure]:
    with passing_lake("landing") as settings, Client(settings) as client:
        for exchange in VENUES:
            yield from figures_of(exchange, settings, client)


if __name__ == "__main__":
    report("landing", figures())
