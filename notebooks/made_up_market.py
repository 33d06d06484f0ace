"""An hour of a made-up Kraken, as a recorder would have kept it: what the notebook `order_book.py` reads.

The market is that of the offline twin (`sources.twin.kraken`): chance, and no market. What is done with it is not made
up: its frames go through the session, the parsers and the model that live frames go through.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse.bronze import Page, pages_frame
from lakehouse.catalog import table
from lakehouse.conform import conform
from lakehouse.gold.liquidity import MODEL
from sources.stream import Action, Frame, Instrument, Kind, Send, Session, page_of
from sources.twin.kraken import MadeUpKraken
from sources.venues import VENUES, parse_book_snapshots, parse_book_updates

BEGIN = datetime(2026, 1, 5, 12, tzinfo=UTC)
BTC = Instrument(instrument_id="BTC/USD", symbol="BTC/USD", price_digits=1, amount_digits=8)


def record(
    *, minutes: int = 60, per_s: float = 2.0, lost: Collection[int] = (), answers_after_s: int = 20
) -> pl.DataFrame:
    """Pages of a session of so many minutes, of `per_s` frames a second.

    `lost` are numbers of messages, counted from 0, that never arrive; `answers_after_s` is how long the venue takes
    to answer a subscription, and so to send a fresh snapshot.
    """
    recording = _Recording(lost=lost, per_s=per_s, answers_after=timedelta(seconds=answers_after_s))
    recording.open()
    for second in range(1, minutes * 60):
        recording.go_on(BEGIN + timedelta(seconds=second))
    return pages_frame(recording.pages, run_id="notebook", code_version="notebook")


def updates(pages: pl.DataFrame) -> pl.DataFrame:
    """silver.book_updates of the pages."""
    return conform(table("silver.book_updates"), parse_book_updates(pages)).collect()


def snapshots(pages: pl.DataFrame) -> pl.DataFrame:
    """silver.book_snapshots of the pages: a book a second in which it changed."""
    return conform(table("silver.book_snapshots"), parse_book_snapshots(pages)).collect()


def liquidity(books: pl.DataFrame) -> pl.DataFrame:
    """gold.liquidity of books."""
    listings = pl.LazyFrame(schema=table("silver.instruments").schema)
    return MODEL.build({"silver.book_snapshots": books.lazy(), "silver.instruments": listings}).collect()


@dataclass
class _Recording:
    lost: Collection[int]
    per_s: float
    answers_after: timedelta
    pages: list[Page] = field(default_factory=list)
    _now: datetime = BEGIN
    _arrived: int = 0
    _asked: deque[tuple[datetime, str]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        market = MadeUpKraken(per_s=self.per_s, book_share=0.8, now_s=self._now_s)
        self._venue = market.connection()
        self._session: Session = VENUES["kraken"].sessions((BTC,), ("book",))[0]

    def _now_s(self) -> float:
        return self._now.timestamp()

    def open(self) -> None:
        self._hear("connect", "")
        self._do(self._session.opening(self._now))

    def go_on(self, now: datetime) -> None:
        self._now = now
        self._receive(self._venue.due(0))
        while self._asked and self._asked[0][0] <= now:
            self._receive(self._venue.hear(self._asked.popleft()[1]))
        self._do(self._session.tick(now))

    def _receive(self, texts: Iterable[str]) -> None:
        for text in texts:
            if self._arrived not in self.lost:
                self._do(self._hear("recv", text))
            self._arrived += 1

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self._hear("send", action.text)
                self._asked.append((self._now + self.answers_after, action.text))

    def _hear(self, kind: Kind, text: str) -> tuple[Action, ...]:
        frame = Frame(number=len(self.pages), received_at=self._now, kind=kind, text=text)
        heard = self._session.hear(frame)
        self.pages.append(page_of(self._session, frame, heard, connection_id="made-up"))
        return heard.actions
