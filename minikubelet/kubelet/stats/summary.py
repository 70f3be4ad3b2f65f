"""The Summary of /stats/summary (k8s.io/kubelet stats v1alpha1), put together from CRI and proc(5)."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from minikubelet.base.errors import Code, NodeError
from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.config import KubeletConfig
from minikubelet.kubelet.labels import CONTAINER_NAME, POD_NAME, POD_NAMESPACE, POD_UID
from minikubelet.kubelet.objects import Container, ContainerStatus, Pod
from minikubelet.kubelet.objects.containers import EphemeralContainer
from minikubelet.kubelet.objects.volumes import Volume
from minikubelet.kubelet.phase import FAILED, SUCCEEDED
from minikubelet.kubelet.podfiles import log_directory
from minikubelet.kubelet.stats import cri_usage, machine
from minikubelet.kubelet.stats.sizes import Size, SizeCache

log = logging.getLogger(__name__)

Json = dict[str, Any]

_DISK_VOLUMES = "kubernetes.io~"
_NOT_IN_SHORT = ("network", "io", "process_stats")


class Runtime(Protocol):
    """What of the CRI client is used."""

    async def list_pod_sandbox_stats(self) -> list[api.PodSandboxStats]: ...
    async def list_container_stats(self) -> list[api.ContainerStats]: ...
    async def image_fs_info(self) -> api.ImageFsInfoResponse: ...


class Statistics:
    """Takes stock of the node when asked."""

    def __init__(self, config: KubeletConfig, runtime: Runtime, pods: Callable[[], Sequence[Pod]]) -> None:
        self._config = config
        self._runtime = runtime
        self._pods = pods
        self._node_rate = machine.Rate()
        self._own_rate = machine.Rate()
        self._sizes = SizeCache(config.volume_stats_period)
        self._measuring = asyncio.Lock()
        """Sizes are measured in a thread; two at once would measure the same twice."""
        self._no_pod_stats = False
        self._rates: dict[str, machine.Rate] = {}
        """By pod or container."""
        self._started = machine.stamp()

    async def summary(self, *, only_cpu_and_memory: bool = False) -> Json:
        """The whole, or what metrics of resources need. Raises NodeError."""
        sandboxes, containers = await self._usage()
        if only_cpu_and_memory:
            found = self._pod_stats(sandboxes, containers, {}, {})
            for each in (part for pod in found for part in (pod, *pod["containers"])):
                for name in _NOT_IN_SHORT:
                    each.pop(name, None)
            return {"node": self._node_core(), "pods": found}
        image_fs = await self._image_fs()
        pods = list(self._pods())
        async with self._measuring:
            sizes = await asyncio.to_thread(self._measure, pods) if self._config.volume_stats_period else {}
        node = self._node_core() | self._node_disks(image_fs)
        return {"node": node, "pods": self._pod_stats(sandboxes, containers, image_fs, sizes)}

    async def _usage(self) -> tuple[list[api.PodSandboxStats], list[api.ContainerStats]]:
        """Of pods where the runtime knows them, else of containers alone.

        containerd's answer about pods is one error as soon as a single sandbox is broken.
        """
        if not self._no_pod_stats:
            try:
                sandboxes = await self._runtime.list_pod_sandbox_stats()
                return sandboxes, [each for sandbox in sandboxes for each in sandbox.linux.containers]
            except NodeError as exc:
                if exc.code is Code.UNAVAILABLE:
                    raise
                self._no_pod_stats = exc.code is Code.UNIMPLEMENTED
                log.debug("the runtime has no statistics of pods: %s", exc)
        return [], await self._runtime.list_container_stats()

    async def _image_fs(self) -> Json:
        """FsStats of the images; empty where the runtime doesn't know or the folder isn't ours to see."""
        try:
            info = await self._runtime.image_fs_info()
            usage = info.image_filesystems[0]
            found = machine.filesystem(usage.fs_id.mountpoint)
        except (NodeError, IndexError, OSError):
            return {}
        return found | {"usedBytes": usage.used_bytes.value, "inodesUsed": usage.inodes_used.value}

    # --- node ------------------------------------------------------------------------------------------

    def _node_core(self) -> Json:
        total = machine.cpu_total()
        own_cpu, own_memory = machine.own_usage()
        cpu = {
            "time": machine.stamp(),
            "usageNanoCores": self._node_rate.of(total) or 0,
            "usageCoreNanoSeconds": total,
        }
        own: Json = {
            "name": "kubelet",
            "startTime": self._started,
            "cpu": {
                "time": machine.stamp(),
                "usageNanoCores": self._own_rate.of(own_cpu) or 0,
                "usageCoreNanoSeconds": own_cpu,
            },
            "memory": {
                "time": machine.stamp(),
                "usageBytes": own_memory,
                "workingSetBytes": own_memory,
                "rssBytes": own_memory,
            },
        }
        return {
            "nodeName": self._config.node_name,
            "systemContainers": [own],
            "startTime": machine.stamp(machine.boot_time() * 1_000_000_000),
            "cpu": cpu | machine.pressure("cpu"),
            "memory": machine.memory(),
            "swap": machine.swap(),
        }

    def _node_disks(self, image_fs: Json) -> Json:
        found: Json = {"network": machine.network(), "rlimit": machine.rlimit()}
        if io := machine.pressure("io"):
            found["io"] = {"time": machine.stamp()} | io
        try:
            found["fs"] = machine.filesystem(self._config.root)
        except OSError:
            pass
        if image_fs:
            found["runtime"] = {"imageFs": image_fs, "containerFs": image_fs}
        return found

    # --- pods ------------------------------------------------------------------------------------------

    def _pod_stats(
        self,
        sandboxes: list[api.PodSandboxStats],
        containers: list[api.ContainerStats],
        image_fs: Json,
        sizes: dict[str, Size],
    ) -> list[Json]:
        by_uid: dict[str, Json] = {}
        known = {pod.uid: pod for pod in self._pods()}
        # The sandbox of a pod that has ended stays for its status; it uses nothing.
        over = {uid for uid, pod in known.items() if pod.status.phase in (SUCCEEDED, FAILED)}
        for sandbox in sandboxes:
            meta = sandbox.attributes.metadata
            if meta.uid and meta.uid not in over:
                found = by_uid.setdefault(
                    meta.uid, _pod(meta.name, meta.namespace, meta.uid, known.get(meta.uid))
                )
                _sandbox(found, sandbox)
        for container in containers:
            labels = container.attributes.labels
            uid = labels.get(POD_UID, "")
            if not uid or uid in over:
                continue
            name, namespace = labels.get(POD_NAME, ""), labels.get(POD_NAMESPACE, "")
            found = by_uid.setdefault(uid, _pod(name, namespace, uid, known.get(uid)))
            found["containers"].append(self._container(container, known.get(uid), image_fs, sizes))
        rates: dict[str, machine.Rate] = {}
        for uid, found in by_uid.items():
            _sum_up(found, of_containers=not sandboxes)
            for each in (found, *found["containers"]):
                self._add_rate(rates, f"{uid}/{each.get('name', '')}", each)
            if uid in known and sizes:
                self._disk(found, known[uid], sizes)
        self._rates = rates
        return list(by_uid.values())

    def _add_rate(self, rates: dict[str, machine.Rate], key: str, stats: Json) -> None:
        """The use of CPU per second, from the look before to this one, where the runtime doesn't tell."""
        cpu = stats.get("cpu", {})
        if "usageCoreNanoSeconds" in cpu and not cpu.get("usageNanoCores"):
            rates[key] = self._rates.get(key) or machine.Rate()
            rate = rates[key].of(cpu["usageCoreNanoSeconds"])
            if rate is not None:
                cpu["usageNanoCores"] = rate

    def _container(
        self, stats: api.ContainerStats, pod: Pod | None, image_fs: Json, sizes: dict[str, Size]
    ) -> Json:
        name = stats.attributes.labels.get(CONTAINER_NAME, "") or stats.attributes.metadata.name
        found: Json = {"name": name, "startTime": _container_start(pod, name)}
        for key, turn, field in (
            ("cpu", cri_usage.cpu, "cpu"),
            ("memory", cri_usage.memory, "memory"),
            ("io", cri_usage.io, "io"),
            ("swap", cri_usage.swap, "swap"),
        ):
            if stats.HasField(field):
                found[key] = turn(getattr(stats, field))
        if stats.HasField("writable_layer") and image_fs:
            found["rootfs"] = cri_usage.filesystem(stats.writable_layer, image_fs)
        if pod is not None and sizes:
            size = sizes.get(os.path.join(log_directory(self._config, pod), name), Size())
            found["logs"] = self._fs(self._config.log_dir, size)
        return found

    def _disk(self, found: Json, pod: Pod, sizes: dict[str, Size]) -> None:
        total = Size()
        volumes = []
        on_disk = {each.name for each in pod.spec.volumes if _is_ephemeral(each)}
        for name, folder in _volume_folders(self._config, pod):
            size = sizes.get(folder, Size())
            if name in on_disk:
                total += size
            volumes.append(self._fs(folder, size) | {"name": name})
        for name, claim, folder in _claims(self._config, pod):
            reference = {"name": claim, "namespace": pod.metadata.namespace}
            volumes.append(self._fs(folder, sizes.get(folder, Size())) | {"name": name, "pvcRef": reference})
        total += sizes.get(log_directory(self._config, pod), Size())
        for container in found["containers"]:
            rootfs = container.get("rootfs", {})
            total += Size(rootfs.get("usedBytes", 0), rootfs.get("inodesUsed", 0))
        if volumes:
            found["volume"] = volumes
        found["ephemeral-storage"] = self._fs(self._config.root, total)

    def _fs(self, folder: str, size: Size) -> Json:
        try:
            whole = machine.filesystem(folder)
        except OSError:
            whole = {"time": machine.stamp()}
        return whole | {"usedBytes": size.used_bytes, "inodesUsed": size.inodes}

    def _measure(self, pods: list[Pod]) -> dict[str, Size]:
        folders: set[str] = set()
        of_containers: set[str] = set()
        for pod in pods:
            logs = log_directory(self._config, pod)
            folders.add(logs)
            of_containers |= {os.path.join(logs, each.name) for each in _containers(pod)}
            folders |= {folder for _, folder in _volume_folders(self._config, pod)}
            folders |= {folder for _, _, folder in _claims(self._config, pod)}
        self._sizes.forget_others(folders | of_containers)
        sizes = {folder: self._sizes.size(folder) for folder in folders}
        # A container's logs are its files: one that has written nothing has none.
        return sizes | {folder: self._sizes.size(folder, itself=False) for folder in of_containers}


