"""Exchanges that ccxt.pro reads: its classes hear captured frames, and come to the same when the pages are read again.

Frames and REST snapshots are captured ones. Made up by hand, in the venues' documented shape, since captures lack them:
the markets, the answers to subscriptions, and where KuCoin says to connect; its snapshots are found under the address
that ccxt asks today.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse.bronze import pages_frame
from lakehouse.errors import UsageError
from sources.book import Book
from sources.errors import ParseError
from sources.recorder.telling import starting
from sources.stream import UNPROVEN, Fetch, Frame, Instrument, Reconnect, Send, Unreadable, Valid, page_of
from sources.twin.captures import lines_of
from sources.twin.websocket import fuzzed
from sources.venues import FALLBACKS, parse_book_updates, parse_trades, unreadable
from sources.venues.clockwork import Clockwork

WS = Path(__file__).parents[2] / "../shared/recorded/ws"
AT = datetime(2024, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TOKEN = "a-token-that-is-long-enough"
BULLET = {
    "code": "200000",
    "data": {
        "token": TOKEN,
        "instanceServers": [{"endpoint": "wss://ws-api-spot.kucoin.com/", "pingInterval": 18000}],
    },
}
GATE = ["DIA", "RDNT", "LIT", "ZRX", "WOO", "QUICK", "OMG", "FRONT", "PHB", "SFP"]
KUCOIN = [f"{base}-BTC" for base in ("ANKR", "CAPP", "COV", "DAPPT", "EQZ", "FET", "NRG", "SNX")]
KUCOIN += ["BCHSV-USDT", "LTX-USDT"]
recorded = pytest.mark.skipif(not WS.is_dir(), reason="the recorded sessions are not here")


def spot(market_id: str) -> Instrument:
    base, quote = re.split("[-_]", market_id)
    market = {
        "id": market_id,
        "symbol": f"{base}/{quote}",
        "base": base,
        "quote": quote,
        "type": "spot",
        "spot": True,
    }
    return Instrument(instrument_id=market["symbol"], symbol=market_id, market={**market, "contract": False})


def contract(market_id: str, base: str, quote: str, settle: str) -> Instrument:
    symbol = f"{base}/{quote}:{settle}"
    market = {
        "id": market_id,
        "symbol": symbol,
        "base": base,
        "baseName": base,
        "quote": quote,
        "settle": settle,
    }
    kind = {
        "type": "swap",
        "swap": True,
        "contract": True,
        "linear": settle == quote,
        "inverse": settle != quote,
    }
    return Instrument(
        instrument_id=symbol,
        symbol=market_id,
        amount_unit="contracts",
        market={**market, **kind, "contractSize": 1},
    )


@dataclass
class Line:
    """A connection as the recorder keeps it: every frame noted, every wish fulfilled; `answers` are REST bodies."""

    name: str
    instruments: list[Instrument]
    channels: tuple[str, ...] = ("trades", "book")
    answers: dict[str, str] = field(default_factory=dict)
    pages: list[Any] = field(default_factory=list)
    actions: list[Any] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    asked: list[Fetch] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.session,) = FALLBACKS[self.name].sessions(self.instruments, self.channels)

    def begin(self, at: datetime = AT) -> str:
        url = self.session.reach(self.ask, at)
        self.note("connect", "", at)
        self.do(self.session.opening(at), at)
        return url

    def ask(self, asked: Fetch) -> tuple[int, str]:
        self.asked.append(asked)
        found = [body for part, body in self.answers.items() if part in asked.url]
        return (200, found[0]) if found else (404, "not here")

    def note(self, kind: str, text: str, at: datetime, about: str = "", status: int = 200) -> None:
        frame = Frame(len(self.pages), at, kind, text, about, status)
        heard = self.session.hear(frame)
        self.pages.append(page_of(self.session, frame, heard, connection_id="c"))
        self.do(heard.actions, at)

    def do(self, actions: Any, at: datetime) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.sent.append(action.text)
                self.note("send", action.text, at)
                if acknowledged := acknowledgement(self.name, action.text):
                    self.note("recv", acknowledged, at)
            elif isinstance(action, Fetch):
                status, text = self.ask(action)
                self.note("http", text, at, action.about, status)
            else:
                self.actions.append(action)

    def play(self, frames: list[tuple[datetime, str]]) -> None:
        for at, text in frames:
            self.do(self.session.tick(at), at)
            self.note("recv", text, at)
        self.note("disconnect", "end", frames[-1][0])

    @property
    def bronze(self) -> pl.DataFrame:
        return pages_frame(self.pages, run_id="test", code_version="0")


def acknowledgement(name: str, sent: str) -> str:
    """What a venue answers to a subscription, with the number that it was given."""
    said = json.loads(sent)
    if name == "kucoin" and said["type"] == "subscribe":
        return json.dumps({"id": said["id"], "type": "ack"})
    if name == "gate":
        return json.dumps({**said, "result": {"status": "success"}})
    return ""


@dataclass(frozen=True)
class Captured:
    """A captured connection: what is watched, its frames, and REST bodies by a part of the address."""

    instruments: list[Instrument]
    frames: list[tuple[datetime, str]]
    answers: dict[str, str] = field(default_factory=dict)


def of_cryptofeed(
    name: str, instruments: list[Instrument], answers: dict[str, str] | None = None
) -> Captured:
    frames, found = [], dict(answers or {})
    for line in lines_of(WS / "cryptofeed-v3" / f"{name}.jsonl.zst"):
        if line["t"] == "recv":
            frames.append((EPOCH + timedelta(microseconds=round(line["ts"] * 1e6)), line["data"]))
        elif line["t"] == "http" and (about := re.search(r"(symbol|contract)=[\w-]+", line["url"])):
            found[about[0]] = line["data"]
    return Captured(instruments, frames, found)


def captured(name: str) -> Captured:
    if name == "krakenfutures":
        return of_cryptofeed("KRAKEN_FUTURES", [contract("PI_ETHUSD", "ETH", "USD", "ETH")])
    if name == "coinbase":
        return of_cryptofeed("COINBASE", [spot("BTC-USD"), spot("ETH-USD")])
    if name == "kucoin":
        wanted = [spot(one) for one in KUCOIN]
        return of_cryptofeed("KUCOIN", wanted, {"bullet-public": json.dumps(BULLET)})
    if name == "gate":
        wanted = [contract(f"{one}_USDT", one, "USDT", "USDT") for one in GATE]
        return of_cryptofeed("GATEIO_FUTURES", wanted)
    lines = (
        gzip.decompress((WS / "hftbacktest/hyperliquid/btcusd_20250126.gz").read_bytes())
        .decode()
        .splitlines()
    )
    frames = [
        (EPOCH + timedelta(microseconds=int(ns) // 1000), text)
        for ns, text in (one.split(" ", 1) for one in lines)
    ]
    return Captured([contract("0", "BTC", "USDC", "USDC")], frames)


def played(name: str) -> tuple[Line, Captured]:
    found = captured(name)
    line = Line(name, found.instruments, answers=found.answers)
    line.begin(found.frames[0][0])
    line.play(found.frames)
    return line, found


def trades_said(name: str, texts: Iterator[str]) -> dict[str, str]:
    """Prices by the ids of the trades that the texts tell of."""
    said = [json.loads(text) for text in texts]
    if name == "krakenfutures":
        mine = [
            one for one in said if one.get("product_id") == "PI_ETHUSD" and "trade" in one.get("feed", "")
        ]
        return {t["uid"]: t["price"] for one in mine for t in one.get("trades", [one])}
    if name == "coinbase":
        events = [event for one in said for event in one["events"] if one["channel"] == "market_trades"]
        return {t["trade_id"]: t["price"] for event in events for t in event["trades"]}
    if name == "kucoin":
        mine = [one["data"] for one in said if one.get("subject") == "trade.l3match"]
        return {one["tradeId"]: one["price"] for one in mine}
    if name == "hyperliquid":
        return {str(t["tid"]): t["px"] for one in said if one.get("channel") == "trades" for t in one["data"]}
    return {}


EXCHANGES = ("coinbase", "gate", "hyperliquid", "krakenfutures", "kucoin")


@recorded
@pytest.mark.parametrize("name", EXCHANGES)
def test_trades_are_those_that_the_frames_tell_of(name):
    line, found = played(name)
    at_the_end = found.frames[-1][0]
    assert not [one for one in line.actions if not isinstance(one, Valid) and one.since != at_the_end]
    rows = parse_trades(line.bronze).collect()
    said = trades_said(name, (text for _, text in found.frames))
    assert set(rows["trade_id"]) == set(said)
    assert all(float(row["price"]) == float(said[row["trade_id"]]) for row in rows.iter_rows(named=True))


def book_said(name: str, found: Captured) -> Book:
    """The last book of the first instrument, put together from the texts without ccxt."""
    book = Book()
    for _, text in found.frames:
        _SAID_OF_BOOKS[name](book, json.loads(text))
    return book


def _hyperliquid_book(book: Book, said: dict) -> None:
    if said.get("channel") == "l2Book":
        book.load(*([(one["px"], one["sz"]) for one in side] for side in said["data"]["levels"]))


def _coinbase_book(book: Book, said: dict) -> None:
    events = said["events"] if said["channel"] == "l2_data" else []
    for event in events:
        if event["product_id"] == "BTC-USD":
            told = [(one["side"], one["price_level"], one["new_quantity"]) for one in event["updates"]]
            book.apply(*([one[1:] for one in told if one[0] == side] for side in ("bid", "offer")))


def _kraken_book(book: Book, said: dict) -> None:
    if said.get("product_id") != "PI_ETHUSD":
        return
    if said["feed"] == "book_snapshot":
        book.load(
            *([(str(one["price"]), str(one["qty"])) for one in said[side]] for side in ("bids", "asks"))
        )
    elif said["feed"] == "book":
        level = [(str(said["price"]), str(said["qty"]))]
        book.apply(*((level, []) if said["side"] == "buy" else ([], level)))


_SAID_OF_BOOKS = {"hyperliquid": _hyperliquid_book, "coinbase": _coinbase_book, "krakenfutures": _kraken_book}


@recorded
@pytest.mark.parametrize("name", ["coinbase", "hyperliquid", "krakenfutures"])
def test_changes_of_a_book_add_up_to_what_the_frames_say(name):
    line, found = played(name)
    rows = parse_book_updates(line.bronze).collect()
    mine = rows.filter(pl.col("instrument_id") == found.instruments[0].instrument_id).sort("frame", "part")
    assert mine["is_valid"].all()
    assert mine["is_snapshot"].to_list() == [True, *[False] * (mine.height - 1)]
    book = Book()
    for row in mine.iter_rows(named=True):
        bids, asks = (
            list(zip(row[f"{side}_prices"], row[f"{side}_amounts"], strict=True)) for side in ("bid", "ask")
        )
        book.apply(bids, asks)
    expected = book_said(name, found)
    assert book.difference(expected) == ""
    assert len(book.bids(100_000)) == len(expected.bids(100_000)) > 0


@recorded
@pytest.mark.parametrize("name", ["gate", "kucoin"])
def test_a_book_that_needs_a_rest_snapshot_asks_for_it_and_begins_there(name):
    line, _ = played(name)
    assert {one.method for one in line.asked if "book" in one.url} == {"GET"}
    rows = parse_book_updates(line.bronze).collect()
    begun = rows.filter("is_snapshot")
    assert begun["instrument_id"].n_unique() == begun.height >= 9
    assert rows["is_valid"].all()


@recorded
@pytest.mark.parametrize("name", ["kucoin", "coinbase"])
def test_pages_say_the_same_however_they_are_cut_and_nothing_without_their_beginning(name):
    line, _ = played(name)
    bronze = line.bronze
    half = bronze.height // 2
    whole = parse_trades(bronze).collect()
    first = parse_trades(bronze.head(half)).collect()
    assert_frame_equal(first, whole.head(first.height))
    updates = parse_book_updates(bronze).collect()
    assert_frame_equal(parse_book_updates(bronze.sample(fraction=1, shuffle=True, seed=1)).collect(), updates)
    assert parse_trades(bronze.tail(half)).collect().is_empty()
    assert bronze["window_start"].drop_nulls().unique().to_list() == [bronze["received_at"][0]]


@recorded
def test_the_address_is_asked_for_and_its_token_is_not_kept():
    line, _ = played("kucoin")
    assert line.session.url == "wss://ws-api-spot.kucoin.com/"
    assert (line.asked[0].method, line.asked[0].url) == (
        "POST",
        "https://api.kucoin.com/api/v1/bullet-public",
    )
    assert TOKEN not in str([(page.request, page.body) for page in line.pages])


def kraken_line() -> Line:
    return Line("krakenfutures", [contract("PI_XBTUSD", "BTC", "USD", "BTC")])


def trade(uid: str, **changes: Any) -> str:
    said = {"feed": "trade", "product_id": "PI_XBTUSD", "uid": uid, "side": "buy", "type": "fill", "seq": 1}
    return json.dumps({**said, "time": 1704067200000, "qty": 100.0, "price": 42000.5, **changes})


def test_what_comes_is_degraded_and_says_why():
    line = kraken_line()
    line.begin()
    line.note("recv", trade("a"), AT + timedelta(seconds=1))
    valid = [one for one in line.actions if isinstance(one, Valid)]
    assert [(one.channel, one.is_proven) for one in valid] == [("trades", False)]
    teller = starting("krakenfutures", [("BTC/USD:BTC", "trades")], AT, late=timedelta())
    teller.hear(valid, heard_at=AT, at=AT + timedelta(seconds=1))
    (told,) = teller.tell(AT + timedelta(seconds=9), AT + timedelta(seconds=9))
    assert (told.claim.status, told.claim.proof) == ("degraded", UNPROVEN)
    assert told.claim.cannot_show == "trades that were left out: ccxt.pro does not follow their numbers"


@pytest.mark.parametrize(
    "text", ['{"feed":"trade","product_id":"PI_XBTUSD"}', "[1,", '{"feed":"book","product_id":7}']
)
def test_a_frame_that_ccxt_cannot_read_is_held_and_another_connection_wanted(text):
    line = kraken_line()
    line.begin()
    line.note("recv", trade("a"), AT)
    line.note("recv", text, AT)
    assert [one.reason for one in line.actions if isinstance(one, Unreadable)]
    assert isinstance(line.actions[-1], Reconnect)
    line.note("recv", trade("b"), AT)
    ((page_id, _),) = unreadable(line.bronze)
    with pytest.raises(ParseError, match="stream_krakenfutures"):
        parse_trades(line.bronze)
    others = line.bronze.filter(pl.col("page_id") != page_id)
    assert parse_trades(others).collect()["trade_id"].to_list() == ["a"]


def test_whatever_comes_is_a_page_that_is_read_or_held():
    for seed in range(200):
        line = kraken_line()
        line.begin()
        line.note("recv", fuzzed(trade("a"), random.Random(seed)), AT)
        held = {page_id for page_id, _ in unreadable(line.bronze)}
        assert bool(held) == any(isinstance(one, Unreadable) for one in line.actions)
        parse_trades(line.bronze.filter(~pl.col("page_id").is_in(held))).collect()


def test_what_the_venue_refuses_ends_the_connection():
    line = kraken_line()
    line.begin()
    line.note("recv", '{"event":"alert","message":"Bad websocket message"}', AT)
    (wanted,) = [one for one in line.actions if isinstance(one, Reconnect)]
    assert "Bad websocket message" in wanted.reason
    assert [type(one) for one in line.session.tick(AT)] == [Reconnect]
    again = line.session.again()
    assert again.reach(line.ask, AT) == "wss://futures.kraken.com/ws/v1"


@pytest.mark.parametrize("answers", [{}, {"bullet-public": "{}"}, {"bullet-public": '{"data":[]}'}])
def test_a_venue_that_does_not_say_where_to_connect_is_no_connection(answers):
    line = Line("kucoin", [spot("BTC-USDT")], answers=answers)
    with pytest.raises(ConnectionError, match="kucoin"):
        line.begin()


def test_the_venue_is_told_that_somebody_listens_and_a_connection_does_not_last():
    line = Line("kucoin", [spot("BTC-USDT")], answers={"bullet-public": json.dumps(BULLET)})
    line.begin()
    said = len(line.sent)
    line.do(line.session.tick(AT + timedelta(seconds=17)), AT)
    assert len(line.sent) == said
    line.do(line.session.tick(AT + timedelta(seconds=18)), AT)
    assert json.loads(line.sent[-1])["type"] == "ping"
    line.note("recv", '{"id":"1","type":"pong"}', AT + timedelta(minutes=25))
    line.do(line.session.tick(AT + timedelta(minutes=31)), AT)
    assert line.actions == [Reconnect(reason="started again")]


def test_markets_of_different_kinds_have_connections_of_their_own():
    wanted = [spot("BTC_USDT"), spot("ETH_USDT"), contract("BTC_USDT", "BTC", "USDT", "USDT")]
    sessions = FALLBACKS["gate"].sessions(wanted, ["trades"])
    assert [session.reach(lambda _: (0, ""), AT) for session in sessions] == [
        "wss://api.gateio.ws/ws/v4/",
        "wss://fx-ws.gateio.ws/v4/ws/usdt",
    ]
    assert sessions[0].headers == {"X-Gate-Size-Decimal": "1"}


def test_channels_that_ccxt_does_not_have_are_refused():
    with pytest.raises(UsageError, match="has no channel orders; it has trades, book"):
        FALLBACKS["kucoin"].sessions([spot("BTC-USDT")], ["orders"])


def test_tasks_on_clockwork_sleep_by_the_time_that_is_told():
    clock, woke = Clockwork(100.0), []

    async def sleep() -> None:
        for seconds in (5, 5):
            await asyncio.sleep(seconds)
            woke.append(clock.time())

    async def outside() -> None:
        clock.create_task(sleep())
        clock.run(104.0)
        assert woke == []
        clock.run(120.0)
        assert asyncio.get_running_loop() is not clock

    asyncio.run(outside())
    assert woke == [105.0, 110.0]
