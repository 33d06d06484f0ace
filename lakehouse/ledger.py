"""The coverage ledger: `ops.coverage` as a promotion of the records that fetches left in bronze.

It consumes a bronze table's commits behind the silver table that the feed fills, never ahead of it, and remembers the
version in its own commits. A statement depends on the commit, its pages and what of them is in quarantine: dropping
the table and promoting again makes it anew, as far back as the bronze log goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import orjson
import polars as pl

from lakehouse.clean import CONTRADICTS
from lakehouse.contract import Table
from lakehouse.coverage import (
    REFUSED,
    About,
    Asked,
    Claim,
    Fetched,
    Part,
    Prove,
    clock,
    minus,
    overlap,
    read_records,
)
from lakehouse.errors import MnemoError
from lakehouse.ops import COVERAGE, QUARANTINE
from lakehouse.promotion import (
    Parse,
    new_shares,
    next_versions,
    pages_of_share,
    parse_what_can_be,
    position_name,
    until_settled,
)
from lakehouse.shares import Share, share_name, share_of
from lakehouse.store import Store, StoredTable
from lakehouse.streamed import Streamed, joined, read_streamed
from lakehouse.window import Window

_MAX_COMMITS = 256
_SEEN_WITHIN = timedelta(days=8)
"""Pages that a fetch did not store anew came in within the week before it."""
_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A feed, as far as the ledger needs it."""

    feed: str
    table: Table
    bronze: Table
    parse: Parse
    prove: Prove
    about: About | None
    """None: what a subject is about is read from the rows."""
    parse_error: type[MnemoError]
    channel: str = ""
    """Of a stream: the channel whose claims speak of the table's rows. The recorder makes them, nothing is proven."""


def promote_coverage(store: Store, source: Source) -> int:
    """State what the fetches prove that have been promoted into the source's table; returns the new statements.

    Raises Contention when others keep committing first.
    """
    pages = store.find(source.bronze)
    if pages is None:
        return 0
    stated = 0
    promote_next = _promote_next_streamed if source.channel else _promote_next
    while (more := until_settled(lambda: promote_next(store, source, pages))) is not None:
        stated += more
    return stated


def shares_to_state(store: Store, source: Source) -> tuple[Share, ...]:
    """What the ledger has not stated yet, cut as promotions are; () where that cannot be."""
    pages = store.find(source.bronze)
    if pages is None or source.channel:
        return ()
    return new_shares(pages, store.open(COVERAGE), position_name(COVERAGE, pages), pages.version)


def promote_coverage_of_share(store: Store, source: Source, share: Share) -> int:
    """State what the fetches of one share prove, once they are promoted; returns the new statements."""
    pages = store.find(source.bronze)
    if pages is None:
        return 0
    stated = 0
    while (more := until_settled(lambda: _promote_next_of_share(store, source, pages, share))) is not None:
        stated += more
    return stated


