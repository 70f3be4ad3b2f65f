"""Objects from manifests: read, checked, kept by name; who refers to them; credentials in them."""

from __future__ import annotations

import base64
import json
import textwrap
from pathlib import Path

import pytest

from minikubelet.kubelet import keyring
from minikubelet.kubelet.events import EventRecorder
from minikubelet.kubelet.keyring import Keyring
from minikubelet.kubelet.manifests.decode import decode_manifest
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.object_store import ObjectStore
from minikubelet.kubelet.references import references
from minikubelet.kubelet.sources.folder import FolderSource
from tests.unit.kubelet.harness import Harness, make_pod

CONFIG = "--- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: '1'}}"
SECRET = "--- {apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: hidden}}"


def refused(text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        decode_manifest(textwrap.dedent(text).encode(), "f.yaml")
    return str(caught.value)


def test_kinds_of_a_file() -> None:
    ignored = "--- {apiVersion: v1, kind: ServiceAccount, metadata: {name: a}, imagePullSecrets: [{name: x}]}"
    pod = "--- {apiVersion: v1, kind: Pod, metadata: {name: p}}"
    listed = "--- {apiVersion: v1, kind: ConfigMapList, items: [{metadata: {name: l}}]}"
    found = decode_manifest("\n".join([CONFIG, ignored, pod, SECRET, listed]).encode(), "f.yaml")
    assert [each.key for each in found.objects] == [
        ("ConfigMap", "default", "c"),
        ("Secret", "default", "s"),
        ("ConfigMap", "default", "l"),
    ]
    assert [each.metadata.name for each, _ in found.pods] == ["p"]
    assert [str(each) for each in found.warnings] == [
        "f.yaml:2: kind: ServiceAccount has no effect on this node: pods get no token here"
    ]
    assert "hidden" not in repr(found)


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("v1", "Service"),
        ("networking.k8s.io/v1", "Ingress"),
        ("rbac.authorization.k8s.io/v1beta1", "ClusterRoleBinding"),
        ("policy/v1", "PodDisruptionBudget"),
    ],
)
def test_what_goes_along_with_pods_may_be_left_out(version: str, kind: str) -> None:
    other = f"--- {{apiVersion: {version}, kind: {kind}, metadata: {{name: a}}}}"
    found = decode_manifest("\n".join([CONFIG, other]).encode(), "f.yaml")
    assert len(found.objects) == 1
    (warning,) = found.warnings
    assert str(warning).startswith(f"f.yaml:2: kind: {kind} has no effect on this node: ")


def typed(kind: str, data: str) -> str:
    """A Secret of a type of Kubernetes' own."""
    typed = SECRET.replace("metadata", f"type: kubernetes.io/{kind}, metadata")
    return typed.replace("a: hidden", data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONFIG.replace("name: c", "name: C_"), "f.yaml:1: metadata.name: Invalid value"),
        (CONFIG.replace("a: '1'", "a b: '1'"), "f.yaml:1: data.a b: Invalid value: a valid config key"),
        (CONFIG.replace("a: '1'", "..a: '1'"), "f.yaml:1: data...a: Invalid value: a valid config key"),
        (typed("dockerconfigjson", ".dockerconfigjson: hidden"), "is no JSON object"),
        (typed("dockercfg", ".dockercfg: '[\"hidden\"]'"), "is no JSON object"),
        (typed("ssh-auth", "ssh-privatekey: ''"), "data.ssh-privatekey: Required value"),
        (CONFIG.replace("'1'", "1"), "f.yaml:1: data.a: expected a string, got a whole number"),
        (CONFIG.replace(" data:", " datas:"), 'datas: unknown field (did you mean "data"?)'),
        (
            SECRET.replace("stringData: {a: hidden}", "data: {a: '!hidden'}"),
            "data.a: Invalid value: is not base64",
        ),
        (SECRET.replace("metadata", "type: kubernetes.io/tls, metadata"), "data.tls.crt: Required value"),
        (CONFIG.replace("'1'", "x" * (1 << 20 | 1)), "Too long: must have at most 1048576 bytes"),
        (CONFIG.replace(" data:", " binaryData: {a: AA==}, data:"), "duplicate of key present in binaryData"),
        (
            "--- {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: a}}",
            "spec.accessModes: Required",
        ),
        (
            "--- {apiVersion: v1, kind: PersistentVolume, metadata: {name: a}}",
            "specify exactly one volume type",
        ),
    ],
)
def test_bad_objects(text: str, message: str) -> None:
    said = refused(text)
    assert message in said and "hidden" not in said


async def test_the_store_tells_of_changes_only() -> None:
    store = ObjectStore()
    changes: list[list[str]] = []
    store.listen(lambda keys: changes.append(sorted("/".join(key) for key in keys)))
    both = decode_manifest(f"{CONFIG}\n{SECRET}".encode()).objects
    store.replace("one", both)
    store.replace("one", both)
    store.replace("two", decode_manifest(CONFIG.replace("'1'", "'2'").encode()).objects)
    found = await store.config_map("default", "c")
    assert found is not None and found.data == {"a": "1"}, "the first source's"
    store.replace("one", both[1:])
    found = await store.config_map("default", "c")
    assert found is not None and found.data == {"a": "2"}
    secret = await store.secret("default", "s")
    assert secret is not None and secret.data == {"a": b"hidden"} and "hidden" not in repr(secret)
    assert await store.config_map("other", "c") is None
    assert changes == [["ConfigMap/default/c", "Secret/default/s"], ["ConfigMap/default/c"]]


