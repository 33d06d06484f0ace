"""Publishing a candidate batch: judge it, then commit verdict, quarantine and rows, each exactly once.

Good rows and the positions that they came from are one Delta commit. The verdict is committed before it under the
same positions, and quarantined rows are told apart by what they say: a run that was killed in between repeats nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import orjson
import polars as pl

from lakehouse.conform import explain_reason
from lakehouse.contract import Table
from lakehouse.history import figures_said, read_past
from lakehouse.measured import Measured, Stopwatch, Timed, measure
from lakehouse.ops import QUARANTINE, VERDICTS
from lakehouse.shares import SHARES, share_name
from lakehouse.store import CommitConflict, Store, StoredTable
from lakehouse.verdict import REASONS, REMARKS, Batch, Judge, Level, Verdict

UNREADABLE = "unreadable_page"
BLOCKED = "batch_blocked"
_SERIAL = "mnemo.promotion"


@dataclass(frozen=True, kw_only=True)
class Run:
    """Who promotes: written into commits, verdicts and quarantine."""

    run_id: str
    code_version: str
    now: Callable[[], datetime]


@dataclass(frozen=True, kw_only=True)
class Promoted:
    """What one promotion did; `level` is None where there was nothing new to judge."""

    table: str
    inputs: tuple[str, ...]
    batch_id: str
    level: Level | None
    published_rows: int
    quarantined_rows: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    docs_key: str = ""
    measured: Measured | None = field(default=None, repr=False)

    def record(self) -> dict[str, object]:
        """Flat, as the command line shows it; what was measured is in `ops.metrics`."""
        return {name: value for name, value in vars(self).items() if name != "measured"}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A batch on its way: rows with their reasons, and pages that nobody could read."""

    batch_id: str
    inputs: tuple[str, ...]
    positions: Mapping[str, int]
    begun: Mapping[str, int]
    """Positions of the verdicts when this batch was planned: when they have moved, the plan is stale."""
    rows: pl.DataFrame = field(repr=False)
    unreadable: tuple[tuple[int, str], ...] = ()
    consumed: Mapping[str, int] = field(default_factory=dict)
    """Positions that only the target's own commit carries."""
    is_rebuild: bool = False
    """The rows are the whole table: unless blocked, they take the place of all that is stored."""
    repeats: int = 0
    """How many good rows came that the target holds already."""
    touched: frozenset[int] = frozenset(range(SHARES))
    """The shares (`lakehouse.shares`) of the subjects that the batch was compared for with what is stored."""


def settle(store: Store, target: StoredTable, candidate: Candidate, judge: Judge, run: Run) -> Promoted:
    """Judge, then commit verdict, quarantine and rows; each is left out where an earlier attempt has committed it."""
    table, rows = target.contract, candidate.rows
    judge = timed = Timed(judge)
    verdict = None
    good = rows.clear()
    held = _unreadable_rows(candidate)
    if rows.height:
        verdict = judge(
            Batch(
                batch_id=candidate.batch_id,
                table=table,
                inputs=candidate.inputs,
                frame=rows,
                judged_at=run.now(),
                repeats=candidate.repeats,
                past=read_past(target),
            )
        )
        good, bad = _split(rows, verdict)
        if candidate.is_rebuild:  # what does not get in now is in the table or in quarantine already
            bad = bad.filter(pl.col(REASONS).list.len() > 0)
        held += _bad_rows(table, bad, is_blocked=verdict.level == "blocked" and not candidate.is_rebuild)
    is_blocked = verdict is not None and verdict.level == "blocked"
    if candidate.is_rebuild and is_blocked:
        held = []
    if verdict or held:
        _record_verdict(store, _verdict_frame(candidate, table, verdict, good, held, run), candidate)
    fresh = _hold(store, table, held, candidate, run)
    said = {
        "run": run.run_id,
        "code": run.code_version,
        "contract": table.fingerprint,
        "batch": candidate.batch_id,
        **figures_said(table, good, run.now()),
    }
    positions = {**candidate.positions, **candidate.consumed, **_serials(target, candidate)}
    rows_in_order = good.select(table.schema.names())
    if not candidate.is_rebuild:
        target.append(rows_in_order, positions=positions, said=said)
    elif not is_blocked:
        target.replace(rows_in_order, positions=positions, said=said)
    return Promoted(
        table=table.name,
        inputs=candidate.inputs,
        batch_id=candidate.batch_id,
        level=_level(verdict, held),
        published_rows=good.height,
        quarantined_rows=fresh,
        reasons=_count(held, good),
        docs_key=verdict.docs_key if verdict else "",
        measured=measure(
            table,
            rows_in_order,
            judged_rows=rows.height,
            judging=timed.spent,
            published_at=run.now(),
        ),
    )


