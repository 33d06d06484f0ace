"""docs/feeds.md: what `mnemo ingest --list` says with default settings, with links."""

from __future__ import annotations

from collections.abc import Sequence

from deployments.reference.markdown import page, table
from lakehouse.settings import Settings
from sources.feed import Feed
from sources.registry import feeds


def feeds_page() -> str:
    """The page's text."""
    columns = ("feed", "provider", "data set", "fills", "subject", "key", "quota", "paging")
    return page(
        "# Feeds", "Generated from the feeds by `make docs`.", table(columns, map(_cells, feeds().values()))
    )


def _cells(feed: Feed) -> Sequence[str]:
    said = feed.describe(Settings.model_construct())
    about = (
        f"{said['data_set']} ([documentation]({feed.documentation}))"
        if feed.documentation
        else said["data_set"]
    )
    key = f"`{said['key']}` ({feed.key_url})" if feed.key_setting else said["key"]
    told = {**said, "feed": f"`{feed.name}`", "data_set": about, "fills": f"`{said['fills']}`", "key": key}
    return tuple(told.values())
