"""The providers' limits as Prefect's global concurrency limits: what several machines of one Prefect server share."""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from dataclasses import dataclass, field

import structlog

from sources.quota import Quota

log = structlog.get_logger()

_SHOWN_WAIT_S = 2.0
_TENTHS = 10
"""A slot is a tenth of a unit: some requests count less than one."""
_MOST_UNITS = 10
"""What a request can occupy at most, and how many units may go at once; each machine spaces its own evenly anyway."""


@dataclass
class PrefectLimits:
    """Waits for slots of a limit that Prefect keeps, such as `mnemo-ccxt-binance`, before each request.

    A limit is made when it is first needed. One that is there already is kept as somebody set it.
    """

    _made: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, quota: Quota, units: float) -> None:
        """Return when Prefect has slots for so many units."""
        if not quota.pace_s:
            return
        from prefect.concurrency.sync import rate_limit  # heavy: only where Prefect is there

        name = _name(quota)
        with self._lock:
            if name not in self._made:
                _make(name, quota)
                self._made.add(name)
        began = time.monotonic()
        # Without `strict` a limit that somebody has deleted would be no limit at all, in silence.
        rate_limit(name, occupy=min(max(round(units * _TENTHS), 1), _MOST_UNITS * _TENTHS), strict=True)
        if (waited_s := time.monotonic() - began) > _SHOWN_WAIT_S:
            log.warning("waited for a limit of Prefect", limit=name, wait_s=round(waited_s, 1))


def has_prefect_server() -> bool:
    """Whether a server of Prefect is named, by `PREFECT_API_URL` or Prefect's profile; flows may run without one.

    The profile is looked at only where Prefect is there already: importing it takes seconds.
    """
    if os.environ.get("PREFECT_API_URL"):
        return True
    if "prefect" not in sys.modules:
        return False
    from prefect.settings import get_current_settings

    return get_current_settings().api.url is not None


def _name(quota: Quota) -> str:
    return "mnemo-" + re.sub(r"[^a-z0-9.]+", "-", quota.name.lower())


def _make(name: str, quota: Quota) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            wanted = GlobalConcurrencyLimitCreate(
                name=name, limit=_MOST_UNITS * _TENTHS, slot_decay_per_second=_TENTHS / quota.pace_s
            )
            try:
                client.create_global_concurrency_limit(wanted)
            except ObjectAlreadyExists:
                return
