"""One connection to any venue: what all of them share. What differs is a `VenueStream`, one a venue's module.

A session reads each frame once, keeps the books of its connection, and answers with what is to be done. It knows the
time only from frames and ticks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, cast

from lakehouse.errors import UsageError
from sources.stream import (
    Action,
    Ask,
    Channel,
    Frame,
    Heard,
    Hole,
    Instrument,
    Invalid,
    Reconnect,
    Send,
    Unreadable,
    Valid,
)
from sources.venues.keeping import Desk, Keeper, Rule, Verdict
from sources.venues.said import (
    UNREADABLE,
    BookSaid,
    Checksum,
    Closing,
    Counted,
    Depth,
    Dropped,
    Merged,
    OrdersSaid,
    Reached,
    Ready,
    Refused,
    Reply,
    Said,
    Subscribed,
    Topic,
    Trade,
    moment_us,
)

Topics = Mapping[str, Topic]
Read = Callable[[str, Topics], Sequence[Said]]
ReadHttp = Callable[[str, str], Sequence[Said]]


class Reread(Protocol):
    """Reads the frames of one connection again, one after the other."""

    def read(self, frame: Frame, request: Mapping[str, Any]) -> Sequence[Said]:
        """What a frame says, told its page's request; raises one of `UNREADABLE`."""


_NOTHING = Heard()
_SNAPSHOT_WITHIN = timedelta(seconds=15)
_ASKED_AT_MOST = 4


@dataclass(frozen=True, kw_only=True)
class VenueStream:
    """A venue's streams: `sources.stream.Venue`, as data and small functions without state."""

    name: str
    venue: str
    provider: str = "ccxt"
    channels: tuple[Channel, ...]
    cannot_show: Mapping[Channel, str] = field(default_factory=dict)
    url: Callable[[Sequence[Instrument], Sequence[Channel]], str]
    subscribe: Callable[[Sequence[Instrument], Sequence[Channel]], Iterable[str]]
    """Texts to send once the connection stands."""
    renew: Callable[[Instrument, Channel, Topics], Iterable[Action]]
    """What brings a fresh snapshot of a book."""
    read: Read
    """What a frame says; raises one of `UNREADABLE` for what the venue does not document."""
    read_http: ReadHttp | None = None
    """What a REST snapshot says, told the `about` of its `Fetch`."""
    reread: Callable[[], Reread] | None = None
    """Where a frame cannot be read alone: what reads those of a connection in place of `read`."""
    is_proven: bool = True
    """Whether its rules are known, so that what they find whole may be called complete."""
    rules: Mapping[Channel, Rule]
    depth: int | None = None
    is_asked_first: bool = False
    """Whether the first snapshot must be asked for."""
    renew_after: timedelta = timedelta(minutes=10)
    """After how long a book starts from a fresh snapshot: this bounds how much must be read again to know it."""
    keep_alive: Callable[[], str] | None = None
    keep_alive_every: timedelta = timedelta(seconds=20)
    silent_at_most: timedelta = timedelta(seconds=60)
    """Without any frame for so long, the connection is taken for dead."""
    capacity: int = 50
    """Most instruments of one connection."""
    group: Callable[[Instrument], str] = lambda _: ""
    """Instruments of different groups need connections of their own."""
    apart: tuple[Channel, ...] = ("orders",)
    """Channels that need a connection of their own."""
    needs_digits: bool = False
    """Whether nothing proves a book whose instrument's digits are not known."""

    def sessions(
        self, instruments: Sequence[Instrument], channels: Sequence[Channel]
    ) -> tuple[StreamSession, ...]:
        """As few connections as the venue allows; UsageError for a channel that it does not have."""
        if absent := sorted(set(channels) - set(self.channels)):
            has = ", ".join(self.channels)
            raise UsageError(f"stream {self.name} has no channel {', '.join(absent)}; it has {has}")
        if not instruments or not channels:
            raise UsageError(f"stream {self.name}: name at least one instrument and one channel")
        self._check_digits(instruments, channels)
        groups: dict[str, list[Instrument]] = {}
        for instrument in instruments:
            groups.setdefault(self.group(instrument), []).append(instrument)
        together = tuple(channel for channel in channels if channel not in self.apart)
        alone = ((channel,) for channel in channels if channel in self.apart)
        return tuple(
            self.session(tuple(members[start : start + self.capacity]), carried)
            for carried in (together, *alone)
            for members in groups.values()
            for start in range(0, len(members), self.capacity)
            if carried
        )

    def session(self, instruments: tuple[Instrument, ...], channels: tuple[Channel, ...]) -> StreamSession:
        """One connection."""
        return StreamSession(self, instruments, channels)

    def _check_digits(self, instruments: Sequence[Instrument], channels: Sequence[Channel]) -> None:
        without = [i.instrument_id for i in instruments if None in (i.price_digits, i.amount_digits)]
        if self.needs_digits and without and set(channels) != {"trades"}:
            raise UsageError(f"stream {self.name}: how many digits have {', '.join(without)}?")


