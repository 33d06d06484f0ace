"""CoinMetrics markets: the provider's own examples through the twin into rows, and what an answer may get wrong."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import polars as pl
import pytest
import stamina

from lakehouse.bronze import Page, pages_frame
from lakehouse.conform import conform
from lakehouse.coverage import Asked
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import Window, iso, parse_moment
from sources.client import Client
from sources.coin_metrics_markets import FEEDS, instrument_of
from sources.coin_metrics_venues import VENUES, Venue
from sources.errors import ParseError, Permanent, Transient
from sources.twin.recording import Recording
from sources.twin.server import Twin, serving

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "../shared/recorded"
EXAMPLES = RECORDED / "coinmetrics/api-examples"
MARKETS = RECORDED / "ccxt/ccxt-static/markets"
needs_recorded = pytest.mark.skipif(not EXAMPLES.exists(), reason="needs the files of ../shared/recorded")

HOST = "https://community-api.coinmetrics.io"
RECEIVED = datetime(2024, 5, 1, tzinfo=UTC)
feeds = {feed.name.removeprefix("coinmetrics_"): feed for feed in FEEDS}

COINBASE = {
    "market": "coinbase-btc-usd-spot",
    "exchange": "coinbase",
    "type": "spot",
    "base": "btc",
    "quote": "usd",
    "symbol": "BTC-USD",
}
BINANCE = {
    "market": "binance-BTCUSDT-future",
    "exchange": "binance",
    "type": "future",
    "base": "btc",
    "quote": "usdt",
    "symbol": "BTCUSDT",
    "size_asset": "btc",
    "margin_asset": "usdt",
    "contract_size": "1",
}
KRAKEN = {
    "market": "kraken-PI_XBTUSD-future",
    "exchange": "kraken",
    "type": "future",
    "base": "btc",
    "quote": "usd",
    "symbol": "PI_XBTUSD",
    "margin_asset": "btc",
}


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


def window(start: str, end: str) -> Window:
    return Window(parse_moment(start), parse_moment(end))


def example(name: str) -> list[dict]:
    return json.loads((EXAMPLES / f"{name}.json").read_bytes())["data"]


def page(kind: str, subject: str, body: bytes, *, entry: Mapping | None = None, received_at=RECEIVED) -> Page:
    request = {} if entry is None else {"market": entry}
    return Page(feed=feeds[kind].name, subject=subject, request=request, received_at=received_at, body=body)


def parsed(*pages: Page) -> pl.DataFrame:
    (feed,) = {one.feed for one in pages}
    parse = feeds[feed.removeprefix("coinmetrics_")].parse
    return parse(pages_frame(pages, run_id="r", code_version="v")).collect()


def told(kind: str, subject: str, rows: list[dict], *, entry=None, received_at=RECEIVED) -> pl.DataFrame:
    body = json.dumps({"data": rows}).encode()
    return parsed(page(kind, subject, body, entry=entry, received_at=received_at))


# What the rows say


CANDLE = {
    "time": "2020-06-08T20:45:00.000000000Z",
    "market": "coinbase-btc-usd-spot",
    "price_open": "9705.07",
    "price_close": "9705.01",
    "price_high": "9706.19",
    "price_low": "9705",
    "volume": "16.8",
}
FIVE = "coinbase-btc-usd-spot@5m"


@needs_recorded
def test_candles_are_bars_of_the_vendor_stamped_with_their_start_and_known_at_their_end():
    rows = told("candles", FIVE, example("MarketCandles"))
    assert rows.select("provider", "symbol", "interval", "asset_class").unique().rows() == [
        ("coinmetrics", "coinbase-btc-usd-spot", "5m", "crypto")
    ]
    first, second = rows.select(
        *("open_at", "event_at", "known_at", "open", "high", "low", "close", "volume", "vwap", "trade_count")
    ).rows()
    assert first == (
        datetime(2020, 6, 8, 20, 45, tzinfo=UTC),
        datetime(2020, 6, 8, 20, 50, tzinfo=UTC),
        datetime(2020, 6, 8, 20, 50, tzinfo=UTC),
        "9705.07999999999993",
        "9706.19000000000051",
        "9705",
        "9705.01000000000022",
        "16.8066639099999975",
        "9705.1686505895068",
        "212",
    )
    assert second[0] == first[1]
    judged = conform(feeds["candles"].table, rows.lazy()).collect()
    assert judged["reasons"].list.len().sum() == 0
    assert judged.select("trade_count", "adjusted_close").rows() == [(212, None), (215, None)]


@pytest.mark.parametrize(
    ("received_at", "count"),
    [(datetime(2020, 6, 8, 20, 49, 59, tzinfo=UTC), 0), (datetime(2020, 6, 8, 20, 50, tzinfo=UTC), 1)],
)
def test_a_candle_is_left_out_until_it_has_ended(received_at, count):
    assert told("candles", FIVE, [CANDLE], received_at=received_at).height == count


def test_an_interval_without_trades_may_have_a_filled_candle_or_none():
    filled = {
        **CANDLE,
        "price_open": "1",
        "price_high": "1",
        "price_low": "1",
        "price_close": "1",
        "volume": "0",
    }
    rows = told("candles", FIVE, [{**filled, "vwap": None, "candle_trades_count": "0"}])
    judged = conform(feeds["candles"].table, rows.lazy()).collect()
    assert judged.select("volume", "vwap", "trade_count").rows() == [(0.0, None, 0)]
    assert judged["reasons"].list.len().sum() == 0


TRADED_AT = datetime(2015, 1, 8, 20, 55, 0, 28749, tzinfo=UTC)


@needs_recorded
def test_trades_are_those_of_the_venue_and_known_when_they_were_made():
    rows = told("trades", "coinbase-btc-usd-spot", example("MarketTrades"), entry=COINBASE)
    assert rows.drop("page_id", "ingested_at").row(0, named=True) == {
        "venue": "coinbaseexchange",
        "instrument_id": "BTC/USD",
        "trade_id": "100",
        "event_at": TRADED_AT,
        "known_at": TRADED_AT,
        "provider": "coinmetrics",
        "price": "10.61",
        "amount": "1000.01",
        "amount_unit": "base",
        "side": "buy",
    }
    judged = conform(feeds["trades"].table, rows.lazy()).collect()
    assert judged["side"].to_list() == ["buy", "sell"]
    assert judged["reasons"].list.len().sum() == 0


@needs_recorded
def test_funding_is_known_when_it_was_stored_and_its_hours_are_the_period_of_the_rate():
    """The example is of BitMEX, which the installed ccxt does not know: its market is renamed to Kraken's."""
    rows = [{**row, "market": KRAKEN["market"]} for row in example("MarketFundingRates")]
    found = told("funding_rates", KRAKEN["market"], rows, entry=KRAKEN)
    assert found.drop("page_id", "ingested_at", "mark_price").rows(named=True) == [
        {
            "venue": "krakenfutures",
            "instrument_id": "BTC/USD:BTC",
            "event_at": datetime(2020, 11, 11, hour, tzinfo=UTC),
            "known_at": datetime(2020, 12, 2, 10, 49, 31, 262231, tzinfo=UTC),
            "provider": "coinmetrics",
            "rate": rate,
            "interval_hours": "8.0",
        }
        for hour, rate in ((18, "-0.000007"), (19, "0.2123"))
    ]
    judged = conform(feeds["funding_rates"].table, found.lazy()).collect()
    assert judged["interval_hours"].to_list() == [8.0, 8.0]
    assert judged["reasons"].list.len().sum() == 0


