"""Polymarket's books and price histories: levels in order, the hash recomputed, coarse samples told apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
import stamina

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.coverage import Asked
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.silver.book_snapshots import TABLE as BOOKS
from lakehouse.window import Window
from sources.client import Client
from sources.errors import ParseError, Permanent, Transient
from sources.polymarket_clob import FEEDS, book_hash, parse_books, parse_prices
from sources.twin.recording import Recording, read_folder
from sources.twin.server import Twin, serving

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "../shared/recorded/polymarket"
needs_recorded = pytest.mark.skipif(not RECORDED.exists(), reason="the folder of recorded files is not here")

VANCE = "16040015440196279900485035793550429453516625694844857319147506590755961451627"
CUT_25 = "65193234666628291664907888364936366210889305490897648116746073820519263548476"
NO_CUT_25 = "28290293140018107764072370767749010110409017615323596573647425138985988593200"
HISTORY = "https://clob.polymarket.com/prices-history"
RECEIVED_AT = datetime(2026, 5, 17, 6, 7, tzinfo=UTC)
HALF_HOUR = Window(
    datetime(2026, 6, 12, 16, 33, 20, tzinfo=UTC), datetime(2026, 6, 12, 17, 3, 20, tzinfo=UTC)
)

prices_feed, books_feed = FEEDS
recordings = list(read_folder(ROOT / "recordings/polymarket"))


def pages(*said: tuple[str, bytes], url: str = "") -> pl.DataFrame:
    found = [
        Page(feed="polymarket_any", subject=subject, request={"url": url}, received_at=RECEIVED_AT, body=body)
        for subject, body in said
    ]
    return pages_frame(found, run_id="run", code_version="0")


def body_of(part: str) -> bytes:
    (body,) = (r.body for r in recordings if part in r.url)
    return body


def recorded_books() -> dict[str, bytes]:
    """The books of the Fed event's ten tokens, by token."""
    return {r.url.rpartition("=")[2]: r.body for r in recordings if "/book?" in r.url}


def ccxt_case(method: str) -> dict:
    said = json.loads((RECORDED / "ccxt-static/response/polymarket.json").read_bytes())
    return said["methods"][method][0]


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(Twin(recordings)) as url, Client(Settings(twin_url=url, _env_file=None)) as client:
        yield client


# Histories


def test_samples_become_prices_at_their_second() -> None:
    asked = pages((VANCE, body_of("prices-history")))
    rows = parse_prices(asked).collect()
    assert rows.height == 30
    assert rows.row(0, named=True) == {
        "token_id": VANCE,
        "event_at": datetime(2026, 6, 12, 16, 34, 4, tzinfo=UTC),
        "known_at": datetime(2026, 6, 12, 16, 34, 4, tzinfo=UTC),
        "ingested_at": RECEIVED_AT,
        "page_id": asked["page_id"].item(),
        "provider": "polymarket",
        "price": "0.151",
        "kind": "history",
    }


@needs_recorded
def test_samples_are_those_that_ccxt_reads() -> None:
    rows = parse_prices(pages((VANCE, body_of("prices-history"))))
    minutes = rows.select(
        pl.col("event_at").dt.truncate("1m").dt.epoch("ms"), pl.col("price").cast(pl.Float64)
    ).collect()
    expected = [(at, close) for at, _, _, _, close, _ in ccxt_case("fetchOHLCV")["parsedResponse"]]
    assert minutes.rows() == expected


@pytest.mark.parametrize(("fidelity", "kind"), [("1", "history"), ("720", "history_12h")])
def test_coarse_samples_are_of_a_kind_of_their_own(fidelity: str, kind: str) -> None:
    asked = pages(("1", b'{"history":[{"t":1768435200,"p":0.5}]}'), url=f"{HISTORY}?fidelity={fidelity}")
    assert parse_prices(asked).collect()["kind"].to_list() == [kind]


def test_an_empty_history_is_an_empty_frame() -> None:
    rows = parse_prices(pages(("1", b'{"history":[]}'))).collect()
    assert (rows.height, rows.schema["price"]) == (0, pl.String)


