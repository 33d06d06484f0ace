"""How an explanation is printed: a tree for people, JSON for machines, the bytes themselves."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import orjson
from rich.markup import escape
from rich.tree import Tree

from deployments.show import console
from lakehouse.explain import Admission, BronzePage, Explanation, Part
from lakehouse.window import iso

_CLOCKS = ("known_at", "ingested_at")
_HIDDEN = (*_CLOCKS, "page_id", "event_month", "row_order")


def write(found: Explanation, *, as_json: bool, as_bytes: bool) -> None:
    """Print an explanation; of several pages each body begins on a new line and is announced on standard error."""
    if as_bytes:
        _write_bodies(found.pages())
    elif as_json:
        said = orjson.dumps(found.to_dict(), option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z, default=str)
        sys.stdout.buffer.write(said + b"\n")
    else:
        console().print(_tree(found))


def _write_bodies(pages: tuple[BronzePage, ...]) -> None:
    for page in pages:
        if len(pages) > 1:
            sys.stderr.write(f"{page.table} page {page.page_id}: {page.size_bytes} bytes\n")
        sys.stdout.buffer.write(page.body)
        if len(pages) > 1 and not page.body.endswith(b"\n"):
            sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()


def _tree(found: Explanation) -> Tree:
    facts = {name: value for name, value in found.row.items() if name not in _HIDDEN and value is not None}
    tree = Tree(f"[bold]{found.table}[/bold]  {_pairs(facts)}")
    clocks = {name: found.row[name] for name in _CLOCKS if name in found.row}
    tree.add(f"[dim]{_pairs(clocks)}[/dim]")
    if found.admission:
        tree.add(_admission(found.admission))
    for part in found.parts:
        tree.add(_part(part))
    if found.page:
        tree.add(_page(found.page))
    elif "page_id" in found.row:
        tree.add(f"[red]page {found.row['page_id']} is not in bronze[/red]")
    return tree


def _part(part: Part) -> Tree:
    first, last = iso(part.first_event_at), iso(part.last_event_at)
    span = first if first == last else f"{first} to {last}"
    rows = "1 row" if part.rows == 1 else f"{part.rows} rows"
    hidden = part.rows - len(part.shown)
    note = f"; first and last shown, {hidden} more with --all" if hidden else ""
    branch = Tree(f"from {rows} of [bold]{part.table}[/bold], {span}{note}")
    for one in part.shown:
        branch.add(_tree(one))
    return branch


def _admission(how: Admission) -> str:
    judged = f"judged {how.level} at {_shown(how.judged_at)}" if how.level else "no verdict is recorded"
    commit = (
        f"commit {how.version} of {_shown(how.committed_at)}" if how.found_by == "commit" else "by its time"
    )
    who = f"run {how.run_id}, code {how.code_version}, contract {how.contract}"
    return escape(f"let in by batch {how.batch_id} ({commit}): {judged}; {who}")


def _page(page: BronzePage) -> Tree:
    request = " ".join(str(page.request[name]) for name in ("method", "url") if name in page.request)
    branch = Tree(f"said by page {page.page_id} of [bold]{page.table}[/bold], {escape(page.subject)}")
    branch.add(escape(request or _pairs(dict(page.request))))
    status = f"HTTP {page.http_status}, " if page.http_status is not None else ""
    branch.add(
        escape(f"received {iso(page.received_at)}, {status}{page.size_bytes} bytes, sha256 {page.sha256}")
    )
    branch.add(escape(f"fetched by run {page.run_id}, code {page.code_version}"))
    return branch


def _pairs(said: dict[str, Any]) -> str:
    return escape("  ".join(f"{name}={_shown(value)}" for name, value in said.items()))


def _shown(value: object) -> str:
    return iso(value) if isinstance(value, datetime) else "-" if value is None else str(value)
