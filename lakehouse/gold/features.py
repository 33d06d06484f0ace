"""gold.features: one wide panel over all providers, a row for each version of an hourly or daily bar.

Nothing in a row was known after the row: each figure from elsewhere is the newest that was known when the bar
became known for the first time, and `<name>_known_at` proves it. A bar restated years later keeps the
surroundings of its own time; only what describes the bar itself (close, return, volatility) follows the
restatement.

Macro figures are taken where their vintage is published. The BIS states no release dates: its figures stand
on the usual publication lag, and its revised history on receipt.

Adding a feature is one entry in FEATURES; `Lake.features` shows it on any grid of times.

A change of gold.candles dirties the row of the bar and of the next; what describes the bar itself dirties the bar's
row; a change of another input dirties, for the bars it is joined to (all, those of one instrument or of one base
asset), the rows known from the change's known_at on, however long after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from lakehouse.asof import drop_repeats, join_known, newest_events
from lakehouse.contract import UTC_US, Column, Table
from lakehouse.fields import CLOSE, EVENT_AT, INGESTED_AT, INSTRUMENT_ID, INTERVAL, KNOWN_AT, VENUE
from lakehouse.gold import candles, global_liquidity
from lakehouse.intervals import LENGTHS
from lakehouse.model import Inputs, Model, Reach, Row

INTERVALS = ("1h", "1d")

_BAR = ("venue", "instrument_id", "interval", "event_at")
_THIS_BAR = {name: name for name in _BAR}
_SUBJECT = ("venue", "instrument_id", "interval")
_THIS_SUBJECT = {name: name for name in _SUBJECT}
_BASE_ASSET = {"base_asset": "asset"}
_INSTRUMENT = {"venue": "venue", "instrument_id": "instrument_id"}
_MARKET = {"instrument_id": "instrument_id"}
BASE_ASSET = pl.col("instrument_id").str.extract(r"^([^/]+)/").str.to_lowercase()


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column: which rows of which table, and what is taken from them.

    `by` maps columns of the grid (those of gold.candles and `base_asset`, the base currency in lower case) to
    columns of the table that must be equal; none for figures that are the same for all instruments. With
    `event_at` in `by` it describes the bar itself. `where` and `by` together must leave one figure for each
    event and version.
    """

    name: str
    doc: str
    unit: str
    table: str
    where: pl.Expr
    value: pl.Expr
    by: Mapping[str, str] = field(default_factory=dict)

    @property
    def describes_bar(self) -> bool:
        """Whether it tells of the bar itself, not of the world around it."""
        return "event_at" in self.by

    @property
    def reach(self) -> Reach:
        """The rows that it can be taken from: the bar's own, or everything known when the bar became known."""
        if self.describes_bar:
            return Reach(input=self.table, by=_THIS_SUBJECT, where=self.where, made_of=self._taken)
        return Reach(
            input=self.table,
            by=self.by,
            at="known_at",
            of="known_at",
            before=None,
            where=self.where,
            made_of=self._taken,
        )

    def _taken(self, row: Row, rows: pl.LazyFrame) -> pl.LazyFrame:
        """The one row that it was taken from: `<name>_known_at` tells when that became known."""
        known_at = pl.lit(row[f"{self.name}_known_at"], UTC_US)
        return rows.filter(pl.col("known_at") == known_at).sort("event_at").tail(1)

    def columns(self) -> tuple[Column, Column]:
        """The value and the proof of when it was known."""
        known_at = Column(
            name=f"{self.name}_known_at",
            dtype=UTC_US,
            unit="UTC",
            nullable=True,
            doc=f"When {self.name} was known; null where nothing was.",
        )
        doc = f"{self.doc} From {self.table}."
        return Column(name=self.name, dtype=pl.Float64(), unit=self.unit, nullable=True, doc=doc), known_at


def _asset_metric(metric: str) -> pl.Expr:
    return (pl.col("metric") == metric) & (pl.col("frequency") == "1d")


def _published(series_id: str) -> pl.Expr:
    return _series("fred", series_id) & (pl.col("known_at_basis") == "published")


def _series(provider: str, series_id: str) -> pl.Expr:
    return (pl.col("provider") == provider) & (pl.col("series_id") == series_id)


def _daily_bar(symbol: str) -> pl.Expr:
    return (
        (pl.col("provider") == "alphavantage") & (pl.col("symbol") == symbol) & (pl.col("interval") == "1d")
    )


_DOLLAR_CREDIT = _series("bis", "WS_GLI/Q.USD.3P.N.A.I.B.USD")
_NO_CHANGE_IN_JUNE = (
    pl.col("question") == "Will there be no change in Fed interest rates after the June 2026 meeting?"
) & (pl.col("outcome") == "Yes")

