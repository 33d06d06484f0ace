"""Landing in a process of its own: where frames are heard, nothing is to wait for commits.

Both would take turns at one interpreter: 1 of 100 frames then takes three times as long to become durable. The process
is told over a pipe how far the spool is durable, and answers what is in bronze. It ends when nobody is left to tell it
anything; what it was doing then it does to the end, and whoever lands next finds it done.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import structlog

from lakehouse.errors import MnemoError
from lakehouse.publish import Run
from lakehouse.store import Store
from sources.recorder.landing import Landed, Landing
from sources.spool import Spool

_POLITE = 10
"""How much less than the others this process is worth to the machine."""


class LandingFailed(MnemoError):
    """Bronze did not take entries of the spool; they are still there."""


class Lander:
    """The process that lands spools of one feed; for one thread at a time."""

    def __init__(self, store: Store, feed: str, run: Run) -> None:
        self._orders = _Orders(store, feed, run.run_id, run.code_version)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process where there is none. While one is started no other thread runs."""
        if self._process is None:
            self._connection, theirs = Pipe()
            with closing(theirs):
                self._process = subprocess.Popen(  # noqa: S603 - this very module
                    [sys.executable, "-m", __spec__.name, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=2,
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # a Ctrl-C is for the recorder, which then lands what is left
                )
            self._connection.send(self._orders)

    def land(self, spool: Spool, upto: int) -> Landed:
        """Bring entries before `upto` into bronze, in one commit as many as fit.

        Raises LandingFailed; the next call tries again.
        """
        try:
            self.start()
            self._connection.send((spool.folder, upto))
            answer = self._connection.recv()
        except (EOFError, OSError) as error:
            self.close()
            raise LandingFailed(f"the process that lands has ended: {error!r}") from error
        if isinstance(answer, Landed):
            return answer
        raise LandingFailed(answer)

    def close(self) -> None:
        """End the process, once it has done what it was told."""
        if self._process:
            self._connection.close()
            self._process.wait()
            self._process = None


class _Orders(NamedTuple):
    store: Store
    feed: str
    run_id: str
    code_version: str


def _land_for(connection: Connection) -> None:
    """Land what is told until nobody tells anything any more."""
    orders: _Orders = connection.recv()
    landings: dict[Path, Landing] = {}
    while True:
        folder, upto = connection.recv()
        if folder not in landings:
            landings[folder] = Landing(
                orders.store, orders.feed, folder, run_id=orders.run_id, code_version=orders.code_version
            )
        try:
            connection.send(landings[folder].land(upto))
        except MnemoError as error:
            connection.send(str(error))


def main() -> None:
    """`python -m sources.recorder.lander FD`: one end of the pipe is the open file of that number."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the recorder's end is ours
    os.nice(_POLITE)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _land_for(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
