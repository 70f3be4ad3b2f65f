"""Credential providers: real programs that are asked, what they answer, for how long it is kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.kubelet.credential_providers import CredentialProviders, load
from minikubelet.kubelet.events import EventRecorder
from minikubelet.kubelet.keyring import Keyring
from minikubelet.kubelet.metrics.images import ImageInstruments
from minikubelet.kubelet.object_store import ObjectStore
from tests.unit.kubelet.harness import FakeClock, make_pod

API = "credentialprovider.kubelet.k8s.io/v1"
PROGRAM = """#!/bin/sh
cat >> "$SEEN"; echo >> "$SEEN"
echo "to the log" >&2
{body}
"""


class Scene:
    """A folder of programs, a configuration that names them, and what was asked of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen = folder / "seen"
        self.clock = FakeClock()
        self.programs = folder / "bin"
        self.programs.mkdir()

    def program(self, body: str, name: str = "cloud") -> None:
        path = self.programs / name
        path.write_text(PROGRAM.format(body=body))
        path.chmod(0o755)

    def answers(self, name: str = "cloud", **fields: Any) -> None:
        answer = {
            "kind": "CredentialProviderResponse",
            "apiVersion": API,
            "cacheKeyType": "Registry",
            "auth": {"*.cloud.example": {"username": "user", "password": "secret"}},
            **fields,
        }
        self.program(f"echo '{json.dumps(answer)}'", name)

    def provider(self, **fields: Any) -> dict[str, Any]:
        return {
            "name": "cloud",
            "matchImages": ["*.cloud.example"],
            "defaultCacheDuration": "10m",
            "apiVersion": API,
            "env": [{"name": "SEEN", "value": str(self.seen)}],
            **fields,
        }

    def load(
        self, *providers: dict[str, Any], counted: ImageInstruments | None = None, **fields: Any
    ) -> CredentialProviders:
        file = self.folder / "providers.yaml"
        config = {
            "apiVersion": "kubelet.config.k8s.io/v1",
            "kind": "CredentialProviderConfig",
            "providers": list(providers),
            **fields,
        }
        file.write_text(json.dumps(config))
        return load(str(file), str(self.programs), self.clock, counted)

    def asked(self) -> list[str]:
        """The images, in order."""
        lines = self.seen.read_text().splitlines() if self.seen.exists() else []
        return [json.loads(line)["image"] for line in lines]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


async def test_an_image_is_pulled_with_what_the_program_says(scene: Scene) -> None:
    scene.answers()
    ring = Keyring(ObjectStore(), EventRecorder("n"), (), scene.load(scene.provider()))
    pod = make_pod("web")
    (credential,) = await ring.credentials(pod, "eu.cloud.example/team/app:1.2@sha256:" + "a" * 64)
    assert (credential.auth.username, credential.auth.password) == ("user", "secret")
    assert credential.secret is None, "the node's, not the pod's"
    assert await ring.credentials(pod, "cloud.example/app") == []
    assert await ring.credentials(pod, "busybox") == []
    (request,) = map(json.loads, scene.seen.read_text().splitlines())
    assert request == {
        "kind": "CredentialProviderRequest",
        "apiVersion": API,
        "image": "eu.cloud.example/team/app",
    }


@pytest.mark.parametrize(
    ("key", "second", "third"),
    [("Image", True, True), ("Registry", False, True), ("Global", False, False)],
)
async def test_answers_are_kept_for_what_they_are_good_for(
    scene: Scene, key: str, second: bool, third: bool
) -> None:
    scene.answers(cacheKeyType=key, cacheDuration="30s")
    made = scene.load(scene.provider())
    images = ["a.cloud.example/one", "a.cloud.example/two", "b.cloud.example/one"]
    for _ in range(2):
        for image in images:
            assert len(await made.entries(image)) == 1
    expected = [image for image, again in zip(images, (True, second, third), strict=True) if again]
    assert scene.asked() == expected
    scene.clock.advance(31)
    assert await made.entries(images[0])
    assert scene.asked() == [*expected, images[0]]


