"""What an error of ccxt means for the caller, sorted by what the venue really said.

The class that ccxt raises does not tell: it calls a country block a network error and a spent rate limit an
exchange error (measured with ccxt 4.5.90), and so does a 429 with a body that it cannot place. So status and body are
asked first, then the class: `OperationFailed` may pass, all else will not. Nothing here imports ccxt.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from sources.client import Answer, retry_after_s
from sources.errors import Permanent, QuotaExhausted, SourceError, Transient

_ANY_STATUS = range(1000)
_BUSY = frozenset({408, 429, 502, 503, 504, 520, 521, 522, 523, 524})
"""These pass, whatever a venue or the gateway before it writes with them."""
_BINANCE = frozenset({"binance", "binancecoinm", "binanceus", "binanceusdm"})
_READ_BYTES = 2000
_GEO = "the venue refuses this place of origin: run it from elsewhere, or choose another venue"


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a venue says in one trouble, and what to do then. `says` is searched in the body, case ignored."""

    verdict: Literal["transient", "permanent", "quota"]
    advice: str
    exchanges: frozenset[str] = frozenset()
    """The venues it is about; empty: all."""
    statuses: Container[int] = _ANY_STATUS
    says: str = ""
    wait_s: float | None = None
    """How long to wait where the venue sends no Retry-After."""

    def fits(self, exchange: str, answer: Answer) -> bool:
        """Whether the answer is this case."""
        if self.exchanges and exchange not in self.exchanges:
            return False
        return answer.status in self.statuses and bool(re.search(self.says, _text(answer), re.IGNORECASE))


CASES = (
    Case(statuses={451}, verdict="permanent", advice=_GEO),
    # A gateway's own 5xx page may speak of countries without meaning ours.
    Case(
        statuses=range(500),
        says=r"restricted|country|eligib|unavailable in the u\.?s",
        verdict="permanent",
        advice=_GEO,
    ),
    Case(exchanges=frozenset({"bybit"}), says=r"\b10009\b|cloudfront", verdict="permanent", advice=_GEO),
    Case(
        exchanges=frozenset({"kucoin", "kucoinfutures"}), says=r"\b400302\b", verdict="permanent", advice=_GEO
    ),
    Case(
        exchanges=_BINANCE,
        statuses={418},
        verdict="quota",
        advice="the venue banned this address: stop all its jobs",
    ),
    Case(
        exchanges=_BINANCE,
        statuses={403},
        verdict="transient",
        wait_s=60,
        advice="the venue's firewall refused it",
    ),
    Case(
        exchanges=frozenset({"bybit"}),
        statuses={403},
        verdict="transient",
        wait_s=600,
        advice="rate limit: 10 minutes",
    ),
    Case(
        exchanges=frozenset({"bybit"}),
        says=r"\b10016\b",
        verdict="transient",
        advice="the venue's server failed",
    ),
    Case(
        exchanges=frozenset({"bitstamp"}),
        says=r"400\.00?2|rate limit",
        verdict="transient",
        advice="rate limit",
    ),
    Case(
        exchanges=frozenset({"bitfinex"}),
        says=r"err_rate_limit|ratelimit|\b11010\b",
        verdict="transient",
        wait_s=60,
        advice="rate limit: the address is blocked for a minute",
    ),
    Case(
        exchanges=frozenset({"gate"}),
        says=r"too long ago",
        verdict="permanent",
        advice="the window is older than what the venue keeps: start later",
    ),
)


def sort_error(message: str, *, exchange: str, answer: Answer | None, may_pass: bool) -> SourceError:
    """The error to raise for a failed call.

    `answer` is the last one received, None where none came; `may_pass` is what ccxt's class says. The wait is what
    the venue asked for, in `Retry-After` or in its text, else what is known of the case.
    """
    if answer is None:
        return Transient(message) if may_pass else Permanent(message)
    case = next((case for case in CASES if case.fits(exchange, answer)), None)
    if case is None and not (may_pass or answer.status in _BUSY):
        return Permanent(message)
    if case is None:
        return Transient(message, retry_after_s=_asked_wait_s(answer))
    message = f"{message} ({case.advice})"
    if case.verdict == "transient":
        asked_s = _asked_wait_s(answer)
        return Transient(message, retry_after_s=case.wait_s if asked_s is None else asked_s)
    return QuotaExhausted(message) if case.verdict == "quota" else Permanent(message)


def _asked_wait_s(answer: Answer) -> float | None:
    """`Retry-After`, or the moment in kraken's `EService: Throttled: <unix seconds>`."""
    throttled = re.search(r"Throttled:\s*(\d+)", _text(answer))
    if throttled:
        return max(0.0, int(throttled[1]) - answer.received_at.timestamp())
    return retry_after_s(answer.headers, now=answer.received_at)


def _text(answer: Answer) -> str:
    """The beginning of the body: an error is short, and half a list of markets may hold any word."""
    return answer.body[:_READ_BYTES].decode("utf-8", "replace")
