"""quota: budgets of providers that are nearly used up, and providers that sent us away for long.

Limits of less than an hour are left out: being close to those is what pacing is for. Machines that share a key are
added up, unless the provider itself says what is left.
"""

from __future__ import annotations

import polars as pl

from expectations.monitors.monitor import Monitor, View, measured
from lakehouse.ops import QUOTA

MOST_USED = 0.9
"""Share of a budget; at its end fetches wait for the next window."""
MOST_WAIT_MIN = 15.0
"""The client waits out shorter ones by itself."""
LEAST_WINDOW_S = 3600.0

_HOST = ("provider", "host", "key_id")
_BUDGET = (*_HOST, "zone", "window_s", "window_start")


def look(view: View) -> pl.DataFrame:
    """Shares used of the budgets of now (limit 0.9), and minutes that providers make us wait (limit 15)."""
    end = pl.col("window_start") + pl.duration(microseconds=pl.col("window_s") * 1e6)
    now = pl.lit(view.now)
    is_running = (end > now) & (pl.col("window_start") <= now)
    told = view.lake.scan(QUOTA.name).filter(is_running | (pl.col("blocked_until") > now)).collect()
    newest = told.sort("observed_at").group_by(*_BUDGET, "machine", maintain_order=True).last()
    budgets = newest.filter(is_running, pl.col("window_s") >= LEAST_WINDOW_S)
    blocked = newest.filter(pl.col("blocked_until") > now).with_columns(now=now)
    return pl.concat([_used(budgets), _waits(blocked)])


def _used(budgets: pl.DataFrame) -> pl.DataFrame:
    by_machines = pl.col("used").sum() / pl.col("allowed").first()
    by_provider = 1 - pl.col("remaining").sort_by("observed_at").last() / pl.col("allowed").first()
    shares = budgets.group_by(_BUDGET, maintain_order=True).agg(
        pl.col("allowed").first(), measured=pl.coalesce(by_provider, by_machines)
    )
    percent = (pl.col("measured") * 100).round(1)
    said = pl.format("{}: {}% of {} requests are used", "subject", percent, "allowed")
    return measured(_named(shares).with_columns(limit=MOST_USED).with_columns(summary=said))


def _waits(blocked: pl.DataFrame) -> pl.DataFrame:
    until = blocked.group_by(_HOST, maintain_order=True).agg(
        pl.col("blocked_until").max(), pl.col("now").first()
    )
    wait = (pl.col("blocked_until") - pl.col("now")).dt.total_seconds(fractional=True) / 60
    at = pl.col("blocked_until").dt.strftime("%Y-%m-%d %H:%M UTC")
    said = pl.format("{}: the provider wants no requests before {}", "subject", at)
    named = _named(until).with_columns(pl.format("{} wait", "subject").alias("subject"), measured=wait)
    return measured(named.with_columns(limit=MOST_WAIT_MIN).with_columns(summary=said))


def _named(rows: pl.DataFrame) -> pl.DataFrame:
    """With what the limit goes by; the hash of the key only where there are keys."""
    is_budget = "zone" in rows.columns
    window = [pl.col("zone"), pl.format("{} h", pl.col("window_s") / 3600)] if is_budget else []
    parts = pl.concat_list(*_HOST, *window)
    return rows.with_columns(subject=parts.list.eval(pl.element().filter(pl.element() != "")).list.join(" "))


MONITOR = Monitor(
    name="quota",
    doc="No budget of a provider is nearly used up, and no provider makes us wait for long.",
    unit="share, or minutes",
    severity="warning",
    look=look,
)
