"""Progress of long work on standard error: a bar with rate and time left on a terminal, lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from sources.backfill import Step

_LINE_EVERY_S = 10.0


@contextmanager
def told(total: int, what: str) -> Iterator[Callable[[Step], None]]:
    """The function to call with each step of a backfill of so many windows."""
    if sys.stderr.isatty():
        with _bar() as progress:
            task = progress.add_task(what, total=total)
            with _warnings_above(progress):
                yield lambda step: progress.update(task, advance=1, description=_said(what, step))
    else:
        yield _Lines(total, what)


class _Lines:
    """A line every ten seconds, and the last one."""

    def __init__(self, total: int, what: str) -> None:
        self._total, self._what = total, what
        self._began = self._said_at = time.monotonic()
        self._done = 0

    def __call__(self, step: Step) -> None:
        self._done += 1
        now = time.monotonic()
        if self._done < self._total and now - self._said_at < _LINE_EVERY_S:
            return
        self._said_at = now
        rate = self._done / max(now - self._began, 1e-9)
        left_s = (self._total - self._done) / rate
        sys.stderr.write(
            f"{self._done} of {self._total} windows, {rate:.1f} a second, {left_s:.0f} s left;"
            f" {_said(self._what, step)}\n"
        )


class _Rate(ProgressColumn):
    """Windows a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s")


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _said(what: str, step: Step) -> str:
    return f"{what} {step.cell.subject} {step.cell.window.start:%Y-%m-%d}: {step.said}"


@contextmanager
def _warnings_above(progress: Progress) -> Iterator[None]:
    """Warnings, such as waits, go above the bar and do not tear it."""
    before = structlog.get_config()

    def print_above(_: Any, level: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        said = " ".join(f"{name}={value}" for name, value in event.items() if name != "event")
        progress.console.print(
            f"{level}: {event['event']} {said}", style="yellow", highlight=False, markup=False
        )
        raise structlog.DropEvent

    structlog.configure(
        processors=[print_above], wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING)
    )
    try:
        yield
    finally:
        structlog.configure(**before)
