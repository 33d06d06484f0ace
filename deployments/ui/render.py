"""Pages as HTML. Everything that came from a provider goes through Jinja's escaping; figures travel as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from deployments.ui.blocks import Figure, Graph, Page
from deployments.ui.menu import VIEWS
from lakehouse.window import iso

Resolve = Callable[[str], str | None]

STATIC = ("page.css", "page.js", "plotly.min.js")
_DECIMALS = 8


@dataclass(frozen=True, kw_only=True)
class Frame:
    """What stands around every page: how addresses become links, where it is, whether forms can be answered."""

    resolve: Resolve
    asset: Callable[[str], str]
    is_live: bool = True
    said_at: str = ""
    policy: str = ""
    menu: tuple[tuple[str, tuple[Any, ...]], ...] = field(default_factory=lambda: tuple(_menu()))


def render(page: Page, frame: Frame, path: str) -> str:
    """The whole document."""
    template = _environment().get_template("page.html")
    has_figures = any(isinstance(block, Figure) for block in page.blocks)
    return template.render(page=page, frame=frame, path=path, has_figures=has_figures)


@cache
def static_file(name: str) -> bytes:
    """The style sheet, our script, or plotly.js as the plotly package ships it."""
    if name == "plotly.min.js":
        return (files("plotly") / "package_data" / name).read_bytes()
    return (files("deployments.ui") / "static" / name).read_bytes()


@cache
def fingerprint(name: str) -> str:
    """Changes with the file, so that browsers may keep it for ever."""
    return hashlib.sha256(static_file(name)).hexdigest()[:12]


def _menu() -> list[tuple[str, tuple[Any, ...]]]:
    shown = [view for view in VIEWS if view.menu]
    return [(group, tuple(views)) for group, views in groupby(shown, key=lambda view: view.group)]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("deployments.ui"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "kind": lambda value: type(value).__name__,
        "number": _number,
        "moment": _moment,
        "iso": iso,
        "bytes": _bytes,
        "facts": _facts,
        "figure": _figure_json,
        "drawn": _drawn,
        "percent": _percent,
    }
    return environment


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{_DECIMALS}g}"


def _moment(value: date) -> str:
    """As short as it can be said: a date for midnight, minutes where there are no seconds."""
    if not isinstance(value, datetime):
        return f"{value:%Y-%m-%d}"
    if (value.hour, value.minute, value.second, value.microsecond) == (0, 0, 0, 0):
        return f"{value:%Y-%m-%d}"
    return (
        f"{value:%Y-%m-%d %H:%M}" if value.second == value.microsecond == 0 else f"{value:%Y-%m-%d %H:%M:%S}"
    )


def _percent(share: float) -> str:
    """Only what is whole is said to be 100 %."""
    return f"{100 * (share if share == 1 else min(share, 0.999)):.1f} %"


def _bytes(count: int) -> str:
    for size, unit in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} B"


_CLOCKS = ("known_at", "ingested_at")
_HIDDEN = (*_CLOCKS, "page_id", "event_month", "row_order")


def _facts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a row says, its clocks last."""
    names = [*(name for name in row if name not in _HIDDEN), *(name for name in _CLOCKS if name in row)]
    return [(name, _plain(row[name])) for name in names if row[name] is not None]


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, float):
        return _number(value)
    return str(value)


def _figure_json(figure: Figure, resolve: Resolve) -> Markup:
    """The figure for the script; `<` is written so that nothing can end the element around it."""
    said = {
        "data": [_resolved(trace, resolve) for trace in figure.data],
        "layout": figure.layout,
        "steps": {
            "trace": figure.steps.trace,
            "labels": figure.steps.labels,
            "values": figure.steps.values,
        }
        if figure.steps
        else None,
    }
    text = orjson.dumps(said, default=str).decode()
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))  # noqa: S704 - JSON


def _resolved(trace: Mapping[str, Any], resolve: Resolve) -> Mapping[str, Any]:
    """The trace with the addresses of its points as the page can follow them."""
    if "customdata" not in trace:
        return trace
    return {**trace, "customdata": _followed(trace["customdata"], resolve)}


def _followed(found: Any, resolve: Resolve) -> Any:
    if isinstance(found, list):
        return [_followed(one, resolve) for one in found]
    return (resolve(found) if found else None) or ""


_ROW_PX, _LETTER_PX, _BETWEEN_PX = 19, 6.5, 42


def _drawn(graph: Graph) -> dict[str, Any]:
    """Where the boxes of a graph are, in pixels: columns as wide as their names, curves between them."""
    labels = {node.name: node.name.partition(".")[2] or node.name for node in graph.nodes}
    columns = _column_edges(graph, labels)
    boxes = {
        node.name: {
            "label": labels[node.name],
            "x": columns[node.column],
            "y": node.row * _ROW_PX,
            "width": round(len(labels[node.name]) * _LETTER_PX),
        }
        for node in graph.nodes
    }
    chosen = {node.name for node in graph.nodes if node.is_chosen}
    edges = [
        (_curve(boxes[source], boxes[target]), bool({source, target} & chosen))
        for source, target in graph.edges
    ]
    height = (max(node.row for node in graph.nodes) + 1) * _ROW_PX
    return {"columns": columns, "width": columns[-1], "height": height, "boxes": boxes, "edges": edges}


def _column_edges(graph: Graph, labels: Mapping[str, str]) -> list[int]:
    """The left edge of each column, and of what would be the next."""
    edges = [4]
    for number in range(len(graph.columns)):
        longest = max((len(labels[node.name]) for node in graph.nodes if node.column == number), default=0)
        edges.append(edges[-1] + round(max(longest, 8) * _LETTER_PX) + _BETWEEN_PX)
    return edges


def _curve(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    x1, y1 = one["x"] + one["width"] + 5, one["y"] + _ROW_PX / 2
    x2, y2 = other["x"] - 5, other["y"] + _ROW_PX / 2
    middle = x2 - _BETWEEN_PX / 2
    return f"M{x1:g},{y1:g}C{middle:g},{y1:g} {middle:g},{y2:g} {x2:g},{y2:g}"