def _volume_folders(config: KubeletConfig, pod: Pod) -> list[tuple[str, str]]:
    """Name and folder of every volume that the kubelet made for the pod."""
    found = []
    base = os.path.join(config.pod_dir(pod.uid), "volumes")
    try:
        plugins = sorted(os.listdir(base))
    except OSError:
        return []
    for plugin in plugins:
        if plugin.startswith(_DISK_VOLUMES):
            try:
                names = sorted(os.listdir(os.path.join(base, plugin)))
            except OSError:
                continue
            found += [(name, os.path.join(base, plugin, name)) for name in names]
    return found


def _containers(pod: Pod) -> list[Container | EphemeralContainer]:
    return [*pod.spec.init_containers, *pod.spec.containers, *pod.spec.ephemeral_containers]


def _is_ephemeral(volume: Volume) -> bool:
    """Whether a volume is on the node's disk and goes with the pod; those that upstream counts."""
    return volume.config_map is not None or (volume.empty_dir is not None and not volume.empty_dir.medium)


def _claims(config: KubeletConfig, pod: Pod) -> list[tuple[str, str, str]]:
    """Volume, claim and folder of the claims that are folders of the kubelet's own."""
    found = []
    for volume in pod.spec.volumes:
        if (source := volume.persistent_volume_claim) is not None:
            folder = os.path.join(config.claims_dir, pod.metadata.namespace, source.claim_name)
            if os.path.isdir(folder):
                found.append((volume.name, source.claim_name, folder))
    return found