def test_long_windows_are_cut_to_two_weeks_and_empty_ones_asked_again_at_twelve_hours() -> None:
    window = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 20, tzinfo=UTC))
    spans = ["startTs=1767225600&endTs=1768435200", "startTs=1768435200&endTs=1768867200"]
    urls = [f"{HISTORY}?market=1&{spans[0]}&fidelity=1", f"{HISTORY}?market=1&{spans[0]}&fidelity=720"]
    urls += [f"{HISTORY}?market=1&{spans[1]}&fidelity=1"]
    bodies = [b'{"history":[]}', b'{"history":[]}', b'{"history":[{"t":1768435200,"p":0.5}]}']
    answers = [Recording(url=url, body=body) for url, body in zip(urls, bodies, strict=True)]
    with serving(Twin(answers)) as twin, Client(Settings(twin_url=twin, _env_file=None)) as client:
        found = list(prices_feed.fetch(client, "1", window))
    assert [page.request["url"] for page in found] == urls
    assert [page.sequence for page in found] == [0, 1, 2]
    assert found[2].window == Window(datetime(2026, 1, 15, tzinfo=UTC), window.end)


@pytest.mark.parametrize(
    ("samples", "fidelity", "status"),
    [
        (b'{"t":1781282044,"p":0.5}', 1, "complete"),
        (b'{"t":1781282044,"p":0.5}', 720, "degraded"),
        (b"", 720, "degraded"),
    ],
    ids=["minutes", "12 hours", "nothing"],
)
def test_only_minute_samples_prove_a_window(samples: bytes, fidelity: int, status: str) -> None:
    found = pages(("1", b'{"history":[%s]}' % samples), url=f"{HISTORY}?fidelity={fidelity}")
    asked = Asked(subject="1", window=HALF_HOUR, at=datetime(2026, 7, 1, tzinfo=UTC))
    (claim,) = prices_feed.proof(asked, found, parse_prices(found).collect())
    assert (claim.status, claim.window) == (status, HALF_HOUR)
    assert claim.cannot_show


@pytest.mark.parametrize(
    "body", [b"<html>We will be right back</html>", b'{"history":[{"t":17', b'{"error":"busy"}', b"[]"]
)
def test_a_page_that_is_no_history_is_not_taken_for_an_empty_one(body: bytes) -> None:
    url = f"{HISTORY}?market=1&startTs=1781282000&endTs=1781283800&fidelity=1"
    with (
        serving(Twin([Recording(url=url, body=body)])) as twin,
        Client(Settings(twin_url=twin, _env_file=None)) as client,
        pytest.raises(Transient, match="not a history") as raised,
    ):
        list(prices_feed.fetch(client, "1", HALF_HOUR))
    (kept,) = raised.value.pages
    assert (kept.body, kept.subject, kept.window) == (body, "1", HALF_HOUR)


# Books


def book(bids: list[str], asks: list[str], **changes: object) -> bytes:
    levels = {
        "bids": [{"price": p, "size": "1"} for p in bids],
        "asks": [{"price": p, "size": "2"} for p in asks],
    }
    return json.dumps({"asset_id": "1", "timestamp": "1778997825875", **levels, **changes}).encode()


def bid(level: object) -> bytes:
    """A book with this one level."""
    return book([], []).replace(b'"bids": []', b'"bids": [%s]' % json.dumps(level).encode())


def test_a_book_is_dated_by_its_last_change_and_has_the_best_price_first() -> None:
    asked = pages((CUT_25, body_of(f"/book?token_id={CUT_25}")))
    row = parse_books(asked).collect().row(0, named=True)
    bids, asks = (row.pop(f"{side}_prices") for side in ("bid", "ask"))
    bid_sizes, ask_sizes = (row.pop(f"{side}_amounts") for side in ("bid", "ask"))
    moment = datetime(2026, 5, 17, 6, 3, 45, 875000, tzinfo=UTC)
    assert (bids, bid_sizes[0], asks[:2], ask_sizes[0]) == (
        ["0.005", "0.004", "0.003", "0.002", "0.001"],
        "31357.09",
        ["0.006", "0.007"],
        "10139.86",
    )
    assert (len(bid_sizes), len(asks), len(ask_sizes), asks[-1]) == (5, 136, 136, "0.999")
    assert row == {
        "venue": "polymarket",
        "instrument_id": CUT_25,
        "event_at": moment,
        "known_at": moment,
        "ingested_at": RECEIVED_AT,
        "page_id": asked["page_id"].item(),
        "provider": "polymarket",
        "sequence": None,
        "amount_unit": "shares",
        "is_valid": True,
        "check": "checksum",
    }


