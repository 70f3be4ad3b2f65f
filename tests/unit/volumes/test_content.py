"""What volumes made of objects hold, and what they say when it can't be had."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minikubelet.kubelet.defaults import apply_defaults
from minikubelet.kubelet.manifests.decode import decode_manifest
from minikubelet.kubelet.object_store import ObjectStore
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.volumes.atomic_writer import FileContent
from minikubelet.kubelet.volumes.content import ContentVolume, nested_mount_points
from minikubelet.kubelet.volumes.manager import VolumeManager
from minikubelet.kubelet.volumes.plugin import MountError, Request, SetupFailed, Surroundings

OBJECTS = b"""
--- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: "1", b: "2"}, binaryData: {raw: AP8=}}
--- {apiVersion: v1, kind: Secret, metadata: {name: s}, data: {x: c2VjcmV0}, stringData: {y: plain}}
--- {apiVersion: v1, kind: ConfigMap, metadata: {name: c, namespace: other}, data: {a: other}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""


def store(text: bytes = OBJECTS) -> ObjectStore:
    made = ObjectStore()
    made.replace("test", decode_manifest(text).objects)
    return made


def pod_of(*volumes: dict[str, Any], **spec: Any) -> Pod:
    limits = {"limits": {"memory": "64Mi"}}
    whole = {"volumes": list(volumes), "containers": [{"name": "app", "image": "i", "resources": limits}]}
    meta = {"name": "p", "namespace": "default", "uid": "u", "labels": {"l": "v"}}
    pod = msgspec.convert({"metadata": meta, "spec": {**whole, **spec}}, Pod)
    apply_defaults(pod)
    return pod


async def look_up(volume: dict[str, Any], objects: ObjectStore | None = None) -> dict[str, FileContent]:
    pod = pod_of({"name": "v", **volume})
    plugin = ContentVolume(Surroundings(objects or store()))
    return dict(await plugin.look_up(Request(pod, pod.spec.volumes[0], "spec.volumes[0]", "/nowhere")))


def texts(payload: dict[str, FileContent]) -> dict[str, tuple[bytes, int]]:
    return {path: (content.data, content.mode) for path, content in payload.items()}


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        ({"configMap": {"name": "c"}}, {"a": (b"1", 0o644), "b": (b"2", 0o644), "raw": (b"\0\xff", 0o644)}),
        (
            {"configMap": {"name": "c", "defaultMode": 0o600, "items": [{"key": "a", "path": "d/e"}]}},
            {"d/e": (b"1", 0o600)},
        ),
        ({"configMap": {"name": "none", "optional": True}}, {}),
        ({"configMap": {"name": "c", "optional": True, "items": [{"key": "no", "path": "n"}]}}, {}),
        ({"secret": {"secretName": "s"}}, {"x": (b"secret", 0o644), "y": (b"plain", 0o644)}),
        (
            {"secret": {"secretName": "s", "items": [{"key": "x", "path": "k", "mode": 0o400}]}},
            {"k": (b"secret", 0o400)},
        ),
        (
            {"downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"l": (b'l="v"', 0o644)},
        ),
        (
            {
                "projected": {
                    "defaultMode": 0o440,
                    "sources": [
                        {"configMap": {"name": "c", "items": [{"key": "a", "path": "same"}]}},
                        {"secret": {"name": "s", "items": [{"key": "y", "path": "same"}]}},
                        {
                            "downwardAPI": {
                                "items": [
                                    {
                                        "path": "mem",
                                        "mode": 0o444,
                                        "resourceFieldRef": {
                                            "containerName": "app",
                                            "resource": "limits.memory",
                                            "divisor": "1Mi",
                                        },
                                    }
                                ]
                            }
                        },
                    ],
                }
            },
            {"same": (b"plain", 0o440), "mem": (b"64", 0o444)},
        ),
    ],
)
async def test_files(volume: dict[str, Any], expected: dict[str, tuple[bytes, int]]) -> None:
    assert texts(await look_up(volume)) == expected


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ({"configMap": {"name": "none"}}, 'configmap "none" not found'),
        (
            {"configMap": {"name": "c", "items": [{"key": "no", "path": "n"}]}},
            "configmap references non-existent config key: no",
        ),
        ({"secret": {"secretName": "none"}}, 'secret "none" not found'),
        (
            {"secret": {"secretName": "s", "items": [{"key": "no", "path": "n"}]}},
            "references non-existent secret key: no",
        ),
        (
            {"projected": {"sources": [{"secret": {"name": "n"}}, {"configMap": {"name": "m"}}]}},
            '[secret "n" not found, configmap "m" not found]',
        ),
        (
            {"projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            "failed to fetch token: cannot use TokenManager when kubelet is in standalone mode",
        ),
        (
            {"projected": {"sources": [{"clusterTrustBundle": {"name": "n", "path": "ca"}}]}},
            "ClusterTrustBundle projection is not supported in static kubelet mode",
        ),
    ],
)
async def test_what_is_missing(volume: dict[str, Any], message: str) -> None:
    with pytest.raises(MountError) as caught:
        await look_up(volume)
    assert str(caught.value) == message


