"""Delta tables on the object store: open, create, append once, read what is new.

The only importer of deltalake, with `lakehouse.embedded_s3` beside it. A commit carries the positions of what it
consumed as Delta application transactions, so that data and position are published in one step or not at all.
"""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson
import polars as pl
from arro3.core import RecordBatch, RecordBatchReader
from arro3.core import Schema as ArrowSchema
from arro3.core import Table as ArrowTable
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake import Field as DeltaField
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import ArrayType, PrimitiveType
from deltalake.writer import ColumnProperties

from lakehouse.contract import Column, Migration, Table
from lakehouse.embedded_s3 import ensure_running
from lakehouse.errors import Contention, ContractError, MnemoError, StoreUnavailable
from lakehouse.files import Files, open_files
from lakehouse.layout import Difference, Layout, comment, declared, differences, fit
from lakehouse.settings import Settings
from lakehouse.shares import SHARES, share_name

_PRIMITIVES: Mapping[type[pl.DataType], str] = {
    pl.String: "string",
    pl.Int64: "long",
    pl.Int32: "integer",
    pl.Float64: "double",
    pl.Boolean: "boolean",
    pl.Binary: "binary",
    pl.Date: "date",
    pl.Datetime: "timestamp",
}
_CONFIGURATION = {
    # Promotions read only what is new, by the change data feed.
    "delta.enableChangeDataFeed": "true",
    # A table of 300 commits opens with 13 requests instead of 193.
    "delta.checkpointInterval": "10",
    # By default every checkpoint deletes old log entries, even those that a promotion has still to read: only upkeep
    # does, which looks first.
    "delta.enableExpiredLogCleanup": "false",
}
_KEY = "mnemo.key"
"""Beside each column of the key its place in it. In the schema, so that one commit changes both."""
_SERIAL = "mnemo.promotion"
"""Every publishing commit advances it; a rewrite does too, so that a promotion under way conflicts with it."""
_MIGRATED = "mnemo.migration"
"""Position: how many of the contract's migrations a table has had. Beside the first column it says from where to where
the last rewrite went, which makes it a change of metadata, with which even a plain append under way conflicts."""
_REWRITTEN = "mnemo.rewrite"
"""`mnemo.rewrite.<n>` is the version of the table's n-th rewrite, which the change feed cannot be read across."""
_ATTEMPTS = 12
_ORDERED_ROWS_OF_A_GROUP = 2**15
"""What a reader who wants a row must read of rows in order. Half of it makes an hour no faster, twice takes it twice as
long from the embedded server. Of rows in no order most groups must be read anyway, and groups of a million are written
a tenth faster."""
_SORTED_IN_MEMORY = 512 * 2**20
"""Bytes of a partition that is put in order; the rest waits on disk. Without a bound 8 million trades take 1.5 GB."""
_FEED = ("_change_type", "_commit_version", "_commit_timestamp")
_UNREACHABLE = (
    "error sending request",
    "error trying to connect",
    "Connection refused",
    "dns error",
    "timed out",
)
_SERVER_ERROR = re.compile(r"\b5\d\d [A-Z][a-z]+( [A-Z][a-z]+)*")
_REFUSED = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403 Forbidden", "NoSuchBucket")


class CommitConflict(MnemoError):
    """Somebody else committed what this commit depended on: read again and decide again."""