_HOURLY = pl.col("interval") == "1h"


def _liquidity_of(currency: str) -> pl.Expr:
    return pl.col("currency") == currency


FEATURES = (
    Feature(
        name="volatility_yang_zhang_7",
        doc="Yang-Zhang volatility of the 7 bars that end with this one.",
        unit="log return, annualised",
        table="gold.volatility",
        where=pl.col("window") == 7,
        value=pl.col("yang_zhang"),
        by=_THIS_BAR,
    ),
    Feature(
        name="realised_volatility",
        doc="Realised volatility of the last whole UTC day, from its returns of five minutes.",
        unit="log return, annualised",
        table="gold.realised_volatility",
        where=pl.col("interval") == "5m",
        value=pl.col("realised_volatility"),
        by=_INSTRUMENT,
    ),
    Feature(
        name="consensus_price",
        doc="Price of the market over all venues, in the last minute known.",
        unit="quote",
        table="gold.consensus_prices",
        where=pl.lit(value=True),
        value=pl.col("price"),
        by=_MARKET,
    ),
    Feature(
        name="spread_bps",
        doc="Ask less bid of the last valid book of a minute.",
        unit="bps of the mid",
        table="gold.liquidity",
        where=pl.lit(value=True),
        value=pl.col("spread_bps"),
        by=_INSTRUMENT,
    ),
    Feature(
        name="funding_carry",
        doc="What longs of the contract pay at the rates of the last hour with a settlement.",
        unit="fraction a year",
        table="gold.derivatives",
        where=_HOURLY,
        value=pl.col("funding_carry"),
        by=_INSTRUMENT,
    ),
    Feature(
        name="basis_to_index",
        doc="Price of the contract over the index under it, less 1.",
        unit="ratio",
        table="gold.derivatives",
        where=_HOURLY,
        value=pl.col("basis_to_index"),
        by=_INSTRUMENT,
    ),
    Feature(
        name="open_interest",
        doc="What is open of the contract, as gold.derivatives counts it.",
        unit="base",
        table="gold.derivatives",
        where=_HOURLY,
        value=pl.col("open_interest"),
        by=_INSTRUMENT,
    ),
    Feature(
        name="active_addresses",
        doc="Addresses of the base asset that were active within a day (CoinMetrics AdrActCnt).",
        unit="addresses",
        table="silver.asset_metrics",
        where=_asset_metric("AdrActCnt"),
        value=pl.col("value"),
        by=_BASE_ASSET,
    ),
    Feature(
        name="market_to_realized_value",
        doc="Market over realised capitalisation of the base asset (CoinMetrics CapMVRVCur).",
        unit="ratio",
        table="silver.asset_metrics",
        where=_asset_metric("CapMVRVCur"),
        value=pl.col("value"),
        by=_BASE_ASSET,
    ),
    Feature(
        name="us_gdp_growth",
        doc="Year-on-year growth of US gross domestic product, nominal (FRED GDP).",
        unit="ratio",
        table="gold.macro_panel",
        where=_published("GDP"),
        value=pl.col("yoy_growth"),
    ),
    Feature(
        name="us_10y_yield",
        doc="Yield of ten-year US treasuries (FRED DGS10).",
        unit="percent a year",
        table="gold.macro_panel",
        where=_published("DGS10"),
        value=pl.col("value"),
    ),
    Feature(
        name="dollar_credit",
        doc="Dollar credit to non-banks outside the United States (BIS global liquidity indicators).",
        unit="USD",
        table="gold.macro_panel",
        where=_DOLLAR_CREDIT,
        value=pl.col("value") * pl.lit(10.0).pow(pl.col("unit_multiplier")),
    ),
    Feature(
        name="dollar_credit_growth",
        doc="Year-on-year growth of dollar credit to non-banks outside the United States, null across a break.",
        unit="ratio",
        table="gold.global_liquidity",
        where=_liquidity_of("USD"),
        value=pl.col("yoy_growth"),
    ),
    Feature(
        name="global_credit_growth",
        doc="Year-on-year growth, in dollars, of dollar, euro and yen credit to non-banks outside those areas.",
        unit="ratio",
        table="gold.global_liquidity",
        where=_liquidity_of(global_liquidity.ALL),
        value=pl.col("yoy_growth"),
    ),
    Feature(
        name="eurusd",
        doc="Dollars for one euro at the end of the last day known (AlphaVantage FX_DAILY).",
        unit="USD per EUR",
        table="silver.bars",
        where=_daily_bar("EUR/USD"),
        value=pl.col("close"),
    ),
    Feature(
        name="ibm_close",
        doc="Close of IBM on the last trading day known, as traded (AlphaVantage).",
        unit="USD",
        table="silver.bars",
        where=_daily_bar("IBM"),
        value=pl.col("close"),
    ),
    Feature(
        name="fed_unchanged_june_2026",
        doc="Price of Yes on no change of Fed rates at the June 2026 meeting (Polymarket listing).",
        unit="probability",
        table="silver.prediction_markets",
        where=_NO_CHANGE_IN_JUNE,
        value=pl.col("price"),
    ),
    Feature(
        name="fed_unchanged_june_2026_probability",
        doc="Probability of no change of Fed rates at the June 2026 meeting, the vig removed (Polymarket).",
        unit="probability",
        table="gold.prediction_panel",
        where=_NO_CHANGE_IN_JUNE,
        value=pl.col("probability"),
    ),
)


