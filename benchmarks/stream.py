"""What a CPU second of one process does of live frames. `python -m benchmarks.stream`

Recorded frames of Binance (spot, USD-M, COIN-M of the same minutes) are read, validated and kept as books by the same
session that the recorder uses: every frame of the capture, best prices included, from its text to its note. CPU
seconds of this process, the best of three runs. Peers run on the same frames where they are installed.
"""

from __future__ import annotations

import gc
import gzip
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from sources.stream import Frame, Instrument, Invalid
from sources.venues import VENUES
from sources.venues.session import StreamSession

RECORDED = Path(__file__).parents[1] / "../shared/recorded/ws/hftbacktest"
RESULTS = Path(__file__).parent / "results" / "stream.json"
RUNS = 3
GOAL = 90_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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

Play = Callable[[Sample, list[tuple[datetime, str]]], float]
"""CPU seconds for all frames of a sample, given as receive time and text."""

PEERS: dict[str, Play] = {}
"""Other libraries on the same frames, by name."""


def play(sample: Sample, frames: list[tuple[datetime, str]]) -> float:
    """CPU seconds of our session; raises where a book breaks."""
    wanted = (Instrument(instrument_id=sample.symbol, symbol=sample.symbol),)
    session = StreamSession(VENUES[sample.stream], wanted, ("trades", "book"))
    session.opening(frames[0][0])
    hear, about = session.hear, f"book {sample.symbol}"
    begun = time.process_time()
    for number, (at, text) in enumerate(frames):
        is_http = text.startswith('{"lastUpdateId"')
        kind: Any = "http" if is_http else "recv"
        heard = hear(
            Frame(number=number, received_at=at, kind=kind, text=text, about=about if is_http else "")
        )
        if heard.actions and any(isinstance(action, Invalid) for action in heard.actions):
            raise RuntimeError(f"{sample.path}, frame {number}: {heard.actions}")
    return time.process_time() - begun


def frames_of(sample: Sample) -> list[tuple[datetime, str]]:
    lines = gzip.decompress((RECORDED / sample.path).read_bytes()).decode().splitlines()
    parts = (line.split(" ", 1) for line in lines)
    return [(EPOCH + timedelta(microseconds=int(at) // 1000), text) for at, text in parts]


def rate(run: Play, recorded: dict[Sample, list[tuple[datetime, str]]]) -> float:
    """Messages per CPU second over all samples, the best of some runs."""
    messages = sum(map(len, recorded.values()))
    return max(messages / sum(run(*one) for one in recorded.items()) for _ in range(RUNS))


def figures() -> Iterator[dict[str, Any]]:
    recorded = {sample: frames_of(sample) for sample in SAMPLES}
    gc.collect()
    gc.freeze()  # a recorder does not hold the frames that are still to come
    ours = rate(play, recorded)
    named = {"suite": "stream", "figure": "messages_read_validated_and_kept", "unit": "messages/cpu_s"}
    yield {**named, "value": round(ours), "peer": None, "ratio": None}
    yield {**named, "value": GOAL, "peer": "goal", "ratio": round(ours / GOAL, 2)}
    for name, run in PEERS.items():
        theirs = rate(run, recorded)
        yield {**named, "value": round(theirs), "peer": name, "ratio": round(ours / theirs, 2)}
    for sample in SAMPLES:
        alone = rate(play, {sample: recorded[sample]})
        yield {
            **named,
            "figure": f"messages_of_{sample.stream}_{sample.symbol}".lower(),
            "value": round(alone),
        } | {
            "peer": None,
            "ratio": None,
        }


def main() -> None:
    if not RECORDED.is_dir():
        raise SystemExit(f"the recorded frames are not here: {RECORDED}")
    found = []
    for figure in figures():
        print(json.dumps(figure), flush=True)
        found.append(figure)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("".join(json.dumps(figure) + "\n" for figure in found), encoding="utf-8")


if __name__ == "__main__":
    main()
