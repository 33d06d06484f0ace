"""The lake of `store` through a proxy that fails as a test wants it (see fault_proxy.py)."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

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
