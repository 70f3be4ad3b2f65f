"""Lists of everything that fail halfway."""

from __future__ import annotations

from typing import cast

import pytest

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.clock import SystemClock
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.labels import POD_UID
from minikubelet.kubelet.observed import RuntimeCache, container_of, sandbox_of
from minikubelet.kubelet.pleg import LifecycleEvents


class Runtime:
    """Lists one sandbox and one container of different pods; says nothing good about the container."""

    def __init__(self) -> None:
        self.ready = api.SANDBOX_READY
        self.code = Code.UNAVAILABLE

    async def list_pod_sandboxes(self, labels: dict[str, str] | None = None) -> list[api.PodSandbox]:
        return [api.PodSandbox(id="s1", state=self.ready, labels={POD_UID: "gone"})]

    async def list_containers(self, labels: dict[str, str] | None = None) -> list[api.Container]:
        return [api.Container(id="c1", pod_sandbox_id="s2", labels={POD_UID: "other"})]

    async def container_status(self, container_id: str) -> api.ContainerStatus:
        raise NodeError(self.code, "no status")

    async def pod_sandbox_status(self, sandbox_id: str) -> api.PodSandboxStatusResponse:
        raise NodeError(Code.NOT_FOUND, "no sandbox")


def events(runtime: Runtime, told: list[str]) -> LifecycleEvents:
    return LifecycleEvents(cast(CriClient, runtime), RuntimeCache(SystemClock()), told.append)


async def test_what_a_failed_list_has_merged_is_told() -> None:
    runtime, told = Runtime(), list[str]()
    runtime.ready = api.SANDBOX_NOTREADY
    with pytest.raises(NodeError, match="no status"):
        await events(runtime, told).relist()
    assert "gone" in told, "its sandbox is in the cache: the next list would see no change"


async def test_what_vanished_between_list_and_question_is_no_error() -> None:
    runtime, told = Runtime(), list[str]()
    runtime.code = Code.NOT_FOUND
    await events(runtime, told).relist()
    assert sorted(told) == ["gone", "other"]


class Counting(Runtime):
    """Has one pod with a container, and counts questions about them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.state = api.CONTAINER_RUNNING
        network = api.PodSandboxNetworkStatus(ip="10.0.0.2")
        self.sandbox = api.PodSandboxStatus(id="s1", state=api.SANDBOX_READY, network=network)

    async def container_status(self, container_id: str) -> api.ContainerStatus:
        self.asked.append(container_id)
        return api.ContainerStatus(id=container_id, state=self.state)

    async def pod_sandbox_status(self, sandbox_id: str) -> api.PodSandboxStatusResponse:
        self.asked.append(sandbox_id)
        return api.PodSandboxStatusResponse(status=self.sandbox)


async def test_what_events_have_told_is_not_asked_for() -> None:
    runtime, cache = Counting(), RuntimeCache(SystemClock())
    lifecycle = LifecycleEvents(cast(CriClient, runtime), cache, lambda uid: None)
    await lifecycle.learn_sandbox("s1")
    await lifecycle.learn_started("c1", "s1")
    assert runtime.asked == ["s1", "c1"], "nothing was known of them"
    await lifecycle.learn_sandbox("s1")
    await lifecycle.learn_started("c1", "s1")
    assert runtime.asked == ["s1", "c1"]
    seen = cache.container("c1")
    assert seen is not None and seen.is_running


async def test_what_events_have_told_too_early_is_asked_for() -> None:
    runtime, cache = Counting(), RuntimeCache(SystemClock())
    lifecycle = LifecycleEvents(cast(CriClient, runtime), cache, lambda uid: None)
    created = api.ContainerStatus(id="c1", state=api.CONTAINER_CREATED)
    cache.put_container(container_of(created, "s1"))
    cache.put_sandbox(sandbox_of(api.PodSandboxStatus(id="s1", state=api.SANDBOX_READY)))
    await lifecycle.learn_sandbox("s1")
    await lifecycle.learn_started("c1", "s1")
    assert runtime.asked == ["s1", "c1"]
    sandbox = cache.sandbox("s1")
    assert sandbox is not None and sandbox.ips == ("10.0.0.2",)
