"""Pods get an image that is there only if they could have pulled it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.manifests.decode import decode_manifest
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.pull_records import ALLOWED, ALWAYS, NEVER, PRELOADED, PullRecords, SecretKey, digest
from tests.unit.kubelet.harness import Harness, make_pod

IMAGE = "r.example/private:1"
REF = "sha256:" + "a" * 64
MINE = SecretKey("default", "mine", digest(api.AuthConfig(username="me", password="x")))
OTHER = SecretKey("default", "other", digest(api.AuthConfig(username="you", password="y")))


async def asked(records: PullRecords, *secrets: SecretKey, image: str = IMAGE, ref: str = REF) -> bool:
    async def of_the_pod() -> Sequence[SecretKey]:
        return secrets

    return await records.must_pull(image, ref, of_the_pod)


def pull(records: PullRecords, secret: SecretKey | None, image: str = IMAGE, ref: str = REF) -> None:
    records.begin(image)
    records.pulled(image, ref, secret)


async def test_what_came_otherwise_is_everybodys(tmp_path: Path) -> None:
    assert not await asked(PullRecords(str(tmp_path)))
    assert not await asked(PullRecords(str(tmp_path), NEVER))
    assert await asked(PullRecords(str(tmp_path), ALWAYS), MINE)


async def test_what_needed_no_secret_is_everybodys(tmp_path: Path) -> None:
    for policy in (PRELOADED, ALWAYS):
        records = PullRecords(str(tmp_path / policy), policy)
        pull(records, MINE)
        assert await asked(records)
        pull(records, None)
        assert not await asked(records)
        pull(records, MINE)
        assert not await asked(records), "it stays so"
        assert await asked(records, image="r.example/another:1"), "under another name it may be private"


async def test_the_secret_that_pulled_it_opens_it(tmp_path: Path) -> None:
    records = PullRecords(str(tmp_path))
    pull(records, MINE)
    assert not await asked(records, MINE)
    assert not await asked(records, OTHER, MINE)
    assert await asked(records, OTHER)
    assert not await asked(records, MINE, image="r.example/private@sha256:" + "b" * 64)
    assert not await asked(PullRecords(str(tmp_path), NEVER))
    again = PullRecords(str(tmp_path))
    assert not await asked(again, MINE) and await asked(again), "over a restart as well"


async def test_the_same_content_or_the_same_secret_will_do(tmp_path: Path) -> None:
    records = PullRecords(str(tmp_path))
    pull(records, MINE)
    copy = SecretKey("elsewhere", "copy", MINE.credential_hash)
    assert not await asked(records, copy)
    changed = SecretKey("default", "mine", OTHER.credential_hash)
    assert not await asked(records, changed), "its owner may change what is in it"
    assert not await asked(records, OTHER), "and so that content is good for it"
    (file,) = (tmp_path / "pulled").iterdir()
    assert b"me" not in file.read_bytes().replace(b"name", b"").replace(b"namespace", b"")
    assert file.stat().st_mode & 0o077 == 0 and (tmp_path / "pulled").stat().st_mode & 0o077 == 0


async def test_a_pull_that_was_cut_off_counts_as_one_of_nobody(tmp_path: Path) -> None:
    records = PullRecords(str(tmp_path))
    records.begin(IMAGE)
    assert await asked(PullRecords(str(tmp_path)), MINE)
    records.failed(IMAGE)
    assert not await asked(records)


async def test_a_record_that_cannot_be_read_opens_nothing(tmp_path: Path) -> None:
    records = PullRecords(str(tmp_path))
    pull(records, None)
    (file,) = (tmp_path / "pulled").iterdir()
    file.write_text("half a rec")
    assert await asked(records, MINE)
    assert records.known() == set()
    pull(records, MINE)
    assert not await asked(records, MINE)


async def test_images_that_need_no_check(tmp_path: Path) -> None:
    records = PullRecords(str(tmp_path), ALLOWED, ["r.example/private", "free.example/*"])
    assert not await asked(records)
    assert not await asked(records, image="free.example/any/thing:1")
    assert await asked(records, image="r.example/private/other:1")
    assert await asked(records, image="free.example.org/x")


def test_records_go_with_their_images(tmp_path: Path) -> None:
    records = PullRecords(str(tmp_path))
    pull(records, None)
    pull(records, None, "r.example/b", "sha256:b")
    assert records.known() == {REF, "sha256:b"}
    records.forget({REF})
    assert records.known() == {"sha256:b"}


def secret(name: str, user: str) -> str:
    data = {"auths": {"r.example": {"username": user, "password": "pw"}}}
    text = base64.b64encode(json.dumps(data).encode()).decode()
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": text},
    }
    return f"--- {json.dumps(manifest)}\n"


def using(name: str, policy: str, *secrets: str) -> Pod:
    container = {"name": "app", "image": IMAGE, "imagePullPolicy": policy}
    return make_pod(name, container, imagePullSecrets=[{"name": each} for each in secrets])


def waiting(harness: Harness, pod: str) -> str:
    found = harness.container(pod=pod).state.waiting
    return found.reason if found is not None else ""


@pytest.fixture
def private(harness: Harness) -> Harness:
    """A registry with an image that ``me`` and ``we`` may pull; Secrets of them and of ``you``."""
    harness.cri.add_image(IMAGE, here=False)
    harness.cri.private[IMAGE] = {"me", "we"}
    return harness


async def test_pods_must_show_that_they_may(private: Harness) -> None:
    def pulls() -> list[str]:
        return [each.auth.username for each in private.cri.called("PullImage")]

    first = using("first", "IfNotPresent", "mine")
    async with private.running() as kubelet:
        text = secret("mine", "me") + secret("ours", "we") + secret("yours", "you")
        kubelet.objects.replace("f", decode_manifest(text.encode()).objects)
        private.source.set(first)
        await private.ready("first")
        private.source.set(first, using("same", "IfNotPresent", "mine"), using("never", "Never", "mine"))
        await private.ready("same")
        await private.ready("never")
        assert pulls() == ["me"]
        private.source.set(
            first,
            using("none", "IfNotPresent"),
            using("wrong", "IfNotPresent", "yours"),
            using("hidden", "Never", "yours"),
            using("another", "IfNotPresent", "ours"),
        )
        await private.ready("another")
        reasons = {"none": "ErrImagePull", "wrong": "ErrImagePull", "hidden": "ErrImageNeverPull"}
        await private.until(lambda: {pod: waiting(private, pod) for pod in reasons} == reasons)
        assert sorted(pulls()) == ["", "me", "we", "you"]
    records = Path(private.config.root, "image_manager", "pulled")
    assert len(os.listdir(records)) == 1
