"""The image store: what other rooms call."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import replace

from minikubelet.base.database import Database
from minikubelet.base.errors import NodeError, invalid, not_found
from minikubelet.images.auth import check_credentials
from minikubelet.images.blobs import BlobStore
from minikubelet.images.documents import MAX_CONFIG, ImageConfig, parse_config
from minikubelet.images.flights import Flights
from minikubelet.images.hosts import load_hosts
from minikubelet.images.layers import Layers, remove_folder
from minikubelet.images.leases import Leases
from minikubelet.images.models import (
    Credentials,
    FsUsage,
    Image,
    Platform,
    PullEvent,
    SaveFormat,
    host_platform,
)
from minikubelet.images.pull import Pull, Resolved
from minikubelet.images.records import LayerRow, NewImage, Records
from minikubelet.images.reference import Reference, parse_reference
from minikubelet.images.registry import RegistryClient
from minikubelet.images.transport import Transport
from minikubelet.linux.sync import boot_id, sync_filesystem

log = logging.getLogger(__name__)

SYNC_DELAY = 0.5
"""Seconds after a pull until its files are written out, so that pulls in a row share one syncfs(2)."""
PullKey = tuple[str, Platform, Credentials | None]
_ID = re.compile(r"(?:sha256:)?([0-9a-f]{3,64})\Z")

__all__ = [
    "Credentials",
    "FsUsage",
    "Image",
    "ImageConfig",
    "ImageStore",
    "Platform",
    "PullEvent",
    "SaveFormat",
]


class ImageStore:
    """Images on disk: pulled, found, held by containers, removed. All methods are the event loop's."""

    def __init__(self, db: Database, root: str, certs_dirs: Sequence[str]) -> None:
        self._root = root
        self._certs_dirs = certs_dirs
        self._records = Records(db)
        self._blobs = BlobStore(root)
        self._leases = Leases()
        self._layers = Layers(root, self._records, self._blobs, self._leases)
        self._transport = Transport()
        self._pulls: Flights[PullKey, Image] = Flights()
        self._listeners: dict[PullKey, list[Callable[[PullEvent], None]]] = {}
        self._images: dict[str, Image] = {}
        self._boot = boot_id()
        self._unsynced: set[str] = set()
        self._syncing: asyncio.Task[None] | None = None
        self._background: set[asyncio.Future[None]] = set()
        self.layers_dir = self._layers.folder

    async def start(self) -> None:
        """Load the images; drop what a crash or power cut left half-made. Raises OSError."""
        self._blobs.start()
        orphans = self._layers.start()
        for row in self._records.images():
            try:
                if row["unsynced_boot"] not in ("", self._boot):
                    raise NodeError(invalid("", "").code, "the machine went down before it was on the disk")
                if row["unsynced_boot"]:
                    self._unsynced.add(row["id"])
                self._images[row["id"]] = self._load(row["id"])
            except (NodeError, OSError) as exc:
                log.error("image %s is dropped: %s", row["id"], exc)
                self._records.remove_image(row["id"])
        for name in orphans:
            self._in_background(remove_folder, self._layers.path(name))
        await self._layers.collect()
        known = self._records.known_blobs()
        for digest in [digest for digest in self._blobs.digests() if digest not in known]:
            self._blobs.remove(digest)
        if self._unsynced:
            self._sync_soon()

    async def close(self) -> None:
        """End connections and write out what is not on the disk yet."""
        await self._transport.close()
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.wait([self._syncing])
        if self._unsynced:
            await self._sync()
        if self._background:
            await asyncio.wait(self._background)

    def _in_background(self, function: Callable[[str], None], path: str) -> None:
        future = asyncio.get_running_loop().run_in_executor(None, function, path)
        self._background.add(future)
        future.add_done_callback(self._background.discard)

    async def pull(
        self,
        reference: str,
        credentials: Credentials | None = None,
        progress: Callable[[PullEvent], None] | None = None,
        platform: Platform | None = None,
    ) -> Image:
        """Bring an image here and point ``reference`` at it; pulls of the same at once share the work.

        ``progress`` is called in the event loop. Raises NodeError: INVALID_ARGUMENT for the reference or the
        credentials, NOT_FOUND, UNAUTHENTICATED, PERMISSION_DENIED, RESOURCE_EXHAUSTED (disk, rate limit),
        UNAVAILABLE, FAILED_PRECONDITION for content that isn't what it must be.
        """
        parsed = parse_reference(reference)
        check_credentials(credentials)
        wanted = platform or host_platform()
        key = (str(parsed), wanted, credentials)
        listeners = self._listeners.setdefault(key, [])
        if progress is not None:
            listeners.append(progress)
        try:
            return await self._pulls.run(key, lambda: self._pull(key, parsed, credentials))
        finally:
            if progress is not None:
                listeners.remove(progress)
            if not listeners:
                self._listeners.pop(key, None)

    async def _pull(self, key: PullKey, reference: Reference, credentials: Credentials | None) -> Image:
        platform = key[1]

        def progress(event: PullEvent) -> None:
            for listener in self._listeners.get(key, ()):
                listener(event)

        hosts = await asyncio.to_thread(load_hosts, reference.domain, self._certs_dirs)
        client = RegistryClient(self._transport, reference, hosts, credentials)
        image = await self._current(reference, client, platform)
        if image is not None:
            return image
        pull = Pull(reference, platform, client, self._blobs, self._layers)
        with self._leases.take(progress) as lease:
            try:
                resolved = await pull.resolve()
                rows = await pull.fetch(resolved, lease)
                image = self._commit(reference, resolved, rows)
            finally:
                candidates = set(lease.digests)
        await self._collect(candidates)
        return image

    async def _current(
        self, reference: Reference, client: RegistryClient, platform: Platform
    ) -> Image | None:
        """The image that is here, if the registry says that the reference still points to it."""
        known = self._records.target(str(reference))
        image = self._images.get(known[0]) if known else None
        if known is None or image is None or image.config.architecture not in ("", platform.architecture):
            return None
        digest = await client.digest_of(reference.selector)
        return image if digest == known[1] else None

    def _commit(self, reference: Reference, resolved: Resolved, rows: list[LayerRow]) -> Image:
        manifest = resolved.manifest
        assert manifest is not None
        blobs = {digest: len(data) for digest, data in resolved.documents.items()}
        blobs |= {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
        names = {reference.with_digest(resolved.target): resolved.target}
        if reference.tag:
            names[str(reference)] = resolved.target
        image_id = manifest.config.digest
        self.commit_image(NewImage(image_id, resolved.manifest_digest, names, blobs, rows, self._boot))
        return self._images[image_id]

    def commit_image(self, new: NewImage) -> None:
        """Record an image whose parts are all in place, and load it."""
        moved = [known[0] for name in new.names if (known := self._records.target(name))]
        self._records.commit(new)
        self._layers.committed(new.layers)
        self._unsynced.add(new.id)
        self._reload({new.id, *moved})
        self._sync_soon()

    def _reload(self, image_ids: Iterable[str]) -> None:
        for image_id in image_ids:
            if self._records.image(image_id) is None:
                self._images.pop(image_id, None)
            else:
                self._images[image_id] = self._load(image_id)

    def _load(self, image_id: str) -> Image:
        """An image from its rows and config. Raises NodeError, OSError if it is not whole."""
        row = self._records.image(image_id)
        if row is None:
            raise not_found("image", image_id)
        layers = self._records.image_layers(image_id)
        config = parse_config(self._blobs.read(image_id, MAX_CONFIG), len(layers), image_id)
        for layer in layers:
            if not os.path.isdir(self._layers.path(layer.name)):
                raise not_found("layer folder", layer.name)
        names = self._records.names(image_id)
        unique = {layer.name: layer.bytes for layer in layers}
        return Image(
            id=image_id,
            repo_tags=tuple(name for name in names if "@" not in name),
            repo_digests=tuple(name for name in names if "@" in name),
            size=sum(unique.values()) + sum(self._records.blobs(image_id).values()),
            config=config,
            layers=tuple(layer.name for layer in reversed(layers)),
            pinned=bool(row["pinned"]),
            manifest_digest=row["manifest"],
            created_at=row["created_at"],
        )

    def find(self, reference_or_id: str) -> Image | None:
        """The image of a tag, a digest, an ID or a short ID. Raises NodeError if a short ID is ambiguous."""
        if reference_or_id in self._images:
            return self._images[reference_or_id]
        with contextlib.suppress(NodeError):
            known = self._records.target(str(parse_reference(reference_or_id)))
            if known is not None:
                return self._images.get(known[0])
        match = _ID.match(reference_or_id)
        if not match:
            return None
        found = [image for image in self._images.values() if image.id.partition(":")[2].startswith(match[1])]
        if len(found) > 1:
            raise invalid("image", f"{reference_or_id!r} is the beginning of {len(found)} image IDs")
        return found[0] if found else None

    async def remove(self, reference_or_id: str) -> None:
        """Remove an image with all its names (as CRI's RemoveImage); nothing happens if it isn't there.

        Layers that containers hold stay until they are released.
        """
        image = self.find(reference_or_id)
        if image is None:
            return
        blobs = set(self._records.blobs(image.id))
        self._records.remove_image(image.id)
        self._images.pop(image.id, None)
        self._unsynced.discard(image.id)
        await self._collect(blobs)

    async def _collect(self, blobs: Iterable[str]) -> None:
        """Give back what nobody uses: these blobs, any layers."""
        known = self._records.known_blobs()
        for digest in blobs:
            if digest not in known and not self._leases.wants_blob(digest):
                self._blobs.remove(digest)
        await self._layers.collect()

    def set_pinned(self, reference_or_id: str, pinned: bool) -> None:
        """Mark an image as one that must not be garbage-collected. Raises NodeError(NOT_FOUND)."""
        image = self.find(reference_or_id)
        if image is None:
            raise not_found("image", reference_or_id)
        self._records.set_pinned(image.id, pinned)
        self._images[image.id] = replace(image, pinned=pinned)

    def hold(self, image_id: str, holder: str) -> None:
        """Keep an image's layers for ``holder`` (a container). Idempotent. Raises NodeError(NOT_FOUND)."""
        if image_id not in self._images:
            raise not_found("image", image_id)
        self._records.hold(image_id, holder)

    def release(self, holder: str) -> None:
        """End ``holder``'s hold; layers nobody needs any more are removed in the background. Idempotent."""
        self._records.release(holder)
        task = asyncio.ensure_future(self._layers.collect())
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def usage(self) -> FsUsage:
        """Disk use of all layers and blobs."""
        size, inodes = self._records.usage()
        return FsUsage(self._root, size, inodes)

    async def load(
        self, stream: AsyncIterator[bytes], progress: Callable[[PullEvent], None] | None = None
    ) -> list[Image]:
        """Images of an OCI layout tar or docker archive, of any compression."""
        raise NotImplementedError

    def save(self, references: Sequence[str], format: SaveFormat = SaveFormat.OCI) -> AsyncIterator[bytes]:
        """An archive of images."""
        raise NotImplementedError

    def list(self) -> list[Image]:
        """All images, oldest first."""
        return sorted(self._images.values(), key=lambda image: (image.created_at, image.id))

    def _sync_soon(self) -> None:
        if self._syncing is None or self._syncing.done():
            self._syncing = asyncio.ensure_future(self._sync_after(SYNC_DELAY))

    async def _sync_after(self, delay: float) -> None:
        while self._unsynced:
            await asyncio.sleep(delay)
            await self._sync()

    async def _sync(self) -> None:
        """Write out the file system; the images committed before are safe from power cuts then."""
        images = set(self._unsynced)
        try:
            await asyncio.to_thread(sync_filesystem, self._root)
        except OSError as exc:
            log.warning("sync of %s: %s", self._root, exc)
            return
        self._records.mark_synced(images)
        self._unsynced -= images
