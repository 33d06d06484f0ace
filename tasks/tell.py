"""Alerts: compared with what is open, recorded in `ops.alerts`, and sent to whom the routes name. Without Prefect.

What is to be sent is claimed by a commit before it is sent, so that of two processes one sends; a second commit says
what became of it. Between the two a kill costs a second message, never a lost one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any

import structlog

from expectations.docs import address_of
from lakehouse.alert_messages import Origin
from lakehouse.alert_routes import Route, read_routes
from lakehouse.alerting import Entry, Known, plan, read_history, rows
from lakehouse.alerts import Alert
from lakehouse.errors import SettingsError, unknown
from lakehouse.ops import ALERTS
from lakehouse.promotion import until_settled
from lakehouse.publish import Run
from lakehouse.settings import Settings, environment
from lakehouse.store import Store, StoredTable
from tasks import session
from tasks.channels import send

log = structlog.get_logger()

_SERIAL = "mnemo.alerts"
"""Every commit of `ops.alerts` advances it: of two at once the later conflicts and looks again."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """What one call did. Numbers of alerts."""

    opened: int = 0
    resolved: int = 0
    sent: Mapping[str, int] = field(default_factory=dict)
    """By route."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """By route: why something did not arrive; it is sent again by the next call."""


def tell(found: Sequence[Alert], *, checked: Collection[str], run: Run) -> Told:
    """Record what was found and what is over, and send what nobody has heard of yet.

    `checked` names what was looked at (see `lakehouse.alerts.looked_for`), such as `gaps` or `gate:silver.trades`: what
    is open there and not among the found is over. A route that fails is logged and tried again by the next call.

    Raises SettingsError where the routes cannot be read, before anything is recorded.
    """
    return tell_in(session.store(), found, checked=checked, routes=routes_of(session.settings()), run=run)


def tell_in(
    store: Store, found: Sequence[Alert], *, checked: Collection[str], routes: Sequence[Route], run: Run
) -> Told:
    """The same in a store that is given, with routes that are given."""
    if not found and store.find(ALERTS) is None:
        return Told()
    with store.errors():
        entries = until_settled(lambda: _claim(store, found, checked, routes, run))
        outcomes = _send_all(entries, routes, origin_of(store))
        if outcomes:
            until_settled(lambda: _append(store.open(ALERTS), outcomes, run))
    return _summed_up([*entries, *outcomes])


def routes_of(settings: Settings) -> tuple[Route, ...]:
    """The routes in force."""
    return read_routes(settings.alerts, environment())


def origin_of(store: Store) -> Origin:
    """Where messages say that they come from."""
    return Origin(lake=store.root, address=partial(address_of, store.settings))


def open_alerts(store: Store) -> list[dict[str, Any]]:
    """One record an open alert, the worst and oldest first; `told` names the routes that have heard of it."""
    known = _known(store)
    ordered = sorted(known.open.items(), key=lambda one: (one[1].severity, known.opened_at[one[0]]))
    return [_record(known, fingerprint, alert) for fingerprint, alert in ordered]


def silence(store: Store, fingerprint: str, *, hours: float, why: str, run: Run) -> Alert:
    """Send nothing of an open alert for so long but that it is over. Raises UsageError where it is not open."""
    known = _known(store)
    alert = known.open.get(fingerprint)
    if alert is None:
        raise unknown("open alert", fingerprint, known.open)
    until = run.now() + timedelta(hours=hours)
    entry = Entry(event="silenced", status="open", alert=alert, detail=why, silenced_until=until)
    until_settled(lambda: _append(store.open(ALERTS), [entry], run))
    return alert


def send_test(routes: Sequence[Route], origin: Origin, *, name: str = "") -> list[dict[str, str]]:
    """Send an alert and its end to every route, or one; one record a route, with why it did not arrive."""
    if not routes:
        raise SettingsError("no routes of alerts are set (setting MNEMO_ALERTS)")
    wanted = [route for route in routes if not name or route.name == name]
    if not wanted:
        raise unknown("route", name, (route.name for route in routes))
    return [_tested(route, origin) for route in wanted]


def _claim(
    store: Store, found: Sequence[Alert], checked: Collection[str], routes: Sequence[Route], run: Run
) -> list[Entry]:
    stored = store.open(ALERTS)
    known = read_history(stored.scan())
    entries = plan(known, found, checked=checked, routes=routes, now=run.now())
    if entries:
        _append(stored, entries, run)
    return entries


def _append(stored: StoredTable, entries: Sequence[Entry], run: Run) -> None:
    serial = stored.position(_SERIAL) + 1
    frame = rows(entries, serial=serial, run_id=run.run_id, now=run.now())
    stored.append(frame, positions={_SERIAL: serial}, said={"run": run.run_id})


def _send_all(entries: Sequence[Entry], routes: Sequence[Route], origin: Origin) -> list[Entry]:
    outcomes: list[Entry] = []
    for route in routes:
        notices = [entry for entry in entries if entry.event == "claimed" and entry.route == route.name]
        failed = send(route, notices, origin) if notices else {}
        outcomes += [_outcome(notice, failed) for notice in notices]
        if failed:
            log.warning("alerts did not arrive", route=route.name, alerts=len(failed), why=_one_of(failed))
    return outcomes


def _outcome(notice: Entry, failed: Mapping[str, str]) -> Entry:
    why = failed.get(notice.alert.fingerprint)
    return replace(notice, event="sent") if why is None else replace(notice, event="failed", detail=why)


def _summed_up(entries: Sequence[Entry]) -> Told:
    sent = [entry.route for entry in entries if entry.event == "sent"]
    return Told(
        opened=sum(entry.event == "opened" for entry in entries),
        resolved=sum(entry.event == "resolved" for entry in entries),
        sent={route: sent.count(route) for route in dict.fromkeys(sent)},
        failed={entry.route: entry.detail for entry in entries if entry.event == "failed"},
    )


def _known(store: Store) -> Known:
    stored = store.find(ALERTS)
    with store.errors():
        return read_history(stored.scan() if stored else ALERTS.schema.to_frame(eager=False))


def _record(known: Known, fingerprint: str, alert: Alert) -> dict[str, Any]:
    told = [
        route for (route, of), standing in known.standings.items() if of == fingerprint and standing.has_heard
    ]
    return {
        "fingerprint": fingerprint,
        "severity": alert.severity,
        "monitor": alert.monitor,
        "table": alert.table,
        "subject": alert.subject,
        "summary": alert.summary,
        "owner": alert.owner,
        "since": known.opened_at[fingerprint],
        "told": told,
        "silenced_until": known.silenced_until.get(fingerprint),
        "link": alert.link,
    }


def _tested(route: Route, origin: Origin) -> dict[str, str]:
    alert = Alert(
        monitor="test",
        table="",
        subject=route.name,
        severity="warning",
        owner="operations",
        summary="This is a test of the route; nothing is wrong.",
    )
    notices = [Entry(event="claimed", status=status, alert=alert) for status in ("open", "resolved")]
    failed = send(route, notices, origin)
    return {"route": route.name, "result": _one_of(failed) or "sent"}


def _one_of(failed: Mapping[str, str]) -> str:
    return next(iter(failed.values()), "")
