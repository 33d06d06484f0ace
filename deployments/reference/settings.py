"""docs/settings.md and `.env.example`: every setting, those of providers among them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, get_args

import sources
from deployments.reference.markdown import page, table
from lakehouse.settings import Settings
from sources.client import Host
from sources.registry import feeds

_ABOUT = """Generated from the settings by `make docs`. They are read from the environment, then from `.env` in
the folder where a command runs (`.env.example` is a copy to start from). An unknown or malformed one is an error that
names it."""
_ADDRESSES = """`..._URL` replaces scheme and host; `..._LIMITS` replaces the declared limits where a contract of
yours allows others: `75/min`, or `600/5s,25/day`."""
_CCXT = """`MNEMO_CCXT_URL` is a prefix: requests and sockets of all exchanges go to
`<prefix>/<original host>/...`. Their limits are in `sources/exchanges.yaml`. `MNEMO_POLYMARKET_WS_URL` replaces the
address of Polymarket's socket."""
_ALERTS = """The file that `MNEMO_ALERTS` names may refer to `MNEMO_ALERT_<ANYTHING>` and to any other variable
([alerts](alerts.md))."""


def settings_page() -> str:
    """The text of docs/settings.md."""
    hosted = ("settings", "address", "limits")
    return page(
        "# Settings",
        _ABOUT,
        table(("setting", "default", "meaning"), map(_cells, _general())),
        "## Keys of providers",
        table(("setting", "key"), [(f"`{name}`", meaning) for name, meaning in key_settings().items()]),
        "## Addresses and limits of providers",
        _ADDRESSES,
        table(hosted, map(_host_cells, hosts())),
        _CCXT,
        "## Secrets of alerts",
        _ALERTS,
    )


def env_example() -> str:
    """The text of `.env.example`."""
    lines = ["# Settings of mnemo-quant, with their defaults. Copy to .env and change what you need.", ""]
    for name in _general():
        field = Settings.model_fields[name]
        lines += [f"# {field.description}", f"# MNEMO_{name.upper()}={_default(field.default)}", ""]
    lines += list(_provider_settings())
    return "\n".join(lines) + "\n"


@cache
def hosts() -> tuple[Host, ...]:
    """Every host of a provider that has settings of its own, by name."""
    modules = (
        importlib.import_module(f"sources.{one.name}") for one in pkgutil.iter_modules(sources.__path__)
    )
    found = {value for one in modules for value in vars(one).values() if isinstance(value, Host)}
    return tuple(sorted(found, key=lambda host: (host.name, host.url)))


def key_settings() -> Mapping[str, str]:
    """The settings that hold keys of providers, each with where a key can be had."""
    may = {host.key_setting: "may be left empty" for host in hosts() if host.key_setting}
    needed = {feed.key_setting: f"needed; {feed.key_url}" for feed in feeds().values() if feed.key_setting}
    return {name: {**may, **needed}[name] for name in sorted({**may, **needed})}


def _general() -> list[str]:
    return [name for name in Settings.model_fields if name != "providers"]


def _cells(name: str) -> Sequence[str]:
    field = Settings.model_fields[name]
    default = _default(field.default)
    allowed = ", ".join(f"`{one}`" for one in get_args(field.annotation) if isinstance(one, str))
    meaning = f"{field.description} One of {allowed}." if allowed else str(field.description)
    return f"`MNEMO_{name.upper()}`", f"`{default}`" if default else "", meaning


def _host_cells(host: Host) -> Sequence[str]:
    limits = str(host.quota(Settings.model_construct()))
    return f"`MNEMO_{host.name}_URL`, `MNEMO_{host.name}_LIMITS`", f"`{host.url}`", limits


def _default(value: Any) -> str:
    if hasattr(value, "get_secret_value"):
        value = value.get_secret_value()
    if isinstance(value, bool):
        value = "1" if value else "0"
    return "" if value is None else str(value)


def _provider_settings() -> Iterator[str]:
    yield "# Keys of providers; feeds that need none run without."
    needed = {feed.key_setting: feed.key_url for feed in feeds().values() if feed.key_setting}
    for setting, url in sorted(needed.items()):
        yield f"# {setting}=            ({url})"
    yield "# MNEMO_COINMETRICS_API_KEY=            (without it the community API is asked)"
    yield ""
    yield "# Other addresses for providers: scheme and host that replace the real ones."
    names = sorted({host.name for host in hosts()})
    yield from (f"# MNEMO_{name}_URL=" for name in names)
    yield "# For exchanges a prefix: requests go to <prefix>/<original host>/..."
    yield "# MNEMO_CCXT_URL="
    yield ""
    yield "# Limits that a contract of yours allows, in place of the declared ones: 75/min, or 600/5s,25/day."
    yield from (f"# MNEMO_{name}_LIMITS=" for name in names)
