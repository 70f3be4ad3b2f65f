"""Power cuts: images are written out soon after their commit, and dropped if the machine was faster.

A pull doesn't wait for the disk. Its image is marked with this boot's ID until a syncfs(2) that began after
the commit has ended; an image that still bears another boot's mark at start may have holes and is fetched
again. A daemon that merely dies loses nothing, as the page cache survives it.
"""

from __future__ import annotations

import asyncio
import logging

from minikubelet.images.records import Records
from minikubelet.linux.sync import boot_id, sync_filesystem

log = logging.getLogger(__name__)

DELAY = 0.5
"""Seconds after a commit until the sync, so that pulls in a row share one."""


class Durability:
    """Which images are not on the disk yet, and the task that sees to it."""

    def __init__(self, root: str, records: Records) -> None:
        self._root = root
        self._records = records
        self._unsynced: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self.boot = boot_id()

    def survived(self, image_id: str, mark: str) -> bool:
        """At start: whether an image with this mark is whole; notes it for a sync if it needs one."""
        if mark == self.boot:
            self.committed(image_id)
        return mark in ("", self.boot)

    def committed(self, image_id: str) -> None:
        """An image was committed with this boot's mark."""
        self._unsynced.add(image_id)
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._work())

    def removed(self, image_id: str) -> None:
        """An image is gone."""
        self._unsynced.discard(image_id)

    async def close(self) -> None:
        """Write out what is left."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._unsynced:
            await self.sync()

    async def sync(self) -> None:
        """Write out the file system; the images committed before are safe then. Failures are logged."""
        images = set(self._unsynced)
        try:
            await asyncio.to_thread(sync_filesystem, self._root)
        except OSError as exc:
            log.warning("sync of %s: %s", self._root, exc)
            return
        self._records.mark_synced(images)
        self._unsynced -= images

    async def _work(self) -> None:
        while self._unsynced:
            await asyncio.sleep(DELAY)
            await self.sync()
