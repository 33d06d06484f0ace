"""Order books: depth and spread over time, and the newest book as it stood."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

import polars as pl

from deployments.ui import figures
from deployments.ui.blocks import Block, Choice, Column, Figure, Form, Grid, Link, Page, Text, to
from deployments.ui.shelf import Shelf
from lakehouse.contract import Table
from lakehouse.gold.liquidity import TABLE
from lakehouse.silver.book_snapshots import TABLE as SNAPSHOTS
from lakehouse.silver.prediction_markets import TABLE as MARKETS
from lakehouse.window import iso

_POINTS = 1_500
_LEVELS = 20
_TOO_FEW = 3
"""Books that make no line."""
_SIDES: Mapping[str, dict[str, Any]] = {
    "bid": {
        "line": {"color": figures.ACCENT, "width": 1.5},
        "fill": "tozeroy",
        "fillcolor": figures.ACCENT_FILL,
    },
    "ask": {
        "line": {"color": figures.SECOND, "width": 1.5},
        "fill": "tozeroy",
        "fillcolor": figures.SECOND_FILL,
    },
}
_WITHIN = ("1bps", "5bps", "10bps", "50bps")


def books(shelf: Shelf, asked: Mapping[str, str]) -> Page:
    """Liquidity of one instrument."""
    found = shelf.once("books", (TABLE.name, MARKETS.name), lambda: _instruments(shelf))
    if not found:
        return Page(
            title="Order books",
            blocks=(Text("No order book was promoted yet: `mnemo stream` records them.", "muted"),),
        )
    names = {one["subject"]: one for one in found}
    chosen = names.get(asked.get("book", "")) or found[0]
    rows = shelf.once(("liquidity", chosen["subject"]), (TABLE.name,), lambda: _liquidity(shelf, chosen))
    within = asked["within"] if asked.get("within") in _WITHIN else _widest(rows)
    blocks: list[Block] = [_form(found, chosen, within)]
    if rows.height < _TOO_FEW:
        blocks.append(_newest(rows))
    else:
        blocks += [_depth(rows, within), _spread(rows)]
    blocks += _ladder(shelf, chosen)
    span = f"{chosen['first']:%Y-%m-%d %H:%M} to {chosen['last']:%Y-%m-%d %H:%M} UTC"
    return Page(
        title=chosen["name"], lead=f"Minutes with a valid book: {chosen['minutes']:,}, {span}", blocks=blocks
    )


def _widest(rows: pl.DataFrame) -> str:
    """The widest band that the levels sent reach on either side, else the narrowest."""
    told = (one for one in reversed(_WITHIN) if rows[f"bid_depth_{one}_quote"].count())
    return next(told, _WITHIN[0])


def _form(found: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], within: str) -> Form:
    options = [(one["subject"], one["name"]) for one in found]
    depths = [(one, f"{one[:-3]} bps of the mid") for one in _WITHIN]
    return Form(
        path="/books",
        choices=(
            Choice(name="book", label="Book", chosen=chosen["subject"], options=options),
            Choice(name="within", label="Depth within", chosen=within, options=depths),
        ),
    )


def _instruments(shelf: Shelf) -> list[dict[str, Any]]:
    """What has books, most minutes and narrowest spread first; outcomes of prediction markets by their question."""
    key = ["provider", "venue", "instrument_id"]
    grouped = (
        shelf.scan(TABLE.name)
        .group_by(key)
        .agg(
            minutes=pl.len(),
            first=pl.col("event_at").min(),
            last=pl.col("event_at").max(),
            spread_bps=pl.col("spread_bps").median(),
        )
    )
    questions = (
        shelf.scan(MARKETS.name)
        .group_by("token_id")
        .agg(pl.col("question", "outcome").sort_by("known_at").last())
    )
    found = grouped.join(questions, left_on="instrument_id", right_on="token_id", how="left")
    rows = (
        found.sort(-pl.col("minutes").cast(pl.Int64), "spread_bps", *key, nulls_last=True)
        .collect(engine="streaming")
        .to_dicts()
    )
    return [
        {**row, "subject": f"{row['provider']}:{row['venue']}:{row['instrument_id']}", "name": _name(row)}
        for row in rows
    ]


def _name(row: Mapping[str, Any]) -> str:
    if row["question"]:
        return f"{row['outcome']}: {row['question']}"
    return f"{row['venue']}:{row['instrument_id']}"


def _of(table: Table, shelf: Shelf, chosen: Mapping[str, Any]) -> pl.LazyFrame:
    same = [pl.col(name) == chosen[name] for name in ("provider", "venue", "instrument_id")]
    return shelf.scan(table.name).filter(*same)


def _liquidity(shelf: Shelf, chosen: Mapping[str, Any]) -> pl.DataFrame:
    """At most some hundred minutes; of a longer time every n-th."""
    depths = [f"{side}_depth_{within}_quote" for side in ("bid", "ask") for within in _WITHIN]
    every = max(1, -(-int(chosen["minutes"]) // _POINTS))
    columns = [*TABLE.identity, "event_at", "known_at", "bid", "ask", "mid", "spread_bps", *depths]
    rows = _of(TABLE, shelf, chosen).select(list(dict.fromkeys(columns))).sort("event_at").gather_every(every)
    return rows.collect(engine="streaming")


def _depth(rows: pl.DataFrame, within: str) -> Figure:
    x, links = figures.times(rows["event_at"]), _links(rows)
    bids = figures.numbers(rows[f"bid_depth_{within}_quote"])
    asks = [None if one is None else -one for one in figures.numbers(rows[f"ask_depth_{within}_quote"])]
    data = [
        figures.line("bids", x, bids, customdata=links, **_SIDES["bid"]),
        figures.line("asks", x, asks, customdata=links, **_SIDES["ask"]),
    ]
    newest = rows.row(-1, named=True)
    return Figure(
        name="depth",
        caption=f"Depth within {within[:-3]} bps of the mid, in the quote currency; asks are drawn downwards",
        summary=(
            f"{rows.height} points. At {iso(newest['event_at'])}: bids of {_said(newest[f'bid_depth_{within}_quote'])},"
            f" asks of {_said(newest[f'ask_depth_{within}_quote'])}; no number where the levels sent end before that."
        ),
        data=data,
        layout=figures.layout(yaxis={"zeroline": True, "zerolinecolor": "var(--rule)"}),
        height=300,
    )


def _spread(rows: pl.DataFrame) -> Figure:
    median = rows["spread_bps"].median()
    return Figure(
        name="spread",
        caption="Spread",
        summary=f"Half of the time at most {_said(median)} bps of the mid.",
        data=[
            figures.line(
                "spread",
                figures.times(rows["event_at"]),
                figures.numbers(rows["spread_bps"]),
                customdata=_links(rows),
                line={"color": figures.INK, "width": 1.2},
            )
        ],
        layout=figures.layout(yaxis={"title": {"text": "bps"}, "rangemode": "tozero"}),
        grid=_newest(rows),
        height=220,
    )


def _newest(rows: pl.DataFrame) -> Grid:
    shown = rows.tail(60).reverse()
    return Grid(
        caption="The newest books",
        columns=(
            Column("At"),
            *(Column(name, is_number=True) for name in ("Bid", "Ask", "Mid", "Spread, bps")),
        ),
        rows=[
            [Link(iso(one["event_at"]), link), one["bid"], one["ask"], one["mid"], one["spread_bps"]]
            for one, link in zip(shown.iter_rows(named=True), _links(shown), strict=True)
        ],
    )


def _ladder(shelf: Shelf, chosen: Mapping[str, Any]) -> list[Block]:
    newest = (
        _of(SNAPSHOTS, shelf, chosen)
        .filter(pl.col("event_at") <= chosen["last"])
        .top_k(1, by="event_at")
        .collect()
    )
    if newest.is_empty():
        return []
    book = newest.row(0, named=True)
    link = to("/explain", table=SNAPSHOTS.name, **{name: _text(book[name]) for name in SNAPSHOTS.key})
    sides = [_side(book, side, link) for side in _SIDES]
    levels = max(len(book["bid_prices"]), len(book["ask_prices"]))
    rows = [_level(book, number) for number in range(min(levels, 20))]
    heads = ("Bid amount", "Bid", "Ask", "Ask amount")
    return [
        Figure(
            name="ladder",
            caption=f"The book of {iso(book['event_at'])}: amount ({book['amount_unit']}) up to each price",
            summary=f"{len(book['bid_prices'])} bid and {len(book['ask_prices'])} ask levels; proof: {book['check']}.",
            data=sides,
            layout=figures.layout(yaxis={"rangemode": "tozero"}, xaxis={"title": {"text": "price"}}),
            grid=Grid(
                caption="Its best levels", columns=[Column(name, is_number=True) for name in heads], rows=rows
            ),
            height=260,
        )
    ]


def _side(book: Mapping[str, Any], side: str, link: str) -> dict[str, Any]:
    prices: Sequence[float] = book[f"{side}_prices"][:_LEVELS]
    amounts = figures.numbers(accumulate(book[f"{side}_amounts"][:_LEVELS]))
    style = {**_SIDES[side], "line": {**_SIDES[side]["line"], "shape": "hv"}}
    return figures.line(f"{side}s", prices, amounts, customdata=[link] * len(prices), **style)


def _level(book: Mapping[str, Any], number: int) -> list[float | None]:
    names = ("bid_amounts", "bid_prices", "ask_prices", "ask_amounts")
    return [book[name][number] if number < len(book[name]) else None for name in names]


def _links(rows: pl.DataFrame) -> list[str]:
    keys = rows.select(TABLE.identity).iter_rows(named=True)
    return [
        to("/explain", table=TABLE.name, **{name: _text(value) for name, value in key.items()})
        for key in keys
    ]


def _text(value: object) -> object:
    return iso(value) if isinstance(value, datetime) else value


def _said(value: object) -> str:
    return f"{value:,.6g}" if isinstance(value, int | float) else "nothing"
