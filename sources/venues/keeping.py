"""Order books of one connection, each believed only as far as its venue's rule proves it. Pure; no clock.

A book starts from a snapshot. It breaks on a missing number, a wrong checksum or a price that contradicts the venue's,
when it is crossed, and when a frame is lost; a broken book stays broken until the next snapshot. What a book is after
a frame depends only on the frames since the one it rests on, so anybody who reads those again comes to the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from sources.book import Book, OrderBook
from sources.stream import Channel
from sources.venues.said import BookSaid, Depth, Topic

Proof = Literal["snapshot", "checksum", "sequence", "none"]
Chain = Literal["next", "previous", "after", "none"]
Again = Callable[[], Depth]
"""Reads a frame once more. Frames are remembered for seconds, and their text is cheaper to keep than their levels."""

_REMEMBERED_US = 10_000_000
# A REST answer that comes later than that is asked for again.


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What proves a book of a venue's channel."""

    chain: Chain = "none"
    """next: `first` is one after the last number; previous: `previous` is the last number; after: numbers only grow."""
    asks_rest: bool = False
    """Whether snapshots may come over REST and belong between the changes by their number."""
    checksum: Callable[[Any, Topic], int | None] | None = None
    """The checksum of a Book or an OrderBook; None where it cannot be computed."""
    crosses_for_us: int = 0
    """How long the venue's own book may be crossed without being broken; it is not valid meanwhile."""

    counts_connection: bool = False
    """Whether the venue counts the frames of a connection, so that a loss of any of them shows."""

    def between(self, said: Depth) -> Proof:
        """What proves a change that has no checksum of its own."""
        is_counted = self.counts_connection or self.chain in ("next", "previous")
        return "sequence" if is_counted and said.last is not None else "none"

    def proof(self, said: Depth) -> Proof:
        """What proves the changes that follow, if the venue goes on as in this frame."""
        return "checksum" if said.checksum is not None and self.checksum else self.between(said)


class Verdict(NamedTuple):
    """What a book is after a frame."""

    is_valid: bool
    check: Proof
    rests_on: int | None
    """The number of the oldest frame that must be read to know so; None where there is no book yet."""
    rests_on_us: int | None
    """When that one was received, in microseconds since the epoch."""
    trouble: str = ""
    """What is wrong with the book, found by this very frame."""
    useless: str = ""
    """Why a REST snapshot cannot be used; another one must be asked for."""


class _Heard(NamedTuple):
    number: int
    at_us: int
    last: int | None
    again: Again


NO_BOOK = Verdict(is_valid=False, check="none", rests_on=None, rests_on_us=None)


