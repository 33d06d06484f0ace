"""Which views there are, in the order of the menu."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from deployments.ui.blocks import Page
from deployments.ui.shelf import Shelf
from deployments.ui.views import (
    alerts,
    books,
    candles,
    lineage,
    macro,
    overview,
    quality,
    reconciled,
    recorders,
    table,
    upkept,
    whole,
)

Build = Callable[[Shelf, Mapping[str, str]], Page]


@dataclass(frozen=True)
class View:
    """One page of the site; without `menu` it is reached by links only."""

    path: str
    build: Build
    menu: str = ""
    group: str = ""


VIEWS = (
    View("/", overview.overview, "Overview", "Lake"),
    View("/coverage", whole.coverage, "Coverage", "Lake"),
    View("/gaps", whole.gaps, "Gaps", "Lake"),
    View("/lineage", lineage.lineage, "Lineage", "Lake"),
    View("/verdicts", quality.verdicts, "Gates", "Quality"),
    View("/quarantine", quality.quarantine, "Quarantine", "Quality"),
    View("/reconciliation", reconciled.reconciliation, "Reconciliation", "Quality"),
    View("/candles", candles.candles, "Candles", "Data"),
    View("/books", books.books, "Order books", "Data"),
    View("/vintages", macro.vintages, "Vintages", "Data"),
    View("/recorder", recorders.recorder, "Recorders", "Running"),
    View("/upkeep", upkept.upkeep, "Upkeep", "Running"),
    View("/alerts", alerts.alerts, "Alerts", "Running"),
    View("/table", table.table),
    View("/explain", table.explain),
)
