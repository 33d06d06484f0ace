"""How CoinMetrics is asked and what its answers have in common: hosts, paging, refusals, reading rows.

What each kind of data means is said in coin_metrics, coin_metrics_markets and coin_metrics_catalog.
Documentation: https://docs.coinmetrics.io/access-our-data/api

- Without a key the community host answers: 10 requests in 6 seconds, data licensed CC BY-NC 4.0, of market data
  the last 24 hours. With MNEMO_COINMETRICS_API_KEY the paid host answers; a trial key has the community's limit, to be
  said with MNEMO_COINMETRICS_LIMITS.
- `next_page_url` is followed until it is absent; it repeats the key, which is taken out. `paging_from` is always
  sent: left out, time series begin with the newest page. Rows ascend inside a page in both directions.
- Only JSON pages are asked for. `format=json_stream` has no mark of its end, so a connection that broke would look
  like a complete answer; a JSON document that breaks off cannot be read and is Transient.
- Items that a key may not read are refused as a whole: `ignore_forbidden_errors` and its like are never sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import UTC_US
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.client import Answer, Client, Host
from sources.errors import ParseError, Transient
from sources.quota import Limit, Quota

PROVIDER = "coinmetrics"
KEY_SETTING = "MNEMO_COINMETRICS_API_KEY"
KEY_URL = "https://coinmetrics.io/contact"
COMMUNITY = Host(
    name="COINMETRICS",
    url="https://community-api.coinmetrics.io",
    limits=(Limit(units=10, window_s=6),),
)
PAID = Host(
    name="COINMETRICS",
    url="https://api.coinmetrics.io",
    limits=(Limit(units=6000, window_s=20),),
    key_setting=KEY_SETTING,
)
PAGE_SIZE = 10_000
"""The most rows that a page may have."""

Params = dict[str, str]
Row = dict[str, Any]
PagingFrom = Literal["start", "end"]

_NEEDS_KEY = frozenset({"unauthorized", "wrong_credentials", "forbidden"})


@dataclass(frozen=True, kw_only=True)
class Question:
    """What one fetch asks: of which feed and subject, at which path, with which parameters."""

    feed: str
    subject: str
    path: str
    params: Mapping[str, str]
    window: Window | None = None
    paging_from: PagingFrom = "start"
    context: Callable[[Sequence[Row]], Mapping[str, Any]] = field(default=lambda _: {})
    """From the rows of a page, what its parser must know beside the body."""

    @property
    def first_page(self) -> Params:
        """The parameters of the first page."""
        return {**self.params, "paging_from": self.paging_from, "page_size": str(PAGE_SIZE)}


def walk(client: Client, question: Question) -> Iterator[Page]:
    """All pages in the order of `paging_from`; the last may be empty.

    Raises Transient where a page leads back to one that was had, or where its rows do not follow those before it.
    """
    key = client.settings.key(KEY_SETTING)
    host, secrets = host_of(client.settings), {"api_key": key} if key else {}
    params, asked = question.first_page, list[Params]()
    before: Sequence[Row] = ()
    for number in count():
        asked.append(params)
        page = partial(
            Answer.page,
            feed=question.feed,
            subject=question.subject,
            window=question.window,
            sequence=number,
        )
        answer = client.get(
            host,
            question.path,
            params,
            secrets=secrets,
            explain=_must_be_page,
            refusal=partial(_refusal, has_key=bool(key)),
            keep=page,
        )
        said = loads(answer.body)
        yield page(answer, **question.context(said["data"]))
        _must_follow(question, number, before, said["data"])
        address = said.get("next_page_url")
        if not address:
            return
        before, params = said["data"] or before, _params_of(address)
        if params in asked:
            raise _astray(question, number, "names itself or an earlier page as the next")


def host_of(settings: Settings) -> Host:
    """The paid host where there is a key, else the community's."""
    return PAID if settings.key(KEY_SETTING) else COMMUNITY


def quota(settings: Settings, _subject: str) -> Quota:
    """The limits that all requests count against."""
    return host_of(settings).quota(settings)


def rows_of(client: Client, question: Question) -> list[Row]:
    """The rows of all pages, for what is looked up before the data are asked for."""
    return [row for page in walk(client, question) for row in loads(page.body)["data"]]