@dataclass
class _Trades:
    """What is known of an instrument's trades: whether they are whole in this connection, and the last one of all."""

    is_valid: bool = False
    number: int | None = None
    at_ms: int | None = None

    def follow(self, said: Trade) -> bool:
        """Take a trade that is the next one, as far as they are counted."""
        if not self.is_valid or (said.number is not None and said.number - 1 != self.number):
            return False
        if said.number is not None:
            self.number, self.at_ms = said.number, said.at_ms
        return True


@dataclass
class _Wanted:
    """A book that is to be whole: when a snapshot was last asked for, and how often in vain."""

    asked_at: datetime
    tries: int = 0


class StreamSession:
    """`sources.stream.Session`."""

    def __init__(
        self, stream: VenueStream, instruments: tuple[Instrument, ...], channels: tuple[Channel, ...]
    ) -> None:
        self.stream = stream
        self.instruments = instruments
        self.channels = channels
        self.url = stream.url(instruments, channels)
        self.headers: Mapping[str, str] = {}
        self.feed = f"stream_{stream.name}"
        names = ",".join(instrument.instrument_id for instrument in instruments)
        self.subject = f"{stream.name}:{names}@{','.join(channels)}"
        self.desk = Desk(stream.rules)
        self._by_symbol = {instrument.symbol: instrument for instrument in instruments}
        self._by_id = {instrument.instrument_id: instrument for instrument in instruments}
        self._topics = {
            instrument.symbol: Topic(
                instrument.instrument_id,
                instrument.amount_unit,
                instrument.price_digits,
                instrument.amount_digits,
                stream.depth,
                channels[0] if len(channels) == 1 else None,
            )
            for instrument in instruments
        }
        self._noted = {key: list(topic) for key, topic in self._topics.items()}
        self._trades = {i.instrument_id: _Trades() for i in instruments if "trades" in channels}
        self._wanted: dict[tuple[str, Channel], _Wanted] = {}
        self._notes: dict[tuple[str, bool], tuple[int | None, Heard]] = {}
        self._counted: int | None = None
        self._heard_at: datetime | None = None
        self._kept_alive_at: datetime | None = None
        self._is_over = False

    def reach(self, ask: Ask, now: datetime) -> str:  # noqa: ARG002
        """Where to connect."""
        return self.url

    def again(self) -> StreamSession:
        """The same subscription for another connection, which goes on counting trades where this one ended."""
        session = self.stream.session(self.instruments, self.channels)
        session._trades = {key: replace(trades, is_valid=False) for key, trades in self._trades.items()}
        return session

    def opening(self, now: datetime) -> tuple[Action, ...]:
        """Subscribe, and ask for the first snapshots where the venue does not send them by itself."""
        self._heard_at = self._kept_alive_at = now
        actions: list[Action] = [
            Send(text=text) for text in self.stream.subscribe(self.instruments, self.channels)
        ]
        for channel in self._books():
            for instrument in self.instruments:
                self._wanted[instrument.instrument_id, channel] = _Wanted(now)
                if self.stream.is_asked_first:
                    actions += self.stream.renew(instrument, channel, self._topics)
        return tuple(actions)

    def hear(self, frame: Frame) -> Heard:
        """What a frame means."""
        if frame.kind == "recv":
            self._heard_at = frame.received_at
        elif frame.kind == "disconnect":
            return self._over(frame)
        elif frame.kind != "http":
            return Heard()
        try:
            said = self._said(frame)
        except UNREADABLE as error:
            return self._refused(frame, error)
        if not said:
            return _NOTHING
        told = None
        try:
            if len(said) == 1 and (quiet := self._quiet(said[0], frame)):
                return quiet
            told = _Told(self, frame)
            told.hear(said)
        except UNREADABLE as error:
            return self._refused(frame, error, told)
        return told.heard()

    def _quiet(self, said: Said, frame: Frame) -> Heard | None:
        """The short way for nearly all frames: a trade that follows the one before, a change of a book that is whole.

        What it gives is what the long way gives, from notes that are made once; None where there is more to be said.
        """
        if type(said) is Trade:
            topic = self._topics.get(said.key)
            trades = self._trades.get(topic.instrument_id) if topic else None
            return self._quiet_note(said.key) if trades and trades.follow(said) else None
        if type(said) is not BookSaid or said.is_snapshot or said.is_http:
            return None
        topic = self._topics.get(said.key)
        keeper = self.desk.keepers.get((topic.instrument_id, "book")) if topic else None
        if topic is None or keeper is None or not keeper.is_valid:
            return None
        told_at = keeper.rests_on, keeper.rests_on_us
        at_us = moment_us(frame.received_at)
        verdict = keeper.take(said, frame.number, at_us, lambda: cast("BookSaid", self._said(frame)[0]))
        if not verdict.trouble:
            return self._quiet_note(said.key, verdict)
        told = _Told(self, frame)
        told.judge(said, topic, keeper, verdict, was_valid=True, rested=told_at)
        return told.heard()

    def _quiet_note(self, key: str, verdict: Verdict | None = None) -> Heard:
        rests_on = verdict.rests_on if verdict else None
        known = self._notes.get((key, verdict is None))
        if known and known[0] == rests_on:
            return known[1]
        note: dict[str, Any] = {"topics": {key: self._noted[key]}}
        context_at = None
        if verdict and verdict.rests_on_us is not None:
            note["rests_on"] = {f"book {self._topics[key].instrument_id}": rests_on}
            context_at = _moment(verdict.rests_on_us)
        heard = Heard(note=note, context_at=context_at)
        self._notes[key, verdict is None] = (rests_on, heard)
        return heard

    def _refused(self, frame: Frame, error: Exception, told: _Told | None = None) -> Heard:
        """What came over the connection and cannot be read may have been about anything; a REST answer may not."""
        if frame.kind == "http":
            return _NOTHING
        told = told or _Told(self, frame)
        told.refuse(f"{type(error).__name__}: {error}"[:300])
        return told.heard()

    def tick(self, now: datetime) -> tuple[Action, ...]:
        """Keep the connection alive, notice its silence, ask for snapshots that are due."""
        if self._is_over or self._heard_at is None:
            return ()
        if now - self._heard_at > self.stream.silent_at_most:
            silent_s = (now - self._heard_at).total_seconds()
            return (
                *self._all_invalid(self._heard_at, "silent"),
                Reconnect(reason=f"silent for {silent_s:.0f} s"),
            )
        return (*self._keep_alive(now), *self._due(now))

    def _said(self, frame: Frame) -> Sequence[Said]:
        if frame.kind == "recv":
            return self.stream.read(frame.text, self._topics)
        if self.stream.read_http is None or frame.status != 200:
            raise ValueError(f"{frame.about or 'an answer'}: HTTP status {frame.status}")
        return self.stream.read_http(frame.about, frame.text)

    def _books(self) -> tuple[Channel, ...]:
        return tuple(channel for channel in self.channels if channel != "trades")

    def _keep_alive(self, now: datetime) -> Iterable[Action]:
        every, text = self.stream.keep_alive_every, self.stream.keep_alive
        if text is not None and self._kept_alive_at is not None and now - self._kept_alive_at >= every:
            self._kept_alive_at = now
            yield Send(text=text())

    def _due(self, now: datetime) -> Iterable[Action]:
        """Snapshots that did not come, or the one whose book rests on the oldest frame; one of each at a time."""
        for key, wanted in self._wanted.items():
            if now - wanted.asked_at > _SNAPSHOT_WITHIN:
                if wanted.tries >= _ASKED_AT_MOST:
                    return (Reconnect(reason=f"no usable snapshot of {key[0]} ({key[1]})"),)
                return self._ask(key, now)
        old = moment_us(now - self.stream.renew_after)
        for key, keeper in self.desk.keepers.items():
            if key not in self._wanted and (keeper.rests_on_us or 0) < old:
                return (*self._suspended(key, now), *self._ask(key, now))
        return ()

    def _ask(self, key: tuple[str, Channel], now: datetime) -> tuple[Action, ...]:
        wanted = self._wanted.setdefault(key, _Wanted(now))
        wanted.asked_at, wanted.tries = now, wanted.tries + 1
        return tuple(self.stream.renew(self._by_id[key[0]], key[1], self._topics))

    def _suspended(self, key: tuple[str, Channel], now: datetime) -> Iterable[Action]:
        """Asking for a snapshot over the stream interrupts it; over REST it does not."""
        rule = self.stream.rules[key[1]]
        if self.desk.keepers[key].is_valid and not rule.asks_rest:
            yield Invalid(instrument_id=key[0], channel=key[1], since=now, reason="started again")

    def _over(self, frame: Frame) -> Heard:
        self._is_over = True
        told = _Told(self, frame)
        for (instrument_id, channel), keeper in self.desk.keepers.items():
            told.note_book(instrument_id, channel, keeper)
        since = self._heard_at or frame.received_at
        told.actions += self._all_invalid(since, frame.text or "disconnected")
        return told.heard()

    def _all_invalid(self, since: datetime, reason: str) -> list[Action]:
        actions: list[Action] = []
        for instrument_id, trades in self._trades.items():
            if trades.is_valid:
                trades.is_valid = False
                actions.append(
                    Invalid(instrument_id=instrument_id, channel="trades", since=since, reason=reason)
                )
        for (instrument_id, channel), keeper in self.desk.keepers.items():
            if keeper.break_(reason):
                actions.append(
                    Invalid(instrument_id=instrument_id, channel=channel, since=since, reason=reason)
                )
        return actions


