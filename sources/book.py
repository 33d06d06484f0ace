"""The book engine: order books kept from a snapshot and its changes, by price level (`Book`) or by order (`OrderBook`).

A side is a sorted list of ranks whose best is last, beside a dictionary: what happens near the best price, which is
nearly everything, moves only the end of the list. Numbers stay the venue's own text, since checksums need its
digits; floats only order them. Nothing is sorted but a snapshot. What a book must satisfy to be believed is in
`sources.venues.keeping`.

A level is a sequence whose first two items are the texts of price and amount; what follows is kept and not read.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import zip_longest
from math import inf
from typing import Literal, NamedTuple

Level = Sequence[str]
OrderAction = Literal["add", "set", "reduce", "remove"]
Side = Literal["buy", "sell"]

_BID, _ASK = 1.0, -1.0


class OrderEvent(NamedTuple):
    """What happened to one resting order.

    add and set give its price and its whole amount, where set keeps its place in the queue if the price stays;
    reduce takes `amount` off; remove ends it. An empty text is what the venue does not say.
    """

    action: OrderAction
    order_id: str
    side: Side | None
    price: str
    amount: str
    at_us: int | None = None
    """When, by the venue, in microseconds since the epoch."""


def check_levels(levels: Iterable[Level]) -> None:
    """Raises ValueError, TypeError or IndexError for a level that is not a price and an amount in text."""
    for level in levels:
        price, amount = level[0], level[1]
        if type(price) is not str or type(amount) is not str:
            raise TypeError(f"a level is {level!r}"[:200])
        if not (-inf < float(price) < inf and 0.0 <= float(amount) < inf):
            raise ValueError(f"a level is {price!r}, {amount!r}"[:200])


def check_orders(events: Iterable[OrderEvent]) -> None:
    """Raises ValueError or TypeError for an event that does not say what its action needs."""
    for event in events:
        if type(event.order_id) is not str or not event.order_id:
            raise TypeError(f"an order's id is {event.order_id!r}"[:200])
        for text in (event.price, event.amount):
            if type(text) is not str:
                raise TypeError(f"an order has {text!r}"[:200])
            if text and not -inf < float(text) < inf:
                raise ValueError(f"an order has {text!r}"[:200])
        if event.action in ("add", "set") and not (event.side and event.price and event.amount):
            raise ValueError(f"order {event.order_id} lacks a side, a price or an amount")
        if event.action == "reduce" and not event.amount:
            raise ValueError(f"order {event.order_id} is reduced by nothing")


@dataclass(slots=True)
class _Levels:
    """One side by rank: the price for bids and its negative for asks, so that the best is the greatest."""

    sign: float
    ranks: list[float] = field(default_factory=list)
    levels: dict[float, Level] = field(default_factory=dict)

    def load(self, levels: Iterable[Level]) -> None:
        sign = self.sign
        self.levels = {sign * float(level[0]): level for level in levels if float(level[1]) != 0.0}
        self.ranks = sorted(self.levels)

    def apply(self, changes: Iterable[Level]) -> None:
        sign, ranks, held = self.sign, self.ranks, self.levels
        for level in changes:
            price, amount = level[0], level[1]
            if not (type(price) is type(amount) is str):
                raise TypeError(f"a level is {level!r}"[:200])
            rank, size = sign * float(price), float(amount)
            if rank in held:  # and so it is a finite number
                if 0.0 < size < inf:
                    held[rank] = level
                    continue
                if size == 0.0:
                    del held[rank], ranks[bisect_left(ranks, rank)]
                    continue
            elif -inf < rank < inf and 0.0 <= size < inf:
                if size:
                    insort(ranks, rank)
                    held[rank] = level
                continue
            raise ValueError(f"a level is {level!r}"[:200])

    def truncate(self, depth: int) -> None:
        extra = len(self.ranks) - depth
        if extra > 0:
            for rank in self.ranks[:extra]:
                del self.levels[rank]
            del self.ranks[:extra]

    def top(self, depth: int) -> list[Level]:
        held = self.levels
        return [held[rank] for rank in self.ranks[: -depth - 1 : -1]]


class Book:
    """A book by price level. Amounts are absolute; an amount of 0 takes the level out, known or not."""

    __slots__ = ("_asks", "_bids")

    def __init__(self) -> None:
        self._bids, self._asks = _Levels(_BID), _Levels(_ASK)

    def load(self, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Start again from a snapshot."""
        check_levels(bids)
        check_levels(asks)
        self._bids.load(bids)
        self._asks.load(asks)

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Change levels; raises as `check_levels` does, and is then not to be used until it is loaded again."""
        self._bids.apply(bids)
        self._asks.apply(asks)

    def truncate(self, depth: int) -> None:
        """Forget what lies deeper."""
        self._bids.truncate(depth)
        self._asks.truncate(depth)

    @property
    def is_crossed(self) -> bool:
        """Whether somebody would pay at least what somebody asks."""
        bids, asks = self._bids.ranks, self._asks.ranks
        return bool(bids and asks) and bids[-1] >= -asks[-1]

    def best(self) -> tuple[float | None, float | None]:
        """Best bid and best ask."""
        bids, asks = self._bids.ranks, self._asks.ranks
        return (bids[-1] if bids else None), (-asks[-1] if asks else None)

    def bids(self, depth: int) -> list[Level]:
        """The highest bids, the highest first."""
        return self._bids.top(depth)

    def asks(self, depth: int) -> list[Level]:
        """The lowest asks, the lowest first."""
        return self._asks.top(depth)

    def difference(self, other: Book) -> str:
        """Where the books differ at the prices that both can know, in words; empty where they do not.

        A book is taken to know all prices between its best and its worst.
        """
        for name, mine, theirs in (("bid", self._bids, other._bids), ("ask", self._asks, other._asks)):
            found = _difference(mine, theirs)
            if found:
                return f"{name} {found}"
        return ""


@dataclass(slots=True)
class _Order:
    sign: float
    rank: float
    price: str
    amount: str


class OrderBook:
    """A book by single orders; orders of one price are in the order of their arrival."""

    __slots__ = ("_asks", "_bids", "_orders")

    def __init__(self) -> None:
        self._orders: dict[str, _Order] = {}
        self._bids, self._asks = _Queues(), _Queues()

    def load(self, events: Iterable[OrderEvent]) -> None:
        """Start again from a snapshot: add events, those of one price in their order."""
        self.__init__()  # type: ignore[misc]
        self.apply(events)

    def apply(self, events: Iterable[OrderEvent]) -> None:
        """Change orders; raises as `check_orders` does. Removing an order that is not there is no error."""
        events = list(events)
        check_orders(events)
        for event in events:
            if event.action in ("add", "set"):
                self._set(event)
            elif event.action == "remove":
                self._remove(event.order_id)
            else:
                self._reduce(event)

    def truncate(self, depth: int) -> None:
        """Forget the orders of all price levels that lie deeper."""
        for queues in (self._bids, self._asks):
            for rank in queues.ranks[: max(0, len(queues.ranks) - depth)]:
                for order_id in list(queues.levels[rank]):
                    self._remove(order_id)

    def __len__(self) -> int:
        return len(self._orders)

    def __contains__(self, order_id: str) -> bool:
        return order_id in self._orders

    @property
    def is_crossed(self) -> bool:
        """Whether somebody would pay at least what somebody asks."""
        bid, ask = self.best()
        return bid is not None and ask is not None and bid >= ask

    def best(self) -> tuple[float | None, float | None]:
        """Best bid and best ask."""
        bids, asks = self._bids.ranks, self._asks.ranks
        return (bids[-1] if bids else None), (-asks[-1] if asks else None)

    def bid_orders(self, depth: int) -> Iterator[tuple[str, str, str]]:
        """Id, price and amount of the orders in the highest price levels, the best first."""
        return self._told(self._bids, depth)

    def ask_orders(self, depth: int) -> Iterator[tuple[str, str, str]]:
        """Id, price and amount of the orders in the lowest price levels, the best first."""
        return self._told(self._asks, depth)

    def bids(self, depth: int) -> list[Level]:
        """The highest bids by price level, the highest first."""
        return _summed(self.bid_orders(depth))

    def asks(self, depth: int) -> list[Level]:
        """The lowest asks by price level, the lowest first."""
        return _summed(self.ask_orders(depth))

    def _told(self, queues: _Queues, depth: int) -> Iterator[tuple[str, str, str]]:
        for rank in queues.ranks[: -depth - 1 : -1]:
            for order_id in queues.levels[rank]:
                order = self._orders[order_id]
                yield order_id, order.price, order.amount

    def _queues(self, sign: float) -> _Queues:
        return self._bids if sign == _BID else self._asks

    def _set(self, event: OrderEvent) -> None:
        sign = _BID if event.side == "buy" else _ASK
        rank = sign * float(event.price)
        held = self._orders.get(event.order_id)
        if held and event.action == "set" and (held.sign, held.rank) == (sign, rank):
            held.price, held.amount = event.price, event.amount
            return
        if held:
            self._remove(event.order_id)
        self._orders[event.order_id] = _Order(sign, rank, event.price, event.amount)
        self._queues(sign).put(rank, event.order_id)

    def _reduce(self, event: OrderEvent) -> None:
        held = self._orders.get(event.order_id)
        if held is None:
            return
        left = Decimal(held.amount) - Decimal(event.amount)
        if left > 0:
            held.amount = f"{left:f}"
        else:
            self._remove(event.order_id)

    def _remove(self, order_id: str) -> None:
        held = self._orders.pop(order_id, None)
        if held:
            self._queues(held.sign).take(held.rank, order_id)


@dataclass(slots=True)
class _Queues:
    """One side of a book by orders: the ids at each rank, in order of arrival."""

    ranks: list[float] = field(default_factory=list)
    levels: dict[float, dict[str, None]] = field(default_factory=dict)

    def put(self, rank: float, order_id: str) -> None:
        queue = self.levels.get(rank)
        if queue is None:
            self.levels[rank] = {order_id: None}
            insort(self.ranks, rank)
        else:
            queue[order_id] = None

    def take(self, rank: float, order_id: str) -> None:
        queue = self.levels[rank]
        del queue[order_id]
        if not queue:
            del self.levels[rank]
            del self.ranks[bisect_left(self.ranks, rank)]


def kraken_checksum(book: Book, price_digits: int, amount_digits: int) -> int:
    """CRC32 of the ten best asks, then the ten best bids; numbers with the pair's digits, without point and zeros.

    https://docs.kraken.com/api/docs/guides/spot-ws-book-v2
    """
    best = (*book.asks(10), *book.bids(10))
    texts = (_bare(level[0], price_digits) + _bare(level[1], amount_digits) for level in best)
    return zlib.crc32("".join(texts).encode())


def kraken_orders_checksum(book: OrderBook, price_digits: int, amount_digits: int) -> int:
    """The same of every order in the ten best price levels.

    https://docs.kraken.com/api/docs/guides/spot-ws-l3-v2
    """
    best = (*book.ask_orders(10), *book.bid_orders(10))
    texts = (_bare(price, price_digits) + _bare(amount, amount_digits) for _, price, amount in best)
    return zlib.crc32("".join(texts).encode())


def okx_checksum(book: Book) -> int:
    """Signed CRC32 of 25 levels, bid and ask in turn; archives before 2026-06 have it, today it is always 0."""
    return _signed_crc32(_in_turn((level[0], level[1]) for level in side) for side in _sides(book))


def bitfinex_checksum(book: Book) -> int:
    """Signed CRC32 of 25 levels, bid and ask in turn, amounts of asks negative.

    https://docs.bitfinex.com/docs/ws-websocket-checksum
    """
    bids, asks = _sides(book)
    return _signed_crc32([_in_turn((b[0], b[1]) for b in bids), _in_turn((a[0], f"-{a[1]}") for a in asks)])


def bitfinex_orders_checksum(book: OrderBook) -> int:
    """The same of 25 orders a side, with their ids in place of prices; orders of one price by their ids."""
    bids = _by_id(book.bid_orders(25), _BID)
    asks = _by_id(book.ask_orders(25), _ASK)
    return _signed_crc32([_in_turn((b[0], b[2]) for b in bids), _in_turn((a[0], f"-{a[2]}") for a in asks)])


def _difference(mine: _Levels, theirs: _Levels) -> str:
    if not mine.ranks or not theirs.ranks:
        return "" if mine.ranks == theirs.ranks else "side is empty in one of the books"
    worst = max(mine.ranks[0], theirs.ranks[0])
    a, b = (side.ranks[bisect_left(side.ranks, worst) :] for side in (mine, theirs))
    for rank in sorted({*a} ^ {*b}, reverse=True):
        return f"{abs(rank)} is in one of the books only"
    for rank in reversed(a):
        if float(mine.levels[rank][1]) != float(theirs.levels[rank][1]):
            return f"{abs(rank)} is {mine.levels[rank][1]} and {theirs.levels[rank][1]}"
    return ""


def _summed(orders: Iterable[tuple[str, str, str]]) -> list[Level]:
    sums: dict[str, Decimal] = {}
    for _, price, amount in orders:
        sums[price] = sums.get(price, Decimal(0)) + Decimal(amount)
    return [(price, f"{amount:f}") for price, amount in sums.items()]


def _bare(text: str, digits: int) -> str:
    return f"{Decimal(text):.{digits}f}".replace(".", "").lstrip("0")


def _sides(book: Book) -> tuple[list[Level], list[Level]]:
    return book.bids(25), book.asks(25)


def _by_id(orders: Iterable[tuple[str, str, str]], sign: float) -> list[tuple[str, str, str]]:
    return sorted(orders, key=lambda order: (-sign * float(order[1]), int(order[0])))[:25]


def _in_turn(entries: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{key}:{amount}" for key, amount in entries]


def _signed_crc32(sides: Iterable[Sequence[str]]) -> int:
    pairs = zip_longest(*sides)
    crc = zlib.crc32(":".join(text for pair in pairs for text in pair if text is not None).encode())
    return crc - (1 << 32) if crc & 0x80000000 else crc
