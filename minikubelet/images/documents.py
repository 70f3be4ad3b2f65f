"""Manifests, indexes and configs: typed, bounded, and never two things at once.

Sources: OCI image-spec (manifest.md, image-index.md, config.md), Docker image manifest v2 schema 2.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

import msgspec

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.reference import is_digest

_T = TypeVar("_T")

MAX_MANIFEST = 4 << 20
"""Bytes of a manifest or index; the limit the distribution specification asks registries for."""
MAX_CONFIG = 8 << 20
MAX_LAYERS = 512
"""Overlayfs itself takes 500 lower layers (kernel, OVL_MAX_STACK)."""
MAX_MANIFESTS = 1024

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
ACCEPT = ", ".join([OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST])

_LAYER_BASES = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
_LAYER_TYPES = frozenset(
    base + end for base in _LAYER_BASES for end in ("", "+gzip", ".gzip", "+zstd", ".zstd")
)


class PlatformDocument(msgspec.Struct, frozen=True):
    """``platform`` of an index entry."""

    os: str = ""
    architecture: str = ""
    variant: str = ""


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """OCI descriptor: what a blob must be."""

    digest: str
    size: int
    media_type: str = ""
    annotations: dict[str, str] | None = None
    platform: PlatformDocument | None = None


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    """OCI manifest or Docker schema 2 manifest."""

    schema_version: int
    config: Descriptor
    layers: list[Descriptor]
    media_type: str = ""


class Index(msgspec.Struct, frozen=True, rename="camel"):
    """OCI index or Docker manifest list."""

    schema_version: int
    manifests: list[Descriptor]
    media_type: str = ""
    annotations: dict[str, str] | None = None


class _Shape(msgspec.Struct, rename="camel"):
    """Which members a document has, whatever is in them."""

    schema_version: Any = None
    media_type: Any = None
    config: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    layers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    manifests: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    fs_layers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _RunConfig(msgspec.Struct, rename="pascal"):
    """The ``config`` member of an image config; docker writes null for what is empty."""

    user: str | None = None
    exposed_ports: dict[str, Any] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    volumes: dict[str, Any] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None


class _RootFs(msgspec.Struct):
    type: str = ""
    diff_ids: list[str] = []


class _ConfigDocument(msgspec.Struct):
    rootfs: _RootFs
    os: str = ""
    architecture: str = ""
    variant: str = ""
    created: str | None = None
    config: _RunConfig | None = None


class ImageConfig(msgspec.Struct, frozen=True):
    """What an image says about how to run it (OCI config.md), nulls made empty."""

    diff_ids: tuple[str, ...] = ()
    """Digests of the uncompressed layers, lowest first."""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: dict[str, str] = {}
    stop_signal: str = ""
    os: str = ""
    architecture: str = ""
    variant: str = ""
    created: str = ""


def sha256(data: bytes) -> str:
    """Digest of ``data`` as descriptors have it."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def bad_content(message: str) -> NodeError:
    """What a registry or archive sent is not what it must be (FAILED_PRECONDITION)."""
    return NodeError(Code.FAILED_PRECONDITION, message, reason="InvalidImageContent")


def parse_manifest(data: bytes, media_type: str, what: str) -> Manifest | Index:
    """Decode a manifest or an index; ``media_type`` is what the descriptor or the registry called it.

    Raises NodeError(FAILED_PRECONDITION) for anything malformed, oversized, or that could be read both
    as an index and as a manifest (CVE-2021-41190).
    """
    if len(data) > MAX_MANIFEST:
        raise bad_content(f"{what} is larger than {MAX_MANIFEST} bytes")
    shape = _decode(data, _Shape, what)
    declared = _declared_type(shape, media_type, what)
    if shape.fs_layers is not msgspec.UNSET or shape.schema_version == 1:
        raise bad_content(f"{what} is a Docker schema 1 manifest, which has no verifiable config")
    has_manifests = shape.manifests is not msgspec.UNSET
    has_layers = shape.layers is not msgspec.UNSET or shape.config is not msgspec.UNSET
    if has_manifests and has_layers:
        raise bad_content(f"{what} is both an index and a manifest")
    is_index = declared in INDEX_TYPES if declared else has_manifests
    if is_index != has_manifests:
        raise bad_content(f"{what} is called {declared} but has the members of the other kind")
    return _checked_index(data, what) if is_index else _checked_manifest(data, what)


