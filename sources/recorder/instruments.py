"""What a stream must know of the instruments that it is asked for: from silver.instruments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

import polars as pl

from lakehouse.errors import UsageError, unknown
from lakehouse.silver import instruments as table
from lakehouse.store import Store
from sources.ccxt_exchange import connected
from sources.ccxt_pages import call_of, market_of
from sources.ccxt_rules import TradeRules, amount_unit, rules_of
from sources.client import Client
from sources.stream import Instrument
from sources.venues.session import VenueStream

_SYMBOL_IS_ID = frozenset({"kraken"})
"""Streams that call instruments as ccxt does, and not by the venue's REST id."""


def subject_of(stream: VenueStream, subject: str) -> str:
    """The instrument of `kraken:BTC/USD`; UsageError for a subject of another venue."""
    venue, colon, instrument_id = subject.partition(":")
    if not colon or venue not in (stream.name, stream.venue) or not instrument_id:
        raise UsageError(f"subject {subject!r} of stream {stream.name} is not {stream.venue}:instrument")
    return instrument_id


def instruments_of(store: Store, stream: VenueStream, subjects: Sequence[str]) -> list[Instrument]:
    """The instruments of some subjects; UsageError names the nearest ones, or says how the list comes into the lake."""
    ids = [subject_of(stream, subject) for subject in subjects]
    if stream.provider != "ccxt":
        return [Instrument(instrument_id=one, symbol=one, amount_unit="shares") for one in ids]
    return list(_of_ccxt(store, stream, ids))


def with_markets(client: Client, exchange: str, instruments: Iterable[Instrument]) -> list[Instrument]:
    """The instruments with what ccxt knows of their markets, as the exchange lists them now."""
    with connected(client, lambda _reply: ()) as ask:
        return [
            replace(one, market=call_of("fetch_trades", exchange, market, {}).market)
            for one in instruments
            for market in [market_of(client, ask, exchange, one.instrument_id)]
        ]


def _of_ccxt(store: Store, stream: VenueStream, ids: Sequence[str]) -> Iterator[Instrument]:
    stored = store.find(table.TABLE)
    rows = (
        stored.scan().filter(pl.col("venue") == stream.venue).sort("known_at").collect()
        if stored
        else table.TABLE.schema.to_frame()
    )
    newest = {row["instrument_id"]: row for row in rows.iter_rows(named=True)}
    if not newest:
        lists = f"`mnemo ingest ccxt_markets --subject {stream.venue}` and `mnemo promote {table.TABLE.name}`"
        raise UsageError(f"the instruments of {stream.venue} are not known yet; run {lists}")
    said = rules_of(stream.venue)
    rules = said.trades or said.books or TradeRules()
    for one in ids:
        if one not in newest:
            raise unknown(f"instrument of {stream.venue}", one, newest)
        row = newest[one]
        market = {"contract": row["is_inverse"] is not None, "inverse": row["is_inverse"]}
        unit = amount_unit(market, rules)
        if unit is None:
            raise UsageError(f"{stream.venue}:{one}: exchanges.yaml does not say what an amount of it counts")
        yield Instrument(
            instrument_id=one,
            symbol=one if stream.name in _SYMBOL_IS_ID else row["venue_symbol"],
            amount_unit=unit,  # type: ignore[arg-type]
            price_digits=_digits(row["price_step"]),
            amount_digits=_digits(row["amount_step"]),
        )


def _digits(step: float | None) -> int | None:
    """Decimal digits of a step: 0.01 has 2."""
    if step is None:
        return None
    exponent = Decimal(str(step)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else None