@dataclass(frozen=True)
class Store:
    """The tables of one lake."""

    settings: Settings

    @property
    def root(self) -> str:
        """The lake's address without a slash at its end."""
        return self.settings.lake.rstrip("/")

    @property
    def storage_options(self) -> dict[str, str]:
        """What delta-rs, Polars and other readers need to reach the store; holds the keys."""
        if not self.settings.is_s3:
            return {}
        options = {
            "AWS_ACCESS_KEY_ID": self.settings.s3_access_key,
            "AWS_SECRET_ACCESS_KEY": self.settings.s3_secret_key.get_secret_value(),
            "AWS_REGION": self.settings.s3_region,
        }
        if self.settings.s3_endpoint:
            options["AWS_ENDPOINT_URL"] = self.settings.s3_endpoint
            options["AWS_ALLOW_HTTP"] = "true"
        return options

    def uri(self, name: str) -> str:
        """Address of a table: `<lake>/<layer>/<name>`."""
        return f"{self.root}/{name.replace('.', '/', 1)}"

    def find(self, table: Table) -> StoredTable | None:
        """The stored table, or None where nothing was ever written."""
        with self.errors():
            try:
                delta = DeltaTable(self.uri(table.name), storage_options=self.storage_options)
            except TableNotFoundError:
                return None
        return StoredTable(table, delta, self)

    def open(self, table: Table) -> StoredTable:
        """The stored table, created where it is missing. Columns that the contract gained or widened follow it.

        Raises ContractError where the stored table differs otherwise: such a table waits for `mnemo migrate`.
        """
        for tried in range(_ATTEMPTS):
            stored = self.find(table) or self._created(table)
            try:
                stored.adapt()
            except CommitConflict:
                time.sleep(random.uniform(0, 0.05 * 2 ** min(tried, 6)))  # noqa: S311 - jitter, not a secret
            else:
                return stored
        raise Contention(f"{table.name} gained columns, but others keep committing first; try again later")

    def _created(self, table: Table) -> StoredTable:
        self._create(table)
        stored = self.find(table)
        if stored is None:
            raise StoreUnavailable(
                f"{table.name} was created and is not there; does another process delete it?"
            )
        return stored

    def _create(self, table: Table) -> None:
        """Create the table unless somebody else does at this moment.

        Without retries the commit is version 0 or nothing. With them delta-rs writes the schema once more as a later
        version, under a new table id, and positions that name the id would start anew.
        """
        try:
            with self.errors():
                DeltaTable.create(
                    self.uri(table.name),
                    schema=DeltaSchema([_delta_field(table, column) for column in table.columns]),
                    mode="ignore",
                    partition_by=list(table.partition_by),
                    name=table.name,
                    description=table.doc,
                    configuration=self.configuration,
                    storage_options=self.storage_options,
                    commit_properties=CommitProperties(
                        max_commit_retries=0,
                        app_transactions=[Transaction(_MIGRATED, len(table.migrations))],
                    ),
                )
        except CommitConflict:
            return

    @cached_property
    def files(self) -> Files:
        """Everything of the lake by key, beside and below the tables."""
        return open_files(self.settings)

    @property
    def configuration(self) -> dict[str, str]:
        """The properties of every table of the lake."""
        kept = f"interval {self.settings.retention_days} days"
        retention = {"delta.logRetentionDuration": kept, "delta.deletedFileRetentionDuration": kept}
        return {**_CONFIGURATION, **retention}

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the store's own errors into ours, which name endpoint and setting."""
        try:
            yield
        except CommitFailedError as error:
            raise CommitConflict(str(error)) from error
        except (DeltaError, OSError) as error:
            said = str(error)
            where = self.settings.s3_endpoint or self.settings.lake
            if any(text in said for text in _REFUSED):
                keys = "MNEMO_S3_ACCESS_KEY, MNEMO_S3_SECRET_KEY, MNEMO_LAKE"
                raise StoreUnavailable(
                    f"the store at {where} refuses the keys or the bucket ({keys})"
                ) from error
            if failed := _SERVER_ERROR.search(said):
                raise StoreUnavailable(
                    f"the store at {where} answers {failed[0]}, also when asked again (setting MNEMO_S3_ENDPOINT)"
                ) from error
            if any(text in said for text in _UNREACHABLE):
                raise StoreUnavailable(
                    f"the store does not answer at {where} (setting MNEMO_S3_ENDPOINT)"
                ) from error
            raise


