"""gold.prediction_panel: what the prices of a prediction market say, outcome by outcome, as probabilities.

One row for each outcome and moment at which a price of it became known: the middle of a valid order book, a sample of
the price history, the price shown with the listing, and at last the payout. A price counts for MAX_AGE at most, until
a newer one of any of these sources is known; a payout counts for ever.

The markets of an exclusive group (negRisk) ask which one of several things will happen: exactly one Yes pays 1, so
that the prices of Yes of all of them should add up to 1. What they add up to beyond that, the overround or vig, is
taken out by proportional (basic) normalisation: each price over their sum. It is asked for only where it means
something: every listed market of the group has a price, and none may be added (open-ended groups). Alternatives are
the additive, the power (odds-ratio) and Shin's method, which take more from long shots: see E. Štrumbelj, On
determining probability forecasts from betting odds, International Journal of Forecasting 30 (2014); H. S. Shin, Prices
of state contingent claims with insider traders, Economic Journal 102 (1992). Other markets stand alone: Yes and No are
one book mirrored at 1, so their price is the probability.

What the listing says (question, group, state, payout) is taken as known at the row's moment: no row is older than the
first listing of its market, and nothing of a resolution is told before it was known.

A change of a price dirties the rows of the day after it, one of a listing all rows from then on.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from lakehouse.asof import join_known, newest_events
from lakehouse.contract import UTC_US, Column, Table
from lakehouse.exact import AMOUNT_DECIMALS, exact, inexact
from lakehouse.fields import EVENT_AT, INGESTED_AT, KNOWN_AT, PROVIDER
from lakehouse.model import Inputs, Model, Reach, Row
from lakehouse.silver import prediction_markets
from lakehouse.silver.prediction_markets import PROBABILITY

MAX_AGE = timedelta(days=1)
"""A price that is older says little of now."""

GROUP_TOLERANCE = 0.05
"""How far the prices of a group may add up from 1 and still be called consistent: five ticks of a cent."""

SOURCES = ("listing", "history", "book", "payout")
"""Of prices known at the same moment the later of these counts."""

_LISTED = (
    "market_id",
    "condition_id",
    "event_slug",
    "event_title",
    "group_item_title",
    "question",
    "outcome",
    "is_closed",
    "resolution_status",
    "payout",
)


def _as_listed(name: str) -> Column:
    column = prediction_markets.TABLE.column(name)
    return column.but(nullable=True, doc=f"{column.doc.rstrip('.')}; as known then.")


TABLE = Table(
    name="gold.prediction_panel",
    doc="Implied probabilities of outcomes at every moment at which one of their prices became known.",
    columns=(
        PROVIDER,
        prediction_markets.TOKEN_ID,
        EVENT_AT.but(doc="When the price became known."),
        KNOWN_AT,
        INGESTED_AT.but(doc="When the price and what the listing says reached this lake."),
        *(_as_listed(name) for name in _LISTED[:7]),
        Column(
            name="group_id",
            dtype=pl.String(),
            nullable=True,
            doc="Group of markets of which exactly one pays Yes (negRisk), for their Yes; else null.",
        ),
        PROBABILITY.but(doc="Newest price of one share that pays 1 if the outcome comes true."),
        Column(name="price_source", dtype=pl.String(), values=SOURCES, doc="Where the price is from."),
        Column(
            name="priced_at",
            dtype=UTC_US,
            unit="UTC",
            doc="When it was the price; before event_at where it, or the market's listing, became known later.",
        ),
        Column(name="markets_listed", dtype=pl.Int64(), nullable=True, lower=1, doc="Markets of the group."),
        Column(
            name="markets_priced",
            dtype=pl.Int64(),
            nullable=True,
            lower=0,
            doc="Markets of the group whose Yes had a price then.",
        ),
        Column(
            name="group_price",
            dtype=pl.Float64(),
            unit="USDC",
            nullable=True,
            lower=0,
            doc="What one Yes of each market of the group costs; null unless all have a price.",
        ),
        Column(
            name="overround",
            dtype=pl.Float64(),
            unit="ratio",
            nullable=True,
            doc="group_price less 1: the vig; what a group that is open-ended leaves for others is in it too.",
        ),
        Column(
            name="is_consistent",
            dtype=pl.Boolean(),
            nullable=True,
            doc=f"Whether the group's prices add up to 1 within {GROUP_TOLERANCE:g}; null where they need not.",
        ),
        PROBABILITY.but(
            name="probability",
            nullable=True,
            doc="price over group_price in a whole group, the price itself of a market that stands alone; else null.",
        ),
        *(_as_listed(name) for name in _LISTED[7:]),
    ),
    key=("token_id", "event_at", "known_at"),
    subject=("token_id",),
    owner="prediction",
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.prediction_panel from all rows of its inputs."""
    listing = inputs["silver.prediction_markets"]
    prices = _prices(inputs, listing).cache()
    members = _members(listing)
    in_groups = prices.join(members, on="token_id")
    alone = prices.join(members, on="token_id", how="anti").with_columns(
        group_id=pl.lit(None, pl.String), markets_listed=pl.lit(None, pl.Int64)
    )
    rows = pl.concat([_with_group(in_groups, members), alone], how="diagonal")
    listed = {name: name for name in (*_LISTED, "is_open_ended", "provider")}
    rows = join_known(
        rows,
        listing,
        at="known_at",
        by={"token_id": "token_id"},
        columns={**listed, "ingested_at": "listing_ingested_at"},
    )
    return rows.with_columns(*_derived()).with_columns(_probability()).select(TABLE.schema.names())


