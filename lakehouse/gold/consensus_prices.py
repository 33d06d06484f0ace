"""gold.consensus_prices: one price a minute for each spot market, over all venues that traded it.

The calculation follows the Real-Time Reference Rates Methodology of Coin Metrics (section Calculation Algorithm), today
part of docs.coinmetrics.io/market-data/methodologies/coin-metrics-prices-methodology, whose later changes are not
followed: a venue's weight is the mean of its share of volume and of its share of inverse price variance, and the rate
is the price at the 50th percentile of weight, prices in rising order. What is otherwise here, because bars are at hand
and not that methodology's own selection of markets and trades:

- A venue's price is the minute's vwap, where the bar has none its close; a venue that did not trade within the minute
  has no price (there: its last trade of 60 minutes).
- Weights are set anew at each full hour, from the minute bars of the hour before as they were known then (there: of
  the 60 minutes before). So a weight never hangs on the minute it weighs, and is never restated. Variance is the mean
  squared distance, relative, of a venue's minute prices from the mean of all venues' minute prices (there: of trades).
  As there, a variance of zero counts as unknown and weighs nothing.
- Where no venue has a variance volume alone weighs, where none has a volume that of the minute itself, then all alike;
  `weighting` says which it was.
- Between two prices that have half the weight each, the lower one is taken.
- Venues whose price is far from the median of all are flagged and left out (`OUTLIER`). Distance is measured in
  scaled median absolute deviations (F. R. Hampel, The influence curve and its role in robust estimation, Journal of the
  American Statistical Association 69, 1974) and in bps of the median; both must be exceeded, since venues that agree to
  the tick have next to no deviation.

Markets of one notation are one market: ccxt gives different coins different codes. Quotes are kept apart: BTC/USDT is
not BTC/USD, and nothing is converted.

A change of gold.candles dirties its minute, and the minutes of the next hour, whose weights it may change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

from lakehouse.asof import MOMENT, drop_repeats, versions_at
from lakehouse.contract import Column, Table
from lakehouse.exact import AMOUNT_DECIMALS, PRODUCT_DECIMALS, exact, inexact
from lakehouse.expects import Level, Levels
from lakehouse.fields import CLOSE, EVENT_AT, INGESTED_AT, INSTRUMENT_ID, KNOWN_AT, OPEN_AT, VOLUME
from lakehouse.gold import candles
from lakehouse.model import Inputs, Model, Reach, Row


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """From when on a venue's price is one: further than both from the median of at least so many venues."""

    deviations: float
    """Scaled median absolute deviations; times 1.4826 one is a standard deviation of normal errors."""
    bps: float
    venues: int


OUTLIER = Outlier(deviations=5.0, bps=25.0, venues=3)

_NORMAL = 1.4826
_HOUR = timedelta(hours=1)
_HALF = 0.5 - 1e-9
"""Shares that are half but for rounding count as half."""

_MARKET = ("instrument_id",)
_MINUTE = ("instrument_id", "open_at", "event_at")
_IS_SPOT = pl.col("instrument_id").str.contains(r"^[^/:]+/[^/:]+$")
_IS_OURS = (pl.col("interval") == "1m") & _IS_SPOT & candles.COMPLETE
_VENUES = pl.List(pl.String())
_LISTED = ("venue", "price", "volume", "hour_volume", "precision")
_WEIGHTINGS = ("volume_and_variance", "volume", "minute_volume", "equal")

