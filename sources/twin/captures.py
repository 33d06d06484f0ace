"""WebSocket captures of other projects as recorded sessions, for the twin to play.

    python -m sources.twin.captures --from recorded/ws --to FOLDER [NAME ...]

Texts, times and order are those of the capture. Addresses are those of today, where the sessions of `sources.venues`
connect and ask; a REST snapshot is found there whatever depth was asked for when it was captured.

- cryptofeed (zstd JSON lines): REST answers, connect, send and recv with their times in seconds.
- hftbacktest (gzip lines): nanoseconds and a text; one of the texts is the REST snapshot.
- python-kraken-sdk (one JSON document): a snapshot and changes without times; here they are 50 ms apart.

Reading zstd takes the development tools.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from lakehouse.errors import unknown
from sources.twin.sessions import Event, EventKind, RecordedSession, session_of, write_session

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNTIMED_AT, _APART = datetime(2023, 7, 30, tzinfo=UTC), timedelta(milliseconds=50)
_SNAPSHOT = re.compile(r"(?:depth\?symbol=|order_book/)(\w+)")
_KINDS: Mapping[str, EventKind] = {"send": "send", "recv": "recv", "http": "http"}


@dataclass(frozen=True, kw_only=True)
class Capture:
    """One connection of a captured file, and where it is played."""

    file: str
    stream: str
    """The stream of `sources.venues` that it is of."""
    url: str
    """Where the sessions of that stream connect."""
    symbols: str
    """A pattern of the venue's symbols in the messages."""
    connection: str = ""
    """Which connection of the file; empty where it has one."""
    only: str = ""
    """What the messages hold that are played, where others have an address of their own today."""
    snapshot: str = ""
    """Where the sessions ask for the snapshot of a symbol."""

    def session(self, folder: Path) -> RecordedSession:
        """The session, from the folder that has the file."""
        (read,) = (read for ending, read in _READ.items() if self.file.endswith(ending))
        read_events = read(folder / self.file, self)
        events = [event for event in read_events if event.kind != "recv" or self.only in event.text]
        begun = next(event.at for event in events if event.kind != "http")
        return session_of([Event(kind="connect", at=begun, url=self.url), *events])

    def symbols_of(self, session: RecordedSession) -> list[str]:
        """The venue's symbols in its messages."""
        texts = (event.text for event in session.events if event.kind == "recv")
        return sorted({symbol for text in texts for symbol in re.findall(self.symbols, text)})


_EVENT = r'"s":"(\w+)"'
_SPOT: Mapping[str, str] = {
    "stream": "binance",
    "url": "wss://stream.binance.com:9443/stream",
    "snapshot": "https://api.binance.com/api/v3/depth?symbol={}&limit=5000",
    "symbols": _EVENT,
}
_USDM: Mapping[str, str] = {
    "stream": "binanceusdm",
    "url": "wss://fstream.binance.com/public/stream",
    "snapshot": "https://fapi.binance.com/fapi/v1/depth?symbol={}&limit=1000",
    "symbols": _EVENT,
}
_COINM: Mapping[str, str] = {
    "stream": "binancecoinm",
    "url": "wss://dstream.binance.com/stream",
    "snapshot": "https://dapi.binance.com/dapi/v1/depth?symbol={}&limit=1000",
    "symbols": _EVENT,
}
_BYBIT = r'"topic":\s*"orderbook\.\d+\.(\w+)"'


def _cryptofeed(name: str, **facts: str) -> Capture:
    return Capture(file=f"cryptofeed-v3/{name}.jsonl.zst", **facts)


