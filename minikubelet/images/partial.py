"""Downloads that broke off, kept so that the next pull goes on: ``ROOT/partial/BOOT/ALGORITHM-HEX``.

A layer arrives in its file here from the first byte, so that a daemon that is killed leaves it, too. Nothing
in it is trusted: the next pull hashes it again, goes on where it ends, and throws it away if the digest is
wrong then. It is of use within one boot only, because nobody waited for the disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import time
from collections.abc import Collection

from minikubelet.images.blobs import Ingest

log = logging.getLogger(__name__)

LEAST_BYTES = 1 << 20
"""Less is quicker fetched again than looked after."""
MAX_AGE = 24 * 3600.0
"""Seconds after which nobody is expected to come back for it."""
MAX_BYTES = 16 << 30
"""All together."""
LEAST_FREE = 0.1
"""Share of the file system; below it they all go: images that are in use need the room."""


class PartialStore:
    """The folder of broken-off downloads. Blocks on files for little more than a listing."""

    def __init__(self, root: str, boot: str) -> None:
        self._top = f"{root}/partial"
        self._folder = f"{self._top}/{boot}"

    def start(self) -> None:
        """Make the folder; drop other boots' and what is too old or too much. Raises OSError."""
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        for name in os.listdir(self._top):
            if f"{self._top}/{name}" != self._folder:
                shutil.rmtree(f"{self._top}/{name}", ignore_errors=True)
        self.collect(())

    def open(self, digest: str, size: int) -> Ingest:
        """An ingest for a blob, on what is there of it (``Ingest.resume`` reads that). Raises OSError."""
        return Ingest(self._path(digest), digest, size, resume=True)

    def put_back(self, ingest: Ingest) -> None:
        """A download broke off: keep what came of it, unless that isn't worth it."""
        ingest.close(keep=ingest.offset >= LEAST_BYTES)

    def collect(self, in_use: Collection[str]) -> None:
        """Remove what is old, what is too much (oldest first), and everything when the disk gets full.

        ``in_use`` are digests that arrive right now. A failure is logged: the next call tries again.
        """
        busy = {self._path(digest) for digest in in_use}
        now = time.time()
        total = 0
        try:
            status = os.statvfs(self._folder)
            full = status.f_bavail < status.f_blocks * LEAST_FREE
            for changed, path, size in sorted(self._files(), reverse=True):
                total += size
                if path in busy:
                    continue
                if full or total > MAX_BYTES or size < LEAST_BYTES or not 0 <= now - changed <= MAX_AGE:
                    os.unlink(path)
        except OSError as exc:
            log.warning("broken-off downloads: %s", exc)

    def _files(self) -> list[tuple[float, str, int]]:
        """When it last grew, where it is, how large it is."""
        found = []
        for name in os.listdir(self._folder):
            path = f"{self._folder}/{name}"
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(path, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode):
                    found.append((status.st_mtime, path, status.st_size))
        return found

    def _path(self, digest: str) -> str:
        return f"{self._folder}/{digest.replace(':', '-')}"
