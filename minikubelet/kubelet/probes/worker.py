"""One probe of one container instance: its schedule, its thresholds, its attempts.

Semantics follow upstream's pkg/kubelet/prober/worker.go (Kubernetes 1.36).
"""

from __future__ import annotations

import asyncio
import enum
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from minikubelet.base import clock
from minikubelet.kubelet.objects.containers import Probe
from minikubelet.kubelet.probes.outcome import Outcome, ProbeError, Verdict

log = logging.getLogger(__name__)

ATTEMPTS = 3
"""How often in a row a probe that can't be made is tried before its result is dropped."""


class Kind(enum.Enum):
    """The value is the word of upstream's events."""

    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"


class Result(enum.Enum):
    """What is known of a container through one kind of probe."""

    UNKNOWN = "Unknown"
    SUCCESS = "Success"
    FAILURE = "Failure"


INITIAL = {Kind.STARTUP: Result.UNKNOWN, Kind.LIVENESS: Result.SUCCESS, Kind.READINESS: Result.FAILURE}
"""The result before the first threshold is crossed."""


class Timer(Protocol):
    """A call that can still be called off."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """The monotonic clock and its timers; an asyncio event loop is one."""

    def time(self) -> float: ...
    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer: ...
    def create_task(self, coroutine: Coroutine[Any, Any, None], /) -> asyncio.Task[None]: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """A probe's numbers with upstream's defaults filled in; seconds."""

    initial_delay: float
    period: float
    timeout: float
    success_threshold: int
    failure_threshold: int

    @classmethod
    def of(cls, probe: Probe) -> Settings:
        """From the manifest's probe."""
        return cls(
            initial_delay=probe.initial_delay_seconds,
            period=probe.period_seconds or 10,
            timeout=probe.timeout_seconds or 1,
            success_threshold=probe.success_threshold or 1,
            failure_threshold=probe.failure_threshold or 3,
        )


class Thresholds:
    """Counts equal results in a row; says when the known result becomes another."""

    __slots__ = ("_last", "_run", "_settings", "result")

    def __init__(self, settings: Settings, initial: Result) -> None:
        self._settings = settings
        self._last: Result | None = None
        self._run = 0
        self.result = initial

    def note(self, good: bool) -> bool:
        """Take one attempt's result; whether a threshold is reached (``result`` is then set)."""
        result = Result.SUCCESS if good else Result.FAILURE
        self._run = self._run + 1 if result is self._last else 1
        self._last = result
        needed = self._settings.success_threshold if good else self._settings.failure_threshold
        if self._run < needed:
            return False
        self.result = result
        return True


class Worker:
    """Runs one probe until stopped. Times are those of the clock it is given."""

    def __init__(
        self,
        kind: Kind,
        settings: Settings,
        attempt: Callable[[], Awaitable[Outcome]],
        notify: Callable[[Worker, Outcome | ProbeError, bool], None],
        clock: Clock,
    ) -> None:
        self.kind = kind
        self.settings = settings
        self.thresholds = Thresholds(settings, INITIAL[kind])
        self.on_hold = False
        """A liveness or startup probe that has reached its verdict waits for another container."""
        self.by_network = False
        """An attempt is a matter of a connection, and costs the container next to nothing."""
        self.seconds = 0.0
        """How long the last attempt took that came to an end."""
        self._attempt = attempt
        self._notify = notify
        self._clock = clock
        self._timer: Timer | None = None
        self._task: asyncio.Task[None] | None = None
        self._due = 0.0
        self._early: list[float] = []
        self._waiting = False

    @property
    def result(self) -> Result:
        """What is known now."""
        return self.thresholds.result

    def start(self, first: float, early: Sequence[float] = ()) -> None:
        """Probe at ``first`` (clock time) and every period after it.

        At the times ``early``, all before ``first``, it is tried whether the container is that far already: a
        success is the first attempt, a failure is none at all.
        """
        self.stop_timer()
        self._due = first
        self._early = list(early)
        self._timer = self._clock.call_at(self._early[0] if early else first, self._tick)

    def stop_timer(self) -> None:
        """No further attempts; one under way is finished by :meth:`stop`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> asyncio.Task[None] | None:
        """Stop for good; returns the cancelled attempt, if one is under way."""
        self.on_hold = True
        self.stop_timer()
        if self._task is not None and not self._task.done():
            self._task.cancel()
            return self._task
        return None

    def _tick(self) -> None:
        self._timer = None
        if self._task is not None and not self._task.done():
            self._waiting = True  # the attempt under way is longer than the period: at once after it
            return
        self._task = self._clock.create_task(self._run_early() if self._early else self._run())

    async def _timed(self) -> Outcome:
        began = clock.monotonic()
        outcome = await self._attempt()
        self.seconds = clock.monotonic() - began
        return outcome

    async def _run_early(self) -> None:
        self._early.pop(0)
        try:
            outcome = await self._timed()
        except Exception:  # what is wrong is found out when the time has come
            outcome = None
        if outcome is not None and outcome.verdict is Verdict.SUCCESS:
            self._early.clear()
            self._due = self._clock.time() + self.settings.period
            self._timer = self._clock.call_at(self._due, self._tick)
            self._take(outcome)
        elif not self.on_hold:
            now = self._clock.time()
            self._early = [
                at for at in self._early if at > now
            ]  # a slow attempt stands for those it outlasted
            self._timer = self._clock.call_at(self._early[0] if self._early else self._due, self._tick)

    async def _run(self) -> None:
        # The next tick is set before the attempt, so that a slow one can't move the grid.
        period = self.settings.period
        now = self._clock.time()
        self._due += period * max(1, math.floor((now - self._due) / period) + 1)
        self._timer = self._clock.call_at(self._due, self._tick)
        try:
            self._take(await self._try())
        except Exception:
            log.exception("a %s probe failed unexpectedly", self.kind.value)
        if self._waiting and not self.on_hold:
            self._waiting = False
            self._timer = self._clock.call_at(self._clock.time(), self._tick)

    async def _try(self) -> Outcome | ProbeError:
        error = ProbeError("not tried")
        for _ in range(ATTEMPTS):
            try:
                return await self._timed()
            except ProbeError as exc:
                error = exc
        return error

    def _take(self, outcome: Outcome | ProbeError) -> None:
        if self.on_hold:
            return
        if isinstance(outcome, ProbeError):
            self._notify(self, outcome, False)
            return
        good = outcome.verdict is not Verdict.FAILURE
        before = self.result
        reached = self.thresholds.note(good)
        if reached and (self.kind is Kind.STARTUP or (self.kind is Kind.LIVENESS and not good)):
            self.on_hold = True
            self.stop_timer()
        self._notify(self, outcome, reached and self.result is not before)
