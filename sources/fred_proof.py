"""What the answers of FRED prove of the periods asked for: its own counts, its own list of vintages, the calendar."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta

import orjson
import polars as pl

from lakehouse.coverage import Asked, Claim, minus, overlap
from lakehouse.window import Window
from sources.fred_rest import counts
from sources.proofs import until_told

_YEAR_AND_LAG = timedelta(days=500)
"""Annual series are dated by their first day and come out up to four months after their last."""
_ONE_DAY = timedelta(days=1)
_STEP = {"W": "1w", "BW": "2w", "M": "1mo", "Q": "3mo", "SA": "6mo", "A": "1y"}
"""How far apart the periods of a frequency begin; days have weekends and holidays."""


def prove_observations(asked: Asked, pages: pl.DataFrame, rows: pl.DataFrame) -> list[Claim]:
    """As many observations as the provider counted itself, of all vintages that it lists, without a period left out."""
    past = asked.past
    if past is None:
        return []
    stated, received = counts(pages, {"observations": "observations"})
    vintages = _vintages(pages)
    evidence = {
        "stated": sum(stated.values()),
        "received": sum(received.values()),
        "vintages_listed": len(vintages.listed),
        "vintages_seen": len(vintages.seen),
        **_weekdays(vintages.frequencies, rows),
    }
    doubt = (
        "which observations are missing: the provider counted more than it sent"
        if stated != received
        else vintages.doubt(past)
    )
    if doubt:
        return [Claim(window=past, status="degraded", proof="count", evidence=evidence, cannot_show=doubt)]
    holes = [hole for window in _absent(vintages.frequencies, rows) if (hole := overlap(window, past))]
    why = "revisions that came after this fetch"
    told = until_told(past, asked.at, rows, _YEAR_AND_LAG, why)
    claims = [replace(claim, proof="count", evidence={**claim.evidence, **evidence}) for claim in told]
    return [*_without(claims, holes), *_missing(holes, evidence)]


@dataclass
class _Vintages:
    """What the pages of one fetch say of vintages, as days in text."""

    listed: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    """Last days of values that the provider replaced or withdrew."""
    periods: set[str] = field(default_factory=set)
    """First and last days that the series has observations of."""
    frequencies: set[str] = field(default_factory=set)

    def doubt(self, past: Window) -> str:
        """Why the vintages received are not those that the provider lists; empty where they are.

        A window that does not hold all periods need not see all vintages.
        """
        strange = self.seen - self.listed
        if self.listed and strange:
            return f"since when some values held: {', '.join(sorted(strange)[:3])} are not in the list of vintages"
        withdrawn = {after for last in self.ended if (after := _day_after(last)) in self.listed}
        lacks = self.listed - self.seen - withdrawn
        if lacks and self._are_within(past):
            return f"what {len(lacks)} vintages said, from {min(lacks)} on: no value begins or ends with them"
        return ""

    def _are_within(self, past: Window) -> bool:
        days = (past.start.date().isoformat(), (past.end - timedelta(microseconds=1)).date().isoformat())
        return bool(self.periods) and days[0] <= min(self.periods) and max(self.periods) <= days[1]


def _vintages(pages: pl.DataFrame) -> _Vintages:
    found = _Vintages()
    for request, body in pages.select("request", "body").iter_rows():
        kind, said = orjson.loads(request)["kind"], orjson.loads(body)
        if kind == "vintages":
            found.listed.update(map(str, said["vintage_dates"]))
        elif kind == "series":
            for entry in said["seriess"]:
                found.periods |= {str(entry.get(name)) for name in ("observation_start", "observation_end")}
                found.frequencies.add(str(entry.get("frequency_short")))
        else:
            found.seen.update(str(row["realtime_start"]) for row in said["observations"])
            ends = {str(row.get("realtime_end")) for row in said["observations"]}
            found.ended |= ends - {str(said.get("realtime_end"))}
    return found


def _day_after(day: str) -> str | None:
    try:
        return (date.fromisoformat(day) + _ONE_DAY).isoformat()
    except (ValueError, OverflowError):
        return None


def _absent(frequencies: set[str], rows: pl.DataFrame) -> Iterable[Window]:
    """Periods that are not among those told, though earlier and later ones are; none for a series of days."""
    starts = rows["period_start"].drop_nulls().unique().sort()
    step = _STEP.get(next(iter(frequencies))) if len(frequencies) == 1 else None
    if step is None or starts.is_empty():
        return
    first, last = starts[0], starts[-1]
    expected = pl.date_range(first, last, step, eager=True)
    absent = expected.filter(~expected.is_in(starts.implode()))
    for start, end in zip(absent, absent.dt.offset_by(step), strict=True):
        yield Window(_midnight(start), _midnight(end))


def _weekdays(frequencies: set[str], rows: pl.DataFrame) -> dict[str, int]:
    """For a daily series how many weekdays are not told at all: FRED sends holidays as missing values."""
    days = rows.select(day="period_start").drop_nulls().unique()
    if frequencies != {"D"} or days.is_empty():
        return {}
    calendar = days.select(pl.date_range(pl.col("day").min(), pl.col("day").max()))
    absent = calendar.filter(pl.col("day").dt.weekday() <= 5).join(days, on="day", how="anti")
    return {"weekdays_absent": absent.height}


def _without(claims: Iterable[Claim], holes: list[Window]) -> Iterable[Claim]:
    for claim in claims:
        for window in minus(claim.window, holes):
            yield replace(claim, window=window)


def _missing(holes: Iterable[Window], evidence: dict[str, int]) -> Iterable[Claim]:
    why = "why the period is not there: the provider may never have had it"
    for window in holes:
        yield Claim(window=window, status="missing", proof="calendar", evidence=evidence, cannot_show=why)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
