"""The data sets of the BIS that are known here, and how one names them and their series. No network, no parsing.

A subject is `FLOW/KEY` (`WS_GLI/Q.USD.3P.N.A.I.B.USD`: one position a dimension, an empty one is any code, `+` is
or) or, for a data set of FLOWS, `FLOW` alone: all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from lakehouse.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A data set: its dimensions in the order of the key, and its frequencies, the codes of the first dimension.

    `lag` is how long after a period its figures usually appear. `multiplier` is for a data set whose structure has
    no UNIT_MULT, so that its answers cannot say it: index numbers are what they are.
    """

    dimensions: tuple[str, ...]
    frequencies: tuple[str, ...]
    lag: timedelta
    version: str = "1.0"
    multiplier: int | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that together ask for all of it: frequencies apart, as their rows must not be mixed."""
        return tuple(frequency + "." * (len(self.dimensions) - 1) for frequency in self.frequencies)


_CREDIT_LAG = timedelta(days=180)
_UNKNOWN_LAG = timedelta(days=180)

FLOWS = {
    "WS_GLI": Flow(
        dimensions=(
            "FREQ",
            "CURR_DENOM",
            "BORROWERS_CTY",
            "BORROWERS_SECTOR",
            "LENDERS_SECTOR",
            "L_POS_TYPE",
            "L_INSTR",
            "UNIT_MEASURE",
        ),
        frequencies=("Q",),
        lag=timedelta(days=120),
    ),
    "WS_CBPOL": Flow(dimensions=("FREQ", "REF_AREA"), frequencies=("D", "M"), lag=timedelta(days=14)),
    "WS_TC": Flow(
        dimensions=(
            "FREQ",
            "BORROWERS_CTY",
            "TC_BORROWERS",
            "TC_LENDERS",
            "VALUATION",
            "UNIT_TYPE",
            "TC_ADJUST",
        ),
        frequencies=("Q",),
        lag=_CREDIT_LAG,
        version="2.0",
    ),
    "WS_CREDIT_GAP": Flow(
        dimensions=("FREQ", "BORROWERS_CTY", "TC_BORROWERS", "TC_LENDERS", "CG_DTYPE"),
        frequencies=("Q",),
        lag=_CREDIT_LAG,
    ),
    "WS_DSR": Flow(
        dimensions=("FREQ", "BORROWERS_CTY", "DSR_BORROWERS"), frequencies=("Q",), lag=_CREDIT_LAG
    ),
    "WS_EER": Flow(
        dimensions=("FREQ", "EER_TYPE", "EER_BASKET", "REF_AREA"),
        frequencies=("D", "M"),
        lag=timedelta(days=30),
        multiplier=0,
    ),
}
"""Dimensions, versions and columns as seen in public copies of answers, 2026; lags are our estimates."""


@dataclass(frozen=True)
class Subject:
    """What a feed is asked for; an empty key is the whole data set."""

    flow: str
    key: str = ""

    @property
    def known(self) -> Flow | None:
        """What is known of the data set; None for one that is not in FLOWS."""
        return FLOWS.get(self.flow)

    @property
    def version(self) -> str:
        """The version of the data set that is asked for."""
        return self.known.version if self.known else "1.0"

    @property
    def lag(self) -> timedelta:
        """How long after a period its figures usually appear."""
        return self.known.lag if self.known else _UNKNOWN_LAG


_SUBJECT = re.compile(r"(?P<flow>[A-Z][A-Z0-9_]*)/(?P<key>[A-Z0-9_+]*(?:\.[A-Z0-9_+]*)+)")
_FLOW = re.compile(r"[A-Z][A-Z0-9_]*")


def read_subject(subject: str) -> Subject:
    """A data set with or without a key; UsageError for what can be neither."""
    found = _SUBJECT.fullmatch(subject)
    if subject not in FLOWS and not found:
        whole = ", ".join(FLOWS)
        raise UsageError(
            f"subject {subject!r} is not FLOW/KEY with one key position a dimension, like "
            f"WS_GLI/Q.USD.3P.N.A.I.B.USD, nor one of the whole data sets {whole}"
        )
    if not found:
        return Subject(subject)
    asked = Subject(found["flow"], found["key"])
    if asked.known and asked.key.count(".") + 1 != len(asked.known.dimensions):
        raise UsageError(
            f"subject {subject!r} has not one key position for each of {', '.join(asked.known.dimensions)}"
        )
    return asked


def read_flow(subject: str) -> Subject:
    """A data set without a key, known here or not; UsageError for what cannot be one."""
    if not _FLOW.fullmatch(subject):
        raise UsageError(f"subject {subject!r} is not a data set like {next(iter(FLOWS))}")
    return Subject(subject)


def fitting(key: str) -> str:
    """A regular expression for the series that a key asks for."""
    positions = (f"({_any_of(position.split('+'))})" if position else r"[^.]*" for position in key.split("."))
    return "^" + r"\.".join(positions) + "$"


def _any_of(codes: Iterable[str]) -> str:
    return "|".join(re.escape(code) for code in codes)
