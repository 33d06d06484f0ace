"""Candles with volume and outliers: one instrument of one venue, at one interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from deployments.ui import figures
from deployments.ui.blocks import Block, Choice, Column, Figure, Form, Grid, Link, Page, Text, to
from deployments.ui.shelf import Shelf
from lakehouse.gold.candles import TABLE
from lakehouse.gold.trade_outliers import TABLE as OUTLIERS
from lakehouse.read import newest
from lakehouse.window import iso, parse_moment

_BARS = 400
_OUTLIERS = 500
_GRID_ROWS = 60
_PREFERRED = "1h"


@dataclass(frozen=True)
class Market:
    """One line of candles: from when to when, and how many."""

    venue: str
    instrument_id: str
    interval: str
    first: datetime
    last: datetime
    bars: int

    @property
    def subject(self) -> str:
        """How the form names venue and instrument."""
        return f"{self.venue}:{self.instrument_id}"


def candles(shelf: Shelf, asked: Mapping[str, str]) -> Page:
    """The bars before a moment, by default the newest."""
    markets = shelf.once("markets", (TABLE.name,), lambda: _markets(shelf))
    title = "Candles"
    if not markets:
        return Page(
            title=title, blocks=(Text("No candles yet: `mnemo promote gold.candles` builds them.", "muted"),)
        )
    market = _chosen(markets, asked)
    end = _end(asked.get("end", ""), market)
    bars = shelf.once(("bars", market, end), (TABLE.name,), lambda: _bars(shelf, market, end))
    outliers = _outliers(shelf, market, bars)
    blocks: list[Block] = [_form(markets, market, asked.get("end", ""))]
    blocks.append(
        _figure(market, bars, outliers) if bars.height else Text(f"No bars before {iso(end)}.", "muted")
    )
    if outliers.height:
        blocks.append(_outlier_grid(outliers))
    span = f"{market.first:%Y-%m-%d %H:%M} to {market.last:%Y-%m-%d %H:%M} UTC"
    lead = f"{market.bars:,} bars, {span}; a bar stands at its opening."
    return Page(title=f"{market.subject} {market.interval}", lead=lead, blocks=blocks)


def _markets(shelf: Shelf) -> list[Market]:
    names = ["venue", "instrument_id", "interval"]
    found = (
        shelf.scan(TABLE.name)
        .group_by(names)
        .agg(first=pl.col("open_at").min(), last=pl.col("open_at").max(), bars=pl.len())
    )
    rows = found.sort(names).collect(engine="streaming").iter_rows(named=True)
    return [Market(**row) for row in rows]


def _chosen(markets: list[Market], asked: Mapping[str, str]) -> Market:
    """The market asked for; of one venue and instrument by default hours, of all the longest line of those."""
    subject, interval = asked.get("market", ""), asked.get("interval", "")
    of_subject = [one for one in markets if one.subject == subject] or markets
    exact = [one for one in of_subject if one.interval == interval]
    return max(exact or of_subject, key=lambda one: (one.interval == _PREFERRED, one.bars))


def _end(said: str, market: Market) -> datetime:
    try:
        return parse_moment(said) if said else market.last
    except ValueError:
        return market.last


def _bars(shelf: Shelf, market: Market, end: datetime) -> pl.DataFrame:
    """The last bars up to a moment; the search goes back further until there are enough."""
    rows = shelf.scan(TABLE.name).filter(
        pl.col("interval") == market.interval,
        pl.col("venue") == market.venue,
        pl.col("instrument_id") == market.instrument_id,
        pl.col("open_at") <= end,
    )
    times = rows.select(pl.col("open_at").unique().top_k(_BARS)).collect(engine="streaming")["open_at"]
    if times.is_empty():
        return TABLE.schema.to_frame()
    return newest(rows.filter(pl.col("open_at") >= times.min()), TABLE).sort("open_at").collect()


def _outliers(shelf: Shelf, market: Market, bars: pl.DataFrame) -> pl.DataFrame:
    if bars.is_empty():
        return OUTLIERS.schema.to_frame()
    found = shelf.scan(OUTLIERS.name).filter(
        pl.col("venue") == market.venue,
        pl.col("instrument_id") == market.instrument_id,
        pl.col("event_at").is_between(bars["open_at"].min(), bars["event_at"].max()),
    )
    return newest(found, OUTLIERS).top_k(_OUTLIERS, by="event_at").sort("event_at").collect()


def _form(markets: list[Market], market: Market, end: str) -> Form:
    subjects = list(dict.fromkeys(one.subject for one in markets))
    intervals = [one.interval for one in markets if one.subject == market.subject]
    return Form(
        path="/candles",
        choices=(
            Choice(
                name="market", label="Market", chosen=market.subject, options=[(one, one) for one in subjects]
            ),
            Choice(
                name="interval",
                label="Interval",
                chosen=market.interval,
                options=[(one, one) for one in intervals],
            ),
            Choice(name="end", label="Up to (UTC)", chosen=end, hint="2024-01-31T12:00"),
        ),
    )


def _figure(market: Market, bars: pl.DataFrame, outliers: pl.DataFrame) -> Figure:
    x = figures.times(bars["open_at"])
    links = [_explain(market, moment) for moment in bars["open_at"]]
    prices = {name: figures.numbers(bars[name]) for name in ("open", "high", "low", "close")}
    rising = {"line": {"color": figures.ACCENT, "width": 1}, "fillcolor": figures.ACCENT}
    falling = {"line": {"color": figures.SECOND, "width": 1}, "fillcolor": figures.SECOND}
    data = [
        {
            "type": "candlestick",
            "name": "price",
            "x": x,
            **prices,
            "customdata": links,
            "increasing": rising,
            "decreasing": falling,
            "showlegend": False,
        },
        {
            "type": "bar",
            "name": "volume",
            "x": x,
            "y": figures.numbers(bars["volume"]),
            "yaxis": "y2",
            "customdata": links,
            "marker": {"color": figures.MUTED},
            "showlegend": False,
        },
        *_marks(market, bars, outliers),
    ]
    units = bars["volume_unit"].drop_nulls().to_list()
    layout = figures.layout(
        xaxis={"rangeslider": {"visible": False}, "anchor": "y2"},
        yaxis={"domain": [0.26, 1], "title": {"text": "price"}},
        yaxis2={
            "domain": [0, 0.2],
            "title": {"text": f"volume, {units[0]}" if units else "volume"},
            "nticks": 4,
        },
        bargap=0.2,
    )
    return Figure(
        name="candles",
        caption=f"{market.subject}, bars of {market.interval}; a bar leads to what it was made from",
        summary=_summary(bars, outliers),
        data=data,
        layout=layout,
        grid=_bar_grid(market, bars),
        height=480,
    )


def _marks(market: Market, bars: pl.DataFrame, outliers: pl.DataFrame) -> list[dict[str, object]]:
    flagged = bars.filter(pl.col("outliers") > 0)
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "trade far from its neighbours",
            "x": figures.times(outliers["event_at"]),
            "y": figures.numbers(outliers["price"]),
            "customdata": [_explain_outlier(row) for row in outliers.iter_rows(named=True)],
            "marker": {"symbol": "x-thin-open", "size": 9, "color": figures.BAD, "line": {"width": 2}},
        },
        {
            "type": "scatter",
            "mode": "markers",
            "name": "bar with outliers",
            "x": figures.times(flagged["open_at"]),
            "y": figures.numbers(flagged["high"]),
            "text": [f"{count} outliers" for count in flagged["outliers"]],
            "customdata": [_explain(market, moment) for moment in flagged["open_at"]],
            "marker": {"symbol": "triangle-down", "size": 8, "color": figures.WARN},
        },
    ]


def _summary(bars: pl.DataFrame, outliers: pl.DataFrame) -> str:
    first, last = bars.row(0, named=True), bars.row(-1, named=True)
    lowest, highest = bars.select(pl.col("low").min(), pl.col("high").max()).row(0)
    flagged = int(bars["outliers"].fill_null(0).sum())
    made_of = ", ".join(sorted(bars["built_from"].unique().to_list()))
    span = f"{first['open_at']:%Y-%m-%d %H:%M} to {last['open_at']:%Y-%m-%d %H:%M} UTC"
    return (
        f"{bars.height} bars from {span}, made from {made_of}: open {first['open']:g}, close {last['close']:g},"
        f" lowest {lowest:g}, highest {highest:g}; {flagged or outliers.height} trades flagged as outliers."
    )


def _bar_grid(market: Market, bars: pl.DataFrame) -> Grid:
    names = ("open", "high", "low", "close", "volume", "trade_count", "outliers")
    rows = [
        [
            Link(iso(one["open_at"]), _explain(market, one["open_at"])),
            *(one[name] for name in names),
            one["built_from"],
        ]
        for one in bars.tail(_GRID_ROWS).reverse().iter_rows(named=True)
    ]
    columns = [
        Column("Opens"),
        *(Column(name.replace("_", " "), is_number=True) for name in names),
        Column("Made from"),
    ]
    return Grid(
        caption=f"The newest {len(rows)} of these bars; each leads to its explanation",
        columns=columns,
        rows=rows,
    )


def _outlier_grid(outliers: pl.DataFrame) -> Grid:
    rows = [
        [
            Link(iso(one["event_at"]), _explain_outlier(one)),
            one["trade_id"],
            one["price"],
            one["level"],
            one["mad"],
        ]
        for one in outliers.reverse().iter_rows(named=True)
    ]
    columns = (
        Column("Trade of"),
        Column("Trade id"),
        Column("Price", is_number=True),
        Column("Level around it", is_number=True),
        Column("Usual deviation", is_number=True),
    )
    return Grid(
        caption="Trades far from their neighbours: flagged, never deleted", columns=columns, rows=rows
    )


def _explain(market: Market, open_at: datetime) -> str:
    key = {"venue": market.venue, "instrument_id": market.instrument_id, "interval": market.interval}
    return to("/explain", table=TABLE.name, **key, open_at=iso(open_at))


def _explain_outlier(row: Mapping[str, object]) -> str:
    return to("/explain", table=OUTLIERS.name, **{name: row[name] for name in OUTLIERS.identity})
