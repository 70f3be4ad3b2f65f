"""The monitor: the process that owns a pod's children, streams and exits, whatever becomes of the daemon."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

from minikubelet.base.errors import StepError
from minikubelet.spawner.container import Container
from minikubelet.spawner.execs import Exec
from minikubelet.spawner.host import Host
from minikubelet.spawner.notes import note_exception
from minikubelet.spawner.peers import Peer, close_all
from minikubelet.spawner.pod import SOCKET, Answer, Pod, done, failure_of
from minikubelet.spawner.sandbox import Sandbox
from minikubelet.wire import messages
from minikubelet.wire.messages import AnyMessage, Done, Message, Reply

_LAST_WORDS = 1.0
_RETRY = 0.005
_QUICK = 20
_RETRIES = 400


class Monitor:
    """Serves the requests of ``wire.messages`` on its control socket and on ``monitor.sock``.

    There is one, made in the spawner before it serves: all forks have it in common, and what a monitor finds
    made costs it no memory. Its sockets are places, which :meth:`fit` fills for the next fork: so nothing is
    made there but descriptors, in either process.
    """

    def __init__(self, host: Host) -> None:
        self._pod = Pod(host, self._tell)
        self._sandbox = Sandbox(self._pod)
        self._containers: dict[str, Container] = {}
        self._execs: dict[str, Exec] = {}
        self._peers: list[Peer] = []
        self._when_ended: list[Callable[[], None]] = []
        self._handlers: dict[type, Callable[[Any, list[int], Answer], None]] = {
            messages.StartSandbox: self._start_sandbox,
            messages.StartContainer: self._start_container,
            messages.SignalContainer: self._signal_container,
            messages.RemoveContainer: self._remove_container,
            messages.StartExec: self._start_exec,
            messages.KillExec: self._kill_exec,
            messages.AttachContainer: self._attach,
            messages.ResizeTty: self._resize,
            messages.ReopenLog: self._reopen_log,
            messages.GetState: self._get_state,
            messages.GetNetwork: self._get_network,
            messages.StopSandbox: self._stop_sandbox,
            messages.Shutdown: self._shutdown,
        }
        self._listener, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        self._pod.on_end = self._check_ended
        self._pod.loop.watch(self._listener.fileno(), self._on_connection)
        self._add_peer(control).subscribed = True
        self._places = (control.fileno(), self._listener.fileno())

    def fit(self, control: int, listener: int) -> None:
        """Fill the places, before a fork: the sockets must not block."""
        for fd, place in zip((control, listener), self._places, strict=True):
            os.dup2(fd, place, inheritable=False)
        self._pod.children.renew()
        self._pod.loop.renew()

    def clear(self) -> None:
        """Empty the places of the sockets, after the fork: they are the monitor's alone."""
        for place in self._places:
            os.dup2(self._pod.host.null, place, inheritable=False)

    def descriptors(self) -> list[int]:
        """What it needs, beside the host's."""
        return [*self._pod.loop.descriptors(), self._pod.children.writer]

    def run(self, sandbox_id: str, run_dir: str) -> None:
        """Serve one pod until Shutdown, in a process that does nothing else."""
        self._pod.sandbox_id = sandbox_id
        self._pod.run_dir = run_dir
        self._pod.children.start()
        self._pod.loop.run()

    # --- connections ---------------------------------------------------------------------------------

    def _on_connection(self, _events: int) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = self._listener.accept()
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            if struct.unpack("3i", credentials)[1] != os.geteuid():
                sock.close()
                return
            self._add_peer(sock)

    def _add_peer(self, sock: socket.socket) -> Peer:
        peer = Peer(self._pod.loop, sock, self._on_message, self._peers.remove)
        self._peers.append(peer)
        return peer

    def _tell(self, event: Message) -> None:
        self._prune()
        for peer in list(self._peers):
            if peer.subscribed:
                peer.send(event)

    def _on_message(self, peer: Peer, message: AnyMessage, fds: list[int]) -> None:
        try:
            handler = self._handlers.get(type(message))
            number = getattr(message, "id", None)
            if handler is None or number is None:
                print(f"ignoring {type(message).__name__}", file=sys.stderr)
                return
            if isinstance(message, messages.GetState):
                peer.subscribed = True
            self._serve(handler, message, fds, _answer(peer, number))
        finally:
            for fd in fds:
                os.close(fd)

    @staticmethod
    def _serve(
        handler: Callable[[Any, list[int], Answer], None], message: AnyMessage, fds: list[int], answer: Answer
    ) -> None:
        """Whatever goes wrong in one request is that request's failure, never the monitor's end."""
        try:
            handler(message, fds, answer)
        except Exception as exc:
            if not isinstance(exc, StepError | OSError):
                note_exception(exc)
            answer(failure_of(exc, type(message).__name__), ())

    # --- requests ------------------------------------------------------------------------------------

    def _start_sandbox(self, request: messages.StartSandbox, _fds: list[int], answer: Answer) -> None:
        self._sandbox.start(request, answer)

    def _start_container(self, request: messages.StartContainer, _fds: list[int], answer: Answer) -> None:
        known = self._containers.get(request.container_id)
        if known is not None and (known.started_at or not known.ended):
            raise StepError(
                "start the container", errno.EEXIST, request.container_id, "it has been started before"
            )
        if self._sandbox.ended:
            raise StepError("start the container", errno.ESRCH, detail="the sandbox is not running")
        container = Container(self._pod, request)
        target = self._pid_target(request.pid_namespace)
        container.start(self._sandbox, target, answer)
        self._containers[container.id] = container

    def _pid_target(self, mode: str) -> int:
        if mode in ("container", "node"):
            return -1
        if mode == "pod":
            return self._sandbox.pidfd
        kind, _, name = mode.partition(":")
        if kind != "target":
            raise StepError("start the container", errno.EINVAL, detail=f"unknown PID namespace {mode!r}")
        return self._running(name).pidfd

    def _signal_container(self, request: messages.SignalContainer, _fds: list[int], answer: Answer) -> None:
        container = self._containers.get(request.container_id)
        if container is not None:
            container.signal(request.signal, request.all)
        done(answer)

    def _remove_container(self, request: messages.RemoveContainer, _fds: list[int], answer: Answer) -> None:
        container = self._containers.get(request.container_id)
        if container is not None:
            container.forget()
            del self._containers[request.container_id]
        done(answer)

    def _start_exec(self, request: messages.StartExec, fds: list[int], answer: Answer) -> None:
        self._prune()
        if request.exec_id in self._execs:
            raise StepError("exec", errno.EEXIST, request.exec_id, "there is an exec of this ID")
        new = Exec(self._pod, self._running(request.container_id), request)
        new.start(fds, answer)
        self._execs[new.id] = new

    def _kill_exec(self, request: messages.KillExec, _fds: list[int], answer: Answer) -> None:
        known = self._execs.get(request.exec_id)
        if known is not None:
            known.kill()
        done(answer)

    def _attach(self, request: messages.AttachContainer, _fds: list[int], answer: Answer) -> None:
        streams = self._running(request.container_id).streams
        if streams is None:
            raise StepError("attach", errno.ESRCH, request.container_id, "it has no streams")
        names, fds = streams.attach(request.stdin, request.stdout, request.stderr)
        answer(messages.Attached(fds=names), fds)

    def _resize(self, request: messages.ResizeTty, _fds: list[int], answer: Answer) -> None:
        running = self._execs.get(request.target_id)
        if running is not None:
            running.resize(request.width, request.height)
        else:
            streams = self._running(request.target_id).streams
            if streams is not None:
                streams.resize(request.width, request.height)
        done(answer)

    def _reopen_log(self, request: messages.ReopenLog, _fds: list[int], answer: Answer) -> None:
        container = self._containers.get(request.container_id)
        if container is None:
            raise StepError("reopen the log", errno.ESRCH, request.container_id, "no such container")
        container.reopen_log()
        done(answer)

    def _get_state(self, _request: messages.GetState, _fds: list[int], answer: Answer) -> None:
        self._prune()
        body = messages.State(
            protocol=messages.PROTOCOL_VERSION,
            sandbox_id=self._pod.sandbox_id,
            pid=self._sandbox.pid,
            start_ticks=self._sandbox.start_ticks,
            sandbox_exit=self._sandbox.exit,
            containers=[c.report() for c in self._containers.values() if c.started_at],
            execs=[e.report() for e in self._execs.values()],
        )
        answer(body, ())

    def _get_network(self, _request: messages.GetNetwork, _fds: list[int], answer: Answer) -> None:
        answer(Done(), self._sandbox.network())

    def _running(self, container_id: str) -> Container:
        container = self._containers.get(container_id)
        if container is None or not container.running:
            state = "has ended" if container is not None and container.exit else "is not running"
            raise StepError("find the container", errno.ESRCH, container_id, f"the container {state}")
        return container

    def _prune(self) -> None:
        for known in [e for e in self._execs.values() if e.reaped and e.forgettable()]:
            del self._execs[known.id]

    # --- the end -------------------------------------------------------------------------------------

    def _stop_sandbox(self, _request: messages.StopSandbox, _fds: list[int], answer: Answer) -> None:
        self._stop_all(lambda: done(answer))

    def _stop_all(self, then: Callable[[], None]) -> None:
        for running in self._execs.values():
            running.kill()
        for container in self._containers.values():
            container.signal(9, everyone=True)
        self._sandbox.stop()
        self._when_ended.append(then)
        self._check_ended()

    def _check_ended(self) -> None:
        """Go on with what waits for the end of all processes."""
        if not self._when_ended or not self._sandbox.ended:
            return
        if any(not c.ended for c in self._containers.values()) or any(
            not e.reaped for e in self._execs.values()
        ):
            return
        waiting, self._when_ended = self._when_ended, []
        for then in waiting:
            then()

    def _shutdown(self, _request: messages.Shutdown, _fds: list[int], answer: Answer) -> None:
        self._stop_all(lambda: self._leave(answer, 0))

    def _leave(self, answer: Answer, attempt: int) -> None:
        stuck = next((c.cgroup.folder for c in self._containers.values() if not c.cgroup.remove()), "")
        stuck = stuck or self._sandbox.remove_cgroups()
        if stuck and attempt < _RETRIES:
            pause = _RETRY if attempt > _QUICK else _RETRY / 10
            self._pod.loop.call_later(pause, lambda: self._leave(answer, attempt + 1))
            return
        if stuck:
            failure = StepError("remove the cgroup", errno.EBUSY, stuck)
            answer(failure_of(failure, failure.step), ())
            return
        self._listener.close()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self._pod.run_dir}/{SOCKET}")
        done(answer)
        for peer in list(self._peers):
            peer.flush_blocking(_LAST_WORDS)
        self._pod.loop.stop()


def _answer(peer: Peer, number: int) -> Answer:
    answered = False

    def answer(body: Message, fds: Sequence[int]) -> None:
        nonlocal answered
        if answered:  # a request that failed at once and whose child then failed, too
            close_all(fds)
            return
        answered = True
        peer.send(Reply(id=number, body=body), fds)  # type: ignore[arg-type]

    return answer
