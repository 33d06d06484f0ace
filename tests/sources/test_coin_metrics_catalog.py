"""CoinMetrics' catalog: the provider's own examples through the twin into descriptions of series."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pytest

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.coverage import Asked
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.client import Client
from sources.coin_metrics_catalog import FEEDS
from sources.errors import ParseError
from sources.twin.recording import Recording
from sources.twin.server import Twin, serving

EXAMPLES = Path(__file__).parents[2] / "../shared/recorded/coinmetrics/api-examples"
needs_recorded = pytest.mark.skipif(not EXAMPLES.exists(), reason="needs the files of ../shared/recorded")
(FEED,) = FEEDS
RECEIVED = datetime(2023, 5, 12, tzinfo=UTC)
NOW = Window(RECEIVED, datetime(2023, 5, 13, tzinfo=UTC))
ADDRESSES = {"AdrActCnt": {"full_name": "Addresses, active, count", "unit": "Addresses"}}


def example(name: str) -> dict:
    said = json.loads((EXAMPLES / f"{name}.json").read_bytes())
    return {name: value for name, value in said.items() if not name.startswith("next_page_")}


def page(subject: str, said: object, **context: object) -> Page:
    body = said if isinstance(said, bytes) else json.dumps(said).encode()
    return Page(feed=FEED.name, subject=subject, request=context, received_at=RECEIVED, body=body)


def parsed(*pages: Page) -> pl.DataFrame:
    return FEED.parse(pages_frame(pages, run_id="r", code_version="v")).collect()


@contextmanager
def client_of(answers: dict[str, dict]) -> Iterator[Client]:
    """A client whose CoinMetrics answers these paths with their queries."""
    recordings = [
        Recording(
            url=f"https://community-api.coinmetrics.io/v4/{path}&paging_from=start&page_size=10000",
            headers={"content-type": "application/json"},
            body=json.dumps(said).encode(),
        )
        for path, said in answers.items()
    ]
    with (
        serving(Twin(recordings)) as url,
        Client(Settings(_env_file=None, twin_url=url), attempts=1) as client,
    ):
        yield client


@needs_recorded
def test_metrics_are_series_with_name_unit_and_frequency_that_their_feed_takes_as_subject():
    metrics = {
        "data": [{"metric": "AdrActCnt", **ADDRESSES["AdrActCnt"]}, {"metric": "Other", "unit": "USD"}]
    }
    with client_of(
        {
            "reference-data/asset-metrics?": metrics,
            "catalog-v2/asset-metrics?assets=btc": example("CatalogV2AssetMetrics"),
        }
    ) as client:
        (found,) = FEED.fetch(client, "asset-metrics:btc", NOW)
    assert found.request["metrics"] == ADDRESSES
    rows = parsed(Page(**{**vars(found), "received_at": RECEIVED}))
    assert rows.height == 8
    assert rows.filter(title="Addresses, active, count").select(
        "series_id", "frequency", "unit", "notes"
    ).rows() == [
        ("asset-metrics/btc:AdrActCnt@1b", "1b", "Addresses", "from 2009-01-03T18:15:05Z"),
        (
            "asset-metrics/btc:AdrActCnt@1d",
            "1d",
            "Addresses",
            "from 2009-01-03T00:00:00Z; free of charge (community)",
        ),
    ]


@needs_recorded
def test_a_metric_without_reference_is_held_back_for_want_of_a_unit():
    rows = parsed(page("asset-metrics:btc", example("CatalogV2AssetMetrics"), metrics=ADDRESSES))
    judged = conform(FEED.table, rows.lazy()).collect()
    reasons = dict(judged.select("title", "reasons").unique(maintain_order=True).rows())
    assert reasons == {
        "Addresses, active, count": [],
        "FlowInBFXUSD": ["unit_missing"],
        "BlkSizeByte": ["unit_missing"],
    }


@needs_recorded
@pytest.mark.parametrize(
    ("subject", "name", "count", "first"),
    [
        (
            "market-candles:*",
            "CatalogV2MarketCandles",
            14,
            ("market-candles/bitmex-XBTUSD-future@5m", "bitmex-XBTUSD-future", "5m", "quote"),
        ),
        (
            "market-trades:bibox-*",
            "CatalogV2MarketTrades",
            3,
            ("market-trades/bibox-1inch-usdt-spot", "bibox-1inch-usdt-spot", "trade", "quote"),
        ),
        (
            "market-funding-rates:binance-*",
            "CatalogV2MarketFundingRates",
            3,
            (
                *("market-funding-rates/binance-1000BTTCUSDT-future", "binance-1000BTTCUSDT-future"),
                *("settlement", "fraction"),
            ),
        ),
    ],
)
def test_markets_are_series_of_each_data_set(subject, name, count, first):
    data_set, _, markets = subject.partition(":")
    query = urlencode({"markets": markets})
    with client_of({f"catalog-v2/{data_set}?{query}": example(name)}) as client:
        rows = parsed(*FEED.fetch(client, subject, NOW))
    assert rows.height == count
    assert rows.select("series_id", "title", "frequency", "unit").row(0) == first
    assert conform(FEED.table, rows.lazy()).collect()["reasons"].list.len().sum() == 0


def test_open_interest_is_listed_like_the_others():
    """No recording exists: the body is shaped like the catalog of trades, as the API documents it."""
    span = {"min_time": "2020-08-05T23:05:00.000000000Z", "max_time": "2023-05-11T23:59:00.000000000Z"}
    rows = parsed(
        page("market-openinterest:binance-*", {"data": [{"market": "binance-BTCUSDT-future", **span}]})
    )
    assert rows.select("series_id", "frequency", "unit", "notes").rows() == [
        (
            *("market-openinterest/binance-BTCUSDT-future", "snapshot", "contracts"),
            "from 2020-08-05T23:05:00Z",
        )
    ]


@pytest.mark.parametrize(
    ("max_time", "notes"),
    [
        ("2022-07-04T11:47:49.707000000Z", "from 2022-03-07T19:43:21Z; ended 2022-07-04T11:47:49Z"),
        ("2023-05-10T00:00:00.000000000Z", "from 2022-03-07T19:43:21Z"),
        ("2023-05-11T00:00:00.000000000Z", "from 2022-03-07T19:43:21Z"),
    ],
)
def test_a_delisted_market_is_told_by_its_own_end_and_a_living_one_does_not_change_with_each_answer(
    max_time, notes
):
    row = {"market": "m-spot", "min_time": "2022-03-07T19:43:21.195000000Z", "max_time": max_time}
    assert parsed(page("market-trades:m-spot", {"data": [row]}))["notes"].to_list() == [notes]


def test_what_is_listed_holds_from_the_moment_it_was_received():
    row = {"market": "m-spot", "min_time": "2022-03-07T19:43:21Z", "max_time": "2022-03-07T19:43:21Z"}
    rows = parsed(page("market-trades:m-spot", {"data": [row]}))
    assert rows.select("event_at", "known_at", "ingested_at").row(0) == (RECEIVED,) * 3
    (claim,) = FEED.proof(
        Asked(subject="market-trades:m-spot", window=NOW, at=RECEIVED), pl.DataFrame(), rows
    )
    assert (claim.window.start, claim.status, claim.proof) == (RECEIVED, "complete", "snapshot")


@pytest.mark.parametrize(
    ("subject", "said", "what"),
    [
        ("market-trades:x", b'{"data":[{"market"', "no list data"),
        ("market-trades:x", {"data": {}}, "not a list"),
        ("market-trades:x", {"data": [{"min_time": "a", "max_time": "b"}]}, "a row without market"),
        ("market-trades:x", {"data": [{"market": "m", "min_time": "a"}]}, "a row without max_time"),
        ("market-candles:x", {"data": [{"market": "m"}]}, "frequencies is not a list"),
        ("market-candles:x", {"data": [{"market": None, "frequencies": []}]}, "market is null"),
        ("asset-metrics:x", {"data": [{"asset": "btc", "metrics": ["PriceUSD"]}]}, "metrics is not a list"),
    ],
)
def test_a_catalog_of_another_shape_is_named(subject, said, what):
    bad = page(subject, said)
    with pytest.raises(ParseError, match=rf"{subject}, page {bad.page_id}: .*{what}"):
        parsed(bad)


def test_no_pages_and_empty_answers_give_no_rows_that_still_fit_the_table():
    assert conform(FEED.table, parsed().lazy()).collect().is_empty()
    assert parsed(page("market-trades:none-*", {"data": []})).is_empty()


@pytest.mark.parametrize(
    "subject", ["btc", "asset-metrics:", "exchange-metrics:binance", "market-trades:a b"]
)
def test_a_subject_that_cannot_be_is_refused_unasked(subject):
    with Client(Settings(_env_file=None)) as client, pytest.raises(UsageError, match="coinmetrics_catalog"):
        list(FEED.fetch(client, subject, NOW))
