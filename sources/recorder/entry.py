"""How the spool holds what the recorder hears: a page, and what is claimed from then on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from lakehouse.bronze import Page
from lakehouse.streamed import Streamed, from_plain, plain
from lakehouse.window import Window, iso, parse_moment
from sources.recorder.telling import Teller, teller_from
from sources.spool import Found

_NEVER = datetime.min.replace(tzinfo=UTC)


Memo = Mapping[str, Any]
"""By subject of a session: its teller, and when its newest frame was received."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One record: a page, if it is about one, and what its session claims with it."""

    page: Page | None = None
    told: tuple[Streamed, ...] = ()
    memo: Memo | None = None
    """What is known of all sessions from then on, where this entry changed that."""


def write_entry(page: Page | None, told: Iterable[Streamed] = (), memo: Memo | None = None) -> bytes:
    """An entry as bytes: a line of JSON, then the body of the page as it is."""
    said: dict[str, Any] = {}
    if page is not None:
        said["page"] = _plain_page(page)
    if claims := [plain(one) for one in told]:
        said["told"] = claims
    if memo is not None:
        said["memo"] = memo
    return orjson.dumps(said) + b"\n" + (page.body if page else b"")


def read_entry(record: bytes) -> Entry:
    """The entry again."""
    head, _, body = record.partition(b"\n")
    said = orjson.loads(head)
    return Entry(
        page=_page(said["page"], body) if "page" in said else None,
        told=tuple(from_plain(one) for one in said.get("told", ())),
        memo=said.get("memo"),
    )


def write_memo(tellers: Mapping[str, tuple[Teller, datetime]]) -> Memo:
    """Tellers by subject, each with the receipt of its newest frame."""
    return {
        subject: {"teller": teller.plain(), "heard_at": iso(heard_at)}
        for subject, (teller, heard_at) in tellers.items()
    }


def last_known(found: Found) -> dict[str, tuple[Teller, datetime]]:
    """Of a spool that was left behind: its tellers by subject, and when the newest frame of each was received."""
    memo: Memo = orjson.loads(found.memo) if found.memo else {}
    received: dict[str, datetime] = {}
    for record in found.records:
        entry = read_entry(record)
        if entry.memo is not None:
            memo = entry.memo
        if entry.page:
            received[entry.page.subject] = entry.page.received_at
    return {
        subject: (
            teller_from(said["teller"]),
            max(parse_moment(said["heard_at"]), received.get(subject, _NEVER)),
        )
        for subject, said in memo.items()
    }


def _plain_page(page: Page) -> dict[str, Any]:
    window = page.window
    return {
        "feed": page.feed,
        "subject": page.subject,
        "request": page.request,
        "received_at": page.received_at,
        "window": [window.start, window.end] if window else None,
        "connection_id": page.connection_id,
        "sequence": page.sequence,
        "http_status": page.http_status,
    }


def _page(said: Mapping[str, Any], body: bytes) -> Page:
    window = said["window"]
    return Page(
        feed=said["feed"],
        subject=said["subject"],
        request=said["request"],
        received_at=parse_moment(said["received_at"]),
        body=body,
        window=Window(parse_moment(window[0]), parse_moment(window[1])) if window else None,
        connection_id=said["connection_id"],
        sequence=said["sequence"],
        http_status=said["http_status"],
    )
