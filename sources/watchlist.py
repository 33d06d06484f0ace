"""What the daily run fetches: a YAML list of feeds and subjects, with a rolling or a fixed window.

`- {feed: fred_observations, subject: GDP, days: 3650}` asks for the last days, up to now;
`- {feed: ccxt_trades, subject: "kraken:BTC/USD", start: 2024-01-01, end: 2024-01-02}` asks for that window.
`every: hour` has the hourly run look after an entry as well; the daily run takes them all.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from lakehouse.errors import SettingsError
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.registry import feed

_PACKAGE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Order:
    """One thing to fetch."""

    feed: str
    subject: str
    window: Window


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")

    feed: str
    subject: str
    days: int | None = None
    start: datetime | date | None = None
    end: datetime | date | None = None
    every: Literal["day", "hour"] = "day"

    def order(self, now: datetime) -> Order:
        end = _moment(self.end) if self.end else now
        start = _moment(self.start) if self.start else end - timedelta(days=self.days or 1)
        return Order(feed=feed(self.feed).name, subject=self.subject, window=Window(start, end))


def recordings_folder(settings: Settings) -> Path:
    """The recordings that the offline twin serves: those of `MNEMO_RECORDINGS`, else those that come with the code."""
    return settings.recordings or _PACKAGE.parent / "recordings"


def read_watchlist(
    settings: Settings, *, now: datetime, feeds: Collection[str] = (), every: Literal["hour"] | None = None
) -> list[Order]:
    """The orders of the watchlist in force: all, those of some feeds, those that are wanted every hour.

    `MNEMO_WATCHLIST` names the file; offline it is the one beside the recordings, else the one of the package.
    Raises SettingsError naming file and entry for one that cannot be read, UsageError for an unknown feed.
    """
    beside = recordings_folder(settings) / "watchlist.yaml"
    path = settings.watchlist or (beside if settings.offline else _PACKAGE / "watchlist.yaml")
    try:
        entries = TypeAdapter(list[_Entry]).validate_python(yaml.safe_load(path.read_text()))
    except OSError:
        raise SettingsError(f"no watchlist at {path} (setting MNEMO_WATCHLIST)") from None
    except (yaml.YAMLError, ValidationError) as error:
        raise SettingsError(f"watchlist {path}: {error}") from None
    wanted = {feed(name).name for name in feeds}
    return [
        entry.order(now)
        for entry in entries
        if (not wanted or entry.feed in wanted) and (every is None or entry.every == every)
    ]


def _moment(said: datetime | date) -> datetime:
    if isinstance(said, datetime):
        return said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)
    return datetime.combine(said, time(), UTC)
