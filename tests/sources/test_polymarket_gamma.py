"""What Polymarket's catalogue says of markets; misaligned outcomes are not repaired, what is not set is null."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.silver.prediction_markets import TABLE
from lakehouse.window import Window
from sources.client import Client
from sources.errors import ParseError, Permanent
from sources.polymarket_gamma import FEEDS, parse_markets
from sources.polymarket_listings import parse_event_listing, parse_market_listing
from sources.twin.recording import read_folder
from sources.twin.server import Twin, serving

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "../shared/recorded/polymarket"
needs_recorded = pytest.mark.skipif(not RECORDED.exists(), reason="the folder of recorded files is not here")

SLUG = "fed-decision-in-june-825"
CUT_25 = "65193234666628291664907888364936366210889305490897648116746073820519263548476"
RECEIVED_AT = datetime(2026, 5, 17, 6, 7, tzinfo=UTC)
DAY = Window(datetime(2026, 5, 17, tzinfo=UTC), datetime(2026, 5, 18, tzinfo=UTC))
ZEROS = "0x" + "0" * 64

(markets_feed,) = FEEDS
recordings = list(read_folder(ROOT / "recordings/polymarket"))


def pages(*said: tuple[str, bytes]) -> pl.DataFrame:
    found = [
        Page(feed="polymarket_any", subject=subject, request={}, received_at=RECEIVED_AT, body=body)
        for subject, body in said
    ]
    return pages_frame(found, run_id="run", code_version="0")


def fed_event() -> pl.DataFrame:
    (body,) = (r.body for r in recordings if SLUG in r.url)
    return pages((SLUG, body))


def event_of(*markets: dict, **changes: object) -> bytes:
    return json.dumps({"id": "7", "slug": "some-event", "markets": list(markets), **changes}).encode()


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


def rows_of(*markets: dict, **event: object) -> pl.DataFrame:
    return parse_markets(pages(("some-event", event_of(*markets, **event)))).collect()


def nautilus(name: str) -> dict:
    return json.loads((RECORDED / f"nautilus/{name}.json").read_bytes())


@needs_recorded
def test_a_market_names_the_asset_whose_price_decides_it_as_coinmetrics_does() -> None:
    told = rows_of(nautilus("gamma_market")).select("resolution_source", "underlying_asset").unique()
    assert told.rows() == [("https://data.chain.link/streams/btc-usd", "btc")]


@pytest.mark.parametrize(
    ("of_event", "of_market", "asset"),
    [
        ("https://www.binance.com/en/trade/ETH_USDT", None, "eth"),
        ("https://www.binance.com/en/trade/ETH_USDT", "https://data.chain.link/streams/btc-usd", "btc"),
        ("https://hltv.org", "", None),
    ],
)
def test_the_underlying_is_that_of_the_market_else_of_its_event(of_event, of_market, asset) -> None:
    rows = rows_of(market(resolutionSource=of_market), resolutionSource=of_event)
    assert rows["underlying_asset"].to_list() == [asset, asset]


def day_of_five_minutes() -> list[dict]:
    raw = (RECORDED / "btc-updown-5m/BTC-5m-markets-2026-07-24.jsonl.gz").read_bytes()
    return [json.loads(line) for line in gzip.decompress(raw).splitlines()]


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with serving(Twin(recordings)) as url, Client(Settings(twin_url=url, _env_file=None)) as client:
        yield client


def test_an_event_becomes_one_row_for_each_outcome_of_each_market() -> None:
    asked = fed_event()
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
        "event_slug": "fed-decision-in-june-825",
        "event_title": "Fed Decision in June?",
        "group_item_title": "25 bps decrease",
        "question": "Will the Fed decrease interest rates by 25 bps after the June 2026 meeting?",
        "outcome": "Yes",
        "outcome_index": 0,
        "price": "0.0055",
        "is_active": True,
        "is_accepting_orders": True,
        "is_closed": False,
        "is_exclusive": True,
        "neg_risk_market_id": "0xa8a8ccaceb3e11706b62f5bb6a040665c1ebc14312abcf7430c7114095406a00",
        "is_open_ended": False,
        "resolution_source": None,
        "underlying_asset": None,
        "resolution_status": None,
        "resolved_at": None,
        "payout": None,
        "starts_at": datetime(2025, 12, 10, 21, 45, 58, 522699, tzinfo=UTC),
        "ends_at": datetime(2026, 6, 17, tzinfo=UTC),
        "closed_at": None,
        "protocol": None,
        "volume": "5613436.783344906",
        "liquidity": "365215.79468",
    }


def test_exclusive_outcomes_share_a_group_and_add_up_to_nearly_one() -> None:
    rows = parse_markets(fed_event()).filter(outcome="Yes").collect()
    assert rows["price"].cast(pl.Float64).sum() == pytest.approx(1.0015)
    assert rows["neg_risk_market_id"].n_unique() == rows["group_id"].n_unique() == 1
    assert sorted(rows["group_item_title"]) == [
        "25 bps decrease",
        "25 bps increase",
        "50+ bps decrease",
        "50+ bps increase",
        "No change",
    ]


@needs_recorded
def test_tokens_and_labels_are_those_of_the_order_book() -> None:
    infos = json.loads((RECORDED / "fed-decision-june-2026/clob-markets.json").read_bytes())
    expected = {(info["c"], token["t"], token["o"]) for info in infos for token in info["t"]}
    rows = parse_markets(fed_event()).select("condition_id", "token_id", "outcome").collect()
    assert set(rows.rows()) == expected


@needs_recorded
def test_search_and_event_pages_say_the_same_of_a_market() -> None:
    found = json.loads((RECORDED / "fed-decision-june-2026/gamma-search.json").read_bytes())
    listed = parse_event_listing(pages(("all", json.dumps({"events": found["events"]}).encode()))).collect()
    columns = ("market_id", "condition_id", "token_id", "outcome", "group_id", "question", "ends_at")
    own = parse_markets(fed_event()).select(columns).collect()
    assert set(own.rows()) <= set(listed.select(columns).rows())


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
    assert rows.select("outcome", "token_id", "price").rows() == [(label, None, None) for label in labels]
    reasons = conform(TABLE, rows.lazy()).collect()["reasons"].to_list()
    assert all("token_id_missing" in found for found in reasons)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ('["0", "0"]', [None, None]),
        ('["0.000", "0.0"]', [None, None]),
        ('["1", "0"]', ["1", "0"]),
        (None, [None, None]),
    ],
)
def test_zero_for_every_outcome_is_no_price_and_other_prices_are_kept_as_sent(
    shown: str | None, expected: list[str | None]
) -> None:
    assert rows_of(market(outcomePrices=shown))["price"].to_list() == expected


def test_the_price_69_that_means_not_set_is_never_published() -> None:
    judged = conform(TABLE, rows_of(market(outcomePrices='["69", "0.1"]')).lazy()).collect()
    assert judged["reasons"].to_list() == [["price_too_high"], []]


def test_token_ids_keep_all_their_digits() -> None:
    tokens = ["9" * 78, "0" * 3 + "1"]
    rows = rows_of(market(clobTokenIds=json.dumps(tokens)))
    assert rows["token_id"].to_list() == tokens
    assert conform(TABLE, rows.lazy()).collect()["token_id"].to_list() == tokens


def test_token_ids_sent_as_numbers_keep_their_digits_or_are_rejected() -> None:
    rows = rows_of(market(clobTokenIds=f"[{'9' * 78}, 1e77]"))
    assert rows["token_id"].to_list() == ["9" * 78, "1e77"]
    judged = conform(TABLE, rows.lazy()).collect()
    assert judged["reasons"].to_list() == [[], ["token_id_malformed"]]


def test_a_market_of_the_second_protocol_names_its_tokens_positions() -> None:
    said = market(clobTokenIds=None, positionIds='["5", "6"]', version="v2", resolutionStatus="active")
    shown = rows_of(said).select("token_id", "protocol", "resolution_status")
    assert shown.rows() == [("5", "v2", "active"), ("6", "v2", "active")]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("umaEndDate", "resolved_at"),
        ("closedTime", "closed_at"),
        ("startDate", "starts_at"),
        ("endDate", "ends_at"),
    ],
)
@pytest.mark.parametrize("unset", ["", " ", "0001-01-01T00:00:00Z", "0001-01-01 00:00:00+00", None])
def test_a_time_that_is_not_set_is_null_and_never_a_date(name: str, column: str, unset: str | None) -> None:
    assert rows_of(market(**{name: unset}))[column].to_list() == [None, None]


@pytest.mark.parametrize("unset", ["", ZEROS, "0x0", None])
def test_ids_and_texts_that_are_not_set_are_null(unset: str | None) -> None:
    said = market(
        negRiskMarketID=unset, conditionId=unset, umaResolutionStatus=unset if unset == "" else None
    )
    shown = rows_of(said, negRiskMarketID=unset).select(
        "neg_risk_market_id", "condition_id", "resolution_status"
    )
    assert shown.rows() == [(None, None, None)] * 2


def test_an_update_time_that_is_not_set_leaves_the_receipt() -> None:
    rows = rows_of(market(updatedAt="0001-01-01T00:00:00Z"))
    assert rows["event_at"].to_list() == [RECEIVED_AT] * 2


def test_closing_and_resolution_are_told_apart() -> None:
    closed = market(
        closed=True,
        closedTime="2026-03-19 23:20:15+00",
        endDate="2028-01-01T05:00:00Z",
        umaResolutionStatus="proposed",
        outcomePrices='["0.99", "0.01"]',
    )
    shown = rows_of(closed).select("is_closed", "closed_at", "resolution_status", "resolved_at", "payout")
    assert shown.row(0) == (True, datetime(2026, 3, 19, 23, 20, 15, tzinfo=UTC), "proposed", None, None)


@pytest.mark.parametrize(
    ("status", "prices", "payouts"),
    [
        ("resolved", '["1", "0"]', ["1", "0"]),
        ("settled", '["0", "1"]', ["0", "1"]),
        ("resolved", '["0.5", "0.5"]', ["0.5", "0.5"]),
        ("resolved", '["0.9995", "0.0005"]', [None, None]),
        ("resolved", '["0", "0"]', [None, None]),
        ("resolved", '["1", "1"]', [None, None]),
        ("disputed", '["1", "0"]', [None, None]),
        (None, '["1", "0"]', [None, None]),
        ("resolved", '["all", "none"]', [None, None]),
    ],
)
def test_a_payout_is_what_a_final_answer_of_the_oracle_pays(
    status: str | None, prices: str, payouts: list
) -> None:
    said = market(closed=True, umaResolutionStatus=status, outcomePrices=prices)
    assert rows_of(said)["payout"].to_list() == payouts


def test_the_planned_end_is_not_the_time_of_resolution() -> None:
    said = market(umaEndDate="2026-03-19T23:20:15Z", endDate="2028-01-01T05:00:00Z")
    assert rows_of(said).select("resolved_at", "ends_at").row(0) == (
        datetime(2026, 3, 19, 23, 20, 15, tzinfo=UTC),
        datetime(2028, 1, 1, 5, tzinfo=UTC),
    )


def test_an_edited_question_is_a_new_version_and_not_another_market() -> None:
    old, new = rows_of(market()), rows_of(market(question="Will it rain on Monday?"))
    assert "question" in TABLE.contents
    assert old.select(TABLE.identity).rows() == new.select(TABLE.identity).rows()


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
        ("closed_zero_zero_legacy", [("Yes", None, None), ("No", None, None)]),
        (
            "closed_nonbinary_legacy",
            [
                ("Long", "0.5843311669077693146635445446077281", None),
                ("Short", "0.4156688330922306853364554553922719", None),
            ],
        ),
        ("closed_binary_accepting_false", [("Yes", "0", "0"), ("No", "1", "1")]),
        ("closed_binary_accepting_true", [("Yes", "1", None), ("No", "0", None)]),
    ],
)
def test_closed_markets_of_all_kinds_are_read(name: str, expected: list[tuple]) -> None:
    rows = rows_of(nautilus(f"gamma_market_{name}"))
    assert rows.select("outcome", "price", "payout").rows() == expected
    assert rows["is_closed"].all()
    assert conform(TABLE, rows.lazy()).collect()["reasons"].to_list() == [[], []]


@needs_recorded
@pytest.mark.parametrize("name", ["closed_binary_accepting_false", "closed_binary_accepting_true"])
def test_the_winner_by_the_order_book_is_the_outcome_that_is_shown_at_one(name: str) -> None:
    told = nautilus(f"clob_market_{name}")["tokens"]
    rows = rows_of(nautilus(f"gamma_market_{name}"))
    assert rows.select("token_id", "outcome", rows["price"] == "1").rows() == [
        (one["token_id"], one["outcome"], one["winner"]) for one in told
    ]


@needs_recorded
@pytest.mark.parametrize("name", ["money_line", "map_handicap"])
def test_sports_markets_have_names_for_outcomes_and_bring_their_event(name: str) -> None:
    said = nautilus(f"gamma_market_sports_market_{name}")
    rows = parse_market_listing(pages(("all", json.dumps({"markets": [said]}).encode()))).collect()
    assert rows["outcome"].to_list() == json.loads(said["outcomes"])
    assert rows["event_slug"].to_list() == [said["events"][0]["slug"]] * 2
    assert rows["group_id"].to_list() == [said["events"][0]["id"]] * 2


@needs_recorded
def test_a_full_day_of_five_minute_markets_pays_as_the_price_feed_says() -> None:
    days = day_of_five_minutes()
    body = json.dumps({"markets": [one["raw"] for one in days]}).encode()
    rows = parse_market_listing(pages(("all", body))).collect()
    judged = conform(TABLE, rows.lazy()).collect()
    assert judged.height == 584
    assert judged["reasons"].list.len().sum() == 0
    assert rows["token_id"].to_list() == [token for one in days for token in one["token_ids"]]
    assert rows["payout"].to_list() == [price for one in days for price in one["outcome_prices"]]
    assert (judged["resolved_at"] >= judged["ends_at"]).all()

    ticks = pl.read_csv(RECORDED / "btc-updown-5m/BTCUSD-prices-2026-07-24.csv.gz")
    at_second = dict(ticks.select("feed_ts_ms", "full_accuracy_value").iter_rows())
    ups = rows.filter(outcome="Up")["payout"]
    checked = [
        (int(at_second[one["end_sec"] * 1000]) >= int(one["strike_value"]), up == "1")
        for one, up in zip(days, ups, strict=True)
        if one["strike_value"] and one["end_sec"] * 1000 in at_second
    ]
    assert len(checked) == 257
    assert all(expected == paid for expected, paid in checked)


def test_no_pages_make_an_empty_frame_with_prices_as_text() -> None:
    rows = parse_markets(pages()).collect()
    assert (rows.height, rows.schema["price"]) == (0, pl.String)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"slug":"1","mark', "is not JSON"),
        (b"<html>503</html>", "is not JSON"),
        (b"[]", "is not a JSON object"),
        (b'{"error":"not found"}', "is about the event None"),
        (b'{"slug":"1"}', "has no markets"),
        (b'{"slug":"1","markets":[{"id":12}, 3]}', "not an object"),
        (b'{"slug":"1","markets":[{"id":"2","active":"yes"}]}', "has active of type str"),
        (b'{"slug":"1","markets":[{"id":"2","outcomes":"[\\"Yes"}]}', "is not JSON"),
        (b'{"slug":"1","markets":[{"id":"2","outcomes":"[[]]"}]}', "not an array of texts"),
        (b'{"slug":"1","markets":[{"id":"2","updatedAt":"soon"}]}', "updatedAt 'soon'"),
    ],
)
def test_what_is_not_the_answer_asked_for_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=f"polymarket polymarket_any 1: page -?[0-9]+ .*{reason}"):
        parse_markets(pages(("1", body)))


def test_a_fetch_over_http_brings_a_page_that_parses(client: Client) -> None:
    (page,) = markets_feed.fetch(client, SLUG, DAY)
    assert page.request["url"] == f"https://gamma-api.polymarket.com/events/slug/{SLUG}"
    rows = markets_feed.parse(pages_frame([page], run_id="run", code_version="0")).collect()
    assert rows.height == 10


def test_an_event_that_does_not_exist_is_a_permanent_error(client: Client) -> None:
    with pytest.raises(Permanent, match="events/slug/no-such-event"):
        list(markets_feed.fetch(client, "no-such-event", DAY))


@pytest.mark.parametrize("subject", ["Some Event", "../x", ""])
def test_a_subject_that_cannot_be_is_refused_unasked(client: Client, subject: str) -> None:
    with pytest.raises(UsageError, match=r"subject '.*' is not"):
        list(markets_feed.fetch(client, subject, DAY))
