"""Shares: what is new in a bronze table, cut by subject, so that several processes promote it side by side.

A share is the subjects whose names have the same checksum modulo `SHARES`. Each has a position of its own beside the
whole promotion's, so that a finished share is never computed again. Nothing can be published twice by cutting: a row's
`Table.subject` says which commits of its target it must not cross (`shares_of`), whoever makes them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

SHARES = 64


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which commits of a bronze table hold what is new for one share; small enough to travel."""

    number: int
    versions: tuple[int, ...]
    upto: int
    """The share is done up to this version once `versions` are: no other commit speaks of it."""
    subjects: tuple[str, ...]
    idle: tuple[int, ...] = ()
    """Shares of which nothing is new: this one's last commit says so for them."""


def share_name(app: str, number: int) -> str:
    """Under which name a table's log keeps the position of a share."""
    return f"{app}/{number}"


def share_of(*subject: object) -> int:
    """The share of a subject, from 0 to SHARES - 1; the same on every machine."""
    return zlib.crc32("\x1f".join(map(str, subject)).encode()) % SHARES


def shares_of(rows: pl.DataFrame, columns: Sequence[str]) -> frozenset[int]:
    """The shares of the subjects of some rows."""
    return frozenset(share_of(*row) for row in rows.select(columns).unique().iter_rows())


def split(subjects: Mapping[int, Iterable[str]], done: Sequence[int], upto: int) -> tuple[Share, ...]:
    """Cut the commits up to `upto`; `subjects` says of whom each speaks, `done` how far each share is already."""
    found: dict[int, dict[tuple[int, str], None]] = {}
    for version in sorted(subjects):
        for subject in subjects[version]:
            number = share_of(subject)
            if done[number] < version <= upto:
                found.setdefault(number, {})[version, subject] = None
    idle = tuple(number for number in range(SHARES) if number not in found and done[number] < upto)
    return tuple(
        Share(
            number=number,
            versions=tuple(sorted({version for version, _ in of})),
            upto=upto,
            subjects=tuple(sorted({subject for _, subject in of})),
            idle=() if place else idle,
        )
        for place, (number, of) in enumerate(sorted(found.items()))
    )
