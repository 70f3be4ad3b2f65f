"""emptyDir: a folder of the pod's own on disk, or a tmpfs."""

from __future__ import annotations

import contextlib
import errno
import os

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.kubelet.demands import all_limited, pod_limits
from minikubelet.kubelet.objects import Pod, quantity
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.volumes import ownership, removal
from minikubelet.kubelet.volumes.plugin import Request, Surroundings
from minikubelet.linux import libc, mounts, openat2

MODE = 0o777
TMPFS_MODE = 0o1777
"""The kernel's default for a tmpfs, which upstream leaves as it is."""


class EmptyDir:
    """The plug-in."""

    def __init__(self, around: Surroundings | None = None) -> None:
        self._around = around or Surroundings()

    def setup(self, request: Request) -> str:
        """See :class:`Plugin`."""
        source = request.volume.empty_dir
        assert source is not None
        limit = size_limit(source.size_limit, f"{request.field}.sizeLimit")
        if source.medium not in ("", "Memory"):
            message = f"medium {source.medium!r} is not supported by this node (supported: '' and Memory)"
            raise NodeError(Code.UNIMPLEMENTED, message, field=f"{request.field}.medium")
        make_folder(request.folder, self.tmpfs_size(request, limit) if source.medium == "Memory" else None)
        if request.fs_group is not None:
            # Once is enough: what containers make of it later is theirs, also after a restart of the node.
            ownership.give_to_group(request.folder, request.fs_group, on_mismatch=True)
        return request.folder

    def tmpfs_size(self, request: Request, limit: int = 0) -> int:
        """Bytes of a tmpfs of the pod: its pages count towards the pod's memory. 0: the kernel's default."""
        return _smaller(limit, _memory_limit(request.pod), self._around.allocatable().get("memory", 0))


def make_folder(path: str, tmpfs: int | None = None) -> None:
    """The folder that everyone may write to; with ``tmpfs`` a tmpfs of that size (0: the kernel's default).

    Found again, it is left as it is. Raises OSError.
    """
    folder = _open(path)
    try:
        if tmpfs is not None:
            _mount_tmpfs(folder, path, tmpfs)
    finally:
        os.close(folder)


def _open(path: str) -> int:
    """The folder, made with its parents where missing; it never shows with another mode than its own."""
    os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
    parent = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    name = os.path.basename(path)
    try:
        try:
            return openat2.open_beneath(parent, name, os.O_PATH | os.O_DIRECTORY)
        except FileNotFoundError:
            unborn = f".{name}.new"
            with contextlib.suppress(FileExistsError):
                os.mkdir(unborn, 0o700, dir_fd=parent)
            fd = openat2.open_beneath(parent, unborn, os.O_PATH | os.O_DIRECTORY)
            os.chmod(f"/proc/self/fd/{fd}", MODE)
            os.rename(unborn, name, src_dir_fd=parent, dst_dir_fd=parent)
            return fd
    finally:
        os.close(parent)


def _mount_tmpfs(folder: int, path: str, size: int) -> None:
    if _is_mounted(path):
        return
    options = f"mode={TMPFS_MODE:o}" + (f",size={size}" if size else "")
    try:
        made = mounts.new_filesystem("tmpfs", f"{options},noswap")
    except OSError as exc:  # noswap came with Linux 6.4 and is for the initial user namespace only
        if exc.errno not in (errno.EINVAL, errno.EPERM):
            raise
        made = mounts.new_filesystem("tmpfs", options)
    try:
        mounts.attach(made, folder, path)
    finally:
        os.close(made)


def _is_mounted(path: str) -> bool:
    parent = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(removal.open_folder(parent, os.path.basename(path)))
    except OSError as exc:
        if exc.errno != errno.EXDEV:
            raise
        top = removal.open_folder(parent, os.path.basename(path), cross_mounts=True)
        try:
            return libc.filesystem_type(top, path) == mounts.TMPFS_MAGIC
        finally:
            os.close(top)
    finally:
        os.close(parent)
    return False


def size_limit(limit: Quantity | None, field: str) -> int:
    """Bytes; 0: none."""
    if limit is None:
        return 0
    try:
        size = quantity.whole(limit)
    except ValueError as exc:
        raise invalid(field, str(exc)) from None
    if size < 0:
        raise invalid(field, f"{limit!r} is negative")
    return size


def _memory_limit(pod: Pod) -> int:
    """The pod's memory limit in bytes; 0 if it has none as a whole."""
    return pod_limits(pod).get("memory", 0) if all_limited(pod, "memory") else 0


def _smaller(*limits: int) -> int:
    return min((limit for limit in limits if limit), default=0)
