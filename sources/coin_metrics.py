"""CoinMetrics, API version 4: on-chain metrics and reference rates of assets.

Documentation: https://docs.coinmetrics.io/api/v4 and, for the meaning of the stamps,
https://docs.coinmetrics.io/market-data/cm-prices-faqs. How it is asked: coin_metrics_pages.

- Numbers are text. Null means that no value is stored; a metric that an asset does not have has no field at
  all.
- Stamps are UTC with nanoseconds, cut to microseconds here. Interval metrics are stamped with the *start*
  of their interval, and so is the daily PriceUSD, which is the price at its end. Reference rates are
  stamped with their moment.
- Reviewable metrics say `<Metric>-status` (flash, reviewed, revised) and when that was given: `known_at`.
  Without it, `known_at` is estimated: see REFERENCE_RATE_LAG and INTERVAL_LAG.
- Frequency 1b has one row a block. silver.asset_metrics knows no blocks, so of two blocks with one time
  stamp only one is kept there; both stay in bronze.

Plain requests are used: the package coinmetrics pins older Polars and pandas, reads a stream that may break
off unseen, and throws good answers away when the rate limit is used up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import UTC_US
from lakehouse.coverage import Asked, Claim
from lakehouse.errors import UsageError
from lakehouse.silver import asset_metrics
from lakehouse.window import Window
from sources.client import Client
from sources.coin_metrics_pages import (
    KEY_URL,
    PAGE_SIZE,
    PROVIDER,
    Params,
    Question,
    between,
    moment,
    quota,
    rows_in,
    text,
    walk,
)
from sources.feed import Feed
from sources.proofs import every_bar, told_until

FEED = "coinmetrics_asset_metrics"
PATH = "/v4/timeseries/asset-metrics"

REFERENCE_RATE_LAG = timedelta(minutes=5)
"""Daily and hourly reference rates are published within five minutes, finer ones at once (documentation)."""
INTERVAL_LAG = timedelta(hours=7)
"""Daily network data are there about seven hours after the day (FAQ); taken for all interval metrics, as
nothing is said of the finer ones: too late rather than too early."""

_DAY = timedelta(days=1)
_INTERVAL = {
    "1b": timedelta(0),
    "1s": timedelta(seconds=1),
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "10m": timedelta(minutes=10),
    "1h": timedelta(hours=1),
    "1d": _DAY,
    "1d-ny-close": _DAY,
}
_REFERENCE_RATE = "ReferenceRate"
_SLOW_REFERENCE_RATES = ("1h", "1d", "1d-ny-close")
_LEFT_OUT = "whether the provider left out a stamp or never had it"
_SUBJECT = re.compile(r"(?P<asset>[a-z0-9._]+):(?P<metrics>\w+(?:,\w+)*)@(?P<frequency>[\w-]+)")
_EXAMPLE = "btc:PriceUSD,AdrActCnt@1d"
_UNEVEN = ("1b", "1d-ny-close")
"""Frequencies whose stamps are not a fixed time apart in UTC."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One asset, its metrics and their frequency."""

    asset: str
    metrics: tuple[str, ...]
    frequency: str


def read_subject(text: str) -> Subject:
    """Read `btc:PriceUSD,AdrActCnt@1d`; UsageError says what is wrong."""
    match = _SUBJECT.fullmatch(text)
    if not match:
        raise UsageError(f"feed {FEED}: {text!r} is not asset:metrics@frequency, such as {_EXAMPLE}")
    if match["frequency"] not in _INTERVAL:
        raise UsageError(f"feed {FEED}: {text!r} has none of the frequencies {', '.join(_INTERVAL)}")
    metrics = tuple(match["metrics"].split(","))
    return Subject(asset=match["asset"], metrics=metrics, frequency=match["frequency"])


def question(subject: str, window: Window) -> Question:
    """What a window of a subject is asked for with."""
    asked = read_subject(subject)
    params: Params = {
        "assets": asked.asset,
        "metrics": ",".join(asked.metrics),
        "frequency": asked.frequency,
        **between(window),
    }
    return Question(feed=FEED, subject=subject, path=PATH, params=params, window=window)


