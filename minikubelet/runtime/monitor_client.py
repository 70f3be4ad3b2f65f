"""A pod's monitor as seen from the daemon: one method a request."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import TypeVar

from minikubelet.base.errors import Code, NodeError
from minikubelet.runtime.peer import Answer, Peer, PeerGone, claim
from minikubelet.wire import messages as wire

SOCKET_NAME = "monitor.sock"
_T = TypeVar("_T")


class MonitorClient:
    """Typed requests to one monitor. All raise StepError (a failed step) and PeerGone (it has ended)."""

    def __init__(
        self,
        sandbox_id: str,
        sock: socket.socket,
        on_event: Callable[[wire.Event], None],
        on_gone: Callable[[], None],
    ) -> None:
        self.sandbox_id = sandbox_id
        self._peer = Peer(f"monitor of sandbox {sandbox_id[:13]}", sock, on_event, on_gone)

    @property
    def gone(self) -> bool:
        """Whether the monitor has ended (or :meth:`close` was called)."""
        return self._peer.gone

    def close(self) -> None:
        """Let go of the connection; the monitor lives on."""
        self._peer.close()

    async def state(self) -> wire.State:
        """What the monitor knows; also subscribes to its events."""
        body, fds = await self._peer.request(wire.GetState(id=self._peer.next_id()))
        return _expect(body, fds, wire.State)

    def begin_sandbox(
        self, request: wire.StartSandbox
    ) -> Coroutine[None, None, tuple[wire.SandboxStarted, list[int]]]:
        """Send now, await the result later; the descriptors (netns, netlink socket) are the caller's."""
        request.id = self._peer.next_id()
        return self._sandbox_started(self._peer.submit(request))

    async def _sandbox_started(self, answer: asyncio.Future[Answer]) -> tuple[wire.SandboxStarted, list[int]]:
        body, fds = await claim(answer)
        return _keep(body, fds, wire.SandboxStarted), fds

    async def start_container(self, request: wire.StartContainer) -> wire.ContainerStarted:
        """Start a container's init."""
        request.id = self._peer.next_id()
        body, fds = await self._peer.request(request)
        return _expect(body, fds, wire.ContainerStarted)

    async def signal_container(self, container_id: str, signal: int, everything: bool = False) -> None:
        """Signal the init, or kill the whole cgroup."""
        await self._done(
            wire.SignalContainer(
                id=self._peer.next_id(), container_id=container_id, signal=signal, all=everything
            )
        )

    async def remove_container(self, container_id: str) -> None:
        """Make the monitor forget an ended container."""
        await self._done(wire.RemoveContainer(id=self._peer.next_id(), container_id=container_id))

    def begin_exec(
        self, exec_id: str, container_id: str, process: wire.Process, fds: Sequence[int]
    ) -> Coroutine[None, None, tuple[wire.ContainerStarted, list[int]]]:
        """Run a program in a container; sent now: ``fds`` can be closed. With a tty: [its master]."""
        request = wire.StartExec(
            id=self._peer.next_id(), exec_id=exec_id, container_id=container_id, process=process
        )
        return self._exec_started(self._peer.submit(request, fds))

    async def _exec_started(self, answer: asyncio.Future[Answer]) -> tuple[wire.ContainerStarted, list[int]]:
        body, fds = await claim(answer)
        return _keep(body, fds, wire.ContainerStarted), fds

    async def kill_exec(self, exec_id: str) -> None:
        """Kill an exec with all its descendants."""
        await self._done(wire.KillExec(id=self._peer.next_id(), exec_id=exec_id))

    async def attach(self, container_id: str, *, stdin: bool, stdout: bool, stderr: bool) -> dict[str, int]:
        """Join a container's streams; descriptors by the names ``stdin``, ``stdout``, ``stderr``."""
        request = wire.AttachContainer(
            id=self._peer.next_id(), container_id=container_id, stdin=stdin, stdout=stdout, stderr=stderr
        )
        body, fds = await self._peer.request(request)
        names = _keep(body, fds, wire.Attached).fds
        return dict(zip(names, fds, strict=True))

    async def resize_tty(self, target_id: str, width: int, height: int) -> None:
        """Set a terminal's size, in characters."""
        await self._done(
            wire.ResizeTty(id=self._peer.next_id(), target_id=target_id, width=width, height=height)
        )

    async def reopen_log(self, container_id: str) -> None:
        """Close and reopen a container's log."""
        await self._done(wire.ReopenLog(id=self._peer.next_id(), container_id=container_id))

    async def network(self) -> list[int]:
        """[netns, netlink socket in it]; the caller's. Raises StepError ENOENT with host network."""
        _, fds = await self._peer.request(wire.GetNetwork(id=self._peer.next_id()))
        return fds

    async def stop_sandbox(self) -> None:
        """Kill everything in the pod and let go of its namespaces."""
        await self._done(wire.StopSandbox(id=self._peer.next_id()))

    async def shutdown(self) -> None:
        """Stop, remove the pod's cgroups, end the monitor. A monitor that has ended already is no error."""
        try:
            await self._done(wire.Shutdown(id=self._peer.next_id()))
        except PeerGone:
            pass

    async def _done(self, request: wire.Request) -> None:
        body, fds = await self._peer.request(request)
        _expect(body, fds, wire.Done)


def connect(
    sandbox_id: str, run_dir: str, on_event: Callable[[wire.Event], None], on_gone: Callable[[], None]
) -> MonitorClient:
    """Find the monitor that an earlier daemon left. Raises OSError when nobody listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # The folder by descriptor: a socket's address ends at 108 bytes, run_dir may be longer.
        folder = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sock.connect(f"/proc/self/fd/{folder}/{SOCKET_NAME}")
        finally:
            os.close(folder)
        return MonitorClient(sandbox_id, sock, on_event, on_gone)
    except BaseException:
        sock.close()
        raise


def _keep(body: wire.Body, fds: Sequence[int], kind: type[_T]) -> _T:
    return body if isinstance(body, kind) else _expect(body, fds, kind)


def _expect(body: wire.Body, fds: Sequence[int], kind: type[_T]) -> _T:
    for fd in fds:
        os.close(fd)
    if not isinstance(body, kind):
        raise NodeError(Code.INTERNAL, f"the monitor answered with {type(body).__name__}")
    return body
