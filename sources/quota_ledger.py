"""The ledger of what is used of the providers' limits, which all processes of a machine share. No network.

It keeps one small file for each quota under MNEMO_HOME, behind a lock:

- Requests are spaced evenly, so that no stretch of time holds more than its limit allows.
- A day's budget is counted on disk before the request goes out: a kill may waste one request, never exceed it.
- What answers say (`Retry-After`, requests left) holds for all processes: who is asked to wait makes all wait.

Files survive restarts. Among machines `Share` tells the day's usage; see `sources.quota_table`.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from math import inf
from pathlib import Path
from typing import IO, Protocol

import structlog

from lakehouse.errors import SettingsError
from lakehouse.window import Window, iso
from sources.errors import QuotaExhausted, Transient
from sources.quota import Limit, Quota
from sources.quota_headers import Stated, stated

log = structlog.get_logger()

LONGEST_WAIT_S = 120.0
"""A provider that asks for a longer wait is not waited for here: Transient rises and the caller decides."""

_SHOWN_WAIT_S = 2.0
_SHOWN_EVERY_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What this machine has used of one limit: a row of `ops.quota`."""

    provider: str
    host: str
    key_id: str
    window_start: datetime
    window_s: float
    zone: str
    allowed: int
    used: float
    remaining: float | None
    reset_at: datetime | None
    blocked_until: datetime | None
    machine: str
    observed_at: datetime


class Share(Protocol):
    """Where machines tell each other what they have used."""

    def used_elsewhere(self, quota: Quota, limit: Limit, window: Window, *, machine: str) -> float:
        """What other machines have used of a budget in a window."""

    def tell(self, usages: Sequence[Usage]) -> None:
        """Tell what this machine has used."""