def _prices(inputs: Inputs, listing: pl.LazyFrame) -> pl.LazyFrame:
    """The newest price of each listed outcome at each moment, with `until`, when it counts no longer."""
    stated = [
        _shown(listing),
        _sampled(inputs["silver.prediction_prices"]),
        _middle(inputs["silver.book_snapshots"]),
    ]
    listed = listing.group_by("token_id").agg(
        listed_at=pl.col("known_at").min(),
        paid_at=pl.col("known_at").filter(pl.col("payout").is_not_null()).min(),
    )
    moment = pl.max_horizontal("known_at", "listed_at")
    too_old = pl.col("priced_at") + MAX_AGE
    is_due = (moment < too_old) & (pl.col("paid_at").is_null() | (moment < pl.col("paid_at")))
    before = pl.concat(stated).join(listed, on="token_id").filter(is_due)
    prices = pl.concat([before.select(pl.exclude("paid_at")), _paid(listing, listed)], how="diagonal_relaxed")
    rank = pl.col("price_source").replace_strict({name: n for n, name in enumerate(SOURCES)})
    fact = ("token_id", "event_at")
    newest = (
        prices.with_columns(event_at=moment, rank=rank)
        .sort(*fact, "priced_at", "rank", "price", "ingested_at")
        .unique(fact, keep="last", maintain_order=True)
    )
    following = pl.col("event_at").shift(-1).over("token_id")
    until = pl.when(pl.col("price_source") != "payout").then(pl.min_horizontal(following, too_old))
    return newest.with_columns(until=until, known_at="event_at").drop("rank", "listed_at")


def _shown(listing: pl.LazyFrame) -> pl.LazyFrame:
    return _stated("listing", listing.drop_nulls("price"), priced_at="known_at")


def _sampled(samples: pl.LazyFrame) -> pl.LazyFrame:
    return _stated("history", newest_events(samples, by=("token_id",)))


def _middle(books: pl.LazyFrame) -> pl.LazyFrame:
    best = [pl.col(f"{side}_prices").list.first() for side in ("bid", "ask")]
    is_two_sided = pl.all_horizontal(side.is_not_null() for side in best)
    of_shares = books.filter(_IS_SHARES, is_two_sided).rename({"instrument_id": "token_id"})
    return _stated(
        "book", newest_events(of_shares, by=("token_id",)).with_columns(price=(best[0] + best[1]) / 2)
    )


def _paid(listing: pl.LazyFrame, listed: pl.LazyFrame) -> pl.LazyFrame:
    """The payout as the last price, from when it was first known."""
    payouts = listing.drop_nulls("payout").join(listed, on="token_id")
    first = payouts.filter(pl.col("known_at") == pl.col("paid_at"))
    return _stated("payout", first.with_columns(price="payout"), "listed_at", priced_at="known_at")


def _stated(source: str, rows: pl.LazyFrame, *also: str, priced_at: str = "event_at") -> pl.LazyFrame:
    price = inexact(exact(pl.col("price"), decimals=AMOUNT_DECIMALS))  # what the sums of the group add up
    return rows.select(
        "token_id",
        price,
        "known_at",
        "ingested_at",
        *also,
        pl.col(priced_at).alias("priced_at"),
        pl.lit(source).alias("price_source"),
    )


