"""A machine that goes down ends its pods by priority; a daemon that is only stopped does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from minikubelet.kubelet import shutdown
from minikubelet.kubelet.kubelet import Kubelet
from minikubelet.kubelet.manifests.decode import decode_manifest
from minikubelet.kubelet.manifests.errors import ManifestError
from minikubelet.kubelet.resource_config import ShutdownConfig
from tests.fake_cri import Behaviour
from tests.unit.kubelet.harness import Harness, ListSource, make_pod

CLASS = """
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: boxed}
handler: kata
overhead: {podFixed: {cpu: 250m, memory: 120Mi}}
"""


def test_periods_become_groups() -> None:
    def shape(config: ShutdownConfig) -> list[tuple[int, float]]:
        return [(each.priority, each.seconds) for each in shutdown.groups(config)]

    assert shape(ShutdownConfig()) == []
    assert shape(ShutdownConfig(grace_period=30, grace_period_critical_pods=10)) == [
        (0, 20),
        (2_000_000_000, 10),
    ]
    assert shape(ShutdownConfig(by_priority={1000: 5, 0: 20})) == [(0, 20), (1000, 5)]
    assert shutdown.total(ShutdownConfig(by_priority={1000: 5, 0: 20})) == 25


async def test_the_service_manager_is_asked() -> None:
    assert await shutdown.machine_is_stopping(("echo", "stopping"))
    assert not await shutdown.machine_is_stopping(("echo", "running"))
    assert not await shutdown.machine_is_stopping(("/nonexistent",))


@contextlib.asynccontextmanager
async def until_power_off(harness: Harness, *pods: Any) -> AsyncIterator[Kubelet]:
    harness.source = ListSource()
    harness.kubelet = Kubelet(harness.config, source=harness.source, clock=harness.clock)
    stop = asyncio.Event()
    task = asyncio.create_task(harness.kubelet.run(stop))
    harness.source.set(*pods)
    for pod in pods:
        await harness.ready(pod.metadata.name.removesuffix("-node"))
    yield harness.kubelet
    harness.kubelet.power_off()
    stop.set()
    await asyncio.wait_for(task, 10)


async def test_the_critical_pods_end_last(harness: Harness) -> None:
    harness.config.resources.shutdown = ShutdownConfig(grace_period=30, grace_period_critical_pods=10)
    pods = [
        make_pod("proxy", {"name": "proxy"}, priorityClassName="system-node-critical"),
        make_pod("app", {"name": "app"}, terminationGracePeriodSeconds=3),
        make_pod("db", {"name": "db"}, terminationGracePeriodSeconds=300),
    ]
    async with until_power_off(harness, *pods) as kubelet:
        pass
    names = {each.status.id: each.config.metadata.name for each in harness.cri.containers.values()}
    stopped = harness.cri.called("StopContainer")
    order = [names[request.container_id] for request in stopped]
    assert sorted(order[:2]) == ["app", "db"] and order[2] == "proxy"
    grace = {names[request.container_id]: request.timeout for request in stopped}
    assert grace == {"app": 3, "db": 20, "proxy": 10}
    for pod in kubelet.pods():
        assert (pod.status.phase, pod.status.reason) == ("Failed", "Terminated")
        assert pod.status.message == "Pod was terminated in response to imminent node shutdown."
    async with harness.running():
        harness.source.set(*pods)
        await harness.ready("app")
        assert harness.container("app", "app").restart_count == 1, "it runs again after the boot"


async def test_a_stuck_group_does_not_hold_up_the_next(harness: Harness) -> None:
    harness.config.resources.shutdown = ShutdownConfig(by_priority={0: 0.2, 100: 1})
    pods = [make_pod("stuck", {"name": "stuck"}), make_pod("high", {"name": "high"}, priority=100)]
    harness.cri.gate["StopContainer"] = gate = asyncio.Event()
    harness.cri.behaviours["stuck"] = Behaviour()
    async with until_power_off(harness, *pods):
        asyncio.get_running_loop().call_later(0.6, gate.set)
    asked = {each.container_id for each in harness.cri.called("StopContainer")}
    assert len(asked) == 2, "each was asked to end, whether once or again"


async def test_nothing_is_waited_for_of_a_pod_that_has_ended(harness: Harness) -> None:
    harness.config.resources.shutdown = ShutdownConfig(grace_period=600)
    async with until_power_off(harness, make_pod("job", restartPolicy="Never")):
        harness.cri.exit("app")
        await harness.until(lambda: harness.pod("job").status.phase == "Succeeded")
        await harness.until(lambda: not harness.ready_sandboxes())
    assert harness.pod("job").status.phase == "Succeeded"


async def test_pods_run_on_when_only_the_daemon_stops(harness: Harness) -> None:
    async with until_power_off(harness, make_pod()):
        pass
    assert not harness.cri.called("StopContainer"), "the feature is off"


# --- runtime classes -----------------------------------------------------------------------------------


async def test_a_runtime_class_gives_handler_and_overhead(harness: Harness) -> None:
    pod = make_pod(runtimeClassName="boxed")
    async with harness.running():
        harness.kubelet.objects.replace("test", decode_manifest(CLASS.encode()).objects)
        harness.source.set(pod)
        await harness.ready()
        request = harness.cri.called("RunPodSandbox")[0]
        assert request.runtime_handler == "kata"
        assert request.config.linux.overhead.memory_limit_in_bytes == 120 << 20
        assert request.config.linux.overhead.cpu_shares == 256


async def test_an_unknown_class_is_told_and_tried_again(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(make_pod(runtimeClassName="boxed"))
        await harness.until(lambda: "FailedCreatePodSandBox" in harness.reasons())
        event = next(e for e in harness.kubelet.events() if e.reason == "FailedCreatePodSandBox")
        assert event.message == (
            "Failed to create pod sandbox: failed to lookup RuntimeClass boxed: "
            'runtimeclass.node.k8s.io "boxed" not found'
        )
        harness.kubelet.objects.replace("test", decode_manifest(CLASS.encode()).objects)
        harness.clock.advance(11)
        await harness.ready()


def test_the_kind_belongs_to_its_group() -> None:
    with pytest.raises(
        ManifestError, match=r"v1 RuntimeClass is not supported: .*node.k8s.io/v1 RuntimeClass"
    ):
        decode_manifest(CLASS.replace("node.k8s.io/v1", "v1").encode())
