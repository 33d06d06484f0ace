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
    revision, known at the earliest when it was received. The order of the batch's rows does not matter.
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
    revised = _date_revisions(table, good, stored)
    order = [*table.identity, "known_at"]
    together = _together(table, revised, stored)
    together = together.sort(*order, _STORED, "ingested_at", descending=[False] * len(order) + [True, False])
    before = pl.col(_SAID).shift().over(table.identity)
    repeats = (pl.col(_SAID) == before).fill_null(value=False)
    return together.filter(~pl.col(_STORED) & ~repeats).select(good.columns)


def _date_revisions(table: Table, good: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """Give deliveries that differ from the current version the date of their receipt; drop those that repeat it.

    The current version of a fact, for a delivery that claims to have been known at `known_at`, is the newest that we
    saw change ourselves (known at its receipt), else the stored one with the same `known_at`.
    """
    identity = list(table.identity)
    good_columns, good, stored = good.columns, _with_said(table, good), _with_said(table, stored)
    received = (
        stored.filter(pl.col("known_at") == pl.col("ingested_at"))
        .sort("known_at")
        .group_by(identity)
        .agg(pl.col(_SAID).last().alias("__seen"), pl.col("known_at").last().alias("__seen_at"))
    )
    claimed = stored.select(*identity, "known_at", pl.col(_SAID).alias("__claimed"))
    claimed = claimed.unique([*identity, "known_at"], keep="first", maintain_order=True)
    rows = good.join(received, on=identity, how="left", nulls_equal=True)
    rows = rows.join(claimed, on=[*identity, "known_at"], how="left", nulls_equal=True)
    is_newer = pl.col("__seen_at") <= pl.col("ingested_at")
    current = pl.when(is_newer).then("__seen").otherwise(None).fill_null(pl.col("__claimed"))
    rows = rows.with_columns(current.alias("__current"))
    rows = _in_order_of_arrival(rows)
    before = pl.col(_SAID).shift().over([*identity, "known_at"]).fill_null(pl.col("__current"))
    rows = rows.with_columns(before.alias("__before"))
    is_repeat = (pl.col("__before") == pl.col(_SAID)).fill_null(value=False)
    known_at = (
        pl.when(pl.col("__before").is_null())
        .then("known_at")
        .otherwise(pl.max_horizontal("known_at", "ingested_at"))
    )
    return rows.filter(~is_repeat).with_columns(known_at.alias("known_at")).select(good_columns)


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