def test_the_hash_of_every_recorded_book_is_the_one_that_it_carries() -> None:
    said = recorded_books()
    rows = parse_books(pages(*said.items())).collect()
    assert rows.select("check", "is_valid").rows() == [("checksum", True)] * 10
    assert all(book_hash(json.loads(body)) == json.loads(body)["hash"] for body in said.values())


def test_the_hash_is_that_of_the_providers_own_test_vector() -> None:
    level = [{"price": price, "size": "100"} for price in ("0.3", "0.4", "0.6", "0.7")]
    said = {
        "market": "0xaabbcc",
        "asset_id": "100",
        "timestamp": "123456789",
        "hash": "",
        "bids": level[:2],
        "asks": level[2:],
        "min_order_size": "100",
        "tick_size": "0.01",
        "neg_risk": False,
        "last_trade_price": "0.5",
    }
    assert book_hash(said) == "0458ea5755c9f73d64a14636fa5c36ed460ec394"


def test_a_book_that_lost_a_level_or_was_changed_is_not_valid() -> None:
    said = json.loads(body_of(f"/book?token_id={CUT_25}"))
    cut = {**said, "asks": said["asks"][1:]}
    changed = {**said, "bids": [{**said["bids"][0], "size": "1"}, *said["bids"][1:]]}
    rows = parse_books(pages(*((CUT_25, json.dumps(one).encode()) for one in (cut, changed)))).collect()
    assert rows.select("check", "is_valid").rows() == [("checksum", False)] * 2


@needs_recorded
def test_levels_are_those_that_ccxt_reads_and_its_cut_book_is_found_out() -> None:
    case = ccxt_case("fetchOrderBook")
    rows = parse_books(pages((VANCE, json.dumps(case["httpResponse"]).encode())))
    row = rows.with_columns(pl.col("^(bid|ask)_.*$").cast(pl.List(pl.Float64))).collect().row(0, named=True)
    for side in ("bid", "ask"):
        levels = [list(level) for level in zip(row[f"{side}_prices"], row[f"{side}_amounts"], strict=True)]
        assert levels == case["parsedResponse"][f"{side}s"]
    assert row["is_valid"] is False


@needs_recorded
def test_a_book_without_what_the_hash_is_made_of_is_taken_as_sent() -> None:
    said = (RECORDED / "nautilus/clob_book_response.json").read_bytes()
    row = parse_books(pages(("12345678901234567890", said))).collect().row(0, named=True)
    assert (row["check"], row["is_valid"]) == ("snapshot", True)
    assert (row["bid_prices"], row["ask_prices"]) == (["0.50", "0.49", "0.48"], ["0.51", "0.52", "0.53"])


def test_both_books_of_a_market_are_one_mirrored_at_one() -> None:
    yes, no = (
        parse_books(pages((token, body_of(f"/book?token_id={token}")))).collect().row(0, named=True)
        for token in (CUT_25, NO_CUT_25)
    )
    assert [round(1 - float(price), 3) for price in yes["bid_prices"]] == [
        float(price) for price in no["ask_prices"]
    ]
    assert yes["bid_amounts"] == no["ask_amounts"]
    assert yes["ask_amounts"] == no["bid_amounts"]


@pytest.mark.parametrize(
    ("bids", "asks"),
    [(["0.1", "0.2"], ["0.9", "0.3"]), (["0.2", "0.1"], ["0.3", "0.9"])],
    ids=["worst first", "best first"],
)
def test_levels_are_ordered_by_price_whatever_their_place(bids: list[str], asks: list[str]) -> None:
    row = parse_books(pages(("1", book(bids, asks)))).collect().row(0, named=True)
    assert (row["bid_prices"], row["ask_prices"]) == (["0.2", "0.1"], ["0.3", "0.9"])


