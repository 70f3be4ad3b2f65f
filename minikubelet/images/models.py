"""What the room hands out: images, credentials, progress, disk usage."""

from __future__ import annotations

import base64
import binascii
import enum
import os
from dataclasses import dataclass, field
from typing import Literal

from minikubelet.base.errors import invalid
from minikubelet.images.documents import ImageConfig


@dataclass(frozen=True)
class Image:
    """One image of the store; immutable (a pull or removal makes a new value)."""

    id: str
    """Config digest, ``sha256:…``: the one image ID everywhere."""
    repo_tags: tuple[str, ...]
    repo_digests: tuple[str, ...]
    size: int
    """Bytes on disk: unpacked layers and kept blobs."""
    config: ImageConfig
    layers: tuple[str, ...]
    """Folder names relative to ``ImageStore.layers_dir``, uppermost first (overlay's lowerdir order)."""
    pinned: bool = False
    manifest_digest: str = ""
    """The platform's manifest that the image was last pulled or loaded by."""
    created_at: int = 0
    """When the store got it, nanoseconds since the epoch."""


@dataclass(frozen=True)
class Platform:
    """OCI platform of an image; ``variant`` empty means any."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


@dataclass(frozen=True)
class Credentials:
    """CRI's AuthConfig. For the reference's own registry only, or for ``server_address`` if that is set."""

    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    auth: str = field(default="", repr=False)
    """base64 of ``USER:PASSWORD``; used where ``username`` is empty."""
    server_address: str = ""
    identity_token: str = field(default="", repr=False)
    """OAuth2 refresh token for the registry's token service."""
    registry_token: str = field(default="", repr=False)
    """Bearer token for the registry itself."""

    def user_password(self) -> tuple[str, str]:
        """User and password, from ``auth`` where need be; raises NodeError(INVALID_ARGUMENT) if malformed."""
        if self.username or not self.auth:
            return self.username, self.password
        try:
            text = base64.b64decode(self.auth, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise invalid("auth", "is not base64 of USER:PASSWORD") from None
        user, colon, password = text.partition(":")
        if not colon:
            raise invalid("auth", "is not base64 of USER:PASSWORD")
        return user, password.strip("\0")


Status = Literal["waiting", "downloading", "unpacking", "done", "exists"]


@dataclass(frozen=True)
class PullEvent:
    """Progress of one layer: ``offset`` of ``total`` compressed bytes are here."""

    layer: str
    """Digest of the layer's blob."""
    offset: int
    total: int
    status: Status


class SaveFormat(enum.Enum):
    """What ``save`` writes."""

    OCI = "oci"
    """OCI image layout; every blob digest-exact."""
    DOCKER = "docker"
    """``docker save``'s manifest.json; layers uncompressed."""


@dataclass(frozen=True)
class FsUsage:
    """Disk use of the store; from figures noted when things were unpacked, so cheap."""

    path: str
    bytes: int
    inodes: int


_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}


def host_platform() -> Platform:
    """The platform of this machine's kernel, in Go's words (GOARCH) as images name it."""
    machine = os.uname().machine
    architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)
