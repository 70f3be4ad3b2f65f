"""Files that change all at once: a time-stamped folder behind one symbolic link, swapped by rename(2).

::

    VOLUME/..2026_11_22_10_00_00.123456789/app/key   the data
    VOLUME/..data -> ..2026_11_22_10_00_00.123456789
    VOLUME/app -> ..data/app                         what a container opens

The layout and the order of steps are those of upstream's AtomicWriter (pkg/volume/util/atomic_writer.go):
programs watch ``..data`` with inotify(7) to learn of changes.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from minikubelet.kubelet.volumes import removal
from minikubelet.linux import openat2

DATA = "..data"
_NEXT = "..data_tmp"
_LONGEST_PATH = 4096
_LONGEST_NAME = 255
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@dataclass(frozen=True)
class FileContent:
    """A file of a volume; its bytes never show in logs."""

    data: bytes
    mode: int = 0o644

    def __repr__(self) -> str:
        return f"FileContent({len(self.data)} bytes, mode={self.mode:04o})"


Payload = Mapping[str, FileContent]
"""Files by path relative to the volume."""


def check_path(path: str) -> str:
    """``path`` in its shortest form. Raises ValueError for one that is no path inside a volume."""
    if not path:
        raise ValueError('invalid path: must not be empty: ""')
    if path.startswith("/"):
        raise ValueError(f"invalid path: must be relative path: {path}")
    if len(path) > _LONGEST_PATH:
        raise ValueError(f"invalid path: must be less than or equal to {_LONGEST_PATH} characters")
    parts = path.split("/")
    if ".." in parts:
        raise ValueError(f"invalid path: must not contain '..': {path}")
    if any(len(part) > _LONGEST_NAME for part in parts):
        raise ValueError(f"invalid path: filenames must be less than or equal to {_LONGEST_NAME} characters")
    if parts[0].startswith(".."):
        raise ValueError(f"invalid path: must not start with '..': {path}")
    clean = posixpath.normpath(path)
    if clean == ".":
        raise ValueError(f"invalid path: names no file: {path}")
    return clean


def write(folder: str, payload: Payload, finish: Callable[[], None] | None = None) -> bool:
    """Make ``payload`` the content of the volume at ``folder``; whether anything changed.

    ``finish`` is called when the new files are there and not shown yet: for owners and modes.
    Raises ValueError for a path that is refused, OSError; the old content stays then.
    """
    clean = {check_path(path): content for path, content in payload.items()}
    top = os.open(folder, _FOLDER | os.O_CLOEXEC)
    try:
        old = _current(top)
        gone = set() if old is None else _paths(top, old) - _with_parents(clean)
        changed = old is None or bool(gone) or any(_differs(top, old, *each) for each in clean.items())
        if changed:
            _publish(top, clean, finish)
        _show(top, clean)
        for path in gone:
            if "/" not in path:
                # A folder of that name is where something else is mounted.
                with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                    os.unlink(path, dir_fd=top)
        if changed and old is not None:
            removal.remove_tree_at(top, old)
        return changed
    finally:
        os.close(top)


def _current(top: int) -> str | None:
    """The folder that shows now; also what an attempt that was cut off has left is removed."""
    try:
        current: str | None = os.readlink(DATA, dir_fd=top)
    except FileNotFoundError:
        current = None
    for name in os.listdir(top):
        if name.startswith("..2") and name != current:
            removal.remove_tree_at(top, name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_NEXT, dir_fd=top)
    if current is None:
        return None
    try:
        os.stat(current, dir_fd=top, follow_symlinks=False)
    except FileNotFoundError:
        os.unlink(DATA, dir_fd=top)
        return None
    return current


def _paths(top: int, old: str) -> set[str]:
    """Everything below the folder ``old``, folders included."""
    found: set[str] = set()
    for base, folders, files, _ in os.fwalk(old, dir_fd=top):
        inside = posixpath.relpath(base, old)
        found |= {posixpath.normpath(posixpath.join(inside, name)) for name in [*folders, *files]}
    return found


def _with_parents(payload: Payload) -> set[str]:
    found: set[str] = set()
    for path in payload:
        while path:
            found.add(path)
            path = posixpath.dirname(path)
    return found


def _differs(top: int, old: str | None, path: str, content: FileContent) -> bool:
    try:
        fd = openat2.open_beneath(top, f"{old}/{path}", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return True
    try:
        return os.fstat(fd).st_size != len(content.data) or _read(fd, len(content.data)) != content.data
    except OSError:
        return True  # a folder where a file shall be
    finally:
        os.close(fd)


def _read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := os.read(fd, size - len(data))):
        data += piece
    return data


def _publish(top: int, payload: Payload, finish: Callable[[], None] | None) -> None:
    now = time.time_ns()
    stamp = time.strftime("..%Y_%m_%d_%H_%M_%S.", time.gmtime(now // 10**9))
    name = f"{stamp}{now % 10**9:09d}"
    os.mkdir(name, 0o700, dir_fd=top)
    try:
        folder = openat2.open_beneath(top, name, _FOLDER)
        try:
            os.fchmod(folder, 0o755)
            for path, content in payload.items():
                _write_file(folder, path, content)
        finally:
            os.close(folder)
        if finish is not None:
            finish()
        os.symlink(name, _NEXT, dir_fd=top)
        os.rename(_NEXT, DATA, src_dir_fd=top, dst_dir_fd=top)
    except BaseException:
        removal.remove_tree_at(top, name)
        raise


def _write_file(top: int, path: str, content: FileContent) -> None:
    folder = os.dup(top)
    try:
        *parents, name = path.split("/")
        for parent in parents:
            with contextlib.suppress(FileExistsError):
                os.mkdir(parent, 0o700, dir_fd=folder)
            child = openat2.open_beneath(folder, parent, _FOLDER)
            os.close(folder)
            folder = child
            os.fchmod(folder, 0o755)
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        with os.fdopen(fd, "wb", buffering=0) as file:
            data = memoryview(content.data)
            while data:
                data = data[file.write(data) or 0 :]
            os.fchmod(fd, content.mode)
    finally:
        os.close(folder)


def _show(top: int, payload: Payload) -> None:
    """A link for the first element of each path."""
    for name in {path.split("/", 1)[0] for path in payload}:
        with contextlib.suppress(FileExistsError):
            os.symlink(f"{DATA}/{name}", name, dir_fd=top)
