"""Eviction: what is short, who goes first, the words, and what stays."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.eviction import limits, ranking, signals
from minikubelet.kubelet.eviction import usage as use
from minikubelet.kubelet.eviction.signals import Places
from minikubelet.kubelet.eviction.thresholds import Observation, Threshold, Watch, parse
from minikubelet.kubelet.eviction.usage import ContainerUsage, Disk, PodUsage
from minikubelet.kubelet.objects import Pod
from minikubelet.kubelet.objects.containers import EphemeralContainer
from minikubelet.kubelet.objects.quantity import binary, decimal
from minikubelet.kubelet.podfiles import log_directory
from minikubelet.kubelet.resource_config import EvictionConfig
from tests.unit.kubelet.harness import Harness, make_pod

MIB = 1 << 20
MEMORY = Threshold("memory.available", "100Mi")
DISK = Threshold("nodefs.available", "10%")
ONE = Places("/")


def seen(memory: int = 1 << 40, disk: int = 100) -> Mapping[str, Observation]:
    return {"memory.available": Observation(memory, 1 << 40), "nodefs.available": Observation(disk, 100)}


# --- thresholds ----------------------------------------------------------------------------------------


def test_the_defaults_are_upstreams() -> None:
    found = parse(EvictionConfig(), allocatable=True)
    assert [(each.signal, each.value, each.hard) for each in found] == [
        ("memory.available", "100Mi", True),
        ("nodefs.available", "10%", True),
        ("nodefs.inodesFree", "5%", True),
        ("imagefs.available", "15%", True),
        ("imagefs.inodesFree", "5%", True),
        ("allocatableMemory.available", "100Mi", True),
    ]


@pytest.mark.parametrize(
    "config",
    [
        EvictionConfig(hard={"disk.available": "1%"}),
        EvictionConfig(hard={"memory.available": "lots"}),
        EvictionConfig(hard={"memory.available": "120%"}),
        EvictionConfig(soft={"memory.available": "1Gi"}),
        EvictionConfig(minimum_reclaim={"memory.available": "?"}),
    ],
)
def test_bad_settings_are_errors(config: EvictionConfig) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(config, allocatable=False)


def test_a_soft_threshold_acts_after_its_grace_period() -> None:
    soft = Threshold("memory.available", "1Gi", grace=30, hard=False)
    watch = Watch([soft], transition=60)
    low = seen(memory=MIB)
    assert watch.look(low, 100) == [] and watch.conditions == {"MemoryPressure"}
    assert watch.look(low, 129) == []
    assert watch.look(low, 130) == [soft]
    assert watch.look(seen(), 140) == []
    assert watch.look(low, 150) == [], "it starts anew"


def test_a_condition_outlasts_the_pressure() -> None:
    watch = Watch([DISK], transition=60)
    assert watch.look(seen(disk=9), 100) == [DISK]
    watch.look(seen(disk=50), 159)
    assert watch.conditions == {"DiskPressure"}
    watch.look(seen(disk=50), 161)
    assert watch.conditions == set()


def test_the_minimum_to_reclaim_must_be_there_until_it_is_over() -> None:
    short = Threshold("nodefs.available", "10%", reclaim="20%")
    watch = Watch([short], transition=0)
    assert watch.look(seen(disk=25), 1) == []
    assert watch.look(seen(disk=9), 2) == [short]
    assert watch.look(seen(disk=29), 3) == [short]
    assert watch.look(seen(disk=30), 4) == []
    assert watch.look(seen(disk=29), 5) == []


def test_memory_comes_first() -> None:
    watch = Watch([DISK, MEMORY], transition=0)
    assert watch.look(seen(memory=1, disk=1), 1) == [MEMORY, DISK]


def test_this_machine_can_be_measured(tmp_path: Path) -> None:
    found = signals.observe(Places(str(tmp_path), str(tmp_path), str(tmp_path)), "")
    assert {"memory.available", "pid.available", "nodefs.available", "imagefs.available"} <= set(found)
    assert all(0 <= each.available <= each.capacity for each in found.values())
    assert not Places(str(tmp_path), str(tmp_path)).has_imagefs


# --- measuring -----------------------------------------------------------------------------------------


def test_what_is_below_a_folder_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    os.link(tmp_path / "a", tmp_path / "b")
    (tmp_path / "c").symlink_to("/usr")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "e").write_bytes(b"x" * 50_000)
    found = use.measure(str(tmp_path))
    assert 150_000 <= found.used < 200_000 and found.inodes == 5
    assert use.measure(str(tmp_path / "none")) == Disk()


def test_a_tree_too_deep_to_open_counts_as_too_large(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    name = "d" * 200
    for _ in range(25):
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    os.close(fd)
    assert use.measure(str(tmp_path)).used >= use.TOO_DEEP


# --- who goes first ------------------------------------------------------------------------------------


def pod(name: str, memory: str = "0", **spec: Any) -> Pod:
    requests = {"memory": memory, "ephemeral-storage": memory}
    return make_pod(name, {"name": "app", "resources": {"requests": requests}}, **spec)


def using(memory: int = 0, rootfs: int = 0, logs: int = 0, tasks: int = 0) -> PodUsage:
    own = ContainerUsage(memory, Disk(rootfs, 1), Disk(logs, 1))
    return PodUsage(containers={"app": own}, tasks=tasks)


def names(pods: list[Pod]) -> list[str]:
    return [each.metadata.name.removesuffix("-node") for each in pods]


def test_who_is_over_the_request_goes_first_then_by_priority_then_by_use() -> None:
    pods = {
        "within": (pod("within", "100Mi"), using(memory=90 * MIB)),
        "over": (pod("over", "100Mi"), using(memory=110 * MIB)),
        "far-over": (pod("far-over", "100Mi"), using(memory=200 * MIB)),
        "important": (pod("important", priority=100), using(memory=900 * MIB)),
    }
    used = {each.uid: mine for each, mine in pods.values()}
    ranked = ranking.rank([each for each, _ in pods.values()], used, MEMORY, ONE)
    assert names(ranked) == ["far-over", "over", "important", "within"]
    unknown = pod("unknown", "1Gi")
    assert names(ranking.rank([*ranked, unknown], used, MEMORY, ONE))[0] == "unknown"


def test_disk_goes_by_layers_logs_and_volumes_of_that_file_system() -> None:
    logs, layer = pod("logs"), pod("layer")
    used = {logs.uid: using(logs=50 * MIB), layer.uid: using(rootfs=80 * MIB)}
    assert names(ranking.rank([logs, layer], used, DISK, ONE)) == ["layer", "logs"]
    apart = Places("/", "/proc", "/proc")
    assert names(ranking.rank([logs, layer], used, DISK, apart)) == ["logs", "layer"]
    images = Threshold("imagefs.available", "10%")
    assert names(ranking.rank([logs, layer], used, images, apart)) == ["layer", "logs"]


def test_pids_go_by_priority_then_number() -> None:
    few, many, low = pod("few"), pod("many"), pod("low", priority=-1)
    used = {few.uid: using(tasks=3), many.uid: using(tasks=300), low.uid: using(tasks=1)}
    short = Threshold("pid.available", "10%")
    assert names(ranking.rank([few, many, low], used, short, ONE)) == ["low", "many", "few"]


def test_the_words_are_upstreams() -> None:
    victim = pod("web", "10Mi")
    text = ranking.message(
        victim, using(memory=20 * MIB), MEMORY, {"memory.available": Observation(512 * 1024, 1 << 30)}
    )
    assert text == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 512Ki. "
        "Container app was using 20Mi, request is 10Mi, has larger consumption of memory. "
    )
    text = ranking.message(
        victim, using(), Threshold("nodefs.inodesFree", "5%"), {"nodefs.inodesFree": Observation(12, 20_000)}
    )
    assert text == "The node was low on resource: inodes. Threshold quantity: 1k, available: 12. "
    assert (binary(1536 << 10), binary(0), binary(1000), decimal(1500)) == ("1536Ki", "0", "1000", "1500")


def counted(harness: Harness, name: str, **labels: str) -> float:
    """The value of one of the kubelet's counters."""
    node = harness.kubelet._node
    assert node is not None
    (family,) = [each for each in node.instruments.families() if each.name == name]
    return next(each.value for each in family.samples if each.labels == labels)


