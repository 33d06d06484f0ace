"""gold.reconciliation: our bars beside those that others made of the same trades, figure by figure.

Three comparisons, told apart by `against` and `rebuilt_from`:

1. the venue's delivered candles against bars made from its trades,
2. the venue's delivered candles against bars rolled up from its own finer candles,
3. CoinMetrics' candles of the same market against gold.candles, whatever that was made from.

Only bars that both sides have are here: what is missing is the coverage ledger's to say. A bar has a version for each
state of knowledge about either side. Reasons, of a figure and of the bar (the gravest of its figures):

- `equal`, or `rounding`: apart by no more than the venue's tolerance (`TOLERANCES`);
- `not_compared`: one side does not say it;
- `volume_unit`: the two count different things, so the volumes are not compared;
- `trade_order`: open or close differ while high, low, volume and count agree: of trades at one moment, or at the bar's
  very edge, the other one was taken;
- `missing_trades`: we have fewer trades or less volume, our prices are inside theirs, and one is the same;
- `late_trade`: we have more trades or more volume, their prices are inside ours, and one is the same: the bar was made
  before all trades were known, or leaves some out;
- `different`: none of these explains it.

A change of silver.candles dirties the bars of its instrument in the UTC day of it and in those beside it, one of
gold.candles its bar, one of CoinMetrics' candles those of its market from then on.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import product

import polars as pl

from lakehouse.asof import drop_repeats
from lakehouse.contract import Column, Rule, Table
from lakehouse.fields import (
    EVENT_AT,
    INGESTED_AT,
    INSTRUMENT_ID,
    INTERVAL,
    KNOWN_AT,
    OPEN_AT,
    VENUE,
    VOLUME_UNIT,
)
from lakehouse.gold import candles
from lakehouse.model import Inputs, Model, Reach, Row
from lakehouse.rolled_bars import EDGE, ROLLED, bars_from_bars

INTERVALS = candles.INTERVALS


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """By how much two figures may differ and still say the same."""

    price: float = 1e-9
    """Share of the other's figure. Two Float64 of one decimal text never differ by more."""
    amount: float = 1e-9
    """Share of the other's volume."""
    amount_step: float = 1e-8
    """And so much of it, in its unit: the last decimal that volumes are told in."""
    vwap: float = 1e-6
    """Share: averages are told rounded."""


TOLERANCES: Mapping[str, Tolerance] = {
    # Average prices of OHLC rows are rounded to the tick of the pair.
    "kraken": Tolerance(vwap=1e-5),
}
"""By venue; others have `Tolerance()`."""

_EXCHANGES = {
    "binance": "binance",
    "bitstamp": "bitstamp",
    "coinbaseexchange": "coinbase",
    "gemini": "gemini",
    "okx": "okex",
}
_BASES, _QUOTES = ("BTC", "ETH", "LTC"), ("USD", "USDT", "USDC", "EUR", "GBP", "BTC")
MARKETS: Mapping[tuple[str, str], str] = {
    (venue, f"{base}/{quote}"): f"{exchange}-{base}-{quote}-spot".lower()
    for (venue, exchange), base, quote in product(_EXCHANGES.items(), _BASES, _QUOTES)
    if base != quote
}
"""CoinMetrics' names of spot markets by venue and instrument: only assets that are called alike on both sides."""

FIELDS = ("open", "high", "low", "close", "volume", "trade_count", "vwap")
_PRICES = ("open", "high", "low", "close")
AGREE = ("equal", "rounding", "not_compared")
REASONS = (*AGREE, "volume_unit", "trade_order", "late_trade", "missing_trades", "different")
"""The gravest last."""

_UNITS = {"volume": "volume_unit", "trade_count": "trades"}
_REASON = Column(
    name="reason", dtype=pl.String(), values=REASONS, doc="Why the two differ, or that they do not."
)


