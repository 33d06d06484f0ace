"""The columns that more than one table has, each defined once.

Three clocks are kept apart in every fact: `event_at` when it happened, `known_at` when it was public,
`ingested_at` when it reached this lake.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from lakehouse.contract import UTC_US, Column, Migration

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
EVENT_MONTH = Column(
    name="event_month",
    dtype=pl.Date(),
    derived=(pl.col("event_at").dt.date().cast(pl.Int32) - pl.col("event_at").dt.day() + 1).cast(pl.Date),
    doc="First day of the UTC month of event_at; the partition.",
)


ORDER_REPEATS = timedelta(microseconds=2**42)
"""After so long, 51 days, row_order begins anew."""


def row_order(subject: str) -> Column:
    """What rows of a partition are ordered by: the column named, then time.

    One number, since deltalake 1.6.3 orders exactly by one column and not by two (`StoredTable.order`). Its bits, from
    the highest: 31 of the first four bytes of the subject, so that neighbours are alike and bounds of text are narrow;
    10 of the next four and the length, to keep apart what begins alike; 22 of the time in steps of 2**20 us. Readers
    skip files by it (`lakehouse.read`): another formula wants another column, or a migration.
    """
    begins = pl.col(subject).str.pad_end(8, "\0").cast(pl.Binary).bin.slice(0, 8)
    number = begins.bin.reinterpret(dtype=pl.UInt64, endianness="big")
    apart = (number % 2**32 + 7 * pl.col(subject).str.len_bytes()) % 1021
    step = pl.col("event_at").dt.epoch("us") // 2**20 % 2**22
    return Column(
        name="row_order",
        dtype=pl.Int64(),
        derived=(number // 2**33 * 2**10 + apart).cast(pl.Int64) * 2**22 + step,
        doc=f"What rows of a partition are ordered by: {subject}, then event_at, in one number. Of no other use.",
    )


BY_MONTH = Migration(
    name="by_month",
    doc="A partition a month, ordered by subject and time, takes the place of one a day.",
    apply=lambda rows: rows.drop("event_date", strict=False),
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
