"""What gets killed: processes that ingest and promote, forked from a nursery in which everything is imported already.

The nursery never touches Delta itself: its threads would not survive a fork.
"""

import logging
import os
import random
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product

import orjson
import polars as pl
import structlog
from deliveries import MINUTE, ORIGIN, Unreadable, feeds, window

from lakehouse.catalog import models
from lakehouse.errors import Contention
from lakehouse.gold import candles
from lakehouse.promotion import promote_model, promote_pages
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.store import Store
from lakehouse.verdict import Batch, Verdict
from sources.client import Client
from sources.feed import Feed
from sources.ingest import ingest


@dataclass(frozen=True, kw_only=True)
class Nursery:
    """Starts workers. Made before this process itself uses Delta."""

    channel: socket.socket
    pid: int

    @classmethod
    def fork(cls) -> "Nursery":
        """The nursery as a process of its own."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            ours.close()
            _serve(theirs)
            os._exit(0)
        theirs.close()
        return cls(channel=ours, pid=pid)

    def start(self, role: str, store: Store, **how: object) -> int:
        """Start a worker; its process id."""
        settings = store.settings.model_dump(mode="json") | {
            "s3_secret_key": store.settings.s3_secret_key.get_secret_value()
        }
        return int(self._ask({"role": role, "settings": settings, "how": how}))

    def wait(self, pid: int) -> int:
        """Its exit code when it has ended; the signal's number, negative, where it was killed."""
        return int(self._ask({"wait": pid}))

    def close(self) -> None:
        """The nursery ends with its channel."""
        self.channel.close()
        os.waitpid(self.pid, 0)

    def _ask(self, question: dict) -> str:
        self.channel.send(orjson.dumps(question))
        return self.channel.recv(100).decode()


def _serve(channel: socket.socket) -> None:
    models()  # imported once for all
    while question := channel.recv(65_536):
        asked = orjson.loads(question)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            channel.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            channel.close()
            os._exit(_work(asked))
        channel.send(str(pid).encode())


def _work(asked: dict) -> int:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    store = Store(Settings(**asked["settings"]))
    try:
        _ROLES[asked["role"]](store, **asked["how"])
    except BaseException:  # noqa: BLE001 - the worker's last words, whatever it was
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


def _ingest(
    store: Store,
    *,
    seed: int,
    names: list[str],
    subjects: list[str],
    minutes: int,
    commits: int,
    pause_s: float,
) -> None:
    """`commits` fetches of so many minutes for every subject, from where bronze ends; the last minute once more."""
    wanted = list(product([feed for feed in feeds(seed) if feed.name in names], subjects))
    first = min(_reached(store, feed, subject) for feed, subject in wanted)
    with Client(store.settings) as client:
        for number in range(commits):
            minute = first + number * (minutes - 1)
            for feed, subject in wanted:
                ingest(store, feed, subject, window(minute, minutes=minutes), client=client, run=_run())
            time.sleep(random.uniform(0, pause_s))


def _reached(store: Store, feed: Feed, subject: str) -> int:
    pages = store.open(feed.bronze).scan().filter(pl.col("subject") == subject)
    last = pages.select(pl.col("window_start").max()).collect().item()
    return 0 if last is None else (last - ORIGIN) // MINUTE


def _promote(store: Store, *, seed: int, until_done: bool) -> None:
    """Silver from bronze and gold from silver, again and again; `until_done`: until nothing is new."""
    while True:
        done = []
        try:
            for feed in feeds(seed):
                done += promote_pages(
                    store,
                    feed.table,
                    feed.bronze,
                    feed.parse,
                    judge=judge,
                    run=_run(),
                    parse_error=Unreadable,
                )
            done += promote_model(store, candles.MODEL, judge=judge, run=_run())
        except Contention:
            continue  # others were faster a dozen times: what they did is done
        if until_done and not done:
            return


def judge(batch: Batch) -> Verdict:
    """Lets through what has no reasons: the gate itself is tested elsewhere."""
    return Verdict(batch=batch, findings=(), reasons={})


def _run() -> Run:
    return Run(run_id=f"worker {os.getpid()}", code_version="0", now=lambda: datetime.now(UTC))


def kill(pid: int) -> None:
    """No word of warning."""
    os.kill(pid, signal.SIGKILL)


_ROLES = {"ingest": _ingest, "promote": _promote}
