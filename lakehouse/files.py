"""Plain files beside the tables: pages for people, kept on the same store under the same root."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lakehouse.errors import StoreUnavailable

if TYPE_CHECKING:
    from lakehouse.settings import Settings


_DELETED_AT_ONCE = 1000
"""The most that one request to an S3 store may name."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What a listing says of a file; `tag` changes with what is in it."""

    key: str
    tag: str
    modified_at: datetime
    size_bytes: int


class Files(Protocol):
    """Whole files by key, such as `docs/silver.trades/1f3a.html`."""

    def put(self, key: str, data: bytes) -> None:
        """Write or replace."""

    def get(self, key: str) -> bytes:
        """Read; FileNotFoundError where there is none."""

    def keys(self, prefix: str) -> Iterator[str]:
        """All keys that begin with the prefix, sorted."""

    def entries(self, prefix: str) -> Iterator[Entry]:
        """What a listing says of all keys that begin with the prefix, sorted by key."""

    def folders(self, prefix: str) -> list[str]:
        """Names of what lies directly under a prefix that ends with a slash, sorted."""

    def delete(self, keys: Sequence[str]) -> None:
        """Delete; those that are not there are deleted already."""


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

    def entries(self, prefix: str) -> Iterator[Entry]:
        for key in self.keys(prefix):
            said = (self.root / key).stat()
            yield Entry(
                key=key,
                tag=f"{said.st_mtime_ns}-{said.st_size}",
                modified_at=datetime.fromtimestamp(said.st_mtime, UTC),
                size_bytes=said.st_size,
            )

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            (self.root / key).unlink(missing_ok=True)

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

    def entries(self, prefix: str) -> Iterator[Entry]:
        for page in self._list(prefix):
            for entry in page.get("Contents", ()):
                yield Entry(
                    key=str(entry["Key"])[len(self.prefix) :],
                    tag=str(entry["ETag"]).strip('"'),
                    modified_at=entry["LastModified"],
                    size_bytes=entry["Size"],
                )

    def delete(self, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            named = [{"Key": f"{self.prefix}{key}"} for key in keys[start : start + _DELETED_AT_ONCE]]
            with self._errors():
                said = self.client.delete_objects(
                    Bucket=self.bucket, Delete={"Objects": named, "Quiet": True}
                )
            if failed := said.get("Errors"):
                first = f"{failed[0].get('Key')}: {failed[0].get('Message')}"
                raise StoreUnavailable(f"the store did not delete {len(failed)} files, such as {first}")

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
