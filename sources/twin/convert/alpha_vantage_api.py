"""Alpha Vantage: daily bars and macro series as CSV, from the examples that a Go client keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from sources.twin.convert import mit_notice
from sources.twin.recording import Recording

PROVIDER = "alphavantage"
PROVENANCE = f"""\
# Alpha Vantage

- Answers of `https://www.alphavantage.co/query`, retrieved 2026-05-17 (times in the recordings), from
  portfoliotree/alphavantage: `specification/testdata/examples` at fab352fddb73, MIT, below.
- Daily bars of IBM (as traded and adjusted), EUR/USD and BTC/EUR; CPI, unemployment, federal funds rate,
  10-year treasury yield, WTI and Brent.
- Addresses: `index.json` there lists those of the documentation (`apikey=demo`, no `datatype`). The
  program that fetched them set `datatype=csv` and its own key; the addresses here have `datatype=csv`
  and no key.
- Content-Type: `application/x-download`, the type for which that program gives a file the ending `.csv`.
- Cut: the first row of BTC/EUR (2026-05-17), the unfinished bar of the day of retrieval, was left out,
  because a replay is received later, when that bar would pass for a closed one. All other bytes are as
  in the files; line ends are LF there.
- The MIT licence is that repository's. Alpha Vantage's own terms limit data of free keys to personal
  use: read them before using these figures for anything but tests and demonstration.

{mit_notice("2020 Christopher Hunter")}"""

_EXAMPLES = (
    "TIME_SERIES_DAILY_42a08190",
    "TIME_SERIES_DAILY_ADJUSTED_572d0539",
    "FX_DAILY_b7946c44",
    "DIGITAL_CURRENCY_DAILY_ffab6e21",
    "CPI_453fbf7c",
    "UNEMPLOYMENT_a0671528",
    "FEDERAL_FUNDS_RATE_e4372b7a",
    "TREASURY_YIELD_a4d134a9",
    "WTI_6498cf9f",
    "BRENT_44bdfc84",
)
_UNFINISHED_BAR = b"2026-05-17,"


def recordings(shared: Path) -> Iterator[Recording]:
    """One answer for each example."""
    folder = shared / "alphavantage/portfoliotree"
    index = {entry["ID"]: entry for entry in json.loads((folder / "index.json").read_bytes())}
    for name in _EXAMPLES:
        entry = index[name]
        body = (folder / entry["path"].removeprefix("testdata/examples/")).read_bytes()
        yield Recording(
            url=_fetched_url(entry["url"]),
            body=b"".join(
                line for line in body.splitlines(keepends=True) if not line.startswith(_UNFINISHED_BAR)
            ),
            headers={"content-type": "application/x-download"},
            received_at=entry["fetched"],
        )


def _fetched_url(documented: str) -> str:
    parts = urlsplit(documented)
    asked = [(name, value) for name, value in parse_qsl(parts.query) if name != "apikey"]
    return parts._replace(query=urlencode([*asked, ("datatype", "csv")])).geturl()
