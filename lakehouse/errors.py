"""Errors, sorted by what the caller can do about them.

MnemoError
├── UsageError        the question was wrong: names what is right (exit code 2)
├── SettingsError     a setting is missing or wrong: names the setting
├── StoreUnavailable  the object store does not answer: names endpoint and setting; may pass later
├── ContractError     a frame does not fit its table: lists every column that is wrong
├── Contention        others kept committing first, even after many tries; may pass later
└── GapError          a read that must not have gaps has some: names table, subject and intervals

Errors of providers are in `sources.errors`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MnemoError(Exception):
    """Base of every error that is ours to explain; its text is fit to be shown as it is."""


class UsageError(MnemoError):
    """An unknown table, feed, venue, subject or a malformed argument."""


class SettingsError(MnemoError):
    """A setting is missing or cannot be read."""


class StoreUnavailable(MnemoError):
    """The object store cannot be reached or refuses our credentials."""


class ContractError(MnemoError):
    """A frame has missing, extra or mistyped columns."""


class Contention(MnemoError):
    """A commit lost against concurrent ones too often."""


class GapError(MnemoError):
    """A part of what was to be read is not covered."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a name that does not exist, with the nearest ones that do."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.4) or choices[:8]
    return UsageError(
        f"unknown {kind} {name!r}; did you mean {', '.join(near)}?" if near else f"unknown {kind} {name!r}"
    )
