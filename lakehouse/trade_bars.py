"""Bars made from single trades, where the recorded trades are known to cover the whole bar.

Recorded trades begin and end in the middle of a bar and may have holes, so a bar counts as covered only if

1. a trade before its open and a trade at or after its close are recorded, each within `EDGE` of its neighbour
   inside the bar, and
2. nothing is missing from the one to the other: their ids are numbers that go up by one at every step, as
   many venues count the trades of an instrument; or, where ids do not count them (random, or shared by all
   instruments), no silence between recorded minutes is longer than `SILENCE`.

Ids are taken for a count where at least half of the steps from one recorded minute to the next go up by one;
there a jump is a hole. This is a careful guess, meant to leave good bars out rather than to let bad ones in;
the coverage ledger will replace it. It rests on a trade being known when it happens.

The trade after the close is part of the proof, so a bar is known when that trade is.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import polars as pl

from lakehouse.exact import AMOUNT_DECIMALS, PRODUCT_DECIMALS, exact, inexact
from lakehouse.intervals import LENGTHS

EDGE = timedelta(days=1)
"""How far the trades that prove a bar's ends may lie from it: rows of the neighbouring UTC days suffice."""
SILENCE = timedelta(minutes=1)

_INSTRUMENT = ("venue", "instrument_id")


def bars_from_trades(trades: pl.LazyFrame, intervals: Iterable[str]) -> pl.LazyFrame:
    """Covered bars of the intervals, from rows of silver.trades. Bars without trades do not appear."""
    minutes = _link(_minutes(trades))
    return pl.concat([_bars(minutes, interval) for interval in intervals])


def _minutes(trades: pl.LazyFrame) -> pl.LazyFrame:
    # Everything larger is made from minutes: the trades are read once, whatever the number of intervals.
    number = pl.col("trade_id").cast(pl.Int64, strict=False)
    order = pl.struct("event_at", "number", "trade_id")
    edge = pl.struct("price", "number", "known_at")
    amount, price = pl.col("amount"), pl.col("price")
    # What the amount is worth on the other side: quote for base amounts, base for quote amounts.
    counter = pl.when(pl.col("amount_unit") == "quote").then(amount / price).otherwise(amount * price)
    return (
        trades.with_columns(number=number, minute=pl.col("event_at").dt.truncate("1m"), counter=counter)
        .group_by(*_INSTRUMENT, "minute")
        .agg(
            first=edge.min_by(order),
            last=edge.max_by(order),
            started_at=pl.col("event_at").min(),
            ended_at=pl.col("event_at").max(),
            high=price.max(),
            low=price.min(),
            volume=exact(amount, decimals=AMOUNT_DECIMALS).sum(),
            counter_volume=exact(pl.col("counter"), decimals=PRODUCT_DECIMALS).sum(),
            buy_volume=exact(amount, decimals=AMOUNT_DECIMALS).filter(pl.col("side") == "buy").sum(),
            has_sides=pl.col("side").is_not_null().all(),
            unit=pl.col("amount_unit").min(),
            other_unit=pl.col("amount_unit").max(),
            trade_count=pl.len().cast(pl.Int64),
            is_unbroken=(pl.col("number").max() - pl.col("number").min() + 1 == pl.len()).fill_null(
                value=False
            ),
            known_at=pl.col("known_at").max(),
            ingested_at=pl.col("ingested_at").max(),
        )
    )


def _link(minutes: pl.LazyFrame) -> pl.LazyFrame:
    def number(edge: str) -> pl.Expr:
        return pl.col(edge).struct.field("number")

    def neighbour(expr: pl.Expr, step: int) -> pl.Expr:
        return expr.shift(step).over(*_INSTRUMENT)

    return minutes.sort(*_INSTRUMENT, "minute").with_columns(
        follows_on=(number("first") == neighbour(number("last"), 1) + 1).fill_null(value=False),
        goes_on=(number("last") + 1 == neighbour(number("first"), -1)).fill_null(value=False),
        silence_before=pl.col("started_at") - neighbour(pl.col("ended_at"), 1),
        silence_after=neighbour(pl.col("started_at"), -1) - pl.col("ended_at"),
        next_known_at=neighbour(pl.col("first").struct.field("known_at"), -1),
    )


def _bars(minutes: pl.LazyFrame, interval: str) -> pl.LazyFrame:
    def at_start(name: str) -> pl.Expr:
        return pl.col(name).min_by("minute")

    def at_end(name: str) -> pl.Expr:
        return pl.col(name).max_by("minute")

    grouped = minutes.group_by(*_INSTRUMENT, open_at=pl.col("minute").dt.truncate(interval)).agg(
        pl.col("first").struct.field("price").min_by("minute").alias("open"),
        pl.col("high").max(),
        pl.col("low").min(),
        pl.col("last").struct.field("price").max_by("minute").alias("close"),
        pl.col("volume", "counter_volume", "buy_volume", "trade_count").sum(),
        pl.col("has_sides", "is_unbroken").all(),
        pl.col("unit").min(),
        pl.col("other_unit").max(),
        pl.col("known_at", "ingested_at").max(),
        steps=pl.len() + 1,
        counted=at_start("follows_on").cast(pl.UInt32) + pl.col("goes_on").sum(),
        silence=pl.max_horizontal(pl.col("silence_before").max(), pl.col("silence_after").max()),
        silence_before=at_start("silence_before"),
        silence_after=at_end("silence_after"),
        next_known_at=at_end("next_known_at"),
    )
    event_at = pl.col("open_at") + LENGTHS[interval]
    return grouped.filter(_is_covered()).select(
        *_INSTRUMENT,
        pl.lit(interval).alias("interval"),
        "open_at",
        event_at.alias("event_at"),
        pl.max_horizontal("known_at", "next_known_at", event_at).alias("known_at"),
        "ingested_at",
        "open",
        "high",
        "low",
        "close",
        inexact(pl.col("volume")),
        pl.col("unit").alias("volume_unit"),
        _vwap().alias("vwap"),
        "trade_count",
        pl.when("has_sides").then(inexact(pl.col("buy_volume"))).alias("buy_volume"),
    )


def _is_covered() -> pl.Expr:
    has_edges = (pl.col("silence_before") <= EDGE) & (pl.col("silence_after") <= EDGE)
    is_counted = pl.col("is_unbroken") & (pl.col("counted") == pl.col("steps"))
    is_uncounted = pl.col("counted") * 2 < pl.col("steps")
    is_steady = is_uncounted & (pl.col("silence") <= SILENCE)
    return has_edges & (pl.col("unit") == pl.col("other_unit")) & (is_counted | is_steady)


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
