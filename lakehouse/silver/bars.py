"""silver.bars: bars of equities, currencies and coins from vendors that are not venues."""

from datetime import timedelta

import polars as pl

from lakehouse.bars import BAR_RULES
from lakehouse.contract import Column, Table
from lakehouse.expects import Apart, LikePast
from lakehouse.fields import (
    CLOSE,
    EVENT_AT,
    HIGH,
    INTERVAL,
    LOW,
    OPEN,
    OPEN_AT,
    PROVENANCE,
    TRADE_COUNT,
    VOLUME,
)

_AS_TRADED = (
    "As traded, not adjusted; adjusted for splits and dividends where the symbol begins with `adjusted:`."
)

TABLE = Table(
    name="silver.bars",
    doc="Vendor bars, raw and adjusted figures apart; a restated bar is a new row.",
    columns=(
        Column(
            name="symbol",
            dtype=pl.String(),
            doc="Symbol by the vendor: IBM, EUR/USD, coinbase-btc-usd-spot; `adjusted:IBM` where all prices of a bar "
            "are adjusted and not its close alone.",
        ),
        INTERVAL,
        OPEN_AT.but(
            doc="First moment of the bar, in UTC; a day begins at midnight of the vendor's time zone, a week on its "
            "Monday, a month on its first."
        ),
        EVENT_AT.but(doc="End of the bar: the first moment that is no longer in it."),
        *PROVENANCE,
        Column(
            name="asset_class",
            dtype=pl.String(),
            values=("equity", "fx", "crypto"),
            doc="What the symbol is; crypto for all markets of venues for coins.",
        ),
        OPEN.but(doc=_AS_TRADED),
        HIGH.but(doc=_AS_TRADED),
        LOW.but(doc=_AS_TRADED),
        CLOSE.but(doc=_AS_TRADED),
        VOLUME.but(
            unit="shares, base or contracts",
            nullable=True,
            doc="Amount traded: shares, base of coins, contracts of futures; null where there is none (FX).",
        ),
        CLOSE.but(name="vwap", nullable=True, doc="Volume-weighted average price, where given."),
        TRADE_COUNT,
        CLOSE.but(
            name="adjusted_close", nullable=True, doc="Close adjusted for splits and dividends, where given."
        ),
        Column(
            name="dividend",
            dtype=pl.Float64(),
            unit="quote",
            nullable=True,
            lower=0,
            doc="Dividend within the bar.",
        ),
        Column(
            name="split_factor",
            dtype=pl.Float64(),
            nullable=True,
            above=0,
            doc="Split coefficient of the day, for daily bars.",
        ),
    ),
    key=("provider", "symbol", "interval", "open_at", "known_at"),
    subject=("provider", "symbol", "interval"),
    owner="market-data",
    rules=BAR_RULES,
    expects=(
        Apart(
            name="bars_apart",
            meaning="No bar begins before the one before it is over",
            within=("provider", "symbol", "interval"),
        ),
        LikePast(
            name="like_past",
            meaning="Bars a day and closes are within a tenfold of those of the weeks around, volumes a hundredfold",
            rows_factor=10,
            levels={"close": 10, "volume": 100},
            rows=30,
        ),
    ),
    freshness=timedelta(days=5),
)
