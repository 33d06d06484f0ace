"""gold.prediction_panel: probabilities without the vig, groups that add up, resolutions known when they were known."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.gold import prediction_panel
from lakehouse.silver import book_snapshots, prediction_markets, prediction_prices

RECORDED = Path(__file__).parents[3] / "../shared/recorded/polymarket/fed-decision-june-2026"
needs_recordings = pytest.mark.skipif(not RECORDED.exists(), reason="the recorded provider data are not here")

NOON = datetime(2026, 5, 17, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def listed(token: str, price: float | None, at: datetime = NOON, **said: object) -> dict:
    names = {"token_id": token, "market_id": f"m{token}", "condition_id": "0x", "question": "Will it?"}
    group = {"is_exclusive": True, "neg_risk_market_id": "0xg", "is_open_ended": False, "outcome": "Yes"}
    return names | group | {"price": price, "event_at": NOON, "known_at": at} | said


def sample(token: str, price: float, at: datetime, **said: object) -> dict:
    return {"token_id": token, "price": price, "kind": "history", "event_at": at, "known_at": at} | said


def book(token: str, bid: float, ask: float, at: datetime, **said: object) -> dict:
    sides = {"bid_prices": [bid], "ask_prices": [ask], "bid_amounts": [1.0], "ask_amounts": [1.0]}
    stated = {"venue": "polymarket", "instrument_id": token, "amount_unit": "shares", "is_valid": True}
    return sides | stated | {"event_at": at, "known_at": at} | said


def panel(
    markets: list[dict],
    samples: list[dict] = [],  # noqa: B006
    books: list[dict] = [],  # noqa: B006
) -> list[dict]:
    given = {prediction_markets: markets, prediction_prices: samples, book_snapshots: books}
    inputs = {}
    for module, rows in given.items():
        names = module.TABLE.schema.names()
        filled = [{"provider": "polymarket", "ingested_at": NOON, "page_id": 1} | row for row in rows]
        frame = pl.DataFrame(
            [{n: row.get(n) for n in names} for row in filled], schema=module.TABLE.schema, orient="row"
        )
        inputs[module.TABLE.name] = frame.lazy()
    built = prediction_panel.build(inputs)
    return built.sort("event_at", "token_id").collect(engine="streaming").to_dicts()


def test_the_vig_is_taken_out_of_a_whole_group_in_proportion() -> None:
    rows = panel([listed("1", 0.5), listed("2", 0.3), listed("3", 0.24)])
    assert [row["group_price"] for row in rows] == [1.04] * 3
    assert [row["probability"] for row in rows] == pytest.approx([0.5 / 1.04, 0.3 / 1.04, 0.24 / 1.04])
    assert {(row["markets_listed"], row["markets_priced"], row["is_consistent"]) for row in rows} == {
        (3, 3, True)
    }
    assert rows[0]["overround"] == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("said", "probability", "group_price", "is_consistent"),
    [
        ({"price": None}, None, None, None),
        ({"is_open_ended": True}, None, 0.9, None),
        ({"price": 0.9}, pytest.approx(0.5 / 1.4), 1.4, False),
    ],
    ids=["a market without price", "open-ended", "inconsistent"],
)
def test_nothing_is_made_up_for_a_group_that_is_not_whole(
    said, probability, group_price, is_consistent
) -> None:
    open_ended = {"is_open_ended": said.get("is_open_ended", False)}
    row = panel([listed("1", 0.5, **open_ended), listed("2", 0.4) | said])[0]
    assert (row["probability"], row["group_price"]) == (probability, group_price)
    assert row["is_consistent"] is is_consistent


def test_a_market_that_stands_alone_says_its_probability_itself() -> None:
    alone = {"is_exclusive": False, "neg_risk_market_id": None}
    rows = panel([listed("1", 0.62, **alone), listed("2", 0.38, outcome="No", **alone)])
    assert [(row["group_id"], row["probability"], row["group_price"]) for row in rows] == [
        (None, 0.62, None),
        (None, 0.38, None),
    ]


def test_the_no_of_a_group_is_not_counted_into_it() -> None:
    rows = panel([listed("1", 0.6), listed("2", 0.4), listed("3", 0.4, outcome="No")])
    assert [(row["group_id"], row["group_price"]) for row in rows] == [
        ("0xg", 1.0),
        ("0xg", 1.0),
        (None, None),
    ]


def test_each_new_price_is_a_row_with_the_newest_of_the_others() -> None:
    markets = [listed("1", 0.5), listed("2", 0.5)]
    samples = [sample("1", 0.7, NOON + MINUTE), sample("2", 0.4, NOON + 3 * MINUTE)]
    books = [book("1", 0.6, 0.62, NOON + 2 * MINUTE), book("2", 0.1, 0.2, NOON + MINUTE, is_valid=False)]
    found = [
        (row["event_at"], row["token_id"], row["price_source"], row["price"], row["group_price"])
        for row in panel(markets, samples, books)
    ]
    assert found == [
        (NOON, "1", "listing", 0.5, 1.0),
        (NOON, "2", "listing", 0.5, 1.0),
        (NOON + MINUTE, "1", "history", 0.7, 1.2),
        (NOON + 2 * MINUTE, "1", "book", 0.61, 1.11),
        (NOON + 3 * MINUTE, "2", "history", 0.4, 1.01),
    ]


def test_a_price_counts_for_a_day_and_a_payout_for_ever() -> None:
    over = NOON + 30 * HOUR
    markets = [
        listed("1", 0.5),
        listed("2", 0.5),
        listed("1", 1.0, NOON + HOUR, payout=1.0, resolution_status="resolved"),
    ]
    *_, row = panel(markets, [sample("2", 0.01, over), sample("1", 0.9, over)])
    assert (row["token_id"], row["markets_priced"], row["group_price"]) == ("2", 2, 1.01)
    *_, row = panel(markets[:2], [sample("2", 0.01, over)])
    assert (row["markets_priced"], row["group_price"], row["probability"]) == (1, None, None)


def test_a_payout_is_told_from_when_it_was_known() -> None:
    known = NOON + 2 * HOUR
    markets = [listed("1", 0.9), listed("1", 1.0, known, payout=1.0, resolution_status="resolved")]
    rows = panel(markets, [sample("1", 0.99, NOON + HOUR), sample("1", 0.5, known + HOUR)])
    assert [(row["event_at"], row["price_source"], row["price"], row["payout"]) for row in rows] == [
        (NOON, "listing", 0.9, None),
        (NOON + HOUR, "history", 0.99, None),
        (known, "payout", 1.0, 1.0),
    ]
    assert [row["resolution_status"] for row in rows] == [None, None, "resolved"]


def test_no_row_is_older_than_what_is_known_of_its_market() -> None:
    early = [sample("1", 0.2, NOON - 40 * HOUR), sample("1", 0.3, NOON - HOUR)]
    rows = panel([listed("1", None)], early)
    found = [(row["event_at"], row["known_at"], row["priced_at"], row["price"]) for row in rows]
    assert found == [(NOON, NOON, NOON - HOUR, 0.3)]


def test_a_market_that_joins_a_group_counts_from_then_on() -> None:
    joined = NOON + HOUR
    markets = [listed("1", 0.6), listed("2", 0.4), listed("3", 0.1, joined)]
    *_, before, last = panel(markets, [sample("1", 0.5, joined - MINUTE)])
    assert (before["markets_listed"], before["group_price"]) == (2, 0.9)
    assert (last["markets_listed"], last["group_price"]) == (3, 1.0)


def recorded(feed, name: str, subject: str, part: object = None) -> pl.DataFrame:
    body = (RECORDED / name).read_bytes() if part is None else json.dumps(part).encode()
    page = Page(
        feed=feed.name,
        subject=subject,
        request={"method": "GET", "url": "https://example.org"},
        received_at=NOON,
        body=body,
    )
    pages = pages_frame([page], run_id="r", code_version="0")
    return conform(feed.table, feed.parse(pages)).collect()


@needs_recordings
def test_the_fed_event_adds_up_to_1_0015_in_its_listing_and_in_its_books() -> None:
    from sources.registry import feed

    slug = "fed-decision-in-june-825"
    markets = recorded(feed("polymarket_markets"), "gamma-event.json", slug)
    said = json.loads((RECORDED / "clob-books.json").read_text())
    books = pl.concat(
        recorded(feed("polymarket_books"), "", one["asset_id"], one).with_columns(known_at=NOON + MINUTE)
        for one in said
    )
    nothing = pl.LazyFrame(schema=prediction_prices.TABLE.schema)
    inputs = {"silver.prediction_markets": markets.lazy(), "silver.prediction_prices": nothing}

    built = prediction_panel.build(inputs | {"silver.book_snapshots": books.lazy()}).collect()

    yes = built.filter(pl.col("outcome") == "Yes").sort("price_source", "price")
    assert yes.group_by("price_source").len().sort("price_source").rows() == [("book", 5), ("listing", 5)]
    assert yes["group_price"].to_list() == [1.0015] * 10
    assert yes["overround"].to_list() == pytest.approx([0.0015] * 10)
    assert yes["is_consistent"].all()
    assert yes["probability"].to_list() == pytest.approx([price / 1.0015 for price in yes["price"]])
    assert yes.group_by("price_source").agg(pl.col("probability").sum())["probability"].to_list() == (
        pytest.approx([1.0, 1.0])
    )
    assert yes["event_slug"].unique().to_list() == [slug]
