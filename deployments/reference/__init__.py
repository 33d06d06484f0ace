"""The generated pages of `docs/`, and `.env.example`: `python -m deployments.reference` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from deployments.reference.commands import commands_page
from deployments.reference.feeds import feeds_page
from deployments.reference.flows import flows_page
from deployments.reference.settings import env_example, settings_page
from lakehouse.dictionary import tables_page

ROOT = Path(__file__).parents[2]


@cache
def pages() -> Mapping[str, str]:
    """The text of every generated file by its path within the repository."""
    return MappingProxyType(
        {
            "docs/tables.md": tables_page(),
            "docs/feeds.md": feeds_page(),
            "docs/commands.md": commands_page(),
            "docs/settings.md": settings_page(),
            "docs/flows.md": flows_page(ROOT),
            ".env.example": env_example(),
        }
    )
