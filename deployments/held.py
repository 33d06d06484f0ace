"""Processes that are found again whoever started them: each holds a lock file, and the kernel says who holds it.

`python -m deployments.held LOCK MODULE ...` runs a module so. A written pid would not tell: after a crash it may be
anybody's. `{n}` in LOCK stands for the first number that is free. A process that finds its lock held exits with 75.
"""

from __future__ import annotations

import fcntl
import os
import runpy
import struct
import sys
from pathlib import Path
from typing import IO

TAKEN = 75
_MOST = 1000
# struct flock: fcntl(2) of Linux, and of macOS.
_FLOCK, _TYPE, _PID = ("hhqqi", 0, 4) if sys.platform == "linux" else ("qqihh", 3, 2)
_held: list[IO[str]] = []


def main() -> None:
    """Hold the lock, then be the module."""
    lock, module, *arguments = sys.argv[1:]
    numbers = range(1, _MOST) if "{n}" in lock else (0,)
    if not any(hold(Path(lock.replace("{n}", str(number)))) for number in numbers):
        sys.exit(TAKEN)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def hold(path: Path) -> bool:
    """Hold the lock until this process ends; False where another one does."""
    lock = path.open("a")
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        lock.close()
        return False
    _held.append(lock)
    return True


def holder(path: Path) -> int | None:
    """The pid of the other process that holds the lock now; None where nobody does.

    Not to be asked by the holder itself: that the file is closed here would end its own hold.
    """
    if not path.exists():
        return None
    asked = [0] * 5
    asked[_TYPE] = fcntl.F_WRLCK
    with path.open("r+") as lock:
        found = struct.unpack(_FLOCK, fcntl.fcntl(lock, fcntl.F_GETLK, struct.pack(_FLOCK, *asked)))
    return None if found[_TYPE] == fcntl.F_UNLCK else int(found[_PID])


def holders(folder: Path, pattern: str) -> dict[str, int]:
    """Name and pid of the processes that live now and hold a lock of the folder whose name fits."""
    found = {path.stem: holder(path) for path in sorted(folder.glob(f"{pattern}.lock"))}
    return {name: pid for name, pid in found.items() if pid and pid != os.getpid()}


if __name__ == "__main__":
    main()
