"""Whatever happens to a recorder on the way: the same silver from the same frames, and the ledger admits the rest.

Recorded frames of real venues go through sessions, journal, spool, landing, bronze and promotions, all of them real;
only sockets and time are not (frames that nobody can read come over real sockets, too). A life says how many frames
come, when they land and in what pieces, when a connection is cut, when the recorder is killed (it leaves its spool, and
the frames of a moment are lost), when the process that was landing for a killed recorder goes on nevertheless, and what
is promoted in between.
"""

import itertools
import random
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from lakehouse.bronze import bronze_table
from lakehouse.gaps import things
from lakehouse.ledger import promote_coverage
from lakehouse.ops import COVERAGE, QUARANTINE
from lakehouse.promotion import promote_pages
from lakehouse.publish import Run
from lakehouse.rebuild import rebuild_pages
from lakehouse.settings import Settings
from lakehouse.silver import trades as trades_table
from lakehouse.store import Store, open_store
from lakehouse.verdict import Verdict
from sources.client import Client
from sources.errors import ParseError
from sources.feed import Feed
from sources.recorder.journal import Journal, Tally
from sources.recorder.landing import Landing
from sources.recorder.recording import Recorder, Rhythm
from sources.registry import feed
from sources.spool import Pace, Spool
from sources.stream import Frame, Instrument, page_of
from sources.twin.server import Twin, serving
from sources.twin.websocket import Sockets, fuzzed
from sources.venues import VENUES, parse_trades
from sources.venues.session import StreamSession, VenueStream


