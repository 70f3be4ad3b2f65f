"""The sandbox: pause, the namespaces that hang off it, the pod's cgroups and /dev/shm."""

from __future__ import annotations

import contextlib
import errno
import os

from minikubelet.base import clock
from minikubelet.base.errors import StepError
from minikubelet.linux import mounts, namespaces, pidfd
from minikubelet.spawner.cgroups import Cgroup
from minikubelet.spawner.idmap import IDs
from minikubelet.spawner.launch import Birth, Launch
from minikubelet.spawner.pod import Answer, Pod, exit_status, failure_of
from minikubelet.spawner.steps.plans import pause_plan
from minikubelet.spawner.steps.userns import GO_ON
from minikubelet.wire.messages import ExitStatus, SandboxExited, SandboxStarted, StartSandbox

_KINDS = {
    "network": namespaces.CLONE_NEWNET,
    "ipc": namespaces.CLONE_NEWIPC,
    "uts": namespaces.CLONE_NEWUTS,
}


class Sandbox:
    """Pause and what it holds. ``pid`` is 0 before the start and after the end."""

    def __init__(self, pod: Pod) -> None:
        self.pid = 0
        self.start_ticks = 0
        self.pidfd = -1
        self.shm = -1
        self.exit: ExitStatus | None = None
        self.shared = 0
        """Namespaces that containers join, as CLONE_NEW* bits."""
        self.stopping = False
        self.ids: IDs | None = None
        self.userns = -1
        """The pod's user namespace, when it has one."""
        self._to_prepare: StartSandbox | None = None
        self._pod = pod
        self._netns = -1
        self._first_network: list[int] = []
        self._prepare_error: OSError | StepError | None = None
        self._cgroups: list[Cgroup] = []
        self._launch: Launch | None = None

    def start(self, request: StartSandbox, answer: Answer) -> None:
        """Make cgroups, namespaces, pause. Raises StepError, OSError; later failures go to ``answer``."""
        if self._launch is not None or self.exit is not None:
            raise StepError("start the sandbox", errno.EEXIST, detail="it has been started before")
        if request.uid_mappings or request.gid_mappings:
            self.ids = IDs(request.uid_mappings, request.gid_mappings)
        own_root = request.ipc == "pod" and not self._pod.host.copies_detached
        self.shared = sum(bit for name, bit in _KINDS.items() if getattr(request, name) == "pod")
        birth = self._birth(request, own_root)
        self._make_cgroups(request)
        if own_root:
            self.shm = self._shared_memory(request)
        birth.scene.pause = self._pod.host.pause
        birth.scene.empty = self._pod.host.empty
        birth.scene.shm = self.shm if own_root else -1
        if self._cgroups:
            birth.scene.cgroup = self._cgroups[-1].open()
        try:
            self._launch = Launch(self._pod.loop, birth, lambda launch: self._on_launched(launch, answer))
        finally:
            if birth.scene.cgroup >= 0:
                os.close(birth.scene.cgroup)
        self.pidfd = self._launch.pidfd
        self._pod.children.register(self._launch.pid, self._on_exit)
        if self.ids is not None:
            self._map_users(request, self._launch, self.ids)
            self._to_prepare = request  # its namespaces come after the mapping
        else:
            # What pause doesn't wait for is made while it sets itself up.
            self._prepare(request, self._launch.pid)

    def _birth(self, request: StartSandbox, own_root: bool) -> Birth:
        machine = self._pod.host.machine
        unshared = None if self.ids is None else self.shared
        birth = self._pod.birth(lambda: pause_plan(request, machine, own_root, unshared))
        birth.new_namespaces = self.shared if self.ids is None else namespaces.CLONE_NEWUSER
        birth.new_namespaces |= namespaces.CLONE_NEWNS if own_root else 0
        birth.new_namespaces |= namespaces.CLONE_NEWPID if request.pid == "pod" else 0
        return birth

    def _map_users(self, request: StartSandbox, launch: Launch, ids: IDs) -> None:
        """Do for pause what takes the host's rights, then let it go on. Raises StepError, pause killed."""
        uid_map, gid_map = ids.lines()
        try:
            self.userns = os.open(
                f"{launch.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._pod.host.proc
            )
            self._write(launch.pid, "uid_map", uid_map)
            self._write(launch.pid, "gid_map", gid_map)
            if request.process.oom_score_adj is not None:
                with contextlib.suppress(PermissionError):  # a wish, as ever: the daemon has warned
                    self._write(launch.pid, "oom_score_adj", str(request.process.oom_score_adj).encode())
            launch.tell(GO_ON)
        except OSError as exc:
            self.stop()
            raise StepError("map the IDs of the user namespace", exc.errno or 0, _named(exc)) from exc

    def _write(self, pid: int, name: str, content: bytes) -> None:
        fd = os.open(f"{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._pod.host.proc)
        try:
            os.write(fd, content)
        finally:
            os.close(fd)

    def _shared_memory(self, request: StartSandbox) -> int:
        flags = mounts.ATTR_NOSUID | mounts.ATTR_NODEV | mounts.ATTR_NOEXEC
        options = f"mode=1777,size={request.shm_size}"
        if self.ids is not None:
            options += f",{self.ids.host_options('uid=0,gid=0')}"
        return mounts.new_filesystem("tmpfs", options, flags, "shm", request.mount_label)

    def _prepare(self, request: StartSandbox, pid: int) -> None:
        try:
            if request.ipc == "pod" and self.shm < 0:
                self.shm = self._shared_memory(request)
            if self.shared & namespaces.CLONE_NEWNET:
                self._netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                self._first_network = self.network(first=True)
        except (OSError, StepError) as exc:
            # Perhaps because pause has failed already: what it reports is the reason then.
            self._prepare_error = exc

    def _make_cgroups(self, request: StartSandbox) -> None:
        for settings in request.cgroups:
            cgroup = self._pod.cgroup(settings.path)
            cgroup.make(settings)
            self._cgroups.append(cgroup)
            if settings.device_program:
                cgroup.filter_devices(settings.device_program, self._pod.host.device_filters)

    def _on_launched(self, launch: Launch, answer: Answer) -> None:
        try:
            if launch.failure is not None:
                raise launch.failure
            if self._to_prepare is not None and not self.stopping:
                self._prepare(self._to_prepare, launch.pid)
            if self._prepare_error is not None:
                raise self._prepare_error
            if self.stopping:
                raise StepError("start the sandbox", errno.ECANCELED, detail="it was stopped on the way")
            self.pid = launch.pid
            self.start_ticks = pidfd.start_ticks(launch.pid)
        except (OSError, StepError) as exc:
            self.stop()
            answer(failure_of(exc, "start the sandbox"), ())
            return
        fds, self._first_network = self._first_network, []
        answer(SandboxStarted(pid=self.pid, start_ticks=self.start_ticks), fds)

    def network(self, first: bool = False) -> list[int]:
        """[netns, a new route socket in it], the caller's. Raises StepError ENOENT with host network."""
        if self._netns < 0:
            raise StepError("open the network namespace", errno.ENOENT, detail="the pod has none of its own")
        namespaces.join(self._netns, namespaces.CLONE_NEWNET)
        try:
            if first:
                namespaces.raise_loopback()
            route = namespaces.route_socket()
        finally:
            namespaces.join(self._pod.host.own_net, namespaces.CLONE_NEWNET)
        return [os.dup(self._netns), route]

    def _on_exit(self, wait_status: int) -> None:
        if self._launch is not None:
            self._launch.poll()
        self.exit = exit_status(wait_status, clock.now_ns())
        self.pid = 0
        os.close(self.pidfd)
        self.pidfd = -1
        if not self.stopping:
            self._pod.tell(SandboxExited(status=self.exit))
        self._pod.on_end()

    @property
    def ended(self) -> bool:
        """Whether there is no pause any more (or never was)."""
        return self.pidfd < 0

    def stop(self) -> None:
        """Kill pause and let go of namespaces and shared memory."""
        self.stopping = True
        if self.pidfd >= 0:
            pidfd.kill(self.pidfd)
        for cgroup in self._cgroups[-1:]:
            cgroup.kill()
        for fd in (self._netns, self.userns, self.shm, *self._first_network):
            if fd >= 0:
                os.close(fd)
        self._netns = self.userns = self.shm = -1
        self._first_network = []

    def remove_cgroups(self) -> str:
        """Remove the pod's cgroups, innermost first; the folder that can't go yet, or ''."""
        while self._cgroups:
            if not self._cgroups[-1].remove():
                return self._cgroups[-1].folder
            self._cgroups.pop()
        return ""


def _named(exc: OSError) -> str:
    return exc.filename if isinstance(exc.filename, str) else ""
