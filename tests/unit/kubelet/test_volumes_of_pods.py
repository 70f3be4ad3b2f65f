"""Volumes and references as the pod worker handles them, over a fake runtime."""

from __future__ import annotations

from pathlib import Path

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.checkpoint import load
from minikubelet.kubelet.manifests.decode import decode_manifest
from tests.unit.kubelet.harness import Harness, make_pod

CONFIG = "--- {apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: 'VALUE'}}"
VOLUMES = [{"name": "v", "configMap": {"name": "c"}}]
MOUNTED = {"name": "app", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}


def give(harness: Harness, value: str) -> None:
    text = CONFIG.replace("VALUE", value) if value else "---"
    harness.kubelet.objects.replace("test", decode_manifest(text.encode()).objects)


def shown(harness: Harness) -> str:
    mount = harness.cri.newest("app").config.mounts[0]
    assert mount.readonly, "nobody writes to a configMap"
    return Path(mount.host_path, "a").read_text()


async def test_a_pod_starts_as_soon_as_what_it_waits_for_is_there(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod("web", MOUNTED, volumes=VOLUMES))
        await harness.until(lambda: "FailedMount" in harness.reasons())
        (event,) = [e for e in harness.kubelet.events() if e.reason == "FailedMount"]
        assert event.message == 'MountVolume.SetUp failed for volume "v" : configmap "c" not found'
        assert harness.waiting() == "ContainerCreating"
        give(harness, "1")
        await harness.ready()
        assert shown(harness) == "1"


async def test_a_variable_that_is_missing(harness: Harness) -> None:
    reference = {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "a"}}}
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app", "env": [reference]}))
        await harness.until(lambda: harness.waiting() == "CreateContainerConfigError")
        give(harness, "1")
        await harness.ready()
        assert [(e.key, e.value) for e in harness.cri.newest("app").config.envs] == [("A", b"1")]


async def test_changes_reach_running_pods_also_those_of_the_time_away(harness: Harness) -> None:
    async with harness.running():
        give(harness, "1")
        harness.source.set(make_pod("web", MOUNTED, volumes=VOLUMES))
        await harness.ready()
        give(harness, "2")
        await harness.until(lambda: shown(harness) == "2")
    async with harness.running():
        give(harness, "3")
        harness.source.set(make_pod("web", MOUNTED, volumes=VOLUMES))
        await harness.until(lambda: shown(harness) == "3")
        give(harness, "4")
        await harness.until(lambda: shown(harness) == "4")
        give(harness, "")
        await harness.until(lambda: "FailedMount" in harness.reasons())
        assert shown(harness) == "4"
        give(harness, "5")
        await harness.until(lambda: shown(harness) == "5")
        assert len(harness.cri.called("CreateContainer")) == 1


async def test_an_image_volume_that_cant_be_pulled_holds_up_its_container_only(harness: Harness) -> None:
    mounted = {"name": "app", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volumes = [{"name": "v", "image": {"reference": "r.example/none:1"}}]
    async with harness.running():
        harness.source.set(make_pod("web", mounted, {"name": "other"}, volumes=volumes))
        await harness.until(lambda: harness.waiting() == "ErrImagePull")
        await harness.until(lambda: harness.container("other").state.running)
        assert harness.cri.called("CreateContainer")[0].config.metadata.name == "other"


async def test_a_container_that_starts_again_sees_an_image_volume_as_it_is_then(harness: Harness) -> None:
    reference = "r.example/data:1"
    mounted = {"name": "app", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    volumes = [{"name": "v", "image": {"reference": reference, "pullPolicy": "Always"}}]
    harness.cri.add_image(reference, here=False)
    async with harness.running():
        harness.source.set(make_pod("web", mounted, volumes=volumes))
        await harness.ready()
        pulls = [each.image.image for each in harness.cri.called("PullImage")]
        assert pulls.count(reference) == 1
        harness.cri.exit("app")
        await harness.until(lambda: harness.container().restart_count == 1)
        await harness.ready()
        pulls = [each.image.image for each in harness.cri.called("PullImage")]
        assert pulls.count(reference) == 2


async def test_a_runtime_that_does_not_know_strict_groups_gets_no_such_container(harness: Harness) -> None:
    strict = {"securityContext": {"supplementalGroupsPolicy": "Strict"}}
    async with harness.running():
        harness.source.set(make_pod("web", **strict))
        await harness.until(lambda: harness.waiting() == "CreateContainerConfigError")
        assert not harness.cri.called("CreateContainer")
    harness.cri.strict_groups = True
    async with harness.running():
        harness.source.set(make_pod("web", **strict))
        await harness.ready()
        context = harness.cri.newest("app").config.linux.security_context
        assert context.supplemental_groups_policy == api.Strict


async def test_a_pod_with_its_own_users(harness: Harness) -> None:
    harness.cri.runtime_handlers = [
        api.RuntimeHandler(features=api.RuntimeHandlerFeatures(user_namespaces=True))
    ]
    pod = make_pod(
        "web", {"name": "app", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}, hostUsers=False
    )
    pod.spec.volumes = make_pod("x", volumes=[{"name": "v", "emptyDir": {}}]).spec.volumes
    async with harness.running():
        harness.source.set(pod)
        await harness.ready()
        asked = harness.cri.called("RunPodSandbox")[0].config.linux.security_context.namespace_options
        assert asked.userns_options.mode == api.POD and asked.userns_options.uids[0].host_id == 65536
        config = harness.cri.newest("app").config
        assert config.linux.security_context.namespace_options.userns_options == asked.userns_options
        assert config.mounts and all(each.uidMappings == asked.userns_options.uids for each in config.mounts)
        assert load(harness.config, pod.uid).users == 65536
    async with harness.running():
        other = make_pod("other", hostUsers=False)
        harness.source.set(pod, other)
        await harness.ready("other")
        ids = [
            each.config.linux.security_context.namespace_options.userns_options.uids[0].host_id
            for each in harness.cri.called("RunPodSandbox")
        ]
        assert ids == [65536, 131072]
        harness.source.set(other)
        await harness.until(lambda: len(harness.kubelet.pods()) == 1)
        harness.source.set(other, make_pod("third", hostUsers=False))
        await harness.ready("third")
        newest = harness.cri.called("RunPodSandbox")[-1].config.linux.security_context.namespace_options
        assert newest.userns_options.uids[0].host_id == 65536, "given back"


async def test_a_runtime_without_user_namespaces(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod("web", hostUsers=False))
        await harness.until(lambda: "FailedCreatePodSandBox" in harness.reasons())
        (event,) = [e for e in harness.kubelet.events() if e.reason == "FailedCreatePodSandBox"]
        assert event.message.endswith("runtime does not support user namespaces")
