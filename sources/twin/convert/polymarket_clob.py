"""Polymarket: the event of the Fed's decision of June 2026 with its books, and half an hour of samples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from sources.twin.convert import mit_notice
from sources.twin.recording import Recording

PROVIDER = "polymarket"
PROVENANCE = f"""\
# Polymarket

## Fed decision in June 2026: event and books of 2026-05-17
- From TrebuchetDynamics/polymarket-cli-go: `fixtures/polymarket/events/fed-decision-in-june-825` at
  7b5c653858bf, MIT, below. Response headers were not recorded.
- `gamma-event.json`: the event object as that repository keeps it (indented), bytes unchanged. It is
  served as the answer to `GET https://gamma-api.polymarket.com/events/slug/fed-decision-in-june-825`,
  the request whose answer is a single event; which request the repository sent is not recorded.
- `clob-books.json`: the answer to one `POST https://clob.polymarket.com/books` for ten tokens. Each of
  its ten books is served as the answer to `GET https://clob.polymarket.com/book?token_id=<token>`,
  written again as compact JSON with nothing changed: derived, not bytes from the wire.

## Price samples of 2026-06-12
- From rezaeazi/ccxt_DOY at 46253e0e8aeb, a copy of ccxt/ccxt (MIT, below):
  `ts/src/test/static/response/prediction/polymarket.json`, method fetchOHLCV: 30 samples from 16:34:04
  to 17:03:04 UTC of one outcome token (Will JD Vance win the 2028 US Presidential Election?, Yes).
- Derived: ccxt puts every JSON number in quotes; the body is written again with `t` and `p` as numbers
  of the same digits. The request asked for an hour; the address here asks for the half hour that the
  answer covers, so that no one takes the rest for an empty market. Whether that project cut the answer
  is not known.
- Its two order books are left out: they were cut to the worst levels, so their middle would be wrong.

{mit_notice("2026 Trebuchet Dynamics")}
{mit_notice("2017 Igor Kroitor")}"""

_SLUG = "fed-decision-in-june-825"
_TOKEN = "16040015440196279900485035793550429453516625694844857319147506590755961451627"  # noqa: S105 - public
_SPAN = "startTs=1781282000&endTs=1781283800&fidelity=1"
_HISTORY = f"https://clob.polymarket.com/prices-history?market={_TOKEN}&{_SPAN}"


def recordings(shared: Path) -> Iterator[Recording]:
    """The event, the book of each of its tokens, and the samples."""
    folder = shared / "polymarket/fed-decision-june-2026"
    event = (folder / "gamma-event.json").read_bytes()
    yield Recording(url=f"https://gamma-api.polymarket.com/events/slug/{_SLUG}", body=event)
    for book in json.loads((folder / "clob-books.json").read_bytes()):
        url = f"https://clob.polymarket.com/book?token_id={book['asset_id']}"
        yield Recording(url=url, body=json.dumps(book, separators=(",", ":")).encode())
    yield Recording(url=_HISTORY, body=_history(shared / "polymarket/ccxt-static/response/polymarket.json"))


def _history(path: Path) -> bytes:
    (case,) = json.loads(path.read_bytes())["methods"]["fetchOHLCV"]
    samples = ",".join(
        f'{{"t":{sample["t"]},"p":{sample["p"]}}}' for sample in case["httpResponse"]["history"]
    )
    return f'{{"history":[{samples}]}}'.encode()
