"""Migrations: in what the stored tables differ from their contracts, and bringing them up to them.

What a contract has gained follows by itself (`Store.open`); anything else is a `Migration` in the table's contract. All
that a table needs is one commit on it, so that a kill leaves either the old table or the new one, and running again
ends the same. `ops.migrations` is written after that, for people; the table's own log is what counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import polars as pl

from lakehouse.bronze import bronze_table
from lakehouse.catalog import tables
from lakehouse.contract import Table
from lakehouse.errors import ContractError
from lakehouse.layout import Way
from lakehouse.ops import MIGRATIONS
from lakehouse.promotion import until_settled
from lakehouse.publish import Run
from lakehouse.store import Store, StoredTable

_HOW: Mapping[Way, str] = {
    "in place": "by itself",
    "rewrite": "by itself, rows are written anew",
    "note": "mnemo migrate",
    "migration": "no migration is declared",
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that a stored table lacks, and how it comes about."""

    table: str
    column: str
    change: str
    stored: str
    declared: str
    how: str


def every_table(store: Store) -> list[Table]:
    """The contracts of everything that may be stored: bronze as found on the store, and the catalog."""
    bronze = [bronze_table(name) for name in store.files.folders("bronze/")]
    return [*bronze, *tables().values()]


def plan(store: Store, table: Table) -> list[Step]:
    """In what a stored table differs from its contract; empty where nothing does or nothing is stored."""
    stored = store.find(table)
    return list(_steps(stored)) if stored else []


def migrate(store: Store, table: Table, run: Run) -> list[Step]:
    """Bring a stored table up to its contract; returns what was done.

    Raises ContractError, and changes nothing, where a difference needs a migration that nobody has declared, and
    Contention when others keep committing first.
    """
    if store.find(table) is None:
        return []
    return until_settled(lambda: _migrate_once(store, table, run))


def _steps(stored: StoredTable) -> Iterator[Step]:
    pending = stored.pending
    named = f"migration {', '.join(one.name for one in pending)}"
    for one in stored.differences():
        how = named if pending and one.way == "migration" else _HOW[one.way]
        said = {name: value for name, value in asdict(one).items() if name != "way"}
        yield Step(**said, how=how)
    for migration in pending:
        yield Step(
            table=stored.contract.name,
            column="",
            change="migration",
            stored="",
            declared=migration.doc,
            how=f"migration {migration.name}",
        )


def _migrate_once(store: Store, table: Table, run: Run) -> list[Step]:
    stored = store.find(table)
    if stored is None:
        return []
    _record(store, stored, run)
    steps = list(_steps(stored))
    undeclared = [step for step in steps if step.how == _HOW["migration"]]
    if undeclared:
        said = "; ".join(f"{step.column or 'the table'}: {step.change}" for step in undeclared)
        raise ContractError(f"{table.name} needs a migration that nobody has declared: {said}")
    if stored.pending:
        stored.rewrite()
    else:
        stored.adapt()
    stored.refresh()
    stored.write_notes()
    _record(store, stored, run)
    return steps


def _record(store: Store, stored: StoredTable, run: Run) -> None:
    """List what the table's last migration ran, unless it is listed."""
    if not stored.migrated_last:
        return
    log = store.open(MIGRATIONS)
    app = f"{MIGRATIONS.name}<-{stored.id}"
    listed = log.position(app)
    numbers = [number for number in stored.migrated_last if number > listed]
    if not numbers:
        return
    rows = [
        {
            "table": stored.contract.name,
            "table_id": stored.id,
            "number": number,
            "name": stored.contract.migrations[number - 1].name,
            "doc": stored.contract.migrations[number - 1].doc,
            "recorded_at": run.now(),
            "version": stored.rewritten_at,
            "contract": stored.contract.fingerprint,
            "code_version": run.code_version,
            "run_id": run.run_id,
        }
        for number in numbers
    ]
    frame = pl.DataFrame(rows, schema=MIGRATIONS.schema, orient="row")
    log.append(frame, positions={app: numbers[-1]}, said={"run": run.run_id})
