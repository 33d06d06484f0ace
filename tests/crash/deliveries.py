"""Two made-up feeds whose every answer follows from a seed: good rows, bad ones, repeats, contradictions, restatements.

Minute `n` of a subject is one page. It looks back: trades of the minute before are told again, now and then with
another price; a candle of the minute before may be restated; a page may be no JSON at all.
"""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse.bronze import Page
from lakehouse.errors import MnemoError
from lakehouse.silver import candles, trades
from lakehouse.window import Window
from sources.feed import Feed

ORIGIN = datetime(2024, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
A_MINUTE = 5  # trades


class Unreadable(MnemoError):
    """A page that is not JSON."""


def window(first: int, *, minutes: int = 1) -> Window:
    """Those minutes."""
    return Window(ORIGIN + first * MINUTE, ORIGIN + (first + minutes) * MINUTE)


def feeds(seed: int) -> tuple[Feed, Feed]:
    """The feed of trades and the feed of candles."""
    return (
        _feed("crash_trades", trades.TABLE, _trades_body, _trade_row, seed),
        _feed("crash_candles", candles.TABLE, _candles_body, _candle_row, seed),
    )


def _feed(name, table, body_of, row_of, seed) -> Feed:
    def fetch(_client, subject, wanted) -> Iterator[Page]:
        first, last = ((moment - ORIGIN) // MINUTE for moment in (wanted.start, wanted.end))
        for minute in range(first, last):
            yield Page(
                feed=name,
                subject=subject,
                request={"method": "GET", "url": f"https://example.org/{name}/{minute}"},
                received_at=window(minute).end + timedelta(seconds=1),
                window=window(minute),
                body=body_of(seed, subject, minute),
            )

    def parse(pages: pl.DataFrame) -> pl.LazyFrame:
        rows = [row_of(page, said) for page in pages.iter_rows(named=True) for said in _said(page)]
        given = [column for column in table.columns if column.derived is None]
        schema = {c.name: pl.String() if c.dtype.is_float() else c.dtype for c in given}
        return pl.DataFrame(rows, schema=schema, orient="row").lazy()

    return Feed(name=name, provider="test", doc="", table=table, subjects="", fetch=fetch, parse=parse)


def _said(page) -> list[dict]:
    try:
        return json.loads(page["body"])
    except ValueError:
        raise Unreadable(f"page {page['page_id']} is not JSON") from None


def _happens(chance: float, *about: object) -> bool:
    return random.Random(repr(about)).random() < chance


def _price(*about: object) -> str:
    return f"{100 + random.Random(repr(about)).random():.4f}"


def _trades_body(seed: int, subject: str, minute: int) -> bytes:
    about = (seed, subject, minute)
    if _happens(0.03, "html", *about):
        return b"<html>busy</html>"
    before = _minute_of_trades(seed, subject, minute - 1) if minute else []
    again = before[-2:] if _happens(0.25, "again", *about) else []
    if _happens(0.05, "contradiction", *about):
        again = [one | {"price": _price("other", *about)} for one in before[:1]]
    return json.dumps(again + _minute_of_trades(seed, subject, minute)).encode()


def _minute_of_trades(seed: int, subject: str, minute: int) -> list[dict]:
    bad = _happens(0.04, "bad", seed, subject, minute)
    return [
        {
            "id": minute * A_MINUTE + number,
            "at": (ORIGIN + minute * MINUTE + timedelta(seconds=11 * number)).isoformat(),
            "price": "-1" if bad and number == 1 else _price(seed, subject, minute, number),
        }
        for number in range(A_MINUTE)
    ]


def _trade_row(page, said) -> dict:
    at = datetime.fromisoformat(said["at"])
    return {
        "venue": page["subject"],
        "instrument_id": "BTC/USD",
        "trade_id": str(said["id"]),
        "event_at": at,
        "known_at": at,
        "ingested_at": page["received_at"],
        "page_id": page["page_id"],
        "provider": "test",
        "price": said["price"],
        "amount": "0.5",
        "amount_unit": "base",
        "side": "buy",
    }


def _candles_body(seed: int, subject: str, minute: int) -> bytes:
    about = (seed, subject, minute)
    low = "200" if _happens(0.04, "bad", *about) else "99"
    said = [{"minute": minute, "low": low, "close": _price(*about)}]
    if minute and _happens(0.3, "restated", *about):
        said.append({"minute": minute - 1, "low": "99", "close": _price("restated", *about)})
    return json.dumps(said).encode()


def _candle_row(page, said) -> dict:
    bar = window(said["minute"])
    return {
        "venue": page["subject"],
        "instrument_id": "ETH/USD",
        "interval": "1m",
        "open_at": bar.start,
        "event_at": bar.end,
        "known_at": bar.end,
        "ingested_at": page["received_at"],
        "page_id": page["page_id"],
        "provider": "test",
        "open": "100",
        "high": "102",
        "low": said["low"],
        "close": said["close"],
        "volume": "3",
        "volume_unit": "base",
        "trade_count": None,
    }
