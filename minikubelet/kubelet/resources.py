"""Requests and limits of a pod: QoS class, CPU shares and quota, memory limit, oom_score_adj.

Formulas as in k8s.io/kubernetes pkg/kubelet/{qos,cm,kuberuntime}.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping

from minikubelet.criapi import api_pb2 as api
from minikubelet.kubelet.defaults import is_sidecar
from minikubelet.kubelet.demands import all_limited, amounts, at_pod_level, pod_limits, summed_requests
from minikubelet.kubelet.objects import Container, Pod
from minikubelet.kubelet.objects.base import Quantity
from minikubelet.kubelet.objects.quantity import milli, whole
from minikubelet.kubelet.resource_config import CgroupConfig, ReservedConfig, ResourceConfig
from minikubelet.linux.cgroup import hugetlb
from minikubelet.linux.cgroup.mount import find_mount

GUARANTEED = "Guaranteed"
BURSTABLE = "Burstable"
BEST_EFFORT = "BestEffort"

QUOTA_PERIOD = 100_000
"""Microseconds of a CFS period."""
MIN_QUOTA = 1000
MIN_SHARES = 2
MAX_SHARES = 262_144
_COMPUTE = ("cpu", "memory")


@functools.cache
def node_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@functools.cache
def node_cpus() -> int:
    """Processors of this machine."""
    return os.cpu_count() or 1


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort (pkg/apis/core/v1/helper/qos)."""
    spec = pod.spec
    demands = [
        (each.resources.limits, each.resources.requests) for each in [*spec.init_containers, *spec.containers]
    ]
    if spec.resources is not None and (spec.resources.limits or spec.resources.requests):
        requests: dict[str, Quantity] = dict(spec.resources.requests)
        for name, amount in summed_requests(pod).items():
            if name in spec.resources.limits:
                requests.setdefault(name, f"{amount}m" if name == "cpu" else amount)
        demands = [(spec.resources.limits, requests)]
    anything = False
    guaranteed = True
    for limited, requested in demands:
        limits = {name: milli(limited[name]) for name in _COMPUTE if name in limited}
        asked = {name: milli(requested[name]) for name in _COMPUTE if name in requested}
        anything = anything or any(limits.values()) or any(asked.values())
        if not all(limits.get(name) and asked.get(name, limits[name]) == limits[name] for name in _COMPUTE):
            guaranteed = False
    if not anything:
        return BEST_EFFORT
    return GUARANTEED if guaranteed else BURSTABLE