def table_of(features: Sequence[Feature]) -> Table:
    """The contract of a panel with these features."""
    return Table(
        name="gold.features",
        doc="Bars with what was known of the world when they closed: one column a feature, no look-ahead.",
        columns=(
            VENUE,
            INSTRUMENT_ID,
            INTERVAL.but(values=INTERVALS),
            EVENT_AT.but(doc="End of the bar."),
            KNOWN_AT.but(doc="When this version of the bar was known; nothing in the row was known later."),
            INGESTED_AT.but(doc="When the last thing that the row was made from reached this lake."),
            CLOSE,
            Column(
                name="log_return",
                dtype=pl.Float64(),
                unit="log return",
                nullable=True,
                doc="ln of close over the close of the bar before it, as known then; null after a gap.",
            ),
            *(column for feature in features for column in feature.columns()),
        ),
        key=("venue", "instrument_id", "interval", "event_at", "known_at"),
        subject=("venue", "instrument_id", "interval"),
        owner="research",
    )


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.features from all rows of its inputs."""
    return build_panel(inputs, FEATURES)


def build_panel(inputs: Inputs, features: Sequence[Feature]) -> pl.LazyFrame:
    """The panel of any features whose tables are among the inputs."""
    panel = _grid(inputs["gold.candles"])
    for feature in features:
        panel = _add(panel, feature, inputs[feature.table])
    table = table_of(features)
    return drop_repeats(panel.select(table.schema.names()), identity=table.identity, contents=table.contents)


def _grid(all_candles: pl.LazyFrame) -> pl.LazyFrame:
    bars = all_candles.filter(pl.col("interval").is_in(INTERVALS), candles.COMPLETE)
    before = {
        "venue": "venue",
        "instrument_id": "instrument_id",
        "interval": "interval",
        "open_at": "event_at",
    }
    read = {"close": "previous_close", "ingested_at": "previous_ingested_at"}
    first = bars.group_by(*_BAR).agg(pl.col("known_at").min().alias("first_known_at"))
    return (
        join_known(bars, bars, at="known_at", by=before, columns=read)
        .join(first, on=_BAR)
        .select(
            *_BAR,
            "known_at",
            "first_known_at",
            pl.max_horizontal("ingested_at", "previous_ingested_at").alias("ingested_at"),
            BASE_ASSET.alias("base_asset"),
            "close",
            (pl.col("close") / pl.col("previous_close")).log().alias("log_return"),
        )
    )


def _add(panel: pl.LazyFrame, feature: Feature, table: pl.LazyFrame) -> pl.LazyFrame:
    stated = table.filter(feature.where).with_columns(feature.value.alias("stated")).drop_nulls("stated")
    at = "known_at" if feature.describes_bar else "first_known_at"
    columns = {
        "stated": feature.name,
        "known_at": f"{feature.name}_known_at",
        "ingested_at": "feature_ingested_at",
    }
    rows = newest_events(stated, by=tuple(feature.by.values()))
    joined = join_known(panel, rows, at=at, by=feature.by, columns=columns)
    latest = pl.max_horizontal("ingested_at", "feature_ingested_at").alias("ingested_at")
    return joined.with_columns(latest).drop("feature_ingested_at")


TABLE = table_of(FEATURES)
MODEL = Model(
    table=TABLE,
    groups=_SUBJECT,
    clock="event_at",
    grid="gold.candles",
    derived={"base_asset": BASE_ASSET},
    reaches=(
        *(
            Reach(
                input="gold.candles",
                by=_THIS_SUBJECT,
                before=LENGTHS[interval],
                where=(pl.col("interval") == interval) & candles.COMPLETE,
            )
            for interval in INTERVALS
        ),
        *(feature.reach for feature in FEATURES),
    ),
    build=build,
)
