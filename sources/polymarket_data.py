"""Polymarket's Data API (https://docs.polymarket.com/api-reference/core/get-trades-for-a-user-or-markets): trades.

Quirks that this module answers for:
- A subject is a condition id. The trades of both its outcomes come together, the newest first.
- `takerOnly` is sent, so that each trade comes once: with makers the volume doubles, and a parameter left out has a
  default that may change. A trade is one row of the outcome that the taker traded; its mirror image in the other
  outcome is not another trade.
- Times are seconds. `start` is sent: without it only the last three years come. Whether the second of `end` is
  included is not documented, so one more is asked for; what comes twice is one trade.
- One answer holds at most 1,000 rows here (the documentation says 10,000; 500 and 1,000 were seen), and an offset
  beyond a cap (3,000 and 10,000 were seen) is refused, or answered with the same rows again. So a window is asked
  for, and what comes after its rows: only nothing shows that it is whole. Otherwise both its halves are asked for,
  down to a second, which is read by offset. What lies beyond the cap of one second is not to be had: that second is
  told apart, and covered as degraded.
- No trade has an id. The rows of a transaction share its hash and its second; several may be alike in everything, so
  a trade is told by what it says and by which of its like it is. Rows of one second are never split unless that
  second has more than one answer: then a page carries how many of its rows came before.
- An unknown parameter is ignored and the trades of all markets and times come: rows that were not asked for are an
  error.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import polars as pl

from lakehouse.bronze import Page
from lakehouse.coverage import Asked, Claim, minus, overlap
from lakehouse.silver import prediction_trades
from lakehouse.window import Window, iso, parse_moment
from sources.client import Answer, Client
from sources.errors import Permanent, Transient
from sources.feed import Feed
from sources.polymarket_answers import (
    DATA,
    PROVIDER,
    SECOND,
    BronzeRow,
    Row,
    broken,
    epoch,
    frame,
    loads,
    must_be,
    need,
    objects,
    quota_of,
    read_json,
    require_condition,
    said,
    text,
)
from sources.proofs import until_told

FEED = "polymarket_trades"
MOST_ROWS = 1_000

_SETTLES_AFTER = timedelta(minutes=10)
"""Trades come when their block has been read; this is a guess on the safe side."""
_MOST_PAGES_A_SECOND = 50
_STEP = timedelta(days=1)
_TEXTS, _NUMBERS = ("transactionHash", "asset", "proxyWallet", "side"), ("price", "size")


def fetch_trades(client: Client, condition_id: str, window: Window) -> Iterator[Page]:
    """Pages that together are the window, oldest first, each followed by the empty answer that closes it.

    An answer that turns out not to be whole is not kept: the halves of its time say all that it says.
    """
    require_condition(condition_id)
    asker = _Asker(client=client, condition_id=condition_id, window=window)
    yield from _told(asker, _whole_seconds(window))


def parse_trades(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.prediction_trades. Raises ParseError for a page that is not a list of the market's trades."""
    return frame(prediction_trades.TABLE, pages, _trade_rows)


