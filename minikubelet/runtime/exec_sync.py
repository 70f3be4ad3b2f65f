"""ExecSync: run a program in a container, collect what it writes, bounded in size and time."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import Any

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.base.ids import new_id
from minikubelet.runtime import checks, container_spec
from minikubelet.runtime.context import Context
from minikubelet.runtime.models import Container
from minikubelet.runtime.monitor_client import MonitorClient
from minikubelet.wire.messages import ExitStatus, Process

OUTPUT_LIMIT = 16 << 20
"""Bytes kept of each stream; what comes after is read and dropped (CRI ExecSyncResponse)."""
LINGER = 0.5
"""Seconds to wait for the end of the output after the program's: a child may hold the pipe."""
_KILL_WAIT = 5.0
_CHUNK = 65536


@dataclass(frozen=True)
class ExecResult:
    """What the program wrote and how it ended."""

    stdout: bytes
    stderr: bytes
    exit_code: int


class _Sink:
    """Reads a pipe on the event loop up to its end."""

    def __init__(self, fd: int) -> None:
        self.data = bytearray()
        self.ended = asyncio.get_running_loop().create_future()
        self._fd = fd
        os.set_blocking(fd, False)
        asyncio.get_running_loop().add_reader(fd, self._readable)

    def _readable(self) -> None:
        for _ in range(16):  # others want the loop, too
            try:
                chunk = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                return
            except OSError:
                chunk = b""
            if not chunk:
                self.close()
                return
            room = OUTPUT_LIMIT - len(self.data)
            if room > 0:
                self.data += chunk[:room]

    def close(self) -> None:
        if self._fd < 0:
            return
        asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        if not self.ended.done():
            self.ended.set_result(None)


async def exec_sync(context: Context, identifier: str, command: tuple[str, ...], timeout: int) -> ExecResult:
    """Run ``command`` with the container's own credentials; ``timeout`` seconds, 0: none.

    Raises DEADLINE_EXCEEDED after killing the program with all it started, StepError (not found, not
    executable), NOT_FOUND, FAILED_PRECONDITION, INVALID_ARGUMENT.
    """
    if timeout < 0:
        raise invalid("timeout", f"{timeout} is negative")
    container, monitor = context.running(identifier)
    process = exec_process(container, command)
    exec_id = new_id()[:32]
    ended: asyncio.Future[ExitStatus] = asyncio.get_running_loop().create_future()
    sinks, theirs = _pipes()
    context.execs[exec_id] = ended
    try:
        try:
            answer = monitor.begin_exec(exec_id, container.id, process, theirs)
        finally:
            for fd in theirs:
                os.close(fd)
        await answer
        status = await _wait(container, ended, timeout)
        if status is None:
            await _kill(monitor, exec_id, ended)
            raise NodeError(Code.DEADLINE_EXCEEDED, f"command {command[0]!r} timed out after {timeout} s")
        await _drain(sinks)
        return ExecResult(bytes(sinks[0].data), bytes(sinks[1].data), status.exit_code)
    except asyncio.CancelledError:
        await _kill(monitor, exec_id, ended)
        raise
    finally:
        context.execs.pop(exec_id, None)
        for sink in sinks:
            sink.close()


def exec_process(
    container: Container,
    command: tuple[str, ...],
    *,
    tty: bool = False,
    stdin: bool = False,
) -> Process:
    """The container's process with another command. Raises INVALID_ARGUMENT, NOT_FOUND."""
    if not command or not command[0]:
        raise invalid("cmd", "is empty")
    checks.no_nul("cmd", command)
    process = container.exec_template
    if process is None:
        process = container_spec.process(container)
        container.exec_template = process
    return Process(
        args=[text.encode("utf-8", "surrogateescape") for text in command],
        env=[*process.env, b"TERM=xterm"] if tty and not container.config.tty else process.env,
        cwd=process.cwd,
        user=process.user,
        tty=tty,
        stdin=stdin,
        capabilities=process.capabilities,
        no_new_privs=process.no_new_privs,
        seccomp=process.seccomp,
        apparmor=process.apparmor,
        selinux=process.selinux,
        rlimits=process.rlimits,
        oom_score_adj=process.oom_score_adj,
        scheduler=process.scheduler,
        io_priority=process.io_priority,
    )


def _pipes() -> tuple[list[_Sink], list[int]]:
    fds = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)]
    try:
        for _ in range(2):
            fds += os.pipe2(os.O_CLOEXEC)
    except OSError:  # no descriptors are left: the fewer stay open now
        for fd in fds:
            os.close(fd)
        raise
    null, out_ours, out_theirs, err_ours, err_theirs = fds
    return [_Sink(out_ours), _Sink(err_ours)], [null, out_theirs, err_theirs]


async def _wait(container: Container, ended: asyncio.Future[ExitStatus], timeout: int) -> ExitStatus | None:
    """The program's end, None at the time-out. A container that ends takes its execs along."""
    gone = asyncio.ensure_future(container.exited.wait())
    either: set[asyncio.Future[Any]] = {ended, gone}
    try:
        await asyncio.wait(either, timeout=timeout or None, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done() and gone.done():
            await asyncio.wait({ended}, timeout=LINGER)
            if not ended.done():
                return ExitStatus(exit_code=137, signal=9)
    finally:
        gone.cancel()
    return ended.result() if ended.done() else None


async def _kill(monitor: MonitorClient, exec_id: str, ended: asyncio.Future[ExitStatus]) -> None:
    try:
        await monitor.kill_exec(exec_id)
        await asyncio.wait({ended}, timeout=_KILL_WAIT)
    except NodeError:
        pass  # the monitor has gone, and everything with it


async def _drain(sinks: list[_Sink]) -> None:
    waiting = [sink.ended for sink in sinks if not sink.ended.done()]
    if waiting:
        await asyncio.wait(waiting, timeout=LINGER)