def fetch_asset_metrics(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """All pages of a window, oldest first. The last page may be empty."""
    return walk(client, question(subject, window))


def parse_asset_metrics(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.asset_metrics: one an asset, metric and stamp, also where the value is null."""
    told = [value for page in pages.iter_rows(named=True) for value in _values(page)]
    frame = pl.LazyFrame(told, schema=_VALUE, strict=False)
    return frame.with_columns(moment("time"), moment("status_time")).select(
        asset="asset",
        metric="metric",
        frequency="frequency",
        event_at="time",
        known_at=pl.coalesce("status_time", pl.col("time") + _lag()),
        ingested_at="received_at",
        page_id="page_id",
        provider=pl.lit(PROVIDER),
        known_at_basis=pl.when(pl.col("status_time").is_null())
        .then(pl.lit("estimated"))
        .otherwise(pl.lit("published")),
        value="value",
        status="status",
    )


def prove_asset_metrics(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """Stamps by their number, where all metrics asked for have a row and the usual lag has passed.

    A metric may begin later than the window, so a stamp without rows makes the stretch degraded, not missing.
    """
    subject = read_subject(asked.subject)
    if rows.is_empty() or subject.frequency in _UNEVEN:
        return told_until(_DAY + INTERVAL_LAG, cannot_show=_LEFT_OUT)(asked, pages, rows)
    told = rows.group_by("event_at").agg(pl.col("metric").n_unique())
    whole = told.filter(pl.col("metric") == len(set(subject.metrics)))["event_at"]
    are_rates = all(metric.startswith(_REFERENCE_RATE) for metric in subject.metrics)
    settled = replace(asked, at=asked.at - (REFERENCE_RATE_LAG if are_rates else INTERVAL_LAG))
    claims = every_bar(settled, whole, subject.frequency, omits_empty=True)
    return [
        claim if claim.status == "complete" else replace(claim, cannot_show=_LEFT_OUT) for claim in claims
    ]


def page_time(subject: str) -> timedelta:
    """How much time one page holds; of blocks, those of a chain with one every two minutes."""
    return PAGE_SIZE * (_INTERVAL[read_subject(subject).frequency] or timedelta(minutes=2))


def _about(subject: str) -> list[dict[str, str]]:
    asked = read_subject(subject)
    return [
        {"asset": asked.asset, "metric": metric, "frequency": asked.frequency} for metric in asked.metrics
    ]


FEEDS = (
    Feed(
        name=FEED,
        provider=PROVIDER,
        doc="On-chain metrics and reference rates of an asset, with review status. Works without a key.",
        table=asset_metrics.TABLE,
        subjects=f"asset:metrics@frequency: {_EXAMPLE}",
        fetch=fetch_asset_metrics,
        parse=parse_asset_metrics,
        proof=prove_asset_metrics,
        about=_about,
        step=page_time,
        paging="next_page_url, 10,000 rows a page, oldest first",
        quota=quota,
        key_url=KEY_URL,
        documentation="https://docs.coinmetrics.io/api/v4#operation/getTimeseriesAssetMetrics",
    ),
)


# Understanding

_VALUE = {
    "asset": pl.String(),
    "metric": pl.String(),
    "frequency": pl.String(),
    "time": pl.String(),
    "value": pl.String(),
    "status": pl.String(),
    "status_time": pl.String(),
    "page_id": pl.Int64(),
    "received_at": UTC_US,
}


def _values(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One dict a metric and row of a page; a metric without a field in a row is not supported: none."""
    subject = read_subject(page["subject"])
    for row in rows_in(page):
        for metric in subject.metrics:
            if metric in row:
                yield {
                    "asset": text(page, row, "asset"),
                    "metric": metric,
                    "frequency": subject.frequency,
                    "time": text(page, row, "time"),
                    "value": text(page, row, metric),
                    "status": text(page, row, f"{metric}-status", is_optional=True),
                    "status_time": text(page, row, f"{metric}-status-time", is_optional=True),
                    "page_id": page["page_id"],
                    "received_at": page["received_at"],
                }


def _lag() -> pl.Expr:
    """From the stamp to the moment when the value was public, where the provider does not say it."""
    is_slow = pl.col("frequency").is_in(_SLOW_REFERENCE_RATES)
    interval = pl.col("frequency").replace_strict(_INTERVAL, return_dtype=pl.Duration("us"))
    return (
        pl.when(~pl.col("metric").str.starts_with(_REFERENCE_RATE))
        .then(interval + INTERVAL_LAG)
        .when(is_slow)
        .then(pl.lit(REFERENCE_RATE_LAG))
        .otherwise(pl.lit(timedelta(0)))
    )
