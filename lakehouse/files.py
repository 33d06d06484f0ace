"""Plain files beside the tables: pages for people, kept on the same store under the same root."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lakehouse.errors import StoreUnavailable

if TYPE_CHECKING:
    from lakehouse.settings import Settings


class Files(Protocol):
    """Whole files by key, such as `docs/silver.trades/1f3a.html`."""

    def put(self, key: str, data: bytes) -> None:
        """Write or replace."""

    def get(self, key: str) -> bytes:
        """Read; FileNotFoundError where there is none."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin with the prefix, sorted."""

    def folders(self, prefix: str) -> list[str]:
        """Names of what lies directly under a prefix that ends with a slash, sorted."""


@dataclass(frozen=True)
class LocalFiles:
    """Files in a folder."""

    root: Path

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        partial.write_bytes(data)
        partial.replace(path)

    def get(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def keys(self, prefix: str) -> Iterator[str]:
        folder = self.root / prefix.rpartition("/")[0]
        found = (path.relative_to(self.root).as_posix() for path in folder.rglob("*") if path.is_file())
        yield from sorted(key for key in found if key.startswith(prefix))

    def folders(self, prefix: str) -> list[str]:
        folder = self.root / prefix
        return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


@dataclass(frozen=True)
class S3Files:
    """Files in a bucket, under a prefix. Raises StoreUnavailable where the store does not answer."""

    client: Any
    bucket: str
    prefix: str

    def put(self, key: str, data: bytes) -> None:
        kind = mimetypes.guess_type(key)[0] or "application/octet-stream"
        with self._errors():
            self.client.put_object(Bucket=self.bucket, Key=f"{self.prefix}{key}", Body=data, ContentType=kind)

    def get(self, key: str) -> bytes:
        with self._errors():
            try:
                found = self.client.get_object(Bucket=self.bucket, Key=f"{self.prefix}{key}")
            except self.client.exceptions.NoSuchKey:
                raise FileNotFoundError(key) from None
            return bytes(found["Body"].read())

    def keys(self, prefix: str) -> Iterator[str]:
        for page in self._list(prefix):
            for entry in page.get("Contents", ()):
                yield str(entry["Key"])[len(self.prefix) :]

    def folders(self, prefix: str) -> list[str]:
        found = [
            entry["Prefix"]
            for page in self._list(prefix, Delimiter="/")
            for entry in page.get("CommonPrefixes", ())
        ]
        return sorted(name[len(self.prefix) + len(prefix) :].rstrip("/") for name in found)

    def _list(self, prefix: str, **options: str) -> list[dict[str, Any]]:
        paginator = self.client.get_paginator("list_objects_v2")
        with self._errors():
            return list(paginator.paginate(Bucket=self.bucket, Prefix=self.prefix + prefix, **options))

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError) as error:
            where = self.client.meta.endpoint_url
            raise StoreUnavailable(
                f"the store fails at {where} (setting MNEMO_S3_ENDPOINT): {error}"
            ) from error


def open_files(settings: Settings) -> Files:
    """The files of the lake that the settings name."""
    if not settings.is_s3:
        return LocalFiles(Path(settings.lake))
    import boto3  # slow to import: readers of tables do not need it
    from botocore.config import Config

    bucket, _, prefix = settings.lake.removeprefix("s3://").partition("/")
    client = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint or None,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
        region_name=settings.s3_region,
        config=Config(connect_timeout=5, read_timeout=30, retries={"max_attempts": 3}),
    )
    return S3Files(client, bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else "")
