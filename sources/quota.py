"""What providers allow: limits, declared beside each host, and whose they are. Pure; `sources.quota_ledger` keeps them.

An address has one limit however many processes it runs, a key has one wherever it is used.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from lakehouse.window import Window

_SLACK = 1.05
"""Requests do not arrive as evenly as they are sent: this much slower than the limit allows."""
_DAY_S = 86_400.0
_WINDOWS_S: Mapping[str, float] = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True, kw_only=True)
class Limit:
    """At most `units` in any `window_s` seconds; where a `zone` is named, in each calendar day of that time zone."""

    units: int
    window_s: float
    zone: str = ""

    @property
    def is_budget(self) -> bool:
        """Whether it is counted by calendar days, and so cannot be kept by going slowly."""
        return bool(self.zone)

    def counted_in(self, at: datetime) -> Window:
        """The window of counting that a moment lies in."""
        if not self.zone:
            start = datetime.fromtimestamp(at.timestamp() // self.window_s * self.window_s, UTC)
            return Window(start, start + timedelta(seconds=self.window_s))
        midnight = at.astimezone(ZoneInfo(self.zone)).replace(hour=0, minute=0, second=0, microsecond=0)
        # A day has 23 to 25 hours: the next midnight is looked for on the calendar.
        return Window(midnight.astimezone(UTC), (midnight + timedelta(days=1)).astimezone(UTC))

    def __str__(self) -> str:
        return f"{self.units} a day ({self.zone})" if self.zone else f"{self.units} in {self.window_s:g} s"


def a_day(units: int, *zones: str) -> tuple[Limit, ...]:
    """A day's budget, counted by the day of each zone: the stricter holds."""
    return tuple(Limit(units=units, window_s=_DAY_S, zone=zone) for zone in zones or ("UTC",))


def read_limits(text: str) -> tuple[Limit, ...]:
    """Limits as a setting says them: `75/min`, `600/5s,25/day`. Raises ValueError otherwise."""
    return tuple(limit for said in text.split(",") for limit in _read_limit(said.strip()))


@dataclass(frozen=True, kw_only=True)
class Quota:
    """The limits of one host towards one address or one key."""

    provider: str
    host: str
    limits: tuple[Limit, ...] = ()
    min_interval_s: float = 0.0
    """Seconds between requests where limits alone would allow a faster pace."""
    key_id: str = ""
    """A short hash of the key that the limits go by; empty where they go by address."""
    units_a_request: float = 1.0
    """What a request usually counts, for plans."""

    @property
    def name(self) -> str:
        """Names the quota in files and messages."""
        return " ".join(part for part in (self.provider, self.host, self.key_id) if part)

    @property
    def pace_s(self) -> float:
        """Seconds from one unit to the next."""
        by_limits = (limit.window_s / limit.units for limit in self.limits if not limit.is_budget)
        return _SLACK * max((self.min_interval_s, *by_limits))

    @property
    def budgets(self) -> tuple[Limit, ...]:
        """The limits that going slowly does not keep."""
        return tuple(limit for limit in self.limits if limit.is_budget)

    @property
    def counted(self) -> tuple[Limit, ...]:
        """The limits whose use is counted; where only a pace is known, what it comes to in a minute."""
        if self.limits or not self.min_interval_s:
            return self.limits
        return (Limit(units=max(1, int(60 / self.min_interval_s)), window_s=60),)

    def __str__(self) -> str:
        if not self.counted:
            return "no limit that is known"
        return ", ".join(map(str, self.limits)) or f"a request every {self.min_interval_s:g} s"


def key_id(key: str) -> str:
    """Tells keys apart without showing them; empty for no key."""
    return hashlib.sha256(key.encode()).hexdigest()[:8] if key else ""


def _read_limit(said: str) -> tuple[Limit, ...]:
    found = re.fullmatch(r"(?P<units>[1-9]\d*)/((?P<length>[1-9]\d*)?(?P<window>s|min|h)|day)", said)
    if not found:
        raise ValueError(f"{said!r} is not a limit such as 75/min, 600/5s or 25/day")
    units = int(found["units"])
    if not found["window"]:
        return a_day(units)
    return (Limit(units=units, window_s=int(found["length"] or 1) * _WINDOWS_S[found["window"]]),)
