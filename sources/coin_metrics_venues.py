"""Which instrument of which exchange a CoinMetrics market is, in the words of ccxt. Only where that is certain.

CoinMetrics names assets in its own way: `binance-1000FLOKIUSDT-future` has the base `floki`, in ccxt it is 1000FLOKI.
So a market is mapped only if the exchange's own symbol, which the market's reference entry tells, is what the row of
VENUES makes of codes that `sources.identity` knows to mean the market's base and quote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Literal

from sources.identity import asset_of, assets


@dataclass(frozen=True, kw_only=True)
class Venue:
    """One kind of market of one exchange: what it is called there and in ccxt."""

    exchange: str
    """CoinMetrics' id of the exchange."""
    type: Literal["spot", "future"]
    ccxt: str
    symbols: tuple[str, ...]
    """The exchange's symbols, of what does not expire."""
    dated: tuple[str, ...] = ()
    """Its symbols of futures that expire; `date` is 210326, `day` is 26MAR21."""
    has_own_trade_ids: bool = False
    """Whether `coin_metrics_id` is the id that ccxt gives a trade: CoinMetrics keeps an exchange's numeric ids and
    makes numbers of others; ccxt asks Binance for aggregated trades, which have other ids."""


VENUES = (
    Venue(
        exchange="coinbase",
        type="spot",
        ccxt="coinbaseexchange",
        symbols=("{base}-{quote}",),
        has_own_trade_ids=True,
    ),
    Venue(
        exchange="bitstamp",
        type="spot",
        ccxt="bitstamp",
        symbols=("{base}{quote}", "{base}/{quote}"),
        has_own_trade_ids=True,
    ),
    Venue(exchange="gemini", type="spot", ccxt="gemini", symbols=("{base}{quote}",), has_own_trade_ids=True),
    Venue(exchange="okex", type="spot", ccxt="okx", symbols=("{base}-{quote}",), has_own_trade_ids=True),
    Venue(exchange="binance", type="spot", ccxt="binance", symbols=("{base}{quote}",)),
    Venue(
        exchange="binance",
        type="future",
        ccxt="binance",
        symbols=("{base}{quote}", "{base}{quote}_PERP"),
        dated=("{base}{quote}_{date}",),
    ),
    Venue(exchange="bybit", type="future", ccxt="bybit", symbols=("{base}{quote}", "{base}PERP")),
    Venue(
        exchange="okex",
        type="future",
        ccxt="okx",
        symbols=("{base}-{quote}-SWAP",),
        dated=("{base}-{quote}-{date}",),
        has_own_trade_ids=True,
    ),
    Venue(
        exchange="deribit",
        type="future",
        ccxt="deribit",
        symbols=("{base}-PERPETUAL", "{base}_{quote}-PERPETUAL"),
        dated=("{base}-{day}",),
    ),
    Venue(exchange="huobi", type="future", ccxt="htx", symbols=("{base}-{quote}",)),
    Venue(
        exchange="kraken",
        type="future",
        ccxt="krakenfutures",
        symbols=("PI_{base}{quote}", "PF_{base}{quote}"),
        dated=("FI_{base}{quote}_{date}",),
    ),
)

_BY_KIND: Mapping[tuple[str, str], Venue] = {(venue.exchange, venue.type): venue for venue in VENUES}


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """An instrument as silver names it."""

    venue: str
    instrument_id: str
    amount_unit: str
    """CoinMetrics counts the base on spot markets and contracts elsewhere."""
    has_own_trade_ids: bool


def instrument_of(entry: Mapping[str, str]) -> Instrument | None:
    """The instrument that a market's reference entry describes; None where that is not certain."""
    venue = _BY_KIND.get((entry.get("exchange", ""), entry.get("type", "")))
    base, quote = entry.get("base", ""), entry.get("quote", "")
    try:
        expiry = _expiry(entry)
    except ValueError:
        return None
    if venue is None or entry.get("symbol", "").upper() not in _symbols(venue, base, quote, expiry):
        return None
    suffix = _suffix(entry, expiry) if venue.type == "future" else ""
    if suffix is None:
        return None
    return Instrument(
        venue=venue.ccxt,
        instrument_id=f"{base.upper()}/{quote.upper()}{suffix}",
        amount_unit="base" if venue.type == "spot" else "contracts",
        has_own_trade_ids=venue.has_own_trade_ids,
    )


def _symbols(venue: Venue, base: str, quote: str, expiry: datetime | None) -> set[str]:
    """What the exchange may call it."""
    dates = {"date": f"{expiry:%y%m%d}", "day": f"{expiry.day}{expiry:%b%y}".upper()} if expiry else {}
    return {
        shape.format(base=one, quote=other, **dates)
        for shape in (venue.dated if expiry else venue.symbols)
        for one, other in product(_codes(venue.ccxt, base), _codes(venue.ccxt, quote))
    }


def _codes(venue: str, asset: str) -> Iterator[str]:
    """The codes that mean an asset on a venue with certainty; ccxt's word for all of them is the id in capitals."""
    known = {asset.upper(), *assets().venues.get(venue, {})}
    return (code for code in known if (found := asset_of(venue, code)) and found[0] == asset)


def _suffix(entry: Mapping[str, str], expiry: datetime | None) -> str | None:
    """What a contract settles in and when it ends; None for one that pays in neither its base nor its quote."""
    margin = entry.get("margin_asset")
    if not margin or margin not in (entry["base"], entry["quote"]):
        return None
    return f":{margin.upper()}" + (f"-{expiry:%y%m%d}" if expiry else "")


def _expiry(entry: Mapping[str, str]) -> datetime | None:
    said = entry.get("expiration")
    return datetime.fromisoformat(said[: len("2021-03-26T08:00:00")]) if said else None
