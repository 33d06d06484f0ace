"""How every benchmark tells its figures: a JSON object a line, and the same objects in `benchmarks/results/`."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def report(suite: str, figures: Iterable[Mapping[str, Any]]) -> None:
    """Print each figure as soon as it is there, with the machine, and keep all in `<suite>.json`."""
    found = []
    for figure in figures:
        found.append({**figure, "machine": platform.platform()})
        print(json.dumps(found[-1]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{suite}.json").write_text(json.dumps(found, indent=2), encoding="utf-8")