# --- limits of single pods -----------------------------------------------------------------------------


def test_limits_of_volumes_pods_and_containers() -> None:
    volume = {"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}
    over = make_pod("web", volumes=[volume])
    usage = PodUsage(volumes={"data": Disk(2 * MIB, 3)})
    words = 'Usage of EmptyDir volume "data" exceeds the limit "1Mi". '
    assert limits.has_limits(over)
    assert limits.exceeded(over, usage, layers_on_nodefs=True) == ("emptydirfs.limit", words)

    limited = make_pod("web", {"name": "app", "resources": {"limits": {"ephemeral-storage": "10Mi"}}})
    whole = "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "
    excess = limits.exceeded(limited, using(logs=11 * MIB), layers_on_nodefs=True)
    assert excess == ("ephemeralpodfs.limit", whole)

    two = make_pod(
        "web",
        {"name": "app", "resources": {"limits": {"ephemeral-storage": "10Mi"}}},
        {"name": "big", "resources": {"limits": {"ephemeral-storage": "1Gi"}}},
    )
    alone = 'Container app exceeded its local ephemeral storage limit "10Mi". '
    excess = limits.exceeded(two, using(rootfs=11 * MIB), layers_on_nodefs=True)
    assert excess == ("ephemeralcontainerfs.limit", alone)
    assert limits.exceeded(two, using(rootfs=11 * MIB), layers_on_nodefs=False) is None
    assert not limits.has_limits(make_pod())


# --- over the fake runtime -----------------------------------------------------------------------------


def measured(rootfs: int) -> api.ContainerStats:
    return api.ContainerStats(
        attributes=api.ContainerAttributes(metadata=api.ContainerMetadata(name="app")),
        writable_layer=api.FilesystemUsage(used_bytes=api.UInt64Value(value=rootfs)),
    )


async def test_a_pod_over_its_limit_is_evicted_and_its_content_removed(harness: Harness) -> None:
    harness.config.resources.eviction.monitoring_period = 0.05
    harness.cri.stats["app"] = measured(0)
    limited = {"name": "app", "resources": {"limits": {"ephemeral-storage": "10Mi"}}}
    async with harness.running():
        harness.source.set(make_pod("web", limited))
        await harness.ready()
        harness.cri.stats["app"] = measured(11 * MIB)
        harness.cri.stats["app"].attributes.labels.update(harness.cri.newest("app").config.labels)
        await harness.until(lambda: harness.pod().status.phase == "Failed" and not harness.cri.sandboxes)
        status = harness.pod().status
        words = "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "
        assert (status.reason, status.message) == ("Evicted", words)
        assert harness.condition("DisruptionTarget") == "True"
        assert "Evicted" in harness.reasons()
        assert counted(harness, "kubelet_evictions", eviction_signal="ephemeralpodfs.limit") == 1
        assert harness.cri.called("StopContainer")[0].timeout == 2, "the grace that always is left"
        logs = harness.folder / "logs" / f"default_web-node_{harness.pod().uid}"
        await harness.until(lambda: not logs.exists())
    async with harness.running():
        harness.source.set(make_pod("web", limited))
        await harness.until(lambda: harness.pod().status.reason == "Evicted")
        await harness.settle()
        assert not harness.cri.sandboxes, "it stays so over a restart"


async def test_pressure_clears_images_then_evicts_and_keeps_pods_out(harness: Harness) -> None:
    eviction = harness.config.resources.eviction
    eviction.monitoring_period = 0.05
    eviction.hard = {"nodefs.available": "100Pi"}
    harness.cri.add_image("unused:1")
    async with harness.running():
        harness.source.set(
            make_pod("least"),
            make_pod("critical", priorityClassName="system-node-critical"),
        )
        await harness.until(lambda: harness.pod("least").status.reason == "Evicted")
        assert "unused:1" not in harness.cri.images
        assert counted(harness, "kubelet_evictions", eviction_signal="nodefs.available") == 1
        age = {"eviction_signal": "nodefs.available", "le": "10"}
        assert counted(harness, "kubelet_eviction_stats_age_seconds", **age) == 1
        assert counted(harness, "kubelet_image_garbage_collected_total", reason="space") == 1
        await harness.ready("critical")
        least = harness.pod("least").status
        assert least.message.startswith("The node was low on resource: ephemeral-storage. Threshold quant")
        harness.source.set(make_pod("critical", priorityClassName="system-node-critical"), make_pod("late"))
        await harness.until(lambda: harness.pod("late").status.reason == "Evicted")
        assert harness.pod("late").status.message == (
            "Pod was rejected: The node had condition: [DiskPressure]. "
        )
        assert harness.pod("critical").status.phase == "Running"
        node = {e.reason for e in harness.kubelet.events() if e.involved_object.kind == "Node"}
        assert {"NodeHasDiskPressure", "EvictionThresholdMet"} <= node


def test_logs_of_ephemeral_containers_count(tmp_path: Path) -> None:
    config = KubeletConfig(root=str(tmp_path / "root"), log_dir=str(tmp_path / "logs"))
    pod = make_pod()
    pod.spec.ephemeral_containers = [EphemeralContainer(name="debugger", image="tools")]
    folder = Path(log_directory(config, pod), "debugger")
    folder.mkdir(parents=True)
    (folder / "0.log").write_bytes(b"x" * 200_000)
    usage = use.of_pods([pod], config, [], {})[pod.uid]
    assert usage.containers["debugger"].logs.used >= 200_000
