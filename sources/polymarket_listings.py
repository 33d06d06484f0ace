"""Polymarket's listings (https://docs.polymarket.com/api-reference/events/list-events-keyset-pagination): all markets.

What a market says is read by `polymarket_gamma`. Quirks that this module answers for:
- Listings (/events/keyset, /markets/keyset) go on by `after_cursor`, up to 500 events or 100 markets a page; no
  `next_cursor` is the end, an empty page is not. `cursor`, the name in other listings, is ignored, and the first page
  comes again: a page or a cursor that repeats is an error.
- What a listing leaves out by default differs between documentation and reports (closed ones, or open ones) and by
  version of the contracts (`v2` is left out): each combination is asked for by name, and counted.
- Where keyset is not offered, the older listing goes on by `offset`, which is refused beyond a cap, or repeats: then
  the window is halved.
- The window bounds `startDate`, when an event or market was listed: the planned end is edited, this is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.coverage import Asked, Claim
from lakehouse.errors import UsageError
from lakehouse.silver import prediction_markets
from lakehouse.window import Window, iso
from sources.client import Answer, Client
from sources.errors import Permanent, Transient
from sources.feed import Feed
from sources.polymarket_answers import (
    GAMMA,
    PROVIDER,
    BronzeRow,
    Row,
    broken,
    frame,
    must_be,
    need,
    objects,
    quota_of,
    read_json,
    require_condition,
    said,
)
from sources.polymarket_gamma import SLUG, event_rows, market_rows
from sources.proofs import snapshot

Params = dict[str, str | int]

EVENT_LISTING, MARKET_LISTING = "polymarket_event_listing", "polymarket_market_listing"

_MOST_A_PAGE = 100
_SHORTEST_WINDOW, _STEP = timedelta(hours=1), timedelta(days=30)
_PASSES: tuple[Params, ...] = tuple(
    {"closed": closed, "version": version} for version in ("v1", "v2") for closed in ("false", "true")
)
_ABSENT = (404, 405, 501)
_TOO_DEEP = (400, 422)
_TOO_MANY = "polymarket goes no deeper than {url}: more than it lists start in one hour"


def fetch_event_listing(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """All events that the subject names and that start in the window, with their markets as they are now."""
    yield from _Listing(
        client=client,
        feed=EVENT_LISTING,
        subject=subject,
        window=window,
        holds="events",
        filters=_event_filters(subject),
    ).pages()


def fetch_market_listing(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """All markets that the subject names and that start in the window, as they are now.

    Markets that are named by their condition ids are found whenever they start.
    """
    yield from _Listing(
        client=client,
        feed=MARKET_LISTING,
        subject=subject,
        window=window,
        holds="markets",
        filters=_market_filters(subject),
        is_dated=not subject.startswith("condition:"),
    ).pages()


def parse_event_listing(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.prediction_markets from pages of events. Raises ParseError for a page that is no such list."""
    return frame(prediction_markets.TABLE, pages, _event_list_rows)


