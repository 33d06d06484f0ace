"""Monitors: what is wrong with the lake as it is now, asked again and again. One module each; docs/monitors.md.

What arrives is judged by its gate when it arrives, whatever its age. Monitors judge the present: what is still coming
in, and what still waits for somebody. Looking imports no Great Expectations; `expectations.monitors.verdict` does.
"""

from expectations.monitors import (
    backlog,
    disagreement,
    drift,
    gaps,
    quarantine,
    quota,
    schema_drift,
    staleness,
    volume,
)
from expectations.monitors.monitor import MEASURED, Monitor, View
from expectations.monitors.watch import Watch, look_around

MONITORS: tuple[Monitor, ...] = (
    gaps.MONITOR,
    staleness.MONITOR,
    drift.MONITOR,
    schema_drift.MONITOR,
    volume.MONITOR,
    disagreement.MONITOR,
    quota.MONITOR,
    quarantine.MONITOR,
    backlog.MONITOR,
)

__all__ = ["MEASURED", "MONITORS", "Monitor", "View", "Watch", "look_around"]
