"""ccxt.pro at our end of one connection: told what was heard and when, it says what that means and what to send.

The same code runs while a venue is recorded and when its pages are read again, and comes to the same both times: ccxt's
classes run on a loop without sockets or a clock (`sources.venues.clockwork`), and what they would send or ask for is
handed out instead. Nothing here connects. ccxt.pro is imported late: it is slow.

What ccxt makes of a frame is read off what it keeps: trades that were appended, levels of a book that are others than
before. Numbers are doubles on the way, as in ccxt; so they are in silver.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from lakehouse.errors import UsageError
from sources.book import Level, Side
from sources.ccxt_rules import rules_of
from sources.stream import Channel, Fetch, Frame, Send
from sources.venues.clockwork import Clockwork
from sources.venues.said import UNREADABLE, BookSaid, Closing, Said, Trade
from sources.venues.wire import text, whole

Market = Mapping[str, Any]
"""A market as ccxt describes it."""

_SIDES: Mapping[str | None, Side | None] = {"buy": "buy", "sell": "sell", None: None}


class Watching:
    """ccxt's watching of some markets' channels over one connection, which does not stand yet.

    The keys of what is said are ccxt's symbols. Once it has failed it says nothing more: another one must begin.
    """

    def __init__(
        self, exchange: str, markets: Sequence[Market], channels: Sequence[Channel], at: datetime
    ) -> None:
        self.failure: Exception | None = None
        self._loop = Clockwork(at.timestamp())
        self._clients: list[Any] = []
        self._asked: defaultdict[str, deque[asyncio.Future[tuple[int, str]]]] = defaultdict(deque)
        self._actions: list[Send | Fetch] = []
        self._said: list[Said] = []
        self._newest: dict[str, Any] = {}
        self._books: defaultdict[str, tuple[_Side, _Side]] = defaultdict(lambda: (_Side(), _Side()))
        self._exchange = self._loop.call(lambda: self._made(exchange, markets))
        watches = {"trades": self._watch_trades, "book": self._watch_book}
        for market in markets:
            for channel in channels:
                self._loop.create_task(self._guarded(watches[channel](market["symbol"])))
        self._loop.run(at.timestamp())

    @property
    def url(self) -> str:
        """Where ccxt wants to be connected; empty as long as it has to ask for that."""
        return str(self._clients[0].url) if self._clients else ""

    @property
    def headers(self) -> Mapping[str, str]:
        """What it says beside when it connects."""
        options = self._clients[0].options if self._clients else {}
        return {str(name): str(value) for name, value in (options.get("headers") or {}).items()}

    def connected(self, at: datetime) -> None:
        """The connection stands."""
        client = self._clients[0]
        self._loop.call(lambda: client.connected.resolve(client.url))
        self._loop.create_task(self._keep_alive(client))
        self.advance(at)

    def advance(self, at: datetime) -> None:
        """Time goes by."""
        self._loop.run(at.timestamp())

    def hear(self, frame: Frame) -> Sequence[Said]:
        """What a message or a REST answer means; raises one of `UNREADABLE` where ccxt cannot read a message."""
        self.advance(frame.received_at)
        if self.failure:
            return ()
        if frame.kind == "recv":
            self._loop.call(lambda: self._handle(frame.text))
        elif frame.kind == "http" and self._asked[frame.about]:
            self._asked[frame.about].popleft().set_result((frame.status, frame.text))
        self.advance(frame.received_at)
        if isinstance(self.failure, UNREADABLE):
            raise self.failure
        said, self._said = self._said, []
        return said

    def take_actions(self) -> Sequence[Send | Fetch]:
        """What ccxt wants to be sent and asked for, as far as it was not taken yet."""
        actions, self._actions = self._actions, []
        return actions

    def _made(self, name: str, markets: Sequence[Market]) -> Any:
        """An object of ccxt; whatever it does to reach the world is done by us."""
        import ccxt.pro

        rules = rules_of(name)
        config: dict[str, Any] = {
            "asyncio_loop": self._loop.loop,
            "enableRateLimit": False,
            "options": dict(rules.options),
            **({"urls": {"api": rules.urls}} if rules.urls else {}),
        }
        exchange = getattr(ccxt.pro, name)(config)
        exchange.clients = {}
        exchange.open = _nothing
        exchange.client = self._client
        exchange.fetch = self._fetch
        exchange.milliseconds = lambda: int(self._loop.time() * 1000)
        exchange.seconds = lambda: int(self._loop.time())
        exchange.microseconds = lambda: int(self._loop.time() * 1_000_000)
        exchange.safe_trade = lambda trade, _market=None: trade  # costs and fees are computed, not said
        exchange.set_markets([exchange.safe_market_structure(dict(market)) for market in markets])
        exchange.load_markets = partial(_at_once, exchange.markets)
        return exchange

    def _client(self, url: str) -> Any:
        """A client of ccxt, which knows who waits for what, without a connection of its own."""
        import ccxt
        from ccxt.async_support.base.ws.client import Client

        exchange = self._exchange
        if url in exchange.clients:
            return exchange.clients[url]
        if self._clients and self._clients[0].url == url:
            raise ccxt.NetworkError(f"{exchange.id} gave its connection up")
        if self._clients:
            addresses = " and ".join(one.partition("?")[0] for one in (self._clients[0].url, url))
            raise UsageError(f"{exchange.id} needs several connections ({addresses}): record channels apart")
        config = {**exchange.streaming, "ping": None, **(exchange.options.get("ws") or {})}
        client = Client(url, exchange.handle_message, _nothing, _nothing, _nothing, config)
        client.connect = lambda *_: client.connected
        client.send = self._send
        client.close = partial(_at_once, None)
        self._clients.append(client)
        exchange.clients[url] = client
        return client

    async def _send(self, message: Any) -> None:
        from ccxt.async_support.base.ws.client import json_dumps

        self._actions.append(Send(text=message if isinstance(message, str) else json_dumps(message)))

    async def _keep_alive(self, client: Any) -> None:
        """The messages that show a venue that somebody listens, where it wants any."""
        while self._exchange.ping and client.keepAlive:
            await asyncio.sleep(client.keepAlive / 1000)
            await self._send(self._exchange.ping(client))

    async def _fetch(
        self, url: str, method: str = "GET", headers: Any = None, body: str | None = None
    ) -> Any:
        """In place of ccxt's `fetch`: somebody else brings the answer."""
        import ccxt

        exchange, about = self._exchange, " ".join(filter(None, (method, url, body)))
        answer: asyncio.Future[tuple[int, str]] = self._loop.create_future()
        self._asked[about].append(answer)
        self._actions.append(Fetch(url=url, about=about, method=method, body=body or ""))
        status, received = await answer
        said = exchange.parse_json(received.strip())
        exchange.handle_errors(status, "", url, method, {}, received, said, headers or {}, body)
        exchange.handle_http_status_code(status, "", url, method, received)
        if status != 200 or said is None:
            raise ccxt.NetworkError(f"{exchange.id} {about}: status {status}: {received[:100]}")
        return said

    def _handle(self, message: str) -> None:
        import ccxt
        import orjson
        from ccxt.async_support.base.ws.functions import is_json_encoded_object

        try:
            decoded = orjson.loads(message) if is_json_encoded_object(message) else message
            self._exchange.handle_message(self._clients[0], decoded)
        except ccxt.BadSymbol:  # nobody asked for that market
            return
        except (ccxt.BaseError, *UNREADABLE) as error:
            self._fail(error)

    async def _guarded(self, watch: Coroutine[Any, Any, None]) -> None:
        import ccxt

        try:
            await watch
        except (ccxt.BaseError, UsageError, *UNREADABLE) as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """The first failure counts: others follow from it."""
        if self.failure is None:
            self.failure = error
            self._said.append(Closing(f"{type(error).__name__}: {error}"[:300]))

    async def _watch_trades(self, symbol: str) -> None:
        while True:
            given = await self._exchange.watch_trades(symbol)
            self._said += [_trade(symbol, one) for one in self._new(symbol, given)]

    def _new(self, symbol: str, given: Sequence[Any]) -> Sequence[Any]:
        """The trades that were appended to ccxt's since the newest one that was taken."""
        newest, found = self._newest.get(symbol), []
        for trade in reversed(self._exchange.trades.get(symbol, given)):
            if trade is newest:
                break
            found.append(trade)
        if found:
            self._newest[symbol] = found[0]
        return found[::-1]

    async def _watch_book(self, symbol: str) -> None:
        while True:
            book = await self._exchange.watch_order_book(symbol)
            is_first, (bids, asks) = symbol not in self._books, self._books[symbol]
            changes = bids.changes(book["bids"]), asks.changes(book["asks"])
            if is_first or any(changes):
                at_ms, number = book["timestamp"], book["nonce"]
                at_us = None if at_ms is None else whole(at_ms) * 1000
                last = number if type(number) is int else None
                self._said.append(BookSaid(symbol, at_us, is_first, *changes, last=last))


