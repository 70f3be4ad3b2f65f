"""hostPath: a path of the host, checked for its declared type through a descriptor."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.kubelet.volumes.plugin import Request
from minikubelet.linux import openat2

_FOLDER_MODE, _FILE_MODE = 0o755, 0o644

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
    "Directory": (stat.S_ISDIR, "a directory"),
    "FileOrCreate": (stat.S_ISREG, "a file"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


class HostPath:
    """The plug-in. ``root`` is what paths of the manifest are resolved in; tests give it a folder."""

    def __init__(self, root: str = "/") -> None:
        self._root = root

    def setup(self, request: Request) -> str:
        """The path with all links resolved, so that what was checked is what gets mounted."""
        source = request.volume.host_path
        assert source is not None
        kind = source.type or ""
        path = _clean(source.path, f"{request.field}.path")
        if kind and kind not in _CHECKS:
            known = ", ".join(_CHECKS)
            raise invalid(f"{request.field}.type", f"unknown type {kind!r} (known: {known})")
        root = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return self._resolve(root, path, kind)
        except NodeError as exc:
            exc.field = exc.field or request.field
            raise
        finally:
            os.close(root)

    def _resolve(self, root: int, path: str, kind: str) -> str:
        try:
            handle = _open(root, path, kind)
        except FileNotFoundError:
            if not kind:
                return self._root.rstrip("/") + path  # the runtime makes it a folder, as upstream has it
            raise _failed(path, _CHECKS[kind][1]) from None
        except OSError as exc:
            raise NodeError(Code.FAILED_PRECONDITION, f"hostPath {path}: {exc.strerror}") from exc
        try:
            if kind:
                check, words = _CHECKS[kind]
                if not check(os.fstat(handle).st_mode):
                    raise _failed(path, words)
            return os.readlink(f"/proc/self/fd/{handle}")
        finally:
            os.close(handle)


def _clean(path: str, field: str) -> str:
    if not path:
        raise invalid(field, "is required")
    if not path.startswith("/"):
        raise invalid(field, f"{path!r} is not absolute")
    if ".." in path.split("/"):
        raise invalid(field, "must not contain '..'")
    if "\0" in path:
        raise invalid(field, "must not contain NUL")
    return os.path.normpath("/" + path.lstrip("/"))


def _open(root: int, path: str, kind: str) -> int:
    # O_PATH throughout: a FIFO or device is looked at, never opened.
    if kind == "DirectoryOrCreate":
        try:
            return openat2.open_in_root(root, path)
        except FileNotFoundError:
            return _make_folders(root, path)
    if kind == "FileOrCreate":
        try:
            return openat2.open_in_root(root, path)
        except FileNotFoundError:
            return _make_file(root, path)
    return openat2.open_in_root(root, path)


def _make_folders(root: int, path: str) -> int:
    """Make what is missing of ``path``, one folder below the other; a dangling link is an error (ELOOP)."""
    flags = os.O_PATH | os.O_DIRECTORY
    present = path
    missing: list[str] = []
    while True:
        present, _, name = present.rpartition("/")
        missing.insert(0, name)
        try:
            folder = openat2.open_in_root(root, present or "/", flags)
            break
        except FileNotFoundError:
            continue
    for name in missing:
        try:
            try:
                os.mkdir(name, _FOLDER_MODE, dir_fd=folder)
            except FileExistsError:
                pass
            child = openat2.open_beneath(folder, name, flags)
        finally:
            os.close(folder)
        folder = child
    return folder


def _make_file(root: int, path: str) -> int:
    folder, _, name = path.rpartition("/")
    parent = openat2.open_in_root(root, folder or "/", os.O_PATH | os.O_DIRECTORY)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            os.close(os.open(name, flags, _FILE_MODE, dir_fd=parent))
        except FileExistsError:
            pass  # made by someone else meanwhile, or a dangling link: the next line tells
        return openat2.open_beneath(parent, name)
    finally:
        os.close(parent)


def _failed(path: str, words: str) -> NodeError:
    return NodeError(Code.FAILED_PRECONDITION, f"hostPath type check failed: {path} is not {words}")
