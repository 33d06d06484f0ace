"""An asyncio event loop without sockets, threads or a clock: what runs on it depends on what it is told alone.

It is stepped from outside, also where another loop runs: `call` lets a function start tasks, `run` tells the time and
goes on until nothing is left to do then.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar, cast

T = TypeVar("T")

_AT_ONCE = 1_000_000
"""Callbacks without time going by; more of them come from tasks that wake each other for ever."""


class Clockwork:
    """What futures, tasks and timers need of a loop; its time is in seconds since the epoch."""

    def __init__(self, now_s: float) -> None:
        self._now_s = now_s
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = itertools.count()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Itself, as asyncio wants it."""
        return cast("asyncio.AbstractEventLoop", self)

    def call(self, function: Callable[[], T]) -> T:
        """The function's result; what it starts waits for `run`."""
        with self._running():
            return function()

    def run(self, now_s: float) -> None:
        """Do all that is due up to that moment; RecursionError where it never ends."""
        with self._running():
            while True:
                self._drain()
                if not self._timers or self._timers[0][0] > now_s:
                    break
                when_s, _, timer = heapq.heappop(self._timers)
                self._now_s = max(self._now_s, when_s)
                self._ready.append(timer)
            self._now_s = max(self._now_s, now_s)

    def time(self) -> float:
        """The time that it was told."""
        return self._now_s

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """To be called by `run`, in order."""
        handle = asyncio.Handle(callback, args, self.loop, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """To be called once so many seconds have gone by."""
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """To be called at that time."""
        timer = asyncio.TimerHandle(when, callback, args, self.loop, context)
        heapq.heappush(self._timers, (when, next(self._count), timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return asyncio.Future(loop=self.loop)

    def create_task(
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        """A task of this loop."""
        return asyncio.Task(coro, loop=self.loop, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """What nobody waits for is not told."""

    def get_debug(self) -> bool:
        """For asyncio."""
        return False

    def is_running(self) -> bool:
        """For asyncio."""
        return events._get_running_loop() is self.loop

    def is_closed(self) -> bool:
        """For asyncio."""
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """For asyncio; the timer does nothing when its time comes."""

    def _drain(self) -> None:
        for _ in range(_AT_ONCE):
            if not self._ready:
                return
            handle = self._ready.popleft()
            if not handle.cancelled():
                handle._run()
        raise RecursionError(f"not done after {_AT_ONCE} steps")

    @contextmanager
    def _running(self) -> Iterator[None]:
        outer = events._get_running_loop()
        events._set_running_loop(self.loop)
        try:
            yield
        finally:
            events._set_running_loop(outer)
