"""FRED answers of the demo, from the test cassettes of pyfredapi."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from lakehouse.window import Window, iso
from sources import fred_api, fred_rest
from sources.twin.convert import mit_notice
from sources.twin.recording import Recording

PROVIDER = "fred"
SERIES_ID = "GDP"
WINDOW = Window(datetime(1947, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))
RETRIEVED_ON = "2025-01-20"

PROVENANCE = f"""\
# FRED

Gross domestic product of the United States (series GDP): description, 395 vintage dates, and 3,201 values of
315 quarters with all their vintages, 1991-12-04 to 2024-12-19, retrieved from api.stlouisfed.org on
2025-01-20.

Source: test cassettes of [pyfredapi](https://github.com/gw-moore/pyfredapi), folder `tests/vhs/test_series`:
`test_get_series_info.yaml`, `test_get_series_vintagedates.yaml`, `test_get_series_all_releases[json].yaml`,
commit 6c77e94c176c. Licence: MIT, below. The numbers are those of the U.S. Bureau of Economic Analysis and in
the public domain. This product uses the FRED API but is not endorsed or certified by the Federal Reserve Bank
of St. Louis.

The bodies are as recorded. The addresses are those of our own requests; they differ from the recorded ones:

- description as of today: as recorded;
- all descriptions that ever were: recorded without real-time bounds, so it holds only the latest;
- vintage dates: real-time bounds, order and paging were added, at their default values;
- values: output type, order and paging were added at their default values, and bounds for the dates of the
  periods, inside which all recorded periods lie (the body repeats the default, 1600-01-01 to 9999-12-31).

Of the headers only Content-Type and Date are kept.

{mit_notice("2023 Greg Moore")}"""

_FOLDER = Path("fred/pyfredapi")


def recordings(shared: Path) -> Iterator[Recording]:
    """The four answers of both FRED feeds for GDP."""
    (span,) = fred_api.spans([])
    info = _cassette(shared, "get_series_info.yaml")
    vintages = _cassette(shared, "get_series_vintagedates.yaml")
    releases = _cassette(shared, "get_series_all_releases_json_.yaml.gz")
    yield _recording(info, fred_api.SERIES_PATH, fred_api.series_params(SERIES_ID))
    yield _recording(info, fred_api.SERIES_PATH, fred_api.history_params(SERIES_ID))
    yield _recording(vintages, fred_api.VINTAGES_PATH, fred_api.vintages_params(SERIES_ID))
    params = fred_api.observations_params(SERIES_ID, WINDOW, span)
    yield _recording(releases, fred_api.OBSERVATIONS_PATH, params)


def _cassette(shared: Path, name: str) -> dict[str, Any]:
    """The response of RETRIEVED_ON in a cassette of vcr.py."""
    raw = (shared / _FOLDER / name).read_bytes()
    cassette = yaml.load(gzip.decompress(raw) if name.endswith(".gz") else raw, yaml.CSafeLoader)
    for interaction in cassette["interactions"]:
        response: dict[str, Any] = interaction["response"]
        if _retrieved_at(response).date().isoformat() == RETRIEVED_ON:
            return response
    raise ValueError(f"{name} has no answer of {RETRIEVED_ON}")


def _recording(response: dict[str, Any], path: str, params: fred_rest.Params) -> Recording:
    headers = response["headers"]
    return Recording(
        url=f"{fred_rest.HOST.url}{path}?{urlencode(params)}",
        status=response["status"]["code"],
        headers={name.lower(): headers[name][0] for name in ("Content-Type", "Date")},
        body=response["body"]["string"].encode(),
        received_at=iso(_retrieved_at(response)),
    )


def _retrieved_at(response: dict[str, Any]) -> datetime:
    return parsedate_to_datetime(response["headers"]["Date"][0]).astimezone(UTC)
