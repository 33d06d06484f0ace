"""Macro vintages: what was known of a series when, and how often a period was told anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any

import polars as pl

from deployments.ui import figures
from deployments.ui.blocks import (
    Block,
    Choice,
    Column,
    Figure,
    Form,
    Grid,
    Link,
    Page,
    Stat,
    Stats,
    Steps,
    Text,
    to,
)
from deployments.ui.shelf import Shelf
from lakehouse.silver.observations import TABLE
from lakehouse.silver.series import TABLE as SERIES
from lakehouse.window import iso, parse_moment

_PERIODS = 320
_POSITIONS = 60
_GRID_ROWS = 40
_UTC_DAY = timedelta(days=1)


def vintages(shelf: Shelf, asked: Mapping[str, str]) -> Page:
    """One series as it is known now and as it was known at a moment."""
    series = shelf.once("series", (TABLE.name, SERIES.name), lambda: _series(shelf))
    if not series:
        return Page(title="Vintages", blocks=(Text("No observations yet.", "muted"),))
    chosen = next((one for one in series if one["subject"] == asked.get("series", "")), series[0])
    found = shelf.once(("vintages", chosen["subject"]), (TABLE.name,), lambda: _versions(shelf, chosen))
    as_of = _as_of(asked.get("as_of", ""))
    blocks: list[Block] = [
        _form(series, chosen, asked.get("as_of", "")),
        _stats(chosen, found),
        _figure(chosen, found, as_of),
        *_revisions(found),
    ]
    lead = (
        f"{chosen['title']} ({chosen['provider']}), {chosen['unit']}"
        if chosen["title"]
        else str(chosen["unit"])
    )
    return Page(title=str(chosen["series_id"]), lead=lead, blocks=blocks)


def _series(shelf: Shelf) -> list[dict[str, Any]]:
    """All series, those with the most revisions first."""
    key = ["provider", "series_id"]
    rows = (
        shelf.scan(TABLE.name)
        .group_by(key)
        .agg(rows=pl.len(), periods=pl.col("period_start").n_unique(), unit=pl.col("unit").last())
    )
    titles = shelf.scan(SERIES.name).group_by(key).agg(pl.col("title").sort_by("known_at").last())
    found = rows.join(titles, on=key, how="left").with_columns(
        subject=pl.concat_str("provider", pl.lit(":"), "series_id")
    )
    by_revisions = found.with_columns(revisions=pl.col("rows") - pl.col("periods"))
    return by_revisions.sort("revisions", "rows", descending=True).collect(engine="streaming").to_dicts()


def _versions(shelf: Shelf, chosen: Mapping[str, Any]) -> pl.DataFrame:
    """Every version of the newest periods, in the order they became known."""
    rows = shelf.scan(TABLE.name).filter(
        pl.col("provider") == chosen["provider"], pl.col("series_id") == chosen["series_id"]
    )
    periods = rows.select(pl.col("period_start").unique().top_k(_PERIODS))
    return rows.join(periods, on="period_start", how="semi").sort("known_at", "period_start").collect()


def _as_of(said: str) -> datetime | None:
    """The moment asked for; of a date its last, so that what came out on the day counts."""
    try:
        moment = parse_moment(said) if said else None
    except ValueError:
        return None
    return (
        moment + _UTC_DAY - timedelta(microseconds=1) if moment and len(said) == len("2024-01-31") else moment
    )


def known(versions: pl.DataFrame, at: datetime) -> pl.DataFrame:
    """Of each period what was known then: period_start, value, known_at."""
    then = versions.filter(pl.col("known_at") <= at)
    return (
        then.group_by("period_start")
        .agg(pl.col("value", "known_at").sort_by("known_at").last())
        .sort("period_start")
    )


def _form(series: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], as_of: str) -> Form:
    options = [(one["subject"], f"{one['subject']}{_of_revisions(one)}") for one in series]
    return Form(
        path="/vintages",
        choices=(
            Choice(name="series", label="Series", chosen=chosen["subject"], options=options),
            Choice(name="as_of", label="As known on", chosen=as_of, hint="2019-01-31"),
        ),
    )


def _of_revisions(one: Mapping[str, Any]) -> str:
    return f" · {one['revisions']:,} revisions" if one["revisions"] else ""


def _stats(chosen: Mapping[str, Any], found: pl.DataFrame) -> Stats:
    moments = found["known_at"].n_unique()
    basis = ", ".join(sorted(found["known_at_basis"].unique().to_list()))
    return Stats(
        (
            Stat("periods", f"{chosen['periods']:,}"),
            Stat("revisions", f"{chosen['revisions']:,}"),
            Stat("moments of knowledge", f"{moments:,}", "of the periods shown"),
            Stat("how that is known", basis.replace("_", " ")),
        )
    )


def _figure(chosen: Mapping[str, Any], found: pl.DataFrame, as_of: datetime | None) -> Figure:
    moments = found["known_at"].unique().sort()
    positions = _thinned(moments.to_list(), as_of)
    at = as_of or positions[-1]
    now = known(found, max(positions[-1], at))
    periods = now["period_start"].to_list()
    values = [_aligned(known(found, moment), periods) for moment in positions]
    chosen_step = max((n for n, moment in enumerate(positions) if moment <= at), default=0)
    links = [_explain(chosen, period) for period in periods]
    x = [f"{period:%Y-%m-%d}" for period in periods]
    then = values[chosen_step]
    missing = sum(one is None for one in then)
    now_line = {"color": figures.MUTED, "width": 1.2}
    then_line = {"color": figures.ACCENT, "width": 2}
    data = [
        figures.line("as known now", x, figures.numbers(now["value"]), customdata=links, line=now_line),
        figures.line("as known then", x, then, customdata=links, line=then_line),
    ]
    return Figure(
        name="vintages",
        caption="What was known when: move the slider to a moment of the past",
        summary=f"As known {_on(at)}: {len(periods) - missing} of {len(periods)} periods were published.",
        data=data,
        layout=figures.layout(yaxis={"title": {"text": str(chosen["unit"])}}),
        grid=_then_grid(chosen, found, at, now),
        height=380,
        steps=Steps(
            label="As known on",
            trace=1,
            labels=[f"{moment:%Y-%m-%d}" for moment in positions],
            values=values,
            chosen=chosen_step,
        ),
    )


def _thinned(moments: list[datetime], as_of: datetime | None) -> list[datetime]:
    """Some moments of knowledge, evenly, always the first, the last and the one asked for."""
    step = max(1, -(-len(moments) // _POSITIONS))
    kept = {*moments[::-1][::step], moments[0]}
    if as_of and as_of >= moments[0]:
        kept.add(max(moment for moment in moments if moment <= as_of))
    return sorted(kept)


def _on(at: datetime) -> str:
    """A moment, or the day that ends with it."""
    ends_a_day = (at + timedelta(microseconds=1)).time() == time.min
    return f"on {at:%Y-%m-%d}" if ends_a_day else f"at {iso(at)}"


def _aligned(then: pl.DataFrame, periods: Sequence[Any]) -> list[float | None]:
    values = dict(then.select("period_start", "value").iter_rows())
    return figures.numbers(values.get(period) for period in periods)


def _then_grid(chosen: Mapping[str, Any], found: pl.DataFrame, at: datetime, now: pl.DataFrame) -> Grid:
    then = known(found, at).rename({"value": "then", "known_at": "since"})
    both = now.join(then, on="period_start", how="left").tail(_GRID_ROWS).reverse()
    rows = [
        [
            Link(f"{one['period_start']:%Y-%m-%d}", _explain(chosen, one["period_start"])),
            one["then"],
            one["since"],
            one["value"],
            one["known_at"],
        ]
        for one in both.iter_rows(named=True)
    ]
    columns = (
        Column("Period"),
        Column("Value then", is_number=True),
        Column("Known since"),
        Column("Value now", is_number=True),
        Column("Known since"),
    )
    return Grid(
        caption=f"The newest {len(rows)} periods, as known {_on(at)} and now", columns=columns, rows=rows
    )


def _revisions(found: pl.DataFrame) -> list[Block]:
    """How the period that was told anew most often was told."""
    counted = (
        found.group_by("period_start")
        .len()
        .filter(pl.col("len") > 1)
        .sort("len", "period_start", descending=True)
    )
    if counted.is_empty():
        return []
    period = counted["period_start"][0]
    told = found.filter(pl.col("period_start") == period)
    rows = [
        [
            Link(iso(one["known_at"]), _explain(one, period, one["known_at"])),
            one["value"],
            one["known_at_basis"],
        ]
        for one in told.iter_rows(named=True)
    ]
    first, last = told["value"][0], told["value"][-1]
    return [
        Figure(
            name="revisions",
            caption=f"The period that was told most often: {period:%Y-%m-%d}, {told.height} times",
            summary=f"First told as {first}, now {last}.",
            data=[
                figures.line(
                    "told as",
                    figures.times(told["known_at"]),
                    figures.numbers(told["value"]),
                    mode="lines+markers",
                    customdata=[_explain(one, period, one["known_at"]) for one in told.iter_rows(named=True)],
                    line={"shape": "hv", "color": figures.ACCENT, "width": 1.5},
                    marker={"size": 6},
                )
            ],
            layout=figures.layout(),
            grid=Grid(
                caption="Its versions; each leads to its explanation",
                columns=(Column("Known at"), Column("Value", is_number=True), Column("How that is known")),
                rows=rows,
            ),
            height=240,
        )
    ]


def _explain(of: Mapping[str, Any], period: object, known_at: datetime | None = None) -> str:
    version = iso(known_at) if known_at else ""
    return to(
        "/explain",
        table=TABLE.name,
        provider=of["provider"],
        series_id=of["series_id"],
        period_start=period,
        known_at=version,
    )
