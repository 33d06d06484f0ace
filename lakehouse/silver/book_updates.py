"""silver.book_updates: changes of order books by price level, as they were streamed."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Rule, Table
from lakehouse.expects import InOrder
from lakehouse.fields import BY_MONTH, EVENT_AT, EVENT_MONTH, INSTRUMENT_ID, PROVENANCE, VENUE, row_order

_LEVELS = pl.List(pl.Float64())

FRAME_COLUMNS = (
    Column(name="connection_id", dtype=pl.String(), doc="The WebSocket connection."),
    Column(name="frame", dtype=pl.Int64(), lower=0, doc="Number of the frame within the connection."),
    Column(name="part", dtype=pl.Int32(), lower=0, doc="Position within the frame."),
)
SEQUENCE_COLUMNS = (
    Column(
        name="first_sequence",
        dtype=pl.Int64(),
        nullable=True,
        doc="The venue's number of the first change inside, where given.",
    ),
    Column(
        name="last_sequence",
        dtype=pl.Int64(),
        nullable=True,
        doc="The venue's number of the last change inside, where given.",
    ),
    Column(
        name="is_snapshot",
        dtype=pl.Boolean(),
        doc="Whether it is the whole book, which takes the place of all before. One asked for over REST belongs "
        "after the changes up to its number, wherever it came.",
    ),
)
VALIDITY_COLUMNS = (
    Column(
        name="is_valid",
        dtype=pl.Boolean(),
        doc="Whether the book after this frame is whole, as far as the check reaches.",
    ),
    Column(
        name="check",
        dtype=pl.String(),
        values=("snapshot", "checksum", "sequence", "none"),
        doc="What proves it: the venue sent it whole; its checksum; no number missing; nothing.",
    ),
)
SEQUENCE_RISES = InOrder(
    name="sequence_rises",
    meaning="The venue's number of a change is never below that of the change before on its connection",
    column="last_sequence",
    within=("venue", "instrument_id", "connection_id"),
    order_by=("frame", "part"),
    unless="is_snapshot",
)


def _side(name: str) -> tuple[Column, Column]:
    return (
        Column(name=f"{name}_prices", dtype=_LEVELS, unit="quote", doc="Prices of the levels that changed."),
        Column(
            name=f"{name}_amounts",
            dtype=_LEVELS,
            unit="amount_unit",
            doc="The whole amount at each price from now on; 0 takes the level out.",
        ),
    )


TABLE = Table(
    name="silver.book_updates",
    doc="Changes of order books by price level, one row a frame; snapshots are rows, too.",
    columns=(
        VENUE,
        INSTRUMENT_ID.but(doc="The instrument in ccxt's notation; an outcome's token id on Polymarket."),
        *FRAME_COLUMNS,
        EVENT_AT.but(
            doc="When it happened, by the venue; when it was received, where the venue does not say."
        ),
        *PROVENANCE,
        *SEQUENCE_COLUMNS,
        *_side("bid"),
        *_side("ask"),
        Column(
            name="amount_unit",
            dtype=pl.String(),
            values=("base", "quote", "contracts", "shares"),
            doc="What amounts count.",
        ),
        *VALIDITY_COLUMNS,
        EVENT_MONTH,
        row_order("instrument_id"),
    ),
    key=("venue", "instrument_id", "connection_id", "frame", "part"),
    subject=("venue", "instrument_id"),
    owner="market-data",
    partition_by=("venue", "event_month"),
    order_by="row_order",
    migrations=(BY_MONTH,),
    rules=(
        Rule(
            name="levels_uneven",
            check=(pl.col("bid_prices").list.len() == pl.col("bid_amounts").list.len())
            & (pl.col("ask_prices").list.len() == pl.col("ask_amounts").list.len()),
            reason="a side has more prices than amounts, or fewer",
        ),
    ),
    expects=(SEQUENCE_RISES,),
    freshness=timedelta(days=2),
)
