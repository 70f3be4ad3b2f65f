"""What happens without being asked for: exits, a pause that died, a monitor that died."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal

import msgspec

from minikubelet.base.clock import now_ns
from minikubelet.linux.cgroup import core
from minikubelet.runtime.context import Context
from minikubelet.runtime.events import EventKind
from minikubelet.runtime.models import Container, Sandbox
from minikubelet.runtime.security import read_regular
from minikubelet.wire.messages import ContainerExited, Event, ExecExited, ExitStatus, SandboxExited

log = logging.getLogger(__name__)

LOST_EXIT_CODE = 128 + signal.SIGKILL
"""Of a container whose monitor is gone: it was killed, whoever did it."""
START_ERROR_EXIT_CODE = 128
"""Of a container that could not be started; containerd's number."""

_exit_status = msgspec.json.Decoder(ExitStatus)


def on_event(context: Context, sandbox: Sandbox, event: Event) -> None:
    """Take note of what a monitor tells."""
    if isinstance(event, ContainerExited):
        container = sandbox.containers.get(event.container_id)
        if container is None:
            return
        if container.starting:
            container.early_exit = event.status  # the reply to StartContainer is still on its way
        else:
            record_exit(context, container, event.status)
    elif isinstance(event, ExecExited):
        future = context.execs.pop(event.exec_id, None)
        if future is not None and not future.done():
            future.set_result(event.status)
    elif isinstance(event, SandboxExited) and not sandbox.status.stopped_at:
        log.warning("the pause process of pod sandbox %s has ended", sandbox.id)
        record_not_ready(context, sandbox, "the pause process has ended")


def record_exit(context: Context, container: Container, status: ExitStatus) -> None:
    """Store a container's end, once, and tell about it."""
    if container.status.finished_at:
        return
    own = container.status
    own.finished_at = status.finished_at or now_ns()
    own.exit_code = status.exit_code
    own.reason = _reason(status)
    own.message = status.message
    own.pid = 0
    own.start_ticks = 0
    context.store.settle(container)
    container.exited.set()
    log.debug("container %s has ended with code %d", container.id, status.exit_code)
    context.events.publish(EventKind.STOPPED, container.sandbox, container)
    if context.plugins.active:
        context.background(context.plugins.stop_container(container))


def _reason(status: ExitStatus) -> str:
    if status.oom_killed:
        return "OOMKilled"
    return "Completed" if status.exit_code == 0 else "Error"


def record_start_error(context: Context, container: Container, message: str) -> None:
    """A container that could not be started has ended all the same (as containerd has it)."""
    own = container.status
    own.started_at = own.pid = own.start_ticks = 0
    own.finished_at = now_ns()
    own.exit_code = START_ERROR_EXIT_CODE
    own.reason = "StartError"
    own.message = message
    context.store.settle(container)
    container.exited.set()
    context.events.publish(EventKind.STOPPED, container.sandbox, container)
    if context.plugins.active:
        context.background(context.plugins.stop_container(container))


def record_not_ready(context: Context, sandbox: Sandbox, message: str = "") -> None:
    """The sandbox is no longer ready, from now on."""
    if sandbox.status.stopped_at:
        return
    sandbox.status.stopped_at = now_ns()
    sandbox.status.message = message
    sandbox.status.pid = 0
    sandbox.status.start_ticks = 0
    context.store.settle(sandbox)
    context.events.publish(EventKind.STOPPED, sandbox)


def on_monitor_gone(context: Context, sandbox: Sandbox) -> None:
    """The monitor has died: nobody holds the containers' output any more, so they end, too."""
    sandbox.monitor = None
    if sandbox.id not in context.sandboxes or not sandbox.status.ready_at:
        return
    log.error("the monitor of pod sandbox %s has ended", sandbox.id)
    lose(context, sandbox, "the pod's monitor has ended")


def lose(context: Context, sandbox: Sandbox, why: str) -> None:
    """Kill what is left of a pod without a monitor; keep the exits that the monitor wrote down."""
    for container in sandbox.containers.values():
        kill_cgroup(context, container.cgroup)
    kill_cgroup(context, sandbox_cgroup(sandbox))
    for container in sandbox.containers.values():
        if container.status.started_at and not container.status.finished_at:
            status = read_exit(context, container) or ExitStatus(
                exit_code=LOST_EXIT_CODE, signal=signal.SIGKILL, message=why
            )
            record_exit(context, container, status)
    record_not_ready(context, sandbox, why)


def sandbox_cgroup(sandbox: Sandbox) -> str:
    """Pause's own cgroup."""
    return f"{sandbox.cgroup}/{sandbox.id}"


def kill_cgroup(context: Context, path: str) -> None:
    """SIGKILL for everything in a cgroup, gone or not."""
    with contextlib.suppress(OSError):
        core.kill(context.cgroups.path + path)


def remove_cgroups(context: Context, sandbox: Sandbox) -> None:
    """Remove what a pod's monitor could not (it has died) and parents nobody else asked for."""
    for container in sandbox.containers.values():
        remove_cgroup(context, container.cgroup)
    remove_cgroup(context, sandbox_cgroup(sandbox))
    remove_parents(context, sandbox)


def remove_cgroup(context: Context, path: str) -> None:
    """Remove one cgroup with what is below it, if nothing lives there."""
    with contextlib.suppress(OSError):
        core.remove(context.cgroups.path + path)


def remove_parents(context: Context, sandbox: Sandbox) -> None:
    """Remove the cgroups that were made to put the pod in, unless something else lives there now."""
    for path in reversed(sandbox.made_cgroups):
        with contextlib.suppress(OSError):
            os.rmdir(context.cgroups.path + path)


def read_exit(context: Context, container: Container) -> ExitStatus | None:
    """What the monitor wrote down about a container's end, None when it wrote nothing."""
    path = f"{context.run_dir(container.sandbox.id)}/exits/{container.id}"
    try:
        return _exit_status.decode(read_regular(path, 1 << 16))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.MsgspecError) as exc:
        log.error("%s can't be read: %s", path, exc)
        return None


def watch(context: Context, sandbox: Sandbox) -> tuple[functools.partial[None], functools.partial[None]]:
    """The callbacks (event, gone) of a sandbox's monitor."""
    return (
        functools.partial(on_event, context, sandbox),
        functools.partial(on_monitor_gone, context, sandbox),
    )
