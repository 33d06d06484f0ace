"""A made-up Kraken: trades and order books by its protocols, WebSocket v2 and REST, from chance and not from a market.

What it says is consistent: trade ids count, checksums are right, snapshots are the book of that moment, and REST gives
the very trades that were streamed. So whatever a client holds can be compared with what there was.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import orjson

from sources.book import Book, kraken_checksum
from sources.twin.recording import Request

STREAM = "ws.kraken.com/v2"
REST = "api.kraken.com"
PRICE_DIGITS, AMOUNT_DIGITS = 1, 8

_SNAPSHOT_TRADES = 50
_PAGE_TRADES = 1000
_LEVELS = 10
_NS = 1_000_000_000


@dataclass(frozen=True)
class MadeUpTrade:
    """One trade."""

    number: int
    at_ns: int
    price: str
    amount: str
    side: str


@dataclass
class MadeUpKraken:
    """One pair's market. It stands still until it is asked what is due; `per_s` frames come every second.

    `now_s` is its clock, in seconds since the epoch; `book_share` of the frames are changes of the book.
    """

    symbol: str = "BTC/USD"
    per_s: float = 100.0
    book_share: float = 0.5
    most: float = float("inf")
    now_s: Any = time.time
    chance: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - not a secret
    trades: list[MadeUpTrade] = field(default_factory=list)
    made: int = 0

    def __post_init__(self) -> None:
        self._book = Book()
        mid = 300_000
        self._mid = mid
        levels = range(1, _LEVELS + 1)
        self._book.load(
            [(_price(mid - n), "1.00000000") for n in levels],
            [(_price(mid + n), "1.00000000") for n in levels],
        )
        self._log: list[tuple[str, str]] = []
        self._begun_s: float | None = None
        self._at_ns = 0

    def connection(self) -> Connection:
        """Another client."""
        return Connection(self)

    def go_on(self) -> None:
        """Make all frames that are due by now."""
        now_s = self.now_s()
        if self._begun_s is None:
            self._begun_s = now_s
        due = min((now_s - self._begun_s) * self.per_s, self.most)
        while self.made < due:
            # It happens when it is made: a market that was held up has nothing to tell of before.
            at_ns = self._at_ns = max(int(now_s * _NS), self._at_ns + 1000)
            is_book = self.chance.random() < self.book_share
            self._log.append(("book", self._change(at_ns)) if is_book else ("trade", self._trade(at_ns)))
            self.made += 1

    @property
    def log(self) -> list[tuple[str, str]]:
        """Every frame ever made: its channel and its text."""
        return self._log

    def snapshot(self, channel: str) -> str:
        """What a new subscription of that channel is told first."""
        if channel == "trade":
            data = [self._told(trade) for trade in self.trades[-_SNAPSHOT_TRADES:]]
            return _frame("trade", "snapshot", data)
        one = self._book_said(self._book.bids(1000), self._book.asks(1000))
        return _frame("book", "snapshot", [one])

    def answer_to(self, asked: Request) -> bytes | None:
        """What REST answers; None to a request that is not for it."""
        if asked.host == REST and asked.path == "/0/public/Trades":
            return self._trades_since(dict(asked.parameters))
        if asked.host == REST and asked.path == "/0/public/AssetPairs":
            return orjson.dumps({"error": [], "result": {_PAIR: _MARKET}})
        return None

    def _trade(self, at_ns: int) -> str:
        price, amount = self._mid + self.chance.randrange(-5, 6), self.chance.randrange(1, 10**8)
        trade = MadeUpTrade(
            number=len(self.trades) + 1,
            at_ns=at_ns // 1000 * 1000,
            price=_price(price),
            amount=f"{amount / 1e8:.8f}",
            side=self.chance.choice(("buy", "sell")),
        )
        self.trades.append(trade)
        return _frame("trade", "update", [self._told(trade)])

    def _change(self, at_ns: int) -> str:
        is_bid, depth = self.chance.random() < 0.5, self.chance.randrange(1, _LEVELS + 1)
        price = _price(self._mid - depth if is_bid else self._mid + depth)
        level = (price, f"{self.chance.randrange(1, 10**9) / 1e8:.8f}")
        bids, asks = ([level], []) if is_bid else ([], [level])
        self._book.apply(bids, asks)
        return _frame("book", "update", [self._book_said(bids, asks, at_ns)])

    def _book_said(self, bids: list[Any], asks: list[Any], at_ns: int | None = None) -> dict[str, Any]:
        said: dict[str, Any] = {
            "symbol": self.symbol,
            "bids": [_level(*one) for one in bids],
            "asks": [_level(*one) for one in asks],
            "checksum": kraken_checksum(self._book, PRICE_DIGITS, AMOUNT_DIGITS),
        }
        return said if at_ns is None else {**said, "timestamp": _iso(at_ns)}

    def _told(self, trade: MadeUpTrade) -> dict[str, Any]:
        return {
            "symbol": self.symbol,
            "side": trade.side,
            "price": _Number(trade.price),
            "qty": _Number(trade.amount),
            "ord_type": "limit",
            "trade_id": trade.number,
            "timestamp": _iso(trade.at_ns),
        }

    def _trades_since(self, parameters: dict[str, str]) -> bytes:
        since = int(parameters.get("since", "0") or 0)
        since_ns = since if since > 10**15 else since * _NS
        page = list(islice((one for one in self.trades if one.at_ns > since_ns), _PAGE_TRADES))
        rows = [[one.price, one.amount, one.at_ns / _NS, one.side[0], "l", "", one.number] for one in page]
        last = str(page[-1].at_ns if page else since_ns)
        return orjson.dumps({"error": [], "result": {_PAIR: rows, "last": last}})


class Connection:
    """One client of the made-up Kraken: a script for `sources.twin.websocket`."""

    is_over = False

    def __init__(self, venue: MadeUpKraken) -> None:
        self._venue = venue
        self._next: dict[str, int] = {}
        self._from = 0

    def hear(self, text: str) -> Iterable[str]:
        """Subscriptions are confirmed and begin with a snapshot."""
        asked = orjson.loads(text)
        if asked.get("method") == "ping":
            return ('{"method":"pong"}',)
        if asked.get("method") not in ("subscribe", "unsubscribe"):
            return ()
        channel = asked["params"]["channel"]
        confirmed = orjson.dumps(
            {
                "method": asked["method"],
                "result": {"channel": channel, "symbol": self._venue.symbol},
                "success": True,
            }
        ).decode()
        if asked["method"] == "unsubscribe":
            self._next.pop(channel, None)
            return (confirmed,)
        self._venue.go_on()
        self._next[channel] = len(self._venue.log)
        return (confirmed, self._venue.snapshot(channel))

    def due(self, elapsed_s: float) -> Iterator[str]:  # noqa: ARG002 - the market's own clock counts
        """What happened on the subscribed channels since the last look."""
        self._venue.go_on()
        log = self._venue.log
        if not self._next:
            self._from = len(log)
        while self._from < len(log):
            number, (channel, text) = self._from, log[self._from]
            self._from += 1
            if channel in self._next and number >= self._next[channel]:
                yield text


_PAIR = "XXBTZUSD"
_MARKET = {
    "altname": "XBTUSD",
    "wsname": "XBT/USD",
    "aclass_base": "currency",
    "base": "XXBT",
    "aclass_quote": "currency",
    "quote": "ZUSD",
    "lot": "unit",
    "cost_decimals": 5,
    "pair_decimals": PRICE_DIGITS,
    "lot_decimals": AMOUNT_DIGITS,
    "lot_multiplier": 1,
    "leverage_buy": [],
    "leverage_sell": [],
    "fees": [[0, 0.4]],
    "fees_maker": [[0, 0.25]],
    "fee_volume_currency": "ZUSD",
    "margin_call": 80,
    "margin_stop": 40,
    "ordermin": "0.00005",
    "costmin": "0.5",
    "tick_size": "0.1",
    "status": "online",
}


class _Number(str):
    """Text that stands in JSON as the number that it is, digit for digit."""

    __slots__ = ()


def _level(price: str, amount: str) -> dict[str, Any]:
    return {"price": _Number(price), "qty": _Number(amount)}


def _frame(channel: str, kind: str, data: list[dict[str, Any]]) -> str:
    return _json({"channel": channel, "type": kind, "data": data})


def _json(said: Any) -> str:
    """JSON with numbers as they are written; only what this module says."""
    if isinstance(said, _Number):
        return str(said)
    if isinstance(said, dict):
        return "{" + ",".join(f'"{name}":{_json(value)}' for name, value in said.items()) + "}"
    if isinstance(said, list):
        return "[" + ",".join(_json(one) for one in said) + "]"
    return orjson.dumps(said).decode()


def _price(tenths: int) -> str:
    return f"{tenths / 10:.1f}"


def _iso(at_ns: int) -> str:
    second = datetime.fromtimestamp(at_ns // _NS, UTC)
    return f"{second:%Y-%m-%dT%H:%M:%S}.{at_ns % _NS // 1000:06d}Z"
