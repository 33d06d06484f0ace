"""One table: its contract, its newest rows, how it was judged; and where one of its rows comes from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

import polars as pl

from deployments.ui.blocks import (
    Badge,
    Block,
    Column,
    Grid,
    Link,
    Literally,
    Page,
    Stat,
    Stats,
    Text,
    Tree,
    to,
)
from deployments.ui.shelf import Facts, Shelf
from deployments.ui.views.overview import age
from lakehouse.contract import Table
from lakehouse.errors import UsageError
from lakehouse.window import iso

_ROWS = 25
_TEXT = 160


def table(shelf: Shelf, asked: Mapping[str, str]) -> Page:
    """What a table holds and promises. UsageError for a name that no table has."""
    contract = shelf.lake.contract(asked.get("name", ""))
    facts = shelf.facts((contract.name,))
    blocks: list[Block] = [_stats(facts[0])] if facts else [Text("Nothing is stored of it yet.", "muted")]
    blocks += [Text(one.trouble, "bad") for one in facts if one.trouble]
    blocks += [_contract(contract), *_rules(contract)]
    if facts and facts[0].rows:
        blocks.insert(1, _newest(shelf, contract, facts[0]))
    return Page(title=contract.name, lead=contract.doc, blocks=blocks)


def explain(shelf: Shelf, asked: Mapping[str, str]) -> Page:
    """The tree behind one row. UsageError that names the columns wanted or the nearest values."""
    key = {name: value for name, value in asked.items() if name != "table"}
    name = asked.get("table", "")
    if not name:
        raise UsageError(
            "an explanation needs table= and the columns of a key, such as table=gold.candles&venue=kraken"
        )
    found = shelf.lake.explain(name, key)
    said = " ".join([f"mnemo explain {name}", *(f"'{column}={value}'" for column, value in key.items())])
    lead = "Where this row comes from: the rows it was made from, the provider's answers, the gates that let them in."
    blocks: tuple[Block, ...] = (Tree(found), Text(f"The same at a prompt: {said}", "muted"))
    return Page(title=f"Why {name} says so", lead=lead, blocks=blocks)


def _stats(facts: Facts) -> Stats:
    table_ = facts.table
    target = f"{age(table_.freshness.total_seconds())}" if table_.freshness else "none promised"
    return Stats(
        (
            Stat("rows", f"{facts.rows:,}", f"version {facts.version}"),
            Stat("from", _day(facts.start), f"by {table_.time_column}"),
            Stat("to", _day(facts.end)),
            Stat("freshness target", target),
            Stat("owner", table_.owner, f"contract {table_.fingerprint}"),
            Stat("its lineage", table_.layer, href=to("/lineage", table=table_.name)),
        )
    )


def _day(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d}" if moment else "—"


def _newest(shelf: Shelf, contract: Table, facts: Facts) -> Grid:
    rows = shelf.once("newest rows", (contract.name,), lambda: _newest_rows(shelf, contract, facts))
    can_explain = contract.layer in ("silver", "gold")
    columns = [
        *((Column("Why"),) if can_explain else ()),
        *(_column(contract, name) for name in rows.columns),
    ]
    cells = []
    for row in rows.iter_rows(named=True):
        link = [Link("explain", _explain(contract, row))] if can_explain else []
        cells.append([*link, *(_cell(value) for value in row.values())])
    return Grid(caption=f"The newest {rows.height} rows, every version", columns=columns, rows=cells)


def _newest_rows(shelf: Shelf, contract: Table, facts: Facts) -> pl.DataFrame:
    """Of the file that reaches furthest where statistics tell it, so that the whole table is not read."""
    stored = shelf.stored(contract.name)
    rows = shelf.scan(contract.name)
    time, statistic = contract.time_column, f"min.{contract.time_column}"
    files = stored.files() if stored else pl.DataFrame()
    if statistic in files.columns and facts.end is not None:
        latest = files.sort(f"max.{time}", descending=True, nulls_last=True).head(1)
        since = latest[statistic][0]
        if since is not None and latest["num_records"][0] >= _ROWS:
            rows = rows.filter(pl.col(time) >= since)
    wanted = [
        column.name for column in contract.columns if column.dtype != pl.Binary() and column.derived is None
    ]
    return rows.select(wanted).top_k(_ROWS, by=time).sort(time, descending=True).collect(engine="streaming")


def _column(contract: Table, name: str) -> Column:
    column = contract.column(name)
    return Column(name, is_number=column.dtype.is_numeric(), hint=column.doc)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = ", ".join(str(one) for one in value)
    if isinstance(value, str) and len(value) > _TEXT:
        return f"{value[:_TEXT]}…"
    return value


def _explain(contract: Table, row: Mapping[str, Any]) -> str:
    return to("/explain", table=contract.name, **{name: _text(row[name]) for name in contract.key})


def _text(value: object) -> object:
    if isinstance(value, datetime):
        return iso(value)
    return value.isoformat() if isinstance(value, date) else value


def _contract(contract: Table) -> Grid:
    rows = [
        [
            Literally(column.name),
            column.type_name,
            column.unit,
            "key" if column.name in contract.key else "may be null" if column.nullable else "",
            column.doc,
        ]
        for column in contract.columns
    ]
    columns = (Column("Column"), Column("Type"), Column("Unit"), Column(""), Column("Meaning", is_wide=True))
    return Grid(caption=f"Contract; key: {', '.join(contract.key)}", columns=columns, rows=rows)


def _rules(contract: Table) -> list[Grid]:
    rows = [
        [
            rule.name.replace("_", " "),
            Badge(rule.severity, "bad" if rule.severity == "critical" else "warn"),
            rule.reason,
        ]
        for rule in contract.rules
    ]
    if not rows:
        return []
    columns = (Column("Rule"), Column("Severity"), Column("Broken when", is_wide=True))
    return [Grid(caption="Rules of the table, beside those of its columns", columns=columns, rows=rows)]
