"""What of a model's table news dirties, what is to be read to build that anew, and what a row was made from.

All of it follows from the model's `reaches`. Pure: frames in, frames out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import polars as pl

from lakehouse.contract import UTC_US, Table
from lakehouse.model import Inputs, Model, Reach, Row

FOREVER = datetime(9000, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_MAX_SPANS = 32


@dataclass(frozen=True)
class Scope:
    """Pieces of a model's table: `pieces` has the model's groups, `first` and `last` (of its clock, both included)."""

    model: Model
    pieces: pl.DataFrame = field(repr=False)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it."""
        return self.pieces.is_empty()

    def in_turns(self, length: timedelta) -> Iterator[Scope]:
        """The same pieces by stretches of time, cut at multiples of the length; earliest first."""
        every = _every(length)
        stretches = pl.datetime_ranges(pl.col("first").dt.truncate(every), "last", every)
        cut = self.pieces.with_columns(stretch=stretches).explode("stretch")
        clipped = cut.with_columns(
            first=pl.max_horizontal("first", "stretch"),
            last=pl.min_horizontal("last", pl.col("stretch") + length - _TICK),
        )
        for _, pieces in clipped.sort("stretch").group_by("stretch", maintain_order=True):
            yield Scope(self.model, pieces.drop("stretch"))

    def needed(self, name: str, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The rows of an input that the pieces can depend on, and few others; whole files are skipped by it."""
        asked = [self._asked(reach) for reach in self.model.reaches_of(name)]
        return rows.filter(pl.any_horizontal(asked)) if len(asked) > 1 else rows.filter(*asked)

    def within(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The rows of the model's table that are in the pieces."""
        return (
            rows.sort(self.model.clock)
            .join_asof(
                self.pieces.lazy().sort("first"),
                left_on=self.model.clock,
                right_on="first",
                by=list(self.model.groups),
                strategy="backward",
                coalesce=False,
                check_sortedness=False,  # cannot be checked with `by`; both sides were sorted just above
            )
            .filter(pl.col(self.model.clock) <= pl.col("last"))
            .drop("first", "last")
        )

    def _asked(self, reach: Reach) -> pl.Expr:
        conditions = [reach.where]
        if set(reach.by) & {*self.model.groups, *self.model.derived}:
            conditions += self._of_the_groups(reach)
        if reach.at == self.model.clock:
            conditions.append(self._in_time(reach))
        return pl.all_horizontal(conditions)

    def _in_time(self, reach: Reach) -> pl.Expr:
        first, last = _inputs_of(reach, pl.col("first"), pl.col("last"))
        times = self.pieces.select(first=first, last=last)
        if reach.before is None:
            return pl.col(reach.of) <= pl.lit(times["last"].max(), UTC_US)
        return in_spans(reach.of, spans(times))

    def _of_the_groups(self, reach: Reach) -> list[pl.Expr]:
        """Column by column, which skips files, and together where single columns would say too much."""
        pairs = {
            ours: theirs
            for ours, theirs in reach.by.items()
            if ours in {*self.model.groups, *self.model.derived}
        }
        wanted = _with_derived(self.model, self.pieces.lazy()).select(*pairs).unique().collect()
        conditions = [pl.col(pairs[ours]).is_in(wanted[ours].unique().implode()) for ours in pairs]
        combinations = 1
        for ours in pairs:
            combinations *= wanted[ours].n_unique()
        if combinations > wanted.height:
            both = wanted.rename(pairs).to_struct("")
            conditions.append(pl.struct(pairs.values()).is_in(both.implode()))
        return conditions


def dirtied(model: Model, news: Mapping[str, pl.LazyFrame], inputs: Inputs) -> Scope:
    """The pieces of the model's table that the news (rows that came, changed or went, by input) can change.

    `inputs` are asked only for the model's grid.
    """
    near = [r for r in model.reaches if r.input in news and r.at == model.clock]
    far = [r for r in model.reaches if r.input in news and r.at != model.clock]
    found = [_outputs_of(model, reach, news[reach.input]) for reach in near]
    found += _by_the_grid(model, far, news, inputs)
    return Scope(model, _merge(model, pl.concat([_no_pieces(model), *found])))


def sources_of(model: Model, reach: Reach, table: Table, row: Row, rows: pl.LazyFrame) -> pl.LazyFrame:
    """The rows of one input (of contract `table`) whose figures a row of the model's table was made from.

    Of facts with several versions the one that was known when the row was; nothing that came later than the row says.
    """
    known = pl.DataFrame([row], schema=model.table.schema, orient="row").lazy()
    said = _with_derived(model, known).collect().row(0, named=True)
    first, last = _inputs_of(reach, pl.lit(said[reach.at], UTC_US), pl.lit(said[reach.at], UTC_US))
    time = pl.col(reach.of)
    conditions = [reach.where, *(pl.col(theirs) == pl.lit(said[ours]) for ours, theirs in reach.by.items())]
    conditions += [time <= last] if reach.before is None else [time.is_between(first, last)]
    conditions += [pl.col("known_at") <= said["known_at"], pl.col("ingested_at") <= said["ingested_at"]]
    found = reach.made_of(row, rows.filter(*conditions))
    if not table.keeps_revisions:
        return found
    return found.sort("known_at").unique(table.identity, keep="last", maintain_order=True)


def spans(intervals: pl.DataFrame, *, at_most: int = _MAX_SPANS) -> pl.DataFrame:
    """Few intervals (`first`, `last`) that together hold the given ones; the narrowest gaps are filled."""
    merged = _merged(intervals, by=())
    gaps = merged["first"] - merged["last"].shift()
    if merged.height <= at_most:
        return merged
    is_wide = gaps.rank("ordinal", descending=True) < at_most
    return (
        merged.with_columns(block=is_wide.fill_null(value=False).cum_sum())
        .group_by("block", maintain_order=True)
        .agg(pl.col("first").min(), pl.col("last").max())
        .drop("block")
    )


def in_spans(column: str, found: pl.DataFrame) -> pl.Expr:
    """Whether a time is in one of some intervals; files that hold nothing of them are skipped."""
    inside = [pl.col(column).is_between(first, last) for first, last in found.iter_rows()]
    return pl.any_horizontal(inside or [pl.lit(value=False)])


def _outputs_of(model: Model, reach: Reach, news: pl.LazyFrame) -> pl.DataFrame:
    """The pieces that hang together with each of these rows of an input."""
    time = pl.col(reach.of)
    first, last = time - reach.after, time if reach.before is None else time + reach.before
    if reach.snap:
        first, last = _ceil(first - reach.snap, reach.snap), _end_of_block(last, reach.snap)
    if reach.before is None:
        last = pl.lit(FOREVER, UTC_US)
    groups = [pl.col(reach.by[name]).alias(name) for name in model.groups]
    return news.filter(reach.where).select(*groups, first=first, last=last).unique().collect()


def _inputs_of(reach: Reach, first: pl.Expr, last: pl.Expr) -> tuple[pl.Expr, pl.Expr]:
    """From when to when rows of the input matter to the output from `first` to `last`."""
    if reach.snap:
        first, last = first.dt.truncate(_every(reach.snap)), _end_of_block(last, reach.snap) + _TICK
    earliest = pl.lit(None, UTC_US) if reach.before is None else first - reach.before
    return earliest, last + reach.after


def _by_the_grid(
    model: Model, reaches: Sequence[Reach], news: Mapping[str, pl.LazyFrame], inputs: Inputs
) -> list[pl.DataFrame]:
    """The pieces of the moments from which on the rows of an input are seen, whatever the groups."""
    seen = [(reach, _seen_from(reach, news[reach.input])) for reach in reaches]
    seen = [(reach, moments) for reach, moments in seen if moments.height]
    found = []
    for at in {reach.at for reach, _ in seen}:
        since = pl.concat([moments["since"] for reach, moments in seen if reach.at == at])
        is_grid = pl.any_horizontal([reach.where for reach in model.reaches_of(model.grid)])
        rows = (
            inputs[model.grid]
            .filter(pl.col(at) >= since.min(), is_grid)
            .select(*model.groups, model.clock, at)
        )
        grid = _with_derived(model, rows).unique().collect(engine="streaming")
        for reach, moments in seen:
            pairs = list(reach.by)
            both = grid.join(moments, on=pairs) if pairs else grid.join(moments, how="cross")
            clock = pl.col(model.clock)
            touched = both.filter(pl.col(at) >= pl.col("since"))
            found.append(touched.select(*model.groups, first=clock, last=clock).unique())
    return found


def _seen_from(reach: Reach, news: pl.LazyFrame) -> pl.DataFrame:
    """Since when each group sees something else than before."""
    ours = [pl.col(theirs).alias(name) for name, theirs in reach.by.items()]
    rows = news.filter(reach.where).select(*ours, since=pl.col(reach.of) - reach.after)
    earliest = pl.col("since").min()
    counted = rows.group_by(list(reach.by)).agg(earliest) if reach.by else rows.select(earliest)
    return counted.drop_nulls("since").collect()


def _with_derived(model: Model, rows: pl.LazyFrame) -> pl.LazyFrame:
    return rows.with_columns(**model.derived)


def _no_pieces(model: Model) -> pl.DataFrame:
    groups = {name: model.table.schema[name] for name in model.groups}
    return pl.DataFrame(schema={**groups, "first": UTC_US, "last": UTC_US})


def _merge(model: Model, pieces: pl.DataFrame) -> pl.DataFrame:
    return _merged(pieces, by=model.groups)


def _merged(intervals: pl.DataFrame, *, by: Sequence[str]) -> pl.DataFrame:
    """Intervals that overlap or adjoin as one, for each group; in order."""
    ordered = intervals.sort(*by, "first", nulls_last=False)
    so_far = pl.col("last").cum_max().shift()
    so_far = so_far.over(by) if by else so_far
    is_apart = (pl.col("first") > so_far + _TICK).fill_null(value=False)
    block = is_apart.cum_sum().over(by) if by else is_apart.cum_sum()
    return (
        ordered.with_columns(block=block)
        .group_by(*by, "block", maintain_order=True)
        .agg(pl.col("first").min(), pl.col("last").max())
        .drop("block")
    )


def _every(length: timedelta) -> str:
    return f"{length // _TICK}us"


def _ceil(time: pl.Expr, length: timedelta) -> pl.Expr:
    return (time + length - _TICK).dt.truncate(_every(length))


def _end_of_block(time: pl.Expr, length: timedelta) -> pl.Expr:
    return time.dt.truncate(_every(length)) + length - _TICK