def _columns_of(field: str) -> tuple[Column, ...]:
    unit = _UNITS.get(field, "quote")
    figure = Column(
        name=field, dtype=pl.Float64(), nullable=True, unit=unit, doc=f"The bar's {field}, by us."
    )
    return (
        figure,
        figure.but(name=f"their_{field}", doc=f"The bar's {field}, by them."),
        _REASON.but(name=f"{field}_reason", doc=f"How the two {field} compare."),
    )


TABLE = Table(
    name="gold.reconciliation",
    doc="Bars made here beside the same bars made by the venue or by CoinMetrics, with the reason of each difference.",
    columns=(
        VENUE,
        INSTRUMENT_ID,
        INTERVAL.but(values=INTERVALS),
        OPEN_AT,
        EVENT_AT.but(doc="End of the bar: the first moment that is no longer in it."),
        KNOWN_AT.but(doc="When both sides were known to be these."),
        INGESTED_AT.but(doc="When the later of the two reached this lake."),
        Column(
            name="against", dtype=pl.String(), values=("venue", "coinmetrics"), doc="Who made the other bar."
        ),
        Column(
            name="rebuilt_from",
            dtype=pl.String(),
            values=("trades", "candles"),
            doc="What ours was made from: trades, or candles (against the venue: its finer ones).",
        ),
        VOLUME_UNIT.but(nullable=True, doc="What our volume counts."),
        VOLUME_UNIT.but(name="their_volume_unit", nullable=True, doc="What their volume counts."),
        *(column for field in FIELDS for column in _columns_of(field)),
        Column(
            name="agrees", dtype=pl.Boolean(), doc="No figure that both sides tell differs beyond tolerance."
        ),
        _REASON.but(doc="The gravest reason among its figures."),
    ),
    key=("venue", "instrument_id", "interval", "open_at", "against", "rebuilt_from", "known_at"),
    subject=("venue", "instrument_id", "interval", "against", "rebuilt_from"),
    owner="market-data",
    partition_by=("venue", "interval"),
    rules=(
        Rule(
            name="known_before_close",
            check=pl.col("known_at") >= pl.col("event_at"),
            reason="the bar was known before it was closed",
        ),
    ),
)


def build(inputs: Inputs) -> pl.LazyFrame:
    """Rows of gold.reconciliation from all rows of gold.candles, silver.candles and silver.bars."""
    built = inputs["gold.candles"].filter(pl.col("interval").is_in(INTERVALS))
    delivered = inputs["silver.candles"].filter(pl.col("interval").is_in(INTERVALS))
    rolled = bars_from_bars(_with_nulls(inputs["silver.candles"]), INTERVALS, finer_only=True)
    traded = built.filter(pl.col("built_from") == "trades")
    by_venue = _figures(_with_nulls(delivered), "their_")
    by_vendor = _figures(_of_vendor(inputs["silver.bars"]), "their_")
    pairs = [
        _paired(_figures(traded), by_venue, against="venue", rebuilt_from=pl.lit("trades")),
        _paired(_figures(rolled), by_venue, against="venue", rebuilt_from=pl.lit("candles")),
        _paired(
            _figures(built, "", "built_from"),
            by_vendor,
            against="coinmetrics",
            rebuilt_from=pl.col("built_from"),
        ),
    ]
    judged = _judged(pl.concat(pairs)).select(TABLE.schema.names())
    return drop_repeats(judged, identity=TABLE.identity, contents=TABLE.contents)


_BAR = ("venue", "instrument_id", "interval", "open_at")
_CLOCKS = ("event_at", "known_at", "ingested_at")


def _with_nulls(delivered: pl.LazyFrame) -> pl.LazyFrame:
    return delivered.with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in ROLLED.items())


def _of_vendor(bars: pl.LazyFrame) -> pl.LazyFrame:
    """CoinMetrics' candles of the markets that are certain, under our names; their spot volume is in base."""
    names = [
        {"symbol": symbol, "venue": venue, "instrument_id": instrument_id}
        for (venue, instrument_id), symbol in MARKETS.items()
    ]
    ours = pl.LazyFrame(names, schema=dict.fromkeys(("symbol", "venue", "instrument_id"), pl.String))
    return bars.filter(_IS_VENDORS).join(ours, on="symbol").with_columns(volume_unit=pl.lit("base"))


