"""Exponential backoff per key, as k8s.io/client-go/util/flowcontrol.Backoff does it, on a monotonic clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Entry:
    """The delay in force, seconds, and when it was set (monotonic seconds)."""

    delay: float
    updated: float


class Backoff:
    """First failure: no wait; then ``initial``, doubling to ``maximum``.

    Forgotten by a failure that comes more than ``forget`` seconds (default: 2 × ``maximum``) after the last.
    """

    def __init__(
        self, initial: float, maximum: float, now: Callable[[], float], forget: float | None = None
    ) -> None:
        self.initial = initial
        self.maximum = maximum
        self.forget_after = 2 * maximum if forget is None else forget
        self._now = now
        self.entries: dict[str, Entry] = {}

    def remaining(self, key: str, since: float) -> float:
        """Seconds still to wait for something that failed at ``since``; 0: go ahead."""
        entry = self.entries.get(key)
        if entry is None or self._expired(since, entry):
            return 0.0
        return max(0.0, entry.delay - (self._now() - since))

    def remaining_since_update(self, key: str) -> float:
        """Seconds still to wait, counted from the last :meth:`advance`."""
        entry = self.entries.get(key)
        return 0.0 if entry is None else self.remaining(key, entry.updated)

    def advance(self, key: str, when: float) -> None:
        """Lengthen the delay for the next failure; ``when`` is the time of this one."""
        entry = self.entries.get(key)
        if entry is None or self._expired(when, entry):
            self.entries[key] = Entry(self.initial, when)
        else:
            self.entries[key] = Entry(min(entry.delay * 2, self.maximum), when)

    def delay(self, key: str) -> float:
        """The delay in force, seconds."""
        entry = self.entries.get(key)
        return entry.delay if entry else 0.0

    def forget(self, prefix: str) -> None:
        """Drop all keys that start with ``prefix``."""
        for key in [key for key in self.entries if key.startswith(prefix)]:
            del self.entries[key]

    def _expired(self, when: float, entry: Entry) -> bool:
        return when - entry.updated > self.forget_after


def spell(seconds: float) -> str:
    """Seconds as Go prints a duration: ``10s``, ``1m20s``, ``5m0s``."""
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
