"""Entering and shaping namespaces."""

from __future__ import annotations

import errno
import os
import socket

from minikubelet.linux import libc, mounts, namespaces, openat2
from minikubelet.spawner.steps.base import Scene, Step

SHM = "shm"


class JoinNamespaces(Step):
    """Enter namespaces of another process with one setns(2)."""

    def __init__(self, kinds: int, whose: str) -> None:
        self._kinds = kinds
        self._whose = whose

    def describe(self) -> str:
        return f"join the namespaces of {self._whose}"

    def execute(self, scene: Scene) -> None:
        if self._kinds:
            namespaces.join(scene.namespaces, self._kinds)


class NewCgroupNamespace(Step):
    """A cgroup namespace whose root is the cgroup this process was born in."""

    def describe(self) -> str:
        return "make a cgroup namespace"

    def execute(self, scene: Scene) -> None:
        namespaces.leave(namespaces.CLONE_NEWCGROUP)


class NewSession(Step):
    """A session and process group of its own."""

    def describe(self) -> str:
        return "start a session"

    def execute(self, scene: Scene) -> None:
        os.setsid()


class SetHostname(Step):
    """The host name of the UTS namespace."""

    def __init__(self, name: str) -> None:
        self._name = name

    def describe(self) -> str:
        return f"set the host name {self._name!r}"

    def execute(self, scene: Scene) -> None:
        socket.sethostname(self._name)


class WriteSysctl(Step):
    """One sysctl(8) of the namespaces this process is in; /proc/sys shows those of who looks."""

    def __init__(self, name: str, value: str) -> None:
        self._name = name
        self._value = value

    def describe(self) -> str:
        return f"set sysctl {self._name}"

    def execute(self, scene: Scene) -> None:
        path = "sys/" + sysctl_path(self._name)
        fd = openat2.open_beneath(scene.proc, path, os.O_WRONLY)
        try:
            if libc.filesystem_type(fd) != mounts.PROC_SUPER_MAGIC:
                raise OSError(errno.EXDEV, "not on the proc file system", path)
            try:
                os.write(fd, self._value.encode())
            except OSError as exc:
                raise OSError(exc.errno, f"writing {self._value!r}: {exc.strerror}", path) from None
        finally:
            os.close(fd)


def sysctl_path(name: str) -> str:
    """``net.ipv4.conf.eth0/1.mtu`` → ``net/ipv4/conf/eth0.1/mtu``, by the rules of sysctl.d(5)."""
    dot, slash = name.find("."), name.find("/")
    as_it_is = slash >= 0 and (dot < 0 or slash < dot)
    path = name if as_it_is else name.translate(str.maketrans("./", "/."))
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise OSError(errno.EINVAL, "not a sysctl name", name)
    return path


class EmptyRoot(Step):
    """Pause's root: an empty, read-only file system that is mounted nowhere. Its binary comes by descriptor.

    Without a mount namespace: a copy of the host's mounts would have to be made and thrown away again for
    each pod (0.4 ms, and RCU waits at both ends), and pause reaches nothing outside its root either way.
    """

    def describe(self) -> str:
        return "enter an empty root"

    def execute(self, scene: Scene) -> None:
        os.fchdir(scene.empty)
        os.chroot(".")


class OwnRoot(Step):
    """Pause's root where it also keeps the pod's /dev/shm mounted, in a mount namespace of its own.

    For kernels before 6.15, which can't copy a mount that is attached nowhere.
    """

    def describe(self) -> str:
        return "enter a root with shared memory"

    def execute(self, scene: Scene) -> None:
        mounts.set_attributes(libc.AT_FDCWD, "/", propagation=mounts.MS_SLAVE, recursive=True)
        root = mounts.new_filesystem("tmpfs", "size=4k,nr_inodes=3,mode=555", mounts.ATTR_NOSUID)
        os.mkdir(SHM, 0o755, dir_fd=root)
        old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mounts.attach(root, old, "/")
        if scene.shm >= 0:
            target = os.open(SHM, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
            mounts.attach(scene.shm, target, SHM)
            os.close(target)
        mounts.pivot_into(root)
        mounts.set_attributes(libc.AT_FDCWD, "/", add=mounts.ATTR_RDONLY)
        os.close(root)
        os.close(old)


class FetchShm(Step):
    """Copy the shared memory's mount out of pause's mount namespace, then make one for this process."""

    def describe(self) -> str:
        return "fetch the pod's shared memory"

    def execute(self, scene: Scene) -> None:
        namespaces.join(scene.namespaces, namespaces.CLONE_NEWNS)
        scene.shm = mounts.clone_tree("/" + SHM)
        scene.shm_fetched = True
        namespaces.join(scene.host_mounts, namespaces.CLONE_NEWNS)
        namespaces.leave(namespaces.CLONE_NEWNS)


class RootIsHere(Step):
    """The root file system is the one of the mount namespace just joined."""

    def describe(self) -> str:
        return "open the root"

    def execute(self, scene: Scene) -> None:
        scene.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