@pytest.mark.parametrize(
    ("period", "hours", "reasons"),
    [
        ("01:00:00", 1.0, []),
        ("00:30:00", 0.5, []),
        ("00:00:00.001", 0.001 / 3600, []),
        (None, None, []),
        ("8h", None, ["interval_hours_not_a_number"]),
    ],
)
def test_periods_of_any_length_become_hours_and_odd_ones_are_judged(period, hours, reasons):
    row = {"market": KRAKEN["market"], "time": "2024-01-01T00:00:00Z", "rate": "0.1", "period": period}
    rows = told("funding_rates", KRAKEN["market"], [row], entry=KRAKEN)
    judged = conform(feeds["funding_rates"].table, rows.lazy()).collect()
    assert judged.select("interval_hours", "reasons").rows() == [(hours, reasons)]


OPEN = [
    {
        "market": "binance-BTCUSDT-future",
        "time": "2020-08-05T23:05:00.000000000Z",
        "contract_count": "35074.075",
        "value_usd": "408810440.79225",
        "database_time": "2020-08-05T23:05:01.000000000Z",
        "exchange_time": "2020-08-05T23:05:00.000000000Z",
    },
    {
        "market": "binance-BTCUSDT-future",
        "time": "2020-08-05T23:06:00.000000000Z",
        "contract_count": "35061.142",
        "value_usd": "409113039.09552",
        "exchange_time": None,
    },
]


