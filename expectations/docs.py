"""Where verdict pages are kept, and the index over them. Knows no validation library: reading pages is cheap."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from lakehouse.files import Files

INDEX_KEY = "docs/index.html"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page_key(table: str, batch_id: str) -> str:
    """Where the page of a batch is."""
    return f"docs/{table}/{batch_id}.html"


def sidecar_key(table: str, batch_id: str) -> str:
    """Where the page's summary is: table, batch_id, judged_at, level, rows, failed_rows, reasons, remarks (JSON)."""
    return f"docs/{table}/{batch_id}.json"


def build_index(files: Files, limit_per_table: int = 50) -> str:
    """Write the index of the newest verdicts of each table; returns its key. Needs no network to be read."""
    summaries = [orjson.loads(files.get(key)) for key in files.keys("docs/") if key.endswith(".json")]
    summaries.sort(key=lambda summary: summary["judged_at"], reverse=True)
    summaries.sort(key=lambda summary: summary["table"])
    sections = [
        _section(table, list(found)[:limit_per_table])
        for table, found in groupby(summaries, key=lambda summary: str(summary["table"]))
    ]
    files.put(INDEX_KEY, _page("\n".join(sections) or "<p>No batch has been judged yet.</p>").encode())
    return INDEX_KEY


def _section(table: str, summaries: list[Mapping[str, Any]]) -> str:
    rows = "\n".join(_row(summary) for summary in summaries)
    heads = ("Judged (UTC)", "Verdict", "Rows", "Failed rows", "Reasons")
    head = "".join(f"<th>{name}</th>" for name in heads)
    return f"<h2>{escape(table)}</h2>\n<table><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>"


def _row(summary: Mapping[str, Any]) -> str:
    link = f"{summary['table']}/{summary['batch_id']}.html"
    reasons = ", ".join(
        f"{name} {rows}" for name, rows in {**summary["reasons"], **summary["remarks"]}.items()
    )
    level = escape(summary["level"])
    return (
        f'<tr><td><a href="{escape(link)}">{escape(summary["judged_at"])}</a></td>'
        f'<td><span class="level {level}">{level}</span></td>'
        f'<td class="number">{summary["rows"]:,}</td><td class="number">{summary["failed_rows"]:,}</td>'
        f"<td>{escape(reasons)}</td></tr>"
    )


def _page(body: str) -> str:
    style = (Path(__file__).parent / "templates" / "docs.css").read_text()
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="UTF-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><title>Verdicts</title>\n'
        f"<style>{style}</style></head><body><h1>Verdicts</h1>\n{body}\n</body></html>\n"
    )
