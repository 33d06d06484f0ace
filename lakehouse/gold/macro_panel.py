"""gold.macro_panel: for each macro series what was its newest figure, at every moment at which that changed.

Change and growth compare only what was known then, vintage against the same vintage; so a revision of the
base period gives a new row. Series of every `known_at_basis` are here, AlphaVantage's (which have no
vintages) among them: who needs real point-in-time figures filters `known_at_basis = "published"`, as
gold.features does.

Growth is never computed across a break: where the period itself, or one after the period it is compared with, has
the status B (SDMX codelist CL_OBS_STATUS, "time series break") as known then.

Z-scores say how far a figure is from the ten years before it, in their standard deviations. Those years are taken as
they were first told, period by period: what nobody had read then does not move them.

A change of silver.observations dirties the rows of its provider and series from the moment on at which it was
known, however long after: each row may compare with any figure known before it.
"""

import polars as pl

from lakehouse.asof import drop_repeats, join_known
from lakehouse.contract import Column, Table
from lakehouse.fields import (
    EVENT_AT,
    INGESTED_AT,
    KNOWN_AT,
    KNOWN_AT_BASIS,
    PROVIDER,
    SERIES_ID,
    VALUE,
)
from lakehouse.model import Inputs, Model, Reach, Row
from lakehouse.silver.observations import ARCHIVED

_WEAKEST_FIRST = ("estimated", "received", ARCHIVED, "published")
_UNIT = "unit, times ten to the unit_multiplier"

BREAK = "B"
ZSCORE_YEARS = 10
ZSCORE_FIGURES = 20
"""A mean and a deviation of fewer would say little: five years of quarters."""

TABLE = Table(
    name="gold.macro_panel",
    doc="One row for each series and moment at which its newest figure, or what that is compared with, became known.",
    columns=(
        PROVIDER,
        SERIES_ID,
        EVENT_AT.but(doc="End of the newest period known: the first moment after it."),
        KNOWN_AT,
        INGESTED_AT.but(doc="When the last of the compared figures reached this lake."),
        KNOWN_AT_BASIS.but(
            values=_WEAKEST_FIRST, doc="How known_at was found; the weakest among the compared figures."
        ),
        Column(name="period_start", dtype=pl.Date(), doc="First day of the newest period known."),
        VALUE.but(unit=_UNIT, doc="Its value as known then; null where it was withdrawn."),
        Column(name="unit", dtype=pl.String(), doc="Unit of the values before the multiplier."),
        Column(
            name="unit_multiplier",
            dtype=pl.Int64(),
            doc="Power of ten that values are to be multiplied with.",
        ),
        VALUE.but(
            name="previous_value", unit=_UNIT, doc="Value of the period known before it, as known then."
        ),
        VALUE.but(
            name="year_ago_value", unit=_UNIT, doc="Value of the period a year before it, as known then."
        ),
        VALUE.but(name="change", unit=_UNIT, doc="value less previous_value; null where the units differ."),
        VALUE.but(
            name="growth",
            unit="ratio",
            doc="value over previous_value, less 1; null where the units differ, previous_value is not positive, or "
            "across a break.",
        ),
        VALUE.but(
            name="yoy_growth",
            unit="ratio",
            doc="value over year_ago_value, less 1; null where the units differ, year_ago_value is not positive, or "
            "across a break.",
        ),
        VALUE.but(
            name="value_zscore",
            unit="standard deviations",
            doc="value against the ten years of first figures before it in the same unit; null with fewer than "
            f"{ZSCORE_FIGURES}.",
        ),
        VALUE.but(
            name="yoy_growth_zscore",
            unit="standard deviations",
            doc="yoy_growth against the ten years of first growth rates before it; null with fewer than "
            f"{ZSCORE_FIGURES}.",
        ),
        Column(
            name="age_days", dtype=pl.Float64(), unit="days", doc="From the end of the period to known_at."
        ),
    ),
    key=("provider", "series_id", "event_at", "known_at"),
    subject=("provider", "series_id"),
    owner="macro",
)

