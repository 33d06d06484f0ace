"""What a page is made of. Values are plain text and numbers: only the templates make HTML, and they escape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Literal
from urllib.parse import urlencode

from lakehouse.explain import Explanation

Tone = Literal["", "good", "warn", "bad", "muted"]


def to(path: str, /, **query: object) -> str:
    """The address of a view, its questions in the query; what is None or empty is left out."""
    asked = {name: str(value) for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(asked)}" if asked else path


@dataclass(frozen=True)
class Link:
    """Text that leads somewhere; plain text where the address is not part of what was written."""

    text: str
    href: str


@dataclass(frozen=True)
class Badge:
    """One word that is a judgement."""

    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Bytes:
    """A number of bytes."""

    count: int


@dataclass(frozen=True)
class Stretch:
    """From when to when."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Share:
    """A part of a whole, 0 to 1, shown with a bar."""

    value: float
    tone: Tone = ""
    text: str = ""


@dataclass(frozen=True)
class Literally:
    """Text to be read character by character: JSON, a command."""

    text: str


@dataclass(frozen=True)
class Span:
    """A piece of a strip: from `start` to `end` of its width (0 to 1)."""

    start: float
    end: float
    status: str
    label: str


@dataclass(frozen=True)
class Strip:
    """A line of time: pieces from left to right, and what they say in words."""

    spans: Sequence[Span]
    summary: str


@dataclass(frozen=True)
class Column:
    """The head of a column; `is_wide` may break its lines."""

    name: str
    is_number: bool = False
    is_wide: bool = False
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table with its caption."""

    kind: ClassVar[str] = "grid"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]
    note: str = ""
    empty: str = "nothing yet"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A plotly figure as plain data; `summary` says in words what it shows, `grid` tells its numbers.

    `customdata` of a trace holds addresses that its points lead to. `steps` are alternatives for one trace's `y`:
    a slider chooses among them.
    """

    kind: ClassVar[str] = "figure"
    name: str
    caption: str
    summary: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    grid: Grid | None = None
    height: int = 360
    steps: Steps | None = None


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The positions of a figure's slider; each replaces `y` and the name of one trace."""

    label: str
    trace: int
    labels: Sequence[str]
    values: Sequence[Sequence[float | None]]
    chosen: int


@dataclass(frozen=True)
class Stat:
    """One number to be seen at a glance."""

    label: str
    value: str
    hint: str = ""
    tone: Tone = ""
    href: str = ""


@dataclass(frozen=True)
class Stats:
    """Numbers side by side."""

    kind: ClassVar[str] = "stats"
    shown: Sequence[Stat]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    tone: Tone = ""


@dataclass(frozen=True)
class Key:
    """What the colours of strips mean."""

    kind: ClassVar[str] = "key"
    statuses: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A list to choose from, a date or a text to be given."""

    name: str
    label: str
    chosen: str
    options: Sequence[tuple[str, str]] = ()
    """Values and what they are called; none: to be typed."""
    hint: str = ""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What a view can be asked."""

    kind: ClassVar[str] = "form"
    path: str
    choices: Sequence[Choice]


@dataclass(frozen=True)
class Tree:
    """Where a row comes from."""

    kind: ClassVar[str] = "tree"
    of: Explanation


@dataclass(frozen=True, kw_only=True)
class Node:
    """A box of a graph: a table or a provider."""

    name: str
    column: int
    row: float
    href: str
    is_chosen: bool = False
    is_stored: bool = True


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Boxes in columns and what leads from which to which."""

    kind: ClassVar[str] = "graph"
    caption: str
    columns: Sequence[str]
    nodes: Sequence[Node]
    edges: Sequence[tuple[str, str]]
    grid: Grid


Block = Grid | Figure | Stats | Text | Key | Form | Tree | Graph


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page: its title, one sentence about it, and its blocks."""

    title: str
    lead: str = ""
    blocks: Sequence[Block] = field(default_factory=tuple)
