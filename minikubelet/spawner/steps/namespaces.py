"""Entering and shaping namespaces."""

from __future__ import annotations

import errno
import os
import socket

from minikubelet.linux import libc, mounts, namespaces, openat2
from minikubelet.spawner.steps.base import Scene, Step


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
    """``net.ipv4.conf.eth0/1.forwarding`` → ``net/ipv4/conf/eth0.1/forwarding``, by the rules of sysctl.d(5)."""
    dot, slash = name.find("."), name.find("/")
    if slash >= 0 and (dot < 0 or slash < dot):
        path = name
    else:
        path = name.translate(str.maketrans("./", "/."))
    if any(part in ("", ".", "..") for part in path.split("/")):
        raise OSError(errno.EINVAL, "not a sysctl name", name)
    return path


class EmptyRoot(Step):
    """A root with nothing in it, for pause: its binary comes by descriptor and needs no files."""

    def describe(self) -> str:
        return "enter an empty root"

    def execute(self, scene: Scene) -> None:
        mounts.set_attributes(libc.AT_FDCWD, "/", propagation=mounts.MS_SLAVE, recursive=True)
        flags = mounts.ATTR_RDONLY | mounts.ATTR_NOSUID | mounts.ATTR_NODEV
        root = mounts.new_filesystem("tmpfs", "size=4k,nr_inodes=2,mode=555", flags)
        old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mounts.attach(root, old, "/")
        mounts.pivot_into(root)
        os.close(root)
        os.close(old)


class RootIsHere(Step):
    """The root file system is the one of the mount namespace just joined."""

    def describe(self) -> str:
        return "open the root"

    def execute(self, scene: Scene) -> None:
        scene.root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
