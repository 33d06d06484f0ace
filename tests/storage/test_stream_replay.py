"""Recorded sessions of real venues over a real WebSocket: recorder, spool, bronze, silver; nothing is lost on the way.

The captures lie beside the repository (`sources.twin.captures` says whose they are). Frames are sent faster than they
were recorded, REST snapshots are asked for and served as they were recorded, so a snapshot comes at another frame than
it did: books are compared where they are believed in both.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse.bronze import bronze_table, pages_frame
from lakehouse.conform import conform
from lakehouse.gaps import things
from lakehouse.ledger import promote_coverage
from lakehouse.ops import COVERAGE, QUARANTINE
from lakehouse.promotion import promote_pages
from lakehouse.publish import Run
from lakehouse.settings import Settings
from lakehouse.silver import trades as trades_table
from lakehouse.verdict import Verdict
from sources.client import Client
from sources.errors import ParseError
from sources.recorder.instruments import with_markets
from sources.recorder.recording import Recorder, Rhythm
from sources.registry import feed
from sources.stream import UNPROVEN, Frame, Instrument, page_of
from sources.twin.captures import CAPTURES
from sources.twin.server import Twin, serving
from sources.twin.sessions import RecordedSession
from sources.twin.websocket import Sockets, recorded_scripts
from sources.venues import FALLBACKS, venue
from sources.venues.session import StreamSession

RECORDED = Path(__file__).parents[2] / "../shared/recorded/ws"
QUICK = Rhythm(land_s=0.1, tell_s=0.2, beat_s=0.02, tick_s=0.1, retry_s=30, late=timedelta(seconds=0.2))
"""The twin closes at the end of a recording: that it would begin again half a minute later is not waited for."""
PLAYED_S = 2.0
AT_ONCE = ("BITFINEX", "DERIBIT", "kraken-BTC-USD")
SHORT = ("BINANCE", "OKX", *AT_ONCE)
NATIVE = tuple(name for name, one in CAPTURES.items() if one.stream not in FALLBACKS)
EXPECTED = {"BINANCE": 4, "OKX": 3, "BITFINEX": 7, "DERIBIT": 10, "kraken-BTC-USD": 1}

pytestmark = pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded sessions are not here")


def now() -> datetime:
    return datetime.now(UTC)


RUN = Run(run_id="test", code_version="0", now=now)


def instruments(name: str, session: RecordedSession) -> list[Instrument]:
    """All instruments of a capture; their ids are the venue's symbols here, Bybit's contracts marked as such."""
    digits = {"price_digits": 1, "amount_digits": 8} if name.startswith("kraken") else {}
    kind = ":USDT" if name == "BYBIT-linear" else ""
    symbols = CAPTURES[name].symbols_of(session)
    return [Instrument(instrument_id=one + kind, symbol=one, **digits) for one in symbols]


def stream_of(name: str):
    """The stream of a capture; the one of Kraken was subscribed with ten levels."""
    stream = venue(CAPTURES[name].stream)
    depth = {"depth": 10} if name.startswith("kraken") else {}
    return type(stream)(**{**vars(stream), **depth})


def sessions_of(name: str, wanted: list[Instrument]) -> list[StreamSession]:
    """The session whose frames were captured: of Binance's USD-M that is the one of books."""
    stream = stream_of(name)
    channels = tuple(one for one in ("trades", "book") if one not in stream.apart or one == "book")
    return [stream.session(tuple(wanted), channels)]


def replay(store, home, name: str, recorded: RecordedSession, sessions_for) -> list[list[str]]:
    """Play a capture to a recorder until it is over; what the twin sent."""
    said_at = [event.at for event in recorded.events if event.kind == "recv"]
    speed = max(1.0, (said_at[-1] - said_at[0]).total_seconds() / PLAYED_S)
    sockets = Sockets(recorded_scripts([recorded], speed=speed))
    with (
        serving(Twin(recorded.recordings, sockets=sockets)) as url,
        Client(Settings(home=home, twin_url=url)) as client,
    ):
        stream = stream_of(name)
        recorder = Recorder(
            stream,
            sessions_for(client),
            store=store,
            client=client,
            run=RUN,
            home=home,
            rhythm=QUICK,
            beat=lambda pulse: pulse.disconnects and recorder.stop(),
        )
        recorder.run(seconds=300)
    return sockets.sent


def received(store, stream: str) -> list[str]:
    """The texts that bronze holds of the one connection, in order."""
    pages = store.open(bronze_table(f"stream_{stream}")).scan().sort("sequence").collect()
    assert pages["connection_id"].n_unique() == 1
    assert pages["sequence"].to_list() == list(range(pages.height))
    return [
        row["body"].decode()
        for row in pages.select("request", "body").iter_rows(named=True)
        if orjson.loads(row["request"])["kind"] == "recv"
    ]


def pages_of_file(session: StreamSession, recorded: RecordedSession) -> pl.DataFrame:
    """The pages that a recorder would have written while the session was recorded."""
    abouts: dict[str, str] = {}
    pages = []

    def note(kind: str, at: datetime, text: str, about: str = "") -> None:
        frame = Frame(len(pages), at, kind, text, about)
        heard = session.hear(frame)
        pages.append(page_of(session, frame, heard, connection_id="file"))
        learn(heard.actions)

    def learn(actions) -> None:
        abouts.update({one.url: one.about for one in actions if hasattr(one, "about")})

    learn(session.opening(recorded.events[0].at))
    for event in recorded.events:
        if event.kind == "recv":
            note("recv", event.at, event.text)
        elif event.kind == "http" and event.url in abouts:
            note("http", event.at, event.text, abouts[event.url])
    note("disconnect", recorded.events[-1].at, "end")
    return pages_frame(pages, run_id="test", code_version="0")


