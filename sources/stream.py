"""A stream: a venue's live feed as declarations. Getting frames (the recorder) and understanding them are two things.

Nothing here and nothing in `sources.venues` opens a socket or looks at a clock. A `Session` is one connection as seen
from inside: the recorder tells it what was heard and what time it is, and does what it answers.

    session = VENUES["kraken"].sessions(instruments, ("trades", "book"))[0]
    connect to session.reach(ask, now); note a frame of kind "connect"
    for action in session.opening(): do it
    for each frame, as numbered by the recorder:  heard = session.hear(frame)
        keep page_of(session, frame, heard, connection_id=...), then do heard.actions
    about once a second: session.tick(now), do what it says
    once the connection is lost: session.hear(a frame of kind "disconnect"), then go on with session.again()

Numbers of frames are counted by the recorder from 0, one count a connection, in order of arrival, over all kinds:
what was received, what was sent, REST answers, connect and disconnect. All of them become pages.

Silver is read from those pages alone: `sources.venues.parse_trades` and its siblings take pages of one or more
connections. A page's `window_start` is when the oldest frame was received that its order books rest on; to
understand new pages, read the pages of their connections again from the least `window_start` among the new ones on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

from lakehouse.bronze import Page
from lakehouse.window import Window

Channel = Literal["trades", "book", "orders"]
"""Trades; order books by price level (L2); order books by single orders (L3)."""
Kind = Literal["recv", "send", "http", "connect", "disconnect"]
AmountUnit = Literal["base", "quote", "contracts", "shares"]
UNPROVEN = "unproven"
"""Proof of a claim about what came over a stream that proves nothing; it does not say that anything is missing."""


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """What a stream must know of an instrument; all of it is in silver.instruments or in `exchanges.yaml`.

    The digits are those of the venue's price and amount steps (0.01 has 2). Kraken's checksum cannot be computed
    without them; no other venue needs them.
    """

    instrument_id: str
    """In ccxt's notation: BTC/USD, BTC/USDT:USDT; an outcome's token id on Polymarket."""
    symbol: str
    """The venue's own id, as ccxt's `market["id"]`: BTCUSDT, tBTCUSD, BTC-PERPETUAL; on kraken v2's: BTC/USD."""
    amount_unit: AmountUnit = "base"
    price_digits: int | None = None
    amount_digits: int | None = None
    market: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """The market as ccxt describes it; only streams that ccxt.pro reads need it."""


class Frame(NamedTuple):
    """What was heard at one moment of a connection.

    `text` is the raw text of a message, the body of a REST answer, or why the connection was lost; a binary message
    is decoded as UTF-8, with replacement. `about` repeats the `about` of the `Fetch` that a frame of kind "http"
    answers; `status` is its HTTP status, 0 where there was no answer.
    """

    number: int
    received_at: datetime
    kind: Kind
    text: str
    about: str = ""
    status: int = 200


@dataclass(frozen=True, kw_only=True)
class Send:
    """Send this text over the connection."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Ask this address and tell the answer, also a failure, as a frame of kind "http" with the same `about`.

    The recorder limits how many run at once and honours the provider's limits; it does not retry, the session does.
    """

    url: str
    about: str
    method: str = "GET"
    body: str = ""


Ask = Callable[[Fetch], tuple[int, str]]
"""Asks over REST: the status, 0 where there was no answer, and the body, or why there is none."""