def test_open_interest_counts_contracts_and_its_discredited_value_is_not_taken():
    """No recording exists: the body is the sample of the documentation, one database_time moved, one left out."""
    rows = told("open_interest", "binance-BTCUSDT-future", OPEN, entry=BINANCE)
    assert rows.drop("page_id", "ingested_at", "provider").rows() == [
        *[
            (
                *("binance", "BTC/USDT:USDT", datetime(2020, 8, 5, 23, minute, tzinfo=UTC), known_at),
                *(amount, "contracts", None, None, "unknown"),
            )
            for minute, known_at, amount in (
                (5, datetime(2020, 8, 5, 23, 5, 1, tzinfo=UTC), "35074.075"),
                (6, RECEIVED, "35061.142"),
            )
        ]
    ]
    judged = conform(feeds["open_interest"].table, rows.lazy()).collect()
    assert judged["reasons"].list.len().sum() == 0


TRADE = {
    "time": "2021-06-08T20:55:00.758178000Z",
    "market": "coinbase-btc-usd-spot",
    "coin_metrics_id": "200000000",
    "amount": "1000.01",
    "price": "1000000.61",
    "side": "sell",
}
RATE = {"market": KRAKEN["market"], "time": "2024-01-01T00:00:00Z", "rate": "0.1"}
SAID = {
    "candles": (FIVE, CANDLE, None),
    "trades": ("coinbase-btc-usd-spot", TRADE, COINBASE),
    "open_interest": ("binance-BTCUSDT-future", OPEN[0], BINANCE),
    "funding_rates": (KRAKEN["market"], RATE, KRAKEN),
}


@pytest.mark.parametrize("kind", SAID)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"data":[{"market"',
        b'{"data":{}}',
        b'{"data":[1]}',
        b"[]",
        b'{"error":{"type":"x"}}',
    ],
)
def test_a_page_that_is_no_answer_is_named(kind, body):
    subject, _, entry = SAID[kind]
    bad = page(kind, subject, body, entry=entry)
    with pytest.raises(ParseError, match=rf"coinmetrics_{kind}, {subject}, page {bad.page_id}: .*data"):
        parsed(bad)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("candles", "price_open"),
        ("candles", "volume"),
        ("trades", "coin_metrics_id"),
        ("trades", "amount"),
        ("open_interest", "contract_count"),
        ("funding_rates", "rate"),
        ("funding_rates", "time"),
    ],
)
def test_a_renamed_field_is_refused(kind, name):
    subject, row, entry = SAID[kind]
    renamed = {(f"{key}_v2" if key == name else key): value for key, value in row.items()}
    with pytest.raises(ParseError, match=f"a row without {name}"):
        told(kind, subject, [renamed], entry=entry)


@pytest.mark.parametrize("kind", SAID)
def test_rows_about_another_market_are_refused(kind):
    subject, row, entry = SAID[kind]
    with pytest.raises(ParseError, match="rows about okex-BTC-USDT-SWAP-future, asked for "):
        told(kind, subject, [row, {**row, "market": "okex-BTC-USDT-SWAP-future"}], entry=entry)


@pytest.mark.parametrize("kind", ["trades", "open_interest", "funding_rates"])
def test_a_page_that_was_kept_without_its_markets_entry_is_refused(kind):
    subject, row, _ = SAID[kind]
    with pytest.raises(ParseError, match="does not hold the market's reference entry"):
        told(kind, subject, [row])


@pytest.mark.parametrize("kind", SAID)
def test_what_cannot_be_read_comes_out_as_it_was_sent_and_is_judged(kind):
    subject, row, entry = SAID[kind]
    number = {
        "candles": "volume",
        "trades": "price",
        "open_interest": "contract_count",
        "funding_rates": "rate",
    }
    rows = told(kind, subject, [{**row, "time": "soon", number[kind]: "odd"}], entry=entry)
    (reasons,) = conform(feeds[kind].table, rows.lazy()).collect()["reasons"]
    assert "event_at_missing" in reasons
    assert any(reason.endswith("_not_a_number") for reason in reasons)


