"""The lake of the demo, filled once: recorded answers over real HTTP, every table promoted.

Or the one that MNEMO_TEST_LAKE names, on the server of MNEMO_TEST_S3_ENDPOINT: one that was migrated, say.
"""

import os
import uuid
from datetime import UTC, datetime

import polars as pl
import pytest

from lakehouse import Lake, catalog
from lakehouse.promotion import promote_model, promote_pages
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.store import open_store
from lakehouse.verdict import Verdict
from sources import registry
from sources.client import Client
from sources.errors import ParseError
from sources.ingest import ingest
from sources.twin.server import running_twin
from sources.watchlist import read_watchlist, recordings_folder


@pytest.fixture(scope="session")
def lake(s3) -> Lake:
    """The tables are what readers see here: the gate lets everything through that keeps the row rules."""
    named = os.environ.get("MNEMO_TEST_LAKE")
    settings = Settings(
        lake=named or f"s3://lake/{uuid.uuid4().hex}",
        s3_endpoint=s3.endpoint,
        s3_access_key=s3.access_key,
        s3_secret_key=s3.secret_key,
        offline=True,
    )
    run = Run(run_id="readers", code_version="0", now=lambda: datetime.now(UTC))
    store = open_store(settings)
    if named:
        return Lake(store)
    with running_twin(recordings_folder(settings)) as twin_url:
        settings = settings.model_copy(update={"twin_url": twin_url})
        with Client(settings) as client:
            for order in read_watchlist(settings, now=run.now()):
                feed = registry.feed(order.feed)
                ingest(store, feed, order.subject, order.window, client=client, run=run)
    for name in catalog.promotion_order():
        for feed in registry.feeds_filling(name):
            promote_pages(
                store, feed.table, feed.bronze, feed.parse, judge=passing, run=run, parse_error=ParseError
            )
        if name in catalog.models():
            promote_model(store, catalog.models()[name], judge=passing, run=run)
    return Lake(store)


def passing(batch) -> Verdict:
    return Verdict(batch=batch, findings=(), reasons={})


@pytest.fixture(scope="session")
def held(lake) -> dict[str, pl.DataFrame]:
    """What Polars reads of each stored table, by its address alone, in the order of the key."""
    names = [one["table"] for one in lake.tables()]
    read = {
        name: pl.scan_delta(lake.uri(name), storage_options=lake.storage_options).collect() for name in names
    }
    return {name: in_order(rows, lake.contract(name)) for name, rows in read.items()}


@pytest.fixture(scope="session")
def ordered(lake):
    """A frame of a table in the order and with the columns of `held`."""
    return lambda rows, name: in_order(rows, lake.contract(name))


def in_order(rows: pl.DataFrame, table) -> pl.DataFrame:
    received = [name for name in ("received_at",) if name in table.schema]  # a page may come twice
    return rows.select(table.schema.names()).sort(*table.key, *received)
