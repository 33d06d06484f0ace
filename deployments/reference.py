"""`python -m deployments.reference`: write the generated pages of `docs/` and `.env.example`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lakehouse.dictionary import tables_page
from lakehouse.settings import Settings
from sources.feed import Feed
from sources.registry import feeds

_ROOT = Path(__file__).parents[1]


def pages() -> Mapping[str, str]:
    """The text of every generated file by its path within the repository."""
    return {"docs/tables.md": tables_page(), "docs/feeds.md": _feeds_page(), ".env.example": _env_example()}


def main() -> None:
    """Write them all."""
    for name, text in pages().items():
        (_ROOT / name).write_text(text)


def _feeds_page() -> str:
    """What `mnemo ingest --list` says with default settings, with links."""
    defaults = Settings.model_construct()
    columns = ("feed", "provider", "data set", "fills", "subject", "key", "quota", "paging")
    head = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    rows = [_feed_row(feed, feed.describe(defaults)) for feed in feeds().values()]
    return "\n".join(["# Feeds", "", "Generated from the feeds by `make docs`.", "", *head, *rows]) + "\n"


def _feed_row(feed: Feed, said: Mapping[str, str]) -> str:
    about = (
        f"{said['data_set']} ([documentation]({feed.documentation}))"
        if feed.documentation
        else said["data_set"]
    )
    key = f"`{said['key']}` ({feed.key_url})" if feed.key_setting else said["key"]
    told = {**said, "feed": f"`{feed.name}`", "data_set": about, "fills": f"`{said['fills']}`", "key": key}
    return f"| {' | '.join(told.values())} |"


def _env_example() -> str:
    lines = ["# Settings of mnemo-quant, with their defaults. Copy to .env and change what you need.", ""]
    for name, field in Settings.model_fields.items():
        if name != "providers":
            lines += [f"# {field.description}", f"# MNEMO_{name.upper()}={_default(field.default)}", ""]
    lines += list(_provider_settings())
    return "\n".join(lines) + "\n"


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
    defaults = Settings.model_construct()
    hosts = sorted(
        {feed.quota(defaults, "").provider for feed in feeds().values() if feed.quota and not feed.limits}
    )
    yield from (f"# MNEMO_{host.upper()}_URL=" for host in hosts)
    yield "# For exchanges a prefix: requests go to <prefix>/<original host>/..."
    yield "# MNEMO_CCXT_URL="
    yield ""
    yield "# Limits that a contract of yours allows, in place of the declared ones: 75/min, or 600/5s,25/day."
    yield from (f"# MNEMO_{host.upper()}_LIMITS=" for host in hosts)


if __name__ == "__main__":
    main()
