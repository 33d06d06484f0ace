"""How the past of a venue is walked through: one function a way of paging, chosen by `exchanges.yaml`.

All walk a bounded window, none takes an empty answer for the end of the data where more may follow, and none
leaves out trades that share the moment at a page's edge. A page may reach over the window: what it says is true
all the same, and every table knows its rows by key. ccxt's own `paginate` does neither (providers' facts 1.4).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from lakehouse.window import Window
from sources.ccxt_exchange import MISREAD, Reply
from sources.ccxt_rules import CandleRules, HistoryRules, Paging, ReferenceRules, TradeRules, Walk
from sources.errors import Permanent, Transient

_HOUR = timedelta(hours=1)


class Ask(Protocol):
    """One of ccxt's methods that give a list, of one market."""

    def __call__(self, *, since: int | None, limit: int | None, params: Mapping[str, Any]) -> Reply: ...


def trade_pages(ask: Ask, window: Window, rules: TradeRules, *, limit: int) -> Iterator[Reply]:
    """All answers that together hold the trades of the window, as far as the venue gives them."""
    try:
        yield from _WALKS[rules.paging](ask, window, rules, limit)
    except MISREAD as error:
        said = f"{type(error).__name__}: {error}"
        raise Transient(f"the last answer does not tell where the next page begins ({said})") from error


def candle_pages(
    ask: Ask, window: Window, rules: CandleRules | ReferenceRules, *, bar: timedelta
) -> Iterator[tuple[Window, Reply]]:
    """The bars of the window, in steps of as many bars as fit in one answer, each with its part of the window."""
    if isinstance(rules, CandleRules) and rules.newest_only:
        yield window, ask(since=window.start_ms, limit=None, params={})
        return
    for step in window.split(bar * rules.limit):
        params = {"until": step.end_ms - 1} if rules.until else {}
        # Always the full page: where the venue sends a bar twice, ccxt would cut the last one off a shorter page.
        yield step, ask(since=step.start_ms, limit=rules.limit, params=params)


def history_pages(
    ask: Ask, window: Window, rules: HistoryRules, *, every: timedelta
) -> Iterator[tuple[Window, Reply]]:
    """What happened in the window, in steps, each answer with its part of the window; `every` is the usual distance.

    Raises Permanent where more happened at one moment than an answer holds.
    """
    yield from _HISTORY_WALKS[rules.walk](ask, window, rules, every)


def _newest(ask: Ask, _window: Window, rules: TradeRules, limit: int) -> Iterator[Reply]:
    """The venue gives its newest trades only: one answer, whatever the window."""
    yield ask(since=None, limit=limit, params=rules.params)


def _forward_time(ask: Ask, window: Window, rules: TradeRules, limit: int) -> Iterator[Reply]:
    """Oldest first between two moments; the next page begins at the last moment seen, so some trades come twice."""
    since = window.start_ms
    while since < window.end_ms:
        reply = ask(since=since, limit=limit, params={**rules.params, "until": window.end_ms - 1})
        yield reply
        if len(reply.rows) < limit:
            return
        if _newest_ms(reply) <= since:
            raise _stuck(reply, since, limit)
        since = _newest_ms(reply)


