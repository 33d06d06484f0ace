"""Events that this project tells a Prefect server, and that its automations wait for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from prefect.events import emit_event

from lakehouse.publish import Promoted

PUBLISHED = "mnemo.table.published"
DEPENDENTS = "mnemo.dependents"
"""Label of a publication: whether the tables made of this one are promoted by the same run."""
WAITING, PROMOTED = "waiting", "promoted"


def tell_published(table: str, batches: Sequence[Promoted], *, dependents: Collection[str]) -> None:
    """A table has new rows; `dependents` are those made of it that this run does not promote."""
    emit_event(
        event=PUBLISHED,
        resource={
            "prefect.resource.id": f"mnemo.table.{table}",
            "prefect.resource.name": table,
            DEPENDENTS: WAITING if dependents else PROMOTED,
        },
        payload={
            "published_rows": sum(one.published_rows for one in batches),
            "quarantined_rows": sum(one.quarantined_rows for one in batches),
            "batches": len(batches),
            "dependents": sorted(dependents),
        },
    )