def same_changes(here: pl.DataFrame, there: pl.DataFrame, *, asks_rest: bool) -> None:
    """The same changes in the same order; but for REST snapshots, which come at another frame."""
    columns = ["instrument_id", "last_sequence", "bid_prices", "bid_amounts", "ask_prices", "ask_amounts"]
    told = [
        rows.filter(~pl.col("is_snapshot") | (not asks_rest)).sort("frame", "part").select(columns)
        for rows in (here, there)
    ]
    assert told[0].height > 0
    assert_frame_equal(*told)


def holding(books: pl.DataFrame) -> int:
    """How many books are whole from their first snapshot to the end."""
    found = [book["is_valid"] for book in books.sort("frame", "part").partition_by("instrument_id")]
    return sum(bool(valid.any() and valid[int(valid.arg_max()) :].all()) for valid in found)


def promote(store, stream: str, name: str) -> pl.DataFrame:
    """All of one silver table, with what the ledger makes of it."""
    source = feed(f"stream_{stream}_{name}")
    promote_pages(
        store,
        source.table,
        source.bronze,
        source.parse,
        judge=lambda batch: Verdict(batch=batch, findings=(), reasons={}),
        run=RUN,
        parse_error=ParseError,
        streaming=source.streaming,
    )
    promote_coverage(store, source.source)
    return store.open(source.table).scan().collect()


def parsed(stream: str, name: str, pages: pl.DataFrame) -> pl.DataFrame:
    """What the pure parser makes of pages, as silver has it."""
    source = feed(f"stream_{stream}_{name}")
    return conform(source.table, source.parse(pages)).collect()


@pytest.mark.parametrize(
    "name", [name if name in SHORT else pytest.param(name, marks=pytest.mark.slow) for name in NATIVE]
)
def test_a_recorded_session_comes_through_whole(store, tmp_path, name):
    capture = CAPTURES[name]
    recorded = capture.session(RECORDED)
    wanted = instruments(name, recorded)
    sent = replay(store, tmp_path, name, recorded, lambda _client: sessions_of(name, wanted))
    texts = [event.text for event in recorded.events if event.kind == "recv"]
    assert sent == [texts]
    assert received(store, capture.stream) == texts
    there = pages_of_file(sessions_of(name, wanted)[0], recorded)
    ids = {"trade_id", "price", "amount", "side"}
    trades = promote(store, capture.stream, "trades").select(ids).sort("trade_id")
    assert_frame_equal(trades, parsed(capture.stream, "trades", there).select(ids).unique().sort("trade_id"))
    books = promote(store, capture.stream, "book_updates")
    same_changes(books, parsed(capture.stream, "book_updates", there), asks_rest=bool(capture.snapshot))
    assert holding(books) == EXPECTED.get(name, len(wanted))
    assert unreadable(store) == 0


def unreadable(store) -> int:
    """Pages in quarantine."""
    held = store.find(QUARANTINE)
    return held.scan().collect().height if held else 0


def test_an_exchange_without_a_module_is_recorded_by_ccxt_and_never_called_complete(
    store, tmp_path, monkeypatch
):
    """Coinbase from its own list of markets on, as captured; what ccxt makes of it is checked against the texts."""
    recorded = CAPTURES["COINBASE"].session(RECORDED)
    asked = [Instrument(instrument_id=one, symbol=one) for one in ("BTC/USD", "ETH/USD")]

    def sessions(client: Client) -> list[StreamSession]:
        wanted = with_markets(client, "coinbase", asked)
        return list(FALLBACKS["coinbase"].sessions(wanted, ("trades", "book")))

    texts = [event.text for event in recorded.events if event.kind == "recv"]
    assert replay(store, tmp_path, "COINBASE", recorded, sessions) == [texts]
    assert received(store, "coinbase") == texts

    said = [message for message in map(orjson.loads, texts) if message["channel"] == "market_trades"]
    told = {one["trade_id"]: one for each in said for event in each["events"] for one in event["trades"]}
    trades = promote(store, "coinbase", "trades")
    assert set(trades["trade_id"]) == set(told)
    for row in trades.iter_rows(named=True):
        one = told[row["trade_id"]]
        assert (row["price"], row["amount"], row["side"].upper()) == (
            float(one["price"]),
            float(one["size"]),
            one["side"],
        )
    monkeypatch.setattr("lakehouse.promotion._MAX_COMMITS_OF_STREAMS", 4)
    bit_by_bit = promote(store, "coinbase", "book_updates").sort("frame", "part")
    pages = store.open(bronze_table("stream_coinbase")).scan().collect()
    at_once = parsed("coinbase", "book_updates", pages).select(bit_by_bit.columns)
    assert_frame_equal(bit_by_bit, at_once.sort("frame", "part"))
    assert holding(bit_by_bit) == 2
    assert promote(store, "coinbase", "book_snapshots").height > 2
    assert unreadable(store) == 0
    ledger = things(store.open(COVERAGE).scan(), trades_table.TABLE)
    intervals = [one for _, found in ledger for one in found]
    assert {one.status for one in intervals} == {"degraded", "missing"}
    assert {one.cannot_show for one in intervals if one.proof == UNPROVEN} == {
        FALLBACKS["coinbase"].cannot_show["trades"]
    }
