"""What a person should hear about: found by monitors and gates, routed and told by `tasks.alert`."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from lakehouse import catalog
from lakehouse.contract import Severity
from lakehouse.publish import Promoted

GATE = "gate"


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

    def is_covered(self, checked: Collection[str]) -> bool:
        """Whether whoever looked would have found it again; see `looked_for`."""
        scopes = (self.monitor, looked_for(self.monitor, self.table), self._scope)
        return any(scope in checked for scope in scopes)

    @property
    def _scope(self) -> str:
        return looked_for(self.monitor, self.table, self.subject)


def looked_for(*scope: str) -> str:
    """How `checked` names what was looked at: a whole monitor, or one table of it, or one subject of one table."""
    return ":".join(scope)


def from_promotions(promoted: Sequence[Promoted]) -> list[Alert]:
    """What the gates of some promotions found: critical where a batch was blocked; one alert a table and inputs."""
    return [
        Alert(
            monitor=GATE,
            table=one.table,
            subject=_subject(one),
            severity="critical" if one.level == "blocked" else "warning",
            owner=catalog.table(one.table).owner,
            summary=_summary(one),
            link=one.docs_key,
            measured=float(one.quarantined_rows),
        )
        for one in promoted
        if one.level in ("blocked", "warning")
    ]


def gates_of(promoted: Sequence[Promoted]) -> set[str]:
    """What `from_promotions` looked at, for `checked`: promotions with nothing new say nothing of what is open."""
    return {looked_for(GATE, one.table, _subject(one)) for one in promoted if one.level}


def _subject(one: Promoted) -> str:
    return ", ".join(one.inputs)


def _summary(one: Promoted) -> str:
    counted = ", ".join(f"{name} {count:,}" for name, count in one.reasons.items()) or "an expectation failed"
    if one.level == "blocked":
        held = f"batch {one.batch_id} was blocked, {one.quarantined_rows:,} rows wait in quarantine"
        return f"{held}: {counted}; `mnemo quarantine show {one.batch_id}`"
    rows = f"{one.published_rows:,} rows published, {one.quarantined_rows:,} held back"
    return f"batch {one.batch_id} was published with a warning, {rows}: {counted}"