class _Told:
    """What becomes of one frame."""

    def __init__(self, session: StreamSession, frame: Frame) -> None:
        self.session, self.frame = session, frame
        self.actions: list[Action] = []
        self._topics: dict[str, list[Any]] = {}
        self._rests_on: dict[str, int | None] = {}
        self._starts_on: dict[str, int] = {}
        self._context_us: int | None = None
        self._at_us = moment_us(frame.received_at)

    def hear(self, said: Iterable[Said]) -> None:
        for one in said:
            _HEARD_BY[type(one)](self, one)

    def heard(self) -> Heard:
        note: dict[str, Any] = {}
        if self._topics:
            note["topics"] = self._topics
        if self._rests_on:
            note["rests_on"] = self._rests_on
        if self._starts_on:
            note["starts_on"] = self._starts_on
        context_at = None if self._context_us is None else _moment(self._context_us)
        return Heard(actions=tuple(self.actions), note=note, context_at=context_at)

    def refuse(self, reason: str) -> None:
        """The frame cannot be read: whatever it was about, nothing of this connection is certain now."""
        self._topics |= self.session._noted  # so that the parsers fail at the same
        self.actions.append(Unreadable(reason=reason))
        self._lose(f"unreadable: {reason}")

    def note_book(self, instrument_id: str, channel: Channel, keeper: Keeper) -> None:
        """Let a frame be read with what the book rests on."""
        self._rest(f"{channel} {instrument_id}", keeper.rests_on, keeper.rests_on_us)
        for key, topic in self.session._topics.items():
            if topic.instrument_id == instrument_id:
                self._topics[key] = self.session._noted[key]

    def _rest(self, book: str, rests_on: int | None, rests_on_us: int | None) -> None:
        if rests_on is None or rests_on_us is None:
            self._rests_on.setdefault(book, None)
            return
        known = self._rests_on.get(book)
        self._rests_on[book] = rests_on if known is None else min(known, rests_on)
        if self._context_us is None or rests_on_us < self._context_us:
            self._context_us = rests_on_us

    def _topic(self, key: str) -> Topic:
        try:
            topic = self.session._topics[key]
        except KeyError:
            raise LookupError(f"it is about {key!r}, which was not subscribed") from None
        self._topics[key] = self.session._noted[key]
        return topic

    def _take_trade(self, said: Trade) -> None:
        before = None if said.number is None else said.number - 1
        self._follow(self._topic(said.key).instrument_id, before, said.number, said.at_ms)

    def _take_merged(self, said: Merged) -> None:
        instrument_id = self._topic(said.key).instrument_id
        self._follow(instrument_id, said.after, said.after, said.at_ms)
        self._follow(instrument_id, said.number, said.number, said.at_ms)

    def _take_reached(self, said: Reached) -> None:
        self._follow(self._topic(said.key).instrument_id, said.number, said.number, said.at_ms)

    def _follow(self, instrument_id: str, before: int | None, number: int | None, at_ms: int) -> None:
        """Trades that the venue counts follow each other: `before` is the number that comes before these."""
        trades = self.session._trades.get(instrument_id)
        if trades is None:
            return
        if not trades.is_valid:
            trades.is_valid = True
            self._valid(instrument_id, "trades", "none" if number is None else "sequence")
        if number is None or before is None:
            return
        if trades.number is not None and before > trades.number:
            since = _moment(min(at_ms, trades.at_ms or at_ms) * 1000)
            self.actions.append(
                Hole(
                    instrument_id=instrument_id,
                    since=since,
                    until=_moment(at_ms * 1000),
                    after_id=str(trades.number),
                    before_id=str(before + 1),
                )
            )
        if trades.number is None or number > trades.number:
            trades.number, trades.at_ms = number, at_ms

    def _take_depth(self, said: Depth) -> None:
        topic = self._topic(said.key)
        keeper = self.session.desk.keeper(topic.instrument_id, _channel(said), topic)
        was_valid, rested = keeper.is_valid, (keeper.rests_on, keeper.rests_on_us)
        verdict = keeper.take(said, self.frame.number, self._at_us, lambda: said)
        self.judge(said, topic, keeper, verdict, was_valid=was_valid, rested=rested)

    def judge(
        self,
        said: Depth,
        topic: Topic,
        keeper: Keeper,
        verdict: Verdict,
        *,
        was_valid: bool,
        rested: tuple[int | None, int | None],
    ) -> None:
        """What follows from the verdict on a frame, for who keeps coverage and for who asks for snapshots."""
        self._topics[said.key] = self.session._noted[said.key]
        channel, instrument_id = _channel(said), topic.instrument_id
        key = (instrument_id, channel)
        self._rest(f"{channel} {instrument_id}", verdict.rests_on, verdict.rests_on_us)
        if said.is_http and verdict.rests_on is not None:
            self._starts_on[f"{channel} {instrument_id}"] = verdict.rests_on
        if said.is_snapshot:  # the last second of the book before ends here
            self._rest(f"{channel} {instrument_id}", *rested)
        if verdict.trouble and was_valid:
            since = rested[1] if keeper.is_valid and rested[1] is not None else self._at_us
            self._invalid(*key, verdict.trouble, since=_moment(since))
        if verdict.useless or (verdict.trouble and not keeper.is_valid):
            self.actions += self.session._ask(key, self.frame.received_at)
        elif keeper.is_valid and (said.is_snapshot or said.is_http):
            self.session._wanted.pop(key, None)
            self._valid(*key, keeper.rule.proof(said))

    def _take_checksum(self, said: Checksum) -> None:
        topic = self._topic(said.key)
        channel: Channel = topic.channel or "book"
        keeper = self.session.desk.keeper(topic.instrument_id, channel, topic)
        self.note_book(topic.instrument_id, channel, keeper)
        if trouble := keeper.verify(said.value):
            self._broken(topic.instrument_id, channel, trouble)

    def _take_dropped(self, said: Dropped) -> None:
        topic = self._topic(said.key)
        keeper = self.session.desk.keeper(topic.instrument_id, "book", topic)
        self.note_book(topic.instrument_id, "book", keeper)
        if trouble := keeper.break_(said.reason):
            self._broken(topic.instrument_id, "book", trouble)

    def _take_counted(self, said: Counted) -> None:
        last, self.session._counted = self.session._counted, said.number
        if last is not None and said.number != last + 1:
            self._lose(f"frame {said.number} of the connection follows {last}")

    def _lose(self, reason: str) -> None:
        """A frame of this connection is lost: books start again, trades may be missing."""
        for (instrument_id, channel), keeper in self.session.desk.keepers.items():
            if keeper.break_(reason):
                self._broken(instrument_id, channel, reason)
        for instrument_id, trades in self.session._trades.items():
            if trades.is_valid:
                self._invalid(instrument_id, "trades", reason)
                self._valid(instrument_id, "trades", "none")

    def _take_subscribed(self, said: Subscribed) -> None:
        instrument = self.session._by_symbol.get(said.symbol)
        if instrument is None:  # nobody asked for it: its frames say nothing
            return
        topic = Topic(
            instrument.instrument_id,
            instrument.amount_unit,
            instrument.price_digits,
            instrument.amount_digits,
            self.session.stream.depth,
            said.channel,
        )
        self.session._topics[said.key] = topic
        self.session._noted[said.key] = list(topic)

    def _take_ready(self, said: Ready) -> None:
        instrument_id = self._topic(said.key).instrument_id
        if (instrument_id, said.channel) in self.session._wanted:
            self.actions += self.session._ask((instrument_id, said.channel), self.frame.received_at)

    def _take_refused(self, said: Refused) -> None:
        self.actions.append(Reconnect(reason=f"refused: {said.reason}"))

    def _take_reply(self, said: Reply) -> None:
        self.actions.append(Send(text=said.text))

    def _take_closing(self, said: Closing) -> None:
        self.actions.append(Reconnect(reason=said.reason))

    def _broken(self, instrument_id: str, channel: Channel, reason: str) -> None:
        self._invalid(instrument_id, channel, reason)
        self.actions += self.session._ask((instrument_id, channel), self.frame.received_at)

    def _valid(self, instrument_id: str, channel: Channel, proof: str) -> None:
        why = self.session.stream.cannot_show.get(channel, "")
        self.actions.append(
            Valid(
                instrument_id=instrument_id,
                channel=channel,
                at=self.frame.received_at,
                proof=proof,
                cannot_show=why,
                is_proven=self.session.stream.is_proven,
            )
        )

    def _invalid(
        self, instrument_id: str, channel: Channel, reason: str, *, since: datetime | None = None
    ) -> None:
        since = since or self.frame.received_at
        self.actions.append(Invalid(instrument_id=instrument_id, channel=channel, since=since, reason=reason))


_HEARD_BY: Mapping[type, Callable[[_Told, Any], None]] = {
    Trade: _Told._take_trade,
    Merged: _Told._take_merged,
    Reached: _Told._take_reached,
    BookSaid: _Told._take_depth,
    OrdersSaid: _Told._take_depth,
    Checksum: _Told._take_checksum,
    Counted: _Told._take_counted,
    Dropped: _Told._take_dropped,
    Ready: _Told._take_ready,
    Subscribed: _Told._take_subscribed,
    Refused: _Told._take_refused,
    Reply: _Told._take_reply,
    Closing: _Told._take_closing,
}


def _channel(said: Depth) -> Channel:
    return "book" if isinstance(said, BookSaid) else "orders"


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us // 1_000_000, UTC) + timedelta(microseconds=us % 1_000_000)