@dataclass
class Keeper:
    """One book. `rests_on_us` is when the frame was received that it rests on."""

    rule: Rule
    topic: Topic
    book: Book | OrderBook
    is_valid: bool = False
    rests_on: int | None = None
    rests_on_us: int | None = None
    last: int | None = None
    _is_fresh: bool = False
    _check: Proof = "none"
    _crossed_us: int | None = None
    _said: Verdict | None = None
    _recent: deque[_Heard] = field(default_factory=deque)

    def take(self, said: Depth, number: int, at_us: int, again: Again) -> Verdict:
        """Apply a frame. Raises what `said.check` raises; the book is to be broken then."""
        if said.is_http:
            return self._start_between(said, number, at_us)
        if self.rule.asks_rest:
            self._remember(_Heard(number, at_us, said.last, again))
        if said.is_snapshot:
            return self._start(said, number, at_us)
        if not self.is_valid:
            said.check()
            return self.verdict() if self.rests_on is not None else NO_BOOK
        return self._change(said, at_us)

    def verify(self, checksum: int) -> str:
        """Break the book if that is not its checksum; says what is wrong, if anything."""
        if not self.is_valid or self.rule.checksum is None:
            return ""
        own = self.rule.checksum(self.book, self.topic)
        if own is None or own == checksum:
            return ""
        return self.break_(f"checksum is {checksum}, of our book {own}")

    def break_(self, reason: str) -> str:
        """The book is not to be believed any more; says why, or nothing where it was not believed before."""
        if not self.is_valid:
            return ""
        self.is_valid, self._check = False, "none"
        return reason

    def verdict(self, trouble: str = "") -> Verdict:
        """What the book is now."""
        is_valid = self.is_valid and self._crossed_us is None
        check = self._check if is_valid else "none"
        said = self._said
        if trouble or said is None or said[:3] != (is_valid, check, self.rests_on):
            new = Verdict(is_valid, check, self.rests_on, self.rests_on_us, trouble)
            self._said = None if trouble else new
            return new
        return said

    def _start(self, said: Depth, number: int, at_us: int) -> Verdict:
        self._load(said)
        self.rests_on, self.rests_on_us = number, at_us
        self.last = said.last
        return self._judged(said, at_us, check="snapshot")

    def _start_between(self, said: Depth, number: int, at_us: int) -> Verdict:
        """Start from a REST snapshot and apply the changes received before it that are newer."""
        said.check()
        before = [heard for heard in self._recent if _is_told(heard, said)]
        after = [heard for heard in self._recent if not _is_told(heard, said)]
        itself = _Heard(number, at_us, said.last, lambda: said)
        fresh = Keeper(self.rule, self.topic, type(self.book)())
        if useless := fresh._begin(said, after):
            return self._without(useless, self._recent[0] if self._recent else itself)
        trouble = self._disagreement(fresh)
        first = (before[-1:] or after[:1] or [itself])[0]
        self.book, self.last, self._is_fresh = fresh.book, fresh.last, fresh._is_fresh
        self.rests_on, self.rests_on_us = first.number, first.at_us
        return self._judged(said, at_us, check="snapshot")._replace(trouble=trouble)

    def _without(self, useless: str, oldest: _Heard) -> Verdict:
        """The verdict on a snapshot that changes nothing; what shows its uselessness must be read again, too."""
        verdict = self.verdict()._replace(useless=useless)
        if verdict.rests_on is not None and verdict.rests_on <= oldest.number:
            return verdict
        return verdict._replace(rests_on=oldest.number, rests_on_us=oldest.at_us)

    def _begin(self, said: Depth, after: list[_Heard]) -> str:
        """Load a snapshot and apply what came after it; says what is wrong, if anything."""
        self._load(said)
        self.is_valid, self.last, self._is_fresh = True, said.last, True
        for heard in after:
            later = heard.again()
            if later.is_snapshot:
                self._load(later)
                self.last, self._is_fresh = later.last, False
            elif gap := self._step(later):
                return gap
        return ""

    def _disagreement(self, fresh: Keeper) -> str:
        if not self.is_valid or self.last != fresh.last:
            return ""
        if isinstance(self.book, Book) and isinstance(fresh.book, Book):
            found = self.book.difference(fresh.book)
            return f"differs from a snapshot of the same moment: {found}" if found else ""
        return ""

    def _change(self, said: Depth, at_us: int) -> Verdict:
        if gap := self._step(said):
            return self.verdict(self.break_(gap))
        return self._judged(said, at_us, check=self.rule.between(said))

    def _step(self, said: Depth) -> str:
        """Apply changes if it is their turn; says which number is missing, if any."""
        if self.last is not None and said.last is not None:
            if self._is_old(said, said.last, self.last):
                said.check()
                return ""
            if gap := self._gap(said, self.last):
                said.check()
                return gap
        self.book.apply(*_parts(said))
        if self.topic.depth is not None:
            self.book.truncate(self.topic.depth)
        self._is_fresh = False
        if said.last is not None:
            self.last = said.last
        return ""

    def _is_old(self, said: Depth, number: int, last: int) -> bool:
        if number > last or self.rule.chain == "none":
            return False
        return self.rule.chain != "previous" or said.previous != last

    def _gap(self, said: Depth, last: int) -> str:
        if self.rule.chain == "next" and said.first is not None and said.first > last + 1:
            return f"changes {last + 1} to {said.first - 1} are missing"
        if self.rule.chain == "previous" and said.previous != last:
            if self._is_fresh and said.previous is not None and said.previous < last:
                return ""
            return f"the change after {last} is missing: {said.last} follows {said.previous}"
        return ""

    def _load(self, said: Depth) -> None:
        self.book.load(*_parts(said))

    def _judged(self, said: Depth, at_us: int, check: Proof) -> Verdict:
        """The verdict on a book that was just changed."""
        self.is_valid, self._check = True, check
        trouble = ""
        if said.checksum is not None:
            trouble = self._wrong_sum(said)
        if said.best is not None and not trouble:
            trouble = self._wrong_best(said.best)
        if not trouble and (self._crossed_us is not None or self.book.is_crossed):
            trouble = self._crossed(at_us)
        return self.verdict(self.break_(trouble) if trouble else "")

    def _wrong_sum(self, said: Depth) -> str:
        if self.rule.checksum is None:
            return ""
        own = self.rule.checksum(self.book, self.topic)
        if own is None:
            return ""
        if self._check != "snapshot":
            self._check = "checksum"
        return "" if own == said.checksum else f"checksum is {said.checksum}, of our book {own}"

    def _wrong_best(self, best: tuple[str, str]) -> str:
        own = self.book.best()
        for name, told, held in zip(("bid", "ask"), best, own, strict=True):
            is_none = held is None and float(told or 0) in (0.0, 1.0)
            if told and not is_none and float(told) != held:
                return f"best {name} is {told}, of our book {held}"
        return ""

    def _crossed(self, at_us: int) -> str:
        if not self.book.is_crossed:
            self._crossed_us = None
            return ""
        if self._crossed_us is None:
            self._crossed_us = at_us
        if at_us - self._crossed_us < self.rule.crosses_for_us:
            return ""
        self._crossed_us = None
        bid, ask = self.book.best()
        return f"crossed: best bid {bid}, best ask {ask}"

    def _remember(self, heard: _Heard) -> None:
        recent, oldest_us = self._recent, heard.at_us - _REMEMBERED_US
        recent.append(heard)
        while len(recent) > 1 and recent[1].at_us < oldest_us:
            recent.popleft()


class Desk:
    """All books of one connection."""

    def __init__(self, rules: Mapping[Channel, Rule]) -> None:
        self._rules = rules
        self.keepers: dict[tuple[str, Channel], Keeper] = {}

    def keeper(self, instrument_id: str, channel: Channel, topic: Topic) -> Keeper:
        """The book of an instrument, an empty one at first."""
        key = (instrument_id, channel)
        if key not in self.keepers:
            book = OrderBook() if channel == "orders" else Book()
            self.keepers[key] = Keeper(self._rules[channel], topic, book)
        return self.keepers[key]


def _is_told(heard: _Heard, snapshot: Depth) -> bool:
    """Whether a snapshot already says these changes."""
    return heard.last is not None and snapshot.last is not None and heard.last <= snapshot.last


def _parts(said: Depth) -> tuple[Any, ...]:
    """What a book takes of it; BookSaid goes to a Book, OrdersSaid to an OrderBook."""
    return (said.bids, said.asks) if isinstance(said, BookSaid) else (said.events,)
