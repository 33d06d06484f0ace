"""Reading the coverage ledger: what is covered, what a read may take for whole, where it has gaps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import orjson
import polars as pl

from lakehouse.contract import UTC_US, Table
from lakehouse.coverage import (
    COVERED,
    Claim,
    Interval,
    Statement,
    clock,
    is_settled,
    minus,
    overlap,
    period,
    resolve,
)
from lakehouse.errors import GapError
from lakehouse.ops import COVERAGE
from lakehouse.store import Store
from lakehouse.window import Window

_SHOWN = 5

PICTURE = pl.Schema(
    {
        "feed": pl.String(),
        "subject": pl.String(),
        "table": pl.String(),
        "start": UTC_US,
        "end": UTC_US,
        "status": pl.String(),
        "proof": pl.String(),
        "cannot_show": pl.String(),
        "evidence": pl.List(pl.String()),
        "recorded_at": UTC_US,
        "run_id": pl.String(),
    }
)
"""What `picture` gives: one row an interval."""


def picture(ledger: pl.LazyFrame) -> pl.DataFrame:
    """What the statements of `ops.coverage` amount to: disjoint intervals for each feed and subject."""
    rows = [
        {"feed": feed, "subject": subject, "table": group["table"][0], **_shown(interval)}
        for (feed, subject), group in ledger.collect()
        .sort("feed", "subject")
        .group_by("feed", "subject", maintain_order=True)
        for interval in resolve(statements(group))
    ]
    return pl.DataFrame(rows, schema=PICTURE, orient="row")


def things(ledger: pl.LazyFrame, table: Table) -> list[tuple[dict[str, str], list[Interval]]]:
    """For each thing that a table's rows are about, by its subject columns, what is covered by whichever feed."""
    found = ledger.filter(pl.col("table") == table.name).collect()
    by_thing: dict[str, list[Statement]] = {}
    for about, group in found.group_by("about", maintain_order=True):
        for thing in orjson.loads(str(about[0])):
            key = orjson.dumps(thing, option=orjson.OPT_SORT_KEYS).decode()
            by_thing.setdefault(key, []).extend(statements(group))
    return [(orjson.loads(key), resolve(told)) for key, told in sorted(by_thing.items())]


def settled_windows(store: Store, feed: str, subject: str) -> list[Window]:
    """The windows of one subject that need not be asked for again."""
    return settled_by_subject(store, feed, [subject])[subject]


def settled_by_subject(store: Store, feed: str, subjects: Collection[str]) -> dict[str, list[Window]]:
    """The same of several subjects, in one look at the ledger."""
    found: dict[str, list[Window]] = {subject: [] for subject in subjects}
    ledger = store.find(COVERAGE)
    if ledger is None:
        return found
    wanted = pl.col("subject").is_in(pl.Series(list(found), dtype=pl.String).implode())
    rows = ledger.scan().filter(pl.col("feed") == feed, wanted).collect()
    for (subject,), told in rows.partition_by("subject", as_dict=True, maintain_order=True).items():
        found[str(subject)] = [one.window for one in resolve(statements(told)) if is_settled(one)]
    return found


def require_covered(ledger: pl.LazyFrame, table: Table, wanted: Window, equals: Mapping[str, object]) -> None:
    """Raise GapError, which names subjects and intervals, unless all that is asked for is covered in the window.

    Asked for is everything in the ledger that `equals` (columns and their values) does not rule out, and at least
    one thing.
    """
    asked = [
        (thing, intervals)
        for thing, intervals in things(ledger, table)
        if all(equals.get(name, value) == value for name, value in thing.items())
    ]
    subject = {name: str(value) for name, value in equals.items() if name in table.subject}
    found = [
        f"{_named(thing)} {part}: {said}"
        for thing, intervals in asked or [(subject, [])]
        for part, said in uncovered(intervals, bounds(table, thing, wanted))
    ]
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise GapError(f"{table.name} is not covered: {'; '.join(found[:_SHOWN])}{more}")