def manager(tmp_path: Path, objects: ObjectStore) -> VolumeManager:
    return VolumeManager(
        str(tmp_path / "pods"), around=Surroundings(objects, claims=str(tmp_path / "claims"))
    )


async def test_a_running_pods_volume_follows_its_config_map(tmp_path: Path) -> None:
    objects = store()
    volumes = manager(tmp_path, objects)
    pod = pod_of({"name": "v", "configMap": {"name": "c"}}, {"name": "e", "emptyDir": {}})
    paths = await volumes.setup(pod)
    folder = Path(paths["v"])
    assert folder == tmp_path / "pods/u/volumes/kubernetes.io~configmap/v"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 and (folder / "a").read_text() == "1"
    objects.replace("test", decode_manifest(OBJECTS.replace(b'a: "1", ', b'a: "9", ')).objects)
    await volumes.refresh(pod)
    assert (folder / "a").read_text() == "9"
    objects.replace("test", [])
    with pytest.raises(SetupFailed) as caught:
        await volumes.refresh(pod)
    assert {name: str(each) for name, each in caught.value.failures.items()} == {
        "v": 'configmap "c" not found'
    }
    assert (folder / "a").read_text() == "9", "what containers have stays"
    await volumes.teardown("u")
    assert not (tmp_path / "pods/u/volumes").exists()


async def test_other_volumes_can_be_mounted_inside(tmp_path: Path) -> None:
    places = {"v": ["/v/", "/w"], "e": ["/v/a", "/v/sub/deep", "/v/sub/deep/er", "/vv", "/w/x"]}
    mounts = [{"name": name, "mountPath": path} for name, paths in places.items() for path in paths]
    volumes = [{"name": "v", "configMap": {"name": "c"}}, {"name": "e", "emptyDir": {}}]
    pod = pod_of(*volumes, containers=[{"name": "app", "image": "i", "volumeMounts": mounts}])
    assert nested_mount_points(pod, "v") == {"a", "sub/deep", "x"}
    assert nested_mount_points(pod, "e") == {"er"}
    objects = store()
    folder = Path((await manager(tmp_path, objects).setup(pod))["v"])
    assert (folder / "sub/deep").is_dir() and (folder / "a").is_dir() and (folder / "b").read_text() == "2"
    objects.replace("test", decode_manifest(OBJECTS.replace(b'a: "1", b: "2"', b'b: "3"')).objects)
    await manager(tmp_path, objects).refresh(pod)
    assert (folder / "a").is_dir() and (folder / "b").read_text() == "3"


