"""Directories of a layer folder by descriptor: nothing outside the folder can be named.

Paths are walked component by component with ``openat(…, O_NOFOLLOW)``. Symbolic links of the layer itself
are followed as chroot(2) would see them, ``..`` and absolute targets included, but by this walk, never by
the kernel: a descriptor below the root is all that is ever used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict, deque

MAX_LINKS = 40
"""Symbolic links followed for one path, as the kernel's own limit (path_resolution(7))."""
_OPEN = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CACHED = 128


class TreeError(Exception):
    """A path of the layer can't be used; the message says why."""


def is_whiteout(status: os.stat_result) -> bool:
    """Overlayfs marks a removed name by a character device 0:0 (Documentation/filesystems/overlayfs)."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


class LayerTree:
    """The tree under ``root_fd``. Not for use while anybody else writes to it."""

    def __init__(self, root_fd: int) -> None:
        self.root_fd = root_fd
        self.implicit: set[bytes] = set()
        """Directories made because something below them was named; their attributes are not the archive's."""
        self.opaque: set[bytes] = set()
        """Directories that hide the lower layers' directory of that name."""
        self._fds: OrderedDict[bytes, int] = OrderedDict()

    def close(self) -> None:
        """Close what is cached; the root descriptor stays the caller's."""
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def directory(self, path: bytes, *, create: bool) -> tuple[int, bytes]:
        """A descriptor (valid until the next call) of directory ``path`` and its path without links.

        With ``create``, what is missing is made (mode 0755) and noted in :attr:`implicit`. Raises TreeError
        where ``path`` is no directory, FileNotFoundError without ``create``, OSError from the kernel.
        """
        cached = self._fds.get(path)
        if cached is not None:
            return cached, path
        fd, resolved, links = self.root_fd, b"", 0
        pending = deque(path.split(b"/"))
        while pending:
            name = pending.popleft()
            if name in (b"", b"."):
                continue
            if name == b"..":
                resolved = resolved.rpartition(b"/")[0]
                fd = self._reopen(resolved)
                continue
            below = resolved + b"/" + name if resolved else name
            opened = self._step(fd, name, below, create)
            if opened is not None:
                fd, resolved = opened, below
                continue
            links += 1
            if links > MAX_LINKS:
                raise TreeError(f"too many symbolic links on the way to {show(path)}")
            target = os.readlink(name, dir_fd=fd)
            if target.startswith(b"/"):
                fd, resolved = self.root_fd, b""
            pending.extendleft(reversed(target.split(b"/")))
        return fd, resolved

    def _reopen(self, resolved: bytes) -> int:
        if not resolved:
            return self.root_fd
        return self.directory(resolved, create=False)[0]

    def _step(self, fd: int, name: bytes, path: bytes, create: bool) -> int | None:
        """Descriptor of ``name`` in ``fd``; None if it is a symbolic link."""
        cached = self._fds.get(path)
        if cached is not None:
            self._fds.move_to_end(path)
            return cached
        try:
            opened = os.open(name, _OPEN, dir_fd=fd)
        except FileNotFoundError:
            if not create:
                raise
            os.mkdir(name, 0o755, dir_fd=fd)
            self.implicit.add(path)
            opened = os.open(name, _OPEN, dir_fd=fd)
        except NotADirectoryError:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                return None
            if not (create and is_whiteout(status)):
                raise TreeError(f"{show(path)} is not a directory") from None
            os.unlink(name, dir_fd=fd)
            os.mkdir(name, 0o755, dir_fd=fd)
            self.implicit.add(path)
            self.opaque.add(path)
            opened = os.open(name, _OPEN, dir_fd=fd)
        if len(self._fds) >= _CACHED:
            # Never the parent that the caller still works in: that is the youngest.
            os.close(self._fds.popitem(last=False)[1])
        self._fds[path] = opened
        return opened

    def remove(self, fd: int, name: bytes, path: bytes) -> os.stat_result:
        """Remove whatever ``name`` in ``fd`` is, folders with all that is in them; returns what it was."""
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(name, dir_fd=fd)
            return status
        beneath = path + b"/"
        for cached in [key for key in self._fds if key == path or key.startswith(beneath)]:
            os.close(self._fds.pop(cached))
        for marked in (self.implicit, self.opaque):
            marked.difference_update([key for key in marked if key == path or key.startswith(beneath)])
        remove_tree(name, fd)
        return status


def remove_tree(name: bytes | str, dir_fd: int | None = None) -> None:
    """Remove a directory and all below it without following links; missing is fine. Raises OSError.

    Iterative, as a hostile layer may nest deeper than the interpreter's stack.
    """
    top = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        _empty(top)
    finally:
        os.close(top)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=dir_fd)


def _empty(top: int) -> None:
    """Depth first: nested folders are moved up into ``top``, so that one descriptor does for any depth."""
    number = 0
    while True:
        folders = _unlink_files(top)
        if not folders:
            return
        for folder in folders:
            try:
                os.rmdir(folder, dir_fd=top)
                continue
            except OSError as exc:
                if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
            try:
                for nested in _unlink_files(inner):
                    number += 1
                    os.rename(nested, f".gone-{number}-{os.getpid()}", src_dir_fd=inner, dst_dir_fd=top)
            finally:
                os.close(inner)
            os.rmdir(folder, dir_fd=top)


def _unlink_files(fd: int) -> list[str]:
    """Unlink all in ``fd`` but the folders, whose names are returned."""
    folders = []
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if is_folder:
            folders.append(name)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)
    return folders


def show(path: bytes) -> str:
    """``path`` for messages: quoted, short, printable."""
    return repr(path[:200].decode("utf-8", "backslashreplace"))
