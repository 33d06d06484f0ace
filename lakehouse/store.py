"""Delta tables on the object store: open, create, append once, read what is new.

The only importer of deltalake, with `lakehouse.embedded_s3` beside it. A commit carries the positions of what it
consumed as Delta application transactions, so that data and position are published in one step or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import CommitProperties, DeltaTable, Transaction, WriterProperties, write_deltalake
from deltalake import Field as DeltaField
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.schema import ArrayType, PrimitiveType
from deltalake.writer import ColumnProperties

from lakehouse.contract import Column, Table
from lakehouse.embedded_s3 import ensure_running
from lakehouse.errors import ContractError, MnemoError, StoreUnavailable
from lakehouse.settings import Settings

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
}
_UNREACHABLE = (
    "error sending request",
    "error trying to connect",
    "Connection refused",
    "dns error",
    "timed out",
)
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
        """The stored table, created where it is missing. Columns that the contract gained are added.

        Raises ContractError where the stored table differs otherwise.
        """
        stored = self.find(table)
        if stored is None:
            self._create(table)
            stored = self.find(table)
        if stored is None:
            raise StoreUnavailable(
                f"{table.name} was created and is not there; does another process delete it?"
            )
        stored.add_new_columns()
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
                    schema=DeltaSchema([_delta_field(column) for column in table.columns]),
                    mode="ignore",
                    partition_by=list(table.partition_by),
                    name=table.name,
                    description=table.doc,
                    configuration=_CONFIGURATION,
                    storage_options=self.storage_options,
                    commit_properties=CommitProperties(max_commit_retries=0),
                )
        except CommitConflict:
            return

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
            if any(text in said for text in _UNREACHABLE):
                raise StoreUnavailable(
                    f"the store does not answer at {where} (setting MNEMO_S3_ENDPOINT)"
                ) from error
            if any(text in said for text in _REFUSED):
                keys = "MNEMO_S3_ACCESS_KEY, MNEMO_S3_SECRET_KEY, MNEMO_LAKE"
                raise StoreUnavailable(
                    f"the store at {where} refuses the keys or the bucket ({keys})"
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

    def refresh(self) -> None:
        """See the newest version."""
        with self.store.errors():
            self.delta.update_incremental()

    def append(self, rows: pl.DataFrame, *, positions: Mapping[str, int], said: Mapping[str, str]) -> int:
        """Append rows and advance positions in one commit; returns the new version.

        Raises CommitConflict when another commit advanced one of the positions since this handle looked, and
        ContractError when the rows do not fit to the letter: delta-rs would cut 1.5 to 1 without a word.
        """
        if rows.schema != self.contract.schema:
            raise ContractError(f"{self.contract.name}: rows do not fit the contract: {rows.schema}")
        transactions = [Transaction(app, version) for app, version in positions.items()]
        with self.store.errors():
            write_deltalake(
                self.delta,
                rows,
                mode="append",
                commit_properties=CommitProperties(
                    custom_metadata={f"mnemo.{name}": value for name, value in said.items()},
                    max_commit_retries=15,
                    app_transactions=transactions,
                ),
                writer_properties=_writer_properties(self.contract),
            )
        return self.version

    def scan(self) -> pl.LazyFrame:
        """All rows, in the order of the contract's columns."""
        return pl.scan_delta(self.delta).select(self.contract.schema.names())

    def changes(self, after: int, upto: int) -> pl.DataFrame:
        """The rows appended by the commits `after < version <= upto`."""
        with self.store.errors():
            reader = self.delta.load_cdf(starting_version=after + 1, ending_version=upto)
            frame = pl.DataFrame(reader)
        return frame.filter(pl.col("_change_type") == "insert").select(
            pl.col(name).cast(dtype) for name, dtype in self.contract.schema.items()
        )

    def set_where(self, predicate: str, changes: Mapping[str, str]) -> None:
        """Set text columns of the rows that an SQL predicate selects, in one commit."""
        with self.store.errors():
            self.delta.update(predicate=predicate, new_values=dict(changes))

    def add_new_columns(self) -> None:
        """Bring the stored schema up to a contract that has gained columns."""
        stored = {f.name: f.type for f in self.delta.schema().fields}
        wanted = {column.name: _delta_field(column) for column in self.contract.columns}
        changed = sorted(name for name, f in wanted.items() if name in stored and stored[name] != f.type)
        gone = sorted(set(stored) - set(wanted))
        if changed or gone:
            raise ContractError(
                f"{self.contract.name}: stored with other types for {changed}, no longer declared {gone}"
            )
        missing = [f for name, f in wanted.items() if name not in stored]
        if missing:
            with self.store.errors():
                self.delta.alter.add_columns(missing)

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


def _delta_field(column: Column) -> DeltaField:
    comment = f"{column.doc} [{column.unit}]" if column.unit else column.doc
    return DeltaField(column.name, _delta_type(column.dtype), nullable=True, metadata={"comment": comment})


def _delta_type(dtype: pl.DataType) -> PrimitiveType | ArrayType:
    if isinstance(dtype, pl.List):
        return ArrayType(_delta_type(dtype.inner), contains_null=True)  # type: ignore[arg-type]
    return PrimitiveType(_PRIMITIVES[type(dtype)])


def _writer_properties(table: Table) -> WriterProperties:
    """zstd-1, times and ids delta-packed: half the bytes of snappy and the least CPU to write and to scan."""
    packed = ColumnProperties(dictionary_enabled=False, encoding="DELTA_BINARY_PACKED")
    columns = {
        c.name: packed for c in table.columns if c.dtype == pl.Int64 or isinstance(c.dtype, pl.Datetime)
    }
    return WriterProperties(compression="ZSTD", compression_level=1, column_properties=columns)
