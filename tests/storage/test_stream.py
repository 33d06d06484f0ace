"""A made-up Kraken over a real WebSocket, the recorder, bronze, silver and the ledger: what was sent is there, once."""

import itertools
import json
import os
import random
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from lakehouse.bronze import Page, bronze_table
from lakehouse.errors import UsageError
from lakehouse.gaps import picture, things
from lakehouse.ledger import promote_coverage
from lakehouse.ops import COVERAGE, QUARANTINE
from lakehouse.promotion import promote_pages
from lakehouse.publish import Run
from lakehouse.rebuild import rebuild_pages
from lakehouse.settings import Settings
from lakehouse.silver import trades as trades_table
from lakehouse.verdict import Verdict
from sources.client import Client
from sources.errors import ParseError
from sources.feed import Feed
from sources.ingest import ingest
from sources.recorder.entry import write_entry
from sources.recorder.lander import Lander, LandingFailed
from sources.recorder.recording import NotLanded, Recorder, Rhythm
from sources.recorder.streaming import record_stream
from sources.registry import feed
from sources.repair import Repairs
from sources.spool import Pace, Spool, SpoolFailed
from sources.stream import Instrument
from sources.twin.kraken import STREAM, MadeUpKraken
from sources.twin.server import Twin, serving
from sources.twin.websocket import FAULTS, Faults, Sockets, fuzzed
from sources.venues import venue

KRAKEN = venue("kraken")
BTC = Instrument(instrument_id="BTC/USD", symbol="BTC/USD", price_digits=1, amount_digits=8)
QUICK = Rhythm(land_s=0.1, tell_s=0.2, beat_s=0.02, tick_s=0.1, retry_s=0.05, late=timedelta(seconds=0.2))
SMALL = Pace(segment_bytes=1 << 18)
BRONZE = bronze_table("stream_kraken")
CHANNELS = ("trades", "book")
TABLES = ("trades", "book_updates", "book_snapshots")


def now() -> datetime:
    return datetime.now(UTC)


RUN = Run(run_id="test", code_version="0", now=now)


class Stage:
    """A made-up Kraken behind the twin."""

    def __init__(self, market: MadeUpKraken, faults: Faults | None = None) -> None:
        self.market = market
        self.sockets = Sockets({STREAM: market.connection}, faults=faults)
        self.twin = Twin([], sockets=self.sockets, made_up=market.answer_to)

    def is_over(self, pulse) -> bool:
        """Whether all that the market will ever tell the one connection was sent and recorded."""
        asked = [text for texts in self.sockets.received for text in texts]
        if self.market.made < self.market.most or sum("subscribe" in text for text in asked) < len(CHANNELS):
            return False
        said = self.sockets.sent[-1]
        told_last = said[-1] == self.market.log[-1][1] or '"type":"snapshot"' in said[-1]
        return told_last and pulse.frames > len(said) + len(asked)  # that it connected is a frame, too


def record(store, home, url, *, until, channels=CHANNELS, stream=KRAKEN, **more):
    """Record until `until(pulse)` is true; the last pulse."""
    how = {"run": RUN, "rhythm": QUICK, "pace": SMALL, **more}
    settings = Settings(home=home, twin_url=url)
    with Client(settings) as client:
        recorder = Recorder(
            stream,
            stream.sessions([BTC], channels),
            store=store,
            client=client,
            home=home,
            beat=lambda pulse: until(pulse) and recorder.stop(),
            **how,
        )
        return recorder.run(seconds=600)


def promote(store, name: str, source: Feed | None = None) -> pl.DataFrame:
    source = source or feed(f"stream_kraken_{name}")
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


def received(store) -> list[list[str]]:
    """The texts that bronze holds, connection by connection, in order; it fails where a frame is there twice or not."""
    pages = store.open(BRONZE).scan().sort("connection_id", "sequence").collect()
    found = []
    for connection in pages.partition_by("connection_id", maintain_order=True):
        numbers = connection["sequence"].to_list()
        assert numbers == list(range(len(numbers)))
        assert connection["received_at"].is_sorted()
        kinds = [orjson.loads(request)["kind"] for request in connection["request"]]
        bodies = connection["body"].to_list()
        found.append([body.decode() for kind, body in zip(kinds, bodies, strict=True) if kind == "recv"])
    return found


