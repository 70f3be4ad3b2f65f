"""Deleting trees that containers could write to: by descriptor, following no link, crossing no mount."""

from __future__ import annotations

import errno
import os
import stat

from minikubelet.linux import mounts, openat2

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_RESOLVE = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_SYMLINKS
_DEEPEST = 32
"""Levels of descriptors held open; what lies deeper is first moved up."""


def open_folder(parent: int, name: str, *, cross_mounts: bool = False) -> int:
    """The folder ``name`` (one element) in ``parent``; a link or mount point is an error (ELOOP, EXDEV)."""
    resolve = _RESOLVE | (0 if cross_mounts else openat2.RESOLVE_NO_XDEV)
    return openat2.open_at(parent, name, _FOLDER, resolve)


def unmount_at(parent: int, name: str, *, file: bool = False) -> None:
    """Detach all that is mounted on ``name`` in ``parent``; nothing if nothing is.

    With ``file`` it may be something else than a folder.
    """
    flags = os.O_PATH | os.O_NOFOLLOW | (0 if file else os.O_DIRECTORY)
    for _ in range(64):
        try:
            os.close(openat2.open_at(parent, name, flags, _RESOLVE | openat2.RESOLVE_NO_XDEV))
            return
        except FileNotFoundError:
            return
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
        top = openat2.open_at(parent, name, flags, _RESOLVE)
        try:
            mounts.unmount(f"/proc/self/fd/{top}")
        finally:
            os.close(top)
    raise OSError(errno.EBUSY, "too many mounts on top of each other", name)


def remove_tree_at(parent: int, name: str) -> None:
    """Delete ``name`` in ``parent`` and all below; missing is fine.

    Raises OSError for what can't be deleted, EXDEV at a mount point, whose contents stay untouched.
    """
    try:
        info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISDIR(info.st_mode):
            os.unlink(name, dir_fd=parent)
            return
        top = open_folder(parent, name)
        try:
            _empty(top, top, 0)
        finally:
            os.close(top)
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return


def _empty(top: int, folder: int, depth: int) -> None:
    while names := os.listdir(folder):
        for name in names:
            _remove_entry(top, folder, name, depth)


def _remove_entry(top: int, folder: int, name: str, depth: int) -> None:
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=folder)
            return
        child = open_folder(folder, name)
        try:
            if depth >= _DEEPEST:
                _lift(child, top)
            else:
                _empty(top, child, depth + 1)
        finally:
            os.close(child)
        os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        return


def _lift(folder: int, top: int) -> None:
    """Move what is in ``folder`` to the top, where the loop of :func:`_empty` finds it."""
    for name in os.listdir(folder):
        os.rename(name, f".lifted-{os.urandom(8).hex()}", src_dir_fd=folder, dst_dir_fd=top)
