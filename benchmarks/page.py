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
_HEAD = ("figure", "value", "least to most", "unit", "whose", "ours is better by", "goal")


def with_figures(page: str, suites: Sequence[Mapping[str, Any]]) -> str:
    """The page with a table for each suite between its marks, in place of what stood there."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    tables = [_told(suite) for suite in sorted(suites, key=lambda suite: str(suite["suite"]))]
    return f"{before}{BEGIN}\n\n" + "\n\n".join([*tables, END]) + after


def _told(suite: Mapping[str, Any]) -> str:
    name, load = suite["suite"], suite["load_before"]
    taken = (
        f"Taken {suite['taken_at']} on {suite['machine']}; {load} threads ran on the machine in the minute before. "
        f"What is measured, and of what: `benchmarks/{name}.py`."
    )
    return f"## {name}\n\n{taken}\n\n{table(_HEAD, map(_cells, suite['figures']))}"


def _cells(figure: Mapping[str, Any]) -> Sequence[str]:
    spread = "" if figure["least"] is None else f"{figure['least']:,} to {figure['most']:,}"
    ratio = "" if figure["ratio"] is None else f"{figure['ratio']:,}x"
    goal = "" if figure["goal"] is None else f"{figure['goal']:,}"
    whose = figure["peer"] or "ours"
    return (figure["figure"], f"{figure['value']:,}", spread, figure["unit"], whose, ratio, goal)


if __name__ == "__main__":
    found = [json.loads(path.read_text()) for path in RESULTS.glob("*.json")]
    PAGE.write_text(with_figures(PAGE.read_text(), found))
