"""silver.book_snapshots: order books at moments, with the check that proves them."""

from datetime import timedelta

import polars as pl

from lakehouse.contract import Column, Rule, Table
from lakehouse.fields import EVENT_AT, INSTRUMENT_ID, PROVENANCE, VENUE

_LEVELS = pl.List(pl.Float64())
_BEST_BID, _BEST_ASK = pl.col("bid_prices").list.first(), pl.col("ask_prices").list.first()


def _side(name: str) -> tuple[Column, Column]:
    best = "highest" if name == "bid" else "lowest"
    return (
        Column(name=f"{name}_prices", dtype=_LEVELS, unit="quote", doc=f"Prices, the {best} first."),
        Column(name=f"{name}_amounts", dtype=_LEVELS, unit="amount_unit", doc="Amount at each price."),
    )


def _is_sorted(name: str, *, descending: bool) -> pl.Expr:
    steps = pl.col(f"{name}_prices").list.diff(null_behavior="drop")
    return (steps.list.max() < 0 if descending else steps.list.min() > 0).fill_null(value=True)


TABLE = Table(
    name="silver.book_snapshots",
    doc="Order books by price level, up to 50 levels a side (all that was sent over REST).",
    columns=(
        VENUE,
        INSTRUMENT_ID.but(doc="The instrument in ccxt's notation; an outcome's token id on Polymarket."),
        EVENT_AT.but(doc="The moment, by the venue; when it was received, where the venue does not say."),
        *PROVENANCE,
        Column(
            name="sequence",
            dtype=pl.Int64(),
            nullable=True,
            doc="The venue's number of the book's last change, where given.",
        ),
        *_side("bid"),
        *_side("ask"),
        Column(
            name="amount_unit",
            dtype=pl.String(),
            values=("base", "quote", "contracts", "shares"),
            doc="What amounts count.",
        ),
        Column(
            name="is_valid",
            dtype=pl.Boolean(),
            doc="Whether the check holds; false from a gap to the next snapshot.",
        ),
        Column(
            name="check",
            dtype=pl.String(),
            values=("snapshot", "checksum", "sequence", "none"),
            doc="What proves the book: the venue sent it whole; its checksum; no number missing; nothing.",
        ),
    ),
    key=("provider", "venue", "instrument_id", "event_at", "known_at"),
    subject=("venue", "instrument_id"),
    owner="market-data",
    partition_by=("venue",),
    rules=(
        Rule(
            name="levels_uneven",
            check=(pl.col("bid_prices").list.len() == pl.col("bid_amounts").list.len())
            & (pl.col("ask_prices").list.len() == pl.col("ask_amounts").list.len()),
            reason="a side has more prices than amounts, or fewer",
        ),
        Rule(
            name="crossed",
            check=(_BEST_BID < _BEST_ASK) | ~pl.col("is_valid"),
            reason="the best bid is not below the best ask",
        ),
        Rule(
            name="bids_unsorted",
            check=_is_sorted("bid", descending=True),
            reason="bids are not from high to low",
        ),
        Rule(
            name="asks_unsorted",
            check=_is_sorted("ask", descending=False),
            reason="asks are not from low to high",
        ),
    ),
    freshness=timedelta(days=2),
)
