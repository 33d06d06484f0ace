"""The data dictionary: every table's contract as a page for people."""

from __future__ import annotations

from collections.abc import Iterable

from lakehouse.bronze import bronze_table
from lakehouse.catalog import models, tables
from lakehouse.contract import Census, Column, Table


def tables_page() -> str:
    """`docs/tables.md`: all tables with their columns, keys, rules and freshness, as Markdown."""
    bronze = bronze_table("<feed>")
    sections = [_section(table) for table in (bronze, *tables().values())]
    return "\n\n".join(["# Tables", "Generated from the contracts by `make docs`.", *sections]) + "\n"


def _section(table: Table) -> str:
    facts = [
        f"Key: {_code(table.key)}.",
        f"Partitions: {_code(table.partition_by)}." if table.partition_by else "",
        "Keeps revisions: a changed fact is a new row with a later `known_at`."
        if table.keeps_revisions
        else "",
        _whole_lists(table.census) if table.census else "",
        f"Built from {_code(models()[table.name].inputs)}." if table.name in models() else "",
        f"A batch is held back when more than one row and {table.tolerance:.0%} of all break a rule.",
        f"Goes stale after {table.freshness.total_seconds() / 86400:g} days without a new row."
        if table.freshness
        else "",
        f"Owner: {table.owner}.",
    ]
    rules = [f"- `{rule.name}` ({rule.severity}): {rule.reason}" for rule in table.rules]
    parts = [f"## {table.name}", table.doc, " ".join(fact for fact in facts if fact), _columns(table.columns)]
    if rules:
        parts.append("Rules beyond those of the columns:\n\n" + "\n".join(rules))
    if expects := [f"- `{one.name}` ({one.severity}): {one.meaning}" for one in table.expected]:
        parts.append("Expected of a batch as a whole:\n\n" + "\n".join(expects))
    return "\n\n".join(parts)


def _whole_lists(census: Census) -> str:
    gone = ", ".join(f"`{name}` {str(value).lower()}" for name, value in census.gone.items())
    return (
        f"Rows with one {_code(census.of)} and one receipt are a whole list: what the next one does not name is told "
        f"again with {gone}, known from that receipt on."
    )


def _columns(columns: Iterable[Column]) -> str:
    head = "| column | type | unit | null | meaning and bounds |\n| --- | --- | --- | --- | --- |"
    return "\n".join([head, *(_row(column) for column in columns)])


def _row(column: Column) -> str:
    meaning = " ".join([column.doc, *_bounds(column)]).replace("|", "\\|")
    null = "yes" if column.nullable else "no"
    return f"| `{column.name}` | {column.type_name} | {column.unit} | {null} | {meaning} |"


def _bounds(column: Column) -> list[str]:
    said = [
        f"At least {column.lower:g}." if column.lower is not None else "",
        f"Above {column.above:g}." if column.above is not None else "",
        f"At most {column.upper:g}." if column.upper is not None else "",
        f"One of {_code(column.values)}." if column.values else "",
        f"Looks like `{column.pattern}`." if column.pattern else "",
    ]
    return [one for one in said if one]


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
