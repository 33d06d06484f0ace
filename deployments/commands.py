"""What the commands do, as functions that return records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse import Lake, Window, catalog
from lakehouse.errors import UsageError, unknown
from lakehouse.ops import VERDICTS
from lakehouse.quarantine import held_rows
from lakehouse.quarantine import release as release_rows
from lakehouse.window import parse_moment
from sources import registry
from sources.errors import MissingKey, ParseError, SourceError
from sources.watchlist import Order, read_watchlist, recordings_folder
from tasks import session, work

Record = Mapping[str, Any]


def describe_feeds() -> Sequence[Record]:
    """One record a feed: where it comes from, what it fills, what it needs."""
    return [
        {
            "feed": feed.name,
            "provider": feed.provider,
            "fills": feed.table.name,
            "subject": feed.subjects,
            "key": feed.key_setting or "none",
            "about": feed.doc,
        }
        for feed in registry.feeds().values()
    ]


def ingest(feed: str, subjects: Sequence[str], start: str | None, end: str | None) -> Sequence[Record]:
    """Fetch what was named, one subject after the other; the first error is raised after the last subject."""
    run = session.new_run()
    done, errors = [], []
    for order in _orders(registry.feed(feed).name, subjects, start, end):
        try:
            done.append(work.fetch(order, run))
        except SourceError as error:
            errors.append(error)
            if isinstance(error, MissingKey):
                break
    if errors:
        kept = f"\n{len(done)} other subjects were fetched" if done else ""
        raise type(errors[0])("\n".join(str(error) for error in errors) + kept)
    return [{**asdict(one), "window": str(one.window)} for one in done]


def promote(names: Sequence[str]) -> Sequence[Record]:
    """Promote the tables named, or all, in the order of their inputs."""
    wanted = {catalog.table(name).name for name in names} or set(catalog.promotion_order())
    unfit = sorted(wanted - set(catalog.promotion_order()))
    if unfit:
        raise unknown("table that promotions fill", unfit[0], catalog.promotion_order())
    run = session.new_run()
    return [
        asdict(one) for name in catalog.promotion_order() if name in wanted for one in work.promote(name, run)
    ]


def read(
    table: str,
    *,
    venue: str | None,
    instrument: str | None,
    where: Sequence[str],
    start: str | None,
    end: str | None,
    as_of: str | None,
    versions: bool,
) -> pl.DataFrame:
    """Rows of a table in the order of its key; UsageError names the nearest venue or instrument for an unknown one."""
    lake = Lake.open()
    equals: dict[str, Any] = {**dict(_parse_where(lake, table, where))}
    for name, value in (("venue", venue), ("instrument_id", instrument)):
        if value is not None:
            equals[name] = _existing(lake, table, name, value, equals)
    rows = lake.scan(table, start=start, end=end, as_of=as_of, versions=versions, **equals)
    return rows.sort(lake.contract(table).key).collect()


def verdicts(table: str | None, limit: int) -> Sequence[Record]:
    """The newest verdicts, newest first."""
    lake = Lake.open()
    equals: dict[str, Any] = {} if table is None else {"table": catalog.table(table).name}
    rows = lake.scan(VERDICTS.name, **equals).sort("judged_at", descending=True).head(limit)
    shown = [
        "judged_at",
        "table",
        "level",
        "rows",
        "published_rows",
        "quarantined_rows",
        "reasons",
        "batch_id",
        "inputs",
    ]
    return rows.select(shown).collect().to_dicts()


def quarantined_batches() -> Sequence[Record]:
    """One record a batch: how many rows, why, and whether they are still held."""
    rows = held_rows(session.store())
    return [_batch_record(batch) for batch in rows.partition_by("batch_id", maintain_order=True)]


def quarantined_rows(batch: str) -> Sequence[Record]:
    """The quarantined rows of one batch."""
    shown = ["quarantine_id", "table", "page_id", "reasons", "explanation", "row", "status"]
    return _one_batch(batch).select(shown).to_dicts()


def release(batch: str) -> Sequence[Record]:
    """Judge a batch's pages again; what passes is published."""
    from expectations.gate import Gate

    held = _one_batch(batch).filter(pl.col("status") == "held")
    if held.is_empty():
        return []
    table, source = catalog.table(str(held["table"][0])), str(held["inputs"][0][0])
    if table.name in catalog.models():
        raise UsageError(f"{table.name} is built, not delivered: mend its inputs and promote it again")
    feed = registry.feed(source.removeprefix("bronze."))
    outcome = release_rows(
        session.store(),
        table,
        held,
        source=feed.bronze,
        parse=feed.parse,
        judge=Gate(session.files()).judge,
        run=session.new_run(),
        parse_error=ParseError,
    )
    return [asdict(outcome)] if outcome else []


