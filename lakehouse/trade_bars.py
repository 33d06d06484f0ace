"""Bars made from single trades, where the recorded trades are known to cover the whole bar.

Recorded trades begin and end in the middle of a bar and may have holes, so a bar counts as covered only if

1. a trade before its open and a trade at or after its close are recorded, each within `EDGE` of its neighbour
   inside the bar, and
2. nothing is missing from the one to the other: their ids are numbers that go up by one at every step, as
   many venues count the trades of an instrument; or, where ids do not count them (random, or shared by all
   instruments), no silence between recorded steps is longer than `SILENCE`.

A step is a minute with trades, or a second where bars of seconds are made. Ids are taken for a count where at least
half of the ways from one step to the next go up by one; there a jump is a hole. This is a careful guess, meant to leave
good bars out rather than to let bad ones in; the coverage ledger will replace it. It rests on a trade being known when
it happens.

A bar without trades is told where the trades beside it say that there was none: their ids follow on one another, or
the bar before is covered and the silence after it short. Its prices are the close before it, which is always known
here, and its volume is zero.

The trade after the close is part of the proof, so a bar is known when that trade is.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import polars as pl

from lakehouse.exact import AMOUNT_DECIMALS, PRODUCT_DECIMALS, exact, inexact
from lakehouse.intervals import LENGTHS, end_of, open_of

EDGE = timedelta(days=1)
"""How far the trades that prove a bar's ends may lie from it: rows of the neighbouring UTC days suffice."""
SILENCE = timedelta(minutes=1)

_INSTRUMENT = ("venue", "instrument_id")
_CLOCKS = ("open_at", "event_at", "known_at", "ingested_at")
_FIGURES = ("open", "high", "low", "close", "volume", "volume_unit", "vwap", "trade_count", "buy_volume")
_TOLD = (*_INSTRUMENT, "interval", *_CLOCKS, *_FIGURES, "is_empty")


def bars_from_trades(trades: pl.LazyFrame, intervals: Iterable[str], *, step: str = "1m") -> pl.LazyFrame:
    """Covered bars of the intervals, from rows of silver.trades; those without trades are `is_empty`.

    `step` is the interval that all of them are made from: it divides each.
    """
    steps = _link(_steps(trades, step)).cache()
    return pl.concat([_bars(steps, interval) for interval in intervals])


def _steps(trades: pl.LazyFrame, step: str) -> pl.LazyFrame:
    # Everything larger is made from steps: the trades are read once, whatever the number of intervals.
    number = pl.col("trade_id").cast(pl.Int64, strict=False)
    amount, price = pl.col("amount"), pl.col("price")
    is_quote = pl.col("amount_unit") == "quote"
    # What the amount is worth on the other side: quote for base amounts, base for quote amounts.
    counter = pl.when(is_quote).then(amount / price).otherwise(amount * price)
    bought = pl.when(pl.col("side") == "buy").then(amount)
    return (
        # Single columns picked by one order: structs picked by it take four times as long.
        trades.with_columns(
            number=number, order=pl.struct("event_at", number.alias("number"), "trade_id"), counter=counter
        )
        .group_by(*_INSTRUMENT, step=pl.col("event_at").dt.truncate(step))
        .agg(
            open=price.min_by("order"),
            close=price.max_by("order"),
            first_known_at=pl.col("known_at").min_by("order"),
            first_number=pl.col("number").min(),
            last_number=pl.col("number").max(),
            started_at=pl.col("event_at").min(),
            ended_at=pl.col("event_at").max(),
            high=price.max(),
            low=price.min(),
            volume=exact(amount, decimals=AMOUNT_DECIMALS).sum(),
            counter_volume=exact(pl.col("counter"), decimals=PRODUCT_DECIMALS).sum(),
            buy_volume=exact(bought, decimals=AMOUNT_DECIMALS).sum(),
            has_sides=pl.col("side").is_not_null().all(),
            unit=pl.col("amount_unit").min(),
            other_unit=pl.col("amount_unit").max(),
            numbers=pl.col("number").count().cast(pl.Int64),
            trade_count=pl.len().cast(pl.Int64),
            known_at=pl.col("known_at").max(),
            ingested_at=pl.col("ingested_at").max(),
        )
        .with_columns(
            is_unbroken=(
                (pl.col("numbers") == pl.col("trade_count"))
                & (pl.col("last_number") - pl.col("first_number") + 1 == pl.col("trade_count"))
            ).fill_null(value=False)
        )
        .drop("numbers")
    )


def _link(steps: pl.LazyFrame) -> pl.LazyFrame:
    def neighbour(name: str, by: int) -> pl.Expr:
        return pl.col(name).shift(by).over(*_INSTRUMENT)

    return steps.sort(*_INSTRUMENT, "step").with_columns(
        follows_on=(pl.col("first_number") == neighbour("last_number", 1) + 1).fill_null(value=False),
        goes_on=(pl.col("last_number") + 1 == neighbour("first_number", -1)).fill_null(value=False),
        silence_before=pl.col("started_at") - neighbour("ended_at", 1),
        silence_after=neighbour("started_at", -1) - pl.col("ended_at"),
        next_started_at=neighbour("started_at", -1),
        next_known_at=neighbour("first_known_at", -1),
        next_ingested_at=neighbour("ingested_at", -1),
        next_unit=neighbour("unit", -1),
    )


