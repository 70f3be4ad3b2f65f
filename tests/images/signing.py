"""Keys, and signatures as cosign pushes them: manifests tagged ``sha256-….sig``."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.images.build import OCI_CONFIG, OCI_MANIFEST, Image, Manifest, digest_of

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def make_key(kind: str = "ecdsa") -> Private:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: Private) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def payload(digest: str, name: str, kind: str = "cosign container image signature") -> bytes:
    """What is signed, in cosign's spelling."""
    critical = {
        "identity": {"docker-reference": name},
        "image": {"docker-manifest-digest": digest},
        "type": kind,
    }
    return json.dumps({"critical": critical, "optional": None}, separators=(",", ":")).encode()


def sign(key: Private, data: bytes) -> str:
    """The annotation's value."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        value = key.sign(data, ec.ECDSA(SHA256()))
    elif isinstance(key, rsa.RSAPrivateKey):
        value = key.sign(data, padding.PKCS1v15(), SHA256())
    else:
        value = key.sign(data)
    return base64.b64encode(value).decode()


def signature_image(*signed: tuple[bytes, str]) -> Image:
    """What a registry has below the signatures' tag; pairs of payload and annotation."""
    config = b"{}"
    layers = [
        _blob(PAYLOAD_TYPE, data, annotations={"dev.cosignproject.cosign/signature": value})
        for data, value in signed
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _blob(OCI_CONFIG, config),
        "layers": layers,
    }
    top = Manifest(OCI_MANIFEST, json.dumps(document).encode())
    blobs = {digest_of(data): data for data in (config, *(each for each, _ in signed))}
    return Image(top, {top.digest: top}, blobs)


def signature_tag(digest: str) -> str:
    return digest.replace(":", "-") + ".sig"


def _blob(media_type: str, data: bytes, **more: Mapping[str, str]) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}
