"""What every task of a process shares: settings, the store, the providers' client."""

from __future__ import annotations

import atexit
import threading
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from functools import cache, wraps
from importlib.metadata import version
from typing import Any, TypeVar

import stamina
import stamina.instrumentation
import structlog

from lakehouse.files import Files, open_files
from lakehouse.publish import Run
from lakehouse.settings import Settings, load_settings
from lakehouse.store import Store, open_store
from sources.client import Client
from sources.quota_ledger import QuotaLedger
from sources.quota_table import QuotaTable
from sources.watchlist import recordings_folder
from tasks.limits import PrefectLimits, has_prefect_server

log = structlog.get_logger()

Made = TypeVar("Made")
Opened = TypeVar("Opened", bound=AbstractContextManager[Any])

_open = ExitStack()
atexit.register(_open.close)


def once(make: Callable[[], Made]) -> Callable[[], Made]:
    """One for the whole process: `cache` alone makes several when threads ask at the same time."""
    lock, made = threading.Lock(), cache(make)

    @wraps(make)
    def held() -> Made:
        with lock:
            return made()

    return held


def utc_now() -> datetime:
    """The clock of everything that is not a test."""
    return datetime.now(UTC)


def keep_open(resource: Opened) -> Opened:
    """Close it when the process ends; what was opened last is closed first."""
    _open.enter_context(resource)
    return resource


@once
def settings() -> Settings:
    """The settings in force; offline, with the address of a twin that runs as long as this process."""
    said = load_settings()
    if not said.offline or said.twin_url:
        return said
    from sources.twin.server import running_twin  # a web server: only where it is wanted

    return said.model_copy(update={"twin_url": _open.enter_context(running_twin(recordings_folder(said)))})


@once
def store() -> Store:
    """The lake's store."""
    return open_store(settings())


@once
def files() -> Files:
    """Pages for people, beside the tables."""
    return open_files(store().settings)


@once
def client() -> Client:
    """One client for all feeds of this process; limits are kept with all processes of this machine.

    Where a Prefect server is there, its limits are kept as well (`tasks.limits`).
    """
    stamina.instrumentation.set_on_retry_hooks([_tell_wait])
    ledger = QuotaLedger(settings().home / "quota", share=QuotaTable(store))
    limits = PrefectLimits() if has_prefect_server() else None
    return _open.enter_context(Client(settings(), ledger=ledger, also_wait=limits))


def _tell_wait(details: stamina.instrumentation.RetryDetails) -> None:
    """Waits are shown, not silent."""
    because = str(details.caused_by)
    log.warning(
        "waiting for a provider", wait_s=round(details.wait_for, 1), tried=details.retry_num, because=because
    )


def new_run(run_id: str | None = None) -> Run:
    """Who is at work now."""
    return Run(run_id=run_id or str(uuid.uuid4()), code_version=version("mnemo-quant"), now=utc_now)
