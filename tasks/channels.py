"""How a message gets out: Slack and PagerDuty by their own JSON over HTTP, e-mail and the rest by apprise, and
notification blocks of Prefect.

Slack's and PagerDuty's addresses are fixed in apprise, and it cannot resolve an incident: those two are posted here.
"""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

import orjson

from lakehouse.alert_messages import Origin, pagerduty, slack, text, title
from lakehouse.alert_routes import Route, masked
from lakehouse.alerting import Entry
from lakehouse.errors import MnemoError

if TYPE_CHECKING:
    from prefect.blocks.abstract import NotificationBlock

_TIMEOUT_S = 10.0
_OF_TRANSPORTS = ("apprise", "httpx", "urllib3.connectionpool")
"""Loggers that write addresses into their lines."""


class NotDelivered(MnemoError):
    """A message did not arrive; the text holds no part of the address but the host."""


def send(route: Route, notices: Sequence[Entry], origin: Origin) -> dict[str, str]:
    """Send notices to a route; by the fingerprint of those that did not arrive, why not. Never raises.

    One message for all of them, but one event each for PagerDuty, which goes by alerts.
    """
    failed: dict[str, str] = {}
    with _unlogged() as lines:
        try:
            channel = _channel(route, lines)
        except Exception as error:  # noqa: BLE001 - one route that fails must not lose the others
            return {notice.alert.fingerprint: _why(error) for notice in notices}
        for group in [notices] if channel.is_grouped else [[notice] for notice in notices]:
            try:
                channel.post(group, origin)
            except Exception as error:  # noqa: BLE001 - as above
                failed |= {notice.alert.fingerprint: _why(error) for notice in group}
    return failed


@dataclass(frozen=True)
class _Channel:
    post: Callable[[Sequence[Entry], Origin], None]
    is_grouped: bool = True


def _channel(route: Route, lines: list[str]) -> _Channel:
    if route.to:
        return _channel_at(route.to.get_secret_value(), lines)
    import prefect.blocks.notifications  # noqa: F401 - makes its blocks known; Prefect is heavy: not at the top
    from prefect.blocks.abstract import NotificationBlock
    from prefect.blocks.core import Block
    from prefect.blocks.system import Secret

    block: Any = Block.load(str(route.block), _sync=True)  # type: ignore[call-arg]
    if isinstance(block, Secret):
        return _channel_at(str(block.get()), lines)
    if isinstance(block, NotificationBlock):
        return _Channel(partial(_notify, block))
    raise NotDelivered(f"block {route.block} cannot notify")


def _channel_at(address: str, lines: list[str]) -> _Channel:
    kind, _, transport = urlsplit(address).scheme.partition("+")
    if transport in ("http", "https") and kind == "slack":
        return _Channel(partial(_post_slack, address))
    if transport in ("http", "https") and kind == "pagerduty":
        return _Channel(partial(_post_pagerduty, address), is_grouped=False)
    return _Channel(partial(_send_by_apprise, address, lines))


def _post_slack(address: str, notices: Sequence[Entry], origin: Origin) -> None:
    _post(address.removeprefix("slack+"), slack(notices, origin))


def _post_pagerduty(address: str, notices: Sequence[Entry], origin: Origin) -> None:
    parts = urlsplit(address.removeprefix("pagerduty+"))
    routing_key, _, host = parts.netloc.rpartition("@")
    url = parts._replace(netloc=host).geturl()
    for notice in notices:
        _post(url, pagerduty(notice, origin, routing_key=unquote(routing_key)))


def _post(url: str, payload: dict[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, orjson.dumps(payload), headers)  # noqa: S310 - http(s) only, see _channel_at
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S):  # noqa: S310 - as above
        pass


def _send_by_apprise(address: str, lines: list[str], notices: Sequence[Entry], origin: Origin) -> None:
    from apprise import Apprise, NotifyFormat, NotifyType

    target = Apprise()
    if not target.add(address):
        raise NotDelivered("apprise does not understand the address")
    severities = {notice.alert.severity for notice in notices if notice.status == "open"}
    worst = {"critical": NotifyType.FAILURE, "warning": NotifyType.WARNING}
    kind = worst[min(severities)] if severities else NotifyType.SUCCESS
    said, head = text(notices, origin), title(notices, origin)
    if not target.notify(body=said, title=head, notify_type=kind, body_format=NotifyFormat.TEXT):
        raise NotDelivered(masked(lines[-1] if lines else "apprise could not send it", address))


def _notify(block: NotificationBlock, notices: Sequence[Entry], origin: Origin) -> None:
    with block.raise_on_failure():
        block.notify(text(notices, origin), title(notices, origin), _sync=True)  # type: ignore[call-arg,unused-coroutine]


@contextmanager
def _unlogged() -> Iterator[list[str]]:
    """Keep the lines of transports out of all logs meanwhile; what they warn of is kept here."""
    lines: list[str] = []

    def hold(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            lines.append(record.getMessage())
        return False

    loggers = [logging.getLogger(name) for name in _OF_TRANSPORTS]
    for logger in loggers:
        logger.addFilter(hold)
    try:
        yield lines
    finally:
        for logger in loggers:
            logger.removeFilter(hold)


def _why(error: Exception) -> str:
    """What went wrong, of errors of transports only the kind: their texts quote addresses."""
    if isinstance(error, NotDelivered):
        return str(error)
    if isinstance(error, HTTPError):
        return f"HTTP {error.code}"
    reason = error.reason if isinstance(error, URLError) else error
    return type(reason).__name__
