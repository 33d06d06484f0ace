"""Bronze: pages, the very bytes that a provider sent, with when and how they were asked for.

One contract serves every bronze table; each feed has its own table, `bronze.<feed>`. Append only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import polars as pl

from lakehouse.contract import UTC_US, Column, Table
from lakehouse.window import Window

COLUMNS = (
    Column(
        name="page_id", dtype=pl.Int64(), doc="First 8 bytes of SHA-256 over feed, subject, request and body."
    ),
    Column(name="feed", dtype=pl.String(), doc="The feed that asked."),
    Column(name="subject", dtype=pl.String(), doc="What the feed was asked for."),
    Column(name="request", dtype=pl.String(), doc="The request as JSON, without secrets."),
    Column(name="window_start", dtype=UTC_US, unit="UTC", nullable=True, doc="First moment asked for."),
    Column(
        name="window_end", dtype=UTC_US, unit="UTC", nullable=True, doc="First moment no longer asked for."
    ),
    Column(name="received_at", dtype=UTC_US, unit="UTC", doc="When the answer was complete."),
    Column(
        name="connection_id", dtype=pl.String(), nullable=True, doc="WebSocket connection; null over HTTP."
    ),
    Column(
        name="sequence", dtype=pl.Int64(), nullable=True, doc="Position within the fetch or the connection."
    ),
    Column(name="http_status", dtype=pl.Int32(), nullable=True, doc="HTTP status; null over WebSocket."),
    Column(name="content_type", dtype=pl.String(), nullable=True, doc="Content-Type as sent."),
    Column(
        name="body",
        dtype=pl.Binary(),
        doc="The body, byte for byte (secrets echoed by the provider removed).",
    ),
    Column(name="run_id", dtype=pl.String(), doc="The run that fetched it."),
    Column(name="code_version", dtype=pl.String(), doc="Version of this package that fetched it."),
    Column(
        name="received_date",
        dtype=pl.Date(),
        derived=pl.col("received_at").dt.date(),
        doc="UTC date; the partition.",
    ),
)


def bronze_table(feed: str) -> Table:
    """The contract of one feed's bronze table."""
    return Table(
        name=f"bronze.{feed}",
        doc=f"Pages of the feed {feed} as they were received.",
        columns=COLUMNS,
        key=("page_id",),
        subject=("subject",),
        owner="ingest",
        time_column="received_at",
        partition_by=("received_date",),
    )


@dataclass(frozen=True, kw_only=True)
class Page:
    """What one HTTP response or one WebSocket frame said.

    `request` holds at least `method` and `url` (the provider's real address, secrets removed) and whatever the
    parser needs to understand the body without asking anybody.
    """

    feed: str
    subject: str
    request: Mapping[str, Any]
    received_at: datetime
    body: bytes
    window: Window | None = None
    connection_id: str | None = None
    sequence: int | None = None
    http_status: int | None = None
    content_type: str | None = None

    @property
    def page_id(self) -> int:
        """The same bytes for the same question have the same id, whoever asks and whenever."""
        return page_id(self.feed, self.subject, canonical(self.request), self.body)


def pages_frame(pages: Iterable[Page], *, run_id: str, code_version: str) -> pl.DataFrame:
    """Pages as rows of a bronze table, in the order given."""
    rows = [
        {
            "page_id": page.page_id,
            "feed": page.feed,
            "subject": page.subject,
            "request": canonical(page.request).decode(),
            "window_start": page.window.start if page.window else None,
            "window_end": page.window.end if page.window else None,
            "received_at": page.received_at,
            "connection_id": page.connection_id,
            "sequence": page.sequence,
            "http_status": page.http_status,
            "content_type": page.content_type,
            "body": page.body,
            "run_id": run_id,
            "code_version": code_version,
            "received_date": page.received_at.date(),
        }
        for page in pages
    ]
    return pl.DataFrame(rows, schema=bronze_table("any").schema, orient="row")


def canonical(request: Mapping[str, Any]) -> bytes:
    """A request as the text that bronze keeps of it: the same request, the same text."""
    return orjson.dumps(request, option=orjson.OPT_SORT_KEYS)


def page_id(feed: str, subject: str, request: bytes, body: bytes) -> int:
    """The id of a page whose canonical request is already at hand."""
    digest = hashlib.sha256()
    for part in (feed.encode(), subject.encode(), request, body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return int.from_bytes(digest.digest()[:8], "big", signed=True)
