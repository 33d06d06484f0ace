"""Polymarket pages become markets and prices; misaligned outcomes are not repaired."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from lakehouse.bronze import Page, pages_frame
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.silver.prediction_markets import TABLE
from lakehouse.window import Window
from sources.client import Client
from sources.errors import ParseError, Permanent
from sources.polymarket_clob import FEEDS, parse_books, parse_markets, parse_prices
from sources.twin.recording import Recording, read_folder
from sources.twin.server import Twin, serving

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "../shared/recorded/polymarket"
needs_recorded = pytest.mark.skipif(not RECORDED.exists(), reason="the folder of recorded files is not here")

SLUG = "fed-decision-in-june-825"
VANCE = "16040015440196279900485035793550429453516625694844857319147506590755961451627"
CUT_25 = "65193234666628291664907888364936366210889305490897648116746073820519263548476"
NO_CUT_25 = "28290293140018107764072370767749010110409017615323596573647425138985988593200"
HISTORY = "https://clob.polymarket.com/prices-history"
RECEIVED_AT = datetime(2026, 5, 17, 6, 7, tzinfo=UTC)
HALF_HOUR = Window(
    datetime(2026, 6, 12, 16, 33, 20, tzinfo=UTC), datetime(2026, 6, 12, 17, 3, 20, tzinfo=UTC)
)

markets_feed, prices_feed, books_feed = FEEDS
recordings = list(read_folder(ROOT / "recordings/polymarket"))


def pages(*said: tuple[str, bytes]) -> pl.DataFrame:
    found = [
        Page(feed="polymarket_any", subject=subject, request={}, received_at=RECEIVED_AT, body=body)
        for subject, body in said
    ]
    return pages_frame(found, run_id="run", code_version="0")


def body_of(part: str) -> bytes:
    (body,) = (r.body for r in recordings if part in r.url)
    return body


def event_of(*markets: dict) -> bytes:
    return json.dumps({"id": "7", "slug": "some-event", "markets": list(markets)}).encode()


def market(**changes: object) -> dict:
    said = {
        "id": "12",
        "conditionId": "0x" + "a" * 64,
        "question": "Will it rain?",
        "outcomes": '["Up", "Down"]',
        "outcomePrices": '["0.4", "0.6"]',
        "clobTokenIds": '["111", "222"]',
        "updatedAt": "2026-05-17T06:03:56.46115Z",
    }
    return {name: value for name, value in {**said, **changes}.items() if value is not None}


def rows_of(*markets: dict) -> pl.DataFrame:
    return parse_markets(pages(("some-event", event_of(*markets)))).collect()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(Twin(recordings)) as url, Client(Settings(twin_url=url, _env_file=None)) as client:
        yield client


def test_an_event_becomes_one_row_for_each_outcome_of_each_market() -> None:
    asked = pages((SLUG, body_of(SLUG)))
    rows = parse_markets(asked).collect()
    assert rows.height == 10
    first = rows.row(0, named=True)
    assert first.pop("rules").startswith(
        "The FED interest rates are defined in this market by the upper bound"
    )
    assert first == {
        "market_id": "906973",
        "token_id": CUT_25,
        "event_at": datetime(2026, 5, 17, 6, 3, 56, 461150, tzinfo=UTC),
        "known_at": RECEIVED_AT,
        "ingested_at": RECEIVED_AT,
        "page_id": asked["page_id"].item(),
        "provider": "polymarket",
        "condition_id": "0xdde06286a7b9464d344f410ab0b3d2ebc6469904e72c27fd982f65fdbf78768d",
        "group_id": "101772",
        "question": "Will the Fed decrease interest rates by 25 bps after the June 2026 meeting?",
        "outcome": "Yes",
        "outcome_index": 0,
        "price": "0.0055",
        "is_active": True,
        "is_closed": False,
        "is_exclusive": True,
        "resolution_status": None,
        "starts_at": datetime(2025, 12, 10, 21, 45, 58, 522699, tzinfo=UTC),
        "ends_at": datetime(2026, 6, 17, tzinfo=UTC),
        "closed_at": None,
        "volume": "5613436.783344906",
        "liquidity": "365215.79468",
    }


def test_exclusive_outcomes_add_up_to_nearly_one() -> None:
    rows = parse_markets(pages((SLUG, body_of(SLUG)))).filter(outcome="Yes").collect()
    assert rows["price"].cast(pl.Float64).sum() == pytest.approx(1.0015)


@needs_recorded
def test_tokens_and_labels_are_those_of_the_order_book() -> None:
    infos = json.loads((RECORDED / "fed-decision-june-2026/clob-markets.json").read_bytes())
    expected = {(info["c"], token["t"], token["o"]) for info in infos for token in info["t"]}
    rows = parse_markets(pages((SLUG, body_of(SLUG)))).select("condition_id", "token_id", "outcome").collect()
    assert set(rows.rows()) == expected


def test_labels_keep_their_own_token_and_price_whatever_they_are_called() -> None:
    shown = rows_of(market()).select("outcome", "outcome_index", "token_id", "price")
    assert shown.rows() == [("Up", 0, "111", "0.4"), ("Down", 1, "222", "0.6")]


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"clobTokenIds": '["111"]'}, ["Up", "Down"]),
        ({"clobTokenIds": '["111", "222", "333"]'}, ["Up", "Down", None]),
        ({"clobTokenIds": None}, ["Up", "Down"]),
        ({"outcomes": '["Up"]'}, ["Up", None]),
        ({"outcomePrices": '["0.4"]'}, ["Up", "Down"]),
        ({"outcomePrices": None, "outcomes": None, "clobTokenIds": ""}, [None]),
    ],
)
def test_misaligned_outcomes_get_neither_token_nor_price_and_are_rejected(
    changes: dict, labels: list[str | None]
) -> None:
    rows = rows_of(market(**changes))
    (rule,) = (rule for rule in TABLE.row_rules if rule.name == "token_id_missing")
    assert rows.select("outcome", "token_id", "price").rows() == [(label, None, None) for label in labels]
    assert rows.select(rule.check)["token_id"].to_list() == [False] * len(labels)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ('["0", "0"]', [None, None]),
        ('["0.000", "0.0"]', [None, None]),
        ('["1", "0"]', ["1", "0"]),
        ('["69", "0.1"]', ["69", "0.1"]),
        (None, [None, None]),
    ],
)
def test_zero_for_every_outcome_is_no_price_and_other_prices_are_kept_as_sent(
    shown: str | None, expected: list[str | None]
) -> None:
    assert rows_of(market(outcomePrices=shown))["price"].to_list() == expected


def test_token_ids_keep_all_their_digits() -> None:
    tokens = ["9" * 78, "0" * 3 + "1"]
    assert rows_of(market(clobTokenIds=json.dumps(tokens)))["token_id"].to_list() == tokens


def test_closing_and_resolution_are_told_apart() -> None:
    closed = market(closed=True, closedTime="2026-03-19 23:20:15+00", umaResolutionStatus="proposed")
    shown = rows_of(closed).select("is_closed", "closed_at", "resolution_status")
    assert shown.row(0) == (True, datetime(2026, 3, 19, 23, 20, 15, tzinfo=UTC), "proposed")


def test_prices_of_a_listing_are_known_since_it_was_received_however_long_the_market_is_unchanged() -> None:
    rows = rows_of(market(updatedAt="2026-01-01T00:00:00Z", volume="12"))
    assert rows.select("event_at", "known_at", "price", "volume").row(0) == (
        datetime(2026, 1, 1, tzinfo=UTC),
        RECEIVED_AT,
        "0.4",
        "12",
    )


def test_a_market_without_time_of_change_is_known_since_it_was_received() -> None:
    assert rows_of(market(updatedAt=None)).select("event_at", "known_at").row(0) == (RECEIVED_AT, RECEIVED_AT)


@needs_recorded
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("closed_zero_zero_legacy", [("Yes", None, "32257.445115"), ("No", None, "32257.445115")]),
        (
            "closed_nonbinary_legacy",
            [
                ("Long", "0.5843311669077693146635445446077281", "46944.579746"),
                ("Short", "0.4156688330922306853364554553922719", "46944.579746"),
            ],
        ),
    ],
)
def test_markets_of_the_first_years_are_read(name: str, expected: list[tuple]) -> None:
    said = json.loads((RECORDED / f"nautilus/gamma_market_{name}.json").read_bytes())
    assert rows_of(said).select("outcome", "price", "volume").rows() == expected


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


@pytest.mark.parametrize(
    ("token_id", "moment", "price"),
    [
        (CUT_25, datetime(2026, 5, 17, 6, 3, 45, 875000, tzinfo=UTC), "0.0055"),
        (NO_CUT_25, datetime(2026, 5, 17, 6, 3, 45, 875000, tzinfo=UTC), "0.9945"),
    ],
)
def test_a_book_gives_the_middle_of_its_best_prices(token_id: str, moment: datetime, price: str) -> None:
    rows = parse_books(pages((token_id, body_of(f"/book?token_id={token_id}")))).collect()
    shown = rows.select("token_id", "event_at", "known_at", "price", "kind")
    assert shown.rows() == [(token_id, moment, moment, price, "book_mid")]


def book(bids: list[str], asks: list[str]) -> bytes:
    levels = {
        "bids": [{"price": p, "size": "1"} for p in bids],
        "asks": [{"price": p, "size": "1"} for p in asks],
    }
    return json.dumps({"asset_id": "1", "timestamp": "1778997825875", **levels}).encode()


@pytest.mark.parametrize(
    ("bids", "asks", "price"),
    [
        (["0.1", "0.2"], ["0.9", "0.3"], "0.25"),
        (["0.2", "0.1"], ["0.3", "0.9"], "0.25"),
        (["0.001"], ["0.002"], "0.0015"),
        ([], ["0.3"], None),
        (["0.2"], [], None),
        (["0.5"], ["0.4"], None),
        (["0.4"], ["0.4"], None),
    ],
)
def test_a_book_without_two_sides_that_fit_has_no_price(
    bids: list[str], asks: list[str], price: str | None
) -> None:
    assert parse_books(pages(("1", book(bids, asks)))).collect()["price"].to_list() == [price]


@pytest.mark.parametrize("parse", [parse_markets, parse_prices, parse_books])
def test_no_pages_make_an_empty_frame_with_prices_as_text(parse) -> None:
    rows = parse(pages()).collect()
    assert (rows.height, rows.schema["price"]) == (0, pl.String)


def test_an_empty_history_is_an_empty_frame() -> None:
    assert parse_prices(pages(("1", b'{"history":[]}'))).collect().height == 0


@pytest.mark.parametrize(
    ("parse", "body", "reason"),
    [
        (parse_markets, b'{"slug":"1","mark', "is not JSON"),
        (parse_markets, b"<html>503</html>", "is not JSON"),
        (parse_markets, b"[]", "is not a JSON object"),
        (parse_markets, b'{"error":"not found"}', "is about the event None"),
        (parse_markets, b'{"slug":"1"}', "has no markets"),
        (parse_markets, b'{"slug":"1","markets":[{"id":12}, 3]}', "not an object"),
        (parse_markets, b'{"slug":"1","markets":[{"id":"2","active":"yes"}]}', "has active of type str"),
        (parse_markets, b'{"slug":"1","markets":[{"id":"2","outcomes":"[\\"Yes"}]}', "is not JSON"),
        (parse_markets, b'{"slug":"1","markets":[{"id":"2","outcomes":"[[]]"}]}', "not an array of texts"),
        (parse_markets, b'{"slug":"1","markets":[{"id":"2","updatedAt":"soon"}]}', "updatedAt 'soon'"),
        (parse_prices, b'{"error":"invalid filters"}', "has no history"),
        (parse_prices, b'{"history":[[1,2]]}', "not an object"),
        (parse_prices, b'{"history":[{"t":"now","p":1}]}', "time 'now'"),
        (parse_prices, b'{"history":[{"t":1,"price":1}]}', "a sample without p"),
        (parse_books, b'{"asset_id":"2"}', "is the book of '2'"),
        (parse_books, b'{"asset_id":"1","timestamp":"1","bids":[{}],"asks":[]}', "without a readable price"),
        *(
            (
                parse_books,
                b'{"asset_id":"1","timestamp":"1","asks":[{"price":"1"}],"bids":[{"price":%s}]}' % price,
                "without a readable price",
            )
            for price in (b'"NaN"', b"NaN", b"null", b"[1]", b"{}", b"true", b'""', b"1e999999999")
        ),
        (parse_books, b'{"asset_id":"1","timestamp":"1","bids":[]}', "has no asks"),
    ],
)
def test_what_is_not_the_answer_asked_for_is_refused(parse, body: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=f"polymarket polymarket_any 1: page -?[0-9]+ .*{reason}"):
        parse(pages(("1", body)))


@pytest.mark.parametrize(
    ("feed", "subject", "url", "rows"),
    [
        (markets_feed, SLUG, f"https://gamma-api.polymarket.com/events/slug/{SLUG}", 10),
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


def test_an_event_that_does_not_exist_is_a_permanent_error(client: Client) -> None:
    with pytest.raises(Permanent, match="events/slug/no-such-event"):
        list(markets_feed.fetch(client, "no-such-event", HALF_HOUR))


@pytest.mark.parametrize(
    ("feed", "subject"),
    [(markets_feed, "Some Event"), (markets_feed, "../x"), (prices_feed, "0xabc"), (books_feed, "9" * 79)],
)
def test_a_subject_that_cannot_be_is_refused_unasked(client: Client, feed, subject: str) -> None:
    with pytest.raises(UsageError, match=r"subject '.*' is not"):
        list(feed.fetch(client, subject, HALF_HOUR))