def sibling(name: str):
    """A module of the tests beside this folder."""
    spec = spec_from_file_location(name, Path(__file__).parents[1] / "sources" / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


recorded, by_hand = sibling("test_venues_recorded"), sibling("test_venues")
MOST_FRAMES = 500
SMALL = Pace(segment_bytes=1 << 15)
TABLES = ("trades", "book_updates", "book_snapshots")
CONNECTIONS = itertools.count()
RUN = Run(run_id="test", code_version="0", now=lambda: datetime.now(UTC))
needs_recordings = pytest.mark.skipif(
    not recorded.WS.is_dir(), reason="the recorded sessions are not beside the repository"
)


class Told:
    """What a venue said over one connection."""

    def __init__(self, stream: VenueStream, wanted: Sequence[Instrument], frames: Sequence[Frame]) -> None:
        self.stream, self.wanted = stream, tuple(wanted)
        self.frames = sorted(frames, key=lambda frame: frame.received_at)
        pages, _ = recorded.hear(stream, self.wanted, self.frames)
        trades = parse_trades(pages).select("instrument_id", "trade_id", "event_at").collect()
        self.trades = trades.unique()


@cache
def told(name: str) -> Told:
    if name == "KRAKEN v2":
        return Told(*recorded.kraken_v2())
    if name == "BYBIT":
        frames = recorded.frames(name, connection="BYBIT.ws.2")[:MOST_FRAMES]
        pattern = r'"topic":\s*"(?:orderbook\.\d+|publicTrade)\.(\w+)"'
        return Told(recorded.VENUES["bybit"], recorded.instruments(frames, pattern), frames)
    stream, pattern, snapshots, _ = recorded.CAPTURES[name]
    every = recorded.frames(name, snapshots=snapshots)
    return Told(recorded.VENUES[stream], recorded.instruments(every, pattern), every[:MOST_FRAMES])


class Process:
    """A recorder without its sockets, from its start until it ends or is killed."""

    def __init__(self, store: Store, home: Path, said: Told, now: datetime) -> None:
        self._session = StreamSession(said.stream, said.wanted, ("trades", "book"))
        self._spool = Spool(home / "spool", pace=SMALL)
        self._journal = Journal(self._spool, tally=Tally())
        self._journal.recover([self._spool.found], now)
        lines = [(one.instrument_id, channel) for one in said.wanted for channel in self._session.channels]
        self._journal.begin(self._session.subject, said.stream.venue, lines, now)
        self._landing = Landing(
            store, self._session.feed, self._spool.folder, run_id="test", code_version="0"
        )
        self._connect(now)

    def hear(self, frame: Frame) -> None:
        numbered = frame._replace(number=self._number)
        self._number += 1
        heard = self._session.hear(numbered)
        page = page_of(self._session, numbered, heard, connection_id=self._id)
        self._journal.keep(page, heard.actions, since_s=0.0)

    def tell(self, now: datetime) -> None:
        self._journal.tell(now)

    def cut(self, lost_at: datetime, now: datetime) -> None:
        self._disconnect(lost_at)
        self._session = self._session.again()
        self._connect(now)

    def durable(self) -> int:
        self._spool.sync()
        return self._spool.durable

    def land(self, upto: int, most_bytes: int = 1 << 30) -> None:
        while (landed := self._landing.land(upto, most_bytes=most_bytes)).upto < upto:
            self._spool.forget(landed.upto)

    def kill(self) -> None:
        self._spool.close()

    def end(self, now: datetime) -> None:
        self._disconnect(now)
        self._journal.end(now)
        self.land(self.durable())
        self._spool.close()

    def _connect(self, now: datetime) -> None:
        self._id = f"{now:%Y%m%dT%H%M%S%f}-{next(CONNECTIONS):09d}"
        self._number = 0
        self._session.opening(now)
        self.hear(Frame(0, now, "connect", ""))

    def _disconnect(self, now: datetime) -> None:
        self.hear(Frame(0, now, "disconnect", "lost"))


class Life:
    """What becomes of the frames of a venue."""

    def __init__(self, folder: Path, said: Told) -> None:
        self.said, self._home = said, folder
        self.store = open_store(Settings(home=folder, lake=str(folder / "lake")))
        self._at, self._orphans = 0, []
        self._process = Process(self.store, folder, said, self.now)
        self.heard: list[list[str]] = [[]]

    @property
    def now(self) -> datetime:
        return self.said.frames[min(self._at, len(self.said.frames) - 1)].received_at

    def act(self, step: tuple) -> None:
        name, *how = step
        getattr(self, name)(*how)

    def hear(self, count: int) -> None:
        for frame in self.said.frames[self._at : self._at + count]:
            self._process.hear(frame)
            self.heard[-1].append(frame.text)
        self._at += count

    def land(self, most_bytes: int) -> None:
        self._process.land(self._process.durable(), most_bytes)

    def tell(self) -> None:
        self._process.tell(self.now)

    def cut(self, lost: int) -> None:
        cut_at = self.now
        self._at += lost
        self._process.cut(cut_at, self.now)
        self.heard.append([])

    def kill(self, lost: int) -> None:
        self._orphans.append((self._process, self._process.durable()))
        self._process.kill()
        self._at += lost
        self._process = Process(self.store, self._home, self.said, self.now)
        self.heard.append([])

    def orphan(self) -> None:
        """The process that landed for a recorder that was killed does its last order."""
        if self._orphans:
            process, upto = self._orphans.pop()
            process._landing.land(upto)

    def promote(self, number: int) -> None:
        promote(self.store, self.feed(TABLES[number]))

    def end(self) -> None:
        self._process.end(self.now)

    def feed(self, name: str) -> Feed:
        return feed(f"stream_{self.said.stream.name}_{name}")


def promote(store: Store, source: Feed) -> None:
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


def rebuilt(store: Store, source: Feed) -> pl.DataFrame:
    rebuild_pages(
        store,
        source.table,
        [(source.bronze, source.parse)],
        judge=lambda batch: Verdict(batch=batch, findings=(), reasons={}),
        run=RUN,
        parse_error=ParseError,
        streaming={source.bronze.name: source.streaming},
    )
    return store.open(source.table).scan().collect()


def received(store: Store, stream: str, kinds: Sequence[str] = ("recv", "send", "http")) -> list[list[str]]:
    """What bronze holds, connection by connection; it fails where a frame is there twice or not."""
    pages = store.open(bronze_table(f"stream_{stream}")).scan().sort("connection_id", "sequence").collect()
    found = []
    for one in pages.partition_by("connection_id", maintain_order=True):
        assert one["sequence"].to_list() == list(range(one.height))
        said = [orjson.loads(request)["kind"] for request in one["request"]]
        bodies = zip(said, one["body"].to_list(), strict=True)
        found.append([body.decode() for kind, body in bodies if kind in kinds])
    return found


def unexplained(store: Store, said: Told) -> pl.DataFrame:
    """Trades that the venue told of, that silver does not hold and that the ledger does not admit to miss."""
    held = store.open(trades_table.TABLE).scan().select("instrument_id", "trade_id").collect()
    missing = said.trades.join(held, on=["instrument_id", "trade_id"], how="anti")
    whole = {
        thing["instrument_id"]: [one.window for one in intervals if one.status == "complete"]
        for thing, intervals in things(store.open(COVERAGE).scan(), trades_table.TABLE)
    }
    is_whole = [
        any(at in window for window in whole.get(instrument_id, ()))
        for instrument_id, _, at in missing.iter_rows()
    ]
    return missing.filter(pl.Series(is_whole, dtype=pl.Boolean))


STEPS = st.one_of(
    st.tuples(st.just("hear"), st.integers(1, 150)),
    st.tuples(st.just("hear"), st.integers(1, 150)),
    st.tuples(st.just("land"), st.sampled_from([1 << 12, 1 << 15, 1 << 30])),
    st.tuples(st.just("promote"), st.integers(0, len(TABLES) - 1)),
    st.tuples(st.just("tell")),
    st.tuples(st.just("cut"), st.integers(0, 60)),
    st.tuples(st.just("kill"), st.integers(0, 60)),
    st.tuples(st.just("orphan")),
)


def live(name: str, steps: Sequence[tuple]) -> None:
    with TemporaryDirectory() as folder:
        life = Life(Path(folder), told(name))
        for step in steps:
            life.act(step)
        life.hear(MOST_FRAMES)
        life.end()
        life.orphan()
        assert received(life.store, life.said.stream.name) == life.heard
        for table in TABLES:
            source = life.feed(table)
            promote(life.store, source)
            bit_by_bit = life.store.open(source.table).scan().collect()
            assert_frame_equal(bit_by_bit, rebuilt(life.store, source), check_row_order=False)
        assert unexplained(life.store, life.said).is_empty()


VENUES_TOLD = [*recorded.CAPTURES, "BYBIT", "KRAKEN v2"]


@needs_recordings
@settings(max_examples=6)
@given(name=st.sampled_from(VENUES_TOLD), steps=st.lists(STEPS, max_size=12))
def test_whatever_happens_to_a_recorder_silver_is_the_same_and_the_ledger_admits_the_rest(name, steps):
    live(name, steps)


@needs_recordings
@pytest.mark.thorough
@pytest.mark.parametrize("name", VENUES_TOLD)
@settings(max_examples=40)
@given(steps=st.lists(STEPS, max_size=20))
def test_whatever_happens_to_the_recorder_of_each_venue(name, steps):
    live(name, steps)


class Fuzzing:
    """A venue that repeats some frames and mostly garbles them; it goes on where it was over the next connection."""

    is_over = False

    def __init__(self, texts: Sequence[str], chance: random.Random) -> None:
        garbled = [fuzzed(text, chance) for text in texts for _ in range(20)]
        self._texts = [*texts, *chance.sample(garbled, len(garbled)), *texts]

    def hear(self, _text: str) -> Sequence[str]:
        return ()

    def due(self, _elapsed_s: float) -> Iterator[str]:
        while self._texts:
            yield self._texts.pop(0)

    @property
    def is_over_soon(self) -> bool:
        """Whether all was said; the connection stands."""
        return not self._texts


def told_by_hand(name: str) -> list[str]:
    """Frames of a stream as its venue documents them; those of both futures of Binance are alike."""
    alike = {"binancecoinm": "binanceusdm"}.get(name, name)
    subscribed = '{"event":"subscribed","channel":"book","chanId":7,"symbol":"BTCUSDT","prec":"P0"}'
    return [subscribed] * (name == "bitfinex") + [text for told, text in by_hand.FRAMES if told == alike]


def record_fuzzed(name: str, home: Path) -> None:
    """Record one venue until it has said all; everything is in bronze, and what nobody can read in quarantine."""
    stream, script = VENUES[name], Fuzzing(told_by_hand(name), random.Random(name))
    wanted = Instrument(instrument_id="BTC/USDT", symbol="BTCUSDT", price_digits=1, amount_digits=8)
    sessions = stream.sessions([wanted], [one for one in stream.channels if one != "orders"])
    addresses = [urlsplit(one.url) for one in sessions]
    sockets = Sockets({f"{one.netloc}{one.path}".rstrip("/"): lambda: script for one in addresses})
    with serving(Twin([], sockets=sockets)) as url:
        offline = Settings(home=home, lake=str(home / "lake"), twin_url=url)
        store = open_store(offline)
        with Client(offline) as client:
            recorder = Recorder(
                stream,
                sessions,
                store=store,
                client=client,
                run=RUN,
                home=home,
                rhythm=Rhythm(land_s=0.2, beat_s=0.05, tick_s=0.1, retry_s=0.05),
                pace=SMALL,
                beat=lambda pulse: script.is_over_soon and pulse.silent_s > 0.4 and recorder.stop(),
            )
            pulse = recorder.run(seconds=120)
    assert pulse.unreadable > 5
    for here in received(store, name, kinds=("recv",)):
        assert here in [there[: len(here)] for there in sockets.sent]
    source = feed(f"stream_{name}_{'trades' if 'trades' in stream.channels else 'book_updates'}")
    promote(store, source)
    held = store.open(QUARANTINE).scan().filter(pl.col("row").is_null()).collect()
    assert held.height == pulse.unreadable


def test_no_frame_of_any_venue_ends_its_recorder_and_what_nobody_can_read_is_held(tmp_path):
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(record_fuzzed, name, tmp_path / name) for name in VENUES]:
            done.result()
