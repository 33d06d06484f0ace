"""What an answer proves of the window that was asked for: claims for the coverage ledger. Pure.

An answer without any row proves nothing: a quiet time, a wrong subject and a lost answer look alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import polars as pl

from lakehouse.contract import UTC_US
from lakehouse.coverage import Asked, Claim, Prove, minus, overlap, period
from lakehouse.window import Window

_MOMENT = timedelta(microseconds=1)
_NOTHING_LEFT_OUT = "whether the provider left something out"
_EMPTY = "whether there was nothing or nothing was sent: the answer holds no row"


def paged_to_end(asked: Asked, _pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """All answers to the last were received: what is not among them the provider did not send."""
    past = asked.past
    return [] if past is None else [_taken_for_whole(past, rows, proof="paged_to_end")]


def snapshot(asked: Asked, _pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """The provider says what holds now, whatever the window: nothing is known but that moment."""
    why = "what held at any other moment: the provider tells only the present"
    return [
        Claim(
            window=Window(asked.at, asked.at + _MOMENT),
            status="complete" if rows.height else "degraded",
            proof="snapshot",
            evidence={"rows": rows.height},
            cannot_show=why,
        )
    ]


def told_until(settles_after: timedelta, *, cannot_show: str = _NOTHING_LEFT_OUT) -> Prove:
    """The proof of a series that is received whole, and to which the provider adds late.

    Complete up to the end of the newest period told, or `settles_after` before the asking, whichever is later:
    after that the provider may still speak.
    """

    def prove(asked: Asked, _pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
        past = asked.past
        return [] if past is None else list(until_told(past, asked.at, rows, settles_after, cannot_show))

    return prove


def until_told(
    past: Window, at: datetime, rows: pl.DataFrame, settles_after: timedelta, cannot_show: str
) -> Iterable[Claim]:
    """The claims of `told_until` on a window that is past."""
    if rows.is_empty():
        yield _taken_for_whole(past, rows, proof="told_until")
        return
    newest: datetime = rows["event_at"].max() or past.start  # type: ignore[assignment]
    told_to = min(max(newest, at - settles_after, past.start), past.end)
    if past.start < told_to:
        yield Claim(
            window=Window(past.start, told_to),
            status="complete",
            proof="told_until",
            evidence={"rows": rows.height, "newest": newest},
            cannot_show=cannot_show,
        )
    if told_to < past.end:
        why = "what the provider has yet to tell of this time"
        yield Claim(
            window=Window(told_to, past.end),
            status="degraded",
            proof="told_until",
            evidence={"newest": newest},
            cannot_show=why,
        )


def every_bar(
    asked: Asked,
    opens: pl.Series,
    interval: str,
    *,
    omits_empty: bool = False,
    keeps: int | None = None,
) -> list[Claim]:
    """Bars by their number: each one that opened in the window and had closed when it was asked for.

    `opens` are the openings received. Bars that are not there are missing; degraded where the venue leaves out bars
    without trades (`omits_empty`); unavailable where they are older than the newest `keeps` bars, which are all
    that the venue gives. The window is covered up to the first bar that was still open.
    """
    past = asked.past
    if past is None:
        return []
    grid = _grid(past, opens, period(interval))
    is_closed = grid["end"] <= asked.at
    still_open = grid.filter(~is_closed)["open"].min()
    upto = past.end if still_open is None else still_open
    if upto <= past.start:  # type: ignore[operator]
        return []
    covered = Window(past.start, upto)  # type: ignore[arg-type]
    closed = grid.filter(is_closed)
    absent = closed.with_row_index().filter(~pl.col("open").is_in(opens.implode()))
    evidence = {"expected": closed.height, "found": closed.height - absent.height}
    oldest = None if keeps is None else _bars_before(asked.at, keeps, period(interval))
    claims = [
        claim
        for run in _runs(absent)
        if (window := overlap(run, covered))
        for claim in _absent_bars(window, oldest, evidence, omits_empty=omits_empty)
    ]
    here = minus(covered, (claim.window for claim in claims))
    whole = [Claim(window=window, status="complete", proof="every_bar", evidence=evidence) for window in here]
    return sorted([*claims, *whole], key=lambda claim: claim.window)


def every_trade(
    asked: Asked, trades: pl.DataFrame, *, are_ids_counted: bool, newest_only: bool
) -> list[Claim]:
    """Trades by their ids where the venue counts them one by one, else because all pages were received.

    `trades` has `trade_id` and `event_at`. Where ids are counted, a jump is a hole. Where the venue gives its newest
    trades only, what came before the oldest received is unavailable.
    """
    past = asked.past
    if past is None:
        return []
    if trades.is_empty():
        return [_taken_for_whole(past, trades, proof="paged_to_end")]
    timed = trades.drop_nulls("event_at").select(
        "event_at", number=pl.col("trade_id").cast(pl.Int64, strict=False)
    )
    claims: list[Claim] = []
    if newest_only:
        claims += _before_oldest(past, timed)
    counted = are_ids_counted and timed["number"].null_count() == 0
    if counted:
        claims += _jumps(past, timed)
    here = minus(past, (claim.window for claim in claims))
    if not counted:
        return [*claims, *(_taken_for_whole(window, timed, proof="paged_to_end") for window in here)]
    evidence = {
        "trades": timed["number"].n_unique(),
        "first_id": timed["number"].min(),
        "last_id": timed["number"].max(),
    }
    why = (
        "whether trades lie between the window's edges and the first and last id: there the paging is trusted"
    )
    whole = (
        Claim(window=window, status="complete", proof="id_range", evidence=evidence, cannot_show=why)
        for window in here
    )
    return [*claims, *whole]


def _taken_for_whole(window: Window, rows: pl.DataFrame, *, proof: str) -> Claim:
    return Claim(
        window=window,
        status="complete" if rows.height else "degraded",
        proof=proof,
        evidence={"rows": rows.height},
        cannot_show=_NOTHING_LEFT_OUT if rows.height else _EMPTY,
    )


def _grid(past: Window, opens: pl.Series, every: str) -> pl.DataFrame:
    """The openings and ends of the bars that open in a window; bars received say where in the day they open."""
    known = opens.drop_nulls()
    first = pl.Series([known.min() if known.len() else past.start], dtype=UTC_US)
    shift = (first - first.dt.truncate(every)).item() if known.len() else timedelta(0)
    start = pl.Series([past.start - shift], dtype=UTC_US).dt.truncate(every).item() + shift
    opens_at = pl.datetime_range(
        start, past.end, every, closed="left", time_unit="us", time_zone="UTC", eager=True
    )
    grid = pl.DataFrame({"open": opens_at.filter(opens_at >= past.start)})
    return grid.with_columns(end=pl.col("open").dt.offset_by(every))


def _bars_before(at: datetime, bars: int, every: str) -> datetime:
    length, unit = int(every.rstrip("smhdwo")), every.lstrip("0123456789")
    moment: datetime = pl.Series([at], dtype=UTC_US).dt.offset_by(f"-{length * bars}{unit}").item()
    return moment


def _runs(absent: pl.DataFrame) -> list[Window]:
    """Absent bars that follow each other, as one window."""
    run = pl.col("index").cast(pl.Int64) - pl.int_range(pl.len())
    spans = absent.group_by(run.alias("run")).agg(pl.col("open").min(), pl.col("end").max()).sort("open")
    return [Window(start, end) for _, start, end in spans.iter_rows()]


def _absent_bars(
    window: Window, oldest: datetime | None, evidence: dict[str, int], *, omits_empty: bool
) -> Iterable[Claim]:
    if oldest is not None and window.start < oldest:
        why = "what was there: the venue gives its newest bars only"
        gone = Window(window.start, min(window.end, oldest))
        yield Claim(
            window=gone, status="unavailable", proof="newest_only", evidence=evidence, cannot_show=why
        )
        if gone.end == window.end:
            return
        window = Window(gone.end, window.end)
    if omits_empty:
        why = "whether a bar is lost or had no trade: the venue leaves out bars without trades"
        yield Claim(window=window, status="degraded", proof="every_bar", evidence=evidence, cannot_show=why)
    else:
        why = "why it is not there: the venue may never have had it"
        yield Claim(window=window, status="missing", proof="every_bar", evidence=evidence, cannot_show=why)


def _before_oldest(past: Window, timed: pl.DataFrame) -> list[Claim]:
    oldest: datetime = min(timed["event_at"].min(), past.end)  # type: ignore[type-var, assignment]
    if oldest <= past.start:
        return []
    why = "what was there: the venue gives its newest trades only"
    return [
        Claim(
            window=Window(past.start, oldest),
            status="unavailable",
            proof="newest_only",
            evidence={"oldest": oldest},
            cannot_show=why,
        )
    ]


def _jumps(past: Window, timed: pl.DataFrame) -> list[Claim]:
    """Where the count of trades jumps, from one trade to the next one received."""
    in_order = (
        timed.unique("number")
        .sort("number")
        .with_columns(before=pl.col("number").shift(), since=pl.col("event_at").shift())
    )
    found = in_order.filter(pl.col("number") - pl.col("before") > 1)
    claims = []
    for row in found.iter_rows(named=True):
        start, end = sorted((row["since"], row["event_at"]))
        window = overlap(Window(start, max(end, start + _MOMENT)), past)
        if window:
            evidence = {
                "after_id": row["before"],
                "before_id": row["number"],
                "absent": row["number"] - row["before"] - 1,
            }
            claims.append(
                Claim(
                    window=window,
                    status="missing",
                    proof="id_range",
                    evidence=evidence,
                    cannot_show="whether the venue uses every number",
                )
            )
    return claims
