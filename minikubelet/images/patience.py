"""How long faults of registries are borne: of one object at one host, and of a whole pull.

What makes progress may take as long as it likes. What doesn't is retried, then asked of the next host, and
ends in one error within half a minute, however many mirrors there are.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

OBJECT_SECONDS = 24.0
"""How long one object may make no progress, all hosts, retries and pauses included."""
PULL_SECONDS = 28.0
"""How long a pull may go on after a fault without progress of any of its objects."""
MIRROR_SECONDS = 8.0
"""How much of it a host may take that others stand behind."""
LEAST_SECONDS = 2.0
"""What each attempt gets: less would call servers silent that are merely far away."""
PROGRESS = 16384
"""Bytes; a trickle slower than this in the whole time is no progress."""


class Unreachable(Exception):
    """An attempt failed in a way that another one may mend; ``after`` are seconds the server asked for."""

    def __init__(self, message: str, *, status: int = 0, after: float = 0.0, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        self.status = status
        self.after = after


class Trouble:
    """The time since a pull's first fault without progress after it. Shared by its downloads."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._active = 0
        self._idle = 0.0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around all that is asked: the time in which nothing is (layers are unpacked) doesn't count."""
        if not self._active and self._since is not None:
            self._since += time.monotonic() - self._idle
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            self._idle = time.monotonic()

    def began(self, since: float) -> None:
        """An attempt that began at ``since`` (monotonic) has failed."""
        self._since = since if self._since is None else min(self._since, since)

    def over(self) -> None:
        """Content comes."""
        self._since = None

    def left(self) -> float:
        """Seconds until the pull has to fail."""
        return PULL_SECONDS if self._since is None else self._since + PULL_SECONDS - time.monotonic()


class Patience:
    """Time without progress of one object at one host, and the pauses between attempts."""

    def __init__(self, seconds: float, attempts: int, trouble: Trouble) -> None:
        self._seconds = seconds
        self._attempts = attempts
        self._trouble = trouble
        self._failures = 0
        self._bytes = 0
        self.moved = False
        """Whether there ever was progress."""
        self.since = time.monotonic()
        """When it began, or when there was progress last."""

    def left(self) -> float:
        """Seconds until giving up."""
        return min(self.since + self._seconds - time.monotonic(), self._trouble.left())

    def silence(self, longest: float) -> float:
        """Seconds of silence that an attempt accepts from its server, at most ``longest``."""
        return min(longest, max(self.left(), LEAST_SECONDS))

    def progress(self, size: int) -> None:
        """``size`` bytes came."""
        self._bytes += size
        if self._bytes >= PROGRESS:
            self._bytes = 0
            self.moved = True
            self._failures = 0
            self.since = time.monotonic()
            self._trouble.over()

    async def pause(self, failure: Unreachable, began: float) -> bool:
        """Wait before the next attempt after one that began at ``began``; False if there shall be none."""
        self._trouble.began(max(began, self.since))
        # Who isn't there at all seldom comes back within seconds.
        self._failures += 3 if failure.refused else 1
        backoff = 0.5 if failure.refused else min(0.2 * 2**self._failures, 5.0)
        wait = max(failure.after, backoff * random.uniform(0.5, 1.0))
        if self._failures >= self._attempts or wait >= self.left():
            return False
        await asyncio.sleep(wait)
        return True


class Turns:
    """The share of an object's time that each of the hosts behind one another gets."""

    def __init__(self, count: int, trouble: Trouble) -> None:
        self._rest = count
        self._trouble = trouble
        self._since = time.monotonic()

    def next(self) -> Patience:
        """The patience for the next host."""
        left = min(self._since + OBJECT_SECONDS - time.monotonic(), self._trouble.left())
        self._rest -= 1
        if self._rest:
            return Patience(
                max(min(MIRROR_SECONDS, left / (self._rest + 1)), LEAST_SECONDS), 3, self._trouble
            )
        return Patience(max(left, LEAST_SECONDS), 7, self._trouble)

    def gave_up(self, patience: Patience) -> None:
        """A host has failed for good; what it sent before counts as progress."""
        if patience.moved:
            self._since = patience.since

    def exhausted(self) -> bool:
        """Whether there is no time left to ask anyone else."""
        return min(self._since + OBJECT_SECONDS - time.monotonic(), self._trouble.left()) <= 0
