"""staleness: what is fetched again and again, but has nothing new.

Asked of the subjects that the watchlist fetches up to now; a lake of fixed windows of the past cannot go stale. How
old the newest row is, is measured for each of them against `freshness` of the table that it fills, and against the
subject's own habit: a quarterly series of which the last quarter was told a month late is not stale after ten days. So
the limit is the freshness, and the longest of the subject's last steps from one event to the next, and the time that
its newest event took to be known.

Of tables that hold states (instruments, series) a row comes when something changes, which it may not do for years:
there it counts how long ago the provider last answered. Streams have a heartbeat of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import orjson
import polars as pl

from expectations.monitors.monitor import MEASURED, Monitor, View, measured
from lakehouse.catalog import table as contract_of
from lakehouse.contract import UTC_US, Table
from lakehouse.coverage import COVERED
from lakehouse.ops import COVERAGE

STEPS = 12
"""How many of a subject's last steps show its habit."""

_OF = "__of"
_DAY_S = 86_400
_NEWEST = pl.Schema({_OF: pl.String(), "newest": UTC_US, "usual_s": pl.Float64()})


def look(view: View) -> pl.DataFrame:
    """Age in days of the newest row of each subject that is fetched up to now and of which any was ever told."""
    found = []
    for (name,), asked in _asked(view).group_by("table", maintain_order=True):
        table = contract_of(str(name))
        if table.freshness is None:
            continue
        newest = _newest_rows(view, table, asked) if _holds_events(table) else _last_answers(table, asked)
        found.append(ages(newest, table.name, table.freshness, view.now))
    return pl.concat(found) if found else MEASURED.to_frame()


def ages(newest: pl.DataFrame, table: str, freshness: timedelta, now: datetime) -> pl.DataFrame:
    """From the newest moment of each subject and its usual time between two how old it is, beside its limit."""
    age_s = (pl.lit(now) - pl.col("newest")).dt.total_seconds(fractional=True)
    days = pl.col("measured").round(2), pl.col("limit").round(2)
    return measured(
        newest.select(
            pl.col(_OF).alias("subject"),
            pl.lit(table).alias("table"),
            (age_s.clip(0) / _DAY_S).alias("measured"),
            ((freshness.total_seconds() + pl.col("usual_s")) / _DAY_S).alias("limit"),
        ).with_columns(summary=pl.format("{}: the newest is {} days old; allowed are {}", "subject", *days))
    )


def habits(events: pl.DataFrame) -> pl.DataFrame:
    """From all events of some subjects (`__of`, `event`, `known`) the newest of each, and its usual distance in s."""
    first_known = events.group_by(_OF, "event").agg(pl.col("known").min()).sort(_OF, "event")
    step_s = pl.col("event").diff().tail(STEPS).max().dt.total_seconds(fractional=True).fill_null(0.0)
    lag_s = (pl.col("known") - pl.col("event")).last().dt.total_seconds(fractional=True).clip(0)
    return first_known.group_by(_OF, maintain_order=True).agg(
        newest=pl.col("event").last(), usual_s=step_s + lag_s
    )


def _asked(view: View) -> pl.DataFrame:
    """Table, what its rows are about and when the provider last answered, of each rolling feed and subject."""
    rolling = pl.LazyFrame(
        sorted(view.rolling), schema={"feed": pl.String, "subject": pl.String}, orient="row"
    )
    told = view.lake.scan(COVERAGE.name).join(rolling, on=["feed", "subject"], how="semi")
    is_answer = pl.col("status").is_in([*COVERED, "degraded"])
    answers = told.filter(is_answer).group_by("table", "about").agg(answered_at=pl.col("recorded_at").max())
    return answers.sort("table", "about").collect()


def _holds_events(table: Table) -> bool:
    """Whether new events become new rows; else rows are versions of states."""
    return table.range_column is not None


def _last_answers(table: Table, asked: pl.DataFrame) -> pl.DataFrame:
    rows = [
        {_OF: _name(table, thing), "newest": at, "usual_s": 0.0}
        for about, at in asked.select("about", "answered_at").iter_rows()
        for thing in orjson.loads(about)
    ]
    return pl.DataFrame(rows, schema=_NEWEST).group_by(_OF, maintain_order=True).max()


def _newest_rows(view: View, table: Table, asked: pl.DataFrame) -> pl.DataFrame:
    by_columns: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for about in asked["about"]:
        for thing in orjson.loads(about):
            name = _name(table, thing)
            by_columns.setdefault(tuple(sorted(thing)), {})[name] = {_OF: name, **thing}
    found = [
        _newest_of(view, table, pl.DataFrame(list(things.values())), columns)
        for columns, things in by_columns.items()
        if columns
    ]
    return pl.concat(found) if found else _NEWEST.to_frame()


def _newest_of(view: View, table: Table, of: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """First what the last days hold, which is little to read; all of it only of the subjects that are not there."""
    since = view.now - (table.freshness or timedelta())
    newest = pl.col(table.time_column).max().alias("newest")
    recent = view.lake.scan(table.name, start=since, versions=True).join(of.lazy(), on=by)
    fresh = recent.group_by(_OF).agg(newest, usual_s=pl.lit(0.0)).sort(_OF).collect()
    rest = of.join(fresh, on=_OF, how="anti")
    if rest.is_empty():
        return fresh
    known = pl.col("known_at" if "known_at" in table.schema else table.time_column)
    events = view.lake.scan(table.name, versions=True).join(rest.lazy(), on=by)
    events = events.select(_OF, event=pl.col(table.time_column), known=known)
    return pl.concat([fresh, habits(events.collect())])


def _name(table: Table, thing: Mapping[str, str]) -> str:
    return " ".join(thing[name] for name in table.subject if name in thing)


MONITOR = Monitor(
    name="staleness",
    doc="Whatever is fetched up to now has rows as new as its table's freshness and its own habit promise.",
    unit="days",
    severity="critical",
    look=look,
)
