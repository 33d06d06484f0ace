"""CoinMetrics, API version 4: the catalog, what data there are for whoever asks.

Documentation: https://docs.coinmetrics.io/api-reference/catalog-v2. How it is asked: coin_metrics_pages.

- /catalog-v2 lists what the key may read (what is free, on the community host), which differs from /catalog-all-v2.
- It goes to silver.series: what is listed is a series that can be asked for, with a name, a unit and a frequency.
  `series_id` is the data set and the subject that its feed takes: `market-candles/coinbase-btc-usd-spot@5m`.
  silver.instruments is not filled: it holds one statement an instrument, the venue's, and a second opinion about the
  same key would look like a change each time.
- `max_time` of a living series moves with every answer. It is told only of a series that has stopped, so that a
  delisted market is seen by its own end and not by the clock; bronze has all of them.
- Units and names of metrics stand in /reference-data/asset-metrics, which is asked first; what a page needs of it is
  kept with the page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import UTC_US
from lakehouse.errors import UsageError
from lakehouse.silver import series
from lakehouse.window import Window
from sources.client import Client
from sources.coin_metrics_pages import (
    KEY_URL,
    PROVIDER,
    Question,
    Row,
    moment,
    not_as_expected,
    quota,
    rows_in,
    rows_of,
    text,
    walk,
)
from sources.feed import Feed
from sources.proofs import snapshot

FEED = "coinmetrics_catalog"
STOPPED_AFTER = timedelta(days=30)
"""A series without data for so long has ended."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set of the catalog; `unit` and `frequency` are those of its values where the catalog tells none."""

    parameter: str
    """The parameter that narrows the catalog down."""
    unit: str = ""
    frequency: str = ""


DATA_SETS: Mapping[str, DataSet] = {
    "asset-metrics": DataSet(parameter="assets"),
    "market-candles": DataSet(parameter="markets", unit="quote"),
    "market-trades": DataSet(parameter="markets", unit="quote", frequency="trade"),
    "market-openinterest": DataSet(parameter="markets", unit="contracts", frequency="snapshot"),
    "market-funding-rates": DataSet(parameter="markets", unit="fraction", frequency="settlement"),
}
_SUBJECT = re.compile(r"(?P<data_set>[a-z-]+):(?P<wanted>[\w.:/*-]+)")


def read_subject(subject: str) -> tuple[str, str]:
    """Data set and asset or market of `market-candles:coinbase-*`; UsageError says what is wrong."""
    match = _SUBJECT.fullmatch(subject)
    if not match or match["data_set"] not in DATA_SETS:
        raise UsageError(
            f"feed {FEED}: {subject!r} is not dataset:asset or dataset:market, such as asset-metrics:btc; "
            f"data sets: {', '.join(DATA_SETS)}"
        )
    return match["data_set"], match["wanted"]


def fetch_catalog(client: Client, subject: str, _window: Window) -> Iterator[Page]:
    """All pages of the catalog as it is now, whatever the window."""
    data_set, wanted = read_subject(subject)
    metrics = _metrics(client, subject) if data_set == "asset-metrics" else {}
    yield from walk(
        client,
        Question(
            feed=FEED,
            subject=subject,
            path=f"/v4/catalog-v2/{data_set}",
            params={DATA_SETS[data_set].parameter: wanted},
            context=lambda rows: {"metrics": _named_in(rows, metrics)} if metrics else {},
        ),
    )


