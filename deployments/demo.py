"""`mnemo demo`: the main job on recorded data, with progress, and what it made."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, MutableMapping
from datetime import datetime
from typing import Any

import structlog
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from deployments import show
from lakehouse import Lake, catalog
from lakehouse.errors import MnemoError, SettingsError
from lakehouse.settings import load_settings

_NEXT = """[bold]Where to look next[/bold]
  mnemo tables                        what the lake holds
  mnemo show silver.trades            a table's contract
  mnemo read gold.candles --venue kraken --format json
  mnemo sql "select venue, count(*) from gold.candles group by all"
  mnemo quarantine list               what was not let through, and why
  mnemo docs                          the gates' Data Docs
  mnemo ui                            all of it on a page"""


_SUBJECT_WIDTH = 48


def run_demo(*, keep: bool, here: bool) -> None:
    """Run the flow `demo` in this process and print a line for each table, also when part of it failed."""
    os.environ["MNEMO_OFFLINE"] = "1"
    settings = load_settings()
    if not (settings.uses_embedded_s3 or here):
        raise SettingsError(
            f"the demo would write recorded data into {settings.lake}; --here says that it may"
        )
    set_up_prefect()
    console = show.console()
    with _progress(console) as progress:
        progress.console.print("starting the embedded S3 server, the offline twin and Prefect ...")
        task = progress.add_task("ingest and promote", total=_steps())
        structlog.configure(
            processors=[_Watcher(progress, task)],
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        )
        from flows.demo import demo

        try:
            report = demo()
        except MnemoError:
            _print_tables(console)
            raise
    console.print(f"{report.fetched} subjects fetched, {report.new_pages} new pages")
    for said in report.skipped:
        console.print(f"[yellow]{said}[/yellow]")
    _print_tables(console)
    console.print(_NEXT)
    if keep:
        endpoint = Lake.open().settings.s3_endpoint
        console.input(f"the S3 server stays at {endpoint}; press Enter to stop it ")


def set_up_prefect() -> None:
    """Prefect's own state goes to the home folder; nothing is sent anywhere; what is set already stays."""
    home = load_settings().home.resolve() / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    defaults = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _steps() -> int:
    from sources.watchlist import read_watchlist
    from tasks import session

    return len(read_watchlist(session.settings(), now=session.utc_now())) + len(catalog.promotion_order())


class _Watcher:
    """A log processor that moves the progress bar at each effect, and lets warnings through."""

    def __init__(self, progress: Progress, task: Any) -> None:
        self._progress = progress
        self._task = task

    def __call__(self, _logger: Any, level: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        if event["event"] == "ingested":
            self._step(f"{event['feed']} {_short(event['subject'])}: {event['new_pages']} new pages")
        elif event["event"] == "promoted":
            level = ", ".join(dict.fromkeys(event["levels"])) or "nothing new"
            said = f"{event['published_rows']} rows, {event['quarantined_rows']} in quarantine"
            self._step(f"[bold]{event['table']}[/bold]: {level}, {said}")
        elif level in {"warning", "error", "critical"}:
            self._progress.console.print(f"[yellow]{event['event']}[/yellow]", {**event})
        raise structlog.DropEvent

    def _step(self, said: str) -> None:
        self._progress.console.print(said, highlight=False)
        self._progress.advance(self._task)


def _brief(value: Any) -> Any:
    """Times to the minute: the table is to be looked over."""
    return value.strftime("%Y-%m-%d %H:%M") if isinstance(value, datetime) else value


def _short(subject: str) -> str:
    """Token ids have up to 78 digits."""
    return subject if len(subject) <= _SUBJECT_WIDTH else f"{subject[: _SUBJECT_WIDTH - 1]}…"


def _progress(console: Console) -> Progress:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)


def _print_tables(console: Console) -> None:
    shown = ("table", "rows", "subjects", "start", "end", "verdict", "quarantined")
    found = [{name: _brief(one[name]) for name in shown} for one in Lake.open().tables()]
    console.print()
    show.records(found, as_json=False, title="What the lake holds now")
