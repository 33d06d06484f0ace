"""How old frames of live streams were when they were stored, and how many came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import polars as pl

from deployments.ui import figures
from deployments.ui.blocks import Bytes, Column, Figure, Grid, Link, Page, Text, to
from deployments.ui.shelf import Facts, Shelf
from deployments.ui.views.overview import age

_STREAMS = "bronze.stream_"
_LANDINGS = 1_500
_RECENT = timedelta(hours=1)
_MINUTE_MS = 60_000
_TOO_FEW = 3
"""Files that make no line."""


def recorder(shelf: Shelf, _asked: Mapping[str, str]) -> Page:
    """Each stream's bronze table: how long frames took until they were stored, and what came in the last hour."""
    names = [name for name in shelf.names() if name.startswith(_STREAMS)]
    facts = [one for one in shelf.facts(names) if one.rows]
    title, lead = (
        "Recorders",
        "Live streams: from the receipt of a frame to its commit in bronze. What they lost is among the gaps.",
    )
    if not facts:
        return Page(
            title=title,
            lead=lead,
            blocks=(Text("Nothing was recorded yet: `mnemo stream kraken` begins.", "muted"),),
        )
    landings = {one.table.name: _landings(shelf, one.table.name) for one in facts}
    return Page(
        title=title,
        lead=lead,
        blocks=(_stream_grid(shelf, facts, landings), *_lag(landings), _minutes(shelf, facts)),
    )


def _landings(shelf: Shelf, name: str) -> pl.DataFrame:
    """One row a data file: when it was written, how many frames, and how old the newest and the oldest were then."""

    def read() -> pl.DataFrame:
        stored = shelf.stored(name)
        if stored is None:
            raise LookupError(name)
        at = pl.from_epoch("modification_time", time_unit="ms").dt.replace_time_zone("UTC")
        files = stored.files().select(
            "num_records",
            at=at,
            newest_s=(at - pl.col("max.received_at")).dt.total_microseconds() / 1e6,
            oldest_s=(at - pl.col("min.received_at")).dt.total_microseconds() / 1e6,
        )
        return files.sort("at").tail(_LANDINGS)

    return shelf.once("landings", (name,), read)


def _recent(shelf: Shelf, one: Facts) -> pl.DataFrame:
    """Frames, connections and subjects of each minute of the last hour that has any."""

    def read() -> pl.DataFrame:
        end = one.end or datetime.now(UTC)
        since = end - _RECENT
        rows = shelf.scan(one.table.name).filter(
            pl.col("received_at") >= since, pl.col("received_date") >= since.date()
        )
        by_minute = rows.group_by(minute=pl.col("received_at").dt.truncate("1m")).agg(
            frames=pl.len(), connections=pl.col("connection_id").n_unique()
        )
        return by_minute.sort("minute").collect(engine="streaming")

    return shelf.once("minutes", (one.table.name,), read)


def _stream_grid(shelf: Shelf, facts: Sequence[Facts], landings: Mapping[str, pl.DataFrame]) -> Grid:
    now = shelf.now()
    rows = []
    for one in facts:
        lag = landings[one.table.name]["oldest_s"]
        newest = (now - one.end).total_seconds() if one.end else None
        recent = _recent(shelf, one)
        rows.append(
            [
                Link(one.table.name.removeprefix(_STREAMS), to("/table", name=one.table.name)),
                one.rows,
                Bytes(one.size_bytes),
                one.end,
                age(newest) if newest is not None else None,
                _seconds(lag.median()),
                _seconds(lag.max()),
                int(recent["frames"].sum()),
                recent["connections"].max(),
            ]
        )
    columns = (
        Column("Stream"),
        Column("Frames", is_number=True),
        Column("Size", is_number=True),
        Column("Newest frame"),
        Column("Ago", is_number=True),
        Column("Usual lag", is_number=True, hint="median over files, of the oldest frame in each"),
        Column("Longest lag", is_number=True),
        Column("Frames of its last hour", is_number=True),
        Column("Connections a minute, at most", is_number=True),
    )
    return Grid(caption="Streams", columns=columns, rows=rows)


def _seconds(value: object) -> str | None:
    return f"{value:,.2f} s" if isinstance(value, int | float) else None


def _lag(landings: Mapping[str, pl.DataFrame]) -> Iterator[Figure]:
    """Nothing as long as there are too few files to draw a line."""
    if max(found.height for found in landings.values()) < _TOO_FEW:
        return
    data = [
        figures.line(
            name.removeprefix(_STREAMS),
            figures.times(found["at"]),
            figures.numbers(found["oldest_s"], 4),
            mode="lines+markers",
            marker={"size": 4},
            line={"width": 1.2},
        )
        for name, found in landings.items()
    ]
    worst = max((float(found["oldest_s"].max() or 0) for found in landings.values()), default=0.0)  # type: ignore[arg-type]
    yield Figure(
        name="lag",
        caption="Lag: how old the oldest frame of a file was when the file was written",
        summary=f"Streams: {len(landings)}; the longest lag is {worst:,.2f} s.",
        data=data,
        layout=figures.layout(yaxis={"title": {"text": "s"}, "rangemode": "tozero"}),
        height=280,
    )


def _minutes(shelf: Shelf, facts: Sequence[Facts]) -> Figure:
    found = {one.table.name.removeprefix(_STREAMS): _recent(shelf, one) for one in facts}
    total = sum(int(frame["frames"].sum()) for frame in found.values())
    return Figure(
        name="frames",
        caption="Frames a minute, over the last hour of each stream",
        summary=f"{total:,} frames in all.",
        data=[
            {
                "type": "bar",
                "name": name,
                "x": figures.times(frame["minute"]),
                "y": frame["frames"].to_list(),
                "width": _MINUTE_MS,
            }
            for name, frame in found.items()
        ],
        layout=figures.layout(barmode="stack", yaxis={"rangemode": "tozero"}),
        height=220,
    )
