"""emptyDir: a folder of the pod's own on disk, or a tmpfs."""

from __future__ import annotations

import errno
import logging
import os

from minikubelet.base.errors import Code, NodeError, invalid
from minikubelet.kubelet.objects import Pod, quantity
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.volumes import removal
from minikubelet.kubelet.volumes.plugin import Request
from minikubelet.linux import libc, mounts, openat2

log = logging.getLogger(__name__)

MODE = 0o777


class EmptyDir:
    """The plug-in."""

    def setup(self, request: Request) -> str:
        """See :class:`Plugin`."""
        source = request.volume.empty_dir
        assert source is not None
        limit = _size_limit(source.size_limit, f"{request.field}.sizeLimit")
        if source.medium not in ("", "Memory"):
            message = f"medium {source.medium!r} is not supported by this node (supported: '' and Memory)"
            raise NodeError(Code.UNIMPLEMENTED, message, field=f"{request.field}.medium")
        folder = _open(request.folder)
        try:
            if source.medium == "Memory":
                _mount_tmpfs(folder, request.folder, _smaller(limit, _memory_limit(request.pod)))
            else:
                if limit:
                    log.warning("%s.sizeLimit of %s: not enforced on disk", request.field, request.pod.key)
                os.chmod(f"/proc/self/fd/{folder}", MODE)
        finally:
            os.close(folder)
        return request.folder


def _open(path: str) -> int:
    """The folder, made with its parents where missing."""
    os.makedirs(os.path.dirname(path), mode=0o750, exist_ok=True)
    parent = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            os.mkdir(os.path.basename(path), 0o700, dir_fd=parent)
        except FileExistsError:
            pass
        return openat2.open_beneath(parent, os.path.basename(path), os.O_PATH | os.O_DIRECTORY)
    finally:
        os.close(parent)


def _mount_tmpfs(folder: int, path: str, size: int) -> None:
    if _is_mounted(path):
        return
    options = f"mode={MODE:o}" + (f",size={size}" if size else "")
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


def _size_limit(limit: Quantity | None, field: str) -> int:
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
    """The pod's memory limit in bytes, if every container has one: pages of the tmpfs count towards it."""
    total = 0
    for container in pod.spec.containers:
        limit = container.resources.limits.get("memory")
        if limit is None:
            return 0
        total += quantity.whole(limit)
    return total


def _smaller(*limits: int) -> int:
    return min((limit for limit in limits if limit), default=0)
