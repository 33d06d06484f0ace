"""Lineage: which provider's pages fill which tables, as the feeds and models declare it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from deployments.ui.blocks import Choice, Column, Form, Graph, Grid, Link, Node, Page, Text, to
from deployments.ui.shelf import Shelf
from lakehouse import catalog

Edges = set[tuple[str, str]]

_COLUMNS = ("providers", "bronze", "silver", "gold", "gold from gold", "")
_LAYER_COLUMN = {"bronze": 1, "silver": 2, "gold": 3}


def lineage(shelf: Shelf, asked: Mapping[str, str]) -> Page:
    """All that is stored, or the ways to and from one table."""
    everything = declared_edges()
    stored = {one.table.name for one in shelf.facts() if one.rows}
    chosen = asked.get("table", "")
    names = sorted({name for edge in everything for name in edge})
    if chosen in names:
        edges = {edge for edge in _through(everything, chosen) if _is_there(edge, stored, chosen)}
    else:
        chosen, edges = (
            "",
            {
                edge
                for edge in everything
                if edge[1] in stored and (edge[0] in stored or _is_provider(edge[0]))
            },
        )
    form = Form(
        path="/lineage",
        choices=(
            Choice(
                name="table",
                label="Through",
                chosen=chosen,
                options=[("", "all that is stored"), *((n, n) for n in names)],
            ),
        ),
    )
    lead = "From providers to gold, as feeds and models declare it. A name leads to its own ways."
    if not edges:
        return Page(title="Lineage", lead=lead, blocks=(form, Text("Nothing is stored yet.", "muted")))
    return Page(title="Lineage", lead=lead, blocks=(form, _graph(edges, stored, chosen)))


def declared_edges() -> Edges:
    """What leads where: provider to bronze to silver by the feeds, inputs to gold by the models."""
    from sources import registry  # imports ccxt: late

    feeds = registry.feeds().values()
    fetched = {(one.provider, one.bronze.name) for one in feeds}
    parsed = {(one.bronze.name, one.table.name) for one in feeds}
    built = {(name, model.table.name) for model in catalog.models().values() for name in model.inputs}
    return fetched | parsed | built


def _is_provider(name: str) -> bool:
    return "." not in name


def _is_there(edge: tuple[str, str], stored: set[str], chosen: str) -> bool:
    """Of bronze only what is stored: there are several feeds to most tables."""
    return all(not name.startswith("bronze.") or name in stored or name == chosen for name in edge)


def _through(edges: Edges, chosen: str) -> Edges:
    before, after = defaultdict(set), defaultdict(set)
    for source, target in edges:
        before[target].add(source)
        after[source].add(target)
    upwards = {(source, name) for name in _reached(chosen, before) for source in before[name]}
    downwards = {(name, target) for name in _reached(chosen, after) for target in after[name]}
    return upwards | downwards


def _reached(start: str, ways: Mapping[str, set[str]]) -> set[str]:
    seen, ahead = {start}, [start]
    while ahead:
        found = ways.get(ahead.pop(), set()) - seen
        seen |= found
        ahead += found
    return seen


def _graph(edges: Edges, stored: set[str], chosen: str) -> Graph:
    columns = _placed(edges)
    ordered = sorted(edges, key=lambda edge: (columns[edge[1]], edge))
    tallest = max(sum(place == column for place in columns.values()) for column in set(columns.values()))
    nodes: list[Node] = []
    for column in sorted(set(columns.values())):
        names = _sorted_by_neighbours(
            [name for name, place in columns.items() if place == column], edges, nodes
        )
        offset = (tallest - len(names)) / 2
        for number, name in enumerate(names):
            nodes.append(_node(name, column, offset + number, name in stored or _is_provider(name), chosen))
    rows = [
        [
            Link(target, to("/lineage", table=target)),
            ", ".join(sorted(one for one, other in edges if other == target)),
        ]
        for target in dict.fromkeys(target for _, target in ordered)
    ]
    grid = Grid(
        caption="Each table and what it is made from",
        columns=(Column("Table"), Column("Made from", is_wide=True)),
        rows=rows,
    )
    used = [_COLUMNS[min(column, len(_COLUMNS) - 1)] for column in range(max(columns.values()) + 1)]
    caption = f"Ways through {chosen}" if chosen else "From providers to gold"
    return Graph(caption=caption, columns=used, nodes=nodes, edges=ordered, grid=grid)


def _placed(edges: Edges) -> dict[str, int]:
    """The column of each name: its layer; gold stands right of the gold that it is made from."""
    names = {name for edge in edges for name in edge}
    columns = {name: _LAYER_COLUMN.get(name.partition(".")[0], 0) for name in names}
    for name in catalog.models():
        inputs = [
            columns[source] for source, target in edges if target == name and source in catalog.models()
        ]
        if name in columns and inputs:
            columns[name] = max(inputs) + 1
    return columns


def _sorted_by_neighbours(names: Iterable[str], edges: Edges, placed: Sequence[Node]) -> list[str]:
    """Near to what they are made from, so that few lines cross."""
    rows = {node.name: node.row for node in placed}

    def middle(name: str) -> float:
        found = [rows[source] for source, target in edges if target == name and source in rows]
        return sum(found) / len(found) if found else 0.0

    return sorted(names, key=lambda name: (middle(name), name))


def _node(name: str, column: int, row: float, is_stored: bool, chosen: str) -> Node:  # noqa: FBT001 - private
    return Node(
        name=name,
        column=column,
        row=row,
        href=to("/lineage", table=name),
        is_chosen=name == chosen,
        is_stored=is_stored,
    )