def with_cost(promote: Callable[[], Promoted | None]) -> Promoted | None:
    """What `promote` returns, with what all of it spent, waits for others included."""
    watch = Stopwatch()
    done = promote()
    if done is None or done.measured is None:
        return done
    return replace(done, measured=replace(done.measured, whole=watch.read()))


def _serials(target: StoredTable, candidate: Candidate) -> dict[str, int]:
    """A counter for each share that the batch touched: of two commits that touch one, the later one looks again."""
    names = [share_name(_SERIAL, number) for number in sorted(candidate.touched)]
    return {name: target.position(name) + 1 for name in names}


def hold_back(store: Store, table: Table, bad: pl.DataFrame, candidate: Candidate, run: Run) -> None:
    """Put rows with reasons into quarantine, each once."""
    _hold(store, table, _bad_rows(table, bad, is_blocked=False), candidate, run)


def _split(rows: pl.DataFrame, verdict: Verdict) -> tuple[pl.DataFrame, pl.DataFrame]:
    if verdict.level == "blocked":
        return rows.clear(), rows
    is_good = pl.col(REASONS).list.len() == 0
    return rows.filter(is_good), rows.filter(~is_good)


@dataclass(frozen=True)
class _Held:
    page_id: int | None
    reasons: list[str]
    explanation: str
    row: str | None
    content_id: str
    """Hash of what it says and why it is held: the same defect, delivered again, is held once."""


def _unreadable_rows(candidate: Candidate) -> list[_Held]:
    return [
        _Held(page_id, [UNREADABLE], text, None, _hash(UNREADABLE, page_id))
        for page_id, text in candidate.unreadable
    ]


def _hold(store: Store, table: Table, held: list[_Held], candidate: Candidate, run: Run) -> int:
    """Put into quarantine what is not there yet, waiting or discarded; how much that is."""
    if not held:
        return 0
    quarantine = store.open(QUARANTINE)
    ids = pl.Series([one.content_id for one in held])
    alike = (
        pl.col("table") == table.name,
        pl.col("status") != "released",
        pl.col("content_id").is_in(ids.implode()),
    )
    known = set(quarantine.scan().filter(*alike).select("content_id").collect()["content_id"])
    fresh = list({one.content_id: one for one in held if one.content_id not in known}.values())
    if fresh:
        # The counter makes the second of two promotions that hold the same rows at once look again.
        counter = f"{_SERIAL}:{table.name}"
        positions = {counter: quarantine.position(counter) + 1}
        said = {"batch": candidate.batch_id}
        quarantine.append(_quarantine_frame(candidate, table, fresh, run), positions=positions, said=said)
    return len(fresh)


def _bad_rows(table: Table, bad: pl.DataFrame, *, is_blocked: bool) -> list[_Held]:
    return [_bad_row(table, row, is_blocked=is_blocked) for row in bad.iter_rows(named=True)]