def parse_artifact(data: bytes, what: str) -> Manifest:
    """Decode a manifest whose layers are no layers of an image. Raises NodeError(FAILED_PRECONDITION)."""
    manifest = _decode(data, Manifest, what)
    for descriptor in (manifest.config, *manifest.layers):
        _check_descriptor(descriptor, f"a part of {what}")
    return manifest


def _declared_type(shape: _Shape, media_type: str, what: str) -> str:
    inside = shape.media_type if isinstance(shape.media_type, str) else ""
    outside = media_type.partition(";")[0].strip().lower()
    if outside not in INDEX_TYPES | MANIFEST_TYPES:
        if outside and outside not in ("application/json", "application/octet-stream", "text/plain"):
            raise bad_content(f"{what} has the unknown media type {outside[:100]!r}")
        outside = ""
    if inside and inside not in INDEX_TYPES | MANIFEST_TYPES:
        raise bad_content(f"{what} has the unknown media type {inside[:100]!r}")
    if inside and outside and inside != outside:
        raise bad_content(f"{what} says it is {inside} but was sent as {outside}")
    return inside or outside


def _checked_manifest(data: bytes, what: str) -> Manifest:
    manifest = _decode(data, Manifest, what)
    if len(manifest.layers) > MAX_LAYERS:
        raise bad_content(f"{what} has {len(manifest.layers)} layers, more than {MAX_LAYERS}")
    _check_descriptor(manifest.config, f"config of {what}")
    if manifest.config.size > MAX_CONFIG:
        raise bad_content(f"config of {what} is larger than {MAX_CONFIG} bytes")
    for number, layer in enumerate(manifest.layers, 1):
        _check_descriptor(layer, f"layer {number} of {what}")
        if layer.media_type and layer.media_type not in _LAYER_TYPES:
            raise bad_content(f"layer {number} of {what} has the unsupported type {layer.media_type[:100]!r}")
    return manifest


def _checked_index(data: bytes, what: str) -> Index:
    index = _decode(data, Index, what)
    if len(index.manifests) > MAX_MANIFESTS:
        raise bad_content(f"{what} lists {len(index.manifests)} manifests, more than {MAX_MANIFESTS}")
    for number, entry in enumerate(index.manifests, 1):
        _check_descriptor(entry, f"entry {number} of {what}")
    return index


def _check_descriptor(descriptor: Descriptor, what: str) -> None:
    if not is_digest(descriptor.digest):
        raise bad_content(f"{what} has the unusable digest {descriptor.digest[:140]!r}")
    if not 0 <= descriptor.size < 1 << 53:
        raise bad_content(f"{what} has the impossible size {descriptor.size}")


def parse_config(data: bytes, layers: int, what: str) -> ImageConfig:
    """Decode an image config that must have ``layers`` DiffIDs; raises NodeError(FAILED_PRECONDITION)."""
    if len(data) > MAX_CONFIG:
        raise bad_content(f"config of {what} is larger than {MAX_CONFIG} bytes")
    document = _decode(data, _ConfigDocument, f"config of {what}")
    diff_ids = document.rootfs.diff_ids
    if len(diff_ids) != layers:
        raise bad_content(f"config of {what} names {len(diff_ids)} layers, the manifest {layers}")
    for diff_id in diff_ids:
        if not is_digest(diff_id):
            raise bad_content(f"config of {what} has the unusable DiffID {diff_id[:140]!r}")
    run = document.config or _RunConfig()
    return ImageConfig(
        diff_ids=tuple(diff_ids),
        env=tuple(run.env or ()),
        entrypoint=tuple(run.entrypoint or ()),
        cmd=tuple(run.cmd or ()),
        user=run.user or "",
        working_dir=run.working_dir or "",
        volumes=tuple(run.volumes or ()),
        exposed_ports=tuple(run.exposed_ports or ()),
        labels=run.labels or {},
        stop_signal=run.stop_signal or "",
        os=document.os,
        architecture=document.architecture,
        variant=document.variant,
        created=document.created or "",
    )


def _decode(data: bytes, kind: type[_T], what: str) -> _T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise bad_content(f"{what} is malformed: {str(exc)[:200]}") from None
