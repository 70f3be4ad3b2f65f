"""A named stack of undo steps: what a half-done operation must take back."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

log = logging.getLogger(__name__)

Step = Callable[[], Awaitable[Any] | Any]


class UndoStack:
    """Collects undo steps; :meth:`unwind` runs *every* one, last first, whatever the others do.

    Use as an async context manager: leaving by an exception (cancellation too) unwinds, leaving
    normally keeps everything.
    """

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self._steps: list[tuple[str, Step]] = []

    def push(self, name: str, step: Step) -> None:
        """Remember how to undo what was just done; ``step`` may be a plain or an async callable."""
        self._steps.append((name, step))

    def keep(self) -> None:
        """Forget all steps: the operation has succeeded."""
        self._steps.clear()

    async def unwind(self) -> list[tuple[str, BaseException]]:
        """Run all steps in reverse order; returns the failures (also logged), never raises them."""
        failures: list[tuple[str, BaseException]] = []
        while self._steps:
            name, step = self._steps.pop()
            try:
                result = step()
                if inspect.isawaitable(result):
                    await result
            except Exception as exc:
                log.warning("%s: undoing %s failed: %s", self.operation, name, exc)
                failures.append((name, exc))
        return failures

    async def __aenter__(self) -> UndoStack:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: object, tb: object) -> None:
        if kind is not None:
            # A second cancellation (a stopping daemon) must not leave the rest undone.
            work = asyncio.ensure_future(self.unwind())
            while not work.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.shield(work)
        self.keep()
