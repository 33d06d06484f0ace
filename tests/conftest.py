"""One S3 server for the whole test session, and a fresh lake within it for each test that wants one.

The embedded server, or the one that MNEMO_TEST_S3_ENDPOINT, MNEMO_TEST_S3_ACCESS_KEY and MNEMO_TEST_S3_SECRET_KEY
name; its bucket `lake` is made where it is missing.
"""

import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import boto3
import hypothesis
import pytest

from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.store import Store, open_store

# A busy machine is not a failure, and what lands is not decided by chance: the same examples each time, others when
# somebody asks for `--hypothesis-profile thorough`.
_UNHURRIED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("mnemo", derandomize=True, **_UNHURRIED)
hypothesis.settings.register_profile("thorough", max_examples=1000, **_UNHURRIED)
hypothesis.settings.load_profile("mnemo")


def pytest_addoption(parser):
    parser.addoption("--thorough", action="store_true", help="also the long versions of tests under faults")
    parser.addoption("--seed", type=int, default=None, help="repeat a run of tests that choose at random")


def pytest_configure(config):
    config.addinivalue_line("markers", "thorough: takes long; runs with --thorough (make test-crash)")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--thorough"):
        for item in items:
            if "thorough" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes long; runs with --thorough (make test-crash)"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, tmp_path_factory):
    """Tests see neither the developer's `MNEMO_*` variables nor a `.env` file."""
    for name in [
        name for name in os.environ if name.startswith("MNEMO_") and not name.startswith("MNEMO_TEST_")
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)


@dataclass(frozen=True)
class NamedServer:
    """A server that was there before the tests."""

    endpoint: str
    access_key: str
    secret_key: str


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server."""
    named = [os.environ.get(f"MNEMO_TEST_S3_{name}", "") for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")]
    if any(named):
        server = NamedServer(*named)
        _make_bucket(server)
        yield server
        return
    home = tmp_path_factory.mktemp("home")
    yield ensure_running(home, bucket="lake")
    release(home, wait=True)


def _make_bucket(server: NamedServer) -> None:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )
    with suppress(client.exceptions.BucketAlreadyOwnedByYou):
        client.create_bucket(Bucket="lake")


@pytest.fixture
def settings(s3) -> Settings:
    """Settings of a lake that no other test uses."""
    return Settings(
        lake=f"s3://lake/{uuid.uuid4().hex}",
        s3_endpoint=s3.endpoint,
        s3_access_key=s3.access_key,
        s3_secret_key=s3.secret_key,
    )


@pytest.fixture
def store(settings) -> Store:
    """The store of a fresh lake."""
    return open_store(settings)


@pytest.fixture
def run() -> Run:
    """A run whose clock moves on by a second with each look."""
    moments = iter(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=n) for n in range(10_000))
    return Run(run_id="test", code_version="0", now=lambda: next(moments))
