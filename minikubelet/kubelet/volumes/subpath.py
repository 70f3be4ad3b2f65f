"""subPath: a part of a volume, found by descriptor and pinned by a bind mount before a runtime hears of it.

Containers write to volumes while others start: a name that was checked may be a link to the host's files by
the time the runtime mounts it. So the runtime gets a mount point in a folder of the kubelet's, bound from the
descriptor that was checked itself; links are followed as long as they stay inside the volume. Layout as
upstream's: ``POD/volume-subpaths/VOLUME/CONTAINER/INDEX``.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass

from minikubelet.kubelet.volumes import removal
from minikubelet.linux import mounts, openat2

FOLDER = "volume-subpaths"
_INSIDE = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_MAGICLINKS


@dataclass(frozen=True)
class SubPath:
    """The place in a pod's folder for what one mount of a container shows."""

    pod_dir: str
    volume: str
    """The volume's name."""
    container: str
    index: int
    """Which of the container's mounts."""


class CantMake(OSError):
    """A missing folder couldn't be made."""


def prepare(wanted: SubPath, source: str, path: str) -> str:
    """What to give to the runtime for ``path`` in the volume at ``source``.

    A missing folder is made, with the volume's mode.

    Raises OSError: EXDEV for what leads out of the volume, ELOOP for links without end, CantMake.
    """
    volume = os.open(source, os.O_PATH | os.O_CLOEXEC)
    try:
        found = _open(volume, path)
    finally:
        os.close(volume)
    try:
        return _pin(wanted, found)
    finally:
        os.close(found)


def _open(volume: int, path: str) -> int:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts:
        raise ValueError(path)
    if not parts:
        return os.dup(volume)
    try:
        return openat2.open_at(volume, "/".join(parts), os.O_PATH, _INSIDE)
    except FileNotFoundError:
        try:
            return _make(volume, parts)
        except OSError as exc:
            raise CantMake(exc.errno, exc.strerror, path) from exc


def _make(volume: int, parts: list[str]) -> int:
    """Make what is missing, one folder below the other; links are not followed from there on."""
    flags = os.O_PATH | os.O_DIRECTORY
    mode = stat.S_IMODE(os.fstat(volume).st_mode)
    present = len(parts) - 1
    while present:
        try:
            folder = openat2.open_at(volume, "/".join(parts[:present]), flags, _INSIDE)
            break
        except FileNotFoundError:
            present -= 1
    else:
        folder = os.dup(volume)
    for part in parts[present:]:
        try:
            made = False
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=folder)
                made = True
            child = openat2.open_beneath(folder, part, flags)
        finally:
            os.close(folder)
        folder = child
        if made:
            os.chmod(f"/proc/self/fd/{folder}", mode | stat.S_IMODE(os.fstat(folder).st_mode) & stat.S_ISGID)
    return folder


def _pin(wanted: SubPath, found: int) -> str:
    """Bind what ``found`` refers to onto a name of ours, in place of what was there."""
    folder = os.path.join(wanted.pod_dir, FOLDER, wanted.volume, wanted.container)
    name = str(wanted.index)
    os.makedirs(folder, mode=0o750, exist_ok=True)
    parent = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _release(parent, name)
        if stat.S_ISDIR(os.fstat(found).st_mode):
            os.mkdir(name, 0o750, dir_fd=parent)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o640, dir_fd=parent))
        target = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            tree = mounts.clone_tree("", dirfd=found)
            try:
                mounts.attach(tree, target, f"{folder}/{name}")
            finally:
                os.close(tree)
        finally:
            os.close(target)
    finally:
        os.close(parent)
    return os.path.join(folder, name)


def _release(parent: int, name: str) -> None:
    """Unmount and delete a mount point, folder or file; missing is fine."""
    removal.unmount_at(parent, name, file=True)
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return


def remove_all(pod: int) -> None:
    """Release everything below the pod's folder ``pod`` (a descriptor). Raises OSError."""
    try:
        top = removal.open_folder(pod, FOLDER)
    except FileNotFoundError:
        return
    try:
        for volume in os.listdir(top):
            _each_container(top, volume)
    finally:
        os.close(top)
    removal.remove_tree_at(pod, FOLDER)


def _each_container(top: int, volume: str) -> None:
    folder = removal.open_folder(top, volume)
    try:
        for container in os.listdir(folder):
            inner = removal.open_folder(folder, container)
            try:
                for name in os.listdir(inner):
                    _release(inner, name)
            finally:
                os.close(inner)
    finally:
        os.close(folder)