def _members(listing: pl.LazyFrame) -> pl.LazyFrame:
    """The Yes of each market of an exclusive group, and since when it is known to be in it."""
    is_member = pl.col("is_exclusive") & pl.col("neg_risk_market_id").is_not_null()
    return (
        listing.filter(is_member, pl.col("outcome") == "Yes")
        .group_by("token_id")
        .agg(
            group_id=pl.col("neg_risk_market_id").sort_by("known_at").first(),
            member_since=pl.col("known_at").min(),
        )
    )


def _with_group(prices: pl.LazyFrame, members: pl.LazyFrame) -> pl.LazyFrame:
    """Each price with what its group was then: sums of what came less what was replaced or too old."""
    moments = pl.concat(
        [
            members.select(
                "group_id",
                pl.col("member_since").alias("moment"),
                listed=pl.lit(1, pl.Int64),
                priced=pl.lit(0, pl.Int64),
                price=exact(pl.lit(0.0), decimals=AMOUNT_DECIMALS),
            ),
            *(_change(prices, at, sign) for at, sign in (("since", 1), ("until", -1))),
        ]
    )
    states = (
        moments.group_by("group_id", "moment")
        .agg(pl.col("listed", "priced", "price").sum())
        .sort("group_id", "moment")
        .with_columns(pl.col("listed", "priced", "price").cum_sum().over("group_id"))
    )
    group = states.select(
        "group_id",
        pl.col("moment").alias("event_at"),
        pl.col("listed").alias("markets_listed"),
        pl.col("priced").alias("markets_priced"),
        inexact(pl.col("price")).alias("group_price"),
    )
    said = ("group_id", "markets_listed", "markets_priced", "group_price")
    is_member = pl.col("event_at") >= pl.col("member_since")
    rows = prices.join(group, on=("group_id", "event_at"), how="left")
    return rows.with_columns(pl.when(is_member).then(pl.col(said))).drop("member_since")


def _change(prices: pl.LazyFrame, at: str, sign: int) -> pl.LazyFrame:
    """What each price adds to its group from then on; nothing before its market was known to be in it."""
    since = pl.max_horizontal("event_at", "member_since")
    counts = pl.col("until").is_null() | (since < pl.col("until"))
    return (
        prices.with_columns(since=since)
        .filter(counts)
        .drop_nulls(at)
        .select(
            "group_id",
            pl.col(at).alias("moment"),
            listed=pl.lit(0, pl.Int64),
            priced=pl.lit(sign, pl.Int64),
            price=exact(pl.col("price") * sign, decimals=AMOUNT_DECIMALS),
        )
    )


def _derived() -> list[pl.Expr]:
    is_whole = pl.col("markets_priced") == pl.col("markets_listed")
    group_price = pl.when(is_whole).then(pl.col("group_price"))
    overround = group_price - 1
    is_consistent = overround.abs() <= GROUP_TOLERANCE + 1e-9
    return [
        pl.max_horizontal("ingested_at", "listing_ingested_at").alias("ingested_at"),
        group_price.alias("group_price"),
        overround.alias("overround"),
        pl.when(~pl.col("is_open_ended").fill_null(value=False)).then(is_consistent).alias("is_consistent"),
    ]


def _probability() -> pl.Expr:
    is_alone = pl.col("group_id").is_null()
    is_closed_set = ~pl.col("is_open_ended").fill_null(value=False) & (pl.col("group_price") > 0)
    return (
        pl.when(is_alone)
        .then(pl.col("price"))
        .when(is_closed_set)
        .then(pl.col("price") / pl.col("group_price"))
        .alias("probability")
    )


_IS_SHARES = (pl.col("amount_unit") == "shares") & pl.col("is_valid")


def _of_the_token(row: Row, rows: pl.LazyFrame) -> pl.LazyFrame:
    """What tells the row's own price; those of the other markets of the group are in its sum."""
    return rows.filter(pl.col("token_id") == row["token_id"])


def _book_of_the_token(row: Row, books: pl.LazyFrame) -> pl.LazyFrame:
    return books.filter(pl.col("instrument_id") == row["token_id"])


MODEL = Model(
    table=TABLE,
    groups=(),
    clock="event_at",
    reaches=(
        Reach(
            input="silver.prediction_markets",
            of="known_at",
            before=None,
            made_of=_of_the_token,
        ),
        Reach(
            input="silver.prediction_prices",
            of="known_at",
            before=MAX_AGE,
            made_of=_of_the_token,
        ),
        Reach(
            input="silver.book_snapshots",
            of="known_at",
            before=MAX_AGE,
            where=_IS_SHARES,
            made_of=_book_of_the_token,
        ),
    ),
    build=build,
)
