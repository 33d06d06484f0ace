"""BIS: two series of the global liquidity indicators as they were served, and an answer that does not say its scale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sources.twin.recording import Recording

PROVIDER = "bis"
PROVENANCE = """\
# BIS

**Source: BIS global liquidity indicators (WS_GLI), Bank for International Settlements,
https://data.bis.org/topics/GLI**

- Answers of `https://stats.bis.org/api/v2/data/dataflow/BIS/WS_GLI/1.0/<key>?format=csv` for
  `Q.USD.3P.N.A.I.B.USD` (US dollar credit to non-banks outside the United States) and
  `Q.USD.3P.N.B.I.G.USD` (bank loans among it), 2000-Q1 to 2026-Q1, USD millions, retrieved 2026-10-09.
- Bytes: rebuilt from the snapshot that the repository ccesm/world-inflation-lens keeps
  (`data/international-dollar/global-dollar-credit.json` at 12685c1f5bcb); their SHA-256 is that of the
  original answers as recorded there, so they are the bytes on the wire. Response headers were not
  recorded.
- Terms: this is not open-source data. The BIS lets its statistics be used under its "Terms of permitted use
  of BIS statistics" (linked from https://www.bis.org), which ask for attribution to the BIS as in the first
  line above. Whether they cover every way of passing the files on was not checked, nor was a licence of the
  repository: read them before you redistribute these two answers, or leave this folder out.
- Not changed, not cut. The BIS revises history in place: these are the values of that day.

**Derivatives statistics (BIS_DER), a thousand observations in SDMX-CSV**

- The answer for `BIS_DER/A.............` (all annual series). File:
  `sdmxthon/testSuite/readingValidation/data/data_sample/data_v1.csv` of Meaningful-Data/sdmxthon at e61e8a699133, under
  the Apache licence 2.0, not changed. Which request it answered is not recorded: the address is the one that our own
  fetch sends.
- It has no UNIT_MULT, so nobody can say whether a value counts units or millions: it shows what becomes of a page
  that cannot be understood for certain.
"""

_KEYS = ("Q.USD.3P.N.A.I.B.USD", "Q.USD.3P.N.B.I.G.USD")


def recordings(shared: Path) -> Iterator[Recording]:
    """The answer of each key."""
    for key in _KEYS:
        yield Recording(url=_url("WS_GLI", key), body=(shared / f"bis/ws_gli/{key}.csv").read_bytes())
    derivatives = (shared / "bis/sdmxthon/data_v1.csv").read_bytes()
    yield Recording(url=_url("BIS_DER", "A............."), body=derivatives)


def _url(flow: str, key: str) -> str:
    return f"https://stats.bis.org/api/v2/data/dataflow/BIS/{flow}/1.0/{key}?format=csv"