async def test_nothing_is_kept_for_no_time(scene: Scene) -> None:
    scene.answers(cacheDuration="0s")
    made = scene.load(scene.provider())
    for _ in range(2):
        assert await made.entries("a.cloud.example/x")
    assert len(scene.asked()) == 2


async def test_those_who_ask_at_once_share_an_answer(scene: Scene) -> None:
    scene.answers(cacheDuration="0s")
    made = scene.load(scene.provider())
    found = await asyncio.gather(*(made.entries("a.cloud.example/x") for _ in range(5)))
    assert [len(each) for each in found] == [1] * 5
    assert len(scene.asked()) == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("exit 3", "ended with status 3: to the log"),
        ("echo secret-text", "is no CredentialProviderResponse"),
        ("""echo '{"kind": "Pod", "apiVersion": "v1", "cacheKeyType": "Image"}'""", f"Response of {API}"),
        (
            f"""echo '{{"kind": "CredentialProviderResponse", "apiVersion": "{API}",'
                echo '"cacheKeyType": "x"}}'""",
            "cacheKeyType is none of",
        ),
        ("rm -f \"$0\"; echo '['", "is no CredentialProviderResponse"),
    ],
)
async def test_a_program_that_fails_is_told_and_the_others_count(
    scene: Scene, caplog: pytest.LogCaptureFixture, body: str, words: str
) -> None:
    scene.program(body)
    scene.answers("other")
    counted = ImageInstruments()
    made = scene.load(scene.provider(), scene.provider(name="other"), counted=counted)
    assert len(await made.entries("a.cloud.example/x")) == 1
    assert counted.provider_errors.values == {("cloud",): 1.0}
    seconds = {
        sample.labels["plugin_name"]: sample.value for sample in counted.provider_seconds.family().samples
    }
    assert seconds == {"cloud": 1, "other": 1}, "the last sample of each is the count"
    (record,) = caplog.records
    assert words in record.getMessage() and "credential provider cloud" in record.getMessage()
    assert "secret-text" not in caplog.text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": "../cloud"}, r"providers\[0\].name: must be a program's name"),
        ({"name": "none"}, "provider 'none': there is no such program"),
        ({"apiVersion": "v9"}, r"providers\[0\].apiVersion: must be one of credentialprovider"),
        ({"matchImages": []}, r"providers\[0\].matchImages: at least one"),
        ({"defaultCacheDuration": "-1s"}, r"providers\[0\].defaultCacheDuration: must not be negative"),
        ({"defaultCacheDuration": "soon"}, r"providers\[0\].defaultCacheDuration: 'soon' is not a duration"),
        ({"tokenAttributes": {}}, r"providers\[0\].tokenAttributes: .*need an API server"),
        ({"matchImage": ["x"]}, r"providers\[0\].matchImage: unknown field"),
    ],
)
def test_a_configuration_that_is_wrong_says_where(scene: Scene, fields: dict[str, Any], words: str) -> None:
    scene.answers()
    with pytest.raises(NodeError, match=words) as caught:
        scene.load(scene.provider(**fields))
    assert caught.value.code is Code.INVALID_ARGUMENT and "providers.yaml" in str(caught.value)


def test_configurations_as_a_whole(scene: Scene) -> None:
    scene.answers()
    with pytest.raises(NodeError, match=r"is in .*providers\.yaml, too"):
        scene.load(scene.provider(), scene.provider())
    with pytest.raises(NodeError, match="expected kind CredentialProviderConfig"):
        scene.load(scene.provider(), kind="Pod")
    with pytest.raises(NodeError, match="names no provider"):
        scene.load()
    with pytest.raises(NodeError, match="--image-credential-provider-bin-dir"):
        load(str(scene.folder / "providers.yaml"), "", scene.clock)
    scene.load(scene.provider())
    assert load(str(scene.folder), str(scene.programs), scene.clock), "a folder of files"
