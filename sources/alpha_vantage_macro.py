"""Alpha Vantage (https://www.alphavantage.co/documentation/#economic-indicators): macro series and commodity prices.

How it is asked: alpha_vantage_answers. Quirks that this module answers for:
- Copies of FRED without vintages or release dates: `known_at` is estimated (`known_at_basis`), and a value that was
  revised before it came here is shown as it is now. As a source of what was known when, use FRED.
- The whole series comes whatever the window, newest first. `.` is a missing value.
- The CSV says neither unit nor interval. Units are those of the series on FRED that the documentation names; the base
  year of chained dollars moves with each benchmark revision and is not said.
- Stamps are the first day of a month, quarter or year. Those of a week are its last day on FRED; no answer by weeks
  has been seen, so a weekly value is taken to be known a week later than that, when it would be in either case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.coverage import Asked, Claim
from lakehouse.errors import unknown
from lakehouse.silver import observations
from lakehouse.window import Window
from sources.alpha_vantage_answers import KEY_SETTING, KEY_URL, PROVIDER, ask, csv, joined, midnight, quota
from sources.client import Client
from sources.feed import Feed
from sources.proofs import told_until

FEED = "alphavantage_macro"

_PERIOD = {
    "daily": "1d",
    "monthly": "1mo",
    "quarterly": "1q",
    "semiannual": "6mo",
    "annual": "1y",
}
_LONGEST = {
    "daily": timedelta(days=5),
    "weekly": timedelta(days=14),
    "monthly": timedelta(days=31),
    "quarterly": timedelta(days=92),
    "semiannual": timedelta(days=184),
    "annual": timedelta(days=366),
}


@dataclass(frozen=True, kw_only=True)
class Macro:
    """How one series is asked for, what its values are in, and how long after its period they are usually out."""

    function: str
    interval: str
    unit: str
    lag: timedelta
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Function:
    """One function; the first interval is what a subject without one means. `lags` are in days, by interval."""

    name: str
    unit: str
    lags: Mapping[str, int]
    maturities: tuple[str, ...] = ()
    says_interval: bool = True
    """Whether the function takes the parameter `interval`."""

    def series(self) -> Iterator[tuple[str, Macro]]:
        """The series of this function by their subjects: `WTI`, `WTI@daily`, `TREASURY_YIELD:2year@weekly`."""
        for interval, days in self.lags.items():
            suffix = "" if interval == next(iter(self.lags)) else f"@{interval}"
            for maturity in self.maturities or ("",):
                asked = {"interval": interval} if self.says_interval else {}
                name = f"{self.name}:{maturity}" if maturity else self.name
                yield (
                    f"{name}{suffix}",
                    Macro(
                        function=self.name,
                        interval=interval,
                        unit=self.unit,
                        lag=timedelta(days=days),
                        parameters={**asked, **({"maturity": maturity} if maturity else {})},
                    ),
                )


_RATES = {"monthly": 3, "weekly": 4, "daily": 4}
_ENERGY = {"monthly": 10, "weekly": 8, "daily": 8}
_PRICES = {"monthly": 47, "quarterly": 47, "annual": 47}
"""The values of April were not out on 17 May 2026, those of March were."""

FUNCTIONS = (
    Function(name="REAL_GDP", unit="billions of chained dollars", lags={"annual": 90, "quarterly": 31}),
    Function(name="REAL_GDP_PER_CAPITA", unit="chained dollars", lags={"quarterly": 61}, says_interval=False),
    Function(
        name="TREASURY_YIELD",
        unit="percent",
        lags=_RATES,
        maturities=("3month", "2year", "5year", "7year", "10year", "30year"),
    ),
    Function(name="FEDERAL_FUNDS_RATE", unit="percent", lags=_RATES),
    Function(name="CPI", unit="index 1982-1984=100", lags={"monthly": 16, "semiannual": 16}),
    Function(name="INFLATION", unit="percent", lags={"annual": 200}, says_interval=False),
    Function(name="RETAIL_SALES", unit="millions of dollars", lags={"monthly": 18}, says_interval=False),
    Function(name="DURABLES", unit="millions of dollars", lags={"monthly": 35}, says_interval=False),
    Function(name="UNEMPLOYMENT", unit="percent", lags={"monthly": 10}, says_interval=False),
    Function(name="NONFARM_PAYROLL", unit="thousands of persons", lags={"monthly": 10}, says_interval=False),
    Function(name="WTI", unit="dollars per barrel", lags=_ENERGY),
    Function(name="BRENT", unit="dollars per barrel", lags=_ENERGY),
    Function(name="NATURAL_GAS", unit="dollars per million BTU", lags=_ENERGY),
    Function(name="COPPER", unit="dollars per metric ton", lags=_PRICES),
    Function(name="ALUMINUM", unit="dollars per metric ton", lags=_PRICES),
    Function(name="WHEAT", unit="dollars per metric ton", lags=_PRICES),
    Function(name="CORN", unit="dollars per metric ton", lags=_PRICES),
    Function(name="COTTON", unit="cents per pound", lags=_PRICES),
    Function(name="SUGAR", unit="cents per pound", lags=_PRICES),
    Function(name="COFFEE", unit="cents per pound", lags=_PRICES),
    Function(name="ALL_COMMODITIES", unit="index 2016=100", lags=_PRICES),
)
_SERIES = {subject: macro for function in FUNCTIONS for subject, macro in function.series()}
MACRO: Mapping[str, Macro] = {**_SERIES, "TREASURY_YIELD": _SERIES["TREASURY_YIELD:10year"]}
"""Every series by its subject, which is its id in silver too."""


def fetch_macro(client: Client, subject: str, _window: Window) -> Iterator[Page]:
    """One page: the whole series whatever the window, because old values are revised."""
    macro = _macro(subject)
    params = {"function": macro.function, **macro.parameters}
    yield ask(client, params, feed=FEED, subject=subject, window=None, sequence=0)


def parse_macro(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.observations; `.` is a null value.

    Raises ParseError for a page that is not the CSV of its series.
    """
    return joined(observations.TABLE, [_observations(page) for page in pages.iter_rows(named=True)])


