"""How FRED's API, version 1, is asked and how its answers are read; knows no data set.

What the answers mean is in `sources.fred_api` (series and their values) and `sources.fred_calendar` (releases).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import count
from typing import Any

import orjson
import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import UTC_US
from lakehouse.settings import Settings
from lakehouse.window import Window
from sources.client import Answer, Client, Host
from sources.errors import ParseError, Permanent, Transient
from sources.quota import Limit, Quota

PROVIDER = "fred"
KEY_SETTING = "MNEMO_FRED_API_KEY"
KEY_URL = "https://fredaccount.stlouisfed.org/apikeys"
HOST = Host(
    name="FRED",
    url="https://api.stlouisfed.org",
    limits=(Limit(units=120, window_s=60.0),),
    key_setting=KEY_SETTING,
)
FIRST_DAY, LAST_DAY = "1776-07-04", "9999-12-31"

STAMP = {"page_id": pl.Int64(), "received_at": UTC_US}
"""What each row keeps of its page."""

Params = dict[str, str | int]

_MAY_PASS = frozenset({423, 429})


def quota(settings: Settings, _subject: str) -> Quota:
    """The limits that all requests count against."""
    return HOST.quota(settings)


@dataclass(frozen=True, kw_only=True)
class Said:
    """One answer: its rows, how many there are over all pages, where it begins among them, and the page to keep."""

    rows: list[Any]
    total: int
    offset: int | None
    page: Page


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Asks one question after another about one subject and numbers the pages."""

    client: Client
    feed: str
    subject: str
    window: Window
    numbers: Iterator[int] = field(default_factory=count)

    def ask(self, path: str, params: Params, *, rows: str, **context: Any) -> Said:
        """One answer; Transient where it lacks the list `rows`: during outages HTML comes with status 200."""
        number = next(self.numbers)

        def page(answer: Answer) -> Page:
            subject, window = self.subject, self.window
            return answer.page(feed=self.feed, subject=subject, window=window, sequence=number, **context)

        answer = self.client.get(
            HOST,
            path,
            params,
            secrets={"api_key": self.client.key(KEY_SETTING, feed=self.feed, url=KEY_URL)},
            explain=lambda answer: _must_hold(answer, rows),
            refusal=_refusal,
            keep=page,
        )
        body = orjson.loads(answer.body)
        listed = body[rows]
        return Said(
            rows=listed, total=body.get("count", len(listed)), offset=body.get("offset"), page=page(answer)
        )

    def ask_all(
        self, path: str, params: Params, *, rows: str, after: str | None = None, **context: Any
    ) -> Iterator[Said]:
        """Answers until all rows are here; with `after` each page knows what its predecessor's last row said there.

        Transient where the provider stops short of its own count, or sends a page again in place of the next.
        """
        have = 0
        before: list[Any] | None = None
        while True:
            known = {"after": before[-1].get(after) if before else None} if after else {}
            said = self.ask(path, {**params, "offset": have}, rows=rows, **context, **known)
            if said.rows and (said.rows == before or said.offset not in (None, have)):
                raise Transient(
                    f"feed {self.feed}, {self.subject}: the page of {rows} from {have} on came twice"
                )
            yield said
            have, before = have + len(said.rows), said.rows
            if have >= said.total:
                return
            if not said.rows:
                message = f"feed {self.feed}, {self.subject}: {have} of {said.total} {rows}, then none"
                raise Transient(message)


def counts(
    pages: pl.DataFrame, kinds: Mapping[str, str]
) -> tuple[Counter[tuple[str, str]], Counter[tuple[str, str]]]:
    """How many rows the provider stated and sent, for each real-time period asked for.

    `kinds` maps the kinds of pages that count to the name of their list.
    """
    stated: Counter[tuple[str, str]] = Counter()
    received: Counter[tuple[str, str]] = Counter()
    for page in pages.iter_rows(named=True):
        rows = kinds.get(str(orjson.loads(page["request"]).get("kind")))
        if rows:
            body = orjson.loads(page["body"])
            period = (str(body.get("realtime_start")), str(body.get("realtime_end")))
            said = body.get("count")
            stated[period] = said if isinstance(said, int) else -1  # what is not stated proves nothing
            received[period] += len(body[rows])
    return stated, received


