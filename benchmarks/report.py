"""How benchmarks tell figures: a JSON object a line, and a suite together in `benchmarks/results/<suite>.json`."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import structlog

RESULTS = Path(__file__).parent / "results"
_PARTS = ("polars", "deltalake", "great-expectations", "prefect")

Figure = dict[str, Any]


def figure(
    name: str,
    value: float | Sequence[float],
    unit: str,
    *,
    peer: str | None = None,
    ratio: float | None = None,
    goal: float | None = None,
) -> Figure:
    """One figure. Of several runs it is the median, `least` and `most` tell the spread.

    `peer` says whose figure it is, nobody's being ours. `ratio` is how much better ours is than it: above 1 we win.
    `goal` is what ours was asked to reach.
    """
    runs = [value] if isinstance(value, int | float) else list(value)
    least, most = (_rounded(min(runs)), _rounded(max(runs))) if len(runs) > 1 else (None, None)
    return {
        "figure": name,
        "value": _rounded(median(runs)),
        "least": least,
        "most": most,
        "unit": unit,
        "peer": peer,
        "ratio": None if ratio is None else _rounded(ratio, 3),
        "goal": goal,
    }


def report(suite: str, figures: Iterable[Figure]) -> None:
    """Print each figure as soon as it is there, and keep all of them with the date and the machine."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    taken = {"suite": suite, "taken_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "machine": machine()}
    taken["load_before"] = round(os.getloadavg()[0], 2)
    print(json.dumps(taken), flush=True)
    kept = {**taken, "figures": list(_told(figures))}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{suite}.json").write_text(json.dumps(kept, indent=2), encoding="utf-8")


def machine() -> str:
    """What the figures are of: processor, memory, system, versions."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = ", ".join(f"{name} {version(name)}" for name in _PARTS)
    return (
        f"{os.cpu_count()} cores of {_processor()}, {memory_gib:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {parts}"
    )


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _told(figures: Iterable[Figure]) -> Iterator[Figure]:
    for one in figures:
        print(json.dumps(one), flush=True)
        yield one


def _rounded(value: float, digits: int = 4) -> float:
    return int(value) if value == int(value) or abs(value) >= 10**digits else float(f"{value:.{digits}g}")
