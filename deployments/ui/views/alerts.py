"""What is wrong now, what was, and what monitors measured last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import polars as pl

from deployments.ui.blocks import Badge, Column, Grid, Link, Page, Tone, to
from deployments.ui.shelf import Shelf
from lakehouse.ops import ALERTS, MONITORS

_LOOKED_BACK = timedelta(days=7)
_SHOWN = 300


def alerts(shelf: Shelf, _asked: Mapping[str, str]) -> Page:
    """What is wrong now, what was, and what the last watch measured."""
    found = shelf.once("alerts", (ALERTS.name,), lambda: _alert_states(shelf))
    opened = [one for one in found if one["status"] == "open"]
    over = [one for one in found if one["status"] != "open"]
    return Page(
        title="Alerts",
        lead="What monitors and gates found wrong; an alert is over when it is no longer found.",
        blocks=(
            _alert_grid("Open", opened, "nothing is wrong as far as anybody looked"),
            _monitor_grid(shelf.once("monitors", (MONITORS.name,), lambda: _newest_looks(shelf))),
            _alert_grid("Over", over, "none yet"),
        ),
    )


def _alert_states(shelf: Shelf) -> list[dict[str, Any]]:
    """Each alert as it stands: what was said last of the alert itself, and since when it is open."""
    rows = shelf.scan(ALERTS.name).filter(pl.col("route") == "").sort("serial")
    opened_at = pl.col("recorded_at").filter(pl.col("event") == "opened").last()
    newest = rows.group_by("fingerprint").agg(pl.all().last(), since=opened_at)
    return newest.sort("recorded_at", descending=True).head(_SHOWN).collect().to_dicts()


def _newest_looks(shelf: Shelf) -> list[dict[str, Any]]:
    """What each monitor measured last of each subject within a week; what is over its limit first."""
    (facts,) = shelf.facts((MONITORS.name,)) or (None,)
    if facts is None or facts.end is None:
        return []
    key = ["monitor", "table", "subject"]
    rows = shelf.scan(MONITORS.name).filter(pl.col("looked_at") >= facts.end - _LOOKED_BACK)
    newest = rows.sort("looked_at").group_by(key).agg(pl.all().last())
    return newest.sort(pl.col("level") == "passed", *key).head(_SHOWN).collect().to_dicts()


def _alert_grid(caption: str, found: Sequence[Mapping[str, Any]], empty: str) -> Grid:
    rows = [
        [
            Badge(one["severity"], "bad" if one["severity"] == "critical" else "warn"),
            one["monitor"],
            Link(one["table"], to("/table", name=one["table"])) if one["table"] else None,
            one["subject"],
            one["summary"],
            one["measured"],
            one["limit"],
            one["since"],
            one["recorded_at"],
            one["owner"],
        ]
        for one in found
    ]
    names = (
        "Severity",
        "Monitor",
        "Table",
        "Subject",
        "What",
        "Measured",
        "Limit",
        "Since",
        "Last told",
        "Owner",
    )
    columns = [
        Column(name, is_number=name in ("Measured", "Limit"), is_wide=name in ("What", "Subject"))
        for name in names
    ]
    return Grid(caption=f"{caption}: {len(found)}", columns=columns, rows=rows, empty=empty)


def _monitor_grid(found: Sequence[Mapping[str, Any]]) -> Grid:
    tones: Mapping[str, Tone] = {"passed": "good", "warning": "warn", "critical": "bad"}
    rows = [
        [
            Badge(one["level"], tones.get(one["level"], "")),
            one["monitor"],
            Link(one["table"], to("/table", name=one["table"])) if one["table"] else None,
            one["subject"],
            one["measured"],
            one["limit"],
            one["unit"],
            Link(one["summary"], f"/{one['docs_key']}") if one["docs_key"] else one["summary"],
            one["looked_at"],
        ]
        for one in found
    ]
    names = ("Level", "Monitor", "Table", "Subject", "Measured", "Limit", "Unit", "What", "Looked at")
    columns = [
        Column(name, is_number=name in ("Measured", "Limit"), is_wide=name in ("What", "Subject"))
        for name in names
    ]
    caption = "What was measured last, what is over its limit first"
    return Grid(caption=caption, columns=columns, rows=rows, empty="nobody looked yet: `mnemo watch`")
