"""Point-in-time frames: what was known when.

Frames here hold all versions of their facts, told apart by `known_at`; nothing depends on the order of rows.
Every function is closed under the past: what became known after T never changes what it says about T.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

MOMENT = "moment"


def versions_at(
    rows: pl.LazyFrame, moments: pl.LazyFrame, *, on: Sequence[str], fact: Sequence[str]
) -> pl.LazyFrame:
    """For each row of `moments` (columns `on` and `moment`) the version of each fact that was newest then.

    `fact` names the columns that, together with `on`, tell facts apart; facts not known by then are absent.
    """
    known = rows.join(moments, on=list(on)).filter(pl.col("known_at") <= pl.col(MOMENT))
    return known.group_by(*on, MOMENT, *fact).agg(pl.all().max_by("known_at"))


def newest_events(rows: pl.LazyFrame, *, by: Sequence[str]) -> pl.LazyFrame:
    """The rows that, when they became known, told of the newest event known until then (of each `by`).

    A late revision of an old event is left out: it must not pass for the latest state.
    """
    ordered = rows.sort(*by, "known_at", "event_at")
    newest = pl.col("event_at").cum_max()
    return ordered.filter(pl.col("event_at") == (newest.over(*by) if by else newest))


def join_known(
    left: pl.LazyFrame,
    right: pl.LazyFrame,
    *,
    at: str,
    by: Mapping[str, str],
    columns: Mapping[str, str],
) -> pl.LazyFrame:
    """Each row of `left` with what `right` had last said by the moment in column `at`; null where nothing.

    `by` maps columns of `left` to the columns of `right` that must be equal, `columns` maps columns of
    `right` to their names in the result. Where several rows became known at once, the one of the newest event
    counts.
    """
    keys = [pl.col(theirs).alias(ours) for ours, theirs in by.items()]
    taken = [pl.col(theirs).alias(ours) for theirs, ours in columns.items()]
    newest_last = right.sort("known_at", "event_at").select(
        *keys, *taken, pl.col("known_at").alias("_known_at")
    )
    joined = left.sort(at).join_asof(
        newest_last,
        left_on=at,
        right_on="_known_at",
        by=list(by) or None,
        strategy="backward",
        check_sortedness=False,  # cannot be checked with `by`; both sides were sorted just above
    )
    return joined.drop("_known_at", strict=False)


def drop_repeats(rows: pl.LazyFrame, *, identity: Sequence[str], contents: Sequence[str]) -> pl.LazyFrame:
    """Without the versions that say in `contents` what the version before them said already."""
    ordered = rows.sort(*identity, "known_at")
    same = (pl.col(name).eq_missing(pl.col(name).shift(1)) for name in (*identity, *contents))
    return ordered.filter(~pl.all_horizontal(same))
