"""What is open, who knows of it and who is still to be told: decided from the history of `ops.alerts`, purely.

A route hears of an alert once it is open, again when it has become critical or is found after the route's cool-down,
and once when it is over. What could not be sent is due as before; what another process has claimed is left to it until
its claim runs out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Literal

import polars as pl

from lakehouse.alert_routes import Route
from lakehouse.alerts import Alert
from lakehouse.contract import Severity
from lakehouse.ops import ALERTS

Status = Literal["open", "resolved"]
Event = Literal["opened", "changed", "resolved", "silenced", "claimed", "sent", "failed"]

CLAIM_HOLDS = timedelta(minutes=10)
"""After that whoever claimed a notice is taken for dead: it is sent again."""

_OF_ALERT = ("opened", "changed", "resolved")
_OF_ROUTE = ("claimed", "sent", "failed")
_ALERT_FIELDS = tuple(field.name for field in fields(Alert))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of `ops.alerts`. Those that claim are the notices to be sent."""

    event: Event
    status: Status
    alert: Alert
    route: str = ""
    detail: str = ""
    silenced_until: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What one route has heard of one alert."""

    told_at: datetime | None = None
    """When it was last sent as open."""
    told_severity: Severity | None = None
    owes_resolution: bool = False
    """Whether sending it as open was tried since it was last sent as resolved."""
    is_unsent: bool = False
    """Whether the last that was tried is to send it as open, and nobody knows that it worked."""
    claimed_at: datetime | None = None
    """Set while nobody knows what became of the last claim."""

    @property
    def has_heard(self) -> bool:
        """Whether it was told that the alert is open, and not yet that it is over."""
        return self.told_at is not None and self.owes_resolution and not self.is_unsent


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the history amounts to."""

    alerts: Mapping[str, Alert]
    """By fingerprint: what is open, and what is over and was told of, as it was last recorded."""
    opened_at: Mapping[str, datetime]
    """Since when, of what is open."""
    silenced_until: Mapping[str, datetime]
    standings: Mapping[tuple[str, str], Standing]
    """By route and fingerprint."""

    @property
    def open(self) -> dict[str, Alert]:
        """What is open, by fingerprint."""
        return {fingerprint: self.alerts[fingerprint] for fingerprint in self.opened_at}


def read_history(history: pl.LazyFrame) -> Known:
    """What rows of `ops.alerts` amount to, in whatever order they are."""
    ordered = history.sort("serial")
    standings, alerts, silences = pl.collect_all(
        [_standings(ordered), _last_states(ordered), _silences(ordered)]
    )
    known = {
        (row.pop("route"), row.pop("fingerprint")): Standing(**row) for row in standings.iter_rows(named=True)
    }
    owed = {fingerprint for (_, fingerprint), standing in known.items() if standing.owes_resolution}
    kept = alerts.filter((pl.col("status") == "open") | pl.col("fingerprint").is_in(owed))
    recorded = [Alert(**row) for row in kept.select(_ALERT_FIELDS).iter_rows(named=True)]
    is_open = kept.filter(pl.col("status") == "open")
    return Known(
        alerts={alert.fingerprint: alert for alert in recorded},
        opened_at=dict(is_open.select("fingerprint", "opened_at").iter_rows()),
        silenced_until=dict(silences.iter_rows()),
        standings=known,
    )


def plan(
    known: Known,
    found: Sequence[Alert],
    *,
    checked: Collection[str],
    routes: Sequence[Route],
    now: datetime,
) -> list[Entry]:
    """What is to be recorded now that `found` was found where `checked` says that somebody looked.

    An open alert that is covered by `checked` (see `Alert.is_covered`) and not among the found is over.
    """
    current = _by_fingerprint(found)
    over = {
        fingerprint: alert
        for fingerprint, alert in known.open.items()
        if fingerprint not in current and alert.is_covered(checked)
    }
    still = {name: alert for name, alert in known.open.items() if name not in over} | current
    entries = [*_changes(known, current), *(_entry("resolved", alert) for alert in over.values())]
    for route in routes:
        entries += _due(route, known, still, current, now)
    return entries


def rows(entries: Sequence[Entry], *, serial: int, run_id: str, now: datetime) -> pl.DataFrame:
    """The entries as rows of `ops.alerts`."""
    return pl.DataFrame(
        [{**_row(entry), "serial": serial, "recorded_at": now, "run_id": run_id} for entry in entries],
        schema=ALERTS.schema,
        orient="row",
    )


