"""The node as a v1 Node, on the local socket and nowhere else."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.api.app import make_app, make_read_only_app
from minikubelet.kubelet.api.backend import Backend
from minikubelet.kubelet.events import EventRecorder
from minikubelet.kubelet.resources import node_memory
from minikubelet.kubelet.sinks import MemorySink
from minikubelet.kubelet.system_info import system_info
from tests.unit.kubelet.harness import Harness
from tests.unit.kubelet_api import remote


async def get_node(harness: Harness) -> dict[str, Any]:
    connector = aiohttp.UnixConnector(harness.config.socket)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://local/node") as response,
    ):
        assert response.status == 200, await response.text()
        return dict(await response.json())


@pytest.fixture
async def harness(tmp_path: Path) -> Any:
    made = Harness(tmp_path)
    made.config.socket = str(tmp_path / "kubelet.sock")
    async with made.cri:
        yield made


async def prepared(harness: Harness) -> None:
    """The runtime has been asked, and what the node has is counted."""
    harness.source.set()
    await harness.until(lambda: any(e.reason == "Starting" for e in harness.kubelet.events()))


def conditions(node: dict[str, Any]) -> dict[str, tuple[str, str, str]]:
    return {
        each["type"]: (each["status"], each["reason"], each["message"])
        for each in node["status"]["conditions"]
    }


async def test_what_the_node_is_and_has(harness: Harness) -> None:
    features = api.RuntimeHandlerFeatures(user_namespaces=True)
    harness.cri.runtime_handlers = [api.RuntimeHandler(name="runc", features=features)]
    harness.config.resources.eviction.hard = {"memory.available": "100Mi"}
    harness.config.resources.reserved.kube_reserved = {"cpu": "100m"}
    async with harness.running():
        await prepared(harness)
        node = await get_node(harness)
    status = node["status"]
    assert (node["kind"], node["apiVersion"], node["metadata"]["name"]) == ("Node", "v1", "node")
    assert node["metadata"]["labels"]["kubernetes.io/hostname"] == "node"
    assert status["capacity"]["cpu"] == str(os.cpu_count())
    assert status["capacity"]["pods"] == status["allocatable"]["pods"] == "110"
    assert set(status["capacity"]) >= {"cpu", "memory", "pods", "ephemeral-storage"}
    assert "pid" not in status["capacity"]
    assert status["allocatable"]["cpu"] == f"{1000 * (os.cpu_count() or 1) - 100}m"
    left = (node_memory() - (100 << 20)) // 1024
    assert status["allocatable"]["memory"] in (f"{left}Ki", f"{left // 1024}Mi")
    assert status["addresses"] == [
        {"type": "InternalIP", "address": "192.0.2.9"},
        {"type": "Hostname", "address": "node"},
    ]
    info = status["nodeInfo"]
    assert info["containerRuntimeVersion"] == "fake://1"
    assert info["kernelVersion"] == platform.release() and info["bootID"]
    assert status["runtimeHandlers"] == [
        {"name": "runc", "features": {"recursiveReadOnlyMounts": False, "userNamespaces": True}}
    ]


async def test_how_the_node_is(harness: Harness) -> None:
    async with harness.running():
        await prepared(harness)
        assert conditions(await get_node(harness)) == {
            "MemoryPressure": (
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
            "DiskPressure": ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            "PIDPressure": ("False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            "Ready": ("True", "KubeletReady", "kubelet is posting ready status"),
        }
        harness.cri.conditions = [
            api.RuntimeCondition(type="RuntimeReady", status=True),
            api.RuntimeCondition(type="NetworkReady", reason="NoBridge", message="no bridge"),
        ]
        harness.clock.advance(100)
        node = await get_node(harness)
        words = "container runtime network not ready: NetworkReady=false reason:NoBridge message:no bridge"
        assert conditions(node)["Ready"] == ("False", "KubeletNotReady", words)
        ready = node["status"]["conditions"][-1]
        assert (
            ready["lastTransitionTime"] == ready["lastHeartbeatTime"] > node["metadata"]["creationTimestamp"]
        )
        await harness.cri.stop()
        await harness.until(lambda: not harness.kubelet._node.lifecycle.synced.is_set())  # type: ignore[union-attr]
        node = await get_node(harness)
        assert conditions(node)["Ready"][2] == "container runtime is down"
        assert node["status"]["conditions"][-1]["lastTransitionTime"] == ready["lastTransitionTime"]
        assert node["status"]["runtimeHandlers"] == []
        await harness.cri.start()


async def test_pressure(harness: Harness) -> None:
    eviction = harness.config.resources.eviction
    eviction.monitoring_period = 0.05
    eviction.hard = {"nodefs.available": "100Pi"}
    async with harness.running():
        await prepared(harness)
        harness.clock.advance(100)
        reasons = harness.kubelet.events
        await harness.until(lambda: any(e.reason == "NodeHasDiskPressure" for e in reasons()))
        node = await get_node(harness)
    assert conditions(node)["DiskPressure"] == ("True", "KubeletHasDiskPressure", "kubelet has disk pressure")
    since = node["status"]["conditions"][1]["lastTransitionTime"]
    assert since > node["metadata"]["creationTimestamp"]


def test_a_machine_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> dict[str, str]:
        raise OSError

    monkeypatch.setattr(platform, "freedesktop_os_release", refuse)
    assert system_info()["osImage"] == ""


def test_the_local_socket_alone_has_it() -> None:
    backend = Backend(MemorySink(), EventRecorder("node"), remote.Runtime())
    paths = {
        name: {route.resource.canonical for route in app.router.routes() if route.resource is not None}
        for name, app in (
            ("local", make_app(backend, local=True)),
            ("remote", make_app(backend)),
            ("read-only", make_read_only_app(backend)),
        )
    }
    assert [name for name, each in paths.items() if "/node" in each] == ["local"]
