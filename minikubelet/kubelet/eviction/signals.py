"""How much memory, disk and process IDs this node has left."""

from __future__ import annotations

import os
from dataclasses import dataclass

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.allocatable import max_tasks
from minikubelet.kubelet.eviction.thresholds import ALLOCATABLE_MEMORY, Observation
from minikubelet.linux.cgroup import memory


@dataclass(frozen=True)
class Places:
    """Folders on the file systems that are watched; empty: not there, not known."""

    nodefs: str
    imagefs: str = ""
    containerfs: str = ""

    @property
    def has_imagefs(self) -> bool:
        """Whether images are on a file system of their own."""
        return bool(self.imagefs) and _device(self.imagefs) != _device(self.nodefs)

    @property
    def has_containerfs(self) -> bool:
        """Whether writable layers are apart from the images."""
        return bool(self.containerfs) and _device(self.containerfs) != _device(self.imagefs)


def places(nodefs: str, answer: api.ImageFsInfoResponse | None) -> Places:
    """The file systems, as the runtime tells them."""

    def first(systems: object) -> str:
        for each in systems:  # type: ignore[attr-defined]
            if os.path.isdir(each.fs_id.mountpoint):
                return str(each.fs_id.mountpoint)
        return ""

    if answer is None:
        return Places(nodefs)
    images = first(answer.image_filesystems)
    return Places(nodefs, images, first(answer.container_filesystems) or images)


def _device(path: str) -> int:
    try:
        return os.stat(path).st_dev
    except OSError:
        return 0


def observe(where: Places, pods_cgroup: str) -> dict[str, Observation]:
    """All signals that can be measured here. Raises OSError."""
    found = {"memory.available": available_memory(), "pid.available": available_pids()}
    for name, folder in (
        ("nodefs", where.nodefs),
        ("imagefs", where.imagefs),
        ("containerfs", where.containerfs),
    ):
        if folder:
            space, inodes = filesystem(folder)
            found[f"{name}.available"] = space
            if inodes.capacity:
                found[f"{name}.inodesFree"] = inodes
    stats = memory.stats(pods_cgroup) if pods_cgroup else None
    if stats is not None and stats.limit > 0:
        found[ALLOCATABLE_MEMORY] = Observation(stats.available, stats.limit)
    return found


def filesystem(path: str) -> tuple[Observation, Observation]:
    """Bytes and inodes (capacity 0: the file system has no such number). Raises OSError."""
    found = os.statvfs(path)
    space = Observation(found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
    return space, Observation(found.f_favail, found.f_files)


def available_memory(path: str = "/proc/meminfo") -> Observation:
    """What is free, or held by files that nobody used lately: capacity without the working set (bytes)."""
    values = {}
    with open(path, encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            values[name] = int(rest.split()[0]) * 1024
    return Observation(values["MemFree"] + values.get("Inactive(file)", 0), values["MemTotal"])


def available_pids(loadavg: str = "/proc/loadavg") -> Observation:
    """Tasks that may still be made."""
    with open(loadavg, encoding="ascii") as file:
        tasks = int(file.read().split()[3].partition("/")[2])
    most = max_tasks()
    return Observation(max(0, most - tasks), most)
