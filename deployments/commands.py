"""What the commands do, as functions that return records."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from expectations.monitors import Watch
from lakehouse import Lake, Window, catalog
from lakehouse.alerts import from_promotions, gates_of
from lakehouse.errors import MnemoError, UsageError, unknown
from lakehouse.explain import Explanation
from lakehouse.migrations import every_table
from lakehouse.migrations import migrate as migrate_table
from lakehouse.migrations import plan as migration_plan
from lakehouse.ops import VERDICTS
from lakehouse.publish import Promoted, Run
from lakehouse.quarantine import discard as discard_rows
from lakehouse.quarantine import held_rows, reasons_of
from lakehouse.quarantine import release as release_rows
from lakehouse.window import parse_moment
from sources import registry
from sources.backfill import Step
from sources.backfill_plan import Direction, Plan
from sources.errors import MissingKey, ParseError, SourceError
from sources.watchlist import Order, read_watchlist, recordings_folder
from tasks import session, tell, work
from tasks.report import rebuild_docs, record_figures

Record = Mapping[str, Any]


class PromotionsFailed(MnemoError):
    """Some tables could not be promoted; the others were."""


def describe_feeds() -> Sequence[Record]:
    """One record a feed: where it comes from, what it fills, what it needs, what its provider allows."""
    return [feed.describe(session.settings()) for feed in registry.feeds().values()]


def ingest(
    feed: str, subjects: Sequence[str], start: str | None, end: str | None, *, missing_only: bool = False
) -> Sequence[Record]:
    """Fetch what was named, one subject after the other; the first error is raised after the last subject."""
    run = session.new_run()
    done, errors = [], []
    orders = _orders(registry.feed(feed).name, subjects, start, end)
    for order in work.missing(orders) if missing_only else orders:
        try:
            done.append(work.fetch(order, run))
        except SourceError as error:
            errors.append(error)
            if isinstance(error, MissingKey):
                break
    session.client().tell_usage()
    record_figures(run, fetched=done)
    if errors:
        kept = f"\n{len(done)} other subjects were fetched" if done else ""
        raise type(errors[0])("\n".join(str(error) for error in errors) + kept)
    return [{**asdict(one), "window": str(one.window)} for one in done]


def plan_backfill(
    feed: str, subjects: Sequence[str], start: str | None, end: str | None, *, order: Direction
) -> Plan:
    """What of the window is not covered yet, and what fetching it costs."""
    if not subjects or start is None:
        raise UsageError("a backfill wants --subject, which may be given again, and --start")
    return work.plan_backfill(feed, subjects, _window(start, end), order)


def backfill(plan: Plan, *, parallel: int, tell: Callable[[Step], None]) -> Record:
    """Carry a plan out; what it did, and what is left and why."""
    run = session.new_run()
    done = work.carry_out(plan, run, parallel=parallel, tell=tell)
    record_figures(run, fetched=[done])
    return done.record()


def stream(
    name: str,
    subjects: Sequence[str],
    *,
    channels: Sequence[str],
    seconds: float | None,
    metrics_at: tuple[str, int] | None,
) -> Record:
    """Record a live stream, and serve its metrics at a host and port; how the recorder was doing at the end."""
    done = work.stream(
        name,
        subjects,
        channels=channels,
        seconds=seconds,
        metrics_at=metrics_at,
        run=session.new_run(),
    )
    return done.record()


def promote(names: Sequence[str]) -> Sequence[Record]:
    """Promote the tables named, or all, in the order of their inputs."""
    wanted = {catalog.table(name).name for name in names} or set(catalog.promotion_order())
    unfit = sorted(wanted - set(catalog.promotion_order()))
    if unfit:
        raise unknown("table that promotions fill", unfit[0], catalog.promotion_order())
    run = session.new_run()
    done: list[Promoted] = []
    trouble: list[str] = []
    for name in catalog.promotion_order():
        try:
            done += work.promote(name, run) if name in wanted else []
        except Exception as error:  # noqa: BLE001 - what is wrong with one table must not hold up the others
            trouble.append(f"{name}: {type(error).__name__}: {error}")
    record_figures(run, promoted=done)
    tell.tell(from_promotions(done), checked=gates_of(done), run=run)
    if trouble:
        raise PromotionsFailed("\n".join([*trouble, f"{len(done)} batches of other tables were promoted"]))
    return [one.record() for one in done]


def rebuild(name: str) -> Record:
    """Make one table again from all that it is made from; MnemoError where its gate blocks that."""
    table = catalog.table(name).name
    if table not in catalog.promotion_order():
        raise unknown("table that can be rebuilt", table, catalog.promotion_order())
    run = session.new_run()
    done = work.rebuild(table, run)
    record_figures(run, promoted=[done])
    if done.level == "blocked":
        raise MnemoError(f"{table} stays as it was: the gate blocked batch {done.batch_id} of the rebuild")
    return done.record()


def migrate(*, plan_only: bool) -> Sequence[Record]:
    """In what stored tables differ from their contracts; brought up to them unless only the plan is asked for.

    One table's error does not stop the others; they are raised together at the end.
    """
    store, run = session.store(), session.new_run()
    done, errors = [], []
    for table in every_table(store):
        try:
            steps = migration_plan(store, table) if plan_only else migrate_table(store, table, run)
            done += [asdict(step) for step in steps]
        except MnemoError as error:
            errors.append(str(error))
    if errors:
        kept = f"\n{len(done)} other steps were done" if done else ""
        raise MnemoError("\n".join(errors) + kept)
    return done


def upkeep(*, dry_run: bool) -> Sequence[Record]:
    """Maintain every table; sizes and counts before and after."""
    run = session.new_run()
    done = [one.record() for one in work.upkeep(run, dry_run=dry_run)]
    if not dry_run:
        rebuild_docs(run)
    return done


def watch(tables: Sequence[str]) -> Watch:
    """What the monitors see now, of all or of some tables."""
    lake = Lake.open()
    names = [lake.contract(name).name for name in tables]
    seen = work.look_around(lake, session.utc_now())
    return seen.of_tables(names) if names else seen


def explain(table: str, key: Sequence[str], *, every_row: bool) -> Explanation:
    """Where the row comes from that `COLUMN=VALUE` texts name."""
    pairs = [text.partition("=") for text in key]
    wrong = [text for text, (_, sign, _) in zip(key, pairs, strict=True) if not sign]
    if wrong:
        raise UsageError(f"the key is given as COLUMN=VALUE, not {wrong[0]!r}")
    return Lake.open().explain(table, {name: value for name, _, value in pairs}, every_row=every_row)


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
    wanted = dict(_parse_where(lake, table, where)) | _given(venue=venue, instrument_id=instrument)
    equals: dict[str, Any] = {}
    for name, value in wanted.items():
        is_subject = name in lake.contract(table).subject or name in ("venue", "instrument_id")
        equals[name] = _existing(lake, table, name, value, equals) if is_subject else value
    rows = lake.scan(table, start=start, end=end, as_of=as_of, versions=versions, **equals)
    return rows.sort(lake.contract(table).key).collect()


def coverage(
    name: str, *, subject: str | None, start: str | None, end: str | None, gaps_only: bool = False
) -> Sequence[Record]:
    """The intervals of the coverage ledger, or those that are gaps; the evidence as objects."""
    lake = Lake.open()
    name = name if not name or "." in name else registry.feed(name).name
    ask = lake.gaps if gaps_only else lake.coverage
    found = ask(name, subject=subject, start=start, end=end).iter_rows(named=True)
    return [{**row, "evidence": [orjson.loads(one) for one in row["evidence"]]} for row in found]


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
    found = rows.select(shown).collect().to_dicts()
    return [{**one, "reasons": orjson.loads(one["reasons"])} for one in found]


def quarantined_batches(*, every: bool = False) -> Sequence[Record]:
    """One record a batch: how many rows, why, since when, and what became of them; discarded ones only on request."""
    rows, now = held_rows(session.store()), session.utc_now()
    found = [_batch_record(batch, now) for batch in rows.partition_by("batch_id", maintain_order=True)]
    return [one for one in found if every or one["status"] != "discarded"]


def quarantine_reasons() -> Sequence[Record]:
    """Why rows are held now, by table and reason, counted over all batches."""
    rows = held_rows(session.store())
    return reasons_of(rows.filter(pl.col("status") == "held")).to_dicts()


def quarantined_rows(batch: str) -> Sequence[Record]:
    """The quarantined rows of one batch."""
    decided = ["discarded_by", "discarded_why", "discarded_at"]
    shown = ["quarantine_id", "table", "page_id", "reasons", "explanation", "row", "status", *decided]
    return _one_batch(batch).select(shown).to_dicts()


def discard(batch: str, *, by: str, why: str) -> Record:
    """Give up what is held of a batch, under a name and a reason."""
    held = _one_batch(batch)
    rows = discard_rows(session.store(), held, by=by, why=why, at=session.utc_now())
    return {
        "batch_id": held["batch_id"][0],
        "table": held["table"][0],
        "discarded": rows,
        "by": by.strip(),
        "why": why.strip(),
    }


def release(batch: str) -> Sequence[Record]:
    """Judge a batch's pages again, also if it was discarded; what passes is published."""
    waiting = _one_batch(batch).filter(pl.col("status") != "released")
    built = sorted(set(waiting["table"]) & set(catalog.models()))
    if built:
        raise UsageError(
            f"{built[0]} is built, not delivered: mend its inputs, promote it again and discard the batch"
        )
    return _released(waiting)


