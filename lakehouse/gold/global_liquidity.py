"""gold.global_liquidity: dollar, euro and yen credit to non-banks outside those currency areas, and their sum.

From the BIS global liquidity indicators (data set WS_GLI; method in R. N. McCauley, P. McGuire and V. Sushko, Global
dollar credit: links to US monetary policy and leverage, Economic Policy 30, 2015, and the BIS's notes to the data
set). The series are listed in SERIES, by their whole keys: codes contain each other (3P holds 4T holds countries;
B is G plus D), so nothing is found by a pattern and nothing is added up but what is disjoint: the three currencies of
denomination. That credit B is loans G plus debt securities D is checked in every row.

What is in another currency than the dollar is converted with the rate of the quarter's last trading day (Federal
Reserve H.10, as FRED gives it), in the vintage known when the row was. Growth of the sum therefore holds the moves of
exchange rates; growth of each currency, in that currency, does not.

The BIS's own growth rates (unit 771) are adjusted for breaks and exchange rates and cannot be had from levels: they
stand beside ours, with the difference. Ours is null across a break (status B).

The BIS keeps no vintages: known_at is the usual publication lag after the quarter, and the receipt for what it revised.

A change of one of the series dirties the quarters of the ten years after it, over which growth is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce

import polars as pl

from lakehouse.asof import MOMENT, drop_repeats, join_known, newest_events
from lakehouse.contract import UTC_US, Column, Table
from lakehouse.fields import EVENT_AT, INGESTED_AT, KNOWN_AT, VALUE
from lakehouse.gold.macro_panel import BREAK, ZSCORE_FIGURES, ZSCORE_YEARS
from lakehouse.model import Inputs, Model, Reach, Row

ALL = "all"

PARTS_TOLERANCE = 1e-6
"""Parts are rounded to thousandths of a million in totals of 10^5 millions and more: what is beyond is no rounding."""


@dataclass(frozen=True, kw_only=True)
class Credit:
    """The series of one currency of denomination: amounts in that currency, growth in percent."""

    currency: str
    credit: str
    loans: str
    debt_securities: str
    bis_growth: str

    @property
    def series(self) -> Mapping[str, str]:
        """Series id -> the column that it fills."""
        return {
            self.credit: "credit",
            self.loans: "loans",
            self.debt_securities: "debt_securities",
            self.bis_growth: "bis_yoy_growth",
        }


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A daily exchange rate of FRED; `is_inverse` for units of the currency a dollar."""

    currency: str
    series_id: str
    is_inverse: bool


SERIES = (
    Credit(
        currency="USD",
        credit="WS_GLI/Q.USD.3P.N.A.I.B.USD",
        loans="WS_GLI/Q.USD.3P.N.B.I.G.USD",
        debt_securities="WS_GLI/Q.USD.3P.N.A.I.D.USD",
        bis_growth="WS_GLI/Q.USD.3P.N.A.I.B.771",
    ),
    Credit(
        currency="EUR",
        credit="WS_GLI/Q.EUR.3P.N.A.I.B.EUR",
        loans="WS_GLI/Q.EUR.3P.N.B.I.G.EUR",
        debt_securities="WS_GLI/Q.EUR.3P.N.A.I.D.EUR",
        bis_growth="WS_GLI/Q.EUR.3P.N.A.I.B.771",
    ),
    Credit(
        currency="JPY",
        credit="WS_GLI/Q.JPY.3P.N.A.I.B.JPY",
        loans="WS_GLI/Q.JPY.3P.N.B.I.G.JPY",
        debt_securities="WS_GLI/Q.JPY.3P.N.A.I.D.JPY",
        bis_growth="WS_GLI/Q.JPY.3P.N.A.I.B.771",
    ),
)
RATES = (
    Rate(currency="EUR", series_id="DEXUSEU", is_inverse=False),
    Rate(currency="JPY", series_id="DEXJPUS", is_inverse=True),
)
RATE_AGE = timedelta(days=8)
"""A quarter's last rate is at most a long weekend old."""

_RATIO = VALUE.but(unit="ratio")
_AMOUNT = VALUE.but(unit="the currency; USD for all")