class QuotaLedger:
    """Counts and spaces requests, over all threads and processes that share a folder."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        share: Share | None = None,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._sleep = sleep
        self._share = share
        self._quotas: dict[str, Quota] = {}
        self._untold: set[str] = set()
        self._shown: dict[str, float] = {}
        self._told_at = -inf
        self._lock = threading.Lock()

    def take(self, quota: Quota, units: float = 1.0) -> None:
        """Return when a request that counts so many units may be sent; it is counted by then.

        Raises QuotaExhausted where a day's budget is spent, Transient where the provider has asked for a wait
        longer than LONGEST_WAIT_S.
        """
        elsewhere = self._elsewhere(quota)
        turn: float | None = None
        while True:
            with self._opened(quota) as state:
                now = self._clock()
                _check_budgets(quota, state, units, elsewhere, now)
                self._refuse_long_wait(quota, state, now)
                turn = state.next_turn(turn, now, quota.pace_s * units)
                # A thread that overslept its turn must not go at the heels of the one after it.
                wait_s = max(turn, state.free_at) - now
                if wait_s <= 0:
                    state.free_at = now + quota.pace_s * units
                    state.count(quota.counted, units, now)
                    break
                reason = state.blocked_because if state.blocked_until > now else f"it allows {quota}"
            self._show_wait(quota, wait_s, reason)
            self._sleep(wait_s)
        self._note(quota)

    def observe(
        self, quota: Quota, headers: Mapping[str, str], *, host: str, wait_s: float | None, at: datetime
    ) -> None:
        """Take in what an answer says. `wait_s` is what it asked for (`Retry-After` of a refusal)."""
        said = stated(headers, host=host, now=at)
        if said is None and wait_s is None:
            return
        with self._opened(quota) as state:
            if said:
                state.stated = _plain(said)
            if wait_s is not None:
                state.block(at.timestamp() + wait_s, f"it asked to wait {wait_s:g} s")
            elif said and said.reset_at and said.is_spent:
                state.block(said.reset_at.timestamp(), f"nothing is left until {iso(said.reset_at)}")

    def exhaust(self, quota: Quota) -> datetime | None:
        """The provider says that the day's budget is spent, whatever was counted here; when it is renewed."""
        if not quota.budgets:
            return None
        with self._opened(quota) as state:
            now = self._clock()
            for limit in quota.budgets:
                state.count((limit,), max(0.0, limit.units - state.used(limit, now)), now)
        self._note(quota)
        return max(limit.counted_in(_moment(now)).end for limit in quota.budgets)

    def left(self, quota: Quota) -> int | None:
        """How many requests today's budget has left; None where there is no budget."""
        if not quota.budgets:
            return None
        elsewhere = self._elsewhere(quota)
        with self._opened(quota) as state:
            now = self._clock()
            used = {limit: state.used(limit, now) + elsewhere[limit] for limit in quota.budgets}
        return int(max(0, min(limit.units - count for limit, count in used.items())))

    def usages(self) -> list[Usage]:
        """What this machine has used in the last window of counting, of the quotas that this process took from."""
        return [usage for name in sorted(self._quotas) for usage in self._usages(self._quotas[name])]

    def tell(self, *, every_s: float = 0.0) -> None:
        """Tell the other machines, and whoever reads `ops.quota`, what was used since the last telling.

        Nothing is told where that is less than `every_s` ago.
        """
        if self._share is None:
            return
        with self._lock:
            if self._clock() - self._told_at < every_s:
                return
            self._told_at = self._clock()
            untold = [self._quotas[name] for name in sorted(self._untold)]
            self._untold.clear()
        if rows := [usage for quota in untold for usage in self._usages(quota)]:
            self._share.tell(rows)

    def _elsewhere(self, quota: Quota) -> dict[Limit, float]:
        now = _moment(self._clock())
        return {
            limit: self._share.used_elsewhere(quota, limit, limit.counted_in(now), machine=self._machine)
            if self._share
            else 0.0
            for limit in quota.budgets
        }

    def _note(self, quota: Quota) -> None:
        """Remember what is to be told. A day's budget is told at once: others count on it."""
        with self._lock:
            self._quotas[quota.name] = quota
            self._untold.add(quota.name)
        if quota.budgets:
            self.tell()

    def _refuse_long_wait(self, quota: Quota, state: _State, now: float) -> None:
        if (wait_s := state.blocked_until - now) > LONGEST_WAIT_S:
            until = iso(_moment(state.blocked_until).replace(microsecond=0))
            raise Transient(
                f"{quota.provider} {quota.host} is not asked before {until}: {state.blocked_because}"
                f" (kept in {self._path(quota)})",
                retry_after_s=wait_s,
            )

    def _show_wait(self, quota: Quota, wait_s: float, reason: str) -> None:
        if wait_s < _SHOWN_WAIT_S:
            return
        with self._lock:
            now = self._clock()
            if now - self._shown.get(quota.name, -inf) < _SHOWN_EVERY_S:
                return
            self._shown[quota.name] = now
        log.warning(
            "waiting for a provider",
            provider=quota.provider,
            host=quota.host,
            wait_s=round(wait_s, 1),
            because=reason,
        )

    def _usages(self, quota: Quota) -> Iterator[Usage]:
        with self._opened(quota) as state:
            now = self._clock()
            counts = [
                (limit, *state.counts[str(limit)]) for limit in quota.counted if str(limit) in state.counts
            ]
            said, blocked = state.stated, state.blocked_until
        for limit, start, used in counts:
            yield Usage(
                provider=quota.provider,
                host=quota.host,
                key_id=quota.key_id,
                window_start=_moment(start),
                window_s=limit.window_s,
                zone=limit.zone,
                allowed=limit.units,
                used=used,
                remaining=said.get("remaining"),
                reset_at=_moment(reset) if (reset := said.get("reset_at")) else None,
                blocked_until=_moment(blocked) if blocked > now else None,
                machine=self._machine,
                observed_at=_moment(now),
            )

    @cached_property
    def _machine(self) -> str:
        """Tells machines apart without naming them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(self._folder / "machine") as file:
            known = file.read()
            if not known:
                known = uuid.uuid4().hex[:12]
                file.write(known)
            return known

    def _path(self, quota: Quota) -> Path:
        return self._folder / (re.sub(r"[^a-z0-9.]+", "-", quota.name.lower()) + ".json")

    @contextmanager
    def _opened(self, quota: Quota) -> Iterator[_State]:
        """The state of a quota, for this thread of this process alone; written back when the block is done."""
        path = self._path(quota)
        self._folder.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_suffix(".lock")):
            before = path.read_text() if path.exists() else "{}"
            state = _read_state(path, before, self._clock())
            try:
                yield state
            finally:
                state.at = self._clock()
                _write(path, json.dumps(asdict(state)), durably=bool(quota.budgets))


@dataclass
class _State:
    """What the file of a quota holds; times are seconds since the epoch."""

    next_at: float = 0.0
    """The first turn that is not given away."""
    free_at: float = 0.0
    """When the last request has made room for another."""
    blocked_until: float = 0.0
    blocked_because: str = ""
    counts: dict[str, tuple[float, float]] = field(default_factory=dict)
    """For each limit the beginning of its window and the units used in it."""
    stated: dict[str, float | None] = field(default_factory=dict)
    at: float = 0.0

    def next_turn(self, turn: float | None, now: float, takes_s: float) -> float:
        """The moment at which a request may go: the one that was given before, unless a wait came between."""
        if turn is not None and self.blocked_until <= max(turn, now):
            return turn
        turn = max(now, self.next_at, self.blocked_until)
        self.next_at = turn + takes_s
        return turn

    def block(self, until: float, reason: str) -> None:
        if until > self.blocked_until:
            self.blocked_until, self.blocked_because = until, reason

    def used(self, limit: Limit, now: float) -> float:
        start, used = self.counts.get(str(limit), (0.0, 0.0))
        return used if start == limit.counted_in(_moment(now)).start.timestamp() else 0.0

    def count(self, limits: Iterable[Limit], units: float, now: float) -> None:
        for limit in limits:
            start = limit.counted_in(_moment(now)).start.timestamp()
            self.counts[str(limit)] = (start, self.used(limit, now) + units)


def _check_budgets(
    quota: Quota, state: _State, units: float, elsewhere: Mapping[Limit, float], now: float
) -> None:
    spent = [one for one in quota.budgets if state.used(one, now) + elsewhere[one] + units > one.units]
    if spent:
        renewed_at = max(limit.counted_in(_moment(now)).end for limit in spent)
        raise QuotaExhausted(
            f"{quota.provider} {quota.host} allows {', '.join(map(str, spent))}, and all is used;"
            f" it is renewed at {iso(renewed_at)}",
            renewed_at=renewed_at,
        )


def _read_state(path: Path, text: str, now: float) -> _State:
    try:
        said = json.loads(text)
        state = _State(
            **{**said, "counts": {name: tuple(one) for name, one in said.get("counts", {}).items()}}
        )
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{path} is not a ledger of requests ({error}); remove it") from None
    if state.at > now + 1:
        # The clock was put back: turns that were given by the old one would be far off.
        state.next_at = state.free_at = now
    return state


def _write(path: Path, text: str, *, durably: bool) -> None:
    """Whole or not at all, whatever is killed when."""
    new = path.with_suffix(".new")
    with new.open("w") as file:
        file.write(text)
        if durably:
            file.flush()
            os.fsync(file.fileno())
    new.replace(path)


@contextmanager
def _locked(path: Path) -> Iterator[IO[str]]:
    with path.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


def _moment(epoch_s: float) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)


def _plain(said: Stated) -> dict[str, float | None]:
    return {
        "used": said.used,
        "allowed": said.allowed,
        "remaining": said.remaining,
        "reset_at": said.reset_at.timestamp() if said.reset_at else None,
    }
