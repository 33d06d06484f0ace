"""Recorded WebSocket sessions of real venues, heard by our sessions and parsed: books must prove themselves."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.bronze import pages_frame
from lakehouse.conform import conform
from lakehouse.silver import book_snapshots, book_updates, trades
from sources.book import Book, OrderBook, kraken_checksum
from sources.stream import Action, Frame, Hole, Instrument, Invalid, Reconnect, Unreadable, Valid, page_of
from sources.twin.captures import lines_of
from sources.venues import (
    VENUES,
    parse_book_snapshots,
    parse_book_updates,
    parse_trades,
)
from sources.venues.said import UNREADABLE, BookSaid, Subscribed, Topic, Trade
from sources.venues.session import StreamSession, VenueStream

WS = Path(__file__).parents[2] / "../shared/recorded/ws"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

pytestmark = pytest.mark.skipif(not WS.is_dir(), reason="the recorded sessions are not here")

About = Callable[[str], str | None]


def no_snapshots(_url: str) -> None:
    """For venues that send snapshots over the stream."""


def moment(us: int) -> datetime:
    return EPOCH + timedelta(microseconds=us)


def capture(name: str) -> Iterator[dict]:
    return lines_of(WS / "cryptofeed-v3" / f"{name}.jsonl.zst")


def frames(name: str, *, connection: str = "", snapshots: About = no_snapshots) -> list[Frame]:
    """A capture as the recorder numbers it; the REST answers that are snapshots among them."""
    found: list[Frame] = []
    for line in capture(name):
        about = snapshots(line["url"]) if line["t"] == "http" else None
        is_ours = connection in line.get("conn", "") and line["t"] in ("send", "recv")
        if is_ours or about:
            kind = "http" if about else line["t"]
            at = moment(round(line["ts"] * 1e6))
            text = line["data"]
            found.append(Frame(number=len(found), received_at=at, kind=kind, text=text, about=about or ""))
    return found


def hftbacktest(path: str, symbol: str, limit: int | None = None) -> Iterator[Frame]:
    lines = gzip.decompress((WS / "hftbacktest" / path).read_bytes()).decode().splitlines()
    for number, line in enumerate(lines[:limit]):
        at, text = line.split(" ", 1)
        kind, about = ("http", f"book {symbol}") if text.startswith('{"lastUpdateId"') else ("recv", "")
        yield Frame(number=number, received_at=moment(int(at) // 1000), kind=kind, text=text, about=about)


def instruments(heard: list[Frame], pattern: str) -> tuple[Instrument, ...]:
    """All instruments named in the frames; ids are the venue's symbols here."""
    symbols = sorted({symbol for frame in heard for symbol in re.findall(pattern, frame.text)})
    return tuple(Instrument(instrument_id=symbol, symbol=symbol) for symbol in symbols)


def hear(
    stream: VenueStream, wanted: tuple[Instrument, ...], heard: list[Frame], channels=("trades", "book")
) -> tuple[pl.DataFrame, list[Action]]:
    """The frames as pages, and all that the session wanted to be done."""
    session = StreamSession(stream, wanted, channels)
    actions = list(session.opening(heard[0].received_at))
    pages = []
    for frame in heard:
        said = session.hear(frame)
        actions += said.actions
        pages.append(page_of(session, frame, said, connection_id="c"))
    return pages_frame(pages, run_id="test", code_version="0"), actions


def troubles(actions: list[Action]) -> list[Action]:
    return [one for one in actions if isinstance(one, Invalid | Hole | Unreadable | Reconnect)]


def checks(updates: pl.DataFrame) -> dict[str, int]:
    return dict(Counter(updates.filter("is_valid")["check"]))


def _last(pattern: str) -> About:
    def about(url: str) -> str | None:
        found = re.search(pattern, url)
        return f"book {found[1]}" if found else None

    return about