def test_every_frame_is_in_bronze_once_and_in_order(store, tmp_path):
    stage = Stage(MadeUpKraken(per_s=5000, most=2000))
    with serving(stage.twin) as url:
        pulse = record(store, tmp_path, url, until=stage.is_over)
    assert received(store) == stage.sockets.sent
    assert pulse.spooled_frames == 0
    assert pulse.frames == pulse.landed_frames
    assert sum(text.count('"trade","type":"update"') for text in stage.sockets.sent[0]) > 500


def unexplained(store, market: MadeUpKraken) -> list[int]:
    """Trades that silver does not hold and that the ledger does not admit to miss."""
    held = set(promote(store, "trades")["trade_id"].cast(pl.Int64))
    ledger = store.open(COVERAGE).scan()
    intervals = [one for _, found in things(ledger, trades_table.TABLE) for one in found]
    complete = [one.window for one in intervals if one.status in ("complete", "repaired")]
    return [
        trade.number
        for trade in market.trades
        if trade.number not in held and any(happened(trade) in window for window in complete)
    ]


def happened(trade) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=trade.at_ns // 1_000_000)


def covered_share(store) -> float:
    """Which part of the time that the ledger speaks of it says is whole."""
    ledger = picture(store.open(COVERAGE).scan().filter(pl.col("table") == "silver.trades"))
    lengths = ledger.with_columns(s=(pl.col("end") - pl.col("start")).dt.total_microseconds())
    whole = lengths.filter(pl.col("status").is_in(["complete", "repaired"]))["s"].sum()
    return whole / lengths["s"].sum()


def test_what_was_recorded_becomes_the_venues_trades_and_valid_books(store, tmp_path):
    stage = Stage(MadeUpKraken(per_s=2000, most=600))
    with serving(stage.twin) as url:
        record(store, tmp_path, url, until=stage.is_over)
    rows = promote(store, "trades").sort(pl.col("trade_id").cast(pl.Int64))
    market = stage.market.trades
    assert rows["trade_id"].to_list() == [str(one.number) for one in market]
    assert rows["price"].to_list() == [float(one.price) for one in market]
    books = promote(store, "book_updates")
    assert books["is_valid"].all()
    (said,) = stage.sockets.sent
    assert books.height == sum('"channel":"book","type"' in text for text in said)


def test_how_frames_were_cut_into_batches_cannot_be_seen_in_silver(store, tmp_path, monkeypatch):
    stage = Stage(MadeUpKraken(per_s=300, book_share=0.8), Faults(kinds=("gap", "alter"), every_s=0.3))
    back = itertools.chain(
        [timedelta(0)] * 40, itertools.repeat(timedelta(seconds=0.2))
    )  # the clock is set right
    with serving(stage.twin) as url:
        record(
            store,
            tmp_path,
            url,
            run=replace(RUN, now=lambda: now() - next(back)),
            rhythm=replace(QUICK, land_s=0.4),
            until=lambda pulse: pulse.frames > 300,
        )
    monkeypatch.setattr("lakehouse.promotion._MAX_COMMITS_OF_STREAMS", 1)
    assert received(store)
    for name in TABLES:
        bit_by_bit = promote(store, name)
        assert bit_by_bit.height > 0
        source = feed(f"stream_kraken_{name}")
        rebuild_pages(
            store,
            source.table,
            [(source.bronze, source.parse)],
            judge=lambda batch: Verdict(batch=batch, findings=(), reasons={}),
            run=RUN,
            parse_error=ParseError,
            streaming={source.bronze.name: source.streaming},
        )
        at_once = store.open(source.table).scan().collect()
        assert_frame_equal(bit_by_bit, at_once, check_row_order=False)


class Nursery:
    """Processes of recorders, see recorders.py."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("recorders.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )

    def start(self, store, home: Path, url: str, late_s: float) -> int:
        lake = store.settings.model_dump(mode="json") | {
            "s3_secret_key": store.settings.s3_secret_key.get_secret_value()
        }
        return self._ask({"start": {"lake": lake, "home": str(home), "url": url, "late_s": late_s}})

    def wait(self, pid: int) -> int:
        return self._ask({"wait": pid})

    def close(self) -> None:
        self._process.communicate()

    def _ask(self, question: dict) -> int:
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@pytest.fixture
def nursery():
    made = Nursery()
    yield made
    made.close()


def wait_for(condition) -> None:
    """Until it holds; a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.thorough)])
