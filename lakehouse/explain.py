"""explain: from a row back to the bytes that a provider sent, and how the row was let in.

A gold row was made from rows of its inputs (see `lakehouse.lineage`), these at last from silver rows, and each silver
row names the bronze page that says it. Beside each row stands the batch that published it: its verdict, run, code and
contract. Where many rows of an input went in, they are counted and the first and the last are followed.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from functools import cached_property
from typing import Any, Literal

import orjson
import polars as pl

from lakehouse.bronze import bronze_table
from lakehouse.catalog import models, table
from lakehouse.commits import CommitFinder
from lakehouse.contract import Table
from lakehouse.errors import UsageError, unknown
from lakehouse.lineage import sources_of
from lakehouse.model import Reach, Row
from lakehouse.ops import VERDICTS
from lakehouse.store import Store, StoredTable
from lakehouse.window import iso, parse_moment


@dataclass(frozen=True, kw_only=True)
class Admission:
    """The batch that published a row, and what its gate said.

    `found_by` is "commit" where the log tells which commit brought the row. After a compaction it does not: then
    "time" gives the first batch that was judged after the row's newest input came in.
    """

    found_by: Literal["commit", "time"]
    version: int | None
    committed_at: datetime | None
    batch_id: str
    run_id: str
    code_version: str
    contract: str
    level: str | None
    judged_at: datetime | None
    reasons: str
    docs_key: str


@dataclass(frozen=True, kw_only=True)
class BronzePage:
    """The answer of a provider that says a row."""

    table: str
    page_id: int
    feed: str
    subject: str
    request: Mapping[str, Any]
    received_at: datetime
    http_status: int | None
    content_type: str | None
    size_bytes: int
    sha256: str
    run_id: str
    code_version: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows of one input that a row was made from: how many, over what time, and some of them, or all, explained."""

    table: str
    rows: int
    first_event_at: datetime
    last_event_at: datetime
    shown: tuple[Explanation, ...]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Where a row comes from: a gold row from `parts`, a silver row from a page (None where it is not stored)."""

    table: str
    row: Row
    admission: Admission | None = None
    parts: tuple[Part, ...] = ()
    page: BronzePage | None = None

    def pages(self) -> tuple[BronzePage, ...]:
        """The pages that the explanation ends at, each once."""
        return tuple({page.page_id: page for page in self._pages()}.values())

    def _pages(self) -> Iterator[BronzePage]:
        if self.page:
            yield self.page
        for part in self.parts:
            for one in part.shown:
                yield from one.pages()

    def to_dict(self) -> dict[str, Any]:
        """For JSON: everything but the bodies."""
        page = asdict(self.page) if self.page else None
        if page:
            del page["body"]
        parts = [
            {**{name: value for name, value in vars(part).items() if name != "shown"}, "shown": shown}
            for part in self.parts
            for shown in [[one.to_dict() for one in part.shown]]
        ]
        admission = asdict(self.admission) if self.admission else None
        return {
            "table": self.table,
            "row": dict(self.row),
            "admission": admission,
            "parts": parts,
            "page": page,
        }


def explain(
    store: Store, contract: Table, key: Mapping[str, object], *, every_row: bool = False
) -> Explanation:
    """Explain one row of a silver or gold table.

    `key` holds the columns that name the fact, as values or as text; without `known_at` it is the fact's newest
    version. Other columns may help to find it faster (`event_at` for a trade). `every_row` follows all rows of each
    input instead of the first and the last. Raises UsageError that names the columns wanted and the nearest values.
    """
    if contract.layer not in ("silver", "gold"):
        raise UsageError(f"{contract.name} is not made from anything: explain takes silver and gold tables")
    stored = store.find(contract)
    if stored is None:
        raise UsageError(f"{contract.name} is empty: nothing was promoted into it yet")
    row = _find(stored, _read_key(contract, key))
    return _Explainer(store, every_row).of(contract.name, [row])[0]


@dataclass
class _Explainer:
    """Walks from rows to pages; tables and logs are opened once."""

    store: Store
    every_row: bool
    _opened: dict[str, StoredTable | None] = field(default_factory=dict)
    _finders: dict[str, CommitFinder] = field(default_factory=dict)
    _known: dict[tuple[str, bytes], Explanation] = field(default_factory=dict)

    def of(self, name: str, rows: Sequence[Row]) -> list[Explanation]:
        """Explanations of rows of one table, in their order."""
        new = {_name_of(name, row): row for row in rows if _name_of(name, row) not in self._known}
        pages = self._pages(name, list(new.values())) if name not in models() else {}
        for known_as, row in new.items():
            page = pages.get(row.get("page_id"))
            self._known[known_as] = Explanation(
                table=name,
                row=row,
                admission=self._admission(name, row, page),
                parts=tuple(self._parts(name, row)),
                page=page,
            )
        return [self._known[_name_of(name, row)] for row in rows]

    def _parts(self, name: str, row: Row) -> Iterator[Part]:
        if name not in models():
            return
        for reach in models()[name].reaches:
            rows = self._sources(name, reach, row)
            if rows.height:
                ends = rows if self.every_row or rows.height < 3 else rows[[0, -1]]
                yield Part(
                    table=reach.input,
                    rows=rows.height,
                    first_event_at=rows["event_at"][0],
                    last_event_at=rows["event_at"][-1],
                    shown=tuple(self.of(reach.input, ends.rows(named=True))),
                )

    def _sources(self, name: str, reach: Reach, row: Row) -> pl.DataFrame:
        stored, contract = self._open(reach.input), table(reach.input)
        if stored is None:
            return contract.schema.to_frame()
        found = sources_of(models()[name], reach, contract, row, stored.scan())
        return found.collect(engine="streaming").sort("event_at", *contract.key)

    def _pages(self, name: str, rows: Sequence[Row]) -> dict[object, BronzePage]:
        """The pages of silver rows by id, from whichever bronze table has them; received dates tell where to look."""
        wanted = {
            int(row["page_id"]): row["ingested_at"].date() for row in rows if row["page_id"] is not None
        }
        found: dict[object, BronzePage] = {}
        for source in self._sources_of_silver(name):
            missing = [page_id for page_id in wanted if page_id not in found]
            stored = self._open(source)
            if missing and stored:
                days = sorted({wanted[page_id] for page_id in missing})
                is_one = pl.col("page_id").is_in(missing), pl.col("received_date").is_in(days)
                pages = stored.scan().filter(*is_one).unique("page_id").collect().iter_rows(named=True)
                found |= {page["page_id"]: _page(source, page) for page in pages}
        return found

    def _sources_of_silver(self, name: str) -> list[str]:
        inputs = self._verdicts.filter(pl.col("table") == name)["inputs"].explode(empty_as_null=False)
        return sorted(inputs.unique().to_list())

    def _admission(self, name: str, row: Row, page: BronzePage | None) -> Admission | None:
        commit = self._finder(name).commit_of(row)
        batches = self._verdicts.filter(pl.col("table") == name)
        if commit:
            said = commit.said
            judged = batches.filter(pl.col("batch_id") == said["batch"])
            verdict = judged.row(0, named=True) if judged.height else {}
            return Admission(
                found_by="commit",
                version=commit.version,
                committed_at=commit.committed_at,
                batch_id=said["batch"],
                run_id=said.get("run", ""),
                code_version=said.get("code", ""),
                contract=said.get("contract", ""),
                **_judgement(verdict),
            )
        likely = batches.filter(pl.col("judged_at") >= row["ingested_at"], pl.col("published_rows") > 0)
        if page:
            likely = likely.filter(pl.col("inputs").list.contains(page.table))
        if likely.is_empty():
            return None
        first = likely.row(0, named=True)
        return Admission(
            found_by="time",
            version=None,
            committed_at=None,
            **{name: first[name] for name in ("batch_id", "run_id", "code_version", "contract")},
            **_judgement(first),
        )

    @cached_property
    def _verdicts(self) -> pl.DataFrame:
        """All verdicts, oldest first, without their findings."""
        stored = self.store.find(VERDICTS)
        rows = stored.scan() if stored else VERDICTS.schema.to_frame(eager=False)
        return rows.drop("findings").sort("judged_at").collect()

    def _open(self, name: str) -> StoredTable | None:
        if name not in self._opened:
            layer, _, rest = name.partition(".")
            self._opened[name] = self.store.find(bronze_table(rest) if layer == "bronze" else table(name))
        return self._opened[name]

    def _finder(self, name: str) -> CommitFinder:
        stored = self._open(name)
        if name not in self._finders and stored:
            self._finders[name] = CommitFinder(stored)
        return self._finders[name]


def _name_of(name: str, row: Row) -> tuple[str, bytes]:
    return name, orjson.dumps([row[column] for column in table(name).key])


def _page(source: str, page: Mapping[str, Any]) -> BronzePage:
    copied = (
        "page_id",
        "feed",
        "subject",
        "received_at",
        "http_status",
        "content_type",
        "run_id",
        "code_version",
        "body",
    )
    return BronzePage(
        table=source,
        request=orjson.loads(page["request"]),
        size_bytes=len(page["body"]),
        sha256=hashlib.sha256(page["body"]).hexdigest(),
        **{name: page[name] for name in copied},
    )


def _judgement(verdict: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "level": verdict.get("level"),
        "judged_at": verdict.get("judged_at"),
        "reasons": verdict.get("reasons", ""),
        "docs_key": verdict.get("docs_key", ""),
    }


def _read_key(contract: Table, key: Mapping[str, object]) -> dict[str, Any]:
    unknown_ = sorted(set(key) - set(contract.schema))
    if unknown_:
        raise unknown(f"column of {contract.name}", unknown_[0], contract.schema)
    missing = [name for name in contract.identity if name not in key]
    if missing:
        version = "; known_at chooses a version, by default the newest" if contract.keeps_revisions else ""
        raise UsageError(
            f"a row of {contract.name} is named by {', '.join(contract.identity)}{version}; "
            f"missing: {', '.join(missing)}"
        )
    return {name: _read_value(contract, name, value) for name, value in key.items()}


def _read_value(contract: Table, name: str, value: object) -> Any:
    dtype = contract.schema[name]
    if not isinstance(value, str) or dtype == pl.String():
        return value
    try:
        if isinstance(dtype, pl.Datetime):
            return parse_moment(value)
        if dtype == pl.Date():
            return date.fromisoformat(value)
        return pl.Series([value]).cast(dtype).item()
    except (ValueError, pl.exceptions.PolarsError):
        raise UsageError(f"{name}={value!r} of {contract.name} is not a value of type {dtype}") from None


def _find(stored: StoredTable, key: Mapping[str, Any]) -> Row:
    """The row of that key, the newest version of it; else UsageError with the nearest values."""
    contract = stored.contract
    same = [pl.col(name) == pl.lit(value, contract.schema[name]) for name, value in key.items()]
    found = stored.scan().filter(*same).collect()
    if found.is_empty():
        raise _nearest(stored, key)
    order = "known_at" if contract.keeps_revisions else "ingested_at"
    return found.sort(order).row(-1, named=True)


def _nearest(stored: StoredTable, key: Mapping[str, Any]) -> UsageError:
    """The first column in which no row agrees any more, and what there is instead."""
    contract, rows = stored.contract, stored.scan()
    ordered = [
        *(name for name in contract.key if name in key),
        *(name for name in key if name not in contract.key),
    ]
    for name in ordered:
        same = pl.col(name) == pl.lit(key[name], contract.schema[name])
        if rows.filter(same).head(1).collect().is_empty():
            near = _near(rows, name, key[name])
            said = f"; nearest: {', '.join(near)}" if near else ""
            return UsageError(f"{contract.name} has no row with {name}={_shown(key[name])}{said}")
        rows = rows.filter(same)
    return UsageError(f"{contract.name} has no such row")


def _near(rows: pl.LazyFrame, name: str, value: Any) -> list[str]:
    column = pl.col(name)
    if isinstance(value, str):
        there = rows.select(column.unique()).collect()[name].drop_nulls().to_list()
        return difflib.get_close_matches(value, there, n=3, cutoff=0.3) or sorted(there)[:8]
    around = rows.select(
        before=column.filter(column < value).max(), after=column.filter(column > value).min()
    )
    return [_shown(one) for one in around.collect().row(0) if one is not None]


def _shown(value: object) -> str:
    return iso(value) if isinstance(value, datetime) else str(value)