async def test_immutable_objects_stay() -> None:
    store = ObjectStore()
    fixed = CONFIG.replace(" data:", " immutable: true, data:")
    store.replace("f", decode_manifest(fixed.encode()).objects)
    changed = decode_manifest(fixed.replace("'1'", "'2'").encode()).objects
    assert store.replace("f", changed) == [("ConfigMap", "default", "c")]
    found = await store.config_map("default", "c")
    assert found is not None and found.data == {"a": "1"}
    store.replace("f", [])
    assert store.replace("f", changed) == [], "made anew"


async def test_objects_of_a_folder(tmp_path: Path) -> None:
    store = ObjectStore()
    problems: list[str] = []
    (tmp_path / "a.yaml").write_text(f"{CONFIG}\n{SECRET}")
    (tmp_path / "b.yaml").write_text(CONFIG)
    source = FolderSource(
        str(tmp_path), "n", lambda problem, level: problems.append(f"{level} {problem}"), store
    )
    async for pods in source.watch():
        assert pods == []
        break
    assert sorted(each.key[0] for each in store.objects()) == ["ConfigMap", "Secret"]
    assert problems == [
        f"error {tmp_path}/b.yaml: ConfigMap default/c is defined twice; the first definition counts"
    ]


def test_what_a_pod_refers_to() -> None:
    pod = make_pod(
        "web",
        {
            "name": "app",
            "envFrom": [{"configMapRef": {"name": "a"}}],
            "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "b", "key": "k"}}}],
        },
        volumes=[
            {"name": "v", "projected": {"sources": [{"secret": {"name": "c"}}]}},
            {"name": "w", "persistentVolumeClaim": {"claimName": "d"}},
        ],
        imagePullSecrets=[{"name": "e"}],
    )
    found = {(kind, name) for kind, _, name in references(pod)}
    assert found == {
        ("ConfigMap", "a"),
        ("Secret", "b"),
        ("Secret", "c"),
        ("PersistentVolumeClaim", "d"),
        ("Secret", "e"),
    }


def auth(user: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:pw:{user}".encode()).decode()}


@pytest.mark.parametrize(
    ("image", "users"),
    [
        ("registry.example:5000/team/app:1", ["team", "host"]),
        ("registry.example:5000/other:1", ["host"]),
        ("registry.example/team/app:1", []),
        ("eu.wild.example/x:1", ["wild"]),
        ("a.eu.wild.example/x:1", []),
        ("busybox:1", ["hub"]),
        ("docker.io/library/busybox:1", ["hub"]),
        ("me/app:1", ["hub"]),
    ],
)
async def test_credentials_that_fit(image: str, users: list[str]) -> None:
    config = {
        "auths": {
            "registry.example:5000": auth("host"),
            "https://registry.example:5000/team": auth("team"),
            "*.wild.example": auth("wild"),
            "https://index.docker.io/v1/": {"username": "hub", "password": "pw:hub"},
        }
    }
    store = ObjectStore()
    text = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pull"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": json.dumps(config)},
    }
    store.replace("f", decode_manifest(json.dumps(text).encode()).objects)
    ring = Keyring(store, EventRecorder("n"))
    found = await ring.credentials(make_pod("web", imagePullSecrets=[{"name": "pull"}]), image)
    shown = [(each.auth.username, each.auth.password) for each in found]
    assert shown == [(user, f"pw:{user}") for user in users]
    assert {(each.secret.namespace, each.secret.name) for each in found if each.secret} <= {
        ("default", "pull")
    }
    assert all(each.secret and len(each.secret.credential_hash) == 64 for each in found)


async def test_the_nodes_credentials_come_last_and_missing_secrets_are_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"r.example": auth("node")}}))
    events = EventRecorder("n")
    store = ObjectStore()
    data = base64.b64encode(json.dumps({"r.example": auth("pod")}).encode()).decode()
    text = (
        "--- {apiVersion: v1, kind: Secret, metadata: {name: old}, type: kubernetes.io/dockercfg, "
        f"data: {{.dockercfg: {data}}}}}"
    )
    store.replace("f", decode_manifest(text.encode()).objects)
    ring = Keyring(store, events, [str(tmp_path / "none"), str(tmp_path)])
    pod = make_pod("web", imagePullSecrets=[{"name": "old"}, {"name": "lost"}])
    assert [each.auth.username for each in await ring.credentials(pod, "r.example/x:1")] == ["pod", "node"]
    (event,) = events.list()
    assert event.reason == "FailedToRetrieveImagePullSecret" and "(lost)" in event.message
    assert str(Path.home() / ".docker") in keyring.node_folders("/root-of-kubelet")


async def test_all_credentials_are_tried(harness: Harness) -> None:
    (harness.folder / "root").mkdir()
    config = {"auths": {"r.example/a": auth("first"), "r.example": auth("second")}}
    (harness.folder / "root" / "config.json").write_text(json.dumps(config))
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app", "image": "r.example/a:1"}))
        await harness.until(lambda: harness.waiting() == "ErrImagePull")
        users = [each.auth.username for each in harness.cri.called("PullImage")]
        assert users == ["first", "second"]
