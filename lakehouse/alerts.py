"""What a person should hear about: found by monitors and gates, routed and told by `tasks.alert`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from lakehouse.contract import Severity


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One thing that is wrong now. Found again, it is the same alert as long as monitor, table and subject are."""

    monitor: str
    """Who found it: gaps, staleness, drift, gate, ..."""
    table: str
    """The table it is about; empty where it is about the lake or a provider."""
    subject: str
    """What of the table, or which provider; empty where it is all of it."""
    severity: Severity
    owner: str
    """Who is to hear of it: the owner that the table's contract names."""
    summary: str
    """A sentence with the figures; holds no secrets and nothing of a provider's text that is not escaped later."""
    link: str = ""
    """Where to read on: a key within the lake's files, or an address."""
    measured: float | None = None
    limit: float | None = None

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that tell alerts apart."""
        return hashlib.sha256("\n".join((self.monitor, self.table, self.subject)).encode()).hexdigest()[:12]
