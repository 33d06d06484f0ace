"""Whom alerts go to: a YAML list of routes, named by `MNEMO_ALERTS`; docs/alerts.md says what one may hold.

Addresses hold secrets. They are told apart from everything else here: no error names their values, `repr` hides them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, unquote, urlsplit

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from lakehouse.alerts import Alert
from lakehouse.contract import Severity
from lakehouse.errors import SettingsError

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SPAN = re.compile(r"(\d+)\s*([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SHORTEST_SECRET = 3
_HIDDEN = "***"

Patterns = tuple[str, ...]
_EVERYTHING: Patterns = ("*",)


def _parse_span(said: Any) -> timedelta:
    """`6h` as a span of time."""
    found = _SPAN.fullmatch(str(said))
    if found is None:
        raise ValueError("not a span of time such as 30m, 6h or 2d")
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


class Route(BaseModel):
    """One place that alerts go to, and which alerts."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str = Field(min_length=1)
    to: SecretStr | None = None
    """An address: `slack+https://...`, `pagerduty+https://KEY@...`, or any that apprise knows."""
    block: str | None = Field(None, pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")
    """A notification block of Prefect, or a Secret that holds the address."""
    severity: Severity = "warning"
    """The least that it wants to hear of."""
    tables: Patterns = _EVERYTHING
    owners: Patterns = _EVERYTHING
    monitors: Patterns = _EVERYTHING
    cooldown: Annotated[timedelta, BeforeValidator(_parse_span)] = timedelta(hours=6)

    @model_validator(mode="after")
    def _goes_somewhere(self) -> Route:
        if (self.to is None) == (self.block is None):
            raise ValueError("wants either to: or block:")
        if self.to and not urlsplit(self.to.get_secret_value()).scheme:
            raise ValueError("to: is not an address")
        return self

    def wants(self, alert: Alert) -> bool:
        """Whether an alert goes this way."""
        return (self.severity == "warning" or alert.severity == "critical") and (
            _matches(alert.table, self.tables)
            and _matches(alert.owner, self.owners)
            and _matches(alert.monitor, self.monitors)
        )


def read_routes(path: Path | None, environment: Mapping[str, str | None]) -> tuple[Route, ...]:
    """The routes of a file, `${NAME}` in their addresses filled in from the environment; none without a file.

    Raises SettingsError naming file, route and what is wrong, never a value.
    """
    if path is None:
        return ()
    where = f"routes of alerts {path}"
    filled = [_filled(one, environment, where) for one in _entries(path, where)]
    try:
        routes = TypeAdapter(tuple[Route, ...]).validate_python(filled)
    except ValidationError as error:
        wrong = "; ".join(_wrong(one["loc"], one["msg"]) for one in error.errors(include_input=False))
        raise SettingsError(f"{where}: {wrong}") from None
    twice = [name for name, count in Counter(route.name for route in routes).items() if count > 1]
    if twice:
        raise SettingsError(f"{where}: {', '.join(twice)} is there twice")
    return routes


def masked(text: str, address: str) -> str:
    """A text without an address and the parts of it that may be secret; the host stays."""
    for secret in sorted(set(_secrets(address)), key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _matches(name: str, patterns: Patterns) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _entries(path: Path, where: str) -> list[Any]:
    try:
        said = yaml.safe_load(path.read_text())
    except OSError:
        raise SettingsError(f"{where}: no such file (setting MNEMO_ALERTS)") from None
    except yaml.YAMLError as error:  # its text quotes the file
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{where}{line}: not YAML") from None
    if not isinstance(said, list) or not all(isinstance(one, dict) for one in said):
        raise SettingsError(f"{where}: wants a list of routes, each with name: and to: or block:")
    return said


def _filled(said: Mapping[str, Any], environment: Mapping[str, str | None], where: str) -> Mapping[str, Any]:
    address = said.get("to")
    if not isinstance(address, str):
        return said
    missing = [name for name in _REFERENCE.findall(address) if not environment.get(name)]
    if missing:
        raise SettingsError(f"{where}: route {said.get('name', '?')}: {', '.join(missing)} is not set")
    return {**said, "to": _REFERENCE.sub(lambda found: str(environment[found[1]]), address)}


def _wrong(where: tuple[int | str, ...], what: str) -> str:
    number, *field = where
    return f"route {int(number) + 1}{''.join(f' {one}:' for one in field)} {what}"


def _secrets(address: str) -> Iterator[str]:
    parts = urlsplit(address)
    for part in (address, *_pieces(parts)):
        for secret in (part, unquote(part)):
            if len(secret) >= _SHORTEST_SECRET:
                yield secret


def _pieces(parts: SplitResult) -> Iterator[str]:
    user = parts.netloc.rpartition("@")[0]
    yield from (user, *user.split(":"), parts.path, *parts.path.split("/"), parts.query)
    yield from (one.partition("=")[2] for one in parts.query.split("&"))
