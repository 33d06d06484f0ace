"""BIS statistics over SDMX REST v2 (https://stats.bis.org/api-doc/v2/): observations and their series.

Quirks that this module and those beside it answer for:
- No key and no published limit; the BIS may block who asks too much. Whole data sets are asked for with one request
  a frequency, and from the bulk files of data.bis.org where the API refuses.
- A value means nothing without UNIT_MULT (6, millions, in WS_GLI) and UNIT_MEASURE: an answer without these columns is
  refused. `detail=dataonly` would leave them out, so it is never asked for. WS_EER has no UNIT_MULT at all.
- Amounts, percentages of GDP (770) and growth rates (771) are series of their own: the unit is part of the key, or a
  column of every row. WS_GLI growth is adjusted for breaks and exchange rates: levels do not give it.
- Codes contain each other (3P holds 4T holds countries; credit B is loans G and debt securities D): nothing here adds
  series up, and nobody should.
- 404 means "no data", "wrong key" and "no such frequency" alike. It never marks a series as gone: what is stored stays.
  An answer without any row, and a page of HTML, come with status 200 when the BIS is busy.
- History is revised in place and has no vintages: every fetch takes whole series, and what was known when is
  estimated from the period's end and the usual lag. Publishing turns values that changed into revisions.
- `2024-Q1` is the quarter; a stock is that of its last day.
- Missing is an empty value, `NaN` (weekends in WS_CBPOL), or a status that says so: H holiday or weekend, L not
  collected, M cannot exist, Q suppressed. The status stays beside the null. B is a break in the series: do not compute
  growth across it.

Terms: free use with attribution, "Source: BIS" and the name of the data set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import structlog

from lakehouse.bronze import Page
from lakehouse.contract import Table
from lakehouse.coverage import Asked, Claim
from lakehouse.silver import observations, series
from lakehouse.window import Window
from sources.bis_csv import read_rows
from sources.bis_flows import FLOWS, Subject, read_subject
from sources.client import Answer, Client, Host
from sources.errors import Permanent, Transient
from sources.feed import Feed
from sources.proofs import snapshot, until_told

log = structlog.get_logger()

PROVIDER = "bis"
HOST = Host(name="BIS", url="https://stats.bis.org", min_interval_s=1.0)
BULK_HOST = Host(name="BIS_BULK", url="https://data.bis.org", min_interval_s=1.0)

_QUARTER = timedelta(days=92)
_SHOWN_BYTES = 80


def data_path(asked: Subject, key: str) -> str:
    """Where the API gives the series that fit a key, with `format=csv`."""
    return f"/api/v2/data/dataflow/BIS/{asked.flow}/{asked.version}/{key}"


def bulk_path(asked: Subject) -> str:
    """Where the whole data set lies as a ZIP, one row an observation."""
    return f"/static/bulk/{asked.flow}_csv_flat.zip"


def parse_observations(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.observations: every period of every series in the pages, values as the provider's text.

    Raises ParseError for a page that is not SDMX-CSV, has no UNIT_MULT or holds a series not asked for.
    """
    return _parse(pages, observations.TABLE, _observations, needs=("TIME_PERIOD", "OBS_VALUE", "OBS_STATUS"))


def parse_series(pages: pl.DataFrame) -> pl.LazyFrame:
    """Rows of silver.series: one for each series and page. Raises ParseError as `parse_observations` does."""
    return _parse(pages, series.TABLE, _series, needs=("FREQ",))


