"""fsGroup: a volume's files belong to a group that may use them all (pkg/volume/volume_linux.go)."""

from __future__ import annotations

import os
import stat

from minikubelet.linux import openat2

_ALWAYS_READ = 0o440
_READ_WRITE = 0o660
_ENTER = 0o110
_DEEPEST = 512
"""Levels of folders; each holds a descriptor open."""


def give_to_group(folder: str, group: int, *, read_only: bool = False, on_mismatch: bool = False) -> None:
    """Change group and mode of all below ``folder``, the folder itself last.

    With ``on_mismatch`` (fsGroupChangePolicy OnRootMismatch) nothing is done if the folder itself is right
    already. Links are changed themselves, never followed; other file systems are left alone. What is as it
    should be isn't touched. Raises OSError.
    """
    top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if on_mismatch and _is_right(os.fstat(top), group, read_only):
            return
        _walk(top, group, read_only, 0)
        _change(top, os.fstat(top), group, read_only)
    finally:
        os.close(top)


def _is_right(info: os.stat_result, group: int, read_only: bool) -> bool:
    needed = (_ALWAYS_READ if read_only else _READ_WRITE) | _ENTER | stat.S_ISGID
    return info.st_gid == group and info.st_mode & needed == needed


def _walk(folder: int, group: int, read_only: bool, depth: int) -> None:
    if depth > _DEEPEST:
        raise OSError(f"folders are nested deeper than {_DEEPEST}")
    for name in os.listdir(folder):
        try:
            entry = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except FileNotFoundError:
            continue
        try:
            info = os.fstat(entry)
            if stat.S_ISLNK(info.st_mode):
                if info.st_gid != group:
                    os.chown(name, -1, group, dir_fd=folder, follow_symlinks=False)
                continue
            if stat.S_ISDIR(info.st_mode):
                try:
                    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
                    resolve = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_XDEV
                    child = openat2.open_at(folder, name, flags, resolve)
                except OSError:
                    continue  # another file system, or gone meanwhile
                try:
                    _walk(child, group, read_only, depth + 1)
                finally:
                    os.close(child)
            _change(entry, info, group, read_only)
        finally:
            os.close(entry)


def _change(fd: int, info: os.stat_result, group: int, read_only: bool) -> None:
    # By descriptor: a container that swaps the name for a link meanwhile gains nothing.
    itself = f"/proc/self/fd/{fd}"
    mode = stat.S_IMODE(info.st_mode) | (_ALWAYS_READ if read_only else _READ_WRITE)
    if stat.S_ISDIR(info.st_mode):
        mode |= _ENTER | stat.S_ISGID
    if info.st_gid != group:
        os.chown(itself, -1, group)
    # chown(2) takes setuid and setgid off files, so the mode comes after it.
    if info.st_gid != group or mode != stat.S_IMODE(info.st_mode):
        os.chmod(itself, mode)
