"""One operation for many who want the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass
class _Flight(Generic[T]):
    task: asyncio.Task[T]
    waiters: int = 0


class Flights(Generic[K, T]):
    """Runs an operation once per key while anybody waits; the last one to give up cancels it."""

    def __init__(self) -> None:
        self._running: dict[K, _Flight[T]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._running

    async def run(self, key: K, operation: Callable[[], Awaitable[T]]) -> T:
        """Result of ``operation`` for ``key``, begun now or under way already; all share its exception."""
        flight = self._running.get(key)
        if flight is None:
            flight = _Flight(asyncio.ensure_future(_call(operation)))
            self._running[key] = flight
            flight.task.add_done_callback(lambda _: self._forget(key, flight))
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if not flight.waiters and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()
                # Its clean-up is waited for: who gave up sees nothing half-made afterwards.
                await asyncio.wait([flight.task])

    def _forget(self, key: K, flight: _Flight[T]) -> None:
        if self._running.get(key) is flight:
            del self._running[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # retrieved, even if all waiters have gone


async def _call(operation: Callable[[], Awaitable[T]]) -> T:
    return await operation()