def parse_market_listing(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.prediction_markets from pages of markets. Raises ParseError for a page that is no such list."""
    return frame(prediction_markets.TABLE, pages, _market_list_rows)


def prove_listing(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """What was listed at that moment, with the count of each pass: a pass that finds less than before stands out."""
    counts = dict.fromkeys(map(_name, _PASSES), 0)
    for page in pages.iter_rows(named=True):
        context = json.loads(page["request"])
        counts[context["pass"]] += len(_listed(page, context["holds"]))
    return [replace(claim, evidence={**claim.evidence, **counts}) for claim in snapshot(asked, pages, rows)]


# Fetching


class _KeysetAbsent(Permanent):
    """An address that has no listing by keyset."""


class _TooDeep(Permanent):
    """An offset beyond the provider's cap."""


@dataclass(frozen=True, kw_only=True)
class _Listing:
    """One listing, to be read in all its passes; `holds` is what its pages list."""

    client: Client
    feed: str
    subject: str
    window: Window
    holds: str
    filters: Params
    is_dated: bool = True
    numbers: Iterator[int] = field(default_factory=count)

    def pages(self) -> Iterator[Page]:
        for one in _PASSES:
            try:
                yield from self._by_keyset(one)
            except _KeysetAbsent:
                yield from self._by_offset(one, self.window)

    def _by_keyset(self, one: Params) -> Iterator[Page]:
        """Pages until one names no next cursor."""
        seen: set[str] = set()
        cursor: dict[str, str] = {}
        while True:
            params = {**self._filters(one, self.window), **cursor}
            page, told = self._ask(
                f"/{self.holds}/keyset", params, one, fits=self._is_page, refusal=_keyset_refusal
            )
            yield page
            self._must_be_new(_ids(told[self.holds]), seen)
            after = told.get("next_cursor")
            if not after:
                return
            self._must_be_new({f"cursor {after}"}, seen)
            cursor = {"after_cursor": after}

    def _by_offset(self, one: Params, window: Window) -> Iterator[Page]:
        """All pages of a window; where the provider goes no deeper, those of both halves of the window."""
        half = (window.end - window.start) / 2
        try:
            yield from self._to_an_empty_page(one, window)
        except _TooDeep:
            if not self.is_dated or half < _SHORTEST_WINDOW:
                raise
            for part in window.split(half):
                yield from self._by_offset(one, part)

    def _to_an_empty_page(self, one: Params, window: Window) -> Iterator[Page]:
        seen: set[str] = set()
        while True:
            params = {**self._filters(one, window), "offset": len(seen)}
            page, told = self._ask(f"/{self.holds}", params, one, fits=_are_objects, refusal=_offset_refusal)
            yield page
            if not told:
                return
            if _ids(told) <= seen:
                raise _TooDeep(_TOO_MANY.format(url=page.request["url"]))
            seen |= _ids(told)

    def _filters(self, one: Params, window: Window) -> Params:
        dates = {"start_date_min": iso(window.start), "start_date_max": iso(window.end)}
        return {**self.filters, **(dates if self.is_dated else {}), **one, "limit": _MOST_A_PAGE}

    def _is_page(self, told: Any) -> bool:
        return isinstance(told, dict) and _are_objects(told.get(self.holds))

    def _ask(
        self,
        path: str,
        params: Params,
        one: Params,
        *,
        fits: Callable[[Any], bool],
        refusal: Callable[[Answer], str],
    ) -> tuple[Page, Any]:
        def page(answer: Answer) -> Page:
            context = {"holds": self.holds, "pass": _name(one)}
            return answer.page(
                feed=self.feed, subject=self.subject, window=self.window, sequence=number, **context
            )

        number = next(self.numbers)
        check = must_be(f"a list of {self.holds}", fits)
        answer = self.client.get(GAMMA, path, params, explain=check, refusal=refusal, keep=page)
        return page(answer), json.loads(answer.body)

    def _must_be_new(self, told: set[str], seen: set[str]) -> None:
        """Transient where a page tells nothing but what was told before: it would go on for ever."""
        if told and told <= seen:
            raise Transient(f"polymarket {self.feed} {self.subject}: the listing repeats a page")
        seen |= told


def _event_filters(subject: str) -> Params:
    kind, _, value = subject.partition(":")
    if subject == "all":
        return {}
    if kind == "tag" and SLUG.fullmatch(value):
        return {"tag_slug": value}
    if kind == "series" and value.isdecimal():
        return {"series_id": value}
    raise UsageError(
        f"subject {subject!r} is none of all, tag:SLUG (tag:fed-rates), series:NUMBER (series:10345)"
    )


def _market_filters(subject: str) -> Params:
    kind, _, value = subject.partition(":")
    if subject == "all":
        return {}
    if kind == "tag" and value.isdecimal():
        return {"tag_id": value}
    if kind == "condition":
        require_condition(value)
        return {"condition_ids": value}
    raise UsageError(
        f"subject {subject!r} is none of all, tag:NUMBER (tag:100196), condition:ID (condition:0x...)"
    )


def _keyset_refusal(answer: Answer) -> str:
    if answer.status in _ABSENT:
        raise _KeysetAbsent(f"polymarket answered {answer.status} to {answer.url}")
    return ""


def _offset_refusal(answer: Answer) -> str:
    if answer.status in _TOO_DEEP and b"offset" in answer.body.lower():
        raise _TooDeep(_TOO_MANY.format(url=answer.url))
    return ""


def _are_objects(told: Any) -> bool:
    return isinstance(told, list) and all(isinstance(one, dict) for one in told)


def _ids(listed: list[dict[str, Any]]) -> set[str]:
    return {str(one.get("id")) for one in listed}


def _name(one: Mapping[str, str | int]) -> str:
    return f"{'closed' if one['closed'] == 'true' else 'open'}_{one['version']}"


# Understanding


def _event_list_rows(page: BronzeRow) -> Iterator[Row]:
    for event in objects(page, _listed(page, "events"), "event"):
        yield from event_rows(page, event)


def _market_list_rows(page: BronzeRow) -> Iterator[Row]:
    for market in objects(page, _listed(page, "markets"), "market"):
        events = objects(page, said(page, market, "events", list) or [], "event")
        yield from market_rows(page, event=next(events, {}), market=market)


def _listed(page: BronzeRow, name: str) -> list[Any]:
    """The list of a page by keyset, under its name, or of one by offset, which is nothing else."""
    told = read_json(page, page["body"])
    if isinstance(told, dict):
        return need(page, told, name, list)
    if not isinstance(told, list):
        raise broken(page, f"is not a list of {name}")
    return told


def _about_nothing(_subject: str) -> list[dict[str, str]]:
    """A listing tells of what it found; of which markets it might not have told, nobody knows."""
    return []


FEEDS = (
    Feed(
        name=EVENT_LISTING,
        provider=PROVIDER,
        doc="Markets of all events that start in the window, open and closed, by pages of events.",
        table=prediction_markets.TABLE,
        subjects="all, tag:fed-rates, series:10345",
        fetch=fetch_event_listing,
        parse=parse_event_listing,
        proof=prove_listing,
        about=_about_nothing,
        step=lambda _subject: _STEP,
        paging="after_cursor, 100 events a page",
        quota=quota_of(GAMMA),
        documentation="https://docs.polymarket.com/api-reference/events/list-events-keyset-pagination",
    ),
    Feed(
        name=MARKET_LISTING,
        provider=PROVIDER,
        doc="All markets that start in the window, open and closed, or one market by its condition id.",
        table=prediction_markets.TABLE,
        subjects="all, tag:100196, condition:0xdde06286a7b9464d344f410ab0b3d2ebc6469904e72c27fd982f65fdbf78768d",
        fetch=fetch_market_listing,
        parse=parse_market_listing,
        proof=prove_listing,
        about=_about_nothing,
        step=lambda _subject: _STEP,
        paging="after_cursor, 100 markets a page",
        quota=quota_of(GAMMA),
        documentation="https://docs.polymarket.com/api-reference/markets/list-markets-keyset-pagination",
    ),
)
