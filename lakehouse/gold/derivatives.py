"""gold.derivatives: funding, basis, open interest and liquidations of each contract, by hour and by day.

An interval holds what lies from its first moment on and before its end, as bars do. It is told once it is over: when
anything new of any contract has become known since its end, at most a day after it. Everything is told as far as it is
known and null beyond: no funding is put where none was settled, and no zero where no liquidation is recorded, since
several venues publish a part of them only.

- Funding is the sum of the rates settled within the interval. The carry is that sum by the time that the rates are for,
  over a year of 365 days, not compounded. Of two providers the one with more settlements counts, so that none counts
  twice.
- Basis is price over underlying, less one: the price is the mark price, where there is none that of the last trade; the
  underlying is the venue's index, and beside it the spot market of the same assets on the same venue. For a dated
  contract it is annualised by the time to its expiry, as simple interest, so that it compares with the carry.
- Open interest is the last sample of the interval, told in base. Contracts are converted by the size that the newest
  listing known at the interval's end says: an older or a younger listing tells nothing of it. What counts buyer and
  seller is halved where the venue is known to do so; `open_interest_sides` says which are not known.
- A venue's share is that of its contracts in those of all venues on the same base, whatever they settle in, at the same
  interval; null where one of them cannot be told in base.
- Contracts that settle in a third asset (quanto) are not converted: what one is worth hangs on that asset's price.

News of any input dirties, for all contracts, because shares compare them, the UTC day that it is about, the one after
(change since the interval before) and the one before (which it may show to be over); a listing dirties the days since
it was known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import polars as pl

from lakehouse.asof import MOMENT, drop_repeats, versions_at
from lakehouse.contract import Column, Table
from lakehouse.exact import AMOUNT_DECIMALS, PRODUCT_DECIMALS, exact, inexact
from lakehouse.fields import (
    CLOSE,
    EVENT_AT,
    INGESTED_AT,
    INSTRUMENT_ID,
    INTERVAL,
    KNOWN_AT,
    OPEN_AT,
    VENUE,
    VOLUME,
)
from lakehouse.gold import candles
from lakehouse.intervals import LENGTHS, dividing
from lakehouse.model import Inputs, Model, Reach, Row

INTERVALS = ("1h", "1d")

DOLLARS = ("USD", "USDT", "USDC", "USDE", "FDUSD", "BUSD", "DAI", "PYUSD", "RLUSD")
"""Codes that contracts settle in when they are told in dollars: such a contract is linear, not quanto."""

_DAY = timedelta(days=1)
_EDGE = _DAY
"""How late after an interval's end a sign that it is over may come."""
_HOURS_A_YEAR = 365 * 24
_KEY = ("venue", "instrument_id", "interval", "open_at")
_CONTRACT = r"^([^/:]+)/([^/:]+):([^/:-]+)(?:-\d{6})?$"
_IS_CONTRACT = pl.col("instrument_id").str.contains(_CONTRACT)
_IS_TRADED = (
    pl.col("interval").is_in(INTERVALS)
    & candles.COMPLETE
    & (pl.col("volume") > 0).fill_null(value=True)
    & pl.col("close").is_not_null()
)
"""Bars whose close somebody traded at."""
_RATIO = Column(name="ratio", dtype=pl.Float64(), unit="ratio", nullable=True, doc="")
_CODE = Column(name="code", dtype=pl.String(), doc="")
_OWN = ("funding", "interest", "forced", "mark", "index", "traded")
"""Parts that tell of the contract itself."""
_LIQUIDATED = {"long": "sell", "short": "buy"}


def _liquidation_columns() -> list[Column]:
    count = Column(
        name="liquidations", dtype=pl.Int64(), lower=1, nullable=True, doc="Liquidations recorded."
    )
    return [
        count.but(doc="Liquidations recorded, those of unknown side among them; null where there are none."),
        *(
            count.but(
                name=f"{side}_liquidations", lower=0, doc=f"Those that closed a {side} position by force."
            )
            for side in _LIQUIDATED
        ),
        *(
            VOLUME.but(
                name=f"{side}_liquidated",
                unit="base",
                nullable=True,
                doc=f"What they closed of {side} positions; null where the worth of one is not known.",
            )
            for side in _LIQUIDATED
        ),
    ]


