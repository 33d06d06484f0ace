"""CoinMetrics, API version 4: on-chain metrics and reference rates of assets.

Documentation: https://docs.coinmetrics.io/api/v4 and, for the meaning of the stamps,
https://docs.coinmetrics.io/market-data/cm-prices-faqs

- Without a key the community host answers; with MNEMO_COINMETRICS_API_KEY the paid one. Community data are
  licensed CC BY-NC 4.0: not for commercial use. Community limit: 10 requests in 6 seconds.
- Pages: `paging_from=start` must be sent, else the first page is the newest. `next_page_url` is followed
  until it is absent; it repeats the key.
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

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import UTC_US
from lakehouse.errors import UsageError
from lakehouse.silver import asset_metrics
from lakehouse.window import Window
from sources.client import Answer, Client, Host
from sources.errors import ParseError, Transient
from sources.feed import Feed
from sources.proofs import told_until

PROVIDER = "coinmetrics"
FEED = "coinmetrics_asset_metrics"
KEY_SETTING = "MNEMO_COINMETRICS_API_KEY"
KEY_URL = "https://coinmetrics.io/contact"
COMMUNITY = Host(name="COINMETRICS", url="https://community-api.coinmetrics.io", min_interval_s=0.6)
PAID = Host(name="COINMETRICS", url="https://api.coinmetrics.io")
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
_SLOW_REFERENCE_RATES = ("1h", "1d", "1d-ny-close")
_SUBJECT = re.compile(r"(?P<asset>[a-z0-9._]+):(?P<metrics>\w+(?:,\w+)*)@(?P<frequency>[\w-]+)")
_EXAMPLE = "btc:PriceUSD,AdrActCnt@1d"
_NEEDS_KEY = frozenset({"unauthorized", "wrong_credentials", "forbidden"})

Params = dict[str, str]


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


def first_page_params(subject: Subject, window: Window) -> Params:
    """What is sent to PATH for the first page of a window."""
    return {
        "assets": subject.asset,
        "metrics": ",".join(subject.metrics),
        "frequency": subject.frequency,
        "start_time": _stamp(window.start),
        "end_time": _stamp(window.end),
        "end_inclusive": "false",
        "paging_from": "start",
        "page_size": "10000",
    }


def fetch_asset_metrics(client: Client, subject: str, window: Window) -> Iterator[Page]:
    """All pages of a window, oldest first. The last page may be empty."""
    params = first_page_params(read_subject(subject), window)
    key = client.settings.key(KEY_SETTING)
    host, secrets = (PAID, {"api_key": key}) if key else (COMMUNITY, {})
    asked: list[Params] = []
    for number in count():
        asked.append(params)
        page = partial(Answer.page, feed=FEED, subject=subject, window=window, sequence=number)
        answer = client.get(
            host, PATH, params, secrets=secrets, explain=_must_be_page, refusal=_refusal, keep=page
        )
        yield page(answer)
        address = _loads(answer.body).get("next_page_url")
        if not address:
            return
        params = _params_of(address)
        if params in asked:
            raise Transient(
                f"feed {FEED}, {subject}: page {number} names itself or an earlier page as the next"
            )


def parse_asset_metrics(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.asset_metrics: one an asset, metric and stamp, also where the value is null."""
    told = [value for page in pages.iter_rows(named=True) for value in _values(page)]
    frame = pl.LazyFrame(told, schema=_VALUE, strict=False)
    return frame.with_columns(_moment("time"), _moment("status_time")).select(
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
        proof=told_until(_DAY + INTERVAL_LAG, cannot_show="whether the provider left out a stamp"),
        about=_about,
        key_url=KEY_URL,
        documentation="https://docs.coinmetrics.io/api/v4#operation/getTimeseriesAssetMetrics",
    ),
)


# Fetching


def _stamp(moment: datetime) -> str:
    """The API takes UTC without a zone, with at most nine digits of a second."""
    return moment.replace(tzinfo=None).isoformat()


def _params_of(address: str) -> Params:
    """The parameters of a next page; the key is sent anew and never kept."""
    return {name: value for name, value in parse_qsl(urlsplit(address).query) if name != "api_key"}


def _must_be_page(answer: Answer) -> None:
    try:
        said = _loads(answer.body)
    except ValueError:
        said = None
    is_page = isinstance(said, dict) and isinstance(said.get("data"), list)
    if not is_page or not isinstance(said.get("next_page_url") or "", str):
        raise Transient(f"coinmetrics answered {answer.url} without a list data")


def _refusal(answer: Answer) -> str:
    try:
        error = _loads(answer.body)["error"]
        said = f"{error['type']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        return ""
    hint = f" (see the setting {KEY_SETTING}; keys: {KEY_URL})" if error["type"] in _NEEDS_KEY else ""
    return said + hint


def _loads(body: bytes) -> Any:
    """JSON with every number as the text that was sent."""
    return json.loads(body, parse_float=str, parse_int=str, parse_constant=str)


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
    for row in _rows(page):
        for metric in subject.metrics:
            if metric in row:
                yield {
                    "asset": _text(page, row, "asset"),
                    "metric": metric,
                    "frequency": subject.frequency,
                    "time": _text(page, row, "time"),
                    "value": _text(page, row, metric),
                    "status": _text(page, row, f"{metric}-status", is_optional=True),
                    "status_time": _text(page, row, f"{metric}-status-time", is_optional=True),
                    "page_id": page["page_id"],
                    "received_at": page["received_at"],
                }


def _rows(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    try:
        rows = _loads(page["body"])["data"]
    except (ValueError, KeyError, TypeError) as error:
        raise _not_as_expected(page, f"no list data in the body ({type(error).__name__})") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _not_as_expected(page, "data is not a list of objects")
    return rows


def _text(
    page: Mapping[str, Any], row: Mapping[str, Any], name: str, *, is_optional: bool = False
) -> str | None:
    """What a row says under a name; ParseError where it has no such name, or a list or an object there."""
    if name not in row and not is_optional:
        raise _not_as_expected(page, f"a row without {name}")
    value = row.get(name)
    if isinstance(value, list | dict):
        raise _not_as_expected(page, f"{name} is a {type(value).__name__} and not a text")
    return None if value is None else str(value)


def _not_as_expected(page: Mapping[str, Any], what: str) -> ParseError:
    return ParseError(f"feed {page['feed']}, {page['subject']}, page {page['page_id']}: {what}")


def _moment(column: str) -> pl.Expr:
    return pl.col(column).str.to_datetime(
        "%Y-%m-%dT%H:%M:%S%.fZ", time_unit="us", time_zone="UTC", strict=False
    )


def _lag() -> pl.Expr:
    """From the stamp to the moment when the value was public, where the provider does not say it."""
    is_slow = pl.col("frequency").is_in(_SLOW_REFERENCE_RATES)
    interval = pl.col("frequency").replace_strict(_INTERVAL, return_dtype=pl.Duration("us"))
    return (
        pl.when(~pl.col("metric").str.starts_with("ReferenceRate"))
        .then(interval + INTERVAL_LAG)
        .when(is_slow)
        .then(pl.lit(REFERENCE_RATE_LAG))
        .otherwise(pl.lit(timedelta(0)))
    )
