"""What the feeds must know of an exchange beside what ccxt knows: the rows of `exchanges.yaml`, read and checked.

A row may be empty: then ccxt's own word counts for what the exchange has, pages are small and windows short. What
cannot be guessed (what a number counts) is not offered until the row says it. Nothing here imports ccxt.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from lakehouse.errors import SettingsError, UsageError, unknown

Paging = Literal["newest", "forward_time", "backward_time", "forward_id", "backward_id", "kraken_last"]
Walk = Literal["slices", "steps", "backward", "whole"]
AmountUnit = Literal["base", "quote", "contracts"]
Price = Literal["mark", "index", "premium"]
TickerField = Literal[
    "bid", "bid_amount", "ask", "ask_amount", "last", "open", "high", "low", "vwap",
    "base_volume", "quote_volume", "mark_price", "index_price",
]  # fmt: skip

_CONFIG = ConfigDict(extra="forbid", frozen=True)
_SMALL_PAGE = 100
_HOUR_S = 3600.0


class CandleRules(BaseModel):
    """How an exchange gives bars."""

    model_config = _CONFIG
    limit: PositiveInt = _SMALL_PAGE
    """Most bars in one answer."""
    until: bool = False
    """Whether the end of the window must be sent too; else start and limit bound it."""
    newest_only: bool = False
    """Whether only the newest `limit` bars can be had, wherever the window begins."""
    last_is_open: bool = False
    """Whether the last bar of every answer is the one that is still open."""
    settles_s: float = Field(default=2.0, ge=0, le=60)
    """Seconds after its end until a bar has its last trades and is taken for closed."""
    omits_empty: bool = False
    """Whether bars without a trade are left out; else every bar is there, and one that is not is missing."""
    trade_count_index: NonNegativeInt | None = None
    """Where the venue's row has the number of trades."""
    contract_volume: AmountUnit | None = None
    """What volume counts for contracts; for spot it is always base. None: not known, so not fetched."""


class TradeRules(BaseModel):
    """How an exchange gives past trades; the ways of paging are in `sources.ccxt_paging`."""

    model_config = _CONFIG
    limit: PositiveInt = _SMALL_PAGE
    contract_limit: PositiveInt | None = None
    """Most trades in one answer for contracts, where that differs."""
    paging: Paging = "newest"
    cursor: str = ""
    """Parameter that takes a trade id, for paging by id."""
    params: dict[str, str] = {}
    counted_ids: bool = False
    """Whether ids count the trades of an instrument one by one, so that a jump is a hole."""
    linear_amount: AmountUnit = "contracts"
    inverse_amount: AmountUnit = "contracts"
    """What the amount of a trade counts for contracts; for spot it is always base."""

    @model_validator(mode="after")
    def _cursor_where_needed(self) -> TradeRules:
        if self.paging.endswith("_id") != bool(self.cursor):
            raise ValueError("cursor goes with paging forward_id and backward_id, and only with them")
        return self


class HistoryRules(BaseModel):
    """How an exchange gives what happened at moments: settlements, samples, liquidations."""

    model_config = _CONFIG
    limit: PositiveInt = _SMALL_PAGE
    """Most rows in one answer; where it counts all instruments, that too."""
    walk: Walk = "slices"
    """slices: windows with both ends, halved where a page comes full; steps: from a start on, as many rows as fit;
    backward: from the end, older than `cursor`; whole: one answer has all."""
    every_s: PositiveFloat = 8 * _HOUR_S
    """Usual time between two rows: so many times `limit` is a window's length."""
    cursor: str = ""
    """Parameter of the walk backward: milliseconds, rows older than it."""
    seconds_params: tuple[str, str] | None = None
    """Parameters for the ends of a slice in whole seconds, where ccxt sends them wrongly."""
    reach_days: PositiveFloat | None = None
    """How far back the exchange keeps them."""

    @model_validator(mode="after")
    def _cursor_where_needed(self) -> HistoryRules:
        if (self.walk == "backward") != bool(self.cursor):
            raise ValueError("cursor goes with walk backward, and only with it")
        return self


class FundingRules(HistoryRules):
    """How an exchange gives settled funding."""

    rate_field: str = ""
    """Where the venue's own row has the rate of the settlement, if ccxt reads another."""
    interval_hours: PositiveFloat | None = None
    """Time that each rate is for, where it is the same for all contracts and always was."""
    mark_price_field: str = ""
    """Where the venue's own row has the mark price at the settlement."""
    seconds_field: str = ""
    """Where the venue's own row has its moment in whole seconds, if ccxt reads it wrongly."""


class OpenInterestRules(HistoryRules):
    """How an exchange gives open interest, and what it counts."""

    intervals: tuple[str, ...] = ()
    """Intervals of its history; empty where only the present can be had."""
    linear_amount: AmountUnit | None = None
    inverse_amount: AmountUnit | None = None
    """What ccxt's amount counts; None where it gives none."""
    value: Literal["quote", "settle", "USD"] | None = None
    """Currency of the worth: the market's quote or settlement currency, or dollars; None where none is given."""
    sides: Literal["one", "both", "unknown"]
    """Whether a contract counts once or for buyer and seller."""


