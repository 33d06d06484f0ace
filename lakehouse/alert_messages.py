"""What routes are sent: texts for people, events for PagerDuty. Pure; `tasks.channels` sends them.

Slack: {"text": ...} with &, < and > escaped, https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks.
PagerDuty: Events API v2, https://developer.pagerduty.com/docs/events-api-v2/trigger-events/.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lakehouse.alerting import Entry

_SHOWN = 20
"""Alerts that one text spells out; more would not be read, and Slack cuts at 40,000 characters."""
_SUMMARY_LIMIT = 1024
"""Of a summary's characters; PagerDuty refuses longer ones."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where alerts come from."""

    lake: str
    address: Callable[[str], str]
    """Where people find a key within the lake's files."""

    def link(self, entry: Entry) -> str:
        """The address to read on at; empty where there is none."""
        link = entry.alert.link
        return link if "://" in link or not link else self.address(link)


def title(notices: Sequence[Entry], origin: Origin) -> str:
    """How much of what, and of which lake: `2 critical, 1 resolved in s3://lake/mnemo`."""
    counted = Counter(_standing(notice) for notice in notices)
    said = ", ".join(f"{counted[name]} {name}" for name in _RANK if counted[name])
    return f"{said} in {origin.lake}"


def text(notices: Sequence[Entry], origin: Origin) -> str:
    """A paragraph an alert, the worst first."""
    ordered = sorted(notices, key=lambda notice: (_RANK.index(_standing(notice)), _about(notice)))
    told = [_paragraph(notice, origin) for notice in ordered[:_SHOWN]]
    more = len(ordered) - _SHOWN
    return "\n\n".join([*told, f"and {more} more: mnemo alerts list"] if more > 0 else told)


def slack(notices: Sequence[Entry], origin: Origin) -> dict[str, Any]:
    """The payload of a Slack incoming webhook."""
    said = f"{title(notices, origin)}\n\n{text(notices, origin)}"
    return {"text": said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}


def pagerduty(notice: Entry, origin: Origin, *, routing_key: str) -> dict[str, Any]:
    """The event of one alert: trigger while it is open, resolve when it is over, under one `dedup_key`."""
    alert, link = notice.alert, origin.link(notice)
    event = {
        "routing_key": routing_key,
        "event_action": "resolve" if notice.status == "resolved" else "trigger",
        "dedup_key": alert.fingerprint,
        "payload": {
            "summary": _one_line(f"{_about(notice)}: {alert.summary}"),
            "source": origin.lake,
            "severity": alert.severity,
            "component": alert.table,
            "group": alert.owner,
            "class": alert.monitor,
            "custom_details": {
                "subject": alert.subject,
                "measured": alert.measured,
                "limit": alert.limit,
                "read_on": link,
                "silence": _silence(notice),
            },
        },
    }
    # An address that a browser cannot open, such as s3://, is told in the details alone.
    return {**event, "links": [{"href": link, "text": "Read on"}]} if link.startswith("http") else event


_RANK = ("critical", "warning", "resolved")


def _standing(notice: Entry) -> str:
    return "resolved" if notice.status == "resolved" else notice.alert.severity


def _about(notice: Entry) -> str:
    alert = notice.alert
    return " · ".join(part for part in (alert.monitor, alert.table, alert.subject) if part)


def _paragraph(notice: Entry, origin: Origin) -> str:
    lines = [
        f"[{_standing(notice)}] {_about(notice)}",
        _one_line(notice.alert.summary),
        f"owner: {notice.alert.owner}",
    ]
    if link := origin.link(notice):
        lines.append(f"read on: {link}")
    if notice.status == "open":
        lines.append(f"silence: {_silence(notice)}")
    return "\n".join(lines)


def _silence(notice: Entry) -> str:
    return f"mnemo alerts silence {notice.alert.fingerprint} --hours 24 --why ..."


def _one_line(said: str) -> str:
    return " ".join(said.split())[:_SUMMARY_LIMIT]
