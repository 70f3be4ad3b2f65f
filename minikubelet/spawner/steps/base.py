"""The step and the scene it plays on."""

from __future__ import annotations

import os
import socket

from minikubelet.linux.users import Credentials
from minikubelet.spawner.idmap import IDs


class Scene:
    """What the steps of one child share. Descriptors named here stay open when the child closes the rest."""

    def __init__(self, proc: int) -> None:
        self.proc = proc
        """The host's /proc (O_PATH, verified): the child's own entries, whatever the container mounts."""
        self.namespaces = -1
        """pidfd of the process whose namespaces are joined."""
        self.cgroup = -1
        """The cgroup folder to be born in."""
        self.shm = -1
        """Detached mount of the pod's /dev/shm."""
        self.shm_fetched = False
        """Whether it is this process's own copy."""
        self.pause = -1
        """The pause binary."""
        self.empty = -1
        """An empty, detached file system."""
        self.host_mounts = -1
        """The host's mount namespace."""
        self.userns = -1
        """The pod's user namespace."""
        self.ids: IDs | None = None
        """What is mapped there; None: the pod has no user namespace of its own."""
        self.stdio: tuple[int, int, int] | None = None
        """Ends for 0, 1 and 2; None: /dev/null, or the terminal."""
        self.root = -1
        """The root file system, as soon as there is one."""
        self.sources: dict[int, int] = {}
        """Detached bind sources by the mount's index."""
        self.credentials: Credentials | None = None
        self.report: socket.socket | None = None

    def inherited(self) -> list[int]:
        """The descriptors that outlive the clean-up at birth."""
        fds = [self.proc, self.namespaces, self.cgroup, self.shm, self.pause]
        fds += [self.empty, self.host_mounts, self.userns]
        if self.report is not None:
            fds.append(self.report.fileno())
        return [fd for fd in fds if fd >= 0]


class Step:
    """One thing to do. Failures are OSError (errno and path) or ValueError (the text says it all)."""

    def describe(self) -> str:
        """Imperative, as it stands in an error: ``mount proc on``."""
        raise NotImplementedError

    def execute(self, scene: Scene) -> None:
        """Do it in the calling process."""
        raise NotImplementedError


def write_own(scene: Scene, name: str, content: bytes) -> None:
    """Write this process's /proc entry ``name`` through the verified handle. Raises OSError."""
    fd = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=scene.proc)
    try:
        os.write(fd, content)
    finally:
        os.close(fd)
