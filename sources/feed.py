"""A feed: one kind of data of one provider, and the silver table it fills."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import polars as pl

from lakehouse.bronze import Page, bronze_table
from lakehouse.contract import Table
from lakehouse.coverage import About, Prove
from lakehouse.ledger import Source
from lakehouse.promotion import Streaming
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.errors import ParseError
from sources.proofs import paged_to_end
from sources.quota import Quota

if TYPE_CHECKING:
    from sources.client import Client


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Getting bytes and understanding them, as two functions.

    `fetch(client, subject, window)` yields pages; it raises the errors of `sources.errors`, UsageError for a subject
    that cannot exist, and never parses more than paging needs.
    `parse(pages)` is pure (no network, no clock, no state): rows of a bronze table in, rows of `table` out, with
    derived columns left out and numbers as the provider's own text (conforming turns them into floats and notices
    what would be rounded). It raises ParseError when any page is not what it should be.
    """

    name: str
    provider: str
    doc: str
    table: Table
    subjects: str
    """What a subject looks like, for people: `kraken:BTC/USD`, a FRED series id."""
    fetch: Callable[[Client, str, Window], Iterator[Page]]
    parse: Callable[[pl.DataFrame], pl.LazyFrame]
    proof: Prove = paged_to_end
    """What an answer proves of the window asked for; see `sources.proofs`."""
    about: About | None = None
    """The subject columns of the table's rows that a subject is about; by default they are read from the rows."""
    step: Callable[[str], timedelta | None] | None = None
    """How much of a subject's time a backfill asks for at once; None: all of it, as of what comes whole."""
    cost: Callable[[str, Window], int] | None = None
    """About how many requests a window takes; None: at least one."""
    quota: Callable[[Settings, str], Quota] | None = None
    """The limits that the requests for a subject count against; None: none are known."""
    paging: str = ""
    """For people: how a window is asked for in pages, or that one answer holds it."""
    limits: str = ""
    """For people: the provider's limits, where they differ from subject to subject; else `quota` tells them."""
    key_setting: str = ""
    """The `MNEMO_*` setting that must hold a key; empty where none is needed."""
    key_url: str = ""
    """Where a key can be had."""
    documentation: str = ""
    """The provider's own description of the data."""
    stream: str = ""
    """The stream whose recorder writes the pages; several feeds understand each its part of them."""
    channel: str = ""
    """The stream's channel that the rows come from."""
    streaming: Streaming | None = None
    """How pages of the stream are read."""

    @property
    def bronze(self) -> Table:
        """The table that keeps this feed's pages."""
        return bronze_table(f"stream_{self.stream}" if self.stream else self.name)

    @property
    def source(self) -> Source:
        """The feed as the coverage ledger sees it."""
        return Source(
            feed=self.name,
            table=self.table,
            bronze=self.bronze,
            parse=self.parse,
            prove=self.proof,
            about=self.about,
            parse_error=ParseError,
            channel=self.channel,
        )

    def describe(self, settings: Settings) -> dict[str, str]:
        """What a person asks of a feed before using it: a line of `mnemo ingest --list` and of docs/feeds.md."""
        known = str(self.quota(settings, "")) if self.quota and not self.limits else self.limits
        return {
            "feed": self.name,
            "provider": self.provider,
            "data_set": self.doc,
            "fills": self.table.name,
            "subject": self.subjects,
            "key": self.key_setting or "none",
            "quota": known or "none is known",
            "paging": self.paging,
        }