def test_a_killed_recorder_loses_nothing_that_was_durable_and_admits_the_rest(
    store, tmp_path, nursery, kills, request
):
    seed = request.config.getoption("--seed") or secrets.randbelow(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    stage = Stage(MadeUpKraken(per_s=1000))
    sent = stage.sockets.sent
    with serving(stage.twin) as url:
        for number in range(kills + 1):
            pid = nursery.start(store, tmp_path, url, 0.3)
            wait_for(lambda: len(sent) > number and len(sent[number]) > 20)  # noqa: B023
            time.sleep(chance.uniform(0, 0.9))
            os.kill(pid, signal.SIGKILL if number < kills else signal.SIGTERM)
            assert nursery.wait(pid) == (-signal.SIGKILL if number < kills else 0)
    kept = received(store)
    assert len(kept) == kills + 1
    lost = [len(there) - len(here) for there, here in zip(sent, kept, strict=True)]
    assert all(here == there[: len(here)] for there, here in zip(sent, kept, strict=True))
    print(f"sent {sum(map(len, sent))}, not received or not yet durable {lost}")
    assert statistics.median(lost) < 1000  # less than a second's worth; a disk may hang for longer, once
    assert unexplained(store, stage.market) == []
    assert covered_share(store) > 0


def test_the_next_recorder_may_have_other_subjects(store, tmp_path):
    stage = Stage(MadeUpKraken(per_s=1000))
    with serving(stage.twin) as url:
        record(store, tmp_path, url, until=lambda pulse: pulse.frames > 100, channels=("book",))
        record(store, tmp_path, url, until=lambda pulse: pulse.frames > 100, channels=("trades",))
    for here, there in zip(received(store), stage.sockets.sent, strict=True):
        assert here == there[: len(here)]
        assert len(here) > 90


class Clock:
    """Time that passes so many times faster."""

    def __init__(self, speed: float) -> None:
        self._speed, self._begun, self._real = speed, time.time(), time.monotonic()

    def now_s(self) -> float:
        return self._begun + (time.monotonic() - self._real) * self._speed

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.now_s(), UTC)


def befell(faults: Faults, kind: str, word: str) -> bool:
    """Whether a frame with that word had that fault, and something else went wrong later: the recorder has it."""
    return any(one == kind and word in frame for one, frame in faults.injected[:-2])


@pytest.mark.parametrize(
    ("faults", "every_s", "speed", "per_s"),
    [
        pytest.param(6, 0.25, 1, 300, id="each kind once"),
        pytest.param(360, 0.5, 20, 30, id="an hour in three minutes", marks=pytest.mark.thorough),
    ],
)
def test_what_was_lost_to_faults_of_the_venue_is_admitted(store, tmp_path, faults, every_s, speed, per_s):
    clock = Clock(speed)
    going_wrong = Faults(kinds=FAULTS, every_s=every_s)
    stage = Stage(MadeUpKraken(per_s=per_s, book_share=0.7, now_s=clock.now_s), going_wrong)
    impatient = replace(KRAKEN, silent_at_most=timedelta(seconds=0.3 * speed))
    late = timedelta(seconds=0.2 * speed)
    with serving(stage.twin) as url:
        record(
            store,
            tmp_path,
            url,
            stream=impatient,
            run=replace(RUN, now=clock.now),
            rhythm=replace(QUICK, late=late),
            until=lambda _: len(going_wrong.injected) >= faults and befell(going_wrong, "alter", "checksum"),
        )
    assert unexplained(store, stage.market) == []
    assert covered_share(store) > 0
    kept = received(store)
    assert all(here == there[: len(here)] for here, there in zip(kept, stage.sockets.sent, strict=True))
    books = promote(store, "book_updates")
    assert books["is_valid"].any()
    assert not books["is_valid"].all()