class _Side:
    """One side of a book of ccxt, followed: comparing all of its levels after each frame would take too long."""

    def __init__(self) -> None:
        self._followed: Any = None
        self._amounts: dict[float, float] = {}
        self._touched: set[float] = set()
        self._is_new = True

    def changes(self, side: Any) -> list[Level]:
        """What leads from the side as it was the last time to what it is now; 0 takes a level out."""
        if side is not self._followed:
            self._follow(side)
        is_by_order = hasattr(side, "_hashmap")
        prices = (
            {*self._amounts, *(level[0] for level in side)} if self._is_new or is_by_order else self._touched
        )
        found = [
            (price, amount)
            for price in prices
            if (amount := _amount(side, price)) != self._amounts.get(price, 0.0)
        ]
        for price, amount in found:
            if amount:
                self._amounts[price] = amount
            else:
                del self._amounts[price]
        self._touched.clear()
        self._is_new = False
        return [(str(price), str(amount)) for price, amount in found]

    def _follow(self, side: Any) -> None:
        """Notice from now on what ccxt stores, and what it drops because it lies too deep or all is sent again."""
        self._followed, self._is_new = side, True
        store, drop, clear = side.storeArray, side.remove_index, side.clear

        def note_stored(delta: Any) -> None:
            self._touched.add(delta[0])
            store(delta)

        def note_dropped(level: Any) -> None:
            self._touched.add(level[0])
            drop(level)

        def note_cleared() -> None:
            self._is_new = True
            clear()

        side.storeArray, side.remove_index, side.clear = note_stored, note_dropped, note_cleared


def _amount(side: Any, price: float) -> float:
    """What ccxt's side has at a price; of several orders, their sum."""
    rank, amount = -price if side.side else price, 0.0
    index = bisect_left(side._index, rank)
    while index < len(side._index) and side._index[index] == rank:
        amount += side[index][1]
        index += 1
    return amount


def _trade(symbol: str, said: Mapping[str, Any]) -> Trade:
    return Trade(
        symbol,
        text(said["id"]),
        whole(said["timestamp"]),
        text(str(said["price"])),
        text(str(said["amount"])),
        _SIDES[said["side"]],
    )


def _nothing(*_: Any) -> None:
    """In place of what ccxt does to sockets."""


async def _at_once(result: Any, *_: Any, **__: Any) -> Any:
    return result