def prove_observations(asked: Asked, _pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """Whole up to the newest period told; how many series came is kept, as open keys bring others with each release."""
    past = asked.past
    if past is None:
        return []
    settles_after = _QUARTER + read_subject(asked.subject).lag
    why = "what a value was between two fetches: revisions overwrite it"
    evidence = {"series": rows["series_id"].n_unique()}
    told = until_told(past, asked.at, rows, settles_after, why)
    return [replace(claim, evidence={**claim.evidence, **evidence}) for claim in told]


# Fetching


def _fetch_for(feed: str) -> Callable[[Client, str, Window], Iterator[Page]]:
    def fetch(client: Client, subject: str, _window: Window) -> Iterator[Page]:
        """Whole series whatever the window, because old values are revised: one page for a key."""
        asked = read_subject(subject)
        if asked.key:
            yield _ask(client, asked, asked.key, _keeper(feed, subject))
        else:
            yield from _whole(client, feed, asked)

    return fetch


def _keeper(feed: str, subject: str, *, number: int = 0, **context: str) -> Callable[[Answer], Page]:
    def page(answer: Answer) -> Page:
        return answer.page(feed=feed, subject=subject, window=None, sequence=number, **context)

    return page


def _whole(client: Client, feed: str, asked: Subject) -> list[Page]:
    """One page a frequency of a data set; where the API gives them not all, the bulk file."""
    try:
        return [
            _ask(client, asked, key, _keeper(feed, asked.flow, number=number, key=key))
            for number, key in enumerate(FLOWS[asked.flow].keys)
        ]
    except (Transient, Permanent) as refused:
        log.warning("bis gives no whole data set; asking for its file", flow=asked.flow, said=str(refused))
        return [_ask_bulk(client, asked, _keeper(feed, asked.flow, key=""), refused)]


def _ask(client: Client, asked: Subject, key: str, page: Callable[[Answer], Page]) -> Page:
    path = data_path(asked, key)
    return page(client.get(HOST, path, {"format": "csv"}, explain=_must_be_csv, refusal=_refusal, keep=page))


def _ask_bulk(
    client: Client, asked: Subject, page: Callable[[Answer], Page], refused: Transient | Permanent
) -> Page:
    try:
        return page(client.get(BULK_HOST, bulk_path(asked), explain=_must_be_zip, keep=page))
    except (Transient, Permanent) as error:
        kind = Transient if isinstance(refused, Transient) else type(error)
        both = kind(f"{error}; before that {refused}")
        both.pages = (*refused.pages, *error.pages)
        raise both from None


def _must_be_csv(answer: Answer) -> None:
    """Transient for HTML, a cut answer and one without rows: the BIS says 404 where there is no data."""
    head, _, rows = answer.body.partition(b"\n")
    if b"TIME_PERIOD" not in head:
        shown = answer.body[:_SHOWN_BYTES].decode("utf-8", "replace")
        raise Transient(f"bis answered {answer.url} with no SDMX-CSV: {shown}")
    if not answer.body.endswith(b"\n"):
        raise Transient(f"bis answered {answer.url} with half a page: its last line has no end")
    if not rows.strip():
        raise Transient(f"bis answered {answer.url} without any row")


def _must_be_zip(answer: Answer) -> None:
    if not answer.body.startswith(b"PK"):
        raise Transient(f"bis answered {answer.url} with no ZIP")


def _refusal(answer: Answer) -> str:
    if answer.status != 404:
        return ""
    return "no such key or flow, or one without data: the BIS does not tell these apart; check silver.codes"


# Understanding

_SAYS_MISSING = ("H", "L", "M", "Q")
"""Codes of OBS_STATUS that say why there is no value: holiday, not collected, cannot exist, suppressed."""


def _parse(
    pages: pl.DataFrame, table: Table, rows: Callable[[pl.LazyFrame], pl.LazyFrame], *, needs: tuple[str, ...]
) -> pl.LazyFrame:
    schema = {c.name: pl.String() if c.dtype.is_float() else c.dtype for c in table.columns}
    found = [rows(_read(page, needs).lazy()) for page in pages.iter_rows(named=True)]
    return pl.concat([pl.LazyFrame(schema=schema), *(frame.select(list(schema)) for frame in found)])


def _read(page: dict[str, Any], needs: tuple[str, ...]) -> pl.DataFrame:
    return read_rows(page, needs).with_columns(lag=pl.lit(read_subject(page["subject"]).lag))


def _observations(rows: pl.LazyFrame) -> pl.LazyFrame:
    value, status = pl.col("OBS_VALUE"), pl.col("OBS_STATUS")
    is_missing = value.str.to_lowercase().is_in(["", "nan"]) | status.is_in(_SAYS_MISSING).fill_null(
        value=False
    )
    return (
        rows.with_columns(_period_start(), length=_period_length())
        .with_columns(
            event_at=pl.col("period_start").cast(pl.Datetime("us", "UTC")).dt.offset_by(pl.col("length"))
        )
        .with_columns(
            known_at=pl.min_horizontal(pl.col("event_at") + pl.col("lag"), "ingested_at"),
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
        "title",
        event_at="ingested_at",
        known_at="ingested_at",
        frequency="FREQ",
        unit="UNIT_MEASURE",
        unit_multiplier=pl.col("UNIT_MULT").cast(pl.Int64, strict=False),
        seasonal_adjustment=pl.lit(None, pl.String),
        notes=pl.lit(None, pl.String),
    )
    return described.unique(maintain_order=True)


def _cost(subject: str, _window: Window) -> int:
    asked = read_subject(subject)
    return 1 if asked.key else len(FLOWS[asked.flow].keys)


_DOCUMENTATION = "https://data.bis.org/topics/GLI"
_SUBJECTS = (
    f"FLOW/KEY, one key position a dimension: WS_GLI/Q.USD.3P.N.A.I.B.USD; or all of {', '.join(FLOWS)}"
)

FEEDS = (
    Feed(
        name="bis_observations",
        provider=PROVIDER,
        doc="Observations of BIS series (global liquidity and other flows), whole history at each fetch.",
        table=observations.TABLE,
        subjects=_SUBJECTS,
        fetch=_fetch_for("bis_observations"),
        parse=parse_observations,
        proof=prove_observations,
        cost=_cost,
        paging="one answer a key; of a whole data set one a frequency, or its ZIP",
        quota=lambda settings, _subject: HOST.quota(settings),
        documentation=_DOCUMENTATION,
    ),
    Feed(
        name="bis_series",
        provider=PROVIDER,
        doc="Title, unit and frequency of BIS series.",
        table=series.TABLE,
        subjects=_SUBJECTS,
        fetch=_fetch_for("bis_series"),
        parse=parse_series,
        proof=snapshot,
        cost=_cost,
        paging="one answer a key; of a whole data set one a frequency, or its ZIP",
        quota=lambda settings, _subject: HOST.quota(settings),
        documentation=_DOCUMENTATION,
    ),
)