CAPTURES: Mapping[str, Capture] = {
    "BINANCE": _cryptofeed("BINANCE", **_SPOT),
    "BINANCE_FUTURES": _cryptofeed("BINANCE_FUTURES", only="@depth", **_USDM),
    "BINANCE_DELIVERY": _cryptofeed("BINANCE_DELIVERY", **_COINM),
    "BITFINEX": _cryptofeed(
        "BITFINEX", stream="bitfinex", url="wss://api-pub.bitfinex.com/ws/2", symbols=r'"symbol":"(t[A-Z:]+)"'
    ),
    "BITSTAMP": _cryptofeed(
        "BITSTAMP",
        stream="bitstamp",
        url="wss://ws.bitstamp.net",
        symbols=r'diff_order_book_(\w+)"',
        snapshot="https://www.bitstamp.net/api/v2/order_book/{}/?group=1",
    ),
    "BYBIT-linear": _cryptofeed(
        "BYBIT",
        stream="bybit",
        connection="BYBIT.ws.2",
        url="wss://stream.bybit.com/v5/public/linear",
        symbols=_BYBIT,
    ),
    "BYBIT-spot": _cryptofeed(
        "BYBIT",
        stream="bybit",
        connection="BYBIT.ws.3",
        url="wss://stream.bybit.com/v5/public/spot",
        symbols=_BYBIT,
    ),
    "COINBASE": _cryptofeed(
        "COINBASE",
        stream="coinbase",
        url="wss://advanced-trade-ws.coinbase.com",
        symbols=r'"product_id":"([\w-]+)"',
    ),
    "DERIBIT": _cryptofeed(
        "DERIBIT", stream="deribit", url="wss://www.deribit.com/ws/api/v2", symbols=r"book\.([\w-]+)\."
    ),
    "KRAKEN_FUTURES": _cryptofeed(
        "KRAKEN_FUTURES",
        stream="krakenfutures",
        url="wss://futures.kraken.com/ws/v1",
        symbols=r'"feed":"book","product_ids":\["(\w+)"\]',
    ),
    "OKX": _cryptofeed(
        "OKX",
        stream="okx",
        url="wss://ws.okx.com:8443/ws/v5/public",
        symbols=r'"channel":"books","instId":"([\w-]+)"',
    ),
    "kraken-BTC-USD": Capture(
        file="python-kraken-sdk/kraken_book_v2_BTC-USD.json",
        stream="kraken",
        url="wss://ws.kraken.com/v2",
        symbols=r'"symbol": "([\w/]+)"',
    ),
    "spot-BTCUSDT": Capture(file="hftbacktest/spot/btcusdt_20240808.gz", **_SPOT),
    "usdm-BTCUSDT": Capture(file="hftbacktest/usdm/btcusdt_20240808.gz", **_USDM),
    "coinm-BTCUSD_PERP": Capture(file="hftbacktest/cm/btcusd_perp_20240808.gz", **_COINM),
}


def lines_of(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a cryptofeed capture."""
    import zstandard  # a development tool

    with path.open("rb") as raw, zstandard.ZstdDecompressor().stream_reader(raw) as reader:
        yield from map(json.loads, io.TextIOWrapper(reader, encoding="utf-8"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write captures as files of sessions; prints one line a file."""
    parser = argparse.ArgumentParser(prog="python -m sources.twin.captures", description=__doc__)
    parser.add_argument(
        "--from", dest="shared", type=Path, required=True, help="folder of the captured files"
    )
    parser.add_argument("--to", dest="folder", type=Path, required=True, help="folder of sessions to write")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(CAPTURES)}")
    asked = parser.parse_args(arguments)
    if wrong := [name for name in asked.names if name not in CAPTURES]:
        parser.error(str(unknown("capture", wrong[0], CAPTURES)))
    for name in asked.names or CAPTURES:
        session = CAPTURES[name].session(asked.shared)
        path = asked.folder / f"{name}.ws.jsonl.gz"
        write_session(path, session)
        sys.stdout.write(f"{path}: {len(session.events)} events, {path.stat().st_size} bytes\n")


def _of_cryptofeed(path: Path, capture: Capture) -> Iterator[Event]:
    for line in lines_of(path):
        is_ours = line["t"] in _KINDS and (line["t"] == "http" or capture.connection in line["conn"])
        if is_ours:
            at = _EPOCH + timedelta(microseconds=round(line["ts"] * 1e6))
            url = _today(line["url"], capture) if line["t"] == "http" else ""
            yield Event(kind=_KINDS[line["t"]], at=at, url=url, text=line["data"])


def _of_hftbacktest(path: Path, capture: Capture) -> Iterator[Event]:
    (symbol,) = re.findall(r"/(\w+)_\d+\.gz", capture.file)
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        at_ns, text = line.split(" ", 1)
        at = _EPOCH + timedelta(microseconds=int(at_ns) // 1000)
        if text.startswith('{"lastUpdateId"'):
            yield Event(kind="http", at=at, url=capture.snapshot.format(symbol.upper()), text=text)
        else:
            yield Event(kind="recv", at=at, text=text)


def _of_kraken_sdk(path: Path, _capture: Capture) -> Iterator[Event]:
    said = json.loads(path.read_text(encoding="utf-8"))
    for number, message in enumerate((said["init"], *said["updates"])):
        yield Event(kind="recv", at=_UNTIMED_AT + number * _APART, text=json.dumps(message))


_READ: Mapping[str, Callable[[Path, Capture], Iterator[Event]]] = {
    ".jsonl.zst": _of_cryptofeed,
    ".gz": _of_hftbacktest,
    ".json": _of_kraken_sdk,
}


def _today(url: str, capture: Capture) -> str:
    found = _SNAPSHOT.search(url)
    return capture.snapshot.format(found[1]) if found and capture.snapshot else url


if __name__ == "__main__":
    main()