def prove_macro(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """Whole up to the newest value; the next one is due after its period and the usual lag."""
    macro = _macro(asked.subject)
    why = "what a value was between two fetches: revisions overwrite it"
    return told_until(_LONGEST[macro.interval] + macro.lag, cannot_show=why)(asked, pages, rows)


def _macro(subject: str) -> Macro:
    if subject not in MACRO:
        raise unknown(f"subject of {FEED}", subject, MACRO)
    return MACRO[subject]


def _observations(page: Mapping[str, Any]) -> pl.LazyFrame:
    macro = _macro(page["subject"])
    stamp = pl.col("timestamp").str.to_date("%Y-%m-%d", strict=False)
    start, end, known_from = _period(stamp, macro.interval)
    rows = csv(page, ("timestamp", "value")).with_columns(
        period_start=start, event_at=midnight(end, "UTC"), known_from=midnight(known_from, "UTC")
    )
    return rows.with_columns(
        series_id=pl.lit(page["subject"]),
        known_at=pl.min_horizontal(pl.col("known_from") + macro.lag, "ingested_at"),
        known_at_basis=pl.lit("estimated"),
        value=pl.when(pl.col("value") != ".").then("value"),
        unit=pl.lit(macro.unit),
        unit_multiplier=pl.lit(0, pl.Int64),
    ).drop("known_from")


def _period(stamp: pl.Expr, interval: str) -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """First day, first day after, and the day from which the lag is counted."""
    if interval == "weekly":
        return stamp.dt.offset_by("-6d"), stamp.dt.offset_by("1d"), stamp.dt.offset_by("1w")
    end = stamp.dt.offset_by(_PERIOD[interval])
    return stamp, end, end


def _about(subject: str) -> list[dict[str, str]]:
    return [{"provider": PROVIDER, "series_id": subject}]


FEEDS = (
    Feed(
        name=FEED,
        provider=PROVIDER,
        doc="US macro series and commodity prices, whole history at each fetch, without vintages.",
        table=observations.TABLE,
        subjects="function[:maturity][@interval]: CPI, REAL_GDP@quarterly, TREASURY_YIELD:2year@daily, WTI@weekly, "
        f"COPPER; functions: {', '.join(function.name for function in FUNCTIONS)}",
        fetch=fetch_macro,
        parse=parse_macro,
        proof=prove_macro,
        about=_about,
        cost=lambda _subject, _window: 1,
        paging="one answer",
        quota=quota,
        key_setting=KEY_SETTING,
        key_url=KEY_URL,
        documentation="https://www.alphavantage.co/documentation/#economic-indicators",
    ),
)