_SERIES = ("provider", "series_id")
_READ = ("value", "unit", "unit_multiplier", "event_at", "ingested_at", "known_at_basis")


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.macro_panel from all rows of silver.observations."""
    observations = inputs["silver.observations"]
    newest = _read(_newest_periods(observations), observations, period="period_start", prefix="")
    compared = _read(newest, observations, period="previous_period", prefix="previous_")
    compared = compared.with_columns(year_ago_period=_year_before())
    compared = _read(compared, observations, period="year_ago_period", prefix="year_ago_")
    rows = _with_breaks(compared, observations).select(
        *_SERIES, "event_at", "known_at", "period_start", "value", "unit", "unit_multiplier", *_derived()
    )
    rows = _with_zscore(rows, of="value", within=("unit", "unit_multiplier"))
    rows = _with_zscore(rows, of="yoy_growth", within=())
    volatile = {*_SERIES, "known_at", "ingested_at", "age_days"}
    contents = [name for name in TABLE.schema.names() if name not in volatile]
    return drop_repeats(rows.select(TABLE.schema.names()), identity=_SERIES, contents=contents)


def _newest_periods(observations: pl.LazyFrame) -> pl.LazyFrame:
    """For each series and moment of news the newest period with a value, and the one known before it."""
    first = (
        observations.filter(pl.col("value").is_not_null())
        .group_by(*_SERIES, "period_start")
        .agg(pl.col("known_at").min())
        .sort(*_SERIES, "known_at", "period_start")
    )
    newest = pl.col("period_start").cum_max().over(*_SERIES)
    before = pl.col("newest").shift(1).over(*_SERIES)
    # The second largest so far is the largest of what each new arrival left behind.
    left_behind = pl.when(before.is_not_null()).then(pl.min_horizontal("period_start", before))
    states = (
        first.with_columns(newest=newest)
        .with_columns(left_behind=left_behind)
        .with_columns(previous_period=pl.col("left_behind").cum_max().over(*_SERIES))
        .group_by(*_SERIES, "known_at")
        .agg(pl.col("newest", "previous_period").max())
    )
    moments = observations.select(*_SERIES, "known_at").unique()
    states = states.with_columns(pl.col("known_at").alias("event_at"))
    columns = {"newest": "period_start", "previous_period": "previous_period"}
    known = join_known(moments, states, at="known_at", by={name: name for name in _SERIES}, columns=columns)
    return known.filter(pl.col("period_start").is_not_null())


def _read(rows: pl.LazyFrame, observations: pl.LazyFrame, *, period: str, prefix: str) -> pl.LazyFrame:
    by = {**{name: name for name in _SERIES}, period: "period_start"}
    columns = {name: prefix + name for name in _READ}
    return join_known(rows, observations, at="known_at", by=by, columns=columns)


def _with_breaks(rows: pl.LazyFrame, observations: pl.LazyFrame) -> pl.LazyFrame:
    """With `last_break`, the newest period up to the row's that was marked as a break, as known then."""
    marked = observations.filter(pl.col("status") == BREAK).select(*_SERIES, break_period="period_start")
    moments = rows.select(*_SERIES, "known_at", "period_start").join(marked.unique(), on=_SERIES)
    by = {**{name: name for name in _SERIES}, "break_period": "period_start"}
    told = join_known(moments, observations, at="known_at", by=by, columns={"status": "status"})
    is_before = pl.col("break_period") <= pl.col("period_start")
    last = (
        told.filter(is_before, pl.col("status") == BREAK)
        .group_by(*_SERIES, "known_at")
        .agg(last_break=pl.col("break_period").max())
    )
    return rows.join(last, on=(*_SERIES, "known_at"), how="left")


