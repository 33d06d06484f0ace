"""Tables of one lake, held open between requests. What was made from a version is kept until there is a newer one.

Nothing here writes; sizes and spans come from Delta's own statistics, so that large tables cost what small ones do.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

import polars as pl

from lakehouse import Lake, catalog
from lakehouse.contract import Table
from lakehouse.errors import MnemoError, StoreUnavailable
from lakehouse.store import StoredTable

Made = TypeVar("Made")

_LOOK_EVERY_S = 2.0
_KEPT = 256
_OPENERS = 8


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What Delta's statistics tell of a stored table; `trouble` says why it cannot be read as declared."""

    table: Table
    rows: int
    files: int
    size_bytes: int
    version: int
    start: datetime | None
    end: datetime | None
    newest_row_at: datetime | None
    trouble: str = ""

    def age_s(self, now: datetime) -> float | None:
        """Seconds since the newest row came in (0 by a clock ahead of ours); None where the table does not say."""
        return None if self.newest_row_at is None else max((now - self.newest_row_at).total_seconds(), 0.0)


@dataclass
class Shelf:
    """The tables of a lake, opened once and looked at again every two seconds at most."""

    lake: Lake
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _held: dict[str, tuple[StoredTable | None, float]] = field(default_factory=dict)
    _locks: dict[str, threading.Lock] = field(default_factory=dict)
    _made: OrderedDict[tuple[Any, ...], Any] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def stored(self, name: str) -> StoredTable | None:
        """The table as it is now, or None where nothing was ever written."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            held, looked_at = self._held.get(name, (None, float("-inf")))
            if time.monotonic() - looked_at >= _LOOK_EVERY_S:
                held = self._looked_again(name, held)
                self._held[name] = (held, time.monotonic())
            return held

    def _looked_again(self, name: str, held: StoredTable | None) -> StoredTable | None:
        if held is None:
            return self.lake.store.find(self.lake.contract(name))
        try:
            held.refresh()
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - deleted or made anew: delta-rs has no class for it
            return self.lake.store.find(held.contract)
        return held

    def several(self, names: Iterable[str]) -> Mapping[str, StoredTable]:
        """Those of the tables that are stored, opened side by side."""
        wanted = list(names)
        with ThreadPoolExecutor(_OPENERS) as pool:
            found = zip(wanted, pool.map(self.stored, wanted), strict=True)
            return {name: one for name, one in found if one is not None}

    def scan(self, name: str) -> pl.LazyFrame:
        """All rows of a table, every version; empty where nothing is stored."""
        stored = self.stored(name)
        return stored.scan() if stored else self.lake.contract(name).schema.to_frame(eager=False)

    def once(self, what: object, names: Sequence[str], make: Callable[[], Made]) -> Made:
        """What `make` gives, kept as long as none of the tables has a newer version."""
        opened = [self.stored(name) for name in names]
        key = (what, *((one.id, one.version) if one else None for one in opened))
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key]  # type: ignore[no-any-return]
        made = make()
        with self._lock:
            self._made[key] = made
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)
        return made

    def names(self) -> tuple[str, ...]:
        """Every table that can be stored: bronze as far as it is there, and all that the catalog declares."""
        bronze = tuple(f"bronze.{name}" for name in self.lake.files.folders("bronze/"))
        ops = tuple(name for name in catalog.tables() if name.startswith("ops."))
        return (*bronze, *catalog.promotion_order(), *ops)

    def facts(self, names: Iterable[str] | None = None) -> list[Facts]:
        """What the stored tables hold, in the order of their layers."""
        found = self.several(self.names() if names is None else names)
        return [self.once("facts", (name,), lambda one=one: _facts(one)) for name, one in found.items()]  # type: ignore[misc]


def _facts(stored: StoredTable) -> Facts:
    table, files = stored.contract, stored.files()
    return Facts(
        table=table,
        rows=_sum(files, "num_records"),
        files=files.height,
        size_bytes=_sum(files, "size_bytes"),
        version=stored.version,
        start=_edge(files, f"min.{table.time_column}", "min"),
        end=_edge(files, f"max.{table.time_column}", "max"),
        newest_row_at=_edge(files, "max.ingested_at", "max"),
        trouble=_trouble(stored),
    )


def _sum(files: pl.DataFrame, column: str) -> int:
    return int(files[column].sum()) if column in files.columns else 0


def _edge(files: pl.DataFrame, column: str, of: str) -> datetime | None:
    """The earliest or latest of a statistic; None where the files do not carry it."""
    if column not in files.columns:
        return None
    found = files[column].min() if of == "min" else files[column].max()
    return found if isinstance(found, datetime) else None


def _trouble(stored: StoredTable) -> str:
    """Why a table is not read as its contract declares it: it waits for a migration, or is newer than this code."""
    try:
        waiting = [str(one) for one in stored.differences() if one.way == "migration"]
        if waiting:
            return f"is stored otherwise than declared, see `mnemo migrate --plan`: {'; '.join(waiting)}"
        stored.scan().collect_schema()
    except (MnemoError, pl.exceptions.PolarsError) as error:
        return str(error)
    return ""
