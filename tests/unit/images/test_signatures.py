"""A signature that cosign 2.5.0 has made (``cosign sign --tlog-upload=false --key``)."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import cast

import pytest

from minikubelet.base.errors import NodeError
from minikubelet.images.documents import Descriptor
from minikubelet.images.reference import parse_reference
from minikubelet.images.registry import Fetched, RegistryClient
from minikubelet.images.signature_policy import Identity, Requirement
from minikubelet.images.signatures import check

PUBLIC_KEY = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEt2rijdld0elkhQaRk2dupRuUKUcb
ExlykmoeCMw6M2KUmPaQm+0lXw91ga/dm+bxYuWuqbZiKTjH6Gv3wEDmRw==
-----END PUBLIC KEY-----
"""
DIGEST = "sha256:9ab7180f8940adbf3d98b4dee235fe7dcfe34fb5a73c9d99bde62ca80a5e1e45"
MANIFEST = (
    b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":'
    b'"application/vnd.oci.image.config.v1+json","size":233,"digest":'
    b'"sha256:167c0da7b85cd14e39098c4e4770dbb4162784397687dc8419743684d3342361"},"layers":[{"mediaType":'
    b'"application/vnd.dev.cosign.simplesigning.v1+json","size":239,"digest":'
    b'"sha256:0b6852265e5b7d0479fe9763fe110a3fa113899bcabeefc99b5f75334c5fdd5e","annotations":{'
    b'"dev.cosignproject.cosign/signature":"MEQCIF0bI78L3B7d8TQwZvsx8OpGt2VrWELVNlCBsjISsPFeAiBlvX9bIHLIGAl2'
    b'NzFswORBkyIwXnfAgmZbLn5ghZ69/g=="}}]}'
)
PAYLOAD = (
    b'{"critical":{"identity":{"docker-reference":"127.0.0.1:5999/team/app"},"image":{"docker-manifest-digest":'
    b'"sha256:9ab7180f8940adbf3d98b4dee235fe7dcfe34fb5a73c9d99bde62ca80a5e1e45"},"type":'
    b'"cosign container image signature"},"optional":null}'
)
REQUIREMENT = Requirement(
    "sigstoreSigned", "policy.json: default[0]", key_data=(PUBLIC_KEY,), identity=Identity("matchRepository")
)


class Client:
    """A registry that has these two documents."""

    def __init__(self, payload: bytes = PAYLOAD) -> None:
        self._payload = payload

    async def manifest(self, selector: str) -> Fetched:
        assert selector == DIGEST.replace(":", "-") + ".sig"
        return Fetched("", MANIFEST, "application/vnd.oci.image.manifest.v1+json")

    async def small_blob(self, descriptor: Descriptor, limit: int) -> bytes:
        return self._payload


async def checked(requirement: Requirement, payload: bytes = PAYLOAD) -> None:
    reference = parse_reference("127.0.0.1:5999/team/app:1")
    await check([requirement], reference, [DIGEST, DIGEST], cast(RegistryClient, Client(payload)))


async def test_it_is_good() -> None:
    await checked(REQUIREMENT)


async def test_for_its_repository_alone() -> None:
    other = Identity("exactRepository", ("127.0.0.1:5999/team/other",))
    with pytest.raises(NodeError, match="not the one that exactRepository asks for"):
        await checked(replace(REQUIREMENT, identity=other))


async def test_for_these_very_bytes() -> None:
    with pytest.raises(NodeError, match="signed by another key"):
        await checked(REQUIREMENT, PAYLOAD.replace(b"team/app", b"team/apq"))


@pytest.mark.parametrize("key", [b"", b"no PEM", base64.b64encode(PUBLIC_KEY)])
async def test_a_key_that_is_none(key: bytes) -> None:
    with pytest.raises(NodeError, match=r"policy\.json: default\[0\]: public key: "):
        await checked(replace(REQUIREMENT, key_data=(key,)))