def release_every(table: str) -> Sequence[Record]:
    """Judge the pages of all that is held again, or of one table; what was built from tables is left out."""
    wanted = catalog.table(table).name if table else ""
    if wanted in catalog.models():
        raise UsageError(f"{wanted} is built, not delivered: mend its inputs and promote it again")
    held = held_rows(session.store()).filter(
        pl.col("status") == "held", ~pl.col("table").is_in(list(catalog.models()))
    )
    return _released(held.filter(pl.col("table") == wanted) if wanted else held)


def open_alerts() -> Sequence[Record]:
    """One record an open alert, the worst first."""
    return tell.open_alerts(session.store())


def silence_alert(fingerprint: str, *, hours: float, why: str) -> Record:
    """Silence an open alert; its record."""
    tell.silence(session.store(), fingerprint, hours=hours, why=why, run=session.new_run())
    return next(one for one in open_alerts() if one["fingerprint"] == fingerprint)


def test_alerts(route: str) -> Sequence[Record]:
    """Send a test alert to every route, or one."""
    return tell.send_test(tell.routes_of(session.settings()), tell.origin_of(session.store()), name=route)


def fetch_docs(batch: str = "") -> Path:
    """Copy the Data Docs from the lake to the home folder, or the page of one batch; the path to open."""
    from expectations.docs import bring, bring_page

    files, home = session.files(), session.settings().home
    return bring_page(files, home, batch) if batch else bring(files, home, now=session.utc_now())