def _figures(bars: pl.LazyFrame, prefix: str = "", *beside: str) -> pl.LazyFrame:
    told = [pl.col(name).cast(pl.Float64) for name in FIELDS]
    clocks = ("known_at", "ingested_at")
    return bars.select(
        *_BAR,
        "event_at",
        *beside,
        *(column.name.prefix(prefix) for column in (*told, pl.col("volume_unit"), *(map(pl.col, clocks)))),
    )


def _paired(ours: pl.LazyFrame, theirs: pl.LazyFrame, *, against: str, rebuilt_from: pl.Expr) -> pl.LazyFrame:
    """Each state of knowledge about both: of the versions known at a moment the newest of each side."""
    both = ours.join(theirs, on=[*_BAR, "event_at"]).with_columns(
        moment=pl.max_horizontal("known_at", "their_known_at")
    )
    newest = pl.struct("known_at", "their_known_at")
    return (
        both.group_by(*_BAR, "event_at", "moment")
        .agg(pl.all().max_by(newest))
        .with_columns(
            known_at=pl.col("moment"),
            ingested_at=pl.max_horizontal("ingested_at", "their_ingested_at"),
            against=pl.lit(against),
            rebuilt_from=rebuilt_from,
        )
        .drop("moment", "their_known_at", "their_ingested_at", "built_from", strict=False)
    )


def _judged(pairs: pl.LazyFrame) -> pl.LazyFrame:
    """With the reason of each figure and of the bar."""
    why = _why()
    judged = pairs.with_columns(_within(name).alias(f"{name}_within") for name in FIELDS).with_columns(
        _reason(name, why).alias(f"{name}_reason") for name in FIELDS
    )
    reasons = [pl.col(f"{name}_reason") for name in FIELDS]
    # A figure that nobody can compare says nothing where others can be.
    order = ("not_compared", *(name for name in REASONS if name != "not_compared"))
    gravest = pl.max_horizontal(reason.replace_strict(order, range(len(order))) for reason in reasons)
    return judged.with_columns(
        agrees=pl.all_horizontal(reason.is_in(AGREE) for reason in reasons),
        reason=gravest.replace_strict(range(len(order)), order, return_dtype=pl.String),
    )


def _tolerance(name: str) -> pl.Expr:
    """By how much the two may differ, in the unit of the figure."""
    by_venue = {venue: getattr(one, name) for venue, one in TOLERANCES.items()}
    return pl.col("venue").replace_strict(
        by_venue or {"": 0.0}, default=getattr(Tolerance(), name), return_dtype=pl.Float64
    )


def _allowed(name: str) -> pl.Expr:
    theirs = pl.col(f"their_{name}").abs()
    if name == "trade_count":
        return pl.lit(0.0)
    if name == "volume":
        return theirs * _tolerance("amount") + _tolerance("amount_step")
    return theirs * _tolerance("price" if name in _PRICES else "vwap")


def _is_one_unit() -> pl.Expr:
    return pl.col("volume_unit").eq_missing(pl.col("their_volume_unit"))


def _within(name: str) -> pl.Expr:
    """Whether the two say the same; null where one of them does not say it."""
    is_near = (pl.col(name) - pl.col(f"their_{name}")).abs() <= _allowed(name)
    return pl.when(_is_one_unit()).then(is_near) if name == "volume" else is_near