def fetch_docs() -> Path:
    """Copy the Data Docs from the lake to the home folder; the path of their index."""
    from expectations.docs import build_index

    files = session.files()
    index = build_index(files)
    for key in files.keys("docs/"):
        target = session.settings().home / key
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(files.get(key))
    return (session.settings().home / index).resolve()


def serve_twin(recordings: Path | None, port: int) -> None:
    """Serve recordings until Ctrl-C."""
    from lakehouse.settings import load_settings
    from sources.twin.server import serve_forever

    serve_forever(recordings or recordings_folder(load_settings()), port)


def _orders(feed: str, subjects: Sequence[str], start: str | None, end: str | None) -> list[Order]:
    if not subjects and start is None and end is None:
        orders = read_watchlist(session.settings(), now=session.utc_now(), feeds=[feed])
        if not orders:
            raise UsageError(f"the watchlist names nothing for {feed}: give --subject")
        return orders
    window = _window(start, end)
    if not subjects:
        subjects = [
            order.subject for order in read_watchlist(session.settings(), now=session.utc_now(), feeds=[feed])
        ]
    return [Order(feed=feed, subject=subject, window=window) for subject in subjects]


def _window(start: str | None, end: str | None) -> Window:
    try:
        last = parse_moment(end) if end else session.utc_now()
        return Window(parse_moment(start) if start else last - timedelta(days=1), last)
    except ValueError as error:
        raise UsageError(f"{error}; times are ISO 8601, such as 2024-01-31 or 2024-01-31T12:00:00Z") from None


def _parse_where(lake: Lake, table: str, where: Sequence[str]) -> Iterator[tuple[str, Any]]:
    schema = lake.contract(table).schema
    for condition in where:
        name, sign, text = condition.partition("=")
        if not sign:
            raise UsageError(f"--where wants COLUMN=VALUE, not {condition!r}")
        if name not in schema:
            raise unknown(f"column of {table}", name, schema)
        yield (
            name,
            pl.Series([text]).cast(schema[name]).item() if schema[name] != pl.Boolean else text == "true",
        )


def _existing(lake: Lake, table: str, column: str, value: str, equals: Mapping[str, Any]) -> str:
    """The value, if the table has it; a table without any rows has nothing to compare with."""
    found = (
        lake.scan(table, versions=True, **equals).select(pl.col(column).unique()).collect()[column].to_list()
    )
    if found and value not in found:
        raise unknown(column.removesuffix("_id"), value, found)
    return value


def _one_batch(batch: str) -> pl.DataFrame:
    rows = held_rows(session.store(), batch=batch)
    batches = rows["batch_id"].unique().to_list()
    if len(batches) != 1:
        known = held_rows(session.store())["batch_id"].unique().to_list()
        raise (
            unknown("batch in quarantine", batch, known)
            if not batches
            else UsageError(f"{batch} could be {batches}")
        )
    return rows


def _batch_record(rows: pl.DataFrame) -> Record:
    counts = rows.explode("reasons")["reasons"].value_counts(sort=True)
    return {
        "batch_id": rows["batch_id"][0],
        "table": rows["table"][0],
        "rows": rows.height,
        "reasons": dict(counts.iter_rows()),
        "status": "held" if (rows["status"] == "held").any() else "released",
    }
