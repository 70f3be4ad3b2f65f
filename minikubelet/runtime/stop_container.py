"""StopContainer: the stop signal, time to react, then SIGKILL for all of it."""

from __future__ import annotations

import asyncio
import signal

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.runtime import signals
from minikubelet.runtime.context import Context
from minikubelet.runtime.lifecycle import kill_cgroup
from minikubelet.runtime.models import Container, ContainerState
from minikubelet.runtime.monitor_client import MonitorClient
from minikubelet.runtime.peer import PeerGone

KILL_WAIT = 30.0
"""Seconds a killed container may take to be gone: the kernel ends a process only once it can."""
_LONGEST_GRACE = 10 * 365 * 86400


async def stop_container(context: Context, identifier: str, grace: int) -> None:
    """Stop a container within ``grace`` seconds (0: kill at once); a stopped or unknown one is fine.

    Raises DEADLINE_EXCEEDED when the kernel doesn't end it. The sandbox's lock is held for the signal only,
    not while waiting: other containers of the pod stop at the same time, and a less patient call is heard.
    """
    if grace < 0:
        raise invalid("timeout", f"{grace} is negative")
    container = context.find_container(identifier)
    if container is None:
        return
    if container.state is not ContainerState.RUNNING and not container.starting:
        return
    async with container.sandbox.lock:
        monitor = _monitor(container)
        if monitor is None:
            return
        if grace and not container.stop_sent:
            container.stop_sent = True
            await _signal(monitor, container, signals.number(container.stop_signal))
    if grace and await _ended(container, min(grace, _LONGEST_GRACE)):
        return
    await kill(context, container)


async def kill(context: Context, container: Container) -> None:
    """SIGKILL for everything in a container, and wait until it is gone."""
    monitor = _monitor(container)
    if monitor is None:
        return
    await _signal(monitor, container, signal.SIGKILL, everything=True)
    if await _ended(container, 5.0):
        return
    kill_cgroup(context, container.cgroup)
    if not await _ended(container, KILL_WAIT):
        raise NodeError(Code.DEADLINE_EXCEEDED, f"container {container.id} was killed but has not ended")


def _monitor(container: Container) -> MonitorClient | None:
    if container.state is not ContainerState.RUNNING:
        return None
    monitor: MonitorClient | None = container.sandbox.monitor
    return None if monitor is None or monitor.gone else monitor


async def _signal(
    monitor: MonitorClient, container: Container, number: int, everything: bool = False
) -> None:
    try:
        await monitor.signal_container(container.id, number, everything)
    except PeerGone:
        pass  # then it is being killed anyway


async def _ended(container: Container, seconds: float) -> bool:
    if container.exited.is_set():
        return True
    try:
        await asyncio.wait_for(container.exited.wait(), seconds)
    except TimeoutError:
        return False
    return True
