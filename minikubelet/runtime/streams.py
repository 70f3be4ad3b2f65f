"""Open execs, attaches and connections into pods, for whoever carries the bytes to a person."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from minikubelet.base.errors import Code, NodeError, StepError, invalid
from minikubelet.base.ids import new_id
from minikubelet.runtime.context import Context
from minikubelet.runtime.dial import dial
from minikubelet.runtime.exec_sync import exec_process
from minikubelet.runtime.models import Container, Sandbox
from minikubelet.runtime.monitor_client import MonitorClient
from minikubelet.wire.messages import ExitStatus


@dataclass(frozen=True)
class Wanted:
    """Which streams a client asked for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool = False


@dataclass
class OpenStreams:
    """Descriptors (-1: absent) are the receiver's. With a terminal stdin and stdout are two of its master."""

    wait: Callable[[], Awaitable[int | None]]
    """The exit code; None for attach."""
    resize: Callable[[int, int], Awaitable[None]]
    """Width and height in characters."""
    cancel: Callable[[], Awaitable[None]]
    stdin: int = -1
    stdout: int = -1
    stderr: int = -1


def check_streams(wanted: Wanted) -> None:
    """CRI: at least one stream; a terminal has no separate stderr. Raises INVALID_ARGUMENT."""
    if wanted.tty and wanted.stderr:
        raise invalid("stderr", "a terminal has no stderr of its own")
    if not (wanted.stdin or wanted.stdout or wanted.stderr):
        raise invalid("stdin", "one of stdin, stdout and stderr must be set")


async def open_exec(
    context: Context, identifier: str, command: tuple[str, ...], wanted: Wanted
) -> OpenStreams:
    """Start a program whose streams are the caller's. Raises NodeError."""
    container, monitor = context.running(identifier)
    process = exec_process(container, command, tty=wanted.tty, stdin=wanted.stdin)
    exec_id = new_id()[:32]
    ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
    ours, theirs = ([-1, -1, -1], []) if wanted.tty else _pipes(wanted)
    context.execs[exec_id] = ended
    try:
        answer = monitor.begin_exec(exec_id, container.id, process, theirs)
        _close(theirs)
        theirs = []
        _, received = await answer
        if wanted.tty:
            ours[1] = received[0]
            ours[0] = os.dup(ours[1]) if wanted.stdin else -1
    except BaseException:
        context.execs.pop(exec_id, None)
        _close([*ours, *theirs])
        await _kill(context, monitor, exec_id)
        raise
    _make_non_blocking(ours)
    return OpenStreams(
        wait=lambda: _exit_code(context, container, exec_id, ended),
        resize=lambda width, height: monitor.resize_tty(exec_id, width, height),
        cancel=lambda: _kill(context, monitor, exec_id),
        stdin=ours[0],
        stdout=ours[1],
        stderr=ours[2],
    )


def _pipes(wanted: Wanted) -> tuple[list[int], list[int]]:
    """([stdin, stdout, stderr] of ours, the same of the program's)."""
    ours: list[int] = []
    theirs: list[int] = []
    try:
        for number, asked in enumerate((wanted.stdin, wanted.stdout, wanted.stderr)):
            if not asked:
                ours.append(-1)
                theirs.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
                continue
            read, write = os.pipe2(os.O_CLOEXEC)
            ours.append(write if number == 0 else read)
            theirs.append(read if number == 0 else write)
    except OSError:  # no descriptors are left: the fewer stay open now
        _close([*ours, *theirs])
        raise
    return ours, theirs


async def _exit_code(
    context: Context, container: Container, exec_id: str, ended: asyncio.Future[ExitStatus]
) -> int:
    gone = asyncio.ensure_future(container.exited.wait())
    either: set[asyncio.Future[Any]] = {ended, gone}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            await asyncio.wait({ended}, timeout=1.0)
    finally:
        gone.cancel()
        context.execs.pop(exec_id, None)
    return ended.result().exit_code if ended.done() else 137


async def _kill(context: Context, monitor: MonitorClient, exec_id: str) -> None:
    try:
        await monitor.kill_exec(exec_id)
    except NodeError:  # the monitor has gone, and everything with it: nobody will tell of the end
        context.execs.pop(exec_id, None)


async def open_attach(context: Context, identifier: str, wanted: Wanted) -> OpenStreams:
    """Join a running container's streams. Raises NodeError."""
    container, monitor = context.running(identifier)
    if wanted.stdin and not container.config.stdin:
        raise invalid("stdin", f"container {container.id} was made without stdin")
    fds = await monitor.attach(container.id, stdin=wanted.stdin, stdout=wanted.stdout, stderr=wanted.stderr)
    _make_non_blocking(fds.values())

    async def wait() -> None:
        await container.exited.wait()

    async def cancel() -> None:
        """The descriptors are all there is."""

    return OpenStreams(
        wait=wait,
        resize=lambda width, height: monitor.resize_tty(container.id, width, height),
        cancel=cancel,
        stdin=fds.get("stdin", -1),
        stdout=fds.get("stdout", -1),
        stderr=fds.get("stderr", -1),
    )


def _make_non_blocking(fds: Iterable[int]) -> None:
    """They are used on the event loop, where one blocking read would stop everything."""
    for fd in fds:
        if fd >= 0:
            os.set_blocking(fd, False)


def _close(fds: list[int]) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


# --- port-forward ------------------------------------------------------------------------------------


async def connect(context: Context, identifier: str, port: int) -> socket.socket:
    """A non-blocking TCP socket connected to ``localhost:port`` inside the pod. Raises NodeError."""
    if not 0 < port < 65536:
        raise invalid("port", f"{port} is no port")
    sandbox = context.sandbox(identifier)
    netns = await _network_namespace(context, sandbox)
    try:
        return await dial(netns, port)
    except OSError as exc:
        text = f"connecting to port {port} of pod sandbox {sandbox.id}: {exc.strerror or exc}"
        raise NodeError(Code.UNAVAILABLE, text) from exc
    finally:
        if netns >= 0:
            os.close(netns)


async def _network_namespace(context: Context, sandbox: Sandbox) -> int:
    """A descriptor of the pod's network namespace; -1 with the host's."""
    monitor = context.ready(sandbox)
    try:
        fds = await monitor.network()
    except StepError as exc:
        if exc.number == errno.ENOENT:
            return -1
        raise
    _close(fds[1:])
    return fds[0]
