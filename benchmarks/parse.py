"""How fast fetched trades are parsed into the columns of silver. `python -m benchmarks.parse`

Recorded pages of Binance and Kraken, 1,000 trades each, repeated with other ids and times so that no two trades are
alike. Rows (trades) per CPU second of this process, all threads counted; medians of five. Parsing is the feed's
`parse`, sorted rows of silver.trades.

Peers read the same bodies in the same run: ccxt's own `parse_trades`, which ends in dicts; a plain loop over
`json.loads` into dicts of the same columns and a frame of them, unchecked. tardis-dev reads no REST answers: see
`benchmarks.stream`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import polars as pl

from benchmarks.measure import costs
from benchmarks.report import Figure, figure, report
from lakehouse.bronze import Page, pages_frame
from lakehouse.silver.trades import TABLE
from lakehouse.window import Window, parse_moment
from sources.ccxt_rest import FEEDS
from sources.client import Answer

RECORDINGS = Path(__file__).parents[1] / "recordings/ccxt/ccxt_rest.jsonl.gz"
RUNS = 5
PAGES, PAGES_OF_PEERS = 200, 20
GOAL = 400_000
WINDOW = Window(parse_moment("2025-01-01"), parse_moment("2025-01-02"))
FEED = next(feed for feed in FEEDS if feed.name == "ccxt_trades")
Shift = Callable[[Any, int], Any]
Row = dict[str, Any]


def shifted_binance(said: list[Row], by: int) -> list[Row]:
    """The same trades with ids of their own, `by` pages later."""
    ids = dict.fromkeys(("a", "f", "l"), by * 1000)
    return [
        {**row, **{name: row[name] + n for name, n in ids.items()}, "T": row["T"] + by * 500_000}
        for row in said
    ]


def shifted_kraken(said: Row, by: int) -> Row:
    """The same trades with ids of their own, `by` pages later."""
    name = next(name for name in said["result"] if name != "last")
    rows = [[*row[:2], row[2] + by * 500, *row[3:6], row[6] + by * 1000] for row in said["result"][name]]
    return {**said, "result": {**said["result"], name: rows}}


def market(market_id: str) -> Row:
    """A spot market as our fetch puts it into a page."""
    names = {
        "id": market_id,
        "symbol": "BTC/USDT",
        "base": "BTC",
        "quote": "USDT",
        "type": "spot",
        "spot": True,
    }
    return {**names, "baseId": "BTC", "quoteId": "USDT"}


VENUES: dict[str, tuple[str, Row, Shift]] = {
    "binance": ("api/v3/aggTrades?symbol=BTCUSDT&limit=1000&startTime", market("BTCUSDT"), shifted_binance),
    "kraken": ("0/public/Trades?pair=XBTUSDT", market("XBTUSDT"), shifted_kraken),
}


def recorded(address: str) -> Any:
    """The recorded answer of 1,000 trades to such a request."""
    with gzip.open(RECORDINGS, "rt", encoding="utf-8") as lines:
        found = (json.loads(line) for line in lines if address in line)
        return max((json.loads(one["body"]) for one in found), key=lambda said: len(json.dumps(said)))


def answers(exchange: str, numbers: Iterator[int], pages: int) -> list[Answer]:
    """Fetched answers, no two alike."""
    address, _, shifted = VENUES[exchange]
    said = recorded(address)
    return [
        Answer(
            method="GET",
            url=f"https://{exchange}/{address}={number}",
            status=200,
            headers={"content-type": "application/json"},
            body=orjson.dumps(shifted(said, number)),
            received_at=datetime.now(UTC),
        )
        for _, number in zip(range(pages), numbers, strict=False)
    ]


def fetched(exchange: str, told: Sequence[Answer]) -> Iterator[Page]:
    """The pages that our own fetch makes of answers."""
    context = {
        "exchange": exchange,
        "call": "fetch_trades",
        "arguments": {"symbol": "BTC/USDT", "since": None, "limit": 1000, "params": {}},
        "options": {},
        "market": VENUES[exchange][1],
        "part": 0,
        "others": [],
    }
    for sequence, answer in enumerate(told):
        yield answer.page(
            feed=FEED.name, subject=f"{exchange}:BTC/USDT", window=WINDOW, sequence=sequence, **context
        )


def rows_per_s(work: Callable[[Any], object], inputs: Sequence[Any], rows: int) -> list[float]:
    """Rows per CPU second of each input after the first, which warms up."""
    left = iter(inputs)
    return [rows / spent for spent in costs(lambda: work(next(left)), runs=len(inputs) - 1).cpu_s]


def parsing(exchange: str) -> Iterator[tuple[str | None, list[float]]]:
    """Peer (None for us) and rows per CPU second."""
    numbers = count()
    batches = [
        pages_frame(fetched(exchange, answers(exchange, numbers, PAGES)), run_id="b", code_version="0")
        for _ in range(RUNS + 1)
    ]
    few = [batch["body"].to_list()[:PAGES_OF_PEERS] for batch in batches]
    yield None, rows_per_s(parse_pages, batches, PAGES * 1000)
    yield "ccxt parse_trades", rows_per_s(by_ccxt(exchange), few, PAGES_OF_PEERS * 1000)
    yield "dict loop over json.loads", rows_per_s(by_dicts(exchange), few, PAGES_OF_PEERS * 1000)


def parse_pages(pages: pl.DataFrame) -> None:
    """The feed's own parser, to the columns of silver.trades."""
    assert FEED.parse(pages).collect().height == pages.height * 1000


