"""BIS statistics over SDMX REST v2 (https://stats.bis.org/api-doc/v2/): observations and their series.

Quirks that this module answers for:
- No key and no published limit; the BIS may block who asks too much.
- A value means nothing without UNIT_MULT (6, millions, in WS_GLI): an answer without that column is refused.
  `detail=dataonly` would leave it out, so it is never asked for.
- 404 means "no data", "wrong key" and "no such frequency" alike.
- History is revised in place and has no vintages: every fetch takes the whole series, and what was known when
  is estimated from the period's end and the usual lag. Publishing turns values that changed into revisions.
- `2024-Q1` is the quarter; a stock is that of its last day.
- Missing is an empty value, `NaN`, or the status M.
- WS_GLI growth series (UNIT_MEASURE 771) are adjusted for breaks and exchange rates: levels do not give them.

Rule for dimensions: SDMX-CSV puts them first, in the order of the key, after the columns that name the
dataflow (DATAFLOW, or STRUCTURE, STRUCTURE_ID and ACTION). Attributes may stand before or after TIME_PERIOD,
so their place tells nothing; but the key that was asked for has one position for each dimension, so as many
columns are the dimensions, in every flow.

Terms: free use with attribution, "Source: BIS" and the name of the data set.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import polars as pl

from lakehouse.bronze import Page
from lakehouse.contract import UTC_US, Table
from lakehouse.errors import UsageError
from lakehouse.silver import observations, series
from lakehouse.window import Window
from sources.client import Answer, Client, Host
from sources.errors import ParseError
from sources.feed import Feed
from sources.proofs import snapshot, told_until

HOST = Host(name="BIS", url="https://stats.bis.org", min_interval_s=1.0)
PUBLICATION_LAG = timedelta(days=120)
"""Global liquidity indicators appear three to four months after the quarter."""

_QUARTER = timedelta(days=92)

_SUBJECT = re.compile(r"(?P<flow>[A-Z][A-Z0-9_]*)/(?P<key>[A-Z0-9_+]*(?:\.[A-Z0-9_+]*)+)")
_BEFORE_DIMENSIONS = frozenset({"DATAFLOW", "STRUCTURE", "STRUCTURE_ID", "ACTION"})


def parse_observations(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.observations: every period of every series in the pages, values as the provider's text.

    Raises ParseError for a page that is not SDMX-CSV, has no UNIT_MULT or holds a series not asked for.
    """
    return _parse(pages, observations.TABLE, _observations, needs=("TIME_PERIOD", "OBS_VALUE", "OBS_STATUS"))


