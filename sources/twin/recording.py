"""Recordings: what a provider once answered, as JSON Lines (gzip allowed), one folder a provider.

An HTTP line is `{"method", "url", "status", "headers", "body" | "body_base64", "received_at"}`, and
`request_body` where a POST is told apart by it. `url` is the provider's real address without secrets.
docs/recordings.md has more.
"""

from __future__ import annotations

import base64
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from lakehouse.errors import SettingsError

SECRET_PARAMETERS = frozenset({"api_key", "apikey", "key", "token", "signature"})

_WITHOUT_BODY = frozenset({204, 304})
_HEADER_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9a-z]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


class Request(NamedTuple):
    """What tells requests apart: sorted parameters without the secret ones, a JSON body with sorted keys."""

    method: str
    host: str
    path: str
    parameters: tuple[tuple[str, str], ...]
    body: bytes | None


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One recorded HTTP answer. Raises ValueError for one that HTTP could not carry.

    `body` is what the client saw: decoded, whatever Content-Encoding it travelled in. Without `request_body`
    it answers requests with any body.
    """

    url: str
    body: bytes
    method: str = "GET"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    received_at: str | None = None
    request_body: str | None = None

    def __post_init__(self) -> None:
        headers = {name.lower(): value.strip() for name, value in self.headers.items()}
        object.__setattr__(self, "method", self.method.upper())
        object.__setattr__(self, "headers", headers)
        _check(self)

    @property
    def request(self) -> Request:
        """The request that it answers."""
        body = None if self.request_body is None else self.request_body.encode()
        return request_of(self.method, self.url, body)


def request_of(method: str, url: str, body: bytes | None = None) -> Request:
    """The identity of a request to a provider's real address."""
    parts = urlsplit(url)
    return request_to(method, host=parts.netloc, path=unquote(parts.path), query=parts.query, body=body)


def request_to(method: str, *, host: str, path: str, query: str, body: bytes | None) -> Request:
    """The identity of a request in parts: a decoded path, a query as sent."""
    pairs = parse_qsl(query, keep_blank_values=True)
    shown = sorted((name, value) for name, value in pairs if name.lower() not in SECRET_PARAMETERS)
    return Request(method.upper(), host.lower(), path.rstrip("/"), tuple(shown), _canonical(body))


def read_folder(folder: Path) -> Iterator[Recording]:
    """All HTTP recordings under a folder, files in the order of their names.

    Raises SettingsError naming file and line for one that cannot be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.name.endswith((".jsonl", ".jsonl.gz")))
    if not files:
        raise SettingsError(f"no recordings (*.jsonl, *.jsonl.gz) under {folder}")
    for path in files:
        if ".ws.jsonl" not in path.name:
            yield from _read_file(path)


def write_file(path: Path, recordings: Iterable[Recording]) -> None:
    """Write recordings as gzip with no time stamp inside, so that the same recordings give the same file.

    Raises ValueError for an address that holds a secret.
    """
    lines = b"".join(orjson.dumps(_line(recording)) + b"\n" for recording in recordings)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(lines, mtime=0))


def _read_file(path: Path) -> Iterator[Recording]:
    for number, line in enumerate(_content(path).split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _recording(orjson.loads(line))
        except KeyError as error:
            raise SettingsError(f"{path}, line {number}: not a recording (has no {error})") from None
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{path}, line {number}: not a recording ({error})") from None


def _content(path: Path) -> bytes:
    raw = path.read_bytes()
    if path.suffix != ".gz":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise SettingsError(f"{path}: not a whole gzip file ({error})") from None


def _recording(said: object) -> Recording:
    if not isinstance(said, dict):
        raise TypeError("it is not an object")
    headers = said.get("headers", {})
    if not isinstance(headers, dict):
        raise TypeError("headers is not an object")
    return Recording(
        method=str(said.get("method", "GET")),
        url=_text(said, "url"),
        status=int(str(said.get("status", 200))),
        headers={str(name): str(value) for name, value in headers.items()},
        body=_body(said),
        received_at=None if said.get("received_at") is None else _text(said, "received_at"),
        request_body=None if said.get("request_body") is None else _text(said, "request_body"),
    )


def _body(said: dict[str, object]) -> bytes:
    if "body_base64" in said:
        return base64.b64decode(_text(said, "body_base64"), validate=True)
    return _text(said, "body").encode()


def _text(said: dict[str, object], name: str) -> str:
    value = said[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is not a string")
    return value


def _check(recording: Recording) -> None:
    parts = urlsplit(recording.url)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise ValueError("url is not the http(s) address of a provider")
    if not 200 <= recording.status <= 599:
        raise ValueError(f"status {recording.status} is not within 200..599")
    if recording.body and recording.status in _WITHOUT_BODY:
        raise ValueError(f"status {recording.status} has no body over HTTP")
    for name, value in recording.headers.items():
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value)):
            raise ValueError(f"header {name!r} cannot be sent over HTTP")


def _line(recording: Recording) -> dict[str, object]:
    _refuse_secrets(recording)
    line: dict[str, object] = {
        "method": recording.method,
        "url": recording.url,
        "status": recording.status,
        "headers": dict(recording.headers),
        "received_at": recording.received_at,
    }
    if recording.request_body is not None:
        line["request_body"] = recording.request_body
    try:
        line["body"] = recording.body.decode()
    except UnicodeDecodeError:
        line["body_base64"] = base64.b64encode(recording.body).decode()
    return line


def _refuse_secrets(recording: Recording) -> None:
    parts = urlsplit(recording.url)
    names = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    secret = sorted(name for name in names if name.lower() in SECRET_PARAMETERS)
    if secret:
        where = f"{parts.netloc}{parts.path}"
        raise ValueError(f"a recording of {where} may not hold the secret parameter {', '.join(secret)}")


def _canonical(body: bytes | None) -> bytes | None:
    if not body:
        return None
    try:
        return orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    except orjson.JSONDecodeError:
        return body
