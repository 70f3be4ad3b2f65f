"""Images out of archives: OCI image layouts and docker archives, understood but not yet unpacked.

Sources: OCI image-layout.md; ``docker save`` (moby image/spec/v1.2, manifest.json); the annotation
io.containerd.image.name is containerd's and BuildKit's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from minikubelet.base.errors import NodeError
from minikubelet.images import documents
from minikubelet.images.archive import Archive, Member
from minikubelet.images.blobs import verify_bytes
from minikubelet.images.documents import (
    MAX_CONFIG,
    MAX_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    bad_content,
    parse_config,
    parse_manifest,
)
from minikubelet.images.models import Platform
from minikubelet.images.plainstream import GZIP_MAGIC, ZSTD_MAGIC
from minikubelet.images.platforms import choose
from minikubelet.images.pull import MAX_NESTING, check_platform, no_platform
from minikubelet.images.reference import Reference, parse_reference

NAME_ANNOTATION = "io.containerd.image.name"
REF_ANNOTATION = "org.opencontainers.image.ref.name"
MAX_IMAGES = 256


@dataclass(frozen=True)
class LoadedImage:
    """One image of an archive; every digest in it was computed from the content."""

    names: Mapping[str, str]
    """Full reference → digest it points to."""
    manifest: Manifest
    manifest_digest: str
    config: ImageConfig
    documents: Mapping[str, bytes]
    """Index, manifest and config by digest."""
    blobs: Mapping[str, Member]
    """Layers by digest."""


class _DockerEntry(msgspec.Struct, rename="pascal"):
    config: str
    layers: list[str] | None = None
    repo_tags: list[str] | None = None


def images_of(archive: Archive, platform: Platform) -> list[LoadedImage]:
    """The images in ``archive`` that run on ``platform``. Raises NodeError."""
    if archive.get("index.json"):
        images = list(_oci_images(archive, platform))
    elif archive.get("manifest.json"):
        images = list(_docker_images(archive, platform))
    else:
        raise bad_content("not an image archive: it has neither index.json nor manifest.json")
    if not images:
        raise bad_content("the archive has no images")
    return images


def _oci_images(archive: Archive, platform: Platform) -> Iterator[LoadedImage]:
    index = parse_manifest(archive.read("index.json", MAX_MANIFEST), documents.OCI_INDEX, "index.json")
    assert isinstance(index, Index)
    if len(index.manifests) > MAX_IMAGES:
        raise bad_content(f"index.json lists more than {MAX_IMAGES} images")
    named: dict[str, tuple[Descriptor, dict[str, str]]] = {}
    entries = index.manifests
    names_of = [_names(entry) for entry in entries]
    if len(entries) > 1 and not any(names_of) and all(entry.platform for entry in entries):
        # One image for several platforms, without a name.
        chosen = choose(entries, platform)
        if chosen is None:
            raise no_platform("load", platform, index)
        entries, names_of = [chosen], [[]]
    for entry, names in zip(entries, names_of, strict=True):
        descriptor, targets = named.setdefault(entry.digest, (entry, {}))
        for name in names:
            targets[str(name)] = descriptor.digest
            targets[name.with_digest(descriptor.digest)] = descriptor.digest
    for descriptor, targets in named.values():
        yield _oci_image(archive, descriptor, targets, platform)


def _names(entry: Descriptor) -> list[Reference]:
    """The names an index entry has; a bare tag (``ref.name`` of a one-image layout) says no repository."""
    annotations = entry.annotations or {}
    name = annotations.get(NAME_ANNOTATION, "")
    if not name:
        name = annotations.get(REF_ANNOTATION, "")
        if "/" not in name and ":" not in name:
            return []
    return [parse_reference(name)]


def _oci_image(
    archive: Archive, descriptor: Descriptor, names: Mapping[str, str], platform: Platform
) -> LoadedImage:
    kept: dict[str, bytes] = {}
    for _ in range(MAX_NESTING):
        data = _blob(archive, descriptor, MAX_MANIFEST)
        kept[descriptor.digest] = data
        document = parse_manifest(data, descriptor.media_type, descriptor.digest)
        if isinstance(document, Manifest):
            return _complete(archive, document, descriptor.digest, names, kept, platform)
        entry = choose(document.manifests, platform)
        if entry is None:
            raise no_platform(f"load {next(iter(names), descriptor.digest)}", platform, document)
        descriptor = entry
    raise bad_content(f"indexes nested more than {MAX_NESTING} deep")


def _complete(
    archive: Archive,
    manifest: Manifest,
    digest: str,
    names: Mapping[str, str],
    kept: dict[str, bytes],
    platform: Platform,
) -> LoadedImage:
    data = _blob(archive, manifest.config, MAX_CONFIG)
    config = parse_config(data, len(manifest.layers), digest)
    check_platform(config, platform, f"load {next(iter(names), digest)}")
    blobs = {layer.digest: _member(archive, layer) for layer in manifest.layers}
    return LoadedImage(names, manifest, digest, config, {**kept, manifest.config.digest: data}, blobs)


def _member(archive: Archive, descriptor: Descriptor) -> Member:
    member = archive.need(f"blobs/{descriptor.digest.replace(':', '/')}")
    if member.digest != descriptor.digest or member.size != descriptor.size:
        raise bad_content(
            f"the archive has {member.size} bytes with digest {member.digest} "
            f"for {descriptor.digest} of {descriptor.size} bytes"
        )
    return member


def _blob(archive: Archive, descriptor: Descriptor, limit: int) -> bytes:
    _member(archive, descriptor)
    data = archive.read(f"blobs/{descriptor.digest.replace(':', '/')}", limit)
    verify_bytes(data, descriptor.digest, "the archive")
    return data


def _docker_images(archive: Archive, platform: Platform) -> Iterator[LoadedImage]:
    data = archive.read("manifest.json", MAX_MANIFEST)
    try:
        entries = msgspec.json.decode(data, type=list[_DockerEntry])
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise bad_content(f"manifest.json is malformed: {str(exc)[:200]}") from None
    if len(entries) > MAX_IMAGES:
        raise bad_content(f"manifest.json lists more than {MAX_IMAGES} images")
    for entry in entries:
        yield _docker_image(archive, entry, platform)


def _docker_image(archive: Archive, entry: _DockerEntry, platform: Platform) -> LoadedImage:
    """The archive has no OCI manifest: one is made, so that the image can be saved and found like others."""
    config_data = archive.read(entry.config, MAX_CONFIG)
    config_member = archive.need(entry.config)
    members = [archive.need(name) for name in entry.layers or []]
    config = parse_config(config_data, len(members), entry.config)
    check_platform(config, platform, f"load {entry.config}")
    manifest_data = msgspec.json.encode(
        {
            "schemaVersion": 2,
            "mediaType": documents.OCI_MANIFEST,
            "config": _descriptor(documents.OCI_CONFIG, config_member),
            "layers": [_descriptor(_layer_type(member), member) for member in members],
        }
    )
    manifest = parse_manifest(manifest_data, documents.OCI_MANIFEST, "manifest.json")
    assert isinstance(manifest, Manifest)
    digest = documents.sha256(manifest_data)
    names = {}
    for tag in entry.repo_tags or []:
        try:
            names[str(parse_reference(tag))] = digest
        except NodeError as exc:
            raise bad_content(f"manifest.json: {exc.message}") from None
    kept = {digest: manifest_data, config_member.digest: config_data}
    return LoadedImage(names, manifest, digest, config, kept, {member.digest: member for member in members})


def _descriptor(media_type: str, member: Member) -> dict[str, object]:
    return {"mediaType": media_type, "digest": member.digest, "size": member.size}


def _layer_type(member: Member) -> str:
    with open(member.path, "rb", buffering=0) as file:
        magic = file.read(4) or b""
    base = "application/vnd.oci.image.layer.v1.tar"
    if magic.startswith(GZIP_MAGIC):
        return f"{base}+gzip"
    return f"{base}+zstd" if magic == ZSTD_MAGIC else base
