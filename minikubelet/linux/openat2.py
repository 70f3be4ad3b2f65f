"""openat2(2): paths that come from images, manifests and requests, resolved where they belong."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from minikubelet.linux import libc

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

_ATTEMPTS = 128
_MAX_LINKS = 40
_FOLDER = os.O_PATH | os.O_DIRECTORY


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


_openat2 = libc.system_call(437, ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(_OpenHow), ctypes.c_size_t)


def open_at(dirfd: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2) with O_CLOEXEC. Raises OSError.

    A scoped lookup that meets a concurrent rename answers EAGAIN; it is tried again, but not for ever.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path)
    for _ in range(_ATTEMPTS):
        fd = _openat2(dirfd, name, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    return libc.check(-1, path)


def open_in_root(rootfd: int, path: str, flags: int = os.O_PATH, mode: int = 0, resolve: int = 0) -> int:
    """Open ``path`` as a process whose root is ``rootfd`` would; links, ``..`` and all stay inside."""
    return open_at(rootfd, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve, mode)


def open_beneath(dirfd: int, path: str, flags: int = os.O_PATH, mode: int = 0) -> int:
    """Open ``path`` below ``dirfd``; symbolic links and escapes are errors (ELOOP, EXDEV)."""
    return open_at(dirfd, path, flags, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS, mode)


def make_folder_in_root(rootfd: int, path: str, mode: int = 0o755, resolve: int = 0) -> int:
    """Open the folder ``path`` inside ``rootfd`` (O_PATH), making what is missing. Raises OSError.

    What exists is resolved as in :func:`open_in_root`; new folders are made one by one below the descriptor
    just opened, so that nothing swapped in between is followed. A dangling link on the way (``/var/run`` →
    ``/run`` in an image without ``/run``) gets its target made, inside the root like everything else.
    """
    if ".." in path.split("/"):
        raise OSError(errno.EINVAL, "path has a '..' element", path)
    for _ in range(_MAX_LINKS):
        fd, done, missing = _deepest(rootfd, path, resolve)
        fd, count = _make_below(fd, missing, mode)
        if count == len(missing):
            return fd
        try:
            link = os.readlink(missing[count], dir_fd=fd)
        finally:
            os.close(fd)
        if resolve & RESOLVE_NO_SYMLINKS:
            break
        before = [] if link.startswith("/") else [*done, *missing[:count]]
        path = "/".join([*before, link, *missing[count + 1 :]])
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def _deepest(rootfd: int, path: str, resolve: int) -> tuple[int, list[str], list[str]]:
    """The deepest folder on ``path`` that exists, the parts that lead to it, and those that are missing."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    for count in range(len(parts), -1, -1):
        try:
            fd = open_in_root(rootfd, "/".join(parts[:count]) or ".", _FOLDER, resolve=resolve)
        except FileNotFoundError:
            if count == 0:
                raise
        else:
            return fd, parts[:count], parts[count:]
    raise AssertionError("unreachable")


def _make_below(fd: int, missing: list[str], mode: int) -> tuple[int, int]:
    """Make the folders ``missing`` one below the other; stops at a symbolic link.

    Returns the innermost folder (``fd`` is closed unless it is that) and how many there are.
    """
    for count, part in enumerate(missing):
        try:
            try:
                os.mkdir(part, mode, dir_fd=fd)
            except FileExistsError:
                pass
            child = open_beneath(fd, part, _FOLDER)
        except OSError as exc:
            if exc.errno == errno.ELOOP:
                return fd, count
            os.close(fd)
            raise
        os.close(fd)
        fd = child
    return fd, len(missing)


def make_file_in_root(rootfd: int, path: str, mode: int = 0o644) -> int:
    """Open ``path`` inside ``rootfd`` (O_PATH), making an empty file and its folders when missing."""
    try:
        return open_in_root(rootfd, path)
    except FileNotFoundError:
        pass
    folder, _, name = path.rstrip("/").rpartition("/")
    parent = make_folder_in_root(rootfd, folder)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open(name, flags, mode, dir_fd=parent))
        except FileExistsError:
            # A dangling link: its target would have to be made, which nobody asked for by name.
            raise OSError(errno.ENOENT, "is a dangling symbolic link", path) from None
        return open_beneath(parent, name)
    finally:
        os.close(parent)


def read_regular_in_root(rootfd: int, procfd: int, path: str, limit: int) -> bytes:
    """Content of a regular file inside ``rootfd``, at most ``limit`` bytes. Raises OSError.

    The file is looked at (O_PATH) before it is opened, so that a device, FIFO or socket planted there is
    never touched; ``procfd`` is a verified /proc, through which the very same inode is reopened.
    """
    handle = open_in_root(rootfd, path)
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if info.st_size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", path)
        fd = os.open(f"self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=procfd)
    finally:
        os.close(handle)
    try:
        data = b""
        while chunk := os.read(fd, min(65536, limit + 1 - len(data))):
            data += chunk
        if len(data) > limit:
            raise OSError(errno.EFBIG, f"larger than {limit} bytes", path)
        return data
    finally:
        os.close(fd)