def objects(page: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects under a name of a page's body; ParseError where there is none."""
    rows = listed(page, name)
    if not all(isinstance(row, dict) for row in rows):
        raise not_as_expected(page, f"{name} is not a list of objects")
    return rows


def listed(page: Mapping[str, Any], name: str) -> list[Any]:
    """The list under a name of a page's body; ParseError where there is none, whatever the content type says."""
    try:
        held = orjson.loads(page["body"])[name]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise not_as_expected(page, f"no list {name} in the body ({type(error).__name__})") from None
    if not isinstance(held, list):
        raise not_as_expected(page, f"{name} is not a list")
    return held


def cut_at(page: Mapping[str, Any]) -> str | None:
    """The first day of the real-time period that a page answers for: what held before is cut to that day."""
    said = orjson.loads(page["body"]).get("realtime_start")
    return said if isinstance(said, str) else None


def texts(
    page: Mapping[str, Any],
    entry: Mapping[str, Any],
    columns: Iterable[str],
    *,
    optional: Collection[str] = (),
) -> dict[str, str | None]:
    """What an object says under some names; ParseError where one is absent, or has a list or an object there."""
    told: dict[str, str | None] = {}
    for name in columns:
        if name not in entry and name not in optional:
            raise not_as_expected(page, f"an entry without {name}")
        value = entry.get(name)
        if isinstance(value, list | dict):
            raise not_as_expected(page, f"{name} is a {type(value).__name__} and not a text")
        told[name] = None if value is None else str(value)
    return told


def day(page: Mapping[str, Any], text: str | None) -> date:
    """A day of the real-time clock; ParseError where it is none."""
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        raise not_as_expected(page, f"{text!r} is not the day of a vintage") from None


def about_series(subject: str) -> list[dict[str, str]]:
    """The rows that a subject which is a series id is about."""
    return [{"provider": PROVIDER, "series_id": subject}]


def only(entry: Mapping[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    """Some entries of a mapping, null where it lacks them."""
    return {name: entry.get(name) for name in columns}


def midnight(day: pl.Expr) -> pl.Expr:
    """The first moment of a day, in UTC."""
    return day.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")


def end_of_day(day: pl.Expr) -> pl.Expr:
    """The first moment after a day: FRED gives no clock times, so what came on a day counts from then."""
    return midnight(day.dt.offset_by("1d"))


def not_as_expected(page: Mapping[str, Any], what: str) -> ParseError:
    """The error of a page that does not say what its feed should say."""
    return ParseError(f"feed {page['feed']}, {page['subject']}, page {page['page_id']}: {what}")


def _must_hold(answer: Answer, rows: str) -> None:
    """Transient for an answer without its list; an error body counts by its own code, whatever the status."""
    body = _json(answer)
    code = body.get("error_code")
    if isinstance(code, int):
        kind = Transient if code in _MAY_PASS or code >= 500 else Permanent
        raise kind(f"fred answered {code} to {answer.url}: {_refusal(answer)}")
    kind_of_row = str if rows == "vintage_dates" else dict
    held = body.get(rows)
    is_held = isinstance(held, list) and all(isinstance(row, kind_of_row) for row in held)
    if not (is_held and isinstance(body.get("count", 0), int)):
        raise Transient(f"fred answered {answer.url} without a list {rows}")


def _refusal(answer: Answer) -> str:
    said = str(_json(answer).get("error_message", ""))
    return f"{said} (see the setting {KEY_SETTING}; keys: {KEY_URL})" if "api_key" in said else said


def _json(answer: Answer) -> dict[str, Any]:
    """The body as an object, whatever its content type says; empty where it is none."""
    try:
        body = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}
