"""silver.tickers: what a venue says of an instrument's last day and its best prices, at a moment."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Table
from lakehouse.fields import CLOSE, EVENT_AT, INSTRUMENT_ID, PROVENANCE, VENUE, VOLUME

_PRICE = CLOSE.but(nullable=True)
_AMOUNT = VOLUME.but(nullable=True, unit="base or contracts")

TABLE = Table(
    name="silver.tickers",
    doc="Tickers as venues deliver them: best prices now and the figures of the last 24 hours.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        EVENT_AT.but(doc="When the venue says it holds; when it was received, where the venue does not say."),
        *PROVENANCE,
        _PRICE.but(name="bid", doc="Best price that somebody buys at."),
        _AMOUNT.but(name="bid_amount", doc="Amount at the best bid, in the venue's unit."),
        _PRICE.but(name="ask", doc="Best price that somebody sells at."),
        _AMOUNT.but(name="ask_amount", doc="Amount at the best ask, in the venue's unit."),
        _PRICE.but(name="last", doc="Price of the last trade."),
        _PRICE.but(name="open", doc="Price 24 hours before."),
        _PRICE.but(name="high", doc="Highest price of the last 24 hours."),
        _PRICE.but(name="low", doc="Lowest price of the last 24 hours."),
        _PRICE.but(name="vwap", doc="Volume-weighted price of the last 24 hours, where given."),
        VOLUME.but(name="base_volume", unit="base", nullable=True, doc="Base traded in the last 24 hours."),
        VOLUME.but(
            name="quote_volume", unit="quote", nullable=True, doc="Quote traded in the last 24 hours."
        ),
        _PRICE.but(name="mark_price", doc="Mark price of a contract, where given."),
        _PRICE.but(name="index_price", doc="Index price under a contract, where given."),
        Column(
            name="is_dated_by_venue",
            dtype=pl.Boolean(),
            doc="Whether event_at is the venue's own; else it is when the answer was received.",
        ),
    ),
    key=("provider", "venue", "instrument_id", "event_at", "known_at"),
    subject=("venue", "instrument_id"),
    owner="market-data",
    partition_by=("venue",),
    freshness=timedelta(days=2),
)