def test_trades_that_were_missed_are_fetched_over_rest_and_the_ledger_says_repaired(store, tmp_path):
    gaps = Faults(kinds=("gap",), every_s=0.2)
    stage = Stage(MadeUpKraken(per_s=400), gaps)
    settings = Settings(home=tmp_path)
    with serving(stage.twin) as url, Client(settings.model_copy(update={"twin_url": url})) as client:

        def fetch(subject, window):
            ingest(store, feed("ccxt_trades"), subject, window, client=client, run=RUN)

        with Repairs(fetch, now, settles_after=timedelta(0)) as repairs:
            record(store, tmp_path, url, missed=repairs.miss, until=lambda _: befell(gaps, "gap", "trade_id"))
        assert repairs.failed == []
        assert repairs.done
    promote(store, "trades")
    promote(store, "trades", source=feed("ccxt_trades"))
    rows = store.open(trades_table.TABLE).scan().collect()
    last = max(int(one) for one in rows["trade_id"])
    assert sorted(rows["trade_id"].cast(pl.Int64)) == list(range(1, last + 1))
    ledger = things(store.open(COVERAGE).scan(), trades_table.TABLE)
    assert "repaired" in {one.status for _, intervals in ledger for one in intervals}
    assert unexplained(store, stage.market) == []


def test_frames_that_nobody_can_read_are_kept_and_held_and_the_recorder_goes_on(store, tmp_path):
    chance = random.Random(7)
    market = MadeUpKraken(per_s=1000, most=200)
    plain = market.go_on

    def fuzzed_too() -> None:
        before = len(market.log)
        plain()
        for number in range(before, len(market.log)):
            channel, text = market.log[number]
            if number % 25 == 24:
                market.log[number] = channel, fuzzed(text, chance)

    market.go_on = fuzzed_too
    stage = Stage(market)
    with serving(stage.twin) as url:
        pulse = record(store, tmp_path, url, until=stage.is_over)
    assert pulse.unreadable > 0
    (kept,), (said,) = received(store), stage.sockets.sent
    assert kept == said[: len(kept)]  # the recorder may have asked for the book anew just before its end
    promote(store, "trades")
    held = store.open(QUARANTINE).scan().filter(pl.col("row").is_null()).collect()
    assert held.height > 0
    assert unexplained(store, market) == []


def test_a_stream_of_an_instrument_that_is_not_known_says_how_it_becomes_known(store, tmp_path):
    with (
        Client(Settings(home=tmp_path)) as client,
        pytest.raises(UsageError, match="run `mnemo ingest ccxt_markets --subject kraken`"),
    ):
        record_stream("kraken", ["kraken:BTC/USD"], store=store, client=client, run=RUN)


def test_what_waits_in_the_spool_lands_once_the_store_answers(store, faulty, proxy, tmp_path):
    stage = Stage(MadeUpKraken(per_s=1000))
    with serving(stage.twin) as url:
        proxy.fail(kind="error 403")
        with pytest.raises(NotLanded, match="entries of stream kraken wait in the spool"):
            record(faulty, tmp_path, url, until=lambda pulse: pulse.frames > 300)
        proxy.fail()
        record(faulty, tmp_path, url, until=lambda pulse: pulse.frames > 100)
    for here, there in zip(received(store), stage.sockets.sent, strict=True):
        assert here == there[: len(here)]
        assert len(here) > 90


def test_a_recorder_whose_disk_fails_ends_and_says_so(store, tmp_path):
    stage = Stage(MadeUpKraken(per_s=2000))
    with serving(stage.twin) as url, pytest.raises(SpoolFailed, match="cannot be written"):
        record(
            store,
            tmp_path,
            url,
            until=lambda pulse: pulse.frames > 50 and shutil.rmtree(tmp_path / "spool", True),
        )


def test_when_the_process_that_lands_is_killed_another_one_goes_on(store, tmp_path):
    spool = Spool(tmp_path / "spool", pace=SMALL)
    spool.start(b"{}")
    lander = Lander(store, "stream_kraken", RUN)
    lander.start()
    lander._process.kill()
    spool.append(
        write_entry(Page(feed="stream_kraken", subject="s", request={}, received_at=now(), body=b"x"))
    )
    spool.sync()
    with pytest.raises(LandingFailed, match="has ended"):
        lander.land(spool, 1)
    assert [lander.land(spool, 1), lander.land(spool, 1)] == [(1, 1), (1, 0)]
    lander.close()
    spool.close()
    assert store.open(BRONZE).scan().collect()["body"].to_list() == [b"x"]
