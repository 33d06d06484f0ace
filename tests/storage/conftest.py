"""The lake of `store` through a proxy that fails as a test wants it (see fault_proxy.py), and trades to fill it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.conform import conform
from lakehouse.contract import Table
from lakehouse.store import open_store


class Proxy:
    """The proxy's process; it does no harm until told to."""

    def __init__(self, upstream: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("fault_proxy.py"), upstream],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.endpoint = self._process.stdout.readline().strip()

    def fail(self, **how) -> None:
        """From now on; without arguments no more."""
        self._process.stdin.write(json.dumps(how) + "\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def proxy_of():
    """A proxy in front of a server."""
    with ExitStack() as open_:

        def start(endpoint: str) -> Proxy:
            made = Proxy(endpoint)
            open_.callback(made.close)
            return made

        yield start


@pytest.fixture
def proxy(s3, proxy_of):
    """The proxy in front of the S3 server."""
    return proxy_of(s3.endpoint)


@pytest.fixture
def faulty(proxy, settings):
    """The same lake as `store`, through the proxy."""
    return open_store(settings.model_copy(update={"s3_endpoint": proxy.endpoint}))


@pytest.fixture
def made_trades():
    """Trades that are made up, as many as a test of files and partitions needs."""

    def made(
        contract: Table, numbers: range, instruments: Sequence[str], *, start: datetime, every: timedelta
    ) -> pl.DataFrame:
        """Trades of these numbers as `contract` declares silver.trades: the instruments in turn, `every` so often."""
        number = pl.col("number")
        at = pl.lit(start) + number * pl.lit(every)
        rows = pl.select(number=pl.int_range(numbers.start, numbers.stop)).select(
            venue=pl.lit("kraken"),
            instrument_id=(number % len(instruments)).replace_strict(dict(enumerate(instruments))),
            trade_id=number.cast(pl.String),
            event_at=at,
            known_at=at,
            ingested_at=at,
            page_id=pl.lit(1),
            provider=pl.lit("test"),
            price=number * 1.5 + 1,
            amount=pl.lit(1.0),
            amount_unit=pl.lit("base"),
            side=pl.lit("buy"),
        )
        return conform(contract, rows.lazy()).select(contract.schema.names()).collect()

    return made
