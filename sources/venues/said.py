"""What a frame says, in one vocabulary for all venues. A venue's module turns its text into these and does no more.

`key` is what the frame itself calls the instrument: the venue's symbol, or Bitfinex's channel number. Prices and
amounts are the venue's text, times are whole numbers since the epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from lakehouse.window import parse_moment
from sources.book import Level, OrderEvent, Side, check_levels, check_orders
from sources.stream import AmountUnit, Channel

UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading a frame raises that is not what its venue documents."""

_EPOCH = parse_moment("1970-01-01T00:00:00Z")
_MICROSECOND = timedelta(microseconds=1)
_YEAR_9999_US = 253_402_300_799_000_000


class Topic(NamedTuple):
    """What a key stands for in one connection."""

    instrument_id: str
    amount_unit: AmountUnit
    price_digits: int | None = None
    amount_digits: int | None = None
    depth: int | None = None
    """How many levels a side the venue sends; deeper ones are not kept up to date and must be forgotten."""
    channel: Channel | None = None
    """Where the key stands for one channel only."""


class Trade(NamedTuple):
    """One trade; `event_at` is in milliseconds, as ccxt gives it over REST."""

    key: str
    trade_id: str
    at_ms: int
    price: str
    amount: str
    side: Side | None
    number: int | None = None
    """Where the venue counts an instrument's trades one by one: the number of this one."""


class Merged(NamedTuple):
    """Several trades told as one, which cannot be stored beside the single ones: those after `after` up to `number`."""

    key: str
    after: int
    number: int
    at_ms: int


class Reached(NamedTuple):
    """The venue has told an instrument's trades up to that number."""

    key: str
    number: int
    at_ms: int


class BookSaid(NamedTuple):
    """A whole book or changes of one, by price level; an amount of 0 takes a level out."""

    key: str
    at_us: int | None
    is_snapshot: bool
    bids: Sequence[Level]
    asks: Sequence[Level]
    first: int | None = None
    last: int | None = None
    previous: int | None = None
    """Numbers of the first and the last change inside, and of the last change before, as far as the venue tells."""
    checksum: int | None = None
    best: tuple[str, str] | None = None
    """Best bid and ask after the change, where the venue tells them beside."""
    is_http: bool = False
    """Asked for over REST: it belongs between the changes by its number, not by when it came."""

    def check(self) -> None:
        """Raises one of `UNREADABLE` where a level cannot be read."""
        check_levels(self.bids)
        check_levels(self.asks)


class OrdersSaid(NamedTuple):
    """A whole book or changes of one, by order. The other fields are those of `BookSaid`."""

    key: str
    at_us: int | None
    is_snapshot: bool
    events: Sequence[OrderEvent]
    first: int | None = None
    last: int | None = None
    previous: int | None = None
    checksum: int | None = None
    best: tuple[str, str] | None = None
    is_http: bool = False

    def check(self) -> None:
        """Raises one of `UNREADABLE` where an order cannot be read."""
        check_orders(self.events)


class Checksum(NamedTuple):
    """The venue's checksum of a book as it is after all frames before."""

    key: str
    value: int


class Counted(NamedTuple):
    """The number of a frame within its connection, which the venue counts one by one."""

    number: int


class Dropped(NamedTuple):
    """A book is no longer to be used until it comes whole again."""

    key: str
    reason: str


class Subscribed(NamedTuple):
    """From now on `key` stands for a channel of an instrument."""

    key: str
    symbol: str
    channel: Channel


class Ready(NamedTuple):
    """From now on the changes of a book are sent: a snapshot asked for now misses none of them."""

    key: str
    channel: Channel


class Refused(NamedTuple):
    """The venue does not do what it was asked for."""

    reason: str


class Reply(NamedTuple):
    """What the venue wants to hear at once."""

    text: str


class Closing(NamedTuple):
    """The venue is about to close the connection, or asks us to."""

    reason: str


Depth = BookSaid | OrdersSaid
Said = (
    Trade
    | Merged
    | Reached
    | Depth
    | Checksum
    | Counted
    | Dropped
    | Subscribed
    | Ready
    | Refused
    | Reply
    | Closing
)


def iso_us(text: str) -> int:
    """Microseconds since the epoch of an ISO 8601 time; finer digits are cut off."""
    return (parse_moment(text) - _EPOCH) // _MICROSECOND


def epoch_us(value: str | int, per_second: int) -> int:
    """Microseconds since the epoch of a whole number of `per_second`-ths of a second."""
    us = int(value) * (1_000_000 // per_second)
    if not 0 <= us <= _YEAR_9999_US:
        raise ValueError(f"{value!r} is no time")
    return us


def moment_us(at: datetime) -> int:
    """Microseconds since the epoch."""
    return (at - _EPOCH) // _MICROSECOND