def _bars(steps: pl.LazyFrame, interval: str) -> pl.LazyFrame:
    bars = _with_trades(steps, interval)
    return pl.concat([bars.filter("is_covered").select(_TOLD), _without_trades(bars, interval)])


def _with_trades(steps: pl.LazyFrame, interval: str) -> pl.LazyFrame:
    """One row for each bar in which a trade is recorded, covered or not."""

    def at_start(name: str) -> pl.Expr:
        return pl.col(name).min_by("step")

    def at_end(name: str) -> pl.Expr:
        return pl.col(name).max_by("step")

    grouped = steps.group_by(*_INSTRUMENT, open_at=open_of(pl.col("step"), interval)).agg(
        at_start("open"),
        pl.col("high").max(),
        pl.col("low").min(),
        at_end("close"),
        pl.col("volume", "counter_volume", "buy_volume", "trade_count").sum(),
        pl.col("has_sides", "is_unbroken").all(),
        pl.col("unit").min(),
        pl.col("other_unit").max(),
        pl.col("known_at", "ingested_at").max(),
        at_end("goes_on"),
        *(at_end(f"next_{name}") for name in ("started_at", "known_at", "ingested_at", "unit")),
        at_start("silence_before"),
        at_end("silence_after"),
        steps=pl.len() + 1,
        counted=at_start("follows_on").cast(pl.UInt32) + pl.col("goes_on").sum(),
        silence=pl.max_horizontal(pl.col("silence_before").max(), pl.col("silence_after").max()),
    )
    return grouped.with_columns(
        event_at=end_of(pl.col("open_at"), interval), volume_unit="unit", is_covered=_is_covered()
    ).with_columns(
        pl.lit(interval).alias("interval"),
        pl.max_horizontal("known_at", "next_known_at", "event_at").alias("known_at"),
        _vwap().alias("vwap"),
        inexact(pl.col("volume")),
        pl.when("has_sides").then(inexact(pl.col("buy_volume"))).alias("buy_volume"),
        is_empty=pl.lit(value=False),
    )


def _without_trades(bars: pl.LazyFrame, interval: str) -> pl.LazyFrame:
    """The bars between two with trades, where it is known that there was none."""
    is_gap = pl.col("next_started_at") >= pl.col("event_at") + LENGTHS[interval]
    is_nothing_lost = (pl.col("goes_on") & (pl.col("silence_after") <= EDGE)) | pl.col("is_covered")
    is_one_unit = (pl.col("unit") == pl.col("other_unit")) & (pl.col("unit") == pl.col("next_unit"))
    opens = pl.datetime_ranges(
        "event_at", open_of(pl.col("next_started_at"), interval), interval, closed="left"
    )
    nothing = pl.lit(0.0)
    return (
        bars.filter(is_gap, is_nothing_lost, is_one_unit)
        .with_columns(
            open_at=opens,
            open=pl.col("close"),
            high=pl.col("close"),
            low=pl.col("close"),
            ingested_at=pl.max_horizontal("ingested_at", "next_ingested_at"),
            volume=nothing,
            buy_volume=nothing,
            vwap=pl.lit(None, dtype=pl.Float64),
            trade_count=pl.lit(0, dtype=pl.Int64),
            is_empty=pl.lit(value=True),
        )
        .explode("open_at", empty_as_null=False)
        .with_columns(event_at=end_of(pl.col("open_at"), interval))
        .with_columns(known_at=pl.max_horizontal("known_at", "next_known_at", "event_at"))
        .select(_TOLD)
    )


def _is_covered() -> pl.Expr:
    has_edges = (pl.col("silence_before") <= EDGE) & (pl.col("silence_after") <= EDGE)
    is_counted = pl.col("is_unbroken") & (pl.col("counted") == pl.col("steps"))
    is_uncounted = pl.col("counted") * 2 < pl.col("steps")
    is_steady = is_uncounted & (pl.col("silence") <= SILENCE)
    return (has_edges & (pl.col("unit") == pl.col("other_unit")) & (is_counted | is_steady)).fill_null(
        value=False
    )


def _vwap() -> pl.Expr:
    # Quote over base. What a contract is worth is not said by its trades, so there it stays null.
    volume, counter = inexact(pl.col("volume")), inexact(pl.col("counter_volume"))
    ratio = (
        pl.when(pl.col("unit") == "base")
        .then(counter / volume)
        .when(pl.col("unit") == "quote")
        .then(volume / counter)
    )
    return ratio.clip(pl.col("low"), pl.col("high"))  # rounding of tiny sums may not move it out of the bar
