"""Where all connections of a recorder write down what they hear: the spool, with the claims that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson

from lakehouse.bronze import Page
from lakehouse.streamed import Streamed
from sources.recorder.entry import Memo, last_known, write_entry, write_memo
from sources.recorder.telling import LATE, Teller, starting
from sources.spool import Found, Spool
from sources.stream import Action, Unreadable

_SAYING = frozenset({"Valid", "Invalid", "Hole"})


@dataclass(kw_only=True)
class Tally:
    """What a recorder did so far, for heartbeats and metrics."""

    frames: int = 0
    bytes_received: int = 0
    unreadable: int = 0
    connections: int = 0
    disconnects: int = 0
    landed_frames: int = 0
    landed_at: datetime | None = None
    heard_at: datetime | None = None
    durable_s: float = 0.0
    """The age of the oldest frame of the newest sync, when it had become durable."""
    repairs: dict[str, int] = field(default_factory=dict)


class Journal:
    """Keeps entries in their order. `missed` is told every claim that something was not received."""

    def __init__(
        self,
        spool: Spool,
        *,
        tally: Tally,
        late: timedelta = LATE,
        missed: Callable[[Streamed], None] = lambda _claim: None,
    ) -> None:
        self.spool, self.tally, self._late = spool, tally, late
        self._missed = missed
        self._tellers: dict[str, tuple[Teller, datetime]] = {}

    def recover(self, found: Sequence[Found], now: datetime) -> None:
        """Claim what earlier recorders left unclaimed when they were killed; call it once, first."""
        told = [
            claim
            for one in found
            for teller, heard_at in last_known(one).values()
            for claim in (
                *teller.lose(heard_at=heard_at, at=now, reason="the recorder was killed"),
                *teller.end(now),
            )
        ]
        self.spool.start(orjson.dumps(self._memo))
        if told:
            self._write(None, told, is_news=True)

    def begin(self, subject: str, venue: str, lines: Sequence[tuple[str, str]], now: datetime) -> None:
        """A session is recorded from now on."""
        self._tellers[subject] = (starting(venue, lines, now, late=self._late), now)
        self._write(None, (), is_news=True)

    def keep(self, page: Page, actions: Sequence[Action], *, since_s: float) -> None:
        """A page, and what its session makes of it. `since_s` is when it came, by `time.perf_counter`."""
        self.tally.frames += 1
        self.tally.bytes_received += len(page.body)
        self.tally.heard_at = page.received_at
        teller, before = self._tellers[page.subject]
        self._tellers[page.subject] = teller, page.received_at
        if not actions:
            self.spool.append(write_entry(page), since_s=since_s)
            return
        self.tally.unreadable += sum(isinstance(one, Unreadable) for one in actions)
        told = teller.hear(actions, heard_at=before, at=page.received_at)
        is_news = any(type(one).__name__ in _SAYING for one in actions)
        self._write(page, told, is_news=is_news, since_s=since_s)

    def claim(self, subject: str, actions: Sequence[Action], now: datetime) -> None:
        """What a session says without having heard anything."""
        if any(type(one).__name__ in _SAYING for one in actions):
            teller, heard_at = self._tellers[subject]
            self._write(None, teller.hear(actions, heard_at=heard_at, at=now), is_news=True)

    def tell(self, now: datetime) -> None:
        """Claim what has been whole until lately."""
        told = [one for teller, heard_at in self._tellers.values() for one in teller.tell(heard_at, now)]
        if told:
            self._write(None, told, is_news=True)

    def end(self, now: datetime) -> None:
        """Nothing is recorded from now on."""
        told = [one for teller, _ in self._tellers.values() for one in teller.end(now)]
        self._tellers.clear()
        self._write(None, told, is_news=True)

    @property
    def invalid(self) -> int:
        """How many channels of instruments are not whole now."""
        return sum(teller.invalid for teller, _ in self._tellers.values())

    @property
    def _memo(self) -> Memo:
        return write_memo(self._tellers)

    def _write(
        self, page: Page | None, told: Sequence[Streamed], *, is_news: bool, since_s: float | None = None
    ) -> None:
        memo: dict[str, Any] | None = dict(self._memo) if is_news else None
        self.spool.append(
            write_entry(page, told, memo), memo=None if memo is None else orjson.dumps(memo), since_s=since_s
        )
        for one in told:
            if one.claim.status != "complete":
                self._missed(one)
