"""What a backfill asks for: cells on one grid, the fewest requests, and for each feed its own step and limits."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.silver.candles import TABLE
from lakehouse.window import Window
from sources.backfill_plan import grid, still_missing
from sources.feed import Feed
from sources.registry import feed, feeds

DAY = datetime(2024, 1, 1, tzinfo=UTC)


def at(hour: float) -> datetime:
    return DAY + timedelta(hours=hour)


def span(start: float, end: float) -> Window:
    return Window(at(start), at(end))


def pages_of(hours: float):
    """The cost where a request brings so many hours."""
    return lambda _subject, window: -(-(window.end - window.start) // timedelta(hours=hours))


def bars(**facts) -> Feed:
    return Feed(
        name="test_bars",
        provider="test",
        doc="",
        table=TABLE,
        subjects="",
        fetch=lambda *_: iter(()),
        parse=pl.DataFrame.lazy,
        **facts,
    )


@pytest.mark.parametrize(
    ("window", "step_h", "cells"),
    [
        (span(0, 12), 6, [span(0, 6), span(6, 12)]),
        (span(1, 13), 6, [span(1, 6), span(6, 12), span(12, 13)]),
        (span(1, 2), 6, [span(1, 2)]),
        (span(1, 13), None, [span(1, 13)]),
    ],
)
def test_whoever_cuts_a_window_cuts_it_at_the_same_moments(window, step_h, cells):
    step = None if step_h is None else timedelta(hours=step_h)
    assert list(grid(window, step)) == cells


@pytest.mark.parametrize(
    ("settled", "cost", "missing"),
    [
        ([], 4, [span(0, 12)]),
        ([span(0, 12)], 4, []),
        ([span(0, 5)], 4, [span(5, 12)]),
        ([span(1, 11)], 4, [span(0, 1), span(11, 12)]),
        ([span(1, 2), span(10, 11)], 4, [span(0, 12)]),
        ([span(1, 2), span(3, 4)], None, [span(0, 12)]),
    ],
    ids=[
        "nothing is here",
        "all is here",
        "the end is missing",
        "both ends: the span takes three pages",
        "slivers: the span takes no more pages",
        "cost unknown: one request",
    ],
)
def test_what_is_missing_is_asked_for_in_the_fewest_requests(settled, cost, missing):
    one = bars(cost=pages_of(cost) if cost else None)
    assert still_missing(one, "s", span(0, 12), settled) == missing


@pytest.mark.parametrize(
    ("subject", "step", "cost", "pace_s", "units"),
    [
        ("binance:BTC/USDT@1m", timedelta(minutes=10_000), 44, 0.0525, 1),
        ("bybit:BTC/USDT@1h", timedelta(hours=10_000), 1, 0.021, 5),
        ("okx:BTC/USDT@1m", timedelta(minutes=1000), 432, 0.1155, 2),
        ("bitfinex:BTC/USDT@1m", timedelta(minutes=100_000), 5, 4.2, 2.7),
        ("kraken:BTC/USD@1m", None, 1, 1.05, 1.2),
    ],
)
def test_bars_are_asked_for_by_the_page_at_the_pace_of_their_exchange(subject, step, cost, pace_s, units):
    found = feed("ccxt_ohlcv")
    quota = found.quota(Settings(_env_file=None), subject)
    assert found.step(subject) == step
    assert found.cost(subject, Window(DAY, DAY + timedelta(days=30))) == cost
    assert (round(quota.pace_s, 4), quota.units_a_request) == (pace_s, units)


@pytest.mark.parametrize(("subject", "is_cut"), [("binance:BTC/USDT", True), ("okx:BTC/USDT", False)])
def test_trades_that_are_walked_from_the_newest_are_not_cut_into_windows(subject, is_cut):
    assert (feed("ccxt_trades").step(subject) is not None) == is_cut


def test_exchanges_that_share_an_address_share_its_limit():
    quotas = [
        feed("ccxt_ohlcv").quota(Settings(_env_file=None), f"{exchange}:BTC/USDT:USDT@1m")
        for exchange in ("binance", "binanceusdm")
    ]
    assert quotas[0].name == quotas[1].name == "ccxt binance"


def test_a_malformed_subject_is_refused_before_anything_is_asked():
    with pytest.raises(UsageError, match="is not exchange:symbol@interval"):
        feed("ccxt_ohlcv").step("kraken")


@pytest.mark.parametrize("name", [name for name, feed in feeds().items() if not feed.stream])
def test_every_feed_says_whose_limits_it_keeps(name):
    assert feeds()[name].quota is not None
