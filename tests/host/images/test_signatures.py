"""Pulls under a signature policy, from a registry that has signatures as cosign pushes them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.images.store import ImageStore
from tests.host.images.conftest import Stores
from tests.images import catalog, signing
from tests.images.build import Format, Image, build_index
from tests.registry import Fault, Registry

KEY, OTHER = signing.make_key(), signing.make_key()
REPOSITORY = {"type": "matchRepository"}


def requirement(key: signing.Private = KEY, **more: Any) -> dict[str, Any]:
    data = base64.b64encode(signing.public_pem(key)).decode()
    return {"type": "sigstoreSigned", "keyData": data, "signedIdentity": REPOSITORY, **more}


def written(folder: Path, *requirements: dict[str, Any]) -> str:
    path = folder / "policy.json"
    path.write_text(json.dumps({"default": list(requirements)}))
    return str(path)


def sign(registry: Registry, repository: str, digest: str, *payloads: tuple[signing.Private, bytes]) -> None:
    signed = [(data, signing.sign(key, data)) for key, data in payloads]
    registry.add(f"{repository}:{signing.signature_tag(digest)}", signing.signature_image(*signed))


def good(registry: Registry, image: Image, repository: str = "app") -> bytes:
    return signing.payload(image.digest, f"{registry.address}/{repository}")


async def start(stores: Stores, folder: Path, *requirements: dict[str, Any]) -> ImageStore:
    return await stores.start(signature_policy=written(folder, *requirements))


async def refused(store: ImageStore, reference: str, match: str) -> None:
    with pytest.raises(NodeError, match=match) as caught:
        await store.pull(reference)
    assert caught.value.code is Code.UNKNOWN, "else upstream's kubelet doesn't see the word"
    assert caught.value.message.startswith("SignatureValidationFailed: ")
    assert store.find(reference) is None and store.list() == []


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
async def test_a_signed_image_is_pulled(
    stores: Stores, tmp_path: Path, own_registry: Registry, kind: str
) -> None:
    key = signing.make_key(kind)
    reference = own_registry.add("app:1", catalog.busybox())
    sign(
        own_registry,
        "app",
        catalog.busybox().digest,
        (OTHER, b"{}"),
        (key, good(own_registry, catalog.busybox())),
    )
    store = await start(stores, tmp_path, requirement(key))
    assert (await store.pull(reference)).id == catalog.busybox().id
    by_digest = f"{own_registry.address}/app@{catalog.busybox().digest}"
    assert (await store.pull(by_digest)).id == catalog.busybox().id


async def test_an_unsigned_one_is_not_and_nothing_of_it_is_fetched(
    stores: Stores, tmp_path: Path, own_registry: Registry
) -> None:
    reference = own_registry.add("app:1", catalog.busybox())
    store = await start(stores, tmp_path, requirement())
    await refused(store, reference, r"there is no signature, and .*policy\.json: default\[0\] asks for one")
    assert own_registry.count("GET", "*/blobs/*") == 0


async def test_signatures_that_do_not_count(stores: Stores, tmp_path: Path, own_registry: Registry) -> None:
    image, other = catalog.busybox(), catalog.layered()
    reference = own_registry.add("app:1", image)
    name = f"{own_registry.address}/app"
    store = await start(stores, tmp_path, requirement())
    for key, data, why in (
        (OTHER, good(own_registry, image), "signed by another key"),
        (KEY, good(own_registry, other), f"for {other.digest}, not for {image.digest}"),
        (KEY, signing.payload(image.digest, f"{name}2"), "for the name '.*app2', which is not the one"),
        (KEY, signing.payload(image.digest, name, "atomic container signature"), "of type 'atomic"),
        (KEY, b'{"critical": {}}', "malformed payload"),
        (KEY, b"{", "malformed payload"),
    ):
        sign(own_registry, "app", image.digest, (key, data))
        await refused(store, reference, rf"no signature meets .*policy\.json: default\[0\]: {why}")
    data = good(own_registry, image)
    for value in ("", "not base64!", signing.sign(KEY, data + b" ")):
        forged = signing.signature_image((data, value))
        own_registry.add(f"app:{signing.signature_tag(image.digest)}", forged)
        await refused(store, reference, "signed by another key")


async def test_the_tag_counts_where_the_policy_says_so(
    stores: Stores, tmp_path: Path, own_registry: Registry
) -> None:
    image = catalog.busybox()
    reference = own_registry.add("app:1", image)
    own_registry.add("app:2", image)
    sign(own_registry, "app", image.digest, (KEY, signing.payload(image.digest, reference)))
    exact = requirement()
    del exact["signedIdentity"]
    store = await start(stores, tmp_path, exact)
    await refused(
        store, f"{own_registry.address}/app:2", "is not the one that matchRepoDigestOrExact asks for"
    )
    assert (await store.pull(reference)).id == image.id


async def test_a_signed_index_or_the_signed_manifest_in_it(
    stores: Stores, tmp_path: Path, own_registry: Registry
) -> None:
    here = catalog.busybox()
    image = build_index([(here, Format())])
    reference = own_registry.add("app:1", image)
    store = await start(stores, tmp_path, requirement())
    await refused(store, reference, "there is no signature")
    payload = signing.payload(here.digest, f"{own_registry.address}/app")
    sign(own_registry, "app", here.digest, (KEY, payload))
    assert await store.pull(reference)
    await store.remove(reference)
    sign(own_registry, "app", here.digest, (OTHER, payload))
    await refused(store, reference, "signed by another key")
    sign(own_registry, "app", image.digest, (KEY, good(own_registry, image)))
    assert await store.pull(reference)


async def test_all_requirements_must_be_met(stores: Stores, tmp_path: Path, own_registry: Registry) -> None:
    image = catalog.busybox()
    reference = own_registry.add("app:1", image)
    sign(own_registry, "app", image.digest, (KEY, good(own_registry, image)))
    store = await start(stores, tmp_path, requirement(), requirement(OTHER))
    await refused(store, reference, r"no signature meets .*default\[1\]")
    both = (KEY, good(own_registry, image)), (OTHER, good(own_registry, image))
    sign(own_registry, "app", image.digest, *both)
    assert await store.pull(reference)


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"type": "reject"}, r"policy\.json: default\[0\] rejects it"),
        ({"type": "signedBy", "keyType": "GPGKeys", "keyPath": "/k"}, "asks for simple signing with GPG"),
        ({"type": "sigstoreSigned", "pki": {}}, "asks for pki, which can't be checked here"),
    ],
)
async def test_rejected_or_not_to_be_checked(
    stores: Stores, tmp_path: Path, own_registry: Registry, policy: dict[str, Any], why: str
) -> None:
    reference = own_registry.add("app:1", catalog.busybox())
    store = await start(stores, tmp_path, policy)
    await refused(store, reference, why)


async def test_a_policy_that_became_stricter_holds_for_the_next_pull(
    stores: Stores, tmp_path: Path, own_registry: Registry
) -> None:
    image = catalog.busybox()
    reference = own_registry.add("app:1", image)
    store = await start(stores, tmp_path, {"type": "insecureAcceptAnything"})
    await store.pull(reference)
    assert own_registry.count("GET", "*.sig") == 0
    written(tmp_path, requirement())
    with pytest.raises(NodeError, match="SignatureValidationFailed"):
        await store.pull(reference)
    sign(own_registry, "app", image.digest, (KEY, good(own_registry, image)))
    assert (await store.pull(reference)).id == image.id


async def test_a_registry_that_does_not_answer_is_no_missing_signature(
    stores: Stores, tmp_path: Path, own_registry: Registry
) -> None:
    reference = own_registry.add("app:1", catalog.busybox())
    own_registry.fail(Fault("*.sig", status=403, times=None))
    store = await start(stores, tmp_path, requirement())
    with pytest.raises(NodeError, match="status 403") as caught:
        await store.pull(reference)
    assert caught.value.code is Code.PERMISSION_DENIED


async def test_keys_and_policies_that_cannot_be_read(
    stores: Stores, tmp_path: Path, own_registry: Registry
) -> None:
    reference = own_registry.add("app:1", catalog.busybox())
    (tmp_path / "bad.pub").write_text("no key")
    for path in ("missing.pub", "bad.pub"):
        keyed = {"type": "sigstoreSigned", "keyPath": str(tmp_path / path)}
        store = await start(stores, tmp_path, keyed)
        with pytest.raises(NodeError, match=r"default\[0\]: public key: ") as caught:
            await store.pull(reference)
        assert caught.value.code is Code.FAILED_PRECONDITION
        await stores.stop()
    store = await stores.start(signature_policy=str(tmp_path / "none.json"))
    with pytest.raises(NodeError, match=r"none\.json: the signature policy does not exist"):
        await store.pull(reference)
    assert store.list() == []