def shares(milli_cpu: int) -> int:
    """cgroup v1 CPU shares for a request in millicores; runtimes turn them into weights."""
    return max(MIN_SHARES, min(MAX_SHARES, milli_cpu * 1024 // 1000)) if milli_cpu else MIN_SHARES


def quota(milli_cpu: int, period: int = QUOTA_PERIOD) -> int:
    """Microseconds of CPU time a period for a limit in millicores; 0: no limit."""
    return max(MIN_QUOTA, milli_cpu * period // 1000) if milli_cpu else 0


def oom_score_adj(pod: Pod, container: Container, capacity: int) -> int:
    """-997 for Guaranteed, 1000 for BestEffort, in between by the share of memory requested."""
    if pod.spec.priority_class_name == "system-node-critical":
        return -997
    quality = qos_class(pod)
    if quality == GUARANTEED:
        return -997
    if quality == BEST_EFFORT:
        return 1000
    extra = _unclaimed_memory(pod)
    adjust = 1000 - 1000 * (_memory_request(container) + extra) // capacity
    if is_sidecar(container) and any(c.name == container.name for c in pod.spec.init_containers):
        smallest = min((_memory_request(each) for each in pod.spec.containers), default=0)
        adjust = min(adjust, 1000 - 1000 * (smallest + extra) // capacity)
    return max(3, min(adjust, 999))


def _memory_request(container: Container) -> int:
    return whole(container.resources.requests.get("memory", 0))


def _unclaimed_memory(pod: Pod) -> int:
    """What a pod-level request leaves over, in equal parts to its lasting containers (KEP-2837)."""
    if pod.spec.resources is None or not pod.spec.resources.requests.get("memory"):
        return 0
    lasting = [*pod.spec.containers, *(c for c in pod.spec.init_containers if is_sidecar(c))]
    left = whole(pod.spec.resources.requests["memory"]) - sum(_memory_request(each) for each in lasting)
    return max(0, left) // len(lasting) if lasting else 0


def linux_resources(
    pod: Pod, container: Container, node: ResourceConfig | None = None
) -> api.LinuxContainerResources:
    """The CRI resources of a container. A limit it has not is the pod's, where that is given as a whole."""
    node = node or ResourceConfig()
    config = node.cgroups
    requests, limits = container.resources.requests, {**container.resources.limits}
    for name, amount in (pod.spec.resources.limits if pod.spec.resources else {}).items():
        if at_pod_level(name) and not limits.get(name):
            limits[name] = amount
    cpu_request = milli(requests.get("cpu", limits.get("cpu", 0)))
    period = int(config.cpu_cfs_quota_period * 1_000_000)
    cpu_quota = quota(milli(limits.get("cpu", 0)), period) if config.cpu_cfs_quota else 0
    return api.LinuxContainerResources(
        cpu_shares=shares(cpu_request),
        cpu_period=period if config.cpu_cfs_quota else 0,
        cpu_quota=cpu_quota,
        memory_limit_in_bytes=whole(limits.get("memory", 0)),
        oom_score_adj=oom_score_adj(pod, container, node_memory()),
        hugepage_limits=[
            api.HugepageLimit(page_size=size, limit=limit) for size, limit in _huge_pages(amounts(limits))
        ],
        unified=_unified(pod, container, node) if memory_is_controlled() else {},
    )


@functools.cache
def memory_is_controlled() -> bool:
    """Whether cgroup2 has the memory controller here."""
    return "memory" in find_mount().controllers


@functools.cache
def swap_is_controlled() -> bool:
    """Whether the kernel counts swap by cgroup (``memory.swap.max`` in any cgroup below the root)."""
    mount = find_mount()
    if "memory" not in mount.controllers:
        return False
    with os.scandir(mount.path) as entries:
        return any(os.path.exists(f"{each.path}/memory.swap.max") for each in entries if each.is_dir())


@functools.cache
def node_swap() -> int:
    """Bytes of swap of this machine."""
    with open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("SwapTotal:"):
                return int(line.split()[1]) * 1024
    return 0


def _unified(pod: Pod, container: Container, node: ResourceConfig) -> Mapping[str, str]:
    """cgroup v2 files that CRI has no field for: OOM as a group, MemoryQoS (KEP-2570), swap (KEP-2400)."""
    config = node.cgroups
    files: dict[str, str] = {}
    if not config.single_process_oom_kill:
        files["memory.oom.group"] = "1"
    if swap_is_controlled():
        files["memory.swap.max"] = str(_swap(pod, container, config))
    if not config.memory_qos:
        return files
    request, limit = _memory_request(container), whole(container.resources.limits.get("memory", 0))
    if request and config.memory_reservation_policy == "TieredReservation":
        files["memory.min" if qos_class(pod) == GUARANTEED else "memory.low"] = str(request)
    else:
        files |= {"memory.min": "0", "memory.low": "0"}
    if request != limit:
        page = os.sysconf("SC_PAGE_SIZE")
        most = limit or _unreserved_memory(node.reserved)
        high = int(request + (most - request) * config.memory_throttling_factor) // page * page
        if high > request:
            files["memory.high"] = str(high)
    return files


def _unreserved_memory(reserved: ReservedConfig) -> int:
    """Bytes that pods may have together."""
    kept = (each.get("memory", 0) for each in (reserved.kube_reserved, reserved.system_reserved))
    return max(0, node_memory() - sum(map(whole, kept)))


def _swap(pod: Pod, container: Container, config: CgroupConfig) -> int:
    """Bytes of swap: the node's, by the share of memory that a Burstable container requests."""
    request, limit = _memory_request(container), whole(container.resources.limits.get("memory", 0))
    critical = pod.spec.priority_class_name.startswith("system-")
    if config.swap_behavior != "LimitedSwap" or critical or qos_class(pod) != BURSTABLE:
        return 0
    if request == limit:
        return 0
    return request * node_swap() // node_memory()


def hugepage_limits(pod: Pod) -> list[tuple[str, int]]:
    """(page size as ``2MB``, bytes) of the pod as a whole."""
    return _huge_pages(pod_limits(pod))


def _huge_pages(limits: Mapping[str, int]) -> list[tuple[str, int]]:
    """The limit of each page size that the kernel has: who has asked for no huge pages gets none."""
    asked = {_page_size(name): limit for name, limit in limits.items() if name.startswith("hugepages-")}
    return list((dict.fromkeys(hugetlb.page_sizes(), 0) | asked).items())


def _page_size(name: str) -> str:
    """``hugepages-2Mi`` names the cgroup file's ``2MB``."""
    return name.removeprefix("hugepages-").removesuffix("i") + "B"


def overhead_resources(pod: Pod) -> api.LinuxContainerResources | None:
    """What the runtime class adds for the pod itself."""
    overhead = amounts(pod.spec.overhead)
    if not overhead:
        return None
    return api.LinuxContainerResources(
        cpu_shares=shares(overhead.get("cpu", 0)),
        cpu_period=QUOTA_PERIOD,
        cpu_quota=quota(overhead.get("cpu", 0)),
        memory_limit_in_bytes=overhead.get("memory", 0),
    )


def sandbox_resources(pod: Pod) -> api.LinuxContainerResources:
    """What the pod may use as a whole, overhead left out: for runtimes with virtual machines, or without a
    cgroup from us."""
    requests, limits, overhead = summed_requests(pod), pod_limits(pod), amounts(pod.spec.overhead)
    if pod.spec.resources is not None:
        requests |= amounts(pod.spec.resources.requests)
    bound = {name: max(0, limits[name] - overhead.get(name, 0)) for name in limits if all_limited(pod, name)}
    return api.LinuxContainerResources(
        cpu_shares=shares(requests.get("cpu", 0)),
        cpu_period=QUOTA_PERIOD,
        cpu_quota=quota(bound.get("cpu", 0)),
        memory_limit_in_bytes=bound.get("memory", 0),
    )