class LiquidationRules(HistoryRules):
    """How an exchange gives forced closings."""

    amount: AmountUnit
    side: Literal["order", "position"]
    """Whose side ccxt's `side` is, or the sign of `size_index`: of the forced order, or of what it closed."""
    size_index: NonNegativeInt | None = None
    """Where the venue's own row has the signed size, if ccxt's side does not come from it."""
    market_index: NonNegativeInt | None = None
    """Where the venue's own row names its instrument, if an answer is about all of them."""
    executed_index: NonNegativeInt | None = None
    """Where the venue's own row has 1 for an execution and 0 for the order that led to it."""


class ReferenceRules(BaseModel):
    """How an exchange gives bars of mark, index and premium prices."""

    model_config = _CONFIG
    prices: tuple[Price, ...] = ("mark", "index", "premium")
    """Those that it has, of those that ccxt offers."""
    limit: PositiveInt = _SMALL_PAGE
    until: bool = False
    settles_s: float = Field(default=2.0, ge=0, le=60)


class TickerRules(BaseModel):
    """What of an exchange's ticker is not what ccxt calls it."""

    model_config = _CONFIG
    dated: bool = True
    """Whether ccxt's time is that of the ticker; false where it is that of the last trade."""
    leave_out: tuple[TickerField, ...] = ()
    leave_out_of_contracts: tuple[TickerField, ...] = ()
    leave_out_of_inverse: tuple[TickerField, ...] = ()
    """Fields that ccxt computes, or fills with another quantity."""
    inverse_volumes_swapped: bool = False
    """Whether base and quote volume of inverse contracts stand in each other's place."""


class BookRules(BaseModel):
    """How an exchange gives order books."""

    model_config = _CONFIG
    limit: PositiveInt | None = None
    contract_limit: PositiveInt | None = None
    """Levels a side to ask for; None: as many as come unasked."""
    params: dict[str, str] = {}
    linear_amount: AmountUnit = "contracts"
    inverse_amount: AmountUnit = "contracts"
    """What amounts count for contracts; for spot it is always base."""
    sequence: tuple[str | int, ...] = ()
    """Path to the number of the last change in the answer, where ccxt drops it."""
    time_ms: tuple[str | int, ...] = ()
    """Path to the moment of the book in the answer, in milliseconds, where ccxt takes another."""


class ExchangeRules(BaseModel):
    """One row of `exchanges.yaml`; null for what is not offered though ccxt has it."""

    model_config = _CONFIG
    candles: CandleRules | None = CandleRules()
    trades: TradeRules | None = TradeRules()
    tickers: TickerRules | None = TickerRules()
    books: BookRules | None = BookRules()
    funding: FundingRules | None = FundingRules()
    reference: ReferenceRules | None = ReferenceRules()
    open_interest: OpenInterestRules | None = None
    liquidations: LiquidationRules | None = None
    market_types: tuple[str, ...] = ("",)
    """Values of ccxt's option `fetchMarkets.types`, asked one by one; the empty one leaves the option alone."""
    options: dict[str, Any] = {}
    urls: dict[str, Any] = {}
    """Other addresses than ccxt's, in the form of its `urls['api']`."""
    rate_limit_ms: PositiveFloat | None = None
    """Milliseconds between calls, where ccxt's own pace is too fast."""


@cache
def exchange_rules() -> Mapping[str, ExchangeRules]:
    """All rows of `exchanges.yaml`, checked."""
    return read_rules(Path(__file__).with_name("exchanges.yaml").read_text(encoding="utf-8"))


def read_rules(text: str) -> Mapping[str, ExchangeRules]:
    """The rows of such a file; SettingsError that lists all wrong keys and values, each with its exchange."""
    try:
        rows = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        if not isinstance(rows, dict):
            raise SettingsError("exchanges.yaml: it is not a mapping of exchanges to what is known of them")
        named = {name: {} if row is None else row for name, row in rows.items()}
        return TypeAdapter(dict[str, ExchangeRules]).validate_python(named)
    except yaml.YAMLError as error:
        raise SettingsError(f"exchanges.yaml: {error}") from error
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise SettingsError(f"exchanges.yaml: {'; '.join(wrong)}") from error


def rules_of(exchange: str) -> ExchangeRules:
    """The row of one exchange; UsageError with the nearest ids where there is none."""
    try:
        return exchange_rules()[exchange]
    except KeyError:
        near = unknown("exchange", exchange, exchange_rules())
        raise UsageError(
            f"{near} Others that ccxt has become known by a row in exchanges.yaml, be it an empty one."
        ) from None


def amount_unit(market: Mapping[str, Any], rules: TradeRules | BookRules | OpenInterestRules) -> str | None:
    """What an amount of that market counts."""
    if not market.get("contract"):
        return "base"
    return rules.inverse_amount if market.get("inverse") else rules.linear_amount
