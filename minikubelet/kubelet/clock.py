"""The two clocks, replaceable in tests."""

from __future__ import annotations

import asyncio
from typing import Protocol

from minikubelet.base import clock


class Clock(Protocol):
    """Time for durations, time for stamps, and waiting."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """Until ``event`` is set or ``seconds`` have passed (None: only the event)."""


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """See :class:`Clock`."""
        return clock.monotonic()

    def now_ns(self) -> int:
        """See :class:`Clock`."""
        return clock.now_ns()

    async def wait(self, event: asyncio.Event, seconds: float | None) -> None:
        """See :class:`Clock`."""
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            pass