def remembering(parse: Parse) -> Parse:
    """`parse`, which is pure, with its last answer: the ledger asks for the very pages that were just promoted."""
    last: list[tuple[pl.DataFrame, pl.DataFrame]] = []

    def remembered(pages: pl.DataFrame) -> pl.LazyFrame:
        asked = pages.select("page_id", "received_at")
        if not (last and last[0][0].equals(asked)):
            last[:] = [(asked, parse(pages).collect())]
        return last[0][1].lazy()

    return remembered


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What is known of the pages of a batch."""

    pages: Mapping[int, pl.DataFrame] = field(repr=False)
    rows: Mapping[int, pl.DataFrame] = field(repr=False)
    no_rows: pl.DataFrame = field(repr=False)
    unreadable: Mapping[int, str]
    held: Mapping[int, list[Window | None]]
    """Where rows of a page that were not published lie; None: nobody knows."""

    def pages_of(self, part: Part) -> pl.DataFrame | None:
        """The pages of a part in their order, None where one is gone."""
        found = [self.pages.get(page_id) for page_id in part.page_ids]
        present = [frame for frame in found if frame is not None]
        return pl.concat(present) if len(present) == len(found) > 0 else None

    def rows_of(self, part: Part) -> pl.DataFrame:
        """The rows parsed from the pages of a part."""
        found = [self.rows[page_id] for page_id in dict.fromkeys(part.page_ids) if page_id in self.rows]
        return pl.concat(found) if found else self.no_rows


def _promote_next(store: Store, source: Source, pages: StoredTable) -> int | None:
    pages.refresh()
    ledger = store.open(COVERAGE)
    target = store.find(source.table)
    app = position_name(COVERAGE, pages)
    done = max(ledger.consumed(app), 0)
    promoted = target.consumed(position_name(source.table, pages)) if target else -1
    upto = min(pages.version, promoted, done + _MAX_COMMITS)
    if done >= upto:
        return None
    fetches = [
        (version, said.get("run", ""), _numbered(said["fetched"]))
        for version, said in pages.commits(done, upto)
        if "fetched" in said
    ]
    frame = _statements(store, source, pages, pages.changes(done, upto), fetches)
    ledger.append(frame, positions={app: upto}, said={"contract": COVERAGE.fingerprint})
    return frame.height


def _promote_next_of_share(store: Store, source: Source, pages: StoredTable, share: Share) -> int | None:
    pages.refresh()
    ledger, target = store.open(COVERAGE), store.open(source.table)
    app = position_name(COVERAGE, pages)
    done = ledger.position_of_share(app, share.number)
    promoted = target.position_of_share(position_name(source.table, pages), share.number)
    versions, upto = next_versions(share, done)
    if done >= upto or promoted < max(share.versions, default=-1):
        return None
    fetches = [
        (version, said.get("run", ""), _of_share(_numbered(said["fetched"]), share))
        for version in versions
        for _, said in pages.commits(version - 1, version)
    ]
    frame = _statements(store, source, pages, pages_of_share(pages, share, versions), fetches)
    numbers = (share.number, *(share.idle if upto == share.upto else ()))
    positions = {share_name(app, number): upto for number in numbers}
    ledger.append(frame, positions=positions, said={"contract": COVERAGE.fingerprint})
    return frame.height


def _numbered(records: str) -> dict[int, Fetched]:
    """The records of a commit by their place in it, of which their statements' ids are made."""
    return dict(enumerate(read_records(records)))


def _of_share(records: Mapping[int, Fetched], share: Share) -> dict[int, Fetched]:
    return {place: one for place, one in records.items() if share_of(one.subject) == share.number}


def _statements(
    store: Store,
    source: Source,
    stored: StoredTable,
    new: pl.DataFrame,
    fetches: Sequence[tuple[int, str, Mapping[int, Fetched]]],
) -> pl.DataFrame:
    """What fetches show: version of the commit, run and records of each; `new` are the pages that they brought."""
    known = _known(store, source, stored, new, [one for _, _, records in fetches for one in records.values()])
    rows = [
        row
        for version, run_id, records in fetches
        for place, record in records.items()
        for row in _stated(source, known, f"{stored.id}-{version}-{place}", record, run_id)
    ]
    return pl.DataFrame(rows, schema=COVERAGE.schema, orient="row")


def _promote_next_streamed(store: Store, source: Source, pages: StoredTable) -> int | None:
    """Several tables are filled from one stream: each has a position of its own."""
    pages.refresh()
    ledger, target = store.open(COVERAGE), store.find(source.table)
    app = f"{position_name(COVERAGE, pages)} {source.table.name}"
    done = max(ledger.position(app), 0)
    promoted = target.position(position_name(source.table, pages)) if target else -1
    upto = min(pages.version, promoted, done + _MAX_COMMITS)
    if done >= upto:
        return None
    commits = [
        (said.get("run", ""), read_streamed(said["streamed"]))
        for _, said in pages.commits(done, upto)
        if "streamed" in said
    ]
    told = joined(one for _, claims in commits for one in claims if one.channel == source.channel)
    run_id = commits[-1][0] if commits else ""
    held = _held_of_stream(store, source)
    rows = [
        _streamed_row(source, one, claim, f"{pages.id}-{upto}-{source.table.name}-{number}-{part}", run_id)
        for number, one in enumerate(told)
        for part, claim in enumerate(_without_held([one.claim], held.get(_json(one.about), ())))
    ]
    frame = pl.DataFrame(rows, schema=COVERAGE.schema, orient="row")
    ledger.append(frame, positions={app: upto}, said={"contract": COVERAGE.fingerprint})
    return frame.height


def _held_of_stream(store: Store, source: Source) -> dict[str, list[Window | None]]:
    """Where the rows lie that were not published, by what they are about."""
    quarantine = store.find(QUARANTINE)
    if quarantine is None:
        return {}
    rows = quarantine.scan().filter(
        pl.col("table") == source.table.name,
        pl.col("status") == "held",
        pl.col("row").is_not_null(),
        pl.col("inputs").list.contains(source.bronze.name),
    )
    said = rows.select("row", at=_said_moment(clock(source.table))).collect()
    found: dict[str, list[Window | None]] = {}
    for row, at in said.iter_rows():
        whole = orjson.loads(row)
        about = _json({name: whole[name] for name in source.table.subject})
        found.setdefault(about, []).append(Window(at, at + _MOMENT) if at else None)
    return found


