"""What the kubelet writes into the kernel's cgroups: the tree, its values, and that they go with the pods."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.cri_client import CriClient
from minikubelet.kubelet.eviction.signals import available_memory, available_pids
from minikubelet.kubelet.resources import node_swap
from minikubelet.linux.cgroup.mount import find_mount
from tests.differential import cgroups
from tests.host.kubelet import runtimes
from tests.host.kubelet.test_pods import Node

MIB = 1 << 20
ROOT = f"/mkkubtree-{os.getpid()}"


@pytest.fixture(autouse=True)
def in_the_machine() -> None:
    if not {"memory", "cpu", "pids"} <= find_mount().controllers:
        pytest.skip("this host's cgroup2 lacks controllers: run scripts/test vm")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with runtimes.minikubelet(tmp_path / "m") as endpoint:
        made = Node(endpoint, tmp_path)
        made.config.cgroup_parent = ""
        made.config.resources.cgroups.cgroup_root = ROOT
        made.config.resources.cgroups.pod_pids_limit = 50
        yield made
        with contextlib.suppress(OSError):
            os.rmdir(find_mount().path + ROOT)


def ready(node: Node, pod: str) -> bool:
    return node.container(pod).ready


def read(*parts: str) -> str:
    return Path(find_mount().path + ROOT + "/kubepods", *parts).read_text().strip()


async def test_pods_live_in_the_tree_and_leave_nothing(node: Node) -> None:
    everyone = """
        containers:
        - name: app
          image: IMAGE
          command: [sleep, "1000"]
          resources: RESOURCES
    """
    node.write("sure", everyone.replace("RESOURCES", "{limits: {cpu: 500m, memory: 64Mi}}"))
    node.write("some", everyone.replace("RESOURCES", "{requests: {cpu: 100m, memory: 32Mi}}"))
    node.write("least", everyone.replace("RESOURCES", "{}"))
    async with node.running():
        for name in ("sure", "some", "least"):
            await node.until(partial(ready, node, name), 120)
        sure, some, least = (f"pod{node.pod(name).uid}" for name in ("sure", "some", "least"))
        assert read(sure, "memory.max") == str(64 * MIB)
        assert read(sure, "cpu.max") == "50000 100000"
        assert read(sure, "pids.max") == "50"
        assert read("burstable", some, "memory.max") == "max"
        assert read("burstable", "cpu.weight") == read("burstable", some, "cpu.weight") != "100"
        assert read("besteffort", least, "cpu.weight") == "1"
        client = CriClient(node.config.container_runtime_endpoint)
        try:
            for container in await client.list_containers():
                status = await client.container_status(container.id)
                assert status.state == api.CONTAINER_RUNNING
                pid = _pid(container.id)
                path = Path(f"/proc/{pid}/cgroup").read_text()
                assert f"0::{ROOT}/kubepods/" in path and container.labels["io.kubernetes.pod.uid"] in path
                inside = Path(find_mount().path + path.strip().removeprefix("0::"))
                assert (inside / "memory.oom.group").read_text().strip() == "1"
        finally:
            await client.close()
    assert not os.path.exists(find_mount().path + ROOT + "/kubepods")


def _pid(container_id: str) -> str:
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and container_id in (folder / "cgroup").read_text():
                return folder.name
    raise LookupError(container_id)


async def test_the_pod_as_a_whole_is_limited(node: Node) -> None:
    node.write(
        "whole",
        """
        restartPolicy: Never
        resources: {limits: {memory: 48Mi}}
        containers:
        - name: hog
          image: IMAGE
          command: [sh, -c, exec dd if=/dev/zero of=/dev/null bs=128M]
        """,
    )
    async with node.running():
        await node.until(lambda: node.pod("whole").status.phase == "Failed", 120)
        ended = node.container("whole", "hog").state.terminated
        assert ended is not None and (ended.exit_code, ended.reason) == (137, "OOMKilled")


async def test_amounts_change_and_cpus_are_kept_apart_while_pods_run(node: Node) -> None:
    node.config.resources.devices.cpu_manager_policy = "static"
    node.config.resources.devices.cpu_manager_reconcile_period = 1
    node.config.resources.reserved.reserved_system_cpus = "0"
    node.config.resources.cgroups.memory_qos = True
    spec = """
        terminationGracePeriodSeconds: 0
        containers:
        - name: app
          image: IMAGE
          command: [sleep, "1000"]
          resources: RESOURCES
    """
    node.write("some", spec.replace("RESOURCES", "{requests: {memory: 32Mi}, limits: {memory: 64Mi}}"))
    async with node.running():
        await node.until(partial(ready, node, "some"), 120)
        pod = f"pod{node.pod('some').uid}"
        inside = container_cgroup(node, "some")
        everything = (inside / "cpuset.cpus.effective").read_text().strip()
        assert read("burstable", pod, "memory.max") == (inside / "memory.max").read_text().strip()
        assert (inside / "memory.high").read_text().strip() == str(
            (32 * MIB + 32 * MIB * 9 // 10) // 4096 * 4096
        )
        node.write("some", spec.replace("RESOURCES", "{requests: {memory: 32Mi}, limits: {memory: 96Mi}}"))
        await node.until(lambda: (inside / "memory.max").read_text().strip() == str(96 * MIB), 60)
        assert read("burstable", pod, "memory.max") == str(96 * MIB)
        assert node.container("some").restart_count == 0
        node.write("alone", spec.replace("RESOURCES", '{limits: {cpu: "1", memory: 64Mi}}'))
        await node.until(partial(ready, node, "alone"), 120)
        own = (container_cgroup(node, "alone") / "cpuset.cpus.effective").read_text().strip()
        assert own not in ("", "0", everything)
        await node.until(lambda: (inside / "cpuset.cpus.effective").read_text().strip() == "0", 60)


def container_cgroup(node: Node, pod: str) -> Path:
    identifier = node.container(pod).container_id.rpartition("/")[2]
    path = Path(f"/proc/{_pid(identifier)}/cgroup").read_text().strip().removeprefix("0::")
    return Path(find_mount().path + path)


async def test_the_pod_that_takes_the_nodes_memory_is_evicted(node: Node) -> None:
    eviction = node.config.resources.eviction
    eviction.monitoring_period = 1
    eviction.hard = {"memory.available": str(available_memory().available - 200 * MIB)}
    node.write(
        "modest",
        """
        terminationGracePeriodSeconds: 0
        containers:
        - name: app
          image: IMAGE
          command: [sleep, "1000"]
          resources: {requests: {memory: 32Mi}}
        """,
    )
    node.write(
        "hog",
        """
        terminationGracePeriodSeconds: 0
        containers:
        - name: app
          image: IMAGE
          command: [sh, -c, "dd if=/dev/zero of=/memory/file bs=1M count=320; sleep 1000"]
          volumeMounts: [{name: memory, mountPath: /memory}]
        volumes: [{name: memory, emptyDir: {medium: Memory}}]
        """,
    )
    async with node.running():
        await node.until(lambda: node.pod("hog").status.reason == "Evicted", 120)
        message = node.pod("hog").status.message
        assert message.startswith("The node was low on resource: memory. Threshold quantity: ")
        assert "Container app was using " in message
        assert message.endswith(", request is 0, has larger consumption of memory. ")
        await node.until(partial(ready, node, "modest"), 60)
        reasons = {event.reason for event in node.kubelet.events()}
        assert {"NodeHasInsufficientMemory", "EvictionThresholdMet", "Evicted"} <= reasons


async def test_the_pod_that_takes_the_nodes_process_ids_is_evicted(node: Node) -> None:
    eviction = node.config.resources.eviction
    eviction.monitoring_period = 1
    eviction.hard = {"pid.available": str(available_pids().available - 150)}
    node.config.resources.cgroups.pod_pids_limit = -1
    spec = """
        terminationGracePeriodSeconds: 0
        containers:
        - name: app
          image: IMAGE
          command: [sh, -c, "for each in $(seq COUNT); do sleep 1000 & done; wait"]
    """
    node.write("modest", spec.replace("COUNT", "1"))
    node.write("forker", spec.replace("COUNT", "300"))
    async with node.running():
        await node.until(lambda: node.pod("forker").status.reason == "Evicted", 120)
        message = node.pod("forker").status.message
        assert message.startswith("The node was low on resource: pids. Threshold quantity: ")
        await node.until(partial(ready, node, "modest"), 60)
        assert "NodeHasInsufficientPID" in {event.reason for event in node.kubelet.events()}


async def test_a_burstable_pod_goes_on_in_swap_and_others_do_not(node: Node) -> None:
    node.config.resources.cgroups.swap_behavior = "LimitedSwap"
    spec = """
        restartPolicy: Never
        containers:
        - name: app
          image: IMAGE
          command: [sh, -c]
          args: ["cat /sys/fs/cgroup/memory.swap.max; exec dd if=/dev/zero of=/dev/null count=1 bs=BYTES"]
          resources: {requests: {cpu: 10m, memory: REQUEST}, limits: {memory: 64Mi}}
    """
    for name, request, used in (("some", "48Mi", "80M"), ("more", "48Mi", "160M"), ("whole", "64Mi", "80M")):
        node.write(name, spec.replace("REQUEST", request).replace("BYTES", used))
    with cgroups.swap():
        node_swap.cache_clear()
        try:
            async with node.running():
                for name in ("some", "more", "whole"):
                    await node.until(partial(ended, node, name), 120)
                results = {name: ended(node, name) for name in ("some", "more", "whole")}
                allowed = [int(node.log(name).splitlines()[0]) for name in ("some", "more", "whole")]
        finally:
            node_swap.cache_clear()
    killed = 137, "OOMKilled"
    assert results == {"some": (0, "Completed"), "more": killed, "whole": killed}
    # The machine has as much swap as memory, but for the first page of it.
    assert allowed[0] == allowed[1] and 47 * MIB < allowed[0] <= 48 * MIB and allowed[2] == 0


def ended(node: Node, pod: str) -> tuple[int, str] | None:
    """Exit code and reason of a pod's only container."""
    found = node.container(pod).state.terminated
    return None if found is None else (found.exit_code, found.reason)
