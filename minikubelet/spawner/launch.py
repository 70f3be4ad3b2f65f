"""A child on its way from clone(2) to execve(2), seen from the monitor, which never waits for it."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable

import msgspec

from minikubelet.base.errors import StepError
from minikubelet.linux import clone, namespaces, prctl
from minikubelet.linux.users import Credentials
from minikubelet.spawner.loop import Loop
from minikubelet.spawner.steps.base import Scene, Step
from minikubelet.wire.channel import descriptors
from minikubelet.wire.messages import Failure, ResolvedUser

_REPORT_SIZE = 65536
_ANCILLARY = socket.CMSG_SPACE(4)
_FAILED = 127
_encoder = msgspec.json.Encoder()
_user_decoder = msgspec.json.Decoder(Credentials)
_failure_decoder = msgspec.json.Decoder(Failure)


def resolved(user: Credentials) -> ResolvedUser:
    """Credentials as the daemon sees them."""
    return ResolvedUser(uid=user.uid, gid=user.gid, groups=list(user.groups))


class Birth:
    """How to make a child: its plan and scene, the namespaces it is born in.

    The plan is made by the child: what it touches of the interpreter's memory is then the child's copy, gone
    with execve(2), and not the monitor's for the life of the pod.
    """

    def __init__(self, plan: Callable[[], list[Step]], scene: Scene) -> None:
        self.plan = plan
        self.scene = scene
        self.new_namespaces = 0
        """CLONE_NEW* bits."""
        self.pid_namespace = -1
        """pidfd whose PID namespace the child is born in; -1: the monitor's, or a new one."""
        self.own_pid_namespace = -1
        """The monitor's own, to come back to."""


class Launch:
    """A child that has not yet become its program. ``on_done(launch)`` is called once.

    Then ``failure`` tells what went wrong, or is None and ``user`` is who the program runs as, ``master`` its
    terminal's master (-1 without), both now the caller's.
    """

    def __init__(self, loop: Loop, birth: Birth, on_done: Callable[[Launch], None]) -> None:
        self.user = Credentials(0, 0, (), "")
        self.master = -1
        self.failure: StepError | None = None
        self.done = False
        self._ready = False
        self._loop = loop
        self._on_done = on_done
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        birth.scene.report = theirs
        try:
            child = _born(birth)
        except OSError as exc:
            mine.close()
            raise StepError("clone the process", exc.errno or 0) from exc
        finally:
            theirs.close()
        self.pid = child.pid
        self.pidfd = child.pidfd
        self._channel = mine
        mine.setblocking(False)
        loop.watch(mine.fileno(), lambda _events: self.poll())

    def tell(self, word: bytes) -> None:
        """Send the child the word that a step of its plan waits for. Raises OSError."""
        self._channel.send(word)

    def poll(self) -> None:
        """Take in what the child has reported by now."""
        while not self.done:
            try:
                # Not socket.recv_fds(), which in CPython 3.11 takes flags and does nothing with them.
                received = self._channel.recvmsg(_REPORT_SIZE, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
                data, fds = received[0], descriptors(received[1])
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            if fds:
                self.master = fds[0]
            if data.startswith(b"ready"):
                self.user = _user_decoder.decode(data[5:])
                self._ready = True
            elif data.startswith(b"failed"):
                body = _failure_decoder.decode(data[6:])
                self.failure = StepError(body.step, body.number, body.path, body.detail)
            elif not data:
                self._finish()

    def _finish(self) -> None:
        """End of file: execve(2) has closed the child's end, or the child is gone."""
        self.done = True
        self._loop.forget(self._channel.fileno())
        self._channel.close()
        if not self._ready and self.failure is None:
            self.failure = StepError("set up the process", errno.ECHILD, detail="it was killed on the way")
        if self.failure is not None and self.master >= 0:
            os.close(self.master)
            self.master = -1
        self._on_done(self)


def _born(birth: Birth) -> clone.Child:
    """Clone; the child plays its plan and never returns."""
    scene = birth.scene
    if birth.pid_namespace >= 0:
        # For children made from now on only: the monitor itself stays where it is (setns(2), CLONE_NEWPID).
        namespaces.join(birth.pid_namespace, namespaces.CLONE_NEWPID)
    try:
        child = clone.fork(birth.new_namespaces, scene.cgroup)
        if child.pid == 0:
            _play(birth.plan, scene, child.in_cgroup)
    finally:
        if birth.pid_namespace >= 0:
            namespaces.join(birth.own_pid_namespace, namespaces.CLONE_NEWPID)
    return child


def _play(plan: Callable[[], list[Step]], scene: Scene, in_cgroup: bool) -> None:
    """The child's whole life before its program."""
    step: Step | None = None
    try:
        _prepare(scene, in_cgroup)
        for step in plan():
            step.execute(scene)
    except StepError as exc:
        _tell(scene, exc.step, exc.number, exc.path, exc.detail)
    except OSError as exc:
        _tell(scene, _name(step), exc.errno or 0, exc.filename, exc.strerror)
    except BaseException as exc:
        _tell(scene, _name(step), 0, None, f"{exc}" or type(exc).__name__)
    finally:
        os._exit(_FAILED)


def _name(step: Step | None) -> str:
    return "prepare the process" if step is None else step.describe()


def _prepare(scene: Scene, in_cgroup: bool) -> None:
    signal.set_wakeup_fd(-1)
    if scene.stdio is not None:
        for fd, given in enumerate(scene.stdio):
            os.dup2(given, fd)
    prctl.close_all_but([0, 1, 2, *scene.inherited()])
    os.umask(0)
    if not in_cgroup:
        fd = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=scene.cgroup)
        os.write(fd, b"0")
        os.close(fd)


def _tell(scene: Scene, step: str, number: int, path: object, detail: str | None) -> None:
    failure = Failure(step=step, number=number, path=_text(path))
    if detail and (not number or detail != os.strerror(number)):
        failure.detail = detail
    with contextlib.suppress(OSError):
        if scene.report is not None:
            os.write(scene.report.fileno(), b"failed" + _encoder.encode(failure))


def _text(path: object) -> str:
    if isinstance(path, bytes):
        return path.decode("utf-8", "replace")
    return path.encode("utf-8", "replace").decode() if isinstance(path, str) else ""
