"""CoinMetrics, API version 4: candles, trades, open interest and funding rates of single markets.

Documentation: https://docs.coinmetrics.io/market-data/market-data-overview. How it is asked: coin_metrics_pages.

- Markets are `<exchange>-<base>-<quote>-spot`, `<exchange>-<symbol>-future` and `-option`. Patterns (`*USDT-future`)
  are refused: one that matches nothing is answered with no rows and no error.
- Candles are CoinMetrics' own figures, built from trades: silver.bars, not the venue's silver.candles. They are
  stamped with their start. Trades that arrive late change the candles of the last hours (RESTATED_FOR). An interval
  without trades has a candle with volume zero and the price before it, or none: both have been documented. Volume is
  in base units on spot markets; of futures it counts contracts, whatever the documentation says: the example of
  binance-1000FLOKIUSDT-future comes to its value in dollars that way only.
- Trades, open interest and funding are facts of a venue, so they go to its instrument where that is certain; see
  coin_metrics_venues. The market's entry in /reference-data/markets is asked for first and kept with each page.
- `coin_metrics_id` is the exchange's own id of a trade where that is a number, else a number made of it. Trades are
  taken only where it is the id that ccxt gives them too. Stamps of ccxt are cut to milliseconds: take the trades of a
  market from one of the two, or they contradict each other.
- Trades are asked for newest page first: of a fetch that breaks off, the newest trades are there.
- `database_time` is when CoinMetrics stored a row. A trade is public when the venue publishes it, so `known_at` is its
  own time there; of open interest and funding, which are read off later, it is `database_time`.
- Funding: `period` is the time that the rate is for; `interval`, over which it was computed, is not taken.
- Open interest: `value_usd` is not taken. CoinMetrics gave it up as wrong wherever contract specifications changed,
  and does not say where. Whether a contract counts once or twice is as the exchange has it, and not said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import Table
from lakehouse.coverage import Asked, Claim, Prove
from lakehouse.errors import UsageError
from lakehouse.silver import bars, funding_rates, open_interest, trades
from lakehouse.window import Window
from sources.client import Client
from sources.coin_metrics_pages import (
    KEY_URL,
    PAGE_SIZE,
    PROVIDER,
    PagingFrom,
    Question,
    between,
    moment,
    not_as_expected,
    quota,
    rows_of,
    table_of,
    walk,
)
from sources.coin_metrics_venues import Instrument, instrument_of
from sources.errors import Permanent
from sources.feed import Feed
from sources.proofs import every_bar, paged_to_end

CANDLES = "coinmetrics_candles"
TRADES = "coinmetrics_trades"
OPEN_INTEREST = "coinmetrics_open_interest"
FUNDING_RATES = "coinmetrics_funding_rates"
_LENGTHS = {
    **{f"{minutes}m": timedelta(minutes=minutes) for minutes in (1, 5, 10, 15, 30)},
    **{f"{hours}h": timedelta(hours=hours) for hours in (1, 4)},
    "1d": timedelta(days=1),
}
FREQUENCIES = tuple(_LENGTHS)
"""Of candles. `1d-HH:00`, days that begin at another hour, would mix with days in one series of silver.bars."""
RESTATED_FOR = timedelta(hours=3)
"""Trades that arrive late are worked into what was published for about so long (company news)."""

_MARKET = r"[\w.:/-]+-(?:spot|future|option)"
_MARKET_SUBJECT = re.compile(_MARKET)
_CANDLES_SUBJECT = re.compile(rf"(?P<market>{_MARKET})@(?P<frequency>[\w-]+)")
_KEPT = (
    *("market", "exchange", "type", "base", "quote", "symbol"),
    *("size_asset", "margin_asset", "contract_size", "expiration"),
)


def read_candles_subject(subject: str) -> tuple[str, str]:
    """Market and frequency of `coinbase-btc-usd-spot@5m`; UsageError says what is wrong."""
    match = _CANDLES_SUBJECT.fullmatch(subject)
    if not match or match["frequency"] not in FREQUENCIES:
        known = ", ".join(FREQUENCIES)
        raise UsageError(
            f"feed {CANDLES}: {subject!r} is not market@frequency, such as coinbase-btc-usd-spot@5m; "
            f"frequencies: {known}"
        )
    return match["market"], match["frequency"]


def fetch_candles(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """All pages of the candles that begin in a window, oldest first."""
    market, frequency = read_candles_subject(subject)
    return walk(
        client,
        Question(
            feed=CANDLES,
            subject=subject,
            path="/v4/timeseries/market-candles",
            params={"markets": market, "frequency": frequency, **between(window)},
            window=window,
        ),
    )


def parse_candles(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.bars: candles that had ended when the page was received; the others come again."""
    return _joined(bars.TABLE, [_candles(page) for page in pages.iter_rows(named=True)])