def serve_page(port: int, *, open_browser: bool) -> None:
    """Serve the lake's page on loopback until Ctrl-C."""
    from deployments.ui.app import serve

    def tell(address: str) -> None:
        sys.stdout.write(f"the lake's page is at {address}; Ctrl-C stops it\n")
        sys.stdout.flush()

    serve(port, open_browser=open_browser, tell=tell)


def export_page() -> str:
    """Write the lake's page as static HTML into the lake; the address of its first page."""
    from deployments.ui.export import export

    lake = Lake.open()
    return f"{lake.store.root}/{export(lake)}"


def serve_twin(recordings: Path | None, port: int, *, synthetic: bool, refuse: float) -> None:
    """Serve recordings until Ctrl-C, made-up candles where they end if asked to; refuse a share of the requests."""
    from lakehouse.settings import load_settings
    from sources.twin.server import Trouble, serve_forever

    folder = recordings or recordings_folder(load_settings())
    sys.stdout.write(
        f"offline twin of {folder}; use it with MNEMO_TWIN_URL=http://127.0.0.1:{port}; Ctrl-C stops\n"
    )
    sys.stdout.flush()
    serve_forever(folder, port, synthetic=synthetic, trouble=Trouble(refused=refuse) if refuse else None)


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
        yield name, _value(name, text, schema[name])


def _given(**said: str | None) -> dict[str, Any]:
    return {name: value for name, value in said.items() if value is not None}


def _value(name: str, text: str, dtype: pl.DataType) -> Any:
    if dtype == pl.Boolean:
        return text == "true"
    if isinstance(dtype, pl.Datetime | pl.Date):
        moment = _moment(text)
        return moment if isinstance(dtype, pl.Datetime) else moment.date()
    try:
        return pl.Series([text]).cast(dtype).item()
    except pl.exceptions.PolarsError:
        raise UsageError(f"--where {name}={text}: not a value of type {str(dtype).lower()}") from None


def _moment(text: str) -> datetime:
    try:
        return parse_moment(text)
    except ValueError as error:
        raise UsageError(f"{error}; times are ISO 8601, such as 2024-01-31 or 2024-01-31T12:00:00Z") from None


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


def _released(waiting: pl.DataFrame) -> Sequence[Record]:
    """One record for each batch of which something was judged."""
    run = session.new_run()
    outcomes = [_release(one, run) for one in waiting.partition_by("batch_id", maintain_order=True)]
    return [outcome.record() for outcome in outcomes if outcome]


def _release(held: pl.DataFrame, run: Run) -> Promoted | None:
    from expectations.gate import Gate

    table, source = catalog.table(str(held["table"][0])), str(held["inputs"][0][0])
    feed = registry.feed_between(source, table.name)
    return release_rows(
        session.store(),
        table,
        held,
        source=feed.bronze,
        parse=feed.parse,
        judge=Gate(session.files()).judge,
        run=run,
        parse_error=ParseError,
        streaming=feed.streaming,
    )


def _batch_record(rows: pl.DataFrame, now: datetime) -> Record:
    counts = rows.explode("reasons")["reasons"].value_counts(sort=True)
    states = set(rows["status"])
    since: datetime = rows["quarantined_at"].min()  # type: ignore[assignment]
    return {
        "batch_id": rows["batch_id"][0],
        "table": rows["table"][0],
        "rows": rows.height,
        "reasons": dict(counts.iter_rows()),
        "status": next(state for state in ("held", "released", "discarded") if state in states),
        "held": int((rows["status"] == "held").sum()),
        "quarantined_at": since,
        "age_days": round((now - since) / timedelta(days=1), 1),
    }