@dataclass
class StoredTable:
    """One stored table, held open at a version: commits through it notice what came between."""

    contract: Table
    delta: DeltaTable = field(repr=False)
    store: Store = field(repr=False)

    @property
    def id(self) -> str:
        """Stays with the table, and changes when it is created anew."""
        return str(self.delta.metadata().id)

    @property
    def version(self) -> int:
        """The version that this handle sees."""
        return self.delta.version()

    def position(self, app: str) -> int:
        """The last position that was committed under this name; -1 before the first."""
        found = self.delta.transaction_version(app)
        return -1 if found is None else found

    def position_of_share(self, app: str, number: int) -> int:
        """The last position of one share, whether committed by itself or with all others."""
        return max(self.position(app), self.position(share_name(app, number)))

    def consumed(self, app: str) -> int:
        """The last position that all of its shares have reached, together or each by itself."""
        if self.position(share_name(app, 0)) < 0:
            return self.position(app)
        return min(self.position_of_share(app, number) for number in range(SHARES))

    @property
    def is_newest(self) -> bool:
        """Whether nobody has committed since this handle looked: one small request.

        deltalake 1.6.3 has it in its core alone; `update_incremental` would change the handle under frames that use it.
        """
        with self.store.errors():
            return bool(self.delta._table.get_latest_version() == self.delta.version())

    def refresh(self) -> None:
        """See the newest version."""
        with self.store.errors():
            self.delta.update_incremental()

    def append(self, rows: pl.DataFrame, *, positions: Mapping[str, int], said: Mapping[str, str]) -> int:
        """Append rows and advance positions in one commit; returns the new version.

        Raises CommitConflict when another commit advanced one of the positions since this handle looked, and
        ContractError when the rows do not fit to the letter: delta-rs would cut 1.5 to 1 without a word.
        """
        return self._write("append", rows, positions, said)

    def replace(self, rows: pl.DataFrame, *, positions: Mapping[str, int], said: Mapping[str, str]) -> int:
        """Put rows in the place of all that is stored, and advance positions, in one commit; errors as in `append`.

        Readers see the old table or the new one; a handle opened at an older version keeps its files.
        """
        return self._write("overwrite", rows, positions, said)

    def _write(
        self,
        mode: Literal["append", "overwrite"],
        rows: pl.DataFrame,
        positions: Mapping[str, int],
        said: Mapping[str, str],
    ) -> int:
        if rows.schema != self.contract.schema:
            raise ContractError(f"{self.contract.name}: rows do not fit the contract: {rows.schema}")
        transactions = [Transaction(app, version) for app, version in positions.items()]
        with self.store.errors():
            write_deltalake(
                self.delta,
                rows,
                mode=mode,
                commit_properties=CommitProperties(
                    custom_metadata={f"mnemo.{name}": value for name, value in said.items()},
                    max_commit_retries=15,
                    app_transactions=transactions,
                ),
                writer_properties=_writer_properties(self.contract),
            )
        return self.version

    def scan(self) -> pl.LazyFrame:
        """All rows as the contract declares them; those of an older layout are migrated while they are read."""
        return self._as_declared(self.delta, pl.scan_delta(self.delta))

    def changes(self, after: int, upto: int) -> pl.DataFrame:
        """The rows appended by the commits `after < version <= upto`.

        A rewrite of pages is no news: they say what they said. A rewrite of any other table is: all its rows are
        new to those who were not there yet.
        """
        rewrites = [version for version in self._rewrites() if after < version <= upto]
        if not rewrites:
            return self._inserts(self.delta, after, upto)
        last = self._inserts(self.delta, rewrites[-1], upto)
        if self.contract.layer != "bronze":
            return pl.concat([self._at(rewrites[-1]).scan().collect(), last])
        spans = zip([after, *rewrites], rewrites, strict=False)
        before = [self._inserts(self._at(end - 1).delta, begin, end - 1) for begin, end in spans]
        return pl.concat([*before, last])

    def _inserts(self, delta: DeltaTable, after: int, upto: int) -> pl.DataFrame:
        """What was appended in a range without a rewrite, read by a handle of the same layout."""
        if after >= upto:
            return self.contract.schema.to_frame()
        with self.store.errors():
            frame = pl.DataFrame(delta.load_cdf(starting_version=after + 1, ending_version=upto))
        rows = frame.filter(pl.col("_change_type") == "insert")
        return self._as_declared(delta, rows.drop(_FEED).lazy()).collect()

    def news(self, after: int, upto: int) -> pl.DataFrame | None:
        """The rows that came or went by the commits `after < version <= upto`, on balance.

        A table replaced by the same rows has no news. None where the change feed does not tell: across a rewrite, and
        where its files or log entries are gone.
        """
        if after >= upto:
            return self.contract.schema.to_frame()
        if any(after < version <= upto for version in self._rewrites()):
            return None
        try:
            with self.store.errors():
                frame = pl.DataFrame(self.delta.load_cdf(starting_version=after + 1, ending_version=upto))
        except (DeltaError, OSError, pl.exceptions.ComputeError) as error:
            if isinstance(error, pl.exceptions.ComputeError) and "not found" not in str(error):
                raise
            return None
        has_come = pl.col("_change_type").is_in(["insert", "update_postimage"])
        came, went = (
            self._as_declared(self.delta, frame.filter(which).drop(_FEED).lazy()).collect()
            for which in (has_come, ~has_come)
        )
        if went.is_empty():
            return came
        counted = pl.concat([came.with_columns(__balance=pl.lit(1)), went.with_columns(__balance=pl.lit(-1))])
        balance = counted.group_by(came.columns).agg(pl.sum("__balance"))
        return balance.filter(pl.col("__balance") != 0).drop("__balance")

    def _as_declared(self, delta: DeltaTable, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Rows of a handle's version in today's layout; columns that nobody declares are left out."""
        rows = self._migrate(delta, rows)
        stored = rows.collect_schema()
        return fit(self.contract, rows.select(name for name in self.contract.schema if name in stored))

    def _migrate(self, delta: DeltaTable, rows: pl.LazyFrame) -> pl.LazyFrame:
        declared_ = self.contract.migrations
        for migration in (
            declared_[_position(delta, _MIGRATED) :] if declared_ else ()
        ):  # positions cost milliseconds
            rows = migration.apply(rows)
        return rows

    def _rewrites(self) -> Iterator[int]:
        """Versions of this table's rewrites, oldest first; read from the open handle."""
        positions = (self.position(f"{_REWRITTEN}.{n}") for n in itertools.count(1))
        return itertools.takewhile(lambda version: version >= 0, positions)

    def _at(self, version: int) -> StoredTable:
        with self.store.errors():
            uri = self.store.uri(self.contract.name)
            delta = DeltaTable(uri, version=version, storage_options=self.store.storage_options)
        return StoredTable(self.contract, delta, self.store)

    def commits(self, after: int, upto: int) -> list[tuple[int, dict[str, str]]]:
        """Version and `said` of the commits `after < version <= upto`, oldest first, as far as the log goes back."""
        told = ((version, self._commit_info(version)) for version in range(after + 1, upto + 1))
        return [
            (version, {k.removeprefix("mnemo."): v for k, v in one.items() if k.startswith("mnemo.")})
            for version, one in told
            if one is not None
        ]

    def appends(self, after: int, upto: int) -> list[tuple[int, dict[str, str]]] | None:
        """As `commits`, but only of those that brought rows; None where the log no longer tells, or of a rewrite."""
        if any(after < version <= upto for version in self._rewrites()):
            return None
        told = [(version, self._commit_info(version)) for version in range(after + 1, upto + 1)]
        if any(one is None for _, one in told):
            return None
        return [
            (version, {k.removeprefix("mnemo."): v for k, v in one.items() if k.startswith("mnemo.")})
            for version, one in told
            if one is not None and one.get("operation") == "WRITE"
        ]

    def committed_at(self, version: int) -> datetime | None:
        """When a version was committed; None where its log entry is gone."""
        said = self._commit_info(version)
        return None if said is None else datetime.fromtimestamp(said["timestamp"] / 1000, UTC)

    def _commit_info(self, version: int) -> dict[str, Any] | None:
        """What a commit says of itself, from its log entry; None where that is gone.

        deltalake 1.6.3 numbers what `history` tells from the handle's version on, even if there are newer ones: after
        a concurrent commit each would carry its neighbour's number.
        """
        name = self.contract.name.replace(".", "/", 1)
        try:
            entry = self.store.files.get(f"{name}/_delta_log/{version:020d}.json")
        except FileNotFoundError:
            return None
        actions = (orjson.loads(line) for line in entry.splitlines() if line.strip())
        return next((action["commitInfo"] for action in actions if "commitInfo" in action), {})

    def set_where(self, predicate: str, changes: Mapping[str, str | datetime]) -> None:
        """Set columns of text or times of the rows that an SQL predicate selects, in one commit."""
        # delta-rs puts text between quotes as it is.
        safe: dict[str, Any] = {
            name: value.replace("'", "''") if isinstance(value, str) else value
            for name, value in changes.items()
        }
        with self.store.errors():
            self.delta.update(predicate=predicate, new_values=safe)

    @property
    def layout(self) -> Layout:
        """What the table says of itself."""
        metadata, fields = self.delta.metadata(), self.delta.schema().fields
        key = {one.name: int(one.metadata[_KEY]) for one in fields if _KEY in one.metadata}
        return Layout(
            columns={one.name: _polars_type(one.type) for one in fields},
            comments={one.name: str(one.metadata.get("comment", "")) for one in fields},
            partition_by=tuple(metadata.partition_columns),
            key=tuple(sorted(key, key=key.__getitem__)) or None,
            doc=metadata.description or "",
            properties=metadata.configuration,
        )

    def differences(self) -> tuple[Difference, ...]:
        """In what the stored table is not what its contract declares."""
        return differences(self.contract, self.layout, declared(self.contract, self.store.configuration))

    @property
    def migrated(self) -> int:
        """How many of the contract's migrations the table has had."""
        return _position(self.delta, _MIGRATED)

    @property
    def pending(self) -> tuple[Migration, ...]:
        """The contract's migrations that the table has not had."""
        return self.contract.migrations[self.migrated :] if self.contract.migrations else ()

    @property
    def rewritten_at(self) -> int:
        """The version that the last rewrite made; -1 where there was none."""
        return max(self._rewrites(), default=-1)

    @property
    def migrated_last(self) -> range:
        """The numbers of the migrations, counted from 1, that the last rewrite ran."""
        said = [
            str(one.metadata[_MIGRATED]) for one in self.delta.schema().fields if _MIGRATED in one.metadata
        ]
        before, _, after = (said[0] if said else "0-0").partition("-")
        return range(int(before) + 1, int(after) + 1)

    def adapt(self) -> None:
        """Follow a contract that gained or widened columns; ContractError names every other difference."""
        found = self.differences()
        self._refuse([one for one in found if one.way == "migration"])
        if any(one.way == "rewrite" for one in found):
            self.rewrite()
        elif added := [one.column for one in found if one.way == "in place"]:
            with self.store.errors():
                self.delta.alter.add_columns(
                    [_delta_field(self.contract, self.contract.column(name)) for name in added]
                )

    def refuse_pending(self) -> None:
        """Raise ContractError where the table waits for a migration."""
        if pending := ", ".join(one.name for one in self.pending):
            raise ContractError(
                f"{self.contract.name}: waits for the migration {pending}; run `mnemo migrate`"
            )

    def _refuse(self, found: Sequence[Difference]) -> None:
        name, declared_, migrated = self.contract.name, self.contract.migrations, self.migrated
        if migrated > len(declared_):
            raise ContractError(f"{name}: migrated by a newer release ({migrated} of {len(declared_)})")
        self.refuse_pending()
        if found:
            said = "; ".join(str(one) for one in found)
            raise ContractError(
                f"{name}: stored otherwise than declared, and no migration is declared: {said}"
            )

    def rewrite(self) -> None:
        """Run the migrations that the table has not had and write all rows anew as the contract wants them.

        One commit switches schema, partitions, rows and positions; a reader of an older version keeps its files. It
        is the very next version or nothing: CommitConflict when anybody committed meanwhile.
        """
        table = self.contract
        rows = fit(table, self._migrate(self.delta, pl.scan_delta(self.delta)))
        schema = _arrow_schema(table, f"{self.migrated}-{len(table.migrations)}")
        count = len(list(self._rewrites())) + 1
        positions = {
            _MIGRATED: len(table.migrations),
            _SERIAL: self.position(_SERIAL) + 1,
            f"{_REWRITTEN}.{count}": self.version + 1,
        }
        with self.store.errors():
            write_deltalake(
                self.delta,
                RecordBatchReader.from_batches(schema, _batches(rows, schema)),
                mode="overwrite",
                schema_mode="overwrite",
                partition_by=list(table.partition_by),
                commit_properties=CommitProperties(
                    custom_metadata={"mnemo.migrations": ", ".join(one.name for one in table.migrations)},
                    max_commit_retries=0,
                    app_transactions=[Transaction(app, version) for app, version in positions.items()],
                ),
                writer_properties=_writer_properties(table),
            )

    def write_properties(self) -> None:
        """Bring the table's properties up to contract and settings."""
        wanted, stored = self.store.configuration, self.layout.properties
        if any(stored.get(name) != value for name, value in wanted.items()):
            with self.store.errors():
                self.delta.alter.set_table_properties(wanted)

    def write_notes(self) -> None:
        """Bring texts and properties up to the contract; rows stay as they are."""
        self.write_properties()
        stored = self.layout
        with self.store.errors():
            if stored.doc != self.contract.doc:
                self.delta.alter.set_table_description(self.contract.doc)
            for one in self.delta.schema().fields:
                wanted = {**one.metadata, **_notes(self.contract, self.contract.column(one.name))}
                if wanted != one.metadata:
                    self.delta.alter.set_column_metadata(one.name, wanted)

    def compact(self, partition: Mapping[str, str] | None = None, *, target_bytes: int) -> None:
        """Put small files together, of all partitions or of one. The change feed tells nothing of it."""
        with self.store.errors():
            self.delta.optimize.compact(
                partition_filters=_partition_filters(partition or {}),
                target_size=target_bytes,
                commit_properties=CommitProperties(max_commit_retries=15),
                writer_properties=_writer_properties(self.contract),
            )

    def order(self, partition: Mapping[str, str], *, target_bytes: int) -> None:
        """Write one partition anew in the contract's order, so that its files and row groups hold ranges of it.

        The Z-order of one column is its order. Of two it is not: deltalake 1.6.3 puts the lower half of each byte
        before the upper one, so that times are mixed up; and rows that are equal in the one come in no order at all.
        """
        with self.store.errors():
            self.delta.optimize.z_order(
                [self.contract.order_by],
                partition_filters=_partition_filters(partition),
                target_size=target_bytes,
                max_spill_size=_SORTED_IN_MEMORY,
                commit_properties=CommitProperties(max_commit_retries=15),
                writer_properties=_writer_properties(self.contract, rows_of_a_group=_ORDERED_ROWS_OF_A_GROUP),
            )

    def vacuum(self, retention: timedelta, *, dry_run: bool = False) -> list[str]:
        """Delete files that no version needs any more: removed before the retention, or never committed and as old.

        Returns their paths; those deleted by an earlier vacuum may be among them.
        """
        with self.store.errors():
            return self.delta.vacuum(
                retention_hours=int(retention.total_seconds() // 3600),
                enforce_retention_duration=False,
                dry_run=dry_run,
                full=True,
            )

    def clean_log(self) -> None:
        """Write a checkpoint and delete the log entries before the retention that no version since then needs."""
        with self.store.errors():
            self.delta.create_checkpoint()
            self.delta.cleanup_metadata()

    def files(self) -> pl.DataFrame:
        """One row a data file: its size, number of rows and bounds of columns; no data is read."""
        return pl.DataFrame(self.delta.get_add_actions(flatten=True))


def open_store(settings: Settings) -> Store:
    """The store that the settings name; the embedded server is started where none is."""
    if settings.uses_embedded_s3:
        bucket = settings.lake.removeprefix("s3://").partition("/")[0]
        server = ensure_running(settings.home, bucket=bucket)
        named: dict[str, Any] = {
            "s3_endpoint": server.endpoint,
            "s3_access_key": server.access_key,
            "s3_secret_key": type(settings.s3_secret_key)(server.secret_key),
        }
        settings = settings.model_copy(update=named)
    elif not settings.is_s3:
        Path(settings.lake).mkdir(parents=True, exist_ok=True)
    return Store(settings)


def _delta_field(table: Table, column: Column) -> DeltaField:
    return DeltaField(column.name, _delta_type(column.dtype), nullable=True, metadata=_notes(table, column))


def _notes(table: Table, column: Column) -> dict[str, str]:
    """What the schema says beside a column."""
    place = {_KEY: str(table.key.index(column.name) + 1)} if column.name in table.key else {}
    return {"comment": comment(column), **place}


def _delta_type(dtype: pl.DataType) -> PrimitiveType | ArrayType:
    if isinstance(dtype, pl.List):
        return ArrayType(_delta_type(dtype.inner), contains_null=True)  # type: ignore[arg-type]
    return PrimitiveType(_PRIMITIVES[type(dtype)])


def _partition_filters(partition: Mapping[str, str]) -> list[tuple[str, str, Any]] | None:
    return [(name, "=", value) for name, value in partition.items()] or None


def _position(delta: DeltaTable, app: str) -> int:
    return delta.transaction_version(app) or 0


def _polars_type(delta: Any) -> pl.DataType:
    if isinstance(delta, ArrayType):
        return pl.List(_polars_type(delta.element_type))
    if delta.type == "timestamp":
        return pl.Datetime("us", "UTC")
    names = {name: dtype for dtype, name in _PRIMITIVES.items()}
    return names[delta.type]()


def _arrow_schema(table: Table, migrated: str) -> ArrowSchema:
    """The schema as Polars hands it over, with what it says beside the columns."""
    plain = ArrowTable.from_arrow(table.schema.to_frame()).schema
    notes = [_notes(table, column) for column in table.columns]
    notes[0][_MIGRATED] = migrated
    return ArrowSchema(
        [
            plain.field(column.name).with_metadata(said)
            for column, said in zip(table.columns, notes, strict=True)
        ]
    )


def _batches(rows: pl.LazyFrame, schema: ArrowSchema) -> Iterator[RecordBatch]:
    """A stream of batches: a table may be larger than memory."""
    for frame in rows.collect_batches():
        for batch in ArrowTable.from_arrow(frame).to_batches():
            yield batch.with_schema(schema)


def _writer_properties(table: Table, *, rows_of_a_group: int | None = None) -> WriterProperties:
    """zstd-1, times and ids delta-packed: half the bytes of snappy and the least CPU to write and to scan."""
    packed = ColumnProperties(dictionary_enabled=False, encoding="DELTA_BINARY_PACKED")
    columns = {
        c.name: packed for c in table.columns if c.dtype == pl.Int64 or isinstance(c.dtype, pl.Datetime)
    }
    return WriterProperties(
        compression="ZSTD",
        compression_level=1,
        max_row_group_size=rows_of_a_group,
        column_properties=columns,
    )
