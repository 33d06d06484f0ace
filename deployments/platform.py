"""`mnemo up` and `mnemo down`: S3, Prefect server, worker, deployments, automations, blocks on this machine.

One process, the keeper, starts the others and starts again what dies. Every process of the platform, flow runs too,
holds a lock in `MNEMO_HOME/platform` and is found by it (`deployments.held`): a second `mnemo up` finds the first, one
after a crash takes over what still lives, and `mnemo down` leaves nothing behind.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import structlog
from rich.console import Console

from deployments.held import hold, holder, holders
from deployments.register import POOL, prefect_settings, register
from lakehouse.embedded_s3 import stop_unused
from lakehouse.errors import MnemoError
from lakehouse.settings import Settings, load_settings
from lakehouse.store import open_store

log = structlog.get_logger()

_START_S = 300.0
_FINISH_S = 30.0
"""How long flow runs and the server may take to end when they are asked to."""
_LOOK_EVERY_S = 1.0
_PAUSE_S = 15.0
"""What dies again and again is not started more often than this."""
_TAIL_LINES = 15
_started: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, kw_only=True)
class _Child:
    """A process that the keeper keeps: under which name, and what it runs."""

    name: str
    module: str
    arguments: tuple[str, ...]


class _Stopped(Exception):
    """Somebody wants the keeper to end."""


def up(*, port: int, detach: bool) -> None:
    """Have the platform run; in the foreground until Ctrl-C, or return when it is ready. Running already, say so."""
    home = _home()
    if not holder(home / "keeper.lock"):
        (home / "ready.json").unlink(missing_ok=True)
        if not detach:
            keep(port)
            return
        _start(home, "keeper", [sys.executable, "-m", "deployments.platform", str(port)])
    _wait_until((home / "ready.json").exists, alive=home / "keeper.lock", logs=home / "keeper.log")
    _print_addresses(home)


def down() -> list[str]:
    """Stop all that belongs to this home folder, whoever started it; the names of what was running."""
    home = _home()
    running = list(holders(home, "*"))
    _end(holders(home, "keeper"), home, seconds=3 * _FINISH_S)
    _stop_children(home)
    (home / "ready.json").unlink(missing_ok=True)
    stop_unused(load_settings().home)
    return running


def keep(port: int) -> None:
    """Be the keeper: start all there is, see that it goes on, stop it at SIGTERM or Ctrl-C."""
    home = _home()
    if not hold(home / "keeper.lock"):
        raise MnemoError(f"another `mnemo up` is at work in {home}")
    _on_signals(_stop)
    port = _port(home, port)
    url = f"http://127.0.0.1:{port}"
    os.environ.update(_environment(url))
    os.environ.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # importing Prefect without bytecode takes three times as long
    settings = load_settings()
    server, worker = _children(port)
    try:
        endpoint = _store(settings)
        _ensure(home, server)
        _wait_until(lambda: _is_healthy(url), alive=home / "server.lock", logs=home / "server.log")
        _put_by(home / "runs.log")
        _register(home, settings)
        _ensure(home, worker)
        addresses = {"Prefect": url, "lake": settings.lake, "S3": endpoint, "logs": str(home)}
        _write(home / "ready.json", addresses)
        _print_addresses(home)
        _watch(home, settings, (server, worker))
    except _Stopped:
        log.info("stopping")
    finally:
        _on_signals(signal.SIG_IGN)
        _stop_children(home)
        (home / "ready.json").unlink(missing_ok=True)


def _watch(home: Path, settings: Settings, children: Sequence[_Child]) -> NoReturn:
    """Start again what has died."""
    started_at = dict.fromkeys(children, -_PAUSE_S)
    while True:
        time.sleep(_LOOK_EVERY_S)
        _reap()
        try:
            _store(settings)
            for child in children:
                is_due = time.monotonic() > started_at[child] + _PAUSE_S
                if is_due and not holder(home / f"{child.name}.lock"):
                    started_at[child] = time.monotonic()
                    log.warning("has died, is started again", process=child.name)
                    _ensure(home, child)
        except MnemoError as error:
            log.warning("cannot be started; tried again later", error=str(error))


def _children(port: int) -> tuple[_Child, _Child]:
    where = ("--host", "127.0.0.1", "--port", str(port))
    pool = ("--pool", POOL, "--name", "mnemo", "--type", "process")
    return (
        _Child(name="server", module="prefect", arguments=("server", "start", *where)),
        _Child(name="worker", module="prefect", arguments=("worker", "start", *pool)),
    )


def _port(home: Path, wanted: int) -> int:
    """The port of the server that outlived its keeper, else the one that is wanted."""
    noted = home / "port"
    if not holder(home / "server.lock"):
        noted.write_text(str(wanted))
    return int(noted.read_text())


def _ensure(home: Path, child: _Child) -> None:
    """Start a child unless it lives."""
    lock = home / f"{child.name}.lock"
    if not holder(lock):
        held = [sys.executable, "-m", "deployments.held", str(lock), child.module, *child.arguments]
        _start(home, child.name, held)


def _start(home: Path, name: str, command: list[str]) -> None:
    """Start a process in a session of its own; it holds its lock when this returns."""
    logs = home / f"{name}.log"
    _put_by(logs)
    with logs.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    _started.append(process)
    deadline = time.monotonic() + _START_S
    while not holder(home / f"{name}.lock"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise MnemoError(f"{name} did not start:\n{_tail(logs)}")
        time.sleep(0.05)


def _reap() -> None:
    """Take note of our own children that have ended."""
    _started[:] = [process for process in _started if process.poll() is None]


def _wait_until(is_so: Callable[[], bool], *, alive: Path, logs: Path) -> None:
    """Wait for something, as long as the process that is to bring it about lives."""
    deadline = time.monotonic() + _START_S
    while not is_so():
        if not holder(alive) or time.monotonic() > deadline:
            raise MnemoError(f"{alive.stem} did not get ready; {logs} ends:\n{_tail(logs)}")
        time.sleep(0.1)


def _register(home: Path, settings: Settings) -> None:
    """Flow runs hold locks as well: `mnemo down` finds those that a killed worker has left behind.

    They write to a log of their own: a pipe to the worker, as Prefect has it, breaks with the worker and ends them.
    """
    flow = [sys.executable, "-m", "deployments.held", str(home / "flow-{n}.lock"), "prefect.engine"]
    logged = f"exec {shlex.join(flow)} >> {shlex.quote(str(home / 'runs.log'))} 2>&1"
    register(
        settings, process={"working_dir": str(Path.cwd()), "command": shlex.join(["/bin/sh", "-c", logged])}
    )


def _stop_children(home: Path) -> None:
    """Worker and runs first, while there is a server to be told; then the server."""
    worker = holders(home, "worker")
    for pid in worker.values():
        _send(pid, signal.SIGTERM)  # takes no further runs
    _end(holders(home, "flow-*"), home)
    _end(holders(home, "worker"), home, ask=False)
    _end(holders(home, "flow-*"), home, seconds=0)  # started while the worker ended
    _end(holders(home, "server"), home)


def _end(running: Mapping[str, int], home: Path, *, seconds: float = _FINISH_S, ask: bool = True) -> None:
    """Ask processes to end, and end those that do not."""
    for pid in running.values() if ask else ():
        _send(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while left := {name: pid for name, pid in running.items() if holder(home / f"{name}.lock") == pid}:
        _reap()
        if time.monotonic() > deadline:
            for pid in left.values():
                _send(pid, signal.SIGKILL)
        time.sleep(0.05)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _store(settings: Settings) -> str:
    """Address of the store; the embedded server is started, and started again if it has died."""
    return open_store(settings).settings.s3_endpoint


def _environment(url: str) -> Mapping[str, str]:
    """Prefect's settings for all children, with its state in our home."""
    home = load_settings().home.resolve()
    ours = {"MNEMO_HOME": str(home), "PREFECT_HOME": str(home / "prefect"), "PREFECT_API_URL": f"{url}/api"}
    return {**prefect_settings(), **ours, "PREFECT_UI_API_URL": f"{url}/api"}


def _is_healthy(url: str) -> bool:
    try:
        urllib.request.urlopen(f"{url}/api/health", timeout=5).close()  # noqa: S310 - loopback http
    except (urllib.error.URLError, OSError):
        return False
    return True


def _print_addresses(home: Path) -> None:
    console = Console()
    for name, address in json.loads((home / "ready.json").read_text()).items():
        if address:
            console.print(f"{name:<8} {address}", soft_wrap=True)
    console.print("`mnemo down` stops everything")


def _write(path: Path, content: Mapping[str, str]) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(content))
    partial.replace(path)


def _put_by(logs: Path) -> None:
    """Begin a new log; the last one is kept."""
    if logs.exists():
        logs.replace(logs.with_suffix(".last.log"))


def _tail(logs: Path) -> str:
    lines = logs.read_text(errors="replace").splitlines() if logs.exists() else []
    return "\n".join(lines[-_TAIL_LINES:])


def _home() -> Path:
    home = load_settings().home.resolve() / "platform"
    home.mkdir(parents=True, exist_ok=True)
    return home


def _on_signals(handler: Any) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Stopped


if __name__ == "__main__":
    keep(int(sys.argv[1]))
