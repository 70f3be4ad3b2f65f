"""Pods that don't fit: what is counted, the words, and what becomes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minikubelet.kubelet import allocatable
from minikubelet.kubelet.admission import admit
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.resource_config import EvictionConfig, ReservedConfig, ResourceConfig
from minikubelet.kubelet.resources import node_cpus, node_memory
from minikubelet.linux import apparmor
from tests.unit.kubelet.harness import Harness, make_pod

ROOM = {"cpu": 1000, "memory": 1 << 30, "ephemeral-storage": 1 << 30, "pods": 3}


def asking(name: str, **amounts: str) -> Pod:
    requests = {key.replace("_", "-"): value for key, value in amounts.items()}
    return make_pod(name, {"name": "app", "resources": {"requests": requests}})


@pytest.mark.parametrize(
    ("pod", "reason", "message"),
    [
        (
            asking("big", cpu="700m"),
            "OutOfcpu",
            "Node didn't have enough resource: cpu, requested: 700, used: 400, capacity: 1000",
        ),
        (
            asking("big", memory="2Gi"),
            "OutOfmemory",
            f"Node didn't have enough resource: memory, requested: {2 << 30}, used: 0, capacity: {1 << 30}",
        ),
        (
            asking("big", ephemeral_storage="2Gi"),
            "OutOfephemeral-storage",
            "Node didn't have enough resource: ephemeral-storage, "
            f"requested: {2 << 30}, used: 0, capacity: {1 << 30}",
        ),
    ],
)
def test_a_lack_is_told_in_upstreams_words(pod: Pod, reason: str, message: str) -> None:
    rejection = admit(pod, [asking("one", cpu="400m")], ROOM, set())
    assert rejection is not None and (rejection.reason, rejection.message) == (reason, message)


def test_what_fits_exactly_is_taken() -> None:
    assert admit(asking("rest", cpu="600m"), [asking("one", cpu="400m")], ROOM, set()) is None


def test_the_number_of_pods_is_limited() -> None:
    others = [make_pod(f"p{i}") for i in range(3)]
    rejection = admit(make_pod("more"), others, ROOM, set())
    assert rejection is not None and rejection.reason == "OutOfpods"
    assert rejection.message.endswith("pods, requested: 1, used: 3, capacity: 3")


def test_a_host_port_is_given_once() -> None:
    def port(name: str, **more: Any) -> Pod:
        return make_pod(name, {"name": "app", "ports": [{"containerPort": 80, "hostPort": 8080, **more}]})

    rejection = admit(port("two"), [port("one", hostIP="127.0.0.1")], ROOM, set())
    assert rejection is not None and rejection.reason == "NodePorts"
    assert admit(port("two", protocol="UDP"), [port("one")], ROOM, set()) is None
    assert admit(port("two", hostIP="127.0.0.2"), [port("one", hostIP="127.0.0.1")], ROOM, set()) is None


def test_pressure_keeps_pods_out_but_not_critical_ones() -> None:
    rejection = admit(make_pod(), [], ROOM, {"MemoryPressure"})
    assert rejection is not None and rejection.message == "The node had condition: [MemoryPressure]. "
    assert admit(asking("some", cpu="1m"), [], ROOM, {"MemoryPressure"}) is None
    taint = {"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}
    assert admit(make_pod(tolerations=[taint]), [], ROOM, {"MemoryPressure"}) is None
    assert admit(asking("some", cpu="1m"), [], ROOM, {"DiskPressure"}) is not None
    critical = make_pod(priorityClassName="system-node-critical")
    assert admit(critical, [], ROOM, {"DiskPressure", "PIDPressure"}) is None


def test_what_is_reserved_is_not_allocatable(tmp_path: Path) -> None:
    config = ResourceConfig(
        reserved=ReservedConfig(
            kube_reserved={"cpu": "100m", "memory": "1Gi"},
            system_reserved={"cpu": "150m"},
            pods_per_core=1,
        ),
        eviction=EvictionConfig(hard={"memory.available": "10%", "nodefs.available": "1Mi"}),
    )
    whole = allocatable.capacity(config, str(tmp_path))
    left = allocatable.allocatable(config, whole)
    assert left["cpu"] == node_cpus() * 1000 - 250
    assert left["memory"] == node_memory() - (1 << 30) - node_memory() // 10
    assert left["ephemeral-storage"] == whole["ephemeral-storage"] - (1 << 20)
    assert left["pods"] == node_cpus()
    config.reserved.reserved_system_cpus = "0"
    assert allocatable.unreserved(config, whole)["cpu"] == node_cpus() * 1000 - 1000
    assert allocatable.overdrawn(config, whole) == []


def test_more_reserved_than_there_is_is_told(tmp_path: Path) -> None:
    whole = {"cpu": 2000, "memory": 1 << 30, "pid": 4000, "pods": 110}
    config = ResourceConfig()
    config.reserved.kube_reserved = {"cpu": "2", "memory": "512Mi", "pid": "1k"}
    config.reserved.system_reserved = {"cpu": "100m", "memory": "500Mi"}
    words = 'Resource "{}" has a reservation of {} but capacity of {}. Expected capacity >= reservation.'
    assert allocatable.overdrawn(config, whole) == [
        words.format("cpu", "2100m", "2"),
        words.format("memory", "1112Mi", "1Gi"),  # 100Mi of the eviction threshold are among it
    ]


async def test_a_cgroup_of_daemons_that_is_not_there_is_told(harness: Harness) -> None:
    harness.config.resources.cgroups.enforce_node_allocatable = ["pods", "system-reserved"]
    harness.config.resources.reserved.system_reserved_cgroup = "/nobody/has/this"
    harness.config.resources.reserved.system_reserved = {"memory": "1Gi"}
    async with harness.running():
        harness.source.set(make_pod())
        await harness.ready()
        words = 'Failed to enforce System Reserved Cgroup Limits on "/nobody/has/this": '
        assert any(event.message.startswith(words) for event in harness.kubelet.events())


async def test_pods_and_people_hear_of_it(harness: Harness) -> None:
    harness.config.resources.reserved.kube_reserved = {"cpu": "100k"}
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "a", "resources": {"requests": {"cpu": "1m"}}}))
        await harness.until(lambda: harness.pod().status.reason == "OutOfcpu")
        assert "InvalidNodeAllocatable" in {event.reason for event in harness.kubelet.events()}


def test_cpu_lists() -> None:
    assert allocatable.parse_cpus("0-2,7") == {0, 1, 2, 7}
    assert allocatable.format_cpus(frozenset({0, 1, 2, 7})) == "0-2,7"
    with pytest.raises(ValueError, match="range"):
        allocatable.parse_cpus("3-1")


async def test_a_rejected_pod_is_failed_and_never_reaches_the_runtime(harness: Harness) -> None:
    async with harness.running():
        harness.source.set(asking("web", cpu="1000"))
        await harness.until(lambda: harness.pod().status.phase == "Failed")
        status = harness.pod().status
        assert status.reason == "OutOfcpu" and status.message.startswith("Pod was rejected: Node didn't")
        assert not status.conditions and not status.container_statuses
        assert harness.reasons() == ["OutOfcpu"]
        await harness.settle()
        assert not harness.cri.called("RunPodSandbox")
        harness.source.set()
        await harness.until(lambda: not harness.kubelet.pods())


async def test_a_pod_that_cannot_be_confined_is_refused(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apparmor, "enabled", lambda: False)
    profile = {"securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}
    async with harness.running():
        harness.source.set(make_pod("web", {"name": "app", **profile}))
        await harness.until(lambda: harness.pod().status.phase == "Failed")
        status = harness.pod().status
        assert status.reason == "AppArmor"
        assert status.message.endswith("Cannot enforce AppArmor: AppArmor is not enabled on the host")


async def test_a_pod_waits_for_the_room_of_one_that_is_ending(harness: Harness) -> None:
    half = f"{node_cpus() * 600}m"
    async with harness.running():
        harness.source.set(asking("old", cpu=half))
        await harness.ready("old")
        harness.source.set(asking("new", cpu=half))
        await harness.ready("new")
        assert [pod.metadata.name for pod in harness.kubelet.pods()] == ["new-node"]
        assert "OutOfcpu" not in harness.reasons()


async def test_pods_that_run_keep_their_room_over_a_restart(harness: Harness) -> None:
    half = f"{node_cpus() * 600}m"
    old, new = asking("web", cpu=half), asking("a-new-one", cpu=half)
    async with harness.running():
        harness.source.set(old)
        await harness.ready()
    async with harness.running():
        harness.source.set(new, old)
        await harness.ready()
        assert harness.pod("a-new-one").status.reason == "OutOfcpu"


async def test_rejected_pods_take_no_room(harness: Harness) -> None:
    harness.config.resources.reserved.max_pods = 2
    pods = [make_pod(f"p{i}") for i in range(5)]
    async with harness.running():
        harness.source.set(*pods)
        await harness.until(lambda: len(harness.kubelet.pods()) == 5 and harness.pod("p4").status.reason)
        for name in ("p2", "p3", "p4"):
            status = harness.pod(name).status
            assert status.reason == "OutOfpods"
            assert status.message.endswith("pods, requested: 1, used: 2, capacity: 2")
        await harness.ready("p0")
        harness.source.set(*pods[1:], make_pod("late"))
        await harness.ready("late")


@pytest.mark.parametrize("how", ["succeeds", "is late", "is evicted"])
async def test_a_pod_that_has_ended_takes_no_room_after_a_restart(harness: Harness, how: str) -> None:
    half = {"resources": {"requests": {"cpu": f"{node_cpus() * 600}m"}}}
    late = {"activeDeadlineSeconds": 1} if how == "is late" else {}
    done = make_pod("a-job", {"name": "job", **half}, restartPolicy="Never", **late)
    web = make_pod("web", {"name": "app", **half})
    async with harness.running() as kubelet:
        harness.source.set(done)
        await harness.until(lambda: harness.cri.running() == ["job"])
        if how == "succeeds":
            harness.cri.exit("job")
        elif how == "is late":
            harness.clock.advance(2)
        else:
            kubelet._workers[done.uid].evict("Evicted", "the node was short of it")
        await harness.until(kubelet._workers[done.uid].halted.is_set)
        harness.source.set(done, web)
        await harness.ready()
        before = harness.pod("a-job").status
        await harness.settle()
    async with harness.running():
        harness.source.set(done, web)
        await harness.until(lambda: harness.pod("a-job").status.phase and harness.pod().status.phase)
        await harness.settle()
        assert harness.pod().status.reason == "" and harness.cri.running() == ["app"]
        after = harness.pod("a-job").status
        assert (after.phase, after.reason) == (before.phase, before.reason)
