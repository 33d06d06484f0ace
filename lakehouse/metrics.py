"""`ops.metrics`: what fetches and promotions brought, cost, and how late they were.

A run hands over what it did and writes it in one commit at its end; what was measured within a promotion comes from
`lakehouse.measured`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from lakehouse.measured import QUANTILES, Measured
from lakehouse.ops import HOPS, METRICS, VERDICTS
from lakehouse.promotion import until_settled
from lakehouse.publish import Promoted, Run
from lakehouse.store import Store

_LOOKED_BACK = timedelta(days=7)
"""How far back inputs are looked for that a table had not consumed, and the newest figures of a table."""


@dataclass(frozen=True, kw_only=True)
class Fetching:
    """What fetching one subject, or all of a backfill, brought and took."""

    feed: str
    subject: str
    pages: int
    new_pages: int
    size_bytes: int
    wall_s: float


def record(
    store: Store, run: Run, *, promoted: Sequence[Promoted] = (), fetched: Sequence[Fetching] = ()
) -> pl.DataFrame:
    """Write what a run did in one commit; returns the rows. A run that did nothing writes nothing."""
    told = [one for one in promoted if one.measured]
    rows = pl.concat([_of_promotions(told, _verdicts(store, told), run), _of_fetches(fetched, run)])
    if rows.height:
        said = {"run": run.run_id, "code": run.code_version}
        until_settled(lambda: store.open(METRICS).append(rows, positions={}, said=said))
    return rows


def newest(store: Store, *, now: datetime, table: str = "") -> pl.DataFrame:
    """The newest row of each table and subject within a week, of all tables or of one; sorted."""
    stored = store.find(METRICS)
    rows = stored.scan() if stored else METRICS.schema.to_frame(eager=False)
    rows = rows.filter(pl.col("recorded_at") > now - _LOOKED_BACK)
    if table:
        rows = rows.filter(pl.col("table") == table)
    last = rows.sort("recorded_at").group_by("kind", "table", "subject").last()
    return last.select(METRICS.schema.names()).sort("kind", "table", "subject").collect()


def _of_fetches(fetched: Sequence[Fetching], run: Run) -> pl.DataFrame:
    """One row for each subject of a feed, however many windows it was asked for."""
    told = [vars(one) for one in fetched]
    schema = pl.Schema(
        {
            "feed": pl.String(),
            "subject": pl.String(),
            "pages": pl.Int64(),
            "new_pages": pl.Int64(),
            "size_bytes": pl.Int64(),
            "wall_s": pl.Float64(),
        }
    )
    by_subject = pl.DataFrame(told, schema=schema, orient="row").group_by(
        "feed", "subject", maintain_order=True
    )
    rows = by_subject.agg(pl.sum("pages", "new_pages", "size_bytes", "wall_s")).select(
        "subject",
        "size_bytes",
        "wall_s",
        kind=pl.lit("fetch"),
        table="bronze." + pl.col("feed"),
        batch_id=pl.lit(""),
        rows="pages",
        new_rows="new_pages",
        held_rows=pl.lit(0, dtype=pl.Int64),
        requests="pages",
        recorded_at=pl.lit(run.now(), dtype=METRICS.schema["recorded_at"]),
        run_id=pl.lit(run.run_id),
    )
    return _as_declared(rows)


def _of_promotions(promoted: Sequence[Promoted], verdicts: pl.DataFrame, run: Run) -> pl.DataFrame:
    rows = [_of_promotion(one, one.measured, verdicts, run) for one in promoted if one.measured]
    return pl.DataFrame(rows, schema=METRICS.schema, orient="row")


def _of_promotion(one: Promoted, measured: Measured, verdicts: pl.DataFrame, run: Run) -> dict[str, Any]:
    delays_s = {**measured.delays_s, **_waits_s(one, measured.published_at, verdicts)}
    return {
        "kind": "promotion",
        "table": one.table,
        "subject": "",
        "batch_id": one.batch_id,
        "rows": measured.judged_rows,
        "new_rows": one.published_rows,
        "held_rows": one.quarantined_rows,
        "size_bytes": measured.size_bytes,
        "requests": None,
        "wall_s": measured.whole.wall_s if measured.whole else None,
        "cpu_s": measured.whole.cpu_s if measured.whole else None,
        "gate_wall_s": measured.judging.wall_s if measured.judging else None,
        "gate_cpu_s": measured.judging.cpu_s if measured.judging else None,
        "lag_s": measured.lag_s,
        **{
            f"{hop}_{quantile}_s": delays_s[hop][quantile] if hop in delays_s else None
            for hop in HOPS
            for quantile in QUANTILES
        },
        "recorded_at": measured.published_at,
        "run_id": run.run_id,
    }


def _verdicts(store: Store, promoted: Iterable[Promoted]) -> pl.DataFrame:
    """The lately recorded verdicts, if any of the promotions was made of tables that have some."""
    built = [one.measured.published_at for one in promoted if one.measured and _has_judged_inputs(one)]
    stored = store.find(VERDICTS) if built else None
    rows = stored.scan() if stored else VERDICTS.schema.to_frame(eager=False)
    is_late = pl.col("judged_at") > min(built) - _LOOKED_BACK if built else pl.lit(value=True)
    names = ("table", "batch_id", "judged_at", "published_rows")
    return rows.filter(is_late).select(names).sort("judged_at").collect()


def _has_judged_inputs(one: Promoted) -> bool:
    return not any(name.startswith("bronze.") for name in one.inputs)


def _waits_s(one: Promoted, published_at: datetime, verdicts: pl.DataFrame) -> dict[str, dict[str, float]]:
    """How long the rows of the inputs lay there that the table has not been made of before, as their verdicts say."""
    if not _has_judged_inputs(one):
        return {}
    own = verdicts.filter(pl.col("table") == one.table, pl.col("batch_id") != one.batch_id)
    since = own.filter(pl.col("judged_at") < published_at)["judged_at"].max()
    arrived = verdicts.filter(
        pl.col("table").is_in(one.inputs),
        pl.col("published_rows") > 0,
        pl.col("judged_at") <= published_at,
        pl.lit(value=True) if since is None else pl.col("judged_at") > since,
    )
    if arrived.is_empty():
        return {}
    waits = arrived.select(
        wait_s=(pl.lit(published_at) - pl.col("judged_at")).dt.total_microseconds() / 1e6,
        rows="published_rows",
    ).sort("wait_s")
    share = pl.col("rows").cum_sum() / pl.col("rows").sum()
    return {
        "input_to_published": {
            quantile: float(waits.filter(share >= wanted)["wait_s"].first())  # type: ignore[arg-type]
            for quantile, wanted in QUANTILES.items()
        }
    }


def _as_declared(rows: pl.DataFrame) -> pl.DataFrame:
    """All columns of the table; what is not told is null."""
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit(None)).cast(dtype).alias(name)
        for name, dtype in METRICS.schema.items()
    )
