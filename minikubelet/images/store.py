"""The image store: what other rooms call."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import msgspec

from minikubelet.base.database import Database
from minikubelet.base.errors import Code, NodeError, StepError, invalid, not_found
from minikubelet.images import signatures
from minikubelet.images.archive import Archive, Feed, unpack_archive
from minikubelet.images.auth import check_credentials
from minikubelet.images.auth_file import AuthFile
from minikubelet.images.blobs import BlobStore, Ingest
from minikubelet.images.documents import MAX_CONFIG, MAX_MANIFEST, ImageConfig, parse_config
from minikubelet.images.durability import Durability
from minikubelet.images.endpoints import Sources, hosts_for
from minikubelet.images.flights import Flights
from minikubelet.images.layers import Layers, chain_specs, remove_folder
from minikubelet.images.leases import Leases
from minikubelet.images.load import LoadedImage, images_of
from minikubelet.images.models import (
    Credentials,
    FsUsage,
    Image,
    Platform,
    PullEvent,
    SaveFormat,
    host_platform,
)
from minikubelet.images.patience import Trouble
from minikubelet.images.pull import Pull, Resolved, all_of
from minikubelet.images.records import LayerRow, NewImage, Records
from minikubelet.images.reference import Reference, parse_reference
from minikubelet.images.registries_conf import RegistriesConf
from minikubelet.images.registry import RegistryClient, Rights
from minikubelet.images.save import Saved, save_archive
from minikubelet.images.transport import Transport

log = logging.getLogger(__name__)

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


@dataclass(frozen=True)
class Order:
    """One thing to pull."""

    reference: Reference
    platform: Platform
    credentials: Credentials | None
    trouble: Trouble

    @property
    def key(self) -> PullKey:
        """What makes two orders the same."""
        return str(self.reference), self.platform, self.credentials


class ImageStore:
    """Images on disk: pulled, found, held by containers, removed. All methods are the event loop's."""

    def __init__(self, db: Database, root: str, sources: Sources, pinned: Collection[str] = ()) -> None:
        """``pinned`` are references of images that must not be garbage-collected. Raises INVALID_ARGUMENT."""
        self._root = root
        self._pinned = frozenset(str(parse_reference(reference)) for reference in pinned)
        self._sources = sources
        self._registries = RegistriesConf()
        """As last read: :meth:`find` can't wait for files."""
        self._stored = AuthFile(sources.auth_file).credentials if sources.auth_file else None
        self._records = Records(db)
        self._blobs = BlobStore(root)
        self._leases = Leases()
        self._durability = Durability(root, self._records)
        self._layers = Layers(root, self._records, self._blobs, self._leases, self._durability.boot)
        self._transport = Transport()
        self._pulls: Flights[PullKey, Image] = Flights()
        self._listeners: dict[PullKey, list[Callable[[PullEvent], None]]] = {}
        self._images: dict[str, Image] = {}
        self._background: set[asyncio.Future[None]] = set()
        self.layers_dir = self._layers.folder

    async def start(self) -> None:
        """Load the images; drop what a crash or power cut left half-made. Raises OSError."""
        try:
            self._registries = self._sources.read_registries_conf()
        except NodeError as exc:
            log.error("no image can be pulled: %s", exc)
        self._blobs.start()
        orphans = self._layers.start()
        for row in self._records.images():
            try:
                if not self._durability.survived(row["id"], row["unsynced_boot"]):
                    raise NodeError(Code.INTERNAL, "the machine went down before it was on the disk")
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

    async def close(self) -> None:
        """End connections and write out what is not on the disk yet."""
        await self._transport.close()
        await self._durability.close()
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
        UNAVAILABLE, FAILED_PRECONDITION for content or configuration that isn't what it must be, UNKNOWN for
        what the signature policy refuses.
        """
        parse_reference(reference)
        check_credentials(credentials)
        self._registries = await asyncio.to_thread(self._sources.read_registries_conf)
        wanted = platform or host_platform()
        trouble = Trouble()
        failures: list[NodeError] = []
        candidates = self._registries.candidates(reference)
        for text in candidates:
            parsed = parse_reference(text)
            order = Order(parsed, wanted, credentials, trouble)
            try:
                return await self._pull_shared(order, progress)
            except NodeError as exc:
                if exc.code is Code.INVALID_ARGUMENT or len(candidates) == 1:
                    raise
                failures.append(exc)
        last = failures[-1]
        raise NodeError(last.code, "; ".join(exc.message for exc in failures), reason=last.reason)

    async def _pull_shared(self, order: Order, progress: Callable[[PullEvent], None] | None) -> Image:
        key = order.key
        listeners = self._listeners.setdefault(key, [])
        if progress is not None:
            listeners.append(progress)
        try:
            return await self._pulls.run(key, lambda: self._pull(order))
        finally:
            if progress is not None:
                listeners.remove(progress)
            if not listeners:
                self._listeners.pop(key, None)

    async def _pull(self, order: Order) -> Image:
        reference, platform = order.reference, order.platform

        def progress(event: PullEvent) -> None:
            for listener in self._listeners.get(order.key, ()):
                listener(event)

        hosts = await asyncio.to_thread(hosts_for, reference, self._sources.certs_dirs, self._registries)
        rights = Rights(order.credentials, self._stored)
        client = RegistryClient(self._transport, reference, hosts, rights, order.trouble)
        policy = await asyncio.to_thread(self._sources.read_signature_policy)
        requirements = policy.requirements(reference)
        current = await self._current(reference, client, platform)
        if current is not None:
            image, target = current
            await signatures.check(requirements, reference, (target, image.manifest_digest), client)
            return image
        pull = Pull(reference, platform, client, self._blobs, self._layers)
        with self._leases.take(progress) as lease:
            try:
                resolved = await pull.resolve()
                digests = resolved.target, resolved.manifest_digest
                await signatures.check(requirements, reference, digests, client)
                rows = await pull.fetch(resolved, lease)
                image = self._commit(reference, resolved, rows)
            finally:
                candidates = set(lease.digests)
                lease.digests.clear()
                lease.diff_ids.clear()
                await self._collect(candidates)
        return image

    async def _current(
        self, reference: Reference, client: RegistryClient, platform: Platform
    ) -> tuple[Image, str] | None:
        """The image that is here, and the reference's digest, if the registry says it still points there."""
        known = self._records.target(str(reference))
        image = self._images.get(known[0]) if known else None
        if known is None or image is None or image.config.architecture not in ("", platform.architecture):
            return None
        digest = await client.digest_of(reference.selector)
        return (image, digest) if digest == known[1] else None

    def _commit(self, reference: Reference, resolved: Resolved, rows: list[LayerRow]) -> Image:
        manifest = resolved.manifest
        assert manifest is not None
        blobs = {digest: len(data) for digest, data in resolved.documents.items()}
        blobs |= {blob.digest: blob.size for blob in (manifest.config, *manifest.layers)}
        names = {reference.with_digest(resolved.target): resolved.target}
        if reference.tag:
            names[str(reference)] = resolved.target
        image_id = manifest.config.digest
        self.commit_image(
            NewImage(image_id, resolved.manifest_digest, names, blobs, rows, self._durability.boot)
        )
        return self._images[image_id]

    def commit_image(self, new: NewImage) -> None:
        """Record an image whose parts are all in place, and load it."""
        moved = [known[0] for name in new.names if (known := self._records.target(name))]
        self._records.commit(new)
        self._layers.committed(new.layers)
        self._durability.committed(new.id)
        self._reload({new.id, *moved})

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
            pinned=bool(row["pinned"]) or not self._pinned.isdisjoint(names),
            manifest_digest=row["manifest"],
            created_at=row["created_at"],
        )

    def find(self, reference_or_id: str) -> Image | None:
        """The image of a tag, a digest, an ID or a short ID. Raises NodeError if a short ID is ambiguous."""
        if reference_or_id in self._images:
            return self._images[reference_or_id]
        with contextlib.suppress(NodeError):
            for text in self._registries.candidates(reference_or_id):
                known = self._records.target(str(parse_reference(text)))
                if known is not None:
                    return self._images.get(known[0])
        match = _ID.match(reference_or_id)
        if not match:
            return None
        found = [image for image in self._images.values() if image.id.partition(":")[2].startswith(match[1])]
        if len(found) > 1:
            raise invalid("image", f"{reference_or_id!r} is the beginning of {len(found)} image IDs")
        return found[0] if found else None

    def annotations(self, image: Image) -> dict[str, str]:
        """What the manifest says that the image was last pulled or loaded by; empty where there is none."""
        try:
            document = msgspec.json.decode(self._blobs.read(image.manifest_digest, MAX_MANIFEST))
        except (OSError, NodeError, msgspec.MsgspecError):
            return {}
        found = document.get("annotations") if isinstance(document, dict) else None
        return found if isinstance(found, dict) else {}

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
        self._durability.removed(image.id)
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
        """Images of an OCI layout tar or docker archive, plain or compressed with gzip or zstd.

        They keep the names the archive gives them and survive a power cut once this returns. ``progress`` is
        called in the event loop. Raises NodeError(FAILED_PRECONDITION) for what is no good archive.
        """
        folder = self._blobs.scratch()
        try:
            archive = await self._spool(stream, folder)
            loaded = await asyncio.to_thread(images_of, archive, host_platform())
            images = [await self._load_one(image, progress) for image in loaded]
        except OSError as exc:
            raise StepError("load images", exc.errno or errno.EIO, exc.filename or "") from exc
        finally:
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, folder, True))
        await self._durability.sync()
        return [self._images.get(image.id, image) for image in images]

    async def _spool(self, stream: AsyncIterator[bytes], folder: str) -> Archive:
        """Let a thread take the archive apart while the event loop brings its bytes."""
        feed = Feed(stream)
        work = asyncio.ensure_future(asyncio.to_thread(unpack_archive, feed.read, folder))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            feed.stop()
            await asyncio.wait([work])
            raise

    async def _load_one(self, loaded: LoadedImage, progress: Callable[[PullEvent], None] | None) -> Image:
        with self._leases.take(progress) as lease:
            lease.digests |= {*loaded.documents, *loaded.blobs}
            lease.diff_ids |= set(loaded.config.diff_ids)
            try:
                for digest, data in loaded.documents.items():
                    await asyncio.to_thread(self._blobs.put, digest, data)
                for digest, member in loaded.blobs.items():
                    if not self._blobs.has(digest, member.size):
                        self._blobs.adopt(member.path, digest)
                specs = chain_specs(loaded.manifest.layers, loaded.config.diff_ids, lambda _: _no_source)
                rows = await all_of([self._layers.ensure(spec) for spec in specs])
                image = self._commit_loaded(loaded, rows)
            finally:
                candidates = set(lease.digests)
                lease.digests.clear()
                lease.diff_ids.clear()
                await self._collect(candidates)
        return image

    def _commit_loaded(self, loaded: LoadedImage, rows: list[LayerRow]) -> Image:
        image_id = loaded.manifest.config.digest
        blobs = {digest: len(data) for digest, data in loaded.documents.items()}
        blobs |= {layer.digest: layer.size for layer in loaded.manifest.layers}
        names = dict(loaded.names)
        self.commit_image(
            NewImage(image_id, loaded.manifest_digest, names, blobs, rows, self._durability.boot)
        )
        return self._images[image_id]

    def save(self, references: Sequence[str], format: SaveFormat = SaveFormat.OCI) -> AsyncIterator[bytes]:
        """An archive of images; an image named by ID is saved under all its tags.

        Raises NodeError(NOT_FOUND) at once, FAILED_PRECONDITION while iterating if the store is damaged.
        """
        saved: dict[str, Saved] = {}
        for text in references:
            image = self.find(text)
            if image is None:
                raise not_found("image", text)
            names = [name for name in image.repo_tags if name == _tagged(text)] or image.repo_tags
            known = saved.get(image.id)
            merged = dict.fromkeys([*(known.names if known else ()), *names])
            saved[image.id] = Saved(image, tuple(merged))
        return self._save(list(saved.values()), format)

    async def _save(self, images: list[Saved], form: SaveFormat) -> AsyncIterator[bytes]:
        with self._leases.take() as lease:
            for saved in images:
                lease.digests |= set(self._records.blobs(saved.image.id))
            async for chunk in save_archive(self._blobs, images, form):
                yield chunk
        await self._collect(lease.digests)

    def list(self) -> list[Image]:
        """All images, oldest first."""
        return sorted(self._images.values(), key=lambda image: (image.created_at, image.id))


def _tagged(text: str) -> str:
    """``text`` in full, or "" if it is no reference."""
    try:
        return str(parse_reference(text))
    except NodeError:
        return ""


async def _no_source(ingest: Ingest, _: Callable[[], None]) -> str:
    raise NodeError(Code.INTERNAL, f"blob {ingest.digest} of a loaded image is gone")