def _why() -> pl.Expr:
    """What explains figures that differ."""
    slack_high, slack_low = _allowed("high"), _allowed("low")
    is_ours_inside = (pl.col("high") <= pl.col("their_high") + slack_high) & (
        pl.col("low") >= pl.col("their_low") - slack_low
    )
    is_theirs_inside = (pl.col("their_high") <= pl.col("high") + slack_high) & (
        pl.col("their_low") >= pl.col("low") - slack_low
    )
    more_trades = pl.col("trade_count") - pl.col("their_trade_count")
    more_volume = pl.when(_is_one_unit() & ~pl.col("volume_within")).then(
        pl.col("volume") - pl.col("their_volume")
    )
    more = pl.when(more_trades != 0).then(more_trades).otherwise(more_volume)
    # Bars of one market that lack some trades still share a price; bars of two markets rarely do.
    is_akin = pl.any_horizontal(pl.col(f"{name}_within") for name in _PRICES)
    agree = [
        pl.col(f"{name}_within").fill_null(value=True) for name in ("high", "low", "volume", "trade_count")
    ]
    return (
        pl.when(pl.all_horizontal(agree))
        .then(pl.lit("trade_order"))
        .when((more < 0) & is_ours_inside & is_akin)
        .then(pl.lit("missing_trades"))
        .when((more > 0) & is_theirs_inside & is_akin)
        .then(pl.lit("late_trade"))
        .otherwise(pl.lit("different"))
    )


def _reason(name: str, why: pl.Expr) -> pl.Expr:
    ours, theirs = pl.col(name), pl.col(f"their_{name}")
    is_told = ours.is_not_null() & theirs.is_not_null()
    is_other_unit = ~_is_one_unit() if name == "volume" else pl.lit(value=False)
    return (
        pl.when(~is_told)
        .then(pl.lit("not_compared"))
        .when(is_other_unit)
        .then(pl.lit("volume_unit"))
        .when(ours == theirs)
        .then(pl.lit("equal"))
        .when(pl.col(f"{name}_within"))
        .then(pl.lit("rounding"))
        .otherwise(why)
    )


def _same_bar(bar: Row, bars: pl.LazyFrame) -> pl.LazyFrame:
    return bars.filter(pl.col("interval") == bar["interval"], pl.col("open_at") == bar["open_at"])


def _built_bar(bar: Row, bars: pl.LazyFrame) -> pl.LazyFrame:
    is_rolled = bar["against"] == "venue" and bar["rebuilt_from"] == "candles"
    return bars.clear() if is_rolled else _same_bar(bar, bars)


def _delivered_bars(bar: Row, bars: pl.LazyFrame) -> pl.LazyFrame:
    if bar["against"] != "venue":
        return bars.clear()
    inside = bars.filter(pl.col("open_at").is_between(bar["open_at"], bar["event_at"], closed="left"))
    return inside if bar["rebuilt_from"] == "candles" else _same_bar(bar, inside)


def _vendor_bar(bar: Row, bars: pl.LazyFrame) -> pl.LazyFrame:
    return _same_bar(bar, bars) if bar["against"] == "coinmetrics" else bars.clear()


_IS_STORED = pl.col("interval").is_in(INTERVALS)
_IS_VENDORS = (
    (pl.col("provider") == "coinmetrics") & pl.col("symbol").is_in(list(MARKETS.values())) & _IS_STORED
)
_INSTRUMENT = {"venue": "venue", "instrument_id": "instrument_id"}

MODEL = Model(
    table=TABLE,
    groups=("venue", "instrument_id"),
    clock="open_at",
    reaches=(
        Reach(
            input="gold.candles",
            by=_INSTRUMENT,
            at="open_at",
            of="open_at",
            where=_IS_STORED,
            made_of=_built_bar,
        ),
        Reach(
            input="silver.candles",
            by=_INSTRUMENT,
            at="open_at",
            before=EDGE,
            after=EDGE,
            snap=timedelta(days=1),
            made_of=_delivered_bars,
        ),
        Reach(input="silver.bars", by={"symbol": "symbol"}, where=_IS_VENDORS, made_of=_vendor_bar),
    ),
    build=build,
    grid="gold.candles",
    derived={
        "symbol": pl.concat_str("venue", "instrument_id", separator=" ").replace_strict(
            {f"{venue} {instrument_id}": symbol for (venue, instrument_id), symbol in MARKETS.items()},
            default=None,
            return_dtype=pl.String,
        )
    },
)
