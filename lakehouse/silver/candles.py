"""silver.candles: bars as venues deliver them, closed ones only."""

from datetime import timedelta

from lakehouse.bars import BAR_RULES, BARS_ON_GRID
from lakehouse.contract import Table
from lakehouse.expects import LikePast
from lakehouse.fields import (
    CLOSE,
    EVENT_AT,
    HIGH,
    INSTRUMENT_ID,
    INTERVAL,
    LOW,
    OPEN,
    OPEN_AT,
    PROVENANCE,
    TRADE_COUNT,
    VENUE,
    VOLUME,
    VOLUME_UNIT,
)

TABLE = Table(
    name="silver.candles",
    doc="Closed bars as the venue delivered them; a restated bar is a new row.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        INTERVAL,
        OPEN_AT,
        EVENT_AT.but(doc="End of the bar: the first moment that is no longer in it."),
        *PROVENANCE,
        OPEN,
        HIGH,
        LOW,
        CLOSE,
        VOLUME.but(
            nullable=True, doc="Amount traded; null where the venue gives none (mark and index prices)."
        ),
        VOLUME_UNIT.but(nullable=True),
        TRADE_COUNT,
    ),
    key=("venue", "instrument_id", "interval", "open_at", "known_at"),
    subject=("venue", "instrument_id", "interval"),
    owner="market-data",
    partition_by=("venue", "interval"),
    rules=BAR_RULES,
    expects=(
        BARS_ON_GRID,
        LikePast(
            name="like_past",
            meaning="Bars a day and closes are within a tenfold of those of the weeks around, volumes a hundredfold",
            rows_factor=10,
            levels={"close": 10, "volume": 100},
            rows=30,
        ),
    ),
    freshness=timedelta(days=2),
)
