"""What a daemon does first: take over the pods that an earlier one left, and undo what it left half made."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import stat

from minikubelet.base.errors import NodeError
from minikubelet.linux import pidfd
from minikubelet.runtime import checkpoint, lifecycle
from minikubelet.runtime.context import Context
from minikubelet.runtime.models import Container, Sandbox
from minikubelet.runtime.monitor_client import MonitorClient, connect
from minikubelet.wire.messages import ContainerReport, ExitStatus, State

log = logging.getLogger(__name__)

ANSWER_WAIT = 5.0
"""Seconds a monitor has to say what it knows."""
_AT_ONCE = 32


async def recover(context: Context) -> None:
    """Load every record and bring it in line with what runs. Never fails because of one pod."""
    for name in ("pods", "trash"):
        os.makedirs(f"{context.config.run}/{name}", 0o700, exist_ok=True)
    for name in ("containers", "trash"):
        os.makedirs(f"{context.config.root}/{name}", 0o711, exist_ok=True)
    sandboxes = context.store.load()
    for sandbox in sandboxes:
        _register(context, sandbox)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(sandbox: Sandbox) -> None:
        async with gate:
            try:
                await _recover(context, sandbox)
            except Exception:
                log.exception("pod sandbox %s can't be taken over", sandbox.id)
                lifecycle.record_not_ready(context, sandbox, "it could not be taken over after a restart")

    await asyncio.gather(*(one(sandbox) for sandbox in sandboxes))
    await _remove_strays(context)
    await context.network.collect(
        [sandbox.id for sandbox in context.sandboxes.values() if not sandbox.status.stopped_at]
    )


def _register(context: Context, sandbox: Sandbox) -> None:
    try:
        context.reserve(sandbox.config.metadata, sandbox.id).keep()
    except NodeError as exc:
        log.error("%s", exc)
    context.sandboxes[sandbox.id] = sandbox
    context.containers.update(sandbox.containers)


async def _recover(context: Context, sandbox: Sandbox) -> None:
    monitor = _connect(context, sandbox)
    if not sandbox.status.ready_at:
        await _undo(context, sandbox, monitor)
        return
    if monitor is None:
        _kill_monitor(sandbox)
        if not sandbox.status.stopped_at or _unfinished(sandbox):
            lifecycle.lose(context, sandbox, "the pod's monitor has ended")
        return
    state = await asyncio.wait_for(monitor.state(), ANSWER_WAIT)
    sandbox.monitor = monitor
    _adopt(context, sandbox, state)


def _connect(context: Context, sandbox: Sandbox) -> MonitorClient | None:
    on_event, on_gone = lifecycle.watch(context, sandbox)
    try:
        return connect(sandbox.id, context.run_dir(sandbox.id), on_event, on_gone)
    except OSError as exc:
        log.debug("no monitor answers for pod sandbox %s: %s", sandbox.id, exc)
        return None


def _kill_monitor(sandbox: Sandbox) -> None:
    """A monitor that lives but can't be reached (its folder is gone) holds the pod's namespaces for ever."""
    try:
        fd = pidfd.open_exact(sandbox.status.monitor_pid, sandbox.status.monitor_ticks)
    except OSError:
        return
    log.warning("the monitor of pod sandbox %s can't be reached and is killed", sandbox.id)
    pidfd.kill(fd)
    os.close(fd)


def _unfinished(sandbox: Sandbox) -> bool:
    return any(c.status.started_at and not c.status.finished_at for c in sandbox.containers.values())


async def _undo(context: Context, sandbox: Sandbox, monitor: MonitorClient | None) -> None:
    """RunPodSandbox was not finished: nobody got the ID."""
    log.info("pod sandbox %s was half made and is undone", sandbox.id)
    if monitor is not None:
        try:
            await asyncio.wait_for(monitor.shutdown(), ANSWER_WAIT)
        finally:
            monitor.close()
    for container in sandbox.containers.values():  # its record says less than was: it is damaged
        lifecycle.kill_cgroup(context, container.cgroup)
        del context.containers[container.id]  # its folder is a stray now
    lifecycle.kill_cgroup(context, lifecycle.sandbox_cgroup(sandbox))
    await context.network.detach(sandbox.id)
    lifecycle.remove_cgroups(context, sandbox)
    context.discard_run_dir(sandbox.id)
    context.store.delete_sandbox(sandbox.id)
    context.give_up_name(sandbox)
    del context.sandboxes[sandbox.id]


def _adopt(context: Context, sandbox: Sandbox, state: State) -> None:
    """What the monitor says is so."""
    if not state.pid and not sandbox.status.stopped_at:
        lifecycle.record_not_ready(context, sandbox, "the pause process ended while the daemon was away")
    known = {report.id: report for report in state.containers}
    for container in sandbox.containers.values():
        report = known.get(container.id)
        if report is not None:
            _adopt_container(context, container, report)
        elif container.status.started_at and not container.status.finished_at:
            status = lifecycle.read_exit(context, container) or ExitStatus(
                exit_code=lifecycle.LOST_EXIT_CODE,
                signal=signal.SIGKILL,
                message="its monitor does not know it",
            )
            lifecycle.record_exit(context, container, status)
    for report in state.containers:
        if report.id not in sandbox.containers and report.exit is None:
            log.warning("container %s of pod sandbox %s has no record and is killed", report.id, sandbox.id)
            lifecycle.kill_cgroup(context, f"{sandbox.cgroup}/{report.id}")


def _adopt_container(context: Context, container: Container, report: ContainerReport) -> None:
    status = container.status
    if status.finished_at:
        return
    if not status.started_at:  # the daemon died between the start and its record
        status.started_at = report.started_at
        status.user = report.user
        status.pid = report.pid
        status.start_ticks = report.start_ticks
        context.store.settle(container)
    if report.exit is not None:
        lifecycle.record_exit(context, container, report.exit)
    else:
        checkpoint.thaw(context, container)  # the daemon may have died while it was written down


async def _remove_strays(context: Context) -> None:
    """Folders, monitors and layers that no record knows: the daemon died while making or removing them."""
    runs = f"{context.config.run}/pods"
    for name in os.listdir(runs):
        if name not in context.sandboxes and _is_folder(f"{runs}/{name}"):
            await _remove_stray_pod(context, name)
    context.empty_trash()
    folder = f"{context.config.root}/containers"
    for name in os.listdir(folder):
        if name not in context.containers:
            context.discard(f"{folder}/{name}")
            context.images.release(name)


async def _remove_stray_pod(context: Context, sandbox_id: str) -> None:
    path = context.run_dir(sandbox_id)
    try:
        monitor = connect(sandbox_id, path, lambda event: None, lambda: None)
        try:
            await asyncio.wait_for(monitor.shutdown(), ANSWER_WAIT)
        finally:
            monitor.close()
    except (OSError, NodeError, TimeoutError) as exc:
        log.debug("run folder %s: %s", path, exc)
    log.info("removing what is left of pod sandbox %s", sandbox_id)
    context.discard_run_dir(sandbox_id)


def _is_folder(path: str) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)