def prove_trades(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """Complete where nothing came after the last row and trades have settled; degraded where a second was cut."""
    past = asked.past
    if past is None:
        return []
    cut = [second for second in _cut_seconds(pages) if overlap(second, past)]
    why = "trades that were settled on chain and that the provider left out"
    claims = [
        replace(claim, proof="closed_by_empty_answer", window=part)
        for claim in until_told(past, asked.at, rows, _SETTLES_AFTER, why)
        for part in minus(claim.window, cut)
    ]
    return sorted([*claims, *map(_not_whole, cut)], key=lambda claim: claim.window)


def _cut_seconds(pages: pl.DataFrame) -> list[Window]:
    contexts = map(json.loads, pages["request"])
    starts = {parse_moment(context["cut"]) for context in contexts if context.get("cut")}
    return [Window(start, start + SECOND) for start in sorted(starts)]


def _not_whole(second: Window) -> Claim:
    why = "the trades of this second beyond those that the provider gives"
    return Claim(window=second, status="degraded", proof="offset_cap", cannot_show=why)


# Fetching


class _TooDeep(Permanent):
    """An offset beyond the provider's cap."""


class _Answered(NamedTuple):
    """One answer and its rows."""

    answer: Answer
    rows: list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class _Asker:
    """Asks for the trades of one market and numbers the pages."""

    client: Client
    condition_id: str
    window: Window
    numbers: Iterator[int] = field(default_factory=count)

    def ask(self, window: Window, offset: int = 0) -> _Answered:
        """The rows of a window after the first `offset`; _TooDeep where the provider does not go there."""
        params: dict[str, str | int] = {
            "market": self.condition_id,
            "takerOnly": "true",
            "start": max(1, window.start_ms // 1000),
            "end": window.end_ms // 1000,
            "limit": MOST_ROWS,
            "offset": offset,
        }
        answer = self.client.get(
            DATA,
            "/trades",
            params,
            explain=must_be(
                f"trades of {self.condition_id} in {window}", partial(self._are_asked_for, window)
            ),
            refusal=_refusal,
            keep=self.page,
        )
        return _Answered(answer, loads(answer.body))

    def page(self, answer: Answer, **context: Any) -> Page:
        """The answer as the next page."""
        return answer.page(
            feed=FEED, subject=self.condition_id, window=self.window, sequence=next(self.numbers), **context
        )

    def _are_asked_for(self, window: Window, told: Any) -> bool:
        """Whether these are trades of the market and the window: who ignores the window would be asked for ever."""
        first, last = window.start_ms // 1000, window.end_ms // 1000
        return isinstance(told, list) and all(
            isinstance(row, dict)
            and row.get("conditionId") == self.condition_id
            and first <= int(str(row.get("timestamp", first))) <= last
            for row in told
        )


def _told(asker: _Asker, window: Window) -> Iterator[Page]:
    first = asker.ask(window)
    closing = _closing(asker, window, first) if first.rows else None
    if closing or not first.rows:
        yield from (asker.page(one.answer) for one in (first, closing) if one)
    elif window.end - window.start > SECOND:
        for half in _halves(window):
            yield from _told(asker, half)
    else:
        yield from _one_second(asker, window, first)


def _closing(asker: _Asker, window: Window, first: _Answered) -> _Answered | None:
    """The empty answer after the last row; None where there may be more."""
    if len(first.rows) >= MOST_ROWS:
        return None
    try:
        after = asker.ask(window, len(first.rows))
    except _TooDeep:
        return None
    return None if after.rows else after


def _one_second(asker: _Asker, window: Window, first: _Answered) -> Iterator[Page]:
    """The pages of a second, by offset; all are marked where the provider does not give it whole."""
    answers, is_cut = [first], False
    while answers[-1].rows and not is_cut:
        try:
            more = asker.ask(window, sum(len(one.rows) for one in answers))
        except _TooDeep:
            is_cut = True
        else:
            is_cut = bool(more.rows) and (_repeats(more, answers) or len(answers) == _MOST_PAGES_A_SECOND)
            answers += [] if is_cut else [more]
    again = asker.ask(window)
    if Counter(map(_identity, again.rows)) != Counter(map(_identity, first.rows)):
        raise Transient(f"polymarket {FEED} {asker.condition_id}: {window} changed while it was read")
    before: Counter[str] = Counter()
    for one in answers:
        here = Counter(map(_identity, one.rows))
        repeated = {digest: before[digest] for digest in here if before[digest]}
        yield asker.page(one.answer, before=repeated, cut=iso(window.start) if is_cut else None)
        before += here


def _repeats(more: _Answered, answers: list[_Answered]) -> bool:
    return any(more.rows == one.rows for one in answers)


def _whole_seconds(window: Window) -> Window:
    """The window up to whole seconds on both sides: a trade has no finer time."""
    end = window.end.replace(microsecond=0)
    return Window(window.start.replace(microsecond=0), end if end == window.end else end + SECOND)


def _halves(window: Window) -> Iterator[Window]:
    seconds = (window.end - window.start) // SECOND
    return window.split(SECOND * ((seconds + 1) // 2))


def _refusal(answer: Answer) -> str:
    if answer.status == 400 and b"offset" in answer.body.lower():
        raise _TooDeep(f"polymarket goes no deeper than {answer.url}")
    return ""


# Understanding


def _trade_rows(page: BronzeRow) -> Iterator[Row]:
    told = read_json(page, page["body"])
    if not isinstance(told, list):
        raise broken(page, "is not a list of trades")
    number = Counter(json.loads(page["request"]).get("before", {}))
    for trade in objects(page, told, "trade"):
        if need(page, trade, "conditionId", str) != page["subject"]:
            raise broken(page, f"holds a trade of the market {trade['conditionId'][:80]}")
        digest = _identity(trade)
        number[digest] += 1
        at = epoch(page, need(page, trade, "timestamp", str), unit=SECOND)
        side = text(page, trade, "side")
        yield {
            "condition_id": page["subject"],
            "token_id": need(page, trade, "asset", str),
            "trade_id": f"{digest}-{number[digest]}",
            "event_at": at,
            "known_at": at,
            "price": said(page, trade, "price", str),
            "amount": said(page, trade, "size", str),
            "side": side and side.lower(),
            "taker": text(page, trade, "proxyWallet"),
            "transaction_hash": need(page, trade, "transactionHash", str),
        }


def _identity(trade: Mapping[str, Any]) -> str:
    """What a trade says, as 20 hex digits; the same however its numbers are written."""
    told = [str(trade.get(name)) for name in _TEXTS] + [_number(trade.get(name)) for name in _NUMBERS]
    return hashlib.sha256("|".join(told).encode()).hexdigest()[:20]


def _number(value: Any) -> str:
    """One way to write a number; what is none stays as it is."""
    try:
        return str(Decimal(str(value)).normalize())
    except ArithmeticError:
        return str(value)


def _about_market(subject: str) -> list[dict[str, str]]:
    return [{"condition_id": subject}]


FEEDS = (
    Feed(
        name=FEED,
        provider=PROVIDER,
        doc="Trades of a market's outcome tokens, each once, on the side of the taker.",
        table=prediction_trades.TABLE,
        subjects="condition id: 0xdde06286a7b9464d344f410ab0b3d2ebc6469904e72c27fd982f65fdbf78768d",
        fetch=fetch_trades,
        parse=parse_trades,
        proof=prove_trades,
        about=_about_market,
        step=lambda _subject: _STEP,
        paging="windows halved until an answer of at most 1,000 trades is whole",
        quota=quota_of(DATA),
        documentation="https://docs.polymarket.com/api-reference/core/get-trades-for-a-user-or-markets",
    ),
)
