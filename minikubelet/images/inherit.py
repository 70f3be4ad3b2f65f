"""Directories a layer changes without having an entry for: their attributes are those of the layers below."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence

from minikubelet.images.layertree import LayerTree

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPAQUE = "trusted.overlay.opaque"


class _Gone(Exception):
    """A layer hides the directory: those below it don't count."""


def inherit_attributes(folder: str, paths: Sequence[str], lower: Sequence[str]) -> None:
    """Give directories ``paths`` (latin-1, parents first) of ``folder`` the attributes they have below.

    ``lower`` are layer folders, uppermost first. Overlayfs shows the uppermost directory's mode, owner and
    times, so /tmp would lose its sticky bit to a layer that only brings /tmp/x. Raises OSError.
    """
    trees = [_tree(path) for path in (folder, *lower)]
    try:
        # Deepest first: setting a directory's time comes after all changes in it (there are none here).
        for text in reversed(paths):
            path = text.encode("latin-1")
            source = _find(trees[1:], path)
            if source is None:
                continue
            try:
                target = _open(trees[0], path)
                try:
                    _copy(source, target)
                finally:
                    os.close(target)
            finally:
                os.close(source)
    finally:
        for tree in trees:
            tree.close()
            os.close(tree.root_fd)


def _tree(path: str) -> LayerTree:
    return LayerTree(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))


def _open(tree: LayerTree, path: bytes) -> int:
    parent, _, name = path.rpartition(b"/")
    return os.open(name, _FLAGS, dir_fd=tree.directory(parent, create=False)[0])


def _find(trees: Sequence[LayerTree], path: bytes) -> int | None:
    """The directory in the uppermost layer that has it, unless a layer above hides it."""
    for tree in trees:
        try:
            fd = _walk(tree, path)
        except _Gone:
            return None
        if fd is not None:
            return fd
    return None


def _walk(tree: LayerTree, path: bytes) -> int | None:
    """Descriptor of ``path`` in one layer; None where it says nothing of it; links are not followed."""
    fd = os.dup(tree.root_fd)
    hidden = False
    try:
        for name in path.split(b"/"):
            try:
                inner = os.open(name, _FLAGS, dir_fd=fd)
            except FileNotFoundError:
                if hidden:
                    raise _Gone from None
                os.close(fd)
                return None
            except OSError as exc:
                if exc.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                raise _Gone from None
            os.close(fd)
            fd = inner
            hidden = hidden or _is_opaque(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, _OPAQUE) == b"y"
    except OSError:
        return False


def _copy(source: int, target: int) -> None:
    status = os.fstat(source)
    os.fchown(target, status.st_uid, status.st_gid)
    os.fchmod(target, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(source):
        if not name.startswith("trusted.overlay."):
            with contextlib.suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))
