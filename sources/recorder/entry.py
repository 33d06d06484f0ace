"""How the spool holds what the recorder hears: a page, and what is claimed from then on.

An entry is a line of JSON; with a page another line, its request as bronze keeps it, and then its body as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from lakehouse.bronze import Page, canonical
from lakehouse.streamed import Streamed, from_plain, plain
from lakehouse.window import Window, iso, parse_moment
from sources.recorder.telling import Teller, teller_from
from sources.spool import Found

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = datetime.min.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

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
    """An entry as bytes."""
    said: dict[str, Any] = {}
    if claims := [plain(one) for one in told]:
        said["told"] = claims
    if memo is not None:
        said["memo"] = memo
    if page is None:
        return orjson.dumps(said)
    said["page"] = _plain_page(page)
    return b"\n".join((orjson.dumps(said), canonical(page.request), page.body))


def split_entry(record: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """What an entry says, and the canonical request and the body of its page; both are empty where it has none."""
    head, _, rest = record.partition(b"\n")
    request, _, body = rest.partition(b"\n")
    said: dict[str, Any] = orjson.loads(head)
    return said, request, body


def claims_of(said: Mapping[str, Any]) -> tuple[Streamed, ...]:
    """The claims of what an entry says."""
    return tuple(from_plain(one) for one in said.get("told", ()))


def read_entry(record: bytes) -> Entry:
    """The entry again."""
    said, request, body = split_entry(record)
    return Entry(
        page=_page(said["page"], request, body) if "page" in said else None,
        told=claims_of(said),
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
    """A page but for its request and body. Times are microseconds since the epoch: the cheapest to read again."""
    window = page.window
    return {
        "feed": page.feed,
        "subject": page.subject,
        "received_us": _us(page.received_at),
        "start_us": _us(window.start) if window else None,
        "end_us": _us(window.end) if window else None,
        "connection_id": page.connection_id,
        "sequence": page.sequence,
        "http_status": page.http_status,
    }


def _page(said: Mapping[str, Any], request: bytes, body: bytes) -> Page:
    start_us, end_us = said["start_us"], said["end_us"]
    return Page(
        feed=said["feed"],
        subject=said["subject"],
        request=orjson.loads(request),
        received_at=_moment(said["received_us"]),
        body=body,
        window=None if start_us is None else Window(_moment(start_us), _moment(end_us)),
        connection_id=said["connection_id"],
        sequence=said["sequence"],
        http_status=said["http_status"],
    )


def _us(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)