@dataclass(frozen=True, kw_only=True)
class Reconnect:
    """Close the connection and open another one with `Session.again()`."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Valid:
    """From `at` on what this channel says is whole, as far as `proof` reaches.

    The same proofs as `check` in silver: "checksum", "sequence", "snapshot" or "none". `cannot_show` says what may be
    lost unseen.
    """

    instrument_id: str
    channel: Channel
    at: datetime
    proof: str
    cannot_show: str = ""
    is_proven: bool = True
    """Whether it may be called complete, but for what cannot be shown."""


@dataclass(frozen=True, kw_only=True)
class Invalid:
    """From `since` on what this channel says is not whole, until it is `Valid` again."""

    instrument_id: str
    channel: Channel
    since: datetime
    reason: str


@dataclass(frozen=True, kw_only=True)
class Hole:
    """Trades that were not received: those with ids after `after_id` and before `before_id`, where ids are counted.

    They lie within `since <= t <= until` and can be asked for over REST where the venue gives them.
    """

    instrument_id: str
    since: datetime
    until: datetime
    after_id: str
    before_id: str


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """The frame cannot be understood: its page will be refused by the parsers and go to quarantine."""

    reason: str


Action = Send | Fetch | Reconnect | Valid | Invalid | Hole | Unreadable


class Heard(NamedTuple):
    """What a session makes of a frame.

    `note` goes into the page's request: what parsing needs to understand the frame without asking anybody.
    `context_at` is when the oldest frame was received that must be read with this one; None where it stands alone.
    """

    actions: tuple[Action, ...] = ()
    note: Mapping[str, Any] = MappingProxyType({})
    context_at: datetime | None = None


class Session(Protocol):
    """One connection to a venue. Never raises on what a venue sends, whatever it is."""

    @property
    def url(self) -> str:
        """The venue's address, as pages name it; it holds no secret."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What the handshake says beside."""

    def reach(self, ask: Ask, now: datetime) -> str:
        """Where to connect. Some venues must be asked for that: ConnectionError where they do not answer."""

    @property
    def feed(self) -> str:
        """The feed of its pages: `stream_<venue>`; its table is `lakehouse.bronze.bronze_table(feed)`."""

    @property
    def subject(self) -> str:
        """What is subscribed: `kraken:BTC/USD,ETH/USD@book,trades`."""

    def opening(self, now: datetime) -> tuple[Action, ...]:
        """What to do as soon as the connection stands."""

    def hear(self, frame: Frame) -> Heard:
        """What a frame means. Frames come in the order of their numbers."""

    def tick(self, now: datetime) -> tuple[Action, ...]:
        """What time asks for: keep-alives, watchdogs, retries, fresh snapshots. To be called about once a second."""

    def again(self) -> Session:
        """The same subscription for another connection."""


class Venue(Protocol):
    """A venue's streams; `sources.venues.VENUES` has all of them by name."""

    @property
    def name(self) -> str:
        """The stream's name, a ccxt id: binance, binanceusdm, kraken, ..."""

    @property
    def venue(self) -> str:
        """The venue as silver and the REST feeds call it; binance for all three of its streams."""

    @property
    def channels(self) -> tuple[Channel, ...]:
        """What it streams without a key."""

    @property
    def cannot_show(self) -> Mapping[Channel, str]:
        """What may be lost on a channel unseen, in words; a channel that is not named proves itself."""

    def sessions(self, instruments: Sequence[Instrument], channels: Sequence[Channel]) -> tuple[Session, ...]:
        """As few connections as the venue allows; UsageError for a channel that it does not have."""


def page_of(session: Session, frame: Frame, heard: Heard, *, connection_id: str) -> Page:
    """A frame as bronze keeps it. Its id tells frames of equal text apart by connection and number."""
    request = {
        "method": "GET" if frame.kind == "http" else "WS",
        "url": session.url,
        "kind": frame.kind,
        "connection_id": connection_id,
        "number": frame.number,
        **({"about": frame.about} if frame.about else {}),
        **heard.note,
    }
    after = frame.received_at + timedelta(microseconds=1)
    return Page(
        feed=session.feed,
        subject=session.subject,
        request=request,
        received_at=frame.received_at,
        body=frame.text.encode(),
        window=None if heard.context_at is None else Window(min(heard.context_at, frame.received_at), after),
        connection_id=connection_id,
        sequence=frame.number,
        http_status=frame.status if frame.kind == "http" else None,
    )
