"""A lake that lasts as long as a benchmark, on the embedded S3 server, and how a peer reaches the same server."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from lakehouse.embedded_s3 import ensure_running, release
from lakehouse.settings import Settings

BUCKET = "lake"


@contextmanager
def passing_lake(name: str) -> Iterator[Settings]:
    """Settings of an empty lake `s3://lake/<name>`; its home is `settings.home`, gone in the end."""
    home = Path(tempfile.mkdtemp(prefix=f"mnemo-{name}-"))
    try:
        yield settings_in(home, name)
    finally:
        release(home, wait=True)
        shutil.rmtree(home)


def settings_in(home: Path, name: str) -> Settings:
    """The same in a folder whose server may run already, in another process of the benchmark."""
    server = ensure_running(home, bucket=BUCKET)
    return Settings(
        _env_file=None,
        home=home,
        lake=f"s3://{BUCKET}/{name}",
        s3_endpoint=server.endpoint,
        s3_access_key=server.access_key,
        s3_secret_key=server.secret_key,  # type: ignore[arg-type]
    )


def told_of(settings: Settings) -> dict[str, str]:
    """What a peer needs for the same server: `endpoint`, `key`, `secret`, `bucket` and ArcticDB's address `arctic`."""
    key, secret = settings.s3_access_key, settings.s3_secret_key.get_secret_value()
    at = urlsplit(settings.s3_endpoint)
    arctic = f"s3://{at.hostname}:{BUCKET}?port={at.port}&access={key}&secret={secret}&path_prefix=arctic"
    told = {"endpoint": settings.s3_endpoint, "key": str(key), "secret": secret, "bucket": BUCKET}
    return {**told, "arctic": arctic}
