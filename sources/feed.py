"""A feed: one kind of data of one provider, and the silver table it fills."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from lakehouse.bronze import Page, bronze_table
from lakehouse.contract import Table
from lakehouse.coverage import About, Prove
from lakehouse.ledger import Source
from lakehouse.window import Window
from sources.errors import ParseError
from sources.proofs import paged_to_end

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
    key_setting: str = ""
    """The `MNEMO_*` setting that must hold a key; empty where none is needed."""
    key_url: str = ""
    """Where a key can be had."""
    documentation: str = ""
    """The provider's own description of the data."""

    @property
    def bronze(self) -> Table:
        """The table that keeps this feed's pages."""
        return bronze_table(self.name)

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
        )
