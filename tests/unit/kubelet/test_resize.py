"""New amounts in a manifest: granted, deferred or refused, and brought to containers without a restart."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from minikubelet.kubelet import allocatable, allocations
from minikubelet.kubelet.cpumanager.topology import Place, Topology
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.podstatus import PodCondition
from minikubelet.kubelet.resources import node_cpus
from tests.fake_images import CriError
from tests.unit.kubelet.harness import Harness, make_pod


def sized(cpu: str, memory: str = "64Mi", name: str = "web", **container: Any) -> Pod:
    requests = {"cpu": cpu, "memory": memory}
    limits = {"memory": "1Gi"}
    resources = {"requests": requests, "limits": limits}
    return make_pod(name, {"name": "app", "resources": resources, **container})


def pending(harness: Harness) -> tuple[str, str]:
    for each in harness.pod().status.conditions:
        if each.type == "PodResizePending":
            return each.reason, each.message
    return "", ""


def in_progress(harness: Harness) -> list[PodCondition]:
    return [each for each in harness.pod().status.conditions if each.type == "PodResizeInProgress"]


def updates(harness: Harness) -> list[int]:
    return [request.linux.cpu_shares for request in harness.cri.called("UpdateContainerResources")]


def test_amounts_do_not_make_another_pod_but_other_things_do() -> None:
    one = sized("100m")
    assert sized("200m", "32Mi").uid == one.uid
    assert make_pod("web", {"name": "app", "resources": {"requests": {"cpu": "100m"}}}).uid != one.uid
    sure = {"cpu": "1", "memory": "1Gi"}
    qos = [{"requests": sure, "limits": sure}, {"requests": {**sure, "cpu": "900m"}, "limits": sure}]
    uids = {make_pod("web", {"name": "app", "resources": each}).uid for each in qos}
    assert len(uids) == 2, "another QoS class is another pod"
    disk = [{"requests": {"ephemeral-storage": each}} for each in ("1Gi", "2Gi")]
    assert len({make_pod("web", {"name": "app", "resources": each}).uid for each in disk}) == 2


async def test_a_running_container_is_updated_and_stays(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(sized("100m"))
        await harness.ready()
        identifier = harness.container().container_id
        harness.source.set(sized("200m"))
        await harness.until(lambda: "ResizeCompleted" in harness.reasons())
        assert updates(harness) == [204]
        app = harness.container()
        assert app.container_id == identifier and app.restart_count == 0
        assert app.allocated_resources == {"cpu": "200m", "memory": "64Mi"}
        assert app.resources is not None and app.resources.requests["cpu"] == "200m"
        assert harness.cri.called("UpdatePodSandboxResources")[0].resources.cpu_shares == 204
        assert not [c for c in harness.pod().status.conditions if c.type.startswith("PodResize")]
        assert harness.reasons()[-2:] == ["ResizeStarted", "ResizeCompleted"]


async def test_the_policy_may_ask_for_a_restart(harness: Harness) -> None:
    policy = [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
    async with harness.running():
        harness.source.set(sized("100m", resizePolicy=policy))
        await harness.ready()
        harness.source.set(sized("100m", "128Mi", resizePolicy=policy))
        await harness.until(lambda: len(updates(harness)) == 1)
        assert harness.container().restart_count == 0
        harness.source.set(sized("300m", "128Mi", resizePolicy=policy))
        await harness.until(lambda: harness.container().restart_count == 1)
        await harness.ready()
        assert harness.cri.newest("app").config.linux.resources.cpu_shares == 307
        assert len(updates(harness)) == 1


async def test_what_does_not_fit_is_deferred_or_infeasible(harness: Harness) -> None:
    most = node_cpus() * 1000
    other = sized(f"{most - 300}m", name="other")
    async with harness.running():
        harness.source.set(sized("100m"), other)
        await harness.ready()
        await harness.ready("other")
        harness.source.set(sized(f"{most + 1}m"), other)
        await harness.until(lambda: pending(harness)[0])
        assert pending(harness) == (
            "Infeasible",
            f"Node didn't have enough capacity: cpu, requested: {most + 1}, capacity: {most}",
        )
        harness.source.set(sized("400m"), other)
        await harness.until(lambda: pending(harness)[0] == "Deferred")
        assert harness.container().allocated_resources["cpu"] == "100m"
        assert harness.pod().spec.containers[0].resources.requests["cpu"] == "400m"
        assert "ResizeDeferred" in harness.reasons() and "ResizeInfeasible" in harness.reasons()
        harness.source.set(sized("400m"))
        await harness.until(lambda: updates(harness) == [409])
        await harness.until(lambda: pending(harness) == ("", ""))


async def test_an_update_that_fails_is_told_and_tried_again(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(sized("100m"))
        await harness.ready()
        harness.cri.fail_next["UpdateContainerResources"] = [CriError(grpc.StatusCode.UNKNOWN, "too small")]
        harness.source.set(sized("200m"))
        await harness.until(lambda: in_progress(harness))
        condition = in_progress(harness)[0]
        assert (condition.reason, condition.message) == ("Error", "too small")
        assert harness.container().resources.requests["cpu"] == "100m"  # type: ignore[union-attr]
        harness.clock.advance(11)
        await harness.until(lambda: "ResizeCompleted" in harness.reasons())


async def test_a_manifest_edited_while_the_daemon_was_away(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(sized("100m"))
        await harness.ready()
    async with harness.running():
        harness.source.set(sized("200m"))
        await harness.until(lambda: updates(harness) == [204])
        await harness.ready()
        assert len(harness.cri.called("CreateContainer")) == 1
    async with harness.running():
        harness.source.set(sized("200m"))
        await harness.ready()
        await harness.settle()
        assert updates(harness) == [204]


async def test_who_has_cpus_alone_stays_without_a_quota(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        allocations, "read_topology", lambda: Topology({0: Place(0, 0, 0), 1: Place(0, 0, 1)})
    )
    harness.config.resources.devices.cpu_manager_policy = "static"
    harness.config.resources.reserved.reserved_system_cpus = "0"
    monkeypatch.setattr(allocatable, "node_cpus", lambda: 2)

    def sure(memory: str) -> Pod:
        amounts = {"cpu": "1", "memory": memory}
        return make_pod("web", {"name": "app", "resources": {"limits": amounts}})

    async with harness.running():
        harness.source.set(sure("64Mi"))
        await harness.ready()
        assert harness.cri.newest("app").config.linux.resources.cpu_quota == -1
        harness.source.set(sure("96Mi"))
        await harness.until(lambda: "ResizeCompleted" in harness.reasons())
        (request,) = harness.cri.called("UpdateContainerResources")
        assert (request.linux.cpu_quota, request.linux.memory_limit_in_bytes) == (-1, 96 << 20)
