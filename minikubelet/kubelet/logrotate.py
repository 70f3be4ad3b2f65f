"""Rotation of container logs (pkg/kubelet/logs): the runtime writes, the kubelet renames and compresses.

``N.log`` becomes ``N.log.YYYYMMDD-HHMMSS`` and the runtime is told to open a new file; what is written
meanwhile goes to the renamed file, which the runtime still has open. What was rotated before is compressed
then, and not earlier: readers of the newest pieces find plain text.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import os
import re
import shutil
import stat
import time

from minikubelet.base.errors import NodeError
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.objects import quantity
from minikubelet.kubelet.observed import ObservedContainer
from minikubelet.kubelet.resource_config import GarbageConfig

log = logging.getLogger(__name__)

_ROTATED = re.compile(r"\.\d{8}-\d{6}(\.gz)?\Z")
_GZIP_LEVEL = 6


class LogRotation:
    """Rotates the logs of running containers below ``folder``."""

    def __init__(self, client: CriClient, config: GarbageConfig, folder: str) -> None:
        self._client = client
        self._config = config
        self._folder = folder.rstrip("/") + "/"

    async def look(self, containers: list[ObservedContainer]) -> int:
        """Rotate what has grown too large; how many were rotated. One failure holds up no other."""
        limit = quantity.whole(self._config.log_max_size)
        rotated = 0
        for container in containers:
            if not container.is_running or not container.log_path.startswith(self._folder):
                continue
            try:
                rotated += await self._look_at(container, limit)
            except (OSError, NodeError) as exc:
                log.warning("log %s is not rotated: %s", container.log_path, exc)
        return rotated

    async def _look_at(self, container: ObservedContainer, limit: int) -> bool:
        path = container.log_path
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            await self._client.reopen_container_log(container.id)
            return False
        if not stat.S_ISREG(status.st_mode) or limit <= 0 or status.st_size < limit:
            return False
        await asyncio.to_thread(self.tidy, path)
        stamped = f"{path}.{time.strftime('%Y%m%d-%H%M%S')}"
        if os.path.lexists(stamped) or os.path.lexists(f"{stamped}.gz"):
            return False  # twice within a second: the next look does it
        os.rename(path, stamped)
        try:
            await self._client.reopen_container_log(container.id)
        except NodeError:
            if not os.path.lexists(path):
                with contextlib.suppress(OSError):
                    os.rename(stamped, path)
            raise
        return True

    def tidy(self, path: str) -> None:
        """Remove the oldest pieces of a log and compress the others. Raises OSError."""
        folder, base = os.path.split(path)
        pieces = []
        for name in sorted(os.listdir(folder)):
            rest = name.removeprefix(base)
            if rest == name:
                continue
            if rest.endswith(".tmp"):
                os.unlink(os.path.join(folder, name))  # half a compression, of a kubelet that was ended
            elif _ROTATED.match(rest):
                pieces.append(os.path.join(folder, name))
        # Beside the current file and the one that is about to be made of it.
        keep = max(0, self._config.log_max_files - 2)
        for old in pieces[: max(0, len(pieces) - keep)]:
            os.unlink(old)
        for piece in pieces[max(0, len(pieces) - keep) :]:
            if not piece.endswith(".gz"):
                _compress(piece)


def _compress(path: str) -> None:
    """``path`` becomes ``path.gz``; at every moment one of them is whole."""
    draft = f"{path}.tmp"
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with open(fd, "rb", closefd=False) as source, open(draft, "xb") as target:
            os.fchmod(target.fileno(), 0o640)
            with gzip.GzipFile("", "wb", _GZIP_LEVEL, target) as packed:
                shutil.copyfileobj(source, packed, 256 * 1024)
        os.rename(draft, f"{path}.gz")
        os.unlink(path)
    finally:
        os.close(fd)


def remove_log(path: str) -> None:
    """A container's log with all of its rotated pieces; what can't be removed stays."""
    folder, base = os.path.split(path)
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name == base or (name.startswith(f"{base}.") and _ROTATED.search(name.removesuffix(".tmp"))):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))