def parse_trades(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.trades, in the words of ccxt."""
    return _joined(trades.TABLE, [_trades(page) for page in pages.iter_rows(named=True)])


def parse_open_interest(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.open_interest, in contracts."""
    return _joined(open_interest.TABLE, [_open_interest(page) for page in pages.iter_rows(named=True)])


def parse_funding_rates(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.funding_rates, with the time that each rate is for."""
    return _joined(funding_rates.TABLE, [_funding_rates(page) for page in pages.iter_rows(named=True)])


def prove_candles(asked: Asked, _pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """Candles by their number; the last hours may be restated, so they are not whole yet."""

    def counted(settled: Asked, _pages: pl.DataFrame, _rows: pl.DataFrame) -> list[Claim]:
        _, frequency = read_candles_subject(asked.subject)
        return every_bar(settled, rows["open_at"], frequency, omits_empty=True)

    return _settling(counted)(asked, _pages, rows)


def page_time(subject: str) -> timedelta:
    """How much time one page of candles holds."""
    _, frequency = read_candles_subject(subject)
    return PAGE_SIZE * _LENGTHS[frequency]


def _about_candles(subject: str) -> list[dict[str, str]]:
    market, frequency = read_candles_subject(subject)
    return [{"provider": PROVIDER, "symbol": market, "interval": frequency}]


def _settling(prove: Prove) -> Prove:
    """A proof that holds up to RESTATED_FOR before the asking: after that what is there may change."""

    def until_settled(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
        claims = prove(replace(asked, at=asked.at - RESTATED_FOR), pages, rows)
        start = max([asked.window.start, *(claim.window.end for claim in claims)])
        if asked.past is None or start >= asked.past.end:
            return claims
        fresh = Claim(
            window=Window(start, asked.past.end),
            status="degraded",
            proof="told_until",
            evidence={"rows": rows.height},
            cannot_show="what reaches CoinMetrics late and is added or restated",
        )
        return [*claims, fresh]

    return until_settled


# Fetching what belongs to an instrument


def _fetch(
    feed: str, dataset: str, *, paging_from: PagingFrom = "start"
) -> Callable[[Client, str, Window], Iterator[Page]]:
    def fetch(client: Client, subject: str, window: Window) -> Iterator[Page]:
        entry = _entry(client, feed, subject)
        yield from walk(
            client,
            Question(
                feed=feed,
                subject=subject,
                path=f"/v4/timeseries/{dataset}",
                params={"markets": subject, **between(window)},
                window=window,
                paging_from=paging_from,
                context=lambda _: {"market": entry},
            ),
        )

    return fetch


def _entry(client: Client, feed: str, market: str) -> dict[str, str]:
    """The market's reference entry, as far as it tells the instrument.

    Raises Permanent for a market that is no instrument of ours with certainty.
    """
    if not _MARKET_SUBJECT.fullmatch(market):
        raise UsageError(f"feed {feed}: {market!r} is not a market, such as binance-BTCUSDT-future")
    path = "/v4/reference-data/markets"
    found = rows_of(client, Question(feed=feed, subject=market, path=path, params={"markets": market}))
    entries = [{name: row[name] for name in _KEPT if isinstance(row.get(name), str)} for row in found]
    entry = next((one for one in entries if one.get("market") == market), None)
    if entry is None:
        raise Permanent(f"feed {feed}: coinmetrics has no market {market}")
    _instrument(entry, feed)
    return entry


def _instrument(entry: Mapping[str, str], feed: str) -> Instrument:
    """The instrument of an entry; Permanent says why there is none."""
    instrument = instrument_of(entry)
    if instrument is None:
        raise Permanent(
            f"feed {feed}: {entry.get('market')} ({json.dumps(entry, sort_keys=True)}) is not with certainty an "
            "instrument that ccxt knows; the rules are in sources/coin_metrics_venues.py"
        )
    if feed == TRADES and not instrument.has_own_trade_ids:
        raise Permanent(
            f"feed {feed}: CoinMetrics' trade ids of {entry.get('market')} are not those of {instrument.venue} "
            "in ccxt, so one trade could be counted twice; use ccxt_trades"
        )
    return instrument


def _with_entry(_subject: str, _window: Window) -> int:
    """One request for the market's entry and one page, which is enough where a market is not busy."""
    return 2


# Understanding


def _candles(page: Mapping[str, Any]) -> pl.DataFrame:
    market, frequency = read_candles_subject(page["subject"])
    prices = {f"price_{name}": name for name in ("open", "high", "low", "close")}
    frame = table_of(
        page, ("time", "market", *prices, "volume"), optional=("vwap", "candle_trades_count")
    ).rename({**prices, "market": "symbol", "candle_trades_count": "trade_count"})
    _must_be_about(page, frame["symbol"], market)
    rows = frame.with_columns(
        interval=pl.lit(frequency), asset_class=pl.lit("crypto"), open_at=moment("time")
    ).with_columns(event_at=pl.col("open_at").dt.offset_by(frequency))
    is_open = (pl.col("event_at") > pl.col("ingested_at")).fill_null(value=False)
    return rows.with_columns(known_at="event_at").filter(~is_open)


def _trades(page: Mapping[str, Any]) -> pl.DataFrame:
    frame = table_of(page, ("time", "market", "coin_metrics_id", "amount", "price"), optional=("side",))
    return _placed(page, frame).with_columns(known_at="event_at", trade_id="coin_metrics_id")


def _open_interest(page: Mapping[str, Any]) -> pl.DataFrame:
    frame = table_of(page, ("time", "market", "contract_count"), optional=("database_time",))
    return _placed(page, frame).with_columns(_stored_at(), amount="contract_count", sides=pl.lit("unknown"))


def _funding_rates(page: Mapping[str, Any]) -> pl.DataFrame:
    frame = table_of(page, ("time", "market", "rate"), optional=("period", "database_time"))
    return _placed(page, frame).with_columns(_stored_at(), interval_hours=_hours("period"))


def _placed(page: Mapping[str, Any], frame: pl.DataFrame) -> pl.DataFrame:
    """Rows at their instrument, which the entry kept with the page tells."""
    entry = _kept_entry(page)
    _must_be_about(page, frame["market"], entry.get("market"))
    try:
        instrument = _instrument(entry, page["feed"])
    except Permanent as error:
        raise not_as_expected(page, str(error)) from None
    return frame.with_columns(
        venue=pl.lit(instrument.venue),
        instrument_id=pl.lit(instrument.instrument_id),
        amount_unit=pl.lit(instrument.amount_unit),
        event_at=moment("time"),
    )


def _kept_entry(page: Mapping[str, Any]) -> Mapping[str, str]:
    entry = json.loads(page["request"]).get("market")
    if not isinstance(entry, dict) or not all(isinstance(one, str) for one in entry.values()):
        raise not_as_expected(page, "the request does not hold the market's reference entry")
    return entry


def _must_be_about(page: Mapping[str, Any], markets: pl.Series, market: str | None) -> None:
    others = sorted(str(one) for one in set(markets) - {market})
    if others:
        raise not_as_expected(page, f"rows about {', '.join(others)}, asked for {market}")


def _stored_at() -> pl.Expr:
    """When CoinMetrics stored a row; our own receipt where it does not say."""
    return pl.coalesce(moment("database_time"), "ingested_at").alias("known_at")


def _hours(column: str) -> pl.Expr:
    """`08:00:00` and `00:00:00.001` as text of hours; what cannot be read is left to the gate."""
    parts = pl.col(column).str.extract_groups(r"^(?<h>\d+):(?<m>\d\d):(?<s>\d\d(?:\.\d+)?)$").struct
    hours, minutes, seconds = (parts.field(name).cast(pl.Float64, strict=False) for name in "hms")
    return pl.coalesce((hours + minutes / 60 + seconds / 3600).cast(pl.String), column)


def _joined(table: Table, frames: Sequence[pl.DataFrame]) -> pl.LazyFrame:
    """The frames under each other with the table's columns; numbers are text as sent, what is not there is null."""
    stored = [column for column in table.columns if column.derived is None]
    numbers = {c.name: pl.String() for c in stored if c.dtype.is_numeric() and c.name != "page_id"}
    schema = {column.name: column.dtype for column in stored} | numbers
    parts = (frame.lazy() for frame in frames)
    return pl.concat([pl.LazyFrame(schema=schema), *parts], how="diagonal").select(list(schema))


FEEDS = (
    Feed(
        name=CANDLES,
        provider=PROVIDER,
        doc="Candles of a market, made by CoinMetrics from trades, with vwap and trade count. Works without a key.",
        table=bars.TABLE,
        subjects="market@frequency: coinbase-btc-usd-spot@5m, binance-BTCUSDT-future@1d",
        fetch=fetch_candles,
        parse=parse_candles,
        proof=prove_candles,
        about=_about_candles,
        step=page_time,
        paging="next_page_url, 10,000 rows a page, oldest first",
        quota=quota,
        key_url=KEY_URL,
        documentation="https://docs.coinmetrics.io/market-data/market-data-overview/candles",
    ),
    Feed(
        name=TRADES,
        provider=PROVIDER,
        doc="Trades of a market that is an instrument of ccxt with certainty; from here or from ccxt, not both.",
        table=trades.TABLE,
        subjects="market: coinbase-btc-usd-spot, okex-BTC-USDT-SWAP-future",
        fetch=_fetch(TRADES, "market-trades", paging_from="end"),
        parse=parse_trades,
        step=lambda _: timedelta(days=1),
        cost=_with_entry,
        paging="next_page_url, 10,000 rows a page, newest first",
        quota=quota,
        proof=_settling(paged_to_end),
        key_url=KEY_URL,
        documentation="https://docs.coinmetrics.io/market-data/market-data-overview/market-trades",
    ),
    Feed(
        name=OPEN_INTEREST,
        provider=PROVIDER,
        doc="Open contracts of a future, about once a minute; where ccxt knows the market with certainty.",
        table=open_interest.TABLE,
        subjects="market: binance-BTCUSDT-future",
        fetch=_fetch(OPEN_INTEREST, "market-openinterest"),
        parse=parse_open_interest,
        step=lambda _: timedelta(days=6),
        cost=_with_entry,
        paging="next_page_url, 10,000 rows a page, oldest first",
        quota=quota,
        proof=_settling(paged_to_end),
        key_url=KEY_URL,
        documentation="https://docs.coinmetrics.io/market-data/market-data-overview/open_interest/market-open-interest",
    ),
    Feed(
        name=FUNDING_RATES,
        provider=PROVIDER,
        doc="Realised funding rates of a perpetual future; where ccxt knows the market with certainty.",
        table=funding_rates.TABLE,
        subjects="market: binance-BTCUSDT-future",
        fetch=_fetch(FUNDING_RATES, "market-funding-rates"),
        parse=parse_funding_rates,
        step=lambda _: timedelta(days=400),
        cost=_with_entry,
        paging="next_page_url, 10,000 rows a page, oldest first",
        quota=quota,
        proof=_settling(paged_to_end),
        key_url=KEY_URL,
        documentation="https://docs.coinmetrics.io/market-data/market-data-overview/funding-rates/funding-rates",
    ),
)
