"""How the command line prints: tables for people, JSON for machines."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from lakehouse import Lake
from lakehouse.contract import Table
from lakehouse.errors import UsageError
from lakehouse.metrics import newest
from lakehouse.window import iso

if TYPE_CHECKING:
    from expectations.monitors import Watch

_TABLE_ROWS = 20


def console() -> Console:
    """Standard output: as wide as the terminal, and wide enough for tables where there is none."""
    return Console() if sys.stdout.isatty() else Console(width=180)


def records(
    found: Sequence[Mapping[str, Any]], *, as_json: bool, title: str, empty: str = "nothing found"
) -> None:
    """A list of records: one JSON array, or a table."""
    if as_json:
        sys.stdout.write(
            orjson.dumps([_plain(one) for one in found], option=orjson.OPT_INDENT_2).decode() + "\n"
        )
    elif not found:
        console().print(empty)
    else:
        console().print(_rich_table(title, list(found[0]), [list(one.values()) for one in found]))


def feeds(found: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """What there is to fetch: one JSON array, or a paragraph a feed, as eight columns fit no terminal."""
    if as_json:
        records(found, as_json=True, title="Feeds")
        return
    output = console()
    for one in found:
        output.print(f"[bold]{one['feed']}[/bold]  {one['provider']} → {one['fills']}", highlight=False)
        for name in ("data_set", "subject", "key", "quota", "paging"):
            said = Text(f"{name.replace('_', ' ')}: {one[name]}")
            output.print(Padding(said, (0, 0, 0, 2), expand=False))


def intervals(found: Sequence[Mapping[str, Any]], *, as_json: bool, title: str, empty: str) -> None:
    """Intervals of the coverage ledger: whole for machines, without their evidence for people."""
    shown = ("feed", "subject", "start", "end", "status", "proof", "cannot_show")
    brief = found if as_json else [{name: one[name] for name in shown} for one in found]
    records(brief, as_json=as_json, title=title, empty=empty)


def watch(seen: Watch, *, as_json: bool, every: bool) -> None:
    """Figures beyond their limits, or every one: all columns for machines, the sentence for people."""
    figures = seen.figures if every else seen.wrong
    shown = figures if as_json else figures.select("level", "monitor", "table", "summary")
    looked = f"{len(seen.checked)} monitors compared {seen.figures.height} figures with their limits"
    wrong = f"{seen.wrong.height} are beyond them"
    records(shown.to_dicts(), as_json=as_json, title="Watch", empty=f"{looked}: nothing is wrong")
    if shown.height and not as_json:
        console().print(f"{looked}: {wrong}", highlight=False)


def alerts(found: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Open alerts: whole for machines, what fits a terminal for people."""
    shown = ("fingerprint", "severity", "monitor", "table", "subject", "summary", "owner", "since", "told")
    brief = found if as_json else [{name: one[name] for name in shown} for one in found]
    records(brief, as_json=as_json, title="Alerts", empty="nothing is wrong that anybody has found")


def rows(frame: pl.DataFrame, *, format: str, limit: int | None, output: Path | None) -> None:  # noqa: A002
    """A frame as a table, CSV, JSON Lines or Parquet, on standard output or in a file."""
    if format == "table" and limit is None:
        limit = _TABLE_ROWS
    shown = frame if limit is None else frame.head(limit)
    if format == "table" and output is None:
        console().print(_rich_table("", shown.columns, list(shown.iter_rows())))
        if shown.height < frame.height:
            console().print(f"{shown.height} of {frame.height} rows; --limit shows more")
        return
    data = _encode(shown, format)
    if output is None:
        sys.stdout.buffer.write(data)
    else:
        output.write_bytes(data)


