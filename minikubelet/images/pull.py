"""One pull: resolve the reference, fetch the documents, make sure of the layers."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.blobs import BlobStore
from minikubelet.images.documents import (
    MAX_CONFIG,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    bad_content,
    parse_config,
    parse_manifest,
)
from minikubelet.images.layers import Fetch, Layers, chain_specs
from minikubelet.images.leases import Lease
from minikubelet.images.models import Platform
from minikubelet.images.platforms import choose, variant_rank
from minikubelet.images.records import LayerRow
from minikubelet.images.reference import Reference
from minikubelet.images.registry import Fetched, RegistryClient

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_NESTING = 3
"""An index may name an index; deeper chains are refused."""


@dataclass
class Resolved:
    """The documents of one image, all verified."""

    target: str
    """Digest of what the reference points to: an index or the manifest."""
    manifest_digest: str = ""
    manifest: Manifest | None = None
    documents: dict[str, bytes] = field(default_factory=dict)
    """Index and manifest by digest, to be kept."""


class Pull:
    """Fetches one image with one client. Everything it stores is under ``lease``."""

    def __init__(
        self,
        reference: Reference,
        platform: Platform,
        client: RegistryClient,
        blobs: BlobStore,
        layers: Layers,
    ) -> None:
        self._reference = reference
        self._platform = platform
        self._client = client
        self._blobs = blobs
        self._layers = layers

    async def resolve(self) -> Resolved:
        """Follow tag or digest to the manifest for the platform. Raises NodeError."""
        fetched = await self._client.manifest(self._reference.selector)
        resolved = Resolved(fetched.digest)
        for _ in range(MAX_NESTING):
            what = f"pull {self._reference}: {fetched.digest}"
            document = parse_manifest(fetched.data, fetched.media_type, what)
            resolved.documents[fetched.digest] = fetched.data
            if isinstance(document, Manifest):
                resolved.manifest, resolved.manifest_digest = document, fetched.digest
                return resolved
            fetched = await self._choose(document)
        raise bad_content(f"pull {self._reference}: indexes nested more than {MAX_NESTING} deep")

    async def _choose(self, index: Index) -> Fetched:
        entry = choose(index.manifests, self._platform)
        if entry is None:
            raise no_platform(f"pull {self._reference}", self._platform, index)
        fetched = await self._client.manifest(entry.digest, entry)
        return Fetched(fetched.digest, fetched.data, entry.media_type or fetched.media_type)

    async def fetch(self, resolved: Resolved, lease: Lease) -> list[LayerRow]:
        """Layers (lowest first), with config and documents stored. Raises NodeError."""
        manifest = resolved.manifest
        assert manifest is not None
        lease.digests |= {
            *resolved.documents,
            manifest.config.digest,
            *(blob.digest for blob in manifest.layers),
        }
        what = f"pull {self._reference}"
        data = await self._config(manifest.config)
        config = parse_config(data, len(manifest.layers), what)
        check_platform(config, self._platform, what)
        lease.diff_ids |= set(config.diff_ids)
        self._check_space(manifest)
        specs = chain_specs(manifest.layers, config.diff_ids, self._fetcher)
        try:
            rows = await all_of([self._layers.ensure(spec) for spec in specs])
        except NodeError as exc:
            if exc.message.startswith("pull "):
                raise
            raise NodeError(exc.code, f"{what}: {exc}", field=exc.field, reason=exc.reason) from exc
        await asyncio.to_thread(self._keep, {**resolved.documents, manifest.config.digest: data})
        return rows

    def _check_space(self, manifest: Manifest) -> None:
        """Fail before a download that can't fit. Unpacking takes more, and says so when it comes to it."""
        missing = {blob.digest: blob.size for blob in manifest.layers}
        needed = sum(size for digest, size in missing.items() if not self._blobs.has(digest, size))
        status = os.statvfs(self._layers.folder)
        free = status.f_bavail * status.f_frsize
        if needed > free:
            raise NodeError(
                Code.RESOURCE_EXHAUSTED,
                f"pull {self._reference}: layers of {needed} bytes to download, {free} bytes free (ENOSPC)",
            )

    async def _config(self, descriptor: Descriptor) -> bytes:
        if self._blobs.has(descriptor.digest, descriptor.size):
            try:
                return self._blobs.read(descriptor.digest, MAX_CONFIG)
            except (NodeError, OSError) as exc:
                log.warning("config %s in the store: %s; fetched again", descriptor.digest, exc)
        return await self._client.small_blob(descriptor, MAX_CONFIG)

    def _fetcher(self, _: Descriptor) -> Fetch:
        return self._client.blob

    def _keep(self, documents: dict[str, bytes]) -> None:
        for digest, data in documents.items():
            self._blobs.put(digest, data)


def no_platform(what: str, wanted: Platform, index: Index) -> NodeError:
    """NOT_FOUND: an index has nothing for this machine; says what it has."""
    there = sorted(
        {
            str(Platform(entry.platform.os, entry.platform.architecture, entry.platform.variant))
            for entry in index.manifests
            if entry.platform and entry.platform.os != "unknown"
        }
    )
    text = ", ".join(there[:20]) or "no platforms"
    return NodeError(Code.NOT_FOUND, f"{what}: nothing for {wanted}; the index has {text}")


def check_platform(config: ImageConfig, wanted: Platform, what: str) -> None:
    """Raise NodeError(NOT_FOUND) for an image of another platform; configs without one pass."""
    if not config.os and not config.architecture:
        return
    fits = (config.os or wanted.os) == wanted.os and config.architecture == wanted.architecture
    if fits and variant_rank(config.architecture, config.variant, wanted.variant) is None:
        fits = False
    if not fits:
        has = Platform(config.os, config.architecture, config.variant)
        raise NodeError(Code.NOT_FOUND, f"{what}: the image is for {has}, not for {wanted}")


async def all_of(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Results of all; the first failure cancels the rest, waits for them and is raised as it is."""
    tasks = [asyncio.ensure_future(one) for one in work]
    if not tasks:
        return []
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        failed = [task for task in tasks if task.done() and not task.cancelled() and task.exception()]
        if failed:
            raise failed[0].exception() or RuntimeError
        return [task.result() for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
