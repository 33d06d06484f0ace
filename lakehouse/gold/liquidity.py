"""gold.liquidity: what the first valid order book of each minute offers: spread, depth, imbalance, slippage.

One book a minute, whatever the number of snapshots, so that the table grows with time and not with the feed; the first
one, because it can be told at once and no later book changes it. A book that its check does not hold for is never used:
how many of the minute had come by then is said (`invalid_books`), and a minute without a valid one has no row.

Nothing is guessed about what lies beyond the levels that were sent: depth within a band and slippage of an order are
null where the levels end before. Amounts in contracts are worth what the newest listing known at the book's moment
says; they stay unknown where no listing was known by then, or where a contract pays in a third asset.

Slippage is the average price of an order that takes the book level by level, against the mid: implementation shortfall
without delay (A. Perold, The implementation shortfall: paper versus reality, Journal of Portfolio Management 14, 1988).

A change of silver.book_snapshots dirties its instrument's minute, one of silver.instruments the minutes since then.
"""

from datetime import timedelta

import polars as pl

from lakehouse.asof import drop_repeats
from lakehouse.contract import Column, Table
from lakehouse.fields import (
    CLOSE,
    EVENT_AT,
    INGESTED_AT,
    INSTRUMENT_ID,
    KNOWN_AT,
    OPEN_AT,
    PROVIDER,
    VENUE,
    VOLUME,
)
from lakehouse.gold.derivatives import DOLLARS
from lakehouse.model import Inputs, Model, Reach, Row

BANDS_BPS = (1, 5, 10, 50)
"""Distances from the mid within which depth is counted."""

ORDER_SIZES = {"10k": 10_000.0, "100k": 100_000.0, "1m": 1_000_000.0}
"""Sizes of orders in the quote currency whose slippage is told."""

_ROUNDING = 1e-9
"""By how many bps a level may lie beyond a band that it is at the edge of."""
_MINUTE = timedelta(minutes=1)
_SIDES = ("bid", "ask")
_BOOK = ("provider", "venue", "instrument_id", "open_at")
_SHARE = Column(name="imbalance", dtype=pl.Float64(), unit="ratio", nullable=True, lower=-1, upper=1, doc="")


def _depth_columns(bps: int) -> list[Column]:
    return [
        *(
            VOLUME.but(
                name=f"{side}_depth_{bps}bps_{unit}",
                unit=unit,
                nullable=True,
                doc=f"Amount of {side}s within {bps} bps of the mid; null where the levels sent end before that.",
            )
            for side in _SIDES
            for unit in ("base", "quote")
        ),
        _SHARE.but(
            name=f"imbalance_{bps}bps",
            doc=f"Bid less ask depth over their sum, in base, within {bps} bps; 1 where only bids are.",
        ),
    ]


def _slippage_columns(size: str) -> list[Column]:
    return [
        Column(
            name=f"{order}_slippage_{size}_bps",
            dtype=pl.Float64(),
            unit="bps of the mid",
            nullable=True,
            doc=f"How much worse than the mid an order to {order} for {ORDER_SIZES[size]:,.0f} of the quote currency "
            "is filled on average; null where the levels sent do not fill it.",
        )
        for order in ("buy", "sell")
    ]


