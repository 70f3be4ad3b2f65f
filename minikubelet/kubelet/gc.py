"""Garbage collection: images that nobody uses (pkg/kubelet/images), sandboxes that nobody needs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.clock import Clock
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.defaults import all_containers
from minikubelet.kubelet.events import WARNING, EventRecorder
from minikubelet.kubelet.labels import OWNER
from minikubelet.kubelet.metrics.families import Counter
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.resource_config import GarbageConfig

log = logging.getLogger(__name__)


@dataclass
class _Seen:
    """What is remembered of an image; times on the monotonic clock."""

    first: float
    used: float
    size: int


class ImageGarbage:
    """Removes images that no container has, least recently used first; pinned ones never."""

    def __init__(
        self,
        client: CriClient,
        config: GarbageConfig,
        events: EventRecorder,
        clock: Clock,
        collected: Counter | None = None,
    ) -> None:
        """``collected`` counts images by why they went: ``age`` or ``space``."""
        self._collected = collected
        self._client = client
        self._config = config
        self._events = events
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    async def look(self, wanted: Iterable[Pod]) -> int:
        """One look at the file system and the images' age; bytes freed. Raises NodeError."""
        in_use = await self._detect(wanted)
        freed = await self._too_old(in_use)
        available, capacity = await self._filesystem()
        if not capacity or self._config.image_high_threshold >= 100:
            return freed
        used = 100 - available * 100 // capacity
        if used < self._config.image_high_threshold:
            return freed
        goal = capacity * (100 - self._config.image_low_threshold) // 100 - available
        log.info("the image file system is %s%% full: %d bytes of images are to go", used, goal)
        done = await self._free(goal, in_use)
        if done < goal:
            message = (
                "Insufficient free disk space on the node's image filesystem "
                f"({used}% of {_size(capacity)} used). Failed to free sufficient space by deleting unused "
                f"images (freed {done} bytes). Investigate disk usage, as it could be used by active images, "
                "logs, volumes, or other data."
            )
            self._events.node(WARNING, "FreeDiskSpaceFailed", message)
        return freed + done

    def known(self) -> set[str]:
        """IDs of the images that were there at the last look and have not been removed since."""
        return set(self._seen)

    async def free_all(self, wanted: Iterable[Pod]) -> int:
        """Remove every image that is not in use, whatever its age; bytes freed. Raises NodeError."""
        return await self._free(1 << 62, await self._detect(wanted), whatever_age=True)

    async def _filesystem(self) -> tuple[int, int]:
        """(available, capacity) in bytes of the file system that holds the images; zeros: not told."""
        for each in (await self._client.image_fs_info()).image_filesystems:
            try:
                found = os.statvfs(each.fs_id.mountpoint)
            except OSError:
                continue  # the runtime may see other paths than we do
            return found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        return 0, 0

    async def _detect(self, wanted: Iterable[Pod]) -> set[str]:
        """Bring what is known up to date; IDs of the images in use."""
        now = self._clock.monotonic()
        images = await self._client.list_images()
        in_use = await self._in_use(images, wanted)
        for image in images:
            seen = self._seen.setdefault(image.id, _Seen(now, now, 0))
            seen.size = image.size
            if image.id in in_use:
                seen.used = now
        for gone in self._seen.keys() - {image.id for image in images}:
            del self._seen[gone]
        return in_use

    async def _in_use(self, images: list[api.Image], wanted: Iterable[Pod]) -> set[str]:
        names = set()
        for container in await self._client.list_containers():
            names |= {container.image_ref, container.image_id, container.image.image}
        for pod in wanted:
            # Pulled, and its container not made yet: upstream could remove it in between.
            names |= {each.image for each in all_containers(pod.spec)}
            names |= {volume.image.reference for volume in pod.spec.volumes if volume.image is not None}
        return {
            image.id
            for image in images
            if image.pinned
            or image.id in names
            or any(known in names for tag in [*image.repo_tags, *image.repo_digests] for known in _names(tag))
        }

    async def _too_old(self, in_use: set[str]) -> int:
        most, now = self._config.image_maximum_age, self._clock.monotonic()
        freed = 0
        for identifier, seen in list(self._seen.items()):
            if most and identifier not in in_use and now - seen.used > most:
                freed += await self._remove(identifier, "age")
        return freed

    async def _free(self, goal: int, in_use: set[str], whatever_age: bool = False) -> int:
        now, freed = self._clock.monotonic(), 0
        for identifier, seen in sorted(self._seen.items(), key=lambda item: (item[1].used, item[1].first)):
            if freed >= goal:
                break
            young = now - seen.first < self._config.image_minimum_age and not whatever_age
            if identifier not in in_use and not young:
                freed += await self._remove(identifier, "space")
        return freed

    async def _remove(self, identifier: str, reason: str) -> int:
        size = self._seen[identifier].size
        try:
            await self._client.remove_image(identifier)
        except NodeError as exc:
            log.warning("image %s can't be removed: %s", identifier, exc)
            return 0
        del self._seen[identifier]
        if self._collected is not None:
            self._collected.inc((reason,))
        log.info("removed the unused image %s (%d bytes)", identifier, size)
        return size


def _size(count: int) -> str:
    """Bytes as upstream writes them in its message."""
    amount, unit = count / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.1f} {unit}"


def _names(tag: str) -> Iterable[str]:
    """The ways in which a manifest may write an image's full name."""
    yield tag
    for prefix in ("docker.io/library/", "docker.io/"):
        if tag.startswith(prefix):
            yield tag.removeprefix(prefix)
    for each in (tag, tag.removeprefix("docker.io/library/"), tag.removeprefix("docker.io/")):
        if each.endswith(":latest"):
            yield each.removesuffix(":latest")


async def collect_sandboxes(client: CriClient, keep: Callable[[], set[str]], owner: str) -> int:
    """Remove sandboxes of the kubelet ``owner`` that have ended and whose pods are not among ``keep``.

    Raises NodeError."""
    removed = 0
    for sandbox in await client.list_pod_sandboxes():
        if sandbox.state == api.SANDBOX_READY or sandbox.annotations.get(OWNER) != owner:
            continue
        if sandbox.metadata.uid in keep():
            continue
        try:
            await client.remove_pod_sandbox(sandbox.id)
            removed += 1
        except NodeError as exc:
            if exc.code is not Code.NOT_FOUND:
                log.warning("sandbox %s can't be removed: %s", sandbox.id, exc)
    return removed