@pytest.mark.parametrize("kind", SAID)
def test_no_pages_and_empty_answers_give_no_rows_that_still_fit_the_table(kind):
    subject, _, entry = SAID[kind]
    empty = told(kind, subject, [], entry=entry)
    none = feeds[kind].parse(pages_frame([], run_id="r", code_version="v")).collect()
    assert conform(feeds[kind].table, empty.lazy()).collect().is_empty()
    assert none.schema == empty.schema


# Which instrument a market is


@pytest.mark.parametrize(
    ("entry", "instrument"),
    [
        (COINBASE, ("coinbaseexchange", "BTC/USD", "base")),
        (BINANCE, ("binance", "BTC/USDT:USDT", "contracts")),
        (KRAKEN, ("krakenfutures", "BTC/USD:BTC", "contracts")),
        (
            {**BINANCE, "symbol": "BTCUSDT_210326", "expiration": "2021-03-26T08:00:00.000000000Z"},
            ("binance", "BTC/USDT:USDT-210326", "contracts"),
        ),
    ],
)
def test_a_market_is_the_instrument_that_its_reference_entry_describes(entry, instrument):
    found = instrument_of(entry)
    assert (found.venue, found.instrument_id, found.amount_unit) == instrument


@pytest.mark.parametrize(
    "changes",
    [
        {"base": "floki", "symbol": "1000FLOKIUSDT"},
        {"base": "btc", "symbol": "BTCDOMUSDT"},
        {"base": "luna", "symbol": "LUNAUSDT"},
        {"margin_asset": "eth"},
        {"margin_asset": ""},
        {"symbol": "BTCUSDT_210326"},
        {"symbol": "BTCUSDT_210326", "expiration": "2021-06-25T08:00:00.000000000Z"},
        {"expiration": "some day"},
        {"exchange": "cme"},
        {"exchange": "bitmex", "symbol": "XBTUSDT"},
        {"type": "option", "symbol": "BTC-10DEC22-17500-C"},
        {"symbol": ""},
    ],
)
def test_a_market_that_could_be_another_instrument_is_none(changes):
    assert instrument_of({**BINANCE, **changes}) is None


def markets_of(venue: Venue) -> list[dict]:
    """Entries as CoinMetrics would tell the markets that ccxt recorded, of assets whose names are the same."""
    kinds = {"spot": ("spot",), "future": ("swap", "future")}[venue.type]
    listed = json.loads((MARKETS / f"{venue.ccxt}.json").read_bytes()).values()
    return [
        {
            "entry": {
                "exchange": venue.exchange,
                "type": venue.type,
                "base": market["base"].lower(),
                "quote": market["quote"].lower(),
                "symbol": market["id"],
                **({"margin_asset": market["settle"].lower()} if market["settle"] else {}),
                **(
                    {"expiration": market["expiryDatetime"]}
                    if market["type"] == "future" and market.get("expiry")
                    else {}
                ),
            },
            "symbol": market["symbol"],
        }
        for market in listed
        if market["type"] in kinds and market["id"] and market["base"] in ("BTC", "ETH", "XRP", "SOL", "LTC")
    ]


@needs_recorded
def test_no_market_is_mapped_to_another_instrument_than_ccxt_says():
    recorded = {path.stem for path in MARKETS.glob("*.json")}
    found = [
        (one["symbol"], instrument.instrument_id)
        for venue in VENUES
        if venue.ccxt in recorded
        for one in markets_of(venue)
        if (instrument := instrument_of(one["entry"]))
    ]
    assert [pair for pair in found if pair[0] != pair[1]] == []
    assert len(found) == 44


# How it is asked for


def recording(path: str, params: dict, body: object, status: int = 200) -> Recording:
    return Recording(
        url=f"{HOST}/v4/{path}?{urlencode(params)}",
        status=status,
        headers={"content-type": "application/json"},
        body=json.dumps(body).encode(),
    )


def reference(*entries: dict, market: str) -> Recording:
    params = {"markets": market, "paging_from": "start", "page_size": "10000"}
    return recording("reference-data/markets", params, {"data": list(entries)})


@contextmanager
def client_of(*recordings: Recording) -> Iterator[Client]:
    with (
        serving(Twin(list(recordings))) as url,
        Client(Settings(_env_file=None, twin_url=url), attempts=1) as client,
    ):
        yield client


DAY = window("2021-06-08", "2021-06-09")
SPAN = {"start_time": "2021-06-08T00:00:00", "end_time": "2021-06-09T00:00:00", "end_inclusive": "false"}
NEWEST_FIRST = {
    "markets": "coinbase-btc-usd-spot",
    **SPAN,
    "paging_from": "end",
    "page_size": "10000",
}


