"""Recorded WebSocket sessions: JSON Lines in files named `*.ws.jsonl` or `*.ws.jsonl.gz`, one session a file.

A line is one event: `{"event": "connect", "at", "url"}`, `{"event": "send" | "recv" | "disconnect", "at", "text"}`, or
`{"event": "http", "at", "url", "status", "body"}` for what was asked over REST meanwhile. `at` is ISO 8601.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from lakehouse.errors import SettingsError
from lakehouse.window import iso, parse_moment
from sources.twin.recording import Recording

SUFFIXES = (".ws.jsonl", ".ws.jsonl.gz")

EventKind = Literal["connect", "send", "recv", "disconnect", "http"]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event. `text` is the raw text of a message, the body of an HTTP answer, or why the connection was lost."""

    kind: EventKind
    at: datetime
    text: str = ""
    url: str = ""
    status: int = 200


@dataclass(frozen=True, kw_only=True)
class RecordedSession:
    """One connection to `url`, its events in order."""

    url: str
    events: tuple[Event, ...]

    @property
    def recordings(self) -> Iterator[Recording]:
        """What was asked over REST meanwhile."""
        for event in self.events:
            if event.kind == "http":
                yield Recording(
                    url=event.url,
                    status=event.status,
                    headers={"content-type": "application/json"},
                    body=event.text.encode(),
                    received_at=iso(event.at),
                )


def read_sessions(folder: Path) -> list[RecordedSession]:
    """All recorded sessions under a folder; SettingsError naming the file and line that cannot be read."""
    return [_read(path) for path in sorted(folder.rglob("*")) if path.name.endswith(SUFFIXES)]


def write_session(path: Path, session: RecordedSession) -> None:
    """Write a session, the same one as the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(b"".join(_lines(session.events)), mtime=0))


def session_of(events: Iterable[Event]) -> RecordedSession:
    """Events as a session; ValueError where nothing says where it was connected to."""
    told = tuple(events)
    url = next((event.url for event in told if event.kind == "connect"), "")
    if not url:
        raise ValueError("no event says where it was connected to")
    return RecordedSession(url=url, events=told)


def _read(path: Path) -> RecordedSession:
    raw = path.read_bytes()
    lines = (gzip.decompress(raw) if path.suffix == ".gz" else raw).splitlines()
    events = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(_event(orjson.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise SettingsError(f"{path}, line {number}: not an event of a session ({error!r})") from None
    try:
        return session_of(events)
    except ValueError as error:
        raise SettingsError(f"{path}: {error}") from None


def _event(said: dict[str, Any]) -> Event:
    return Event(
        kind=said["event"],
        at=parse_moment(said["at"]),
        text=said.get("text", said.get("body", "")),
        url=said.get("url", ""),
        status=int(said.get("status", 200)),
    )


def _lines(events: Iterable[Event]) -> Iterator[bytes]:
    for event in events:
        said: dict[str, Any] = {"event": event.kind, "at": iso(event.at)}
        if event.url:
            said["url"] = event.url
        if event.kind == "http":
            said |= {"status": event.status, "body": event.text}
        elif event.kind != "connect":
            said["text"] = event.text
        yield orjson.dumps(said) + b"\n"
