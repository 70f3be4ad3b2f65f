"""What the parts of one monitor share: loop, children, folders, and the way to tell the daemon."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from minikubelet.base.errors import StepError
from minikubelet.spawner.cgroups import Cgroup
from minikubelet.spawner.host import Host
from minikubelet.spawner.launch import Birth
from minikubelet.spawner.loop import ChildWatcher, Loop
from minikubelet.spawner.steps.base import Scene, Step
from minikubelet.wire.messages import Done, ExitStatus, Failure, Message

SOCKET = "monitor.sock"
EXITS = "exits"
Answer = Callable[[Message, Sequence[int]], None]
"""Answers a request: the reply's body and descriptors, which are closed when they have gone."""

_RETRY_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)


class Pod:
    """One pod's monitor, as its sandbox, containers and execs see it."""

    def __init__(self, host: Host, tell: Callable[[Message], None]) -> None:
        self.host = host
        self.sandbox_id = ""
        self.run_dir = ""
        self.loop = Loop()
        self.children = ChildWatcher(self.loop)
        self.tell = tell
        """Sends an event to every daemon connection that listens."""
        self.on_end: Callable[[], None] = _nothing
        """Called whenever a child's end has been dealt with."""

    def birth(self, plan: Callable[[], list[Step]]) -> Birth:
        """A birth with this machine's descriptors filled in."""
        scene = Scene(self.host.proc)
        scene.stdio = (self.host.null, self.host.null, self.host.null)
        birth = Birth(plan, scene)
        birth.own_pid_namespace = self.host.own_pid
        return birth

    def cgroup(self, path: str) -> Cgroup:
        """The cgroup at ``path`` below the machine's cgroup2 mount. Raises StepError."""
        return Cgroup(self.host.cgroup_mount, path)

    def remove_cgroup(self, cgroup: Cgroup, attempt: int = 0) -> None:
        """Remove a cgroup whose processes are just ending, trying again for a few seconds."""
        if not cgroup.remove() and attempt < len(_RETRY_SECONDS):
            self.loop.call_later(_RETRY_SECONDS[attempt], lambda: self.remove_cgroup(cgroup, attempt + 1))


def _nothing() -> None:
    pass


def failure_of(exc: BaseException, step: str) -> Failure:
    """The message for an error that ended a request."""
    if isinstance(exc, StepError):
        return Failure(step=exc.step, number=exc.number, path=exc.path, detail=exc.detail)
    if isinstance(exc, OSError):
        path = exc.filename
        text = os.fsdecode(path) if isinstance(path, str | bytes) else ""
        return Failure(step=step, number=exc.errno or 0, path=text, detail=_detail(exc))
    return Failure(step=step, detail=f"{type(exc).__name__}: {exc}")


def _detail(exc: OSError) -> str:
    usual = os.strerror(exc.errno) if exc.errno else ""
    return exc.strerror if exc.strerror and exc.strerror != usual else ""


def exit_status(wait_status: int, finished_at: int) -> ExitStatus:
    """What waitpid(2) said, in CRI's terms: 128 + signal when killed."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code < 0:
        return ExitStatus(exit_code=128 - code, signal=-code, finished_at=finished_at)
    return ExitStatus(exit_code=code, finished_at=finished_at)


def done(answer: Answer) -> None:
    """Answer without a result."""
    answer(Done(), ())