def trades_page(*seconds: int, token: str = "", after: str = "") -> Recording:
    params = {**NEWEST_FIRST, **({"next_page_token": after} if after else {})}
    rows = [
        {**TRADE, "time": f"2021-06-08T20:55:{second:02}.000000000Z", "coin_metrics_id": str(second)}
        for second in seconds
    ]
    body = {"data": rows}
    if token:
        query = urlencode({**NEWEST_FIRST, "api_key": "k", "next_page_token": token})
        body["next_page_url"] = f"https://api.coinmetrics.io/v4/timeseries/market-trades?{query}"
    return recording("timeseries/market-trades", params, body)


ENTRY = reference({**COINBASE, "order_taker_fee": "0.002"}, market="coinbase-btc-usd-spot")


def test_trades_are_paged_from_the_newest_and_each_page_keeps_the_markets_entry():
    answers = (
        trades_page(58, 59, token="a"),
        trades_page(56, 57, token="b", after="a"),
        trades_page(after="b"),
    )
    with client_of(ENTRY, *answers) as client:
        pages = list(feeds["trades"].fetch(client, "coinbase-btc-usd-spot", DAY))
    assert parsed(*pages)["trade_id"].to_list() == ["58", "59", "56", "57"]
    assert [page.request["market"] for page in pages] == [COINBASE] * 3
    assert [page.window for page in pages] == [DAY] * 3
    assert not any("api_key" in page.request["url"] for page in pages)


@pytest.mark.parametrize(
    "second", [trades_page(57, 58, 59, after="a"), trades_page(59, after="a"), trades_page(58, 59, after="a")]
)
def test_pages_that_repeat_rows_or_come_in_the_wrong_order_are_not_taken_for_a_whole(second):
    with (
        client_of(ENTRY, trades_page(57, 58, token="a"), second) as client,
        pytest.raises(Transient, match="page 1 does not follow the one before it from the end"),
    ):
        list(feeds["trades"].fetch(client, "coinbase-btc-usd-spot", DAY))


def candles_page(*minutes: int, token: str = "", after: str = "") -> Recording:
    params = {"markets": "coinbase-btc-usd-spot", "frequency": "5m", **SPAN}
    params |= {"paging_from": "start", "page_size": "10000"}
    rows = [{**CANDLE, "time": f"2021-06-08T20:{minute:02}:00.000000000Z"} for minute in minutes]
    body = {"data": rows}
    if token:
        body["next_page_url"] = f"https://api.coinmetrics.io/v4/x?{urlencode(params)}&next_page_token={token}"
    return recording(
        "timeseries/market-candles", {**params, **({"next_page_token": after} if after else {})}, body
    )


def test_candles_are_paged_from_the_oldest():
    with client_of(candles_page(0, 5, token="a"), candles_page(10, after="a")) as client:
        pages = list(feeds["candles"].fetch(client, FIVE, DAY))
    assert parsed(*pages)["open_at"].dt.minute().to_list() == [0, 5, 10]


def test_a_host_that_begins_with_the_newest_page_all_the_same_is_noticed():
    with (
        client_of(candles_page(10, token="a"), candles_page(0, 5, after="a")) as client,
        pytest.raises(Transient, match="page 1 does not follow the one before it from the start"),
    ):
        list(feeds["candles"].fetch(client, FIVE, DAY))


@needs_recorded
@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("binance-1000FLOKIUSDT-future", "not with certainty an instrument that ccxt knows"),
        ("deribit-BTC-10DEC22-17500-C-option", "not with certainty an instrument that ccxt knows"),
        ("binance-btc-usdt-spot", "trade ids of binance-btc-usdt-spot are not those of binance in ccxt"),
    ],
)
def test_recorded_markets_that_are_not_certain_are_refused_before_their_trades_are_asked_for(entry, says):
    entries = example("ReferenceDataMarkets")
    with client_of(reference(*entries, market=entry)) as client, pytest.raises(Permanent, match=says):
        list(feeds["trades"].fetch(client, entry, DAY))


def test_a_market_that_the_provider_does_not_list_is_refused():
    with (
        client_of(reference(market="binance-XUSDT-future")) as client,
        pytest.raises(Permanent, match="coinmetrics has no market binance-XUSDT-future"),
    ):
        list(feeds["funding_rates"].fetch(client, "binance-XUSDT-future", DAY))


