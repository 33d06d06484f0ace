"""What of a batch is new: repeats collapse, revisions get their date, contradictions are named. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import polars as pl

from lakehouse.contract import Table
from lakehouse.verdict import REASONS

CONTRADICTS = "contradicts_published"
"""Reason of a row whose immutable key is already published with other contents."""

_TICK = timedelta(microseconds=1)
_SAID = "__said"
_STORED = "__stored"
_NUMBER = "__number"
_DISPUTED = "__disputed"


def new_rows(table: Table, batch: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """The rows of a conformed batch that are not stored yet.

    `stored` holds at least all stored rows of the batch's identities. Rows with reasons pass through unchanged.
    Nothing that is published changes; a row that cannot be published beside it gets the reason
    `contradicts_published`.

    Immutable facts: the first delivery stands, its repeats are dropped, what says something else contradicts it.

    Revisable facts: a version that the provider dates (`known_at` before its receipt) is published at that date,
    whenever it comes. Told again, it is a statement about now, as is a version known only by its receipt: dropped
    where it repeats what is current, else a revision known when it was received. A version that the provider has
    followed by another cannot be revised any more.

    The result is that of hearing the deliveries one by one in the order they were received, however they are cut
    into batches. Promoted in another order, facts that are told in one way come out the same; of contradictory
    deliveries those promoted first stand, and a repeat that was dropped does not outlive a late revision before it:
    the next delivery sets it right.
    """
    is_good = pl.col(REASONS).list.len() == 0
    good, bad = batch.filter(is_good), batch.filter(~is_good)
    find = _new_versions if table.keeps_revisions else _new_facts
    return pl.concat([find(table, good, stored), bad])


def new_builds(
    table: Table, built: pl.DataFrame, stored: pl.DataFrame, *, has_every_version: bool
) -> pl.DataFrame:
    """The rows that are new in what was built again.

    What is published stands, also where input that came late makes an old version come out differently. If that
    changes what holds now, it is a version of its own, known from the receipt of that input on. Unless `built` has
    every version of its facts, nothing is said of those whose newest version is not among them.
    """
    is_good = pl.col(REASONS).list.len() == 0
    good, bad = built.filter(is_good), built.filter(~is_good)
    fresh = good.join(stored, on=table.key, how="anti", nulls_equal=True).unique(
        table.key, maintain_order=True
    )
    if not table.keeps_revisions:
        return pl.concat([fresh, bad])
    current = _newest(table, pl.concat([stored, fresh], how="diagonal"))
    both = _newest(table, good).join(
        current.select(*table.identity, __now=_SAID, __since="known_at"), on=table.identity, nulls_equal=True
    )
    is_late = (pl.col(_SAID) != pl.col("__now")) & (
        pl.lit(has_every_version) | (pl.col("known_at") >= pl.col("__since"))
    )
    after = pl.max_horizontal("ingested_at", pl.col("__since") + _TICK)
    restated = both.filter(is_late).with_columns(known_at=after).select(built.columns)
    return pl.concat([fresh, restated, bad])


def _newest(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """The newest version of each fact, with a number for what it says."""
    return _with_said(table, rows.sort("known_at").unique(table.identity, keep="last"))


def _new_facts(table: Table, good: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    together = _in_order_of_arrival(_together(table, good, stored))
    if together.select(pl.struct(table.identity).hash().n_unique()).item() == together.height:
        # Nothing is told twice, as nearly always: looking for who said what first would be most of the work.
        return together.filter(~pl.col(_STORED)).select(good.columns)
    first = pl.col(_SAID).first().over(table.identity)
    contradiction = pl.when(pl.col(_SAID) != first).then(pl.lit([CONTRADICTS])).otherwise(pl.col(REASONS))
    is_first = pl.struct(table.identity).is_first_distinct()
    fresh = together.with_columns(contradiction.alias(REASONS), is_first.alias("__is_first"))
    fresh = fresh.filter(~pl.col(_STORED) & (pl.col("__is_first") | (pl.col(REASONS).list.len() > 0)))
    return fresh.select(good.columns)


def _new_versions(table: Table, good: pl.DataFrame, stored: pl.DataFrame) -> pl.DataFrame:
    """New versions; most facts are told the same way each time, the others are heard out."""
    facts = stored.join(good.select(table.identity).unique(), on=table.identity, how="semi", nulls_equal=True)
    rows = _with_disputes(table, _together(table, good, facts)).with_row_index(_NUMBER)
    told = _in_order_of_arrival(rows.filter(~pl.col(_DISPUTED))).unique(
        table.key, keep="first", maintain_order=True
    )
    disputed = _heard_out(table, rows.filter(_DISPUTED))
    return pl.concat([told.filter(~pl.col(_STORED)), disputed]).select(good.columns)


def _with_disputes(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """Marks facts of which one version was told in several ways, and those known only by when we received them."""
    is_own = pl.col("known_at") == pl.col("ingested_at")
    is_other = pl.col(_SAID) != pl.col(_SAID).first().over(table.key)
    # Two steps: a window within a window costs the square of the number of facts.
    return rows.with_columns((is_own | is_other).alias(_DISPUTED)).with_columns(
        (pl.col(_DISPUTED).any() & (pl.len() > 1)).over(table.identity)
    )


def _heard_out(table: Table, rows: pl.DataFrame) -> pl.DataFrame:
    """The new versions of facts whose deliveries depend on one another: each is heard after those before it.

    Rows are looped over here because what a delivery is depends on what became of the one before.
    """
    rows = _in_order_of_arrival(rows).with_columns(pl.struct(table.identity).rank("dense").alias("__fact"))
    heard: list[tuple[int, datetime, bool]] = []
    facts: dict[int, _Fact] = {}
    columns = ("__fact", _NUMBER, _STORED, "known_at", "ingested_at", _SAID, _is_estimated(table))
    for fact_id, number, is_stored, known_at, received_at, said, is_guess in rows.select(columns).iter_rows():
        fact = facts.setdefault(fact_id, _Fact())
        if is_stored:
            fact.publish(known_at, received_at, said)
        elif (version := fact.hear(known_at, received_at, said, is_guess=is_guess)) is not None:
            heard.append((number, *version))
    schema = {_NUMBER: pl.get_index_type(), "__at": rows.schema["known_at"], "__contradicts": pl.Boolean}
    versions = pl.DataFrame(heard, schema=schema, orient="row")
    return (
        rows.drop("__fact")
        .join(versions, on=_NUMBER)
        .with_columns(
            pl.col("__at").alias("known_at"),
            pl.when("__contradicts").then(pl.lit([CONTRADICTS])).otherwise(REASONS).alias(REASONS),
        )
        .drop("__at", "__contradicts")
    )


def _is_estimated(table: Table) -> pl.Expr:
    """Whether `known_at` is our estimate."""
    has_basis = "known_at_basis" in table.schema
    is_estimated = pl.col("known_at_basis").eq_missing("estimated") if has_basis else pl.lit(value=False)
    return is_estimated.alias("__is_estimated")


@dataclass
class _Fact:
    """What is published of one fact: by `known_at`, what each version says and when it was received."""

    versions: dict[datetime, tuple[int, datetime]] = field(default_factory=dict)
    newest_claim: datetime | None = None

    def publish(self, known_at: datetime, received_at: datetime, said: int) -> None:
        self.versions[known_at] = (said, received_at)
        if known_at != received_at and (self.newest_claim is None or known_at > self.newest_claim):
            self.newest_claim = known_at

    def hear(
        self, known_at: datetime, received_at: datetime, said: int, *, is_guess: bool
    ) -> tuple[datetime, bool] | None:
        """When a delivery's version was known and whether it contradicts what is published; None for a repeat.

        A date that we estimate is the first version's: of what replaces a version nobody knows more than its receipt.
        """
        if self.versions.get(known_at) == (said, received_at):
            return None  # that very delivery has been heard
        is_claim = known_at != received_at and not (is_guess and self.versions)
        if is_claim and known_at not in self.versions:
            at = known_at
        elif is_claim and self.newest_claim is not None and known_at < self.newest_claim:
            return None if said in self._said_since(known_at) else (known_at, True)
        else:
            at = max(known_at, received_at)
            current = max((one for one in self.versions if one <= at), default=None)
            if current is not None:
                current_said, current_at = self.versions[current]
                if said == current_said:
                    return None
                if received_at <= current_at or at in self.versions:
                    return known_at, True
        self.publish(at, received_at, said)
        return at, False

    def _said_since(self, known_at: datetime) -> set[int]:
        """What that version said, and what it was revised to when we saw it change."""
        own = {said for at, (said, received_at) in self.versions.items() if known_at < at == received_at}
        return own | {self.versions[known_at][0]}


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
    """Stored rows first, then as received; of one moment the newest versions first, then in the order of page ids."""
    order = {_STORED: True, "ingested_at": False, "known_at": True, "page_id": False}
    present = [name for name in order if name in rows.columns]
    return rows.sort(present, descending=[order[name] for name in present], maintain_order=True)
