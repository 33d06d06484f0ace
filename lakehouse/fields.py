"""The columns that more than one table has, each defined once.

Three clocks are kept apart in every fact: `event_at` when it happened, `known_at` when it was public,
`ingested_at` when it reached this lake.
"""

from __future__ import annotations

import polars as pl

from lakehouse.contract import UTC_US, Column

EVENT_AT = Column(name="event_at", dtype=UTC_US, unit="UTC", doc="When the fact happened at its source.")
KNOWN_AT = Column(
    name="known_at",
    dtype=UTC_US,
    unit="UTC",
    doc="When this version of the fact was public; what `as_of` asks.",
)
INGESTED_AT = Column(
    name="ingested_at", dtype=UTC_US, unit="UTC", doc="When the page that says it reached this lake."
)
PAGE_ID = Column(
    name="page_id", dtype=pl.Int64(), doc="The bronze page that says it: its bytes prove the row."
)
PROVIDER = Column(name="provider", dtype=pl.String(), doc="Who said it: ccxt, coinmetrics, fred, ...")
KNOWN_AT_BASIS = Column(
    name="known_at_basis",
    dtype=pl.String(),
    values=("published", "estimated", "received"),
    doc="How known_at was found: stated by the provider; period end plus its usual lag; first receipt here.",
)
PROVENANCE = (KNOWN_AT, INGESTED_AT, PAGE_ID, PROVIDER)

VENUE = Column(name="venue", dtype=pl.String(), doc="The exchange, by its ccxt id.")
INSTRUMENT_ID = Column(
    name="instrument_id",
    dtype=pl.String(),
    doc="The instrument in ccxt's notation: BTC/USD spot, BTC/USDT:USDT linear swap, BTC/USD:BTC inverse.",
)
EVENT_DATE = Column(
    name="event_date",
    dtype=pl.Date(),
    derived=pl.col("event_at").dt.date(),
    doc="UTC date of event_at; the partition.",
)
INTERVAL = Column(
    name="interval", dtype=pl.String(), pattern=r"^\d+[smhdwM]$", doc="Length of the bar: 1m, 1h, 1d."
)
OPEN_AT = Column(
    name="open_at", dtype=UTC_US, unit="UTC", doc="First moment of the bar; event_at is its end."
)
OPEN = Column(name="open", dtype=pl.Float64(), unit="quote", above=0, doc="Price of the first trade.")
HIGH = Column(name="high", dtype=pl.Float64(), unit="quote", above=0, doc="Highest price.")
LOW = Column(name="low", dtype=pl.Float64(), unit="quote", above=0, doc="Lowest price.")
CLOSE = Column(name="close", dtype=pl.Float64(), unit="quote", above=0, doc="Price of the last trade.")
VOLUME = Column(
    name="volume",
    dtype=pl.Float64(),
    unit="volume_unit",
    lower=0,
    doc="Amount traded, in the unit named by volume_unit.",
)
VOLUME_UNIT = Column(
    name="volume_unit",
    dtype=pl.String(),
    values=("base", "quote", "contracts"),
    doc="What volume counts.",
)
TRADE_COUNT = Column(
    name="trade_count", dtype=pl.Int64(), lower=0, nullable=True, doc="Trades inside, where given."
)
SERIES_ID = Column(name="series_id", dtype=pl.String(), doc="The provider's own id of the series.")
VALUE = Column(
    name="value",
    dtype=pl.Float64(),
    nullable=True,
    doc="The value; null where the provider marks it missing.",
)
