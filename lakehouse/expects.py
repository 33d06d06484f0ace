"""What is expected of a batch as a whole, beside the rules that each of its rows keeps: the kinds a contract declares.

Each kind is a pure function from the batch to elements, one row each: a bar, a subject, a venue. `holds` says whether
the element is as expected, null that it cannot be told; the other columns are for people. A kind is silent where it
knows too little: a small increment, a backfill and a rebuild are not alarms.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import polars as pl

from lakehouse.history import ROWS_A_DAY, figures
from lakehouse.intervals import LENGTHS, open_of

if TYPE_CHECKING:
    from lakehouse.contract import Cell, Severity
    from lakehouse.verdict import Batch

HOLDS = "holds"
_NOTHING = pl.LazyFrame(schema={HOLDS: pl.Boolean()})
"""No elements: nothing can be told."""


@dataclass(frozen=True, kw_only=True)
class Expect(ABC):
    """One expectation. `meaning` is the sentence that people read; a critical one that fails blocks the batch.

    At least the share `mostly` of the elements that can be told must hold.
    """

    name: str
    meaning: str
    severity: Severity = "warning"
    mostly: float = 1.0

    sees_held_back: ClassVar[bool] = False
    """Whether rows that are held back count too."""

    @abstractmethod
    def elements(self, rows: pl.LazyFrame, batch: Batch) -> pl.LazyFrame:
        """What is judged: columns for people, and `holds`. `rows` are those of the batch that count."""


@dataclass(frozen=True, kw_only=True)
class InOrder(Expect):
    """A number never falls within its group, rows in the order of `order_by`; rows marked `unless` are left out."""

    column: str
    within: tuple[str, ...]
    order_by: tuple[str, ...]
    unless: str

    def elements(self, rows: pl.LazyFrame, batch: Batch) -> pl.LazyFrame:
        """Rows after another one of their group."""
        del batch
        shown = tuple(dict.fromkeys((*self.within, *self.order_by, self.column)))
        ordered = rows.filter(~pl.col(self.unless), pl.col(self.column).is_not_null()).select(shown)
        before = pl.col(self.column).shift(1).over(self.within).alias("before")
        return (
            ordered.sort(*self.within, *self.order_by)
            .with_columns(before)
            .with_columns((pl.col(self.column) >= pl.col("before")).alias(HOLDS))
        )


@dataclass(frozen=True, kw_only=True)
class CountedIds(Expect):
    """No id is missing inside a page, in groups whose ids count: where hardly any is, as the batch itself shows.

    Between pages ids may be missing: they are of different windows. Where rows came again that are stored already,
    nothing can be told. What the venue declares of its ids is asked by the coverage ledger.
    """

    id: str
    within: tuple[str, ...]
    most_missing: float = 0.05
    """Share of ids missing from which on a group's ids are taken not to count."""

    sees_held_back: ClassVar[bool] = True

    def elements(self, rows: pl.LazyFrame, batch: Batch) -> pl.LazyFrame:
        """Groups."""
        number = pl.col(self.id).cast(pl.Int64, strict=False)
        pages = rows.group_by(*self.within, "page_id").agg(
            low=number.min(), high=number.max(), ids=number.count()
        )
        ordered = pages.drop_nulls("low").sort(*self.within, "low")
        reached = ordered.with_columns(reached=pl.col("high").cum_max().over(self.within)).with_columns(
            pl.col("reached").shift(1).over(self.within)
        )
        beyond = pl.max_horizontal(pl.col("low") - 1, "reached")
        spanned = reached.group_by(self.within).agg(
            pl.col("ids").sum().cast(pl.Int64), span=(pl.col("high") - beyond).clip(lower_bound=0).sum()
        )
        missing = pl.col("span") - pl.col("ids")
        is_counting = (missing <= self.most_missing * pl.col("span")) & (batch.repeats == 0)
        return spanned.with_columns(
            missing.alias("missing"), pl.when(is_counting).then(missing <= 0).alias(HOLDS)
        )


