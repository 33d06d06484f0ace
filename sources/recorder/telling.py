"""From what sessions say of their channels to claims about stretches of time. Pure; knows the time only as told.

Claims are about when things happened, sessions know when frames came. What happened just before a frame may come
after it, so what is whole is told LATE after it came, and what is lost begins LATE before it was missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from lakehouse.coverage import DISPROVED, Claim, Status
from lakehouse.streamed import Streamed
from lakehouse.window import Window, iso, parse_moment
from sources.stream import UNPROVEN, Action, Hole, Invalid, Valid

LATE = timedelta(seconds=5)
"""No venue tells of a trade or a change later than that, as a rule; what comes later is in silver all the same."""

_MOMENT = timedelta(microseconds=1)
_PROOF = "stream"
_WHY_LOST = "what happened meanwhile: it was not received"
_WHY_LATE = "what was told late: the connection was lost meanwhile"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One channel of one instrument: since when it is whole, or is not. Of the time before all has been told."""

    instrument_id: str
    channel: str
    is_valid: bool
    since: datetime
    proof: str = _PROOF
    cannot_show: str = ""
    is_proven: bool = True
    reason: str = ""


class Teller:
    """The lines of one session, over all of its connections."""

    def __init__(self, venue: str, lines: Iterable[Line], *, late: timedelta = LATE) -> None:
        self._venue, self._late = venue, late
        self._lines: dict[tuple[str, str], Line] = {}
        for line in lines:
            self._lines[line.instrument_id, line.channel] = line

    @property
    def invalid(self) -> int:
        """How many lines are not whole now."""
        return sum(not line.is_valid for line in self._lines.values())

    def hear(self, actions: Iterable[Action], *, heard_at: datetime, at: datetime) -> list[Streamed]:
        """What follows from a session's actions at that moment; `heard_at` is when the frame before was received."""
        return [
            self._streamed(line, claim, at)
            for action in actions
            if (line := self._line(action))
            for claim in self._move(line, action, heard_at)
        ]

    def tell(self, heard_at: datetime, at: datetime) -> list[Streamed]:
        """What is whole up to the newest frame, as far as it has not been told."""
        upto = heard_at - self._late
        told = []
        for line in list(self._lines.values()):
            if line.is_valid and line.since < upto:
                told.append(self._streamed(line, _whole(line, upto), at))
                self._set(line, since=upto)
        return told

    def lose(self, *, heard_at: datetime, at: datetime, reason: str) -> list[Streamed]:
        """Whatever was whole is so no more, since the newest frame."""
        told = []
        for line in list(self._lines.values()):
            if line.is_valid:
                told += [self._streamed(line, one, at) for one in self._break(line, heard_at, reason)]
        return told

    def end(self, at: datetime) -> list[Streamed]:
        """Nobody asks from now on: what is not whole stays so up to now."""
        told = [self._streamed(line, one, at) for line in self._lines.values() for one in _lost(line, at)]
        self._lines.clear()
        return told

    def plain(self) -> dict[str, Any]:
        """What `teller_from` needs to go on from here."""
        lines = [{**vars(line), "since": iso(line.since)} for line in self._lines.values()]
        return {"venue": self._venue, "late_s": self._late.total_seconds(), "lines": lines}

    def _line(self, action: Action) -> Line | None:
        if isinstance(action, Hole):
            return self._lines.get((action.instrument_id, "trades"))
        return (
            self._lines.get((action.instrument_id, action.channel))
            if isinstance(action, Valid | Invalid)
            else None
        )

    def _move(self, line: Line, action: Action, heard_at: datetime) -> Iterator[Claim]:
        if isinstance(action, Valid):
            yield from self._begin(line, action)
        elif isinstance(action, Invalid) and line.is_valid:
            yield from self._break(line, min(action.since, heard_at), action.reason)
        elif isinstance(action, Hole):
            yield from self._miss(line, action)

    def _begin(self, line: Line, valid: Valid) -> Iterator[Claim]:
        proof = {"proof": valid.proof, "cannot_show": valid.cannot_show, "is_proven": valid.is_proven}
        if not line.is_valid:
            yield from _lost(line, valid.at)
            self._set(line, is_valid=True, since=max(line.since, valid.at), **proof)
        elif (line.proof, line.cannot_show) != (valid.proof, valid.cannot_show):
            if line.since < valid.at:
                yield _whole(line, valid.at)
            self._set(line, since=max(line.since, valid.at), **proof)

    def _break(self, line: Line, since: datetime, reason: str) -> Iterator[Claim]:
        if since < line.since:
            yield _absent(since, line.since, "degraded", DISPROVED, {"reason": reason}, _WHY_LATE)
        sure = max(line.since, since - self._late)
        if line.since < sure:
            yield _whole(line, sure)
        if sure < since:
            yield _absent(sure, since, "degraded", _PROOF, {"reason": reason}, _WHY_LATE)
        self._set(line, is_valid=False, since=max(line.since, since), reason=reason)

    def _miss(self, line: Line, hole: Hole) -> Iterator[Claim]:
        end = hole.until + _MOMENT
        if line.is_valid and line.since < hole.since:
            yield _whole(line, hole.since)
        evidence = {"after_id": hole.after_id, "before_id": hole.before_id}
        yield _absent(hole.since, end, "missing", DISPROVED, evidence, _WHY_LOST)
        if line.is_valid:
            self._set(line, since=max(line.since, end))

    def _set(self, line: Line, **changes: Any) -> None:
        self._lines[line.instrument_id, line.channel] = replace(line, **changes)

    def _streamed(self, line: Line, claim: Claim, at: datetime) -> Streamed:
        return Streamed(
            channel=line.channel,
            subject=f"{self._venue}:{line.instrument_id}",
            about={"venue": self._venue, "instrument_id": line.instrument_id},
            claim=claim,
            recorded_at=at,
        )


def starting(venue: str, lines: Iterable[tuple[str, str]], at: datetime, *, late: timedelta = LATE) -> Teller:
    """The teller of instruments and channels that nobody asked for until now."""
    why = "nothing was received yet"
    asked = (Line(instrument_id=i, channel=c, is_valid=False, since=at, reason=why) for i, c in lines)
    return Teller(venue, asked, late=late)


def teller_from(said: Mapping[str, Any]) -> Teller:
    """The teller that `Teller.plain` told of."""
    lines = (Line(**{**line, "since": parse_moment(line["since"])}) for line in said["lines"])
    return Teller(said["venue"], lines, late=timedelta(seconds=said["late_s"]))


def _whole(line: Line, upto: datetime) -> Claim:
    return Claim(
        window=Window(line.since, upto),
        status="complete" if line.is_proven else "degraded",
        proof=line.proof if line.is_proven else UNPROVEN,
        cannot_show=line.cannot_show,
    )


def _lost(line: Line, upto: datetime) -> Iterator[Claim]:
    if not line.is_valid and line.since < upto:
        yield _absent(line.since, upto, "missing", _PROOF, {"reason": line.reason}, _WHY_LOST)


def _absent(
    start: datetime, end: datetime, status: Status, proof: str, evidence: Mapping[str, str], cannot_show: str
) -> Claim:
    return Claim(
        window=Window(start, end), status=status, proof=proof, evidence=evidence, cannot_show=cannot_show
    )