BINANCE = _last(r"depth\?symbol=(\w+)")
CAPTURES = {
    "BINANCE": ("binance", r'"s":"(\w+)"', BINANCE, 4),
    "BINANCE_FUTURES": ("binanceusdm", r'"s":"(\w+)"', BINANCE, 4),
    "BINANCE_DELIVERY": ("binancecoinm", r'"s":"(\w+)"', BINANCE, 10),
    "BITFINEX": ("bitfinex", r'"symbol":"(t[A-Z:]+)"', no_snapshots, 7),
    "BITSTAMP": ("bitstamp", r'diff_order_book_(\w+)"', _last(r"order_book/(\w+)"), 10),
    "DERIBIT": ("deribit", r"book\.([\w-]+)\.", no_snapshots, 10),
    "OKX": ("okx", r'"channel":"books","instId":"([\w-]+)"', no_snapshots, 3),
}


@pytest.mark.parametrize("name", CAPTURES)
def test_books_of_whole_captures_hold_to_the_end(name: str) -> None:
    stream, pattern, snapshots, books = CAPTURES[name]
    heard = frames(name, snapshots=snapshots)
    pages, actions = hear(VENUES[stream], instruments(heard, pattern), heard)
    assert troubles(actions) == []
    assert sum(isinstance(one, Valid) and one.channel == "book" for one in actions) == books
    updates = parse_book_updates(pages).collect()
    after = updates.filter(pl.col("last_sequence").is_not_null() | pl.col("is_snapshot"))
    started = after.filter(pl.col("is_snapshot")).group_by("instrument_id").agg(start=pl.col("frame").min())
    late = updates.join(started, on="instrument_id").filter(pl.col("frame") >= pl.col("start"))
    assert late["is_valid"].all()
    for table, parse in (
        (book_updates.TABLE, parse_book_updates),
        (book_snapshots.TABLE, parse_book_snapshots),
        (trades.TABLE, parse_trades),
    ):
        conformed = conform(table, parse(pages)).collect()
        assert conformed.filter(pl.col("reasons").list.len() > 0).is_empty(), table.name


@pytest.mark.parametrize("connection", ["BYBIT.ws.2", "BYBIT.ws.3"])
def test_bybit_books_count_without_a_jump(connection: str) -> None:
    heard = frames("BYBIT", connection=connection)
    wanted = instruments(heard, r'"topic":\s*"orderbook\.\d+\.(\w+)"')
    pages, actions = hear(VENUES["bybit"], wanted, heard)
    assert troubles(actions) == []
    assert parse_book_updates(pages).collect()["is_valid"].all()


def test_all_290_checksums_of_okx_are_those_of_our_books() -> None:
    heard = frames("OKX")
    wanted = instruments(heard, r'"channel":"books","instId":"([\w-]+)"')
    pages, _ = hear(VENUES["okx"], wanted, heard)
    assert checks(parse_book_updates(pages).collect()) == {"snapshot": 3, "checksum": 287}


def kraken_v2() -> tuple[VenueStream, tuple[Instrument, ...], list[Frame]]:
    said = json.loads((WS / "python-kraken-sdk/kraken_book_v2_BTC-USD.json").read_text())
    texts = [json.dumps(one) for one in (said["init"], *said["updates"])]
    heard = [
        Frame(number=i, received_at=moment(1_690_730_998_000_000 + i * 50_000), kind="recv", text=text)
        for i, text in enumerate(texts)
    ]
    wanted = (Instrument(instrument_id="BTC/USD", symbol="BTC/USD", price_digits=1, amount_digits=8),)
    return replace(VENUES["kraken"], depth=10), wanted, heard


def test_all_510_checksums_of_kraken_v2_are_those_of_our_book() -> None:
    stream, wanted, heard = kraken_v2()
    pages, actions = hear(stream, wanted, heard)
    assert troubles(actions) == []
    assert checks(parse_book_updates(pages).collect()) == {"snapshot": 1, "checksum": 509}


def test_a_kraken_book_without_one_frame_breaks_at_its_next_checksum_that_can_tell() -> None:
    stream, wanted, heard = kraken_v2()
    pages, actions = hear(stream, wanted, [frame for frame in heard if frame.number != 100])
    assert [type(one) for one in troubles(actions)] == [Invalid]
    updates = parse_book_updates(pages).collect()
    assert not updates.filter(pl.col("frame") > 100)["is_valid"].any()