def _bad_row(table: Table, row: dict[str, object], *, is_blocked: bool) -> _Held:
    broken = [str(name) for name in row.pop(REASONS)]  # type: ignore[attr-defined]
    row.pop(REMARKS)
    reasons = broken + ([BLOCKED] if is_blocked else [])
    content = {name: row[name] for name in (*table.identity, *table.contents)}
    page_id = row.get("page_id")
    text = "; ".join(_sentence(table, name) for name in reasons)
    content_id = _hash(*reasons, _as_json(content))
    return _Held(page_id if isinstance(page_id, int) else None, reasons, text, _as_json(row), content_id)


def _sentence(table: Table, name: str) -> str:
    if name == BLOCKED:
        return "the whole batch was held back: too much of it was wrong"
    return explain_reason(table, name)


def _as_json(row: Mapping[str, object]) -> str:
    return orjson.dumps(row, option=orjson.OPT_UTC_Z | orjson.OPT_NON_STR_KEYS, default=str).decode()


def positions_of(stored: StoredTable, apps: Iterable[str]) -> dict[str, int]:
    return {app: stored.position(app) for app in apps}


def _record_verdict(store: Store, rows: pl.DataFrame, candidate: Candidate) -> None:
    """Append unless an earlier attempt has; Delta refuses the second of two at once.

    Another batch that has begun meanwhile is a conflict: it must be finished first, with its own end.
    """
    verdicts = store.open(VERDICTS)
    present = positions_of(verdicts, candidate.positions)
    if all(present[app] >= version for app, version in candidate.positions.items()):
        return
    if present != candidate.begun:
        raise CommitConflict(f"{candidate.batch_id}: another batch has begun")
    verdicts.append(rows, positions=candidate.positions, said={"batch": candidate.batch_id})


def _verdict_frame(
    candidate: Candidate,
    table: Table,
    verdict: Verdict | None,
    good: pl.DataFrame,
    held: list[_Held],
    run: Run,
) -> pl.DataFrame:
    findings = [vars(finding) for finding in verdict.findings] if verdict else []
    row = {
        "batch_id": candidate.batch_id,
        "table": table.name,
        "inputs": list(candidate.inputs),
        "judged_at": run.now(),
        "level": _level(verdict, held),
        "rows": candidate.rows.height,
        "published_rows": good.height,
        "quarantined_rows": len(held),
        "reasons": _as_json(_count(held, good)),
        "findings": orjson.dumps(findings).decode(),
        "docs_key": verdict.docs_key if verdict else "",
        "contract": table.fingerprint,
        "code_version": run.code_version,
        "run_id": run.run_id,
    }
    return pl.DataFrame([row], schema=VERDICTS.schema, orient="row")


def _quarantine_frame(candidate: Candidate, table: Table, held: list[_Held], run: Run) -> pl.DataFrame:
    rows = [
        {
            "quarantine_id": f"{candidate.batch_id}-{one.content_id[:8]}",
            "batch_id": candidate.batch_id,
            "table": table.name,
            "inputs": list(candidate.inputs),
            "quarantined_at": run.now(),
            "page_id": one.page_id,
            "reasons": one.reasons,
            "explanation": one.explanation,
            "content_id": one.content_id,
            "row": one.row,
            "status": "held",
            "run_id": run.run_id,
        }
        for one in held
    ]
    return pl.DataFrame(rows, schema=QUARANTINE.schema, orient="row")


def _level(verdict: Verdict | None, held: list[_Held]) -> Level | None:
    if verdict and (verdict.level != "passed" or not held):
        return verdict.level
    return "warning" if held else None


def _count(held: list[_Held], good: pl.DataFrame) -> dict[str, int]:
    """How often each reason was found in what was held, and each remark in what was published."""
    remarks = good[REMARKS].explode(empty_as_null=False).to_list()
    return dict(Counter([*(name for one in held for name in one.reasons), *remarks]).most_common())


def batch_id_of(*said: object) -> str:
    return _hash(*said)[:16]


def _hash(*said: object) -> str:
    return hashlib.sha256(repr(said).encode()).hexdigest()[:32]
