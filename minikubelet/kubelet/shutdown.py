"""Graceful node shutdown (KEP-2000, KEP-2712): pods end by priority, the critical ones last.

Upstream holds an inhibitor lock of systemd-logind. This daemon is stopped by the service manager like any
service, in the time that its unit's TimeoutStopSec gives. When it is told to stop while the machine is going
down (``systemctl is-system-running`` says ``stopping``), or by SIGPWR, it ends the pods first. When only the
daemon is stopped, they run on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from minikubelet.kubelet.clock import Clock
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.priority import SYSTEM_CRITICAL, priority
from minikubelet.kubelet.resource_config import ShutdownConfig

log = logging.getLogger(__name__)

NOT_ADMITTED = ("NodeShutdown", "Pod was rejected as the node is shutting down.")
REASON, MESSAGE = "Terminated", "Pod was terminated in response to imminent node shutdown."
_ASK = 5.0
"""Seconds that the service manager gets to answer."""


class Stoppable(Protocol):
    """What is to be known of a pod worker here."""

    pod: Pod
    halted: asyncio.Event
    """Set when nothing of the pod runs any more after :meth:`halt`."""

    def halt(self, reason: str, message: str, grace: int) -> None:
        """Stop the pod within ``grace`` seconds, for this time only."""


@dataclass
class Group:
    """Pods that end together."""

    priority: int
    """The lowest priority in it."""
    seconds: float
    workers: list[Stoppable] = field(default_factory=list)


def groups(config: ShutdownConfig) -> list[Group]:
    """The groups in the order in which they end; none: the feature is off."""
    if config.by_priority:
        return [Group(level, seconds) for level, seconds in sorted(config.by_priority.items())]
    if not config.grace_period:
        return []
    critical = min(config.grace_period_critical_pods, config.grace_period)
    return [Group(0, config.grace_period - critical), Group(SYSTEM_CRITICAL, critical)]


def total(config: ShutdownConfig) -> float:
    """Seconds that a shutdown takes at most."""
    return sum(each.seconds for each in groups(config))


def assign(found: Sequence[Group], workers: Iterable[Stoppable]) -> None:
    """Put every pod into the last group whose priority it reaches; those below all go into the first."""
    for worker in workers:
        fitting = [each for each in found if each.priority <= priority(worker.pod)]
        (fitting[-1] if fitting else found[0]).workers.append(worker)


async def end_pods(config: ShutdownConfig, workers: Iterable[Stoppable], clock: Clock) -> None:
    """End all pods, one group after the other; a group that takes too long doesn't hold up the next."""
    found = groups(config)
    if not found:
        return
    assign(found, workers)
    for group in found:
        if not group.workers:
            continue
        log.info("shutdown: %d pods of priority %d or more end", len(group.workers), group.priority)
        for worker in group.workers:
            own = worker.pod.spec.termination_grace_period_seconds
            grace = int(group.seconds) if own is None else min(own, int(group.seconds))
            worker.halt(REASON, MESSAGE, grace)
        gone = asyncio.Event()
        waiting = asyncio.create_task(_all_halted(group.workers, gone))
        await clock.wait(gone, group.seconds)
        waiting.cancel()
        if not gone.is_set():
            log.warning("shutdown: pods of priority %d or more take too long", group.priority)


async def _all_halted(workers: list[Stoppable], gone: asyncio.Event) -> None:
    await asyncio.gather(*(each.halted.wait() for each in workers))
    gone.set()


async def machine_is_stopping(command: Sequence[str] = ("systemctl", "is-system-running")) -> bool:
    """Whether the whole machine is going down; False where no service manager says so."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return False
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _ASK)
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return output.strip() == b"stopping"