def _backward_time(ask: Ask, window: Window, rules: TradeRules, limit: int) -> Iterator[Reply]:
    """Newest first between two moments, in whole seconds."""
    until = window.end_ms
    while until > window.start_ms:
        reply = ask(since=window.start_ms, limit=limit, params={**rules.params, "until": until})
        yield reply
        if len(reply.rows) < limit:
            return
        before = (_oldest_ms(reply) // 1000 + 1) * 1000
        if before >= until:
            raise _stuck(reply, before - 1000, limit)
        until = before


def _forward_id(ask: Ask, window: Window, rules: TradeRules, limit: int) -> Iterator[Reply]:
    """By time, an hour at a time, until a trade is seen; from it on by id. A quiet hour is not the end."""
    for hour in window.split(_HOUR):
        reply = ask(since=hour.start_ms, limit=limit, params={**rules.params, "until": hour.end_ms - 1})
        yield reply
        if reply.rows:
            break
    while reply.rows and _newest_ms(reply) < window.end_ms:
        reply = ask(since=None, limit=limit, params={**rules.params, rules.cursor: max(_ids(reply)) + 1})
        yield reply
        if len(reply.rows) < limit:
            return


def _backward_id(ask: Ask, window: Window, rules: TradeRules, limit: int) -> Iterator[Reply]:
    """From the newest trade back by id until the window's start is passed."""
    reply = ask(since=None, limit=limit, params=rules.params)
    yield reply
    while len(reply.rows) >= limit and _oldest_ms(reply) >= window.start_ms:
        reply = ask(since=None, limit=limit, params={**rules.params, rules.cursor: min(_ids(reply))})
        yield reply


def _kraken_last(ask: Ask, window: Window, rules: TradeRules, limit: int) -> Iterator[Reply]:
    """By the nanosecond that the answer names `last`; it is exclusive, and ccxt rounds it to seconds."""
    since = window.start_ms * 1_000_000 - 1
    while True:
        reply = ask(since=None, limit=limit, params={**rules.params, "since": str(since)})
        yield reply
        last = int(json.loads(reply.answers[-1].body)["result"]["last"])
        if len(reply.rows) < limit or last >= window.end_ms * 1_000_000:
            return
        if last <= since:
            raise _stuck(reply, since // 1_000_000, limit)
        since = last


def _slices(
    ask: Ask, window: Window, rules: HistoryRules, every: timedelta
) -> Iterator[tuple[Window, Reply]]:
    """Both ends are sent, so the order of an answer does not matter."""
    # One row less than fits: a page that comes full is then one that was cut.
    for part in window.split(every * max(rules.limit - 1, 1)):
        yield from _halved_where_full(ask, part, rules, held=())


def _halved_where_full(
    ask: Ask, window: Window, rules: HistoryRules, *, held: tuple[Reply, ...]
) -> Iterator[tuple[Window, Reply]]:
    """The answers for a window; `held` are those that were cut short and cover its beginning."""
    moment = timedelta(seconds=1) if rules.seconds_params else timedelta(milliseconds=1)
    reply = ask(
        since=None if rules.seconds_params else window.start_ms,
        limit=rules.limit,
        params=_ends(window, rules),
    )
    if reply.raw_rows < rules.limit:
        yield from ((window, one) for one in (*held, reply))
        return
    half = (window.end - window.start) // 2 // moment * moment
    if half < moment:
        raise _stuck(reply, window.start_ms, rules.limit)
    first, *rest = window.split(half)
    yield from _halved_where_full(ask, first, rules, held=(*held, reply))
    for part in rest:
        yield from _halved_where_full(ask, part, rules, held=())


def _ends(window: Window, rules: HistoryRules) -> dict[str, Any]:
    if rules.seconds_params is None:
        return {"until": window.end_ms - 1}
    start, end = rules.seconds_params
    return {start: window.start_ms // 1000, end: (window.end_ms - 1) // 1000}


def _steps(ask: Ask, window: Window, rules: HistoryRules, every: timedelta) -> Iterator[tuple[Window, Reply]]:
    """Rows at even distances: so many from the start on fill the step."""
    for step in window.split(every * rules.limit):
        yield step, ask(since=step.start_ms, limit=rules.limit, params={})


def _backward(
    ask: Ask, window: Window, rules: HistoryRules, _every: timedelta
) -> Iterator[tuple[Window, Reply]]:
    """Newest first, from the end of the window until its start is passed."""
    before = window.end_ms
    while True:
        reply = ask(since=None, limit=rules.limit, params={rules.cursor: str(before)})
        yield window, reply
        if reply.raw_rows < rules.limit:
            return
        oldest = min((row["timestamp"] or 0 for row in reply.rows), default=before)
        if oldest >= before:
            raise _stuck(reply, before, rules.limit)
        if oldest < window.start_ms:
            return
        before = oldest


def _whole(
    ask: Ask, window: Window, _rules: HistoryRules, _every: timedelta
) -> Iterator[tuple[Window, Reply]]:
    """The venue tells everything at once."""
    yield window, ask(since=window.start_ms, limit=None, params={})


_HISTORY_WALKS: Mapping[
    Walk, Callable[[Ask, Window, HistoryRules, timedelta], Iterator[tuple[Window, Reply]]]
] = {
    "slices": _slices,
    "steps": _steps,
    "backward": _backward,
    "whole": _whole,
}
_WALKS: Mapping[Paging, Callable[[Ask, Window, TradeRules, int], Iterator[Reply]]] = {
    "newest": _newest,
    "forward_time": _forward_time,
    "backward_time": _backward_time,
    "forward_id": _forward_id,
    "backward_id": _backward_id,
    "kraken_last": _kraken_last,
}


def _stuck(reply: Reply, at_ms: int, limit: int) -> Permanent:
    """The venue offers no way past a page that one moment fills: what else happened then would be lost unseen."""
    call, at = reply.call, datetime.fromtimestamp(at_ms / 1000, UTC)
    return Permanent(
        f"{call.exchange} {call.method} {call.arguments['symbol']}: {limit} rows or more at {at.isoformat()},"
        " more than a page holds: the rest cannot be asked for; choose windows without this moment"
    )


def _newest_ms(reply: Reply) -> int:
    return max(row["timestamp"] or 0 for row in reply.rows)


def _oldest_ms(reply: Reply) -> int:
    return min(row["timestamp"] or 0 for row in reply.rows)


def _ids(reply: Reply) -> Iterator[int]:
    return (int(row["id"]) for row in reply.rows)
