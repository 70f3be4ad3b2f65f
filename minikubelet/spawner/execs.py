"""A program run in a container by exec, in a cgroup of its own."""

from __future__ import annotations

import errno
import os

from minikubelet.base import clock
from minikubelet.base.errors import StepError
from minikubelet.linux import pidfd, tty
from minikubelet.spawner.cgroups import Cgroup
from minikubelet.spawner.container import Container
from minikubelet.spawner.launch import Launch, resolved
from minikubelet.spawner.pod import Answer, Pod, exit_status, failure_of
from minikubelet.spawner.steps.plans import exec_plan
from minikubelet.wire.messages import (
    ContainerReport,
    ContainerStarted,
    ExecExited,
    ExitStatus,
    ResolvedUser,
    StartExec,
)


class Exec:
    """One exec. Its streams are the daemon's; only a terminal's slave is kept, to resize it."""

    def __init__(self, pod: Pod, container: Container, request: StartExec) -> None:
        self.id = request.exec_id
        self.container = container
        self.exit: ExitStatus | None = None
        self.reaped = False
        self._pod = pod
        self._request = request
        self._cgroup: Cgroup | None = None
        self._launch: Launch | None = None
        self._answer: Answer | None = None
        self._pidfd = -1
        self._slave = -1
        self._started_at = 0
        self._start_ticks = 0

    def start(self, fds: list[int], answer: Answer) -> None:
        """Clone the program with ``fds`` as its 0, 1, 2. Raises StepError or OSError."""
        process = self._request.process
        known = self.container.credentials_of(process.user)
        machine, ids = self._pod.host.machine, self.container.ids
        birth = self._pod.birth(lambda: exec_plan(process, machine, known, ids is not None))
        birth.scene.ids = ids
        birth.scene.namespaces = self.container.pidfd
        birth.pid_namespace = -1 if self.container.host_pids else self.container.pidfd
        if not process.tty:
            if len(fds) != 3:
                raise StepError("exec", errno.EINVAL, detail="three descriptors are needed")
            birth.scene.stdio = (fds[0], fds[1], fds[2])
        self._answer = answer
        self._cgroup = self._own_cgroup()
        try:
            birth.scene.cgroup = (self._cgroup or self.container.cgroup).open()
            try:
                self._launch = Launch(self._pod.loop, birth, self._on_launched)
            finally:
                os.close(birth.scene.cgroup)
        except BaseException:
            self._remove_cgroup()
            raise
        self._pidfd = self._launch.pidfd
        self._pod.children.register(self._launch.pid, self._on_exit)

    def _own_cgroup(self) -> Cgroup | None:
        """A cgroup below the container's; None where the container's settings allow none (cgroup.max.*)."""
        cgroup = self.container.cgroup.child(f"exec-{self.id}")
        try:
            os.mkdir(cgroup.folder, 0o755)
        except OSError as exc:
            if exc.errno not in (errno.EAGAIN, errno.EOPNOTSUPP, errno.EBUSY):
                raise
            return None
        return cgroup

    def _remove_cgroup(self) -> None:
        if self._cgroup is not None:
            self._pod.remove_cgroup(self._cgroup)

    def _on_launched(self, launch: Launch) -> None:
        if launch.failure is not None:
            return
        self._started_at = clock.now_ns()
        self._start_ticks = pidfd.start_ticks(launch.pid)
        fds = []
        if launch.master >= 0:
            fds = [launch.master]
            self._slave = tty.open_slave(launch.master)
        body = ContainerStarted(
            pid=launch.pid,
            start_ticks=self._start_ticks,
            started_at=self._started_at,
            user=resolved(launch.user),
        )
        if self._answer is not None:
            answer, self._answer = self._answer, None
            answer(body, fds)

    def _on_exit(self, wait_status: int) -> None:
        if self._launch is None:
            return
        self._launch.poll()
        self.reaped = True
        self.exit = exit_status(wait_status, clock.now_ns())
        self._close()
        if self._launch.failure is not None:
            self._remove_cgroup()
            if self._answer is not None:
                self._answer(failure_of(self._launch.failure, "exec"), ())
        else:
            self._pod.tell(ExecExited(exec_id=self.id, status=self.exit))
        self._pod.on_end()

    def _close(self) -> None:
        for fd in (self._pidfd, self._slave):
            if fd >= 0:
                os.close(fd)
        self._pidfd = self._slave = -1

    def forgettable(self) -> bool:
        """Whether the program has ended and nothing it started is left in its cgroup."""
        return self.reaped and (self._cgroup is None or self._cgroup.remove())

    def resize(self, width: int, height: int) -> None:
        """Set the terminal's size. Raises OSError ENOTTY without one."""
        if self._slave < 0:
            raise OSError(errno.ENOTTY, "the exec has no terminal")
        tty.resize(self._slave, width, height)

    def kill(self) -> None:
        """Kill the program and all it started."""
        if self._cgroup is not None:
            self._cgroup.kill()
        if self._pidfd >= 0:
            pidfd.kill(self._pidfd)
        if self.reaped:
            self._remove_cgroup()

    def report(self) -> ContainerReport:
        """For a daemon that comes back."""
        return ContainerReport(
            id=self.id,
            pid=self._launch.pid if self._launch is not None else 0,
            start_ticks=self._start_ticks,
            started_at=self._started_at,
            user=ResolvedUser() if self._launch is None else resolved(self._launch.user),
            exit=self.exit,
        )
