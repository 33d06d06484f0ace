"""A half-open interval of UTC time: fetches, scans, rebuilds and coverage all take one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, order=True)
class Window:
    """`start <= t < end`, both aware and in UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for name, moment in (("start", self.start), ("end", self.end)):
            if moment.utcoffset() != timedelta(0):
                raise ValueError(f"window {name} {moment.isoformat()} is not in UTC")
        if self.start >= self.end:
            raise ValueError(
                f"window is empty: {self.start.isoformat()} is not before {self.end.isoformat()}"
            )

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def __str__(self) -> str:
        return f"[{iso(self.start)}, {iso(self.end)})"

    @property
    def start_ms(self) -> int:
        """Milliseconds since the epoch of the first moment inside."""
        return epoch_ms(self.start)

    @property
    def end_ms(self) -> int:
        """Milliseconds since the epoch of the first moment after."""
        return epoch_ms(self.end)

    def split(self, step: timedelta) -> Iterator[Window]:
        """Adjoining windows of at most `step` that together are this one, oldest first."""
        start = self.start
        while start < self.end:
            end = min(start + step, self.end)
            yield Window(start, end)
            start = end


def parse_moment(text: str) -> datetime:
    """Read ISO 8601; a date or a time without offset is taken as UTC. Raises ValueError otherwise."""
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def iso(moment: datetime) -> str:
    """ISO 8601 with `Z`, to the microsecond only where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def epoch_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970-01-01 UTC."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