@dataclass(frozen=True, kw_only=True)
class OnGrid(Expect):
    """Bars of up to a day are as long as their interval; shorter ones begin at multiples of it."""

    def elements(self, rows: pl.LazyFrame, batch: Batch) -> pl.LazyFrame:
        """Bars."""
        del batch
        lengths = {name: length // timedelta(microseconds=1) for name, length in LENGTHS.items()}
        length = pl.col("interval").replace_strict(lengths, default=None, return_dtype=pl.Int64)
        opens = pl.col("open_at").cast(pl.Int64)
        begins_right = (opens % length == 0) | pl.col("interval").str.ends_with("d")
        is_long_enough = pl.col("event_at").cast(pl.Int64) - opens == length
        return rows.select("interval", "open_at", "event_at", (begins_right & is_long_enough).alias(HOLDS))


@dataclass(frozen=True, kw_only=True)
class Apart(Expect):
    """No bar begins before the one before it is over."""

    within: tuple[str, ...]

    def elements(self, rows: pl.LazyFrame, batch: Batch) -> pl.LazyFrame:
        """Bars after another one of their group; versions of a bar are one."""
        del batch
        bars = rows.group_by(*self.within, "open_at").agg(pl.col("event_at").max())
        before = pl.col("event_at").shift(1).over(self.within).alias("end_before")
        ordered = bars.sort(*self.within, "open_at").with_columns(before)
        return ordered.with_columns((pl.col("open_at") >= pl.col("end_before")).alias(HOLDS))


@dataclass(frozen=True, kw_only=True)
class FinerBarsAddUp(Expect):
    """A bar says what the finer bars of its source inside it say; told only where all of those are in the batch."""

    finer: str
    coarser: str
    tolerance: float = 1e-9
    """Of the volume, relative: sums of floats depend on their order."""

    def elements(self, rows: pl.LazyFrame, batch: Batch) -> pl.LazyFrame:
        """Coarser bars."""
        del batch
        source = ["venue", "instrument_id", "built_from", "source_interval"]
        wanted = rows.filter(pl.col("interval").is_in([self.finer, self.coarser]))
        newest = wanted.group_by(*source, "interval", "open_at").agg(
            pl.col("known_at", "high", "low", "volume", "is_empty").sort_by("known_at").last()
        )
        is_traded = pl.col("is_empty").eq_missing(other=False)
        parts = (
            newest.filter(pl.col("interval") == self.finer)
            .group_by(*source, open_at=open_of(pl.col("open_at"), self.coarser))
            .agg(
                pl.len().alias("parts"),
                parts_high=pl.col("high").filter(is_traded).max(),
                parts_low=pl.col("low").filter(is_traded).min(),
                parts_volume=pl.when(pl.col("volume").null_count() == 0).then(pl.col("volume").sum()),
            )
        )
        whole = newest.filter(pl.col("interval") == self.coarser, is_traded)
        joined = whole.join(parts, on=[*source, "open_at"], nulls_equal=True)
        apart = (pl.col("parts_volume") - pl.col("volume")).abs()
        adds_up = (
            (pl.col("high") == pl.col("parts_high"))
            & (pl.col("low") == pl.col("parts_low"))
            & (apart <= self.tolerance * pl.col("volume"))
        )
        has_all = pl.col("parts") == LENGTHS[self.coarser] // LENGTHS[self.finer]
        return joined.with_columns(pl.when(has_all).then(adds_up).alias(HOLDS))


@dataclass(frozen=True, kw_only=True)
class PeersAgree(Expect):
    """What one peer says is usually near the median of all at the same moment: its median distance is within bounds.

    Told only of peers that met enough others at enough moments; of versions the newest counts.
    """

    value: str
    peer: str
    market: tuple[str, ...]
    moment: str
    where: Mapping[str, Cell]
    bound_bps: float
    peers: int = 3
    moments: int = 30

    def elements(self, rows: pl.LazyFrame, batch: Batch) -> pl.LazyFrame:
        """Peers by market."""
        del batch
        meeting = [*self.market, self.moment]
        said = rows.filter(pl.col(name).eq_missing(pl.lit(value)) for name, value in self.where.items())
        newest = said.group_by(*meeting, self.peer).agg(pl.col(self.value).sort_by("known_at").last())
        middle = newest.group_by(meeting).agg(
            pl.col(self.value).median().alias("median"), pl.len().alias("met")
        )
        met = newest.join(middle.filter(pl.col("met") >= self.peers), on=meeting)
        distance = (pl.col(self.value) / pl.col("median") - 1).abs() * 1e4
        usual = met.group_by(*self.market, self.peer).agg(
            distance_bps=distance.median(), moments=pl.len().cast(pl.Int64)
        )
        holds = pl.when(pl.col("moments") >= self.moments).then(pl.col("distance_bps") <= self.bound_bps)
        return usual.with_columns(holds.alias(HOLDS))


@dataclass(frozen=True, kw_only=True)
class SumsUp(Expect):
    """The parts of a whole add up; told only where all parts are there, which `part` counts from 0."""

    column: str
    over: tuple[str, ...]
    part: str
    to: float
    tolerance: float

    def elements(self, rows: pl.LazyFrame, batch: Batch) -> pl.LazyFrame:
        """Wholes."""
        del batch
        value, part = pl.col(self.column), pl.col(self.part)
        has_all = (value.null_count() == 0) & (pl.len() > 1) & (part.max() + 1 == part.n_unique())
        wholes = rows.group_by(self.over).agg(total=pl.when(has_all).then(value.sum()))
        return wholes.with_columns(((pl.col("total") - self.to).abs() <= self.tolerance).alias(HOLDS))


@dataclass(frozen=True, kw_only=True)
class Level:
    """Between which bounds the usual values of subjects lie whose name begins so; the first that fits counts."""

    starts: str
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class Levels(Expect):
    """Values are in the unit they are said to be in: a subject's median is between declared bounds."""

    value: str
    subject: tuple[str, ...]
    """Columns of the name, each followed by a slash."""
    bounds: tuple[Level, ...]
    times_ten_to: str = ""
    """Column of the power of ten that values are multiplied with."""

    def elements(self, rows: pl.LazyFrame, batch: Batch) -> pl.LazyFrame:
        """Subjects that bounds are declared for."""
        del batch
        name = pl.concat_str(*self.subject, pl.lit(""), separator="/")
        fits = [name.str.starts_with(level.starts) for level in self.bounds]
        lower = pl.coalesce(
            pl.when(fit).then(pl.lit(level.lower)) for fit, level in zip(fits, self.bounds, strict=True)
        )
        upper = pl.coalesce(
            pl.when(fit).then(pl.lit(level.upper)) for fit, level in zip(fits, self.bounds, strict=True)
        )
        scale = pl.lit(10.0).pow(pl.col(self.times_ten_to)) if self.times_ten_to else pl.lit(1.0)
        found = rows.group_by(self.subject).agg(level=(pl.col(self.value) * scale).median())
        bounded = found.with_columns(lower=lower, upper=upper).drop_nulls("lower")
        return bounded.with_columns(pl.col("level").is_between("lower", "upper").alias(HOLDS))


@dataclass(frozen=True, kw_only=True)
class LikePast(Expect):
    """Rows a day and levels of columns are within a factor of what the table's last batches had, subject by subject.

    Compared are batches that begin and end near each other in time and are large enough; fewer rows than usual count
    only over several days of which nothing was stored before.
    """

    rows_factor: float
    levels: Mapping[str, float] = field(default_factory=dict)
    """Column -> by which factor its level may differ."""
    near: timedelta = timedelta(days=30)
    batches: int = 3
    rows: int = 100

    def elements(self, rows: pl.LazyFrame, batch: Batch) -> pl.LazyFrame:
        """Measures of subjects."""
        if batch.past.is_empty():
            return _NOTHING
        table, past = batch.table, batch.past.lazy().filter(pl.col("rows") >= self.rows)
        today = figures(rows, subject=table.subject, clock=table.time_column, levels=self.levels)
        factors = {ROWS_A_DAY: self.rows_factor, **self.levels}
        compared = today.filter(pl.col("rows") >= self.rows).join(
            past.drop("days", "rows"), on=["subject", "measure"], suffix="_past"
        )
        is_near = pl.all_horizontal(
            (pl.col(edge) - pl.col(f"{edge}_past")).abs() <= self.near for edge in ("first", "last")
        )
        usual = (
            compared.filter(is_near)
            .group_by("subject", "measure", "value", "days")
            .agg(usual=pl.col("value_past").median(), batches=pl.len())
            .filter(pl.col("batches") >= self.batches)
        )
        factor = pl.col("measure").replace_strict(factors, return_dtype=pl.Float64)
        is_partial = (pl.col("measure") == ROWS_A_DAY) & ((pl.col("days") < 3) | (batch.repeats > 0))
        is_low = (pl.col("value") * factor < pl.col("usual")) & ~is_partial
        is_high = pl.col("value") > pl.col("usual") * factor
        return usual.with_columns((~is_low & ~is_high).alias(HOLDS))


@dataclass(frozen=True, kw_only=True)
class Fresh(Expect):
    """The newest row is not older than the table's freshness.

    Told only of a batch that goes on from where a table that was fresh had come to: what fills in the past, or comes
    to a table that holds the past, is no news.
    """

    def elements(self, rows: pl.LazyFrame, batch: Batch) -> pl.LazyFrame:
        """One element, the batch."""
        past, freshness = batch.past, batch.table.freshness
        if past.is_empty() or freshness is None:
            return _NOTHING
        last = past.filter(pl.col("judged_at") == pl.col("judged_at").max())
        was_fresh = last.select(pl.col("last").max() >= pl.col("judged_at").max() - freshness).item()
        goes_on = pl.lit(was_fresh) & (pl.col("newest") > past["last"].max())
        is_fresh = pl.col("newest") >= batch.judged_at - freshness
        newest = rows.select(newest=pl.col(batch.table.time_column).max())
        return newest.with_columns(pl.when(goes_on).then(is_fresh).alias(HOLDS))
