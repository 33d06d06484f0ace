"""What of a batch is new: repeats collapse, revisions get their date, contradictions are named. Pure."""

from __future__ import annotations

import polars as pl

from lakehouse.contract import Table
from lakehouse.verdict import REASONS

CONTRADICTS = "contradicts_published"
"""Reason of a row whose immutable key is already published with other contents."""

_SAID = "__said"
_STORED = "__stored"


def new_rows(table: Table, batch: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """The rows of a conformed batch that are not stored yet.

    `stored` holds at least all stored rows of the batch's identities. Rows with reasons pass through unchanged.
    Immutable facts: a repeat is dropped; the first delivery stands, and one that says something else gets the reason
    `contradicts_published`. Revisable facts: what repeats the current version is dropped; what differs from it is a
    revision, known at the earliest when it was received; a version that has been followed by another stays as it was
    published. The order of the batch's rows does not matter.
    """
    is_good = pl.col(REASONS).list.len() == 0
    good, bad = batch.filter(is_good), batch.filter(~is_good)
    find = _new_versions if table.keeps_revisions else _new_facts
    return pl.concat([find(table, good, stored), bad])


def _new_facts(table: Table, good: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    together = _in_order_of_arrival(_together(table, good, stored))
    first = pl.col(_SAID).first().over(table.identity)
    contradiction = pl.when(pl.col(_SAID) != first).then(pl.lit([CONTRADICTS])).otherwise(pl.col(REASONS))
    is_first = pl.int_range(pl.len()).over(table.identity) == 0
    fresh = together.with_columns(contradiction.alias(REASONS), is_first.alias("__is_first"))
    fresh = fresh.filter(~pl.col(_STORED) & (pl.col("__is_first") | (pl.col(REASONS).list.len() > 0)))
    return fresh.select(good.columns)


def _new_versions(table: Table, good: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    once, told_twice = _first_told(table, good)
    revised = _date_revisions(table, once, stored)
    contradicts = pl.col(REASONS).list.len() > 0
    together = _together(table, revised.filter(~contradicts), stored)
    order = {**dict.fromkeys([*table.identity, "known_at"], False), _STORED: True, "ingested_at": False}
    together = together.sort(list(order), descending=list(order.values()))
    before = pl.col(_SAID).shift().over(table.identity)
    repeats = (pl.col(_SAID) == before).fill_null(value=False)
    fresh = together.filter(~pl.col(_STORED) & ~repeats).select(good.columns)
    return pl.concat([fresh, revised.filter(contradicts), told_twice])


def _first_told(table: Table, good: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Of rows that one moment delivered for one version the first stands; others that differ contradict it."""
    told = _in_order_of_arrival(_with_said(table, good))
    alike = [*table.identity, "known_at", "ingested_at"]
    told = told.with_columns(
        __first=pl.int_range(pl.len()).over(alike) == 0,
        __differs=pl.col(_SAID) != pl.col(_SAID).first().over(alike),
    )
    differs = told.filter("__differs").with_columns(pl.lit([CONTRADICTS]).alias(REASONS))
    return told.filter("__first").select(good.columns), differs.select(good.columns)


def _date_revisions(table: Table, good: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Drop deliveries that repeat what is current; give those that differ from it the date of their receipt.

    A delivery claims to have been known at `known_at`. What is current for that claim is the stored row with the same
    claim or, for the newest claim of a fact, a revision of it that we saw later ourselves (known at its receipt). What
    an older claim said cannot be revised any more, and neither can anything by a delivery that is not newer: such a
    row contradicts what was published.
    """
    claim = [*table.identity, "known_at"]
    rows = _with_current(table, _with_said(table, good), _with_said(table, stored))
    rows = _in_order_of_arrival(rows).with_columns(
        __before=pl.col(_SAID).shift().over(claim).fill_null(pl.col("__current")),
        __before_at=pl.col("ingested_at").shift().over(claim).fill_null(pl.col("__current_at")),
    )
    differs = (pl.col("__before") != pl.col(_SAID)).fill_null(value=False)
    fresh = rows.filter(differs | pl.col("__before").is_null())
    can_revise = ~pl.col("__is_old") & (pl.col("ingested_at") > pl.col("__before_at"))
    revised_at = pl.max_horizontal("known_at", "ingested_at")
    return fresh.with_columns(
        pl.when(differs & ~can_revise).then(pl.lit([CONTRADICTS])).otherwise(REASONS).alias(REASONS),
        pl.when(differs & can_revise).then(revised_at).otherwise("known_at").alias("known_at"),
    ).select(good.columns)


def _with_current(table: Table, rows: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Beside each delivery what is current for its claim, since when, and whether the claim is an old one."""
    identity, claim = list(table.identity), [*table.identity, "known_at"]
    is_own = pl.col("known_at") == pl.col("ingested_at")
    own = stored.filter(is_own).sort("known_at").group_by(identity)
    seen = own.agg(__seen=pl.last(_SAID), __seen_at=pl.last("known_at"))
    first = stored.sort("ingested_at").unique(claim, keep="first", maintain_order=True)
    claimed = first.select(
        *claim, pl.col(_SAID).alias("__claimed"), pl.col("ingested_at").alias("__claimed_at")
    )
    claims = pl.concat([rows.select(claim), stored.filter(~is_own).select(claim)])
    newest = claims.group_by(identity).agg(__newest=pl.col("known_at").max())
    for facts, on in ((seen, identity), (claimed, claim), (newest, identity)):
        rows = rows.join(facts, on=on, how="left", nulls_equal=True)
    is_old = pl.col("known_at") < pl.col("__newest")
    was_revised = ~is_old & pl.col("__seen_at").is_between("known_at", "ingested_at", closed="right")
    return rows.with_columns(
        __is_old=is_old,
        __current=pl.when(was_revised).then("__seen").otherwise("__claimed"),
        __current_at=pl.when(was_revised).then("__seen_at").otherwise("__claimed_at"),
    )


def _together(table: Table, good: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Both, told apart by a flag, with one number for what each row says."""
    both = [
        _with_said(table, rows).with_columns(pl.lit(flag).alias(_STORED))
        for rows, flag in ((stored, True), (good, False))
    ]
    return pl.concat(both, how="diagonal")


def _with_said(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.struct(table.contents).hash().alias(_SAID))


def _in_order_of_arrival(rows: pl.DataFrame) -> pl.DataFrame:
    """Stored rows first, then as received; pages received in one moment in the order of their ids."""
    order = {_STORED: True, "ingested_at": False, "page_id": False}
    present = [name for name in order if name in rows.columns]
    return rows.sort(present, descending=[order[name] for name in present], maintain_order=True)
