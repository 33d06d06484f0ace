"""drift: whether figures are still distributed as they were: the last week against the four weeks before.

Two measures of each column, for each instrument:

- the population stability index, sum over bins of (p - q) ln(p / q), with bins of equal share of both samples together
  (N. Siddiqi, Credit Risk Scorecards, 2006, page 136; its sampling distribution: B. Yurdakul, Statistical Properties
  of Population Stability Index, 2018);
- the two-sample Kolmogorov-Smirnov statistic, the greatest distance between the two cumulative distributions
  (W. J. Conover, Practical Nonparametric Statistics, 1999, section 6.3).

The limits are no levels of significance: hours of a market depend on each other, and it has calm and wild weeks. On
recorded hours of spring 2020, a week against four, the index reached 0.3 for returns and 1.05 for volumes, the
statistic 0.15 and 0.47; on days of 2017 to 2019, a month against four, 1.5 and 2.05, 0.38 and 0.63. The 0.25 of
scorecards would tell of most weeks. What is beyond the limits here is another unit, another market, a price that stands
still.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from expectations.monitors.monitor import MEASURED, Monitor, View, measured, newest_moment
from lakehouse.catalog import table as contract_of

RECENT = timedelta(days=7)
"""A whole week: markets differ by the day of the week."""
REFERENCE = timedelta(days=28)
LEAST_RECENT = 100
LEAST_REFERENCE = 400
"""Values of a sample; with fewer nothing is judged. With so many the index of equal distributions is about 0.1."""
BINS = 10

_OF = ("venue", "instrument_id")
_STATISTICS = ("population stability index", "Kolmogorov-Smirnov")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure whose distribution is watched, of the rows of one table."""

    name: str
    table: str
    value: pl.Expr
    """In the order of time, over `venue` and `instrument_id`."""
    where: pl.Expr
    most_psi: float
    most_ks: float


_HOURS = (pl.col("interval") == "1h") & (pl.col("volume") > 0)

FIGURES = (
    Figure(
        name="log return of close",
        table="gold.candles",
        value=pl.col("close").log().diff(),
        where=_HOURS,
        most_psi=2.0,
        most_ks=0.45,
    ),
    Figure(
        name="log volume",
        table="gold.candles",
        value=pl.col("volume").log(),
        where=_HOURS,
        most_psi=3.0,
        most_ks=0.8,
    ),
    Figure(
        name="log spread",
        table="gold.liquidity",
        value=pl.col("spread_bps").log(),
        where=pl.col("spread_bps") > 0,
        most_psi=3.0,
        most_ks=0.8,
    ),
)


def look(view: View) -> pl.DataFrame:
    """Both measures of every figure of every instrument with enough values in both samples."""
    found = [_look_at(figure, view) for figure in FIGURES]
    return pl.concat([one for one in found if one.height] or [MEASURED.to_frame()])


def population_stability_index(reference: pl.Series, recent: pl.Series, *, bins: int = BINS) -> float:
    """Of two samples, at least 0, and 0 for equal ones; it does not matter which is which.

    Bins are the quantiles of both together. Half a value is added to each bin: none is empty.
    """
    both = pl.concat([reference, recent])
    edges = sorted({float(both.quantile(n / bins, "lower") or 0.0) for n in range(1, bins)})
    p, q = (_shares(sample, edges) for sample in (reference, recent))
    return float(((p - q) * (p / q).log()).sum())


def kolmogorov_smirnov(reference: pl.Series, recent: pl.Series) -> float:
    """Greatest distance between the cumulative distributions of two samples, 0 to 1."""
    values = pl.concat([reference, recent]).unique().sort()
    p, q = (one.sort().search_sorted(values, side="right") / one.len() for one in (reference, recent))
    return float((p - q).abs().max() or 0.0)  # type: ignore[arg-type] # of a float series a float


def _shares(sample: pl.Series, edges: list[float]) -> pl.Series:
    bins = pl.Series("bin", pl.Series(edges, dtype=pl.Float64).search_sorted(sample, side="left"))
    every = pl.DataFrame({"bin": pl.int_range(len(edges) + 1, dtype=pl.UInt32, eager=True)})
    counts = every.join(bins.cast(pl.UInt32).value_counts(name="count"), on="bin", how="left").sort("bin")
    smoothed = counts["count"].fill_null(0) + 0.5
    return smoothed / smoothed.sum()


def _look_at(figure: Figure, view: View) -> pl.DataFrame:
    table = contract_of(figure.table)
    stored = view.lake.store.find(table)
    begin = view.now - RECENT
    if stored is None or (newest_moment(stored) or begin) <= begin:
        return MEASURED.to_frame()
    values = _values(figure, view, begin - REFERENCE)
    rows = []
    for (venue, instrument), one in values.group_by(_OF, maintain_order=True):
        samples = _samples(one, begin)
        if samples is not None:
            rows += _compared(figure, f"{venue} {instrument}", *samples)
    return measured(rows)


def _values(figure: Figure, view: View, since: datetime) -> pl.DataFrame:
    """`at` and `value` of each instrument; bars of one moment that are told apart by provider are one sample."""
    rows = view.lake.scan(figure.table, start=since, end=view.now).filter(figure.where)
    value = figure.value.over(_OF, order_by="event_at").alias("value")
    chosen = rows.select(*_OF, value, at=pl.col("event_at"))
    return chosen.filter(pl.col("value").is_finite()).sort(*_OF, "at").collect()


def _samples(values: pl.DataFrame, begin: datetime) -> tuple[pl.Series, pl.Series] | None:
    is_recent = pl.col("at") >= begin
    reference, recent = values.filter(~is_recent)["value"], values.filter(is_recent)["value"]
    return (
        (reference, recent) if reference.len() >= LEAST_REFERENCE and recent.len() >= LEAST_RECENT else None
    )


def _compared(figure: Figure, of: str, reference: pl.Series, recent: pl.Series) -> list[dict[str, object]]:
    figures = (population_stability_index(reference, recent), kolmogorov_smirnov(reference, recent))
    limits = (figure.most_psi, figure.most_ks)
    return [
        {
            "table": figure.table,
            "subject": f"{of} {figure.name}, {statistic}",
            "measured": figure_,
            "limit": limit,
            "summary": f"{of}: {figure.name} of the last {RECENT.days} days against {REFERENCE.days} before: "
            f"{statistic} {figure_:.3g} (median {_median(recent)}, was {_median(reference)})",
        }
        for statistic, figure_, limit in zip(_STATISTICS, figures, limits, strict=True)
    ]


def _median(sample: pl.Series) -> str:
    return f"{float(sample.median() or 0.0):.3g}"  # type: ignore[arg-type] # of a float series a float


MONITOR = Monitor(
    name="drift",
    doc=f"Returns, volumes and spreads of the last {RECENT.days} days are distributed as in those before.",
    unit="statistic",
    severity="warning",
    look=look,
)
