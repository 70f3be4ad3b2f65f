"""Signatures of images as cosign stores them, checked against a policy.

A signature of the image with digest ``sha256:abc…`` is a manifest in the same repository with the tag
``sha256-abc….sig``; each of its layers is a payload that names digest and repository, with the signature over
its bytes in an annotation (sigstore's "simple signing" payload, cosign's SIGNATURE_SPEC.md).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.documents import Descriptor, parse_artifact
from minikubelet.images.hosts import read_small
from minikubelet.images.reference import Reference
from minikubelet.images.registry import RegistryClient
from minikubelet.images.signature_policy import Requirement

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    Key = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

log = logging.getLogger(__name__)

PAYLOAD_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
MAX_PAYLOAD = 1 << 20
MAX_SIGNATURES = 64
"""Looked at of one image: whoever may push there can add as many as they like."""
_TYPE = "cosign container image signature"
FAILED = "SignatureValidationFailed"
"""The word with which the kubelet wants the message to begin (cri-api's pkg/errors)."""


@dataclass(frozen=True)
class Signature:
    """One that a registry has, not to be trusted yet."""

    digest: str
    """Of the image whose tag it was found under."""
    payload: bytes
    signature: bytes


class _Image(msgspec.Struct, forbid_unknown_fields=True, rename={"digest": "docker-manifest-digest"}):
    digest: str


class _Named(msgspec.Struct, forbid_unknown_fields=True, rename={"reference": "docker-reference"}):
    reference: str


class _Critical(msgspec.Struct, forbid_unknown_fields=True):
    identity: _Named
    image: _Image
    type: str


class _Payload(msgspec.Struct, forbid_unknown_fields=True):
    critical: _Critical
    optional: msgspec.Raw


async def check(
    requirements: Sequence[Requirement],
    reference: Reference,
    digests: Collection[str],
    client: RegistryClient,
) -> None:
    """Whether an image may be used: ``digests`` are those of its index and of the manifest in it.

    A signature of either will do, as each decides all that comes below it. Raises NodeError: UNKNOWN that
    begins with SignatureValidationFailed and says what is missing, FAILED_PRECONDITION for a key that can't
    be read, UNAVAILABLE and others where signatures can't be fetched.
    """
    found: list[Signature] | None = None
    for requirement in requirements:
        if requirement.kind == "insecureAcceptAnything":
            continue
        if requirement.kind == "reject":
            raise _refused(reference, f"{requirement.where} rejects it")
        if requirement.unsupported:
            raise _refused(
                reference,
                f"{requirement.where} asks for {requirement.unsupported}, which can't be checked here",
            )
        keys = await asyncio.to_thread(_load_keys, requirement)
        if found is None:
            found = [each for digest in dict.fromkeys(digests) for each in await fetch(digest, client)]
        await asyncio.to_thread(_check_one, requirement, keys, reference, found)


async def fetch(digest: str, client: RegistryClient) -> list[Signature]:
    """The signatures that the registry has for a digest. Raises NodeError."""
    tag = f"{digest.replace(':', '-')}.sig"
    try:
        fetched = await client.manifest(tag)
    except NodeError as exc:
        if exc.code is Code.NOT_FOUND:
            return []
        raise
    manifest = parse_artifact(fetched.data, tag)
    layers = [
        each for each in manifest.layers if each.media_type == PAYLOAD_TYPE and each.size <= MAX_PAYLOAD
    ]
    if len(layers) > MAX_SIGNATURES:
        log.warning("%s has %d signatures: only %d are looked at", tag, len(layers), MAX_SIGNATURES)
    return [await _fetch_one(each, digest, client) for each in layers[-MAX_SIGNATURES:]]


async def _fetch_one(layer: Descriptor, digest: str, client: RegistryClient) -> Signature:
    payload = await client.small_blob(layer, MAX_PAYLOAD)
    try:
        value = base64.b64decode((layer.annotations or {}).get(SIGNATURE, ""), validate=True)
    except binascii.Error:
        value = b""
    return Signature(digest, payload, value)


def _check_one(
    requirement: Requirement, keys: Sequence[Key], reference: Reference, found: Sequence[Signature]
) -> None:
    """Raise unless one of the signatures meets the requirement."""
    reasons = [_objection(requirement, keys, reference, each) for each in found]
    if "" in reasons:
        return
    if not reasons:
        raise _refused(reference, f"there is no signature, and {requirement.where} asks for one")
    told = "; ".join(dict.fromkeys(reasons))
    raise _refused(reference, f"no signature meets {requirement.where}: {told}")


def _objection(requirement: Requirement, keys: Sequence[Key], reference: Reference, one: Signature) -> str:
    """What is wrong with a signature; "" if nothing is. Nothing in the payload counts before its key does."""
    if not any(_is_signed_by(key, one) for key in keys):
        return "signed by another key"
    try:
        critical = msgspec.json.decode(one.payload, type=_Payload).critical
    except msgspec.MsgspecError as exc:
        return f"malformed payload: {exc}"
    if critical.type != _TYPE:
        return f"of type {critical.type[:80]!r}"
    if critical.image.digest != one.digest:
        return f"for {critical.image.digest[:80]}, not for {one.digest}"
    signed = critical.identity.reference
    if not requirement.identity.accepts(reference, signed):
        return (
            f"for the name {signed[:200]!r}, which is not the one that {requirement.identity.kind} asks for"
        )
    return ""


def _load_keys(requirement: Requirement) -> list[Key]:
    """The requirement's public keys. Raises NodeError(FAILED_PRECONDITION). Blocks on files."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    keys: list[Key] = []
    try:
        texts = [(path, read_small(path)) for path in requirement.key_paths]
        texts += [(requirement.where, each) for each in requirement.key_data]
        for where, text in texts:
            key = load_pem_public_key(text)
            if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
                raise ValueError(f"{where}: neither ECDSA, RSA nor Ed25519")
            keys.append(key)
    except (OSError, ValueError, UnsupportedAlgorithm) as exc:
        raise NodeError(
            Code.FAILED_PRECONDITION, f"{requirement.where}: public key: {exc}", reason="SignaturePolicy"
        ) from None
    return keys


def _is_signed_by(key: Key, one: Signature) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(one.signature, one.payload, ec.ECDSA(SHA256()))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(one.signature, one.payload)
        else:
            key.verify(one.signature, one.payload, padding.PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


def _refused(reference: Reference, why: str) -> NodeError:
    return NodeError(Code.UNKNOWN, f"{FAILED}: pull {reference}: {why}", reason=FAILED)
