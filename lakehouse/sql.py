"""DuckDB over the lake's Delta tables, by the extensions that come as packages: nothing is downloaded."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import duckdb
import polars as pl

from lakehouse.catalog import tables
from lakehouse.contract import Table
from lakehouse.errors import UsageError
from lakehouse.store import Store


def connect(store: Store) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection that can reach the store and knows its keys."""
    connection = duckdb.connect()
    for name in ("httpfs", "delta"):
        connection.execute(f"load '{_extension(name)}'")
    settings = store.settings
    if settings.is_s3:
        endpoint = re.sub("^https?://", "", settings.s3_endpoint)
        connection.execute(
            "create secret (type s3, key_id $key, secret $secret, region $region, url_style 'path'"
            + (", endpoint $endpoint, use_ssl $ssl)" if endpoint else ")"),
            {
                "key": settings.s3_access_key,
                "secret": settings.s3_secret_key.get_secret_value(),
                "region": settings.s3_region,
                **(
                    {"endpoint": endpoint, "ssl": settings.s3_endpoint.startswith("https")}
                    if endpoint
                    else {}
                ),
            },
        )
    return connection


def run_query(store: Store, query: str) -> pl.DataFrame:
    """The result of a query that names tables as `layer.name`.

    UsageError with DuckDB's words where the query is wrong, ContractError where a table waits for a migration.
    """
    with connect(store) as connection:
        connection.execute("set timezone = 'UTC'")
        for table in _named(query):
            if stored := store.find(table):
                stored.refuse_pending()
                _create_views(connection, store, table)
        try:
            return pl.DataFrame(connection.sql(query))
        except duckdb.Error as error:
            raise UsageError(str(error)) from None


def _named(query: str) -> list[Table]:
    """Tables whose names occur in the query: only those are looked at."""
    return [
        table for name, table in tables().items() if re.search(rf"\b{re.escape(name)}(_versions)?\b", query)
    ]


def _create_views(connection: duckdb.DuckDBPyConnection, store: Store, table: Table) -> None:
    columns = ", ".join(f'"{name}"' for name in table.schema)
    source = f"select {columns} from delta_scan('{store.uri(table.name)}')"  # noqa: S608 - our own names
    connection.execute(f"create schema if not exists {table.layer}")
    connection.execute(f"create view {table.name}_versions as {source}")
    latest = ""
    if table.keeps_revisions:
        identity = ", ".join(f'"{name}"' for name in table.identity)
        latest = f" qualify row_number() over (partition by {identity} order by known_at desc) = 1"
    connection.execute(f"create view {table.name} as {source}{latest}")


def _extension(name: str) -> Path:
    """The extension's file within its package."""
    folder = resources.files(f"duckdb_extension_{name}")
    with resources.as_file(folder) as path:
        found = sorted(path.rglob(f"{name}.duckdb_extension"))
    if not found:
        raise UsageError(f"the package duckdb-extension-{name} holds no extension for this platform")
    return found[0]
