"""StartContainer: the monitor makes cgroup, namespaces, mounts and executes the program."""

from __future__ import annotations

import asyncio
import logging
import signal

from minikubelet.base.clock import now_ns
from minikubelet.base.errors import NodeError, precondition
from minikubelet.runtime import container_spec, restore
from minikubelet.runtime.context import Context
from minikubelet.runtime.events import EventKind
from minikubelet.runtime.lifecycle import record_exit, record_start_error
from minikubelet.runtime.models import Container, ContainerState
from minikubelet.runtime.monitor_client import MonitorClient
from minikubelet.wire.messages import ContainerStarted

log = logging.getLogger(__name__)

_UNDO_WAIT = 10.0


async def start_container(context: Context, identifier: str) -> None:
    """Start a created container. One that can't be started ends with reason StartError."""
    container = context.container(identifier)
    sandbox = container.sandbox
    async with sandbox.lock:
        if container.id not in context.containers:
            context.container(container.id)  # raises NOT_FOUND
        if container.state is not ContainerState.CREATED:
            raise precondition(f"container {container.id} is in state {container.state.value}")
        monitor = context.ready(sandbox)
        try:
            container_spec.check_target(container.config, sandbox)
            request = container_spec.start_request(container, context.places(container), context.enforcement)
            if context.plugins.active:
                await context.plugins.start_container(container)
                request = container_spec.start_request(
                    container, context.places(container), context.enforcement
                )
            container.starting = True
            started = await monitor.start_container(request)
        except asyncio.CancelledError:
            await _undo(container, monitor)
            raise
        except NodeError as exc:
            failure = restore.explained(context, container, exc)
            record_start_error(context, container, str(failure))
            raise failure from exc
        finally:
            container.starting = False
        _record(context, container, started)
        restore.forget_images(context, container)
        if context.plugins.active:
            await context.plugins.container_started(container)


def _record(context: Context, container: Container, started: ContainerStarted) -> None:
    status = container.status
    status.started_at = started.started_at or now_ns()
    status.pid = started.pid
    status.start_ticks = started.start_ticks
    status.user = started.user
    early, container.early_exit = container.early_exit, None
    if early is None:
        context.store.settle(container)
    context.events.publish(EventKind.STARTED, container.sandbox, container)
    if early is not None:
        record_exit(context, container, early)


async def _undo(container: Container, monitor: MonitorClient) -> None:
    """The caller has gone: the container must be as created again, so that a retry can start it."""
    try:
        await monitor.signal_container(container.id, signal.SIGKILL, everything=True)
        for _ in range(int(_UNDO_WAIT / 0.02)):
            if container.early_exit is not None:
                break
            try:
                await monitor.remove_container(container.id)
                break
            except NodeError:
                await asyncio.sleep(0.02)
        else:
            log.warning("container %s: the start was cancelled, but it has not ended", container.id)
        await monitor.remove_container(container.id)
    except NodeError as exc:
        log.warning("container %s: the cancelled start can't be undone: %s", container.id, exc)
    container.early_exit = None
