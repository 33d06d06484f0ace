"""What a CPU second of one process does of live frames, and of the same frames in other libraries.

    python -m benchmarks.stream

Recorded frames of Binance (spot, USD-M, COIN-M of the same minutes) are read, validated and kept as books by the same
session that the recorder uses, from a frame's text to its note. CPU seconds of one process, all its threads, the median
of three runs (a peer that needs more than ten seconds for one has that one); starting up is left out.

- `messages read, validated and kept`: from texts in memory, as they come from a socket; the goal is for this one.
- `messages replayed`: from a file, lines and times read as well, since that is what a peer's replay does.
- `messages replayed without best prices`: the same without the 153,154 frames of best prices, which say nothing to us.

Peers play the same frames in the same run, each in a process of its own, and none of them does the same per frame:
docs/streams.md compares them, their scripts say how they are fed. So each plays twice: as it comes, and doing what ours
does with books (cryptofeed: best prices read after each change; tardis-dev: its own OrderBook kept, which looks for
crossed levels). A peer that finds other trades or other best prices in the end is left out.
"""

from __future__ import annotations

import gc
import gzip
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmarks.peers.environment import Environment, LeftOut, leave_out
from benchmarks.report import Figure, figure, report
from sources.stream import Frame, Instrument, Invalid
from sources.venues import VENUES
from sources.venues.session import StreamSession

RECORDED = Path(__file__).parents[1] / "../shared/recorded/ws/hftbacktest"
RUNS = 3
NO_MORE_AFTER_S = 10
GOAL = 90_000
BEST_PRICES, TRADE = '@bookTicker"', '@trade"'
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Timed = tuple[datetime, str]
"""When a frame was received, and its text."""


class Played(NamedTuple):
    """CPU seconds of each run; of each file its trades, and where books are kept best bid and ask in the end."""

    cpu_s: list[float]
    trades: list[int]
    best: list[list[float]] | None


class Peer(NamedTuple):
    """Another library that plays frames. `keeps` says what else it does where books are to be kept as ours are."""

    name: str
    keeps: str
    environment: Environment
    script: str

    def play(self, told: Mapping[str, Any]) -> Played:
        """Raises LeftOut where the peer fails."""
        return Played(**self.environment.run(self.script, told))


PEERS = (
    Peer(
        "cryptofeed playback",
        "best prices read after each change",
        Environment("cryptofeed"),
        "cryptofeed_playback.py",
    ),
    Peer(
        "tardis-dev replayNormalized",
        "its OrderBook kept, looking for crossed levels",
        Environment("tardis-dev", is_node=True),
        "tardis_replay.mjs",
    ),
)


class Sample(NamedTuple):
    """One recorded file and the stream that it is of."""

    path: str
    stream: str
    symbol: str


SAMPLES = (
    Sample("spot/btcusdt_20240808.gz", "binance", "BTCUSDT"),
    Sample("spot/ethusdt_20240808.gz", "binance", "ETHUSDT"),
    Sample("usdm/btcusdt_20240808.gz", "binanceusdm", "BTCUSDT"),
    Sample("cm/btcusd_perp_20240808.gz", "binancecoinm", "BTCUSD_PERP"),
    Sample("cm/ethusd_perp_20240808.gz", "binancecoinm", "ETHUSD_PERP"),
)


class Unpacked(NamedTuple):
    """The frames of a sample as lines: a time in nanoseconds, a text."""

    sample: Sample
    file: Path
    messages: int
    trades: int


class Kept(NamedTuple):
    """CPU seconds for a sample, and the best prices at its end."""

    cpu_s: float
    best: tuple[float | None, float | None]


def keep(sample: Sample, frames: Iterable[Timed]) -> Kept:
    """Our session; raises where a book breaks."""
    wanted = (Instrument(instrument_id=sample.symbol, symbol=sample.symbol),)
    session = StreamSession(VENUES[sample.stream], wanted, ("trades", "book"))
    session.opening(EPOCH)
    hear, about = session.hear, f"book {sample.symbol}"
    began = time.process_time()
    for number, (at, text) in enumerate(frames):
        is_http = text.startswith('{"lastUpdateId"')
        heard = hear(Frame(number, at, "http", text, about) if is_http else Frame(number, at, "recv", text))
        if heard.actions and any(isinstance(action, Invalid) for action in heard.actions):
            raise RuntimeError(f"{sample.path}, frame {number}: {heard.actions}")
    cpu_s = time.process_time() - began
    return Kept(cpu_s, session.desk.keepers[sample.symbol, "book"].book.best())


