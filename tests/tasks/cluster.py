"""A Dask cluster for tests: a scheduler and nodes, each a process that keeps one worker process alive."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

FAULTS = Path(__file__).with_name("worker_faults.py")


class Cluster:
    """Started with the settings (`MNEMO_*`) that the workers are to have; `close` ends what is left."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._file = folder / "scheduler.json"
        self._environment = {
            **os.environ,
            **environment,
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "2",
        }
        self._log = (folder / "dask.log").open("w")
        self._scheduler = self._start("dask_scheduler", "--port", "0")
        self.nodes: list[subprocess.Popen] = []
        until(self._file.exists)

    @property
    def address(self) -> str:
        return json.loads(self._file.read_text())["address"].replace("tcp://", "dask://")

    def add_node(self) -> None:
        command = ("dask_worker", "--nthreads", "1", "--preload", str(FAULTS))
        self.nodes.append(self._start(*command, "--local-directory", str(self._file.parent)))

    def kill_worker(self, node: int) -> None:
        """Kill -9 the worker; its node starts another."""
        for child in self._workers(node):
            child.send_signal(signal.SIGKILL)

    def kill_node(self, node: int) -> None:
        """Kill -9 a node with its worker: a machine that is gone."""
        for process in (psutil.Process(self.nodes[node].pid), *self._workers(node)):
            process.send_signal(signal.SIGKILL)
        self.nodes[node].wait()

    def _workers(self, node: int) -> list[psutil.Process]:
        children = psutil.Process(self.nodes[node].pid).children(recursive=True)
        return [one for one in children if "resource_tracker" not in " ".join(one.cmdline())]

    def close(self) -> None:
        for node in range(len(self.nodes)):
            if self.nodes[node].poll() is None:
                self.kill_node(node)
        self._scheduler.kill()
        self._scheduler.wait()
        self._log.close()

    def _start(self, program: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.{program}", "--scheduler-file", str(self._file)]
        where = ["--host", "127.0.0.1", "--no-dashboard"]
        return subprocess.Popen(
            [*command, *where, *arguments], env=self._environment, stdout=self._log, stderr=self._log
        )


def until(is_so: Callable[[], object], deadline_s: float = 120) -> None:
    """Wait for a condition."""
    ends = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.02)
