"""A container: its init process from start to exit record."""

from __future__ import annotations

import errno
import os
import signal
import sys

import msgspec

from minikubelet.base import clock
from minikubelet.base.errors import StepError
from minikubelet.base.files import write_atomic
from minikubelet.linux import namespaces, pidfd
from minikubelet.linux.users import Credentials
from minikubelet.spawner.crilog import LogFile
from minikubelet.spawner.idmap import IDs
from minikubelet.spawner.launch import Birth, Launch, resolved
from minikubelet.spawner.pod import EXITS, Answer, Pod, exit_status, failure_of
from minikubelet.spawner.restored import check_restorable, restored_pid
from minikubelet.spawner.sandbox import Sandbox
from minikubelet.spawner.steps.plans import init_plan, restore_plan
from minikubelet.spawner.streams import Streams
from minikubelet.wire.messages import (
    ContainerExited,
    ContainerReport,
    ContainerStarted,
    ExitStatus,
    StartContainer,
    User,
)

_DRAIN_GRACE = 0.1
_encoder = msgspec.json.Encoder()


class Container:
    """One container of the pod. It is ``ended`` when its exit has been recorded and told."""

    def __init__(self, pod: Pod, request: StartContainer) -> None:
        self.id = request.container_id
        self.pid = 0
        self.pidfd = -1
        self.start_ticks = 0
        self.started_at = 0
        self.user = Credentials(0, 0, (), "")
        self.exit: ExitStatus | None = None
        self.ended = False
        self.host_pids = request.pid_namespace == "node"
        self.cgroup = pod.cgroup(request.cgroup.path)
        self.streams: Streams | None = None
        self.ids: IDs | None = None
        """Of the pod's user namespace."""
        self._pod = pod
        self._request = request
        self._launch: Launch | None = None
        self._answer: Answer | None = None
        self._own_pids = request.pid_namespace == "container"

    def start(self, sandbox: Sandbox, target: int, answer: Answer) -> None:
        """Clone the init; ``target`` is the pidfd whose PID namespace it joins, -1 for none.

        Raises StepError or OSError; what fails later goes to ``answer``.
        """
        request = self._request
        machine, shared, ids = self._pod.host.machine, sandbox.shared, sandbox.ids
        fetch_shm = sandbox.shm >= 0 and not self._pod.host.copies_detached
        if request.restore is not None:
            check_restorable(request, ids is not None)
            birth = self._pod.birth(lambda: restore_plan(request, shared, fetch_shm))
        else:
            birth = self._pod.birth(lambda: init_plan(request, machine, shared, fetch_shm, ids is not None))
        birth.new_namespaces = 0 if fetch_shm else namespaces.CLONE_NEWNS
        if self._own_pids and request.restore is None:  # CRIU makes it by itself
            birth.new_namespaces |= namespaces.CLONE_NEWPID
        birth.pid_namespace = target
        birth.scene.namespaces = sandbox.pidfd if sandbox.shared else -1
        birth.scene.shm = sandbox.shm
        self.ids = birth.scene.ids = ids
        birth.scene.userns = sandbox.userns
        birth.scene.host_mounts = self._pod.host.own_mounts if fetch_shm else -1
        log = LogFile(request.log_path, request.log_folder) if request.log_path else None
        self.streams = Streams(self._pod.loop, log, self._on_streams_ended)
        self._answer = answer
        try:
            self.cgroup.make(request.cgroup)
            if request.cgroup.device_program:
                self.cgroup.filter_devices(request.cgroup.device_program, self._pod.host.device_filters)
            self._clone(birth)
        except BaseException:
            self.streams.close()
            self._pod.remove_cgroup(self.cgroup)
            raise

    def _clone(self, birth: Birth) -> None:
        theirs = self._connect(birth)
        try:
            birth.scene.cgroup = self.cgroup.open()
            theirs.append(birth.scene.cgroup)
            self._launch = Launch(self._pod.loop, birth, self._on_launched)
        finally:
            for fd in theirs:
                os.close(fd)
        self.pid = self._launch.pid
        self.pidfd = self._launch.pidfd
        if self._request.restore is not None:
            self._pod.children.expect()
            self._pod.children.register(self.pid, self._on_criu_exit)
        else:
            self._pod.children.register(self.pid, self._on_exit)

    def _connect(self, birth: Birth) -> list[int]:
        """Pipes between the init and the monitor; returns the child's ends, to be closed after the clone."""
        process = self._request.process
        if process.tty or self.streams is None:
            return []
        theirs: list[int] = []
        try:
            for name in ("stdout", "stderr"):
                mine, other = os.pipe2(os.O_CLOEXEC)
                theirs.append(other)
                self.streams.add_output(name, mine)
            stdin = self._pod.host.null
            if process.stdin:
                stdin, mine = os.pipe2(os.O_CLOEXEC)
                theirs.append(stdin)
                self.streams.set_stdin(mine, process.stdin_once)
        except OSError:  # no descriptors are left: the fewer stay open now (our ends go with the streams)
            for fd in theirs:
                os.close(fd)
            raise
        birth.scene.stdio = (stdin, theirs[0], theirs[1])
        return theirs

    def _on_launched(self, launch: Launch) -> None:
        if launch.failure is not None:
            return  # told when the child has been reaped, so that nothing is left of it
        self.user = launch.user
        if self._request.restore is not None:
            return  # CRIU has been started, the container has not
        self._note_started(launch)

    def _note_started(self, launch: Launch) -> None:
        self.started_at = clock.now_ns()
        self.start_ticks = pidfd.start_ticks(self.pid)
        if launch.master >= 0 and self.streams is not None:
            self.streams.set_terminal(launch.master, self._request.process.stdin)
        self._reply_started()

    def _reply_started(self) -> None:
        if self._answer is None:
            return
        body = ContainerStarted(
            pid=self.pid, start_ticks=self.start_ticks, started_at=self.started_at, user=resolved(self.user)
        )
        answer, self._answer = self._answer, None
        answer(body, ())

    def _on_criu_exit(self, wait_status: int) -> None:
        """CRIU is done: what it has restored is the container's init now."""
        if self._launch is None or self._request.restore is None:
            return
        self._launch.poll()
        failure = self._launch.failure
        pid = 0
        if failure is None:
            try:
                pid = restored_pid(self._request.restore, wait_status)
            except StepError as exc:
                failure = exc
        if failure is not None:
            self._pod.children.adopt(0, self._on_exit)
            self.cgroup.kill()
            self._fail(failure)
            return
        os.close(self.pidfd)
        self.pid, self.pidfd = pid, pidfd.open_if_alive(pid)
        self._note_started(self._launch)
        self._pod.children.adopt(pid, self._on_exit)

    def _on_exit(self, wait_status: int) -> None:
        if self._launch is None:
            return
        self._launch.poll()
        if self._launch.failure is not None:
            self._fail(self._launch.failure)
            return
        status = exit_status(wait_status, clock.now_ns())
        if status.signal == signal.SIGKILL:
            status.oom_killed = self.cgroup.oom_kills() > 0
        self.exit = status
        if not self._own_pids or self.cgroup.populated():
            self.cgroup.kill()  # a shared PID namespace doesn't take the rest along
        try:
            write_atomic(f"{self._pod.run_dir}/{EXITS}/{self.id}", _encoder.encode(status), mode=0o600)
        except OSError as exc:  # a full /run must not keep the end from being told
            print(f"recording the exit of {self.id}: {exc}", file=sys.stderr)
        self._finish_when_drained()

    def _fail(self, failure: StepError) -> None:
        self.ended = True
        self._close()
        self._pod.remove_cgroup(self.cgroup)
        if self._answer is not None:
            self._answer(failure_of(failure, failure.step), ())
        self._pod.on_end()

    def _finish_when_drained(self) -> None:
        if self.streams is not None:
            self.streams.hang_up()
            if not self.streams.drain():
                # Somebody outside still holds the pipe; what comes later is not the container's any more.
                grace = self._request.exit_grace_ms / 1000 or _DRAIN_GRACE
                self._pod.loop.call_later(grace, self._finish)
                return
        self._finish()

    def _on_streams_ended(self) -> None:
        if self.exit is not None:
            self._finish()

    def _finish(self) -> None:
        if self.ended or self.exit is None:
            return
        self.ended = True
        self._close()
        self._pod.tell(ContainerExited(container_id=self.id, status=self.exit))
        self._pod.remove_cgroup(self.cgroup)
        self._pod.on_end()

    def _close(self) -> None:
        if self.streams is not None:
            self.streams.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def credentials_of(self, user: User) -> Credentials | None:
        """What the init got, when ``user`` is the init's user, too; else None."""
        return self.user if user == self._request.process.user else None

    @property
    def running(self) -> bool:
        """Whether the program has been started and not been reaped."""
        return self.started_at != 0 and self.exit is None

    def signal(self, number: int, everyone: bool) -> None:
        """Signal the init, or kill the whole cgroup. Ended: nothing to do. Raises OSError EINVAL."""
        if self.exit is not None or self.pidfd < 0:
            return
        if everyone:
            self.cgroup.kill()
            number = signal.SIGKILL
        pidfd.send(self.pidfd, number)

    def reopen_log(self) -> None:
        """Go on in a new log file. Raises StepError."""
        if self.ended or self.streams is None or self.streams.log is None:
            raise StepError(
                "reopen the log", errno.ESRCH, self.id, "the container is not running or has no log"
            )
        try:
            self.streams.log.reopen()
        except OSError as exc:
            raise StepError("reopen the log", exc.errno or 0, self._request.log_path) from exc

    def forget(self) -> None:
        """Remove what is left of an ended container. Raises StepError EBUSY while it runs."""
        if not self.ended:
            raise StepError("remove the container", errno.EBUSY, self.id, "it is running")
        self._pod.remove_cgroup(self.cgroup)
        try:
            os.unlink(f"{self._pod.run_dir}/{EXITS}/{self.id}")
        except FileNotFoundError:
            pass

    def report(self) -> ContainerReport:
        """For a daemon that comes back."""
        return ContainerReport(
            id=self.id,
            pid=self.pid,
            start_ticks=self.start_ticks,
            started_at=self.started_at,
            user=resolved(self.user),
            exit=self.exit if self.ended else None,
        )