def _pod(name: str, namespace: str, uid: str, pod: Pod | None) -> Json:
    started = (pod.status.start_time if pod else None) or machine.stamp()
    reference = {"name": name, "namespace": namespace, "uid": uid}
    return {"podRef": reference, "startTime": started, "containers": []}


def _sandbox(found: Json, stats: api.PodSandboxStats) -> None:
    linux = stats.linux
    if linux.HasField("cpu"):
        found["cpu"] = cri_usage.cpu(linux.cpu)
    if linux.HasField("memory"):
        found["memory"] = cri_usage.memory(linux.memory)
    if linux.HasField("io"):
        found["io"] = cri_usage.io(linux.io)
    if linux.HasField("network"):
        found["network"] = cri_usage.network(linux.network)
    if linux.HasField("process"):
        found["process_stats"] = {"process_count": linux.process.process_count.value}


def _container_start(pod: Pod | None, name: str) -> str:
    every: list[ContainerStatus] = []
    if pod is not None:
        status = pod.status
        every = [
            *status.container_statuses,
            *status.init_container_statuses,
            *status.ephemeral_container_statuses,
        ]
    for each in every:
        if each.name == name and each.state.running is not None and each.state.running.started_at:
            return each.state.running.started_at
    return machine.stamp()


def _sum_up(found: Json, *, of_containers: bool) -> None:
    """What CRI doesn't tell of a pod is the sum over its containers."""
    swaps = [each["swap"] for each in found["containers"] if "swap" in each]
    if swaps:
        keys = {key for each in swaps for key in each} - {"time"}
        found["swap"] = {"time": swaps[0]["time"]} | {k: sum(each.get(k, 0) for each in swaps) for k in keys}
    if not of_containers:
        return
    for part in ("cpu", "memory"):
        parts = [each[part] for each in found["containers"] if part in each]
        keys = {key for each in parts for key in each} - {"time", "psi"}
        if parts:
            found[part] = {"time": parts[0]["time"]} | {k: sum(p.get(k, 0) for p in parts) for k in keys}
