"""`ops.quota`: where machines tell each other what they have used of the providers' limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from lakehouse.ops import QUOTA
from lakehouse.promotion import until_settled
from lakehouse.store import Store
from lakehouse.window import Window
from sources.quota import Limit, Quota
from sources.quota_ledger import Usage


@dataclass(frozen=True)
class QuotaTable:
    """A `sources.quota_ledger.Share` in the lake.

    Two machines that ask in the same second do not see each other's last request: a key whose budget must never be
    exceeded belongs on one machine.
    """

    store: Callable[[], Store]
    """The lake's store, opened when it is first needed."""

    def used_elsewhere(self, quota: Quota, limit: Limit, window: Window, *, machine: str) -> float:
        """What other machines have used of a budget in a window: the most that each of them has told."""
        stored = self.store().find(QUOTA)
        if stored is None:
            return 0.0
        told = stored.scan().filter(
            pl.col("provider") == quota.provider,
            pl.col("host") == quota.host,
            pl.col("key_id") == quota.key_id,
            pl.col("zone") == limit.zone,
            pl.col("window_start") == window.start,
            pl.col("machine") != machine,
        )
        most = told.group_by("machine").agg(pl.col("used").max()).select(pl.col("used").sum())
        return float(most.collect().item() or 0.0)

    def tell(self, usages: Sequence[Usage]) -> None:
        """Append what this machine has used."""
        rows = pl.DataFrame([asdict(usage) for usage in usages], schema=QUOTA.schema, orient="row")
        until_settled(lambda: self.store().open(QUOTA).append(rows, positions={}, said={}))
