"""Devices from registration to container, over the fake runtime and a real plugin; CPUs; PodResources."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from minikubelet.criapi import deviceplugin_pb2 as dp
from minikubelet.criapi import podresources_pb2 as pr
from minikubelet.criapi import services
from minikubelet.kubelet.allocations import Allocations
from minikubelet.kubelet.metrics.node import cpu_families
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.resources import node_cpus
from tests.device_plugin import RESOURCE, DevicePlugin
from tests.unit.kubelet.harness import Harness, make_pod


@pytest.fixture
async def plugin(harness: Harness) -> AsyncIterator[DevicePlugin]:
    """A plugin that serves and is not registered yet; the kubelet takes plugins."""
    folder = harness.folder / "dp"
    folder.mkdir()
    devices = harness.config.resources.devices
    devices.device_plugin_dir = str(folder)
    devices.pod_resources_socket = str(harness.folder / "pr.sock")
    made = DevicePlugin(str(folder), prefers=["w3", "w2"])
    await made.start()
    yield made
    await made.stop()


def using(name: str, count: int, **spec: object) -> Pod:
    limits = {"limits": {RESOURCE: str(count)}}
    return make_pod(name, {"name": "app", "resources": limits}, **spec)


@contextlib.asynccontextmanager
async def registered(harness: Harness, plugin: DevicePlugin) -> AsyncIterator[None]:
    async with harness.running() as kubelet:
        harness.source.set()
        await harness.until(lambda: os.path.exists(f"{plugin.folder}/kubelet.sock"))
        await plugin.register()
        await harness.until(lambda: kubelet._managers.allocations.room().get(RESOURCE))
        yield


async def test_a_container_gets_what_the_plugin_says(harness: Harness, plugin: DevicePlugin) -> None:
    async with registered(harness, plugin):
        harness.source.set(using("web", 2))
        await harness.ready()
        config = harness.cri.newest("app").config
        assert {e.key: e.value for e in config.envs}["WIDGETS"] == b"w2,w3", "the preferred ones"
        assert [(d.container_path, d.host_path, d.permissions) for d in config.devices] == [
            ("/dev/w2", "/dev/null", "rw"),
            ("/dev/w3", "/dev/null", "rw"),
        ]
        assert ("/widgets", True) in {(m.container_path, m.readonly) for m in config.mounts}
        assert config.annotations["example.com/widgets"] == "w2,w3"
        assert plugin.started == [["w2", "w3"]]
        harness.cri.exit("app")
        await harness.until(lambda: harness.container().restart_count == 1)
        assert plugin.allocated == [["w2", "w3"]] and plugin.started == [["w2", "w3"]] * 2


async def test_devices_are_given_once_and_come_back(harness: Harness, plugin: DevicePlugin) -> None:
    async with registered(harness, plugin):
        harness.source.set(using("web", 2))
        await harness.ready()
        harness.source.set(using("web", 2), using("late", 2))
        await harness.until(lambda: harness.pod("late").status.phase == "Failed")
        status = harness.pod("late").status
        assert status.reason == f"OutOf{RESOURCE}"
        assert status.message.endswith(f"{RESOURCE}, requested: 2, used: 2, capacity: 3")
        harness.source.set(using("next", 3))
        await harness.ready("next")
        assert plugin.allocated[-1] == ["w1", "w2", "w3"]


async def test_a_pod_waits_for_its_plugin(harness: Harness, plugin: DevicePlugin) -> None:
    async with harness.running():
        harness.source.set(using("web", 1))
        await harness.until(lambda: harness.waiting() == "CreateContainerConfigError")
        waiting = harness.container().state.waiting
        assert waiting is not None and waiting.message == f"no device plugin has registered {RESOURCE}"
        await plugin.register()
        await harness.until(lambda: harness.kubelet._managers.allocations.room().get(RESOURCE))
        harness.clock.advance(11)
        await harness.ready()


async def test_ill_devices_are_not_given(harness: Harness, plugin: DevicePlugin) -> None:
    async with registered(harness, plugin):
        room = harness.kubelet._managers.allocations.room
        plugin.set_health("w3", False)
        await harness.until(lambda: room() == {RESOURCE: 2})
        harness.source.set(using("web", 2))
        await harness.ready()
        assert plugin.allocated == [["w1", "w2"]]
        await plugin.stop()
        await harness.until(lambda: room() == {RESOURCE: 0})
        again = DevicePlugin(plugin.folder, name="second")
        await again.start()
        await again.register()
        await harness.until(lambda: room() == {RESOURCE: 3})
        await again.stop()


async def test_the_status_tells_how_the_devices_are(harness: Harness, plugin: DevicePlugin) -> None:
    def health() -> dict[str, str]:
        (status,) = harness.container().allocated_resources_status
        assert status.name == RESOURCE
        return {each.resource_id: each.health for each in status.resources}

    async with registered(harness, plugin):
        harness.source.set(using("web", 2))
        await harness.ready()
        assert health() == {"w2": "Healthy", "w3": "Healthy"}
        plugin.set_health("w3", False)
        await harness.until(lambda: health() == {"w2": "Healthy", "w3": "Unhealthy"})
        plugin.set_health("w3", True)
        await harness.until(lambda: health() == {"w2": "Healthy", "w3": "Healthy"})
        await plugin.stop()
        await harness.until(lambda: health() == {"w2": "Unhealthy", "w3": "Unhealthy"})
        assert harness.condition("Ready") == "True" and harness.container().restart_count == 0


async def test_what_was_given_outlives_the_daemon(harness: Harness, plugin: DevicePlugin) -> None:
    async with registered(harness, plugin):
        harness.source.set(using("web", 2))
        await harness.ready()
    async with harness.running() as kubelet:
        harness.source.set(using("web", 2))
        await harness.ready()
        await plugin.register()
        await harness.until(lambda: kubelet._managers.allocations.room().get(RESOURCE))
        harness.source.set(using("web", 2), using("other", 1))
        await harness.ready("other")
        assert plugin.allocated == [["w2", "w3"], ["w1"]]


async def test_init_containers_hand_their_devices_on(harness: Harness, plugin: DevicePlugin) -> None:
    limits = {"resources": {"limits": {RESOURCE: "2"}}}
    async with registered(harness, plugin):
        inits = [{"name": "init", **limits}, {"name": "side", "restartPolicy": "Always"}]
        harness.source.set(using("web", 3, initContainers=inits))
        await harness.until(lambda: harness.cri.running() == ["init"])
        harness.cri.exit("init")
        await harness.ready()
        async with grpc.aio.insecure_channel(f"unix:{harness.folder}/pr.sock") as channel:
            api = services.POD_RESOURCES.connect(channel)
            listed = (await api.List(pr.ListPodResourcesRequest())).pod_resources
        # What an init container hands on is counted once, and sidecars stay.
        assert [each.name for each in listed[0].containers] == ["side", "app"]
        assert plugin.allocated[0] == ["w2", "w3"] and sorted(plugin.allocated[1]) == ["w1", "w2", "w3"]


@pytest.mark.parametrize(
    ("resource", "version", "words"),
    [("widget", "v1beta1", "no extended resource"), (RESOURCE, "v2", "v1beta1 is")],
)
async def test_bad_registrations(
    harness: Harness, plugin: DevicePlugin, resource: str, version: str, words: str
) -> None:
    async with harness.running():
        harness.source.set()
        await harness.until(lambda: os.path.exists(f"{plugin.folder}/kubelet.sock"))
        with pytest.raises(grpc.aio.AioRpcError, match=words) as error:
            await plugin.register(resource, version)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        with pytest.raises(grpc.aio.AioRpcError, match="not the name of a socket"):
            await plugin.register(endpoint="../../etc/passwd")


async def test_plugins_are_told_of_a_new_kubelet_by_the_end_of_their_sockets(
    harness: Harness, plugin: DevicePlugin
) -> None:
    socket = f"{plugin.folder}/{plugin.endpoint}"
    kept = f"{plugin.folder}/notes"
    with open(kept, "w", encoding="ascii"):
        pass
    assert os.path.exists(socket)
    async with harness.running():
        harness.source.set()
        await harness.until(lambda: os.path.exists(f"{plugin.folder}/kubelet.sock"))
        await harness.until(lambda: not os.path.exists(socket))
        assert os.path.exists(kept)


@pytest.fixture
async def found(harness: Harness, plugin: DevicePlugin) -> AsyncIterator[DevicePlugin]:
    """A plugin that is not running yet, in a folder below the one that the kubelet looks for plugins in."""
    folder = harness.folder / "reg" / "vendor"
    harness.config.resources.devices.plugin_registry_dir = str(harness.folder / "reg")
    folder.mkdir(parents=True)
    made = DevicePlugin(str(folder), prefers=["w2"])
    yield made
    await made.stop()


async def test_plugins_are_found_by_their_sockets(harness: Harness, found: DevicePlugin) -> None:
    await found.start()
    async with harness.running() as kubelet:
        harness.source.set(using("web", 1))
        await harness.until(lambda: found.told)
        room = kubelet._managers.allocations.room
        await harness.until(lambda: room() == {RESOURCE: 3})
        harness.clock.advance(11)
        await harness.ready()
        assert [(each.plugin_registered, each.error) for each in found.told] == [(True, "")]
        assert found.allocated == [["w2"]] and found.started == [["w2"]]
        os.unlink(f"{found.folder}/{found.endpoint}")
        await harness.until(lambda: room() == {RESOURCE: 0})
        await found.start()
        await harness.until(lambda: room() == {RESOURCE: 3})
        assert harness.pod().status.phase == "Running"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"type": "CSIPlugin"}, "no handler registered for plugin type: CSIPlugin"),
        ({"name": "widget"}, "'widget' is no extended resource"),
        ({"supported_versions": ["v1", "v2"]}, "'v1, v2' is not supported, v1beta1 is"),
    ],
)
async def test_found_plugins_are_told_why_they_are_refused(
    harness: Harness, found: DevicePlugin, wrong: dict[str, Any], words: str
) -> None:
    async with harness.running() as kubelet:
        harness.source.set()
        await harness.until(lambda: os.path.exists(f"{harness.folder}/dp/kubelet.sock"))
        room = kubelet._managers.allocations.room
        right = found.info
        found.info = right.__class__()
        found.info.CopyFrom(right)
        for name in wrong:
            found.info.ClearField(name)
        found.info.MergeFrom(right.__class__(**wrong))
        await found.start()
        await harness.until(lambda: found.told)
        assert not found.told[0].plugin_registered and words in found.told[0].error
        assert room() == {}
        found.info = right  # it is asked again
        await harness.until(lambda: room() == {RESOURCE: 3})


async def test_agents_see_who_has_what(harness: Harness, plugin: DevicePlugin) -> None:
    async with registered(harness, plugin):
        harness.source.set(using("web", 1))
        await harness.ready()
        async with grpc.aio.insecure_channel(f"unix:{harness.folder}/pr.sock") as channel:
            api = services.POD_RESOURCES.connect(channel)
            listed = (await api.List(pr.ListPodResourcesRequest())).pod_resources
            assert [(each.name, each.namespace) for each in listed] == [("web-node", "default")]
            (device,) = listed[0].containers[0].devices
            assert (device.resource_name, list(device.device_ids)) == (RESOURCE, ["w2"])
            assert [node.ID for node in device.topology.nodes] == [0]
            whole = await api.GetAllocatableResources(pr.AllocatableResourcesRequest())
            assert sorted(each.device_ids[0] for each in whole.devices) == ["w1", "w2", "w3"]
            request = pr.GetPodResourcesRequest(pod_name="web-node", pod_namespace="default")
            assert (await api.Get(request)).pod_resources == listed[0]
            older = services.POD_RESOURCES_ALPHA.connect(channel)
            assert (await older.List(pr.ListPodResourcesRequest())).pod_resources == listed
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await api.Get(pr.GetPodResourcesRequest(pod_name="none", pod_namespace="default"))
            assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_plugins_variables_yield_to_the_manifests() -> None:
    from minikubelet.criapi import api_pb2 as api
    from minikubelet.kubelet.devices.manager import apply

    config = api.ContainerConfig(envs=[api.KeyValue(key="A", value=b"mine")], annotations={"k": "mine"})
    response = dp.ContainerAllocateResponse(
        envs={"A": "theirs", "B": "theirs"},
        annotations={"k": "theirs"},
        cdi_devices=[dp.CDIDevice(name="example.com/widget=w1")],
    )
    apply(response, config)
    assert [(each.key, each.value) for each in config.envs] == [("A", b"mine"), ("B", b"theirs")]
    assert dict(config.annotations) == {"k": "mine"}
    assert [each.name for each in config.CDI_devices] == ["example.com/widget=w1"]


async def test_another_kubelets_socket_is_left_to_it(harness: Harness, plugin: DevicePlugin) -> None:
    async with registered(harness, plugin):
        mine = harness.kubelet._managers.allocations
        path = f"{plugin.folder}/kubelet.sock"
        before = os.stat(path).st_ino
        async with contextlib.AsyncExitStack() as stack:
            second = Allocations(harness.config, list)
            await second.start(stack)
            assert second.devices is None and mine.devices is not None
        assert os.stat(path).st_ino == before
    assert Allocations(harness.config, list)._or_usual(None, "/usual") == ""


async def test_a_node_without_plugins_says_so(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(using("web", 1))
        await harness.until(lambda: harness.waiting() == "CreateContainerConfigError")
        waiting = harness.container().state.waiting
        assert waiting is not None
        assert waiting.message == f"{RESOURCE}: this node takes no device plugins"


# --- CPUs ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(node_cpus() < 2, reason="needs a CPU beside the reserved one")
async def test_a_guaranteed_pod_has_its_cpu_alone(harness: Harness) -> None:
    harness.config.resources.devices.cpu_manager_policy = "static"
    harness.config.resources.devices.cpu_manager_reconcile_period = 0.05
    harness.config.resources.reserved.reserved_system_cpus = "0"
    whole = {"limits": {"cpu": "1", "memory": "1Mi"}}
    alone = make_pod("alone", {"name": "alone", "resources": whole})
    async with harness.running():
        harness.source.set(make_pod("shares", {"name": "shares"}))
        await harness.ready("shares")
        everything = harness.cri.newest("shares").config.linux.resources.cpuset_cpus
        harness.source.set(make_pod("shares", {"name": "shares"}), alone)
        await harness.ready("alone")
        resources = harness.cri.newest("alone").config.linux.resources
        assert resources.cpuset_cpus not in ("0", "", everything) and resources.cpu_quota == -1
        shares = harness.cri.newest("shares").status.id
        await harness.until(
            lambda: any(
                request.container_id == shares and request.linux.cpuset_cpus != everything
                for request in harness.cri.called("UpdateContainerResources")
            )
        )
        state = json.loads((harness.folder / "root/cpu_manager_state").read_text())
        assert state["policyName"] == "static" and state["entries"][alone.uid]["alone"]
        managers = harness.kubelet._managers
        shown = {each.name: each.samples[0].value for each in cpu_families(managers.allocations.cpus)}
        assert shown == {
            "kubelet_cpu_manager_exclusive_cpu_allocation_count": 1,
            "kubelet_cpu_manager_shared_pool_size_millicores": 1000 * (node_cpus() - 2),
        }
        assert managers.allocations.counted.pinning_requests.values == {(): 1.0}
        assert [each.samples[0].value for each in cpu_families(None)] == [0, 0]
        amounts = {"limits": {"cpu": str(node_cpus()), "memory": "1Mi"}}
        big = make_pod("big", {"name": "big", "resources": amounts})
        harness.source.set(big)
        await harness.until(lambda: harness.pod("big").status.phase == "Failed")
        assert harness.pod("big").status.reason == "OutOfcpu"