TABLE = Table(
    name="gold.derivatives",
    doc="Funding, basis, open interest and liquidations of perpetual and dated contracts, by hour and by day.",
    columns=(
        VENUE,
        INSTRUMENT_ID.but(
            doc="The contract in ccxt's notation: BTC/USDT:USDT linear, BTC/USD:BTC inverse, dated BTC/USD:BTC-240329."
        ),
        INTERVAL.but(values=INTERVALS, doc="Length of the interval."),
        OPEN_AT.but(doc="First moment of the interval; event_at is its end."),
        EVENT_AT.but(doc="End of the interval: the first moment that is no longer in it."),
        KNOWN_AT.but(
            doc="When all of the row was known: the interval's end, or the last thing it was made from."
        ),
        INGESTED_AT.but(doc="When the last thing that the row was made from reached this lake."),
        _CODE.but(name="base", doc="Asset under the contract, by ccxt's code."),
        _CODE.but(name="quote", doc="Asset that prices are in, by ccxt's code."),
        _CODE.but(name="settle", doc="Asset that the contract settles in, by ccxt's code."),
        _RATIO.but(
            name="funding_rate",
            unit="fraction of the position's value",
            doc="Sum of the rates settled within the interval; longs pay shorts where it is positive.",
        ),
        Column(
            name="funding_count", dtype=pl.Int64(), lower=1, nullable=True, doc="Number of those settlements."
        ),
        Column(
            name="funding_hours",
            dtype=pl.Float64(),
            unit="hours",
            above=0,
            nullable=True,
            doc="Time that those rates are for; null where the venue does not say it of each.",
        ),
        _RATIO.but(
            name="funding_carry",
            unit="fraction a year",
            doc="What longs pay a year at those rates: funding_rate by funding_hours, not compounded.",
        ),
        CLOSE.but(name="price", nullable=True, doc="Price of the contract at the interval's end."),
        _CODE.but(
            name="price_type",
            nullable=True,
            values=("mark", "traded"),
            doc="mark: close of the venue's mark price; traded: price of the last trade.",
        ),
        CLOSE.but(name="index_price", nullable=True, doc="Close of the venue's index under the contract."),
        CLOSE.but(name="spot_price", nullable=True, doc="Close of the spot market of base and quote there."),
        _RATIO.but(name="basis_to_index", doc="price over index_price, less 1."),
        _RATIO.but(name="basis_to_spot", doc="price over spot_price, less 1."),
        _RATIO.but(
            name="basis_annualised",
            unit="fraction a year",
            doc="Basis to the index, else to spot, by the time to expiry; null for perpetuals and unknown expiries.",
        ),
        EVENT_AT.but(
            name="open_interest_at",
            nullable=True,
            doc="Moment of the interval's last sample of open interest.",
        ),
        VOLUME.but(
            name="open_interest",
            unit="base",
            nullable=True,
            doc="What is open, each contract once (see open_interest_sides); null where it is not known in base.",
        ),
        VOLUME.but(name="open_interest_value", unit="quote", nullable=True, doc="open_interest times price."),
        _CODE.but(
            name="open_interest_sides",
            nullable=True,
            values=("one", "halved", "unknown"),
            doc="one: the venue counts a contract once; halved: it counted buyer and seller; unknown: as the venue "
            "tells it, which may be twice.",
        ),
        VOLUME.but(
            name="open_interest_change",
            unit="base",
            lower=None,
            nullable=True,
            doc="open_interest less that of the interval before, of the same provider.",
        ),
        _RATIO.but(
            name="venue_share",
            lower=0,
            upper=1,
            doc="Share of the venue's contracts on this base in the open interest of all venues that are known here.",
        ),
        Column(
            name="venue_count",
            dtype=pl.Int64(),
            lower=1,
            nullable=True,
            doc="Number of venues that the share is of.",
        ),
        Column(
            name="is_share_certain",
            dtype=pl.Boolean(),
            nullable=True,
            doc="Whether it is known of all these contracts that they count once; else the share may be off by "
            "a factor of two.",
        ),
        *_liquidation_columns(),
    ),
    key=("venue", "instrument_id", "interval", "open_at", "known_at"),
    subject=("venue", "instrument_id", "interval"),
    owner="research",
    partition_by=("interval",),
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.derivatives from all rows of its inputs."""
    listings = _listings(inputs["silver.instruments"])
    bars, reference = inputs["gold.candles"], inputs["silver.reference_candles"]
    parts = {
        "funding": _funding(inputs["silver.funding_rates"]),
        "interest": _open_interest(inputs["silver.open_interest"]),
        "forced": _liquidations(inputs["silver.liquidations"], listings),
        "mark": _reference(reference, "mark"),
        "index": _reference(reference, "index"),
        "traded": _closes(bars),
        "spot": _spot(bars, _contracts(inputs)),
    }
    amounts = _amounts({name: parts[name] for name in ("interest", "mark", "traded")}, listings).cache()
    compared = {**parts, "previous": _previous(amounts), "shared": _venue_shares(amounts)}
    said = _said(_over(_moments(compared), _signs(inputs)), compared)
    # Spot and the interval before tell nothing of a contract.
    own = said.filter(pl.any_horizontal(pl.col(_OWN).is_not_null()))
    rows = _told(_listed(own, listings, at="event_at"))
    return drop_repeats(rows.select(TABLE.schema.names()), identity=TABLE.identity, contents=TABLE.contents)


# What each input says of an interval: rows of _KEY and known_at, in all versions


def _funding(rates: pl.LazyFrame) -> pl.LazyFrame:
    hours = pl.when(pl.col("interval_hours").is_not_null().all()).then(pl.col("interval_hours").sum())
    by_provider = (
        _states(rates.filter(_IS_CONTRACT), fact=("provider", "event_at"))
        .group_by(*_KEY, MOMENT, "provider")
        .agg(
            pl.col("ingested_at").max(),
            rate=inexact(exact(pl.col("rate"), decimals=PRODUCT_DECIMALS).sum()),
            count=pl.len().cast(pl.Int64),
            hours=hours,
        )
    )
    most = by_provider.group_by(*_KEY, MOMENT).agg(pl.all().min_by(pl.struct(-pl.col("count"), "provider")))
    return most.drop("provider").rename({MOMENT: "known_at"})


def _open_interest(samples: pl.LazyFrame) -> pl.LazyFrame:
    is_said = pl.any_horizontal(pl.col("amount", "value").is_not_null())
    states = _states(samples.filter(_IS_CONTRACT & is_said), fact=("provider", "event_at"))
    best = pl.struct(pl.col("sides") == "unknown", "provider", -pl.col("event_at").to_physical())
    last = states.group_by(*_KEY, MOMENT).agg(pl.all().min_by(best))
    return last.select(
        *_KEY,
        pl.col(MOMENT).alias("known_at"),
        "ingested_at",
        "provider",
        "amount",
        "amount_unit",
        "value",
        "value_currency",
        "sides",
        at="event_at",
    )


def _liquidations(closings: pl.LazyFrame, listings: pl.LazyFrame) -> pl.LazyFrame:
    states = _states(closings.filter(_IS_CONTRACT), fact=("liquidation_id",))
    in_base = _in_base(pl.col("amount"), pl.col("amount_unit"), pl.col("price"))
    valued = _listed(states, listings, at="end").with_columns(in_base=in_base)
    of = {side: pl.col("side") == order for side, order in _LIQUIDATED.items()}
    amounts = {
        f"{side}_liquidated": pl.when(
            pl.col("in_base").is_not_null().or_(~is_its).fill_null(value=True).all()
        ).then(inexact(exact(pl.col("in_base"), decimals=AMOUNT_DECIMALS).filter(is_its).sum()))
        for side, is_its in of.items()
    }
    return (
        valued.group_by(*_KEY, MOMENT)
        .agg(
            pl.max_horizontal("ingested_at", "listing_ingested_at").max().alias("ingested_at"),
            liquidations=pl.len().cast(pl.Int64),
            **{f"{side}_liquidations": is_its.sum().cast(pl.Int64) for side, is_its in of.items()},
            **amounts,
        )
        .rename({MOMENT: "known_at"})
    )


def _reference(bars: pl.LazyFrame, price_type: str) -> pl.LazyFrame:
    """Close of the bar that ends with the interval: the one of its own length, else the shortest."""
    ours = bars.filter(_IS_CONTRACT, pl.col("price_type") == price_type).rename({"interval": "source"})
    ending = [
        ours.filter(
            pl.col("source").is_in(dividing(interval)),
            pl.col("event_at") == pl.col("event_at").dt.truncate(interval),
        ).with_columns(interval=pl.lit(interval), open_at=pl.col("event_at") - LENGTHS[interval])
        for interval in INTERVALS
    ]
    members = pl.concat(ending).with_columns(end="event_at")
    best = pl.struct(
        is_other=pl.col("source") != pl.col("interval"),
        length=pl.col("source").replace_strict(LENGTHS, return_dtype=pl.Duration("us")),
    )
    closes = _known(members, fact=("source",)).group_by(*_KEY, MOMENT).agg(pl.all().min_by(best))
    return closes.select(*_KEY, pl.col(MOMENT).alias("known_at"), "ingested_at", "close")


def _closes(bars: pl.LazyFrame) -> pl.LazyFrame:
    return bars.filter(_IS_CONTRACT, _IS_TRADED).select(*_KEY, "known_at", "ingested_at", "close")


def _spot(bars: pl.LazyFrame, contracts: pl.LazyFrame) -> pl.LazyFrame:
    """Closes of the spot market of each contract's assets, whether or not there is more to tell of the contract."""
    market = pl.col("instrument_id").str.replace(":.*$", "")
    closes = bars.filter(~_IS_CONTRACT, _IS_TRADED).select(
        "venue", "interval", "open_at", "known_at", "ingested_at", "close", market="instrument_id"
    )
    both = contracts.with_columns(market=market).join(closes, on=["venue", "market"])
    return both.select(*_KEY, "known_at", "ingested_at", "close")


def _contracts(inputs: Inputs) -> pl.LazyFrame:
    """Venue and id of every contract that anything is told of."""
    told = [inputs[name].select("venue", "instrument_id").filter(_IS_CONTRACT) for name, *_ in _SOURCES]
    return pl.concat(told).unique()


def _not_before(rows: pl.LazyFrame, since: pl.Expr) -> pl.LazyFrame:
    """The rows as of a moment and later: of those known before it the newest stands for all."""
    clamped = rows.with_columns(version="known_at", known_at=pl.max_horizontal("known_at", since))
    return clamped.group_by(*_KEY, "known_at").agg(pl.all().max_by("version")).drop("version")


def _states(rows: pl.LazyFrame, *, fact: Sequence[str]) -> pl.LazyFrame:
    """The rows that lie within each interval, as they were known at each moment of news since its end."""
    placed = [
        rows.with_columns(
            interval=pl.lit(interval), open_at=pl.col("event_at").dt.truncate(interval)
        ).with_columns(end=pl.col("open_at") + LENGTHS[interval])
        for interval in INTERVALS
    ]
    return _known(pl.concat(placed), fact=fact)


def _known(members: pl.LazyFrame, *, fact: Sequence[str]) -> pl.LazyFrame:
    moments = members.select(*_KEY, pl.max_horizontal("known_at", "end").alias(MOMENT)).unique()
    return versions_at(members, moments, on=_KEY, fact=fact)


# Putting them together


def _moments(parts: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """Each interval with the moments at which something about it became known, and its end."""
    told = [part.select(*_KEY, "known_at") for part in parts.values()]
    return pl.concat(told).unique().with_columns(event_at=pl.col("open_at") + _length())


def _said(moments: pl.LazyFrame, parts: Mapping[str, pl.LazyFrame]) -> pl.LazyFrame:
    """What every part had last said at each moment, as one struct a part."""
    rows = moments.sort("known_at")
    for name, part in parts.items():
        said = pl.struct(pl.exclude(*_KEY, "known_at")).alias(name)
        rows = rows.join_asof(
            part.sort("known_at").select(*_KEY, "known_at", said),
            on="known_at",
            by=list(_KEY),
            check_sortedness=False,  # cannot be checked with `by`; both sides were sorted just above
        )
    return rows


def _signs(inputs: Inputs) -> pl.LazyFrame:
    """The moments at which something came that was not old: whatever ended before them is over."""
    prompt = [
        inputs[name].filter(where, pl.col("known_at") - pl.col(at) <= _EDGE).select(sign="known_at")
        for name, at, _, where in _SOURCES
    ]
    return pl.concat(prompt).unique()


def _over(moments: pl.LazyFrame, signs: pl.LazyFrame) -> pl.LazyFrame:
    """The moments since a sign within `_EDGE` showed the interval to be over."""
    shown = moments.sort("event_at").join_asof(
        signs.sort("sign"), left_on="event_at", right_on="sign", strategy="forward", tolerance=_EDGE
    )
    since = pl.max_horizontal("known_at", "sign").alias("known_at")
    return shown.drop_nulls("sign").select(*_KEY, since, "event_at").unique()


def _listings(instruments: pl.LazyFrame) -> pl.LazyFrame:
    ours = instruments.filter(_IS_CONTRACT).sort("known_at")
    return ours.select(
        "venue",
        "instrument_id",
        "is_inverse",
        "contract_size",
        "expires_at",
        listed_at="known_at",
        listing_ingested_at="ingested_at",
    )


def _listed(rows: pl.LazyFrame, listings: pl.LazyFrame, *, at: str) -> pl.LazyFrame:
    """Adds what the newest listing known at that moment says."""
    return rows.sort(at).join_asof(
        listings,
        left_on=at,
        right_on="listed_at",
        by=["venue", "instrument_id"],
        coalesce=False,
        check_sortedness=False,  # cannot be checked with `by`; both sides were sorted just above
    )


def _told(rows: pl.LazyFrame) -> pl.LazyFrame:
    price, index, spot = pl.col("price"), pl.col("index_price"), pl.col("spot_price")
    names = (*_OWN, "spot", "previous", "shared")
    is_same_provider = _of("previous", "provider") == _of("interest", "provider")
    return (
        rows.with_columns(
            pl.max_horizontal(*(_of(name, "ingested_at") for name in names), "listing_ingested_at").alias(
                "ingested_at"
            ),
            base=_code(1),
            quote=_code(2),
            settle=_code(3),
            funding_rate=_of("funding", "rate"),
            funding_count=_of("funding", "count"),
            funding_hours=_of("funding", "hours"),
            funding_carry=_of("funding", "rate") / _of("funding", "hours") * _HOURS_A_YEAR,
            price=_price(),
            price_type=pl.when(_of("mark", "close").is_not_null())
            .then(pl.lit("mark"))
            .when(_price().is_not_null())
            .then(pl.lit("traded")),
            index_price=_of("index", "close"),
            spot_price=_of("spot", "close"),
            open_interest_at=_of("interest", "at"),
            open_interest=_interest(),
            open_interest_sides=_of("interest", "sides").replace({"both": "halved"}),
            venue_share=_of("shared", "share"),
            venue_count=_of("shared", "count"),
            is_share_certain=_of("shared", "is_certain"),
            **{column.name: _of("forced", column.name) for column in _liquidation_columns()},
        )
        .with_columns(
            basis_to_index=price / index - 1,
            basis_to_spot=price / spot - 1,
            basis_annualised=(price / pl.coalesce(index, spot) - 1) / _years_left(),
            open_interest_change=pl.when(is_same_provider).then(
                pl.col("open_interest") - _of("previous", "open_interest")
            ),
        )
        .with_columns(open_interest_value=pl.col("open_interest") * price)
    )


def _of(part: str, field: str) -> pl.Expr:
    return pl.col(part).struct.field(field)


def _years_left() -> pl.Expr:
    is_dated = pl.col("instrument_id").str.contains(r"-\d{6}$")
    left = (pl.col("expires_at") - pl.col("event_at")).dt.total_microseconds() / 3.6e9 / _HOURS_A_YEAR
    return pl.when(is_dated & (left > 0)).then(left)


def _code(group: int) -> pl.Expr:
    """Base (1), quote (2) and settlement asset (3) of the notation."""
    return pl.col("instrument_id").str.extract(_CONTRACT, group)


def _price() -> pl.Expr:
    return pl.coalesce(_of("mark", "close"), _of("traded", "close"))


def _interest() -> pl.Expr:
    """Open interest in base, each contract once where that is known; by its amount, else by its value."""
    value, currency = _of("interest", "value"), _of("interest", "value_currency")
    by_value = pl.when(currency == _code(1)).then(value).when(currency == _code(2)).then(value / _price())
    by_amount = _in_base(_of("interest", "amount"), _of("interest", "amount_unit"), _price())
    return pl.coalesce(by_amount, by_value) / pl.when(_of("interest", "sides") == "both").then(2).otherwise(1)


def _in_base(amount: pl.Expr, unit: pl.Expr, price: pl.Expr) -> pl.Expr:
    """An amount in base; null where the listing or the price that it takes is not known."""
    base, quote, settle = (_code(group) for group in (1, 2, 3))
    is_linear = (settle == quote) | (quote.is_in(DOLLARS) & settle.is_in(DOLLARS))
    worth = amount * pl.col("contract_size")
    in_contracts = unit == "contracts"
    return (
        pl.when(unit == "base")
        .then(amount)
        .when(unit == "quote")
        .then(amount / price)
        .when(in_contracts & pl.col("is_inverse") & (settle == base))
        .then(worth / price)
        .when(in_contracts & ~pl.col("is_inverse") & is_linear)
        .then(worth)
    )


def _amounts(parts: Mapping[str, pl.LazyFrame], listings: pl.LazyFrame) -> pl.LazyFrame:
    """What is open of each contract and how sure that is, in all versions."""
    said = _said(_moments(parts), parts).filter(pl.col("interest").is_not_null())
    known = _listed(said, listings, at="event_at").select(
        *_KEY,
        "known_at",
        pl.max_horizontal(*(_of(name, "ingested_at") for name in parts), "listing_ingested_at").alias(
            "ingested_at"
        ),
        base=_code(1),
        provider=_of("interest", "provider"),
        is_certain=_of("interest", "sides") != "unknown",
        open_interest=_interest(),
    )
    return drop_repeats(known, identity=_KEY, contents=("open_interest", "provider", "is_certain"))


def _previous(amounts: pl.LazyFrame) -> pl.LazyFrame:
    """What was open in the interval before, as known since the end of this one."""
    moved = amounts.select(
        *_KEY[:3],
        "known_at",
        "ingested_at",
        "provider",
        "open_interest",
        open_at=pl.col("open_at") + _length(),
    )
    return _not_before(moved, pl.col("open_at") + _length())


def _venue_shares(amounts: pl.LazyFrame) -> pl.LazyFrame:
    """Each venue's share in the asset's open interest, for the contracts whose own is known by then."""
    asset = ("base", "interval", "open_at")
    moments = amounts.select(*asset, pl.col("known_at").alias(MOMENT)).unique()
    by_venue = (
        versions_at(amounts, moments, on=asset, fact=("venue", "instrument_id"))
        .group_by(*asset, MOMENT, "venue")
        .agg(
            pl.col("instrument_id"),
            amount=exact(pl.col("open_interest"), decimals=AMOUNT_DECIMALS).sum(),
            is_told=pl.col("open_interest").is_not_null().all(),
            is_certain=pl.col("is_certain").all(),
            ingested_at=pl.col("ingested_at").max(),
        )
    )
    totals = by_venue.group_by(*asset, MOMENT).agg(
        pl.col("is_told", "is_certain").all(),
        total=pl.col("amount").sum(),
        count=pl.len().cast(pl.Int64),
        ingested_at=pl.col("ingested_at").max(),
    )
    share = inexact(pl.col("amount")) / inexact(pl.col("total"))
    contracts = by_venue.select(*asset, MOMENT, "venue", "instrument_id", "amount").explode("instrument_id")
    return contracts.join(totals, on=[*asset, MOMENT]).select(
        *_KEY,
        pl.col(MOMENT).alias("known_at"),
        "ingested_at",
        "count",
        "is_certain",
        share=pl.when(pl.col("is_told") & (pl.col("total") > 0)).then(share),
    )


def _length() -> pl.Expr:
    return pl.col("interval").replace_strict(LENGTHS, return_dtype=pl.Duration("us"))


# What a row was made from


def _own(row: Row, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Those of the contract within the interval."""
    return rows.filter(
        *_is_about(row), pl.col("event_at").is_between(row["open_at"], row["event_at"], "left")
    )


def _samples(row: Row, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Open interest of all contracts that the share compares, and that of the contract in the interval before."""
    before = row["open_at"] - LENGTHS[row["interval"]]
    has_base = pl.col("instrument_id").str.starts_with(f"{row['base']}/")
    is_inside = pl.col("event_at").is_between(row["open_at"], row["event_at"], "left")
    is_before = pl.col("event_at").is_between(before, row["open_at"], "left")
    return rows.filter((has_base & is_inside) | pl.all_horizontal(*_is_about(row), is_before))


def _ending(row: Row, bars: pl.LazyFrame) -> pl.LazyFrame:
    return bars.filter(
        *_is_about(row), pl.col("event_at") == row["event_at"], pl.col("price_type") != "premium"
    )


def _bars(row: Row, bars: pl.LazyFrame) -> pl.LazyFrame:
    markets = [row["instrument_id"], row["instrument_id"].partition(":")[0]]
    is_either = (pl.col("venue") == row["venue"]) & pl.col("instrument_id").is_in(markets)
    return bars.filter(is_either, *(pl.col(name) == row[name] for name in ("interval", "open_at")))


def _newest_listing(row: Row, listings: pl.LazyFrame) -> pl.LazyFrame:
    return listings.filter(*_is_about(row), pl.col("known_at") <= row["event_at"]).sort("known_at").tail(1)


def _is_about(row: Row) -> list[pl.Expr]:
    return [pl.col(name) == row[name] for name in ("venue", "instrument_id")]


_SOURCES = (
    ("silver.funding_rates", "event_at", _own, _IS_CONTRACT),
    ("silver.open_interest", "event_at", _samples, _IS_CONTRACT),
    ("silver.liquidations", "event_at", _own, _IS_CONTRACT),
    ("silver.reference_candles", "event_at", _ending, _IS_CONTRACT),
    ("gold.candles", "open_at", _bars, _IS_TRADED),
)

MODEL = Model(
    table=TABLE,
    groups=(),
    clock="open_at",
    reaches=(
        *(
            Reach(
                input=name,
                at="open_at",
                of=of,
                before=_DAY,
                after=_EDGE,
                snap=_DAY,
                where=where,
                made_of=made_of,
            )
            for name, of, made_of, where in _SOURCES
        ),
        Reach(
            input="silver.instruments",
            at="open_at",
            of="known_at",
            before=None,
            snap=_DAY,
            where=_IS_CONTRACT,
            made_of=_newest_listing,
        ),
    ),
    build=build,
)
