"""Binaries behind descriptors that nobody can write through (CVE-2019-5736).

A process that enters a container still *is* the host's interpreter until it calls execve(2); through
/proc/PID/exe the container could reach and overwrite it. So the spawner runs from a detached read-only
mount of the binary or, where that can't be had, from a sealed copy in memory; so does pause.
"""

from __future__ import annotations

import fcntl
import os
import sys

from minikubelet.linux import libc, mounts


def protected_interpreter() -> int:
    """A close-on-exec descriptor of this interpreter's binary that is read-only for good; the caller's.

    Execute it as ``/proc/self/fd/N`` with ``sys.executable`` as argv[0], so that the virtual environment is
    still found. Raises OSError.
    """
    return protected_binary(os.path.realpath(sys.executable))


def protected_binary(path: str) -> int:
    """The same for any binary that runs where a container can see it. Raises OSError."""
    try:
        return _read_only_mount(path)
    except OSError:
        return _sealed_copy(path)


def _read_only_mount(path: str) -> int:
    tree = mounts.clone_tree(path)
    try:
        mounts.set_attributes(tree, add=mounts.ATTR_RDONLY | mounts.ATTR_NOSUID | mounts.ATTR_NODEV)
        mounts.set_attributes(tree, propagation=mounts.MS_PRIVATE)
    except BaseException:
        os.close(tree)
        raise
    return tree


def _sealed_copy(path: str) -> int:
    copy = os.memfd_create(os.path.basename(path), os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(path, "rb") as source:
            while chunk := source.read(1 << 20):
                os.write(copy, chunk)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
        os.fchmod(copy, 0o555)
    except BaseException:
        os.close(copy)
        raise
    return copy


def proc_handle() -> int:
    """An O_PATH descriptor of /proc, verified to be a procfs. Raises OSError."""
    fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if libc.filesystem_type(fd, "/proc") != mounts.PROC_SUPER_MAGIC:
        os.close(fd)
        raise OSError(22, "not a proc file system", "/proc")
    return fd