async def test_all_that_can_be_made_is_made(tmp_path: Path) -> None:
    volumes = manager(tmp_path, store())
    pod = pod_of(
        {"name": "a", "configMap": {"name": "no"}},
        {"name": "b", "emptyDir": {}},
        {"name": "c", "configMap": {"name": "nor"}},
    )
    with pytest.raises(SetupFailed) as caught:
        await volumes.setup(pod)
    assert sorted(caught.value.failures) == ["a", "c"]
    assert (tmp_path / "pods/u/volumes/kubernetes.io~empty-dir/b").is_dir()


async def test_fs_group_owns_what_it_may(tmp_path: Path) -> None:
    group = os.getegid()
    volumes = manager(tmp_path, store())
    pod = pod_of(
        {"name": "v", "configMap": {"name": "c", "defaultMode": 0o600}},
        {"name": "e", "emptyDir": {}},
        {"name": "d", "persistentVolumeClaim": {"claimName": "data"}},
        securityContext={"fsGroup": group},
    )
    paths = await volumes.setup(pod)

    def mode(path: str) -> int:
        return stat.S_IMODE(os.stat(path).st_mode)

    assert mode(paths["v"]) == mode(paths["e"]) == mode(paths["d"]) == 0o2777
    assert mode(f"{paths['v']}/a") == 0o640
    assert paths["d"] == str(tmp_path / "claims/default/data")
    Path(paths["e"], "kept").touch(0o600)
    Path(paths["d"], "changed").touch(0o600)
    await volumes.setup(pod)
    assert mode(f"{paths['e']}/kept") == 0o600, "an emptyDir is given once"
    assert mode(f"{paths['d']}/changed") == 0o660
    os.chmod(f"{paths['d']}/changed", 0o600)
    assert pod.spec.security_context is not None
    pod.spec.security_context.fs_group_change_policy = "OnRootMismatch"
    await volumes.setup(pod)
    assert mode(f"{paths['d']}/changed") == 0o600
    os.chmod(paths["d"], 0o700)
    await volumes.setup(pod)
    assert mode(f"{paths['d']}/changed") == 0o660 and mode(paths["d"]) == 0o2770


async def test_links_in_a_claim_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    (outside / "canary").touch(0o600)
    volumes = manager(tmp_path, store())
    claim = {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}
    pod = pod_of(claim, securityContext={"fsGroup": os.getegid()})
    folder = Path((await volumes.setup(pod))["d"])
    (folder / "link").symlink_to(outside)
    (folder / "file").symlink_to(outside / "canary")
    await volumes.setup(pod)
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700
    assert stat.S_IMODE((outside / "canary").stat().st_mode) == 0o600
    await volumes.teardown("u")
    assert folder.is_dir(), "claims outlive pods"


VOLUME = """
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, local: {path: PATH}, claimRef: {name: WHO}}
"""


async def test_a_claim_is_bound_to_the_volume_that_names_it(tmp_path: Path) -> None:
    def text(path: Path, who: str) -> bytes:
        return OBJECTS + VOLUME.replace("PATH", str(path)).replace("WHO", who).encode()

    (tmp_path / "disk").mkdir()
    pod = pod_of({"name": "d", "persistentVolumeClaim": {"claimName": "data"}})
    volumes = manager(tmp_path, store(text(tmp_path / "disk", "data")))
    assert await volumes.setup(pod) == {"d": str(tmp_path / "disk")}
    named = text(tmp_path / "disk", "another").replace(b"spec: {acc", b"spec: {volumeName: disk, acc", 1)
    for objects, words in (
        (text(tmp_path / "none", "data"), "is not a directory"),
        (named, 'volume "disk" is already bound to claim "default/another"'),
        (
            OBJECTS.replace(b"spec: {acc", b"spec: {volumeName: gone, acc"),
            'persistentvolume "gone" not found',
        ),
        (b"", 'persistentvolumeclaim "data" not found'),
    ):
        with pytest.raises(SetupFailed, match=words):
            await manager(tmp_path, store(objects)).setup(pod)
