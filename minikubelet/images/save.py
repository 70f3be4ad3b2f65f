"""Archives out of the store: OCI image layout or ``docker save``'s, blobs exactly as they were pulled."""

from __future__ import annotations

import asyncio
import os
import tarfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import msgspec

from minikubelet.base.errors import Code, NodeError
from minikubelet.images import documents
from minikubelet.images.blobs import BlobStore
from minikubelet.images.documents import MAX_MANIFEST, Manifest, bad_content, parse_manifest
from minikubelet.images.load import NAME_ANNOTATION, REF_ANNOTATION
from minikubelet.images.models import Image, SaveFormat

CHUNK = 1 << 20


@dataclass(frozen=True)
class Saved:
    """An image to be saved under ``names`` (``repository:tag``; none: found by its ID only)."""

    image: Image
    names: tuple[str, ...]


async def save_archive(blobs: BlobStore, images: Sequence[Saved], form: SaveFormat) -> AsyncIterator[bytes]:
    """The archive in chunks. Raises NodeError(FAILED_PRECONDITION) if a blob is missing or cut, OSError."""
    loaded = [(saved, await asyncio.to_thread(_manifest, blobs, saved.image)) for saved in images]
    seen: set[str] = set()
    for saved, manifest in loaded:
        wanted = [(saved.image.manifest_digest, -1)] if form is SaveFormat.OCI else []
        wanted += [(blob.digest, blob.size) for blob in (manifest.config, *manifest.layers)]
        for digest, size in wanted:
            if digest not in seen:
                seen.add(digest)
                async for chunk in _blob(blobs, digest, size):
                    yield chunk
    for name, data in _documents(blobs, loaded, form).items():
        yield _header(name, len(data)) + data + bytes(-len(data) % 512)
    yield bytes(1024)


def _manifest(blobs: BlobStore, image: Image) -> Manifest:
    manifest = parse_manifest(blobs.read(image.manifest_digest, MAX_MANIFEST), "", image.manifest_digest)
    if not isinstance(manifest, Manifest):
        raise bad_content(f"{image.manifest_digest} is no manifest")
    return manifest


async def _blob(blobs: BlobStore, digest: str, size: int) -> AsyncIterator[bytes]:
    try:
        fd = blobs.open(digest)
    except FileNotFoundError:
        raise NodeError(Code.FAILED_PRECONDITION, f"the store lacks {digest}") from None
    try:
        has = os.fstat(fd).st_size
        if size not in (-1, has):
            raise NodeError(Code.FAILED_PRECONDITION, f"{digest} in the store is damaged")
        yield _header(_path(digest), has)
        left = has
        while left:
            chunk = await asyncio.to_thread(os.read, fd, min(CHUNK, left))
            if not chunk:
                raise NodeError(Code.FAILED_PRECONDITION, f"{digest} in the store was cut off")
            left -= len(chunk)
            yield chunk
        if padding := -has % 512:
            yield bytes(padding)
    finally:
        os.close(fd)


def _documents(
    blobs: BlobStore, loaded: Sequence[tuple[Saved, Manifest]], form: SaveFormat
) -> dict[str, bytes]:
    if form is SaveFormat.DOCKER:
        entries = [
            {
                "Config": _path(manifest.config.digest),
                "RepoTags": list(saved.names),
                "Layers": [_path(layer.digest) for layer in manifest.layers],
            }
            for saved, manifest in loaded
        ]
        return {"manifest.json": msgspec.json.encode(entries)}
    manifests = []
    for saved, manifest in loaded:
        digest = saved.image.manifest_digest
        size = os.stat(blobs.path(digest)).st_size
        media_type = manifest.media_type or documents.OCI_MANIFEST
        for name in saved.names or ("",):
            entry: dict[str, object] = {"mediaType": media_type, "digest": digest, "size": size}
            if name:
                tag = name.rpartition(":")[2]
                entry["annotations"] = {NAME_ANNOTATION: name, REF_ANNOTATION: tag}
            manifests.append(entry)
    index = {"schemaVersion": 2, "mediaType": documents.OCI_INDEX, "manifests": manifests}
    layout = {"imageLayoutVersion": "1.0.0"}
    return {"oci-layout": msgspec.json.encode(layout), "index.json": msgspec.json.encode(index)}


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT)