def frames_in(file: Path) -> Iterator[Timed]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            at_ns, text = line.split(" ", 1)
            yield EPOCH + timedelta(microseconds=int(at_ns) // 1000), text


def unpack(folder: Path, *, without: str | None = None) -> list[Unpacked]:
    """All samples as files, without the lines that hold a text."""
    folder.mkdir()
    found = []
    for number, sample in enumerate(SAMPLES):
        text = gzip.decompress((RECORDED / sample.path).read_bytes()).decode()
        lines = [line for line in text.splitlines(keepends=True) if without is None or without not in line]
        file = folder / f"{number}.frames"
        file.write_text("".join(lines), encoding="utf-8")
        found.append(Unpacked(sample, file, len(lines), sum(TRADE in line for line in lines)))
    return found


def spent_s(runs: Iterable[Iterable[Kept]]) -> list[float]:
    """CPU seconds over all samples, of each run."""
    return [sum(kept.cpu_s for kept in run) for run in runs]


def from_memory(samples: Sequence[Unpacked]) -> Iterator[Figure]:
    """Ours on all samples, and on each."""
    held = [(one, list(frames_in(one.file))) for one in samples]
    gc.collect()
    gc.freeze()  # a recorder does not hold the frames that are still to come
    runs = [[keep(one.sample, frames) for one, frames in held] for _ in range(RUNS)]
    gc.unfreeze()
    messages = sum(one.messages for one in samples)
    yield rate("messages read, validated and kept", messages, spent_s(runs), goal=GOAL)
    for one, tries in zip(samples, zip(*runs, strict=True), strict=True):
        name = f"of them, of {one.sample.stream} {one.sample.symbol}"
        yield rate(name, one.messages, [kept.cpu_s for kept in tries])


def from_files(name: str, samples: Sequence[Unpacked], peers: Sequence[Peer]) -> Iterator[Figure]:
    """Ours and each peer's, as it comes and with books kept."""
    runs = [[keep(one.sample, frames_in(one.file)) for one in samples] for _ in range(RUNS)]
    messages = sum(one.messages for one in samples)
    ours = spent_s(runs)
    yield rate(name, messages, ours)
    for peer, keeps_books in product(peers, (False, True)):
        peer_name = f"{peer.name}, {peer.keeps}" if keeps_books else peer.name
        try:
            played = peer.play(told(samples, keeps_books=keeps_books))
            agree(played, samples, runs[0])
        except LeftOut as why:
            leave_out(peer_name, why)
            continue
        yield rate(name, messages, played.cpu_s, peer=peer_name, ratio=median(played.cpu_s) / median(ours))


def set_up() -> Iterator[Peer]:
    """The peers that can be had here."""
    for peer in PEERS:
        try:
            peer.environment.set_up()
        except LeftOut as why:
            leave_out(peer.name, why)
        else:
            yield peer


def told(samples: Sequence[Unpacked], *, keeps_books: bool) -> dict[str, Any]:
    """What a peer is asked for."""
    files = [
        {"file": str(one.file), "stream": one.sample.stream, "symbol": one.sample.symbol} for one in samples
    ]
    return {"runs": RUNS, "no_more_after_s": NO_MORE_AFTER_S, "keeps_books": keeps_books, "samples": files}


def agree(played: Played, samples: Sequence[Unpacked], ours: Sequence[Kept]) -> None:
    """Raises LeftOut where a peer did not find what is there."""
    trades = [one.trades for one in samples]
    if played.trades != trades:
        raise LeftOut(f"it found {played.trades} trades of {trades}")
    best = [list(kept.best) for kept in ours]
    if played.best is not None and played.best != best:
        raise LeftOut(f"its best prices in the end are {played.best}, ours {best}")


def rate(name: str, messages: int, cpu_s: Sequence[float], **more: Any) -> Figure:
    return figure(name, [messages / spent for spent in cpu_s], "messages / CPU s", **more)


def figures() -> Iterator[Figure]:
    peers = list(set_up())
    with tempfile.TemporaryDirectory(prefix="frames-") as home:
        everything = unpack(Path(home, "all"))
        yield from from_memory(everything)
        yield from from_files("messages replayed", everything, peers)
        without = unpack(Path(home, "some"), without=BEST_PRICES)
        yield from from_files("messages replayed without best prices", without, peers)


def main() -> None:
    if not RECORDED.is_dir():
        print(f"left out: the recorded frames are not in {RECORDED.resolve()}")
        return
    report("stream", figures())


if __name__ == "__main__":
    main()
