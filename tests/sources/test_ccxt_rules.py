"""The table of exchanges: what a wrong row says, what an empty one means."""

import pytest

from lakehouse.errors import SettingsError, UsageError
from sources.ccxt_exchange import CALLS, attributes, needed
from sources.ccxt_rules import FundingRules, TradeRules, exchange_rules, read_rules, rules_of


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kraken: {candels: {}}", r"^exchanges.yaml: kraken.candels: Extra inputs are not permitted$"),
        ("kraken: {candles: {limit: 0}}", "kraken.candles.limit: Input should be greater than 0"),
        ("okx: {funding: {walk: backward}}", "okx.funding: .*cursor goes with walk backward"),
        ("gate: {funding: {walk: sideways}}", "gate.funding.walk: Input should be 'slices', 'steps'"),
        ("gate: {trades: {paging: forward_id}}", "gate.trades: .*cursor goes with paging"),
        ("gate: {open_interest: {limit: 5}}", "gate.open_interest.sides: Field required"),
        ("gate: {liquidations: {amount: coins, side: order}}", "gate.liquidations.amount: .*'base', 'quote'"),
        ("gate: {tickers: {leave_out: [opening]}}", "gate.tickers.leave_out.0: Input should be 'bid'"),
        ("a: {pace: 1}\nb: {books: {limit: -1}}", "a.pace: .*; b.books.limit: "),
        ("- kraken", "exchanges.yaml: it is not a mapping"),
        ("kraken: {", "exchanges.yaml: while parsing"),
    ],
)
def test_a_wrong_row_is_an_error_that_names_exchange_and_key(text, message):
    with pytest.raises(SettingsError, match=message):
        read_rules(text)


def test_any_exchange_of_ccxt_becomes_known_by_an_empty_row(monkeypatch):
    monkeypatch.setitem(exchange_rules(), "bitget", read_rules("bitget:")["bitget"])
    rules = rules_of("bitget")
    assert needed("bitget", "funding", rules.funding) == FundingRules()
    assert needed("bitget", "trades", rules.trades) == TradeRules(limit=100, paging="newest")
    with pytest.raises(UsageError, match=r"bitget offers no open_interest \(ccxt has a call for it"):
        needed("bitget", "open_interest", rules.open_interest)


def test_an_exchange_without_a_row_is_unknown_and_the_way_to_make_it_known_is_said():
    with pytest.raises(UsageError, match=r"unknown exchange 'bitgett'.* by a row in exchanges.yaml"):
        rules_of("bitgett")


@pytest.mark.parametrize("exchange", list(exchange_rules()))
def test_every_row_offers_something_that_ccxt_has(exchange):
    has, rules = attributes(exchange).has, exchange_rules()[exchange]
    assert has["fetchMarkets"]
    for kind in rules.model_fields_set & set(CALLS):
        if getattr(rules, kind) is not None:
            assert any(has.get(call) for call in CALLS[kind]), kind
    for interval in rules.open_interest.intervals if rules.open_interest else ():
        assert attributes(exchange).parse_timeframe(interval) > 0


def test_the_venues_of_the_first_hour_are_all_there():
    assert set(exchange_rules()) >= {
        "binance", "binanceusdm", "binancecoinm", "coinbase", "coinbaseexchange", "kraken", "krakenfutures",
        "bitstamp", "bitfinex", "okx", "bybit", "kucoin", "kucoinfutures", "gate", "deribit", "hyperliquid",
    }  # fmt: skip