def uncovered(intervals: Iterable[Interval], wanted: Window) -> list[tuple[Window, str]]:
    """The parts of a window that a reader may not take for whole, each with its status or `never asked`."""
    kept = list(intervals)
    known = [
        (shared, interval.status)
        for interval in kept
        if interval.status not in COVERED and (shared := overlap(interval.window, wanted))
    ]
    unasked = [(part, "never asked") for part in minus(wanted, (interval.window for interval in kept))]
    return sorted([*known, *unasked])


def bounds(table: Table, thing: Mapping[str, str], wanted: Window) -> Window:
    """The window of the table's clock in which the rows lie whose `time_column` lies in `wanted`.

    Bars are read by their end and asked for by their beginning. Periods of observations differ in length: there
    the window is taken as it is.
    """
    if clock(table) == table.time_column or "interval" not in thing:
        return wanted
    ends = pl.Series([wanted.start, wanted.end], dtype=UTC_US)
    start, end = ends.dt.offset_by(f"-{period(thing['interval'])}").to_list()
    return Window(start, end)


def with_mask(rows: pl.LazyFrame, table: Table, ledger: pl.LazyFrame) -> pl.LazyFrame:
    """The rows with `is_covered`: whether the stretch that a row lies in is complete."""
    by_columns: dict[tuple[str, ...], list[dict[str, object]]] = {}
    for thing, intervals in things(ledger, table):
        covered = [one.window for one in intervals if one.status in COVERED]
        by_columns.setdefault(tuple(thing), []).extend(
            {**thing, "__start": window.start, "__end": window.end} for window in covered
        )
    moment = pl.col(clock(table)).cast(UTC_US)
    masked = rows.with_columns(moment.alias("__at"), pl.lit(False).alias("is_covered"))  # noqa: FBT003
    for columns, covered_rows in by_columns.items():
        masked = _mark(masked, columns, covered_rows, table)
    return masked.drop("__at")


def statements(ledger: pl.DataFrame) -> Iterator[Statement]:
    """Rows of `ops.coverage` as statements."""
    for row in ledger.iter_rows(named=True):
        claim = Claim(
            window=Window(row["start"], row["end"]),
            status=row["status"],
            proof=row["proof"],
            evidence=orjson.loads(row["evidence"]),
            cannot_show=row["cannot_show"],
        )
        yield Statement(
            claim=claim, recorded_at=row["recorded_at"], number=row["coverage_id"], run_id=row["run_id"]
        )


def _mark(
    rows: pl.LazyFrame, columns: tuple[str, ...], covered: Sequence[Mapping[str, object]], table: Table
) -> pl.LazyFrame:
    schema = {**{name: table.schema[name] for name in columns}, "__start": UTC_US, "__end": UTC_US}
    intervals = pl.LazyFrame(covered, schema=schema, orient="row").sort("__start")
    joined = rows.sort("__at").join_asof(
        intervals,
        left_on="__at",
        right_on="__start",
        by=list(columns) or None,
        strategy="backward",
        check_sortedness=False,
    )
    is_inside = (pl.col("__at") < pl.col("__end")).fill_null(value=False)
    return joined.with_columns(pl.col("is_covered") | is_inside).drop("__start", "__end", strict=False)


def _shown(interval: Interval) -> dict[str, object]:
    newest = max(interval.statements, key=lambda one: (one.recorded_at, one.number))
    return {
        "start": interval.window.start,
        "end": interval.window.end,
        "status": interval.status,
        "proof": interval.proof,
        "cannot_show": interval.cannot_show,
        "evidence": [orjson.dumps(one.claim.evidence).decode() for one in interval.statements],
        "recorded_at": newest.recorded_at,
        "run_id": newest.run_id,
    }


def _named(thing: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in thing.items()) or "everything"