@pytest.mark.parametrize(
    ("kind", "subject"),
    [
        ("candles", "coinbase-btc-usd-spot"),
        ("candles", "coinbase-btc-usd-spot@2m"),
        ("candles", "coinbase-btc-usd-spot@1d-12:00"),
        ("candles", "coinbase-*-spot@1d"),
        ("trades", "coinbase-*-spot"),
        ("trades", "*USDT-future"),
        ("open_interest", "binance:BTC/USDT"),
        ("funding_rates", ""),
    ],
)
def test_a_subject_that_cannot_be_or_is_a_pattern_is_refused_unasked(kind, subject):
    with (
        Client(Settings(_env_file=None)) as client,
        pytest.raises(UsageError, match=f"coinmetrics_{kind}"),
    ):
        list(feeds[kind].fetch(client, subject, DAY))


@needs_recorded
@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (403, "Forbidden", "forbidden"),
        (401, "Unauthorized_unauthorized", "unauthorized"),
        (401, "Unauthorized_wrong_credentials", "wrong_credentials"),
    ],
)
def test_what_only_a_paid_key_may_read_is_refused_with_the_setting_to_set(status, name, kind):
    params = {"markets": "coinbase-btc-usd-spot", "frequency": "5m", **SPAN}
    params |= {"paging_from": "start", "page_size": "10000"}
    said = json.loads((EXAMPLES / f"{name}.json").read_bytes())
    with (
        client_of(recording("timeseries/market-candles", params, said, status)) as client,
        pytest.raises(
            Permanent, match=f"{kind}: .*community.*MNEMO_COINMETRICS_API_KEY.*https://coinmetrics.io"
        ),
    ):
        list(feeds["candles"].fetch(client, FIVE, DAY))


# What an answer proves


def proven(kind: str, subject: str, rows: pl.DataFrame, at: datetime) -> list[tuple[str, str, str]]:
    claims = feeds[kind].proof(Asked(subject=subject, window=DAY, at=at), pl.DataFrame(), rows)
    return [(iso(one.window.start)[8:16], iso(one.window.end)[8:16], one.status) for one in claims]


def test_candles_of_the_last_three_hours_are_not_whole_yet_and_absent_ones_are_told():
    opens = [DAY.start + timedelta(hours=hour) for hour in (0, 1, 4, 5, 6, 7)]
    rows = pl.DataFrame({"open_at": opens}, schema={"open_at": pl.Datetime("us", "UTC")})
    at = DAY.start + timedelta(hours=8, minutes=30)
    assert proven("candles", "coinbase-btc-usd-spot@1h", rows, at) == [
        ("08T00:00", "08T02:00", "complete"),
        ("08T02:00", "08T04:00", "degraded"),
        ("08T04:00", "08T05:00", "complete"),
        ("08T05:00", "08T08:30", "degraded"),
    ]


@pytest.mark.parametrize("kind", ["trades", "open_interest", "funding_rates"])
def test_all_pages_prove_what_is_older_than_three_hours_and_no_rows_prove_nothing(kind):
    rows = pl.DataFrame({"event_at": [DAY.start]})
    after = DAY.end + timedelta(days=1)
    assert proven(kind, "m", rows, after) == [("08T00:00", "09T00:00", "complete")]
    assert proven(kind, "m", rows, DAY.end) == [
        ("08T00:00", "08T21:00", "complete"),
        ("08T21:00", "09T00:00", "degraded"),
    ]
    assert proven(kind, "m", rows.clear(), after) == [("08T00:00", "09T00:00", "degraded")]


def test_what_is_asked_for_before_anything_has_settled_is_not_whole():
    assert proven("trades", "m", pl.DataFrame({"event_at": [DAY.start]}), DAY.start + timedelta(hours=1)) == [
        ("08T00:00", "08T01:00", "degraded")
    ]


def test_candles_say_which_rows_they_are_about():
    assert feeds["candles"].about(FIVE) == [
        {"provider": "coinmetrics", "symbol": "coinbase-btc-usd-spot", "interval": "5m"}
    ]


def test_feeds_tell_their_data_sets_apart():
    assert all(re.fullmatch(r"coinmetrics_\w+", feed.name) for feed in FEEDS)
    assert [feed.table.name for feed in FEEDS] == [
        "silver.bars",
        "silver.trades",
        "silver.open_interest",
        "silver.funding_rates",
    ]
