"""StopPodSandbox: everything in the pod ends, its network is given back; the record stays."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from minikubelet.base.errors import Code, NodeError, StepError
from minikubelet.runtime.context import Context
from minikubelet.runtime.lifecycle import LOST_EXIT_CODE, lose, read_exit, record_exit, record_not_ready
from minikubelet.runtime.models import Sandbox
from minikubelet.runtime.peer import PeerGone
from minikubelet.wire.messages import ExitStatus

log = logging.getLogger(__name__)

_STOP_WAIT = 60.0
"""Seconds for killed processes to be gone: the kernel ends a process only once it can."""
_EXIT_WAIT = 10.0
"""Seconds for the events that follow StopSandbox; they are on their way when it is answered."""


async def stop_sandbox(context: Context, identifier: str) -> None:
    """Stop a sandbox; an unknown or stopped one is fine (CRI: idempotent)."""
    sandbox = context.find_sandbox(identifier)
    if sandbox is None:
        return
    async with sandbox.lock:
        if sandbox.id in context.sandboxes:
            await stop_locked(context, sandbox)


async def stop_locked(context: Context, sandbox: Sandbox) -> None:
    """Stop it; the caller holds its lock. A repetition finishes what a cancelled call began."""
    netns = await _namespace(context, sandbox)
    try:
        await _stop(context, sandbox, netns)
    finally:
        if netns >= 0:
            os.close(netns)


async def _stop(context: Context, sandbox: Sandbox, netns: int) -> None:
    monitor = sandbox.monitor
    if monitor is not None and not monitor.gone:
        try:
            await asyncio.wait_for(monitor.stop_sandbox(), _STOP_WAIT)
        except PeerGone:
            pass  # its end is handled like any monitor's
        except StepError as exc:
            log.warning("stopping pod sandbox %s: %s", sandbox.id, exc)
            raise
        except TimeoutError:
            text = f"pod sandbox {sandbox.id} was killed but has not ended within {_STOP_WAIT:.0f} s"
            raise NodeError(Code.DEADLINE_EXCEEDED, text) from None
        await _wait_for_exits(context, sandbox)
    elif not sandbox.status.stopped_at:
        lose(context, sandbox, "the pod's monitor has ended")
    if context.plugins.active and not sandbox.status.released:
        await context.plugins.stop_sandbox(sandbox, netns)
    await release_network(context, sandbox, netns)
    record_not_ready(context, sandbox)


async def release_network(context: Context, sandbox: Sandbox, netns: int = -1) -> None:
    """Give the pod's address and ports back, once."""
    if not sandbox.status.released:
        await context.network.detach(sandbox.id, netns)
        sandbox.status.released = True
        if sandbox.status.stopped_at:  # else it is about to be recorded
            context.store.settle(sandbox)


async def detach(context: Context, sandbox: Sandbox) -> None:
    """Disconnect a pod whose monitor may still hold its network namespace."""
    netns = await _namespace(context, sandbox)
    try:
        await context.network.detach(sandbox.id, netns)
    finally:
        if netns >= 0:
            os.close(netns)


async def _namespace(context: Context, sandbox: Sandbox) -> int:
    """The pod's network namespace for who wants it at the pod's end; -1: gone, or no use for it.

    A network may need it to detach the pod, and plugins are shown it.
    """
    monitor = sandbox.monitor
    wanted = (context.network.needs_netns or context.plugins.active) and not sandbox.status.released
    if not wanted or sandbox.config.namespaces.network == "node" or monitor is None or monitor.gone:
        return -1
    try:
        netns, *others = await asyncio.wait_for(monitor.network(), _EXIT_WAIT)
    except (PeerGone, StepError, TimeoutError) as exc:
        log.debug("pod sandbox %s: no network namespace: %s", sandbox.id, exc)
        return -1
    for fd in others:
        os.close(fd)
    return int(netns)


async def _wait_for_exits(context: Context, sandbox: Sandbox) -> None:
    waiting = [
        container
        for container in sandbox.containers.values()
        if container.status.started_at and not container.status.finished_at
    ]
    for container in waiting:
        try:
            await asyncio.wait_for(container.exited.wait(), _EXIT_WAIT)
        except TimeoutError:
            log.warning("container %s: its end was not told, though its pod has stopped", container.id)
            killed = ExitStatus(exit_code=LOST_EXIT_CODE, signal=signal.SIGKILL)
            record_exit(context, container, read_exit(context, container) or killed)
