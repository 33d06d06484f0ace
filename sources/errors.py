"""What can go wrong with a provider, sorted by what the caller can do.

SourceError
├── Transient      may pass: retry, after `retry_after_s` where the provider said so
├── Permanent      retrying is useless: a person must act (or the subject is gone)
│   ├── MissingKey     the feed needs a key that is not set
│   └── QuotaExhausted the budget is spent until a known time
└── ParseError     a page does not say what its feed should say; the page goes to quarantine
"""

from __future__ import annotations

from datetime import datetime

from lakehouse.bronze import Page
from lakehouse.errors import MnemoError


class SourceError(MnemoError):
    """Base of all provider errors; texts never hold keys."""

    pages: tuple[Page, ...] = ()
    """What the provider sent in place of data: bronze keeps it like any other page, and parsing refuses it."""


class Transient(SourceError):
    """May pass on retry."""

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Permanent(SourceError):
    """Will not pass on retry."""


class MissingKey(Permanent):
    """A key setting is empty."""


class QuotaExhausted(Permanent):
    """Asking again before the budget is renewed only makes it worse; `renewed_at` is when that is, where known."""

    def __init__(self, message: str, *, renewed_at: datetime | None = None) -> None:
        super().__init__(message)
        self.renewed_at = renewed_at


class ParseError(SourceError):
    """A page's body is not what the feed expects."""