def _row(entry: Entry) -> dict[str, Any]:
    said = {name: getattr(entry, name) for name in ("event", "status", "route", "detail", "silenced_until")}
    alert = {name: getattr(entry.alert, name) for name in _ALERT_FIELDS}
    return {**said, **alert, "fingerprint": entry.alert.fingerprint}


def _standings(ordered: pl.LazyFrame) -> pl.LazyFrame:
    is_open = pl.col("status") == "open"
    is_sent = pl.col("event") == "sent"
    tried = pl.col("serial").filter(is_open).max()
    closed = pl.col("serial").filter(is_sent & ~is_open).max()
    return (
        ordered.filter(pl.col("event").is_in(_OF_ROUTE))
        .group_by("route", "fingerprint", maintain_order=True)
        .agg(
            told_at=pl.col("recorded_at").filter(is_sent & is_open).last(),
            told_severity=pl.col("severity").filter(is_sent & is_open).last(),
            owes_resolution=(tried > closed.fill_null(-1)).fill_null(value=False),
            is_unsent=(is_open & ~is_sent).last(),
            claimed_at=pl.when(pl.col("event").last() == "claimed").then(pl.col("recorded_at").last()),
        )
    )


def _last_states(ordered: pl.LazyFrame) -> pl.LazyFrame:
    opened = pl.col("recorded_at").filter(pl.col("event") == "opened").last()
    return (
        ordered.filter(pl.col("event").is_in(_OF_ALERT))
        .group_by("fingerprint", maintain_order=True)
        .agg(pl.col("status", *_ALERT_FIELDS).last(), opened_at=opened)
    )


def _silences(ordered: pl.LazyFrame) -> pl.LazyFrame:
    silenced = ordered.filter(pl.col("event") == "silenced")
    return silenced.group_by("fingerprint").agg(pl.col("silenced_until").last())


def _by_fingerprint(found: Sequence[Alert]) -> dict[str, Alert]:
    """One alert a fingerprint: found several times at once, the most severe."""
    least_severe_first = sorted(found, key=lambda alert: alert.severity == "critical")
    return {alert.fingerprint: alert for alert in least_severe_first}


def _changes(known: Known, current: Mapping[str, Alert]) -> Iterator[Entry]:
    for fingerprint, alert in current.items():
        before = known.open.get(fingerprint)
        if before is None:
            yield _entry("opened", alert)
        elif before.severity != alert.severity:
            yield _entry("changed", alert)


def _entry(event: Event, alert: Alert, route: str = "", status: Status | None = None) -> Entry:
    stands: Status = "resolved" if event == "resolved" else "open"
    return Entry(event=event, status=status or stands, alert=alert, route=route)


def _due(
    route: Route, known: Known, still: Mapping[str, Alert], current: Mapping[str, Alert], now: datetime
) -> Iterator[Entry]:
    """The notices that a route is to get now."""
    for fingerprint, alert in {**known.alerts, **still}.items():
        standing = known.standings.get((route.name, fingerprint), Standing())
        if standing.claimed_at and now - standing.claimed_at < CLAIM_HOLDS:
            continue
        if fingerprint not in still:
            if standing.owes_resolution:
                yield _entry("claimed", alert, route.name, "resolved")
            continue
        is_news = _is_news(alert, standing, route, is_found=fingerprint in current, now=now)
        if is_news and route.wants(alert) and not _is_silenced(known, fingerprint, now):
            yield _entry("claimed", alert, route.name, "open")


def _is_silenced(known: Known, fingerprint: str, now: datetime) -> bool:
    until = known.silenced_until.get(fingerprint)
    return until is not None and now < until


def _is_news(alert: Alert, standing: Standing, route: Route, *, is_found: bool, now: datetime) -> bool:
    """Whether a route is to hear of an open alert that it wants."""
    if standing.told_at is None or standing.is_unsent:
        return True
    if alert.severity == "critical" and standing.told_severity == "warning":
        return True
    # Who knows that it is open is reminded only if it was found anew; who was told that it is over must hear.
    may_repeat = is_found or not standing.owes_resolution
    return may_repeat and now - standing.told_at >= route.cooldown