def _with_zscore(rows: pl.LazyFrame, *, of: str, within: tuple[str, ...]) -> pl.LazyFrame:
    """With `<of>_zscore`. The newest period never goes back, so all that is told of earlier ones was known before."""
    alike = [*_SERIES, *within]
    first = (
        rows.drop_nulls(of)
        .group_by(*alike, "event_at")
        .agg(pl.col(of).sort_by("known_at").first().alias("figure"))
        .sort(*alike, "event_at")
    )
    before = first.rolling(
        "event_at", period=f"{ZSCORE_YEARS}y", closed="left", offset=f"-{ZSCORE_YEARS}y", group_by=alike
    ).agg(
        figures=pl.len(),
        mean=pl.col("figure").mean(),
        deviation=pl.col("figure").std(),
    )
    score = (pl.col(of) - pl.col("mean")) / pl.col("deviation")
    is_enough = (pl.col("figures") >= ZSCORE_FIGURES) & (pl.col("deviation") > 0)
    return (
        rows.join(before, on=[*alike, "event_at"], how="left")
        .with_columns(pl.when(is_enough).then(score).alias(f"{of}_zscore"))
        .drop("figures", "mean", "deviation")
    )


def _year_before() -> pl.Expr:
    # Weeks and days are compared with the same weekday 52 weeks earlier: the date itself may be a holiday.
    start = pl.col("period_start")
    is_short = pl.col("event_at").dt.date() - start < pl.duration(days=28)
    return pl.when(is_short).then(start.dt.offset_by("-52w")).otherwise(start.dt.offset_by("-1y"))


def _derived() -> list[pl.Expr]:
    value, previous, year_ago = pl.col("value"), pl.col("previous_value"), pl.col("year_ago_value")
    basis = pl.concat_list("known_at_basis", "previous_known_at_basis", "year_ago_known_at_basis")
    weakest = pl.coalesce(pl.when(basis.list.contains(name)).then(pl.lit(name)) for name in _WEAKEST_FIRST)
    return [
        previous,
        year_ago,
        pl.max_horizontal("ingested_at", "previous_ingested_at", "year_ago_ingested_at").alias("ingested_at"),
        weakest.alias("known_at_basis"),
        pl.when(_same_unit("previous_")).then(value - previous).alias("change"),
        pl.when(_is_comparable("previous_")).then(value / previous - 1).alias("growth"),
        pl.when(_is_comparable("year_ago_")).then(value / year_ago - 1).alias("yoy_growth"),
        ((pl.col("known_at") - pl.col("event_at")).dt.total_seconds() / 86_400).alias("age_days"),
    ]


def _is_comparable(prefix: str) -> pl.Expr:
    """Whether growth since that period means anything: one unit, a positive base, no break after it."""
    is_whole = pl.col("last_break").is_null() | (pl.col("last_break") <= pl.col(f"{prefix}period"))
    return _same_unit(prefix) & (pl.col(f"{prefix}value") > 0) & is_whole


def _same_unit(prefix: str) -> pl.Expr:
    return pl.all_horizontal(pl.col(name) == pl.col(prefix + name) for name in ("unit", "unit_multiplier"))


def _compared(row: Row, observations: pl.LazyFrame) -> pl.LazyFrame:
    """The newest period, the one before it and the one a year before it."""
    period = pl.col("period_start")
    newest = pl.DataFrame([row], schema=TABLE.schema, orient="row").select("period_start", "event_at")
    year_ago = newest.select(_year_before()).item()
    is_before = pl.col("value").is_not_null() & (period < row["period_start"])
    return observations.filter(
        period.is_in([row["period_start"], year_ago]) | (period == period.filter(is_before).max())
    )


MODEL = Model(
    table=TABLE,
    groups=_SERIES,
    clock="known_at",
    reaches=(
        Reach(
            input="silver.observations",
            by={name: name for name in _SERIES},
            at="known_at",
            of="known_at",
            before=None,
            made_of=_compared,
        ),
    ),
    build=build,
)
