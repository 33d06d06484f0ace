"""Reading the answers of Polymarket's three hosts: texts, times and what the provider means by "not set".

Quirks that this module answers for:
- No keys. Limits per 10 s by address: Gamma 500 events or 300 markets, CLOB 1,500 books or 1,000 histories, Data API
  200 trades; the strictest of a host is kept for all of it. Delays come before 429.
- Maintenance pages are HTML with status 200: where a pager depends on an answer, that is Transient.
- Numbers are kept as the texts they were sent as: token ids have up to 78 digits.
- Not set is said in many ways: no field, null, an empty text, the year 1 of Go's zero time, and zeros only for
  hashes and addresses. All of them are null here.
- Gamma gives times as ISO 8601, or with a space and `+00`; CLOB gives milliseconds, CLOB's history and the Data API
  give seconds. A time before the provider began tells that the unit has changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.errors import UsageError
from lakehouse.settings import Settings
from lakehouse.window import parse_moment
from sources.client import Answer, Host
from sources.errors import ParseError, Transient
from sources.quota import Limit, Quota

PROVIDER = "polymarket"
GAMMA, CLOB, DATA = (
    Host(name=f"POLYMARKET_{name}", url=url, limits=(Limit(units=units, window_s=10),))
    for name, url, units in (
        ("GAMMA", "https://gamma-api.polymarket.com", 300),
        ("CLOB", "https://clob.polymarket.com", 1_000),
        ("DATA", "https://data-api.polymarket.com", 200),
    )
)

SECOND, MILLISECOND = timedelta(seconds=1), timedelta(milliseconds=1)

BronzeRow = dict[str, Any]
Row = dict[str, Any]
_T = TypeVar("_T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_OPENED = datetime(2020, 1, 1, tzinfo=UTC)
_CLOSES = datetime(2200, 1, 1, tzinfo=UTC)
_TOKEN_ID = re.compile(r"\d{1,78}")
_CONDITION_ID = re.compile(r"0x(?:[0-9a-f]{62}|[0-9a-f]{64})")
_ONLY_ZEROS = re.compile(r"0x0+")


def quota_of(host: Host) -> Callable[[Settings, str], Quota]:
    """For `Feed.quota`: every subject counts against the limits of one host."""
    return lambda settings, _subject: host.quota(settings)


def require_token(token_id: str) -> None:
    """UsageError for what cannot be a token id."""
    if not _TOKEN_ID.fullmatch(token_id):
        raise UsageError(
            f"subject {token_id!r} is not a token id: up to 78 digits (see silver.prediction_markets)"
        )


def require_condition(condition_id: str) -> None:
    """UsageError for what cannot be a condition id."""
    if not _CONDITION_ID.fullmatch(condition_id):
        raise UsageError(
            f"subject {condition_id!r} is not a condition id: 0x and 64 digits from 0 to f, in lower case "
            "(see silver.prediction_markets)"
        )


def must_be(what: str, fits: Callable[[Any], bool]) -> Callable[[Answer], None]:
    """For `Client.get`: Transient for an answer that is not JSON, or JSON of another kind, whatever its status."""

    def check(answer: Answer) -> None:
        try:
            is_it = fits(loads(answer.body))
        except ValueError:
            is_it = False
        if not is_it:
            raise Transient(f"polymarket answered {answer.url} with something that is not {what}")

    return check


def loads(body: str | bytes) -> Any:
    """JSON with every number as the text it was sent as. Raises ValueError."""
    return json.loads(body, parse_float=str, parse_int=str, parse_constant=str)


def frame(table: Table, pages: pl.DataFrame, rows_of: Callable[[BronzeRow], Iterator[Row]]) -> pl.LazyFrame:
    """The rows of all pages, with where they come from; numbers as text. A column that no row names is null."""
    schema = {column.name: _as_text(column) for column in table.columns if column.derived is None}
    rows = [
        {**row, "provider": PROVIDER, "page_id": page["page_id"], "ingested_at": page["received_at"]}
        for page in pages.iter_rows(named=True)
        for row in rows_of(page)
    ]
    return pl.LazyFrame(rows, schema=schema, orient="row")


def document(page: BronzeRow) -> dict[str, Any]:
    """The object that a page is; ParseError for anything else."""
    told = read_json(page, page["body"])
    if not isinstance(told, dict):
        raise broken(page, "is not a JSON object")
    return told


def read_json(page: BronzeRow, written: str | bytes) -> Any:
    """JSON with every number as the text it was sent as; ParseError for anything else."""
    try:
        return loads(written)
    except ValueError as error:
        raise broken(page, f"is not JSON ({error})") from None


def objects(page: BronzeRow, values: list[Any], what: str) -> Iterator[dict[str, Any]]:
    """The values, each of which must be an object."""
    for value in values:
        if not isinstance(value, dict):
            raise broken(page, f"holds a {what} that is not an object")
        yield value


def said(page: BronzeRow, thing: dict[str, Any], name: str, kind: type[_T]) -> _T | None:
    """What a field says; null where it is not there. ParseError where it is of another kind."""
    value = thing.get(name)
    if value is not None and not isinstance(value, kind):
        raise broken(page, f"has {name} of type {type(value).__name__}; expected {kind.__name__}")
    return value


def need(page: BronzeRow, thing: dict[str, Any], name: str, kind: type[_T]) -> _T:
    """What a field says; ParseError where it is not there."""
    value = said(page, thing, name, kind)
    if value is None:
        raise broken(page, f"has no {name}")
    return value


def text(page: BronzeRow, thing: dict[str, Any], name: str) -> str | None:
    """A text; null where the provider has not set it."""
    value = said(page, thing, name, str)
    return None if value is None or not value.strip() or _ONLY_ZEROS.fullmatch(value) else value


def moment(page: BronzeRow, thing: dict[str, Any], name: str) -> datetime | None:
    """A time written as text; null where the provider has not set it."""
    value = text(page, thing, name)
    if value is None:
        return None
    try:
        written = datetime.fromisoformat(value)
        return None if written.year == 1 else parse_moment(value)
    except (ValueError, OverflowError):
        raise broken(page, f"has {name} {value!r}, which is not a time") from None


def epoch(page: BronzeRow, value: str, *, unit: timedelta) -> datetime:
    """A time counted from 1970; ParseError where the count cannot be of this unit."""
    try:
        counted = _EPOCH + int(value) * unit
    except (ValueError, OverflowError):
        raise broken(page, f"has a time {value[:40]!r} that cannot be read") from None
    if not _OPENED <= counted < _CLOSES:
        raise broken(page, f"has a time {value[:40]!r} that is {counted:%Y-%m-%d}: its unit has changed")
    return counted


def broken(page: BronzeRow, what: str) -> ParseError:
    """The error that names feed, subject and page."""
    return ParseError(f"polymarket {page['feed']} {page['subject']}: page {page['page_id']} {what}")


def _as_text(column: Column) -> pl.DataType:
    if isinstance(column.dtype, pl.List):
        return pl.List(pl.String())
    return pl.String() if column.dtype.is_float() else column.dtype
