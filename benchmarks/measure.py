"""What work costs in this process: wall and CPU seconds of all its threads. Needs Python alone, as peers do."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass
class Costs:
    """Of several runs of the same work, one number each; and the peak memory of the process so far."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_gib: float = 0.0

    @property
    def wall(self) -> float:
        """Seconds, the median."""
        return median(self.wall_s)

    @property
    def cpu(self) -> float:
        """CPU seconds, the median."""
        return median(self.cpu_s)


def costs(
    act: Callable[[], Any], *, runs: int = 3, warm_up: int = 1, before: Callable[[], Any] = lambda: None
) -> Costs:
    """Of so many runs after the ones that warm up. `before` each of them something else is done that does not count."""
    found = Costs()
    for run in range(warm_up + runs):
        before()
        wall, cpu = time.perf_counter(), time.process_time()
        act()
        if run >= warm_up:
            found.cpu_s.append(time.process_time() - cpu)
            found.wall_s.append(time.perf_counter() - wall)
    found.peak_gib = peak_gib()
    return found


def peak_gib() -> float:
    """The most memory that this process held. It begins with what the process held that started it."""
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
