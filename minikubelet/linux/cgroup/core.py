"""What every cgroup2 has: paths, making and removing, enabling controllers, kill, freeze, events.

All of it works in hybrid mode too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Collection, Iterator

from minikubelet.base.errors import invalid
from minikubelet.linux.cgroup.files import keyed, read, write

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@=+-]{0,254}\Z")
_RESERVED = re.compile(r"(cgroup|cpu|cpuset|io|memory|hugetlb|pids|rdma|misc|perf_event|dmem)\.")


def check_path(path: str, field: str = "cgroup_parent") -> str:
    """A cgroup path from a request, normalised: ``/a/b``, without a slash at the end.

    Raises NodeError INVALID_ARGUMENT for ``..``, empty or odd parts, and names that files of the kernel have.
    """
    if not path.startswith("/"):
        raise invalid(field, f"{path!r} does not start with '/'")
    parts = path.strip("/").split("/") if path.strip("/") else []
    for part in parts:
        if not _NAME.match(part) or _RESERVED.match(part):
            raise invalid(field, f"{path!r}: {part!r} is no name of a cgroup")
    if len(path) > 2048 or len(parts) > 32:
        raise invalid(field, "the path is too long")
    return "/" + "/".join(parts)


def ensure(mount: str, path: str, controllers: Collection[str]) -> None:
    """Make the cgroup ``path`` below ``mount``, each ancestor passing ``controllers`` on to its children.

    A controller that an ancestor doesn't have is left out (``plan`` has told). Raises OSError; EBUSY: an
    ancestor holds processes and can't pass controllers on ("no internal processes").
    """
    folder = mount
    for part in check_path(path).strip("/").split("/"):
        if not part:
            continue
        enable(folder, controllers)
        folder = f"{folder}/{part}"
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o755)


def enable(folder: str, controllers: Collection[str]) -> frozenset[str]:
    """Pass those of ``controllers`` on to the children that the cgroup has; returns what they now get.

    Raises OSError with the path.
    """
    available = set((read(folder, "cgroup.controllers") or "").split())
    enabled = set((read(folder, "cgroup.subtree_control") or "").split())
    missing = (available & set(controllers)) - enabled
    if missing:
        write(folder, "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(missing)))
    return frozenset(enabled | missing)


def processes(folder: str) -> list[int]:
    """PIDs in the cgroup itself (0 for one of an outer PID namespace). Empty when it is gone."""
    return [int(pid) for pid in (read(folder, "cgroup.procs") or "").split()]


def descendants(folder: str) -> Iterator[str]:
    """The cgroup's descendants and then itself: the order in which they can be removed."""
    for parent, _names, _files in os.walk(folder, topdown=False):
        yield parent


def remove(folder: str) -> bool:
    """rmdir(2) the cgroup and all below; False when a process is still in it. A missing one is fine.

    Raises OSError.
    """
    for child in descendants(folder):
        try:
            os.rmdir(child)
        except FileNotFoundError:
            continue
        except OSError as exc:
            if exc.errno == errno.EBUSY:
                return False
            raise
    return True


def kill(folder: str) -> bool:
    """SIGKILL everything in the cgroup and below by ``cgroup.kill`` (Linux 5.14).

    False when the kernel has no such file; a missing cgroup is True. Raises OSError.
    """
    try:
        write(folder, "cgroup.kill", "1")
    except FileNotFoundError:
        return not os.path.isdir(folder)
    return True


def freeze(folder: str, frozen: bool) -> None:
    """Stop or continue all processes (cgroup.freeze); the kernel reports it later. Raises OSError."""
    write(folder, "cgroup.freeze", "1" if frozen else "0")


def populated(folder: str) -> bool:
    """Whether a process lives in the cgroup or below (cgroup.events); False when it is gone."""
    return keyed(read(folder, "cgroup.events")).get("populated", 0) == 1


def frozen(folder: str) -> bool:
    """Whether all processes have stopped (cgroup.events); False when it is gone."""
    return keyed(read(folder, "cgroup.events")).get("frozen", 0) == 1
