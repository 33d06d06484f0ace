"""Pages of SDMX-CSV from the BIS as rows, all text: answers of the API and its bulk files.

SDMX-CSV puts the dimensions first, in the order of the key, after the columns that name the data set (DATAFLOW, or
STRUCTURE, STRUCTURE_ID and ACTION). Attributes may stand before or after TIME_PERIOD, so their place tells nothing;
but the key has one position for each dimension, so as many columns are the dimensions, in every data set.

A bulk file is a ZIP of one CSV whose columns are named `FREQ:Frequency` and whose codes read `Q: Quarterly`.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import orjson
import polars as pl

from lakehouse.contract import UTC_US
from sources.bis_flows import Subject, fitting, read_subject
from sources.errors import ParseError

_BEFORE_DIMENSIONS = frozenset({"DATAFLOW", "STRUCTURE", "STRUCTURE_ID", "ACTION"})
_TITLES = ("TITLE", "TITLE_TS")
"""Which of the two columns a data set has differs; bulk files may have both."""
_ZIP = b"PK"


def read_rows(page: Mapping[str, Any], needs: tuple[str, ...]) -> pl.DataFrame:
    """The page's rows with their `series_id`, `title`, UNIT_MEASURE, UNIT_MULT and the columns of `needs`.

    Raises ParseError for what is not SDMX-CSV, for other dimensions than the data set has, for series that were not
    asked for, and where the unit or its multiplier is not said: without them a value means nothing.
    """
    asked = read_subject(page["subject"])
    key = orjson.loads(page["request"]).get("key", asked.key)
    is_bulk = page["body"].startswith(_ZIP)
    rows = _from_zip(page) if is_bulk else _from_text(page)
    dimensions = _dimensions(page, rows.columns, asked)
    rows = _with_multiplier(rows, asked)
    lacks = sorted({*needs, "UNIT_MULT", "UNIT_MEASURE"} - set(rows.columns))
    if lacks:
        raise broken(page, f"has no column {', '.join(lacks)}")
    if is_bulk:
        coded = {*dimensions, *needs, "UNIT_MULT", "UNIT_MEASURE"} - {"TIME_PERIOD", "OBS_VALUE"}
        rows = rows.with_columns(pl.col(name).str.split(":").list.first() for name in coded)
    rows = rows.with_columns(
        pl.concat_str([pl.col(name).fill_null("") for name in dimensions], separator=".").alias("key")
    )
    if key:
        _refuse_others(page, rows["key"], key)
    titles = [pl.col(name) for name in _TITLES if name in rows.columns]
    return rows.with_columns(
        series_id=pl.lit(f"{asked.flow}/") + pl.col("key"),
        title=pl.coalesce(*titles, pl.lit(None, pl.String)),
        provider=pl.lit("bis"),
        page_id=pl.lit(page["page_id"], pl.Int64),
        ingested_at=pl.lit(page["received_at"], UTC_US),
    )


def broken(page: Mapping[str, Any], what: str) -> ParseError:
    """The error of a page that does not say what its feed should say."""
    return ParseError(f"bis {page['feed']} {page['subject']}: page {page['page_id']} {what}")


def _from_text(page: Mapping[str, Any]) -> pl.DataFrame:
    body: bytes = page["body"]
    if not body.endswith(b"\n"):
        raise broken(page, "does not end with a line break: the answer was cut off, or is not CSV")
    return _csv(page, body)


def _from_zip(page: Mapping[str, Any]) -> pl.DataFrame:
    try:
        with zipfile.ZipFile(io.BytesIO(page["body"])) as bulk:
            (name,) = bulk.namelist()
            rows = _csv(page, bulk.read(name))
    except (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, EOFError) as error:
        raise broken(page, f"is not a ZIP of one file ({error})") from None
    plain = {name: name.partition(":")[0] for name in rows.columns}
    if len(set(plain.values())) < len(plain):
        raise broken(page, "names a column twice")
    return rows.rename(plain)


def _csv(page: Mapping[str, Any], text: bytes) -> pl.DataFrame:
    try:
        return pl.read_csv(text, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise broken(page, f"is not CSV ({error})") from None


def _dimensions(page: Mapping[str, Any], columns: list[str], asked: Subject) -> list[str]:
    known = asked.known
    count = len(known.dimensions) if known else asked.key.count(".") + 1
    leading = [name for name in columns if name not in _BEFORE_DIMENSIONS]
    dimensions = leading[:count]
    if "TIME_PERIOD" not in leading[count:]:
        raise broken(page, f"has no TIME_PERIOD after the {count} dimensions of the key")
    if known and tuple(dimensions) != known.dimensions:
        raise broken(
            page, f"has the dimensions {', '.join(dimensions)} and not {', '.join(known.dimensions)}"
        )
    return dimensions


def _with_multiplier(rows: pl.DataFrame, asked: Subject) -> pl.DataFrame:
    if asked.known is None or asked.known.multiplier is None or "UNIT_MULT" in rows.columns:
        return rows
    return rows.with_columns(UNIT_MULT=pl.lit(str(asked.known.multiplier)))


def _refuse_others(page: Mapping[str, Any], keys: pl.Series, key: str) -> None:
    different = keys.unique(maintain_order=True)
    strange = different.filter(~different.str.contains(fitting(key))).to_list()
    if strange:
        raise broken(page, f"holds series that were not asked for: {', '.join(strange[:3])}")