TABLE = Table(
    name="gold.consensus_prices",
    doc="The price of each spot market and minute over all venues, with the venues that it is made of.",
    columns=(
        INSTRUMENT_ID.but(doc="The market in ccxt's notation, the same on all venues: BTC/USD, BTC/USDT."),
        Column(name="base", dtype=pl.String(), doc="Asset that is bought and sold, by ccxt's code."),
        Column(
            name="quote",
            dtype=pl.String(),
            doc="Asset that prices are in, by ccxt's code; stablecoins are themselves.",
        ),
        OPEN_AT.but(doc="First moment of the minute; event_at is its end."),
        EVENT_AT.but(doc="End of the minute: the first moment that is no longer in it."),
        KNOWN_AT.but(doc="When the venues' bars were known to be these."),
        INGESTED_AT.but(doc="When the last thing that the price was made from reached this lake."),
        CLOSE.but(name="price", doc="Weighted median of the venues' prices."),
        VOLUME.but(
            unit="base",
            nullable=True,
            doc="Amount traded in the minute on the venues in `venues`; null where one of them does not say it.",
        ),
        Column(
            name="dispersion_bps",
            dtype=pl.Float64(),
            unit="bps of the price",
            lower=0,
            nullable=True,
            doc="Weighted root mean square distance of the venues' prices from the price; null for a single venue.",
        ),
        Column(name="venue_count", dtype=pl.Int64(), lower=1, doc="Number of venues in `venues`."),
        Column(
            name="venues",
            dtype=_VENUES,
            doc="Venues whose price was used, from A to Z; one without trades in the hour before weighs nothing.",
        ),
        Column(
            name="outlier_venues",
            dtype=_VENUES,
            doc="Venues left out because their price is too far from the median, from A to Z.",
        ),
        Column(
            name="weighting",
            dtype=pl.String(),
            values=_WEIGHTINGS,
            doc="What weights the venues: volume and inverse variance of the hour before; volume alone; volume of the "
            "minute; nothing.",
        ),
    ),
    key=("instrument_id", "open_at", "known_at"),
    subject=("instrument_id",),
    owner="market-data",
    expects=(
        Levels(
            name="venues_agree",
            meaning="The venues that make a price are usually within 2% of it",
            value="dispersion_bps",
            subject=("instrument_id",),
            bounds=(Level(starts="", lower=0, upper=200),),
        ),
    ),
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.consensus_prices from all rows of gold.candles."""
    prices = _prices(inputs["gold.candles"])
    moments = prices.select(*_MINUTE, pl.col("known_at").alias(MOMENT)).unique()
    known = versions_at(prices, moments, on=_MINUTE, fact=("venue",)).with_columns(hour=_hour())
    weighed = known.join(_weights(prices), on=[*_MARKET, "hour", "venue"], how="left")
    rows = _medians(_by_minute(weighed)).rename({MOMENT: "known_at"})
    return drop_repeats(rows.select(TABLE.schema.names()), identity=TABLE.identity, contents=TABLE.contents)


def _prices(bars: pl.LazyFrame) -> pl.LazyFrame:
    """What each venue's minute bars say; bars without trades say nothing."""
    price = pl.coalesce("vwap", "close")
    is_traded = (pl.col("volume") > 0).fill_null(value=True) & (price > 0)
    in_base = pl.when(pl.col("volume_unit") == "base").then("volume")
    return bars.filter(_IS_OURS & is_traded).select(
        *_MINUTE, "venue", "known_at", "ingested_at", price=price, volume=in_base
    )


def _hour() -> pl.Expr:
    return pl.col("open_at").dt.truncate("1h")


def _weights(prices: pl.LazyFrame) -> pl.LazyFrame:
    """For each market, hour and venue what weighs it in that hour: `hour_volume`, `precision`, both of the hour before.

    Sums are exact, so that the order of rows does not show in them.
    """
    in_time = prices.with_columns(hour=_hour() + _HOUR).filter(pl.col("known_at") <= pl.col("hour"))
    settled = in_time.group_by(*_MINUTE, "hour", "venue").agg(pl.all().max_by("known_at"))
    price = exact(pl.col("price"), decimals=AMOUNT_DECIMALS)
    means = settled.group_by(*_MARKET, "hour").agg(mean=inexact(price.sum()) / pl.len())
    squared = exact((pl.col("price") / pl.col("mean") - 1) ** 2, decimals=PRODUCT_DECIMALS)
    variance = inexact(squared.sum()) / pl.len()
    return (
        settled.join(means, on=[*_MARKET, "hour"])
        .group_by(*_MARKET, "hour", "venue")
        .agg(
            hour_volume=inexact(exact(pl.col("volume"), decimals=AMOUNT_DECIMALS).sum()),
            precision=pl.when(variance > 0).then(1 / variance),
            hour_ingested_at=pl.col("ingested_at").max(),
        )
    )


def _by_minute(weighed: pl.LazyFrame) -> pl.LazyFrame:
    """One row a minute and moment, with lists of what each venue says, in rising order of price."""
    listed = pl.col(*_LISTED).sort_by("price", "venue").name.suffix("s")
    latest = pl.max_horizontal("ingested_at", "hour_ingested_at").max().alias("ingested_at")
    return weighed.group_by(*_MINUTE, MOMENT).agg(listed, latest)


def _medians(minutes: pl.LazyFrame) -> pl.LazyFrame:
    used = minutes.with_columns(excess=_excess()).with_columns(
        outlier_venues=_chosen("venues", pl.element() > 0).list.sort(),
        **{f"{name}s": _chosen(f"{name}s", pl.element() <= 0) for name in _LISTED},
    )
    weighted = used.with_columns(**_shares()).with_columns(
        shares=pl.coalesce(_WEIGHTINGS),
        weighting=pl.coalesce(pl.when(pl.col(name).is_not_null()).then(pl.lit(name)) for name in _WEIGHTINGS),
    )
    priced = weighted.with_columns(price=_weighted_median())
    notation = pl.col("instrument_id").str.split("/")
    squares = ((pl.col("prices") / pl.col("price") - 1) * 1e4).list.eval(pl.element() ** 2)
    has_all = ~pl.col("volumes").list.eval(pl.element().is_null()).list.any()
    return priced.with_columns(
        pl.col("venues").list.sort(),
        base=notation.list.first(),
        quote=notation.list.last(),
        venue_count=_count(),
        volume=pl.when(has_all).then(pl.col("volumes").list.sum()),
        dispersion_bps=pl.when(_count() > 1).then((pl.col("shares") * squares).list.sum().sqrt()),
    )


def _excess() -> pl.Expr:
    """By how many bps each price is further from the median than is still usual."""
    distance = ((pl.col("prices") / pl.col("prices").list.median() - 1) * 1e4).list.eval(pl.element().abs())
    usual = distance.list.median() * _NORMAL * OUTLIER.deviations
    limit = pl.when(_count() >= OUTLIER.venues).then(pl.max_horizontal(usual, OUTLIER.bps))
    return distance - limit.fill_null(float("inf"))


def _chosen(listed: str, test: pl.Expr) -> pl.Expr:
    """Those of a list for which the test of `excess` holds."""
    return pl.col(listed).list.gather(pl.col("excess").list.eval(test.arg_true()))


def _shares() -> dict[str, pl.Expr]:
    """The venues' weights by each weighting, which sum to one; null where it cannot be told."""
    by_volume, by_precision = _share("hour_volumes"), _share("precisions")
    return {
        "volume_and_variance": (by_volume + by_precision) / 2,
        "volume": by_volume,
        "minute_volume": _share("volumes"),
        "equal": pl.col("prices").list.eval(pl.element() * 0 + 1) / _count(),
    }


def _share(listed: str) -> pl.Expr:
    known = pl.col(listed).list.eval(pl.element().fill_null(0.0))
    total = known.list.sum()
    return pl.when(total > 0).then(known / total)


def _weighted_median() -> pl.Expr:
    so_far = pl.col("shares").list.eval(pl.element().cum_sum())
    reaches_half = so_far.list.eval((pl.element() >= _HALF).cast(pl.UInt8))
    return pl.col("prices").list.get(reaches_half.list.arg_max())


def _count() -> pl.Expr:
    return pl.col("prices").list.len().cast(pl.Int64)


def _bars_of_the_minute(row: Row, bars: pl.LazyFrame) -> pl.LazyFrame:
    """The bars whose prices were compared; those of the hour before only weigh them."""
    venues = [*row["venues"], *row["outlier_venues"]]
    return bars.filter(pl.col("open_at") == row["open_at"], pl.col("venue").is_in(venues))


MODEL = Model(
    table=TABLE,
    groups=_MARKET,
    clock="open_at",
    reaches=(
        Reach(
            input="gold.candles",
            by={"instrument_id": "instrument_id"},
            at="open_at",
            of="open_at",
            before=_HOUR,
            snap=_HOUR,
            where=_IS_OURS,
            made_of=_bars_of_the_minute,
        ),
    ),
    build=build,
)