def parse_series(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.series: one for each series and page. Raises ParseError as `parse_observations` does."""
    return _parse(pages, series.TABLE, _series, needs=("TITLE", "FREQ"))


def _fetch_for(feed: str) -> Callable[[Client, str, Window], Iterator[Page]]:
    def fetch(client: Client, subject: str, _window: Window) -> Iterator[Page]:
        """One page: the whole series whatever the window, because old values are revised."""
        yield _ask(client, subject).page(feed=feed, subject=subject, window=None, sequence=0)

    return fetch


def _ask(client: Client, subject: str) -> Answer:
    flow, key = _flow_and_key(subject)
    return client.get(
        HOST, f"/api/v2/data/dataflow/BIS/{flow}/1.0/{key}", {"format": "csv"}, refusal=_refusal
    )


def _refusal(answer: Answer) -> str:
    if answer.status != 404:
        return ""
    return "no such key or flow, or one without data: the BIS does not tell these apart; check the code lists"


def _flow_and_key(subject: str) -> tuple[str, str]:
    found = _SUBJECT.fullmatch(subject)
    if not found:
        example = "WS_GLI/Q.USD.3P.N.A.I.B.USD"
        raise UsageError(
            f"subject {subject!r} is not FLOW/KEY with one key position a dimension, like {example}"
        )
    return found["flow"], found["key"]


def _parse(
    pages: pl.DataFrame, table: Table, rows: Callable[[pl.LazyFrame], pl.LazyFrame], *, needs: tuple[str, ...]
) -> pl.LazyFrame:
    schema = {c.name: pl.String() if c.dtype.is_float() else c.dtype for c in table.columns}
    found = [rows(_read(page, needs).lazy()) for page in pages.iter_rows(named=True)]
    return pl.concat([pl.LazyFrame(schema=schema), *(frame.select(list(schema)) for frame in found)])


def _read(page: dict[str, Any], needs: tuple[str, ...]) -> pl.DataFrame:
    """The page's CSV, all text, with its series ids and where it came from."""
    _, key = _flow_and_key(page["subject"])
    frame = _csv(page)
    dimensions = _dimensions(page, frame.columns, key)
    lacks = sorted({*needs, "UNIT_MULT", "UNIT_MEASURE"} - set(frame.columns))
    if lacks:
        raise _broken(page, f"has no column {', '.join(lacks)}")
    flow = page["subject"].partition("/")[0]
    frame = frame.with_columns(
        pl.concat_str([pl.col(name).fill_null("") for name in dimensions], separator=".").alias("key")
    )
    strange = (
        frame.filter(~pl.col("key").str.contains(_pattern(key)))["key"].unique(maintain_order=True).to_list()
    )
    if strange:
        raise _broken(page, f"holds series that were not asked for: {', '.join(strange[:3])}")
    return frame.with_columns(
        series_id=pl.lit(f"{flow}/") + pl.col("key"),
        provider=pl.lit("bis"),
        page_id=pl.lit(page["page_id"], pl.Int64),
        ingested_at=pl.lit(page["received_at"], UTC_US),
    )


def _csv(page: dict[str, Any]) -> pl.DataFrame:
    body: bytes = page["body"]
    if not body.endswith(b"\n"):
        raise _broken(page, "does not end with a line break: the answer was cut off, or is not CSV")
    try:
        return pl.read_csv(body, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise _broken(page, f"is not CSV ({error})") from None


def _dimensions(page: dict[str, Any], columns: list[str], key: str) -> list[str]:
    leading = [name for name in columns if name not in _BEFORE_DIMENSIONS]
    dimensions = leading[: key.count(".") + 1]
    if "TIME_PERIOD" not in leading[len(dimensions) :]:
        raise _broken(page, f"has no TIME_PERIOD after the {key.count('.') + 1} dimensions of the key")
    return dimensions


def _pattern(key: str) -> str:
    """A regular expression for the series that a key asks for: empty is any code, `+` is or."""
    positions = (f"({position.replace('+', '|')})" if position else r"[^.]*" for position in key.split("."))
    return "^" + r"\.".join(positions) + "$"


def _observations(rows: pl.LazyFrame) -> pl.LazyFrame:
    value, status = pl.col("OBS_VALUE"), pl.col("OBS_STATUS")
    is_missing = value.str.to_lowercase().eq("nan") | status.eq_missing("M")
    return (
        rows.with_columns(_period_start(), length=_period_length())
        .with_columns(event_at=pl.col("period_start").cast(UTC_US).dt.offset_by(pl.col("length")))
        .with_columns(
            known_at=pl.min_horizontal(pl.col("event_at") + PUBLICATION_LAG, "ingested_at"),
            known_at_basis=pl.lit("estimated"),
            value=pl.when(~is_missing).then(value),
            unit="UNIT_MEASURE",
            unit_multiplier=pl.col("UNIT_MULT").cast(pl.Int64, strict=False),
            status=status,
        )
    )


def _period_start() -> pl.Expr:
    """First day of `2002`, `2002-Q4`, `2002-S2`, `2002-12` or `2002-12-31`; null for any other form."""
    period = pl.col("TIME_PERIOD")
    month = period.str.extract(r"^\d{4}-Q([1-4])$").cast(pl.Int64) * 3 - 2
    half = period.str.extract(r"^\d{4}-S([12])$").cast(pl.Int64) * 6 - 5
    plain = period.str.extract(r"^\d{4}-(\d{2})(?:-\d{2})?$").cast(pl.Int64)
    day = period.str.extract(r"^\d{4}-\d{2}-(\d{2})$").fill_null("01")
    months = pl.coalesce(month, half, plain, pl.when(period.str.contains(r"^\d{4}$")).then(pl.lit(1)))
    text = pl.concat_str(period.str.head(4), months.cast(pl.String).str.zfill(2), day, separator="-")
    return text.str.to_date("%Y-%m-%d", strict=False).alias("period_start")


def _period_length() -> pl.Expr:
    period = pl.col("TIME_PERIOD")
    return (
        pl.when(period.str.contains("-Q"))
        .then(pl.lit("3mo"))
        .when(period.str.contains("-S"))
        .then(pl.lit("6mo"))
        .when(period.str.len_chars() == 4)
        .then(pl.lit("1y"))
        .when(period.str.len_chars() == 7)
        .then(pl.lit("1mo"))
        .otherwise(pl.lit("1d"))
    )


def _series(rows: pl.LazyFrame) -> pl.LazyFrame:
    described = rows.select(
        "series_id",
        "provider",
        "page_id",
        "ingested_at",
        event_at="ingested_at",
        known_at="ingested_at",
        title="TITLE",
        frequency="FREQ",
        unit="UNIT_MEASURE",
        unit_multiplier=pl.col("UNIT_MULT").cast(pl.Int64, strict=False),
        seasonal_adjustment=pl.lit(None, pl.String),
        notes=pl.lit(None, pl.String),
    )
    return described.unique(maintain_order=True)


def _broken(page: dict[str, Any], what: str) -> ParseError:
    return ParseError(f"bis {page['feed']} {page['subject']}: page {page['page_id']} {what}")


_DOCUMENTATION = "https://data.bis.org/topics/GLI"
_SUBJECTS = "FLOW/KEY, one key position a dimension: WS_GLI/Q.USD.3P.N.A.I.B.USD"

FEEDS = (
    Feed(
        name="bis_observations",
        provider="bis",
        doc="Observations of BIS series (global liquidity and other flows), whole history at each fetch.",
        table=observations.TABLE,
        subjects=_SUBJECTS,
        fetch=_fetch_for("bis_observations"),
        parse=parse_observations,
        proof=told_until(
            _QUARTER + PUBLICATION_LAG,
            cannot_show="what a value was between two fetches: revisions overwrite it",
        ),
        documentation=_DOCUMENTATION,
    ),
    Feed(
        name="bis_series",
        provider="bis",
        doc="Title, unit and frequency of BIS series.",
        table=series.TABLE,
        subjects=_SUBJECTS,
        fetch=_fetch_for("bis_series"),
        parse=parse_series,
        proof=snapshot,
        documentation=_DOCUMENTATION,
    ),
)