def parse_catalog(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.series: one a series that can be asked for."""
    told = [row for page in pages.iter_rows(named=True) for row in _series(page)]
    frame = pl.LazyFrame(told, schema=_LISTED, strict=False).with_columns(
        moment("min_time"), moment("max_time")
    )
    return frame.select(
        series_id="series_id",
        event_at="received_at",
        known_at="received_at",
        ingested_at="received_at",
        page_id="page_id",
        provider=pl.lit(PROVIDER),
        title="title",
        frequency="frequency",
        unit="unit",
        unit_multiplier=pl.lit(0, pl.Int64),
        seasonal_adjustment=pl.lit(None, pl.String),
        notes=_notes(),
    )


FEEDS = (
    Feed(
        name=FEED,
        provider=PROVIDER,
        doc="Which metrics, frequencies and markets may be read, since when, and which have ended.",
        table=series.TABLE,
        subjects="dataset:asset or dataset:market: asset-metrics:btc, market-candles:coinbase-btc-usd-spot, "
        "market-trades:coinbase-*",
        fetch=fetch_catalog,
        parse=parse_catalog,
        proof=snapshot,
        paging="next_page_url, 10,000 rows a page",
        quota=quota,
        key_url=KEY_URL,
        documentation="https://docs.coinmetrics.io/api-reference/catalog-v2",
    ),
)


# Fetching


def _metrics(client: Client, subject: str) -> dict[str, Row]:
    """What each metric is called and measured in. All of them: an address with those of one asset would be too long."""
    found = rows_of(
        client,
        Question(feed=FEED, subject=subject, path="/v4/reference-data/asset-metrics", params={}),
    )
    return {str(row.get("metric")): {name: row.get(name) for name in ("full_name", "unit")} for row in found}


def _named_in(rows: Sequence[Row], metrics: Mapping[str, Row]) -> dict[str, Row]:
    listed = [one for row in rows if isinstance(row.get("metrics"), list) for one in row["metrics"]]
    names = {str(one.get("metric")) for one in listed if isinstance(one, dict)}
    return {name: metrics[name] for name in sorted(names & set(metrics))}


# Understanding

_LISTED = {
    "series_id": pl.String(),
    "title": pl.String(),
    "frequency": pl.String(),
    "unit": pl.String(),
    "min_time": pl.String(),
    "max_time": pl.String(),
    "is_free": pl.Boolean(),
    "page_id": pl.Int64(),
    "received_at": UTC_US,
}


def _series(page: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    data_set, _ = read_subject(page["subject"])
    of = _metric_series if data_set == "asset-metrics" else _market_series
    for row in rows_in(page):
        for one in of(page, row, data_set):
            yield {**one, "page_id": page["page_id"], "received_at": page["received_at"]}


def _metric_series(page: Mapping[str, Any], row: Row, data_set: str) -> Iterator[dict[str, Any]]:
    metrics = json.loads(page["request"]).get("metrics", {})
    asset = _name(page, row, "asset")
    for listed in _objects(page, row, "metrics"):
        metric = _name(page, listed, "metric")
        reference = metrics.get(metric, {})
        for span in _objects(page, listed, "frequencies"):
            frequency = _name(page, span, "frequency")
            yield {
                "series_id": f"{data_set}/{asset}:{metric}@{frequency}",
                "title": reference.get("full_name") or metric,
                "unit": reference.get("unit"),
                "frequency": frequency,
                **_span(page, span),
            }


def _market_series(page: Mapping[str, Any], row: Row, data_set: str) -> Iterator[dict[str, Any]]:
    market = _name(page, row, "market")
    shared = {"title": market, "unit": DATA_SETS[data_set].unit}
    if data_set != "market-candles":
        spans = {"series_id": f"{data_set}/{market}", "frequency": DATA_SETS[data_set].frequency}
        yield {**shared, **spans, **_span(page, row)}
        return
    for span in _objects(page, row, "frequencies"):
        frequency = _name(page, span, "frequency")
        told = {"series_id": f"{data_set}/{market}@{frequency}", "frequency": frequency}
        yield {**shared, **told, **_span(page, span)}


def _span(page: Mapping[str, Any], row: Row) -> dict[str, Any]:
    return {
        "min_time": text(page, row, "min_time"),
        "max_time": text(page, row, "max_time"),
        "is_free": row.get("community") is True,
    }


def _name(page: Mapping[str, Any], row: Row, name: str) -> str:
    said = text(page, row, name)
    if said is None:
        raise not_as_expected(page, f"a row whose {name} is null")
    return said


def _objects(page: Mapping[str, Any], row: Row, name: str) -> list[Row]:
    inside = row.get(name)
    if not isinstance(inside, list) or not all(isinstance(one, dict) for one in inside):
        raise not_as_expected(page, f"{name} is not a list of objects")
    return inside


def _notes() -> pl.Expr:
    """Since when, until when if it has ended, and whether it is free: nothing that changes by itself."""
    shape = "%Y-%m-%dT%H:%M:%SZ"
    has_ended = pl.col("max_time") < pl.col("received_at") - STOPPED_AFTER
    return pl.concat_str(
        pl.lit("from ") + pl.col("min_time").dt.strftime(shape),
        pl.when(has_ended).then(pl.lit("ended ") + pl.col("max_time").dt.strftime(shape)),
        pl.when("is_free").then(pl.lit("free of charge (community)")),
        separator="; ",
        ignore_nulls=True,
    )