TABLE = Table(
    name="gold.global_liquidity",
    doc="Credit to non-banks outside the currency area, by currency and quarter, in all versions that were known.",
    columns=(
        Column(
            name="currency",
            dtype=pl.String(),
            values=(*(one.currency for one in SERIES), ALL),
            doc=f"Currency that the credit is denominated in; {ALL}: the three together.",
        ),
        EVENT_AT.but(doc="End of the quarter; amounts are those of its last day."),
        KNOWN_AT,
        INGESTED_AT.but(doc="When the last figure of the row reached this lake."),
        _AMOUNT.but(
            name="credit",
            nullable=False,
            doc="Loans and debt securities (BIS instrument B); for all, in USD.",
        ),
        _AMOUNT.but(name="loans", doc="Bank loans (G); null where not known, and for all."),
        _AMOUNT.but(name="debt_securities", doc="Debt securities (D); null where not known, and for all."),
        _RATIO.but(name="parts_gap", doc="(loans + debt_securities) / credit, less 1: 0 but for rounding."),
        Column(
            name="parts_agree",
            dtype=pl.Boolean(),
            nullable=True,
            doc=f"Whether the parts make up the whole, within {PARTS_TOLERANCE:g}; null without both.",
        ),
        VALUE.but(
            name="usd_rate", unit="USD", doc="Dollars for one unit of the currency at the quarter's end."
        ),
        _AMOUNT.but(name="credit_usd", unit="USD", doc="credit times usd_rate."),
        _RATIO.but(
            name="yoy_growth",
            doc="credit over that of the quarter a year before, less 1; null across a break.",
        ),
        _RATIO.but(
            name="bis_yoy_growth", doc="The BIS's own, adjusted for breaks and exchange rates; null for all."
        ),
        _RATIO.but(name="growth_gap", doc="yoy_growth less bis_yoy_growth: what the BIS adjusts for."),
        VALUE.but(
            name="yoy_growth_zscore",
            unit="standard deviations",
            doc=f"yoy_growth against the {ZSCORE_YEARS} years before it as known then; null with fewer than "
            f"{ZSCORE_FIGURES} quarters.",
        ),
    ),
    key=("currency", "event_at", "known_at"),
    subject=("currency",),
    owner="macro",
)