def _streamed_row(source: Source, one: Streamed, claim: Claim, number: str, run_id: str) -> dict[str, Any]:
    return {
        "coverage_id": number,
        "feed": source.feed,
        "subject": one.subject,
        "table": source.table.name,
        "about": _json([one.about]),
        "start": claim.window.start,
        "end": claim.window.end,
        "status": claim.status,
        "proof": claim.proof,
        "evidence": _json(claim.evidence),
        "cannot_show": claim.cannot_show,
        "asked_at": one.recorded_at,
        "recorded_at": one.recorded_at,
        "run_id": run_id,
    }


def _known(
    store: Store, source: Source, stored: StoredTable, new: pl.DataFrame, records: Sequence[Fetched]
) -> _Known:
    pages = _pages(stored, new, records)
    parsed, unreadable = parse_what_can_be(source.parse, pages, source.parse_error)
    rows = parsed.collect()
    return _Known(
        pages=_by_page(pages),
        rows=_by_page(rows),
        no_rows=rows.clear(),
        unreadable=dict(unreadable),
        held=_held(store, source.table, pages["page_id"]),
    )


def _pages(stored: StoredTable, new: pl.DataFrame, records: Sequence[Fetched]) -> pl.DataFrame:
    """The new pages, and those that the fetches received again and did not store anew."""
    named = {page_id for record in records for part in record.parts for page_id in part.page_ids}
    again = sorted(named - set(new["page_id"]))
    if not again:
        return new
    since = min(record.asked_at for record in records) - _SEEN_WITHIN
    found = stored.scan().filter(
        pl.col("received_date") >= since.date(), pl.col("page_id").is_in(pl.lit(pl.Series(again)).implode())
    )
    return pl.concat([new, found.unique("page_id").collect()])


def _by_page(frame: pl.DataFrame) -> dict[int, pl.DataFrame]:
    groups = frame.partition_by("page_id", maintain_order=True, as_dict=True)
    return {int(key[0]): group for key, group in groups.items()}


def _held(store: Store, table: Table, page_ids: pl.Series) -> dict[int, list[Window | None]]:
    """Where the rows lie that were not published. A contradiction is no hole: its first version is there."""
    quarantine = store.find(QUARANTINE)
    if quarantine is None:
        return {}
    begin, end = (_said_moment(name) for name in (clock(table), table.time_column))
    rows = quarantine.scan().filter(
        pl.col("table") == table.name,
        pl.col("status") == "held",
        pl.col("row").is_not_null(),
        pl.col("page_id").is_in(page_ids.unique().implode()),
        pl.col("reasons").list.set_difference([CONTRADICTS]).list.len() > 0,
    )
    spans = rows.select("page_id", start=begin, end=pl.max_horizontal(end, begin + _MOMENT)).sort("start")
    island = (pl.col("start") > pl.col("end").cum_max().shift()).fill_null(value=False).cum_sum()
    joined = spans.with_columns(island=island.over("page_id")).group_by("page_id", "island")
    found: dict[int, list[Window | None]] = {}
    for row in joined.agg(pl.col("start").min(), pl.col("end").max()).collect().iter_rows(named=True):
        window = Window(row["start"], row["end"]) if row["start"] else None
        found.setdefault(row["page_id"], []).append(window)
    return found


def _said_moment(column: str) -> pl.Expr:
    """A moment or a day of a row that is kept as JSON."""
    text = pl.col("row").str.json_path_match(f"$.{column}")
    return (
        text.str.head(26)
        .str.strip_chars_end("Z")
        .str.to_datetime(time_unit="us", time_zone="UTC", strict=False, ambiguous="null")
    )


def _stated(
    source: Source, known: _Known, name: str, record: Fetched, run_id: str
) -> Iterator[dict[str, Any]]:
    for number, (claim, part) in enumerate(_claims(source, known, record)):
        yield {
            "coverage_id": f"{name}-{number}",
            "feed": source.feed,
            "subject": record.subject,
            "table": source.table.name,
            "about": _json(_about(source, known, record)),
            "start": claim.window.start,
            "end": claim.window.end,
            "status": claim.status,
            "proof": claim.proof,
            "evidence": _json({**claim.evidence, **_checksum(part)}),
            "cannot_show": claim.cannot_show,
            "asked_at": record.asked_at,
            "recorded_at": record.recorded_at,
            "run_id": run_id,
        }


