"""Feeds are found by themselves and named once."""

import sys
from pathlib import Path

import pytest

import sources
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from sources.registry import feed, feeds, feeds_filling


@pytest.fixture
def more_providers(tmp_path, monkeypatch):
    """A folder whose modules belong to the package as if they lay in it."""
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    known = set(sys.modules)
    feeds.cache_clear()
    yield tmp_path
    feeds.cache_clear()
    for name in set(sys.modules) - known:
        if name.startswith("sources.added_"):
            del sys.modules[name]
            delattr(sources, name.removeprefix("sources."))


def declare(folder: Path, module: str, name: str) -> None:
    text = (
        "from dataclasses import replace\n"
        "from sources.fred_api import FEEDS as fred\n"
        f"FEEDS = (replace(fred[0], name={name!r}),)\n"
    )
    (folder / f"{module}.py").write_text(text)


def test_every_provider_module_brings_its_feeds():
    assert {"fred_series", "fred_observations", "coinmetrics_asset_metrics"} <= feeds().keys()
    assert list(feeds()) == sorted(feeds())
    assert all(name == found.name for name, found in feeds().items())


def test_a_new_module_is_all_that_a_new_provider_needs(more_providers):
    declare(more_providers, "added_provider", "added_series")
    assert feed("added_series").table.name == "silver.series"
    assert feed("added_series") in feeds_filling("silver.series")


def test_one_name_for_two_feeds_is_an_error_that_names_both_modules(more_providers):
    declare(more_providers, "added_twice", "fred_series")
    with pytest.raises(
        ValueError, match=r"fred_series is declared in sources\.added_twice and sources\.fred_api"
    ):
        feeds()


def test_an_unknown_feed_is_answered_with_the_nearest_names():
    with pytest.raises(UsageError, match=r"unknown feed 'fred_serie'; did you mean fred_series"):
        feed("fred_serie")


def test_feeds_are_found_by_the_table_they_fill():
    assert feed("fred_observations") in feeds_filling("silver.observations")
    assert feeds_filling("silver.nothing") == ()


def test_every_feed_says_what_a_person_must_know():
    for found in feeds().values():
        assert found.doc, found.name
        assert found.subjects, found.name
        assert found.documentation.startswith("https://"), found.name
        assert found.table.name.startswith("silver."), found.name
        assert bool(found.key_setting) <= bool(found.key_url), found.name
        assert found.paging, found.name
        assert all(found.describe(Settings.model_construct()).values()), found.name