TABLE = Table(
    name="gold.liquidity",
    doc="Spread, depth, imbalance and slippage of the first valid book of each minute that has one.",
    columns=(
        PROVIDER,
        VENUE,
        INSTRUMENT_ID.but(doc="The instrument in ccxt's notation; an outcome's token id on Polymarket."),
        OPEN_AT.but(doc="First moment of the minute that the book stands for."),
        EVENT_AT.but(doc="The moment of the book itself."),
        KNOWN_AT.but(doc="When this book was known."),
        INGESTED_AT.but(doc="When the book, or the listing its amounts are worth by, reached this lake."),
        Column(
            name="invalid_books",
            dtype=pl.Int64(),
            lower=0,
            doc="Books of the minute known by then that were left out because their check does not hold.",
        ),
        CLOSE.but(name="bid", nullable=True, doc="Best price that somebody buys at; null without bids."),
        CLOSE.but(name="ask", nullable=True, doc="Best price that somebody sells at; null without asks."),
        CLOSE.but(name="mid", nullable=True, doc="Half way between bid and ask."),
        Column(
            name="spread_bps",
            dtype=pl.Float64(),
            unit="bps of the mid",
            nullable=True,
            above=0,
            doc="Ask less bid.",
        ),
        _SHARE.but(
            name="imbalance_best", doc="Bid less ask amount over their sum, at the best prices, as told."
        ),
        *(column for bps in BANDS_BPS for column in _depth_columns(bps)),
        *(column for size in ORDER_SIZES for column in _slippage_columns(size)),
    ),
    key=("provider", "venue", "instrument_id", "open_at", "known_at"),
    subject=("venue", "instrument_id"),
    owner="market-data",
    partition_by=("venue",),
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.liquidity from all rows of silver.book_snapshots and silver.instruments."""
    books = _with_amounts(
        _first_of_each_minute(inputs["silver.book_snapshots"]), inputs["silver.instruments"]
    )
    figures = books.select(
        *_BOOK,
        "event_at",
        "known_at",
        pl.max_horizontal("ingested_at", "listing_ingested_at").alias("ingested_at"),
        "invalid_books",
        "bid",
        "ask",
        "mid",
        spread_bps=(pl.col("ask") - pl.col("bid")) / pl.col("mid") * 1e4,
        imbalance_best=_imbalance(*(pl.col(f"{side}_amounts").list.first() for side in _SIDES)),
        **_depths(),
        **_slippages(),
    )
    rows = figures.with_columns(
        _imbalance(*(pl.col(f"{side}_depth_{bps}bps_base") for side in _SIDES)).alias(f"imbalance_{bps}bps")
        for bps in BANDS_BPS
    )
    told = [name for name in TABLE.contents if name != "invalid_books"]
    return drop_repeats(rows.select(TABLE.schema.names()), identity=TABLE.identity, contents=told)


def _first_of_each_minute(books: pl.LazyFrame) -> pl.LazyFrame:
    """For each minute and moment of news about it (`known_at`) the first valid book among those known by then."""
    is_valid = pl.col("is_valid")
    order = pl.struct("event_at", -pl.col("ingested_at").to_physical())
    book = pl.struct(
        "ingested_at", "amount_unit", *(f"{side}_{what}" for side in _SIDES for what in ("prices", "amounts"))
    )
    news = (
        books.with_columns(open_at=pl.col("event_at").dt.truncate("1m"))
        .group_by(*_BOOK, "known_at")
        .agg(
            book=book.filter(is_valid).min_by(order.filter(is_valid)),
            event_at=pl.col("event_at").filter(is_valid).min(),
            invalid_books=(~is_valid).cast(pl.Int64).sum(),
        )
        .sort(*_BOOK, "known_at")
    )
    running = news.with_columns(
        pl.col("invalid_books").cum_sum().over(_BOOK), first_at=pl.col("event_at").cum_min().over(_BOOK)
    )
    # What tells of a later book than one that is known, or of an invalid one, is no news of the first valid one.
    return running.filter(pl.col("event_at") == pl.col("first_at")).unnest("book")


def _with_amounts(books: pl.LazyFrame, instruments: pl.LazyFrame) -> pl.LazyFrame:
    """Adds best prices, mid, and of each level what it is worth in base and in quote, and how far away it is."""
    bid, ask = (pl.col(f"{side}_prices").list.first() for side in _SIDES)
    return (
        _with_listing(books, instruments)
        .with_columns(bid=bid, ask=ask, mid=(bid + ask) / 2)
        .with_columns(expr.alias(f"{side}_{name}") for side in _SIDES for name, expr in _levels(side).items())
    )


def _with_listing(books: pl.LazyFrame, instruments: pl.LazyFrame) -> pl.LazyFrame:
    base, quote, settle = (pl.col(name) for name in ("base", "quote", "settle"))
    is_linear = (settle == quote) | (settle.is_in(DOLLARS) & quote.is_in(DOLLARS))
    is_known = pl.when(pl.col("is_inverse")).then(settle == base).otherwise(is_linear)
    listings = instruments.sort("known_at").select(
        "venue",
        "instrument_id",
        listed_at="known_at",
        listing_ingested_at="ingested_at",
        contract_size=pl.when(is_known).then("contract_size"),
        is_inverse="is_inverse",
    )
    joined = books.sort("event_at").join_asof(
        listings,
        left_on="event_at",
        right_on="listed_at",
        by=["venue", "instrument_id"],
        check_sortedness=False,  # cannot be checked with `by`; both sides were sorted just above
    )
    in_contracts = pl.col("amount_unit") == "contracts"
    return joined.with_columns(pl.when(in_contracts).then("listing_ingested_at").alias("listing_ingested_at"))


def _levels(side: str) -> dict[str, pl.Expr]:
    price, amount = pl.col(f"{side}_prices"), pl.col(f"{side}_amounts")
    unit = pl.col("amount_unit")
    in_contracts = (unit == "contracts") & pl.col("contract_size").is_not_null()
    size = pl.when(in_contracts).then("contract_size").otherwise(1.0)
    is_base = unit.is_in(["base", "shares"]) | (in_contracts & ~pl.col("is_inverse"))
    is_quote = (unit == "quote") | (in_contracts & pl.col("is_inverse"))
    worth = amount * size
    away = pl.col("mid") - price if side == "bid" else price - pl.col("mid")
    return {
        "base": pl.when(is_base).then(worth).when(is_quote).then(worth / price),
        "quote": pl.when(is_base).then(worth * price).when(is_quote).then(worth),
        "distance": away / pl.col("mid") * 1e4,
    }


def _depths() -> dict[str, pl.Expr]:
    return {
        f"{side}_depth_{bps}bps_{unit}": _depth(side, unit, bps)
        for bps in BANDS_BPS
        for side in _SIDES
        for unit in ("base", "quote")
    }


def _depth(side: str, unit: str, bps: int) -> pl.Expr:
    distance = pl.col(f"{side}_distance")
    is_inside = distance.list.eval((pl.element() <= bps + _ROUNDING).cast(pl.Float64))
    reaches = distance.list.last() >= bps - _ROUNDING
    return pl.when(reaches).then((pl.col(f"{side}_{unit}") * is_inside).list.sum())


def _imbalance(bids: pl.Expr, asks: pl.Expr) -> pl.Expr:
    return pl.when(bids + asks > 0).then((bids - asks) / (bids + asks))


def _slippages() -> dict[str, pl.Expr]:
    sides = {"buy": ("ask", 1), "sell": ("bid", -1)}
    return {
        f"{order}_slippage_{name}_bps": sign * (_average_price(side, size) / pl.col("mid") - 1) * 1e4
        for name, size in ORDER_SIZES.items()
        for order, (side, sign) in sides.items()
    }


def _average_price(side: str, size: float) -> pl.Expr:
    """What an order that turns over `size` of the quote currency pays or gets for one of the base, on average."""
    so_far = pl.col(f"{side}_quote").list.eval(pl.element().cum_sum())
    taken = so_far.list.eval(
        pl.element().clip(upper_bound=size).diff().fill_null(pl.element().first().clip(upper_bound=size))
    )
    base = (taken / pl.col(f"{side}_prices")).list.sum()
    return pl.when(so_far.list.last() >= size).then(size / base)


def _the_book(row: Row, books: pl.LazyFrame) -> pl.LazyFrame:
    return books.filter(pl.col("is_valid"), pl.col("event_at") == row["event_at"])


def _the_listing(row: Row, listings: pl.LazyFrame) -> pl.LazyFrame:
    return listings.filter(pl.col("known_at") <= row["event_at"]).sort("known_at").tail(1)


_INSTRUMENT = {"venue": "venue", "instrument_id": "instrument_id"}

MODEL = Model(
    table=TABLE,
    groups=("venue", "instrument_id"),
    clock="open_at",
    reaches=(
        Reach(input="silver.book_snapshots", by=_INSTRUMENT, at="open_at", snap=_MINUTE, made_of=_the_book),
        Reach(
            input="silver.instruments",
            by=_INSTRUMENT,
            at="open_at",
            of="known_at",
            before=None,
            snap=_MINUTE,
            made_of=_the_listing,
        ),
    ),
    build=build,
)
