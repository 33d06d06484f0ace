"""Entries of the spool on their way into bronze, as columns.

The same rows as `lakehouse.bronze.pages_frame` makes of pages, without an object for each: those would cost several
times the CPU, and the event loop that hears frames waits while Python collects garbage or Polars walks over rows.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from lakehouse.bronze import COLUMNS, bronze_table, page_id
from lakehouse.contract import UTC_US
from lakehouse.streamed import Streamed
from sources.recorder.entry import claims_of, split_entry

_SCHEMA = bronze_table("any").schema
_AS_SAID = ("feed", "subject", "connection_id", "sequence", "http_status")
_TIMES = {"received_at": "received_us", "window_start": "start_us", "window_end": "end_us"}
_PIECE = 1000
"""Polars takes lists without letting other threads run: so many pages of a list take it a fraction of a millisecond."""


class Batch:
    """What one commit brings: `told` are its claims, `pages` counts its pages."""

    def __init__(self) -> None:
        self.told: list[Streamed] = []
        self.pages = 0
        self._pieces: list[pl.DataFrame] = []
        self._lists = _empty()

    def add(self, record: bytes) -> None:
        """One more entry."""
        said, request, body = split_entry(record)
        if "told" in said:
            self.told += claims_of(said)
        if "page" not in said:
            return
        page, lists = said["page"], self._lists
        for name in _AS_SAID:
            lists[name].append(page[name])
        for name, said_as in _TIMES.items():
            lists[name].append(page[said_as])
        lists["page_id"].append(page_id(page["feed"], page["subject"], request, body))
        lists["request"].append(request.decode())
        lists["body"].append(body)
        self.pages += 1
        if self.pages % _PIECE == 0:
            self._end_piece()

    def frame(self, *, run_id: str, code_version: str) -> pl.DataFrame:
        """The pages as rows of a bronze table, in the order of their entries."""
        self._end_piece()
        derived = {column.name: column.derived for column in COLUMNS if column.derived is not None}
        return (
            pl.concat(self._pieces)
            .with_columns(pl.col(name).cast(UTC_US) for name in _TIMES)
            .with_columns(
                content_type=pl.lit(None, pl.String), run_id=pl.lit(run_id), code_version=pl.lit(code_version)
            )
            .with_columns(**derived)
            .select(list(_SCHEMA))
        )

    def _end_piece(self) -> None:
        piece = pl.DataFrame([pl.Series(name, given, _dtype(name)) for name, given in self._lists.items()])
        self._pieces.append(piece)
        self._lists = _empty()


def _empty() -> dict[str, list[Any]]:
    return {name: [] for name in ("page_id", *_AS_SAID, *_TIMES, "request", "body")}


def _dtype(name: str) -> pl.DataType:
    return pl.Int64() if name in _TIMES else _SCHEMA[name]