_QUARTER = ("currency", "event_at")
_HISTORY = timedelta(days=366 * (ZSCORE_YEARS + 2))


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.global_liquidity from all rows of silver.observations."""
    observations = inputs["silver.observations"]
    levels = _levels(_figures(observations), _rates(observations)).cache()
    levels = pl.concat([levels, _all_of_them(levels)], how="diagonal").cache()
    rows = _with_zscore(_with_growth(levels)).with_columns(
        parts_gap=_PARTS_GAP,
        parts_agree=_PARTS_GAP.abs() <= PARTS_TOLERANCE,
        growth_gap=pl.col("yoy_growth") - pl.col("bis_yoy_growth"),
    )
    return drop_repeats(
        rows.select(TABLE.schema.names()), identity=TABLE.identity, contents=(*TABLE.contents,)
    )


_PARTS_GAP = (pl.col("loans") + pl.col("debt_securities")) / pl.col("credit") - 1


def _figures(observations: pl.LazyFrame) -> pl.LazyFrame:
    """Every version of every figure of SERIES: currency, event_at, column, figure, is_break, known_at, ingested_at."""
    named = pl.LazyFrame(
        [(s, one.currency, column) for one in SERIES for s, column in one.series.items()],
        schema=["series_id", "currency", "column"],
        orient="row",
    )
    amount = pl.col("value") * pl.lit(10.0).pow(pl.col("unit_multiplier"))
    is_percent = pl.col("column") == "bis_yoy_growth"
    return (
        observations.filter(_IS_CREDIT)
        .join(named, on="series_id")
        .select(
            *_QUARTER,
            "column",
            "known_at",
            "ingested_at",
            pl.when(is_percent).then(amount / 100).otherwise(amount).alias("figure"),
            (pl.col("status") == BREAK).fill_null(value=False).alias("is_break"),
        )
    )


def _rates(observations: pl.LazyFrame) -> pl.LazyFrame:
    """What was told of the last rate of each quarter: currency, event_at (the quarter's end), usd_rate and clocks."""
    named = pl.LazyFrame(
        [(rate.series_id, rate.currency, rate.is_inverse) for rate in RATES],
        schema={"series_id": pl.String, "currency": pl.String, "is_inverse": pl.Boolean},
        orient="row",
    )
    a_moment = timedelta(microseconds=1)
    quarter_end = (pl.col("event_at") - a_moment).dt.truncate("1q").dt.offset_by("1q")
    told = (
        observations.filter(_IS_RATE, pl.col("value") > 0)
        .join(named, on="series_id")
        .with_columns(
            quarter_end=quarter_end,
            usd_rate=pl.when("is_inverse").then(1 / pl.col("value")).otherwise("value"),
        )
        .filter(pl.col("event_at") > pl.col("quarter_end") - RATE_AGE)
    )
    return newest_events(told, by=("currency", "quarter_end")).select(
        "currency",
        "event_at",
        "quarter_end",
        "usd_rate",
        "known_at",
        "ingested_at",
    )


def _levels(figures: pl.LazyFrame, rates: pl.LazyFrame) -> pl.LazyFrame:
    """Each quarter of each currency at each moment at which one of its figures, or its rate, became known."""
    told = figures.select(*_QUARTER, "known_at")
    rated = rates.select("currency", event_at="quarter_end", known_at="known_at")
    moments = pl.concat([told, rated]).unique()
    rows = moments
    for column in ("credit", "loans", "debt_securities", "bis_yoy_growth"):
        taken = {"figure": column, "is_break": f"{column}_break", "ingested_at": f"{column}_ingested_at"}
        rows = join_known(
            rows,
            figures.filter(pl.col("column") == column),
            at="known_at",
            by={name: name for name in _QUARTER},
            columns=taken,
        )
    rows = join_known(
        rows,
        rates,
        at="known_at",
        by={"currency": "currency", "event_at": "quarter_end"},
        columns={"usd_rate": "usd_rate", "ingested_at": "usd_rate_ingested_at"},
    )
    usd_rate = pl.when(pl.col("currency") == "USD").then(1.0).otherwise("usd_rate")
    return (
        rows.drop_nulls("credit")
        .with_columns(
            usd_rate=usd_rate,
            ingested_at=pl.max_horizontal(pl.col("^.*_ingested_at$")),
            is_break=pl.col("credit_break"),
        )
        .with_columns(credit_usd=pl.col("credit") * pl.col("usd_rate"))
        .select(
            *_QUARTER,
            "known_at",
            "ingested_at",
            "credit",
            "loans",
            "debt_securities",
            "bis_yoy_growth",
            "usd_rate",
            "credit_usd",
            "is_break",
        )
    )


def _all_of_them(levels: pl.LazyFrame) -> pl.LazyFrame:
    """The sum in dollars of each quarter whose every currency was known, at each moment at which one changed."""
    moments = levels.select("event_at", "known_at").unique()
    taken = ("credit_usd", "is_break", "ingested_at")

    def with_currency(rows: pl.LazyFrame, one: Credit) -> pl.LazyFrame:
        of_it = levels.filter(pl.col("currency") == one.currency)
        columns = {name: f"{one.currency}_{name}" for name in taken}
        return join_known(rows, of_it, at="known_at", by={"event_at": "event_at"}, columns=columns)

    rows = reduce(with_currency, SERIES, moments)
    currencies = [one.currency for one in SERIES]
    total = reduce(pl.Expr.add, (pl.col(f"{currency}_credit_usd") for currency in currencies))
    return rows.select(
        pl.lit(ALL).alias("currency"),
        "event_at",
        "known_at",
        pl.max_horizontal(f"{currency}_ingested_at" for currency in currencies).alias("ingested_at"),
        total.alias("credit"),
        pl.lit(1.0).alias("usd_rate"),
        total.alias("credit_usd"),
        pl.any_horizontal(f"{currency}_is_break" for currency in currencies).alias("is_break"),
    ).drop_nulls("credit")


def _with_growth(levels: pl.LazyFrame) -> pl.LazyFrame:
    """Each row with growth over the year as known then; what the year before was revised to is a row too."""
    year_after = pl.col("event_at").dt.offset_by("1y")
    later = levels.select("currency", year_after, "known_at")
    moments = pl.concat([levels.select(*_QUARTER, "known_at"), later]).unique()
    by = {name: name for name in _QUARTER}
    now = {name: name for name in levels.collect_schema().names() if name not in (*_QUARTER, "known_at")}
    rows = join_known(moments, levels, at="known_at", by=by, columns=now).drop_nulls("credit")
    before = join_known(
        rows.with_columns(year_before=pl.col("event_at").dt.offset_by("-1y")),
        levels,
        at="known_at",
        by={"currency": "currency", "year_before": "event_at"},
        columns={"credit": "year_ago", "ingested_at": "year_ago_ingested_at"},
    )
    broken = _breaks_within_a_year(levels, before)
    growth = pl.when(pl.col("year_ago") > 0, ~pl.col("is_broken")).then(
        pl.col("credit") / pl.col("year_ago") - 1
    )
    return before.join(broken, on=[*_QUARTER, "known_at"]).with_columns(
        yoy_growth=growth,
        ingested_at=pl.max_horizontal("ingested_at", "year_ago_ingested_at"),
    )


def _breaks_within_a_year(levels: pl.LazyFrame, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Whether one of a row's last four quarters was marked as a break, as known then."""
    quarters = rows.select(*_QUARTER, "known_at").with_columns(
        quarter=pl.concat_list(pl.col("event_at").dt.offset_by(f"-{months}mo") for months in (0, 3, 6, 9))
    )
    known = join_known(
        quarters.explode("quarter"),
        levels,
        at="known_at",
        by={"currency": "currency", "quarter": "event_at"},
        columns={"is_break": "is_break"},
    )
    return known.group_by(*_QUARTER, "known_at").agg(is_broken=pl.col("is_break").any())


def _with_zscore(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Each row against the growth rates of the quarters before it, each in the version known then."""
    moment = ("currency", "until", MOMENT)
    moments = rows.select("currency", until="event_at", **{MOMENT: pl.col("known_at")})
    earlier = rows.select(*_QUARTER, "known_at", "yoy_growth").join(moments, on="currency")
    earliest = pl.col("until").dt.offset_by(f"-{ZSCORE_YEARS}y")
    is_before = (pl.col("event_at") >= earliest) & (pl.col("event_at") < pl.col("until"))
    known = (
        earlier.filter(is_before, pl.col("known_at") <= pl.col(MOMENT))
        .group_by(*moment, "event_at")
        .agg(pl.col("yoy_growth").max_by("known_at"))
        .drop_nulls("yoy_growth")
        .group_by(moment)
        .agg(
            figures=pl.len(),
            mean=pl.col("yoy_growth").sort_by("event_at").mean(),
            deviation=pl.col("yoy_growth").sort_by("event_at").std(),
        )
        .rename({"until": "event_at", MOMENT: "known_at"})
    )
    score = (pl.col("yoy_growth") - pl.col("mean")) / pl.col("deviation")
    is_enough = (pl.col("figures") >= ZSCORE_FIGURES) & (pl.col("deviation") > 0)
    return rows.join(known, on=[*_QUARTER, "known_at"], how="left").with_columns(
        yoy_growth_zscore=pl.when(is_enough).then(score)
    )


_CREDIT_SERIES = [s for one in SERIES for s in one.series]
_IS_CREDIT = (pl.col("provider") == "bis") & pl.col("series_id").is_in(_CREDIT_SERIES)
_IS_RATE = (pl.col("provider") == "fred") & pl.col("series_id").is_in([rate.series_id for rate in RATES])


def _figures_of(row: Row, observations: pl.LazyFrame) -> pl.LazyFrame:
    """The figures of the quarter and of that a year before, and the rates at their ends."""
    quarters = pl.Series([row["event_at"]], dtype=UTC_US)
    quarters = quarters.append(quarters.dt.offset_by("-1y"))
    ends = [pl.col("event_at").is_between(end - RATE_AGE, end) for end in quarters]
    currencies = [one for one in SERIES if row["currency"] in (one.currency, ALL)]
    of_it = pl.col("series_id").is_in(_series_of(currencies))
    return observations.filter(of_it, pl.any_horizontal(ends))


def _series_of(currencies: Sequence[Credit]) -> list[str]:
    rates = [rate.series_id for rate in RATES if rate.currency in {one.currency for one in currencies}]
    return [*(s for one in currencies for s in one.series), *rates]


MODEL = Model(
    table=TABLE,
    groups=(),
    clock="event_at",
    reaches=(
        Reach(
            input="silver.observations",
            before=_HISTORY,
            where=_IS_CREDIT | _IS_RATE,
            made_of=_figures_of,
        ),
    ),
    build=build,
)
