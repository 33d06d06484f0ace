"""What the twin counts of each venue's requests, against the limits that the venue itself declares.

These are the venues' own words, written down apart from what our client keeps to: the twin checks the client by them.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sources.twin.recording import Request


@dataclass(frozen=True, kw_only=True)
class VenueLimit:
    """At most `units` in any `window_s` seconds, for the requests of a host whose path fits."""

    host: str
    units: float
    window_s: float
    path: str = ""
    cost: Callable[[Request], float] = lambda _: 1.0

    @property
    def name(self) -> str:
        """Names it in the report."""
        where = f" {self.path}" if self.path else ""
        return f"{self.units:g} in {self.window_s:g} s{where}"

    def concerns(self, asked: Request) -> bool:
        """Whether a request counts against it."""
        return asked.host == self.host and bool(re.search(self.path, asked.path))


def _binance_weight(asked: Request) -> float:
    """Weights of https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints."""
    weights = {"/api/v3/klines": 2, "/api/v3/aggTrades": 4, "/api/v3/exchangeInfo": 20}
    return weights.get(asked.path, 1)


def _fapi_weight(asked: Request) -> float:
    """Weights of https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api."""
    if not asked.path.endswith("/klines"):
        return 1
    limit = int(dict(asked.parameters).get("limit", "500"))
    return next(weight for most, weight in ((99, 1), (499, 2), (1000, 5), (10**9, 10)) if limit <= most)


LIMITS = (
    VenueLimit(host="api.binance.com", units=6000, window_s=60, cost=_binance_weight),
    VenueLimit(host="fapi.binance.com", units=2400, window_s=60, cost=_fapi_weight),
    VenueLimit(host="dapi.binance.com", units=2400, window_s=60, cost=_fapi_weight),
    VenueLimit(host="api.bybit.com", units=600, window_s=5),
    VenueLimit(host="www.okx.com", units=20, window_s=2, path="/history-candles"),
    VenueLimit(host="www.okx.com", units=40, window_s=2, path="/market/candles"),
    VenueLimit(host="www.okx.com", units=20, window_s=2, path="/history-trades"),
    VenueLimit(host="www.okx.com", units=20, window_s=2, path="/public/instruments"),
    VenueLimit(host="www.bitstamp.net", units=400, window_s=1),
    VenueLimit(host="www.bitstamp.net", units=10_000, window_s=600),
    VenueLimit(host="api-pub.bitfinex.com", units=30, window_s=60, path="/candles/"),
    VenueLimit(host="api-pub.bitfinex.com", units=15, window_s=60, path="/trades/"),
    VenueLimit(host="api.stlouisfed.org", units=120, window_s=60),
    VenueLimit(host="community-api.coinmetrics.io", units=10, window_s=6),
    VenueLimit(host="www.alphavantage.co", units=25, window_s=86_400),
    VenueLimit(host="gamma-api.polymarket.com", units=4000, window_s=10),
    VenueLimit(host="gamma-api.polymarket.com", units=500, window_s=10, path="^/events"),
    VenueLimit(host="gamma-api.polymarket.com", units=300, window_s=10, path="^/markets"),
    VenueLimit(host="clob.polymarket.com", units=1000, window_s=10, path="^/prices-history"),
    VenueLimit(host="data-api.polymarket.com", units=200, window_s=10, path="^/trades"),
)
"""From the venues' documentation; hosts that publish no limit are only counted."""


class Tally:
    """Counts what was asked, answered and refused, and where a limit was exceeded. One event loop at a time."""

    def __init__(self, limits: tuple[VenueLimit, ...] = LIMITS) -> None:
        self._limits = limits
        self._hosts: dict[str, _Host] = {}
        self._windows: dict[VenueLimit, _Sliding] = {limit: _Sliding() for limit in limits}
        self._answered: Counter[Request] = Counter()

    def ask(self, asked: Request, *, at_s: float) -> None:
        """A request has come in, at a moment of a clock that only goes forward."""
        self._hosts.setdefault(asked.host, _Host()).requests += 1
        for limit in self._limits:
            if limit.concerns(asked):
                self._windows[limit].add(limit.cost(asked), at_s, limit)

    def answer(self, asked: Request, status: int, *, is_synthetic: bool) -> None:
        """It was answered, with this status."""
        host = self._hosts[asked.host]
        host.statuses[status] += 1
        host.synthetic += is_synthetic
        if status < 400:
            self._answered[asked] += 1

    def report(self) -> dict[str, Any]:
        """Requests and violations, in all and for each host; `repeated` are requests answered well more than once."""
        hosts = {name: self._host(name) for name in sorted(self._hosts)}
        return {
            "requests": sum(host["requests"] for host in hosts.values()),
            "violations": sum(host["violations"] for host in hosts.values()),
            "hosts": hosts,
        }

    def _host(self, name: str) -> dict[str, Any]:
        counted = self._hosts[name]
        windows = {limit: self._windows[limit] for limit in self._limits if limit.host == name}
        again = {asked: times for asked, times in self._answered.items() if asked.host == name and times > 1}
        return {
            "requests": counted.requests,
            "statuses": {str(status): count for status, count in sorted(counted.statuses.items())},
            "synthetic": counted.synthetic,
            "violations": sum(window.violations for window in windows.values()),
            "limits": [
                {"limit": limit.name, "most": window.most, "violations": window.violations}
                for limit, window in windows.items()
            ],
            "repeated": [{"request": _shown(asked), "times": times} for asked, times in again.items()],
        }


@dataclass
class _Host:
    requests: int = 0
    synthetic: int = 0
    statuses: Counter[int] = field(default_factory=Counter)


@dataclass
class _Sliding:
    """The units of the last stretch of time."""

    entries: deque[tuple[float, float]] = field(default_factory=deque)
    units: float = 0.0
    most: float = 0.0
    violations: int = 0

    def add(self, units: float, at_s: float, limit: VenueLimit) -> None:
        while self.entries and self.entries[0][0] <= at_s - limit.window_s:
            self.units -= self.entries.popleft()[1]
        self.entries.append((at_s, units))
        self.units += units
        self.most = max(self.most, self.units)
        self.violations += self.units > limit.units


def _shown(asked: Request) -> str:
    query = "&".join(f"{name}={value}" for name, value in asked.parameters)
    return f"{asked.method} {asked.host}{asked.path}" + (f"?{query}" if query else "")
