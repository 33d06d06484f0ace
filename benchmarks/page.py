"""`python -m benchmarks.page`: the tables of docs/performance.md anew, from `benchmarks/results/`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS
from deployments.reference.markdown import table

PAGE = Path(__file__).parents[1] / "docs/performance.md"
BEGIN, END = "<!-- figures -->", "<!-- end -->"
_COLUMNS = ("figure", "value", "unit", "peer", "ratio")


def with_figures(page: str, suites: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The page with a table for each suite between its marks, in place of what stood there."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    tables = [f"## {name}\n\n{table(_COLUMNS, map(_cells, suites[name]))}" for name in sorted(suites)]
    return f"{before}{BEGIN}\n\n" + "\n\n".join([*tables, END]) + after


def _cells(figure: Mapping[str, Any]) -> Sequence[str]:
    shown = ("" if figure[name] is None else figure[name] for name in _COLUMNS)
    return tuple(f"{one:,}" if isinstance(one, int | float) else str(one) for one in shown)


if __name__ == "__main__":
    found = {path.stem: json.loads(path.read_text()) for path in RESULTS.glob("*.json")}
    PAGE.write_text(with_figures(PAGE.read_text(), found))
