"""The spawner: executed at start, again whenever it has died, asked for one monitor a pod."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
from dataclasses import dataclass

import minikubelet
from minikubelet.base.clock import monotonic
from minikubelet.base.errors import Code, NodeError
from minikubelet.linux import pidfd
from minikubelet.linux.interpreter import protected_interpreter
from minikubelet.runtime.peer import Answer, Peer, PeerGone
from minikubelet.wire import messages as wire

log = logging.getLogger(__name__)

_ABANDON_WAIT = 5.0
_MODULE = "minikubelet.spawner"
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(minikubelet.__file__)))
# What `-m MODULE` does, but also from a checkout: -I leaves the current folder and PYTHONPATH out on purpose.
# msgspec does without typing_extensions where there is none; with all that it imports in turn, that is 1 MiB.
_BOOT = (
    "import sys; sys.path.append(sys.argv.pop(1)); sys.modules['typing_extensions'] = None; "
    f"from {_MODULE}.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


@dataclass
class Spawned:
    """A new monitor; descriptor and socket are the caller's."""

    pid: int
    start_ticks: int
    pidfd: int
    control: socket.socket


class SpawnerClient:
    """Keeps one spawner process running while there is work for it."""

    def __init__(self) -> None:
        self._peer: Peer | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = asyncio.Lock()

    @property
    def pid(self) -> int:
        """Of the spawner; 0 while it isn't running."""
        return self._process.pid if self._process and self._peer and not self._peer.gone else 0

    def start(self) -> None:
        """Execute the spawner; returns at once, requests wait until it serves. Raises OSError."""
        self._reap()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        binary = protected_interpreter()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, _PACKAGE_PARENT, "--fd", str(theirs.fileno())],
                executable=f"/proc/self/fd/{binary}",
                pass_fds=[theirs.fileno(), binary],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(binary)
        self._peer = Peer("spawner", ours, on_gone=self._on_gone)
        log.debug("spawner started as process %d", self._process.pid)

    async def spawn(self, sandbox_id: str, run_dir: str) -> Spawned:
        """Fork a monitor. A spawner that has died is started again, once. Raises StepError, NodeError."""
        for attempt in (1, 2):
            peer = await self._running()
            request = wire.SpawnMonitor(id=peer.next_id(), sandbox_id=sandbox_id, run_dir=run_dir)
            answer = peer.submit(request)
            try:
                body, fds = await asyncio.shield(answer)
            except PeerGone:
                if attempt == 2:
                    raise
                continue
            except asyncio.CancelledError:
                await _abandon(answer)
                raise
            return _spawned(body, fds)
        raise AssertionError("unreachable")

    async def _running(self) -> Peer:
        async with self._lock:
            if self._peer is None or self._peer.gone:
                try:
                    self.start()
                except OSError as exc:
                    raise NodeError(Code.UNAVAILABLE, f"the spawner can't be started: {exc}") from exc
        assert self._peer is not None
        return self._peer

    def _on_gone(self) -> None:
        self._reap()
        log.error("the spawner has ended%s; the next pod starts another", self._how())

    def _how(self) -> str:
        code = self._process.poll() if self._process else None
        return "" if code is None else f" with status {code}"

    def _reap(self) -> None:
        if self._process is None:
            return
        # Its socket is closed, so it is ending or hung; neither may be left behind as a zombie.
        started = monotonic()
        while self._process.poll() is None and monotonic() - started < 0.2:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """End the spawner (it ends when its socket is closed); monitors live on."""
        if self._peer is not None:
            self._peer.close()
            self._peer = None
        self._reap()


async def _abandon(answer: asyncio.Future[Answer]) -> None:
    """The caller has gone after the fork was asked for: end the monitor, it looks after nothing yet."""
    try:
        spawned = _spawned(*await asyncio.wait_for(answer, _ABANDON_WAIT))
    except (NodeError, TimeoutError):
        return
    pidfd.kill(spawned.pidfd)
    os.close(spawned.pidfd)
    spawned.control.close()


def _spawned(body: wire.Body, fds: list[int]) -> Spawned:
    if isinstance(body, wire.MonitorSpawned) and len(fds) == 2:
        return Spawned(body.pid, body.start_ticks, fds[0], socket.socket(fileno=fds[1]))
    for fd in fds:
        os.close(fd)
    raise NodeError(Code.INTERNAL, f"the spawner answered with {type(body).__name__}")