def test_all_4269_checksums_of_kraken_v1_are_those_of_our_books() -> None:
    """The first version of the protocol is not recorded any more; its capture proves the book and the sum."""
    books: dict[str, Book] = {}
    counted = Counter()
    for line in capture("KRAKEN"):
        if line["t"] != "recv" or "book-1000" not in line["data"] or not line["data"].startswith("["):
            continue
        _, *parts, _, pair = json.loads(line["data"])
        for part in parts:
            if "as" in part:
                books[pair] = Book()
                books[pair].load(part["bs"], part["as"])
                continue
            books[pair].apply(part.get("b", []), part.get("a", []))
        books[pair].truncate(1000)
        said = [part["c"] for part in parts if "c" in part]
        if said:
            best = (*books[pair].bids(1), *books[pair].asks(1))
            price, amount = (max(len(level[i].partition(".")[2]) for level in best) for i in (0, 1))
            counted[kraken_checksum(books[pair], price, amount) == int(said[0])] += 1
    assert counted == {True: 4269}
    assert len(books) == 10


def test_the_bitfinex_book_by_orders_is_crossed_21_times_for_a_moment_and_never_loses_an_order() -> None:
    raw = json.loads(gzip.decompress((WS / "nautilus-history/bitfinex_R0_L3_BTCUSD.json.gz").read_bytes()))
    messages = [one for one in raw if isinstance(one, list) and isinstance(one[1], list)]
    book, crossed, unknown = OrderBook(), 0, 0
    topics = VENUES["bitfinex"].sessions([Instrument(instrument_id="BTC/USD", symbol="tBTCUSD")], ["orders"])[
        0
    ]
    topics.hear(Frame(number=0, received_at=EPOCH, kind="recv", text=json.dumps(raw[1])))
    read = VENUES["bitfinex"].read
    for message in messages:
        (said,) = read(json.dumps(message), topics._topics)
        if said.is_snapshot:
            book.load(said.events)
            continue
        unknown += sum(event.action == "remove" and event.order_id not in book for event in said.events)
        book.apply(said.events)
        crossed += book.is_crossed
    assert (crossed, unknown) == (21, 0)


HFT = {
    "binance": ("spot/btcusdt_20240808.gz", "BTCUSDT"),
    "binanceusdm": ("usdm/btcusdt_20240808.gz", "BTCUSDT"),
    "binancecoinm": ("cm/btcusd_perp_20240808.gz", "BTCUSD_PERP"),
}


@pytest.mark.parametrize("name", HFT)
def test_the_first_seconds_of_binance_join_the_snapshot_and_never_cross(name: str) -> None:
    path, symbol = HFT[name]
    heard = list(hftbacktest(path, symbol, 4000))
    wanted = (Instrument(instrument_id="BTC", symbol=symbol),)
    pages, actions = hear(VENUES[name], wanted, heard)
    assert troubles(actions) == []
    updates = parse_book_updates(pages).collect()
    snapshot = updates.filter("is_snapshot")["frame"].item()
    assert updates.filter(pl.col("frame") >= snapshot)["is_valid"].all()
    assert not updates.filter(pl.col("frame") < snapshot)["is_valid"].any()


def test_a_change_received_before_the_snapshot_that_reaches_over_it_is_applied() -> None:
    """Three changes come before the snapshot, the last one overlaps it: without it the book is crossed later."""
    path, symbol = HFT["binance"]
    heard = list(hftbacktest(path, symbol, 300))
    snapshot = next(frame.number for frame in heard if frame.kind == "http")
    wanted = (Instrument(instrument_id="BTC", symbol=symbol),)
    pages, _ = hear(VENUES["binance"], wanted, heard)
    before = [frame for frame in heard if frame.number < snapshot and "depth" in frame.text]
    assert len(before) == 3
    number = json.loads(heard[snapshot].text)["lastUpdateId"]
    last = json.loads(before[-1].text)["data"]
    assert last["U"] <= number < last["u"]
    told = parse_book_updates(pages).collect().filter(pl.col("frame") == snapshot)
    assert told["is_valid"].item()
    _, actions = hear(VENUES["binance"], wanted, [f for f in heard if f is not before[-1]])
    assert [type(one) for one in troubles(actions)] == [Invalid]
    assert "are missing" in troubles(actions)[0].reason


