"""One embedded S3 server for the whole test session, and a fresh lake within it for each test that wants one."""

import uuid
from datetime import UTC, datetime, timedelta

import hypothesis
import pytest

from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.store import Store, open_store

# A busy machine is not a failure.
hypothesis.settings.register_profile("mnemo", deadline=None)
hypothesis.settings.load_profile("mnemo")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch, tmp_path_factory):
    """Tests see neither the developer's `MNEMO_*` variables nor a `.env` file."""
    import os

    for name in [
        name for name in os.environ if name.startswith("MNEMO_") and not name.startswith("MNEMO_TEST_")
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setitem(Settings.model_config, "env_file", None)


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """A real S3 server on loopback."""
    home = tmp_path_factory.mktemp("home")
    yield ensure_running(home, bucket="lake")
    release(home, wait=True)


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
