"""cryptofeed's own `playback` of recorded frames. Needs cryptofeed alone; told what to play on its standard input.

What it does with each frame: parses it, makes a Trade or the changes of a book with Decimal numbers, and keeps the book
in a dict whose keys are sorted when somebody reads by place. It drops changes by their numbers, and on a missing number
forgets all books, logs a warning and asks for snapshots again. It looks for crossed books only if asked to, which
playback cannot be; where books are to be kept as ours are, the callback reads the best prices and does so. Best prices
become a Ticker each, subscribed or not. It knows aggregate trades only: the single trades of the sample are handed
over under that name.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from cryptofeed.defines import L2_BOOK, TRADES
from cryptofeed.raw_data_collection import playback
from cryptofeed.types import OrderBook, Trade

FEEDS = {
    "binance": ("BINANCE", "https://api.binance.com/api/v3/depth?symbol={}&limit=1000"),
    "binanceusdm": ("BINANCE_FUTURES", "https://fapi.binance.com/fapi/v1/depth?symbol={}&limit=1000"),
    "binancecoinm": ("BINANCE_DELIVERY", "https://dapi.binance.com/dapi/v1/depth?symbol={}&limit=1000"),
}
ASSETS = {"BTCUSDT": "BTC-USDT", "ETHUSDT": "ETH-USDT", "BTCUSD_PERP": "BTC-USD", "ETHUSD_PERP": "ETH-USD"}


def write(sample: dict) -> tuple[str, list[str]]:
    """The feed and the names of the files that `playback` reads; a name with ws or http in it has a meaning."""
    feed, address = FEEDS[sample["stream"]]
    folder = Path(f"{sample['stream']}_{sample['symbol']}".lower())
    folder.mkdir()
    frames = [line.split(" ", 1) for line in Path(sample["file"]).read_text().splitlines()]
    with (folder / f"{feed}.ws.0").open("w") as ws, (folder / f"{feed}.http.0").open("w") as http:
        for at_ns, text in frames:
            at_s = f"{int(at_ns) / 1e9:.6f}"
            if text.startswith('{"lastUpdateId"'):
                http.write(f"{address.format(sample['symbol'])} -> {at_s}: {text}\n")
            else:
                ws.write(f"{at_s}: {renamed(text)}\n")
    (folder / f"{feed}.0").write_text(listing(feed, subscribed(sample)))
    return feed, [f"./{folder}/{feed}{kind}.0" for kind in ("", ".http", ".ws")]


def renamed(text: str) -> str:
    """A single trade as an aggregate."""
    if '"e":"trade"' not in text:
        return text
    return text.replace('"e":"trade"', '"e":"aggTrade"', 1).replace('"t":', '"a":', 1)


def subscribed(sample: dict) -> dict:
    name = ASSETS[sample["symbol"]] + ("" if sample["stream"] == "binance" else "-PERP")
    return {L2_BOOK: [name], TRADES: [name]}


def listing(feed: str, subscription: dict) -> str:
    """What a recording of cryptofeed begins with: the exchange's listing, and what was subscribed."""
    filters = [{"tickSize": "0.01"}]
    symbols = [
        {"symbol": symbol, "baseAsset": pair[:3], "quoteAsset": pair[4:], "filters": filters}
        | ({} if feed == "BINANCE" else {"contractType": "PERPETUAL"})
        for symbol, pair in ASSETS.items()
        if (feed == "BINANCE_DELIVERY") == symbol.endswith("_PERP")
    ]
    listed = f"listing -> 0.0: {json.dumps({'symbols': symbols})}\n"
    return f"{listed}configuration: {json.dumps(subscription)}\n"


def play(feed: str, files: list[str], *, keeps_books: bool) -> tuple[float, int, list[float]]:
    """CPU seconds, trades, and the best prices at the end."""
    book, trades = None, 0

    async def book_is(changed: OrderBook, _at: object) -> None:
        nonlocal book
        book = changed.book

    async def book_is_read(changed: OrderBook, _at: object) -> None:
        nonlocal book
        book = changed.book
        if book.bids.index(0)[0] >= book.asks.index(0)[0]:
            raise RuntimeError(f"{changed.symbol} is crossed")

    async def trade_is(_trade: Trade, _at: object) -> None:
        nonlocal trades
        trades += 1

    callbacks = {L2_BOOK: book_is_read if keeps_books else book_is, TRADES: trade_is}
    began = time.process_time()
    playback(feed, files, callbacks=callbacks, config={"log": {"disabled": True}})
    cpu_s = time.process_time() - began
    return cpu_s, trades, [float(side.index(0)[0]) for side in (book.bids, book.asks)]


def main() -> None:
    told = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        samples = [write(sample) for sample in told["samples"]]
        cpu_s = []
        while len(cpu_s) < told["runs"] and sum(cpu_s) < told["no_more_after_s"]:
            run = [play(*sample, keeps_books=told["keeps_books"]) for sample in samples]
            cpu_s.append(sum(spent_s for spent_s, _, _ in run))
        os.chdir("/")
    print(json.dumps({"cpu_s": cpu_s, "trades": [one[1] for one in run], "best": [one[2] for one in run]}))


if __name__ == "__main__":
    main()