def test_a_lost_change_of_binance_is_found_and_a_snapshot_asked_for() -> None:
    path, symbol = HFT["binance"]
    heard = list(hftbacktest(path, symbol, 2000))
    lost = [frame.number for frame in heard if "depth" in frame.text][50]
    wanted = (Instrument(instrument_id="BTC", symbol=symbol),)
    _, actions = hear(VENUES["binance"], wanted, [f for f in heard if f.number != lost])
    (trouble,) = troubles(actions)
    assert trouble.reason.endswith("are missing")
    assert type(actions[actions.index(trouble) + 1]).__name__ == "Fetch"


def test_event_times_ahead_of_our_clock_are_no_reason_to_refuse_a_frame() -> None:
    path, symbol = HFT["binance"]
    pages, _ = hear(
        VENUES["binance"],
        (Instrument(instrument_id="BTC", symbol=symbol),),
        list(hftbacktest(path, symbol, 300)),
    )
    told = conform(trades.TABLE, parse_trades(pages)).collect()
    assert told.height
    assert (told["event_at"] > told["ingested_at"]).all()
    assert told.filter(pl.col("reasons").list.len() > 0).is_empty()


TARDIS = {
    # The file: our stream; trades and book changes that are alike; those of theirs that are left over.
    "binance": ("binance", 4, 2),
    "binance_futures": ("binanceusdm", 3, 1),
    "binance_delivery": ("binancecoinm", 3, 1),
    "bitfinex": ("bitfinex", 5, 0),
    "bitstamp": ("bitstamp", 4, 2),
    "bybit": ("bybit", 6, 18),
    "bybit_spot": ("bybit", 7, 2),
    "coinbase": ("coinbaseexchange", 5, 1),
    "deribit": ("deribit", 8, 0),
    "kraken_v2": ("kraken", 3, 0),
    "okex": ("okx", 4, 3),
    "okex-futures": ("okx", 3, 7),
    "polymarket": ("polymarket", 6, 4),
}


def ours(said: object) -> tuple | None:
    """What we read, in the words of tardis-dev: kind, numbers, side or whether it is whole."""
    if isinstance(said, Trade):
        number = said.trade_id.removeprefix("raw-")
        return ("trade", number, float(said.price), float(said.amount), said.side)
    if isinstance(said, BookSaid):
        sides = (
            tuple((float(level[0]), float(level[1])) for level in side) for side in (said.bids, said.asks)
        )
        return ("book_change", said.is_snapshot, *sides)
    return None


def theirs(record: dict) -> tuple:
    if record["type"] == "trade":
        return ("trade", record["id"], record["price"], record["amount"], record["side"])
    sides = (tuple((level["price"], level["amount"]) for level in record[side]) for side in ("bids", "asks"))
    return ("book_change", record["isSnapshot"], *sides)


def read_all(stream: VenueStream, group: dict) -> Iterator[tuple]:
    topics = {key: Topic(key, "base") for key in re.findall(r"\d{60,}", json.dumps(group))}
    for message in group["messages"]:
        try:
            read = stream.read(json.dumps(message), topics)
            yield from [one for one in map(ours, read) if one]
        except UNREADABLE:
            continue
        news = (said for said in read if isinstance(said, Subscribed))
        topics |= {said.key: Topic(said.symbol, "base", channel=said.channel) for said in news}


@pytest.mark.parametrize("name", TARDIS)
def test_trades_and_changes_are_read_as_tardis_dev_reads_them(name: str) -> None:
    """Left over are messages of protocols that are gone, snapshots that tardis-dev makes itself, one book with a
    price of "0.-10000" that we refuse, and trades of polymarket, which have no id here."""
    stream, alike, left_over = TARDIS[name]
    said = json.loads((WS / "tardis-node" / f"{name}.json").read_text())
    groups = said if isinstance(said, list) else [said]
    told = Counter(one for group in groups for one in read_all(VENUES[stream], group))
    records = [record for group in groups for records in group["expected"] for record in records or []]
    wanted = Counter(theirs(r) for r in records if r and r["type"] in ("trade", "book_change"))
    assert ((told & wanted).total(), (wanted - told).total()) == (alike, left_over)
