"""Sizes of folders, measured now and then: of volumes, logs, and all that a pod keeps on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass

from minikubelet.base import clock

MAX_ENTRIES = 200_000
"""Files counted in one folder; a folder with more is shown with what was counted until then."""


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes on disk, and inodes."""

    used_bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.used_bytes + other.used_bytes, self.inodes + other.inodes)


def measure(folder: str, *, itself: bool = True) -> Size:
    """What is below ``folder``, with ``itself`` included; links aren't followed, other mounts left out."""
    used = inodes = 0
    try:
        top = os.lstat(folder)
    except OSError:
        return Size()
    todo, seen = [folder], set()
    used, inodes = (top.st_blocks * 512, 1) if itself else (0, 0)
    while todo and inodes < MAX_ENTRIES:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if status.st_dev != top.st_dev or (status.st_nlink > 1 and status.st_ino in seen):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    elif status.st_nlink > 1:
                        seen.add(status.st_ino)
                    used += status.st_blocks * 512
                    inodes += 1
        except OSError:
            continue  # it vanished while we looked
    return Size(used, inodes)


class SizeCache:
    """Sizes that are measured again after ``period`` seconds. Used from one thread at a time."""

    def __init__(self, period: float) -> None:
        self._period = period
        self._known: dict[str, tuple[float, Size]] = {}

    def size(self, folder: str, *, itself: bool = True) -> Size:
        """The size of ``folder``, at most ``period`` old; see :func:`measure`."""
        now = clock.monotonic()
        known = self._known.get(folder)
        if known is None or now - known[0] > self._period:
            known = self._known[folder] = (now, measure(folder, itself=itself))
        return known[1]

    def forget_others(self, folders: set[str]) -> None:
        """Keep nothing of folders that aren't among these."""
        for gone in self._known.keys() - folders:
            del self._known[gone]
