"""What the runs fetch: all of the watchlist by day, the marked part of it by hour."""

from datetime import UTC, datetime

import pytest

from lakehouse.errors import SettingsError
from lakehouse.settings import Settings
from sources.watchlist import read_watchlist

NOW = datetime(2024, 3, 2, tzinfo=UTC)


def watchlist(tmp_path, text: str) -> Settings:
    path = tmp_path / "watchlist.yaml"
    path.write_text(text)
    return Settings(watchlist=path)


def test_the_hourly_run_takes_what_is_marked_and_the_daily_run_takes_all(tmp_path):
    settings = watchlist(
        tmp_path,
        """
        - {feed: ccxt_ohlcv, subject: "binance:BTC/USDT@1m", days: 2, every: hour}
        - {feed: fred_observations, subject: GDP, days: 30}
        """,
    )

    hourly = read_watchlist(settings, now=NOW, every="hour")

    assert [(order.subject, str(order.window)) for order in hourly] == [
        ("binance:BTC/USDT@1m", "[2024-02-29T00:00:00Z, 2024-03-02T00:00:00Z)")
    ]
    assert [order.subject for order in read_watchlist(settings, now=NOW)] == ["binance:BTC/USDT@1m", "GDP"]


def test_an_unknown_rhythm_is_refused_with_the_name_of_the_file(tmp_path):
    settings = watchlist(tmp_path, "- {feed: fred_observations, subject: GDP, every: minute}")

    with pytest.raises(SettingsError, match=r"watchlist\.yaml[\s\S]*every"):
        read_watchlist(settings, now=NOW)
