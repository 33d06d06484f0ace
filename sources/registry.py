"""Every feed there is: what the modules of this package declare as `FEEDS`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import sources
from lakehouse.errors import unknown
from sources.feed import Feed


@cache
def feeds() -> Mapping[str, Feed]:
    """All feeds by name, in the order of their names. Raises ValueError where two modules use one name."""
    found: dict[str, tuple[str, Feed]] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(sources.__path__) if not m.ispkg):
        for feed in getattr(importlib.import_module(f"sources.{module}"), "FEEDS", ()):
            if feed.name in found:
                raise ValueError(
                    f"feed {feed.name} is declared in sources.{found[feed.name][0]} and sources.{module}"
                )
            found[feed.name] = (module, feed)
    return MappingProxyType({name: found[name][1] for name in sorted(found)})


def feed(name: str) -> Feed:
    """The feed of that name; UsageError with the nearest names where there is none."""
    try:
        return feeds()[name]
    except KeyError:
        raise unknown("feed", name, feeds()) from None


def feed_between(bronze_name: str, table_name: str) -> Feed:
    """The feed that understands the pages of a bronze table as rows of a silver one; UsageError where none does."""
    found = [one for one in feeds_filling(table_name) if one.bronze.name == bronze_name]
    return found[0] if found else feed(bronze_name.removeprefix("bronze."))


def feeds_filling(table_name: str) -> tuple[Feed, ...]:
    """The feeds whose rows go into a silver table, such as `silver.trades`; empty where none does."""
    return tuple(feed for feed in feeds().values() if feed.table.name == table_name)
