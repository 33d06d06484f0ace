"""What the headers of an answer say about the quota, in whichever provider's words. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

_SPENT = 0.9
"""A weight that the provider counts itself is used up from here on: others on this address use it too."""


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What an answer's headers say about the quota."""

    used: float | None = None
    allowed: float | None = None
    remaining: float | None = None
    reset_at: datetime | None = None

    @property
    def is_spent(self) -> bool:
        """Whether nothing should be asked until the provider counts anew."""
        if self.used is not None and self.allowed is not None:
            return self.used >= _SPENT * self.allowed
        return self.remaining is not None and self.remaining <= 0


def stated(headers: Mapping[str, str], *, host: str, now: datetime) -> Stated | None:
    """What the headers of an answer say about the quota, in whichever provider's words; None where nothing.

    `headers` have lower-case names; `host` is the host name that answered.
    """
    weight = _number(headers.get("x-mbx-used-weight-1m"))
    if weight is not None:
        return _weight(weight, _WEIGHTS_A_MINUTE.get(host), now)
    for words in _WORDS:
        remaining = _number(headers.get(words.remaining))
        if remaining is not None:
            reset_at = _reset_at(_number(headers.get(words.reset)), words.reset_in, now)
            return Stated(allowed=_number(headers.get(words.limit)), remaining=remaining, reset_at=reset_at)
    return None


@dataclass(frozen=True, kw_only=True)
class _Words:
    """How a provider names what is left; lower-case names of headers."""

    limit: str
    remaining: str
    reset: str
    reset_in: Literal["s", "ms", "epoch"]
    """Seconds or milliseconds to go, or a moment in seconds or milliseconds since the epoch."""


_WORDS = (
    # bybit, https://bybit-exchange.github.io/docs/v5/rate-limit
    _Words(
        limit="x-bapi-limit",
        remaining="x-bapi-limit-status",
        reset="x-bapi-limit-reset-timestamp",
        reset_in="epoch",
    ),
    # kucoin, https://www.kucoin.com/docs/basic-info/request-rate-limit
    _Words(
        limit="gw-ratelimit-limit",
        remaining="gw-ratelimit-remaining",
        reset="gw-ratelimit-reset",
        reset_in="ms",
    ),
    # gate, https://www.gate.com/docs/developers/apiv4/#rate-limit-rule
    _Words(
        limit="x-gate-ratelimit-limit",
        remaining="x-gate-ratelimit-requests-remain",
        reset="x-gate-ratelimit-reset-timestamp",
        reset_in="epoch",
    ),
    # CoinMetrics, https://docs.coinmetrics.io/api/v4, and others that follow the IETF's draft
    _Words(
        limit="x-ratelimit-limit",
        remaining="x-ratelimit-remaining",
        reset="x-ratelimit-reset",
        reset_in="s",
    ),
)
_WEIGHTS_A_MINUTE: Mapping[str, float] = {
    # binance, https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits
    "api.binance.com": 6000,
    "fapi.binance.com": 2400,
    "dapi.binance.com": 2400,
}


def _weight(used: float, allowed: float | None, now: datetime) -> Stated:
    minute = now.replace(second=0, microsecond=0)
    remaining = None if allowed is None else max(0.0, allowed - used)
    return Stated(used=used, allowed=allowed, remaining=remaining, reset_at=minute + timedelta(minutes=1))


def _reset_at(said: float | None, unit: Literal["s", "ms", "epoch"], now: datetime) -> datetime | None:
    if said is None:
        return None
    if unit == "epoch":
        at = datetime.fromtimestamp(said / 1000 if said > 1e11 else said, UTC)  # beyond are milliseconds
    else:
        at = now + timedelta(seconds=said if unit == "s" else said / 1000)
    # Some say 0 or the moment of the answer where nothing is counted.
    return at if timedelta(0) < at - now <= timedelta(days=1) else None


def _number(said: str | None) -> float | None:
    """The first number of a header: some repeat the limit with its windows (`120, 120;w=60`)."""
    found = re.match(r"\s*(\d+(?:\.\d+)?)", said or "")
    return float(found[1]) if found else None