def by_ccxt(exchange: str) -> Callable[[list[bytes]], object]:
    """ccxt as it comes: `json.loads`, then its `parse_trades`."""
    import ccxt

    venue = getattr(ccxt, exchange)()
    venue.set_markets([venue.safe_market_structure(VENUES[exchange][1])])
    known = venue.market("BTC/USDT")
    return lambda bodies: [venue.parse_trades(rows_in(exchange, json.loads(body)), known) for body in bodies]


def by_dicts(exchange: str) -> Callable[[list[bytes]], pl.DataFrame]:
    """A dict a trade with the columns of silver.trades, and a frame of all of them."""
    told = _binance_dict if exchange == "binance" else _kraken_dict
    shared = {"venue": exchange, "instrument_id": "BTC/USDT", "provider": "ccxt", "amount_unit": "base"}
    text = {"price": pl.String(), "amount": pl.String()}
    schema = {c.name: text.get(c.name, c.dtype) for c in TABLE.columns if c.derived is None}
    moments = {name: pl.Int64() for name in ("event_at", "known_at", "ingested_at")}

    def read(bodies: list[bytes]) -> pl.DataFrame:
        rows = []
        for page_id, body in enumerate(bodies):
            for trade in rows_in(exchange, json.loads(body)):
                row = told(trade)
                rows.append(
                    {**shared, **row, "known_at": row["event_at"], "ingested_at": 0, "page_id": page_id}
                )
        frame = pl.DataFrame(rows, schema={**schema, **moments})
        return frame.with_columns(pl.from_epoch(name, time_unit="ms") for name in moments)

    return read


def rows_in(exchange: str, said: Any) -> list[Any]:
    """Where an answer has its trades."""
    rows: list[Any] = said if exchange == "binance" else said["result"][VENUES[exchange][1]["id"]]
    return rows


def figures() -> Iterator[Figure]:
    """Ours, then each peer's."""
    for exchange in VENUES:
        what = f"parse trades to columns, {exchange}"
        mine: list[float] = []
        for peer, rates in parsing(exchange):
            mine = mine or rates
            goal, ratio = (None, median(mine) / median(rates)) if peer else (GOAL, None)
            yield figure(what, rates, "rows / CPU s", peer=peer, ratio=ratio, goal=goal)


def _binance_dict(trade: Row) -> Row:
    return {
        "trade_id": str(trade["a"]),
        "event_at": trade["T"],
        "price": trade["p"],
        "amount": trade["q"],
        "side": "sell" if trade["m"] else "buy",
    }


def _kraken_dict(trade: list[Any]) -> Row:
    return {
        "trade_id": str(trade[6]),
        "event_at": int(trade[2] * 1000),
        "price": trade[0],
        "amount": trade[1],
        "side": "sell" if trade[3] == "s" else "buy",
    }


if __name__ == "__main__":
    report("parse", figures())
