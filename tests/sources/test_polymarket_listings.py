"""Polymarket's listings: a small server that pages as Gamma does, by cursor or by offset, and hides what it hides."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest
import stamina
from pydantic import SecretStr

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.coverage import Asked
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window, parse_moment
from sources.client import Client
from sources.errors import ParseError, Permanent, Transient
from sources.feed import Feed
from sources.polymarket_listings import FEEDS

EVENTS, MARKETS = FEEDS
WEEK = Window(datetime(2026, 5, 11, tzinfo=UTC), datetime(2026, 5, 18, tzinfo=UTC))
RECEIVED_AT = datetime(2026, 5, 17, 6, 7, tzinfo=UTC)
CONDITION = "0x" + "a" * 64


def market(number: int, **changes: object) -> dict:
    return {
        "id": str(number),
        "conditionId": f"0x{number:064x}",
        "question": f"Question {number}?",
        "outcomes": '["Yes", "No"]',
        "outcomePrices": '["0.4", "0.6"]',
        "clobTokenIds": f'["{number}1", "{number}2"]',
        "startDate": f"2026-05-{11 + number % 7}T12:00:00Z",
        "closed": False,
        "version": "v1",
        **changes,
    }


def event(number: int, **changes: object) -> dict:
    said = {"closed": False, "version": "v1", "startDate": f"2026-05-{11 + number % 7}T12:00:00Z", **changes}
    return {"id": str(900 + number), "slug": f"event-{number}", "markets": [market(number, **said)], **said}


@dataclass
class Gamma:
    """Answers listings as the provider does: what is not asked for by name is left out, pages of `most`."""

    things: list[dict]
    most: int = 3
    offers_keyset: bool = True
    deepest: int = 10**9
    repeats: bool = False
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def answer(self, path: str, asked: dict[str, str]) -> tuple[int, bytes]:
        self.asked.append((path, asked))
        _, holds, *keyset = path.split("/")
        found = [one for one in self.things if self._is_wanted(one, asked)]
        most = min(int(asked["limit"]), self.most)
        if not keyset:
            return self._by_offset(found, int(asked["offset"]), most)
        if not self.offers_keyset:
            return 404, b"404 page not found"
        start = int(asked.get("after_cursor", "0"))
        more = {"next_cursor": str(start + most)} if start + most < len(found) else {}
        return 200, json.dumps({holds: found[start : start + most], **more}).encode()

    def _by_offset(self, found: list[dict], offset: int, most: int) -> tuple[int, bytes]:
        if offset > self.deepest and not self.repeats:
            return 422, b'{"error":"offset exceeds the maximum"}'
        offset = min(offset, self.deepest)
        return 200, json.dumps(found[offset : offset + most]).encode()

    def _is_wanted(self, one: dict, asked: dict[str, str]) -> bool:
        if asked.get("condition_ids", one.get("conditionId")) != one.get("conditionId"):
            return False
        first, last = (asked.get(f"start_date_{end}") for end in ("min", "max"))
        start = parse_moment(one["startDate"])
        return (
            one["closed"] == (asked.get("closed", "false") == "true")
            and one["version"] == asked.get("version", "v1")
            and (first is None or parse_moment(first) <= start)
            and (last is None or start <= parse_moment(last))
        )


@contextmanager
def client_at(answer: Callable[[str, dict[str, str]], tuple[int, bytes]], home: Path) -> Iterator[Client]:
    """A client whose Gamma is a server on loopback that answers with `answer(path, parameters)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            parts = urlsplit(self.path)
            status, body = answer(parts.path, dict(parse_qsl(parts.query)))
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
        settings = Settings(_env_file=None, home=home, providers={"MNEMO_POLYMARKET_GAMMA_URL": url})
        try:
            with Client(settings) as client:
                yield client
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@pytest.fixture
def fetch(tmp_path: Path) -> Callable[..., list[Page]]:
    def fetched(answer: Callable, feed: Feed = EVENTS, subject: str = "all") -> list[Page]:
        with client_at(answer, tmp_path) as client:
            return list(feed.fetch(client, subject, WEEK))

    return fetched


def frame(pages: list[Page]) -> pl.DataFrame:
    return pages_frame(pages, run_id="r", code_version="v")


def market_ids(feed: Feed, pages: list[Page]) -> set[int]:
    return {int(one) for one in feed.parse(frame(pages)).collect()["market_id"]}


def of_all_kinds(make: Callable[..., dict]) -> list[dict]:
    """Forty things, open and closed, of both versions."""
    return [
        make(number, closed=number % 3 == 0, version="v2" if number % 5 == 0 else "v1")
        for number in range(1, 41)
    ]


BOTH = pytest.mark.parametrize(
    ("feed", "make"), [(EVENTS, event), (MARKETS, market)], ids=["events", "markets"]
)


@BOTH
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"most": 1},
        {"most": 1000},
        {"offers_keyset": False},
        {"offers_keyset": False, "deepest": 6},
        {"offers_keyset": False, "deepest": 6, "repeats": True},
    ],
    ids=["by cursor", "one a page", "all on a page", "by offset", "refused", "repeating"],
)
def test_everything_is_listed_open_and_closed_and_of_both_versions(fetch, feed, make, how: dict) -> None:
    gamma = Gamma(of_all_kinds(make), **how)
    pages = fetch(gamma.answer, feed)
    assert market_ids(feed, pages) == set(range(1, 41))
    assert [one.sequence for one in pages] == sorted({one.sequence for one in pages})


def test_each_pass_is_asked_for_by_name_and_goes_on_by_after_cursor(fetch) -> None:
    gamma = Gamma([event(number) for number in range(1, 5)])
    fetch(gamma.answer, EVENTS, "tag:fed-rates")
    path, first = gamma.asked[0]
    assert (path, first) == (
        "/events/keyset",
        {
            "tag_slug": "fed-rates",
            "start_date_min": "2026-05-11T00:00:00Z",
            "start_date_max": "2026-05-18T00:00:00Z",
            "closed": "false",
            "version": "v1",
            "limit": "100",
        },
    )
    assert [(one["version"], one["closed"], one.get("after_cursor")) for _, one in gamma.asked] == [
        ("v1", "false", None),
        ("v1", "false", "3"),
        ("v1", "true", None),
        ("v2", "false", None),
        ("v2", "true", None),
    ]


@pytest.mark.parametrize(
    ("feed", "subject", "sent"),
    [
        (EVENTS, "series:10345", {"series_id": "10345"}),
        (MARKETS, "tag:100196", {"tag_id": "100196"}),
        (MARKETS, f"condition:{CONDITION}", {"condition_ids": CONDITION}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_subject_narrows_the_listing(fetch, feed, subject: str, sent: dict[str, str]) -> None:
    gamma = Gamma([])
    fetch(gamma.answer, feed, subject)
    assert all(one.items() >= sent.items() for _, one in gamma.asked)


def test_a_market_by_its_condition_is_found_whenever_it_began_and_ended(fetch) -> None:
    old = market(7, startDate="2020-10-02T16:10:01Z", closed=True)
    pages = fetch(Gamma([old]).answer, MARKETS, f"condition:{old['conditionId']}")
    assert market_ids(MARKETS, pages) == {7}


def test_an_empty_page_with_a_cursor_is_not_the_end(fetch) -> None:
    def answer(_path: str, asked: dict[str, str]) -> tuple[int, bytes]:
        if asked["closed"] == "true" or asked["version"] == "v2":
            return 200, b'{"events":[]}'
        if "after_cursor" not in asked:
            return 200, b'{"events":[],"next_cursor":"b"}'
        return 200, json.dumps({"events": [event(1)]}).encode()

    assert market_ids(EVENTS, fetch(answer)) == {1}


@pytest.mark.parametrize(
    "second",
    [
        {"events": [event(1)], "next_cursor": "c"},
        {"events": [event(2)], "next_cursor": "b"},
    ],
    ids=["the same page", "the same cursor"],
)
def test_a_page_that_repeats_is_an_error_and_not_followed_for_ever(fetch, second: dict) -> None:
    def answer(_path: str, asked: dict[str, str]) -> tuple[int, bytes]:
        first = {"events": [event(1)], "next_cursor": "b"}
        return 200, json.dumps(second if "after_cursor" in asked else first).encode()

    with pytest.raises(Transient, match="polymarket_event_listing all: the listing repeats a page"):
        fetch(answer)


def test_more_than_an_hour_can_hold_is_an_error_and_not_left_out(fetch) -> None:
    same = [event(number, startDate="2026-05-12T12:00:00Z") for number in range(1, 20)]
    gamma = Gamma(same, offers_keyset=False, deepest=6)
    with pytest.raises(Permanent, match=r"goes no deeper than .*start in one hour"):
        fetch(gamma.answer)


def test_another_refusal_of_the_older_listing_is_no_cap(fetch) -> None:
    def answer(path: str, _asked: dict[str, str]) -> tuple[int, bytes]:
        return (404, b"not found") if path.endswith("keyset") else (422, b'{"error":"invalid filters"}')

    with pytest.raises(Permanent, match=r"answered 422 .*invalid filters"):
        fetch(answer)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>We will be right back</html>",
        b'{"events":[{"id":"1","sl',
        b'{"error":"busy"}',
        b'{"events":{}}',
        b'{"events":[1]}',
        b'[{"id":"1"}]',
    ],
    ids=["HTML", "half a page", "an error with status 200", "another kind", "no objects", "a bare list"],
)
def test_what_came_in_place_of_a_listing_is_kept_and_not_taken_for_the_end(fetch, body: bytes) -> None:
    with pytest.raises(Transient, match="not a list of events") as raised:
        fetch(lambda *_: (200, body))
    (kept,) = raised.value.pages
    assert (kept.body, kept.subject, kept.window) == (body, "all", WEEK)


def test_a_listing_proves_its_moment_and_counts_each_pass(fetch) -> None:
    found = frame(fetch(Gamma(of_all_kinds(event)).answer))
    asked = Asked(subject="all", window=WEEK, at=RECEIVED_AT)
    (claim,) = EVENTS.proof(asked, found, EVENTS.parse(found).collect())
    assert (claim.status, claim.window.start) == ("complete", RECEIVED_AT)
    assert claim.window.end - claim.window.start == timedelta(microseconds=1)
    assert claim.evidence == {"rows": 80, "open_v1": 21, "closed_v1": 11, "open_v2": 6, "closed_v2": 2}
    assert EVENTS.about is not None
    assert EVENTS.about("all") == []


def test_events_bring_their_group_and_markets_the_event_that_they_name(fetch) -> None:
    group = {
        "negRisk": True,
        "negRiskMarketID": "0x" + "b" * 64,
        "negRiskAugmented": True,
        "title": "Who wins?",
    }
    by_event = EVENTS.parse(frame(fetch(Gamma([event(1, **group)]).answer))).collect()
    named = market(1, events=[{"id": "901", "slug": "event-1", "title": "Who wins?"}])
    by_market = MARKETS.parse(frame(fetch(Gamma([named]).answer, MARKETS))).collect()
    shown = ("group_id", "event_slug", "event_title")
    assert (
        by_event.select(shown).rows()
        == by_market.select(shown).rows()
        == [("901", "event-1", "Who wins?")] * 2
    )
    assert (
        by_event.select("is_exclusive", "neg_risk_market_id", "is_open_ended").rows()
        == [(True, "0x" + "b" * 64, True)] * 2
    )
    assert conform(EVENTS.table, by_event.lazy()).collect()["reasons"].to_list() == [[], []]


@pytest.mark.parametrize("feed", FEEDS, ids=lambda feed: feed.name)
@pytest.mark.parametrize("body", [b'{"things":[]}', b"7", b"<html>", b'{"events":[1],"markets":[1]}'])
def test_a_page_that_is_no_listing_is_refused_by_name(feed, body: bytes) -> None:
    bad = Page(feed=feed.name, subject="all", request={}, received_at=RECEIVED_AT, body=body)
    with pytest.raises(ParseError, match=f"polymarket {feed.name} all: page {bad.page_id} "):
        feed.parse(frame([bad])).collect()


@pytest.mark.parametrize(
    ("feed", "subject"),
    [
        (EVENTS, ""),
        (EVENTS, "everything"),
        (EVENTS, "tag:Fed Rates"),
        (EVENTS, "series:fomc"),
        (MARKETS, "tag:fed-rates"),
        (MARKETS, "condition:0xabc"),
    ],
)
def test_a_subject_that_cannot_be_is_refused_unasked(feed, subject: str, tmp_path: Path) -> None:
    with (
        Client(Settings(_env_file=None, home=tmp_path)) as client,
        pytest.raises(UsageError, match="subject "),
    ):
        list(feed.fetch(client, subject, WEEK))
