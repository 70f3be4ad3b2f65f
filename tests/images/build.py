"""Layers, images and indexes as bytes, the same bytes every time.

    layer = Layer().directory("etc").file("etc/motd", b"hello\n").whiteout("etc/old")
    image = build_image([layer], {"Cmd": ["/bin/sh"]})

Formats: the OCI image specification 1.1 and Docker's image manifest V2, schema 2.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import zstandard

EPOCH = 1_700_000_000
CREATED = "2023-11-14T22:13:20Z"

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Layer:
    """A layer's tar, written member by member in the order of the calls."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._buffer, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def add(
        self, member: tarfile.TarInfo, data: bytes = b"", xattrs: Mapping[str, str] | None = None
    ) -> Self:
        """Add any member as it is: also what no sane tool writes. `xattrs` go into PAX records."""
        member.mtime = member.mtime or EPOCH
        member.size = len(data)
        member.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in (xattrs or {}).items()}
        self._tar.addfile(member, io.BytesIO(data))
        return self

    def file(
        self,
        path: str,
        data: bytes = b"",
        mode: int = 0o644,
        *,
        owner: int = 0,
        xattrs: Mapping[str, str] | None = None,
    ) -> Self:
        return self.add(_member(path, tarfile.REGTYPE, mode, owner), data, xattrs)

    def directory(
        self, path: str, mode: int = 0o755, *, owner: int = 0, xattrs: Mapping[str, str] | None = None
    ) -> Self:
        return self.add(_member(path, tarfile.DIRTYPE, mode, owner), xattrs=xattrs)

    def symlink(self, path: str, target: str) -> Self:
        return self.add(_member(path, tarfile.SYMTYPE, 0o777, link=target))

    def hardlink(self, path: str, target: str, mode: int = 0o644) -> Self:
        """`target`: the path of another member, from the layer's root; usual tars repeat its mode here."""
        return self.add(_member(path, tarfile.LNKTYPE, mode, link=target))

    def fifo(self, path: str, mode: int = 0o644) -> Self:
        return self.add(_member(path, tarfile.FIFOTYPE, mode))

    def character_device(self, path: str, major: int, minor: int, mode: int = 0o666) -> Self:
        member = _member(path, tarfile.CHRTYPE, mode)
        member.devmajor, member.devminor = major, minor
        return self.add(member)

    def whiteout(self, path: str) -> Self:
        """Delete `path` of the layers below."""
        parent, _, name = path.rpartition("/")
        return self.file(f"{parent}/.wh.{name}" if parent else f".wh.{name}")

    def opaque(self, path: str) -> Self:
        """Hide everything that the layers below have in the directory `path`."""
        return self.file(f"{path}/.wh..wh..opq")

    def tar(self) -> bytes:
        """The finished tar; nothing can be added afterwards."""
        self._tar.close()
        return self._buffer.getvalue()


def _member(path: str, kind: bytes, mode: int, owner: int = 0, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.mode, member.linkname = kind, mode, link
    member.uid = member.gid = owner
    return member


def _gzip(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=6, mtime=0)


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


COMPRESSORS: Mapping[str, Callable[[bytes], bytes]] = {"gzip": _gzip, "zstd": _zstd, "": bytes}


@dataclass(frozen=True)
class Manifest:
    """A manifest or index as a registry keeps it."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.data)

    def descriptor(self, **more: object) -> dict[str, Any]:
        return _descriptor(self.media_type, self.data, **more)


@dataclass(frozen=True)
class Image:
    """An image or an index of images with everything that it refers to."""

    top: Manifest
    manifests: Mapping[str, Manifest] = field(repr=False)
    """By digest; `top` is one of them."""
    blobs: Mapping[str, bytes] = field(repr=False)
    """Configs and layers by digest."""

    @property
    def digest(self) -> str:
        return self.top.digest

    @property
    def manifest(self) -> dict[str, Any]:
        """The top manifest or index, parsed."""
        parsed: dict[str, Any] = json.loads(self.top.data)
        return parsed

    @property
    def id(self) -> str:
        """The config's digest; KeyError for an index."""
        return str(self.manifest["config"]["digest"])

    @property
    def layers(self) -> list[str]:
        """Digests of the layer blobs, lowest first; KeyError for an index."""
        return [layer["digest"] for layer in self.manifest["layers"]]


@dataclass(frozen=True)
class Format:
    """How an image is written down."""

    docker: bool = False
    compression: str = "gzip"
    """"gzip", "zstd" or "" for plain tars."""
    architecture: str = "amd64"
    variant: str = ""

    @property
    def platform(self) -> dict[str, str]:
        platform = {"architecture": self.architecture, "os": "linux"}
        return {**platform, "variant": self.variant} if self.variant else platform

    @property
    def layer_type(self) -> str:
        joint = "." if self.docker else "+"
        base = DOCKER_LAYER if self.docker else OCI_LAYER
        return base + (joint + self.compression if self.compression else "")


OCI_GZIP = Format()


def build_image(layers: Sequence[Layer], config: Mapping[str, Any], form: Format = OCI_GZIP) -> Image:
    """An image of `layers`, lowest first; `config` is the config file's "config" object (Env, Cmd …)."""
    tars = [layer.tar() for layer in layers]
    return assemble([(tar, COMPRESSORS[form.compression](tar)) for tar in tars], config, form)


def assemble(layers: Sequence[tuple[bytes, bytes]], config: Mapping[str, Any], form: Format) -> Image:
    """An image of layers given as pairs of the plain tar and the blob."""
    details = {
        "created": CREATED,
        **form.platform,
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar, _ in layers]},
        "history": [{"created": CREATED, "created_by": "tests/images"} for _ in layers],
    }
    config_blob = _json(details)
    manifest_type = DOCKER_MANIFEST if form.docker else OCI_MANIFEST
    manifest = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": _descriptor(DOCKER_CONFIG if form.docker else OCI_CONFIG, config_blob),
        "layers": [_descriptor(form.layer_type, blob) for _, blob in layers],
    }
    top = Manifest(manifest_type, _json(manifest))
    blobs = {digest_of(blob): blob for blob in (config_blob, *(blob for _, blob in layers))}
    return Image(top, {top.digest: top}, blobs)


def build_index(images: Sequence[tuple[Image, Format]]) -> Image:
    """An index (a manifest list, if the first image is Docker's) that offers one image a platform."""
    media_type = DOCKER_LIST if images[0][1].docker else OCI_INDEX
    entries = [image.top.descriptor(platform=form.platform) for image, form in images]
    top = Manifest(media_type, _json({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}))
    manifests = {top.digest: top}
    blobs: dict[str, bytes] = {}
    for image, _ in images:
        manifests.update(image.manifests)
        blobs.update(image.blobs)
    return Image(top, manifests, blobs)


def _descriptor(media_type: str, data: bytes, **more: object) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
