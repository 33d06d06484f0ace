"""gold.reconciliation_days: of how many bars of a UTC day ours agree with theirs.

A day on which fewer agree than `REQUIRED` asks for is a remark in the verdict of its batch. A day is said when it is
over, from the bars known then, and again when one of them changes; it has all bars that both sides have.

A change of gold.reconciliation dirties its day.
"""

from collections.abc import Mapping
from datetime import timedelta

import polars as pl

from lakehouse.asof import MOMENT, drop_repeats, versions_at
from lakehouse.contract import Column, Rule, Table
from lakehouse.fields import EVENT_AT, INGESTED_AT, KNOWN_AT
from lakehouse.gold import reconciliation
from lakehouse.gold.reconciliation import AGREE, FIELDS, REASONS
from lakehouse.model import Inputs, Model, Reach

DAY = timedelta(days=1)
USUAL_SHARE = 0.99
REQUIRED: Mapping[str, float] = {}
"""Share of a day's bars that must agree, by venue; others `USUAL_SHARE`."""

_OF = ("venue", "instrument_id", "interval", "against", "rebuilt_from")
_COUNT = Column(name="bars", dtype=pl.Int64(), lower=0, unit="bars", doc="Bars that both sides have.")
_SHARE = Column(
    name="share",
    dtype=pl.Float64(),
    lower=0,
    upper=1,
    doc="Share of the day's bars that agree in all figures.",
)

TABLE = Table(
    name="gold.reconciliation_days",
    doc="For each UTC day the share of bars on which we and the venue, or we and CoinMetrics, agree.",
    columns=(
        *(reconciliation.TABLE.column(name) for name in _OF),
        Column(name="day", dtype=pl.Date(), doc="The UTC day in which the bars begin."),
        EVENT_AT.but(doc="End of the day."),
        KNOWN_AT.but(doc="The end of the day, or when the last of its bars was known to be this."),
        INGESTED_AT.but(doc="When the last thing that it was made from reached this lake."),
        _COUNT.but(lower=1),
        _COUNT.but(name="agreeing", doc="Bars that agree in all figures that both sides tell."),
        _SHARE,
        _SHARE.but(name="required_share", doc="The share that the venue's bars are asked to keep."),
        *(
            _SHARE.but(
                name=f"{field}_share",
                nullable=True,
                doc=f"Share that agrees in {field}, of those that tell it.",
            )
            for field in FIELDS
        ),
        *(
            _COUNT.but(name=f"{reason}_bars", doc=f"Bars whose gravest reason is {reason}.")
            for reason in REASONS
        ),
    ),
    key=(*_OF, "day", "known_at"),
    subject=_OF,
    owner="market-data",
    rules=(
        Rule(
            name="day_disagrees",
            check=pl.col("share") >= pl.col("required_share"),
            reason="fewer of the day's bars agree than the venue is asked for",
            severity="warning",
        ),
    ),
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.reconciliation_days from all rows of gold.reconciliation."""
    day = (*_OF, "day")
    bars = inputs["gold.reconciliation"].with_columns(day=pl.col("open_at").dt.date())
    over_at = (pl.col("day") + DAY).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    moments = bars.select(*day, pl.max_horizontal("known_at", over_at).alias(MOMENT)).unique()
    known = versions_at(bars, moments, on=day, fact=("open_at",))
    days = (
        known.group_by(*day, MOMENT)
        .agg(
            pl.col("ingested_at").max(),
            pl.len().cast(pl.Int64).alias("bars"),
            pl.col("agrees").sum().cast(pl.Int64).alias("agreeing"),
            *(_share(field) for field in FIELDS),
            *((pl.col("reason") == name).sum().cast(pl.Int64).alias(f"{name}_bars") for name in REASONS),
        )
        .with_columns(
            event_at=over_at,
            known_at=pl.col(MOMENT),
            share=pl.col("agreeing") / pl.col("bars"),
            required_share=pl.col("venue").replace_strict(
                REQUIRED or {"": 0.0}, default=USUAL_SHARE, return_dtype=pl.Float64
            ),
        )
    )
    return drop_repeats(days.select(TABLE.schema.names()), identity=TABLE.identity, contents=TABLE.contents)


def _share(field: str) -> pl.Expr:
    reason = pl.col(f"{field}_reason")
    return reason.is_in(AGREE).filter(reason != "not_compared").mean().alias(f"{field}_share")


MODEL = Model(
    table=TABLE,
    groups=_OF,
    clock="event_at",
    reaches=(Reach(input="gold.reconciliation", by={name: name for name in _OF}, of="open_at", before=DAY),),
    build=build,
)
