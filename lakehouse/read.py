"""Reading the lake: as Polars frames, as SQL, and what it holds.

Everything here needs read-only credentials and imports neither Prefect nor Great Expectations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, Literal, NamedTuple

import polars as pl

from lakehouse.bronze import bronze_table
from lakehouse.catalog import promotion_order, tables
from lakehouse.contract import Table
from lakehouse.coverage import COVERED
from lakehouse.errors import UsageError, unknown
from lakehouse.explain import Explanation, explain
from lakehouse.fields import ORDER_REPEATS
from lakehouse.files import Files, open_files
from lakehouse.gaps import picture, require_covered, with_mask
from lakehouse.ops import COVERAGE, QUARANTINE, VERDICTS
from lakehouse.panel import build_grid, catalogue, choose, read_assets, read_every
from lakehouse.settings import Settings, load_settings
from lakehouse.store import Store, StoredTable, open_store
from lakehouse.window import Window, parse_moment

Moment = str | date | datetime
OnGap = Literal["ignore", "raise", "mask"]


class _Opened(NamedTuple):
    """A table as it was opened last; its handle is never refreshed, for frames hang on it."""

    stored: StoredTable
    rows: pl.LazyFrame


@dataclass(frozen=True)
class Lake:
    """One lake, open for reading. `Lake.open()` takes everything from the settings."""

    store: Store
    _opened: dict[str, _Opened] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, settings: Settings | None = None) -> Lake:
        """Open the lake that the settings (by default `MNEMO_*`) name; without any, the embedded store is started."""
        return cls(open_store(settings or load_settings()))

    @property
    def settings(self) -> Settings:
        """The settings in force, the store's address and keys filled in."""
        return self.store.settings

    @property
    def storage_options(self) -> dict[str, str]:
        """What `polars.scan_delta(lake.uri(...))` and other readers need; holds the keys."""
        return self.store.storage_options

    @property
    def files(self) -> Files:
        """Pages for people, beside the tables."""
        return open_files(self.settings)

    def uri(self, table: str) -> str:
        """Address of a table, for readers that know Delta."""
        return self.store.uri(self.contract(table).name)

    def contract(self, table: str) -> Table:
        """The contract of a table; UsageError with the nearest names where there is none."""
        if table in tables():
            return tables()[table]
        layer, _, name = table.partition(".")
        if layer == "bronze" and name.isidentifier() and self.store.find(bronze_table(name)):
            return bronze_table(name)
        raise unknown("table", table, tables())

    def scan(
        self,
        table: str,
        /,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        as_of: Moment | None = None,
        versions: bool = False,
        on_gap: OnGap = "ignore",
        **equals: str | int | bool,
    ) -> pl.LazyFrame:
        """Rows of a table with `start <= time < end` and columns equal to the values given (`venue="kraken"`).

        By default the latest version of each fact; with `as_of` the latest that was known then (`known_at <= as_of`);
        with `versions=True` every version that was known by then. A table never written to is empty. Raises
        UsageError for an unknown table or column.

        `on_gap` is for silver tables: "raise" raises GapError unless the coverage ledger knows the whole of
        `start` to `end` to be complete for everything asked for; "mask" adds the column `is_covered`.
        """
        contract = self.contract(table)
        rows = self._rows(contract)
        of_facts, of_versions = _conditions(contract, start, end, as_of, equals)
        rows = rows.filter(*of_facts)
        rows = rows if versions or not contract.keeps_revisions else newest(rows, contract)
        rows = rows.filter(*of_versions)
        if on_gap == "ignore":
            return rows
        _refuse_unfed(contract)
        if on_gap == "mask":
            return with_mask(rows, contract, self._ledger())
        require_covered(self._ledger(), contract, _whole_window(start, end), equals)
        return rows

    def features(
        self,
        assets: Sequence[str],
        start: Moment,
        end: Moment,
        every: str = "1h",
        columns: Sequence[str] | None = None,
        as_of: Moment | None = None,
    ) -> pl.LazyFrame:
        """What was known at each point of a grid: one wide panel over all providers, without look-ahead.

        One row for each asset and each point from `start` on, `every` (15m, 1h, 1d) apart, before `end`. An asset is
        named `btc` (CoinMetrics id), `BTC/USD` (a market, whatever the venue) or `kraken:BTC/USD`; what is not told of
        it is null. `columns` are names of `feature_columns()`, by default all. Of each a row has four columns:
        `<name>`; `<name>_known_at`, never after the grid point, nor after `as_of`; `<name>_lag`, from the end of what
        it describes to the grid point; `<name>_source`, the table. Where a grid is shorter than a day what describes
        bars is of bars of an hour, else of a day.

        Raises UsageError for an unknown column, asset or step, and for an empty window.
        """
        of = read_assets(assets)
        chosen = choose(columns, of)
        window = _whole_window(start, end)
        latest = window.end if as_of is None else min(window.end, _moment(as_of))

        def known(table: str) -> pl.LazyFrame:
            return self.scan(table, as_of=latest, versions=True)

        return build_grid(of, window, read_every(every), chosen, known)

    def feature_columns(self) -> pl.DataFrame:
        """What `features` can be asked for: name, unit, source (the table), per (what it is told of), doc."""
        return catalogue()

    def coverage(
        self,
        name: str = "",
        /,
        *,
        subject: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> pl.DataFrame:
        """What was fetched, and how far that is proven: disjoint intervals for each feed and subject.

        `name` is a silver table or a feed; by default all. Columns: feed, subject, table, start, end, status (see
        `lakehouse.coverage`), proof, cannot_show, evidence, recorded_at, run_id. Only intervals that reach into
        `start` to `end`. Raises UsageError for a table or feed that does not exist.
        """
        found = picture(self._ledger().filter(*self._about(name, subject)))
        conditions = []
        if start is not None:
            conditions.append(pl.col("end") > _moment(start))
        if end is not None:
            conditions.append(pl.col("start") < _moment(end))
        return found.filter(*conditions)

    def gaps(
        self,
        name: str = "",
        /,
        *,
        subject: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> pl.DataFrame:
        """The intervals of `coverage` that are not covered: missing, degraded, unavailable."""
        found = self.coverage(name, subject=subject, start=start, end=end)
        return found.filter(~pl.col("status").is_in(COVERED))

    def _rows(self, contract: Table) -> pl.LazyFrame:
        """All that a table holds now.

        One that nobody has committed to since is not opened again: that takes longer than to read an hour of it.
        """
        opened = self._opened.get(contract.name)
        if opened is None or not opened.stored.is_newest:
            stored = self.store.find(contract)
            if stored is None:
                return contract.schema.to_frame(eager=False)
            opened = self._opened[contract.name] = _Opened(stored, stored.scan())
        return opened.rows

    def _ledger(self) -> pl.LazyFrame:
        stored = self.store.find(COVERAGE)
        return stored.scan() if stored else COVERAGE.schema.to_frame(eager=False)

    def _about(self, name: str, subject: str | None) -> list[pl.Expr]:
        conditions = [] if subject is None else [pl.col("subject") == subject]
        if not name:
            return conditions
        if "." in name and not name.startswith("bronze."):
            return [*conditions, pl.col("table") == self.contract(name).name]
        feed = name.removeprefix("bronze.")
        if self.store.find(bronze_table(feed)) is None:
            known = [*self.files.folders("bronze/"), *(t for t in tables() if t.startswith("silver."))]
            raise unknown("table or fetched feed", name, known)
        return [*conditions, pl.col("feed") == feed]

    def sql(self, query: str) -> pl.DataFrame:
        """Run DuckDB SQL over the lake: `select ... from gold.candles`.

        A table's name is its latest version of each fact; `<name>_versions` is all of them. Raises UsageError with
        DuckDB's own words for a query that is wrong.
        """
        from lakehouse.sql import run_query

        return run_query(self.store, query)

    def explain(self, table: str, /, key: Mapping[str, object], *, every_row: bool = False) -> Explanation:
        """Where a row of a silver or gold table comes from, down to the bytes of pages; see `lakehouse.explain`."""
        return explain(self.store, self.contract(table), key, every_row=every_row)

    def tables(self) -> list[dict[str, Any]]:
        """What every stored table holds: the fields of `mnemo tables --json`."""
        verdicts = self._last_verdicts()
        held = self._held_rows()
        found = ((name, self.store.find(self.contract(name))) for name in self._stored_names())
        return [_summary(stored, verdicts.get(name), held.get(name, 0)) for name, stored in found if stored]

    def _stored_names(self) -> list[str]:
        bronze = [f"bronze.{name}" for name in self.files.folders("bronze/")]
        return [*bronze, *promotion_order(), VERDICTS.name, QUARANTINE.name, COVERAGE.name]

    def _last_verdicts(self) -> Mapping[str, str]:
        rows = self._scan_ops(VERDICTS).sort("judged_at")
        return {
            str(row["table"]): str(row["level"])
            for row in rows.select("table", "level").iter_rows(named=True)
        }

    def _held_rows(self) -> Mapping[str, int]:
        held = self._scan_ops(QUARANTINE).filter(pl.col("status") == "held")
        return dict(held.group_by("table").len().iter_rows())

    def _scan_ops(self, table: Table) -> pl.DataFrame:
        stored = self.store.find(table)
        return stored.scan().collect() if stored else table.schema.to_frame()


def newest(rows: pl.LazyFrame, table: Table) -> pl.LazyFrame:
    """Per fact the version that was known last."""
    return (
        rows.group_by(table.identity)
        .agg(pl.all().exclude(table.identity).sort_by("known_at").last())
        .select(table.schema.names())
    )


def _refuse_unfed(table: Table) -> None:
    """Only rows that feeds deliver can be covered or not."""
    if table.layer != "silver":
        raise UsageError(f"{table.name} is not filled by feeds: on_gap is for silver tables")


def _whole_window(start: Moment | None, end: Moment | None) -> Window:
    if start is None or end is None:
        raise UsageError('on_gap="raise" needs start and end: what is to be whole?')
    try:
        return Window(_moment(start), _moment(end))
    except ValueError as error:
        raise UsageError(str(error)) from None


def _conditions(
    table: Table, start: Moment | None, end: Moment | None, as_of: Moment | None, equals: Mapping[str, Any]
) -> tuple[list[pl.Expr], list[pl.Expr]]:
    """What selects facts, and what selects among their newest versions: an old version must not stand in for it."""
    wrong = sorted(set(equals) - set(table.schema))
    if wrong:
        raise unknown(f"column of {table.name}", wrong[0], table.schema)
    of_facts: list[pl.Expr] = []
    of_versions: list[pl.Expr] = []
    fixed = {*table.identity} if table.keeps_revisions else {*table.schema}
    for name, value in equals.items():
        (of_facts if name in fixed else of_versions).append(pl.col(name) == value)
    # Where the identity holds a time, all versions of a fact share the table's time.
    (of_versions if table.range_column is None else of_facts).extend(_in_window(table, start, end, equals))
    if as_of is not None:
        if "known_at" not in table.schema:
            raise UsageError(f"{table.name} has no known_at: it cannot be read as of a moment")
        of_facts.append(pl.col("known_at") <= _moment(as_of))
    return of_facts, of_versions


def _in_window(
    table: Table, start: Moment | None, end: Moment | None, equals: Mapping[str, Any]
) -> Iterator[pl.Expr]:
    time = pl.col(table.time_column)
    if start is not None:
        yield time >= _moment(start)
    if end is not None:
        yield time < _moment(end)
    if start is not None and end is not None and table.order_by:
        yield from _in_order(table, _moment(start), _moment(end), equals)


def _in_order(table: Table, start: datetime, end: datetime, equals: Mapping[str, Any]) -> Iterator[pl.Expr]:
    """The same window of one subject in the order of rows, so that row groups it shares with others are skipped."""
    (order,) = (
        column.derived
        for column in table.columns
        if column.name == table.order_by and column.derived is not None
    )
    (subject,) = {*order.meta.root_names()} - {table.time_column}
    if not isinstance(equals.get(subject), str) or end - start >= ORDER_REPEATS:
        return
    bounds = (
        pl.DataFrame({subject: [equals[subject]] * 2, table.time_column: [start, end]})
        .select(order)
        .to_series()
    )
    if bounds.is_sorted():
        yield pl.col(table.order_by).is_between(bounds[0], bounds[1])


def _moment(said: Moment) -> datetime:
    if isinstance(said, datetime):
        return said.replace(tzinfo=UTC) if said.tzinfo is None else said.astimezone(UTC)
    try:
        return parse_moment(said.isoformat() if isinstance(said, date) else said)
    except ValueError:
        raise UsageError(
            f"{said!r} is not a date or time in ISO 8601, such as 2024-01-31 or 2024-01-31T12:00:00Z"
        ) from None


def _summary(stored: StoredTable, verdict: str | None, quarantined: int) -> dict[str, Any]:
    table = stored.contract
    files = stored.files()
    rows = stored.scan()
    spans = rows.select(
        pl.col(table.time_column).min().alias("start"),
        pl.col(table.time_column).max().alias("end"),
        pl.struct(table.subject).n_unique().alias("subjects"),
        (pl.col("ingested_at").max() if "ingested_at" in table.schema else pl.lit(None)).alias("ingested_at"),
    )
    span = spans.collect().row(0, named=True)
    count = int(files["num_records"].sum()) if files.height else 0
    return {
        "table": table.name,
        "rows": count,
        "subjects": span["subjects"] if count else 0,
        "start": span["start"],
        "end": span["end"],
        "version": stored.version,
        "size_bytes": int(files["size_bytes"].sum()) if files.height else 0,
        "verdict": verdict,
        "quarantined": quarantined,
        "fresh": _is_fresh(table, span["ingested_at"]),
    }


def _is_fresh(table: Table, newest_row_at: datetime | None) -> bool | None:
    """Whether a row came in within the table's freshness; None where the table promises none."""
    if table.freshness is None or newest_row_at is None:
        return None
    return datetime.now(UTC) - newest_row_at <= table.freshness
