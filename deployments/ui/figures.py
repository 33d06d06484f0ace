"""Plotly figures as plain data. Colours are names of the style sheet, so that light and dark are told in one place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

GOOD, WARN, BAD = "var(--good)", "var(--warn)", "var(--bad)"
ACCENT, SECOND, MUTED, INK = "var(--accent)", "var(--second)", "var(--muted)", "var(--ink)"
ACCENT_FILL, SECOND_FILL = "var(--accent-fill)", "var(--second-fill)"
LEVELS: Mapping[str, str] = {"passed": GOOD, "warning": WARN, "blocked": BAD}


def layout(**own: Any) -> dict[str, Any]:
    """The layout of every figure; `own` replaces or adds to its parts."""
    axis = {
        "gridcolor": "var(--grid)",
        "zeroline": False,
        "linecolor": "var(--rule)",
        "ticks": "",
        "automargin": True,
    }
    base: dict[str, Any] = {
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": "var(--soft)", "size": 12},
        "hoverlabel": {
            "bgcolor": "var(--paper)",
            "bordercolor": "var(--rule)",
            "font": {"color": "var(--ink)"},
        },
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "hovermode": "closest",
    }
    for name in {"xaxis", "yaxis", *(name for name in own if name.startswith(("xaxis", "yaxis")))}:
        base[name] = {**axis, **own.pop(name, {})}
    return {**base, **own}


def line(name: str, x: Sequence[Any], y: Sequence[float | None], **own: Any) -> dict[str, Any]:
    """A line; `own` replaces or adds to its parts."""
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, **own}


def times(column: pl.Series) -> list[str]:
    """Times as plotly reads them: UTC, without an offset."""
    return [moment(value) for value in column.to_list()]


def moment(value: datetime) -> str:
    """One time as plotly reads it."""
    return value.strftime("%Y-%m-%d %H:%M:%S.%f").removesuffix(".000000")


def numbers(column: Iterable[float | None], digits: int = 10) -> list[float | None]:
    """Numbers without the noise of binary fractions, which would double the page."""
    return [None if value is None else float(f"{value:.{digits}g}") for value in column]