def _claims(source: Source, known: _Known, record: Fetched) -> Iterator[tuple[Claim, Part | None]]:
    """What a fetch shows, part by part; what it did not get to is missing, or refused."""
    is_over = record.outcome == "answered"
    whole = record.parts if is_over else record.parts[:-1]
    for part in whole:
        asked = Asked(subject=record.subject, window=part.window, at=record.asked_at)
        for claim in _proven(source, known, asked, part):
            yield claim, part
    past = Asked(subject=record.subject, window=record.window, at=record.asked_at).past
    if is_over or past is None:
        return
    for window in minus(past, (part.window for part in whole)):
        yield _not_received(window, record), None


def _not_received(window: Window, record: Fetched) -> Claim:
    if record.outcome == "refused":
        why = "whether the provider has it: it refused to answer"
        status, proof = "unavailable", REFUSED
    else:
        why = "whether the provider has it: it failed before all was here"
        status, proof = "missing", "failed"
    return Claim(
        window=window,
        status=status,  # type: ignore[arg-type]
        proof=proof,
        evidence={"said": record.detail},
        cannot_show=why,
    )


def _proven(source: Source, known: _Known, asked: Asked, part: Part) -> list[Claim]:
    pages = known.pages_of(part)
    unreadable = [page_id for page_id in part.page_ids if page_id in known.unreadable]
    if pages is None or unreadable:
        if asked.past is None:
            return []
        lost = "an answer cannot be read" if unreadable else "a page is gone from bronze"
        evidence = {"unreadable_pages": unreadable} if unreadable else {}
        why = f"what is in it: {lost}"
        return [
            Claim(
                window=asked.past, status="degraded", proof="unreadable", evidence=evidence, cannot_show=why
            )
        ]
    claims = source.prove(asked, pages, known.rows_of(part))
    return _without_held(
        claims, [window for page_id in part.page_ids for window in known.held.get(page_id, ())]
    )


def _without_held(claims: Sequence[Claim], held: Sequence[Window | None]) -> list[Claim]:
    """The claims, but degraded where rows wait in quarantine; everywhere if nobody knows where."""
    if not held:
        return list(claims)
    is_anywhere = None in held
    windows = [window for window in held if window is not None]
    kept: list[Claim] = []
    for claim in claims:
        if claim.status != "complete":
            kept.append(claim)
            continue
        lost = [claim.window] if is_anywhere else [w for h in windows if (w := overlap(h, claim.window))]
        free = minus(claim.window, lost)
        kept += [_moved(claim, window) for window in free]
        kept += [
            Claim(
                window=window,
                status="degraded",
                proof="quarantine",
                cannot_show="whether the rows that wait in quarantine are right: they are not published",
            )
            for window in _united(lost)
        ]
    return kept


def _united(windows: Sequence[Window]) -> list[Window]:
    """Disjoint windows that together are the same."""
    united: list[Window] = []
    for window in sorted(windows):
        if united and window.start <= united[-1].end:
            united[-1] = Window(united[-1].start, max(united[-1].end, window.end))
        else:
            united.append(window)
    return united


def _moved(claim: Claim, window: Window) -> Claim:
    return Claim(
        window=window,
        status=claim.status,
        proof=claim.proof,
        evidence=claim.evidence,
        cannot_show=claim.cannot_show,
    )


def _about(source: Source, known: _Known, record: Fetched) -> Sequence[Mapping[str, str]]:
    if source.about is not None:
        return source.about(record.subject)
    names = list(source.table.subject)
    told = [known.rows_of(part).select(names) for part in record.parts]
    return pl.concat(told).unique().sort(names).to_dicts() if told else []


def _checksum(part: Part | None) -> dict[str, Any]:
    """Page ids are hashes of what was asked and answered: the checksum changes with any byte."""
    if part is None:
        return {"pages": 0}
    digest = hashlib.sha256(b"".join(one.to_bytes(8, "big", signed=True) for one in part.page_ids))
    return {"pages": len(part.page_ids), "checksum": digest.hexdigest()[:16]}


def _json(said: object) -> str:
    return orjson.dumps(said, option=orjson.OPT_UTC_Z | orjson.OPT_SORT_KEYS).decode()
