"""How much emptyDirs hold: what eviction compares with their sizeLimit."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.volumes.empty_dir import size_limit
from minikubelet.kubelet.volumes.manager import volume_folder
from minikubelet.linux import openat2

_BLOCK = 512
_DEEPEST = 512


@dataclass(frozen=True)
class EmptyDirUse:
    """An emptyDir of a pod; sizes in bytes."""

    name: str
    medium: str
    limit: int
    """0: none."""
    used: int


def empty_dirs(pods_dir: str, pod: Pod, *, limited_only: bool = True) -> list[EmptyDirUse]:
    """The pod's emptyDirs, those on disk and in memory, measured now; may take long, so call it in a thread.

    One that is not there yet uses nothing.
    """
    found = []
    for volume in pod.spec.volumes:
        source = volume.empty_dir
        if source is None:
            continue
        limit = size_limit(source.size_limit, "sizeLimit")
        if limit or not limited_only:
            used = disk_usage(volume_folder(pods_dir, pod.uid, "empty_dir", volume.name))
            found.append(EmptyDirUse(volume.name, source.medium, limit, used))
    return found


def disk_usage(folder: str) -> int:
    """Bytes that a folder's files take up, as du(1) counts: hard links once, other file systems left out."""
    try:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        return os.fstat(top).st_blocks * _BLOCK + _below(top, set(), 0)
    finally:
        os.close(top)


def _below(folder: int, seen: set[tuple[int, int]], depth: int) -> int:
    total = 0
    if depth > _DEEPEST:
        return 0
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                info = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(info.st_mode):
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                    resolve = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_XDEV
                    child = openat2.open_at(folder, entry.name, flags, resolve)
                    try:
                        total += _below(child, seen, depth + 1)
                    finally:
                        os.close(child)
                elif info.st_nlink > 1:
                    if (info.st_dev, info.st_ino) in seen:
                        continue
                    seen.add((info.st_dev, info.st_ino))
            except OSError:
                continue  # gone meanwhile, or another file system
            total += info.st_blocks * _BLOCK
    return total
