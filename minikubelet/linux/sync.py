"""Making what was written survive a power cut."""

from __future__ import annotations

import ctypes
import os

from minikubelet.linux import libc

_syncfs = libc.function("syncfs", ctypes.c_int)


def sync_filesystem(path: str) -> None:
    """syncfs(2): write out all of the file system that the folder ``path`` is on; blocks. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        libc.check(_syncfs(fd), path)
    finally:
        os.close(fd)


def boot_id() -> str:
    """This boot's random name (random(4), /proc/sys/kernel/random/boot_id). Raises OSError."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
