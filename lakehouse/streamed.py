"""What live streams show of stretches of time: the records in their bronze commits. Pure; stored by `lakehouse.ledger`.

A stream is not asked for windows, so it leaves no `Fetched`. Its recorder tells by itself from when to when a channel
was whole and from when to when it was not; the ledger takes it at its word.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from lakehouse.coverage import Claim
from lakehouse.window import Window, iso, parse_moment


@dataclass(frozen=True, kw_only=True)
class Streamed:
    """One claim about one channel of one thing; `about` holds the subject columns of the rows it speaks of."""

    channel: str
    subject: str
    about: Mapping[str, str]
    claim: Claim
    recorded_at: datetime


def write_streamed(told: Iterable[Streamed]) -> str:
    """Claims as the text that a commit carries."""
    return orjson.dumps([plain(one) for one in told]).decode()


def read_streamed(text: str) -> list[Streamed]:
    """The claims that a commit carries."""
    return [from_plain(said) for said in orjson.loads(text)]


def joined(told: Iterable[Streamed]) -> list[Streamed]:
    """The same with claims that adjoin and say the same as one; told first, comes first."""
    found: list[Streamed] = []
    last: dict[tuple[str, str], int] = {}
    for one in told:
        key = (one.channel, one.subject)
        before = found[last[key]] if key in last else None
        if before and _continues(before.claim, one.claim):
            window = Window(before.claim.window.start, one.claim.window.end)
            found[last[key]] = replace(one, claim=replace(one.claim, window=window))
        else:
            last[key] = len(found)
            found.append(one)
    return found


def plain(one: Streamed) -> dict[str, Any]:
    """A claim as JSON has it."""
    return {
        "channel": one.channel,
        "subject": one.subject,
        "about": dict(one.about),
        "start": iso(one.claim.window.start),
        "end": iso(one.claim.window.end),
        "status": one.claim.status,
        "proof": one.claim.proof,
        "evidence": dict(one.claim.evidence),
        "cannot_show": one.claim.cannot_show,
        "recorded_at": iso(one.recorded_at),
    }


def from_plain(said: Mapping[str, Any]) -> Streamed:
    """The claim again."""
    claim = Claim(
        window=Window(parse_moment(said["start"]), parse_moment(said["end"])),
        status=said["status"],
        proof=said["proof"],
        evidence=said["evidence"],
        cannot_show=said["cannot_show"],
    )
    return Streamed(
        channel=said["channel"],
        subject=said["subject"],
        about=said["about"],
        claim=claim,
        recorded_at=parse_moment(said["recorded_at"]),
    )


def _continues(before: Claim, after: Claim) -> bool:
    return before.window.end == after.window.start and (
        before.status,
        before.proof,
        before.cannot_show,
        before.evidence,
    ) == (after.status, after.proof, after.cannot_show, after.evidence)