def table(lake: Lake, name: str, *, as_json: bool) -> None:
    """A table's contract, and what is stored of it."""
    contract = lake.contract(name)
    stored = [one for one in lake.tables() if one["table"] == contract.name]
    if as_json:
        said = {
            **_contract(contract),
            "stored": _plain(stored[0]) if stored else None,
            "figures": [_plain(one) for one in figures(lake, contract)],
        }
        sys.stdout.write(orjson.dumps(said, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    output = console()
    output.print(f"[bold]{contract.name}[/bold]  {contract.doc}")
    output.print(
        f"key: {', '.join(contract.key)} · owner: {contract.owner} · contract {contract.fingerprint}"
    )
    columns = _contract(contract)["columns"]
    output.print(_rich_table("Columns", list(columns[0]), [list(column.values()) for column in columns]))
    rules = _contract(contract)["rules"]
    if rules:
        output.print(
            _rich_table("Rules of the table", list(rules[0]), [list(rule.values()) for rule in rules])
        )
    if expects := _contract(contract)["expects"]:
        records(expects, as_json=False, title="Expected of a batch")
    records(stored, as_json=False, title="Stored", empty="nothing is stored yet")
    measured = [[name, value] for one in figures(lake, contract)[-1:] for name, value in one.items()]
    if measured:
        output.print(_rich_table("Newest figures", ["figure", "value"], measured))


def figures(lake: Lake, contract: Table) -> list[dict[str, Any]]:
    """What the newest runs measured of a table, the newest last; what was not measured is left out."""
    rows = newest(lake.store, now=datetime.now(UTC), table=contract.name).sort("recorded_at")
    return [
        {name: value for name, value in {**row, "rows_per_s": _per_s(row)}.items() if value not in (None, "")}
        for row in rows.iter_rows(named=True)
    ]


def _per_s(row: Mapping[str, Any]) -> float | None:
    return round(row["rows"] / row["wall_s"], 1) if row["wall_s"] else None


def _contract(contract: Table) -> dict[str, Any]:
    return {
        "table": contract.name,
        "doc": contract.doc,
        "key": list(contract.key),
        "partition_by": list(contract.partition_by),
        "owner": contract.owner,
        "contract": contract.fingerprint,
        "columns": [
            {
                "column": column.name,
                "type": column.type_name,
                "unit": column.unit,
                "null": column.nullable,
                "meaning": column.doc,
            }
            for column in contract.columns
        ],
        "rules": [
            {"rule": rule.name, "severity": rule.severity, "broken when": rule.reason}
            for rule in contract.rules
        ],
        "expects": [
            {"expectation": one.name, "severity": one.severity, "expected": one.meaning}
            for one in contract.expected
        ],
    }


def _encode(frame: pl.DataFrame, format: str) -> bytes:  # noqa: A002
    if format == "json":
        lines = (orjson.dumps(_plain(row)) + b"\n" for row in frame.iter_rows(named=True))
        return b"".join(lines)
    if format == "csv":
        return (
            frame.select(_csv_column(name, dtype) for name, dtype in frame.schema.items())
            .write_csv()
            .encode()
        )
    if format == "parquet":
        buffer = BytesIO()
        frame.write_parquet(buffer)
        return buffer.getvalue()
    raise UsageError(f"format {format} cannot be written to a file; use csv, json or parquet")


def _csv_column(name: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.List):
        return pl.col(name).cast(pl.List(pl.String)).list.join("|")
    if isinstance(dtype, pl.Datetime):
        return pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ")
    return pl.col(name)


def _plain(said: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain_value(value) for name, value in said.items()}


def _plain_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, Mapping):
        return _plain(value)
    return value


def _rich_table(title: str, columns: Sequence[str], found: Sequence[Sequence[Any]]) -> RichTable:
    table_ = RichTable(title=title or None, title_justify="left", header_style="bold")
    for number, column in enumerate(columns):
        is_number = all(isinstance(row[number], (int, float)) for row in found) and bool(found)
        table_.add_column(str(column), justify="right" if is_number else "left", overflow="fold")
    for row in found:
        table_.add_row(*(_cell(value) for value in row))
    return table_


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return iso(value)
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_cell(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(one) for one in value)
    return str(value)