def stamp(moment: datetime) -> str:
    """A moment as a parameter: UTC without a zone, with at most nine digits of a second."""
    return moment.replace(tzinfo=None).isoformat()


def between(window: Window) -> Params:
    """The parameters of a half-open window; both ends would be inclusive."""
    return {"start_time": stamp(window.start), "end_time": stamp(window.end), "end_inclusive": "false"}


def loads(body: bytes) -> Any:
    """JSON with every number as the text that was sent."""
    return json.loads(body, parse_float=str, parse_int=str, parse_constant=str)


def rows_in(page: Mapping[str, Any]) -> list[Row]:
    """The rows of a page of bronze; ParseError for a body without."""
    try:
        rows = loads(page["body"])["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise not_as_expected(page, f"no list data in the body ({type(error).__name__})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise not_as_expected(page, "data is not a list of objects")
    return rows


def text(page: Mapping[str, Any], row: Row, name: str, *, is_optional: bool = False) -> str | None:
    """What a row says under a name; ParseError where it has no such name, or a list or an object there."""
    if name not in row and not is_optional:
        raise not_as_expected(page, f"a row without {name}")
    value = row.get(name)
    if isinstance(value, list | dict):
        raise not_as_expected(page, f"{name} is a {type(value).__name__} and not a text")
    return None if value is None else str(value)


def table_of(page: Mapping[str, Any], names: Sequence[str], optional: Sequence[str] = ()) -> pl.DataFrame:
    """A page's rows as text columns, with the page's id, receipt and the provider."""
    rows = rows_in(page)
    columns = {name: [text(page, row, name) for row in rows] for name in names}
    columns |= {name: [text(page, row, name, is_optional=True) for row in rows] for name in optional}
    return pl.DataFrame(columns, schema=dict.fromkeys(columns, pl.String)).with_columns(
        page_id=pl.lit(page["page_id"], pl.Int64),
        ingested_at=pl.lit(page["received_at"], UTC_US),
        provider=pl.lit(PROVIDER),
    )


def moment(column: str) -> pl.Expr:
    """A column of stamps as UTC, cut to microseconds; null where it cannot be read."""
    return pl.col(column).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC", strict=False
    )


def not_as_expected(page: Mapping[str, Any], what: str) -> ParseError:
    """The error of a page that does not say what its feed should say."""
    return ParseError(f"feed {page['feed']}, {page['subject']}, page {page['page_id']}: {what}")


def _params_of(address: str) -> Params:
    """The parameters of a next page; the key is sent anew and never kept."""
    return {name: value for name, value in parse_qsl(urlsplit(address).query) if name != "api_key"}


def _must_follow(question: Question, number: int, before: Sequence[Row], rows: Sequence[Row]) -> None:
    """Stamps all have nine digits of a second, so they compare as text."""
    pages = (before, rows) if question.paging_from == "start" else (rows, before)
    earlier, later = ([str(row["time"]) for row in page if "time" in row] for page in pages)
    if earlier and later and max(earlier) > min(later):
        raise _astray(question, number, f"does not follow the one before it from the {question.paging_from}")


def _astray(question: Question, number: int, what: str) -> Transient:
    return Transient(f"feed {question.feed}, {question.subject}: page {number} {what}")


def _must_be_page(answer: Answer) -> None:
    try:
        said = loads(answer.body)
    except ValueError:
        said = None
    rows = said.get("data") if isinstance(said, dict) else None
    is_page = isinstance(rows, list) and all(isinstance(row, dict) for row in rows)
    if not is_page or not isinstance(said.get("next_page_url") or "", str):
        raise Transient(
            f"coinmetrics answered {answer.url} without a list data: not JSON, cut off, or something else"
        )


def _refusal(answer: Answer, *, has_key: bool) -> str:
    try:
        error = loads(answer.body)["error"]
        said = f"{error['type']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        return ""
    if error["type"] not in _NEEDS_KEY:
        return said
    why = (
        f"the key in {KEY_SETTING} does not reach it"
        if has_key
        else f"not among the free community data: needs a paid key in the setting {KEY_SETTING}"
    )
    return f"{said} ({why}; keys: {KEY_URL})"
