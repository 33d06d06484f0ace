"""Polymarket's trades: a small server that caps and refuses as the Data API does, and recorded answers."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest
import stamina
from pydantic import SecretStr

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.coverage import Asked, Claim
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.silver.prediction_trades import TABLE
from lakehouse.window import Window
from sources.client import Client
from sources.errors import ParseError, Transient
from sources.polymarket_data import FEEDS, MOST_ROWS, parse_trades

RECORDED = Path(__file__).parents[2] / "../shared/recorded/polymarket"
needs_recorded = pytest.mark.skipif(not RECORDED.exists(), reason="the folder of recorded files is not here")

(TRADES,) = FEEDS
MARKET = "0x7ad403c3508f8e3912940fd1a913f227591145ca0614074208e0b962d5fcc422"
YES = "16040015440196279900485035793550429453516625694844857319147506590755961451627"
NO = "94476829201604408463453426454480212459887267917122244941405244686637914508323"
START = datetime(2026, 6, 12, 18, tzinfo=UTC)
RECEIVED_AT = START + timedelta(days=1)
HOUR = Window(START, START + timedelta(hours=1))


def trade(second: int, number: int = 0, **changes: object) -> dict:
    said = {
        "proxyWallet": "0xa0f21e6d351baa9185716b5c00c2925ed9621848",
        "side": "BUY",
        "asset": YES,
        "conditionId": MARKET,
        "size": 256,
        "price": 0.152,
        "timestamp": int(START.timestamp()) + second,
        "transactionHash": f"0x{number:064x}",
    }
    return {name: value for name, value in {**said, **changes}.items() if value is not None}


def page(*trades: dict, subject: str = MARKET, **context: object) -> Page:
    body = json.dumps(trades).encode()
    return Page(feed=TRADES.name, subject=subject, request=context, received_at=RECEIVED_AT, body=body)


def parsed(*pages: Page) -> pl.DataFrame:
    return parse_trades(pages_frame(pages, run_id="r", code_version="v")).collect()


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


# What the rows say


def test_a_trade_is_a_row_at_its_second_on_the_side_of_the_taker() -> None:
    asked = page(trade(0, 7))
    row = parsed(asked).row(0, named=True)
    assert row.pop("trade_id").endswith("-1")
    assert row == {
        "condition_id": MARKET,
        "token_id": YES,
        "event_at": START,
        "known_at": START,
        "ingested_at": RECEIVED_AT,
        "page_id": asked.page_id,
        "provider": "polymarket",
        "price": "0.152",
        "amount": "256",
        "side": "buy",
        "taker": "0xa0f21e6d351baa9185716b5c00c2925ed9621848",
        "transaction_hash": f"0x{7:064x}",
    }


def test_trades_that_are_alike_in_everything_are_told_apart_and_the_same_whenever_they_are_read() -> None:
    rows = parsed(page(trade(0, 1), trade(0, 1), trade(0, 1)), page(trade(0, 2), trade(0, 1), trade(0, 1)))
    ids = rows["trade_id"].to_list()
    assert len(set(ids[:3])) == 3
    assert ids[4:] == ids[:2]


@pytest.mark.parametrize(
    "changes",
    [
        {"price": 0.153},
        {"size": 255.5},
        {"side": "SELL"},
        {"asset": NO},
        {"transactionHash": f"0x{9:064x}"},
        {"proxyWallet": "0xbe55fa3947e0dd06887444f9b6cbf05dcfb8c2ee"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_trades_of_one_second_that_differ_in_anything_are_different_trades(changes: dict) -> None:
    assert parsed(page(trade(0, 1), trade(0, 1, **changes)))["trade_id"].n_unique() == 2


def test_a_trade_is_the_same_however_its_numbers_are_written() -> None:
    rows = parsed(page(trade(0, 1, size=100, price=0.5)), page(trade(0, 1, size="100.0", price="0.50")))
    assert rows["trade_id"].n_unique() == 1


def test_token_ids_keep_all_their_digits() -> None:
    rows = parsed(page(trade(0, asset="9" * 78), trade(0, asset=int("8" * 77))))
    assert rows["token_id"].to_list() == ["9" * 78, "8" * 77]


@needs_recorded
def test_recorded_trades_are_those_that_ccxt_reads() -> None:
    said = json.loads((RECORDED / "ccxt-static/response/polymarket.json").read_bytes())
    (case,) = said["methods"]["fetchTrades"]
    rows = parsed(page(*case["httpResponse"]))
    told = rows.filter(token_id=YES).select(
        "transaction_hash",
        pl.col("event_at").dt.epoch("ms"),
        "side",
        pl.col("price").cast(pl.Float64),
        pl.col("amount").cast(pl.Float64),
    )
    names = ("id", "timestamp", "side", "price", "amount")
    expected = [tuple(one[name] for name in names) for one in case["parsedResponse"]]
    assert sorted(told.rows()) == sorted(expected)
    assert len(expected) == 2
    assert rows.filter(token_id=NO).select("side", "price", "amount").rows() == [("sell", "0.848", "11.77")]
    assert conform(TABLE, rows.lazy()).collect()["reasons"].list.len().sum() == 0


@needs_recorded
def test_the_documented_sample_is_read_without_the_fields_that_are_missing_there() -> None:
    said = json.loads((RECORDED / "nautilus/data_api_trades_response.json").read_bytes())
    rows = parsed(page(*said, subject=said[0]["conditionId"]))
    assert rows.select("event_at", "price", "amount", "side").rows() == [
        (datetime(2024, 3, 9, 16, 0, tzinfo=UTC), "0.55", "100.0", "buy"),
        (datetime(2024, 3, 9, 15, 58, 20, tzinfo=UTC), "0.53", "50.0", "sell"),
        (datetime(2024, 3, 9, 15, 56, 40, tzinfo=UTC), "0.45", "75.0", "buy"),
    ]


def test_what_a_trade_does_not_say_or_says_wrong_is_judged_and_not_repaired() -> None:
    said = page(
        trade(0, price=None),
        trade(1, price=69),
        trade(2, size=0),
        trade(3, side="MERGE"),
        trade(4, side=None),
    )
    judged = conform(TABLE, parsed(said).lazy()).collect()
    assert judged["reasons"].to_list() == [
        ["price_missing"],
        ["price_too_high"],
        ["amount_too_low"],
        ["side_unknown"],
        ["side_missing"],
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html>We will be right back</html>", "is not JSON"),
        (b'[{"conditionId":"0x7ad4', "is not JSON"),
        (b'{"error":"busy"}', "is not a list of trades"),
        (b"[1]", "a trade that is not an object"),
        (b"[{}]", "has no conditionId"),
        (json.dumps([trade(0, conditionId="0x" + "b" * 64)]).encode(), "a trade of the market 0xbbb"),
        (json.dumps([trade(0, asset=None)]).encode(), "has no asset"),
        (json.dumps([trade(0, timestamp=None)]).encode(), "has no timestamp"),
        (json.dumps([trade(0, transactionHash=None)]).encode(), "has no transactionHash"),
        (json.dumps([trade(0, timestamp=1781289172000)]).encode(), "cannot be read"),
        (json.dumps([trade(0, timestamp=1781289)]).encode(), "its unit has changed"),
    ],
)
def test_what_is_not_the_answer_asked_for_is_refused(body: bytes, reason: str) -> None:
    bad = Page(feed=TRADES.name, subject=MARKET, request={}, received_at=RECEIVED_AT, body=body)
    with pytest.raises(
        ParseError, match=f"polymarket polymarket_trades {MARKET}: page {bad.page_id} .*{reason}"
    ):
        parsed(bad)


# How it is asked for


@dataclass
class Exchange:
    """Answers as the Data API does: newest first, at most `most` rows, no offset beyond `deepest`."""

    trades: list[dict]
    most: int = 5
    deepest: int = 10
    repeats: bool = False
    """Whether an offset beyond the deepest gives the rows of the deepest, as was seen, and no refusal."""
    includes_end: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)

    def answer(self, asked: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append(asked)
        offset = int(asked["offset"])
        if offset > self.deepest and not self.repeats:
            error = f"max historical activity offset of {self.deepest} exceeded"
            return 400, json.dumps({"error": error}).encode()
        offset = min(offset, self.deepest)
        last = int(asked["end"]) - (not self.includes_end)
        found = [one for one in self.trades if int(asked["start"]) <= one["timestamp"] <= last]
        newest_first = sorted(found, key=lambda one: -one["timestamp"])
        most = min(int(asked["limit"]), self.most)
        return 200, json.dumps(newest_first[offset : offset + most]).encode()


@contextmanager
def client_at(answer: Callable[[dict[str, str]], tuple[int, bytes]], home: Path) -> Iterator[Client]:
    """A client whose Data API is a server on loopback that answers with `answer(parameters)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, body = answer(dict(parse_qsl(urlsplit(self.path).query)))
            self.send_response_only(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        url = SecretStr(f"http://127.0.0.1:{http.server_port}")
        settings = Settings(_env_file=None, home=home, providers={"MNEMO_POLYMARKET_DATA_URL": url})
        try:
            with Client(settings) as client:
                yield client
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., list[Page]]:
    def fetched(answer: Callable, window: Window = HOUR) -> list[Page]:
        with client_at(answer, tmp_path) as client:
            return list(TRADES.fetch(client, MARKET, window))

    return fetched


def proven(pages: list[Page], window: Window = HOUR, *, at: datetime = RECEIVED_AT) -> list[Claim]:
    asked = Asked(subject=MARKET, window=window, at=at)
    frame = pages_frame(pages, run_id="r", code_version="v")
    return TRADES.proof(asked, frame, parse_trades(frame).collect())


def span(page: Page) -> tuple[int, int]:
    """The seconds since START that a page was asked for."""
    asked = dict(parse_qsl(urlsplit(page.request["url"]).query))
    return tuple(int(asked[bound]) - int(START.timestamp()) for bound in ("start", "end"))


def assert_all_of(exchange: Exchange, pages: list[Page]) -> None:
    """Each trade came, as often as it happened."""
    rows = parsed(*pages).unique("trade_id")
    told = Counter(
        (int(one.timestamp()), tx) for one, tx in rows.select("event_at", "transaction_hash").rows()
    )
    assert told == Counter((one["timestamp"], one["transactionHash"]) for one in exchange.trades)


@pytest.mark.parametrize("includes_end", [True, False])
@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize(
    "seconds",
    [
        [],
        [0],
        [3599],
        list(range(0, 3600, 300)),
        list(range(1800, 1815)),
        [*range(20), *[3599] * 4],
        [100] * 5 + [101] * 5 + [102] * 4,
    ],
    ids=["none", "first second", "last second", "even", "a busy minute", "at the edges", "busy seconds"],
)
def test_every_trade_comes_whatever_the_cap_and_the_bounds(
    fetch, seconds: list[int], repeats: bool, includes_end: bool
) -> None:
    said = [trade(second, 100 * second + number // 2) for number, second in enumerate(seconds)]
    exchange = Exchange(said, deepest=15, repeats=repeats, includes_end=includes_end)
    pages = fetch(exchange.answer)
    assert_all_of(exchange, pages)
    spans = sorted({span(one) for one in pages})
    assert (spans[0][0], spans[-1][1]) == (0, 3600)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    assert {one.window for one in pages} == {HOUR}


def test_a_full_answer_is_asked_for_again_in_halves(fetch) -> None:
    exchange = Exchange([trade(n % 4, n) for n in range(MOST_ROWS + 1)], most=MOST_ROWS, deepest=3000)
    pages = fetch(exchange.answer, Window(START, START + timedelta(seconds=4)))
    assert_all_of(exchange, pages)
    assert [span(one) for one in pages] == [(0, 2)] * 2 + [(2, 4)] * 2
    assert [one["offset"] for one in exchange.asked] == ["0", "0", "751", "0", "500"]
    assert [one.sequence for one in pages] == [0, 1, 2, 3]


def test_makers_are_left_out_by_name_and_all_of_history_is_asked_for(fetch) -> None:
    exchange = Exchange([trade(1)])
    fetch(exchange.answer, Window(datetime(1970, 1, 1, tzinfo=UTC), START + timedelta(hours=1)))
    assert exchange.asked[0] == {
        "market": MARKET,
        "takerOnly": "true",
        "start": "1",
        "end": str(int(START.timestamp()) + 3600),
        "limit": "1000",
        "offset": "0",
    }


def test_parts_of_a_second_are_asked_for_as_the_whole_second(fetch) -> None:
    half = timedelta(milliseconds=500)
    exchange = Exchange([trade(1, 1), trade(2, 2)])
    pages = fetch(
        exchange.answer, Window(START + timedelta(seconds=1) + half, START + timedelta(seconds=2) + half)
    )
    assert_all_of(exchange, pages)
    assert {span(one) for one in pages} == {(1, 3)}


def test_alike_trades_of_one_busy_second_are_counted_over_its_pages(fetch) -> None:
    exchange = Exchange([trade(7, number // 3) for number in range(12)], deepest=100)
    pages = fetch(exchange.answer, Window(START + timedelta(seconds=7), START + timedelta(seconds=8)))
    assert [len(json.loads(one.body)) for one in pages] == [5, 5, 2, 0]
    assert parsed(*pages)["trade_id"].n_unique() == 12
    assert parsed(pages[1])["trade_id"].to_list() == parsed(*pages)["trade_id"].to_list()[5:10]
    assert [claim.status for claim in proven(pages, pages[0].window)] == ["complete"]


@pytest.mark.parametrize("repeats", [True, False], ids=["repeating", "refusing"])
def test_a_second_that_is_over_the_cap_is_told_and_the_rest_is_whole(fetch, repeats: bool) -> None:
    busy = [trade(100, number) for number in range(30)]
    exchange = Exchange([trade(10, 900), *busy, trade(200, 901)], repeats=repeats)
    pages = fetch(exchange.answer)
    rows = parsed(*pages).unique("trade_id")
    assert rows["event_at"].value_counts().sort("event_at")["count"].to_list() == [1, 15, 1]
    told = [
        ((one.window.start - START) // timedelta(seconds=1), one.status, one.proof) for one in proven(pages)
    ]
    assert told == [
        (0, "complete", "closed_by_empty_answer"),
        (99, "degraded", "offset_cap"),
        (100, "degraded", "offset_cap"),
        (101, "complete", "closed_by_empty_answer"),
    ]


def test_a_second_that_changes_while_it_is_read_is_read_again_later(fetch) -> None:
    exchange = Exchange([trade(0, number) for number in range(7)])

    def answer(asked: dict[str, str]) -> tuple[int, bytes]:
        if len(exchange.asked) == 4:
            exchange.trades.insert(0, trade(0, 99))
        return exchange.answer(asked)

    with pytest.raises(Transient, match="changed while it was read"):
        fetch(answer, Window(START, START + timedelta(seconds=1)))


@pytest.mark.parametrize(
    ("after", "statuses"),
    [
        (timedelta(days=1), ["complete"]),
        (timedelta(seconds=61), ["complete", "degraded"]),
    ],
    ids=["long after", "at once"],
)
def test_the_newest_trades_may_have_to_settle(fetch, after: timedelta, statuses: list[str]) -> None:
    minute = Window(START, START + timedelta(minutes=1))
    claims = proven(fetch(Exchange([trade(30)]).answer, minute), minute, at=START + after)
    assert [claim.status for claim in claims] == statuses
    assert claims[0].proof == "closed_by_empty_answer"


def test_a_window_without_any_trade_proves_nothing(fetch) -> None:
    (only,) = fetch(Exchange([]).answer)
    assert only.body == b"[]"
    assert [claim.status for claim in proven([only])] == ["degraded"]


def test_the_future_is_not_claimed(fetch) -> None:
    assert proven(fetch(Exchange([]).answer), at=START - timedelta(days=1)) == []


@pytest.mark.parametrize(
    "body",
    [
        b"<html>We will be right back</html>",
        json.dumps([trade(0)]).encode()[:40],
        b'{"error":"busy"}',
        json.dumps([trade(0, conditionId="0x" + "b" * 64)]).encode(),
        json.dumps([trade(4000)]).encode(),
    ],
    ids=["HTML", "half a page", "an error with status 200", "all markets", "all times"],
)
def test_what_came_in_place_of_trades_is_kept_and_not_taken_for_the_end(fetch, body: bytes) -> None:
    with pytest.raises(Transient, match=f"not trades of {MARKET}") as raised:
        fetch(lambda _: (200, body))
    (kept,) = raised.value.pages
    assert (kept.body, kept.subject, kept.window) == (body, MARKET, HOUR)


@pytest.mark.parametrize("subject", ["0xabc", MARKET.upper(), YES, ""])
def test_a_subject_that_cannot_be_a_condition_is_refused_unasked(subject: str, tmp_path: Path) -> None:
    with (
        Client(Settings(_env_file=None, home=tmp_path)) as client,
        pytest.raises(UsageError, match=r"subject '.*' is not a condition id"),
    ):
        list(TRADES.fetch(client, subject, HOUR))