def test_a_side_without_orders_is_empty() -> None:
    row = parse_books(pages(("1", book([], ["0.3"])))).collect().row(0, named=True)
    assert (row["bid_prices"], row["bid_amounts"], row["ask_prices"]) == ([], [], ["0.3"])


def test_recorded_books_keep_all_rules_of_the_table() -> None:
    judged = conform(BOOKS, parse_books(pages(*recorded_books().items()))).collect()
    assert judged["reasons"].list.len().sum() == 0
    best = judged.select(pl.col("bid_prices").list.first(), pl.col("ask_prices").list.first())
    assert all(bid < ask for bid, ask in best.iter_rows())


@pytest.mark.parametrize(
    ("bids", "asks"), [(["0.5"], ["0.4"]), (["0.4"], ["0.4"])], ids=["crossed", "touching"]
)
def test_a_crossed_book_is_not_published(bids: list[str], asks: list[str]) -> None:
    judged = conform(BOOKS, parse_books(pages(("1", book(bids, asks))))).collect()
    assert judged["reasons"].to_list() == [["crossed"]]


@pytest.mark.parametrize(
    ("parse", "body", "reason"),
    [
        (parse_prices, b'{"error":"invalid filters"}', "has no history"),
        (parse_prices, b'{"history":[[1,2]]}', "not an object"),
        (parse_prices, b'{"history":[{"t":"now","p":1}]}', "time 'now'"),
        (parse_prices, b'{"history":[{"t":1768435200,"price":1}]}', "a sample without p"),
        (parse_prices, b'{"history":[{"t":1768435200000,"p":1}]}', "cannot be read"),
        (parse_prices, b'{"history":[{"t":1768435,"p":1}]}', "1970-01-21: its unit has changed"),
        (parse_books, b'{"asset_id":"2"}', "is the book of '2'"),
        (parse_books, book([], [], timestamp="1778997825"), "1970-01-21: its unit has changed"),
        (parse_books, bid({}), "without a readable"),
        (parse_books, bid("0.5"), "without a readable"),
        *(
            (parse_books, bid({"price": price, "size": "1"}), "without a readable price")
            for price in ("NaN", None, ["1"], {}, True, "", "1e999999999")
        ),
        (parse_books, bid({"price": "0.5"}), "without a readable size"),
        (parse_books, b'{"asset_id":"1","timestamp":"1778997825875","bids":[]}', "has no asks"),
        (parse_books, b'{"asset_id":"1","timestamp":"17789978', "is not JSON"),
    ],
)
def test_what_is_not_the_answer_asked_for_is_refused(parse, body: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=f"polymarket polymarket_any 1: page -?[0-9]+ .*{reason}"):
        parse(pages(("1", body)))


# Over HTTP


@pytest.mark.parametrize(
    ("feed", "subject", "url", "rows"),
    [
        (books_feed, CUT_25, f"https://clob.polymarket.com/book?token_id={CUT_25}", 1),
        (prices_feed, VANCE, f"{HISTORY}?market={VANCE}&startTs=1781282000&endTs=1781283800&fidelity=1", 30),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_fetch_over_http_brings_pages_that_parse(
    client: Client, feed, subject: str, url: str, rows: int
) -> None:
    (page,) = feed.fetch(client, subject, HALF_HOUR)
    assert (page.feed, page.subject, page.request["url"]) == (feed.name, subject, url)
    assert feed.parse(pages_frame([page], run_id="run", code_version="0")).collect().height == rows


def test_a_token_without_a_book_is_a_permanent_error(client: Client) -> None:
    with pytest.raises(Permanent, match="No orderbook exists"):
        list(books_feed.fetch(client, "7", HALF_HOUR))


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
@pytest.mark.parametrize("subject", ["0xabc", "9" * 79, "1.6e76", ""])
def test_a_subject_that_cannot_be_a_token_is_refused_unasked(client: Client, feed, subject: str) -> None:
    with pytest.raises(UsageError, match=r"subject '.*' is not a token id"):
        list(feed.fetch(client, subject, HALF_HOUR))
