"""One asset, one id: by rules that ccxt's own knowledge of the venues does not contradict."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import ccxt
import pytest

from lakehouse.bronze import pages_frame
from lakehouse.settings import Settings
from lakehouse.silver.instruments import ASSET_PATTERN
from lakehouse.window import Window
from sources import registry
from sources.ccxt_rules import exchange_rules
from sources.client import Client
from sources.identity import Assets, asset_of, assets, assets_of, underlying_of
from sources.twin.server import running_twin

RECORDINGS = Path(__file__).parents[2] / "recordings"

COMMON = sorted(code for row in assets().common for code in row)
OWN = [(venue, code, asset) for venue, codes in assets().venues.items() for code, asset in codes.items()]
MARGINED = "F0"
"""Bitfinex marks codes of its derivatives so; ccxt takes the mark off in its markets only."""


def unified(venue: str, code: str) -> str:
    """ccxt's word for a venue's code."""
    return getattr(ccxt, venue)().safe_currency_code(code)


@pytest.mark.parametrize(
    ("venue", "code", "asset"),
    [
        ("kraken", "XXBT", ("btc", "venue")),
        ("kraken", "XBT", ("btc", "venue")),
        ("kraken", "ZUSD", ("usd", "venue")),
        ("binance", "BTC", ("btc", "common")),
        ("bitfinex", "UST", ("usdt", "venue")),
        ("bitstamp", "UST", None),
        ("binance", "XBT", None),
        ("binance", "1000SHIB", None),
        ("bitstamp", "btc", ("btc", "common")),
        ("kraken", "xxbt", None),
        ("binance", None, None),
    ],
)
def test_a_code_has_an_identity_only_where_it_is_certain(venue, code, asset):
    assert asset_of(venue, code) == asset


@pytest.mark.parametrize("venue", sorted({"kraken", "binance", "bitfinex", "bitstamp", *exchange_rules()}))
@pytest.mark.parametrize("code", sorted(assets().ambiguous))
def test_an_ambiguous_code_is_never_taken_by_its_letters(venue, code):
    found = asset_of(venue, code)

    assert found is None or found[1] == "venue"


def test_bitcoin_is_one_asset_on_all_venues_whatever_they_call_it():
    told = [("kraken", "XXBT"), ("binance", "BTC"), ("bitfinex", "BTC"), ("krakenfutures", "XBT")]

    assert {asset_of(*one)[0] for one in told} == {"btc"}


@pytest.mark.parametrize(
    ("venue", "bitcoin", "lists"),
    [
        ("kraken", {"BTC/USD", "BTC/USDT"}, {"all"}),
        ("bitstamp", {"BTC/USD", "BTC/EUR", "BTC/USDT", "BTC/USD:USD"}, {"all"}),
        ("bitfinex", {"BTC/USD", "BTC/EUR", "BTC/USDT", "BTC/USDT:USDT"}, {"all"}),
        ("okx", {"BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC"}, {"spot", "swap", "future"}),
    ],
)
def test_recorded_markets_of_bitcoin_have_its_id_and_the_list_that_names_them(venue, bitcoin, lists):
    feed, start = registry.feed("ccxt_markets"), datetime(2024, 1, 1, tzinfo=UTC)
    with running_twin(RECORDINGS) as url, Client(Settings(_env_file=None, twin_url=url)) as client:
        pages = list(feed.fetch(client, venue, Window(start, start + timedelta(days=1))))
    rows = feed.parse(pages_frame(pages, run_id="r", code_version="0")).collect()

    assert set(rows.filter(base_asset="btc")["instrument_id"]) >= bitcoin
    assert set(rows.filter(base_asset="btc")["base"]) == {"BTC"}
    assert set(rows["list_name"]) <= lists
    assert set(rows["status"]) == {"listed"}


@pytest.mark.parametrize(
    ("codes", "columns"),
    [
        (
            {"base": "XXBT", "quote": "USDT", "settle": None},
            {"base_asset": "btc", "quote_asset": "usdt", "settle_asset": None, "asset_basis": "venue"},
        ),
        (
            {"base": "LUNA", "quote": "USD"},
            {"base_asset": None, "quote_asset": "usd", "asset_basis": "common"},
        ),
        ({"base": "LUNA"}, {"base_asset": None, "asset_basis": None}),
    ],
)
def test_an_instruments_assets_come_with_the_reason(codes, columns):
    assert assets_of("kraken", **codes) == columns


@pytest.mark.parametrize("exchange", ccxt.exchanges)
def test_no_venue_that_ccxt_knows_means_another_asset_by_a_common_code(exchange):
    others = getattr(ccxt, exchange)().commonCurrencies

    assert {code: others[code] for code in COMMON if others.get(code, code) != code} == {}


@pytest.mark.parametrize(("venue", "code", "asset"), OWN)
def test_a_venues_own_code_means_what_ccxt_says_it_means(venue, code, asset):
    assert unified(venue, code).removesuffix(MARGINED).lower() == asset


@pytest.mark.parametrize("asset", sorted({code.lower() for code in COMMON} | {asset for *_, asset in OWN}))
def test_ids_look_like_those_of_coinmetrics(asset):
    assert re.fullmatch(ASSET_PATTERN, asset)


@pytest.mark.parametrize(
    ("address", "asset"),
    [
        ("https://data.chain.link/streams/btc-usd", "btc"),
        ("https://data.chain.link/streams/luna-usd", None),
        ("https://www.binance.com/en/trade/ETH_USDT", "eth"),
        ("https://www.binance.com/en/trade/LUNA_USDT", None),
        ("https://example.org/?then=https://data.chain.link/streams/btc-usd", None),
        ("https://hltv.org", None),
        ("", None),
        (None, None),
    ],
)
def test_a_prediction_market_has_the_asset_that_its_price_source_names(address, asset):
    assert underlying_of(address) == asset


def test_a_code_that_is_called_common_and_ambiguous_is_refused():
    with pytest.raises(ValueError, match="common and ambiguous: XBT"):
        Assets(common=(("BTC", "XBT"),), venues={}, ambiguous={"XBT": "two coins"}, price_sources=())
